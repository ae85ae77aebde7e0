//! What a container changed: its upper directories beside what lies below them. `rl diff` lists it,
//! [`super::apply`] carries it over.
//!
//! The upper directory of an overlay holds new and changed files whole, a character device 0:0 for
//! what was removed, and directories marked opaque that hide those below. fuse-overlayfs writes the
//! same, or `.wh.NAME` and `.wh..wh..opq` where it cannot (Documentation/filesystems/overlayfs.rst;
//! image-spec, layer.md). Nothing is looked up by more than one component, and no link is followed.

use std::collections::BTreeSet;
use std::ffi::{CString, OsStr};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, Stat};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use super::{Context, Error, containers, image_for, lifecycle, rungs, views};
use crate::model::spec::RootfsSource;
use crate::model::text::escape_bytes;
use crate::state::Container;
use crate::sys::fs::{CallError, is_opaque, is_whiteout};
use crate::{oci, userns};

/// What became of a path, by Docker's letters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Kind {
    /// It was not there before.
    Added,
    /// It is another one, or something below it changed.
    Changed,
    /// It is gone.
    Deleted,
}

impl Kind {
    /// `A`, `C` or `D`.
    pub fn letter(self) -> char {
        match self {
            Kind::Added => 'A',
            Kind::Changed => 'C',
            Kind::Deleted => 'D',
        }
    }
}

/// One changed path.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Change {
    /// Inside, absolute.
    pub path: Vec<u8>,
    /// What became of it.
    pub kind: Kind,
}

/// An upper directory and what it lies over.
#[derive(Clone, Debug)]
pub struct Tree {
    /// Where it is seen inside.
    pub target: String,
    /// The upper directory.
    pub upper: PathBuf,
    /// What is below, the topmost first.
    pub lower: Vec<PathBuf>,
    /// The lower directory is the host's own, which the changes can be carried over to.
    pub view: bool,
}

/// The container of this name or id prefix with its changes, sorted by path.
///
/// # Errors
/// No such container; its root is a directory or a copy; its files cannot be read.
pub fn diff(context: &Context<'_>, word: &str) -> Result<Vec<Change>, Error> {
    let container = lifecycle::find(context, word)?;
    let trees = trees(&container)?;
    // Files of other ids can be closed to the caller; root of the container's id maps sees them all.
    match list(&container, &trees) {
        Err(error) if error.is_denied() => {}
        other => return Ok(other?),
    }
    let plan = containers::plan_for(context, &container.spec)?;
    image_for::found_inside(context, &plan, || Ok(list(&container, &trees)?))
}

/// What a container writes to, and over what it lies.
///
/// # Errors
/// [`Error::NoDiff`].
pub fn trees(container: &Container) -> Result<Vec<Tree>, Error> {
    let spec = &container.spec;
    let dir = container.dir();
    let none = |why| Error::NoDiff {
        name: spec.name.clone(),
        why,
    };
    let mut trees = Vec::new();
    match &spec.rootfs {
        RootfsSource::Host => {}
        RootfsSource::Directory(_) => {
            return Err(none("what it changes is changed in its directory itself"));
        }
        RootfsSource::Layers { .. } if rungs::is_copy(dir) => {
            return Err(none(
                "its root is a copy of the layers, which does not know what is new",
            ));
        }
        RootfsSource::Layers { base, names } => trees.push(Tree {
            target: "/".into(),
            upper: dir.join("upper"),
            lower: names.iter().map(|name| base.join(name)).collect(),
            view: false,
        }),
    }
    for (target, host, name) in spec.views() {
        trees.push(Tree {
            target: target.to_owned(),
            upper: views::directory(dir).join(name).join("upper"),
            lower: vec![host.to_owned()],
            view: true,
        });
    }
    Ok(trees)
}

/// The changes of all trees, as this process sees them.
///
/// # Errors
/// The failing call.
pub fn list(container: &Container, trees: &[Tree]) -> Result<Vec<Change>, CallError> {
    let points = points(container);
    let mut out = Vec::new();
    for tree in trees {
        let lowers = tree.lower.iter().map(|path| open_path(path));
        let mut walk = Walk {
            out: Vec::new(),
            path: tree.target.trim_end_matches('/').as_bytes().to_vec(),
            depth: 0,
            marks: !tree.view,
            points: &points,
        };
        let upper = open_path(&tree.upper)?;
        let lowers: Vec<OwnedFd> = lowers.collect::<Result<_, _>>()?;
        let before = stat_fd(&upper)?;
        let host = lowers.first().map(stat_fd).transpose()?;
        walk.directory(&upper, &lowers, false)?;
        // The root of an image's file system always differs from its layers'; a view's does not.
        let mode = |s: &Stat| s.st_mode & 0o7777;
        let changed = tree.view && host.is_some_and(|h| mode(&h) != mode(&before));
        if tree.view && (changed || !walk.out.is_empty()) {
            walk.out.push(Change {
                path: walk.path.clone(),
                kind: Kind::Changed,
            });
        }
        out.append(&mut walk.out);
    }
    out.sort();
    Ok(out)
}

