//! A front end attached to a container: its terminal or streams on one side, the monitor on the
//! other.
//!
//! Everything waits in one poll(2), signals included (signalfd(2)), so a command that neither reads
//! nor writes, or an output that nobody takes, never keeps a Ctrl-C waiting. Output is only written
//! when there is room, a page at a time to a pipe or terminal.

use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::path::Path;

use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use rustix::buffer::spare_capacity;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::{FileType, Mode, OFlags};
use rustix::io::Errno;
use rustix::net::RecvFlags;

use super::Error;
use super::keys::Keys;
use super::wire::{self, FromMonitor, Message as _, ToMonitor};
use crate::sys::process::Ended;
use crate::sys::socket::Channel;
use crate::sys::tty::{self, RawMode};

/// A connection to a monitor.
#[derive(Debug)]
pub struct Client {
    channel: Channel,
}

/// How a front end attaches.
#[derive(Clone, Debug)]
pub struct Attach {
    /// The command has a terminal: ours becomes raw and sizes are passed on.
    pub tty: bool,
    /// Standard input is passed on.
    pub stdin: bool,
    /// Standard input is a file: what the command did not take of it is left for whoever reads on, as the
    /// next command of a shell's loop does.
    pub rewind: bool,
    /// Typed one after the other they leave the command alone; none where empty.
    pub detach_keys: Vec<u8>,
    /// The command is this front end's: it hears of an output that nobody reads any more.
    pub own: bool,
    /// Signals are passed on.
    pub signals: bool,
    /// Standard output and error that are not shown.
    pub muted: [bool; 2],
}

/// How an attachment ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The command ended.
    Ended(Ended),
    /// The front end left it.
    Detached,
}

