//! Containers on disk: one directory each below `containers/`, with the specification, the state and
//! what the container writes.
//!
//! ```text
//! containers/
//!   by-name/NAME -> ID      the symbolic link is the claim to the name (ID in base 32)
//!   ID/
//!     lock                  held by the monitor as long as it lives
//!     spec.json             ContainerSpec
//!     state.json            State, replaced atomically
//!     upper/ work/          writable layer, overlay's work directory
//!     hosts, resolv.conf, hostname
//!   ID.gone/                was a container: its files are being removed
//!   mnt/root/               where each container mounts its root, in its own mount namespace
//! ```
//!
//! A directory whose lock is free while its state says that it runs belonged to a monitor that was
//! killed, or to another boot: the container is not running, whatever its file says. There is no
//! other repair and no index: a crash at any point leaves a directory that the next command
//! understands or removes.
//!
//! A power cut can take back what is not synced, or leave a file with its name and without its content. The container
//! is on disk, name and all, when `create` returns, and a moment after `run` has started it; one that is removed at its end
//! never need be. So a specification that is not whole was promised to nobody, and a state that is not whole is of a
//! command that ran.

pub mod events;
mod files;
mod locked;
mod look;
mod names;
mod networks;
mod status;

use std::fs::File;
use std::io::ErrorKind;
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::FlockOperation;
use rustix::io::Errno;

use crate::model::spec::{ContainerSpec, VERSION};
use events::Subject;
use files::{boot_id, io, is_locked, lock_file, make_dir, read_json, start_time};
pub use files::{private, sync_dir};
use locked::GONE;
pub use locked::{Gone, Locked};
pub use look::Listed;
pub use networks::{Lease, Networks};
pub use status::{Check, Health, State, Status, Verdict};

/// What can go wrong with a container's files.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file operation failed.
    #[error("{call}(`{path}`): {source}")]
    Io {
        /// The operation.
        call: &'static str,
        /// Its file.
        path: PathBuf,
        /// Its error.
        source: std::io::Error,
    },
    /// A file does not hold what it should.
    #[error("`{path}` is damaged: {reason}")]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// A file of which not all came to the disk before a power cut.
    #[error("`{0}` is not whole")]
    Torn(PathBuf),
    /// Another container has the name.
    #[error("the name `{name}` is in use by container {id}")]
    NameTaken {
        /// The name.
        name: String,
        /// Who has it, shortened.
        id: String,
    },
    /// No container of that name or id.
    #[error("no such container: `{0}`")]
    NotFound(String),
    /// An id prefix of several containers.
    #[error("`{0}` is the beginning of more than one container's id")]
    Ambiguous(String),
    /// It runs, or another command works on it.
    #[error("container `{0}` is running")]
    Running(String),
    /// No network of that name.
    #[error("no such network: `{0}`")]
    NoNetwork(String),
    /// Another container of the network has the address.
    #[error("address {address} of network `{name}` is in use")]
    AddressTaken {
        /// The address.
        address: std::net::Ipv4Addr,
        /// The network.
        name: String,
    },
    /// All addresses are taken.
    #[error("network `{0}` has no free address")]
    NoAddress(String),
}

impl Error {
    /// What to do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Error::Running(name) => Some(format!("rl stop {name}")),
            Error::NameTaken { name, .. } => Some(format!(
                "choose another `--name`, or remove that container: `rl rm {name}`"
            )),
            Error::Io { source, path, .. } if source.kind() == ErrorKind::StorageFull => {
                Some(format!(
                    "the file system of `{}` is full: `rl rmi` or `df` help",
                    path.display()
                ))
            }
            Error::Io { source, path, .. }
                if matches!(
                    source.kind(),
                    ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem
                ) =>
            {
                Some(format!(
                    "`{}` cannot be written; set XDG_DATA_HOME to a directory that can",
                    path.display()
                ))
            }
            Error::Torn(path) => {
                let id = path.parent()?.file_name()?.to_str()?.get(..12)?;
                Some(format!("end and remove that container: `rl rm -f {id}`"))
            }
            Error::Damaged { path, .. } => {
                let id = path.parent()?.file_name()?.to_str()?.get(..12)?;
                Some(format!(
                    "put the file right, or remove that container: `rl rm {id}`"
                ))
            }
            Error::NoNetwork(name) => Some(format!("rl network create {name}")),
            Error::AddressTaken { name, .. } => Some(format!(
                "leave `--ip` out, or take another; who has which: `rl network inspect {name}`"
            )),
            Error::NoAddress(_) => {
                Some("a network with a larger `--subnet` has more, such as a /16".into())
            }
            _ => None,
        }
    }

    /// Whether a specification is missing or [torn](Error::Torn): its container was never finished.
    fn is_unfinished(&self) -> bool {
        match self {
            Error::Io { source, .. } => source.kind() == ErrorKind::NotFound,
            other => matches!(other, Error::Torn(_)),
        }
    }
}

