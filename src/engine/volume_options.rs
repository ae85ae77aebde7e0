//! `rl volume create --opt`: volumes of docker's driver `local` that are not directories of ours (docker-volume-create(1)).
//!
//! What they name is mounted in each container by itself, with the rights of who runs it: a directory of this machine
//! (`type=none`, `o=bind`), or memory (`type=tmpfs`). Anything else wants the machine's root to mount it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::mounts;
use crate::model::spec::{MountSource, VolumeMount};

/// The options of a volume, in its directory.
pub const FILE: &str = "options.json";

/// Options that cannot be honoured.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// One that there is not.
    #[error("`--opt {0}`: there are `type=`, `device=` and `o=`")]
    Unknown(String),
    /// A file system that only root of the machine mounts.
    #[error(
        "`--opt type={0}`: a user can have a volume in memory (`tmpfs`), or of a directory (`none`)"
    )]
    Kind(String),
    /// A word of `o=` that is none.
    #[error("`--opt o={0}`: not an option of such a volume")]
    Word(String),
    /// No directory.
    #[error("`--opt device={0}`: expected an absolute path")]
    Device(String),
    /// Words that belong to nothing.
    #[error("`--opt type=none` without `o=bind`: nothing says what is to be mounted")]
    Nothing,
    /// What tmpfs would not take.
    #[error(transparent)]
    Tmpfs(#[from] mounts::Error),
    /// There is one of this name that is something else.
    #[error("volume `{0}` is there already, with other options")]
    Other(String),
    /// They cannot be read.
    #[error("options of volume `{name}`: {reason}")]
    Damaged {
        /// The volume.
        name: String,
        /// What is wrong.
        reason: String,
    },
}

impl Error {
    /// What to do about it.
    pub fn hint(&self) -> String {
        match self {
            Error::Other(name) => {
                format!("`rl volume inspect {name}` shows them; `rl volume rm {name}` removes it")
            }
            Error::Damaged { name, .. } => format!("rl volume rm {name}"),
            Error::Kind(_) | Error::Nothing | Error::Device(_) => {
                "mount it outside, and name that place: `-o type=none -o o=bind -o device=/mnt/data`"
                    .into()
            }
            Error::Unknown(_) | Error::Word(_) | Error::Tmpfs(_) => {
                "such as `-o type=tmpfs -o o=size=64m,mode=1777`, or `-o type=none -o o=bind -o device=/mnt/data`"
                    .into()
            }
        }
    }
}

/// The options as they were typed.
pub type Options = BTreeMap<String, String>;

/// What a volume is.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Kind {
    /// A directory of ours.
    Plain,
    /// One of the machine, with options of the mount.
    Bind(PathBuf, Vec<String>),
    /// A file system in memory, as `--tmpfs` takes it.
    Memory(VolumeMount),
}

/// From `NAME=VALUE` each, where no value is empty.
///
/// # Errors
/// [`Error`], also for options that mean nothing together.
pub fn parse(words: &[String]) -> Result<Options, Error> {
    let mut options = Options::new();
    for word in words {
        let (name, value) = word.split_once('=').unwrap_or((word, ""));
        if !["type", "device", "o"].contains(&name) || value.is_empty() {
            return Err(Error::Unknown(word.clone()));
        }
        options.insert(name.to_owned(), value.to_owned());
    }
    kind(&options).map(|_| options)
}

fn kind(options: &Options) -> Result<Kind, Error> {
    let word = |name: &str| options.get(name).map(String::as_str).unwrap_or_default();
    let words = word("o").split(',').filter(|word| !word.is_empty());
    match word("type") {
        _ if options.is_empty() => Ok(Kind::Plain),
        "tmpfs" => {
            // Programs can be executed in it, unlike in what `--tmpfs` mounts.
            let exec = if words.clone().any(|word| word == "noexec") {
                ""
            } else {
                "exec,"
            };
            Ok(Kind::Memory(mounts::tmpfs(&format!(
                "/volume:{exec}{}",
                word("o")
            ))?))
        }
        "" | "none" | "bind" => {
            let mut rest = Vec::new();
            let mut bind = false;
            for word in words {
                match word {
                    // With what is mounted below it: a part of a tree cannot be had in a user namespace.
                    "bind" | "rbind" => bind = true,
                    "ro" | "rw" | "nosuid" | "nodev" | "noexec" | "private" | "rprivate"
                    | "slave" | "rslave" | "shared" | "rshared" => rest.push(word.to_owned()),
                    other => return Err(Error::Word(other.to_owned())),
                }
            }
            let device = Path::new(word("device"));
            match (bind, device.is_absolute()) {
                (false, _) => Err(Error::Nothing),
                (true, false) => Err(Error::Device(word("device").to_owned())),
                (true, true) => Ok(Kind::Bind(device.to_owned(), rest)),
            }
        }
        other => Err(Error::Kind(other.to_owned())),
    }
}

