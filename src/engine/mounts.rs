//! `--volume`, `--mount`, `--tmpfs`, `--device`: texts to mounts, sources checked before anything is
//! started. The forms are Docker's (docker run reference, "Volumes", "--mount").

use std::path::{Component, Path, PathBuf};

use super::volume_options;
use crate::model::spec::{Device, MountSource, VolumeMount};

/// A mount option that cannot be honoured.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Not of the form that the option takes.
    #[error("`{option} {value}`: {reason}")]
    Form {
        /// The option.
        option: &'static str,
        /// Its value as given.
        value: String,
        /// What is wrong.
        reason: String,
    },
    /// The host path is not there or cannot be read.
    #[error("volume source `{path}`: {source}")]
    Source {
        /// The path.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The device is not there or cannot be opened.
    #[error("device `{path}`: {source}")]
    Device {
        /// The path.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A volume's directory cannot be made.
    #[error("volume `{name}`: mkdir(`{path}`): {source}")]
    Volume {
        /// The volume.
        name: String,
        /// Its directory.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// What a named volume is.
    #[error(transparent)]
    Options(#[from] Box<super::volume_options::Error>),
    /// Two mounts on one path.
    #[error("`{0}` is mounted on twice")]
    Duplicate(String),
}

impl Error {
    /// What to do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Error::Options(error) => Some(error.hint()),
            Error::Source { path, source } if source.kind() == std::io::ErrorKind::NotFound => {
                Some(format!("mkdir -p {}", path.display()))
            }
            Error::Device { path, source }
                if source.kind() == std::io::ErrorKind::PermissionDenied =>
            {
                Some(format!(
                    "a device can be passed on when you may open it yourself: `ls -l {}` shows its group",
                    path.display()
                ))
            }
            Error::Source { path, .. } => Some(format!(
                "a bind mount shows only what you may read yourself: `ls -ld {}`",
                path.display()
            )),
            _ => None,
        }
    }
}

fn form(option: &'static str, value: &str, reason: impl Into<String>) -> Error {
    Error::Form {
        option,
        value: value.to_owned(),
        reason: reason.into(),
    }
}

/// `[SOURCE:]TARGET[:OPTIONS]`.
///
/// # Errors
/// [`Error`] for a malformed value or a source that cannot be used.
pub fn volume(value: &str, volumes: &Path) -> Result<VolumeMount, Error> {
    const OPTION: &str = "--volume";
    let parts: Vec<&str> = value.split(':').collect();
    let (source, target, options) = match parts.as_slice() {
        [target] => (None, *target, ""),
        [source, target] => (Some(*source), *target, ""),
        [source, target, options] => (Some(*source), *target, *options),
        _ => return Err(form(OPTION, value, "expected `SOURCE:TARGET[:OPTIONS]`")),
    };
    let target = target_path(OPTION, value, target)?;
    let mut mount = VolumeMount {
        target,
        source: match source {
            None => anonymous(volumes),
            Some(source) => volume_source(OPTION, value, source, volumes)?,
        },
        read_only: false,
        options: Vec::new(),
    };
    volume_options::apply(&mut mount, volumes)?;
    for option in options.split(',').filter(|o| !o.is_empty()) {
        apply_option(OPTION, value, option, &mut mount)?;
    }
    Ok(mount)
}

fn apply_option(
    flag: &'static str,
    value: &str,
    option: &str,
    mount: &mut VolumeMount,
) -> Result<(), Error> {
    match option {
        "ro" | "readonly" => mount.read_only = true,
        "rw" => mount.read_only = false,
        "nosuid" | "nodev" | "noexec" | "private" | "rprivate" | "slave" | "rslave" | "shared"
        | "rshared" => mount.options.push(option.to_owned()),
        // Labels of SELinux, on a machine where we set none: nothing to do, as with podman.
        "z" | "Z" | "consistent" | "cached" | "delegated" => {}
        // A view, as podman spells it.
        "O" => match &mount.source {
            MountSource::Bind { path, .. } if path.is_dir() => {
                mount.source = MountSource::Overlay { path: path.clone() };
            }
            _ => return Err(form(flag, value, "`O` is for directories of the host")),
        },
        "nocopy" => match &mut mount.source {
            MountSource::Volume { fill, .. } => *fill = false,
            _ => return Err(form(flag, value, "`nocopy` is for named volumes")),
        },
        "rbind" | "bind" => {
            if let MountSource::Bind { recursive, .. } = &mut mount.source {
                *recursive = option == "rbind";
            }
        }
        other => {
            return Err(form(
                flag,
                value,
                format!("option `{other}` is not there yet"),
            ));
        }
    }
    Ok(())
}

/// A path (with a slash) is a host path, a word is the name of a volume.
fn volume_source(
    flag: &'static str,
    value: &str,
    source: &str,
    volumes: &Path,
) -> Result<MountSource, Error> {
    if source.starts_with('/') || source.starts_with('.') || source.starts_with('~') {
        return bind_source(source);
    }
    if source.is_empty() || source.contains('/') || !is_name(source) {
        return Err(form(
            flag,
            value,
            format!("`{source}` is neither a path (`/…`, `./…`) nor a volume name"),
        ));
    }
    Ok(named(source, volumes))
}

fn named(name: &str, volumes: &Path) -> MountSource {
    MountSource::Volume {
        name: name.to_owned(),
        path: volumes.join(name).join(DATA),
        fill: true,
        memory: None,
        anonymous: false,
    }
}

/// A volume that nobody has named.
pub fn anonymous(volumes: &Path) -> MountSource {
    let name = super::names::random_id();
    MountSource::Volume {
        path: volumes.join(&name).join(DATA),
        name,
        fill: true,
        memory: None,
        anonymous: true,
    }
}

/// In a volume's directory: nobody has named it.
pub const ANONYMOUS: &str = "anonymous";

/// The directory of a volume's content, in the volume's.
pub const DATA: &str = "_data";

/// Names of volumes and containers: Docker's rule, `[a-zA-Z0-9][a-zA-Z0-9_.-]*`, and short enough for
/// the name of a file made of it (linux/limits.h, `NAME_MAX`).
pub fn is_name(text: &str) -> bool {
    text.len() <= 128
        && text
            .bytes()
            .next()
            .is_some_and(|b| b.is_ascii_alphanumeric())
        && text
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"_.-".contains(&b))
}

