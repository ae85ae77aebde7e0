//! What failed in the child: stage, call with its arguments, errno.

use std::fmt;

use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use crate::sys::errno::errno_text;

/// Where a container's start stands. The order is the order of the work.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Stage {
    /// clone3 with the namespaces.
    Clone,
    /// The child waits for its maps, becomes root inside and executes the init stage.
    Enter,
    /// Host name, loopback device, propagation.
    Namespaces,
    /// The network interface, where no helper makes it.
    Network,
    /// The root file system.
    Rootfs,
    /// Everything mounted below it.
    Mounts,
    /// The terminal.
    Console,
    /// Masked and read-only paths, kernel parameters.
    Masks,
    /// pivot_root.
    Pivot,
    /// User, groups, limits, working directory.
    User,
    /// no_new_privs, Landlock, capabilities, seccomp.
    Confine,
    /// execve of the command.
    Exec,
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Stage::Clone => "clone",
            Stage::Enter => "enter",
            Stage::Namespaces => "namespaces",
            Stage::Network => "network",
            Stage::Rootfs => "rootfs",
            Stage::Mounts => "mounts",
            Stage::Console => "console",
            Stage::Masks => "masks",
            Stage::Pivot => "pivot_root",
            Stage::User => "user",
            Stage::Confine => "confinement",
            Stage::Exec => "exec",
        })
    }
}

/// The call that fails for want of a working directory.
pub(super) const CHDIR: &str = "chdir";

/// A failure in the child, as it travels to the front end.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
pub struct InitError {
    /// Where it happened.
    pub stage: Stage,
    /// The call with its arguments, the subject in backticks.
    pub call: String,
    /// The error number; 0 where a check of our own failed and `call` says it all.
    pub errno: i32,
}

impl InitError {
    /// The exit status that tells this failure: 127 when the command or the directory to execute it in is not there, 126
    /// when it cannot be executed, 125 for everything before.
    pub fn status(&self) -> u8 {
        match (self.stage, self.errno) {
            (Stage::Exec, libc::ENOENT | libc::ENOTDIR) => 127,
            (Stage::User, libc::ENOENT | libc::ENOTDIR) if self.call.starts_with(CHDIR) => 127,
            (Stage::Exec, _) => 126,
            _ => 125,
        }
    }

    /// What to do about it, where that is known.
    pub fn hint(&self) -> Option<String> {
        match (self.stage, self.errno) {
            (Stage::Clone, errno) => crate::host::userns_hint(errno),
            // An outer Landlock domain denies what lies in mounts of ours.
            (Stage::Enter, libc::EACCES) => crate::host::userns_hint(libc::EPERM),
            (Stage::Enter, libc::EPERM) if self.call.starts_with("setns") => Some(
                "it was started from another user namespace: only from there, or from one above it, can a \
                 command join it"
                    .into(),
            ),
            (Stage::Namespaces | Stage::Rootfs | Stage::Mounts, libc::EPERM) => crate::host::restriction_hint(),
            (Stage::User, libc::EINVAL) if self.call.starts_with("set") => Some(
                "an id that is not mapped does not exist inside: `cat /proc/self/uid_map` there shows \
                 which do; subordinate ids add more (as root: `usermod --add-subuids`)"
                    .into(),
            ),
            (Stage::User, libc::EPERM) if self.call.starts_with("setrlimit") => Some(
                "a limit can be at most the hard limit that you have yourself: `ulimit -H -a`"
                    .into(),
            ),
            (Stage::Exec, libc::EACCES) => Some(
                "the file is a directory, lacks the permission to execute (`chmod +x`), or its \
                 interpreter does"
                    .into(),
            ),
            // capabilities(7), "Safety checking for capability-dumb binaries".
            (Stage::Exec, libc::EPERM) => Some(
                "the file has capabilities that the container lacks: `getcap` on it shows which, \
                 `--cap-add` gives one"
                    .into(),
            ),
            (Stage::Network, _) => Some(
                "a network without /dev/net/tun is refused here: as root, `modprobe tun; chmod 0666 /dev/net/tun`; \
                 or run with `--network none`"
                    .into(),
            ),
            (Stage::Mounts | Stage::User, libc::EROFS) => Some(
                "there is no such place, and the root is read-only so that none can be made: take a \
                 path that exists, or one below the home directory or `/tmp`"
                    .into(),
            ),
            // A map that has host root's place taken by a subordinate id.
            (Stage::Rootfs, libc::EACCES) => Some(
                "root inside is not the owner outside, and must be able to enter every directory on the \
                 way: `namei -l` shows them, `chmod o+x` opens one"
                    .into(),
            ),
            (Stage::Exec, libc::ENOEXEC) => Some(
                "the file is neither a program for this machine nor a script with a `#!` line; \
                 an image for another platform looks like this"
                    .into(),
            ),
            _ => None,
        }
    }
}

impl fmt::Display for InitError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.stage, self.errno) {
            (_, 0) => write!(f, "{}: {}", self.stage, self.call),
            (Stage::Exec, libc::ENOENT | libc::ENOTDIR) => {
                write!(f, "{}: command not found", self.call)
            }
            (stage, errno) => write!(f, "{stage}: {}: {}", self.call, errno_text(errno)),
        }
    }
}

/// What a start went on without.
#[derive(Debug, Default)]
pub(super) struct Without(pub Vec<InitError>);

impl Without {
    /// Notes a failure, or returns it where what failed is `needed`.
    pub fn unless(&mut self, done: Result<(), InitError>, needed: bool) -> Result<(), InitError> {
        match done {
            Err(error) if !needed => self.0.push(error),
            other => return other,
        }
        Ok(())
    }
}

/// Gives an errno its stage and call.
pub trait At<T> {
    /// The call is only written out when it failed.
    fn at(self, stage: Stage, call: impl FnOnce() -> String) -> Result<T, InitError>;
}

impl<T> At<T> for Result<T, Errno> {
    fn at(self, stage: Stage, call: impl FnOnce() -> String) -> Result<T, InitError> {
        self.map_err(|errno| InitError {
            stage,
            call: call(),
            errno: errno.raw_os_error(),
        })
    }
}

impl<T> At<T> for std::io::Result<T> {
    fn at(self, stage: Stage, call: impl FnOnce() -> String) -> Result<T, InitError> {
        self.map_err(crate::sys::errno::to_errno).at(stage, call)
    }
}
