//! Mounts. Destinations are always open descriptors, reached as `/proc/self/fd/N`, never path
//! strings: a path inside a root filesystem belongs to the image, which may be hostile.

use std::ffi::CString;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

use rustix::io::{Errno, Result};
use rustix::mount::{MountFlags, MountPropagationFlags};

use super::{cvt, sabotage};

bitflags::bitflags! {
    /// Attributes of a mount (mount_setattr(2)).
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct Attr: u64 {
        /// Nothing can be written through this mount.
        const RDONLY = 0x1;
        /// Set-user-id bits and file capabilities do not act.
        const NOSUID = 0x2;
        /// Device files cannot be opened.
        const NODEV = 0x4;
        /// Nothing can be executed.
        const NOEXEC = 0x8;
    }
}

#[repr(C)]
struct MountAttr {
    attr_set: u64,
    attr_clr: u64,
    propagation: u64,
    userns_fd: u64,
}

/// Adds attributes to a mount, or with `recursive` to a mount and all below it (mount_setattr(2),
/// Linux 5.12).
///
/// # Errors
/// `ENOSYS` before Linux 5.12; `EPERM` without CAP_SYS_ADMIN over the mount namespace.
pub fn set_attr(mount: BorrowedFd<'_>, set: Attr, recursive: bool) -> Result<()> {
    let attr = MountAttr {
        attr_set: set.bits(),
        attr_clr: 0,
        propagation: 0,
        userns_fd: 0,
    };
    let flags = libc::AT_EMPTY_PATH | if recursive { libc::AT_RECURSIVE } else { 0 };
    // SAFETY: `attr` has the layout of `struct mount_attr` (include/uapi/linux/mount.h) and its size
    // is given; the path is a live C string.
    cvt(unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            mount.as_raw_fd(),
            c"".as_ptr(),
            flags,
            &raw const attr,
            std::mem::size_of::<MountAttr>(),
        )
    })?;
    Ok(())
}

/// The name by which a call that takes paths reaches an open file.
fn name_of(fd: BorrowedFd<'_>) -> CString {
    CString::new(format!("/proc/self/fd/{}", fd.as_raw_fd())).unwrap_or_default()
}

/// Mounts a new file system of `kind` on the directory `target`.
///
/// # Errors
/// Those of mount(2).
pub fn new(kind: &str, source: &str, target: BorrowedFd<'_>, attr: Attr, data: &str) -> Result<()> {
    let data = CString::new(data).map_err(|_| Errno::INVAL)?;
    rustix::mount::mount(
        source,
        name_of(target).as_c_str(),
        kind,
        flags_of(attr),
        data.as_c_str(),
    )
}

/// Binds the file or directory `source` on `target`, with all mounts below it if `recursive`.
///
/// # Errors
/// Those of mount(2); `EINVAL` for a `source` of another mount namespace.
pub fn bind(source: BorrowedFd<'_>, target: BorrowedFd<'_>, recursive: bool) -> Result<()> {
    let (source, target) = (name_of(source), name_of(target));
    if recursive {
        rustix::mount::mount_bind_recursive(source.as_c_str(), target.as_c_str())
    } else {
        rustix::mount::mount_bind(source.as_c_str(), target.as_c_str())
    }
}

