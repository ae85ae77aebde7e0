//! What root of a container cannot come to: run by root of the machine, it is another user, to whom the private directories
//! of others, and those of the machine's root, are closed.
//!
//! What is mounted is opened by a process that is the machine's root still, without its power over what belongs to ids that
//! are not mapped: it passes its own directories and those that everybody passes. What is mounted on, and started in, is
//! come to by root of the container, who passes the latter alone, and what lies where something else is mounted.

use std::fs::Metadata;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};

use super::{Context, Error, image_for};
use crate::model::spec::{ContainerSpec, MountSource, RootfsSource, VolumeMount};
use crate::sys::caps;
use crate::userns::{Plan, Rank};

/// What to do where the current directory is meant.
const HERE: &str = "`cd` to another directory, or `-w /`";
/// Where it is the directory to start in.
const WORKDIR: &str = "`-w` with another directory, such as `-w /`";
/// Where it is mounted.
const SOURCE: &str =
    "mount another directory, or let others pass that one: as its owner, `chmod o+x`";
/// Where something is mounted on it.
const TARGET: &str =
    "mount it on another directory, such as `/mnt`, or let others pass this one: `chmod o+x`";

/// Refuses a container of root's that needs what is closed to it. Of the mounts that nobody asked for, which are
/// `built_in`, those that cannot be made are left out: nobody inside would see them. `chosen` says that the directory to
/// start in was asked for.
///
/// # Errors
/// [`Error::Closed`].
pub fn need(
    context: &Context<'_>,
    plan: &Plan,
    spec: &mut ContainerSpec,
    built_in: &[VolumeMount],
    chosen: bool,
) -> Result<(), Error> {
    let caller = context.caller()?;
    if caller.rank != Rank::HostRoot {
        return Ok(());
    }
    let way_in = Way {
        context,
        plan,
        root: caller.uid,
        mounts: spec.mounts.clone(),
    };
    let on_host = spec.rootfs == RootfsSource::Host;
    for mount in &way_in.mounts {
        let target = Path::new(&mount.target);
        let mut shut = None;
        if let MountSource::Bind { path, .. }
        | MountSource::Overlay { path }
        | MountSource::Volume { path, .. } = &mount.source
        {
            let dir = way_in.to_source(path)?;
            shut = dir.map(|dir| (path.as_path(), dir, SOURCE));
        }
        if shut.is_none() && on_host {
            let dir = way_in.to_target(target)?;
            shut = dir.map(|dir| (target, dir, TARGET));
        }
        match shut {
            None => {}
            Some(_) if built_in.contains(mount) => {
                spec.mounts.retain(|m| m != mount);
            }
            Some((path, dir, hint)) => return Err(way_in.refuse(path, dir, hint)),
        }
    }
    let cwd = Path::new(&spec.cwd);
    match on_host.then(|| way_in.to_directory(cwd)).transpose()? {
        Some(Some(dir)) => Err(way_in.refuse(cwd, dir, if chosen { WORKDIR } else { HERE })),
        _ => Ok(()),
    }
}

/// What a container sees on its way to something.
struct Way<'a> {
    context: &'a Context<'a>,
    plan: &'a Plan,
    /// The machine's.
    root: u32,
    mounts: Vec<VolumeMount>,
}

impl Way<'_> {
    fn refuse(&self, path: &Path, dir: PathBuf, hint: &'static str) -> Error {
        Error::Closed {
            path: path.to_owned(),
            dir,
            uid: self.plan.uid.to_host(0).unwrap_or_default(),
            hint,
        }
    }

    /// The first directory on the way to `path` that is closed to who opens what is mounted.
    fn to_source(&self, path: &Path) -> Result<Option<PathBuf>, Error> {
        let mut above = way(path);
        above.pop();
        let passes = |meta: &Metadata| {
            let its_own = meta.uid() == self.root && meta.mode() & 0o100 != 0;
            its_own || passes(self.plan, meta)
        };
        self.first_shut(above, passes, Who::Opens)
    }

    /// The same for who mounts on it, who is root of the container.
    fn to_target(&self, path: &Path) -> Result<Option<PathBuf>, Error> {
        let mut above = way(path);
        above.pop();
        self.inside(above)
    }

    /// The same for the command, which is to start in it.
    fn to_directory(&self, path: &Path) -> Result<Option<PathBuf>, Error> {
        self.inside(way(path))
    }

    fn inside(&self, mut way: Vec<PathBuf>) -> Result<Option<PathBuf>, Error> {
        way.retain(|dir| !self.mounts.iter().any(|m| dir.starts_with(&m.target)));
        self.first_shut(way, |meta| passes(self.plan, meta), Who::RootInside)
    }

    /// The first directory of `way` that is closed: by owner and mode, for which `passes` decides, and by trial as well, since
    /// an access control list or a group may open it.
    fn first_shut(
        &self,
        way: Vec<PathBuf>,
        passes: impl Fn(&Metadata) -> bool,
        who: Who,
    ) -> Result<Option<PathBuf>, Error> {
        let shut = |dir: &PathBuf| {
            std::fs::metadata(dir).is_ok_and(|meta| meta.is_dir() && !passes(&meta))
        };
        let mut doubtful: Vec<PathBuf> = way.into_iter().filter(shut).collect();
        if doubtful.is_empty() {
            return Ok(None);
        }
        let closed = || {
            // Without capabilities, since there the ids of the machine's root are mapped as well.
            let ready = who.become_this() && caps::set(caps::Sets::default()).is_ok();
            let flags = OFlags::PATH | OFlags::CLOEXEC;
            let closed =
                |dir: &PathBuf| rustix::fs::open(dir.join("."), flags, Mode::empty()).is_err();
            Ok(doubtful.iter().position(closed).filter(|_| ready))
        };
        let closed = image_for::found_inside(self.context, self.plan, closed)?;
        Ok(closed.map(|at| doubtful.swap_remove(at)))
    }
}

/// Who goes a way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Who {
    /// The machine's root in the user namespace, who opens what is mounted.
    Opens,
    /// Root of the container.
    RootInside,
}

impl Who {
    /// Makes this process the one; false where that is not possible.
    fn become_this(self) -> bool {
        let (uid, gid) = (nix::unistd::Uid::from_raw(0), nix::unistd::Gid::from_raw(0));
        let become_root = || {
            nix::unistd::setgroups(&[])
                .and_then(|()| nix::unistd::setresgid(gid, gid, gid))
                .and_then(|()| nix::unistd::setresuid(uid, uid, uid))
                .is_ok()
        };
        match self {
            Who::Opens => true,
            Who::RootInside => become_root(),
        }
    }
}

/// Its capabilities hold for what belongs to ids that it has (user_namespaces(7), "Capabilities").
fn passes(plan: &Plan, meta: &Metadata) -> bool {
    let own =
        plan.uid.to_container(meta.uid()).is_some() && plan.gid.to_container(meta.gid()).is_some();
    own || meta.mode() & 0o1 != 0
}

/// The directories on the way to `path`, the outermost first, and what it is itself.
fn way(path: &Path) -> Vec<PathBuf> {
    let Ok(path) = std::fs::canonicalize(path) else {
        return Vec::new();
    };
    let mut way: Vec<PathBuf> = path.ancestors().map(Path::to_owned).collect();
    way.reverse();
    way
}
