//! System calls. The only `unsafe` of the program lives below this module; owned and borrowed file
//! descriptors go in and come out, never bare numbers.
#![allow(unsafe_code)]

// The order of clone(2)'s arguments, the layout of what filters look at, the numbers of calls: all that is told of
// these two, and of no other.
#[cfg(not(all(
    target_os = "linux",
    any(target_arch = "x86_64", target_arch = "aarch64"),
    target_pointer_width = "64",
    target_endian = "little",
)))]
compile_error!(
    "rl runs on Linux on x86-64 and little-endian 64-bit ARM (aarch64), and is not there for this target"
);

pub mod alone;
pub mod caps;
pub mod clock;
mod clone;
pub mod copy;
pub mod errno;
pub mod fs;
pub mod landlock;
pub mod mount;
pub mod netdev;
pub mod parts;
pub mod patient;
pub mod probe;
pub mod proc;
pub mod process;
pub mod sabotage;
pub mod seccomp;
pub mod socket;
pub mod tty;
pub mod wire;

/// The result of a C call that answers -1 and errno.
fn cvt(ret: libc::c_long) -> rustix::io::Result<libc::c_long> {
    if ret < 0 {
        let errno = std::io::Error::last_os_error()
            .raw_os_error()
            .unwrap_or(libc::EIO);
        Err(rustix::io::Errno::from_raw_os_error(errno))
    } else {
        Ok(ret)
    }
}

/// For the unit tests of all layers above.
#[cfg(test)]
pub mod tests {
    /// Says what this machine lacks for a test, and fails where nothing may be skipped.
    pub fn skip(missing: &str) {
        let must = std::env::var_os("RL_MUST_WORK").is_some();
        assert!(!must, "must not be skipped: {missing}");
        // Past what keeps the output of a test that passes.
        let line = format!("skipped: {missing}\n");
        let _ = std::io::Write::write_all(&mut std::io::stderr(), line.as_bytes());
    }
}
