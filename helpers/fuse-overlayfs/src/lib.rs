//! Drive fuse-overlayfs(1): an overlay mount without the kernel's overlay file system.
//!
//! In order: [`check_device`] tells whether /dev/fuse can be used at all; [`Options::command`] makes
//! the command, refusing what the program cannot be told; the caller runs it in the user and mount
//! namespaces of the container.
//!
//! It runs in the foreground (`-f`): as a child it keeps its pid and its words can be read. It gives no sign when it is
//! ready, so the mount point is asked: statfs(2) reports FUSE_SUPER_MAGIC once the mount is there, and does not return
//! before the file system answers.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::{Path, PathBuf};
use std::process::Command;

/// The program's name.
pub const PROGRAM: &str = "fuse-overlayfs";

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
}

impl Error {
    /// The line that mends it, where one is known.
    pub fn hint(&self) -> Option<String> {
        match self {
            Error::Spawn { .. } => Some(helper_process::packages::install(PROGRAM)),
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
