//! A further command in a running container.
//!
//! ```text
//! launcher              joiner                                        command
//!    | -- clone3 --------> | enters the user namespace, makes a mount
//!    |                     | namespace to protect the program from,
//!    |                     | executes the stage from there
//!    |                     | enters the other namespaces
//!    | <-- Joined + pidfd  | -- clone3, as the launcher's child ------> | terminal, user,
//!    |                     exits                                       | confinement, execve
//!    | <-- Console + fd (only with a terminal) ----------------------- |
//!    | <-- end of file: the command runs, or Failed(InitError) ------- |
//! ```
//!
//! The stage is never dumpable, and its program never writable, while it is seen from inside: as with the
//! container's first process ([`super::init`]).

use std::ffi::CStr;
use std::os::fd::{AsFd, BorrowedFd};

use rustix::fs::{CWD, Mode, OFlags};
use serde::{Deserialize, Serialize};

use super::error::{At, InitError, Stage};
use super::inside::Root;
use super::launch::{execute_stage, memory_file};
use super::plan::{InitPlan, ProcessPlan};
use super::proto::{FromInit, send};
use super::{Launched, Maps, Stdio, init, mounts, process as command};
use crate::sys::caps;
use crate::sys::process::{self, Fork, Namespaces, exit_now, inherited_fd};
use crate::sys::socket::Channel;

/// The name (argv\[0\]) under which this program is the joining stage.
pub const NAME: &str = "rl-exec";

/// The number of the pidfd that the launcher placed.
const TARGET: i32 = 6;

/// A command, and the namespaces it runs in.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ExecPlan {
    namespaces: u64,
    tty: bool,
    console_size: Option<(u16, u16)>,
    process: ProcessPlan,
}

impl From<InitPlan> for ExecPlan {
    /// The same process in the same confinement, without making anything.
    fn from(plan: InitPlan) -> ExecPlan {
        ExecPlan {
            namespaces: plan.namespaces,
            tty: plan.tty,
            console_size: plan.console_size,
            process: ProcessPlan {
                init: false,
                ..plan.process
            },
        }
    }
}

/// Starts a command in the container whose first process is behind `target`, in the control group `group`. The caller must be single-threaded.
/// It gets the command itself with [`FromInit::Joined`], and reaps the child returned here.
///
/// # Errors
/// [`InitError`] of stage `clone`. Later failures come through the channel.
pub fn join(
    plan: &ExecPlan,
    stdio: &Stdio,
    program: Option<&CStr>,
    target: BorrowedFd<'_>,
    group: Option<BorrowedFd<'_>>,
) -> Result<Launched, InitError> {
    let file = memory_file(plan)?;
    let (ours, theirs) =
        Channel::pair().at(Stage::Clone, || "socketpair(SOCK_SEQPACKET)".into())?;
    let forked = process::fork_into(Namespaces::empty(), group);
    match forked.at(Stage::Clone, || "clone3()".into())? {
        Fork::Parent(child) => Ok(Launched {
            maps: Maps::Done,
            child,
            channel: ours,
        }),
        Fork::Child => {
            drop(ours);
            let entered = enter(&theirs, file.as_fd(), stdio, program, target);
            if let Err(error) = entered {
                let _ = send(&theirs, &FromInit::Failed(error), None);
                exit_now(125)
            }
            execute_stage(NAME)
        }
    }
}

fn enter(
    channel: &Channel,
    plan: BorrowedFd<'_>,
    stdio: &Stdio,
    program: Option<&CStr>,
    target: BorrowedFd<'_>,
) -> Result<(), InitError> {
    let stage = Stage::Enter;
    process::join(target, Namespaces::USER).at(stage, || "setns(pidfd, user)".into())?;
    nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNS)
        .map_err(|e| rustix::io::Errno::from_raw_os_error(e as i32))
        .at(stage, || "unshare(mnt)".into())?;
    if !rustix::process::getuid().is_root() {
        // As in `launch`: execve(2) keeps the capabilities of one who is not root only if they are ambient.
        caps::keep_across_exec().at(stage, || "prctl(PR_CAP_AMBIENT)".into())?;
    }
    stdio.install(stage)?;
    let copy =
        process::protected_self(program).at(stage, || "open_tree(`/proc/self/exe`)".into())?;
    let placed = process::place_fds(&[channel.as_fd(), plan, copy.as_fd(), target]);
    // Its number may be that of a placed one by now.
    std::mem::forget(copy);
    placed.at(stage, || "dup2(channel)".into())
}

/// Runs the stage. Never returns.
pub fn main() -> ! {
    let Ok(channel) = inherited_fd(init::CHANNEL).map(Channel::from_fd) else {
        exit_now(125);
    };
    let error = match init::read_plan::<ExecPlan>().and_then(|plan| prepare(&plan, &channel)) {
        Ok((plan, root)) => command::become_command(&plan.process, &root, plan.tty),
        Err(error) => error,
    };
    let _ = send(&channel, &FromInit::Failed(error), None);
    exit_now(125)
}

/// Returns in the new process, which is inside.
fn prepare(plan: &ExecPlan, channel: &Channel) -> Result<(ExecPlan, Root), InitError> {
    let stage = Stage::Enter;
    let target = inherited_fd(TARGET).at(stage, || "fcntl(pidfd)".into())?;
    let others = Namespaces::from_bits_truncate(plan.namespaces) - Namespaces::USER;
    process::join(target.as_fd(), others).at(stage, || "setns(pidfd, all)".into())?;
    drop(target);
    if let Some(command) = process::fork_sibling().at(stage, || "clone3(CLONE_PARENT)".into())? {
        let told = send(channel, &FromInit::Joined, Some(command.as_fd()));
        exit_now(if told.is_ok() { 0 } else { 125 })
    }
    let kill = Some(rustix::process::Signal::KILL);
    rustix::process::set_parent_process_death_signal(kill)
        .at(stage, || "prctl(PR_SET_PDEATHSIG)".into())?;
    init::become_root()?;
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let root =
        rustix::fs::openat(CWD, c"/", flags, Mode::empty()).at(stage, || "openat(`/`)".into())?;
    let root = Root::new(root);
    if plan.tty {
        mounts::terminal(&root, plan.console_size, channel)?;
    }
    Ok((plan.clone(), root))
}
