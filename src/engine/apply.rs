//! Carries what a container changed in its views over to the host, as the caller.
//!
//! Both trees are walked side by side by descriptors, one component at a time and never through a link,
//! so nothing outside of the view's directory is touched whatever either tree holds. A file is
//! written in full under a name of its own and then renamed over the old one. In order, for each
//! directory: what an opaque one hides is removed, entries are carried over, then its mode, attributes
//! and times are set; programs lose set-user-id bits. What belongs to somebody else, lies on another file system or fails is left as it
//! is and told; the rest goes on.

use std::collections::BTreeSet;
use std::ffi::{CStr, CString};
use std::fs::File;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::fs::{AtFlags, FileType, Mode, OFlags, Stat, XattrFlags};
use rustix::io::Errno;

use super::changes::{self, Change, Kind, Tree, failed, open_dir, stat_at, stat_fd};
use super::{Context, Error, lifecycle};
use crate::model::text::escape_bytes;
use crate::state::{Container, Status};
use crate::sys::copy::is_portable;
use crate::sys::fs::{CallError, is_opaque, is_whiteout, next_data, remove_tree, times};

/// What came of it.
#[derive(Debug, Default)]
pub struct Report {
    /// Entries carried over or removed.
    pub done: usize,
    /// What was not, with the reason.
    pub failures: Vec<String>,
    /// What is not as it is inside.
    pub notes: Vec<String>,
}

/// `rl apply`: shows the changes, asks unless `yes`, and carries them over.
///
/// # Errors
/// No such container, or it runs; nothing it could be carried over to; nobody to ask;
/// [`Error::Applied`] when some changes were not carried over.
pub fn apply(context: &Context<'_>, word: &str, yes: bool) -> Result<(), Error> {
    let container = lifecycle::find(context, word)?;
    let name = container.spec.name.clone();
    // The monitor of a command that has just ended still holds it for a moment.
    let deadline = Instant::now() + Duration::from_secs(10);
    while container.state.status != Status::Running
        && container.is_held()
        && Instant::now() < deadline
    {
        std::thread::sleep(Duration::from_millis(2));
    }
    let _locked = container.lock()?;
    if container.spec.views().next().is_none() {
        return Err(Error::NothingToApply(name));
    }
    if !yes && !can_ask() {
        return Err(Error::ApplyUnasked);
    }
    carry(context, &container, yes).map(drop)
}

/// Whether there is a terminal to ask on.
pub fn can_ask() -> bool {
    let is = rustix::termios::isatty;
    is(rustix::stdio::stdin()) && is(rustix::stdio::stderr())
}

/// Shows the changes of a container's views, asks unless `yes`, and carries them over. Returns whether
/// that was wanted.
///
/// # Errors
/// Its files cannot be read; [`Error::Applied`].
pub fn carry(context: &Context<'_>, container: &Container, yes: bool) -> Result<bool, Error> {
    let mut trees = changes::trees(container)?;
    trees.retain(|tree| tree.view);
    let list = changes::list(container, &trees)?;
    if list.is_empty() {
        context.ui.notice("nothing has changed");
        return Ok(true);
    }
    if !yes {
        for Change { path, kind } in &list {
            let line = format!("{} {}", kind.letter(), escape_bytes(path));
            context.ui.show(&line);
        }
        let count = |kind| list.iter().filter(|c| c.kind == kind).count();
        let question = format!(
            "Carry over to this machine: {} added, {} changed, {} deleted?",
            count(Kind::Added),
            count(Kind::Changed),
            count(Kind::Deleted)
        );
        if !context.ui.ask(&question) {
            return Ok(false);
        }
    }
    let points = changes::points(container);
    let mut report = Report::default();
    for tree in &trees {
        carry_tree(tree, &points, &mut report);
    }
    for note in &report.notes {
        context.ui.notice(note);
    }
    for failure in &report.failures {
        context.ui.show(&format!("not carried over: {failure}"));
    }
    if report.failures.is_empty() {
        context
            .ui
            .notice(&format!("carried over {} changes", list.len()));
        return Ok(true);
    }
    let failed = report.failures.len();
    let total = report.done + failed;
    Err(Error::Applied { failed, total })
}

