//! User namespaces of a process's own: for a program that needs a privilege, and for one that gives up what it sees of
//! the file system.

use std::os::unix::process::CommandExt as _;
use std::process::Command;

use rustix::fs::{Mode, OFlags};
use rustix::io::Result;
use rustix::thread::CapabilitySet;

use super::fs::CallError;
use super::{caps, cvt};

/// A user namespace in which the caller's ids are all there are (user_namespaces(7)).
struct Own([(&'static std::ffi::CStr, String); 3]);

impl Own {
    /// With this user and group inside.
    fn with(uid: u32, gid: u32) -> Own {
        let (own_uid, own_gid) = (rustix::process::geteuid(), rustix::process::getegid());
        Own([
            (c"/proc/self/setgroups", "deny".to_owned()),
            (
                c"/proc/self/uid_map",
                format!("{uid} {} 1", own_uid.as_raw()),
            ),
            (
                c"/proc/self/gid_map",
                format!("{gid} {} 1", own_gid.as_raw()),
            ),
        ])
    }

    /// Enters it. Nothing is allocated.
    fn enter(&self) -> Result<()> {
        // SAFETY: a plain integer; the caller is single-threaded, or the call fails.
        cvt(i64::from(unsafe { libc::unshare(libc::CLONE_NEWUSER) }))?;
        for (path, text) in &self.0 {
            let flags = OFlags::WRONLY | OFlags::CLOEXEC;
            let file = rustix::fs::open(*path, flags, Mode::empty())?;
            rustix::io::write(file, text.as_bytes())?;
        }
        Ok(())
    }
}

/// Has `command` run in a user namespace of its own, in which the caller is root and alone; outside it gains nothing by
/// that.
pub fn in_own_user_namespace(command: &mut Command) {
    let own = Own::with(0, 0);
    // SAFETY: unshare(2), open(2) and write(2) are async-signal-safe; nothing is allocated.
    unsafe {
        command.pre_exec(move || Ok(own.enter()?));
    }
}

/// Makes the working directory all that this process sees of the file system. It is the caller who gives up every
/// capability afterwards: whoever can chroot(2) again may leave. Single-threaded.
///
/// # Errors
/// Those of unshare(2) and of writing the maps, and of chroot(2).
pub fn stay_in_working_directory() -> std::result::Result<(), CallError> {
    let call = |call: &'static str| CallError::of(move || call.to_owned());
    let sets = caps::get().map_err(call("capget()"))?;
    if sets.effective & CapabilitySet::SYS_CHROOT.bits() == 0 {
        let (uid, gid) = (rustix::process::geteuid(), rustix::process::getegid());
        let own = Own::with(uid.as_raw(), gid.as_raw());
        own.enter().map_err(call("unshare(user)"))?;
    }
    rustix::process::chroot(c".").map_err(call("chroot(`.`)"))
}
