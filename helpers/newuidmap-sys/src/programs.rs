//! Running newuidmap(1) and newgidmap(1).
//!
//! Both are started before either is waited for: each costs more than a millisecond (a set-user-id
//! program with PAM-sized libraries), and the kernel does not care which map is written first. On
//! failure, and only then, the program files are looked at to say why.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use rustix::fs::{StatVfsMountFlags, getxattr, stat, statvfs};
use rustix::thread::no_new_privs;

use crate::{Cause, Error, Kind};

/// One line of a map: (first id inside, first id outside, how many).
pub type Map = (u32, u32, u32);

/// Where the two programs are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Programs {
    newuidmap: PathBuf,
    newgidmap: PathBuf,
}

impl Programs {
    /// Finds both in the directories of `path` (the value of PATH) and the usual system ones.
    ///
    /// # Errors
    /// [`Error::Missing`].
    pub fn find(path: Option<&OsStr>) -> Result<Self, Error> {
        let find = |kind: Kind| {
            let program = kind.program();
            helper_process::find(program, path).ok_or(Error::Missing { program })
        };
        Ok(Programs {
            newuidmap: find(Kind::Uid)?,
            newgidmap: find(Kind::Gid)?,
        })
    }

    /// Looks whether the two can do what they are for, from this process: what keeps them from it shows in
    /// their files and in the process.
    ///
    /// # Errors
    /// [`Error::Powerless`].
    pub fn check(&self) -> Result<(), Error> {
        let found = [Kind::Uid, Kind::Gid].map(|kind| {
            let path = self.path(kind);
            Some((obstacle(kind, path)?, path.to_owned()))
        });
        let Some(cause) = found.iter().flatten().map(|(cause, _)| *cause).next() else {
            return Ok(());
        };
        let same = found.into_iter().flatten().filter(|(c, _)| *c == cause);
        let paths = same.map(|(_, path)| path).collect();
        Err(Error::Powerless { paths, cause })
    }

    /// The path of the program for `kind`.
    pub fn path(&self, kind: Kind) -> &Path {
        match kind {
            Kind::Uid => &self.newuidmap,
            Kind::Gid => &self.newgidmap,
        }
    }
}

/// The two programs at work. Dropping it without [`Pending::wait`] kills and reaps them.
#[derive(Debug)]
pub struct Pending {
    running: Vec<(Kind, PathBuf, Vec<String>, Child)>,
}

/// Starts newuidmap and newgidmap for the process `pid`, which must be in a user namespace without
/// maps, made by the caller's user. An empty list starts no program of its kind.
///
/// # Errors
/// [`Error::Spawn`]; a program that was already started is ended.
pub fn spawn_maps(
    programs: &Programs,
    pid: u32,
    uid: &[Map],
    gid: &[Map],
) -> Result<Pending, Error> {
    let mut pending = Pending {
        running: Vec::with_capacity(2),
    };
    for (kind, map) in [(Kind::Uid, uid), (Kind::Gid, gid)] {
        if map.is_empty() {
            continue;
        }
        let path = programs.path(kind).to_owned();
        let mut args = Vec::with_capacity(1 + 3 * map.len());
        args.push(pid.to_string());
        for &(inside, outside, length) in map {
            args.extend([inside, outside, length].map(|n| n.to_string()));
        }
        let child = Command::new(&path)
            .args(&args)
            .env_clear()
            .env("LC_ALL", "C")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|source| Error::Spawn {
                path: path.clone(),
                source,
            })?;
        pending.running.push((kind, path, args, child));
    }
    Ok(pending)
}

