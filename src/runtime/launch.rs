//! The launcher's side of a start: clone, and what the child does until it executes the init stage.

use std::ffi::CString;
use std::io::{Seek as _, Write as _};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::MemfdFlags;
use rustix::io::Errno;

use super::error::{At, InitError, Stage};
use super::init;
use super::plan::InitPlan;
use super::proto::{FromInit, ToInit, receive, send};
use crate::sys::caps;
use crate::sys::process::{self, Child, Fork, Namespaces, exit_now};
use crate::sys::socket::Channel;
use crate::userns::{self, Place};

/// What the command gets as standard input, output and error. With a terminal in the plan all three
/// are replaced by it.
#[derive(Debug)]
pub struct Stdio {
    /// Standard input.
    pub stdin: OwnedFd,
    /// Standard output.
    pub stdout: OwnedFd,
    /// Standard error.
    pub stderr: OwnedFd,
}

impl Stdio {
    /// Makes them this process's own.
    pub(super) fn install(&self, stage: Stage) -> Result<(), InitError> {
        for (fd, number) in [(&self.stdin, 0), (&self.stdout, 1), (&self.stderr, 2)] {
            process::replace_stdio(fd.as_fd(), number)
                .at(stage, || format!("dup2(stdio, {number})"))?;
        }
        Ok(())
    }
}

/// A child that waits for its id maps.
#[derive(Debug)]
pub struct Launched {
    /// The process, PID 1 of the container.
    pub child: Child,
    /// For [`super::proto`].
    pub channel: Channel,
    /// Its id maps.
    pub maps: Maps,
}

/// Who writes the id maps of a child.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Maps {
    /// Its launcher, now.
    Launcher,
    /// Who made the user namespace that it was born in.
    Maker,
    /// They are there.
    Done,
}

/// Clones the container's first process with all its namespaces, in the user namespace that `place` says; in a new one,
/// whose maps are to be written, where that is refused. `program` is the path of this program as the host
/// knows it; the process is born in the control group `group`. The caller must be single-threaded; when there are
/// maps it sends [`ToInit::Mapped`].
///
/// # Errors
/// [`InitError`] of stage `clone`. Later failures come through the channel.
pub fn launch(
    plan: &InitPlan,
    stdio: Stdio,
    program: Option<CString>,
    group: Option<BorrowedFd<'_>>,
    place: Place<'_>,
) -> Result<Launched, InitError> {
    let plan_file = memory_file(plan)?;
    let (ours, theirs) =
        Channel::pair().at(Stage::Clone, || "socketpair(SOCK_SEQPACKET)".into())?;
    let namespaces = plan.namespaces();
    let failed = || format!("clone3({})", names(namespaces));
    let mut ours = Some(ours);
    let mut life = || {
        drop(ours.take());
        let error = enter(&theirs, &plan_file, &stdio, program.as_deref());
        let _ = send(&theirs, &FromInit::Failed(error), None);
    };
    let (placed, maps) = match place {
        Place::New => (None, Maps::Launcher),
        Place::In(user) => {
            let others = namespaces - Namespaces::USER;
            let child = process::spawn_within(user, others, group, &mut life, |_| Ok(()));
            (Some(child), Maps::Maker)
        }
        Place::Within(user, maps) => {
            let write = |child: &Child| {
                let number = child.proc_pid().as_raw_nonzero().get() as u32;
                userns::write_within(maps, number).map_err(|_| Errno::PERM)
            };
            let child = process::spawn_within(user, namespaces, group, &mut life, write);
            (Some(child), Maps::Done)
        }
    };
    let (child, maps) = match placed {
        None | Some(Err(Errno::PERM | Errno::NOSYS)) => {
            match process::fork_into(namespaces, group).at(Stage::Clone, failed)? {
                Fork::Parent(child) => (child, Maps::Launcher),
                Fork::Child => {
                    life();
                    exit_now(125)
                }
            }
        }
        Some(child) => (child.at(Stage::Clone, failed)?, maps),
    };
    match ours {
        Some(channel) => Ok(Launched {
            child,
            channel,
            maps,
        }),
        // Only the child takes it.
        None => exit_now(125),
    }
}

fn names(namespaces: Namespaces) -> String {
    let names: Vec<String> = namespaces
        .iter_names()
        .map(|(n, _)| n.to_ascii_lowercase())
        .collect();
    names.join("|")
}

/// A file in memory that holds the plan, for a stage to read.
pub(super) fn memory_file(plan: &impl serde::Serialize) -> Result<OwnedFd, InitError> {
    let call = || "memfd_create(plan)".to_owned();
    let bytes = postcard::to_stdvec(plan).map_err(|_| InitError {
        stage: Stage::Clone,
        call: "the plan cannot be written".into(),
        errno: 0,
    })?;
    let file = rustix::fs::memfd_create(c"plan", MemfdFlags::CLOEXEC).at(Stage::Clone, call)?;
    let mut file = std::fs::File::from(file);
    file.write_all(&bytes)
        .and_then(|()| file.rewind())
        .at(Stage::Clone, call)?;
    Ok(file.into())
}

/// The child between clone and the init stage. Returns only on failure.
fn enter(
    channel: &Channel,
    plan: &OwnedFd,
    stdio: &Stdio,
    program: Option<&std::ffi::CStr>,
) -> InitError {
    let entered = (|| {
        let stage = Stage::Enter;
        init::die_with_parent(stage)?;
        stdio.install(stage)?;
        let copy =
            process::protected_self(program).at(stage, || "open_tree(`/proc/self/exe`)".into())?;
        // All of this the namespaces' owner may do while the maps are written.
        match receive::<ToInit>(channel).at(stage, || "recvmsg(launcher)".into())? {
            Some((ToInit::Mapped, _)) => {}
            _ => exit_now(125),
        }
        if !rustix::process::getuid().is_root() {
            // The caller is not root inside (keep-id, nomap): execve(2) keeps capabilities for such
            // a process only if they are ambient. The init stage drops them with the others.
            caps::keep_across_exec().at(stage, || "prctl(PR_CAP_AMBIENT)".into())?;
        }
        let placed = process::place_fds(&[channel.as_fd(), plan.as_fd(), copy.as_fd()]);
        // Its number may be that of a placed one by now.
        std::mem::forget(copy);
        placed.at(stage, || "dup2(channel)".into())
    })();
    if let Err(error) = entered {
        return error;
    }
    let error = execute_stage(init::NAME);
    // The channel has moved to its placed number; errors still go through it.
    if let Ok(placed) = process::inherited_fd(init::CHANNEL) {
        let _ = send(&Channel::from_fd(placed), &FromInit::Failed(error), None);
    }
    exit_now(125)
}

/// Executes the placed program as the stage `name`. Returns only on failure.
pub(super) fn execute_stage(name: &str) -> InitError {
    let argv = [CString::new(name).unwrap_or_default()];
    let errno = process::exec_placed(init::PROGRAM, &argv);
    InitError {
        stage: Stage::Enter,
        call: format!("execveat({name})"),
        errno: errno.raw_os_error(),
    }
}
