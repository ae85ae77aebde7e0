//! One small process a container: it starts it, owns its terminal or pipes and its network helper,
//! passes bytes and signals, and cleans up. It has a session of its own and one thread, so it
//! survives the terminal; if it is killed, the kernel kills the container (PR_SET_PDEATHSIG).
//!
//! ```text
//! front end --fork--> monitor --clone3--> PID 1 of the container
//!     |  messages (wire)  |  pipes or pty master, runtime::proto while it starts
//! ```
//!
//! A front end is a client ([`client`]): the first by the channel made at the fork, others by a socket in the
//! container's directory ([`clients`]). All speak the same messages ([`wire`]). While it lives the monitor
//! holds the container's lock. A command that is executed in a container has a monitor of its own ([`exec`]).

pub mod client;
mod clients;
pub mod exec;
mod freeze;
mod fuse;
mod health;
mod journal;
mod keys;
pub mod log;
mod pidfile;
mod restart;
mod signals;
mod start;
mod streams;
mod waiting;
mod watch;
pub mod wire;

use std::borrow::Cow;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::Duration;

pub use clients::SOCKET;
pub use exec::ExecTask;
pub use health::HealthTask;
pub use start::OOM_SCORE;
pub use streams::Input;

use crate::model::spec::{ContainerSpec, LogDriver, Resources, RestartPolicy};
use crate::runtime::{InitPlan, Program};
use crate::sys::process::{self, Fork, Namespaces, exit_now};
use crate::sys::sabotage::dropped;
use crate::sys::socket::Channel;
use crate::{cgroup, net, state, userns};
use wire::{FromMonitor, StartFailure};

/// How long after its start a container that stays is brought to the disk for sure: the wait for that holds up the
/// first output, and the end of a command that is soon over.
const SYNC: Duration = Duration::from_secs(1);

/// Everything a monitor needs, decided by the engine.
#[derive(Debug)]
pub struct Task<'a> {
    /// What the container's first process does.
    pub plan: InitPlan,
    /// The id maps and who writes them.
    pub userns: userns::Plan,
    /// Which user namespace it goes into; [`wire::ToMonitor::Mapped`] will tell when one that is given has its maps.
    pub place: userns::Place<'a>,
    /// The network helper, if the mode needs one.
    pub network: Option<Network>,
    /// Mounts the root file system where the kernel's overlay is refused.
    pub fuse: Option<fuse_overlayfs::Options>,
    /// The control group to be made.
    pub group: Option<cgroup::Plan>,
    /// What is to be started.
    pub spec: &'a ContainerSpec,
    /// Whether the command runs on a terminal.
    pub tty: bool,
    /// What it reads, without one.
    pub input: Input,
    /// Nobody stays attached once the command runs.
    pub detached: bool,
    /// How to find out whether it is well.
    pub health: Option<HealthTask>,
    /// The container's directory, locked for as long as the monitor lives.
    pub container: &'a state::Locked,
    /// Where the monitor's socket is, if not there.
    pub socket: Option<PathBuf>,
    /// What keeps this program from those inside.
    pub program: Program,
}

impl Task<'_> {
    /// The limits that hold for this start: they may have been changed since the first.
    fn resources(&self, restarts: u32) -> Cow<'_, Resources> {
        let now = (restarts > 0).then(|| self.container.spec().ok()).flatten();
        now.map_or(Cow::Borrowed(&self.spec.resources), |spec| {
            Cow::Owned(spec.resources)
        })
    }
}

/// The network helper to start, and what it is told.
#[derive(Clone, Debug)]
pub struct Network {
    /// Which one.
    pub choice: net::Choice,
    /// Published ports.
    pub ports: Vec<net::Reserved>,
    /// Whether it forwards name look-ups to the host's resolver.
    pub forward_dns: bool,
    /// Whether the host is reachable by its own address.
    pub host_gateway: bool,
    /// The caller is root of the machine.
    pub as_root: bool,
    /// The hardware address that is asked for.
    pub mac: Option<[u8; 6]>,
    /// Who the container is on its network with a name.
    pub member: Option<net::Member>,
}

