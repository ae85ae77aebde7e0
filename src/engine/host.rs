//! The built-in image `host`: this machine's own root, read-only, with views (copy-on-write) of the home
//! directory, `/tmp` and the current directory.
//!
//! What else is arranged, in this order: `/run` is empty, and with it every session's sockets; sockets
//! elsewhere are hidden one by one; so are well-known places of keys and passwords in the home
//! directory, and rl's own files. A mount that the user asks for at one of these places wins over it.

use std::fs::Metadata;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use super::resolve::ImageDefaults;
use super::run_args::RunArgs;
use super::{Context, Error};
use crate::model::spec::{ContainerSpec, MountSource, RootfsSource, VolumeMount};
use crate::security::caps::{self, Cap};
use crate::sys::mount::points_below;
use crate::userns::{self, Rank};

/// The word for it. An image of a registry with this name has a longer one: `docker.io/library/host`.
pub const NAME: &str = "host";

/// Where keys, tokens and passwords are kept, below the home directory. There are others.
const SECRETS: &[&str] = &[
    ".ssh",
    ".gnupg",
    ".aws",
    ".azure",
    ".kube",
    ".docker",
    ".netrc",
    ".git-credentials",
    ".pgpass",
    ".my.cnf",
    ".vault-token",
    ".password-store",
    ".terraform.d",
    ".pypirc",
    ".npmrc",
    ".m2/settings.xml",
    ".cargo/credentials",
    ".cargo/credentials.toml",
    ".mozilla",
    ".thunderbird",
    ".config/gcloud",
    ".config/gh",
    ".config/hub",
    ".config/containers",
    ".config/rclone",
    ".config/op",
    ".config/google-chrome",
    ".config/chromium",
    ".config/BraveSoftware",
    ".local/share/keyrings",
    ".bash_history",
    ".zsh_history",
    ".python_history",
    ".local/share/fish",
];

/// Variables of the caller's that the command gets. Others may hold secrets.
const PASSED: &[&str] = &[
    "PATH",
    "USER",
    "LOGNAME",
    "SHELL",
    "LANG",
    "LANGUAGE",
    "TZ",
    "COLORTERM",
    "NO_COLOR",
    "EDITOR",
    "VISUAL",
    "PAGER",
];

/// What the image brings along.
#[derive(Clone, Debug, Default)]
pub struct Host {
    /// Command, environment, working directory.
    pub defaults: ImageDefaults,
    /// Views and what is empty.
    pub mounts: Vec<VolumeMount>,
    /// Paths to be hidden.
    pub hidden: Vec<String>,
}

/// Whether these arguments ask for it.
pub fn is_meant(args: &RunArgs, image: Option<&str>) -> bool {
    args.rootfs.is_none() && image == Some(NAME)
}

/// The id maps it has unless others are asked for: one's own uid inside. Root of the machine has
/// none to keep.
pub fn mode(caller: &userns::Caller, args: &RunArgs) -> Option<userns::Mode> {
    let asked = args.userns.is_some() || !args.uidmap.is_empty() || !args.gidmap.is_empty();
    (!asked && caller.rank != Rank::HostRoot).then_some(userns::Mode::KeepId {
        uid: None,
        gid: None,
    })
}

/// Looks at the machine.
///
/// # Errors
/// Options that make no sense with it, or would open what is closed; no current directory.
pub fn find(context: &Context<'_>, args: &RunArgs, plan: &userns::Plan) -> Result<Host, Error> {
    refuse(args)?;
    let cwd = std::env::current_dir().map_err(Error::CurrentDirectory)?;
    let home = home();
    let looked = Looked {
        own: |meta: &Metadata| {
            plan.uid.to_container(meta.uid()).is_some()
                && plan.gid.to_container(meta.gid()).is_some()
        },
        own_uid: context.caller()?.uid,
    };
    let mut mounts = empty_run();
    let mut hidden = vec![context.dirs.data.clone()];
    if !args.read_only {
        let mut places = vec![PathBuf::from("/tmp"), cwd.clone()];
        places.extend(home.clone());
        for mount in looked.places(places) {
            if let MountSource::Tmpfs { .. } = mount.source {
                context.ui.notice(&format!(
                    "`{}` cannot be read by the container's user: an empty directory in memory is in its place",
                    mount.target
                ));
            }
            mounts.push(mount);
        }
    }
    if let Some(home) = &home {
        hidden.extend(SECRETS.iter().map(|name| home.join(name)));
    }
    hidden.extend(std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from));
    hidden.retain(|path| path.is_absolute() && path.exists());
    let hidden = hidden.iter().filter_map(|path| real(path));
    let hidden: Vec<String> = hidden.filter(|path| !path.starts_with("/run/")).collect();
    for path in &hidden {
        context.ui.detail(&format!("host: `{path}` is hidden"));
    }
    Ok(Host {
        defaults: defaults(&cwd, home.as_deref()),
        mounts,
        hidden,
    })
}