fn carry_tree(tree: &Tree, points: &BTreeSet<Vec<u8>>, report: &mut Report) {
    let Some(lower) = tree.lower.first() else {
        return;
    };
    let mut carrier = Carrier {
        report,
        points,
        path: tree.target.as_bytes().to_vec(),
        device: 0,
        own: rustix::process::geteuid().as_raw(),
        count: 0,
    };
    let opened = changes::open_path(&tree.upper)
        .and_then(|upper| Ok((upper, changes::open_path(lower)?)))
        .and_then(|(upper, host)| {
            carrier.device = stat_fd(&host)?.st_dev;
            Ok((upper, host))
        });
    match opened {
        Ok((upper, host)) => {
            let stat = stat_fd(&upper);
            carrier.directory(&upper, &host, false);
            if let Ok(stat) = stat {
                carrier.settle_directory(&upper, &host, &stat);
            }
        }
        Err(error) => carrier.fail(c"", &error.to_string()),
    }
}

struct Carrier<'a> {
    report: &'a mut Report,
    points: &'a BTreeSet<Vec<u8>>,
    /// Inside, of the directory that the walk is in.
    path: Vec<u8>,
    /// The file system of the host's directory.
    device: u64,
    own: u32,
    /// Temporary names used.
    count: u64,
}

