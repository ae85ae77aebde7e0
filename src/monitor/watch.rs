//! The loop over a running container: bytes both ways, signals, window sizes, its end.

use std::collections::VecDeque;
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::SendFlags;

use super::signals;
use super::start::Running;
use super::streams::{Read, Streams};
use super::wire::{self, FromMonitor, Message as _, ToMonitor};
use crate::sys::process::Ended;
use crate::sys::socket::{Channel, MAX_MESSAGE};

/// Messages waiting for a slow client before the command's output is left in its pipe.
const BACKLOG: usize = 8;

/// How long a command may go on after its front end went away: what `docker stop` gives it.
const HANG_UP_GRACE: Duration = Duration::from_secs(10);

/// Serves the container until its first process ended and all its output was passed on. Returns how it
/// ended, and how many bytes of its input it took.
pub(super) fn watch(running: Running, client: &Channel) -> (Ended, u64) {
    let acknowledge = running.fed;
    let mut watch = Watch {
        running,
        client: Some(client),
        backlog: VecDeque::new(),
        buffer: vec![0; MAX_MESSAGE],
        acknowledge,
        ended: None,
        signaled: None,
        limit: None,
    };
    while watch.turn() {}
    if watch.ended.is_none() {
        // Nothing can be waited for any more.
        let _ = watch.running.child.signal(libc::SIGKILL);
        watch.ended = watch.running.child.wait().ok();
    }
    if let Some(network) = watch.running.network.take() {
        let _ = network.stop();
    }
    if let Some(fuse) = watch.running.fuse.take() {
        super::start::end(&fuse);
    }
    let ended = watch.ended.unwrap_or(Ended::Signaled(libc::SIGKILL));
    let ended = match (ended, watch.signaled) {
        (Ended::Signaled(libc::SIGKILL), Some(signal)) => Ended::Signaled(signal),
        _ => ended,
    };
    (ended, watch.running.streams.taken())
}

struct Watch<'a> {
    running: Running,
    client: Option<&'a Channel>,
    backlog: VecDeque<Vec<u8>>,
    buffer: Vec<u8>,
    /// The client's input was taken and it waits to hear so.
    acknowledge: bool,
    ended: Option<Ended>,
    /// The command was ended in the name of this signal.
    signaled: Option<i32>,
    /// The front end is gone: when the command is ended, should it not end itself.
    limit: Option<Instant>,
}

#[derive(Clone, Copy)]
enum Source {
    Exit,
    Network,
    Fuse,
    Client,
    Output(usize),
    Input,
}

