//! Containers as units of systemd: Quadlet files (podman-systemd.unit(5)) and existing containers become services, and
//! the user's service manager is told.
//!
//! `parse` and `words` read the language of unit files. From there everything up to [`generator::generate`] is a pure
//! function from files to the text of services; only [`generator::read`], [`generator::write`] and [`manager`] touch
//! the machine. A key that is not known, or that nothing here honours, is an error with its file and line: a service
//! that quietly lacks a part of what was asked for would be found out much later.

use std::path::{Path, PathBuf};

pub mod container;
pub mod existing;
pub mod generator;
pub mod manager;
pub mod names;
pub mod network;
pub mod parse;
pub mod service;
pub mod volume;
pub mod words;

use parse::Place;

/// What the services have to know of this machine.
pub struct Host<'a> {
    /// `rl`, with its whole path: systemd looks for no program of the user's.
    pub program: &'a Path,
    /// `XDG_DATA_HOME`, where it is set for who generates: the services have to find the same containers.
    pub data_home: Option<&'a Path>,
    /// Whether a path exists.
    pub exists: &'a dyn Fn(&Path) -> bool,
}

/// Why a file does not become a service, or a service is not enabled.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It cannot be read or written.
    #[error("`{path}`: {source}")]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A line that systemd.syntax(7) does not have.
    #[error("{place}: {what}")]
    Syntax {
        /// Where.
        place: Place,
        /// What is wrong.
        what: &'static str,
    },
    /// A section that such a file does not have.
    #[error("{place}: no section `[{name}]` in a `.{kind}` file")]
    Section {
        /// Where.
        place: Place,
        /// Its name.
        name: String,
        /// The end of the file's name.
        kind: String,
    },
    /// A key that nobody has.
    #[error("{place}: unknown key `{key}` in `[{section}]`")]
    UnknownKey {
        /// Where.
        place: Place,
        /// The key.
        key: String,
        /// The section.
        section: &'static str,
    },
    /// A key of podman's that is not there yet.
    #[error("{place}: `{key}=` of podman is not there yet")]
    NotYet {
        /// Where.
        place: Place,
        /// The key.
        key: String,
    },
    /// A value that the key does not take.
    #[error("{place}: `{key}={value}`: {reason}")]
    Value {
        /// Where.
        place: Place,
        /// The key.
        key: String,
        /// Its value.
        value: String,
        /// Why not.
        reason: String,
    },
    /// A key that has to be there.
    #[error("{file}: `{key}=` is missing in `[{section}]`")]
    Missing {
        /// The file.
        file: PathBuf,
        /// The key.
        key: &'static str,
        /// The section.
        section: &'static str,
    },
    /// A kind of file that nothing is made of.
    #[error("{file}: `.{kind}` files are not there yet")]
    NoKind {
        /// The file.
        file: PathBuf,
        /// The end of its name.
        kind: String,
    },
    /// The name of the file makes no name for a unit or a container.
    #[error("{file}: `{name}` is no name for {what}")]
    Name {
        /// The file.
        file: PathBuf,
        /// The name.
        name: String,
        /// For what.
        what: &'static str,
    },
    /// Two files make the same service.
    #[error("{file}: `{service}` is made of {other} already")]
    Twice {
        /// The second.
        file: PathBuf,
        /// The service.
        service: String,
        /// The first.
        other: PathBuf,
    },
    /// A unit of this name is there and is not ours.
    #[error("`{0}` is there and was not written by rl")]
    Foreign(PathBuf),
    /// The container does not suit.
    #[error("container `{name}` {why}")]
    Unfit {
        /// The container.
        name: String,
        /// Why not.
        why: &'static str,
    },
    /// There is no service manager for this user.
    #[error("no systemd runs for user `{user}`: {why}")]
    NoManager {
        /// Who.
        user: String,
        /// How that shows.
        why: String,
    },
    /// No such unit.
    #[error("`{0}` is not enabled")]
    NotEnabled(String),
    /// Neither HOME nor XDG_CONFIG_HOME.
    #[error("no directory for units: HOME is not set")]
    NoHome,
    /// systemctl(1) failed.
    #[error("`systemctl {command}`: {reason}")]
    Systemctl {
        /// Its words.
        command: String,
        /// What it said.
        reason: String,
    },
}

impl Error {
    /// What to do about it.
    pub fn hint(&self) -> Option<String> {
        Some(match self {
            Error::File { .. } => "check with `ls -l` that it is there and yours".into(),
            Error::Syntax { .. } => {
                "`[Section]`, `Key=value`, or a comment behind `#`: systemd.syntax(7)".into()
            }
            Error::Section { kind, .. } => format!(
                "`[{}]`, `[Unit]`, `[Service]`, `[Install]` and `[X-…]` are there",
                names::section(kind)
            ),
            Error::UnknownKey { section, .. } => match *section {
                "Install" => "`WantedBy=`, `RequiredBy=`, `UpheldBy=`, `Alias=` and `DefaultInstance=` are there".into(),
                _ => "`rl generate quadlet --help` lists the keys; `RlArgs=` takes options of rl".into(),
            },
            Error::NotYet { key, .. } => match key.as_str() {
                "GlobalArgs" => "rl has options behind the verb only: `RlArgs=`".into(),
                _ => format!("leave `{key}=` out"),
            },
            Error::Value { .. } => "systemd.syntax(7) and podman-systemd.unit(5) have the forms".into(),
            Error::Missing { .. } => "such as `Image=docker.io/library/debian`".into(),
            Error::NoKind { .. } => "`.container`, `.volume` and `.network` files become services".into(),
            Error::Name { what, .. } => match *what {
                "a container" => "give it one with `ContainerName=`".into(),
                "a volume" => "give it one with `VolumeName=`".into(),
                "a network" => "give it one with `NetworkName=`".into(),
                _ => "letters, digits, `:`, `_`, `.`, `-` and one `@` make a name".into(),
            },
            Error::Twice { .. } => "rename one of them, or give it a `ServiceName=`".into(),
            Error::Foreign(path) => format!(
                "move it away, or see whether podman's generator made it: `head -n 1 {}`",
                path.display()
            ),
            Error::Unfit { name, .. } => format!("`rl generate systemd --new {name}` makes it anew at every start, where it knows how it was made"),
            Error::NoManager { user, .. } => format!(
                "log in as `{user}` in a session of its own (ssh, not su), or have root run `loginctl enable-linger \
                 {user}`; `rl generate systemd NAME` prints a unit without systemd"
            ),
            Error::NotEnabled(_) => "`systemctl --user list-unit-files 'rl-*'` lists those that are".into(),
            Error::NoHome => "export HOME".into(),
            Error::Systemctl { .. } => "`systemctl --user status` and `journalctl --user -e` tell more".into(),
        })
    }
}