fn refuse(args: &RunArgs) -> Result<(), Error> {
    if caps::resolve(&args.cap_add, &args.cap_drop)
        .is_ok_and(|grant| grant.held.has(Cap::SYS_ADMIN))
    {
        return Err(Error::HostOption {
            option: "--cap-add SYS_ADMIN".into(),
            reason: "whoever may mount could make this machine's files writable",
        });
    }
    if args.platform.is_some() {
        return Err(Error::HostOption {
            option: "--platform".into(),
            reason: "this machine has the platform that it has",
        });
    }
    if !matches!(args.pull.as_str(), "missing" | "never") {
        return Err(Error::HostOption {
            option: format!("--pull {}", args.pull),
            reason: "it is built in and comes from no registry",
        });
    }
    Ok(())
}

/// The caller's home directory without links, if there is one that is not the root.
fn home() -> Option<PathBuf> {
    let home = std::env::var_os("HOME").map(PathBuf::from);
    let home = home.filter(|path| path.is_absolute()).or_else(|| {
        let user = nix::unistd::User::from_uid(nix::unistd::getuid()).ok()??;
        Some(user.dir)
    })?;
    let home = std::fs::canonicalize(home).ok()?;
    (home != Path::new("/") && home.is_dir()).then_some(home)
}

/// Without links, as text. A name that is not UTF-8 cannot be written in the configuration.
fn real(path: &Path) -> Option<String> {
    std::fs::canonicalize(path)
        .ok()?
        .to_str()
        .map(str::to_owned)
}

/// `/run`, and `/var/run` where that is another directory, without anything in them.
fn empty_run() -> Vec<VolumeMount> {
    let mut out: Vec<VolumeMount> = Vec::new();
    for path in ["/run", "/var/run"] {
        if let Some(target) = real(Path::new(path))
            && !out
                .iter()
                .any(|m| Path::new(&target).starts_with(&m.target))
        {
            out.push(tmpfs(target, "mode=755,size=10%"));
        }
    }
    out
}

fn tmpfs(target: String, options: &str) -> VolumeMount {
    VolumeMount {
        target,
        source: MountSource::Tmpfs {
            options: options.into(),
        },
        read_only: false,
        options: vec!["nosuid".into(), "nodev".into()],
    }
}

struct Looked<F> {
    /// Whether an owner exists inside.
    own: F,
    own_uid: u32,
}

impl<F: Fn(&Metadata) -> bool> Looked<F> {
    /// One view for each place that the caller may write to, outermost first. What is mounted below one
    /// is not part of an overlay: it is shown as the rest of the root is, unless it holds a further place.
    /// It may even be that the kernel refuses the overlay for its sake (see [`crate::runtime`]'s views): the
    /// further places have views of their own then. A place whose owner does not exist inside has a view of its own, in which there is a new owner.
    fn places(&self, mut places: Vec<PathBuf>) -> Vec<VolumeMount> {
        places.retain_mut(|path| match std::fs::canonicalize(&*path) {
            Ok(real) => {
                *path = real;
                path.to_str().is_some() && path != Path::new("/") && self.may_write(path)
            }
            Err(_) => false,
        });
        places.sort();
        places.dedup();
        let mut out: Vec<VolumeMount> = Vec::new();
        for place in places {
            let outer = out.iter().rev().find(|m| place.starts_with(&m.target));
            let seen = outer.is_some_and(|outer| {
                let MountSource::Overlay { path } = &outer.source else {
                    return false;
                };
                points_below(path).is_empty()
            });
            let own = std::fs::metadata(&place).is_ok_and(|meta| (self.own)(&meta));
            if !(seen && own) {
                self.place(&place, &mut out);
            }
        }
        out
    }

