//! Drive fuse-overlayfs(1): an overlay mount without the kernel's overlay file system.
//!
//! In order: [`check_device`] tells whether /dev/fuse can be used at all; [`Options::command`] makes
//! the command, refusing what the program cannot be told; the caller runs it in the user and mount
//! namespaces of the container, through [`spawn`] or by its own means; [`Starting::wait_ready`] waits
//! until the mount answers.
//!
//! It runs in the foreground (`-f`): as a child it keeps its pid, its death shows on a pidfd and its
//! words can be read. It gives no sign when it is ready, so the mount point is asked: statfs(2)
//! reports FUSE_SUPER_MAGIC once the mount is there, and does not return before the file system
//! answers.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::BorrowedFd;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use helper_process::{Helper, ended};
use rustix::io::Errno;

/// The program's name.
pub const PROGRAM: &str = "fuse-overlayfs";
/// `f_type` of a FUSE mount (linux/magic.h has it as FUSE_SUPER_MAGIC).
const FUSE_SUPER_MAGIC: i128 = 0x6573_5546;
/// How long it may take to be ready. It takes some 5 ms; a machine under load, seconds.
const READY: Duration = Duration::from_secs(20);
/// How long it may take to end after SIGTERM; it writes back what it holds.
const GRACE: Duration = Duration::from_secs(5);

/// What is to be mounted.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Options {
    /// Read-only layers, the uppermost first. At least one.
    pub lower: Vec<PathBuf>,
    /// The writable layer and its work directory, on one file system; without it the mount is
    /// read-only.
    pub upper: Option<(PathBuf, PathBuf)>,
    /// Forget to sync: for a root file system that is thrown away.
    pub volatile: bool,
    /// Show every file as owned by 0:0 and let chown succeed: for maps of a single id.
    pub squash_to_root: bool,
    /// Further `-o` options, each `name` or `name=value`.
    pub extra: Vec<String>,
}

/// Why there is no mount.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No layer to stand on.
    #[error("an overlay needs at least one lower directory")]
    NoLower,
    /// The program divides its list of directories at colons and knows no escape for them (1.10).
    #[error("`fuse-overlayfs` cannot use `{}`: a colon in a path divides its list", .0.display())]
    Colon(PathBuf),
    /// /dev/fuse is missing or may not be opened.
    #[error("open(`/dev/fuse`, O_RDWR)")]
    Device(#[source] io::Error),
    /// The program could not be executed.
    #[error("spawn(`{}`)", program.display())]
    Spawn {
        /// The program file.
        program: PathBuf,
        /// What execve(2) said.
        source: io::Error,
    },
    /// The mount point could not be asked, or the process not be waited for.
    #[error("{call}(`{}`)", path.display())]
    Io {
        /// The call.
        call: &'static str,
        /// The mount point.
        path: PathBuf,
        /// What it said.
        source: io::Error,
    },
    /// It ended before the mount was there.
    #[error("`fuse-overlayfs` ended before `{}` was mounted: {status}{}", path.display(), said(stderr))]
    Died {
        /// The mount point.
        path: PathBuf,
        /// How it ended.
        status: String,
        /// What it wrote to standard error.
        stderr: String,
    },
    /// The mount was not there in time; the program has been stopped.
    #[error("`fuse-overlayfs` did not mount `{}` within {} seconds{}", path.display(), READY.as_secs(), said(stderr))]
    Timeout {
        /// The mount point.
        path: PathBuf,
        /// What it wrote to standard error.
        stderr: String,
    },
}

/// The tail of a message: what the program said, on one line.
fn said(stderr: &str) -> String {
    let lines: Vec<&str> = stderr
        .lines()
        .filter(|l| !l.starts_with("unknown argument ignored") && !l.trim().is_empty())
        .collect();
    if lines.is_empty() {
        String::new()
    } else {
        format!(": {}", lines.join("; "))
    }
}

impl Error {
    /// The line that mends it, where one is known.
    pub fn hint(&self) -> Option<String> {
        match self {
            Error::Spawn { .. } => Some("apt-get install fuse-overlayfs".to_owned()),
            Error::Device(source) => Some(format!("as root: {}", helper_process::FUSE.fix(source))),
            _ => None,
        }
    }
}

