//! A command in a running container has a monitor of its own: the process that enters the container for it
//! ([`crate::runtime::join`]). It has no lock, no log and no other clients, and sees nothing but the container, so what
//! has to be opened or asked for outside is, before it is told what to execute.

use std::borrow::Cow;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::net::RecvFlags;
use serde::{Deserialize, Serialize};

use super::client::Client;
use super::clients::Clients;
use super::streams::Streams;
use super::wire::{self, FromMonitor, StartFailure};
use super::{Error, Input, log, no_group, null, signals, start, watch};
use crate::cgroup;
use crate::runtime::join::{self, Begun, Target};
use crate::runtime::{ExecPlan, InitError, Program, Stage};
use crate::sys::proc;
use crate::sys::process::{self, Child, exit_now};
use crate::sys::sabotage::dropped;
use crate::sys::socket::Channel;

/// A command to be executed in a running container.
#[derive(Debug, Serialize, Deserialize)]
pub struct ExecTask<'a> {
    /// What it is.
    pub plan: Cow<'a, ExecPlan>,
    /// What it reads, without a terminal.
    pub input: Input,
    /// Nobody stays attached once it runs.
    pub detached: bool,
}

/// A monitor that waits for its task. Dropped without one, it ends.
#[derive(Debug)]
pub struct Waiting {
    channel: Channel,
    monitor: Child,
}

/// Starts the monitor of a command in the container with this first process and control group (its directory): early,
/// since it takes a while until it can do something. The caller must be single-threaded.
///
/// # Errors
/// [`Error::Call`], [`Error::Start`] when the container cannot be entered.
pub fn enter(
    first: BorrowedFd<'_>,
    group: Option<&Path>,
    program: &Program,
) -> Result<Waiting, Error> {
    let call = |call| move |errno| Error::Call { call, errno };
    let leaf = group.map(|dir| leaf(first, dir)).transpose();
    let leaf = leaf.map_err(failed)?;
    let (ours, theirs) = Channel::pair().map_err(call("socketpair()"))?;
    let null = null().map_err(call("open(`/dev/null`)"))?;
    let target = Target {
        first,
        group: leaf.as_ref().map(AsFd::as_fd),
    };
    let spawn = || join::spawn(&theirs, null.as_fd(), program, target, serve);
    let monitor = as_early(first, spawn).map_err(stopped)?;
    if let Some(dir) = group.filter(|dir| cgroup::is_far(dir)) {
        let uid = rustix::process::geteuid().as_raw();
        let env = |name: &str| std::env::var_os(name);
        let admitted = cgroup::admit(dir, monitor.pid(), uid, &env);
        admitted.map_err(|error| failed(no_group(&error)))?;
    }
    Ok(Waiting {
        channel: ours,
        monitor,
    })
}

/// Does it as a process that the kernel kills as early as this one, when memory is out: what is started inherits that, also
/// where it could not be told later, being somebody else's. Where this process may not have the score, it keeps its own.
fn as_early<T>(other: BorrowedFd<'_>, work: impl FnOnce() -> T) -> T {
    let own = std::process::id() as i32;
    let other = process::proc_pid_of(other).map(|pid| pid.as_raw_nonzero().get());
    let theirs = other.and_then(proc::oom_score);
    let before = proc::oom_score(own).filter(|score| theirs.is_some_and(|theirs| theirs != *score));
    if before.is_some() {
        let _ = proc::set_oom_score(own, theirs.unwrap_or_default());
    }
    let done = work();
    if let Some(score) = before {
        let _ = proc::set_oom_score(own, score);
    }
    done
}

/// The group that the command is born in.
fn leaf(first: BorrowedFd<'_>, dir: &Path) -> Result<OwnedFd, StartFailure> {
    let first = process::proc_pid_of(first);
    let first = first.ok_or_else(|| StartFailure::other("the container has ended".into()))?;
    cgroup::leaf_beside(dir, first).map_err(|error| no_group(&error))
}

fn failed(failure: StartFailure) -> Error {
    Error::Start(Box::new(failure))
}

fn stopped(error: InitError) -> Error {
    // Whom setns(2) does not find has ended.
    if (error.stage, error.errno) == (Stage::Enter, libc::ESRCH) {
        return Error::Absent;
    }
    failed(start::init(&error))
}

impl Waiting {
    /// Has it execute the command, and returns the connection to it: everything later comes through that.
    ///
    /// # Errors
    /// [`Error::Start`]: it cannot be told.
    pub fn execute(self, task: &ExecTask<'_>) -> Result<Client, Error> {
        let (channel, _) = self.order(task)?;
        Ok(Client::new(channel))
    }

    /// The same, with the monitor itself.
    pub(super) fn order(self, task: &ExecTask<'_>) -> Result<(Channel, Child), Error> {
        join::order(&self.channel, task).map_err(stopped)?;
        Ok((self.channel, self.monitor))
    }
}

/// The monitor, executed as the stage [`join::NAME`] of this program, or with `outside` as [`join::NAME_OUTSIDE`]. Never
/// returns.
pub fn main(outside: bool) -> ! {
    work(outside)
}

/// The monitor; or one that could not enter the container, with the reason. Never returns.
fn serve(stranded: Option<(&Channel, InitError)>) -> ! {
    if let Some((channel, error)) = stranded {
        // Before it has said what it wants, nobody listens.
        let _ = channel.receive(RecvFlags::empty());
        let _ = wire::send(channel, &FromMonitor::Failed(start::init(&error)));
        exit_now(0)
    }
    work(false)
}

fn work(outside: bool) -> ! {
    let Some((channel, begun)) = join::begin(outside) else {
        // Started by hand: there is nobody to talk to.
        exit_now(125)
    };
    if !dropped("session") {
        let _ = rustix::process::setsid();
    }
    signals::settle();
    let task = match begun.orders(&channel) {
        Ok(None) => exit_now(0),
        Ok(Some(task)) => Ok(task),
        Err(error) => Err(start::init(&error)),
    };
    let mut clients = Clients::new(channel);
    let end = task.and_then(|task| run(&task, begun, &mut clients));
    clients.part(&match end {
        Ok(end) => FromMonitor::Exited(end.ended, end.taken),
        Err(failure) => FromMonitor::Failed(failure),
    });
    exit_now(0)
}

fn run(
    task: &ExecTask<'_>,
    begun: Begun,
    clients: &mut Clients,
) -> Result<watch::End, StartFailure> {
    let (streams, stdio) = Streams::new(task.plan.tty(), task.input)?;
    let launched = begun.start(&task.plan, &stdio);
    drop(stdio);
    let launched = launched.map_err(|error| start::init(&error))?;
    let running = start::join(clients, launched, streams)?;
    if task.detached {
        clients.release_owner();
    }
    let job = watch::Job {
        stop_signal: libc::SIGTERM,
        container: None,
        group: None,
        kills: None,
        sync: &mut None,
    };
    Ok(watch::watch(
        job,
        running,
        clients,
        &mut log::Writer::none(),
    ))
}
