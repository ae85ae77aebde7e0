//! A control group for each container: where it comes from, its limits, its switches.
//!
//! ```text
//! user@UID.service/rl.slice/rl-ID-PID.scope     made by the user's systemd, delegated to us
//!   monitor/                                    our monitor, whom no limit concerns
//!   container/                                  the limits
//!     root/                                     what the container sees as its root: the processes
//! ```
//!
//! Processes live in leaves only (Documentation/admin-guide/cgroup-v2.rst, "No Internal Process Constraint"), and the
//! limits lie above what the container sees: it may divide its own group, and change what is written there, but not what
//! holds above. What was asked for is written in both, so that programs which look at their limits see them. Shares of what
//! is short are the scope's as well, which stands beside those of other containers: systemd is told of them, since it writes
//! them anew whenever it is reloaded.
//!
//! Without systemd the same groups are made in our own group, where that is ours to write: in a container that has its
//! own. There is no other way: in somebody else's group nothing can be made.
//!
//! The order: the scope, with the monitor in it; the monitor moves to its leaf, which makes room for controllers;
//! controllers; limits; and the container's first process is born in its leaf (clone3(2), `CLONE_INTO_CGROUP`), since moving
//! one is what takes long.

mod apart;
mod error;
mod limits;
mod oom;
mod plan;
mod stats;

pub use apart::{apart, leave_session};
pub use error::{CONTROLLERS, Error, delegate};
pub use limits::{PIDS, Write, for_update, writes};
pub use oom::OomKills;
pub use plan::{Plan, choose, is_managers};
pub use stats::{Pressure, Usage};

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::fs::{CWD, Mode, OFlags};
use rustix::process::Pid;
use systemd_user::{Connection, Scope, Share};

use crate::model::spec::Resources;

use plan::{Manager, SLICE, group_of, missing_slices, own_group, systemd};

/// Where version 2 is mounted (systemd.io, CGROUP_DELEGATION).
pub const ROOT: &str = "/sys/fs/cgroup";
/// How long systemd may take for what is needed.
const PATIENCE: Duration = Duration::from_secs(30);
/// How long the processes of a group may take to be gone when they have been killed.
const EMPTIED: Duration = Duration::from_secs(2);

/// A container's group.
#[derive(Debug)]
pub struct Group {
    /// With the limits.
    dir: PathBuf,
    /// Made by us, and thus to be removed with it: the one around it.
    top: Option<PathBuf>,
    root: OwnedFd,
}

/// The names below a scope.
const MONITOR: &str = "monitor";
const CONTAINER: &str = "container";
const LEAF: &str = "root";

/// Makes the group, with its limits. The calling process, which is to be the monitor, is moved beside it.
///
/// # Errors
/// [`Error`]. Where nothing was asked for, the container can do without.
pub fn make(plan: &Plan) -> Result<Group, Error> {
    let (top, own) = match &plan.manager {
        Manager::Systemd {
            address,
            uid,
            slice,
        } => {
            let short = plan.id.get(..12).unwrap_or(&plan.id);
            let name = format!("rl-{short}-{}.scope", std::process::id());
            // Nobody waits long for what was not asked for.
            let patience = if plan.is_asked() {
                PATIENCE
            } else {
                PATIENCE / 6
            };
            Connection::open(address, *uid, patience)?.start_scope(&Scope {
                name: &name,
                description: &plan.description,
                slice,
                new_slices: &missing_slices(*uid, slice),
                pids: &[std::process::id()],
                shares: &shares(&plan.writes),
            })?;
            let top = own_group().filter(|group| group.ends_with(&name));
            let top = top.ok_or_else(|| Error::Io {
                call: "read",
                path: "/proc/self/cgroup".into(),
                source: io::Error::other(format!("this process is not in `{name}`")),
            })?;
            let leaf = top.join(MONITOR);
            directory(&leaf)?;
            put(&leaf.join("cgroup.procs"), "0")?;
            (top, false)
        }
        Manager::Direct { parent, ours_alone } => {
            if enable(parent).is_err() && *ours_alone {
                make_room(parent);
            }
            let top = parent.join(format!("rl-{}", plan.id));
            directory(&top)?;
            (top, true)
        }
    };
    let made = furnish(plan, &top);
    if made.is_err() && own {
        remove_groups(&top);
    }
    let (dir, root) = made?;
    Ok(Group {
        dir,
        top: own.then_some(top),
        root,
    })
}

