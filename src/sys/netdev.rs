//! The loopback device of a new network namespace.

use std::os::fd::AsRawFd as _;

use rustix::io::Result;
use rustix::net::{AddressFamily, SocketFlags, SocketType, socket_with};

use super::cvt;

/// Brings `lo` up; the kernel then gives it 127.0.0.1/8 and ::1 (netdevice(7), `SIOCSIFFLAGS`).
///
/// # Errors
/// Those of socket(2) and the ioctl; `EPERM` without CAP_NET_ADMIN over the namespace.
pub fn loopback_up() -> Result<()> {
    let socket = socket_with(
        AddressFamily::INET,
        SocketType::DGRAM,
        SocketFlags::CLOEXEC,
        None,
    )?;
    // SAFETY: ifreq is plain data for which zero is valid.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(b"lo") {
        *to = *from as libc::c_char;
    }
    request.ifr_ifru.ifru_flags = libc::IFF_UP as libc::c_short;
    // SAFETY: the ioctl reads one ifreq, live for the call.
    cvt(i64::from(unsafe {
        libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS, &raw const request)
    }))?;
    Ok(())
}