/// All containers of a user.
#[derive(Clone, Debug)]
pub struct Containers {
    root: PathBuf,
}

/// A container found on disk, as it was when it was read.
#[derive(Clone, Debug)]
pub struct Container {
    /// Its specification.
    pub spec: ContainerSpec,
    /// Its state, corrected for a monitor that is gone.
    pub state: State,
    /// It was corrected: something of the container may still run.
    pub orphan: bool,
    dir: PathBuf,
}

/// Everything in the directory of the containers.
#[derive(Debug, Default)]
pub struct Survey {
    /// The containers, the newest first.
    pub containers: Vec<Container>,
    /// What became no container, for the caller to remove.
    pub unfinished: Vec<Locked>,
    /// Why others cannot be read.
    pub damaged: Vec<Error>,
}

impl Containers {
    /// The containers below `root`; the directory is made when the first one is created.
    pub fn new(root: PathBuf) -> Containers {
        Containers { root }
    }

    /// Makes a container's directory, claims its name and locks it. What was made is removed again
    /// when it cannot be finished.
    ///
    /// # Errors
    /// [`Error::NameTaken`], or [`Error::Io`].
    pub fn create(&self, spec: &ContainerSpec) -> Result<Locked, Error> {
        let names = self.root.join("by-name");
        make_dir(&names)?;
        self.make_mount_point()?;
        let locked = self.make(spec)?;
        let made = self
            .claim(spec, &names.join(&spec.name), None)
            .and_then(|()| locked.furnish(spec));
        match made {
            Ok(()) => Ok(locked),
            Err(error) => {
                let _ = locked.vanish().and_then(|gone| gone.remove());
                Err(error)
            }
        }
    }

    /// The empty directory on which a container mounts its root. All have the same one: each mounts in a
    /// mount namespace of its own.
    pub fn mount_point(&self) -> PathBuf {
        self.root.join("mnt/root")
    }

    fn make_mount_point(&self) -> Result<(), Error> {
        let point = self.mount_point();
        if point.is_dir() {
            return Ok(());
        }
        make_dir(&point)?;
        // Root inside, who need not be the caller, looks it up from the directory above.
        let above = self.root.join("mnt");
        std::fs::set_permissions(&above, std::fs::Permissions::from_mode(0o711))
            .map_err(io("chmod", &above))
    }

    /// The directory, locked. Makers share the lock of the directory above from before theirs exists
    /// until it is locked, so what [`Containers::unfinished`] finds unlocked has no maker any more.
    fn make(&self, spec: &ContainerSpec) -> Result<Locked, Error> {
        let root = File::open(&self.root).map_err(io("open", &self.root))?;
        rustix::fs::flock(&root, FlockOperation::LockShared)
            .map_err(|errno| io("flock", &self.root)(errno.into()))?;
        let dir = self.root.join(&spec.id);
        make_dir(&dir)?;
        Locked::open(dir, Subject::container(spec))
    }

    /// Whether some container has the volume `name`.
    pub fn has_volume(&self, name: &str) -> bool {
        let all = self.list().unwrap_or_default();
        all.iter().any(|container| container.spec.has_volume(name))
    }

    /// Notes what was done to a container.
    pub fn event(&self, spec: &ContainerSpec, action: &str, more: &[(&str, String)]) {
        let data = self.root.parent().unwrap_or(&self.root);
        events::record(data, &Subject::container(spec), action, more);
    }

    /// Notes what was done to a volume.
    pub fn volume_event(&self, name: &str, action: &str) {
        let data = self.root.parent().unwrap_or(&self.root);
        events::record(data, &Subject::named("volume", name, name), action, &[]);
    }