impl Client {
    /// Connects to the monitor of the container in `dir`.
    ///
    /// # Errors
    /// [`Error::Absent`] where there is none.
    pub fn connect(dir: &Path) -> Result<Client, Error> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let dir = rustix::fs::open(dir, flags, Mode::empty());
        let channel = dir.and_then(|dir| Channel::connect(dir.as_fd(), super::SOCKET));
        match channel {
            Ok(channel) => Ok(Client { channel }),
            Err(Errno::NOENT | Errno::CONNREFUSED) => Err(Error::Absent),
            Err(errno) => Err(Error::Call {
                call: "connect(`socket`)",
                errno,
            }),
        }
    }

    /// Tells the monitor whether the user namespace has its maps; if not, waits until it has given up.
    ///
    /// # Errors
    /// [`Error::Call`]: it cannot be told. Without its client it gives up.
    pub fn mapped(&self, done: bool) -> Result<(), Error> {
        match wire::send(&self.channel, &ToMonitor::Mapped(done)) {
            // Why it went away is in the messages that it sent before.
            Ok(()) | Err(Errno::PIPE) => {}
            Err(errno) => {
                return Err(Error::Call {
                    call: "sendmsg(monitor)",
                    errno,
                });
            }
        }
        if !done {
            let _ = self.await_start(&|_| {}, &|_| {});
        }
        Ok(())
    }

    /// Waits until the command runs. `notice` and `detail` as for [`Client::attach`].
    ///
    /// # Errors
    /// As [`Client::attach`].
    pub fn await_start(&self, notice: &dyn Fn(&str), detail: &dyn Fn(&str)) -> Result<(), Error> {
        loop {
            match self.next()? {
                FromMonitor::Started(_) | FromMonitor::Exited(..) => return Ok(()),
                FromMonitor::Notice(text) => notice(&text),
                FromMonitor::Detail(text) => detail(&text),
                FromMonitor::Failed(failure) => return Err(Error::Start(Box::new(failure))),
                _ => {}
            }
        }
    }

    /// Asks for something without waiting for the answer.
    ///
    /// # Errors
    /// [`Error::Gone`].
    pub fn tell(&self, message: &ToMonitor) -> Result<(), Error> {
        wire::send(&self.channel, message).map_err(|_| Error::Gone)
    }

    /// Asks for something and waits until it is done.
    ///
    /// # Errors
    /// [`Error::Refused`], [`Error::Gone`].
    pub fn ask(&self, message: &ToMonitor) -> Result<(), Error> {
        self.tell(message)?;
        loop {
            match self.next()? {
                FromMonitor::Done | FromMonitor::Exited(..) => return Ok(()),
                FromMonitor::Refused(why) => return Err(Error::Refused(why)),
                _ => {}
            }
        }
    }

    /// Waits for the end of the command.
    ///
    /// # Errors
    /// [`Error::Gone`] where its monitor is killed.
    pub fn await_end(&self) -> Result<Ended, Error> {
        loop {
            match self.next()? {
                FromMonitor::Exited(ended, _) => return Ok(ended),
                FromMonitor::Failed(failure) => return Err(Error::Start(Box::new(failure))),
                _ => {}
            }
        }
    }

    /// Keeps a container that waits to be started again waiting as long as this is there.
    ///
    /// # Errors
    /// [`Error::Refused`] where it runs, or another one does the same; [`Error::Gone`] where it has been started, or has
    /// ended, meanwhile.
    pub fn keep_waiting(self) -> Result<Client, Error> {
        self.tell(&ToMonitor::Rest)?;
        loop {
            match self.next()? {
                FromMonitor::Done => return Ok(self),
                FromMonitor::Refused(why) => return Err(Error::Refused(why)),
                FromMonitor::Exited(..) | FromMonitor::Failed(_) => return Err(Error::Gone),
                _ => {}
            }
        }
    }

    /// A pidfd of the command, for who cannot open one.
    ///
    /// # Errors
    /// [`Error::Gone`]; [`Error::Refused`], also where the command has ended.
    pub fn hold(&self) -> Result<OwnedFd, Error> {
        self.tell(&ToMonitor::Hold)?;
        match self.channel.receive(RecvFlags::empty()) {
            Ok(Some((_, Some(pidfd)))) => Ok(pidfd),
            Ok(Some((bytes, None))) => Err(match FromMonitor::decode(&bytes) {
                Some(FromMonitor::Refused(why)) => Error::Refused(why),
                _ => Error::Gone,
            }),
            Ok(None) | Err(_) => Err(Error::Gone),
        }
    }

    fn next(&self) -> Result<FromMonitor, Error> {
        loop {
            let mut fds = [PollFd::new(&self.channel, PollFlags::IN)];
            let _ = poll(&mut fds, None);
            match wire::receive(&self.channel) {
                Ok(Some(message)) => return Ok(message),
                Err(Errno::AGAIN) => {}
                Ok(None) | Err(_) => return Err(Error::Gone),
            }
        }
    }

    pub(super) fn new(channel: Channel) -> Client {
        Client { channel }
    }

    /// Passes bytes and signals until the command ended. The process must be single-threaded and
    /// its signals are blocked from here on. `notice` gets the monitor's lines for the user, `detail` those for one who
    /// asked to be told more; `started` is called when the command runs.
    ///
    /// # Errors
    /// [`Error::Start`] when the container did not start, [`Error::Gone`] when its monitor died.
    pub fn attach(
        &self,
        how: Attach,
        notice: &dyn Fn(&str),
        detail: &dyn Fn(&str),
        started: &mut dyn FnMut(),
    ) -> Result<Outcome, Error> {
        if !how.own {
            self.tell(&ToMonitor::Attach)?;
        }
        let signals = signals(how.signals).map_err(|errno| Error::Call {
            call: "signalfd()",
            errno,
        })?;
        let raw = if how.tty {
            RawMode::enter(rustix::stdio::stdin()).ok()
        } else {
            None
        };
        let mut session = Session {
            channel: &self.channel,
            signals,
            // A terminal from the first moment: keys may mean that the start is to end. Anything else when
            // the command runs: a start that fails has taken nothing.
            input: how.stdin && how.tty,
            wanted: how.stdin,
            passed: 0,
            waiting: false,
            output: [Pending::new(1), Pending::new(2)],
            muted: how.muted,
            last: None,
            lost: None,
            raw,
            tty: how.tty,
            // Keys are typed: what comes through a pipe goes through as it is.
            keys: Keys::new(if how.tty { how.detach_keys } else { Vec::new() }),
            own: how.own,
            detached: false,
        };
        loop {
            match session.turn() {
                Ok(None) if session.detached => {
                    if session.raw.take().is_some() {
                        // What is shown next begins a line, not in the middle of the command's.
                        let _ = rustix::io::write(rustix::stdio::stderr(), b"\n");
                    }
                    return Ok(Outcome::Detached);
                }
                Ok(None) => {}
                Ok(Some(FromMonitor::Notice(text))) => session.outside_raw(|| notice(&text)),
                Ok(Some(FromMonitor::Detail(text))) => session.outside_raw(|| detail(&text)),
                Ok(Some(FromMonitor::Started(_))) => started(),
                Ok(Some(FromMonitor::Exited(ended, taken))) => {
                    if how.rewind {
                        give_back(session.passed.saturating_sub(taken));
                    }
                    return session.lost.map_or(Ok(Outcome::Ended(ended)), Err);
                }
                Ok(Some(FromMonitor::Failed(failure))) => {
                    return Err(Error::Start(Box::new(failure)));
                }
                Ok(Some(FromMonitor::Cut)) => return Err(Error::Cut),
                Ok(Some(_)) => {}
                Err(Errno::CONNRESET) => return Err(Error::Gone),
                Err(errno) => {
                    let call = "the connection to it";
                    return Err(Error::Call { call, errno });
                }
            }
        }
    }
}

