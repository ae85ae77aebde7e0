//! What can go wrong with subordinate ids, and the line that mends it.

use std::io;
use std::path::{Path, PathBuf};

use crate::{Files, Kind, free_range};

/// Why newuidmap or newgidmap refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// The file has neither the set-user-id bit of root nor a file capability.
    NotPrivileged,
    /// It lies on a file system mounted `nosuid`.
    NosuidMount,
    /// The calling process has no_new_privs, under which no program gains privileges.
    NoNewPrivs,
    /// /etc/subuid or /etc/subgid does not grant the range.
    RangeNotAllowed,
    /// None of these; its own words are all there is.
    Unknown,
}

/// Why the maps could not be written.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The program is nowhere on PATH.
    #[error("`{program}` is not installed")]
    Missing {
        /// `newuidmap` or `newgidmap`.
        program: &'static str,
    },
    /// It is there but could not be run.
    #[error("spawn(`{}`)", path.display())]
    Spawn {
        /// The program file.
        path: PathBuf,
        /// What execve(2) or waitpid(2) said.
        source: io::Error,
    },
    /// One of them, or both, are there and could not do their work.
    #[error("{}", found(*cause, paths))]
    Powerless {
        /// The program files that the cause is true of.
        paths: Vec<PathBuf>,
        /// Why.
        cause: Cause,
    },
    /// It ran and failed.
    #[error("`{call}`: {status}{}", because(*cause, path, stderr))]
    Failed {
        /// User or group ids.
        kind: Kind,
        /// The program file.
        path: PathBuf,
        /// The program and its arguments.
        call: String,
        /// How it ended.
        status: String,
        /// What it wrote to standard error.
        stderr: String,
        /// What was found out.
        cause: Cause,
    },
}

/// A cause in words.
fn found(cause: Cause, paths: &[PathBuf]) -> String {
    let names: Vec<String> = paths.iter().map(|p| format!("`{}`", p.display())).collect();
    let names = names.join(" and ");
    let one = paths.len() == 1;
    match cause {
        Cause::NotPrivileged if one => {
            format!("{names} has neither the set-user-id bit nor a file capability")
        }
        Cause::NotPrivileged => {
            format!("{names} have neither the set-user-id bit nor a file capability")
        }
        Cause::NosuidMount if one => format!("{names} is on a file system mounted nosuid"),
        Cause::NosuidMount => format!("{names} are on a file system mounted nosuid"),
        Cause::NoNewPrivs => "this process has no_new_privs set".to_owned(),
        Cause::RangeNotAllowed | Cause::Unknown => String::new(),
    }
}

/// The tail of [`Error::Failed`]'s message.
fn because(cause: Cause, path: &Path, stderr: &str) -> String {
    let found = match found(cause, &[path.to_owned()]) {
        empty if empty.is_empty() => empty,
        words => format!("; {words}"),
    };
    let said = if stderr.is_empty() {
        String::new()
    } else {
        format!(": {stderr}")
    };
    format!("{found}{said}")
}

impl Error {
    /// The command that mends it, for the user called `user`; to be run as root.
    pub fn hint(&self, user: &str) -> Option<String> {
        match self {
            Error::Missing { .. } => Some(helper_process::packages::install("uidmap")),
            Error::Spawn { path, source } if source.kind() == io::ErrorKind::PermissionDenied => {
                Some(format!("chmod 4755 {}", path.display()))
            }
            Error::Spawn { .. } => None,
            Error::Powerless { cause, paths } => remedy(*cause, paths),
            Error::Failed {
                kind,
                cause: Cause::RangeNotAllowed,
                ..
            } => Some(grant(&Files::default(), &[*kind], user)),
            Error::Failed { cause, path, .. } => remedy(*cause, std::slice::from_ref(path)),
        }
    }
}

/// What root does about a cause that shows in the program files.
fn remedy(cause: Cause, paths: &[PathBuf]) -> Option<String> {
    match cause {
        Cause::NotPrivileged => {
            let paths: Vec<String> = paths.iter().map(|p| p.display().to_string()).collect();
            Some(format!("chmod u+s {}", paths.join(" ")))
        }
        Cause::NosuidMount => {
            let mut mounts: Vec<String> = paths.iter().filter_map(|p| mount_of(p)).collect();
            mounts.dedup();
            let lines: Vec<String> = mounts
                .iter()
                .map(|mount| format!("mount -o remount,suid {mount}"))
                .collect();
            (!lines.is_empty()).then(|| lines.join(" && "))
        }
        Cause::NoNewPrivs => Some(
            "start it outside of what set no_new_privs (a sandbox, a unit with NoNewPrivileges=yes)"
                .to_owned(),
        ),
        Cause::RangeNotAllowed | Cause::Unknown => None,
    }
}

/// The mount that a file is on: the longest of those above it (proc_pid_mountinfo(5), mount point); stat(1)
/// knows no bind mounts.
fn mount_of(path: &Path) -> Option<String> {
    let path = std::fs::canonicalize(path).ok()?;
    let table = std::fs::read_to_string("/proc/self/mountinfo").ok()?;
    let points = table.lines().filter_map(|line| line.split(' ').nth(4));
    let above = points.filter(|point| path.starts_with(point));
    above.max_by_key(|point| point.len()).map(str::to_owned)
}

/// The command that grants `user` 65,536 ids that nobody has on this machine, of each kind in `kinds`.
pub fn grant(files: &Files, kinds: &[Kind], user: &str) -> String {
    let (first, last) = free_range(files);
    let options: String = kinds
        .iter()
        .map(|kind| format!(" --add-{}s {first}-{last}", kind.file()))
        .collect();
    format!("usermod{options} {user}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_true_of_both_is_mended_for_both() {
        let paths = ["/b/newuidmap", "/b/newgidmap"].map(PathBuf::from);
        let error = |paths: &[PathBuf]| Error::Powerless {
            paths: paths.to_vec(),
            cause: Cause::NotPrivileged,
        };
        let both = error(&paths);
        assert!(
            both.to_string()
                .starts_with("`/b/newuidmap` and `/b/newgidmap` have neither ")
        );
        assert_eq!(
            both.hint("ann").unwrap(),
            "chmod u+s /b/newuidmap /b/newgidmap"
        );
        let one = error(&paths[1..]);
        assert!(one.to_string().starts_with("`/b/newgidmap` has neither "));
        assert_eq!(one.hint("ann").unwrap(), "chmod u+s /b/newgidmap");
    }

    #[test]
    fn only_the_kind_that_is_lacking_is_granted() {
        let dir = tempfile::tempdir().unwrap();
        let files = Files::below(dir.path());
        assert_eq!(
            grant(&files, &[Kind::Gid], "ann"),
            "usermod --add-subgids 100000-165535 ann"
        );
    }
}