    /// Whether a directory is neither locked nor complete.
    fn abandoned(&self, id: &Path) -> bool {
        lock_file(&self.root.join(id)).is_none_or(|file| !is_locked(&file))
    }

    /// All containers, the newest first. One that cannot be read is passed over.
    ///
    /// # Errors
    /// [`Error::Io`] when the directory cannot be read.
    pub fn list(&self) -> Result<Vec<Container>, Error> {
        Ok(self.survey()?.containers)
    }

    /// Everything that is there.
    ///
    /// # Errors
    /// [`Error::Io`] when the directory cannot be read.
    pub fn survey(&self) -> Result<Survey, Error> {
        let mut out = Survey::default();
        for id in self.ids()? {
            match self.read(&id) {
                Ok(container) => out.containers.push(container),
                Err(error @ Error::Torn(_)) if !self.abandoned(Path::new(&id)) => {
                    out.damaged.push(error);
                }
                Err(error) if error.is_unfinished() => out.unfinished.extend(self.unfinished(&id)),
                Err(error) => out.damaged.push(error),
            }
        }
        let newest = |c: &Container| std::cmp::Reverse(c.spec.made());
        out.containers.sort_by_key(newest);
        Ok(out)
    }

    /// Locks a directory without a whole specification that nobody holds: its maker was killed in between, or the
    /// machine stopped before it was on disk. While some container is being made this waits for another time.
    fn unfinished(&self, id: &str) -> Option<Locked> {
        let dir = self.root.join(id);
        let root = File::open(&self.root).ok()?;
        rustix::fs::flock(&root, FlockOperation::NonBlockingLockExclusive).ok()?;
        let locked = Locked::open(dir, Subject::default()).ok()?;
        let torn = |error: Error| error.is_unfinished();
        locked.spec().is_err_and(torn).then_some(locked)
    }

    /// Locks every directory that was to be removed and whose monitor was killed before, for the caller to remove:
    /// each with its specification, if it has one.
    pub fn left_over(&self) -> Vec<(Option<ContainerSpec>, Locked)> {
        let mut found = self.gone();
        for id in self.ids().unwrap_or_default() {
            if !self.abandoned(Path::new(&id)) {
                continue;
            }
            match self.read(&id) {
                Ok(container) if container.is_left_over() => {
                    found.extend(container.lock().ok().map(|l| (Some(container.spec), l)));
                }
                Err(error) if error.is_unfinished() => {
                    found.extend(self.unfinished(&id).map(|locked| (None, locked)));
                }
                _ => {}
            }
        }
        found
    }

    /// The same of those alone that [vanished](Locked::vanish).
    pub fn gone(&self) -> Vec<(Option<ContainerSpec>, Locked)> {
        let all = self.entries(is_gone).unwrap_or_default().into_iter();
        all.filter_map(|id| {
            let dir = self.root.join(&id);
            if std::fs::remove_dir(&dir).is_ok() {
                // Nothing but the directory was left.
                return None;
            }
            let locked = Locked::open(dir, Subject::default()).ok()?;
            Some((locked.spec().ok(), locked))
        })
        .collect()
    }

    /// The ids of all, also of those that cannot be read.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn ids(&self) -> Result<Vec<String>, Error> {
        self.entries(is_id)
    }

    fn entries(&self, wanted: impl Fn(&str) -> bool) -> Result<Vec<String>, Error> {
        let entries = match std::fs::read_dir(&self.root) {
            Ok(entries) => entries,
            Err(e) if e.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
            Err(e) => return Err(io("readdir", &self.root)(e)),
        };
        let names = entries.filter_map(|e| e.ok()?.file_name().into_string().ok());
        Ok(names.filter(|name| wanted(name)).collect())
    }

    fn read(&self, id: &str) -> Result<Container, Error> {
        let dir = self.root.join(id);
        let spec: ContainerSpec = read_json(&dir.join("spec.json"))?;
        if spec.version > VERSION {
            return Err(Error::Damaged {
                path: dir.join("spec.json"),
                reason: format!("version {} is of a newer rl", spec.version),
            });
        }
        let mut state = State::of(&dir);
        let held = || lock_file(&dir).is_some_and(|file| is_locked(&file));
        let orphan = state.is_alive() && !held();
        if orphan {
            state.orphaned();
        }
        Ok(Container {
            spec,
            state,
            orphan,
            dir,
        })
    }
}