/// Adds attributes to the mount whose root `mount` is: [`set_attr`], and where the kernel or a
/// filter has no mount_setattr, a bind remount that keeps the flags which are there (they may be
/// locked). The remount cannot reach mounts below: a recursive request is refused where there are any.
///
/// # Errors
/// Those of mount_setattr(2) and mount(2).
pub fn add_attr(mount: BorrowedFd<'_>, set: Attr, recursive: bool) -> Result<()> {
    match set_attr(mount, set, recursive) {
        Err(Errno::NOSYS | Errno::PERM) if !recursive || !has_mounts_below(mount) => {
            let there = rustix::fs::fstatvfs(mount)?.f_flag;
            let mut flags = flags_of(set);
            for (have, flag) in [
                (rustix::fs::StatVfsMountFlags::RDONLY, MountFlags::RDONLY),
                (rustix::fs::StatVfsMountFlags::NOSUID, MountFlags::NOSUID),
                (rustix::fs::StatVfsMountFlags::NODEV, MountFlags::NODEV),
                (rustix::fs::StatVfsMountFlags::NOEXEC, MountFlags::NOEXEC),
                (rustix::fs::StatVfsMountFlags::NOATIME, MountFlags::NOATIME),
                (
                    rustix::fs::StatVfsMountFlags::NODIRATIME,
                    MountFlags::NODIRATIME,
                ),
                (
                    rustix::fs::StatVfsMountFlags::RELATIME,
                    MountFlags::RELATIME,
                ),
            ] {
                if there.contains(have) {
                    flags |= flag;
                }
            }
            rustix::mount::mount_remount(name_of(mount).as_c_str(), MountFlags::BIND | flags, c"")
        }
        other => other,
    }
}

/// Whether something is mounted below (proc_pid_mountinfo(5)); so it is taken to be when that cannot be
/// found out.
fn has_mounts_below(mount: BorrowedFd<'_>) -> bool {
    let read = |path: String| std::fs::read_to_string(path).ok();
    let info = read(format!("/proc/self/fdinfo/{}", mount.as_raw_fd()));
    let own = info.and_then(|info| {
        let id = info.lines().find_map(|line| line.strip_prefix("mnt_id:"))?;
        Some(id.trim().to_owned())
    });
    match (own, read("/proc/self/mountinfo".into())) {
        (Some(own), Some(table)) => table
            .lines()
            .any(|line| line.split(' ').nth(1) == Some(own.as_str())),
        _ => true,
    }
}

/// Cuts all mounts off from the propagation of the namespace they were copied from: recursively
/// private.
///
/// # Errors
/// Those of mount(2).
pub fn make_private() -> Result<()> {
    rustix::mount::mount_change(
        c"/",
        MountPropagationFlags::PRIVATE | MountPropagationFlags::REC,
    )
}

/// Sets the propagation of one mount, recursively.
///
/// # Errors
/// Those of mount(2).
pub fn propagation(mount: BorrowedFd<'_>, flags: MountPropagationFlags) -> Result<()> {
    rustix::mount::mount_change(name_of(mount).as_c_str(), flags)
}

/// Makes `root` the root directory and drops the old one with everything mounted there: the
/// namespace holds no path to the host any more (pivot_root(2), "pivot_root(".", ".")").
///
/// # Errors
/// Those of fchdir(2), pivot_root(2) and umount2(2).
pub fn pivot(root: BorrowedFd<'_>) -> Result<()> {
    rustix::process::fchdir(root)?;
    if sabotage::dropped("pivot") {
        rustix::process::chroot(c".")?;
        return rustix::process::chdir(c"/");
    }
    rustix::process::pivot_root(c".", c".")?;
    rustix::mount::unmount(c".", rustix::mount::UnmountFlags::DETACH)?;
    rustix::process::chdir(c"/")
}

fn flags_of(attr: Attr) -> MountFlags {
    let mut flags = MountFlags::empty();
    for (a, f) in [
        (Attr::RDONLY, MountFlags::RDONLY),
        (Attr::NOSUID, MountFlags::NOSUID),
        (Attr::NODEV, MountFlags::NODEV),
        (Attr::NOEXEC, MountFlags::NOEXEC),
    ] {
        if attr.contains(a) {
            flags |= f;
        }
    }
    flags
}

/// Whether `fd` is a character device with this number: the host's `/dev/null` is checked before
/// anything is hidden under a bind of it.
pub fn is_device(fd: impl AsFd, major: u32, minor: u32) -> bool {
    rustix::fs::fstat(fd).is_ok_and(|s| {
        rustix::fs::FileType::from_raw_mode(s.st_mode) == rustix::fs::FileType::CharacterDevice
            && rustix::fs::major(s.st_rdev) == major
            && rustix::fs::minor(s.st_rdev) == minor
    })
}
