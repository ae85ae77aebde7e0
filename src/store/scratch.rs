//! A process's own directory below `tmp`, for unfinished blobs and layers.
//!
//! The directory is made for the first [`Place`] in it and deleted with the last, and flocked while it
//! exists. Whoever makes one first deletes those
//! that nobody locks. A cleaner may get hold of a directory between its `mkdir` and its `flock`; the
//! maker then finds it locked or gone and takes another name.

use std::fs::File;
use std::os::fd::AsFd as _;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError};

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
    count: AtomicU64,
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
            let lock = match File::open(&path) {
                Ok(lock) => lock,
                // A cleaner was faster.
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
                Err(error) => {
                    let _ = std::fs::remove_dir(&path);
                    return Err(StoreError::io(|| format!("open(`{}`)", path.display()))(
                        error,
                    ));
                }
            };
            let locked = rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive);
            if locked.is_ok() && path.exists() {
                return Ok(Scratch {
                    path,
                    parent,
                    _lock: lock,
                    owner,
                    count: AtomicU64::new(0),
                });
            }
        }
    }
}

/// A name for an unfinished file or directory; while it is held, the directory around it exists.
#[derive(Debug)]
pub(super) struct Place {
    pub path: PathBuf,
    _scratch: Arc<Scratch>,
}

impl Place {
    fn in_scratch(scratch: Arc<Scratch>, kind: &str) -> Self {
        let number = scratch.count.fetch_add(1, Ordering::Relaxed);
        Place {
            path: scratch.path.join(format!("{kind}-{number}")),
            _scratch: scratch,
        }
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if self.owner == std::process::id()
            && let Some(name) = self.path.file_name()
        {
            // What cannot be deleted now is left to the next cleaner.
            let _ = remove_tree(self.parent.as_fd(), name.as_encoded_bytes());
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

/// A directory for work that ends up in the store, gone when dropped; should this process be killed, the
/// next writer deletes it.
#[derive(Debug)]
pub struct WorkDir(Place);

impl WorkDir {
    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.0.path
    }
}

impl Store {
    /// Makes a fresh [`WorkDir`].
    ///
    /// # Errors
    /// The failing `mkdir`.
    pub fn work_dir(&self) -> Result<WorkDir> {
        let place = self.scratch("work")?;
        std::fs::DirBuilder::new()
            .mode(0o755)
            .create(&place.path)
            .map_err(StoreError::io(|| {
                format!("mkdir(`{}`)", place.path.display())
            }))?;
        Ok(WorkDir(place))
    }

    /// A fresh name below this process's directory.
    pub(super) fn scratch(&self, kind: &str) -> Result<Place> {
        let mut held = self.scratch.lock().unwrap_or_else(PoisonError::into_inner);
        // After a fork the parent's directory is the parent's business.
        let ours = held.upgrade().filter(|s| s.owner == std::process::id());
        let scratch = match ours {
            Some(scratch) => scratch,
            None => {
                let made = Arc::new(Scratch::new(&self.root.join("tmp"))?);
                *held = Arc::downgrade(&made);
                made
            }
        };
        Ok(Place::in_scratch(scratch, kind))
    }
}
