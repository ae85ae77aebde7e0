//! The plan of a start: plain data, complete, made before anything is cloned. The init stage only
//! carries it out.

use std::path::{Path, PathBuf};

use oci_spec::runtime::{LinuxNamespaceType, Mount, Spec};
use rustix::mount::MountPropagationFlags;
use serde::{Deserialize, Serialize};

use crate::model::spec::Customary;
use crate::oci::capability_bits;
use crate::sys::mount::Attr;
use crate::sys::process::Namespaces;
use crate::sys::seccomp::SockFilter;

/// How `/` is made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Rootfs {
    /// The kernel's overlay, mounted in the container's user namespace. The layers are named
    /// relative to `base`: mount(2) takes at most a page of options.
    Overlay {
        /// Directory of the layers.
        base: PathBuf,
        /// Layer directories, the topmost first.
        lower: Vec<String>,
        /// Upper directory.
        upper: PathBuf,
        /// Work directory, on the file system of `upper`.
        work: PathBuf,
        /// The upper directory need not survive a crash (`volatile`).
        throw_away: bool,
    },
    /// Mounted by the launcher when asked ([`super::proto::FromInit::NeedRootfs`]).
    Provided,
    /// A directory that is complete already.
    Directory(PathBuf),
    /// This machine's own root with all that is mounted there, read-only.
    Host,
}

/// What the OCI configuration has no word for.
#[derive(Clone, Debug)]
pub struct Extras {
    /// `user[:group]`, names or numbers; empty takes the numbers of the configuration.
    pub user: String,
    /// Additional groups.
    pub groups: Vec<String>,
    /// `HOME` is the user's directory, where the environment does not say it.
    pub home: bool,
    /// What the start goes on without where it is refused.
    pub customary: Customary,
    /// Whether setgroups(2) is allowed in the user namespace.
    pub setgroups: bool,
    /// The interface to make in the network namespace, where no helper does.
    pub wire: Option<crate::sys::wire::Interface>,
    /// PID 1 is our reaper.
    pub init: bool,
    /// Rows and columns of the terminal.
    pub console_size: Option<(u16, u16)>,
    /// Compiled system call filters, installed in this order.
    pub seccomp: Vec<Vec<SockFilter>>,
    /// Whether to add a Landlock domain around the root.
    pub landlock: bool,
    /// Directory on which the root is mounted before pivot_root.
    pub mount_point: PathBuf,
    /// Destinations of bind mounts whose source, when it is an empty directory, is filled with what
    /// the root has there.
    pub fill: Vec<String>,
    /// Destinations of bind mounts that are left out where the root lacks their directory.
    pub optional: Vec<String>,
    /// Views are thrown away with the container: they need not survive a crash, and may be kept in
    /// memory.
    pub throw_away: bool,
    /// fuse-overlayfs can be had for the lower sides of views that the kernel does not take as they are.
    pub serves_views: bool,
    /// Unix sockets of the host that the root shows: hidden, unless a view makes them unreachable.
    pub sockets: Vec<String>,
}

/// A complete plan.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct InitPlan {
    pub(super) namespaces: u64,
    pub(super) hostname: Option<String>,
    pub(super) mount_point: PathBuf,
    pub(super) rootfs: Rootfs,
    pub(super) read_only_root: bool,
    pub(super) fills: Vec<Fill>,
    pub(super) mounts: Vec<MountPlan>,
    pub(super) masked: Vec<String>,
    pub(super) sockets: Vec<String>,
    pub(super) read_only: Vec<String>,
    pub(super) sysctls: Vec<(String, String)>,
    pub(super) customary: Customary,
    pub(super) wire: Option<crate::sys::wire::Interface>,
    pub(super) tty: bool,
    pub(super) console_size: Option<(u16, u16)>,
    pub(super) process: ProcessPlan,
}

impl InitPlan {
    /// The namespaces to clone with.
    pub fn namespaces(&self) -> Namespaces {
        Namespaces::from_bits_truncate(self.namespaces) - Namespaces::CGROUP
    }

    /// Whether the container has a view of its own of control groups. It is made later than the others: its root is the
    /// group of who makes it (cgroup_namespaces(7)).
    pub(super) fn cgroup_namespace(&self) -> bool {
        Namespaces::from_bits_truncate(self.namespaces).contains(Namespaces::CGROUP)
    }

