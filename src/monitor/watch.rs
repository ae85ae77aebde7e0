//! The loop over a running container: bytes both ways, signals, window sizes, its end.

mod lost;

use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::event::epoll::EventFlags;
use rustix::io::Errno;
use rustix::process::Pid;

use super::clients::{Clients, Received, Role};
use super::fuse;
use super::health::Checks;
use super::signals::Whom;
use super::start::Running;
use super::streams::Read;
use super::waiting::Waiting;
use super::wire::{self, FromMonitor, ToMonitor};
use super::{Task, freeze, log, signals};
use crate::cgroup::{self, OomKills};
use crate::model::spec::{ContainerSpec, Remedy, RestartPolicy};
use crate::state::Status;
use crate::sys::process::Ended;

/// How long a command may go on after its front end went away: what `docker stop` gives it.
const HANG_UP_GRACE: Duration = Duration::from_secs(10);

/// How long who attached may take for what is left when the command has ended.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// In so many seconds.
fn after(seconds: u32) -> Option<Instant> {
    Instant::now().checked_add(Duration::from_secs(seconds.into()))
}

/// What is watched.
pub(super) struct Job<'a> {
    /// The signal that asks the command to end.
    pub stop_signal: i32,
    /// The container whose first process it is.
    pub container: Option<&'a Task<'a>>,
    /// The directory of its control group.
    pub group: Option<&'a Path>,
    /// Counts what the kernel kills in it.
    pub kills: Option<OomKills>,
    /// When the container is to be brought to the disk, if it is not there yet.
    pub sync: &'a mut Option<Instant>,
}

/// How a run ended.
pub(super) struct End {
    pub ended: Ended,
    /// How many bytes of its input the command took.
    pub taken: u64,
    /// Somebody asked for it.
    pub asked: bool,
    /// Somebody asked for it by name: not with a signal.
    pub stopped: bool,
    /// The kernel has killed processes of it because of its memory limit.
    pub out_of_memory: bool,
    /// It is to be started again, whatever the policy says.
    pub again: bool,
    /// Nothing of the container is to stay.
    pub remove: bool,
    /// The restart policy, if it was changed meanwhile.
    pub policy: Option<RestartPolicy>,
    /// Of the network, to be closed when everybody has been told.
    pub _remains: Option<OwnedFd>,
}

/// Serves the container until its first process ended and all its output was passed on.
pub(super) fn watch(
    job: Job<'_>,
    running: Running,
    clients: &mut Clients,
    log: &mut log::Writer,
) -> End {
    let timeout = job.container.map_or(0, |task| task.spec.timeout);
    let mut watch = Watch {
        out_of_memory: false,
        checks: job.container.map(Checks::new).unwrap_or_default(),
        job,
        running,
        clients,
        log,
        ended: None,
        signaled: None,
        asked: false,
        stopped: false,
        again: false,
        remove: false,
        paused: false,
        revived: 0,
        policy: None,
        limit: (timeout > 0).then(|| after(timeout)).flatten(),
        patience: None,
        waiting: Waiting::default(),
    };
    while watch.turn() {}
    if watch.ended.is_none() {
        // Nothing can be waited for any more.
        let _ = watch.running.child.signal(libc::SIGKILL);
        watch.ended = watch.running.child.wait().ok();
    }
    watch.checks.end();
    watch.killed_for_memory();
    let network = watch.running.network.take();
    let remains = network.and_then(|network| network.stop().ok().flatten());
    for server in watch.running.fuse.drain(..) {
        super::start::end(&server.child);
    }
    let ended = watch.ended.unwrap_or(Ended::Signaled(libc::SIGKILL));
    let ended = match (ended, watch.signaled) {
        (Ended::Signaled(libc::SIGKILL), Some(signal)) => Ended::Signaled(signal),
        _ => ended,
    };
    End {
        ended,
        taken: watch.running.streams.taken(),
        asked: watch.asked,
        stopped: watch.stopped,
        out_of_memory: watch.out_of_memory,
        again: watch.again,
        remove: watch.remove,
        policy: watch.policy,
        _remains: remains,
    }
}

struct Watch<'a> {
    job: Job<'a>,
    running: Running,
    clients: &'a mut Clients,
    log: &'a mut log::Writer,
    checks: Checks,
    out_of_memory: bool,
    ended: Option<Ended>,
    /// The command was ended in the name of this signal.
    signaled: Option<i32>,
    /// Somebody asked for its end: it is not to be started again.
    asked: bool,
    stopped: bool,
    /// It is stopped to be started again.
    again: bool,
    /// Somebody asked that nothing of the container stay.
    remove: bool,
    paused: bool,
    /// How often another network helper took the place of one that ended.
    revived: u32,
    policy: Option<RestartPolicy>,
    /// When the command is ended, should it not end itself.
    limit: Option<Instant>,
    /// The command has ended: when those who are behind are no longer waited for.
    patience: Option<Instant>,
    waiting: Waiting<Source>,
}

