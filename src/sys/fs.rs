//! Paths that stay inside a directory, and the few file calls that need care.
//!
//! A [`Root`] is an open directory. A name is looked up below it as if that directory were `/`
//! (openat2(2), `RESOLVE_IN_ROOT`): `..` stops at it, absolute links start at it, and magic links of
//! procfs are refused. Where the kernel has no openat2 (before 5.6, or filtered), the same walk is
//! done here one component at a time with `O_NOFOLLOW`.
//!
//! [`remove_tree`] deletes what a hostile archive may have piled up: it follows no link, holds a
//! bounded number of descriptors whatever the depth, and repairs modes that lock it out.

use std::collections::VecDeque;
use std::ffi::{CStr, CString, OsStr};
use std::fmt;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use rustix::fs::{AtFlags, Dir, FileType, Gid, Mode, OFlags, ResolveFlags, Stat, Uid};
use rustix::io::Errno;

/// A system call that failed: the call with its arguments, then the kernel's answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CallError {
    /// The call as it was made, such as ``openat2(root, `etc/passwd`, IN_ROOT)``.
    pub call: String,
    /// What the kernel answered.
    pub errno: Errno,
}

impl CallError {
    /// For `map_err`: keeps the errno and builds the text of the call only when it failed.
    pub fn of(call: impl FnOnce() -> String) -> impl FnOnce(Errno) -> CallError {
        move |errno| CallError {
            call: call(),
            errno,
        }
    }
}

impl CallError {
    /// Whether permission was lacking.
    pub fn is_denied(&self) -> bool {
        matches!(self.errno, Errno::ACCESS | Errno::PERM)
    }

    /// Whether the disk, or the user's quota of it, is full.
    pub fn is_full(&self) -> bool {
        matches!(self.errno, Errno::NOSPC | Errno::DQUOT)
    }
}

impl fmt::Display for CallError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let errno = nix::errno::Errno::from_raw(self.errno.raw_os_error());
        write!(f, "{}: {errno}", self.call)
    }
}

impl std::error::Error for CallError {}

/// How many symbolic links one look-up may pass (path_resolution(7), `MAXSYMLINKS`).
const MAX_LINKS: usize = 40;
/// openat2 answers `EAGAIN` when something was renamed or mounted during a walk past `..`.
const MAX_RETRIES: usize = 1000;

/// A directory that acts as `/` for every name looked up through it.
#[derive(Debug)]
pub struct Root {
    fd: OwnedFd,
    openat2: bool,
}

impl AsFd for Root {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl Root {
    /// Opens the directory at `path` (links in it are followed: the caller trusts this path).
    ///
    /// # Errors
    /// The failing `open`.
    pub fn open(path: &Path) -> Result<Self, CallError> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let fd = rustix::fs::open(path, flags, Mode::empty()).map_err(CallError::of(|| {
            format!("open(`{}`, O_DIRECTORY)", path.display())
        }))?;
        Ok(Root::from_fd(fd))
    }

    /// Takes an open directory (`O_PATH` is enough for look-ups).
    pub fn from_fd(fd: OwnedFd) -> Self {
        Root { fd, openat2: true }
    }

    /// The same, without openat2: for tests of the fallback.
    pub fn without_openat2(mut self) -> Self {
        self.openat2 = false;
        self
    }

    /// Opens `path` inside the root. `O_CLOEXEC` is added; `mode` counts only with `O_CREAT`.
    ///
    /// # Errors
    /// The failing call; `ELOOP` for a magic link or more than 40 links.
    pub fn open_in_root(
        &self,
        path: &[u8],
        flags: OFlags,
        mode: Mode,
    ) -> Result<OwnedFd, CallError> {
        let flags = flags | OFlags::CLOEXEC;
        let describe = || {
            format!(
                "openat2(root, `{}`, IN_ROOT)",
                OsStr::from_bytes(path).display()
            )
        };
        if self.openat2 {
            let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
            // The kernel refuses an empty path; here it names the root.
            let name: &[u8] = if path.is_empty() { b"." } else { path };
            for _ in 0..MAX_RETRIES {
                match rustix::fs::openat2(&self.fd, name, flags, mode, resolve) {
                    Err(Errno::AGAIN | Errno::INTR) => {}
                    Err(Errno::NOSYS) => break,
                    result => return result.map_err(CallError::of(describe)),
                }
            }
        }
        walk(self.fd.as_fd(), path, flags, mode, MAX_LINKS).map_err(CallError::of(describe))
    }

