//! Options and image become a specification: the one place where defaults are filled in.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::path::{Path, PathBuf};

use super::environment::{environment, labels};
use super::run_args::RunArgs;
use super::{host, life, limits, mounts, ports, systemd, units};
use crate::model::spec::{
    self, ContainerSpec, Customary, MountSource, Network, NetworkMode, RestartPolicy, RootfsSource,
    Share, VERSION, VolumeMount,
};
use crate::model::{Digest, IdMap};
use crate::security::{caps, options, paths};

/// An option that cannot be honoured.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A mount.
    #[error(transparent)]
    Mount(#[from] mounts::Error),
    /// A value in one of the small notations.
    #[error(transparent)]
    Unit(#[from] units::Error),
    /// Capabilities.
    #[error(transparent)]
    Capabilities(#[from] caps::Error),
    /// `--security-opt`.
    #[error(transparent)]
    Security(#[from] options::Error),
    /// Neither words nor the image name a command.
    #[error("no command given, and the image names none")]
    NoCommand,
    /// A value that is not among those an option takes.
    #[error("`{option} {value}`: {reason}")]
    Value {
        /// The option.
        option: &'static str,
        /// Its value.
        value: String,
        /// What it takes.
        reason: String,
    },
    /// A file that an option names cannot be read.
    #[error("`{option} {path}`: {source}")]
    File {
        /// The option.
        option: &'static str,
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
}

impl Error {
    /// What to do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Error::Mount(error) => error.hint(),
            Error::Capabilities(error) => error.hint(),
            Error::Security(error) => error.hint(),
            Error::NoCommand => Some("name one after the image, such as `sh`".into()),
            _ => None,
        }
    }
}

/// What an image brings along (image-spec, config.md).
#[derive(Clone, Debug, Default)]
pub struct ImageDefaults {
    /// The image as the user named it.
    pub name: String,
    /// Its id.
    pub id: Option<Digest>,
    /// `Entrypoint`.
    pub entrypoint: Vec<String>,
    /// `Cmd`.
    pub cmd: Vec<String>,
    /// `Env`.
    pub env: Vec<String>,
    /// `WorkingDir`.
    pub workdir: Option<String>,
    /// `User`.
    pub user: Option<String>,
    /// `StopSignal`.
    pub stop_signal: Option<String>,
    /// `Labels`.
    pub labels: BTreeMap<String, String>,
    /// `ExposedPorts`.
    pub exposed: Vec<String>,
    /// `Volumes`: where something is mounted whose writes outlive the container.
    pub volumes: Vec<String>,
    /// `Healthcheck`.
    pub health: Option<crate::model::spec::Health>,
}

/// What was decided elsewhere: by the machine, the store and the other parts.
#[derive(Clone, Debug)]
pub struct Decided {
    /// 64 hexadecimal digits.
    pub id: String,
    /// The name of the container.
    pub name: String,
    /// Where `/` comes from.
    pub rootfs: RootfsSource,
    /// Id maps.
    pub uid_map: IdMap,
    /// See `uid_map`.
    pub gid_map: IdMap,
    /// The caller's own uid and gid inside, with `keep-id`.
    pub keep_id: Option<(u32, u32)>,
    /// How to reach the network.
    pub network: Network,
    /// Whether the command has a terminal.
    pub tty: bool,
    /// The volumes' directory.
    pub volumes: PathBuf,
    /// What other containers have mounted (`--volumes-from`), unless others take their place.
    pub others: Vec<VolumeMount>,
    /// Mounts that come with the image, unless others take their place.
    pub mounts: Vec<VolumeMount>,
    /// Paths hidden with it, unless a mount is asked for there.
    pub hidden: Vec<String>,
}

/// Makes the specification.
///
/// # Errors
/// [`Error`], before anything is started.
pub fn resolve(
    args: &RunArgs,
    command: &[String],
    image: &ImageDefaults,
    mut decided: Decided,
) -> Result<ContainerSpec, Error> {
    let mut confinement = options::resolve(&args.security_opt)?;
    // The kernel's files are the same inside and outside.
    confinement.masked = paths::expand(&confinement.masked, Path::new("/"));
    confinement.read_only = paths::expand(&confinement.read_only, Path::new("/"));
    let mut asked = asked_mounts(args, &decided.volumes)?;
    let others = std::mem::take(&mut decided.others).into_iter();
    let free = |other: &VolumeMount| !asked.iter().any(|mount| mount.target == other.target);
    asked.extend(others.filter(free).collect::<Vec<_>>());
    let cwd = workdir(args, image)?;
    let hidden = host::hidden(std::mem::take(&mut decided.hidden), &asked);
    confinement.masked.extend(hidden);
    let built_in = std::mem::take(&mut decided.mounts);
    let asked = with_image_volumes(asked, &image.volumes, &decided.volumes);
    let line = command_line(args, command, image)?;
    let systemd = systemd::is_meant(args.systemd.as_deref(), &line)?;
    let mounts = all_mounts(args, asked, built_in, &cwd, systemd)?;
    let share = share(args)?;
    if args.read_only && args.read_only_tmpfs == Some(false) {
        // Those that are there anyway; the machine's own are as they are.
        let shm =
            (!share.ipc && !mounts.iter().any(|m| m.target == "/dev/shm")).then_some("/dev/shm");
        let places = shm.into_iter().chain(["/dev"]).map(str::to_owned);
        confinement.read_only.extend(places);
    }
    let hostname = hostname(args, &decided, share)?;
    let grant = caps::resolve(&args.cap_add, &args.cap_drop)?;
    let mut sysctls = sysctls(args, &decided.network, share)?;
    let mut customary = Customary {
        hostname: args.hostname.is_none(),
        sysctls: Vec::new(),
    };
    for (name, value) in customary_sysctls(&decided) {
        if let Entry::Vacant(free) = sysctls.entry(name.to_owned()) {
            free.insert(value);
            customary.sysctls.push(name.to_owned());
        }
    }
    let mut env = environment(args, image, decided.tty, &hostname)?;
    if systemd {
        systemd::add_environment(&mut env, &decided.id);
    }
    let stop = args.stop_signal.as_deref().or(image.stop_signal.as_deref());
    let stop = stop.or(systemd.then_some(systemd::STOP_SIGNAL));
    let user = args.user.clone().or_else(|| {
        let (uid, gid) = decided.keep_id?;
        Some(format!("{uid}:{gid}"))
    });
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    let now = now.unwrap_or_default();
    let mut spec = ContainerSpec {
        version: VERSION,
        id: decided.id,
        name: decided.name,
        created: now.as_secs(),
        created_part: now.subsec_nanos(),
        image: image.name.clone(),
        image_id: image.id,
        rootfs: decided.rootfs,
        args: line,
        env,
        no_home: args.unsetenv_all || args.unsetenv.iter().any(|name| name == "HOME"),
        cwd,
        user: user.or_else(|| image.user.clone()).unwrap_or_default(),
        groups: args.group_add.clone(),
        umask: args.umask.unwrap_or_else(spec::umask),
        tty: decided.tty,
        remove: args.rm,
        hostname,
        no_hosts: args.no_hosts,
        no_hostname: args.no_hostname,
        uid_map: decided.uid_map,
        gid_map: decided.gid_map,
        mounts,
        volumes_from: args.volumes_from.clone(),
        read_only: args.read_only,
        sysctls,
        customary,
        exposed: ports::exposed(&image.exposed, &args.expose, &decided.network.publish),
        network: decided.network,
        share,
        capabilities: grant.held.bits(),
        bounding: grant.bounding(confinement.no_new_privs).bits(),
        ambient: grant.added.bits(),
        confinement,
        ulimits: args
            .ulimit
            .iter()
            .map(|u| units::ulimit(u))
            .collect::<Result<_, _>>()?,
        shm_size: match &args.shm_size {
            Some(size) => units::bytes("--shm-size", size)?,
            None => 64 << 20,
        },
        resources: limits::resolve(&args.limits, &args.group)?,
        devices: args
            .device
            .iter()
            .map(|d| mounts::device(d))
            .collect::<Result<_, _>>()?,
        init: args.init,
        stop_signal: stop.map_or(Ok(libc::SIGTERM), |s| units::signal("--stop-signal", s))?,
        stop_timeout: args.life.stop_timeout.unwrap_or(10),
        timeout: args.life.timeout.unwrap_or(0),
        pidfile: life::pidfile(&args.life)?,
        restart: restart_policy(args)?,
        log: life::log(&args.life)?,
        health: life::health(&args.life, image.health.clone())?,
        open_stdin: args.interactive,
        labels: labels(args, image)?,
        annotations: args
            .annotation
            .iter()
            .map(|a| units::pair("--annotation", a))
            .collect::<Result<_, _>>()?,
        typed: args.typed.clone(),
    };
    spec.log.attributes = life::attributes(&spec)?;
    life::check_remedy(&spec)?;
    Ok(spec)
}

/// What is removed at its end is not started again.
fn restart_policy(args: &RunArgs) -> Result<RestartPolicy, Error> {
    let word = args.life.restart.as_deref().unwrap_or_default();
    let policy = units::restart(word)?;
    if args.rm && policy != RestartPolicy::No {
        return Err(Error::Value {
            option: "--restart",
            value: word.to_owned(),
            reason: "with `--rm` nothing is left that could be started again".into(),
        });
    }
    Ok(policy)
}

/// Docker's rule: a given entry point discards the image's command as well; given words replace the
/// command.
fn command_line(
    args: &RunArgs,
    words: &[String],
    image: &ImageDefaults,
) -> Result<Vec<String>, Error> {
    let mut line = match args.entrypoint.as_deref() {
        None => image.entrypoint.clone(),
        Some("") => Vec::new(),
        Some(list) if list.starts_with('[') => {
            serde_json::from_str(list).map_err(|e| Error::Value {
                option: "--entrypoint",
                value: list.to_owned(),
                reason: format!("not a JSON list of strings: {e}"),
            })?
        }
        Some(program) => vec![program.to_owned()],
    };
    if !words.is_empty() {
        line.extend_from_slice(words);
    } else if args.entrypoint.is_none() {
        line.extend_from_slice(&image.cmd);
    }
    if line.is_empty() {
        Err(Error::NoCommand)
    } else {
        Ok(line)
    }
}

/// The host's file of a zone, shown as `/etc/localtime`, as podman does it: the image need not know
/// any zones.
fn time_zone(zone: &str) -> Result<VolumeMount, Error> {
    let bad = |reason: &str| Error::Value {
        option: "--tz",
        value: zone.to_owned(),
        reason: reason.to_owned(),
    };
    let plain = zone
        .bytes()
        .all(|b| b.is_ascii_alphanumeric() || b"/_+-".contains(&b));
    if zone.is_empty() || !plain || zone.starts_with('/') {
        return Err(bad("expected a zone such as `Europe/Berlin`, or `local`"));
    }
    let path = match zone {
        "local" => PathBuf::from("/etc/localtime"),
        zone => Path::new("/usr/share/zoneinfo").join(zone),
    };
    let path = std::fs::canonicalize(&path).unwrap_or(path);
    if !path.is_file() {
        return Err(bad(
            "this machine has no such zone below `/usr/share/zoneinfo`",
        ));
    }
    Ok(VolumeMount {
        target: "/etc/localtime".into(),
        source: MountSource::Bind {
            path,
            recursive: false,
        },
        read_only: true,
        options: Vec::new(),
    })
}

fn workdir(args: &RunArgs, image: &ImageDefaults) -> Result<String, Error> {
    let dir = args
        .workdir
        .clone()
        .or_else(|| image.workdir.clone())
        .unwrap_or_default();
    let dir = if dir.is_empty() { "/".to_owned() } else { dir };
    if dir.starts_with('/') && !dir.split('/').any(|c| c == "..") {
        return Ok(dir);
    }
    Err(Error::Value {
        option: "--workdir",
        value: dir,
        reason: "the working directory is an absolute path without `..`".into(),
    })
}

fn asked_mounts(args: &RunArgs, volumes: &Path) -> Result<Vec<VolumeMount>, Error> {
    let mut all: Vec<VolumeMount> = Vec::new();
    for value in &args.volume {
        all.push(mounts::volume(value, volumes)?);
    }
    for value in &args.mount {
        all.push(mounts::mount(value, volumes)?);
    }
    for value in &args.tmpfs {
        all.push(mounts::tmpfs(value)?);
    }
    if let Some(zone) = &args.tz {
        all.push(time_zone(zone)?);
    }
    Ok(all)
}

/// Where an image wants a volume and nothing else is mounted, an anonymous one.
fn with_image_volumes(
    mut asked: Vec<VolumeMount>,
    wanted: &[String],
    volumes: &Path,
) -> Vec<VolumeMount> {
    for target in wanted {
        let target = target.trim_end_matches('/');
        let usable = target.starts_with('/') && !target.split('/').any(|part| part == "..");
        if !usable || asked.iter().any(|mount| mount.target == target) {
            continue;
        }
        asked.push(VolumeMount {
            target: target.to_owned(),
            source: mounts::anonymous(volumes),
            read_only: false,
            options: Vec::new(),
        });
    }
    asked
}

fn all_mounts(
    args: &RunArgs,
    mut all: Vec<VolumeMount>,
    built_in: Vec<VolumeMount>,
    cwd: &str,
    systemd: bool,
) -> Result<Vec<VolumeMount>, Error> {
    // Nothing that is to be seen disappears below an empty one: `host` has something in its `/tmp`.
    let is_host = !built_in.is_empty();
    let hides = |target: &str| is_host && Path::new(cwd).starts_with(target);
    let built_in = host::beside(built_in, &all);
    all.extend(built_in);
    if systemd {
        systemd::add_mounts(&mut all);
    }
    // A read-only root still has places to write that forget: as podman has them.
    if args.read_only && args.read_only_tmpfs.unwrap_or(true) {
        for target in ["/tmp", "/run", "/var/tmp"] {
            if !all.iter().any(|m| m.target == target) && !hides(target) {
                all.push(VolumeMount {
                    target: target.into(),
                    source: MountSource::Tmpfs {
                        options: "mode=1777".into(),
                    },
                    read_only: false,
                    options: vec!["nosuid".into(), "nodev".into()],
                });
            }
        }
    }
    Ok(mounts::order(all)?)
}

fn share(args: &RunArgs) -> Result<Share, Error> {
    let host = |option: &'static str, value: &Option<String>| match value.as_deref() {
        None | Some("private" | "") => Ok(false),
        Some("host") => Ok(true),
        Some(other) => Err(Error::Value {
            option,
            value: other.to_owned(),
            reason: "expected `private` or `host`; others are not there yet".into(),
        }),
    };
    Ok(Share {
        pid: host("--pid", &args.pid)?,
        ipc: host("--ipc", &args.ipc)?,
        uts: host("--uts", &args.uts)?,
    })
}

fn hostname(args: &RunArgs, decided: &Decided, share: Share) -> Result<String, Error> {
    let host = || {
        rustix::system::uname()
            .nodename()
            .to_string_lossy()
            .into_owned()
    };
    Ok(match &args.hostname {
        // sethostname(2), HOST_NAME_MAX.
        Some(name) if name.is_empty() || name.len() > 64 || name.contains(char::is_whitespace) => {
            return Err(Error::Value {
                option: "--hostname",
                value: name.clone(),
                reason: "a host name has 1 to 64 characters and no space".into(),
            });
        }
        Some(name) => name.clone(),
        None if share.uts || decided.network.mode == NetworkMode::Host => host(),
        None => decided.id[..12].to_owned(),
    })
}

/// Only parameters of namespaces that are the container's own can be set: the others are the
/// machine's (docker run reference, "Configure namespaced kernel parameters").
fn sysctls(
    args: &RunArgs,
    network: &Network,
    share: Share,
) -> Result<BTreeMap<String, String>, Error> {
    let mut out = BTreeMap::new();
    for given in &args.sysctl {
        let (name, value) = units::pair("--sysctl", given)?;
        let ipc = ["kernel.msg", "kernel.shm", "kernel.sem", "fs.mqueue."];
        let own = if name.starts_with("net.") {
            network.mode != NetworkMode::Host
        } else {
            !share.ipc && ipc.iter().any(|prefix| name.starts_with(prefix))
        };
        if !own || name.contains("..") || name.contains('/') && name.contains("../") {
            return Err(Error::Value {
                option: "--sysctl",
                value: given.clone(),
                reason: "it does not belong to a namespace of this container".into(),
            });
        }
        out.insert(name, value);
    }
    Ok(out)
}

/// A container may listen on any port of its own and ping, as users expect of root inside.
fn customary_sysctls(decided: &Decided) -> Vec<(&'static str, String)> {
    if decided.network.mode == NetworkMode::Host {
        return Vec::new();
    }
    let last = last_of_row(&decided.gid_map);
    // One who keeps their id and has no other is alone in the row.
    let first = match decided.gid_map.to_host(0) {
        Some(_) => 0,
        None => last,
    };
    vec![
        ("net.ipv4.ip_unprivileged_port_start", "0".into()),
        ("net.ipv4.ping_group_range", format!("{first} {last}")),
    ]
}

/// The highest group for `net.ipv4.ping_group_range` from 0 on. The kernel wants both ends mapped, and
/// compares what they are on the host (net/ipv4/sysctl_net_ipv4.c, set_ping_group).
fn last_of_row(map: &IdMap) -> u32 {
    let last = map
        .ranges()
        .last()
        .map_or(0, |r| r.container + (r.length - 1));
    if map.to_host(last) > map.to_host(0) {
        last
    } else {
        0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image() -> ImageDefaults {
        ImageDefaults {
            entrypoint: vec!["/entry".into()],
            cmd: vec!["a".into(), "b".into()],
            env: vec!["PATH=/image".into(), "X=1".into()],
            ..ImageDefaults::default()
        }
    }

    fn line(args: &RunArgs, words: &[&str]) -> Result<Vec<String>, Error> {
        let words: Vec<String> = words.iter().map(|w| (*w).to_owned()).collect();
        command_line(args, &words, &image())
    }

    #[test]
    fn entry_point_and_command_combine_as_in_docker() {
        let plain = RunArgs::default();
        assert_eq!(line(&plain, &[]).unwrap(), ["/entry", "a", "b"]);
        assert_eq!(line(&plain, &["c"]).unwrap(), ["/entry", "c"]);
        let sh = RunArgs {
            entrypoint: Some("sh".into()),
            ..RunArgs::default()
        };
        assert_eq!(line(&sh, &[]).unwrap(), ["sh"]);
        let none = RunArgs {
            entrypoint: Some(String::new()),
            ..RunArgs::default()
        };
        assert_eq!(line(&none, &["x"]).unwrap(), ["x"]);
        assert!(matches!(line(&none, &[]), Err(Error::NoCommand)));
        let list = RunArgs {
            entrypoint: Some("[\"a b\",\"c\"]".into()),
            ..RunArgs::default()
        };
        assert_eq!(line(&list, &[]).unwrap(), ["a b", "c"]);
    }
}