/// Why there is no monitor.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A system call of the hand-over failed.
    #[error("monitor: {call}: {}", crate::sys::errno::errno_text(errno.raw_os_error()))]
    Call {
        /// The call.
        call: &'static str,
        /// Its error.
        errno: rustix::io::Errno,
    },
    /// What the command wrote could not be passed on.
    #[error("write({}): {}", ["standard output", "standard error"][usize::from(*stream == 2)], crate::sys::errno::errno_text(errno.raw_os_error()))]
    Output {
        /// 1 or 2.
        stream: u8,
        /// Why.
        errno: rustix::io::Errno,
    },
    /// There is no monitor.
    #[error("it is not running")]
    Absent,
    /// The monitor said no.
    #[error("{0}")]
    Refused(String),
    /// This client was too slow.
    #[error("the output came faster than it was taken here: detached, and it goes on")]
    Cut,
    /// The monitor ended without a word.
    #[error("the container's monitor was killed")]
    Gone,
    /// The container could not be started.
    #[error("{0}")]
    Start(Box<StartFailure>),
}

/// Forks the monitor of `task` and returns the channel to it. The caller must be single-threaded.
///
/// # Errors
/// [`Error::Call`] when the fork fails; everything later comes through the channel.
pub fn spawn(task: &Task<'_>) -> Result<client::Client, Error> {
    let keep_streams = task.spec.log.driver == LogDriver::Passthrough && task.detached;
    let call = |call| move |errno| Error::Call { call, errno };
    let (ours, theirs) = Channel::pair().map_err(call("socketpair()"))?;
    let null = null().map_err(call("open(`/dev/null`)"))?;
    match process::fork(Namespaces::empty()).map_err(call("clone3()"))? {
        Fork::Parent(_) => Ok(client::Client::new(ours)),
        Fork::Child => {
            drop(ours);
            settle(keep_streams, null.as_fd());
            run(task, theirs);
            exit_now(0)
        }
    }
}

/// A process on its own: what the front end was given is not held open by it.
fn settle(keep_streams: bool, null: BorrowedFd<'_>) {
    if !dropped("session") {
        let _ = rustix::process::setsid();
    }
    // Helpers are started with what they are given, and nothing that the caller had open besides.
    process::cloexec_from(3);
    signals::settle();
    let numbers: &[i32] = if keep_streams { &[0] } else { &[0, 1, 2] };
    for number in numbers {
        if process::replace_stdio(null, *number).is_err() {
            exit_now(125)
        }
    }
}

