//! `--systemd`: what systemd needs as a container's first process (systemd's CONTAINER_INTERFACE), as podman gives it.

use super::resolve::Error;
use crate::model::spec::{MountSource, VolumeMount};

/// The signal that asks systemd to halt (systemd(1), `SIGRTMIN+3`).
pub(super) const STOP_SIGNAL: &str = "SIGRTMIN+3";

/// Whether the command is taken for systemd: `--systemd always`, or `true`, the default, and it has one of its names.
///
/// # Errors
/// [`Error::Value`] for another word.
pub(super) fn is_meant(word: Option<&str>, command: &[String]) -> Result<bool, Error> {
    match word {
        Some("always") => Ok(true),
        Some("false") => Ok(false),
        None | Some("true") => Ok(command.first().is_some_and(|program| {
            program.rsplit('/').next() == Some("systemd")
                || matches!(
                    program.as_str(),
                    "/sbin/init" | "/usr/sbin/init" | "/usr/local/sbin/init"
                )
        })),
        Some(other) => Err(Error::Value {
            option: "--systemd",
            value: other.to_owned(),
            reason: "expected `true`, `false` or `always`".into(),
        }),
    }
}

/// Empty places that forget, where nothing else was asked for.
pub(super) fn add_mounts(all: &mut Vec<VolumeMount>) {
    for (target, mode, flags) in [
        ("/run", "mode=755", &["nosuid", "nodev"][..]),
        ("/run/lock", "mode=1777", &["nosuid", "nodev", "noexec"]),
        ("/tmp", "mode=1777", &["nosuid", "nodev"]),
        (
            "/var/log/journal",
            "mode=755",
            &["nosuid", "nodev", "noexec"],
        ),
    ] {
        if !all.iter().any(|m| m.target == target) {
            all.push(VolumeMount {
                target: target.into(),
                source: MountSource::Tmpfs {
                    options: mode.into(),
                },
                read_only: false,
                options: flags.iter().map(|flag| (*flag).to_owned()).collect(),
            });
        }
    }
}

/// What tells systemd where it is, unless the variables are set already.
pub(super) fn add_environment(env: &mut Vec<String>, id: &str) {
    let uuid = id.get(..32).unwrap_or(id);
    for (name, value) in [("container", "rl"), ("container_uuid", uuid)] {
        if !env.iter().any(|e| e.split('=').next() == Some(name)) {
            env.push(format!("{name}={value}"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_that_are_systemd() {
        let meant = |word, program: &str| is_meant(word, &[program.to_owned()]).ok();
        for program in [
            "systemd",
            "/usr/lib/systemd/systemd",
            "/sbin/init",
            "/usr/sbin/init",
        ] {
            assert_eq!(meant(None, program), Some(true), "{program}");
            assert_eq!(meant(Some("true"), program), Some(true), "{program}");
            assert_eq!(meant(Some("false"), program), Some(false), "{program}");
        }
        for program in ["init", "/bin/sh", "/opt/systemd/bin/other"] {
            assert_eq!(meant(None, program), Some(false), "{program}");
            assert_eq!(meant(Some("always"), program), Some(true), "{program}");
        }
        assert_eq!(meant(Some("yes"), "systemd"), None);
        assert_eq!(is_meant(None, &[]).ok(), Some(false));
    }

    #[test]
    fn what_was_asked_for_stays() {
        let mut all = Vec::new();
        add_mounts(&mut all);
        assert_eq!(all.len(), 4);
        let mut some = vec![VolumeMount {
            target: "/tmp".into(),
            ..all[0].clone()
        }];
        add_mounts(&mut some);
        assert_eq!(some.len(), 4);

        let mut env = vec!["container=other".to_owned()];
        add_environment(&mut env, &"a".repeat(64));
        assert_eq!(
            env,
            [
                "container=other".to_owned(),
                format!("container_uuid={}", "a".repeat(32))
            ]
        );
    }
}