    /// An `O_PATH` descriptor for `path` inside the root, final link followed.
    ///
    /// # Errors
    /// As [`Root::open_in_root`].
    pub fn resolve_in_root(&self, path: &[u8]) -> Result<OwnedFd, CallError> {
        self.open_in_root(path, OFlags::PATH, Mode::empty())
    }
}

/// openat2(2) with `IN_ROOT | NO_MAGICLINKS`, for existing files, below a directory that need not be
/// a [`Root`]; with `links` false also `NO_SYMLINKS`. Where the kernel or a filter has no openat2, the
/// walk does it.
///
/// # Errors
/// Those of openat2(2).
pub fn open_beneath(
    root: BorrowedFd<'_>,
    path: &[u8],
    flags: OFlags,
    links: bool,
) -> rustix::io::Result<OwnedFd> {
    let flags = flags | OFlags::CLOEXEC;
    let mut resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    resolve.set(ResolveFlags::NO_SYMLINKS, !links);
    // The kernel refuses an empty path; here it names the directory.
    let name: &[u8] = if path.is_empty() { b"." } else { path };
    for _ in 0..MAX_RETRIES {
        match rustix::fs::openat2(root, name, flags, Mode::empty(), resolve) {
            Err(Errno::AGAIN | Errno::INTR) => {}
            // EPERM is what an older seccomp filter answers to a call that it does not know.
            Err(Errno::NOSYS | Errno::PERM) => break,
            other => return other,
        }
    }
    let links = if links { MAX_LINKS } else { 0 };
    walk(root, path, flags, Mode::empty(), links)
}

/// The meaning of `openat2(…, IN_ROOT | NO_MAGICLINKS)` without the call. One difference: with
/// `O_CREAT` a final symbolic link is not followed (`ELOOP`).
fn walk(
    root: BorrowedFd<'_>,
    path: &[u8],
    flags: OFlags,
    mode: Mode,
    max_links: usize,
) -> rustix::io::Result<OwnedFd> {
    let wants_dir = path.ends_with(b"/");
    let mut todo: VecDeque<Vec<u8>> = components(path);
    // The directories from the root down to where the walk stands; the root itself is left out.
    let mut trail: Vec<OwnedFd> = Vec::new();
    let mut links = 0;
    while let Some(name) = todo.pop_front() {
        let here = trail.last().map_or(root, AsFd::as_fd);
        if name == b".." {
            trail.pop();
            continue;
        }
        let last = todo.is_empty();
        let name = CString::new(name).map_err(|_| Errno::INVAL)?;
        if last && flags.contains(OFlags::CREATE) {
            return rustix::fs::openat(here, &*name, flags | OFlags::NOFOLLOW, mode);
        }
        let look = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let fd = rustix::fs::openat(here, &*name, look, Mode::empty())?;
        let stat = rustix::fs::fstat(&fd)?;
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::Symlink if last && flags.contains(OFlags::NOFOLLOW) && !wants_dir => {
                if flags.contains(OFlags::PATH) {
                    return Ok(fd);
                }
                return Err(Errno::LOOP);
            }
            FileType::Symlink => {
                links += 1;
                let target = rustix::fs::readlinkat(&fd, c"", Vec::new())?;
                let magic = target.as_bytes().starts_with(b"/") && on_procfs(fd.as_fd());
                if links > max_links || magic {
                    return Err(Errno::LOOP);
                }
                if target.as_bytes().starts_with(b"/") {
                    trail.clear();
                }
                for part in components(target.as_bytes()).into_iter().rev() {
                    todo.push_front(part);
                }
            }
            FileType::Directory => trail.push(fd),
            _ if !last || wants_dir => return Err(Errno::NOTDIR),
            _ => return reopen(&fd, flags),
        }
    }
    match trail.pop() {
        Some(fd) => reopen(&fd, flags),
        None => rustix::fs::openat(root, c".", flags, mode),
    }
}

