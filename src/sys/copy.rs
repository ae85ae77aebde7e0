//! Copying a tree from one open directory into another, by descriptors alone.
//!
//! No name is ever looked up further than one component below an open directory, and never through a
//! link. In order, for each directory: its names are read; what is no directory is made at once, under
//! a new name (whatever had that name is removed, never written through: other names may lead to it);
//! directories are entered; when all below is done, the directory gets its owner, mode, attributes and
//! times, which making its entries would have changed.
//!
//! For each file: hard links to something copied before become links; else data (shared blocks, then
//! copy in the kernel; holes stay holes), owner, mode (chown(2) clears set-user-id), extended
//! attributes (it clears capabilities too), times.
//!
//! However deep the tree, a bounded number of directories is open: those far up are closed and found
//! again through `..`, which must be what was left.

mod attrs;
mod level;

use std::collections::HashMap;
use std::ffi::{CStr, CString, OsStr};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;

use rustix::fs::{AtFlags, FileType, Mode, OFlags, Stat};
use rustix::io::Errno;

use super::fs::{CallError, Root, next_data, reflink, remove_tree};
pub use attrs::{XATTR_MAX, is_portable};
use level::{Level, open_dir};

/// Directories of each tree held open at once.
const OPEN_DEPTH: usize = 64;
/// Kinds of loss that are told, at most.
const MOST_NOTES: usize = 32;

/// What becomes of a device node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Device {
    /// It is made, with its number.
    Make,
    /// It is left out, and a note says so.
    Skip,
    /// It stands for nothing: what has its name in the target is removed.
    Remove,
}

/// How a tree is copied.
pub struct Rules<'a> {
    /// What becomes of a device node with this status. A socket may be [`Device::Remove`]d as well; otherwise it is left out.
    pub device: &'a dyn Fn(&Stat) -> Device,
    /// Whether a directory of the source hides a directory of the same name in the target instead
    /// of being merged with it.
    pub hides: &'a dyn Fn(BorrowedFd<'_>) -> rustix::io::Result<bool>,
    /// The user and group of what belongs to these in the source.
    pub owner: &'a dyn Fn((u32, u32)) -> (u32, u32),
    /// Our notes of owners that could not be given (`user.rl.*`) are kept.
    pub remembered: bool,
    /// A directory of the target is not removed for something else: that is an error (`EISDIR`).
    pub spare_directories: bool,
    /// Programs keep their set-user-id and set-group-id bits where they keep their owner.
    pub set_ids: bool,
    /// File capabilities count for the root of the user namespace that copies, whomever they counted for.
    pub own_capabilities: bool,
}

impl Rules<'static> {
    /// Owners are kept, device nodes are left out, directories are merged.
    pub const PLAIN: Rules<'static> = Rules {
        device: &|_| Device::Skip,
        hides: &|_| Ok(false),
        owner: &|kept| kept,
        remembered: true,
        spare_directories: false,
        set_ids: true,
        own_capabilities: false,
    };
}

/// What came of a copy.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Files, directories and links made or merged; the top is not counted.
    pub entries: u64,
    /// Bytes of regular files, holes included.
    pub bytes: u64,
    /// What could not be kept, each kind once.
    pub notes: Vec<String>,
}

/// Copies all of `from` into `to`, both directories (`O_PATH` is enough), and gives `to` the owner,
/// mode, extended attributes and times of `from`. Directories are merged, anything else in the target
/// that has the name of something in the source is replaced.
///
/// Of extended attributes, those are copied that mean the same elsewhere: [`is_portable`]. An owner
/// that may not be set stays the caller's, without set-user-id; sockets are left out; both are noted.
///
/// # Errors
/// The failing call. What was copied before stays. `ESTALE` when a directory is moved meanwhile.
pub fn tree(
    from: BorrowedFd<'_>,
    to: BorrowedFd<'_>,
    rules: &Rules<'_>,
) -> Result<Report, CallError> {
    merge(from, to, rules, true)
}

/// Copies what is in `from` into `to` in the same way, and leaves `to` itself as it is.
///
/// # Errors
/// As [`tree`].
pub fn contents(
    from: BorrowedFd<'_>,
    to: BorrowedFd<'_>,
    rules: &Rules<'_>,
) -> Result<Report, CallError> {
    merge(from, to, rules, false)
}

/// With `settle`, `to` gets the attributes of `from`.
fn merge(
    from: BorrowedFd<'_>,
    to: BorrowedFd<'_>,
    rules: &Rules<'_>,
    settle: bool,
) -> Result<Report, CallError> {
    let (from, to) = (open_dir(from, c".")?, open_dir(to, c".")?);
    let mut copier = Copier::new(rules, open_dir(to.as_fd(), c".")?);
    copier.below(from, to, settle)?;
    Ok(copier.report)
}