/// Takes back what was read ahead of standard input.
fn give_back(bytes: u64) {
    let back = rustix::fs::SeekFrom::Current(-i64::try_from(bytes).unwrap_or(0));
    let _ = rustix::fs::seek(rustix::stdio::stdin(), back);
}

struct Session<'a> {
    channel: &'a Channel,
    signals: SignalFd,
    /// Standard input is still passed on.
    input: bool,
    /// It is to be passed on once the command runs.
    wanted: bool,
    /// How many bytes of it were.
    passed: u64,
    /// Input was sent and not taken yet.
    waiting: bool,
    output: [Pending; 2],
    muted: [bool; 2],
    /// The last message: delivered when the output is written.
    last: Option<FromMonitor>,
    /// Output that could not be written, though somebody wants it.
    lost: Option<Error>,
    raw: Option<RawMode<BorrowedFd<'static>>>,
    tty: bool,
    keys: Keys,
    own: bool,
    /// The command goes on without us.
    detached: bool,
}

/// Bytes for one of our own outputs.
struct Pending {
    stream: u8,
    bytes: Vec<u8>,
    done: usize,
    /// How much may be written without blocking when poll(2) says there is room.
    step: usize,
    open: bool,
}

impl Pending {
    fn new(stream: u8) -> Pending {
        let mut pending = Pending {
            stream,
            bytes: Vec::new(),
            done: 0,
            step: 4096,
            open: true,
        };
        let regular = rustix::fs::fstat(pending.fd())
            .is_ok_and(|s| FileType::from_raw_mode(s.st_mode) == FileType::RegularFile);
        if regular {
            pending.step = usize::MAX;
        }
        pending
    }

    fn fd(&self) -> BorrowedFd<'static> {
        if self.stream == 1 {
            rustix::stdio::stdout()
        } else {
            rustix::stdio::stderr()
        }
    }

    fn is_empty(&self) -> bool {
        self.done == self.bytes.len()
    }

    /// Writes one step. An error once nothing can be written any more.
    fn write(&mut self) -> Result<(), Errno> {
        let rest = &self.bytes[self.done..];
        match rustix::io::write(self.fd(), &rest[..rest.len().min(self.step)]) {
            Ok(n) => self.done += n,
            Err(Errno::INTR | Errno::AGAIN) => {}
            Err(errno) => {
                self.open = false;
                self.done = self.bytes.len();
                return Err(errno);
            }
        }
        Ok(())
    }
}

