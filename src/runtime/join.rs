//! A further command in a running container.
//!
//! ```text
//! caller               stage, in the end the command's monitor               command
//!    | -- fork --------> | enters the user namespace
//!    | -- orders ------> | enters the other namespaces
//!                        | -- clone3, into the control group ------------> | cgroup namespace, terminal, user,
//!                        |                                                 | confinement, execve
//!                        | <-- Console + fd (only with a terminal) ------- |
//!                        | <-- end of file: it runs, or Failed(InitError)  |
//! ```
//!
//! Where somebody inside could write to this program ([`super::launch::Program`]), the stage is executed afresh, from what
//! it makes in a mount namespace of its own in that user namespace; the caller waits for that instead of being copied.
//! What that is executed in the user namespace belongs to it, and is open to whoever has CAP_SYS_PTRACE there, as it sees the
//! host with the caller's ids. Where somebody has, the stage is executed outside, and enters once it is closed.
//!
//! The stage is never dumpable from when it enters the container's pid namespace, as the command that it forks is seen from
//! inside; one that was not executed in the container's user namespace not from before it enters that. The stage itself is not in that namespace, so nothing in there sees it unless that is the host's; it gives up
//! what it need not be able to do. All that it sees in the end is the container's, so it opens nothing by name for its own use.

use std::ffi::CStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{CWD, Mode, OFlags};
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::error::{At, InitError, Stage};
use super::inside::Root;
use super::launch::{Begins, Program, execute_stage, memory_file, place};
use super::plan::{InitPlan, ProcessPlan};
use super::proto::{FromInit, send};
use super::{Launched, Maps, Stdio, init, mounts, process as command};
use crate::security::caps::{Cap, CapSet};
use crate::sys::caps;
use crate::sys::process::{self, Child, Fork, Namespaces, exit_now, inherited_fd};
use crate::sys::socket::Channel;

/// The name (argv\[0\]) under which this program is the joining stage.
pub const NAME: &str = "rl-exec";

/// The same, of one that was executed outside and enters the user namespace itself.
pub const NAME_OUTSIDE: &str = "rl-exec-outside";

/// The numbers of the pidfd and of the control group that the caller placed, the program being between them.
const TARGET: i32 = 4;
const GROUP: i32 = 6;

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
                make_cwd: false,
                init: false,
                ..plan.process
            },
        }
    }
}

/// Where a command goes.
#[derive(Clone, Copy, Debug)]
pub struct Target<'a> {
    /// The container's first process, by a pidfd.
    pub first: BorrowedFd<'a>,
    /// The control group that the command is born in.
    pub group: Option<BorrowedFd<'a>>,
}

impl ExecPlan {
    /// Whether the command has a terminal.
    pub fn tty(&self) -> bool {
        self.tty
    }
}

/// Starts the stage, with `null` for its standard streams. It finds `channel` with [`begin`], and waits for what [`order`]
/// sends there. Where it need not be executed, it is `stage`, which never returns; it is given `channel` and the reason when
/// it could not be put where it should be. The caller must be single-threaded.
///
/// # Errors
/// [`InitError`] of the stages `clone` and `enter`.
pub fn spawn(
    channel: &Channel,
    null: BorrowedFd<'_>,
    program: &Program,
    target: Target<'_>,
    stage: fn(Option<(&Channel, InitError)>) -> !,
) -> Result<Child, InitError> {
    let call = || "clone()".to_owned();
    let Some(path) = program.protected() else {
        return match process::fork(Namespaces::empty()).at(Stage::Clone, call)? {
            Fork::Parent(child) => Ok(child),
            Fork::Child => {
                let entered = init::hide().and_then(|()| enter(target.first));
                let settled = entered.and_then(|()| settle(channel, null, None, target));
                stage(settled.err().map(|error| (channel, error)))
            }
        };
    };
    let life = || {
        let (copy, name) = match program {
            Program::Outside => (protected_self(None), NAME_OUTSIDE),
            _ => (enter(target.first).and_then(|()| protect(path)), NAME),
        };
        match copy.and_then(|copy| settle(channel, null, Some(copy), target)) {
            Ok(_) => execute_stage(name),
            Err(error) => error,
        }
    };
    process::spawn_program(life).at(Stage::Clone, call)?
}

/// Tells the stage at the other end of `channel` what [`Begun::orders`] is to return there.
///
/// # Errors
/// [`InitError`] of the stages `clone` and `enter`.
pub fn order(channel: &Channel, orders: &impl Serialize) -> Result<(), InitError> {
    let file = memory_file(orders)?;
    // Of any length, which a message is not.
    let sent = channel.send(b"orders", Some(file.as_fd()), SendFlags::empty());
    sent.at(Stage::Enter, || "sendmsg(orders)".into())
}

fn enter(first: BorrowedFd<'_>) -> Result<(), InitError> {
    let joined = process::join(first, Namespaces::USER);
    joined.at(Stage::Enter, || "setns(pidfd, user)".into())
}

/// What the stage is executed from, in a mount namespace of its own.
fn protect(path: Option<&CStr>) -> Result<OwnedFd, InitError> {
    let stage = Stage::Enter;
    nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNS)
        .map_err(|e| Errno::from_raw_os_error(e as i32))
        .at(stage, || "unshare(mnt)".into())?;
    if !rustix::process::getuid().is_root() {
        // As in `launch`: execve(2) keeps the capabilities of one who is not root only if they are ambient.
        caps::keep_across_exec().at(stage, || "prctl(PR_CAP_AMBIENT)".into())?;
    }
    protected_self(path)
}

