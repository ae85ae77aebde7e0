//! The second rung of the root file system, and the lower side of views that the kernel refuses: fuse-overlayfs, run in
//! the container's user namespace but outside its pid namespace, so that nothing inside sees or signals it.
//!
//! It has a mount namespace of its own, a copy of the container's as it is before pivot_root(2): that
//! call would give every process of the namespace the container's root, and fuse-overlayfs reaches its
//! layers through /proc/self. Its mount shows in the container's namespace by propagation; whether it
//! stands is seen by the init stage, which lives there.
//!
//! The process joins, makes its namespace and executes; it ends with the monitor (PR_SET_PDEATHSIG).

use std::io::{Read as _, Seek as _};
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};

use super::wire::{Part, StartFailure};
use crate::model::chain;
use crate::sys::process::{self, Child, Fork, Namespaces, exit_now};

/// One that runs.
pub(super) struct Server {
    pub child: Child,
    /// What it says.
    pub words: OwnedFd,
    pub serves: Serves,
}

impl Server {
    /// Its mount stands: what it said on the way there is no matter any more.
    pub fn stands(&self) {
        let _ = rustix::fs::ftruncate(&self.words, 0);
        let _ = rustix::fs::seek(&self.words, rustix::fs::SeekFrom::Start(0));
    }
}

/// What it shows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Serves {
    /// The root.
    Root,
    /// This directory of the host, as the lower side of a view.
    View(PathBuf),
}

impl Serves {
    /// What the container has lost when this is gone: in few words, and in full.
    pub fn lost(&self) -> (&'static str, String) {
        match self {
            Serves::Root => (
                "root file system gone",
                "the container's root file system is gone".to_owned(),
            ),
            Serves::View(dir) => (
                "view gone",
                format!("its view of `{}` is gone", dir.display()),
            ),
        }
    }
}

/// Starts it, to mount on `point` as `container` sees it.
pub(super) fn start(
    options: &fuse_overlayfs::Options,
    container: &Child,
    point: &Path,
    serves: Serves,
) -> Result<Server, StartFailure> {
    let program = PathBuf::from(fuse_overlayfs::PROGRAM);
    let mut command = options.command(&program, point).map_err(|e| failure(&e))?;
    let words = rustix::fs::memfd_create(c"fuse-overlayfs", rustix::fs::MemfdFlags::CLOEXEC)
        .map_err(StartFailure::failed("memfd_create()"))?;
    let forked = process::fork(Namespaces::empty()).map_err(StartFailure::failed("clone3()"))?;
    match forked {
        Fork::Parent(child) => Ok(Server {
            child,
            words,
            serves,
        }),
        Fork::Child => {
            let kill = Some(rustix::process::Signal::KILL);
            let _ = process::replace_stdio(words.as_fd(), 2);
            let joined = enter(container);
            let _ = rustix::process::set_parent_process_death_signal(kill);
            process::reset_signals();
            let error = match joined {
                Err(errno) => format!("setns(pidfd, user|mnt): {errno}"),
                Ok(()) => {
                    let source = command.exec();
                    chain(&fuse_overlayfs::Error::Spawn { program, source })
                }
            };
            let _ = rustix::io::write(&words, error.as_bytes());
            exit_now(127)
        }
    }
}

/// Enters the container's user namespace, as root where it has one: fuse-overlayfs gives files to
/// whoever makes them. The new mount namespace is of that user namespace.
fn enter(container: &Child) -> rustix::io::Result<()> {
    process::join(container.as_fd(), Namespaces::USER | Namespaces::MOUNT)?;
    let errno = |e: nix::errno::Errno| rustix::io::Errno::from_raw_os_error(e as i32);
    nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNS).map_err(errno)?;
    let (uid, gid) = (0.into(), 0.into());
    let root =
        nix::unistd::setresgid(gid, gid, gid).and_then(|()| nix::unistd::setresuid(uid, uid, uid));
    match root {
        Ok(()) => Ok(()),
        Err(_) => crate::sys::caps::keep_across_exec(),
    }
}

/// What it said, in one line.
pub(super) fn last_words(words: OwnedFd) -> String {
    let mut text = Vec::new();
    let mut file = std::fs::File::from(words);
    let _ = file.rewind().and_then(|()| file.read_to_end(&mut text));
    String::from_utf8_lossy(&text).trim().replace('\n', "; ")
}

/// Why it is gone, from what it said.
pub(super) fn died(words: OwnedFd) -> StartFailure {
    let text = last_words(words);
    let program = PathBuf::from(fuse_overlayfs::PROGRAM);
    let source = std::io::Error::from(std::io::ErrorKind::NotFound);
    let missing = fuse_overlayfs::Error::Spawn { program, source };
    // What it says itself is no lack of the program.
    let hint = missing
        .hint()
        .filter(|_| text.starts_with(&missing.to_string()));
    let message = match &*text {
        "" => "fuse-overlayfs ended before its mount stood".to_owned(),
        text => format!("fuse-overlayfs: {text}"),
    };
    StartFailure {
        part: Part::Rootfs,
        message,
        hint,
        status: 125,
    }
}

fn failure(error: &fuse_overlayfs::Error) -> StartFailure {
    StartFailure {
        part: Part::Rootfs,
        message: chain(error),
        hint: error.hint(),
        status: 125,
    }
}