impl Session<'_> {
    fn turn(&mut self) -> Result<Option<FromMonitor>, Errno> {
        let quiet = self.output.iter().all(Pending::is_empty);
        if quiet && let Some(last) = self.last.take() {
            return Ok(Some(last));
        }
        let ready = self.poll(quiet)?;
        if ready.signal {
            self.pass_signal()?;
        }
        for (i, writable) in ready.output.into_iter().enumerate() {
            if writable && let Err(errno) = self.output[i].write() {
                let stream = self.output[i].stream;
                // A reader or a terminal that went away is no failure; a full disk is.
                if !matches!(errno, Errno::PIPE | Errno::IO) {
                    self.lost = Some(Error::Output { stream, errno });
                }
                if self.own {
                    self.send(&ToMonitor::Close(stream))?;
                } else {
                    self.detached = true;
                    return Ok(None);
                }
            }
        }
        if ready.input {
            self.pass_input()?;
        }
        if ready.channel {
            return self.receive();
        }
        Ok(None)
    }

    fn poll(&self, quiet: bool) -> Result<Ready, Errno> {
        let mut fds = vec![PollFd::new(&self.signals, PollFlags::IN)];
        let mut ready = Ready::default();
        let (mut channel, mut input, mut output) = (None, None, [None, None]);
        if quiet && self.last.is_none() {
            channel = Some(fds.len());
            fds.push(PollFd::new(self.channel, PollFlags::IN));
        }
        if self.input && !self.waiting && self.last.is_none() {
            input = Some(fds.len());
            fds.push(PollFd::from_borrowed_fd(
                rustix::stdio::stdin(),
                PollFlags::IN,
            ));
        }
        for (i, pending) in self.output.iter().enumerate() {
            if !pending.is_empty() {
                output[i] = Some(fds.len());
                fds.push(PollFd::from_borrowed_fd(pending.fd(), PollFlags::OUT));
            }
        }
        match poll(&mut fds, None) {
            Ok(_) => {}
            Err(Errno::INTR) => return Ok(ready),
            Err(errno) => return Err(errno),
        }
        let at = |index: Option<usize>| index.is_some_and(|i| !fds[i].revents().is_empty());
        ready.signal = at(Some(0));
        ready.channel = at(channel);
        ready.input = at(input);
        ready.output = [at(output[0]), at(output[1])];
        Ok(ready)
    }

    /// Takes a message; a notice is handed on at once, the last one when its time has come.
    fn receive(&mut self) -> Result<Option<FromMonitor>, Errno> {
        match wire::receive(self.channel) {
            Ok(Some(FromMonitor::Output(stream, bytes))) => {
                let number = usize::from(stream == 2);
                let pending = &mut self.output[number];
                if pending.open && !self.muted[number] {
                    (pending.bytes, pending.done) = (bytes, 0);
                }
            }
            Ok(Some(FromMonitor::InputTaken)) => self.waiting = false,
            Ok(Some(started @ FromMonitor::Started(_))) => {
                self.input = self.wanted;
                if !self.own {
                    // Another size for a moment, as docker does it: who comes later sees a prompt, or all of an editor.
                    self.resize(1)?;
                }
                self.resize(0)?;
                return Ok(Some(started));
            }
            Ok(Some(line @ (FromMonitor::Notice(_) | FromMonitor::Detail(_)))) => {
                return Ok(Some(line));
            }
            Ok(Some(
                last @ (FromMonitor::Exited(..) | FromMonitor::Failed(_) | FromMonitor::Cut),
            )) => {
                self.last = Some(last);
            }
            Ok(Some(FromMonitor::Done)) => self.detached = true,
            Ok(Some(FromMonitor::Refused(_))) => {}
            Err(Errno::AGAIN) => {}
            Ok(None) => return Err(Errno::CONNRESET),
            Err(errno) => return Err(errno),
        }
        Ok(None)
    }

    fn pass_input(&mut self) -> Result<(), Errno> {
        let mut bytes = Vec::with_capacity(wire::CHUNK - 1);
        let n = match rustix::io::read(rustix::stdio::stdin(), spare_capacity(&mut bytes)) {
            Ok(n) => n,
            Err(Errno::INTR | Errno::AGAIN) => return Ok(()),
            // A terminal that is gone, or that we may not read: the end of input.
            Err(_) => 0,
        };
        self.input = n > 0;
        self.passed += n as u64;
        if self.tty && n == 0 {
            // A raw terminal has no end but its own: it hung up.
            return self.send(&ToMonitor::Signal(libc::SIGHUP));
        }
        let (bytes, leave) = self.keys.pass(bytes);
        if n == 0 || !bytes.is_empty() {
            self.waiting = true;
            self.send(&ToMonitor::Input(bytes))?;
        }
        if leave {
            self.input = false;
            self.send(&ToMonitor::Detach)?;
        }
        Ok(())
    }

    fn pass_signal(&mut self) -> Result<(), Errno> {
        let Ok(Some(info)) = self.signals.read_signal() else {
            return Ok(());
        };
        // What a key at our terminal stands for comes from the kernel, and to a whole group of processes.
        let message = match info.ssi_code {
            libc::SI_KERNEL => ToMonitor::Key,
            _ => ToMonitor::Signal,
        };
        match info.ssi_signo as i32 {
            libc::SIGWINCH => self.resize(0),
            libc::SIGTSTP => self.suspend(message),
            other => self.send(&message(other)),
        }
    }

    /// Gives the terminal inside the size of ours, and so many columns and rows more.
    fn resize(&self, more: u16) -> Result<(), Errno> {
        match tty::size(rustix::stdio::stdin()) {
            Some((rows, columns)) if self.tty => {
                let (rows, columns) = (rows.saturating_add(more), columns.saturating_add(more));
                self.send(&ToMonitor::Resize(rows, columns))
            }
            _ => Ok(()),
        }
    }

    /// Ctrl-Z without a terminal inside: the command stops, and so do we, until the shell goes on.
    fn suspend(&mut self, message: fn(i32) -> ToMonitor) -> Result<(), Errno> {
        self.send(&message(libc::SIGSTOP))?;
        self.outside_raw(|| {
            let own = rustix::process::getpid();
            let _ = rustix::process::kill_process(own, rustix::process::Signal::STOP);
        });
        self.send(&message(libc::SIGCONT))
    }

    /// Does something with the terminal as we found it.
    fn outside_raw(&mut self, work: impl FnOnce()) {
        let before = self.raw.take().is_some();
        work();
        if before {
            self.raw = RawMode::enter(rustix::stdio::stdin()).ok();
        }
    }

    /// A monitor that ended while we had something to say still has its last words in the channel.
    fn send(&self, message: &ToMonitor) -> Result<(), Errno> {
        match wire::send(self.channel, message) {
            Ok(()) | Err(Errno::PIPE | Errno::CONNRESET) => Ok(()),
            Err(errno) => Err(errno),
        }
    }
}

#[derive(Default)]
struct Ready {
    signal: bool,
    channel: bool,
    input: bool,
    output: [bool; 2],
}

/// The signals that a front end passes on, or with none of them only what tells of the window. One that it was
/// started to ignore, as under nohup(1), it ignores.
fn signals(all: bool) -> Result<SignalFd, Errno> {
    use Signal::{SIGALRM, SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGTSTP, SIGUSR1, SIGUSR2, SIGWINCH};
    let passed = [
        SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2, SIGALRM, SIGTSTP,
    ];
    let ignored = super::signals::ignored();
    let heeded = |signal: &Signal| all && ignored & (1 << (*signal as i32 - 1)) == 0;
    let mut set: SigSet = passed.into_iter().filter(heeded).collect();
    set.add(SIGWINCH);
    let errno = |e: nix::errno::Errno| Errno::from_raw_os_error(e as i32);
    set.thread_block().map_err(errno)?;
    SignalFd::with_flags(&set, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK).map_err(errno)
}
