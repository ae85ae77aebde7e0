//! The user's service manager: where its units are, whether it runs, whether it outlives the session.

use std::io::Write as _;
use std::os::unix::fs::FileTypeExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::service::HEAD;
use super::{Error, names};
use crate::host;

/// What a manager is found by.
#[derive(Clone, Debug)]
pub struct Places {
    /// `XDG_CONFIG_HOME`, or `~/.config`.
    pub config_home: PathBuf,
    /// `XDG_RUNTIME_DIR`.
    pub runtime_dir: Option<PathBuf>,
    /// The user's name, or number where there is none.
    pub user: String,
}

impl Places {
    /// Of the user that asks.
    ///
    /// # Errors
    /// [`Error::NoHome`].
    pub fn find() -> Result<Places, Error> {
        let absolute = |name: &str| {
            let path = PathBuf::from(std::env::var_os(name)?);
            path.is_absolute().then_some(path)
        };
        let uid = nix::unistd::getuid();
        let user = nix::unistd::User::from_uid(uid).ok().flatten();
        let home = absolute("HOME").or_else(|| user.as_ref().map(|user| user.dir.clone()));
        Ok(Places {
            config_home: absolute("XDG_CONFIG_HOME")
                .or_else(|| home.map(|home| home.join(".config")))
                .ok_or(Error::NoHome)?,
            runtime_dir: absolute("XDG_RUNTIME_DIR"),
            user: user.map_or_else(|| uid.to_string(), |user| user.name),
        })
    }
}

/// A user's running service manager.
#[derive(Debug)]
pub struct Manager {
    units: PathBuf,
    user: String,
}

/// The unit of a container.
pub fn unit_name(container: &str) -> String {
    format!("rl-{container}.service")
}

impl Manager {
    /// Finds it.
    ///
    /// # Errors
    /// [`Error::NoManager`].
    pub fn find(places: &Places) -> Result<Manager, Error> {
        let none = |why: String| Error::NoManager {
            user: places.user.clone(),
            why,
        };
        let Some(runtime_dir) = &places.runtime_dir else {
            return Err(none("XDG_RUNTIME_DIR is not set".into()));
        };
        // `systemctl --user` speaks to it through this socket.
        let socket = runtime_dir.join("systemd/private");
        let is_socket = std::fs::metadata(&socket).is_ok_and(|m| m.file_type().is_socket());
        if !is_socket {
            return Err(none(format!("there is no socket `{}`", socket.display())));
        }
        Ok(Manager {
            units: places.config_home.join("systemd/user"),
            user: places.user.clone(),
        })
    }

    /// Writes the unit of a container and has it started at log-in, with `now` at once as well. Returns its path.
    ///
    /// # Errors
    /// A unit of this name that is not ours, one that cannot be written, systemctl(1).
    pub fn enable(&self, container: &str, text: &str, now: bool) -> Result<PathBuf, Error> {
        let name = unit_name(container);
        let path = self.units.join(&name);
        if path.exists() && !is_ours(&path) {
            return Err(Error::Foreign(path));
        }
        replace(&path, text)?;
        systemctl(&["daemon-reload"])?;
        match now {
            true => systemctl(&["enable", "--now", &name])?,
            false => systemctl(&["enable", &name])?,
        }
        Ok(path)
    }

    /// Takes the unit of a container away; with `now` it is stopped as well.
    ///
    /// # Errors
    /// There is none, or it is not ours; systemctl(1).
    pub fn disable(&self, container: &str, now: bool) -> Result<(), Error> {
        let name = unit_name(container);
        let path = self.units.join(&name);
        if !names::is_unit_name(&name) || !path.exists() {
            return Err(Error::NotEnabled(name));
        }
        if !is_ours(&path) {
            return Err(Error::Foreign(path));
        }
        match now {
            true => systemctl(&["disable", "--now", &name])?,
            false => systemctl(&["disable", &name])?,
        }
        std::fs::remove_file(&path).map_err(|source| Error::File { path, source })?;
        systemctl(&["daemon-reload"])
    }

    /// Whether the manager runs without a session of the user.
    pub fn lingers(&self) -> bool {
        host::lingers(&self.user)
    }

    /// What to do so that it does.
    pub fn linger_line(&self) -> String {
        host::linger_line(&self.user)
    }
}

fn is_ours(path: &Path) -> bool {
    std::fs::read_to_string(path).is_ok_and(|text| text.starts_with(HEAD))
}

/// Writes a file beside its place and puts it there as a whole.
///
/// # Errors
/// [`Error::File`].
pub fn replace(path: &Path, text: &str) -> Result<(), Error> {
    let failed = |source| Error::File {
        path: path.to_owned(),
        source,
    };
    let directory = path.parent().unwrap_or(Path::new("."));
    std::fs::create_dir_all(directory).map_err(failed)?;
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let temporary = directory.join(format!(".{name}.{}", std::process::id()));
    let written = std::fs::File::create(&temporary).and_then(|mut file| {
        file.write_all(text.as_bytes())?;
        file.sync_all()
    });
    let done = written.and_then(|()| std::fs::rename(&temporary, path));
    if done.is_err() {
        let _ = std::fs::remove_file(&temporary);
    }
    done.map_err(failed)
}

fn systemctl(words: &[&str]) -> Result<(), Error> {
    let failed = |reason: String| Error::Systemctl {
        command: format!("--user {}", words.join(" ")),
        reason,
    };
    let output = Command::new("systemctl")
        .arg("--user")
        .args(words)
        .stdin(Stdio::null())
        .output()
        .map_err(|e| failed(e.to_string()))?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let said = said.lines().next().unwrap_or_default();
    Err(failed(match said {
        "" => output.status.to_string(),
        said => said.to_owned(),
    }))
}