impl Carrier<'_> {
    fn directory(&mut self, upper: &OwnedFd, host: &OwnedFd, hides: bool) {
        let names = match changes::names(upper) {
            Ok(names) => names,
            Err(error) => return self.fail(c"", &error.to_string()),
        };
        let hides = hides || is_opaque(upper.as_fd());
        if hides {
            match changes::names(host) {
                Ok(there) => {
                    for name in there.difference(&names) {
                        let removed = self.remove(host, name);
                        self.note(name, removed);
                    }
                }
                Err(error) => self.fail(c"", &error.to_string()),
            }
        }
        for name in &names {
            let carried = stat_at(upper.as_fd(), name)
                .map_err(|e| e.to_string())
                .and_then(|stat| self.entry(upper, host, name, &stat, hides));
            self.note(name, carried);
        }
    }

    fn entry(
        &mut self,
        upper: &OwnedFd,
        host: &OwnedFd,
        name: &CStr,
        stat: &Stat,
        hides: bool,
    ) -> Result<(), String> {
        if is_whiteout(stat) {
            return self.remove(host, name);
        }
        if stat.st_uid != self.own {
            return Err(format!("it belongs to uid {} inside", stat.st_uid));
        }
        let kind = FileType::from_raw_mode(stat.st_mode);
        let old = match rustix::fs::statat(host, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(old) => Some(old),
            Err(Errno::NOENT) => None,
            Err(errno) => return Err(failed("fstatat", name)(errno).to_string()),
        };
        if kind == FileType::Directory {
            return self.enter(upper, host, name, stat, old, hides);
        }
        if let Some(old) = &old {
            self.may_replace(old)?;
        } else if kind == FileType::RegularFile && stat.st_size == 0 && self.is_point(name) {
            return Ok(());
        }
        let text = |e: CallError| e.to_string();
        let temporary = match kind {
            FileType::RegularFile => self.file(upper, host, name, stat).map_err(text)?,
            FileType::Symlink => self.link(upper, host, name, stat).map_err(text)?,
            FileType::Fifo => self.fifo(host, stat).map_err(text)?,
            FileType::Socket => return Err("a socket is not carried over".into()),
            _ => return Err("a device is not carried over".into()),
        };
        let put = || -> Result<(), String> {
            if old.is_some_and(|s| FileType::from_raw_mode(s.st_mode) == FileType::Directory) {
                self.remove(host, name)?;
            }
            let renamed = rustix::fs::renameat(host, &*temporary, host, name);
            renamed.map_err(failed("renameat", name)).map_err(text)
        };
        put().inspect_err(|_| {
            let _ = rustix::fs::unlinkat(host, &*temporary, AtFlags::empty());
        })
    }

    /// A directory: merged with the one that is there, or made.
    fn enter(
        &mut self,
        upper: &OwnedFd,
        host: &OwnedFd,
        name: &CStr,
        stat: &Stat,
        old: Option<Stat>,
        hides: bool,
    ) -> Result<(), String> {
        let text = |e: CallError| e.to_string();
        let is_dir = |s: &Stat| FileType::from_raw_mode(s.st_mode) == FileType::Directory;
        let length = self.path.len();
        let from = open_own(upper.as_fd(), name, stat).map_err(text)?;
        if old.is_none() && self.is_point(name) && self.only_points(&from, name).map_err(text)? {
            return Ok(());
        }
        match &old {
            Some(old) if is_dir(old) => {
                if old.st_dev != self.device {
                    return Err("another file system is mounted there".into());
                }
            }
            other => {
                if let Some(other) = other {
                    self.may_replace(other)?;
                    self.remove(host, name)?;
                }
                let made = rustix::fs::mkdirat(host, name, Mode::RWXU);
                made.map_err(failed("mkdirat", name)).map_err(text)?;
            }
        }
        let to = open_dir(host.as_fd(), name).map_err(text)?;
        self.path.push(b'/');
        self.path.extend_from_slice(name.to_bytes());
        self.directory(&from, &to, hides);
        self.settle_directory(&from, &to, stat);
        self.path.truncate(length);
        restore(&from, stat);
        Ok(())
    }

    /// Mode, attributes and times of a directory; one of somebody else's keeps its own.
    fn settle_directory(&mut self, from: &OwnedFd, to: &OwnedFd, stat: &Stat) {
        match stat_fd(to) {
            Ok(there) if there.st_uid != self.own => {}
            Ok(_) => {
                let settled = settle(from, to, stat).map_err(|e| e.to_string());
                if let Err(error) = settled {
                    self.fail(c"", &error);
                }
            }
            Err(error) => self.fail(c"", &error.to_string()),
        }
    }

    /// A complete copy under a temporary name.
    fn file(
        &mut self,
        upper: &OwnedFd,
        host: &OwnedFd,
        name: &CStr,
        stat: &Stat,
    ) -> Result<CString, CallError> {
        let from = open_own(upper.as_fd(), name, stat)?;
        let temporary = self.temporary();
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
        let mode = Mode::RUSR | Mode::WUSR;
        let to = rustix::fs::openat(host, &*temporary, flags | OFlags::NOFOLLOW, mode)
            .map_err(failed("openat", &temporary))?;
        let (mut from, mut to) = (File::from(from), File::from(to));
        let copied = data(&mut from, &mut to, stat.st_size as u64)
            .and_then(|()| to.sync_data())
            .map_err(crate::sys::errno::to_errno)
            .map_err(failed("write", name));
        let (from, to) = (OwnedFd::from(from), OwnedFd::from(to));
        // As the caller nobody else is to run what was written inside.
        let plain = stat.st_mode & !SET_IDS;
        let mut without = *stat;
        without.st_mode = plain;
        let done = copied.and_then(|()| settle(&from, &to, &without));
        restore(&from, stat);
        match done {
            Ok(()) => {
                if plain != stat.st_mode {
                    let path = self.told(name);
                    let note = format!("`{path}` is without its set-user-id and set-group-id bits");
                    self.report.notes.push(note);
                }
                Ok(temporary)
            }
            Err(error) => {
                let _ = rustix::fs::unlinkat(host, &*temporary, AtFlags::empty());
                Err(error)
            }
        }
    }

    fn link(
        &mut self,
        upper: &OwnedFd,
        host: &OwnedFd,
        name: &CStr,
        stat: &Stat,
    ) -> Result<CString, CallError> {
        let target =
            rustix::fs::readlinkat(upper, name, Vec::new()).map_err(failed("readlinkat", name))?;
        let temporary = self.temporary();
        rustix::fs::symlinkat(&target, host, &*temporary).map_err(failed("symlinkat", name))?;
        let flags = AtFlags::SYMLINK_NOFOLLOW;
        let _ = rustix::fs::utimensat(host, &*temporary, &times(stat), flags);
        Ok(temporary)
    }

    fn fifo(&mut self, host: &OwnedFd, stat: &Stat) -> Result<CString, CallError> {
        let temporary = self.temporary();
        let mode = Mode::from_raw_mode(stat.st_mode & 0o7777);
        rustix::fs::mknodat(host, &*temporary, FileType::Fifo, mode, 0)
            .map_err(failed("mknodat", &temporary))?;
        let flags = AtFlags::SYMLINK_NOFOLLOW;
        let _ = rustix::fs::utimensat(host, &*temporary, &times(stat), flags);
        Ok(temporary)
    }

    fn temporary(&mut self) -> CString {
        let mut random = [0u8; 8];
        let _ = rustix::rand::getrandom(&mut random, rustix::rand::GetRandomFlags::empty());
        self.count += 1;
        let name = format!(
            ".rl-apply-{:016x}-{}",
            u64::from_ne_bytes(random),
            self.count
        );
        CString::new(name).unwrap_or_default()
    }

    /// Removes what the host has under a name, if all of it is the caller's.
    fn remove(&self, host: &OwnedFd, name: &CStr) -> Result<(), String> {
        let text = |e: CallError| e.to_string();
        match rustix::fs::statat(host, name, AtFlags::SYMLINK_NOFOLLOW) {
            Err(Errno::NOENT) => return Ok(()),
            Err(errno) => return Err(text(failed("fstatat", name)(errno))),
            Ok(stat) => self.all_own(host.as_fd(), name, &stat)?,
        }
        remove_tree(host.as_fd(), name.to_bytes()).map_err(text)
    }

    fn all_own(&self, at: BorrowedFd<'_>, name: &CStr, stat: &Stat) -> Result<(), String> {
        self.may_replace(stat)?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::Directory {
            return Ok(());
        }
        let text = |e: CallError| e.to_string();
        let dir = open_dir(at, name).map_err(text)?;
        for below in changes::names(&dir).map_err(text)? {
            let stat = stat_at(dir.as_fd(), &below).map_err(text)?;
            self.all_own(dir.as_fd(), &below, &stat)
                .map_err(|e| format!("`{}` in it: {e}", escape_bytes(below.to_bytes())))?;
        }
        Ok(())
    }

    /// Whether something is mounted there, or below.
    fn is_point(&self, name: &CStr) -> bool {
        let mut path = self.path.clone();
        path.push(b'/');
        path.extend_from_slice(name.to_bytes());
        self.points.contains(&path)
    }

    /// Whether a new directory holds nothing but places to mount on.
    fn only_points(&mut self, dir: &OwnedFd, name: &CStr) -> Result<bool, CallError> {
        let length = self.path.len();
        self.path.push(b'/');
        self.path.extend_from_slice(name.to_bytes());
        let mut only = true;
        for name in changes::names(dir)? {
            let stat = stat_at(dir.as_fd(), &name)?;
            only &= self.is_point(&name)
                && match FileType::from_raw_mode(stat.st_mode) {
                    FileType::Directory => {
                        self.only_points(&open_dir(dir.as_fd(), &name)?, &name)?
                    }
                    _ => stat.st_size == 0,
                };
        }
        self.path.truncate(length);
        Ok(only)
    }

    fn may_replace(&self, old: &Stat) -> Result<(), String> {
        if old.st_uid != self.own {
            return Err(format!("on this machine it belongs to uid {}", old.st_uid));
        }
        match old.st_dev == self.device {
            true => Ok(()),
            false => Err("another file system is mounted there".into()),
        }
    }

    fn note(&mut self, name: &CStr, result: Result<(), String>) {
        match result {
            Ok(()) => self.report.done += 1,
            Err(error) => self.fail(name, &error),
        }
    }

    fn fail(&mut self, name: &CStr, error: &str) {
        let path = self.told(name);
        self.report.failures.push(format!("`{path}`: {error}"));
    }

    /// The path of a name in the directory that the walk is in.
    fn told(&self, name: &CStr) -> String {
        let slash = if name.is_empty() { "" } else { "/" };
        escape_bytes(&self.path) + slash + &escape_bytes(name.to_bytes())
    }
}

