//! Where things are kept.

use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

/// The directories of one user (XDG base directory specification).
#[derive(Clone, Debug)]
pub struct Dirs {
    /// Images, layers, containers and volumes.
    pub data: PathBuf,
}

/// What of root's is there only as long as something runs (FHS 3.0, "/run"). A user has a directory for that only as long
/// as they are logged in, which their containers may outlive.
const RUNTIME: &str = "/run/rl";

/// There is no directory to keep anything in.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Neither XDG_DATA_HOME nor HOME, nor a home directory in `/etc/passwd`.
    #[error("no directory for images and containers: HOME is not set")]
    NoHome,
    /// It cannot be made or written.
    #[error("`{path}`: {source}")]
    NotWritable {
        /// The directory.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// It is there, and somebody else's to change.
    #[error("`{path}` {whose}, who could change what containers are made of")]
    Open {
        /// The directory.
        path: PathBuf,
        /// What makes it so.
        whose: String,
    },
}

impl Error {
    /// What to do about it.
    pub fn hint(&self) -> Option<String> {
        Some(format!(
            "set XDG_DATA_HOME to a directory on a local disk that you can write, such as `{}`",
            crate::host::ELSEWHERE
        ))
    }
}

impl Dirs {
    /// Finds the directories and makes sure that they can be written. Root keeps its state in
    /// `/var/lib/rl` and `/run/rl`.
    ///
    /// # Errors
    /// [`Error`] when there is no place to write.
    pub fn find() -> Result<Dirs, Error> {
        let data = Dirs::place()?;
        match prepare(&data) {
            Err(source) => Err(Error::NotWritable { path: data, source }),
            Ok(Some(whose)) => Err(Error::Open { path: data, whose }),
            Ok(None) => Ok(Dirs { data }),
        }
    }

    /// Where [`Dirs::data`] is, without a look at it.
    ///
    /// # Errors
    /// [`Error::NoHome`].
    pub fn place() -> Result<PathBuf, Error> {
        let absolute = |name: &str| {
            let path = PathBuf::from(std::env::var_os(name)?);
            path.is_absolute().then_some(path)
        };
        let root = rustix::process::geteuid().is_root();
        Ok(match absolute("XDG_DATA_HOME") {
            Some(path) => path.join("rl"),
            None if root && initial_userns() => PathBuf::from("/var/lib/rl"),
            None => absolute("HOME")
                .or_else(home)
                .ok_or(Error::NoHome)?
                .join(".local/share/rl"),
        })
    }

    /// Where the socket of the monitor of the container `id` is to be, if not in the container's directory: root's are in
    /// `/run/rl`, where that can be made.
    pub fn socket(&self, id: &str) -> Option<PathBuf> {
        if !rustix::process::geteuid().is_root() || !initial_userns() {
            return None;
        }
        make(Path::new(RUNTIME), 0o700)
            .is_ok()
            .then(|| Path::new(RUNTIME).join(id))
    }

    /// The containers' directory.
    pub fn containers(&self) -> PathBuf {
        self.data.join("containers")
    }

    /// The networks' directory.
    pub fn networks(&self) -> PathBuf {
        self.data.join("networks")
    }

    /// The volumes' directory.
    pub fn volumes(&self) -> PathBuf {
        self.data.join("volumes")
    }
}

/// Whether ids here are the machine's own: in a user namespace of ours, uid 0 is an ordinary user.
fn initial_userns() -> bool {
    let map = std::fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
    map.split_whitespace().eq(["0", "0", "4294967295"])
}

fn home() -> Option<PathBuf> {
    let user = nix::unistd::User::from_uid(nix::unistd::getuid()).ok()??;
    user.dir.is_absolute().then_some(user.dir)
}

/// Makes the directory where it is missing. Container root must pass through it and nobody else's
/// business is inside: others may search but not list it. Returns what lets others change it, if anything does.
fn prepare(data: &Path) -> std::io::Result<Option<String>> {
    if !data.is_dir() {
        make(data, 0o711)?;
    }
    rustix::fs::access(data, rustix::fs::Access::WRITE_OK)?;
    let meta = std::fs::metadata(data)?;
    let (owner, own) = (meta.uid(), rustix::process::geteuid().as_raw());
    // An owner who does not exist in this user namespace says nothing.
    let unknown = owner == OVERFLOW && !initial_userns();
    if ![own, 0].contains(&owner) && !unknown {
        return Ok(Some(format!("belongs to uid {owner}")));
    }
    if meta.mode() & 0o002 != 0 {
        return Ok(Some("can be written by every user".into()));
    }
    PRIVATE
        .iter()
        .try_for_each(|name| close(&data.join(name)))?;
    Ok(None)
}

/// What tells of containers, and what they write, set-user-id programs of the caller's perhaps: for no other user.
/// They are made like that, and were not always.
const PRIVATE: [&str; 2] = ["events", "volumes"];

/// Who stands for those that do not exist in a user namespace (proc_sys_kernel(5), `overflowuid`).
const OVERFLOW: u32 = 65534;

fn close(path: &Path) -> std::io::Result<()> {
    match std::fs::metadata(path) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(()),
        Ok(meta) if meta.mode() & 0o007 != 0 => {
            let narrow = std::fs::Permissions::from_mode(meta.mode() & 0o7770);
            std::fs::set_permissions(path, narrow)
        }
        other => other.map(drop),
    }
}

fn make(path: &Path, mode: u32) -> std::io::Result<()> {
    let mut builder = std::fs::DirBuilder::new();
    builder.recursive(true).mode(mode).create(path)
}
