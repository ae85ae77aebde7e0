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

    /// The directory itself.
    pub fn into_fd(self) -> OwnedFd {
        self.0
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
            Err(Errno::NOENT) => self.make(path, FileType::Directory, LINKS),
            other => other,
        }
    }

    /// A file `path` to bind something on; an empty one, with its parents, is made where missing.
    pub fn file(&self, path: &str) -> Result<OwnedFd> {
        match self.resolve(path) {
            Err(Errno::NOENT) => self.make(path, FileType::RegularFile, LINKS),
            other => other,
        }
    }

    /// Makes what is missing. Where a symbolic link leads nowhere (`/etc/resolv.conf` of many images),
    /// the place that it names inside the root is made, through at most `links` of them.
    fn make(&self, path: &str, kind: FileType, links: u8) -> Result<OwnedFd> {
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
                Err(Errno::NOENT) => {
                    let last = i + 1 == names.len();
                    match make_one(&here, name, last && kind == FileType::RegularFile) {
                        Err(Errno::EXIST) if links > 0 => {
                            let rest = names[i + 1..].join("/");
                            let target = self.target(&here, name, &done)?;
                            return self.make(&format!("{target}/{rest}"), kind, links - 1);
                        }
                        made => made?,
                    }
                    self.resolve(&done)?
                }
                other => other?,
            };
        }
        Ok(here)
    }

    /// The place that the link `name` in `dir`, which stands at `path`, names: by its words alone, and
    /// never above the root.
    fn target(&self, dir: &OwnedFd, name: &str, path: &str) -> Result<String> {
        let link = rustix::fs::readlinkat(dir, name, Vec::new())?;
        let link = link.to_str().map_err(|_| Errno::INVAL)?;
        let start = if link.starts_with('/') {
            ""
        } else {
            path.rsplit_once('/').map_or("", |p| p.0)
        };
        let mut out: Vec<&str> = Vec::new();
        for part in start.split('/').chain(link.split('/')) {
            match part {
                "" | "." => {}
                ".." => drop(out.pop()),
                part => out.push(part),
            }
        }
        Ok(format!("/{}", out.join("/")))
    }
}

/// An empty file, or a directory.
fn make_one(dir: &OwnedFd, name: &str, file: bool) -> Result<()> {
    if !file {
        return rustix::fs::mkdirat(dir, name, Mode::from(0o755));
    }
    let flags = OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::openat(dir, name, flags, Mode::from(0o644)).map(drop)
}

/// Dangling links followed for one path.
const LINKS: u8 = 8;

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