/// A group with processes hands no controllers on: they are moved to a leaf beside what is to come.
fn make_room(parent: &Path) {
    let leaf = parent.join("init");
    let _ = std::fs::create_dir(&leaf);
    let pids = std::fs::read_to_string(parent.join("cgroup.procs")).unwrap_or_default();
    for pid in pids.lines() {
        let _ = put(&leaf.join("cgroup.procs"), pid);
    }
    let _ = enable(parent);
}

/// Hands on all controllers that the group has itself.
fn enable(group: &Path) -> Result<(), Error> {
    let has = get(&group.join("cgroup.controllers"))?;
    let on = get(&group.join("cgroup.subtree_control"))?;
    let on: Vec<&str> = on.split_whitespace().collect();
    let words: Vec<String> = has
        .split_whitespace()
        .filter(|word| !on.contains(word))
        .map(|word| format!("+{word}"))
        .collect();
    if words.is_empty() {
        return Ok(());
    }
    put(&group.join("cgroup.subtree_control"), &words.join(" "))
}

fn furnish(plan: &Plan, top: &Path) -> Result<(PathBuf, OwnedFd), Error> {
    let enabled = enable(top);
    let dir = top.join(CONTAINER);
    directory(&dir)?;
    let has = get(&dir.join("cgroup.controllers"))?;
    for write in &plan.writes {
        if write.fits(&has) {
            if write.share().is_some() && matches!(plan.manager, Manager::Direct { .. }) {
                apply(top, write)?;
            }
            apply(&dir, write)?;
        } else if write.asked {
            enabled?;
            return Err(Error::NotDelegated {
                option: write.option,
                controller: write.controller().to_owned(),
                systemd: matches!(plan.manager, Manager::Systemd { .. }),
            });
        }
    }
    let root = make_leaf(&dir, &plan.writes)?;
    Ok((dir, root))
}

/// Makes the group that the container sees as its root.
fn make_leaf(dir: &Path, writes: &[Write]) -> Result<OwnedFd, Error> {
    // Without controllers it still can be stopped and killed as a whole.
    let _ = enable(dir);
    let leaf = dir.join(LEAF);
    directory(&leaf)?;
    for write in writes {
        // To be seen; the group above holds.
        let _ = apply(&leaf, write);
    }
    self::leaf(dir)
}

/// The inner group of a container's, opened: where its processes are born.
///
/// # Errors
/// [`Error::Io`]: it is gone.
pub fn leaf(dir: &Path) -> Result<OwnedFd, Error> {
    open(dir.join(LEAF))
}

/// The same for a further process of a container that runs. Where the container has given the controllers of its inner
/// group to groups below, there can be no processes in it (cgroup-v2.rst, "No Internal Process Constraint"), as with
/// systemd inside; then it is the group of the container's first process, by its number in /proc.
///
/// # Errors
/// As [`leaf`].
pub fn leaf_beside(dir: &Path, first: Pid) -> Result<OwnedFd, Error> {
    let inner = dir.join(LEAF);
    let given =
        get(&inner.join("cgroup.subtree_control")).is_ok_and(|list| !list.trim().is_empty());
    let beside = || {
        let group = group_of(&first.to_string())?;
        group.starts_with(&inner).then_some(group)
    };
    open(given.then(beside).flatten().unwrap_or(inner))
}

fn open(path: PathBuf) -> Result<OwnedFd, Error> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    rustix::fs::openat(CWD, &path, flags, Mode::empty()).map_err(|errno| Error::Io {
        call: "open",
        path,
        source: errno.into(),
    })
}