/// Where something is mounted, and the directories above.
pub(super) fn points(container: &Container) -> BTreeSet<Vec<u8>> {
    let spec = &container.spec;
    let own = [
        ("hosts", spec.no_hosts),
        ("hostname", spec.no_hostname),
        ("resolv.conf", false),
    ];
    let own = own.into_iter().filter(|(_, unwanted)| !unwanted);
    let own = own.map(|(name, _)| format!("/etc/{name}"));
    let kernel = ["/proc", "/sys", "/dev"].map(str::to_owned);
    let alone = userns::is_root_alone(&container.spec.uid_map).then(|| oci::APT_CONF.to_owned());
    let asked = container.spec.mounts.iter().map(|m| m.target.clone());
    let all = asked.chain(own).chain(kernel).chain(alone);
    all.flat_map(|path| {
        let above = Path::new(&path).ancestors();
        let above = above.map(|p| p.as_os_str().as_bytes().to_vec());
        above.collect::<Vec<_>>()
    })
    .collect()
}

struct Walk<'a> {
    out: Vec<Change>,
    /// Inside, of the directory that the walk is in.
    path: Vec<u8>,
    /// Directories that it has gone down.
    depth: usize,
    /// Names that begin with `.wh.` are marks of fuse-overlayfs.
    marks: bool,
    /// Where something is mounted: made for that, and no change.
    points: &'a BTreeSet<Vec<u8>>,
}

/// What the layers below have under a name.
enum Below {
    Nothing,
    File,
    /// The directories that are merged, and the status of the topmost.
    Directories(Vec<OwnedFd>, Box<Stat>),
}

impl Walk<'_> {
    /// With `hides`, an opaque directory lies above: nothing of the lower ones shows.
    fn directory(
        &mut self,
        upper: &OwnedFd,
        lowers: &[OwnedFd],
        hides: bool,
    ) -> Result<(), CallError> {
        let names = names(upper)?;
        let opaque = hides || is_opaque(upper.as_fd()) || (self.marks && names.contains(OPAQUE));
        if opaque {
            let mut gone = BTreeSet::new();
            for lower in lowers {
                gone.extend(self::names(lower)?);
            }
            for name in gone.difference(&names) {
                if !matches!(below(lowers, name)?, Below::Nothing) {
                    self.push(name, Kind::Deleted);
                }
            }
        }
        for name in &names {
            let stat = stat_at(upper.as_fd(), name)?;
            let removed = match name.to_bytes().strip_prefix(b".wh.") {
                Some(b".wh..opq") if self.marks => continue,
                Some(hidden) if self.marks => CString::new(hidden).ok(),
                _ => is_whiteout(&stat).then(|| name.clone()),
            };
            if let Some(removed) = removed {
                if !matches!(below(lowers, &removed)?, Below::Nothing) {
                    self.push(&removed, Kind::Deleted);
                }
                continue;
            }
            self.entry(upper, lowers, name, &stat, opaque)?;
        }
        Ok(())
    }

    fn entry(
        &mut self,
        upper: &OwnedFd,
        lowers: &[OwnedFd],
        name: &CString,
        stat: &Stat,
        opaque: bool,
    ) -> Result<(), CallError> {
        let before = below(lowers, name)?;
        let kind = match before {
            Below::Nothing => Kind::Added,
            _ => Kind::Changed,
        };
        if FileType::from_raw_mode(stat.st_mode) != FileType::Directory {
            self.push(name, kind);
            return Ok(());
        }
        let dir = open_dir(upper.as_fd(), name)?;
        if self.depth >= DEEPEST {
            let begin = escape_bytes(&self.path[..self.path.len().min(SHOWN)]);
            return Err(CallError {
                call: format!("`{begin}...`: more than {DEEPEST} directories in one another"),
                errno: Errno::NAMETOOLONG,
            });
        }
        let (at, length) = (self.out.len(), self.path.len());
        self.path.push(b'/');
        self.path.extend_from_slice(name.to_bytes());
        let point = self.points.contains(&self.path);
        let (merged, same) = match before {
            // What was made in it for a mount has changed its time.
            Below::Directories(dirs, old) => (dirs, same(&old, stat, !(point && self.marks))),
            _ => (Vec::new(), false),
        };
        self.depth += 1;
        let walked = self.directory(&dir, &merged, opaque);
        self.depth -= 1;
        self.path.truncate(length);
        walked?;
        if self.out.len() > at || !(same || point && kind == Kind::Added) {
            self.push(name, kind);
        }
        Ok(())
    }

    fn push(&mut self, name: &CString, kind: Kind) {
        let mut path = self.path.clone();
        path.push(b'/');
        path.extend_from_slice(name.to_bytes());
        if kind != Kind::Added || !self.points.contains(&path) {
            self.out.push(Change { path, kind });
        }
    }
}