impl Pending {
    /// Waits for both. Both are reaped whatever happens; the first failure is returned.
    ///
    /// # Errors
    /// [`Error::Failed`] with the program's own words and the cause that was found.
    pub fn wait(mut self) -> Result<(), Error> {
        let mut first = Ok(());
        for (kind, path, args, child) in std::mem::take(&mut self.running) {
            let result = match child.wait_with_output() {
                Err(source) => Err(Error::Spawn { path, source }),
                Ok(output) if output.status.success() => Ok(()),
                Ok(output) => {
                    let stderr = String::from_utf8_lossy(&output.stderr).trim().to_owned();
                    let cause = diagnose(kind, &path, &stderr);
                    let status = helper_process::ended(output.status);
                    let call = format!("{} {}", kind.program(), args.join(" "));
                    Err(Error::Failed {
                        kind,
                        path,
                        call,
                        status,
                        stderr,
                        cause,
                    })
                }
            };
            first = first.and(result);
        }
        first
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        for (_, _, _, mut child) in self.running.drain(..) {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// Why the program at `path`, which said `stderr`, failed. The words are those of shadow's
/// newuidmap.c and libmisc/idmapping.c.
fn diagnose(kind: Kind, path: &Path, stderr: &str) -> Cause {
    if stderr.contains("range") && stderr.contains("not allowed") {
        return Cause::RangeNotAllowed;
    }
    obstacle(kind, path).unwrap_or(Cause::Unknown)
}

/// What keeps the program at `path` from gaining privileges (execve(2), capabilities(7)).
fn obstacle(kind: Kind, path: &Path) -> Option<Cause> {
    if no_new_privs().unwrap_or(false) {
        return Some(Cause::NoNewPrivs);
    }
    if statvfs(path).is_ok_and(|vfs| vfs.f_flag.contains(StatVfsMountFlags::NOSUID)) {
        return Some(Cause::NosuidMount);
    }
    let setuid_root = stat(path).is_ok_and(|st| st.st_mode & 0o4000 != 0 && st.st_uid == 0);
    let mut data = [0u8; 64];
    let capability = getxattr(path, "security.capability", &mut data)
        .is_ok_and(|length| has_capability(kind, data.get(..length).unwrap_or_default()));
    (!setuid_root && !capability).then_some(Cause::NotPrivileged)
}

/// Whether `security.capability` holds what writes maps of `kind`, and the program has it from its start on
/// (`struct vfs_cap_data`, include/uapi/linux/capability.h: flags, then the lower half of the permitted set).
fn has_capability(kind: Kind, data: &[u8]) -> bool {
    const EFFECTIVE: u32 = 1;
    // CAP_SETGID and CAP_SETUID.
    let bit = match kind {
        Kind::Gid => 6,
        Kind::Uid => 7,
    };
    let word = |at: usize| {
        let bytes = data.get(at..at + 4)?;
        Some(u32::from_le_bytes(bytes.try_into().ok()?))
    };
    let (flags, permitted) = (word(0).unwrap_or(0), word(4).unwrap_or(0));
    flags & EFFECTIVE != 0 && permitted >> bit & 1 != 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_and_files_tell_the_cause() {
        let said = "newuidmap: uid range [0-1) -> [5000-5001) not allowed";
        let diagnose = |said| diagnose(Kind::Uid, Path::new("/bin/sh"), said);
        assert_eq!(diagnose(said), Cause::RangeNotAllowed);
        let said = "newuidmap: write to uid_map failed: Operation not permitted";
        let cause = diagnose(said);
        assert!(matches!(
            cause,
            Cause::NotPrivileged | Cause::NoNewPrivs | Cause::NosuidMount
        ));
    }

    #[test]
    fn file_capabilities_are_read() {
        // As `setcap cap_setuid=ep` and `cap_setuid=p` write them.
        let data = |flags: u8, low: u8| [flags, 0, 0, 2, low, 0, 0, 0, 0, 0, 0, 0];
        assert!(has_capability(Kind::Uid, &data(1, 1 << 7)));
        assert!(!has_capability(Kind::Gid, &data(1, 1 << 7)));
        assert!(!has_capability(Kind::Uid, &data(0, 1 << 7)));
        assert!(!has_capability(Kind::Uid, &[]));
    }

    #[test]
    fn both_are_reaped_and_the_first_failure_is_told() {
        let programs = Programs {
            newuidmap: "/bin/false".into(),
            newgidmap: "/bin/true".into(),
        };
        let pending = spawn_maps(&programs, 1, &[(0, 1000, 1)], &[(0, 1000, 1)]).unwrap();
        let error = pending.wait().unwrap_err();
        assert!(
            error
                .to_string()
                .starts_with("`newuidmap 1 0 1000 1`: exit status 1"),
            "{error}"
        );
        let programs = Programs {
            newuidmap: "/no/such".into(),
            newgidmap: "/bin/true".into(),
        };
        let error = spawn_maps(&programs, 1, &[(0, 1000, 1)], &[]).unwrap_err();
        assert!(matches!(error, Error::Spawn { .. }));
    }
}