/// Set-user-id and set-group-id.
const SET_IDS: u32 = 0o6000;

/// Copies what is in a file, and leaves its holes, which can be larger than any disk.
fn data(from: &mut File, to: &mut File, size: u64) -> std::io::Result<()> {
    let mut offset = 0;
    while let Some((start, end)) = next_data(from.as_fd(), offset)? {
        from.seek(SeekFrom::Start(start))?;
        to.seek(SeekFrom::Start(start))?;
        std::io::copy(&mut from.take(end - start), to)?;
        offset = end;
    }
    to.set_len(size)
}

/// Opens a file or directory of the container's own for reading, if need be by giving the owner the
/// right to, which [`restore`] takes back.
fn open_own(at: BorrowedFd<'_>, name: &CStr, stat: &Stat) -> Result<OwnedFd, CallError> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let open = || rustix::fs::openat(at, name, flags, Mode::empty());
    let opened = match open() {
        Err(Errno::ACCESS) => {
            // What is here was no link when it was looked at, and nobody else can reach this place.
            let mode = Mode::from_raw_mode(stat.st_mode & 0o7777) | Mode::RWXU;
            rustix::fs::chmodat(at, name, mode, AtFlags::empty())
                .map_err(failed("fchmodat", name))?;
            open()
        }
        other => other,
    };
    opened.map_err(failed("openat", name))
}

