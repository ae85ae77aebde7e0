//! A directory on the way down, in both trees.

use std::ffi::{CStr, CString};
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};

use rustix::fs::{Dir, Mode, OFlags, Stat};
use rustix::io::Errno;

use crate::sys::fs::CallError;

/// A directory being copied.
pub(super) struct Level {
    /// Source and target; `None` while closed.
    pub fds: Option<(OwnedFd, OwnedFd)>,
    pub stat: Stat,
    target: (u64, u64),
    /// The target was there before, with attributes of its own.
    pub merged: bool,
    pub names: Vec<CString>,
    /// The length of the path of the directory above.
    pub path_before: usize,
}

impl Level {
    pub(super) fn enter(
        from: OwnedFd,
        to: OwnedFd,
        merged: bool,
        path_before: usize,
    ) -> Result<Level, CallError> {
        let failed = |what: &'static str| CallError::of(move || format!("{what}(directory)"));
        let stat = rustix::fs::fstat(&from).map_err(failed("fstat"))?;
        let target = rustix::fs::fstat(&to).map_err(failed("fstat"))?;
        let mut names = Vec::new();
        for entry in Dir::read_from(&from).map_err(failed("getdents"))? {
            let entry = entry.map_err(failed("getdents"))?;
            if !matches!(entry.file_name().to_bytes(), b"." | b"..") {
                names.push(entry.file_name().to_owned());
            }
        }
        Ok(Level {
            fds: Some((from, to)),
            stat,
            target: (target.st_dev, target.st_ino),
            merged,
            names,
            path_before,
        })
    }

    pub(super) fn fds(&self) -> Result<(BorrowedFd<'_>, BorrowedFd<'_>), CallError> {
        match &self.fds {
            Some((from, to)) => Ok((from.as_fd(), to.as_fd())),
            None => Err(stale()),
        }
    }

    /// Opens this directory again from the one below, if it was closed.
    pub(super) fn reopen(&mut self, below: &Level) -> Result<(), CallError> {
        if self.fds.is_some() {
            return Ok(());
        }
        let (from, to) = below.fds()?;
        let (from, to) = (open_dir(from, c"..")?, open_dir(to, c"..")?);
        let id = |fd: &OwnedFd| {
            let stat = rustix::fs::fstat(fd).map_err(CallError::of(|| "fstat(`..`)".into()))?;
            Ok((stat.st_dev, stat.st_ino))
        };
        if id(&from)? != (self.stat.st_dev, self.stat.st_ino) || id(&to)? != self.target {
            return Err(stale());
        }
        self.fds = Some((from, to));
        Ok(())
    }
}

fn stale() -> CallError {
    CallError {
        call: "openat(dir, `..`)".into(),
        errno: Errno::STALE,
    }
}

pub(super) fn open_dir(dir: BorrowedFd<'_>, name: &CStr) -> Result<OwnedFd, CallError> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::openat(dir, name, flags, Mode::empty()).map_err(CallError::of(|| {
        format!("openat(dir, `{}`, O_DIRECTORY)", name.to_string_lossy())
    }))
}