    /// Whether the container has a network of its own.
    pub fn private_network(&self) -> bool {
        self.namespaces().contains(Namespaces::NET)
    }

    /// How the root is made.
    pub fn rootfs(&self) -> &Rootfs {
        &self.rootfs
    }

    /// Where the root is mounted before pivot_root.
    pub fn mount_point(&self) -> &Path {
        &self.mount_point
    }

    /// Whether a server may be asked for, for the lower side of a view.
    pub fn wants_views(&self) -> bool {
        let wants = |mount: &MountPlan| matches!(&mount.kind, MountKind::View(view) if view.served);
        self.mounts.iter().any(wants)
    }
}

/// A volume that begins with a directory of the root.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Fill {
    pub volume: PathBuf,
    pub target: String,
}

/// One mount below the root.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct MountPlan {
    pub target: String,
    /// Left out where the root lacks the directory of `target`.
    pub optional: bool,
    pub kind: MountKind,
    /// Bits of [`crate::sys::mount::Attr`].
    pub attr: u64,
    /// Bits of mount propagation flags, 0 for private.
    pub propagation: u32,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum MountKind {
    /// A fresh procfs, else the outer one.
    Proc,
    /// A fresh sysfs, else the outer one.
    Sysfs,
    /// tmpfs with the customary device files.
    Dev {
        data: String,
    },
    Tmpfs {
        data: String,
    },
    Devpts {
        data: String,
    },
    /// May be missing from the kernel.
    Mqueue,
    /// The unified hierarchy, if the machine has it.
    Cgroup,
    Bind {
        source: PathBuf,
        recursive: bool,
    },
    /// Overlay over a directory of the host.
    View(View),
}

/// A directory of the host, of which the container has a copy where it writes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct View {
    pub lower: PathBuf,
    pub upper: PathBuf,
    pub work: PathBuf,
    pub throw_away: bool,
    /// A server for the lower side can be had.
    pub served: bool,
}

/// The process that the container is for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct ProcessPlan {
    pub args: Vec<String>,
    pub env: Vec<String>,
    pub cwd: String,
    /// Whether a missing `cwd` is made.
    pub make_cwd: bool,
    pub user: String,
    pub groups: Vec<String>,
    pub home: bool,
    pub setgroups: bool,
    pub umask: u32,
    /// (resource number, soft, hard)
    pub rlimits: Vec<(u32, u64, u64)>,
    pub bounding: u64,
    pub effective: u64,
    pub ambient: u64,
    pub no_new_privs: bool,
    pub landlock: Option<Scopes>,
    pub seccomp: Vec<Vec<SockFilter>>,
    pub init: bool,
}

/// What a Landlock domain closes beside files. A namespace of the container's own closes the same, and
/// leaves its processes free among each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Scopes {
    /// Abstract unix sockets from outside: for the host's network namespace.
    pub abstract_sockets: bool,
    /// Signals to outside: for the host's pid namespace.
    pub signals: bool,
}

