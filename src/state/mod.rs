//! Containers on disk: one directory each below `containers/`, with the specification, the state and
//! what the container writes.
//!
//! ```text
//! containers/
//!   by-name/NAME -> ID      the symbolic link is the claim to the name
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

pub mod events;
mod files;
mod locked;
mod status;

use std::fs::File;
use std::io::ErrorKind;
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::FlockOperation;

use crate::model::spec::{ContainerSpec, VERSION};
use crate::sys::process::Ended;
use events::Subject;
use files::{boot_id, io, is_locked, lock_file, make_dir, read_json, start_time};
use locked::GONE;
pub use locked::{Gone, Locked};
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
}

impl Error {
    /// What to do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
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
            _ => None,
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
    dir: PathBuf,
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
        let locked = self.make(spec, &names)?;
        let made = self
            .claim(spec, &names, &locked.link)
            .and_then(|()| locked.furnish(spec));
        match made {
            Ok(()) => Ok(locked),
            Err(error) => {
                let _ = locked.remove();
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
    /// until it is locked, so what [`Containers::remove_debris`] finds unlocked has no maker any more.
    fn make(&self, spec: &ContainerSpec, names: &Path) -> Result<Locked, Error> {
        let root = File::open(&self.root).map_err(io("open", &self.root))?;
        rustix::fs::flock(&root, FlockOperation::LockShared)
            .map_err(|errno| io("flock", &self.root)(errno.into()))?;
        let dir = self.root.join(&spec.id);
        make_dir(&dir)?;
        Locked::open(dir, Subject::container(spec), &names.join(&spec.name))
    }

    /// Claims the name. A claim whose container was never finished, or is gone, is void; one at a
    /// time takes it away, so that it is never the next one's claim that goes.
    fn claim(&self, spec: &ContainerSpec, names: &Path, link: &Path) -> Result<(), Error> {
        let mut turn = None;
        loop {
            match std::os::unix::fs::symlink(&spec.id, link) {
                Err(e) if e.kind() == ErrorKind::AlreadyExists => {}
                other => return other.map_err(io("symlink", link)),
            }
            let Ok(id) = std::fs::read_link(link) else {
                continue;
            };
            if self.root.join(&id).join("spec.json").exists() || !self.abandoned(&id) {
                return Err(Error::NameTaken {
                    name: spec.name.clone(),
                    id: id.to_string_lossy().chars().take(12).collect(),
                });
            }
            if turn.is_some() {
                std::fs::remove_file(link).map_err(io("unlink", link))?;
                continue;
            }
            let dir = File::open(names).map_err(io("open", names))?;
            rustix::fs::flock(&dir, FlockOperation::LockExclusive)
                .map_err(|errno| io("flock", names)(errno.into()))?;
            turn = Some(dir);
        }
    }

    /// Gives a container another name. It need not be at rest.
    ///
    /// # Errors
    /// [`Error::NameTaken`], [`Error::Io`].
    pub fn rename(&self, container: &Container, name: &str) -> Result<(), Error> {
        let names = self.root.join("by-name");
        let spec = ContainerSpec {
            name: name.to_owned(),
            ..container.spec.clone()
        };
        self.claim(&spec, &names, &names.join(name))?;
        container.rewrite(&spec)?;
        let before = ("oldName", container.spec.name.clone());
        self.event(&spec, "rename", &[before]);
        let before = names.join(&container.spec.name);
        match std::fs::read_link(&before) {
            Ok(id) if container.dir.ends_with(&id) => {
                std::fs::remove_file(&before).map_err(io("unlink", &before))
            }
            _ => Ok(()),
        }
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

    /// The container of this name, id or unique id prefix.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::Ambiguous`], [`Error::Io`].
    pub fn find(&self, word: &str) -> Result<Container, Error> {
        let missing = || Error::NotFound(word.to_owned());
        if word.is_empty() || word.contains('/') || word.starts_with('.') {
            return Err(missing());
        }
        if let Ok(id) = std::fs::read_link(self.root.join("by-name").join(word)) {
            return self.read(&id.to_string_lossy());
        }
        let mut found = None;
        for id in self.ids()? {
            if id.starts_with(word) {
                if found.is_some() {
                    return Err(Error::Ambiguous(word.to_owned()));
                }
                found = Some(id);
            }
        }
        self.read(&found.ok_or_else(missing)?)
    }

    /// All containers. What a killed command left behind is removed on the way; one that cannot be
    /// read is passed over.
    ///
    /// # Errors
    /// [`Error::Io`] when the directory cannot be read.
    pub fn list(&self) -> Result<Vec<Container>, Error> {
        let mut out = Vec::new();
        for id in self.ids()? {
            match self.read(&id) {
                Ok(container) => out.push(container),
                Err(_) => self.remove_debris(&id),
            }
        }
        out.sort_by_key(|c| std::cmp::Reverse(c.spec.made()));
        Ok(out)
    }

    /// Removes a directory without a specification that nobody holds: its maker was killed in between.
    /// While some container is being made this waits for another time.
    fn remove_debris(&self, id: &str) {
        let dir = self.root.join(id);
        let bare = || !dir.join("spec.json").exists();
        if bare()
            && let Ok(root) = File::open(&self.root)
            && rustix::fs::flock(&root, FlockOperation::NonBlockingLockExclusive).is_ok()
            && let Ok(locked) = Locked::open(dir.clone(), Subject::default(), &dir)
            && bare()
        {
            let _ = locked.remove();
        }
    }

    /// Locks every container that was to be removed at its end and whose monitor was killed before,
    /// for the caller to remove.
    pub fn left_over(&self) -> Vec<(ContainerSpec, Locked)> {
        self.abandoned_of(|name| is_id(name) || is_gone(name))
    }

    /// The same of those alone that [vanished](Locked::vanish).
    pub fn gone(&self) -> Vec<(ContainerSpec, Locked)> {
        self.abandoned_of(is_gone)
    }

    fn abandoned_of(&self, wanted: impl Fn(&str) -> bool) -> Vec<(ContainerSpec, Locked)> {
        let mut found = Vec::new();
        for id in self.entries(wanted).unwrap_or_default() {
            if !self.abandoned(Path::new(&id)) {
                continue;
            }
            match self.read(&id) {
                Ok(container) if container.is_left_over() || is_gone(&id) => {
                    found.extend(container.lock().ok().map(|locked| (container.spec, locked)));
                }
                Ok(_) => {}
                Err(_) => self.remove_debris(&id),
            }
        }
        found
    }

    fn ids(&self) -> Result<Vec<String>, Error> {
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
        let mut state = read_json(&dir.join("state.json")).unwrap_or_else(|_| State::created());
        let held = || lock_file(&dir).is_some_and(|file| is_locked(&file));
        if state.is_alive() && !held() {
            // Killed with its monitor, or by a reboot: 137 is what a SIGKILL would have left.
            state.status = Status::Exited;
            state.pid = None;
            state.ended = Some(Ended::Signaled(libc::SIGKILL));
        }
        Ok(Container { spec, state, dir })
    }
}

fn is_id(name: &str) -> bool {
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
        let link = self.link();
        Locked::open(self.dir.clone(), Subject::container(&self.spec), &link)
    }

    /// Replaces its specification.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn rewrite(&self, spec: &ContainerSpec) -> Result<(), Error> {
        files::replace(&self.dir, "spec.json", spec, !spec.remove)
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

    /// A hold on the first process, which is compared after it is held: never one that has the number by now.
    /// `None` when it does not run, also when its monitor has not noted that yet.
    pub fn hold(&self) -> Option<OwnedFd> {
        let pid = rustix::process::Pid::from_raw(self.state.pid?)?;
        let held = rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::empty()).ok()?;
        let now = rustix::event::Timespec::default();
        // Readable when it has ended (pidfd_open(2)).
        let mut end = [rustix::event::PollFd::new(
            &held,
            rustix::event::PollFlags::IN,
        )];
        let ended = rustix::event::poll(&mut end, Some(&now)).is_ok_and(|n| n > 0);
        (!ended && self.is_still(pid)).then_some(held)
    }

    /// Whether `pid` still is the container's first process: same boot, same start time.
    fn is_still(&self, pid: rustix::process::Pid) -> bool {
        self.state.boot_id == boot_id()
            && self.state.start_time.is_some()
            && self.state.start_time == start_time(pid.as_raw_nonzero().get())
    }

    fn link(&self) -> PathBuf {
        let root = self.dir.parent().unwrap_or(&self.dir);
        root.join("by-name").join(&self.spec.name)
    }
}