/// The parts between slashes, without empty ones and `.`.
fn components(path: &[u8]) -> VecDeque<Vec<u8>> {
    path.split(|&b| b == b'/')
        .filter(|part| !part.is_empty() && *part != b".")
        .map(<[u8]>::to_vec)
        .collect()
}

/// Turns an `O_PATH` descriptor into one with `flags`. One that stays `O_PATH` needs no /proc for it.
fn reopen(fd: &OwnedFd, flags: OFlags) -> rustix::io::Result<OwnedFd> {
    let flags = flags.difference(OFlags::NOFOLLOW);
    if flags.contains(OFlags::PATH) {
        let kind = FileType::from_raw_mode(rustix::fs::fstat(fd)?.st_mode);
        return match flags.contains(OFlags::DIRECTORY) && kind != FileType::Directory {
            true => Err(Errno::NOTDIR),
            false => rustix::io::fcntl_dupfd_cloexec(fd, 0),
        };
    }
    rustix::fs::open(proc_path(fd.as_fd()), flags, Mode::empty())
}

/// Whether a link lives on procfs, where an absolute target may be a magic link's description.
fn on_procfs(fd: BorrowedFd<'_>) -> bool {
    rustix::fs::fstatfs(fd).is_ok_and(|s| s.f_type == rustix::fs::PROC_SUPER_MAGIC)
}

/// `/proc/self/fd/N`: reaches the very inode behind a descriptor, for calls that take no `O_PATH`
/// descriptor (lsetxattr(2), open(2)).
pub fn proc_path(fd: BorrowedFd<'_>) -> CString {
    let text = format!("/proc/self/fd/{}", fd.as_raw_fd());
    CString::new(text).unwrap_or_default()
}

/// Makes an overlay whiteout: a character device 0:0, which user namespaces may make since Linux
/// 5.8 (Documentation/filesystems/overlayfs.rst, "whiteouts and opaque directories").
///
/// # Errors
/// The failing `mknodat`.
pub fn make_whiteout(dir: BorrowedFd<'_>, name: &[u8]) -> rustix::io::Result<()> {
    rustix::fs::mknodat(dir, name, FileType::CharacterDevice, Mode::empty(), 0)
}

/// Whether this is an overlay whiteout.
pub fn is_whiteout(stat: &Stat) -> bool {
    FileType::from_raw_mode(stat.st_mode) == FileType::CharacterDevice && stat.st_rdev == 0
}

/// Makes what stands for a whiteout in an unpacked layer where none can be made, as on an overlay, whose own it would be: a
/// socket of mode 0, which no archive has. Only who knows [`is_layer_whiteout`] understands it.
///
/// # Errors
/// The failing `mknodat`.
pub fn make_stand_in(dir: BorrowedFd<'_>, name: &[u8]) -> rustix::io::Result<()> {
    rustix::fs::mknodat(dir, name, FileType::Socket, Mode::empty(), 0)
}

/// Whether this is a whiteout of an unpacked layer, or what stands for one.
pub fn is_layer_whiteout(stat: &Stat) -> bool {
    let stands = FileType::from_raw_mode(stat.st_mode) == FileType::Socket;
    is_whiteout(stat) || (stands && stat.st_mode & 0o7777 == 0)
}