/// What is waited for. Of those that come anew each has a number of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Source {
    Exit,
    /// The helper, counting those that took its place.
    Network(u32),
    Fuse(Pid),
    /// Counted.
    Check(u32),
    Memory,
    Listener,
    /// Where it stands in the list, and who it is.
    Client(usize, u64),
    Output(usize),
    Input,
}

impl Watch<'_> {
    /// Waits once and handles what came; false when all is over.
    fn turn(&mut self) -> bool {
        if self.clients.is_fed() && self.running.streams.drained() {
            self.clients.input_taken();
        }
        if self.limit.is_some_and(|limit| limit <= Instant::now()) {
            self.limit = None;
            let _ = self.pause(false);
            self.signal(libc::SIGKILL);
        }
        if self.job.sync.is_some_and(|at| at <= Instant::now()) {
            *self.job.sync = None;
            let _ = self.job.container.map(|task| task.container.sync());
        }
        if let (Some(task), true) = (self.job.container, self.is_checked()) {
            let child = &self.running.child;
            let turn = self.checks.turn(task, child, self.job.group);
            if turn.asked {
                self.clients.checked();
            }
            if turn.unhealthy {
                self.remedy(task.spec);
            }
        }
        let sources = match self.wait() {
            Ok(sources) => sources,
            Err(errno) => {
                self.notice(&format!("the command is killed: epoll(): {errno}"));
                return false;
            }
        };
        for (source, flags) in sources {
            match source {
                Source::Exit => self.exited(),
                Source::Network(_) => self.network_gone(),
                Source::Fuse(pid) => self.fuse_gone(pid),
                Source::Check(_) => self.checks.ready(),
                Source::Memory => self.killed_for_memory(),
                Source::Listener => self.clients.accept(),
                Source::Output(which) => drop(self.read_output(which)),
                Source::Input => self.running.streams.flush(),
                Source::Client(place, _) => self.serve_client(place, flags),
            }
        }
        self.clients.sweep();
        self.ended.is_none() || !self.finish_output()
    }

    /// Whether checks go on: not of what is paused, nor of what has ended.
    fn is_checked(&self) -> bool {
        self.ended.is_none() && !self.paused
    }

    fn exited(&mut self) {
        // What cannot be waited for is gone as well.
        let gone = Ended::Signaled(libc::SIGKILL);
        self.ended = Some(self.running.child.wait().unwrap_or(gone));
        self.patience = Some(Instant::now() + LAST_WORDS);
    }

    /// Tells what the kernel has killed.
    fn killed_for_memory(&mut self) {
        let Some(kills) = self.job.kills.as_mut().and_then(OomKills::more) else {
            self.job.kills = None;
            return;
        };
        let Some(task) = self.job.container.filter(|_| kills > 0) else {
            return;
        };
        if !self.out_of_memory {
            // What else runs in it goes on.
            let _ = task.container.change(false, |s| s.oom_killed = true);
        }
        self.out_of_memory = true;
        for _ in 0..kills {
            task.container.event("oom", &[]);
        }
    }

    fn wait(&mut self) -> Result<Vec<(Source, EventFlags)>, Errno> {
        let streams = &self.running.streams;
        let mut wanted = Vec::with_capacity(8);
        if self.ended.is_none() {
            wanted.push((Source::Exit, self.running.child.as_fd(), EventFlags::IN));
        }
        if let Some(network) = &self.running.network {
            let source = Source::Network(self.revived);
            wanted.push((source, network.end_fd(), EventFlags::IN));
        }
        for server in &self.running.fuse {
            let source = Source::Fuse(server.child.pid());
            wanted.push((source, server.child.as_fd(), EventFlags::IN));
        }
        if let Some((number, fd)) = self.checks.running() {
            wanted.push((Source::Check(number), fd, EventFlags::IN));
        }
        if let Some(kills) = &self.job.kills {
            wanted.push((Source::Memory, kills.as_fd(), EventFlags::PRI));
        }
        if let Some(fd) = self.clients.listener() {
            wanted.push((Source::Listener, fd, EventFlags::IN));
        }
        for (place, id, fd, behind) in self.clients.fds() {
            let room = match behind {
                true => EventFlags::OUT,
                false => EventFlags::empty(),
            };
            wanted.push((Source::Client(place, id), fd, EventFlags::IN | room));
        }
        if !self.clients.hold_up() {
            for which in [0, 1] {
                if let Some(fd) = streams.output(which) {
                    wanted.push((Source::Output(which), fd, EventFlags::IN));
                }
            }
        }
        if let Some(fd) = streams.wants_to_write() {
            wanted.push((Source::Input, fd, EventFlags::OUT));
        }
        // A check that is due while there is none would end every wait at once.
        let check = self.checks.next().filter(|_| self.is_checked());
        let next = [self.limit, self.patience, check, *self.job.sync];
        let next = next.into_iter().flatten().min();
        self.waiting.wait(&wanted, next)
    }

    fn notice(&mut self, text: &str) {
        let text = crate::model::text::escape(text);
        self.clients.tell_attached(&FromMonitor::Notice(text));
    }

    fn read_output(&mut self, which: usize) -> bool {
        let Read::Bytes(chunk) = self.running.streams.read(which, wire::CHUNK) else {
            return false;
        };
        let stream = which as u8 + 1;
        if let Err(error) = self.log.write(stream, &chunk) {
            self.notice(&format!("the log cannot be written: {error}"));
        }
        self.clients
            .tell_attached(&FromMonitor::Output(stream, chunk));
        true
    }

    /// After the end of PID 1: whatever its pipes still hold is passed on. Their other ends are gone
    /// with the pid namespace; where processes of a shared namespace still hold one, what is there
    /// now is all that is waited for. True when nothing is left.
    fn finish_output(&mut self) -> bool {
        if self.clients.hold_up() {
            return false;
        }
        for which in [0, 1] {
            if self.read_output(which) {
                return false;
            }
        }
        let late = self.patience.is_some_and(|at| at <= Instant::now());
        if late {
            self.patience = None;
        }
        !self.clients.is_behind() || (self.patience.is_none() && !self.clients.hold_up())
    }

    fn serve_client(&mut self, number: usize, flags: EventFlags) {
        if flags.contains(EventFlags::OUT) {
            self.clients.flush(number);
        }
        if !flags.intersects(EventFlags::IN | EventFlags::HUP | EventFlags::ERR) {
            return;
        }
        let owner = self.clients.role(number) == Role::Owner;
        match self.clients.receive(number) {
            Received::Message(message) => self.serve(number, owner, message),
            Received::Nothing => {}
            Received::Gone => {
                self.clients.leave(number);
                if owner {
                    self.owner_gone();
                }
            }
        }
    }

    fn serve(&mut self, number: usize, owner: bool, message: ToMonitor) {
        match message {
            ToMonitor::Input(bytes) if bytes.is_empty() && !owner => {
                self.clients.tell(number, &FromMonitor::InputTaken);
            }
            ToMonitor::Input(bytes) => {
                self.running.streams.feed(bytes.clone());
                self.clients.fed(number);
                self.typed(&bytes);
            }
            ToMonitor::Resize(rows, columns) => self.running.streams.resize((rows, columns)),
            ToMonitor::Signal(signal) => self.signal(signal),
            ToMonitor::Key(signal) => self.signal_whom(signal, Whom::Group),
            ToMonitor::Close(stream) if owner => self.close(stream),
            ToMonitor::Close(_) | ToMonitor::Mapped(_) => {}
            ToMonitor::Attach => {
                self.clients.become_role(number, Role::Attached);
                let pid = self.running.child.pid().as_raw_nonzero().get();
                self.clients.tell(number, &FromMonitor::Started(pid));
            }
            ToMonitor::Detach => {
                self.clients.tell(number, &FromMonitor::Done);
                self.clients.become_role(number, Role::Other);
            }
            ToMonitor::Stop(signal, seconds) => {
                (self.asked, self.stopped) = (true, true);
                self.stop(signal, seconds);
            }
            ToMonitor::Kill(signal) => {
                let fatal = [libc::SIGKILL, self.job.stop_signal];
                self.asked |= fatal.contains(&signal);
                self.tell_kill(signal);
                // Else it would not be there before somebody lets it go on.
                let _ = self.pause(false);
                self.signal(signal);
                self.clients.tell(number, &FromMonitor::Done);
            }
            ToMonitor::Remove => {
                (self.asked, self.remove) = (true, true);
                self.tell_kill(libc::SIGKILL);
                self.signal(libc::SIGKILL);
            }
            ToMonitor::Pause(on) => {
                let answer = match self.pause(on) {
                    Ok(()) => FromMonitor::Done,
                    Err(why) => FromMonitor::Refused(why),
                };
                self.clients.tell(number, &answer);
            }
            ToMonitor::Hold => match self.ended {
                None => self.clients.give(number, self.running.child.as_fd()),
                Some(_) => self.clients.refuse(number, "the command has ended"),
            },
            ToMonitor::Check if self.is_checked() && self.checks.ask() => {
                self.clients.become_role(number, Role::Checker);
            }
            ToMonitor::Check => self.clients.refuse(number, "no check can be run now"),
            ToMonitor::Rest => self.clients.refuse(number, "the command runs"),
            ToMonitor::Reread => {
                self.reread();
                self.clients.tell(number, &FromMonitor::Done);
            }
        }
    }

    /// Stops everything in the middle of what it does, or lets it go on.
    fn pause(&mut self, on: bool) -> Result<(), String> {
        if self.paused == on {
            return Ok(());
        }
        match self.job.group {
            Some(group) => cgroup::freeze(group, on).map_err(|error| error.to_string())?,
            None => freeze::set(&self.running.child, on)?,
        }
        self.paused = on;
        let status = match on {
            true => Status::Paused,
            false => Status::Running,
        };
        if let Some(task) = self.job.container {
            let _ = task.container.change(false, |s| s.status = status);
        }
        Ok(())
    }

    /// What was changed of the specification and holds at once: the restart policy and the name.
    fn reread(&mut self) {
        let spec = self.job.container.map(|task| task.container.reread());
        let Some(Ok(spec)) = spec else { return };
        self.policy = Some(spec.restart);
        if let Some(network) = &mut self.running.network {
            network.rename(spec.network_names());
        }
    }

    /// Notes that somebody sent a signal.
    fn tell_kill(&self, number: i32) {
        if let Some(task) = &self.job.container {
            let signal = ("signal", number.to_string());
            task.container.event("kill", &[signal]);
        }
    }

    fn signal(&mut self, number: i32) {
        self.signal_whom(number, Whom::Command);
    }

    fn signal_whom(&mut self, number: i32, whom: Whom) {
        if self.ended.is_none() {
            // An init of ours passes on what it waits for; that does not show in its dispositions.
            let first = self.job.container.is_some_and(|task| !task.spec.init);
            self.signaled = match first {
                true => signals::deliver(&self.running.child, number, whom).or(self.signaled),
                false => {
                    signals::send(&self.running.child, number, whom);
                    self.signaled
                }
            };
        }
    }

    /// Nobody reads what the command just wrote. Its next write fails; a plain program would be ended
    /// by SIGPIPE, so a first process that is alone in its namespace, and thus the writer, is.
    fn close(&mut self, stream: u8) {
        let pid = self.running.child.proc_pid();
        if self.job.container.is_some()
            && signals::would_end(pid, libc::SIGPIPE)
            && signals::is_childless(pid)
        {
            // Before it can see that the write failed.
            self.signal(libc::SIGPIPE);
        }
        self.running.streams.close(usize::from(stream == 2));
    }

    /// The line discipline turned a typed Ctrl-C or Ctrl-\ into a signal for the foreground group.
    /// If that is PID 1 itself, which may have no handler, the signal is carried out.
    fn typed(&mut self, bytes: &[u8]) {
        if self.job.container.is_none() {
            return;
        }
        let Some(number) = signals::typed(self.running.streams.master(), bytes) else {
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
    fn owner_gone(&mut self) {
        self.asked = true;
        self.running.streams.feed(Vec::new());
        self.running.streams.close(0);
        self.running.streams.close(1);
        self.signal(libc::SIGHUP);
        self.end_at(Some(Instant::now() + HANG_UP_GRACE));
    }

    /// The signal that asks the command to end, and later one that it cannot but obey.
    fn stop(&mut self, signal: i32, seconds: u32) {
        self.tell_kill(signal);
        let _ = self.pause(false);
        self.end_at(after(seconds));
        self.signal(signal);
    }

    /// The command is killed then, if not before.
    fn end_at(&mut self, limit: Option<Instant>) {
        self.limit = self.limit.into_iter().chain(limit).min();
    }

    /// The container has become unhealthy.
    fn remedy(&mut self, spec: &ContainerSpec) {
        let remedy = spec.health.as_ref().map_or(Remedy::None, |h| h.on_failure);
        match remedy {
            Remedy::None => {}
            Remedy::Kill => {
                self.asked = true;
                self.stop(libc::SIGKILL, 0);
            }
            Remedy::Stop | Remedy::Restart => {
                // As podman has it, one that is stopped so is not started again by its policy.
                self.asked |= remedy == Remedy::Stop;
                self.again = remedy == Remedy::Restart;
                self.stop(spec.stop_signal, spec.stop_timeout);
            }
        }
    }
}