impl Watch<'_> {
    /// Waits once and handles what came; false when all is over.
    fn turn(&mut self) -> bool {
        if self.acknowledge && self.running.streams.drained() {
            self.acknowledge = false;
            self.queue(FromMonitor::InputTaken.encode());
        }
        if self.limit.is_some_and(|limit| limit <= Instant::now()) {
            self.limit = None;
            self.signal(libc::SIGKILL);
        }
        let sources = match self.poll() {
            Ok(sources) => sources,
            Err(_) => return false,
        };
        for (source, flags) in sources {
            match source {
                Source::Exit => self.ended = self.running.child.wait().ok(),
                Source::Network => self.network_gone(),
                Source::Fuse => self.fuse_gone(),
                Source::Output(which) => self.read_output(which),
                Source::Input => self.running.streams.flush(),
                Source::Client => self.serve_client(flags),
            }
        }
        self.ended.is_none() || !self.finish_output()
    }

    fn poll(&self) -> Result<Vec<(Source, PollFlags)>, Errno> {
        let streams = &self.running.streams;
        let mut fds = Vec::with_capacity(7);
        let mut sources = Vec::with_capacity(7);
        if self.ended.is_none() {
            fds.push(PollFd::new(&self.running.child, PollFlags::IN));
            sources.push(Source::Exit);
        }
        if let Some(network) = &self.running.network {
            fds.push(PollFd::from_borrowed_fd(network.pidfd(), PollFlags::IN));
            sources.push(Source::Network);
        }
        if let Some(fuse) = &self.running.fuse {
            fds.push(PollFd::new(fuse, PollFlags::IN));
            sources.push(Source::Fuse);
        }
        if let Some(client) = self.client {
            let room = if self.backlog.is_empty() {
                PollFlags::empty()
            } else {
                PollFlags::OUT
            };
            fds.push(PollFd::new(client, PollFlags::IN | room));
            sources.push(Source::Client);
        }
        if self.backlog.len() < BACKLOG {
            for which in [0, 1] {
                if let Some(fd) = streams.output(which) {
                    fds.push(PollFd::from_borrowed_fd(fd, PollFlags::IN));
                    sources.push(Source::Output(which));
                }
            }
        }
        if let Some(fd) = streams.wants_to_write() {
            fds.push(PollFd::from_borrowed_fd(fd, PollFlags::OUT));
            sources.push(Source::Input);
        }
        let left = self
            .limit
            .map(|limit| limit.saturating_duration_since(Instant::now()));
        let left = left.and_then(|left| Timespec::try_from(left).ok());
        match poll(&mut fds, left.as_ref()) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(errno) => return Err(errno),
        }
        let events = sources
            .into_iter()
            .zip(&fds)
            .map(|(s, fd)| (s, fd.revents()));
        Ok(events.filter(|(_, flags)| !flags.is_empty()).collect())
    }

    /// The network helper ended. Where the container ends too, that is why: the helper follows its
    /// network namespace. Else the user should know; the command goes on, without a network.
    fn network_gone(&mut self) {
        let Some(mut network) = self.running.network.take() else {
            return;
        };
        if self.is_ending() {
            return;
        }
        let how = match network.ended() {
            Ok(Some(ended)) => ended.to_string(),
            _ => format!("`{}` ended", network.program()),
        };
        self.notice(&format!("{how}: the container has no network from here on"));
    }

    fn fuse_gone(&mut self) {
        let Some(fuse) = self.running.fuse.take() else {
            return;
        };
        let how = match fuse.wait() {
            Ok(Ended::Signaled(signal)) => format!("killed by signal {signal}"),
            Ok(ended) => format!("exit status {}", ended.status()),
            Err(errno) => errno.to_string(),
        };
        if !self.is_ending() {
            self.notice(&format!(
                "`fuse-overlayfs` ended ({how}): the container's root file system is gone"
            ));
        }
    }

    /// Whether the command has ended, or does within a moment: what it held goes a little earlier.
    fn is_ending(&self) -> bool {
        const MOMENT: Timespec = Timespec {
            tv_sec: 0,
            tv_nsec: 50_000_000,
        };
        let mut fds = [PollFd::new(&self.running.child, PollFlags::IN)];
        self.ended.is_some() || poll(&mut fds, Some(&MOMENT)).is_ok_and(|n| n > 0)
    }

    fn notice(&mut self, text: &str) {
        self.queue(FromMonitor::Notice(crate::model::text::escape(text)).encode());
    }

    fn read_output(&mut self, which: usize) {
        let mut chunk = vec![0; wire::CHUNK];
        if let Read::Bytes(n) = self.running.streams.read(which, &mut chunk) {
            chunk.truncate(n);
            self.queue(FromMonitor::Output(which as u8 + 1, chunk).encode());
        }
    }

    /// After the end of PID 1: whatever its pipes still hold is passed on. Their other ends are gone
    /// with the pid namespace; where processes of a shared namespace still hold one, what is there
    /// now is all that is waited for. True when nothing is left.
    fn finish_output(&mut self) -> bool {
        if self.backlog.len() >= BACKLOG {
            return self.client.is_none();
        }
        for which in [0, 1] {
            let mut chunk = vec![0; wire::CHUNK];
            if let Read::Bytes(n) = self.running.streams.read(which, &mut chunk) {
                chunk.truncate(n);
                self.queue(FromMonitor::Output(which as u8 + 1, chunk).encode());
                return false;
            }
        }
        self.backlog.is_empty() || self.client.is_none()
    }

    fn queue(&mut self, message: Vec<u8>) {
        if self.client.is_some() {
            self.backlog.push_back(message);
            self.send_backlog();
        }
    }

    fn send_backlog(&mut self) {
        while let (Some(client), Some(message)) = (self.client, self.backlog.front()) {
            match client.send(message, None, SendFlags::DONTWAIT) {
                Ok(()) => drop(self.backlog.pop_front()),
                Err(Errno::AGAIN | Errno::NOBUFS) => return,
                Err(_) => self.client_gone(),
            }
        }
    }

    fn serve_client(&mut self, flags: PollFlags) {
        if flags.contains(PollFlags::OUT) {
            self.send_backlog();
        }
        let Some(client) = self.client else { return };
        if !flags.intersects(PollFlags::IN | PollFlags::HUP | PollFlags::ERR) {
            return;
        }
        match wire::receive::<ToMonitor>(client, &mut self.buffer) {
            Ok(Some(ToMonitor::Input(bytes))) => {
                self.running.streams.feed(bytes.clone());
                self.acknowledge = true;
                self.typed(&bytes);
            }
            Ok(Some(ToMonitor::Resize(rows, columns))) => {
                self.running.streams.resize((rows, columns));
            }
            Ok(Some(ToMonitor::Signal(number))) => self.signal(number),
            Ok(Some(ToMonitor::Close(stream))) => self.close(stream),
            Err(Errno::AGAIN) => {}
            Ok(None) | Err(_) => self.client_gone(),
        }
    }

    fn signal(&mut self, number: i32) {
        if self.ended.is_none() {
            self.signaled = signals::deliver(&self.running.child, number).or(self.signaled);
        }
    }

    /// Nobody reads what the command just wrote. Its next write fails; a plain program would be ended
    /// by SIGPIPE, so one that is alone in its namespace, and thus the writer, is.
    fn close(&mut self, stream: u8) {
        self.running.streams.close(usize::from(stream == 2));
        let pid = self.running.child.proc_pid();
        if signals::would_end(pid, libc::SIGPIPE) && signals::is_childless(pid) {
            self.signal(libc::SIGPIPE);
        }
    }

    /// The line discipline turned a typed Ctrl-C or Ctrl-\ into a signal for the foreground group.
    /// If that is PID 1 itself, which may have no handler, the signal is carried out.
    fn typed(&mut self, bytes: &[u8]) {
        let Some(number) = typed_signal(&self.running.streams, bytes) else {
            return;
        };
        let Some(master) = self.running.streams.master() else {
            return;
        };
        let pid = self.running.child.pid();
        if rustix::termios::tcgetpgrp(master) == Ok(pid)
            && self.ended.is_none()
            && signals::would_end(self.running.child.proc_pid(), number)
        {
            self.signal(number);
        }
    }

    /// The front end of a container that is not detached went away (it was killed, or its terminal
    /// closed): the command gets what a plain program would get, a hang-up, and no reader. One that
    /// stays nevertheless can be reached by nobody any more: after a while it is ended.
    fn client_gone(&mut self) {
        self.client = None;
        self.backlog.clear();
        self.running.streams.feed(Vec::new());
        self.running.streams.close(0);
        self.running.streams.close(1);
        self.signal(libc::SIGHUP);
        self.limit = Some(Instant::now() + HANG_UP_GRACE);
    }
}

/// The signal that a typed byte stands for on this terminal (termios(3), ISIG, VINTR, VQUIT).
fn typed_signal(streams: &Streams, bytes: &[u8]) -> Option<i32> {
    use rustix::termios::{LocalModes, SpecialCodeIndex};
    if !bytes.iter().any(|b| *b < 0x20) {
        return None;
    }
    let modes = rustix::termios::tcgetattr(streams.master()?.as_fd()).ok()?;
    if !modes.local_modes.contains(LocalModes::ISIG) {
        return None;
    }
    [
        (SpecialCodeIndex::VINTR, libc::SIGINT),
        (SpecialCodeIndex::VQUIT, libc::SIGQUIT),
    ]
    .into_iter()
    .find(|(index, _)| bytes.contains(&modes.special_codes[*index]))
    .map(|(_, signal)| signal)
}
