//! The second rung of the root file system: fuse-overlayfs, run in the container's user and mount
//! namespaces but outside its pid namespace, so that nothing inside sees or signals it.
//!
//! The process joins and executes; it ends with the monitor (PR_SET_PDEATHSIG), because it holds the
//! mount namespace. Whether its mount stands is seen by the init stage, which lives there.

use std::io::{Read as _, Seek as _};
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};

use super::wire::{Part, StartFailure};
use crate::model::chain;
use crate::sys::process::{self, Child, Fork, Namespaces, exit_now};

/// Starts it, to mount on `point` as `container` sees it. What it says goes to the returned file.
pub(super) fn start(
    options: &fuse_overlayfs::Options,
    container: &Child,
    point: &Path,
) -> Result<(Child, OwnedFd), StartFailure> {
    let program = PathBuf::from(fuse_overlayfs::PROGRAM);
    let mut command = options.command(&program, point).map_err(|e| failure(&e))?;
    let words = rustix::fs::memfd_create(c"fuse-overlayfs", rustix::fs::MemfdFlags::CLOEXEC)
        .map_err(|errno| StartFailure::other(format!("memfd_create(): {errno}")))?;
    let forked = process::fork(Namespaces::empty())
        .map_err(|errno| StartFailure::other(format!("clone3(): {errno}")))?;
    match forked {
        Fork::Parent(helper) => Ok((helper, words)),
        Fork::Child => {
            let kill = Some(rustix::process::Signal::KILL);
            let _ = process::replace_stdio(words.as_fd(), 2);
            let joined = process::join(container.as_fd(), Namespaces::USER | Namespaces::MOUNT);
            if joined.is_ok() && !rustix::process::getuid().is_root() {
                let _ = crate::sys::caps::keep_across_exec();
            }
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

/// Why it is gone, from what it said.
pub(super) fn died(words: OwnedFd) -> StartFailure {
    let mut text = String::new();
    let mut file = std::fs::File::from(words);
    let _ = file.rewind().and_then(|()| file.read_to_string(&mut text));
    let program = PathBuf::from(fuse_overlayfs::PROGRAM);
    let missing = std::io::Error::from(std::io::ErrorKind::NotFound);
    let hint = fuse_overlayfs::Error::Spawn {
        program,
        source: missing,
    }
    .hint();
    let message = match text.trim() {
        "" => "fuse-overlayfs ended before its mount stood".to_owned(),
        text => format!("fuse-overlayfs: {}", text.replace('\n', "; ")),
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
