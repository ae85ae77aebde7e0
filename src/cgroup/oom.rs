//! Processes that the kernel kills because a group is at its memory limit (cgroup-v2.rst, "memory.events").

use std::fs::File;
use std::io::{Read as _, Seek as _};
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;

use super::stats::field;

/// Counts them as it happens.
#[derive(Debug)]
pub struct OomKills {
    events: File,
    seen: u64,
}

impl OomKills {
    /// From now on, in the group `dir`; `None` where it has no memory controller.
    pub fn watch(dir: &Path) -> Option<OomKills> {
        let mut kills = OomKills {
            events: File::open(dir.join("memory.events")).ok()?,
            seen: 0,
        };
        kills.more()?;
        Some(kills)
    }

    /// How many there were since the last time it was asked; `None` once the group is gone.
    pub fn more(&mut self) -> Option<u64> {
        let mut text = String::new();
        self.events.rewind().ok()?;
        self.events.read_to_string(&mut text).ok()?;
        let now = field(&text, "oom_kill")?;
        let more = now.saturating_sub(self.seen);
        self.seen = now;
        Some(more)
    }
}

/// Has something to tell when it is ready for `POLLPRI`.
impl AsFd for OomKills {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.events.as_fd()
    }
}