/// Copies what is called `name` in `from` into `to`, where it is called `target`, with all below it. A directory
/// that is there is merged and keeps its own attributes.
///
/// # Errors
/// As [`tree`]; `ENOTDIR` for a directory where the target has something else.
pub fn entry(
    from: BorrowedFd<'_>,
    name: &CStr,
    to: BorrowedFd<'_>,
    target: &CStr,
    rules: &Rules<'_>,
) -> Result<Report, CallError> {
    let mut copier = Copier::new(rules, open_dir(to, c".")?);
    let stat = rustix::fs::statat(from, name, AtFlags::SYMLINK_NOFOLLOW)
        .map_err(copier.failed("fstatat", name))?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::Directory {
        copier.leaf((from, name), (to, target), &stat)?;
        return Ok(copier.report);
    }
    let made = match rustix::fs::mkdirat(to, target, Mode::RWXU) {
        Ok(()) => true,
        Err(Errno::EXIST) => false,
        Err(errno) => return Err(copier.failed("mkdirat", target)(errno)),
    };
    let (from, to) = (open_dir(from, name)?, open_dir(to, target)?);
    copier.top = Root::from_fd(open_dir(to.as_fd(), c".")?);
    copier.below(from, to, made)?;
    Ok(copier.report)
}

struct Copier<'a> {
    rules: &'a Rules<'a>,
    /// The target, for the first names of hard links.
    top: Root,
    /// Of the directory being copied, below the top, with a slash at the end.
    path: Vec<u8>,
    /// Files with several names: where the first was copied to, and what it is there.
    links: HashMap<(u64, u64), Link>,
    reflink: bool,
    ranges: bool,
    names: Vec<u8>,
    value: Vec<u8>,
    report: Report,
}

struct Link {
    dir: Vec<u8>,
    name: CString,
    copy: (u64, u64),
}

impl<'a> Copier<'a> {
    fn new(rules: &'a Rules<'a>, top: OwnedFd) -> Self {
        Copier {
            rules,
            top: Root::from_fd(top),
            path: Vec::new(),
            links: HashMap::new(),
            reflink: true,
            ranges: true,
            names: vec![0; XATTR_MAX],
            value: vec![0; XATTR_MAX],
            report: Report::default(),
        }
    }

    /// Copies all that is in `from`; with `settle`, `to` gets its attributes in the end.
    fn below(&mut self, from: OwnedFd, to: OwnedFd, settle: bool) -> Result<(), CallError> {
        let mut stack = vec![Level::enter(from, to, true, 0)?];
        while let Some(level) = stack.last_mut() {
            if let Some(name) = level.names.pop() {
                if let Some(below) = self.entry(level, &name)? {
                    stack.push(below);
                    if let Some(far) = stack.len().checked_sub(OPEN_DEPTH + 1) {
                        stack[far].fds = None;
                    }
                }
                continue;
            }
            if let Some(done) = stack.pop() {
                self.path.truncate(done.path_before);
                let above = stack.last_mut();
                let is_top = above.is_none();
                above.map_or(Ok(()), |above| above.reopen(&done))?;
                if settle || !is_top {
                    self.finish(&done)?;
                }
            }
        }
        Ok(())
    }

