//! Why a limit cannot be applied, and what mends it.

use std::io;
use std::path::PathBuf;

/// Why a container has not the group it should have.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A limit was asked for, and there is no group that could have it.
    #[error(
        "`{option}` cannot be applied, there is no group with the controller `{controller}`: {why}"
    )]
    NoGroup {
        /// The option.
        option: &'static str,
        /// Its controller.
        controller: String,
        /// Why there is none.
        why: String,
    },
    /// A limit was asked for, and no group.
    #[error("`{option}` cannot be applied: {why}")]
    Unwanted {
        /// The option.
        option: &'static str,
        /// What was asked for.
        why: &'static str,
        /// What helps.
        hint: &'static str,
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
            Error::NoGroup { controller, .. } => Some(format!(
                "limits need cgroup v2 and a systemd session of yours (log in by ssh or at the console, or as root: \
                 `{}`), or a delegated cgroup; `rl doctor` looks at what there is{}",
                linger(),
                handing_on(controller)
            )),
            Error::Unwanted { hint, .. } => Some((*hint).into()),
            Error::NotDelegated {
                systemd: true,
                controller,
                ..
            } => Some(match CONTROLLERS.contains(&controller.as_str()) {
                true => format!("as root: {}, then log in again", delegate(controller)),
                false => subtree(controller),
            }),
            Error::NotDelegated { .. } => Some(
                "whoever made the group around this process has to give it: that group lacks it, or has processes \
                 of its own beside groups (`--cgroups split` moves them)"
                    .into(),
            ),
            Error::Value { .. } => Some("`rl run --help` says what the option takes".into()),
            Error::Systemd(error) => Some(manager(error)),
            Error::Io { .. } => None,
        }
    }
}

/// What to look at when the user's systemd did not make a scope, and the way without it.
fn manager(error: &systemd_user::Error) -> String {
    use systemd_user::Error as E;
    match error {
        E::Connect { .. } | E::Io(_) | E::Refused(_) | E::Malformed => format!(
            "`systemctl --user status` says whether your systemd answers; log in by ssh or at the console, not by su, \
             or as root: `{}`",
            linger()
        ),
        E::Failed { .. } => "`journalctl --user -e` tells more; `--cgroups disabled` runs without a group and limits".into(),
        E::Job { unit, .. } => format!(
            "`systemctl --user status {unit} rl.slice` tells more; `--cgroups disabled` runs without a group and limits"
        ),
    }
}

/// What has root keep the manager of this user beyond log-out.
fn linger() -> String {
    let uid = nix::unistd::getuid();
    let user = nix::unistd::User::from_uid(uid).ok().flatten();
    let name = user.map_or_else(|| uid.to_string(), |user| user.name);
    crate::host::linger_line(&name)
}

/// What else it takes where the manager, once it is there, would not hand on this controller: systemd's own
/// user@.service does so with `memory` and `pids` in every version.
fn handing_on(controller: &str) -> String {
    match controller {
        "memory" | "pids" | "cgroup" => String::new(),
        "cpu" | "cpuset" | "io" => format!(
            "; a manager of yours may not be given `{controller}`, so before that, as root: {}",
            delegate(controller)
        ),
        _ => format!("; {}", subtree(controller)),
    }
}

/// How root gives a user a group with a controller that no systemd hands on.
fn subtree(controller: &str) -> String {
    let uid = rustix::process::getuid().as_raw();
    let group = format!("/sys/fs/cgroup/rl-{uid}");
    format!(
        "systemd hands on no `{controller}`; as root: echo +{controller} >/sys/fs/cgroup/cgroup.subtree_control && \
         mkdir -p {group}/shell && for g in {group} {group}/shell; do \
         chown {uid} $g $g/cgroup.procs $g/cgroup.subtree_control; done && \
         echo PID >{group}/shell/cgroup.procs, where PID is that of your shell"
    )
}

/// The controllers that our limits need, which systemd hands on.
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_systemd_refuses_says_where_to_look() {
        let hint = |error| Error::Systemd(error).hint().unwrap();
        let connect = systemd_user::Error::Connect {
            path: "/run/user/1000/systemd/private".into(),
            source: io::ErrorKind::ConnectionRefused.into(),
        };
        assert!(hint(connect).contains("loginctl enable-linger "));
        let job = systemd_user::Error::Job {
            unit: "rl-1.scope".into(),
            result: "failed".into(),
        };
        assert!(hint(job).contains("systemctl --user status rl-1.scope"));
    }

    #[test]
    fn without_a_group_the_controller_is_named_and_who_hands_it_on() {
        let none = |option, controller: &str| Error::NoGroup {
            option,
            controller: controller.into(),
            why: "there is none".into(),
        };
        let hint = |option, controller| none(option, controller).hint().unwrap();
        assert!(none("--memory", "memory").to_string().contains("`memory`"));
        let memory = hint("--memory", "memory");
        assert!(!memory.contains("USER") && !memory.contains("delegate.conf"));
        assert!(memory.contains("loginctl enable-linger "));
        assert!(hint("--cpus", "cpu").contains("user@.service.d/delegate.conf"));
        assert!(hint("--hugetlb", "hugetlb").contains("+hugetlb"));
    }
}