    fn place(&self, place: &Path, out: &mut Vec<VolumeMount>) {
        let target = place.to_string_lossy().into_owned();
        let Ok(meta) = std::fs::metadata(place) else {
            return;
        };
        if !(self.own)(&meta) && meta.mode() & 0o5 != 0o5 {
            out.retain(|m| m.target != target);
            out.push(tmpfs(target, "mode=700"));
            return;
        }
        let view = |path: &Path| VolumeMount {
            target: path.to_string_lossy().into_owned(),
            source: MountSource::Overlay { path: path.into() },
            read_only: false,
            options: Vec::new(),
        };
        out.retain(|m| m.target != target);
        out.push(view(place));
        let mut last: Option<PathBuf> = None;
        for point in points_below(place) {
            if last.as_ref().is_some_and(|last| point.starts_with(last)) {
                continue;
            }
            let flags = rustix::fs::OFlags::PATH | rustix::fs::OFlags::CLOEXEC;
            let opens = rustix::fs::open(&point, flags, rustix::fs::Mode::empty()).is_ok();
            if let Some(target) = point.to_str().filter(|_| opens) {
                out.push(VolumeMount {
                    target: target.to_owned(),
                    source: MountSource::Bind {
                        path: point.clone(),
                        recursive: true,
                    },
                    read_only: true,
                    options: vec!["nosuid".into(), "nodev".into()],
                });
            }
            last = Some(point);
        }
    }

    fn may_write(&self, path: &Path) -> bool {
        let owner = std::fs::metadata(path).is_ok_and(|m| m.uid() == self.own_uid);
        path.is_dir() && (owner || rustix::fs::access(path, rustix::fs::Access::WRITE_OK).is_ok())
    }
}

fn defaults(cwd: &Path, home: Option<&Path>) -> ImageDefaults {
    let get = |name: &str| std::env::var(name).ok().filter(|v| !v.is_empty());
    let mut env: Vec<String> = Vec::new();
    for (name, value) in std::env::vars_os() {
        if let (Some(name), Some(value)) = (name.to_str(), value.to_str())
            && (PASSED.contains(&name) || name.starts_with("LC_"))
        {
            env.push(format!("{name}={value}"));
        }
    }
    env.sort();
    if let Some(home) = home {
        env.push(format!("HOME={}", home.display()));
    }
    let shell = get("SHELL").filter(|s| Path::new(s).is_absolute() && Path::new(s).is_file());
    ImageDefaults {
        name: NAME.into(),
        cmd: vec![shell.unwrap_or_else(|| "/bin/sh".into())],
        env,
        workdir: cwd.to_str().map(str::to_owned),
        ..ImageDefaults::default()
    }
}

/// The paths that stay hidden beside the mounts that the user asked for.
pub fn hidden(hidden: Vec<String>, asked: &[VolumeMount]) -> Vec<String> {
    let shown = |path: &String| asked.iter().any(|m| Path::new(path).starts_with(&m.target));
    hidden.into_iter().filter(|path| !shown(path)).collect()
}

/// The built-in mounts that stay beside those that the user asked for.
pub fn beside(built_in: Vec<VolumeMount>, asked: &[VolumeMount]) -> Vec<VolumeMount> {
    let over = |mount: &VolumeMount| {
        let covers = |m: &VolumeMount| Path::new(&mount.target).starts_with(&m.target);
        asked.iter().any(covers)
    };
    built_in.into_iter().filter(|mount| !over(mount)).collect()
}

/// Sockets that somebody listens on and that the root would show. What `/run` has is not seen anyway.
pub fn sockets(spec: &ContainerSpec) -> Vec<String> {
    if spec.rootfs != RootfsSource::Host {
        return Vec::new();
    }
    let table = std::fs::read_to_string("/proc/net/unix").unwrap_or_default();
    let mut found: Vec<String> = table
        .lines()
        .filter_map(|line| line.find('/').map(|at| &line[at..]))
        .filter(|path| std::fs::symlink_metadata(path).is_ok_and(|m| m.file_type().is_socket()))
        .filter_map(|path| real(Path::new(path)))
        .filter(|path| {
            let asked = |m: &VolumeMount| match &m.source {
                MountSource::Bind { .. } => !m.read_only && Path::new(path).starts_with(&m.target),
                _ => false,
            };
            !path.starts_with("/run/") && !spec.mounts.iter().any(asked)
        })
        .collect();
    found.sort();
    found.dedup();
    found
}

/// Where a file of `/etc` is to be shown: where its name leads on the host. A root that is read-only
/// has no place for one that is not there.
pub fn etc_target(spec: &ContainerSpec, target: &str) -> Option<String> {
    if spec.rootfs != RootfsSource::Host {
        return Some(target.to_owned());
    }
    if let Some(real) = real(Path::new(target)) {
        return Some(real);
    }
    // A link into /run whose target is not there now: it can be made.
    let link = std::fs::read_link(target).ok()?;
    let path = std::path::absolute(Path::new("/etc").join(link)).ok()?;
    let mut plain = PathBuf::new();
    for part in path.components() {
        match part {
            std::path::Component::ParentDir => drop(plain.pop()),
            other => plain.push(other),
        }
    }
    let plain = plain.to_str()?.to_owned();
    plain.starts_with("/run/").then_some(plain)
}
