//! A [`ContainerSpec`] as the OCI runtime specification writes it (runtime-spec, config.md and
//! config-linux.md). What the specification has no word for (users by name, the rootfs ladder, the
//! terminal's size) stays beside it in the runtime's own plan.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use oci_spec::OciSpecError;
use oci_spec::runtime::{
    Capabilities, Capability, LinuxBuilder, LinuxCapabilitiesBuilder, LinuxIdMappingBuilder,
    LinuxNamespace, LinuxNamespaceBuilder, LinuxNamespaceType, Mount, MountBuilder,
    PosixRlimitBuilder, PosixRlimitType, ProcessBuilder, RootBuilder, Spec, SpecBuilder,
    UserBuilder,
};

use crate::model::IdMap;
use crate::model::spec::{ContainerSpec, MountSource, NetworkMode, RootfsSource, VolumeMount};

/// Files that the engine wrote for this container, bound over those of the image.
#[derive(Clone, Debug)]
pub struct EtcFiles {
    /// For `/etc/hosts`.
    pub hosts: EtcFile,
    /// For `/etc/resolv.conf`.
    pub resolv_conf: EtcFile,
    /// For `/etc/hostname`.
    pub hostname: EtcFile,
    /// For [`APT_CONF`], where root inside is alone.
    pub apt_conf: Option<EtcFile>,
    /// The directory of the views' upper and work directories.
    pub views: PathBuf,
}

/// One of them.
#[derive(Clone, Debug)]
pub struct EtcFile {
    /// What was written.
    pub file: PathBuf,
    /// Where it is shown; `None` where the root is read-only and has no such file.
    pub target: Option<String>,
}

/// Settings for apt, which checks that it became the user it wanted to download as. Only for a root that has
/// the directory: [`crate::runtime::plan::Extras::optional`].
pub const APT_CONF: &str = "/etc/apt/apt.conf.d/99rl-one-id";

/// Why no configuration could be made.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A value that the specification's types refuse.
    #[error("OCI configuration: {0}")]
    Spec(#[from] OciSpecError),
    /// A limit name that setrlimit(2) does not have.
    #[error("`{0}` is not a resource limit")]
    Ulimit(String),
}

/// Makes the OCI configuration of a container whose root is prepared at `root`.
///
/// # Errors
/// [`Error`] for values that the specification cannot express.
pub fn generate(
    spec: &ContainerSpec,
    root: &Path,
    etc: &EtcFiles,
    own_group: bool,
) -> Result<Spec, Error> {
    let mut mounts = kernel_mounts(spec, own_group)?;
    let mut etc_mounts = Vec::new();
    let files = [&etc.hosts, &etc.resolv_conf, &etc.hostname];
    for EtcFile { file, target } in files.into_iter().chain(&etc.apt_conf) {
        if let Some(target) = target
            && !spec.mounts.iter().any(|m| m.target == *target)
        {
            etc_mounts.push(bind(target, file, &["bind", "nosuid", "nodev", "noexec"])?);
        }
    }
    let own_mounts = spec.mounts.iter().enumerate();
    let own_mounts = own_mounts.map(|(i, m)| own_mount(m, &etc.views.join(i.to_string())));
    let own_mounts = own_mounts.collect::<Result<Vec<_>, _>>()?;
    // The host's resolv.conf may be a link into /run, which is mounted afresh.
    if spec.rootfs == RootfsSource::Host {
        mounts.extend(own_mounts);
        mounts.extend(etc_mounts);
    } else {
        mounts.extend(etc_mounts);
        mounts.extend(own_mounts);
    }
    for device in &spec.devices {
        let options: &[&str] = if device.read_only {
            &["bind", "ro", "nosuid"]
        } else {
            &["bind", "nosuid"]
        };
        mounts.push(bind(&device.container, &device.host, options)?);
    }
    let linux = LinuxBuilder::default()
        .uid_mappings(mappings(&spec.uid_map)?)
        .gid_mappings(mappings(&spec.gid_map)?)
        .namespaces(namespaces(spec)?)
        .sysctl(spec.sysctls.clone().into_iter().collect::<HashMap<_, _>>())
        .masked_paths(spec.confinement.masked.clone())
        .readonly_paths(spec.confinement.read_only.clone())
        .build()?;
    let root = RootBuilder::default()
        .path(root)
        .readonly(spec.read_only)
        .build()?;
    Ok(SpecBuilder::default()
        .version("1.2.0")
        .root(root)
        .hostname(spec.hostname.clone())
        .mounts(mounts)
        .annotations(
            spec.annotations
                .clone()
                .into_iter()
                .collect::<HashMap<_, _>>(),
        )
        .process(process(spec)?)
        .linux(linux)
        .build()?)
}