fn bind_source(source: &str) -> Result<MountSource, Error> {
    let path = PathBuf::from(source);
    let path = std::path::absolute(&path).unwrap_or(path);
    let failed = |source| Error::Source {
        path: path.clone(),
        source,
    };
    let meta = std::fs::metadata(&path).map_err(failed)?;
    if meta.is_dir() {
        std::fs::read_dir(&path).map_err(failed)?;
    } else {
        rustix::fs::access(&path, rustix::fs::Access::READ_OK).map_err(|e| failed(e.into()))?;
    }
    Ok(MountSource::Bind {
        path,
        recursive: true,
    })
}

/// An absolute path inside without `..`, which is not the root itself.
fn target_path(flag: &'static str, value: &str, target: &str) -> Result<String, Error> {
    let path = Path::new(target);
    let plain = path
        .components()
        .all(|c| matches!(c, Component::RootDir | Component::Normal(_)));
    if !path.is_absolute() || !plain || path == Path::new("/") {
        return Err(form(
            flag,
            value,
            format!("`{target}` is not an absolute path below `/`"),
        ));
    }
    let path: PathBuf = path.components().collect();
    Ok(path.to_string_lossy().into_owned())
}

/// `type=bind|volume|tmpfs|overlay,source=…,target=…[,readonly][,…]`.
///
/// # Errors
/// As [`volume`].
pub fn mount(value: &str, volumes: &Path) -> Result<VolumeMount, Error> {
    const OPTION: &str = "--mount";
    let (mut kind, mut source, mut target) = ("volume", None, None);
    let (mut rest, mut tmpfs) = (Vec::new(), Vec::new());
    for part in value.split(',') {
        let (key, val) = part.split_once('=').unwrap_or((part, ""));
        match (key, val) {
            ("type", kind_given) => kind = kind_given,
            ("source" | "src", path) => source = Some(path),
            ("target" | "dst" | "destination", path) => target = Some(path),
            ("readonly" | "ro", "" | "true" | "1") => rest.push("ro"),
            ("readonly" | "ro", "false" | "0") => rest.push("rw"),
            ("volume-nocopy", "" | "true" | "1") => rest.push("nocopy"),
            ("volume-nocopy", "false" | "0") => {}
            ("bind-propagation", word) => rest.push(word),
            ("tmpfs-size", size) => tmpfs.push(format!("size={size}")),
            ("tmpfs-mode", mode) => tmpfs.push(format!("mode={mode}")),
            (word, "") => rest.push(word),
            (other, _) => return Err(form(OPTION, value, format!("`{other}` is not there yet"))),
        }
    }
    let target = target.ok_or_else(|| form(OPTION, value, "no `target=`"))?;
    let target = target_path(OPTION, value, target)?;
    let missing = || form(OPTION, value, "no `source=`");
    let source = match kind {
        "bind" => bind_source(source.ok_or_else(missing)?)?,
        "volume" => match source {
            Some(source) => volume_source(OPTION, value, source, volumes)?,
            None => anonymous(volumes),
        },
        "overlay" => {
            rest.push("O");
            bind_source(source.ok_or_else(missing)?)?
        }
        "tmpfs" => MountSource::Tmpfs {
            options: tmpfs.join(","),
        },
        other => {
            return Err(form(
                OPTION,
                value,
                format!("type `{other}` is not there yet"),
            ));
        }
    };
    let mut mount = VolumeMount {
        target,
        source,
        read_only: false,
        options: Vec::new(),
    };
    if matches!(mount.source, MountSource::Tmpfs { .. }) {
        mount.options = vec!["nosuid".into(), "nodev".into()];
    }
    volume_options::apply(&mut mount, volumes)?;
    for option in rest {
        apply_option(OPTION, value, option, &mut mount)?;
    }
    Ok(mount)
}