    /// Copies one entry; a directory is only begun.
    fn entry(&mut self, level: &Level, name: &CStr) -> Result<Option<Level>, CallError> {
        let (from, to) = level.fds()?;
        let stat = rustix::fs::statat(from, name, AtFlags::SYMLINK_NOFOLLOW)
            .map_err(self.failed("fstatat", name))?;
        if FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
            return self.directory(from, to, name).map(Some);
        }
        self.leaf((from, name), (to, name), &stat).map(|()| None)
    }

    /// Copies what is no directory.
    fn leaf(
        &mut self,
        (from, source): (BorrowedFd<'_>, &CStr),
        (to, name): (BorrowedFd<'_>, &CStr),
        stat: &Stat,
    ) -> Result<(), CallError> {
        let kind = FileType::from_raw_mode(stat.st_mode);
        match kind {
            FileType::CharacterDevice | FileType::BlockDevice => match (self.rules.device)(stat) {
                Device::Make => {}
                Device::Remove => return remove_tree(to, name.to_bytes()),
                Device::Skip => {
                    self.note("device nodes are not copied".into());
                    return Ok(());
                }
            },
            FileType::Socket if (self.rules.device)(stat) == Device::Remove => {
                return remove_tree(to, name.to_bytes());
            }
            FileType::Socket => {
                self.note("sockets are not copied".into());
                return Ok(());
            }
            _ => {}
        }
        self.report.entries += 1;
        if stat.st_nlink > 1 && self.link(to, name, stat)? {
            return Ok(());
        }
        match kind {
            FileType::RegularFile => self.file((from, source), (to, name))?,
            FileType::Symlink => {
                let target = rustix::fs::readlinkat(from, source, Vec::new())
                    .map_err(self.failed("readlinkat", source))?;
                self.replacing(to, name, "symlinkat", || {
                    rustix::fs::symlinkat(&target, to, name)
                })?;
                self.settle_name(to, name, stat, false)?;
            }
            _ => {
                self.replacing(to, name, "mknodat", || {
                    rustix::fs::mknodat(to, name, kind, Mode::RUSR | Mode::WUSR, stat.st_rdev)
                })?;
                self.settle_name(to, name, stat, true)?;
            }
        }
        if stat.st_nlink > 1 {
            let copy = rustix::fs::statat(to, name, AtFlags::SYMLINK_NOFOLLOW)
                .map_err(self.failed("fstatat", name))?;
            self.links
                .entry((stat.st_dev, stat.st_ino))
                .or_insert_with(|| Link {
                    dir: self.path.clone(),
                    name: name.to_owned(),
                    copy: (copy.st_dev, copy.st_ino),
                });
        }
        Ok(())
    }

    /// Makes a further name for something copied before. False when it must be copied: it was not,
    /// or its copy is not where it was.
    fn link(&self, to: BorrowedFd<'_>, name: &CStr, stat: &Stat) -> Result<bool, CallError> {
        let Some(link) = self.links.get(&(stat.st_dev, stat.st_ino)) else {
            return Ok(false);
        };
        let Ok(dir) = self.top.resolve_in_root(&link.dir) else {
            return Ok(false);
        };
        let is_copy = |dir: BorrowedFd<'_>, name: &CStr| {
            rustix::fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW)
                .is_ok_and(|s| (s.st_dev, s.st_ino) == link.copy)
        };
        if !is_copy(dir.as_fd(), &link.name) {
            return Ok(false);
        }
        let made = self.replacing(to, name, "linkat", || {
            rustix::fs::linkat(&dir, &*link.name, to, name, AtFlags::empty())
        });
        match made {
            Ok(()) => Ok(is_copy(to, name)),
            // As many names as the file system allows.
            Err(e) if e.errno == Errno::MLINK => Ok(false),
            Err(e) => Err(e),
        }
    }

    fn directory(
        &mut self,
        from: BorrowedFd<'_>,
        to: BorrowedFd<'_>,
        name: &CStr,
    ) -> Result<Level, CallError> {
        self.report.entries += 1;
        let source = open_dir(from, name)?;
        let mut merged = false;
        match rustix::fs::mkdirat(to, name, Mode::RWXU) {
            Ok(()) => {}
            Err(Errno::EXIST) => {
                let there = rustix::fs::statat(to, name, AtFlags::SYMLINK_NOFOLLOW)
                    .map_err(self.failed("fstatat", name))?;
                merged = FileType::from_raw_mode(there.st_mode) == FileType::Directory
                    && !(self.rules.hides)(source.as_fd())
                        .map_err(self.failed("fgetxattr", name))?;
                if !merged {
                    self.replacing(to, name, "mkdirat", || {
                        rustix::fs::mkdirat(to, name, Mode::RWXU)
                    })?;
                } else if there.st_mode & 0o700 != 0o700 {
                    // Its owner must be able to work in it; who may not, fails below with the name.
                    let _ = rustix::fs::chmodat(to, name, Mode::RWXU, AtFlags::empty());
                }
            }
            Err(errno) => return Err(self.failed("mkdirat", name)(errno)),
        }
        let path_before = self.path.len();
        self.path.extend_from_slice(name.to_bytes());
        self.path.push(b'/');
        Level::enter(source, open_dir(to, name)?, merged, path_before)
    }

    fn file(
        &mut self,
        (from, source): (BorrowedFd<'_>, &CStr),
        (to, name): (BorrowedFd<'_>, &CStr),
    ) -> Result<(), CallError> {
        // Without O_NONBLOCK a FIFO that took the name meanwhile would stop everything.
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let source_file = rustix::fs::openat(from, source, flags, Mode::empty())
            .map_err(self.failed("openat", source))?;
        let stat = rustix::fs::fstat(&source_file).map_err(self.failed("fstat", source))?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            return Err(self.failed("openat", source)(Errno::STALE));
        }
        let flags =
            OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = self.replacing(to, name, "openat", || {
            rustix::fs::openat(to, name, flags, Mode::RUSR | Mode::WUSR)
        })?;
        self.data(source_file.as_fd(), file.as_fd(), &stat, name)?;
        self.report.bytes += stat.st_size as u64;
        self.settle(source_file.as_fd(), file.as_fd(), &stat, false, name)
    }

    fn data(
        &mut self,
        from: BorrowedFd<'_>,
        to: BorrowedFd<'_>,
        stat: &Stat,
        name: &CStr,
    ) -> Result<(), CallError> {
        let size = stat.st_size as u64;
        if size == 0 {
            return Ok(());
        }
        if self.reflink {
            self.reflink = reflink(from, to).map_err(self.failed("ioctl(FICLONE)", name))?;
            if self.reflink {
                return Ok(());
            }
        }
        // Blocks are counted in 512 bytes (stat(3type)).
        if stat.st_blocks as u64 * 512 >= size {
            return self.stretch(from, to, (0, size), name);
        }
        let mut offset = 0;
        while offset < size {
            let Some((start, end)) = next_data(from, offset).map_err(self.failed("lseek", name))?
            else {
                break;
            };
            self.stretch(from, to, (start, end.min(size)), name)?;
            offset = end;
        }
        rustix::fs::ftruncate(to, size).map_err(self.failed("ftruncate", name))
    }

    /// Copies from `range.0` to `range.1` to the same place in the other file.
    fn stretch(
        &mut self,
        from: BorrowedFd<'_>,
        to: BorrowedFd<'_>,
        range: (u64, u64),
        name: &CStr,
    ) -> Result<(), CallError> {
        let (mut at, end) = range;
        while at < end && self.ranges {
            let (mut read, mut write) = (at, at);
            let most = usize::try_from(end - at).unwrap_or(usize::MAX);
            match rustix::fs::copy_file_range(from, Some(&mut read), to, Some(&mut write), most) {
                // It was cut short meanwhile.
                Ok(0) => return Ok(()),
                Ok(n) => at += n as u64,
                Err(Errno::INTR) => {}
                // Between different file systems, or not at all (copy_file_range(2), "ERRORS").
                Err(Errno::XDEV | Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP | Errno::PERM) => {
                    self.ranges = false;
                }
                Err(errno) => return Err(self.failed("copy_file_range", name)(errno)),
            }
        }
        if at < end {
            rustix::fs::seek(to, rustix::fs::SeekFrom::Start(at))
                .map_err(self.failed("lseek", name))?;
        }
        while at < end {
            let most = usize::try_from(end - at).unwrap_or(usize::MAX);
            match rustix::fs::sendfile(to, from, Some(&mut at), most) {
                Ok(0) => return Ok(()),
                Ok(_) | Err(Errno::INTR) => {}
                Err(errno) => return Err(self.failed("sendfile", name)(errno)),
            }
        }
        Ok(())
    }

    /// Everything below a directory is there: its own turn.
    fn finish(&mut self, level: &Level) -> Result<(), CallError> {
        let (from, to) = level.fds()?;
        self.settle(from, to, &level.stat, level.merged, c".")
    }

    fn note(&mut self, text: String) {
        if self.report.notes.len() < MOST_NOTES && !self.report.notes.contains(&text) {
            self.report.notes.push(text);
        }
    }

    /// Runs `make`; when the name is taken, removes what has it and runs it again.
    fn replacing<T>(
        &self,
        to: BorrowedFd<'_>,
        name: &CStr,
        what: &'static str,
        make: impl Fn() -> rustix::io::Result<T>,
    ) -> Result<T, CallError> {
        match make() {
            Err(Errno::EXIST) => {
                let directory = || {
                    rustix::fs::statat(to, name, AtFlags::SYMLINK_NOFOLLOW)
                        .is_ok_and(|s| FileType::from_raw_mode(s.st_mode) == FileType::Directory)
                };
                if self.rules.spare_directories && directory() {
                    return Err(self.failed(what, name)(Errno::ISDIR));
                }
                remove_tree(to, name.to_bytes())?;
                make()
            }
            other => other,
        }
        .map_err(self.failed(what, name))
    }

    /// The text of a call about an entry of the directory being copied.
    fn failed(&self, what: &'static str, name: &CStr) -> impl FnOnce(Errno) -> CallError + use<> {
        let mut path = self.path.clone();
        path.extend_from_slice(name.to_bytes());
        CallError::of(move || format!("{what}(`{}`)", OsStr::from_bytes(&path).display()))
    }
}

#[cfg(test)]
mod tests;
