//! Errors of system calls: from the standard library, and in words.

use rustix::io::Errno;

/// The errno of an I/O error, `EIO` where it has none.
pub fn to_errno(error: std::io::Error) -> Errno {
    Errno::from_raw_os_error(error.raw_os_error().unwrap_or(libc::EIO))
}

/// The name of an errno as C writes it, such as `EPERM`.
pub fn errno_name(errno: i32) -> String {
    match nix::errno::Errno::from_raw(errno) {
        nix::errno::Errno::UnknownErrno => format!("errno {errno}"),
        known => format!("{known:?}"),
    }
}

/// The name and what strerror(3) says of it: `EMFILE (too many open files)`.
pub fn errno_text(errno: i32) -> String {
    let text = std::io::Error::from_raw_os_error(errno).to_string();
    let text = text.split(" (os error").next().unwrap_or_default();
    format!("{} ({})", errno_name(errno), text.to_lowercase())
}