fn restore(fd: &OwnedFd, stat: &Stat) {
    let mode = stat.st_mode & 0o7777;
    if rustix::fs::fstat(fd).is_ok_and(|s| s.st_mode & 0o7777 != mode) {
        let _ = rustix::fs::fchmod(fd, Mode::from_raw_mode(mode));
    }
}

/// Mode, extended attributes and times, in the order in which none undoes another.
fn settle(from: &OwnedFd, to: &OwnedFd, stat: &Stat) -> Result<(), CallError> {
    let mode = Mode::from_raw_mode(stat.st_mode & 0o7777);
    rustix::fs::fchmod(to, mode).map_err(failed("fchmod", c"."))?;
    let wanted = attributes(from)?;
    for name in attributes(to)? {
        if !wanted.contains(&name) {
            rustix::fs::fremovexattr(to, &*name).map_err(failed("fremovexattr", &name))?;
        }
    }
    let mut value = vec![0; 65536];
    for name in wanted {
        let length = rustix::fs::fgetxattr(from, &*name, &mut value[..])
            .map_err(failed("fgetxattr", &name))?;
        rustix::fs::fsetxattr(to, &*name, &value[..length], XattrFlags::empty())
            .map_err(failed("fsetxattr", &name))?;
    }
    rustix::fs::futimens(to, &times(stat)).map_err(failed("futimens", c"."))
}

/// The extended attributes that a user may set; none where the file system has none.
fn attributes(fd: &OwnedFd) -> Result<BTreeSet<CString>, CallError> {
    let mut names = vec![0; 65536];
    let length = match rustix::fs::flistxattr(fd, &mut names[..]) {
        Err(Errno::OPNOTSUPP) => 0,
        other => other.map_err(failed("flistxattr", c"."))?,
    };
    let names = names[..length].split(|b| *b == 0);
    Ok(names
        .filter(|name| is_portable(name) && !name.starts_with(b"security."))
        .filter_map(|name| CString::new(name).ok())
        .collect())
}
