//! Open descriptors of the directories being filled.
//!
//! A directory is looked up from the root by its whole name (links on the way stay inside), and kept:
//! archives come directory by directory. What a name leads to changes only when a directory or link
//! is removed; then everything kept is forgotten. At most [`GENERATION`] times two descriptors are
//! held, in two generations: what is used moves to the young one, and when that is full the old one
//! is dropped. Several layers are unpacked at once, and a process may have 1,024 descriptors.

use std::collections::HashMap;
use std::os::fd::{AsFd, OwnedFd};
use std::rc::Rc;

use rustix::fs::{AtFlags, FileType, Mode, OFlags, XattrFlags};
use rustix::io::Errno;

use super::Reason;
use crate::model::text::escape_bytes;
use crate::sys::fs::{CallError, Root, is_layer_whiteout, lchown, remove_tree};

const GENERATION: usize = 64;

/// Mode of a directory that the archive uses but does not list.
const IMPLIED_MODE: u32 = 0o755;

pub(super) struct Dirs {
    pub root: Root,
    /// Owner of directories that the archive uses but does not list, where that is not ourselves.
    pub implied_owner: Option<(u32, u32)>,
    young: HashMap<Vec<u8>, Rc<OwnedFd>>,
    old: HashMap<Vec<u8>, Rc<OwnedFd>>,
}

impl Dirs {
    pub(super) fn new(root: Root, implied_owner: Option<(u32, u32)>) -> Self {
        Dirs {
            root,
            implied_owner,
            young: HashMap::new(),
            old: HashMap::new(),
        }
    }