/// The monitor's life: start, watch, start again where that is wanted, clean up, tell.
fn run(task: &Task<'_>, client: Channel) {
    let dir = task.container.dir();
    // A monitor that lives long must not keep the directory busy in which its user happened to be.
    let here = rustix::process::chdir(dir);
    let mut clients = clients::Clients::new(client);
    let mut history = restart::History::default();
    let mut log = match task.spec.log.driver {
        // Who stays attached writes it already.
        LogDriver::Passthrough if !task.detached => log::Writer::none(),
        _ => log::Writer::new(task.spec.log.clone(), &task.spec.name, &task.spec.id),
    };
    let mut policy = task.spec.restart;
    let mut sync = None;
    let mut group = match group(task, &clients) {
        Ok(group) => group,
        Err(failure) => return failed(task, &mut clients, failure, 0),
    };
    for restarts in 0.. {
        if let Some(group) = group.as_mut().filter(|_| restarts > 0) {
            let _ = group.renew(&task.resources(restarts));
        }
        // From before the command runs: it may take too much at once.
        let kills = group.as_ref().map(cgroup::Group::dir);
        let kills = kills.and_then(cgroup::OomKills::watch);
        let started = match here {
            Ok(()) => start::start(task, &mut clients, restarts, group.as_ref()),
            Err(errno) => Err(StartFailure::other(format!(
                "chdir(`{}`): {errno}",
                dir.display()
            ))),
        };
        let began = std::time::Instant::now();
        let running = match started {
            Ok(running) => running,
            Err(failure) => {
                let _ = group.take().map(cgroup::Group::remove);
                pidfile::remove(task.spec);
                failed(task, &mut clients, failure, restarts);
                break;
            }
        };
        if task.detached {
            clients.release_owner();
        }
        process::give_back_memory();
        if restarts == 0 && !task.spec.remove {
            sync = Some(began + SYNC);
        }
        if task.detached {
            // It stays for long, and does little.
            process::give_back_program();
        }
        let job = watch::Job {
            stop_signal: task.spec.stop_signal,
            container: Some(task),
            group: group.as_ref().map(cgroup::Group::dir),
            kills,
            sync: &mut sync,
        };
        let end = watch::watch(job, running, &mut clients, &mut log);
        pidfile::remove(task.spec);
        if let Some(now) = end.policy {
            policy = now;
        }
        if let Some(group) = &group {
            // With a pid namespace of its own nothing is left; without, it is what started in the background.
            cgroup::kill(group.dir());
        }
        let wait = match (end.asked, end.again) {
            (true, _) => None,
            (false, true) => Some(std::time::Duration::ZERO),
            (false, false) => history.next(policy, end.ended, began.elapsed()),
        };
        let gone = match task.spec.remove || end.remove {
            true => {
                task.container.died(end.ended);
                told_stop(task, &end);
                let gone = task.container.vanish().ok();
                if task.spec.remove {
                    remove_volumes(task.spec, dir, &task.userns);
                }
                gone
            }
            false => {
                let _ = task
                    .container
                    .change(false, |state| state.oom_killed = end.out_of_memory);
                let _ = task.container.ended(end.ended, end.asked, wait.is_some());
                told_stop(task, &end);
                None
            }
        };
        if wait.is_none() {
            // Who is told of the end finds nothing left of it.
            let _ = group.take().map(cgroup::Group::remove);
        }
        let last = FromMonitor::Exited(end.ended, end.taken);
        match wait {
            Some(_) => clients.part(&last),
            None => clients.close(&last),
        }
        if let Some(gone) = gone {
            let _ = inside_if_needed(&task.userns, || gone.remove());
        } else if !task.spec.remove && (sync.take().is_some() || wait.is_none()) {
            // Nobody waits for it now: how it ended, and all of it where that was not due before.
            let _ = task.container.sync();
        }
        let wanted = || {
            let spec = task.container.reread();
            spec.is_ok_and(|spec| spec.restart != RestartPolicy::No)
        };
        match wait {
            Some(wait) if restart::wait(&mut clients, wait, &wanted) => {
                // It may have been changed while nobody watched.
                policy = task.container.spec().map_or(policy, |spec| spec.restart);
            }
            Some(_) => {
                let _ = group.take().map(cgroup::Group::remove);
                let _ = task.container.ended(end.ended, true, false);
                clients.close(&last);
                let _ = task.container.sync();
                break;
            }
            None => break,
        }
    }
    // What many long-lived ones leave is looked for by the verbs, not by each of them at its end.
    if task.spec.remove {
        sweep(task);
    }
}

/// The container's control group. What nobody asked for can be done without.
fn group(
    task: &Task<'_>,
    clients: &clients::Clients,
) -> Result<Option<cgroup::Group>, StartFailure> {
    let moves = task.group.as_ref().is_some_and(cgroup::Plan::moves_monitor);
    if task.detached && !moves {
        // Where that fails the session is not left, which may do as well.
        let _ = cgroup::leave_session(&format!("rl container {}", task.spec.name));
    }
    let Some(plan) = &task.group else {
        return Ok(None);
    };
    match cgroup::make(plan) {
        Ok(group) => Ok(Some(group)),
        Err(error) if plan.is_asked() => Err(no_group(&error)),
        Err(error) => {
            if let Some(owner) = clients.owner() {
                let text = format!("no control group: {error}");
                let _ = wire::send(owner, &FromMonitor::Detail(text));
            }
            Ok(None)
        }
    }
}

fn no_group(error: &cgroup::Error) -> StartFailure {
    StartFailure {
        part: wire::Part::Other,
        message: crate::model::chain(error),
        hint: error.hint(),
        status: 125,
    }
}

/// Notes that the command ended because it was to stop.
fn told_stop(task: &Task<'_>, end: &watch::End) {
    if end.stopped {
        task.container.event("stop", &[]);
    }
}

