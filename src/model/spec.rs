//! A container as its owner asked for it: every default filled in, every name resolved, nothing left
//! to decide. It is what is kept on disk, and what the OCI configuration is made from.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::{Digest, IdMap, mac};

/// The version this program writes. A file of a higher version is refused, not guessed at.
pub const VERSION: u32 = 1;

/// Seconds after the stop signal that never pass: SIGKILL does not come (`--stop-timeout -1`).
pub const FOREVER: u32 = u32::MAX;

/// What the user asked, fully resolved.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ContainerSpec {
    /// [`VERSION`] of the program that wrote this.
    pub version: u32,
    /// 64 random hexadecimal digits.
    pub id: String,
    /// The name given, or the one made up.
    pub name: String,
    /// Seconds since the epoch.
    pub created: u64,
    /// Nanoseconds of that second, which tell containers apart that were made in it.
    #[serde(default)]
    pub created_part: u32,
    /// The image as the user named it; empty for a plain directory.
    pub image: String,
    /// The image's id: the digest of its configuration.
    pub image_id: Option<Digest>,
    /// Where `/` comes from.
    pub rootfs: RootfsSource,
    /// The command and its arguments.
    pub args: Vec<String>,
    /// `NAME=value`, in order.
    pub env: Vec<String>,
    /// Whether `HOME` is left out, where nothing sets it.
    #[serde(default)]
    pub no_home: bool,
    /// Working directory inside.
    pub cwd: String,
    /// `user[:group]`, names or numbers, as `/etc/passwd` of the image has them; empty for root.
    pub user: String,
    /// Additional groups, names or numbers.
    pub groups: Vec<String>,
    /// umask(2) of the command.
    #[serde(default = "umask")]
    pub umask: u32,
    /// Whether the command runs on a terminal of its own.
    pub tty: bool,
    /// Whether everything of the container goes away when it ends.
    pub remove: bool,
    /// Host name inside.
    pub hostname: String,
    /// Whether the image's own `/etc/hosts` is left as it is.
    #[serde(default)]
    pub no_hosts: bool,
    /// The same of `/etc/hostname`.
    #[serde(default)]
    pub no_hostname: bool,
    /// User and group maps of the user namespace.
    pub uid_map: IdMap,
    /// See `uid_map`.
    pub gid_map: IdMap,
    /// Bind mounts, volumes and temporary file systems, in the order of mounting.
    pub mounts: Vec<VolumeMount>,
    /// The containers that some of these are of, as they were given.
    #[serde(default)]
    pub volumes_from: Vec<String>,
    /// Whether `/` is read-only.
    pub read_only: bool,
    /// How the container reaches the network.
    pub network: Network,
    /// Ports inside that it is said to listen on, published or not, in Docker's notation.
    #[serde(default)]
    pub exposed: Vec<String>,
    /// Namespaces shared with the host instead of private ones.
    pub share: Share,
    /// Capabilities (bit n is capability n of capabilities(7)) that root inside keeps.
    pub capabilities: u64,
    /// The bounding set: what an executed file may ask for.
    pub bounding: u64,
    /// Capabilities added by name: a user other than root keeps these as ambient ones.
    pub ambient: u64,
    /// no_new_privs, seccomp, masks.
    pub confinement: Confinement,
    /// Resource limits (getrlimit(2)).
    pub ulimits: Vec<Ulimit>,
    /// Bytes of `/dev/shm`.
    pub shm_size: u64,
    /// What it may use at most.
    #[serde(default)]
    pub resources: Resources,
    /// Kernel parameters of the container's own namespaces.
    pub sysctls: BTreeMap<String, String>,
    /// What of all this was not asked for.
    pub customary: Customary,
    /// Host devices bound into `/dev`.
    pub devices: Vec<Device>,
    /// Whether PID 1 is our reaper, and the command its child.
    pub init: bool,
    /// The signal that asks the command to end.
    pub stop_signal: i32,
    /// Seconds after it until SIGKILL, or [`FOREVER`].
    pub stop_timeout: u32,
    /// Seconds after which it is killed; 0 for never.
    #[serde(default)]
    pub timeout: u32,
    /// Where the process id of its first process is written, while it runs.
    #[serde(default)]
    pub pidfile: Option<PathBuf>,
    /// Whether the command is started again when it ends.
    pub restart: RestartPolicy,
    /// What is kept of what the command prints.
    pub log: Log,
    /// How to find out whether the container is well.
    pub health: Option<Health>,
    /// Whether standard input stays open without anybody attached (`--interactive`).
    pub open_stdin: bool,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// OCI annotations.
    pub annotations: BTreeMap<String, String>,
    /// The words that made it, where it was made by words.
    #[serde(default)]
    pub typed: Option<Typed>,
}

