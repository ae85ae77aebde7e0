//! One small process a container: it starts it, owns its terminal or pipes and its network helper,
//! passes bytes and signals, and cleans up. It has a session of its own and one thread, so it
//! survives the terminal; if it is killed, the kernel kills the container (PR_SET_PDEATHSIG).
//!
//! ```text
//! front end --fork--> monitor --clone3--> PID 1 of the container
//!     |  messages (wire)  |  pipes or pty master, runtime::proto while it starts
//! ```
//!
//! A front end is a client ([`client`]): attached by the channel made at the fork. Whatever attaches
//! later speaks the same messages.

pub mod client;
mod fuse;
mod signals;
mod start;
mod streams;
mod watch;
pub mod wire;

use std::ffi::CString;
use std::os::fd::{AsFd as _, OwnedFd};

use crate::model::spec::ContainerSpec;
use crate::runtime::InitPlan;
use crate::sys::process::{self, Ended, Fork, Namespaces, exit_now};
use crate::sys::sabotage::dropped;
use crate::sys::socket::Channel;
use crate::{net, state, userns};
use wire::{FromMonitor, StartFailure};

/// Everything a monitor needs, decided by the engine.
#[derive(Debug)]
pub struct Task<'a> {
    /// What the container's first process does.
    pub plan: InitPlan,
    /// The id maps and who writes them.
    pub userns: userns::Plan,
    /// The network helper, if the mode needs one.
    pub network: Option<Network>,
    /// Mounts the root file system where the kernel's overlay is refused.
    pub fuse: Option<fuse_overlayfs::Options>,
    /// Whether the command runs on a terminal.
    pub tty: bool,
    /// Whether to tell exactly how much of its input the command took.
    pub measure_input: bool,
    /// The container's directory, locked for as long as the monitor lives.
    pub container: &'a state::Locked,
    /// Whether the container is removed when it ended.
    pub remove: bool,
    /// The path of this program.
    pub program: Option<CString>,
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
}

/// Why there is no monitor.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A system call of the hand-over failed.
    #[error("monitor: {call}: {}", process::errno_name(errno.raw_os_error()))]
    Call {
        /// The call.
        call: &'static str,
        /// Its error.
        errno: rustix::io::Errno,
    },
    /// What the command wrote could not be passed on.
    #[error("write({}): {}", ["standard output", "standard error"][usize::from(*stream == 2)], process::errno_name(errno.raw_os_error()))]
    Output {
        /// 1 or 2.
        stream: u8,
        /// Why.
        errno: rustix::io::Errno,
    },
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
    let call = |call| move |errno| Error::Call { call, errno };
    let (ours, theirs) = Channel::pair().map_err(call("socketpair()"))?;
    match process::fork(Namespaces::empty()).map_err(call("clone3()"))? {
        Fork::Parent(_) => Ok(client::Client::new(ours)),
        Fork::Child => {
            drop(ours);
            run(task, &theirs)
        }
    }
}

/// The monitor's life: start, watch, clean up, tell.
fn run(task: &Task<'_>, client: &Channel) -> ! {
    if !dropped("session") {
        let _ = rustix::process::setsid();
    }
    // Helpers are started with what they are given, and nothing that the caller had open besides.
    process::cloexec_from(3);
    signals::settle();
    if let Ok(null) = null() {
        // What the front end was given is not held open by its monitor.
        for number in [0, 1, 2] {
            let _ = process::replace_stdio(null.as_fd(), number);
        }
    }
    match start::start(task, client) {
        Ok(running) => {
            let (ended, taken) = watch::watch(running, client);
            let gone = finish(task, ended);
            let _ = wire::send(client, &FromMonitor::Exited(ended, taken));
            if let Some(gone) = gone {
                let _ = inside_if_needed(&task.userns, || gone.remove());
            }
        }
        // The front end removes what was prepared, or tries another rung with it.
        Err(failure) => {
            if wire::send(client, &FromMonitor::Failed(failure)).is_err() {
                let _ = remove_files(task.container, &task.userns);
            }
        }
    }
    sweep(task);
    exit_now(0)
}

/// Removes the containers of monitors that were killed, when nobody waits for us any more.
fn sweep(task: &Task<'_>) {
    let Some(root) = task.container.dir().parent() else {
        return;
    };
    for (spec, container) in state::Containers::new(root.to_owned()).left_over() {
        let _ = remove_left_over(&spec, &container, &task.userns);
    }
}

/// Removes a container whose monitor was killed, with `plan` as a pattern for who writes its id maps.
///
/// # Errors
/// As [`remove`].
pub fn remove_left_over(
    spec: &ContainerSpec,
    container: &state::Locked,
    plan: &userns::Plan,
) -> Result<(), state::Error> {
    let plan = userns::Plan {
        uid: spec.uid_map.clone(),
        gid: spec.gid_map.clone(),
        ..plan.clone()
    };
    remove(container, &plan)
}

/// What remains on disk: files that nobody finds any more, or how it ended.
fn finish(task: &Task<'_>, ended: Ended) -> Option<state::Gone> {
    if !task.remove {
        let _ = task.container.ended(Some(ended));
        return None;
    }
    task.container.vanish().ok()
}

/// Ends what a killed monitor may have left running of a container, and removes its directory.
///
/// # Errors
/// [`state::Error`] of the second try.
pub fn remove(container: &state::Locked, plan: &userns::Plan) -> Result<(), state::Error> {
    container.end_orphan();
    remove_files(container, plan)
}

fn remove_files(container: &state::Locked, plan: &userns::Plan) -> Result<(), state::Error> {
    inside_if_needed(plan, || container.remove())
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

/// `/dev/null` for what a container's command is not given.
fn null() -> rustix::io::Result<OwnedFd> {
    use rustix::fs::{CWD, Mode, OFlags, openat};
    openat(
        CWD,
        c"/dev/null",
        OFlags::RDWR | OFlags::CLOEXEC,
        Mode::empty(),
    )
}