/// The front end removes what was prepared, or tries another rung with it. Where there is none any more, the
/// container is left as it is, and says why.
fn failed(task: &Task<'_>, clients: &mut clients::Clients, failure: StartFailure, restarts: u32) {
    if restarts > 0 {
        let text = failure.message.clone();
        let _ = task.container.change(true, |state| {
            state.status = state::Status::Exited;
            state.error = Some(text);
        });
    } else if clients.owner().is_none() && task.spec.remove {
        let _ = remove_files(task.container, &task.userns);
        remove_volumes(task.spec, task.container.dir(), &task.userns);
    }
    clients.close(&FromMonitor::Failed(failure));
}

/// Removes the containers of monitors that were killed, when nobody waits for us any more.
fn sweep(task: &Task<'_>) {
    let Some(root) = task.container.dir().parent() else {
        return;
    };
    for (spec, container) in state::Containers::new(root.to_owned()).left_over() {
        let _ = remove_left_over(spec.as_ref(), &container, &task.userns);
    }
}

/// Removes a container whose monitor was killed, with `plan` as a pattern for who writes its id maps; and the volumes
/// that were made for it, if they were to go with it. Without a specification it was never finished, and `plan` has to
/// know the ids of its files.
///
/// # Errors
/// As [`remove`].
pub fn remove_left_over(
    spec: Option<&ContainerSpec>,
    container: &state::Locked,
    plan: &userns::Plan,
) -> Result<(), state::Error> {
    let Some(spec) = spec else {
        return remove(container, plan);
    };
    let plan = userns::Plan {
        uid: spec.uid_map.clone(),
        gid: spec.gid_map.clone(),
        ..plan.clone()
    };
    remove(container, &plan)?;
    if spec.remove {
        remove_volumes(spec, container.dir(), &plan);
    }
    Ok(())
}

/// Ends what a killed monitor may have left running of a container, and removes its directory.
///
/// # Errors
/// [`state::Error`] of the last try; what could not be removed is [left over](state::Containers::gone) then.
pub fn remove(container: &state::Locked, plan: &userns::Plan) -> Result<(), state::Error> {
    end_left(container);
    remove_files(container, plan)
}

/// Ends what a killed monitor may have left running of a container, and its control group and socket; and notes that.
pub fn end_left(container: &state::Locked) {
    if let Some(group) = container.end_orphan() {
        cgroup::clear(&group);
    }
    if let Ok(place) = std::fs::read_link(container.dir().join(SOCKET)) {
        let _ = std::fs::remove_file(place);
    }
    let _ = container.orphan_ended();
}

fn remove_files(container: &state::Locked, plan: &userns::Plan) -> Result<(), state::Error> {
    // At once no container any more, so that one which is removed in part is never started.
    let gone = container.vanish()?;
    inside_if_needed(plan, || gone.remove())
}

/// Removes the volumes that were made for a container which was in the directory `container`, unless another one has
/// got hold of them.
fn remove_volumes(spec: &ContainerSpec, container: &Path, plan: &userns::Plan) {
    let Some(all) = container.parent() else {
        return;
    };
    let containers = state::Containers::new(all.to_owned());
    for (name, dir) in spec.anonymous_volumes() {
        let free = dir.exists() && !containers.has_volume(name);
        if free && inside_if_needed(plan, || state::remove_all(dir)).is_ok() {
            containers.volume_event(name, "destroy");
        }
    }
}

/// Files of other ids below a container's upper directory can only be removed by root of its id maps,
/// so that is who tries when the user cannot.
fn inside_if_needed(
    plan: &userns::Plan,
    remove: impl Fn() -> Result<(), state::Error>,
) -> Result<(), state::Error> {
    if remove().is_ok() {
        return Ok(());
    }
    let _ = userns::run_inside(plan, || u8::from(remove().is_err()));
    remove()
}

/// `/dev/null`, for what a monitor itself reads, and what a container's command is not given.
fn null() -> rustix::io::Result<OwnedFd> {
    use rustix::fs::{CWD, Mode, OFlags, openat};
    openat(
        CWD,
        c"/dev/null",
        OFlags::RDWR | OFlags::CLOEXEC,
        Mode::empty(),
    )
}
