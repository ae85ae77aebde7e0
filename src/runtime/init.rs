//! The init stage: PID 1 of the container until it becomes the command.
//!
//! It has two descriptors: the channel to the launcher, and the plan, which it carries out in order, telling the
//! launcher where it failed. Where somebody inside could write to this program, it is a fresh execution of it, from a
//! read-only mount or a sealed copy, which comes with it ([`super::launch::Program`]).
//!
//! Nothing that joins its namespaces can reach into it. A fresh execution is not dumpable from its beginning, and open
//! to the owner of its namespaces alone. One that is not executed belongs to the user namespace outside; it is closed
//! before it becomes the command, when the helpers outside have found its namespaces.

use std::io::Read as _;
use std::os::fd::{AsFd, OwnedFd};

use serde::de::DeserializeOwned;

use super::error::{At, InitError, Stage, Without};
use super::plan::InitPlan;
use super::proto::{FromInit, send};
use super::{fill, mounts, process, rootfs};
use crate::sys::process::{Namespaces, exit_now, inherited_fd};
use crate::sys::socket::Channel;
use crate::sys::{mount, netdev, wire};

/// The name (argv[0]) under which this program is the init stage.
pub const NAME: &str = "rl-init";

/// Descriptor numbers that the launcher placed.
pub(super) const CHANNEL: i32 = 3;
const PLAN: i32 = 4;
pub(super) const PROGRAM: i32 = 5;

/// Runs the stage that was executed. Never returns: it becomes the command, or exits with 125 after telling why.
pub fn main() -> ! {
    run(hide)
}

/// The same in the process that the launcher has made.
pub(super) fn go_on() -> ! {
    run(|| Ok(()))
}

fn run(begin: fn() -> Result<(), InitError>) -> ! {
    let Ok(channel) = inherited_fd(CHANNEL).map(Channel::from_fd) else {
        // Started by hand: there is no launcher to talk to.
        exit_now(125);
    };
    let carried_out = || {
        // Set again: a change of ids since the fork may have cleared it (prctl(2), PR_SET_PDEATHSIG).
        die_with_parent(Stage::Enter)?;
        begin()?;
        drop(inherited_fd(PROGRAM));
        let plan: InitPlan = read(inherited_fd(PLAN).at(Stage::Enter, || "fcntl(plan)".into())?)?;
        let root = prepare(&plan, &channel)?;
        hide()?;
        Ok(process::become_command(&plan.process, &root, plan.tty))
    };
    let error = carried_out().unwrap_or_else(|error| error);
    let _ = send(&channel, &FromInit::Failed(error), None);
    exit_now(125)
}

/// Closes this process to the eyes of others.
pub(super) fn hide() -> Result<(), InitError> {
    crate::sys::process::hide().at(Stage::Enter, || "prctl(PR_SET_DUMPABLE, 0)".into())
}

/// Reads what was written to a [memory file](super::launch::memory_file).
pub(super) fn read<P: DeserializeOwned>(file: OwnedFd) -> Result<P, InitError> {
    let mut bytes = Vec::new();
    std::fs::File::from(file)
        .read_to_end(&mut bytes)
        .at(Stage::Enter, || "read(plan)".into())?;
    postcard::from_bytes(&bytes).map_err(|_| InitError {
        stage: Stage::Enter,
        call: "the plan is not readable".into(),
        errno: 0,
    })
}

/// Root of the namespace, if it has one: a map of a single other id leaves the capabilities as they
/// are, and those are what counts.
pub(super) fn become_root() -> Result<(), InitError> {
    let (uid, gid) = (nix::unistd::Uid::from_raw(0), nix::unistd::Gid::from_raw(0));
    let set =
        nix::unistd::setresgid(gid, gid, gid).and_then(|()| nix::unistd::setresuid(uid, uid, uid));
    match set {
        Ok(()) | Err(nix::errno::Errno::EINVAL) => {}
        Err(errno) => {
            let errno = rustix::io::Errno::from_raw_os_error(errno as i32);
            return Err(errno).at(Stage::Enter, || "setresuid(0)".into());
        }
    }
    // A change of ids clears the death signal (prctl(2)).
    die_with_parent(Stage::Enter)
}

/// Has this process killed when its parent ends (prctl(2), PR_SET_PDEATHSIG).
pub(super) fn die_with_parent(stage: Stage) -> Result<(), InitError> {
    let kill = Some(rustix::process::Signal::KILL);
    rustix::process::set_parent_process_death_signal(kill)
        .at(stage, || "prctl(PR_SET_PDEATHSIG)".into())
}

fn prepare(plan: &InitPlan, channel: &Channel) -> Result<super::inside::Root, InitError> {
    let namespaces = plan.namespaces();
    if plan.cgroup_namespace() {
        nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWCGROUP)
            .map_err(|e| rustix::io::Errno::from_raw_os_error(e as i32))
            .at(Stage::Namespaces, || "unshare(cgroup)".into())?;
    }
    let mut without = Without::default();
    if let Some(name) = &plan.hostname {
        let set = rustix::system::sethostname(name.as_bytes())
            .at(Stage::Namespaces, || format!("sethostname(`{name}`)"));
        without.unless(set, !plan.customary.hostname)?;
    }
    mount::make_private().at(Stage::Namespaces, || "mount(`/`, PRIVATE | REC)".into())?;
    if namespaces.contains(Namespaces::NET) {
        netdev::loopback_up().at(Stage::Namespaces, || "ioctl(`lo`, SIOCSIFFLAGS)".into())?;
    }
    if let Some(interface) = &plan.wire {
        let socket = wire::connect(interface).map_err(|failed| InitError {
            stage: Stage::Network,
            call: failed.call.into(),
            errno: failed.errno.raw_os_error(),
        })?;
        send(channel, &FromInit::Wire, Some(socket.as_fd()))
            .at(Stage::Network, || "sendmsg(wire)".into())?;
    }
    // What lies in the user's own directories is opened as the user, who need not be mapped; what is
    // made in here belongs to root inside.
    let sources = mounts::open_sources(plan)?;
    let volumes = fill::open(plan)?;
    let parts = rootfs::open(&plan.rootfs, &plan.mount_point)?;
    become_root()?;
    let root = rootfs::mount_root(&plan.mount_point, parts, Some(channel))?;
    rustix::process::chdir(c"/").at(Stage::Rootfs, || "chdir(`/`)".into())?;
    fill::fill_all(volumes, &root)?;
    let mounted = mounts::mount_all(plan, &root, sources, channel)?;
    if plan.tty {
        mounts::console(&root, plan.console_size, channel)?;
    }
    mounts::set_sysctls(plan, &mounted, &mut without)?;
    mounts::protect(plan, &root, &mounted)?;
    if plan.read_only_root {
        rootfs::seal_root(&root)?;
    }
    mount::pivot(root.as_fd()).at(Stage::Pivot, || "pivot_root(`.`, `.`)".into())?;
    send(channel, &FromInit::Prepared(without.0), None)
        .at(Stage::Pivot, || "sendmsg(prepared)".into())?;
    rootfs::wait(channel, Stage::Pivot)?;
    Ok(root)
}
