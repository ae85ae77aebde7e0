//! Whether a system call is there: each is called with arguments that it must refuse, and the refusal tells.

use rustix::io::{Errno, Result};

use super::cvt;

/// A call that older kernels lack and filters of containers refuse.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Call {
    /// openat2(2).
    Openat2,
    /// clone3(2).
    Clone3,
    /// pidfd_open(2).
    PidfdOpen,
    /// open_tree(2).
    OpenTree,
    /// mount_setattr(2).
    MountSetattr,
    /// close_range(2).
    CloseRange,
    /// seccomp(2).
    Seccomp,
    /// landlock_create_ruleset(2).
    Landlock,
}

impl Call {
    /// All of them.
    pub const ALL: [Call; 8] = [
        Call::Openat2,
        Call::Clone3,
        Call::PidfdOpen,
        Call::OpenTree,
        Call::MountSetattr,
        Call::CloseRange,
        Call::Seccomp,
        Call::Landlock,
    ];

    /// Its name and the first kernel that has it (the manual pages, "HISTORY").
    pub fn name(self) -> (&'static str, &'static str) {
        match self {
            Call::Openat2 => ("openat2", "5.6"),
            Call::Clone3 => ("clone3", "5.3"),
            Call::PidfdOpen => ("pidfd_open", "5.3"),
            Call::OpenTree => ("open_tree", "5.2"),
            Call::MountSetattr => ("mount_setattr", "5.12"),
            Call::CloseRange => ("close_range", "5.9"),
            Call::Seccomp => ("seccomp", "3.17"),
            Call::Landlock => ("landlock", "5.13"),
        }
    }

    /// Calls it, so that nothing changes.
    ///
    /// # Errors
    /// `ENOSYS` where the kernel or a filter does not know it, `EPERM` or `EACCES` where a filter refuses it,
    /// `EOPNOTSUPP` for Landlock that was not started. A filter may also end the process.
    pub fn probe(self) -> Result<()> {
        let null = std::ptr::null::<u64>();
        // SAFETY: every pointer is null or a C string that outlives the call, and every size is 0, which each
        // call checks before it reads or makes anything: EINVAL, EBADF or ENOENT. pidfd_open answers the
        // invalid pid 0 with EINVAL, close_range a range that ends before it begins; a version query of
        // Landlock and the question for the action "kill" (a zero on the stack) read what is given, no more.
        let answer = cvt(unsafe {
            match self {
                Call::Openat2 => libc::syscall(libc::SYS_openat2, -1, c".".as_ptr(), null, 0usize),
                Call::Clone3 => libc::syscall(libc::SYS_clone3, null, 0usize),
                Call::PidfdOpen => libc::syscall(libc::SYS_pidfd_open, 0, 0u32),
                Call::OpenTree => libc::syscall(libc::SYS_open_tree, -1, c"".as_ptr(), 0u32),
                Call::MountSetattr => libc::syscall(
                    libc::SYS_mount_setattr,
                    -1,
                    c"".as_ptr(),
                    0u32,
                    null,
                    0usize,
                ),
                Call::CloseRange => libc::syscall(libc::SYS_close_range, 2u32, 1u32, 0u32),
                Call::Seccomp => {
                    let action = libc::SECCOMP_RET_KILL_THREAD;
                    let question = libc::SECCOMP_GET_ACTION_AVAIL;
                    libc::syscall(libc::SYS_seccomp, question, 0u32, &raw const action)
                }
                Call::Landlock => {
                    libc::syscall(libc::SYS_landlock_create_ruleset, null, 0usize, 1u32)
                }
            }
        });
        match answer {
            Err(errno @ (Errno::NOSYS | Errno::PERM | Errno::ACCESS | Errno::OPNOTSUPP)) => {
                Err(errno)
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_what_the_kernel_has() {
        // Any kernel that runs this has these.
        for call in [Call::Seccomp, Call::PidfdOpen, Call::Clone3] {
            assert_eq!(call.probe(), Ok(()), "{call:?}");
        }
    }
}