    /// The directory `path`, made with its parents if it is missing.
    pub(super) fn get(&mut self, path: &[u8]) -> Result<Rc<OwnedFd>, Reason> {
        if let Some(fd) = self.young.get(path) {
            return Ok(Rc::clone(fd));
        }
        let fd = match self.old.remove(path) {
            Some(fd) => fd,
            None => Rc::new(self.open_or_make(path)?),
        };
        if self.young.len() >= GENERATION {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(path.to_vec(), Rc::clone(&fd));
        Ok(fd)
    }

    /// To be called when a directory or link was removed: names may lead elsewhere now.
    pub(super) fn forget(&mut self) {
        self.young.clear();
        self.old.clear();
    }

    /// Opens a directory, making what is missing of its name. The longest part that exists is found
    /// by halving: a name of thousands of components must not cost as many look-ups of its length.
    fn open_or_make(&mut self, path: &[u8]) -> Result<OwnedFd, Reason> {
        // Not a directory: perhaps a whiteout, which a directory may follow.
        let absent = |e: &CallError| matches!(e.errno, Errno::NOENT | Errno::NOTDIR);
        match self.open(path) {
            Err(e) if absent(&e) => {}
            other => return other.map_err(Reason::from),
        }
        let names: Vec<&[u8]> = path.split(|&b| b == b'/').collect();
        let mut missing = names.len();
        let mut here = self.open(b"")?;
        let mut there = 0;
        while there + 1 < missing {
            let middle = there.midpoint(missing);
            match self.open(&names[..middle].join(&b'/')) {
                Ok(fd) => (here, there) = (fd, middle),
                Err(e) if absent(&e) => missing = middle,
                Err(e) => return Err(e.into()),
            }
        }
        for (i, name) in names.iter().enumerate().skip(there) {
            if !self.make(&here, name, IMPLIED_MODE)? {
                return Err(Reason::NotDir(escape_bytes(&names[..=i].join(&b'/'))));
            }
            here = open_dir(&here, name)?;
        }
        Ok(here)
    }

    fn open(&self, path: &[u8]) -> Result<OwnedFd, CallError> {
        self.root
            .open_in_root(path, OFlags::RDONLY | OFlags::DIRECTORY, Mode::empty())
    }

    /// Makes a directory with exactly this mode. One that takes the place of a whiteout is opaque.
    /// `false` when there is something else of that name.
    fn make(&mut self, parent: &OwnedFd, name: &[u8], mode: u32) -> Result<bool, Reason> {
        match rustix::fs::mkdirat(parent, name, Mode::RWXU) {
            Ok(()) => {
                self.own(parent, name)?;
                // The umask and a default ACL had their say in mkdir.
                set_mode(parent, name, mode)?;
                Ok(true)
            }
            Err(Errno::EXIST) => {
                if !is_layer_whiteout(&stat(parent, name)?) {
                    return Ok(false);
                }
                self.over_whiteout(parent, name)?;
                self.own(parent, name)?;
                set_mode(parent, name, mode)?;
                Ok(true)
            }
            Err(errno) => Err(call("mkdirat", name)(errno)),
        }
    }

    /// Gives a directory that no entry owns to its implied owner.
    pub(super) fn own(&self, parent: impl AsFd, name: &[u8]) -> Result<(), Reason> {
        match self.implied_owner {
            // Outside of the user namespace it stays ours: nobody asked for another owner.
            Some((uid, gid)) => match lchown(parent.as_fd(), name, uid, gid) {
                Ok(()) | Err(Errno::PERM) => Ok(()),
                Err(errno) => Err(call("fchownat", name)(errno)),
            },
            None => Ok(()),
        }
    }

    /// Makes or finds the directory of an entry, with mode 0700 if new: its own mode comes at the end.
    pub(super) fn entry_dir(&mut self, parent: &OwnedFd, name: &[u8]) -> Result<(), Reason> {
        match rustix::fs::mkdirat(parent, name, Mode::RWXU) {
            Ok(()) => Ok(()),
            Err(Errno::EXIST) => {
                let there = stat(parent, name)?;
                if FileType::from_raw_mode(there.st_mode) == FileType::Directory {
                    Ok(())
                } else if is_layer_whiteout(&there) {
                    self.over_whiteout(parent, name)
                } else {
                    self.remove(parent, name)?;
                    rustix::fs::mkdirat(parent, name, Mode::RWXU).map_err(call("mkdirat", name))
                }
            }
            Err(errno) => Err(call("mkdirat", name)(errno)),
        }
    }

    /// A directory in the place of a whiteout hides what is below, as the whiteout did.
    fn over_whiteout(&mut self, parent: &OwnedFd, name: &[u8]) -> Result<(), Reason> {
        self.remove(parent, name)?;
        rustix::fs::mkdirat(parent, name, Mode::RWXU).map_err(call("mkdirat", name))?;
        set_opaque(&open_dir(parent, name)?)
    }

    /// Removes whatever `name` is, trees included.
    pub(super) fn remove(&mut self, parent: &OwnedFd, name: &[u8]) -> Result<(), Reason> {
        let kind = FileType::from_raw_mode(stat(parent, name)?.st_mode);
        if matches!(kind, FileType::Directory | FileType::Symlink) {
            self.forget();
        }
        remove_tree(parent.as_fd(), name).map_err(Reason::from)
    }
}

/// Marks a directory so that overlay shows nothing from below in it (overlayfs.rst, with `userxattr`).
pub(super) fn set_opaque(dir: &OwnedFd) -> Result<(), Reason> {
    const OPAQUE: &str = "user.overlay.opaque";
    rustix::fs::fsetxattr(dir, OPAQUE, b"y", XattrFlags::empty())
        .map_err(CallError::of(|| {
            format!("fsetxattr(directory, `{OPAQUE}`)")
        }))
        .map_err(Reason::from)
}

/// Opens a directory that was just made or looked at, never through a link.
pub(super) fn open_dir(parent: &OwnedFd, name: &[u8]) -> Result<OwnedFd, Reason> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::openat(parent, name, flags, Mode::empty()).map_err(call("openat", name))
}

/// fstatat(2), not following a link.
pub(super) fn stat(parent: &OwnedFd, name: &[u8]) -> Result<rustix::fs::Stat, Reason> {
    rustix::fs::statat(parent, name, AtFlags::SYMLINK_NOFOLLOW).map_err(call("fstatat", name))
}

/// fchmodat(2) of something that is known to be no link.
pub(super) fn set_mode(parent: &OwnedFd, name: &[u8], mode: u32) -> Result<(), Reason> {
    rustix::fs::chmodat(parent, name, Mode::from_raw_mode(mode), AtFlags::empty())
        .map_err(call("fchmodat", name))
}

/// For `map_err`: the call on `name` that failed.
pub(super) fn call<'a>(call: &'a str, name: &'a [u8]) -> impl Fn(Errno) -> Reason + 'a {
    move |errno| {
        Reason::Call(CallError {
            call: format!("{call}(dir, `{}`)", escape_bytes(name)),
            errno,
        })
    }
}