fn process(spec: &ContainerSpec) -> Result<oci_spec::runtime::Process, Error> {
    let root = capability_set(spec.capabilities);
    let capabilities = LinuxCapabilitiesBuilder::default()
        .bounding(capability_set(spec.bounding))
        .effective(root.clone())
        .permitted(root)
        .inheritable(capability_set(spec.ambient))
        .ambient(capability_set(spec.ambient))
        .build()?;
    let mut limits = Vec::new();
    for limit in &spec.ulimits {
        let name = format!("RLIMIT_{}", limit.name.to_ascii_uppercase());
        let kind: PosixRlimitType = serde_json::from_value(serde_json::Value::String(name))
            .map_err(|_| Error::Ulimit(limit.name.clone()))?;
        limits.push(
            PosixRlimitBuilder::default()
                .typ(kind)
                .soft(limit.soft)
                .hard(limit.hard)
                .build()?,
        );
    }
    // The user's name is resolved inside, from the image's own files; numbers stand here already.
    let (uid, gid) = spec.user.split_once(':').unwrap_or((&spec.user, ""));
    let user = UserBuilder::default()
        .uid(uid.parse::<u32>().unwrap_or(0))
        .gid(gid.parse::<u32>().unwrap_or(0))
        .umask(spec.umask)
        .build()?;
    Ok(ProcessBuilder::default()
        .terminal(spec.tty)
        .user(user)
        .args(spec.args.clone())
        .env(spec.env.clone())
        .cwd(&spec.cwd)
        .capabilities(capabilities)
        .rlimits(limits)
        .no_new_privileges(spec.confinement.no_new_privs)
        .build()?)
}

/// Bit n of `set` is capability n; the names come from the specification's own enumeration.
fn capability_set(set: u64) -> Capabilities {
    CAPABILITIES
        .iter()
        .enumerate()
        .filter(|(bit, _)| set & (1 << bit) != 0)
        .map(|(_, capability)| *capability)
        .collect()
}

/// Capabilities by number (include/uapi/linux/capability.h).
const CAPABILITIES: [Capability; 41] = [
    Capability::Chown,
    Capability::DacOverride,
    Capability::DacReadSearch,
    Capability::Fowner,
    Capability::Fsetid,
    Capability::Kill,
    Capability::Setgid,
    Capability::Setuid,
    Capability::Setpcap,
    Capability::LinuxImmutable,
    Capability::NetBindService,
    Capability::NetBroadcast,
    Capability::NetAdmin,
    Capability::NetRaw,
    Capability::IpcLock,
    Capability::IpcOwner,
    Capability::SysModule,
    Capability::SysRawio,
    Capability::SysChroot,
    Capability::SysPtrace,
    Capability::SysPacct,
    Capability::SysAdmin,
    Capability::SysBoot,
    Capability::SysNice,
    Capability::SysResource,
    Capability::SysTime,
    Capability::SysTtyConfig,
    Capability::Mknod,
    Capability::Lease,
    Capability::AuditWrite,
    Capability::AuditControl,
    Capability::Setfcap,
    Capability::MacOverride,
    Capability::MacAdmin,
    Capability::Syslog,
    Capability::WakeAlarm,
    Capability::BlockSuspend,
    Capability::AuditRead,
    Capability::Perfmon,
    Capability::Bpf,
    Capability::CheckpointRestore,
];

/// The set of an OCI list as bits, the inverse of what [`generate`] writes.
pub fn capability_bits(set: &Capabilities) -> u64 {
    CAPABILITIES
        .iter()
        .enumerate()
        .filter(|(_, capability)| set.contains(*capability))
        .fold(0, |bits, (bit, _)| bits | 1 << bit)
}

fn namespaces(spec: &ContainerSpec) -> Result<Vec<LinuxNamespace>, Error> {
    use LinuxNamespaceType::{Cgroup, Ipc, Mount, Network, Pid, User, Uts};
    let wanted = [
        (User, true),
        (Pid, !spec.share.pid),
        (Mount, true),
        (Uts, !spec.share.uts),
        (Ipc, !spec.share.ipc),
        (Network, spec.network.mode != NetworkMode::Host),
        (Cgroup, true),
    ];
    let mut out = Vec::with_capacity(wanted.len());
    for (kind, make) in wanted {
        if make {
            out.push(LinuxNamespaceBuilder::default().typ(kind).build()?);
        }
    }
    Ok(out)
}