/// `TARGET[:OPTIONS]`, with Docker's defaults `noexec,nosuid,nodev`, mode 1777.
///
/// # Errors
/// [`Error::Form`].
pub fn tmpfs(value: &str) -> Result<VolumeMount, Error> {
    const OPTION: &str = "--tmpfs";
    let (target, options) = value.split_once(':').unwrap_or((value, ""));
    let target = target_path(OPTION, value, target)?;
    let mut flags = vec!["noexec", "nosuid", "nodev"];
    let (mut data, mut read_only) = (Vec::new(), false);
    for option in options.split(',').filter(|o| !o.is_empty()) {
        match option {
            "exec" => flags.retain(|f| *f != "noexec"),
            "suid" => flags.retain(|f| *f != "nosuid"),
            "dev" => flags.retain(|f| *f != "nodev"),
            "ro" => read_only = true,
            "rw" | "noexec" | "nosuid" | "nodev" => {}
            other
                if other.starts_with("size=")
                    || other.starts_with("mode=")
                    || other.starts_with("uid=")
                    || other.starts_with("gid=")
                    || other.starts_with("nr_inodes=") =>
            {
                data.push(other);
            }
            other => {
                return Err(form(
                    OPTION,
                    value,
                    format!("`{other}` is not an option of tmpfs"),
                ));
            }
        }
    }
    if !data.iter().any(|d| d.starts_with("mode=")) {
        data.push("mode=1777");
    }
    Ok(VolumeMount {
        target,
        source: MountSource::Tmpfs {
            options: data.join(","),
        },
        read_only,
        options: flags.into_iter().map(str::to_owned).collect(),
    })
}

/// `HOST[:INSIDE[:PERMISSIONS]]`: a device that the user may open outside can be bound inside.
///
/// # Errors
/// [`Error::Device`] when it cannot be opened, [`Error::Form`].
pub fn device(value: &str) -> Result<Device, Error> {
    const OPTION: &str = "--device";
    let mut parts = value.split(':');
    let host = parts.next().unwrap_or_default();
    let second = parts.next();
    let third = parts.next();
    let is_permissions = |p: &str| !p.is_empty() && p.bytes().all(|b| b"rwm".contains(&b));
    let (inside, permissions) = match (second, third) {
        (None, _) => (host, "rwm"),
        (Some(p), None) if is_permissions(p) => (host, p),
        (Some(inside), permissions) => (inside, permissions.unwrap_or("rwm")),
    };
    if !is_permissions(permissions) {
        return Err(form(
            OPTION,
            value,
            "permissions are a combination of `r`, `w` and `m`",
        ));
    }
    let path = PathBuf::from(host);
    let mode = if permissions.contains('w') {
        rustix::fs::Access::READ_OK | rustix::fs::Access::WRITE_OK
    } else {
        rustix::fs::Access::READ_OK
    };
    rustix::fs::access(&path, mode).map_err(|e| Error::Device {
        path: path.clone(),
        source: e.into(),
    })?;
    Ok(Device {
        host: path,
        container: target_path(OPTION, value, inside)?,
        read_only: !permissions.contains('w'),
    })
}