/// Whether /dev/fuse can be opened, as every FUSE mount must.
///
/// # Errors
/// [`Error::Device`].
pub fn check_device() -> Result<(), Error> {
    helper_process::FUSE.open().map_err(Error::Device)
}

/// Whether `path` shows a FUSE mount that answers. From outside of its mount namespace, pass
/// `/proc/PID/root/…`.
///
/// # Errors
/// Those of statfs(2); ENOTCONN means that its server died.
pub fn is_mounted(path: &Path) -> io::Result<bool> {
    // The type of `f_type` differs between architectures; the value is positive in all.
    Ok(i128::from(rustix::fs::statfs(path)?.f_type) == FUSE_SUPER_MAGIC)
}

impl Options {
    /// The arguments to mount on `target`, without the program's name.
    ///
    /// # Errors
    /// [`Error::NoLower`], [`Error::Colon`].
    pub fn args(&self, target: &Path) -> Result<Vec<OsString>, Error> {
        if self.lower.is_empty() {
            return Err(Error::NoLower);
        }
        let mut option = b"lowerdir=".to_vec();
        for (index, layer) in self.lower.iter().enumerate() {
            if index > 0 {
                option.push(b':');
            }
            escape(layer, &mut option)?;
        }
        if let Some((upper, work)) = &self.upper {
            option.extend(b",upperdir=");
            escape(upper, &mut option)?;
            option.extend(b",workdir=");
            escape(work, &mut option)?;
        }
        for (wanted, name) in [
            (self.volatile, "volatile"),
            (self.squash_to_root, "squash_to_root"),
        ] {
            if wanted {
                option.push(b',');
                option.extend(name.as_bytes());
            }
        }
        for extra in &self.extra {
            option.push(b',');
            option.extend(backslashed(OsStr::new(extra)));
        }
        let option = OsString::from_vec(option);
        Ok(vec![
            "-f".into(),
            "-o".into(),
            option,
            target.as_os_str().to_owned(),
        ])
    }

    /// The command; the caller may still change it before it is run.
    ///
    /// # Errors
    /// Those of [`Options::args`].
    pub fn command(&self, program: &Path, target: &Path) -> Result<Command, Error> {
        let mut command = Command::new(program);
        command.args(self.args(target)?);
        Ok(command)
    }
}

/// Appends a path as libfuse's option parser wants it. The program itself divides the result at
/// colons, for the upper directory too (it is put in front of the lower ones).
fn escape(path: &Path, out: &mut Vec<u8>) -> Result<(), Error> {
    if path.as_os_str().as_bytes().contains(&b':') {
        return Err(Error::Colon(path.to_owned()));
    }
    out.extend(backslashed(path.as_os_str()));
    Ok(())
}

/// Backslashes in front of backslash and comma (lib/fuse_opt.c, `process_opt_sep_arg`).
fn backslashed(text: &OsStr) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len() + 2);
    for &byte in text.as_bytes() {
        if matches!(byte, b'\\' | b',') {
            out.push(b'\\');
        }
        out.push(byte);
    }
    out
}

/// Starts a command of [`Options::command`], which mounts on `target` as this process sees it.
///
/// # Errors
/// [`Error::Spawn`].
pub fn spawn(mut command: Command, target: &Path) -> Result<Starting, Error> {
    command.stdin(Stdio::null()).stdout(Stdio::null());
    let program = PathBuf::from(command.get_program());
    let helper = Helper::spawn(command, None).map_err(|source| Error::Spawn { program, source })?;
    Ok(Starting {
        helper,
        target: target.to_owned(),
    })
}

/// A fuse-overlayfs that has been started and may or may not have mounted.
#[derive(Debug)]
pub struct Starting {
    helper: Helper,
    target: PathBuf,
}