fn shares(writes: &[Write]) -> Vec<Share> {
    writes.iter().filter_map(Write::share).collect()
}

fn apply(dir: &Path, write: &Write) -> Result<(), Error> {
    let path = dir.join(&write.file);
    match write_to(&path, &write.value) {
        Ok(()) => Ok(()),
        // A default that this kernel has no file for.
        Err(_) if !write.asked => Ok(()),
        Err(source) => Err(Error::Value {
            option: write.option,
            path,
            value: write.value.clone(),
            source,
        }),
    }
}

impl Group {
    /// Where the container's first process is to be born.
    pub fn root(&self) -> BorrowedFd<'_> {
        self.root.as_fd()
    }

    /// The directory with the limits.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Empties it and makes the inner group anew, for another start, with the limits that the outer one has by now.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn renew(&mut self, resources: &Resources) -> Result<(), Error> {
        kill(&self.dir);
        remove_groups(&self.dir.join(LEAF));
        self.root = make_leaf(&self.dir, &writes(resources))?;
        Ok(())
    }

    /// Kills what is left in it and removes it. What systemd made, systemd removes when the monitor is gone.
    pub fn remove(self) {
        kill(&self.dir);
        remove_groups(self.top.as_ref().unwrap_or(&self.dir));
    }
}

/// Kills what a killed monitor has left in the group of a container, and removes it. What systemd made, systemd removes.
pub fn clear(dir: &Path) {
    kill(dir);
    let (scope, name) = around(dir);
    if name.starts_with("rl-") && !name.ends_with(".scope") {
        remove_groups(scope);
    }
}

/// Stops all processes of a group, or lets them go on, and waits until that is so.
///
/// # Errors
/// The group has no freezer, or it takes longer than ten seconds.
pub fn freeze(dir: &Path, on: bool) -> Result<(), Error> {
    put(&dir.join("cgroup.freeze"), if on { "1" } else { "0" })?;
    let events = dir.join("cgroup.events");
    let wanted = if on { "frozen 1" } else { "frozen 0" };
    let deadline = Instant::now() + Duration::from_secs(10);
    while !get(&events)?.lines().any(|line| line == wanted) {
        if Instant::now() > deadline {
            return Err(Error::Io {
                call: "wait",
                path: events,
                source: io::ErrorKind::TimedOut.into(),
            });
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    Ok(())
}

/// Kills every process of a group (cgroup-v2.rst, `cgroup.kill`; since Linux 5.14).
pub fn kill(dir: &Path) {
    let _ = put(&dir.join("cgroup.kill"), "1");
}

/// The processes of a group and of all below it.
pub fn processes(dir: &Path) -> Vec<i32> {
    let own = get(&dir.join("cgroup.procs")).unwrap_or_default();
    let mut pids: Vec<i32> = own.lines().filter_map(|line| line.parse().ok()).collect();
    for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            pids.extend(processes(&entry.path()));
        }
    }
    pids
}

/// Writes new limits into a container's group: all of them, or none.
///
/// # Errors
/// [`Error::NotDelegated`], [`Error::Value`]; [`Error::Systemd`], which keeps what its scope has against others.
pub fn update(
    dir: &Path,
    writes: &[Write],
    uid: u32,
    env: &dyn Fn(&str) -> Option<std::ffi::OsString>,
) -> Result<(), Error> {
    let has = get(&dir.join("cgroup.controllers"))?;
    if let Some(write) = writes.iter().find(|write| !write.fits(&has)) {
        return Err(Error::NotDelegated {
            option: write.option,
            controller: write.controller().to_owned(),
            systemd: true,
        });
    }
    let mut undo = Vec::new();
    let done = writes.iter().try_for_each(|write| {
        undo.extend(write.undo(&get(&dir.join(&write.file)).unwrap_or_default()));
        apply(dir, write)?;
        let _ = apply(&dir.join(LEAF), write);
        Ok(())
    });
    let done = done.and_then(|()| share_anew(dir, writes, uid, env));
    if done.is_err() {
        for write in undo.iter().rev() {
            let _ = apply(dir, write);
            let _ = apply(&dir.join(LEAF), write);
        }
    }
    done
}

