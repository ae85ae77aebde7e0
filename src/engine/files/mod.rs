//! The files of a container, running or not: `rl cp`, `rl export`, `rl commit`.
//!
//! Work on them is done by a child of ours in the container's user namespace, for which all owners exist. Of a
//! running container it joins the mount namespace as well, and so sees what the container sees. For one that does not
//! run it mounts the root, and what `-v` brings, in a mount namespace of its own, and keeps it from being started
//! meanwhile. Either way nothing inside is looked up but below the container's root, and what the host has is opened
//! before.
//!
//! A caller whose own ids do not exist in that user namespace, as those of root never do, could make nothing in the
//! container there, and as root of it could not reach what is the caller's. So that child only opens the root, and
//! a second one works on it, in a user namespace with the container's ids and the caller's, or all that there are
//! for root.

mod commit;
mod copy;
mod export;
mod place;
mod stream;

pub use commit::{Commit, commit};
pub use copy::{Copy, copy};
pub use export::export;

use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::fs::{CWD, Mode, OFlags};
use rustix::mount::OpenTreeFlags;
use rustix::net::{RecvFlags, SendFlags};

use super::start::mount_point;
use super::{Context, Error, containers, image_for, lifecycle, rungs};
use crate::model::spec::{ContainerSpec, MountSource, RootfsSource};
use crate::monitor::client::Client;
use crate::runtime::{self, Rootfs};
use crate::state::{self, Container, Status};
use crate::sys::caps::with_fs_ids;
use crate::sys::fs::{CallError, Root};
use crate::sys::mount::{self, Attr};
use crate::sys::process::{Fork, Namespaces, exit_now, fork};
use crate::sys::socket::Channel;
use crate::userns::{self, Rank};

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
    let (container, target) = &settle(context, container)?;
    let spec = &container.spec;
    let caller = context.caller()?;
    if container.state.status == Status::Created {
        // As its first start will.
        let plan = containers::plan_for(context, spec)?;
        image_for::own_root(context, &plan, spec, container.dir())?;
    }
    let stranger = spec.uid_map.to_container(caller.uid).is_none()
        || spec.gid_map.to_container(caller.gid).is_none();
    let runs = matches!(target, Target::Runs(_));
    let status = match stranger && (runs || caller.rank == Rank::HostRoot) {
        true => apart(context, container, view, target, work)?,
        false => within(context, container, view, target, |inside| {
            told(context, work(inside))
        })?,
    };
    match status {
        0 => Ok(()),
        status => Err(Error::Reported(status)),
    }
}