impl Starting {
    /// Waits, at most 20 seconds, until the mount answers.
    ///
    /// # Errors
    /// [`Error::Died`], [`Error::Timeout`], [`Error::Io`]; the program is ended and reaped then.
    pub fn wait_ready(mut self) -> Result<Running, Error> {
        let deadline = Instant::now() + READY;
        let mut pause = Duration::from_micros(200);
        loop {
            let io = |call| {
                let path = self.target.clone();
                move |source| Error::Io { call, path, source }
            };
            match is_mounted(&self.target) {
                Ok(true) => {
                    return Ok(Running {
                        helper: self.helper,
                    });
                }
                // Mounted and dead: the status below tells.
                Ok(false) => {}
                Err(e) if e.raw_os_error() == Some(Errno::NOTCONN.raw_os_error()) => {}
                Err(e) => return Err(io("statfs")(e)),
            }
            if let Some(status) = self.helper.wait(pause).map_err(io("waitpid"))? {
                return Err(Error::Died {
                    path: self.target.clone(),
                    status: ended(status),
                    stderr: self.helper.log(),
                });
            }
            if Instant::now() > deadline {
                let _ = self.helper.stop(Duration::ZERO);
                return Err(Error::Timeout {
                    path: self.target.clone(),
                    stderr: self.helper.log(),
                });
            }
            pause = (pause * 2).min(Duration::from_millis(10));
        }
    }
}

/// A fuse-overlayfs that serves its mount. Dropping it ends it; the mount is the caller's to undo.
#[derive(Debug)]
pub struct Running {
    helper: Helper,
}

impl Running {
    /// Readable once it has died: by itself, or because the mount is gone.
    pub fn pidfd(&self) -> BorrowedFd<'_> {
        self.helper.pidfd()
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.helper.pid()
    }

    /// What it wrote to standard error, to tell why it died.
    pub fn log(&self) -> String {
        self.helper.log()
    }

    /// How it ended, if it has, without waiting.
    ///
    /// # Errors
    /// Those of waitpid(2).
    pub fn try_wait(&mut self) -> io::Result<Option<ExitStatus>> {
        self.helper.try_wait()
    }

    /// Waits, at most 5 seconds, for its end after the mount was undone, then ends it.
    ///
    /// # Errors
    /// Those of poll(2) and waitpid(2).
    pub fn stop(mut self) -> io::Result<ExitStatus> {
        self.helper.stop(GRACE)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_and_escapes() {
        let options = Options {
            lower: vec!["/l,1".into(), "/l\\2".into()],
            upper: Some(("/u".into(), "/w".into())),
            volatile: true,
            squash_to_root: true,
            extra: vec!["xattr_permissions=2".into()],
        };
        let args = options.args(Path::new("/m nt")).unwrap();
        let option = "lowerdir=/l\\,1:/l\\\\2,upperdir=/u,workdir=/w,volatile,squash_to_root,\
                      xattr_permissions=2";
        assert_eq!(args, ["-f", "-o", option, "/m nt"].map(OsString::from));
        assert!(matches!(
            Options::default().args(Path::new("/m")),
            Err(Error::NoLower)
        ));
        let colon = Options {
            lower: vec!["/a:b".into()],
            ..Options::default()
        };
        assert!(matches!(colon.args(Path::new("/m")), Err(Error::Colon(_))));
    }

    #[test]
    fn a_program_that_dies_early_is_told_with_its_words() {
        let dir = tempfile::tempdir().unwrap();
        let mut command = Command::new("/bin/sh");
        command.args([
            "-c",
            "echo 'unknown argument ignored: x' >&2; echo no >&2; exit 1",
        ]);
        let error = spawn(command, dir.path())
            .unwrap()
            .wait_ready()
            .unwrap_err();
        let expected = format!(
            "`fuse-overlayfs` ended before `{}` was mounted: exit status 1: no",
            dir.path().display()
        );
        assert_eq!(error.to_string(), expected);
    }

    #[test]
    fn hints_follow_the_errno() {
        let hint = |errno| {
            Error::Device(io::Error::from_raw_os_error(errno))
                .hint()
                .unwrap()
        };
        assert!(
            hint(2).starts_with("as root: modprobe fuse || true; "),
            "{}",
            hint(2)
        );
        assert!(
            hint(2).ends_with("mknod -m 0666 /dev/fuse c 10 229"),
            "{}",
            hint(2)
        );
        assert_eq!(hint(13), "as root: chmod 0666 /dev/fuse");
    }
}