/// Tells whoever made the scope of a container of its new shares.
fn share_anew(
    dir: &Path,
    writes: &[Write],
    uid: u32,
    env: &dyn Fn(&str) -> Option<std::ffi::OsString>,
) -> Result<(), Error> {
    let shares = shares(writes);
    if shares.is_empty() {
        return Ok(());
    }
    let (top, name) = around(dir);
    match systemd(uid, env).filter(|_| name.ends_with(".scope")) {
        Some(address) => Connection::open(&address, uid, PATIENCE)?.share(name, &shares)?,
        None => {
            for write in writes.iter().filter(|write| write.share().is_some()) {
                apply(top, write)?;
            }
        }
    }
    Ok(())
}

/// The group around a container's, with its name.
fn around(dir: &Path) -> (&Path, &str) {
    let top = dir.parent().unwrap_or(dir);
    let name = top.file_name().and_then(|name| name.to_str());
    (top, name.unwrap_or_default())
}

/// Whether this process, and those that it makes, may not be moved to the group of a running container, since the group
/// above both is not ours: then they need [`admit`] before one can be born there.
pub fn is_far(dir: &Path) -> bool {
    let (scope, name) = around(dir);
    name.ends_with(".scope") && !common_is_ours(scope)
}

/// Has the user's systemd put a process beside a running container.
///
/// # Errors
/// [`Error::Systemd`].
pub fn admit(
    dir: &Path,
    pid: Pid,
    uid: u32,
    env: &dyn Fn(&str) -> Option<std::ffi::OsString>,
) -> Result<(), Error> {
    let (_, name) = around(dir);
    if let Some(address) = systemd(uid, env) {
        let group = format!("/{MONITOR}");
        let pid = pid.as_raw_nonzero().get() as u32;
        Connection::open(&address, uid, PATIENCE)?.attach(name, &group, &[pid])?;
    }
    Ok(())
}

/// Whether the group above this process and `other` is ours, so that processes may be moved between them (cgroup-v2.rst,
/// "Delegation Containment").
fn common_is_ours(other: &Path) -> bool {
    let Some(own) = own_group() else { return false };
    let common = own.ancestors().find(|above| other.starts_with(above));
    common.is_some_and(|common| {
        rustix::fs::access(common.join("cgroup.procs"), rustix::fs::Access::WRITE_OK).is_ok()
    })
}

/// A group and those below it, the deepest first.
fn remove_groups(dir: &Path) {
    for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove_groups(&entry.path());
        }
    }
    // Its last processes may take a moment to be gone.
    let deadline = Instant::now() + EMPTIED;
    while let Err(e) = std::fs::remove_dir(dir) {
        if e.raw_os_error() != Some(libc::EBUSY) || Instant::now() > deadline {
            return;
        }
        std::thread::sleep(Duration::from_millis(1));
    }
}

fn directory(path: &Path) -> Result<(), Error> {
    match std::fs::create_dir(path) {
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        other => other.map_err(|source| Error::Io {
            call: "mkdir",
            path: path.to_owned(),
            source,
        }),
    }
}

fn put(path: &Path, value: &str) -> Result<(), Error> {
    write_to(path, value).map_err(|source| Error::Io {
        call: "write",
        path: path.to_owned(),
        source,
    })
}

/// Not `fs::write`, which would want to make and truncate it.
fn write_to(path: &Path, value: &str) -> io::Result<()> {
    let mut file = std::fs::File::options().write(true).open(path)?;
    io::Write::write_all(&mut file, value.as_bytes())
}

fn get(path: &Path) -> Result<String, Error> {
    std::fs::read_to_string(path).map_err(|source| Error::Io {
        call: "read",
        path: path.to_owned(),
        source,
    })
}
