//! Why a limit cannot be applied, and what mends it.

use std::io;
use std::path::PathBuf;

/// Why a container has not the group it should have.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A limit was asked for, and there is no group that could have it.
    #[error("`{option}` cannot be applied: {why}")]
    NoGroup {
        /// The option.
        option: &'static str,
        /// Why there is none.
        why: String,
    },
    /// A limit was asked for whose controller we were not given.
    #[error(
        "`{option}` cannot be applied: the controller `{controller}` is not delegated to this user"
    )]
    NotDelegated {
        /// The option.
        option: &'static str,
        /// Its controller.
        controller: String,
        /// It is the administrator of the user managers who gives it.
        systemd: bool,
    },
    /// The kernel says no to a value.
    #[error("`{option}`: write(`{}`, `{value}`): {source}", .path.display())]
    Value {
        /// The option.
        option: &'static str,
        /// The file.
        path: PathBuf,
        /// What was to be written.
        value: String,
        /// The kernel's answer.
        source: io::Error,
    },
    /// A file or directory of a group.
    #[error("{call}(`{}`): {source}", .path.display())]
    Io {
        /// The operation.
        call: &'static str,
        /// Its file.
        path: PathBuf,
        /// Its error.
        source: io::Error,
    },
    /// The user's systemd.
    #[error(transparent)]
    Systemd(#[from] systemd_user::Error),
}

impl Error {
    /// What to do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Error::NoGroup { .. } => Some(
                "limits need cgroup v2 and a systemd session of yours (log in by ssh or at the console, or as root: \
                 `loginctl enable-linger USER`), or a delegated cgroup; `rl doctor` looks at what there is"
                    .into(),
            ),
            Error::NotDelegated {
                systemd: true,
                controller,
                ..
            } => Some(format!("as root: {}, then log in again", delegate(controller))),
            Error::NotDelegated { .. } => Some(
                "whoever started this container has to give it: its own cgroup lacks it".into(),
            ),
            Error::Value { .. } => Some("`rl run --help` says what the option takes".into()),
            Error::Io { .. } | Error::Systemd(_) => None,
        }
    }
}

/// The controllers that our limits need.
pub const CONTROLLERS: [&str; 5] = ["cpu", "cpuset", "io", "memory", "pids"];

/// What has the managers of users hand on these controllers and `another` (systemd.resource-control(5), `Delegate=`).
pub fn delegate(another: &str) -> String {
    let mut all = CONTROLLERS.to_vec();
    if !all.contains(&another) && !another.is_empty() {
        all.push(another);
    }
    format!(
        "mkdir -p /etc/systemd/system/user@.service.d && printf '[Service]\\nDelegate={}\\n' \
         >/etc/systemd/system/user@.service.d/delegate.conf && systemctl daemon-reload",
        all.join(" ")
    )
}