/// A command line as it was typed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Typed {
    /// Options, image and command, behind the verb.
    pub words: Vec<String>,
    /// Where: paths among the words may be relative.
    pub directory: PathBuf,
}

/// What a container has by custom and not because somebody asked: a machine that refuses it is no reason
/// to refuse the start.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Customary {
    /// The host name.
    pub hostname: bool,
    /// Kernel parameters, by name.
    pub sysctls: Vec<String>,
}

/// What a container may use at most. Negative numbers, where there can be such, mean no limit.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Resources {
    /// Bytes of memory.
    pub memory: Option<i64>,
    /// Bytes of memory that are not taken away while others have more.
    pub memory_reservation: Option<i64>,
    /// Bytes of memory and swap together.
    pub memory_swap: Option<i64>,
    /// Microseconds of processor time in each period, and the period.
    pub cpu: Option<(i64, u64)>,
    /// A share of the processors where they are short: 1 to 10,000, usually 100.
    pub cpu_weight: Option<u64>,
    /// Processors, such as `0-2,4`.
    pub cpuset_cpus: Option<String>,
    /// Nodes of memory.
    pub cpuset_mems: Option<String>,
    /// Tasks.
    pub pids: Option<i64>,
    /// A share of the disks: 1 to 10,000, usually 100.
    pub io_weight: Option<u64>,
    /// Limits of single disks.
    pub io_max: Vec<IoMax>,
    /// Bytes of huge pages, by their size (`2MB`).
    pub hugetlb: BTreeMap<String, u64>,
    /// Files of the group, as they are to be.
    pub conf: BTreeMap<String, String>,
    /// How early the kernel kills it when memory is out (proc_pid_oom_score_adj(5)).
    pub oom_score_adj: Option<i32>,
    /// The slice, or (with a `/` in front) the group that it lies in.
    pub parent: Option<String>,
    /// Whether there is a group.
    pub mode: CgroupMode,
}

/// A limit of a disk.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct IoMax {
    /// `MAJOR:MINOR`.
    pub device: String,
    /// `rbps`, `wbps`, `riops` or `wiops`.
    pub key: String,
    /// Bytes or operations a second; 0 for no limit.
    pub value: u64,
}

impl IoMax {
    /// Whether both limit the same of the same disk.
    pub fn is_of(&self, other: &IoMax) -> bool {
        (&self.device, &self.key) == (&other.device, &other.key)
    }
}

/// `--cgroups`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum CgroupMode {
    /// A group of its own, where one can be had.
    #[default]
    Enabled,
    /// None: it stays in that of the caller.
    Disabled,
    /// One below that of the caller.
    Split,
}

impl ContainerSpec {
    /// Nanoseconds since the epoch at which it was made.
    pub fn made(&self) -> u64 {
        made(self.created, self.created_part)
    }

    /// What it is called on a network with a name: its name, the beginning of its id, as for docker, and its aliases.
    pub fn network_names(&self) -> Vec<String> {
        let short = self.id.get(..12).unwrap_or(&self.id).to_owned();
        let mut names = vec![self.name.clone(), short];
        names.extend(self.network.request.aliases.iter().cloned());
        names
    }

    /// Whether the volume `name` is mounted in it.
    pub fn has_volume(&self, name: &str) -> bool {
        let mut sources = self.mounts.iter().map(|mount| &mount.source);
        sources.any(|s| matches!(s, MountSource::Volume { name: n, .. } if n == name))
    }

    /// The volumes that nobody named: their names and directories.
    pub fn anonymous_volumes(&self) -> impl Iterator<Item = (&str, &Path)> {
        self.mounts.iter().filter_map(|mount| match &mount.source {
            MountSource::Volume {
                name,
                path,
                anonymous: true,
                ..
            } => Some((&**name, path.parent().unwrap_or(path))),
            _ => None,
        })
    }