/// Where the files are.
enum Target {
    /// In the namespaces of this process.
    Runs(OwnedFd),
    /// On the disk.
    Rests,
    /// There as well; its monitor keeps it from being started as long as this connection is there.
    Waits(#[expect(dead_code, reason = "it is held")] Client),
}

/// The container as it is now, and where its files are.
///
/// # Errors
/// [`state::Error::Running`]: its monitor does not say what becomes of it.
fn settle(context: &Context<'_>, container: &Container) -> Result<(Container, Target), Error> {
    let deadline = Instant::now() + Duration::from_secs(10);
    let mut container = container.clone();
    loop {
        if let Some(held) = containers::hold(&container) {
            return Ok((container, Target::Runs(held)));
        }
        if !container.state.is_alive() {
            return Ok((container, Target::Rests));
        }
        if container.state.status == Status::Restarting
            && let Ok(client) = Client::connect(container.dir()).and_then(Client::keep_waiting)
        {
            return Ok((container, Target::Waits(client)));
        }
        // It has just ended or is just being started, which its monitor is about to note.
        if Instant::now() > deadline {
            return Err(state::Error::Running(container.spec.name).into());
        }
        std::thread::sleep(Duration::from_millis(1));
        container = lifecycle::find(context, &container.spec.id)?;
    }
}

fn told(context: &Context<'_>, result: Result<(), Error>) -> u8 {
    match result {
        Ok(()) => 0,
        Err(error) => context.ui.fail(&error),
    }
}

/// Runs `work` in the container's user namespace, or one like it, and returns its status.
fn within(
    context: &Context<'_>,
    container: &Container,
    view: View,
    target: &Target,
    work: impl FnOnce(&Inside) -> u8,
) -> Result<u8, Error> {
    let found = |inside: Result<Inside, Error>| match inside {
        Ok(inside) => work(&inside),
        Err(error) => told(context, Err(error)),
    };
    Ok(match target {
        Target::Runs(target) => {
            let refused = |errno| {
                let call = || "setns(pidfd, user|mnt)".to_owned();
                told(context, Err(CallError::of(call)(errno).into()))
            };
            userns::run_joined(target.as_fd(), refused, || found(running(view)))?
        }
        Target::Rests | Target::Waits(_) => {
            let at_rest_only = matches!(target, Target::Rests);
            let _locked = at_rest_only.then(|| container.lock_at_rest()).transpose()?;
            let plan = containers::plan_for(context, &container.spec)?;
            userns::run_inside(&plan, || found(at_rest(container, view)))?
        }
    })
}

/// Runs `work` in a user namespace that has the caller's ids as well, on a root that another process holds meanwhile.
fn apart(
    context: &Context<'_>,
    container: &Container,
    view: View,
    target: &Target,
    work: impl FnOnce(&Inside) -> Result<(), Error>,
) -> Result<u8, Error> {
    let failed = |call: &'static str| CallError::of(move || call.to_owned());
    let mut plan = containers::plan_for(context, &container.spec)?;
    if context.caller()?.rank == Rank::HostRoot {
        (plan.uid, plan.gid) = (plan.uid.with_the_rest(), plan.gid.with_the_rest());
    }
    let (worker, holder) = Channel::pair().map_err(failed("socketpair()"))?;
    match fork(Namespaces::empty()).map_err(failed("clone3()"))? {
        Fork::Child => {
            drop(holder);
            let kill = Some(rustix::process::Signal::KILL);
            let _ = rustix::process::set_parent_process_death_signal(kill);
            let root = worker.recv(&mut [0; 1], RecvFlags::empty());
            // Without a root, the other one has said why.
            let Ok((1, Some(root))) = root else {
                exit_now(0)
            };
            let work = || {
                let (root, own) = (Root::from_fd(root), own());
                let inside = Inside { root, own };
                with_fs_ids(0, 0, || told(context, work(&inside)))
            };
            exit_now(match userns::run_inside(&plan, work) {
                Ok(status) => status,
                Err(error) => told(context, Err(error.into())),
            })
        }
        Fork::Parent(child) => {
            drop(worker);
            let held = within(context, container, view, target, move |inside| {
                let root = Some(inside.root.as_fd());
                if holder.send(b"r", root, SendFlags::empty()).is_ok() {
                    // Its end is the end of the work.
                    let _ = holder.recv(&mut [0; 1], RecvFlags::empty());
                }
                0
            });
            let ended = child.wait().map_err(failed("waitid()"))?;
            Ok(held?.max(ended.status()))
        }
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
    let errno = |e: nix::errno::Errno| rustix::io::Errno::from_raw_os_error(e as i32);
    nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNS)
        .map_err(errno)
        .and_then(|()| mount::make_private())
        .map_err(CallError::of(|| "unshare(mnt)".to_owned()))?;
    // Here, since another mount namespace's cannot be bound, and before the root is mounted, as the caller.
    let binds = match view {
        View::Whole => binds(spec)?,
        View::Bare => Vec::new(),
    };
    let root = root_of(container)?;
    for (source, target, read_only) in binds {
        runtime::bind_at(&root, &source, target, read_only).map_err(Error::Files)?;
    }
    if spec.read_only {
        let call = || "mount_setattr(root, RDONLY)".to_owned();
        mount::add_attr(root.as_fd(), Attr::RDONLY, false).map_err(CallError::of(call))?;
    }
    let root = Root::from_fd(root);
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
    let refused = match rungs::is_fuse(dir) {
        true => unfit("stands on fuse-overlayfs, which does not start"),
        false => match runtime::visit(&rungs::rootfs(rung, spec, dir), &point) {
            Ok(root) => return Ok(root),
            Err(error) => Error::Files(error),
        },
    };
    let options = match (rungs::fuse(spec, dir), rung) {
        (Some(options), rungs::Rung::Overlay) => options,
        _ => return Err(refused),
    };
    rungs::mark_fuse(dir)?;
    // The kernel's overlay is not to be had: by fuse-overlayfs, which ends with this process.
    let program = Path::new(fuse_overlayfs::PROGRAM);
    let Ok(mut command) = options.command(program, &point) else {
        return Err(refused);
    };
    crate::sys::process::die_with_parent(&mut command);
    command.process_group(0);
    let Ok(_server) = command.spawn() else {
        return Err(refused);
    };
    runtime::visit(&Rootfs::Provided, &point).map_err(Error::Files)
}

/// What is mounted from outside, opened as the caller.
fn binds(spec: &ContainerSpec) -> Result<Vec<(OwnedFd, &str, bool)>, Error> {
    let sources = spec.mounts.iter().filter_map(|mount| match &mount.source {
        MountSource::Bind { path, .. }
        | MountSource::Volume {
            path, memory: None, ..
        } => Some((path, mount)),
        _ => None,
    });
    sources
        .map(|(path, mount)| Ok((open(path)?, &*mount.target, mount.read_only)))
        .collect()
}

fn open(path: &Path) -> Result<OwnedFd, CallError> {
    rustix::fs::openat(CWD, path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())
        .map_err(CallError::of(|| format!("open(`{}`)", path.display())))
}
