//! Paths inside a root file system that the image controls. Every look-up is one openat2(2) that
//! cannot leave the root, or the same walk by hand where there is no openat2: symbolic links are
//! followed inside it, magic links never.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{FileType, Mode, OFlags};
use rustix::io::{Errno, Result};

use crate::sys::fs::open_beneath;
use crate::sys::sabotage::dropped;

/// A directory taken as `/`.
#[derive(Debug)]
pub(super) struct Root(OwnedFd);

impl Root {
    /// Takes an open directory as the root of all look-ups.
    pub fn new(fd: OwnedFd) -> Root {
        Root(fd)
    }

    /// An O_PATH descriptor of what `path` names.
    pub fn resolve(&self, path: &str) -> Result<OwnedFd> {
        self.open(path, OFlags::PATH)
    }

    /// Opens what `path` names.
    pub fn open(&self, path: &str, flags: OFlags) -> Result<OwnedFd> {
        look_up(self.0.as_fd(), path, flags, true)
    }

    /// The directory `path`, made with its parents (0755) where missing.
    pub fn directory(&self, path: &str) -> Result<OwnedFd> {
        match self.resolve(path) {
            Err(Errno::NOENT) => self.make(path, FileType::Directory),
            other => other,
        }
    }

    /// A file `path` to bind something on; an empty one, with its parents, is made where missing.
    pub fn file(&self, path: &str) -> Result<OwnedFd> {
        match self.resolve(path) {
            Err(Errno::NOENT) => self.make(path, FileType::RegularFile),
            other => other,
        }
    }

    fn make(&self, path: &str, kind: FileType) -> Result<OwnedFd> {
        let names: Vec<&str> = path
            .split('/')
            .filter(|n| !n.is_empty() && *n != ".")
            .collect();
        if names.contains(&"..") {
            return Err(Errno::NOENT);
        }
        let mut done = String::new();
        let mut here = self.resolve("/")?;
        for (i, name) in names.iter().enumerate() {
            done.push('/');
            done.push_str(name);
            here = match self.resolve(&done) {
                Err(Errno::NOENT) if i + 1 == names.len() && kind == FileType::RegularFile => {
                    let flags = OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                    drop(rustix::fs::openat(&here, *name, flags, Mode::from(0o644))?);
                    self.resolve(&done)?
                }
                Err(Errno::NOENT) => {
                    // A dangling symbolic link answers EEXIST here: it is the image's fault and an
                    // error, never followed by hand.
                    rustix::fs::mkdirat(&here, *name, Mode::from(0o755))?;
                    self.resolve(&done)?
                }
                other => other?,
            };
        }
        Ok(here)
    }
}

impl AsFd for Root {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// Opens `path` below a mount of the kernel's own (procfs, sysfs): no links at all.
pub(super) fn open_kernel(mount: BorrowedFd<'_>, path: &str, flags: OFlags) -> Result<OwnedFd> {
    look_up(mount, path, flags, false)
}

fn look_up(root: BorrowedFd<'_>, path: &str, flags: OFlags, links: bool) -> Result<OwnedFd> {
    let path = path.trim_start_matches('/');
    if dropped("links") {
        let path = if path.is_empty() { "." } else { path };
        return rustix::fs::openat(root, path, flags | OFlags::CLOEXEC, Mode::empty());
    }
    open_beneath(root, path.as_bytes(), flags, links)
}