    /// The views: where inside, of which host directory, and the name below the container's `views/`
    /// under which its upper and work directories lie.
    pub fn views(&self) -> impl Iterator<Item = (&str, &Path, String)> {
        let mounts = self.mounts.iter().enumerate();
        mounts.filter_map(|(i, mount)| match &mount.source {
            MountSource::Overlay { path } => Some((&*mount.target, &**path, i.to_string())),
            _ => None,
        })
    }
}

/// Nanoseconds since the epoch.
pub(super) fn made(seconds: u64, part: u32) -> u64 {
    let whole = seconds.saturating_mul(1_000_000_000);
    whole.saturating_add(part.into())
}

/// Where a root file system comes from.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum RootfsSource {
    /// Layers of the store, in the directory of one id map, the topmost first.
    Layers {
        /// Directory that holds the layers.
        base: PathBuf,
        /// Directory names below `base`.
        names: Vec<String>,
    },
    /// A directory of the user's own, used in place.
    Directory(PathBuf),
    /// The root of this machine, read-only.
    Host,
}

/// One mount that the user asked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VolumeMount {
    /// Path inside.
    pub target: String,
    /// What is mounted there.
    pub source: MountSource,
    /// Read-only, with all mounts below.
    pub read_only: bool,
    /// Further mount options: `nosuid`, `nodev`, `noexec`.
    pub options: Vec<String>,
}

/// What a mount shows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum MountSource {
    /// A file or directory of the host.
    Bind {
        /// Absolute host path.
        path: PathBuf,
        /// With the mounts below it.
        recursive: bool,
    },
    /// A named volume: a bind of its data directory.
    Volume {
        /// Its name.
        name: String,
        /// Its data directory.
        path: PathBuf,
        /// Whether it is filled from the image when it is empty (no `nocopy`).
        #[serde(default = "yes")]
        fill: bool,
        /// It is no directory but a file system in memory, with these options of tmpfs(5).
        #[serde(default)]
        memory: Option<String>,
        /// Nobody named it: it is made for this container, and goes with it where that is asked for.
        #[serde(default)]
        anonymous: bool,
    },
    /// A directory of the host as a view: what is written goes to the container's own directory
    /// ([`ContainerSpec::views`]).
    Overlay {
        /// Absolute host path.
        path: PathBuf,
    },
    /// A file system in memory.
    Tmpfs {
        /// Options of tmpfs(5), such as `size=64m,mode=1777`.
        options: String,
    },
}

fn yes() -> bool {
    true
}

/// What a container has where nothing else is asked for.
pub fn umask() -> u32 {
    0o022
}

/// How a container reaches the network.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum NetworkMode {
    /// User-mode networking by pasta.
    Pasta,
    /// User-mode networking by slirp4netns.
    Slirp4netns,
    /// The same by passt, where there is no /dev/net/tun.
    Passt,
    /// The network of the name that was asked for, with other containers.
    Named,
    /// A network namespace with only a loopback device.
    None,
    /// The host's network namespace.
    Host,
}

/// The network of a container.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Network {
    /// The way out.
    pub mode: NetworkMode,
    /// Published ports, in Docker's notation, all numbers filled in.
    pub publish: Vec<String>,
    /// What was asked for.
    pub request: NetworkRequest,
}

/// What the user asked of the network. What becomes of it is decided at every start: the machine may
/// have changed meanwhile.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NetworkRequest {
    /// `--network`, empty for the best there is.
    pub mode: String,
    /// `--publish`; for a container that was made, host ports are filled in.
    pub publish: Vec<String>,
    /// `--publish-all`, of what was exposed when it was made: it is among those to publish.
    #[serde(default)]
    pub publish_all: bool,
    /// `--dns`.
    pub dns: Vec<String>,
    /// `--dns-search`.
    pub dns_search: Vec<String>,
    /// `--dns-option`.
    pub dns_option: Vec<String>,
    /// `--add-host`.
    pub add_host: Vec<String>,
    /// `--ip`.
    #[serde(default)]
    pub ip: Option<String>,
    /// `--mac-address`.
    #[serde(default)]
    pub mac: Option<String>,
    /// `--network-alias`.
    #[serde(default)]
    pub aliases: Vec<String>,
}

