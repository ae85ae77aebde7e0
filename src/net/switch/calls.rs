//! The system calls that the switch has a use for.

use crate::sys::probe;
use crate::sys::seccomp::Call;

/// All that its loop and its end call. Sockets are those of monitors and of slirp4netns' API, in the network's
/// directory; signals go to a descriptor of slirp4netns, and to a number only where there is none to be had.
pub fn all() -> Vec<Call> {
    let mut all = vec![
        Call::With(libc::SYS_socket, 0, libc::AF_UNIX as u32),
        Call::With(libc::SYS_ioctl, 1, libc::FIONBIO as u32),
    ];
    all.extend(CALLS.iter().copied().map(Call::Any));
    if probe::Call::PidfdOpen.probe().is_err() {
        let end = [libc::SIGTERM, libc::SIGKILL];
        all.extend(end.map(|signal| Call::With(libc::SYS_kill, 1, signal as u32)));
    }
    all
}

const CALLS: &[i64] = &[
    // Frames and words.
    libc::SYS_epoll_ctl,
    libc::SYS_epoll_pwait,
    libc::SYS_epoll_pwait2,
    libc::SYS_read,
    libc::SYS_write,
    libc::SYS_recvfrom,
    libc::SYS_sendto,
    libc::SYS_recvmsg,
    libc::SYS_sendmsg,
    libc::SYS_accept4,
    libc::SYS_connect,
    libc::SYS_shutdown,
    libc::SYS_getsockopt,
    libc::SYS_geteuid,
    libc::SYS_close,
    libc::SYS_fcntl,
    // Memory.
    libc::SYS_brk,
    libc::SYS_mmap,
    libc::SYS_mremap,
    libc::SYS_munmap,
    libc::SYS_madvise,
    // The clock, which not every clock source lets be read without a call (vdso(7)).
    libc::SYS_clock_gettime,
    // The end: of slirp4netns, of its sockets, and its own.
    libc::SYS_flock,
    libc::SYS_unlinkat,
    libc::SYS_pidfd_send_signal,
    libc::SYS_ppoll,
    libc::SYS_wait4,
    libc::SYS_waitid,
    libc::SYS_restart_syscall,
    libc::SYS_exit_group,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_unlink,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_poll,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_epoll_wait,
];
