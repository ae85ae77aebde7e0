//! The files of a container, running or not: `rl cp`, `rl export`, `rl commit`.
//!
//! Work on them is done by a child of ours in the container's user namespace, for which all owners exist. Of a
//! running container it joins the mount namespace as well, and so sees what the container sees. For one that does not
//! run it mounts the root, and what `-v` brings, in a mount namespace of its own. Either way nothing inside is
//! looked up but below the container's root, and what the host has is opened before.

mod commit;
mod copy;
mod export;

pub use commit::{Commit, commit};
pub use copy::{Copy, copy};
pub use export::export;

use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::process::CommandExt as _;
use std::path::Path;

use rustix::fs::{CWD, Mode, OFlags};
use rustix::mount::OpenTreeFlags;

use super::start::mount_point;
use super::{Context, Error, containers, rungs};
use crate::model::spec::{ContainerSpec, MountSource, RootfsSource};
use crate::runtime::{self, Rootfs};
use crate::state::Container;
use crate::sys::fs::{CallError, Root};
use crate::sys::mount;
use crate::userns;

/// What is to be seen of a container's files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum View {
    /// With what is mounted in it.
    Whole,
    /// The root file system alone.
    Bare,
}

/// A container's files, in the process that works on them.
pub struct Inside {
    /// Its root.
    pub root: Root,
    /// Whose the caller's files are here.
    pub own: (u32, u32),
}

/// Runs `work` where the files of a container are. Whatever the host has must be opened before; standard output and
/// error are the caller's.
///
/// # Errors
/// [`Error::Reported`] when `work` failed, which it has told; the namespaces cannot be had.
pub(super) fn visit(
    context: &Context<'_>,
    container: &Container,
    view: View,
    work: impl FnOnce(&Inside) -> Result<(), Error>,
) -> Result<(), Error> {
    let told = |result: Result<(), Error>| match result {
        Ok(()) => 0,
        Err(error) => context.ui.fail(&error),
    };
    let status = match container.hold() {
        Some(target) => {
            let refused = |errno| {
                let call = || "setns(pidfd, user|mnt)".to_owned();
                told(Err(CallError::of(call)(errno).into()))
            };
            let work = || told(running(view).and_then(|inside| work(&inside)));
            userns::run_joined(target.as_fd(), refused, work)?
        }
        None => {
            let _locked = container.lock_at_rest()?;
            let plan = containers::plan_for(context, &container.spec)?;
            userns::run_inside(&plan, || {
                told(at_rest(container, view).and_then(|inside| work(&inside)))
            })?
        }
    };
    match status {
        0 => Ok(()),
        status => Err(Error::Reported(status)),
    }
}

fn own() -> (u32, u32) {
    let (uid, gid) = (rustix::process::geteuid(), rustix::process::getegid());
    (uid.as_raw(), gid.as_raw())
}

fn running(view: View) -> Result<Inside, Error> {
    let root = match view {
        View::Whole => open(Path::new("/"))?,
        View::Bare => {
            let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
            rustix::mount::open_tree(CWD, c"/", flags)
                .map_err(CallError::of(|| "open_tree(`/`, CLONE)".to_owned()))?
        }
    };
    let (root, own) = (Root::from_fd(root), own());
    Ok(Inside { root, own })
}

/// Mounts what the container would have.
fn at_rest(container: &Container, view: View) -> Result<Inside, Error> {
    let own = own();
    let spec = &container.spec;
    let binds = match view {
        View::Whole => binds(spec)?,
        View::Bare => Vec::new(),
    };
    let errno = |e: nix::errno::Errno| rustix::io::Errno::from_raw_os_error(e as i32);
    nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNS)
        .map_err(errno)
        .and_then(|()| mount::make_private())
        .map_err(CallError::of(|| "unshare(mnt)".to_owned()))?;
    let root = Root::from_fd(root_of(container)?);
    for (source, target) in binds {
        let call = || format!("mount(bind, `{target}`)");
        let point = root.resolve_in_root(target.as_bytes())?;
        mount::bind(source.as_fd(), point.as_fd(), true).map_err(CallError::of(call))?;
    }
    Ok(Inside { root, own })
}

/// The root file system, by the best way that there is.
fn root_of(container: &Container) -> Result<OwnedFd, Error> {
    let (spec, dir) = (&container.spec, container.dir());
    let point = mount_point(dir);
    let unfit = |why| Error::Unfit {
        name: spec.name.clone(),
        why,
    };
    if spec.rootfs == RootfsSource::Host {
        return Err(unfit(
            "is a view of this machine, which it has only while it runs",
        ));
    }
    let rung = match rungs::is_copy(dir) {
        true => rungs::Rung::Copy,
        false => rungs::Rung::Overlay,
    };
    let refused = match runtime::visit(&rungs::rootfs(rung, spec, dir), &point) {
        Ok(root) => return Ok(root),
        Err(error) => error,
    };
    let options = match (rungs::fuse(spec, dir), rung) {
        (Some(options), rungs::Rung::Overlay) => options,
        _ => return Err(Error::Files(refused)),
    };
    // The kernel's overlay is not to be had: by fuse-overlayfs, which ends with this process.
    let program = Path::new(fuse_overlayfs::PROGRAM);
    let Ok(mut command) = options.command(program, &point) else {
        return Err(Error::Files(refused));
    };
    crate::sys::process::die_with_parent(&mut command);
    command.process_group(0);
    let Ok(_server) = command.spawn() else {
        return Err(Error::Files(refused));
    };
    runtime::visit(&Rootfs::Provided, &point).map_err(Error::Files)
}

/// What is mounted from outside, opened as the caller.
fn binds(spec: &ContainerSpec) -> Result<Vec<(OwnedFd, &str)>, Error> {
    let sources = spec.mounts.iter().filter_map(|mount| match &mount.source {
        MountSource::Bind { path, .. } | MountSource::Volume { path, .. } => {
            Some((path, &*mount.target))
        }
        _ => None,
    });
    sources
        .map(|(path, target)| Ok((open(path)?, target)))
        .collect()
}

fn open(path: &Path) -> Result<OwnedFd, CallError> {
    rustix::fs::openat(CWD, path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())
        .map_err(CallError::of(|| format!("open(`{}`)", path.display())))
}
