//! The launcher's side of a start: clone, and what the child does until it executes the init stage.

use std::ffi::CString;
use std::io::{Seek as _, Write as _};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;

use rustix::fs::MemfdFlags;
use rustix::io::Errno;

use super::error::{At, InitError, Stage};
use super::init;
use super::plan::InitPlan;
use super::proto::{FromInit, ToInit, receive, send};
use crate::model::idmap::IdMap;
use crate::security::caps::{Cap, CapSet};
use crate::sys::caps;
use crate::sys::process::{self, Child, Fork, Namespaces, exit_now};
use crate::sys::sabotage::dropped;
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

/// What keeps the file of this program from those inside, who could have others execute what they put into it: they can
/// have a process execute what it is executing (the class of CVE-2019-5736).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Program {
    /// Nobody inside can write to it. A stage goes on in the process that was forked for it.
    OutOfReach,
    /// It is the user's, who is root inside. A stage is executed afresh, from a read-only mount of this path or, where
    /// there is no path or mount, from a sealed copy in memory.
    Protected(Option<CString>),
    /// It is, and those inside may look into whatever is in their user namespace (CAP_SYS_PTRACE). What joins them is
    /// executed outside, from a sealed copy, and is closed before it enters.
    Outside,
}

impl Program {
    /// Looks at it, for a container with this map of user ids.
    pub fn find(uids: &IdMap) -> Program {
        let file = std::fs::metadata("/proc/self/exe");
        let safe = file.is_ok_and(|file| is_out_of_reach(file.uid(), file.mode(), uids));
        match safe && !writes() {
            true => Program::OutOfReach,
            false => Program::executed(),
        }
    }

    /// Looks at it, for what joins a container with this map of user ids and these capabilities.
    pub fn to_join(uids: &IdMap, capabilities: CapSet) -> Program {
        match Program::find(uids) {
            Program::Protected(_) if capabilities.has(Cap::SYS_PTRACE) => Program::Outside,
            program => program,
        }
    }

    /// For a stage that is to be executed afresh whatever can be written: one that stays inside shows its command line for
    /// all that time; and one that changes its ids is closed by that (prctl(2), PR_SET_DUMPABLE) to the helpers outside
    /// that look for its namespaces, unless the user namespace is the one that it was executed in.
    pub fn executed() -> Program {
        let path = std::fs::read_link("/proc/self/exe").ok();
        Program::Protected(path.and_then(|path| CString::new(path.as_os_str().as_bytes()).ok()))
    }

    /// The path, where a stage is executed.
    pub(super) fn protected(&self) -> Option<Option<&std::ffi::CStr>> {
        match self {
            Program::OutOfReach => None,
            Program::Protected(path) => Some(path.as_deref()),
            Program::Outside => Some(None),
        }
    }
}

/// Whether nobody can write to a file who has the ids of this map: capabilities over it have only those in whose
/// namespace its owner exists (capabilities(7), "Interaction with user namespaces"), and what an access control list
/// allows shows in the bits of the group (acl(5)).
fn is_out_of_reach(owner: u32, mode: u32, uids: &IdMap) -> bool {
    uids.to_container(owner).is_none() && mode & 0o022 == 0
}

/// Whether the caller can write to the program all the same: some file systems ask a server. Root outside is nobody
/// inside.
fn writes() -> bool {
    let allowed = rustix::fs::access("/proc/self/exe", rustix::fs::Access::WRITE_OK);
    allowed.is_ok() && !rustix::process::geteuid().is_root()
}

/// Clones the container's first process with all its namespaces, in the user namespace that `place` says; in a new one,
/// whose maps are to be written, where that is refused. The process is born in the control group `group`. The caller must be
/// single-threaded; when there are maps it sends [`ToInit::Mapped`].
///
/// # Errors
/// [`InitError`] of stage `clone`. Later failures come through the channel.
pub fn launch(
    plan: &InitPlan,
    stdio: Stdio,
    program: &Program,
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
        let error = enter(&theirs, &plan_file, &stdio, program);
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
fn enter(channel: &Channel, plan: &OwnedFd, stdio: &Stdio, program: &Program) -> InitError {
    let entered = (|| {
        let stage = Stage::Enter;
        init::die_with_parent(stage)?;
        stdio.install(stage)?;
        let copy = program.protected().map(process::protected_self).transpose();
        let copy = copy.at(stage, || "open_tree(`/proc/self/exe`)".into())?;
        // All of this the namespaces' owner may do while the maps are written.
        match receive::<ToInit>(channel).at(stage, || "recvmsg(launcher)".into())? {
            Some((ToInit::Mapped, _)) => {}
            _ => exit_now(125),
        }
        if copy.is_some() && !rustix::process::getuid().is_root() {
            // The caller is not root inside (keep-id, nomap): execve(2) keeps capabilities for such
            // a process only if they are ambient. The init stage drops them with the others.
            caps::keep_across_exec().at(stage, || "prctl(PR_CAP_AMBIENT)".into())?;
        }
        place([channel.as_fd(), plan.as_fd()], copy, None).at(stage, || "dup2(channel)".into())
    })();
    match entered {
        Err(error) => error,
        Ok(Begins::Here) => init::go_on(),
        Ok(Begins::Afresh) => {
            let error = execute_stage(init::NAME);
            // The channel has moved to its placed number; errors still go through it.
            if let Ok(placed) = process::inherited_fd(init::CHANNEL) {
                let _ = send(&Channel::from_fd(placed), &FromInit::Failed(error), None);
            }
            exit_now(125)
        }
    }
}

/// How a stage begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Begins {
    /// In this process, which has no descriptors left but the placed ones and the standard streams.
    Here,
    /// By executing the placed program.
    Afresh,
}

/// Puts what a stage is given at the numbers where it looks for it: two descriptors, the program that it is executed
/// from, and a further one. Nothing that owns a descriptor may be used or dropped afterwards.
pub(super) fn place(
    [first, second]: [BorrowedFd<'_>; 2],
    program: Option<OwnedFd>,
    last: Option<BorrowedFd<'_>>,
) -> Result<Begins, Errno> {
    let begins = match program {
        Some(_) => Begins::Afresh,
        None => Begins::Here,
    };
    let third = program.as_ref().map_or(second, AsFd::as_fd);
    let mut fds = vec![first, second, third];
    fds.extend(last);
    let placed = process::place_fds(&fds);
    if placed.is_ok() && begins == Begins::Here && !dropped("fds") {
        process::close_from(3 + fds.len() as u32);
    }
    // Its number may be that of a placed one by now.
    std::mem::forget(program);
    placed.map(|()| begins)
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::idmap::IdRange;

    #[test]
    fn a_program_is_out_of_reach_of_those_who_do_not_own_it_and_may_not_write() {
        let range = |container, host, length| IdRange {
            container,
            host,
            length,
        };
        let map = IdMap::new(vec![range(0, 1000, 1), range(1, 100_000, 65_536)]).unwrap();
        assert!(is_out_of_reach(0, 0o100755, &map));
        assert!(is_out_of_reach(1001, 0o104711, &map));
        // The caller's, or that of an id that exists inside; whatever its mode says.
        assert!(!is_out_of_reach(1000, 0o100555, &map));
        assert!(!is_out_of_reach(165_535, 0o100555, &map));
        for mode in [0o100775, 0o100757] {
            assert!(!is_out_of_reach(0, mode, &map));
        }
    }
}
