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
/// filter has no mount_setattr, a bind remount of it (and, if `recursive`, of each mount below) that
/// keeps the flags which are there (they may be locked).
///
/// # Errors
/// Those of mount_setattr(2) and mount(2); `EBUSY` when something is mounted below meanwhile.
pub fn add_attr(mount: BorrowedFd<'_>, set: Attr, recursive: bool) -> Result<()> {
    match set_attr(mount, set, recursive) {
        Err(Errno::NOSYS | Errno::PERM) => {
            remount(mount, set)?;
            if recursive {
                for (id, path) in mounts_below(mount)? {
                    remount_below(mount, &id, &path, set)?;
                }
            }
            Ok(())
        }
        other => other,
    }
}

fn remount(mount: BorrowedFd<'_>, set: Attr) -> Result<()> {
    use rustix::fs::StatVfsMountFlags as Have;
    let there = rustix::fs::fstatvfs(mount)?.f_flag;
    let mut flags = flags_of(set);
    for (have, flag) in [
        (Have::RDONLY, MountFlags::RDONLY),
        (Have::NOSUID, MountFlags::NOSUID),
        (Have::NODEV, MountFlags::NODEV),
        (Have::NOEXEC, MountFlags::NOEXEC),
        (Have::NOATIME, MountFlags::NOATIME),
        (Have::NODIRATIME, MountFlags::NODIRATIME),
        (Have::RELATIME, MountFlags::RELATIME),
    ] {
        if there.contains(have) {
            flags |= flag;
        }
    }
    rustix::mount::mount_remount(name_of(mount).as_c_str(), MountFlags::BIND | flags, c"")
}

/// Remounts the mount `id` on `path` below `mount`. One that another covers has no name: what is in it
/// cannot be reached, and only who may mount could uncover it.
fn remount_below(mount: BorrowedFd<'_>, id: &str, path: &[u8], set: Attr) -> Result<()> {
    let flags = rustix::fs::OFlags::PATH;
    let below = match super::fs::open_beneath(mount, path, flags, false) {
        Err(Errno::NOENT | Errno::NOTDIR | Errno::ACCESS) => return Ok(()),
        other => other?,
    };
    match id_of(below.as_fd()) {
        Some(found) if found == id => remount(below.as_fd(), set),
        _ => Ok(()),
    }
}

/// The number of the mount that a descriptor lies on (proc_pid_fdinfo(5)).
fn id_of(fd: BorrowedFd<'_>) -> Option<String> {
    let info = std::fs::read_to_string(format!("/proc/self/fdinfo/{}", fd.as_raw_fd())).ok()?;
    let id = info.lines().find_map(|line| line.strip_prefix("mnt_id:"))?;
    Some(id.trim().to_owned())
}

/// What is mounted below, parents first: number, and path from the root of `mount` on
/// (proc_pid_mountinfo(5)).
fn mounts_below(mount: BorrowedFd<'_>) -> Result<Vec<(String, Vec<u8>)>> {
    let own = id_of(mount).ok_or(Errno::NOENT)?;
    let table = std::fs::read("/proc/self/mountinfo").map_err(super::errno::to_errno)?;
    let lines: Vec<Vec<&[u8]>> = table
        .split(|b| *b == b'\n')
        .map(|line| line.split(|b| *b == b' ').collect())
        .filter(|fields: &Vec<_>| fields.len() > 4)
        .collect();
    let text = |field: &[u8]| String::from_utf8_lossy(field).into_owned();
    let top = lines.iter().find(|fields| fields[0] == own.as_bytes());
    let top = unescape(top.ok_or(Errno::NOENT)?[4]);
    let mut ids = vec![own];
    let mut found = Vec::new();
    let mut at = 0;
    while at < ids.len() {
        for fields in lines.iter().filter(|f| f[1] == ids[at].as_bytes()) {
            let path = unescape(fields[4]);
            let path = path.strip_prefix(&top[..]).unwrap_or(&path).to_vec();
            found.push((text(fields[0]), path));
        }
        ids.extend(found[ids.len() - 1..].iter().map(|(id, _)| id.clone()));
        at += 1;
    }
    Ok(found)
}

/// Undoes the octal escapes of space, tab, line feed and backslash.
fn unescape(field: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((&byte, after)) = rest.split_first() {
        let digits = after.get(..3).filter(|_| byte == b'\\');
        let number = digits
            .and_then(|d| std::str::from_utf8(d).ok())
            .and_then(|d| u8::from_str_radix(d, 8).ok());
        rest = match number {
            Some(number) => {
                out.push(number);
                &after[3..]
            }
            None => {
                out.push(byte);
                after
            }
        };
    }
    out
}

/// The places where something is mounted strictly below `path` in this process's namespace, sorted.
/// Nothing when that cannot be found out.
pub fn points_below(path: &std::path::Path) -> Vec<std::path::PathBuf> {
    use std::os::unix::ffi::OsStringExt as _;
    let table = std::fs::read("/proc/self/mountinfo").unwrap_or_default();
    let mut points: Vec<_> = table
        .split(|b| *b == b'\n')
        .filter_map(|line| line.split(|b| *b == b' ').nth(4))
        .map(|field| std::path::PathBuf::from(std::ffi::OsString::from_vec(unescape(field))))
        .filter(|point| point != path && point.starts_with(path))
        .collect();
    points.sort();
    points.dedup();
    points
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