/// The destinations of the volumes that begin with the image's content.
pub fn to_fill(mounts: &[VolumeMount]) -> Vec<String> {
    let fills = |m: &&VolumeMount| matches!(m.source, MountSource::Volume { fill: true, .. });
    let targets = mounts.iter().filter(fills);
    targets.map(|m| m.target.clone()).collect()
}

/// Refuses two mounts on one target and sorts parents before what lies below them.
///
/// # Errors
/// [`Error::Duplicate`].
pub fn order(mut mounts: Vec<VolumeMount>) -> Result<Vec<VolumeMount>, Error> {
    mounts.sort_by_key(|m| m.target.matches('/').count());
    for (i, mount) in mounts.iter().enumerate() {
        if mounts[..i].iter().any(|m| m.target == mount.target) {
            return Err(Error::Duplicate(mount.target.clone()));
        }
    }
    Ok(mounts)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn volumes_as_docker_writes_them() {
        let volumes = std::env::temp_dir().join(format!("rl-volumes-{}", std::process::id()));
        let m = volume("/etc:/mnt//x/:ro", &volumes).unwrap();
        assert_eq!((m.target.as_str(), m.read_only), ("/mnt/x", true));
        assert!(matches!(
            m.source,
            MountSource::Bind {
                recursive: true,
                ..
            }
        ));
        let named = volume("data:/data", &volumes).unwrap();
        assert!(matches!(named.source, MountSource::Volume { name, .. } if name == "data"));
        let fills = |m: VolumeMount| match m.source {
            MountSource::Volume { fill, .. } => fill,
            other => panic!("{other:?}"),
        };
        assert!(fills(volume("data:/data:ro", &volumes).unwrap()));
        assert!(!fills(volume("data:/data:nocopy", &volumes).unwrap()));
        let nocopy = mount("type=volume,src=data,dst=/d,volume-nocopy", &volumes);
        assert!(!fills(nocopy.unwrap()));
        assert!(
            !volumes.exists(),
            "nothing is made while things are decided"
        );
        for bad in [
            "/etc:/etc:nocopy",
            "/etc:relative",
            "/etc:/",
            "/etc:/a/../b",
            "a:b:c:d",
            "/etc:/x:frob",
        ] {
            assert!(
                matches!(volume(bad, &volumes), Err(Error::Form { .. })),
                "{bad}"
            );
        }
        let gone = volume("/no/such/dir:/x", &volumes).unwrap_err();
        assert_eq!(gone.hint().unwrap(), "mkdir -p /no/such/dir");
    }

    #[test]
    fn mounts_tmpfs_and_order() {
        let none = Path::new("/nonexistent");
        let m = mount("type=bind,src=/etc,dst=/e,readonly", none).unwrap();
        assert!(m.read_only && m.target == "/e");
        let m = mount("type=tmpfs,target=/t,tmpfs-size=1m", none).unwrap();
        assert_eq!(
            m.source,
            MountSource::Tmpfs {
                options: "size=1m".into()
            }
        );
        let m = tmpfs("/t:exec,size=2m").unwrap();
        assert_eq!(m.options, ["nosuid", "nodev"]);
        let list = vec![tmpfs("/a/b/c").unwrap(), tmpfs("/a").unwrap()];
        assert_eq!(order(list).unwrap()[0].target, "/a");
        let twice = vec![tmpfs("/a").unwrap(), tmpfs("/a/").unwrap()];
        assert!(matches!(order(twice), Err(Error::Duplicate(t)) if t == "/a"));
    }
}
