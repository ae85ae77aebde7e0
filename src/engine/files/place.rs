//! Where a path leads, in a container or on this machine: a name in an open directory.

use std::ffi::CString;
use std::os::fd::OwnedFd;

use rustix::fs::{AtFlags, FileType, Mode, OFlags, Stat};
use rustix::io::Errno;

use super::super::Error;
use crate::model::text::escape_bytes;
use crate::sys::fs::{CallError, Root};

/// A name in an open directory.
pub struct Place {
    /// The directory.
    pub dir: OwnedFd,
    /// `.` for the directory itself.
    pub name: CString,
    /// What it was called, which a link that was followed may not be.
    pub called: CString,
    /// What is there, if anything.
    pub stat: Option<Stat>,
    /// As it was asked for.
    pub word: String,
}

impl Place {
    /// Whether it is a directory.
    pub fn is_directory(&self) -> bool {
        self.stat
            .is_some_and(|s| FileType::from_raw_mode(s.st_mode) == FileType::Directory)
    }

    /// Whether it is a device.
    pub fn is_device(&self) -> bool {
        let kind = self.stat.map(|s| FileType::from_raw_mode(s.st_mode));
        matches!(
            kind,
            Some(FileType::BlockDevice | FileType::CharacterDevice)
        )
    }

    /// Opens the directory that it is.
    ///
    /// # Errors
    /// It is none.
    pub fn open(&self) -> Result<OwnedFd, CallError> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        rustix::fs::openat(&self.dir, &*self.name, flags, Mode::empty())
            .map_err(CallError::of(|| format!("open(`{}`)", self.word)))
    }

    /// The error that it is not fit.
    pub fn fail(&self, errno: Errno) -> Error {
        CallError {
            call: format!("`{}`", self.word),
            errno,
        }
        .into()
    }
}

/// As [`place`], of something that must be there.
///
/// # Errors
/// It is not.
pub fn source_place(root: &Root, path: &str, follow: bool) -> Result<Place, Error> {
    let from = place(root, path, follow || path.ends_with('/'))?;
    match from.stat {
        None => Err(from.fail(Errno::NOENT)),
        Some(_) if path.ends_with('/') && !from.is_directory() => Err(from.fail(Errno::NOTDIR)),
        Some(_) => Ok(from),
    }
}

/// Where `path` leads below `root`; with `follow` through a link at its end.
///
/// # Errors
/// The directory is not there.
pub fn place(root: &Root, path: &str, follow: bool) -> Result<Place, Error> {
    // As many as path_resolution(7) allows.
    const LINKS: usize = 40;
    let word = path.to_owned();
    let mut called = None;
    let mut path = path.as_bytes().to_vec();
    for _ in 0..LINKS {
        let trimmed = trim_slashes(&path);
        let (parent, name) = match trimmed.iter().rposition(|b| *b == b'/') {
            Some(slash) => trimmed.split_at(slash + 1),
            None => (&b""[..], trimmed),
        };
        let (parent, name) = match name {
            // The directory itself.
            b"" | b"." | b".." => (trimmed, &b"."[..]),
            name => (parent, name),
        };
        let dir = root
            .open_in_root(parent, OFlags::PATH | OFlags::DIRECTORY, Mode::empty())
            .map_err(|e| CallError {
                call: format!("`{word}`"),
                ..e
            })?;
        let name = CString::new(name).map_err(|_| CallError {
            call: format!("`{}`", escape_bytes(&path)),
            errno: Errno::INVAL,
        })?;
        let called = called.get_or_insert_with(|| name.clone());
        let stat = match rustix::fs::statat(&dir, &*name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => Some(stat),
            Err(Errno::NOENT) => None,
            Err(errno) => {
                return Err(CallError {
                    call: format!("`{word}`"),
                    errno,
                }
                .into());
            }
        };
        let link = stat.is_some_and(|s| FileType::from_raw_mode(s.st_mode) == FileType::Symlink);
        if !link || !follow {
            return Ok(Place {
                dir,
                name,
                called: called.clone(),
                stat,
                word,
            });
        }
        let target = rustix::fs::readlinkat(&dir, &*name, Vec::new())
            .map_err(CallError::of(|| format!("readlink(`{word}`)")))?;
        path = match target.to_bytes() {
            target if target.starts_with(b"/") => target.to_vec(),
            target => [parent, target].concat(),
        };
    }
    Err(CallError {
        call: format!("`{word}`"),
        errno: Errno::LOOP,
    }
    .into())
}

fn trim_slashes(path: &[u8]) -> &[u8] {
    let end = path.iter().rposition(|b| *b != b'/').map_or(0, |i| i + 1);
    &path[..end]
}