/// Whether a directory of this name is a container's; one that is being removed has another.
pub fn is_id(name: &str) -> bool {
    name.len() == 64 && name.bytes().all(|b| b.is_ascii_hexdigit())
}

fn is_gone(name: &str) -> bool {
    name.strip_suffix(GONE).is_some_and(is_id)
}

/// Removes a file, or a directory with all that is in it; no error if it is not there.
///
/// # Errors
/// [`Error::Io`]: files of other ids can only be removed inside the user namespace.
pub fn remove_all(path: &Path) -> Result<(), Error> {
    match std::fs::symlink_metadata(path) {
        Ok(data) if !data.is_dir() => std::fs::remove_file(path).map_err(io("unlink", path)),
        _ => files::remove_tree(path),
    }
}

impl Container {
    /// Locks it for a change.
    ///
    /// # Errors
    /// [`Error::Running`] while its monitor lives.
    pub fn lock(&self) -> Result<Locked, Error> {
        Locked::open(self.dir.clone(), Subject::container(&self.spec))
    }

    /// Replaces its specification.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn rewrite(&self, spec: &ContainerSpec) -> Result<(), Error> {
        files::replace(&self.dir, "spec.json", spec, !spec.remove)?;
        match spec.remove {
            true => Ok(()),
            false => sync_dir(&self.dir),
        }
    }

    /// Locks it for a change, waiting for a monitor that is about to end: its state says how the command ended a
    /// moment before it lets go.
    ///
    /// # Errors
    /// [`Error::Running`] while its command runs, or its monitor does not end.
    pub fn lock_at_rest(&self) -> Result<Locked, Error> {
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(5);
        loop {
            match self.lock() {
                Err(Error::Running(_))
                    if !self.state.is_alive() && std::time::Instant::now() < deadline => {}
                other => return other,
            }
            std::thread::sleep(std::time::Duration::from_micros(500));
        }
    }

    /// Its directory.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Whether its monitor is gone though it was to be removed at its end.
    pub fn is_left_over(&self) -> bool {
        self.spec.remove && !self.state.is_alive() && !self.is_held()
    }

    /// Whether a monitor, or another command, holds its lock.
    pub fn is_held(&self) -> bool {
        lock_file(&self.dir).is_some_and(|file| is_locked(&file))
    }

    /// Whether it runs, as another process than when it was read.
    pub fn runs_anew(&self) -> bool {
        let now = State::of(&self.dir);
        let process = |state: &State| (state.pid, state.start_time);
        now.is_alive() && now.pid.is_some() && process(&now) != process(&self.state)
    }

    /// A hold on the first process, which is compared after it is held: never one that has the number by now.
    /// `None` when it does not run, also when its monitor has not noted that yet.
    ///
    /// # Errors
    /// `ENOSYS` and `EPERM`: pidfd_open(2) is missing, or a filter refuses it.
    pub fn hold(&self) -> Result<Option<OwnedFd>, Errno> {
        let Some(pid) = self.state.pid.and_then(rustix::process::Pid::from_raw) else {
            return Ok(None);
        };
        let held = match rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::empty()) {
            Ok(held) => held,
            Err(errno @ (Errno::NOSYS | Errno::PERM)) => return Err(errno),
            Err(_) => return Ok(None),
        };
        let now = rustix::event::Timespec::default();
        // Readable when it has ended (pidfd_open(2)).
        let mut end = [rustix::event::PollFd::new(
            &held,
            rustix::event::PollFlags::IN,
        )];
        let ended = rustix::event::poll(&mut end, Some(&now)).is_ok_and(|n| n > 0);
        Ok((!ended && self.is_still(pid)).then_some(held))
    }

    /// Whether `pid` still is the container's first process: same boot, same start time.
    fn is_still(&self, pid: rustix::process::Pid) -> bool {
        self.state.boot_id == boot_id()
            && self.state.start_time.is_some()
            && self.state.start_time == start_time(pid.as_raw_nonzero().get())
    }
}