/// Whether a directory of a writable layer hides those below it (Documentation/filesystems/overlayfs.rst,
/// "whiteouts and opaque directories"; fuse-overlayfs has a name of its own for the mark).
pub fn is_opaque(dir: BorrowedFd<'_>) -> bool {
    let marks = [
        c"user.overlay.opaque",
        c"user.fuseoverlayfs.opaque",
        c"trusted.overlay.opaque",
    ];
    marks.iter().any(|mark| {
        let mut value = [0u8; 1];
        rustix::fs::fgetxattr(dir, *mark, &mut value[..]) == Ok(1) && value[0] == b'y'
    })
}

/// Changes the owner of `name` in `dir`, not following a link.
///
/// # Errors
/// `EINVAL` for an id that the user namespace does not map.
pub fn lchown(dir: BorrowedFd<'_>, name: &[u8], uid: u32, gid: u32) -> rustix::io::Result<()> {
    let (uid, gid) = (Uid::from_raw(uid), Gid::from_raw(gid));
    rustix::fs::chownat(dir, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)
}

/// The times of a file, in the form in which another one takes them (utimensat(2)).
pub fn times(stat: &Stat) -> rustix::fs::Timestamps {
    let time = |sec, nsec| rustix::fs::Timespec {
        tv_sec: sec,
        tv_nsec: nsec as _,
    };
    rustix::fs::Timestamps {
        last_access: time(stat.st_atime, stat.st_atime_nsec),
        last_modification: time(stat.st_mtime, stat.st_mtime_nsec),
    }
}

/// Shares the blocks of `from` with the empty file `to` (ioctl_ficlone(2)); `false` where the file
/// system cannot.
///
/// # Errors
/// Anything but "not supported".
pub fn reflink(from: BorrowedFd<'_>, to: BorrowedFd<'_>) -> rustix::io::Result<bool> {
    match rustix::fs::ioctl_ficlone(to, from) {
        Ok(()) => Ok(true),
        Err(Errno::OPNOTSUPP | Errno::XDEV | Errno::INVAL | Errno::NOTTY | Errno::NOSYS) => {
            Ok(false)
        }
        Err(errno) => Err(errno),
    }
}

/// The next stretch of data at or after `offset`: start and end, or `None` past the last one
/// (lseek(2), `SEEK_DATA` and `SEEK_HOLE`). File systems without holes report one stretch.
///
/// # Errors
/// The failing `lseek`.
pub fn next_data(file: BorrowedFd<'_>, offset: u64) -> rustix::io::Result<Option<(u64, u64)>> {
    use rustix::fs::SeekFrom;
    let start = match rustix::fs::seek(file, SeekFrom::Data(offset)) {
        Ok(start) => start,
        Err(Errno::NXIO) => return Ok(None),
        Err(errno) => return Err(errno),
    };
    let end = rustix::fs::seek(file, SeekFrom::Hole(start))?;
    Ok(Some((start, end)))
}

/// Directories held open at once while a tree is deleted.
const REMOVE_DEPTH: usize = 64;

/// Where what lies deeper than [`REMOVE_DEPTH`] is moved: the tree's top, under names that the tree's
/// author could not foresee.
struct Deep<'a> {
    top: BorrowedFd<'a>,
    prefix: String,
    count: u64,
}

impl Deep<'_> {
    fn name(&self, number: u64) -> CString {
        CString::new(format!("{}{number}", self.prefix)).unwrap_or_default()
    }
}