fn protected_self(path: Option<&CStr>) -> Result<OwnedFd, InitError> {
    let call = || "open_tree(`/proc/self/exe`)".into();
    process::protected_self(path).at(Stage::Enter, call)
}

/// Puts everything where the stage looks for it.
fn settle(
    channel: &Channel,
    null: BorrowedFd<'_>,
    program: Option<OwnedFd>,
    target: Target<'_>,
) -> Result<Begins, InitError> {
    let stage = Stage::Enter;
    for number in 0..3 {
        process::replace_stdio(null, number).at(stage, || format!("dup2(null, {number})"))?;
    }
    place([channel.as_fd(), target.first], program, target.group)
        .at(stage, || "dup2(channel)".into())
}

/// The stage, as it was started.
#[derive(Debug)]
pub struct Begun {
    target: OwnedFd,
    group: Option<OwnedFd>,
    /// Letting go of it takes the kernel a while: it may be a mount of its own.
    program: OwnedFd,
    /// It has not entered the user namespace.
    outside: bool,
}

/// Takes over what the stage was started with, before anything else is opened, and the channel to the caller. `None`
/// where it was started by hand. `outside` of one that is called [`NAME_OUTSIDE`].
pub fn begin(outside: bool) -> Option<(Channel, Begun)> {
    let channel = inherited_fd(init::CHANNEL).map(Channel::from_fd).ok()?;
    let begun = Begun {
        target: inherited_fd(TARGET).ok()?,
        group: inherited_fd(GROUP).ok(),
        program: inherited_fd(init::PROGRAM).ok()?,
        outside,
    };
    Some((channel, begun))
}

impl Begun {
    /// Closes this process to the eyes of others, and waits for the orders. `None` where the caller went away.
    ///
    /// # Errors
    /// [`InitError`] of stage `enter`.
    pub fn orders<P: DeserializeOwned>(&self, channel: &Channel) -> Result<Option<P>, InitError> {
        init::hide()?;
        if self.outside {
            enter(self.target.as_fd())?;
        }
        let message = channel.receive(RecvFlags::empty());
        let message = message.at(Stage::Enter, || "recvmsg(orders)".into())?;
        let file = message.and_then(|(_, file)| file);
        file.map(init::read).transpose()
    }

    /// Enters the container and starts the command there, as this process's child.
    ///
    /// # Errors
    /// [`InitError`] of the stages `enter` and `clone`. Later failures come through the channel that is returned.
    pub fn start(self, plan: &ExecPlan, stdio: &Stdio) -> Result<Launched, InitError> {
        let stage = Stage::Enter;
        let namespaces = Namespaces::from_bits_truncate(plan.namespaces);
        // In the container's cgroup namespace nobody could be born in a group that is not seen from here
        // (cgroup-v2.rst, "Delegation Containment"). All others come before the command is seen inside: its /proc/PID/root
        // is never the host's.
        let last = namespaces & Namespaces::CGROUP;
        process::join(self.target.as_fd(), namespaces - Namespaces::USER - last)
            .at(stage, || "setns(pidfd, all)".into())?;
        let (ours, theirs) =
            Channel::pair().at(Stage::Clone, || "socketpair(SOCK_SEQPACKET)".into())?;
        let group = self.group.as_ref().map(AsFd::as_fd);
        let forked = process::fork_into(Namespaces::empty(), group);
        match forked.at(Stage::Clone, || "clone3()".into())? {
            Fork::Parent(child) => {
                drop(self.program);
                keep_to_kill().at(stage, || "capset()".into())?;
                Ok(Launched {
                    maps: Maps::Done,
                    child,
                    channel: ours,
                })
            }
            Fork::Child => {
                drop(ours);
                let error = match prepare(plan, stdio, self.target.as_fd(), last, &theirs) {
                    Ok(root) => command::become_command(&plan.process, &root, plan.tty),
                    Err(error) => error,
                };
                let _ = send(&theirs, &FromInit::Failed(error), None);
                exit_now(125)
            }
        }
    }
}

/// What a command that has become another user needs to be ended is all that is left to do.
fn keep_to_kill() -> Result<(), Errno> {
    let kill = CapSet::EMPTY.with(Cap::KILL).bits();
    caps::set(caps::Sets {
        effective: kill,
        permitted: kill,
        inheritable: 0,
    })
}

/// The command's own steps inside, up to those that it shares with a container's first process.
fn prepare(
    plan: &ExecPlan,
    stdio: &Stdio,
    target: BorrowedFd<'_>,
    last: Namespaces,
    channel: &Channel,
) -> Result<Root, InitError> {
    let stage = Stage::Enter;
    init::die_with_parent(stage)?;
    if !last.is_empty() {
        process::join(target, last).at(stage, || "setns(pidfd, cgroup)".into())?;
    }
    stdio.install(stage)?;
    init::become_root()?;
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let root =
        rustix::fs::openat(CWD, c"/", flags, Mode::empty()).at(stage, || "openat(`/`)".into())?;
    let root = Root::new(root);
    if plan.tty {
        mounts::terminal(&root, plan.console_size, channel)?;
    }
    Ok(root)
}