/// Why a configuration cannot be carried out.
#[derive(Debug, thiserror::Error)]
pub enum PlanError {
    /// A part that the runtime specification requires is missing.
    #[error("the OCI configuration has no `{0}`")]
    Missing(&'static str),
    /// A mount of a type or option that cannot be made here.
    #[error("mount `{target}`: {what} `{value}` is not supported")]
    Mount {
        /// Its destination.
        target: String,
        /// `type` or `option`.
        what: &'static str,
        /// The offending word.
        value: String,
    },
    /// A text with a NUL byte, or not UTF-8.
    #[error("{0} holds a NUL byte or is not UTF-8")]
    Text(&'static str),
    /// A namespace to join, or of a kind that is not made here.
    #[error("namespace `{0}` is not supported")]
    Namespace(String),
}

/// Turns a configuration into a plan.
///
/// # Errors
/// [`PlanError`] for what cannot be carried out; nothing has been done then.
pub fn plan(spec: &Spec, rootfs: Rootfs, extras: Extras) -> Result<InitPlan, PlanError> {
    let linux = spec.linux().as_ref().ok_or(PlanError::Missing("linux"))?;
    let root = spec.root().as_ref().ok_or(PlanError::Missing("root"))?;
    let mut mounts = Vec::new();
    for mount in spec.mounts().iter().flatten() {
        mounts.push(mount_plan(mount, &extras)?);
    }
    let mut namespaces = Namespaces::empty();
    for ns in linux.namespaces().iter().flatten() {
        if ns.path().is_some() {
            return Err(PlanError::Namespace(format!("{} by path", ns.typ())));
        }
        namespaces |= match ns.typ() {
            LinuxNamespaceType::User => Namespaces::USER,
            LinuxNamespaceType::Pid => Namespaces::PID,
            LinuxNamespaceType::Mount => Namespaces::MOUNT,
            LinuxNamespaceType::Uts => Namespaces::UTS,
            LinuxNamespaceType::Ipc => Namespaces::IPC,
            LinuxNamespaceType::Network => Namespaces::NET,
            LinuxNamespaceType::Cgroup => Namespaces::CGROUP,
            other => return Err(PlanError::Namespace(other.to_string())),
        };
    }
    let fills = mounts.iter().filter_map(|m| match &m.kind {
        MountKind::Bind { source, .. } if extras.fill.contains(&m.target) => Some(Fill {
            volume: source.clone(),
            target: m.target.clone(),
        }),
        _ => None,
    });
    let fills = fills.collect();
    let console_size = extras.console_size;
    let wire = extras.wire.clone();
    let customary = extras.customary.clone();
    let sockets = extras.sockets.clone();
    let mount_point = extras.mount_point.clone();
    Ok(InitPlan {
        namespaces: namespaces.bits(),
        hostname: spec
            .hostname()
            .clone()
            .filter(|_| namespaces.contains(Namespaces::UTS)),
        mount_point,
        rootfs,
        read_only_root: root.readonly().unwrap_or(false),
        fills,
        mounts,
        masked: linux.masked_paths().clone().unwrap_or_default(),
        sockets,
        read_only: linux.readonly_paths().clone().unwrap_or_default(),
        sysctls: linux
            .sysctl()
            .iter()
            .flatten()
            .map(|(k, v)| (k.clone(), v.clone()))
            .collect(),
        customary,
        wire,
        tty: spec
            .process()
            .as_ref()
            .is_some_and(|p| p.terminal().unwrap_or(false)),
        console_size,
        process: process_plan(spec, extras, namespaces)?,
    })
}

fn process_plan(
    spec: &Spec,
    extras: Extras,
    namespaces: Namespaces,
) -> Result<ProcessPlan, PlanError> {
    let process = spec
        .process()
        .as_ref()
        .ok_or(PlanError::Missing("process"))?;
    let args = process.args().clone().filter(|a| !a.is_empty());
    let args = args.ok_or(PlanError::Missing("process.args"))?;
    let env = process.env().clone().unwrap_or_default();
    if args.iter().chain(&env).any(|s| s.contains('\0')) {
        return Err(PlanError::Text("an argument or environment variable"));
    }
    let user = if extras.user.is_empty() {
        format!("{}:{}", process.user().uid(), process.user().gid())
    } else {
        extras.user
    };
    let caps = process.capabilities().as_ref();
    let bits = |set: Option<&oci_spec::runtime::Capabilities>| set.map_or(0, capability_bits);
    Ok(ProcessPlan {
        args,
        env,
        cwd: process
            .cwd()
            .to_str()
            .ok_or(PlanError::Text("`process.cwd`"))?
            .to_owned(),
        make_cwd: true,
        user,
        groups: extras.groups,
        home: extras.home,
        setgroups: extras.setgroups,
        umask: process.user().umask().unwrap_or(0o022),
        rlimits: process
            .rlimits()
            .iter()
            .flatten()
            .map(|l| (l.typ() as u32, l.soft(), l.hard()))
            .collect(),
        bounding: bits(caps.and_then(|c| c.bounding().as_ref())),
        effective: bits(caps.and_then(|c| c.effective().as_ref())),
        ambient: bits(caps.and_then(|c| c.ambient().as_ref())),
        no_new_privs: process.no_new_privileges().unwrap_or(false),
        landlock: extras.landlock.then_some(Scopes {
            abstract_sockets: !namespaces.contains(Namespaces::NET),
            signals: !namespaces.contains(Namespaces::PID),
        }),
        seccomp: extras.seccomp,
        init: extras.init,
    })
}

/// The type and options of one mount, split into kernel words (mount(8), "FILESYSTEM-INDEPENDENT
/// MOUNT OPTIONS"; runtime-spec config.md, "Mounts").
fn mount_plan(mount: &Mount, extras: &Extras) -> Result<MountPlan, PlanError> {
    let text = |p: &Path| p.to_str().filter(|s| !s.contains('\0')).map(str::to_owned);
    let target = text(mount.destination()).ok_or(PlanError::Text("a mount destination"))?;
    let options = Options::parse(mount.options().iter().flatten());
    let kind = mount.typ().as_deref().unwrap_or("bind");
    let refuse = |what, value: &str| {
        Err(PlanError::Mount {
            target: target.clone(),
            what,
            value: value.to_owned(),
        })
    };
    let kind = match kind {
        _ if options.bind => MountKind::Bind {
            source: mount
                .source()
                .clone()
                .ok_or(PlanError::Missing("mounts.source"))?,
            recursive: options.recursive,
        },
        "bind" | "none" => MountKind::Bind {
            source: mount
                .source()
                .clone()
                .ok_or(PlanError::Missing("mounts.source"))?,
            recursive: true,
        },
        "proc" => MountKind::Proc,
        "sysfs" => MountKind::Sysfs,
        "tmpfs" if target == "/dev" => MountKind::Dev {
            data: options.data.join(","),
        },
        "tmpfs" => MountKind::Tmpfs {
            data: options.data.join(","),
        },
        "devpts" => MountKind::Devpts {
            data: options.data.join(","),
        },
        "mqueue" => MountKind::Mqueue,
        "cgroup" | "cgroup2" => MountKind::Cgroup,
        "overlay" => MountKind::View(view(&target, &options.data, extras)?),
        other => return refuse("type", other),
    };
    if let (MountKind::Bind { .. }, Some(word)) = (&kind, options.data.first()) {
        return refuse("option", word);
    }
    Ok(MountPlan {
        optional: extras.optional.contains(&target),
        target,
        kind,
        attr: options.attr.bits(),
        propagation: options.propagation.bits(),
    })
}

/// An overlay mount: one lower directory, and an upper one.
fn view(target: &str, words: &[String], extras: &Extras) -> Result<View, PlanError> {
    let refuse = |value: &str| PlanError::Mount {
        target: target.to_owned(),
        what: "option",
        value: value.to_owned(),
    };
    let mut found = [None, None, None];
    for word in words {
        let (name, path) = word.split_once('=').ok_or_else(|| refuse(word))?;
        let names = ["lowerdir", "upperdir", "workdir"];
        let place = names.iter().position(|n| *n == name);
        found[place.ok_or_else(|| refuse(word))?] = Some(PathBuf::from(path));
    }
    match found {
        [Some(lower), Some(upper), Some(work)] => Ok(View {
            lower,
            upper,
            work,
            throw_away: extras.throw_away,
            served: extras.serves_views,
        }),
        _ => Err(PlanError::Missing("mounts.options of an overlay")),
    }
}

/// Mount options sorted into what they are.
struct Options {
    bind: bool,
    recursive: bool,
    attr: Attr,
    propagation: MountPropagationFlags,
    /// Words for the file system itself.
    data: Vec<String>,
}

impl Options {
    fn parse<'a>(words: impl Iterator<Item = &'a String>) -> Options {
        use MountPropagationFlags as P;
        let mut out = Options {
            bind: false,
            recursive: false,
            attr: Attr::empty(),
            propagation: P::empty(),
            data: Vec::new(),
        };
        for word in words {
            match word.as_str() {
                "bind" => out.bind = true,
                "rbind" => (out.bind, out.recursive) = (true, true),
                "ro" | "rro" => out.attr |= Attr::RDONLY,
                "nosuid" => out.attr |= Attr::NOSUID,
                "nodev" => out.attr |= Attr::NODEV,
                "noexec" => out.attr |= Attr::NOEXEC,
                "private" => out.propagation = P::PRIVATE,
                "rprivate" => out.propagation = P::PRIVATE | P::REC,
                "slave" => out.propagation = P::DOWNSTREAM,
                "rslave" => out.propagation = P::DOWNSTREAM | P::REC,
                "shared" => out.propagation = P::SHARED,
                "rshared" => out.propagation = P::SHARED | P::REC,
                // The defaults, which need no flag.
                "rw" | "suid" | "dev" | "exec" | "defaults" | "" => {}
                // The kernel's file systems ignore access times here.
                "relatime" | "strictatime" | "noatime" => {}
                other => out.data.push(other.to_owned()),
            }
        }
        out
    }
}