/// Removes `name` in `dir`, a file or a whole tree; fine when there is nothing.
///
/// # Errors
/// The failing call; what was removed before stays removed.
pub fn remove_tree(dir: BorrowedFd<'_>, name: &[u8]) -> Result<(), CallError> {
    let shown = || OsStr::from_bytes(name).display().to_string();
    let gone = |what: &'static str| CallError::of(move || format!("{what}(dir, `{}`)", shown()));
    match rustix::fs::unlinkat(dir, name, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => return Ok(()),
        Err(Errno::ISDIR | Errno::PERM) => {}
        Err(errno) => return Err(gone("unlinkat")(errno)),
    }
    let top = open_to_empty(
        dir,
        &CString::new(name).map_err(|_| gone("unlinkat")(Errno::INVAL))?,
    )?;
    let mut random = [0u8; 8];
    rustix::rand::getrandom(&mut random, rustix::rand::GetRandomFlags::empty())
        .map_err(CallError::of(|| "getrandom(8)".to_owned()))?;
    let prefix = format!(".rl-remove-{:016x}-", u64::from_ne_bytes(random));
    let mut deep = Deep {
        top: top.as_fd(),
        prefix,
        count: 0,
    };
    empty_dir(top.as_fd(), 0, &mut deep)?;
    // Each pass over a moved directory may move deeper ones up; they carry growing numbers.
    let mut done = 0;
    while done < deep.count {
        let moved = deep.name(done);
        let fd = open_to_empty(top.as_fd(), &moved)?;
        empty_dir(fd.as_fd(), 1, &mut deep)?;
        rustix::fs::unlinkat(&top, &*moved, AtFlags::REMOVEDIR).map_err(gone("rmdir below"))?;
        done += 1;
    }
    rustix::fs::unlinkat(dir, name, AtFlags::REMOVEDIR).map_err(gone("rmdir"))
}

/// Deletes everything in `dir`; what lies too deep is moved to the top for later.
fn empty_dir(dir: BorrowedFd<'_>, depth: usize, deep: &mut Deep<'_>) -> Result<(), CallError> {
    let failed = |call: &'static str, name: &CStr| {
        let name = name.to_owned();
        CallError::of(move || format!("{call}(dir, `{}`)", name.to_string_lossy()))
    };
    let reader = Dir::read_from(dir).map_err(failed("getdents", c"."))?;
    for entry in reader {
        let entry = entry.map_err(failed("getdents", c"."))?;
        let name = entry.file_name();
        let own = depth == 0 && name.to_bytes().starts_with(deep.prefix.as_bytes());
        if own || matches!(name.to_bytes(), b"." | b"..") {
            continue;
        }
        if entry.file_type() != FileType::Directory {
            match rustix::fs::unlinkat(dir, name, AtFlags::empty()) {
                Ok(()) | Err(Errno::NOENT) => continue,
                Err(Errno::ISDIR) => {}
                Err(errno) => return Err(failed("unlinkat", name)(errno)),
            }
        }
        if rustix::fs::unlinkat(dir, name, AtFlags::REMOVEDIR).is_ok() {
            continue;
        }
        if depth >= REMOVE_DEPTH {
            // A directory can be moved only by who may write to it (its `..` changes).
            drop(open_to_empty(dir, name)?);
            let moved = deep.name(deep.count);
            rustix::fs::renameat(dir, name, deep.top, &*moved).map_err(failed("renameat", name))?;
            deep.count += 1;
            continue;
        }
        let child = open_to_empty(dir, name)?;
        empty_dir(child.as_fd(), depth + 1, deep)?;
        rustix::fs::unlinkat(dir, name, AtFlags::REMOVEDIR).map_err(failed("rmdir", name))?;
    }
    Ok(())
}

/// Opens a directory to delete what is in it, giving its owner the right to.
fn open_to_empty(dir: BorrowedFd<'_>, name: &CStr) -> Result<OwnedFd, CallError> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let failed = || format!("openat(dir, `{}`, O_DIRECTORY)", name.to_string_lossy());
    let fd = match rustix::fs::openat(dir, name, flags, Mode::empty()) {
        Err(Errno::ACCESS) => {
            rustix::fs::chmodat(dir, name, Mode::RWXU, AtFlags::empty())
                .map_err(CallError::of(failed))?;
            rustix::fs::openat(dir, name, flags, Mode::empty())
        }
        other => other,
    }
    .map_err(CallError::of(failed))?;
    let mode = rustix::fs::fstat(&fd)
        .map_err(CallError::of(failed))?
        .st_mode;
    if mode & 0o700 != 0o700 {
        // Not ours: the deletion itself tells, with a better name.
        let _ = rustix::fs::fchmod(&fd, Mode::RWXU);
    }
    Ok(fd)
}
