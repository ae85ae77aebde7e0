//! Installing a system call filter: a classic BPF program that the kernel runs before each system call
//! (seccomp(2), Documentation/userspace-api/seccomp_filter.rst). The program itself is made in
//! `security::seccomp`; for processes of our own that need a handful of calls there is [`only`].

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

/// A system call that a process of ours may make.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Call {
    /// With any arguments.
    Any(i64),
    /// Where the argument of this index (from 0) has this value in its lower half.
    With(i64, u8, u32),
}

/// `AUDIT_ARCH_*` of this program (include/uapi/linux/audit.h): its ELF machine, 64 bits, little-endian.
#[cfg(target_arch = "x86_64")]
const AUDIT_ARCH: u32 = 62 | 0xc000_0000;
#[cfg(target_arch = "aarch64")]
const AUDIT_ARCH: u32 = 183 | 0xc000_0000;

/// The program that lets `calls` through, made the way this program makes them, and ends the process at any other.
/// One call may be there several times, with several arguments.
pub fn only(calls: &[Call]) -> Vec<SockFilter> {
    let line = |code, jt, jf, k| SockFilter { code, jt, jf, k };
    let load = |offset| {
        line(
            (libc::BPF_LD | libc::BPF_W | libc::BPF_ABS) as u16,
            0,
            0,
            offset,
        )
    };
    let is = (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16;
    let skip_unless = |k, count| line(is, 0, count, k);
    let answer = |k| line((libc::BPF_RET | libc::BPF_K) as u16, 0, 0, k);
    let [allow, kill] = [libc::SECCOMP_RET_ALLOW, libc::SECCOMP_RET_KILL_PROCESS].map(answer);
    // `struct seccomp_data`: the number, the architecture, the instruction pointer, six arguments of 8 bytes.
    let (number, arch) = (0, 4);
    let argument = |index: u8| 16 + 8 * u32::from(index);
    let mut out = vec![load(arch), line(is, 1, 0, AUDIT_ARCH), kill, load(number)];
    for call in calls {
        match *call {
            Call::Any(nr) => out.extend([skip_unless(nr as u32, 1), allow]),
            Call::With(nr, index, value) => out.extend([
                skip_unless(nr as u32, 4),
                load(argument(index)),
                skip_unless(value, 1),
                allow,
                load(number),
            ]),
        }
    }
    out.push(kill);
    out
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
    fn a_process_makes_the_calls_that_it_has_and_ends_at_any_other() {
        use crate::sys::process::{Ended, Fork, Namespaces, exit_now, fork};
        let calls = [
            Call::Any(libc::SYS_exit_group),
            Call::With(libc::SYS_socket, 0, libc::AF_UNIX as u32),
            Call::With(libc::SYS_socket, 0, libc::AF_INET as u32),
            Call::Any(libc::SYS_getppid),
        ];
        let program = only(&calls);
        let ends = |work: &dyn Fn() -> bool| match fork(Namespaces::empty()).unwrap() {
            Fork::Parent(child) => child.wait().unwrap(),
            Fork::Child => {
                let installed = super::super::caps::set_no_new_privs()
                    .and_then(|()| install(&program, Flags::empty()));
                exit_now(u8::from(installed.is_err() || !work()))
            }
        };
        // SAFETY: neither takes a pointer; the descriptor ends with the process.
        let socket = |family| unsafe { libc::socket(family, libc::SOCK_STREAM, 0) } >= 0;
        // SAFETY: as above.
        let parent = || unsafe { libc::getppid() } > 0;
        let killed = Ended::Signaled(libc::SIGSYS);
        assert_eq!(ends(&|| true), Ended::Exited(0));
        assert_eq!(
            ends(&|| socket(libc::AF_UNIX) && parent()),
            Ended::Exited(0)
        );
        assert_eq!(
            ends(&|| socket(libc::AF_INET) && parent()),
            Ended::Exited(0)
        );
        assert_eq!(ends(&|| socket(libc::AF_INET6)), killed);
        // SAFETY: as above.
        assert_eq!(ends(&|| unsafe { libc::getuid() } < u32::MAX), killed);
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