fn mappings(map: &IdMap) -> Result<Vec<oci_spec::runtime::LinuxIdMapping>, Error> {
    let mut out = Vec::new();
    for r in map.ranges() {
        out.push(
            LinuxIdMappingBuilder::default()
                .container_id(r.container)
                .host_id(r.host)
                .size(r.length)
                .build()?,
        );
    }
    Ok(out)
}

/// The file systems of the kernel, as the specification's "Default Filesystems" and Docker have them.
fn kernel_mounts(spec: &ContainerSpec, own_group: bool) -> Result<Vec<Mount>, Error> {
    let shm = format!("size={}", spec.shm_size);
    let table: [(&str, &str, &str, &[&str]); 7] = [
        ("/proc", "proc", "proc", &["nosuid", "noexec", "nodev"]),
        (
            "/dev",
            "tmpfs",
            "tmpfs",
            &["nosuid", "noexec", "mode=755", "size=65536k"],
        ),
        (
            "/dev/pts",
            "devpts",
            "devpts",
            &[
                "nosuid",
                "noexec",
                "newinstance",
                "ptmxmode=0666",
                "mode=0620",
                "gid=5",
            ],
        ),
        (
            "/dev/shm",
            "tmpfs",
            "shm",
            &["nosuid", "noexec", "nodev", "mode=1777", &shm],
        ),
        (
            "/dev/mqueue",
            "mqueue",
            "mqueue",
            &["nosuid", "noexec", "nodev"],
        ),
        (
            "/sys",
            "sysfs",
            "sysfs",
            &["nosuid", "noexec", "nodev", "ro"],
        ),
        (
            "/sys/fs/cgroup",
            "cgroup",
            "cgroup",
            // A group of its own is the container's to divide.
            &[
                "nosuid",
                "noexec",
                "nodev",
                if own_group { "rw" } else { "ro" },
            ],
        ),
    ];
    let gid_5_mapped = spec.gid_map.to_host(5).is_some();
    let mut out = Vec::with_capacity(table.len());
    for (target, kind, source, options) in table {
        if spec.mounts.iter().any(|m| m.target == target) && target != "/proc" {
            continue;
        }
        // Those of a shared IPC namespace are the host's own.
        if spec.share.ipc && matches!(target, "/dev/shm" | "/dev/mqueue") {
            let host = Path::new(target);
            if host.is_dir() {
                out.push(bind(target, host, &["bind", "nosuid", "nodev", "noexec"])?);
            }
            continue;
        }
        let options: Vec<String> = options
            .iter()
            .filter(|o| **o != "gid=5" || gid_5_mapped)
            .map(|o| (*o).to_owned())
            .collect();
        out.push(
            MountBuilder::default()
                .destination(target)
                .typ(kind)
                .source(source)
                .options(options)
                .build()?,
        );
    }
    Ok(out)
}

fn bind(target: &str, source: &Path, options: &[&str]) -> Result<Mount, Error> {
    Ok(MountBuilder::default()
        .destination(target)
        .typ("bind")
        .source(source)
        .options(options.iter().map(|o| (*o).to_owned()).collect::<Vec<_>>())
        .build()?)
}

/// A mount of the specification; `view` is where a view keeps what is written to it.
fn own_mount(mount: &VolumeMount, view: &Path) -> Result<Mount, Error> {
    let mut options = mount.options.clone();
    if mount.read_only {
        options.push("ro".into());
    }
    let builder = MountBuilder::default().destination(&mount.target);
    Ok(match &mount.source {
        MountSource::Bind { path, recursive } => {
            options.insert(0, if *recursive { "rbind" } else { "bind" }.into());
            builder.typ("bind").source(path).options(options).build()?
        }
        MountSource::Volume {
            path, memory: None, ..
        } => {
            options.insert(0, "rbind".into());
            builder.typ("bind").source(path).options(options).build()?
        }
        MountSource::Overlay { path } => {
            let word = |name: &str, path: &Path| format!("{name}={}", path.display());
            options.extend([
                word("lowerdir", path),
                word("upperdir", &view.join("upper")),
                word("workdir", &view.join("work")),
            ]);
            builder
                .typ("overlay")
                .source("overlay")
                .options(options)
                .build()?
        }
        MountSource::Tmpfs { options: data }
        | MountSource::Volume {
            memory: Some(data), ..
        } => {
            options.extend(data.split(',').filter(|o| !o.is_empty()).map(str::to_owned));
            builder
                .typ("tmpfs")
                .source("tmpfs")
                .options(options)
                .build()?
        }
    })
}