/// Those of the volume in this directory; none where it has none, or where it is not there.
///
/// # Errors
/// [`Error::Damaged`].
pub fn of(dir: &Path) -> Result<Options, Error> {
    let name = || {
        dir.file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned()
    };
    let damaged = |reason: String| Error::Damaged {
        name: name(),
        reason,
    };
    match std::fs::read(dir.join(FILE)) {
        Ok(text) => serde_json::from_slice(&text).map_err(|e| damaged(e.to_string())),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(Options::new()),
        Err(e) => Err(damaged(e.to_string())),
    }
}

/// The directory of this machine that a volume is, where it is one.
pub fn device(options: &Options) -> Option<PathBuf> {
    match kind(options) {
        Ok(Kind::Bind(device, _)) => Some(device),
        _ => None,
    }
}

/// Makes of the mount of a named volume what its options say. Neither of the two kinds begins with what the image has
/// there.
///
/// # Errors
/// The directory that it is cannot be used; [`Error`].
pub fn apply(mount: &mut VolumeMount, volumes: &Path) -> Result<(), mounts::Error> {
    let MountSource::Volume {
        name,
        path,
        fill,
        memory,
        ..
    } = &mut mount.source
    else {
        return Ok(());
    };
    let options = of(&volumes.join(&*name)).map_err(Box::new)?;
    match kind(&options).map_err(Box::new)? {
        Kind::Plain => {}
        Kind::Bind(device, words) => {
            let failed = |source| mounts::Error::Source {
                path: device.clone(),
                source,
            };
            std::fs::read_dir(&device).map_err(failed)?;
            (*path, *fill) = (device, false);
            for word in words {
                match &*word {
                    "ro" => mount.read_only = true,
                    "rw" => {}
                    _ => mount.options.push(word),
                }
            }
        }
        Kind::Memory(tmpfs) => {
            *fill = false;
            if let MountSource::Tmpfs { options } = tmpfs.source {
                *memory = Some(options);
            }
            mount.read_only = tmpfs.read_only;
            mount.options.extend(tmpfs.options);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(words: &[&str]) -> Result<Kind, Error> {
        let words: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
        kind(&parse(&words)?)
    }

    #[test]
    fn what_a_user_can_mount() {
        assert_eq!(parsed(&[]).unwrap(), Kind::Plain);
        let bind = parsed(&["type=none", "o=bind,ro", "device=/srv"]).unwrap();
        assert_eq!(bind, Kind::Bind("/srv".into(), vec!["ro".into()]));
        let Kind::Memory(tmpfs) =
            parsed(&["type=tmpfs", "device=tmpfs", "o=size=1m,uid=7"]).unwrap()
        else {
            panic!("no tmpfs");
        };
        let options = "size=1m,uid=7,mode=1777".into();
        assert_eq!(tmpfs.source, MountSource::Tmpfs { options });
        assert_eq!(tmpfs.options, ["nosuid", "nodev"]);
        for (words, why) in [
            (&["size=1m"][..], "there are `type=`"),
            (&["type"], "there are `type=`"),
            (&["type=nfs", "device=:/x", "o=addr=h"], "type=nfs"),
            (&["type=ext4", "device=/dev/sda"], "type=ext4"),
            (&["type=none", "device=/srv"], "without `o=bind`"),
            (&["o=bind"], "expected an absolute path"),
            (&["o=bind", "device=srv"], "`--opt device=srv`"),
            (&["o=bind,size=1m", "device=/srv"], "`--opt o=size=1m`"),
            (&["type=tmpfs", "o=colour=red"], "not an option of tmpfs"),
        ] {
            let error = parsed(words).unwrap_err();
            assert!(error.to_string().contains(why), "{error}");
        }
    }
}
