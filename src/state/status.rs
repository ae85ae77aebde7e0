//! What changes in a container's life, as it is kept on disk.

use std::io::ErrorKind;
use std::os::fd::BorrowedFd;
use std::path::Path;

use rustix::fs::AtFlags;
use serde::{Deserialize, Serialize};

use super::Error;
use super::files::read_json;
use crate::model::brief::Brief;
use crate::model::spec::VERSION;
use crate::sys::process::Ended;

/// Where a container stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Status {
    /// Its directory is there, its command never ran.
    Created,
    /// Its command runs.
    Running,
    /// Its command is stopped in the middle of things.
    Paused,
    /// Its command ended and will be started again in a moment.
    Restarting,
    /// Its command ended.
    Exited,
}

/// What changes in a container's life.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct State {
    /// [`VERSION`].
    pub version: u32,
    /// Where it stands.
    pub status: Status,
    /// Host process id of its first process while it runs; meaningless in another boot.
    pub pid: Option<i32>,
    /// The start time of that process (proc_pid_stat(5), field 22), against reuse of the number.
    pub start_time: Option<u64>,
    /// `/proc/sys/kernel/random/boot_id` when it was started.
    pub boot_id: String,
    /// Seconds since the epoch.
    pub started: Option<u64>,
    /// Seconds since the epoch.
    pub finished: Option<u64>,
    /// How it ended.
    pub ended: Option<Ended>,
    /// How often it was started again without anybody asking.
    pub restarts: u32,
    /// Somebody asked it to end.
    pub stopped: bool,
    /// Why it could not be started again, or what went wrong while it ran.
    pub error: Option<String>,
    /// What it goes on without, in a few words.
    #[serde(default)]
    pub lost: Option<String>,
    /// What the checks say.
    pub health: Option<Health>,
    /// The directory of its control group.
    #[serde(default)]
    pub group: Option<std::path::PathBuf>,
    /// The kernel killed something in it because of its memory limit.
    #[serde(default)]
    pub oom_killed: bool,
    /// Its address on a network with a name, while it runs.
    #[serde(default)]
    pub address: Option<std::net::Ipv4Addr>,
    /// What lists show of its specification, so that they need not open that too.
    #[serde(default)]
    pub(super) shown: Option<Shown>,
}

/// A part of a specification, for as long as that is the file that it was read from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Shown {
    pub of: Stamp,
    pub brief: Box<Brief>,
}

/// Which file it is: one that takes its place differs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Stamp {
    inode: u64,
    changed: (i64, i64),
}

impl Stamp {
    /// Of the file that a directory has under a name.
    pub fn at(dir: BorrowedFd<'_>, name: &str) -> Option<Stamp> {
        let stat = rustix::fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW).ok()?;
        Some(Stamp {
            inode: stat.st_ino,
            changed: (stat.st_ctime as i64, stat.st_ctime_nsec as i64),
        })
    }
}

/// What the checks of a container say.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Health {
    /// The verdict.
    pub verdict: Verdict,
    /// Failures in a row.
    pub failing: u32,
    /// The last checks, the newest last.
    pub checks: Vec<Check>,
}

/// Whether a container is well.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Verdict {
    /// Not known yet.
    #[default]
    Starting,
    /// It is.
    Healthy,
    /// It is not.
    Unhealthy,
}

impl Verdict {
    /// Docker's word.
    pub fn word(self) -> &'static str {
        match self {
            Verdict::Starting => "starting",
            Verdict::Healthy => "healthy",
            Verdict::Unhealthy => "unhealthy",
        }
    }
}

/// One check.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Check {
    /// When it began, RFC 3339.
    pub start: String,
    /// When it ended.
    pub end: String,
    /// Exit status of its command; -1 when it took too long.
    pub status: i32,
    /// What it wrote, at most 4 KiB.
    pub output: String,
}

impl State {
    /// Whether a monitor takes care of it: it runs, is paused, or will run again in a moment.
    pub fn is_alive(&self) -> bool {
        matches!(
            self.status,
            Status::Running | Status::Paused | Status::Restarting
        )
    }

    /// What is on disk in the directory of a container.
    pub(super) fn of(dir: &Path) -> State {
        match read_json(&dir.join("state.json")) {
            Ok(state) => state,
            Err(Error::Io { source, .. }) if source.kind() == ErrorKind::NotFound => {
                State::created()
            }
            Err(error) => State::lost(&error),
        }
    }

    /// Its command ran, since something was noted, and no more is known: a power cut took the file before it was on
    /// disk.
    fn lost(error: &Error) -> State {
        let mut state = State::created();
        state.orphaned();
        state.error = Some(error.to_string());
        state
    }

    /// The command was killed with its monitor, or by a reboot: 137 is what a SIGKILL would have left.
    pub(super) fn orphaned(&mut self) {
        self.status = Status::Exited;
        self.pid = None;
        self.address = None;
        self.ended = Some(Ended::Signaled(libc::SIGKILL));
    }

    pub(super) fn created() -> State {
        State {
            version: VERSION,
            status: Status::Created,
            pid: None,
            start_time: None,
            boot_id: String::new(),
            started: None,
            finished: None,
            ended: None,
            restarts: 0,
            stopped: false,
            error: None,
            lost: None,
            health: None,
            group: None,
            oom_killed: false,
            address: None,
            shown: None,
        }
    }
}
