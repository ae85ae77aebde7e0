//! Installing a system call filter: a classic BPF program that the kernel runs before each system call
//! (seccomp(2), Documentation/userspace-api/seccomp_filter.rst). The program itself is made in
//! `security::seccomp`.

use rustix::io::{Errno, Result};
use serde::{Deserialize, Serialize};

use super::cvt;

/// One instruction of a classic BPF program (`struct sock_filter`, include/uapi/linux/filter.h).
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SockFilter {
    /// What to do.
    pub code: u16,
    /// Instructions to skip when a comparison holds.
    pub jt: u8,
    /// Instructions to skip when it does not.
    pub jf: u8,
    /// The operand.
    pub k: u32,
}

/// The longest program the kernel takes (`BPF_MAXINSNS`).
pub const MAX_LEN: usize = 4096;

bitflags::bitflags! {
    /// Flags of `SECCOMP_SET_MODE_FILTER` (seccomp(2)).
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
    pub struct Flags: u32 {
        /// Every thread of the process gets the filter.
        const TSYNC = 1 << 0;
        /// Every action but `ALLOW` is written to the audit log.
        const LOG = 1 << 1;
        /// The mitigation against speculative store bypass is left as it is (it slows the program
        /// down; before Linux 5.16 a filter switched it on).
        const SPEC_ALLOW = 1 << 2;
        /// A call that waits for a user-space answer can only be ended by a fatal signal.
        const WAIT_KILLABLE_RECV = 1 << 5;
    }
}

/// Puts the calling thread under `program`, for good, and with it all that it will start. Without
/// `flags` it falls back to `prctl(PR_SET_SECCOMP)` where seccomp(2) is missing.
///
/// # Errors
/// `EACCES` with neither no_new_privs nor CAP_SYS_ADMIN; `EINVAL` for a program that is empty, longer than
/// [`MAX_LEN`] or not valid, for flags this kernel does not know, or for a kernel without filters;
/// `ENOMEM` when all filters of the process together are too long.
pub fn install(program: &[SockFilter], flags: Flags) -> Result<()> {
    if program.is_empty() || program.len() > MAX_LEN {
        return Err(Errno::INVAL);
    }
    let fprog = libc::sock_fprog {
        len: program.len() as libc::c_ushort,
        filter: program.as_ptr().cast_mut().cast(),
    };
    // SAFETY: `SockFilter` has the layout of `struct sock_filter`, `fprog` gives its true length, and the
    // kernel copies the program before it returns; it never writes through the pointer.
    let ret = cvt(unsafe {
        libc::syscall(
            libc::SYS_seccomp,
            libc::SECCOMP_SET_MODE_FILTER,
            flags.bits(),
            &raw const fprog,
        )
    });
    match ret {
        // With TSYNC a positive answer is the thread that could not follow.
        Ok(0) => Ok(()),
        Ok(_) => Err(Errno::SRCH),
        Err(Errno::NOSYS) if flags.is_empty() => {
            // SAFETY: as above; this is the older door to the same function of the kernel.
            cvt(i64::from(unsafe {
                libc::prctl(
                    libc::PR_SET_SECCOMP,
                    libc::c_ulong::from(libc::SECCOMP_MODE_FILTER),
                    &raw const fprog,
                )
            }))?;
            Ok(())
        }
        Err(errno) => Err(errno),
    }
}

/// Whether the kernel knows the action (`SECCOMP_RET_*`, without its data) as its own; one it does not know
/// it would take for `KILL_PROCESS`.
///
/// # Errors
/// `ENOSYS` before Linux 3.17, `EINVAL` before 4.14, where the question itself is not known.
pub fn action_available(action: u32) -> Result<bool> {
    // SAFETY: the kernel reads four bytes from a live variable.
    let ret = cvt(unsafe {
        libc::syscall(
            libc::SYS_seccomp,
            libc::SECCOMP_GET_ACTION_AVAIL,
            0,
            &raw const action,
        )
    });
    match ret {
        Ok(_) => Ok(true),
        Err(Errno::OPNOTSUPP) => Ok(false),
        Err(errno) => Err(errno),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_instruction_has_the_layout_of_the_kernel() {
        assert_eq!(std::mem::size_of::<SockFilter>(), 8);
        assert_eq!(std::mem::offset_of!(SockFilter, k), 4);
        assert_eq!(std::mem::offset_of!(SockFilter, jf), 3);
    }

    #[test]
    fn actions_are_probed() {
        assert_eq!(action_available(libc::SECCOMP_RET_ALLOW), Ok(true));
        assert_eq!(action_available(libc::SECCOMP_RET_KILL_PROCESS), Ok(true));
        assert_eq!(action_available(0x1234_0000), Ok(false));
    }

    #[test]
    fn an_installed_program_answers_for_the_kernel() {
        let program = [
            // ld nr; jeq getppid ? 0 : 1; ret ERRNO|ENOTNAM; ret ALLOW
            SockFilter {
                code: 0x20,
                jt: 0,
                jf: 0,
                k: 0,
            },
            SockFilter {
                code: 0x15,
                jt: 0,
                jf: 1,
                k: libc::SYS_getppid as u32,
            },
            SockFilter {
                code: 0x06,
                jt: 0,
                jf: 0,
                k: libc::SECCOMP_RET_ERRNO | libc::ENOTNAM as u32,
            },
            SockFilter {
                code: 0x06,
                jt: 0,
                jf: 0,
                k: libc::SECCOMP_RET_ALLOW,
            },
        ];
        // SAFETY: getppid takes nothing and changes nothing.
        let getppid = || cvt(unsafe { libc::syscall(libc::SYS_getppid) });
        assert!(getppid().is_ok());
        let inside = std::thread::spawn(move || {
            super::super::caps::set_no_new_privs().unwrap();
            install(&program, Flags::empty()).unwrap();
            getppid()
        });
        assert_eq!(inside.join().unwrap(), Err(Errno::NOTNAM));
        assert!(getppid().is_ok());
    }

    #[test]
    fn programs_that_cannot_be_are_refused() {
        assert_eq!(install(&[], Flags::empty()), Err(Errno::INVAL));
        let ret = SockFilter {
            code: 0x06,
            jt: 0,
            jf: 0,
            k: 0,
        };
        assert_eq!(
            install(&vec![ret; MAX_LEN + 1], Flags::empty()),
            Err(Errno::INVAL)
        );
    }
}