/// As many directories in one another are walked through: no path that a system call takes has more (linux/limits.h,
/// `PATH_MAX`), and each costs stack and descriptors.
const DEEPEST: usize = 2048;

/// Bytes of a path that tell which it is.
const SHOWN: usize = 60;

const OPAQUE: &std::ffi::CStr = c".wh..wh..opq";

fn below(lowers: &[OwnedFd], name: &CString) -> Result<Below, CallError> {
    let mut dirs = Vec::new();
    let mut top = None;
    for lower in lowers {
        let stat = match rustix::fs::statat(lower, &**name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => stat,
            Err(Errno::NOENT) => continue,
            Err(errno) => return Err(failed("fstatat", name)(errno)),
        };
        let directory = FileType::from_raw_mode(stat.st_mode) == FileType::Directory;
        if is_whiteout(&stat) {
            break;
        }
        if !directory {
            if top.is_none() {
                return Ok(Below::File);
            }
            break;
        }
        top.get_or_insert(stat);
        let dir = open_dir(lower.as_fd(), name)?;
        let last = is_opaque(dir.as_fd());
        dirs.push(dir);
        if last {
            break;
        }
    }
    Ok(match top {
        Some(stat) => Below::Directories(dirs, Box::new(stat)),
        None => Below::Nothing,
    })
}

/// Whether a directory is as it was, by what the overlay keeps of it when it copies it up, its time with `timely`.
fn same(old: &Stat, new: &Stat, timely: bool) -> bool {
    let of = |s: &Stat| {
        let time = timely.then_some((s.st_mtime, s.st_mtime_nsec));
        (s.st_mode, s.st_uid, s.st_gid, time)
    };
    of(old) == of(new)
}

pub(super) fn failed(call: &'static str, name: &std::ffi::CStr) -> impl FnOnce(Errno) -> CallError {
    let name = OsStr::from_bytes(name.to_bytes()).to_owned();
    CallError::of(move || format!("{call}(dir, `{}`)", name.display()))
}

pub(super) fn open_path(path: &Path) -> Result<OwnedFd, CallError> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    rustix::fs::openat(CWD, path, flags, Mode::empty())
        .map_err(CallError::of(|| format!("open(`{}`)", path.display())))
}

pub(super) fn open_dir(at: BorrowedFd<'_>, name: &std::ffi::CStr) -> Result<OwnedFd, CallError> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::openat(at, name, flags, Mode::empty()).map_err(failed("openat", name))
}

pub(super) fn stat_at(at: BorrowedFd<'_>, name: &std::ffi::CStr) -> Result<Stat, CallError> {
    rustix::fs::statat(at, name, AtFlags::SYMLINK_NOFOLLOW).map_err(failed("fstatat", name))
}

pub(super) fn stat_fd(fd: &OwnedFd) -> Result<Stat, CallError> {
    rustix::fs::fstat(fd).map_err(failed("fstat", c"."))
}

/// What is in a directory, in order.
pub(super) fn names(dir: &OwnedFd) -> Result<BTreeSet<CString>, CallError> {
    let entries = rustix::fs::Dir::read_from(dir).map_err(failed("getdents", c"."))?;
    let mut out = BTreeSet::new();
    for entry in entries {
        let entry = entry.map_err(failed("getdents", c"."))?;
        let name = entry.file_name();
        if !matches!(name.to_bytes(), b"." | b"..") {
            out.insert(name.to_owned());
        }
    }
    Ok(out)
}