impl NetworkRequest {
    /// The hardware address that was asked for, in the one form that is told.
    pub fn mac_told(&self) -> Option<String> {
        self.mac.as_deref().and_then(mac::parse).map(mac::text)
    }
}

impl Network {
    /// The network's name, where it has one.
    pub fn name(&self) -> Option<&str> {
        (self.mode == NetworkMode::Named).then_some(&*self.request.mode)
    }
}

/// Whether a command is started again when it ended (docker run reference, "Restart policies").
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum RestartPolicy {
    /// Never.
    #[default]
    No,
    /// When it failed, at most so many times in a row (0: without limit).
    OnFailure(u32),
    /// Whenever it ends, unless the user stopped it.
    Always,
    /// The same, and not after a reboot if it was stopped before.
    UnlessStopped,
}

/// What is kept of a command's output.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Log {
    /// Where it goes.
    pub driver: LogDriver,
    /// Bytes of one file.
    pub max_size: u64,
    /// Number of files.
    pub max_files: u32,
    /// Further `--log-opt`, as they were given.
    #[serde(default)]
    pub options: BTreeMap<String, String>,
    /// What stands beside each line, by these.
    #[serde(default)]
    pub attributes: BTreeMap<String, String>,
}

/// Where a command's output goes, besides to who is attached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum LogDriver {
    /// Files of JSON lines in the container's directory.
    JsonFile,
    /// The system's journal.
    Journald,
    /// Nowhere.
    None,
    /// Standard output and error of the command that started the container.
    Passthrough,
}

/// A command that tells by its exit status whether the container is well (docker run reference,
/// `--health-cmd`). Times are in milliseconds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Health {
    /// The command and its arguments.
    pub args: Vec<String>,
    /// Between the end of one and the start of the next.
    pub interval: u64,
    /// How long one may take.
    pub timeout: u64,
    /// How long failures do not count after the start.
    pub start_period: u64,
    /// The same as `interval`, for the start period until it is well ([`Health::start_interval`]).
    #[serde(default)]
    pub start_interval: Option<u64>,
    /// Failures in a row that make it unhealthy.
    pub retries: u32,
    /// What happens then.
    #[serde(default)]
    pub on_failure: Remedy,
}

/// What happens to a container that becomes unhealthy (podman-run(1), `--health-on-failure`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Remedy {
    /// Nothing.
    #[default]
    None,
    /// SIGKILL.
    Kill,
    /// It is stopped and started again.
    Restart,
    /// Its stop signal, and SIGKILL later.
    Stop,
}

impl Remedy {
    /// The word for it.
    pub fn word(self) -> &'static str {
        match self {
            Remedy::None => "none",
            Remedy::Kill => "kill",
            Remedy::Restart => "restart",
            Remedy::Stop => "stop",
        }
    }
}

impl Health {
    /// Between two checks of the start period. As for Docker five seconds where nothing is said; but never less often
    /// than later.
    pub fn start_interval(&self) -> u64 {
        self.start_interval.unwrap_or(self.interval.min(5_000))
    }
}

/// Namespaces shared with the host.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Share {
    /// Process ids.
    pub pid: bool,
    /// System V IPC and message queues.
    pub ipc: bool,
    /// Host name.
    pub uts: bool,
}

/// The walls that can be lowered by option.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Confinement {
    /// Set-user-id programs and file capabilities gain nothing.
    pub no_new_privs: bool,
    /// System call filter.
    pub seccomp: SeccompChoice,
    /// Paths hidden under an empty file or directory.
    pub masked: Vec<String>,
    /// Paths made read-only.
    pub read_only: Vec<String>,
}

/// Which system call filter is used.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum SeccompChoice {
    /// The built-in profile.
    Default,
    /// None, because the user asked for none.
    Unconfined,
    /// A profile in Docker's or the OCI's JSON form.
    File(PathBuf),
}

/// One resource limit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ulimit {
    /// Docker's name: `nofile`, `nproc`, …
    pub name: String,
    /// Soft limit; `u64::MAX` is unlimited.
    pub soft: u64,
    /// Hard limit.
    pub hard: u64,
}

/// A device of the host that the container may open.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Device {
    /// Path on the host.
    pub host: PathBuf,
    /// Path inside.
    pub container: String,
    /// Only reading is allowed.
    pub read_only: bool,
}
