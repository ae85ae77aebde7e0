//! A process's own directory below `tmp`, for unfinished blobs and layers.
//!
//! The directory is flocked for as long as its process lives. Whoever makes one first deletes those
//! that nobody locks. A cleaner may get hold of a directory between its `mkdir` and its `flock`; the
//! maker then finds it locked or gone and takes another name.

use std::fs::File;
use std::os::fd::AsFd as _;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::FlockOperation;

use super::{Result, Store, StoreError, open_path};
use crate::sys::fs::{CallError, remove_tree};

/// The open, locked directory. It is deleted when dropped, but only by the process that made it: a
/// forked child holds a copy.
#[derive(Debug)]
pub(super) struct Scratch {
    path: PathBuf,
    parent: File,
    _lock: File,
    owner: u32,
    count: u64,
}

impl Scratch {
    fn new(tmp: &Path) -> Result<Self> {
        let parent = open_path(tmp)?;
        clean(tmp, &parent);
        loop {
            let mut random = [0u8; 8];
            rustix::rand::getrandom(&mut random, rustix::rand::GetRandomFlags::empty())
                .map_err(CallError::of(|| "getrandom(8)".to_owned()))?;
            let owner = std::process::id();
            let path = tmp.join(format!("{owner}-{:016x}", u64::from_ne_bytes(random)));
            std::fs::DirBuilder::new()
                .mode(0o700)
                .create(&path)
                .map_err(StoreError::io(|| format!("mkdir(`{}`)", path.display())))?;
            let Ok(lock) = File::open(&path) else {
                continue;
            };
            let locked = rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive);
            if locked.is_ok() && path.exists() {
                return Ok(Scratch {
                    path,
                    parent,
                    _lock: lock,
                    owner,
                    count: 0,
                });
            }
        }
    }

    fn next(&mut self, kind: &str) -> PathBuf {
        self.count += 1;
        self.path.join(format!("{kind}-{}", self.count))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if self.owner == std::process::id() {
            if let Some(name) = self.path.file_name() {
                // What cannot be deleted now is left to the next cleaner.
                let _ = remove_tree(self.parent.as_fd(), name.as_encoded_bytes());
            }
        }
    }
}

/// Deletes the directories of processes that are gone. Best effort: files of subordinate ids can be
/// deleted only inside the user namespace that maps them, and somebody will come by from there.
fn clean(tmp: &Path, parent: &File) {
    for entry in std::fs::read_dir(tmp).into_iter().flatten().flatten() {
        if entry.file_name() == "locks" {
            continue;
        }
        let Ok(dir) = File::open(entry.path()) else {
            continue;
        };
        if rustix::fs::flock(&dir, FlockOperation::NonBlockingLockExclusive).is_ok() {
            let _ = remove_tree(parent.as_fd(), entry.file_name().as_encoded_bytes());
        }
    }
}

impl Store {
    /// A fresh name below this process's directory, which is made by the first call.
    pub(super) fn scratch_path(&self, kind: &str) -> Result<PathBuf> {
        let mut scratch = self.scratch.lock().unwrap_or_else(|e| e.into_inner());
        // After a fork the parent's directory is the parent's business.
        if scratch
            .as_ref()
            .is_some_and(|s| s.owner != std::process::id())
        {
            *scratch = None;
        }
        match scratch.as_mut() {
            Some(scratch) => Ok(scratch.next(kind)),
            None => {
                let mut made = Scratch::new(&self.root.join("tmp"))?;
                let path = made.next(kind);
                *scratch = Some(made);
                Ok(path)
            }
        }
    }
}
