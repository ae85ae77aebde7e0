//! Making the files, links and nodes of an archive, each relative to an open parent.

use std::io::BufRead;
use std::os::fd::{AsFd as _, OwnedFd};

use rustix::fs::{AtFlags, FileType, Mode, OFlags, XattrFlags};
use rustix::io::Errno;

use super::dirs::{call, open_dir, set_opaque, stat};
use super::name::{self, Name};
use super::stream::{Entry, Kind, TarStream};
use super::{Reason, Unpacker};
use crate::model::text::escape_bytes;
use crate::sys::fs::{CallError, is_layer_whiteout, make_stand_in, make_whiteout};

/// Runs of zeros are looked for in pieces of this many bytes, aligned in the file.
const HOLE: u64 = 64 << 10;
/// The device number of a node that cannot be made: `c:MAJOR:MINOR` or `b:MAJOR:MINOR`.
const RDEV_XATTR: &str = "user.rl.rdev";

impl Unpacker<'_> {
    /// An entry with an ordinary name.
    pub(super) fn plain(
        &mut self,
        entry: &Entry,
        parent: &OwnedFd,
        name: &[u8],
        dir: &[u8],
        stream: &mut TarStream<impl BufRead>,
    ) -> Result<(), Reason> {
        if matches!(entry.kind, Kind::Symlink | Kind::HardLink) {
            if entry.link.is_empty() {
                return Err(Reason::NoTarget);
            }
            if entry.link.contains(&0) {
                return Err(Reason::Nul);
            }
        }
        match &entry.kind {
            Kind::Directory => self.directory(entry, parent, name, dir),
            Kind::File => self.file(entry, parent, name, stream),
            Kind::Symlink => {
                let link = &entry.link[..];
                self.replacing(parent, name, "symlinkat", entry, || {
                    rustix::fs::symlinkat(link, parent, name)
                })?;
                self.set_node(parent, name, entry)
            }
            Kind::HardLink => self.hard_link(entry, parent, name),
            Kind::Fifo => {
                self.replacing(parent, name, "mknodat", entry, || {
                    rustix::fs::mknodat(parent, name, FileType::Fifo, Mode::RUSR, 0)
                })?;
                self.set_node(parent, name, entry)
            }
            Kind::Device(letter, major, minor) => {
                let file = self.create(entry, parent, name)?;
                self.set_file(&file, entry)?;
                let value = format!("{letter}:{major}:{minor}");
                let set =
                    rustix::fs::fsetxattr(&file, RDEV_XATTR, value.as_bytes(), XattrFlags::empty());
                self.note(match set {
                    Ok(()) => "device nodes are kept as empty files".to_owned(),
                    Err(_) => "device nodes are kept as empty files without number".to_owned(),
                });
                Ok(())
            }
        }
    }

    /// The root's own attributes.
    pub(super) fn root_entry(&mut self, entry: &Entry) -> Result<(), Reason> {
        if entry.kind != Kind::Directory {
            return Err(Reason::RootNotDir);
        }
        if self.literal {
            return Ok(());
        }
        self.root_listed = true;
        let root = self.dirs.get(b"")?;
        self.set_owner(&root, b".", entry)?;
        self.remember_owner(&root, entry);
        self.dir_later(Vec::new(), entry)
    }

    /// `.wh..wh..opq`.
    pub(super) fn opaque(&mut self, dir: &[u8]) -> Result<(), Reason> {
        if dir.is_empty() {
            self.report.opaque_root = true;
            return Ok(());
        }
        let fd = self.dirs.get(dir)?;
        set_opaque(&fd)
    }

    /// `.wh.NAME`. It hides what lies below, not what this layer brings: a directory that is there
    /// already becomes opaque, anything else hides what is below by itself.
    pub(super) fn whiteout(&mut self, dir: &[u8], name: &[u8]) -> Result<(), Reason> {
        let parent = self.dirs.get(dir)?;
        let made = match make_whiteout(parent.as_fd(), name) {
            Err(Errno::PERM) => {
                let made = make_stand_in(parent.as_fd(), name);
                self.report.stand_ins |= made.is_ok();
                made
            }
            made => made,
        };
        match made {
            Ok(()) => Ok(()),
            Err(Errno::EXIST) => {
                let kind = FileType::from_raw_mode(stat(&parent, name)?.st_mode);
                if kind == FileType::Directory {
                    set_opaque(&open_dir(&parent, name)?)
                } else {
                    Ok(())
                }
            }
            Err(errno) => Err(call("mknodat", name)(errno)),
        }
    }

    fn directory(
        &mut self,
        entry: &Entry,
        parent: &OwnedFd,
        name: &[u8],
        dir: &[u8],
    ) -> Result<(), Reason> {
        self.dirs
            .entry_dir(parent, name)
            .map_err(|r| self.space(r, entry.size))?;
        self.set_owner(parent, name, entry)?;
        if *self.owners == super::Owners::Remembered && (entry.uid, entry.gid) != (0, 0) {
            let fd = open_dir(parent, name)?;
            self.remember_owner(&fd, entry);
        }
        let mut path = dir.to_vec();
        if !path.is_empty() {
            path.push(b'/');
        }
        path.extend_from_slice(name);
        self.dir_later(path, entry)
    }

    /// A hard link to something of this layer. Its data and attributes are those of its target.
    fn hard_link(&mut self, entry: &Entry, parent: &OwnedFd, name: &[u8]) -> Result<(), Reason> {
        let shown = || escape_bytes(&entry.link);
        let (target_dir, target) = match name::split(&entry.link, self.literal)? {
            Name::Plain { dir, name } => (dir, name),
            Name::Root => return Err(Reason::LinkToDir(shown())),
            _ => return Err(Reason::LinkTarget(shown())),
        };
        let flags = OFlags::RDONLY | OFlags::DIRECTORY;
        let from = self
            .dirs
            .root
            .open_in_root(&target_dir, flags, Mode::empty())
            .map_err(|_| Reason::LinkTarget(shown()))?;
        let there = stat(&from, &target).map_err(|_| Reason::LinkTarget(shown()))?;
        // A second whiteout must not come about by a link to one.
        if is_layer_whiteout(&there) {
            return Err(Reason::LinkTarget(shown()));
        }
        if FileType::from_raw_mode(there.st_mode) == FileType::Directory {
            return Err(Reason::LinkToDir(shown()));
        }
        if let Ok(old) = stat(parent, name)
            && (old.st_dev, old.st_ino) == (there.st_dev, there.st_ino)
        {
            return Ok(());
        }
        self.replacing(parent, name, "linkat", entry, || {
            rustix::fs::linkat(&from, &target[..], parent, name, AtFlags::empty())
        })
    }

    fn create(&mut self, entry: &Entry, parent: &OwnedFd, name: &[u8]) -> Result<OwnedFd, Reason> {
        let flags =
            OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        self.replacing(parent, name, "openat", entry, || {
            rustix::fs::openat(parent, name, flags, Mode::RUSR | Mode::WUSR)
        })
    }

    fn file(
        &mut self,
        entry: &Entry,
        parent: &OwnedFd,
        name: &[u8],
        stream: &mut TarStream<impl BufRead>,
    ) -> Result<(), Reason> {
        let file = self.create(entry, parent, name)?;
        let mut end = 0;
        match &entry.sparse {
            None => end = self.copy(&file, entry, 0, entry.size, stream)?,
            Some(map) => {
                for &(offset, length) in map {
                    end = end.max(self.copy(&file, entry, offset, length, stream)?);
                }
            }
        }
        if end < entry.size {
            rustix::fs::ftruncate(&file, entry.size).map_err(call("ftruncate", name))?;
        }
        self.report.bytes += entry.size;
        self.set_file(&file, entry)
    }

    /// Copies `length` bytes to `offset`, leaving out long runs of zeros; returns the end of what was
    /// written.
    fn copy(
        &self,
        file: &OwnedFd,
        entry: &Entry,
        mut offset: u64,
        length: u64,
        stream: &mut TarStream<impl BufRead>,
    ) -> Result<u64, Reason> {
        let stop = offset + length;
        let mut written = 0;
        while offset < stop {
            let piece = stream.data(stop - offset)?;
            if piece.is_empty() {
                return Err(Reason::Truncated);
            }
            for (start, end) in runs(piece, offset, length) {
                let mut at = start;
                while at < end {
                    match rustix::io::pwrite(file, &piece[at..end], offset + at as u64) {
                        Ok(n) => at += n,
                        Err(Errno::INTR) => {}
                        Err(errno) => {
                            let missing = stop - offset - at as u64;
                            return Err(self.space(call("pwrite", &entry.path)(errno), missing));
                        }
                    }
                }
                written = offset + end as u64;
            }
            let n = piece.len();
            offset += n as u64;
            stream.consume(n);
        }
        Ok(written)
    }

    /// Runs `make`; when the name is taken, removes what has it and runs it again.
    fn replacing<T>(
        &mut self,
        parent: &OwnedFd,
        name: &[u8],
        what: &str,
        entry: &Entry,
        make: impl Fn() -> rustix::io::Result<T>,
    ) -> Result<T, Reason> {
        let made = match make() {
            Err(Errno::EXIST) => {
                self.dirs.remove(parent, name)?;
                make()
            }
            other => other,
        };
        made.map_err(|errno| self.space(call(what, name)(errno), entry.size))
    }

    /// Tells how much is missing when the disk or the quota is full.
    fn space(&self, reason: Reason, missing: u64) -> Reason {
        match reason {
            Reason::Call(CallError {
                call,
                errno: Errno::NOSPC | Errno::DQUOT,
            }) => {
                let free = rustix::fs::fstatvfs(&self.dirs.root)
                    .map_or(0, |s| s.f_bavail.saturating_mul(s.f_frsize));
                Reason::NoSpace {
                    call,
                    missing,
                    free,
                }
            }
            reason => reason,
        }
    }
}

/// The stretches of `piece` (which lies at `offset`) to write: everything but aligned blocks of
/// zeros. Small files are written whole.
fn runs(piece: &[u8], offset: u64, length: u64) -> Vec<(usize, usize)> {
    if length < HOLE {
        return vec![(0, piece.len())];
    }
    let mut runs: Vec<(usize, usize)> = Vec::with_capacity(4);
    let mut at = 0;
    while at < piece.len() {
        let to_boundary = HOLE - (offset + at as u64) % HOLE;
        let end = piece
            .len()
            .min(at + usize::try_from(to_boundary).unwrap_or(usize::MAX));
        if piece[at..end].iter().any(|&b| b != 0) {
            match runs.last_mut() {
                Some(last) if last.1 == at => last.1 = end,
                _ => runs.push((at, end)),
            }
        }
        at = end;
    }
    runs
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zeros_become_holes() {
        let hole = usize::try_from(HOLE).unwrap();
        let mut piece = vec![0u8; 4 * hole];
        assert!(runs(&piece, 0, 4 * HOLE).is_empty());
        piece[hole] = 1;
        assert_eq!(runs(&piece, 0, 4 * HOLE), [(hole, 2 * hole)]);
        assert_eq!(runs(&piece, 10, 4 * HOLE), [(hole - 10, 2 * hole - 10)]);
        assert_eq!(runs(&[0; 10], 0, 10), [(0, 10)]);
    }
}
