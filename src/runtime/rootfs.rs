//! The root file system, mounted on the mount point.
//!
//! What it is made of lies in the caller's own directories and is opened as the caller; the mount
//! itself is made by root inside, who need not be the caller (keep-id, nomap) and for whom overlay
//! then makes its files. So the directories are opened first and named by descriptor.

use std::os::fd::{AsFd, AsRawFd as _, OwnedFd};
use std::path::Path;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{CWD, Mode, OFlags};
use rustix::mount::MountPropagationFlags;

use super::error::{At, InitError, Stage};
use super::inside::Root;
use super::plan::Rootfs;
use super::proto::{FromInit, ToInit, receive, send};
use crate::sys::mount::{self, Attr};
use crate::sys::socket::Channel;

/// What a root file system is made of, opened.
pub(super) struct Parts {
    parent: OwnedFd,
    point: OwnedFd,
    kind: Kind,
}

enum Kind {
    Overlay {
        options: String,
        _held: [OwnedFd; 2],
    },
    Provided,
    Directory(OwnedFd),
    Host(OwnedFd),
}

/// Opens, as the caller. For overlay the working directory is that of the layers afterwards.
pub(super) fn open(rootfs: &Rootfs, path: &Path) -> Result<Parts, InitError> {
    let kind = match rootfs {
        Rootfs::Overlay {
            base,
            lower,
            upper,
            work,
            throw_away,
        } => {
            rustix::process::chdir(base)
                .at(Stage::Rootfs, || format!("chdir(`{}`)", base.display()))?;
            let (upper, work) = (directory(upper)?, directory(work)?);
            let volatile = if *throw_away { ",volatile" } else { "" };
            let options = format!(
                "lowerdir={},upperdir=/proc/self/fd/{},workdir=/proc/self/fd/{},userxattr{volatile}",
                lower.join(":"),
                upper.as_raw_fd(),
                work.as_raw_fd(),
            );
            Kind::Overlay {
                options,
                _held: [upper, work],
            }
        }
        Rootfs::Provided => Kind::Provided,
        Rootfs::Directory(path) => Kind::Directory(directory(path)?),
        Rootfs::Host => Kind::Host(directory(Path::new("/"))?),
    };
    let parent = directory(path.parent().unwrap_or(path))?;
    Ok(Parts {
        parent,
        point: directory(path)?,
        kind,
    })
}

impl Parts {
    /// What the mount point's name leads to now.
    fn top(&self, path: &Path) -> rustix::io::Result<OwnedFd> {
        let name = path.file_name().unwrap_or_default();
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        rustix::fs::openat(&self.parent, name, flags, Mode::empty())
    }
}

fn directory(path: &Path) -> Result<OwnedFd, InitError> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    rustix::fs::openat(CWD, path, flags, Mode::empty()).at(Stage::Rootfs, || {
        format!("openat(CWD, `{}`)", path.display())
    })
}

/// Mounts the root of a container that does not run on the mount point, for work of our own on its files, in a user
/// and a mount namespace of the caller's, and returns it opened. Where it is [`Rootfs::Provided`], its server has
/// been started in the same namespaces.
///
/// # Errors
/// [`InitError`] of stage `rootfs`.
pub fn visit(rootfs: &Rootfs, mount_point: &Path) -> Result<OwnedFd, InitError> {
    let parts = open(rootfs, mount_point)?;
    super::init::become_root()?;
    let root = match rootfs {
        Rootfs::Provided => {
            await_mount(None, Stage::Rootfs, || parts.top(mount_point))?;
            parts
                .top(mount_point)
                .at(Stage::Rootfs, || "openat(container".into())?
        }
        _ => mount_root(mount_point, parts, None)?.into_fd(),
    };
    Ok(root)
}

/// Mounts the root, as root inside, and returns it opened. A root that the launcher provides is asked for through
/// `channel`.
pub(super) fn mount_root(
    path: &Path,
    parts: Parts,
    channel: Option<&Channel>,
) -> Result<Root, InitError> {
    let named = |call: &str| format!("{call}, `{}`)", path.display());
    let point = parts.point.as_fd();
    match &parts.kind {
        Kind::Overlay { options, .. } => {
            mount::new("overlay", "overlay", point, Attr::NODEV, options)
                .at(Stage::Rootfs, || named("mount(overlay"))?;
        }
        Kind::Provided => {
            // The server mounts in a namespace of its own, so that pivot_root(2) does not make this
            // container's root and /proc its own: its mount comes here because the mount point is
            // shared with the copy that it has of it (mount_namespaces(7)).
            mount::bind(point, point, false).at(Stage::Rootfs, || named("bind(mount point"))?;
            let shared = parts
                .top(path)
                .at(Stage::Rootfs, || named("openat(container"))?;
            mount::propagation(shared.as_fd(), MountPropagationFlags::SHARED)
                .at(Stage::Rootfs, || named("mount(shared"))?;
            if let Some(channel) = channel {
                send(channel, &FromInit::NeedRootfs, None)
                    .at(Stage::Rootfs, || "send(need rootfs)".into())?;
                wait(channel, Stage::Rootfs)?;
            }
            await_mount(channel, Stage::Rootfs, || parts.top(path))?;
            // pivot_root(2) wants the parent of the new root not shared either.
            mount::propagation(shared.as_fd(), MountPropagationFlags::PRIVATE)
                .at(Stage::Rootfs, || named("mount(private"))?;
        }
        Kind::Directory(from) => {
            mount::bind(from.as_fd(), point, true).at(Stage::Rootfs, || named("bind(root"))?;
        }
        Kind::Host(from) => {
            mount::bind(from.as_fd(), point, true).at(Stage::Rootfs, || named("bind(`/`"))?;
            let top = parts
                .top(path)
                .at(Stage::Rootfs, || named("openat(container"))?;
            let attr = Attr::RDONLY | Attr::NOSUID | Attr::NODEV;
            mount::add_attr(top.as_fd(), attr, true)
                .at(Stage::Rootfs, || named("mount_setattr(RECURSIVE, RDONLY"))?;
        }
    }
    // The descriptor of the mount point is below what was just mounted: open what is there now.
    let root = parts
        .top(path)
        .at(Stage::Rootfs, || named("openat(container"))?;
    if matches!(parts.kind, Kind::Directory(_)) {
        // As with the other kinds, devices come from /dev alone.
        mount::add_attr(root.as_fd(), Attr::NODEV, false)
            .at(Stage::Rootfs, || named("mount_setattr(nodev"))?;
    }
    // pivot_root(2) wants the new root on a mount that is not shared.
    mount::propagation(
        root.as_fd(),
        MountPropagationFlags::PRIVATE | MountPropagationFlags::REC,
    )
    .at(Stage::Rootfs, || named("mount(private"))?;
    Ok(Root::new(root))
}

/// Waits until a FUSE file system answers at `point`; the limit is for a server that hangs. False when the launcher says
/// through `channel` that the server has ended.
///
/// # Errors
/// `ETIMEDOUT`, and those of statfs(2).
pub(super) fn await_mount(
    channel: Option<&Channel>,
    stage: Stage,
    top: impl Fn() -> rustix::io::Result<OwnedFd>,
) -> Result<bool, InitError> {
    const FUSE_SUPER_MAGIC: i64 = 0x6573_5546;
    let call = || "statfs(fuse-overlayfs)".to_owned();
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(20);
    let mut pause = 200_000;
    while std::time::Instant::now() < deadline {
        let kind = top().and_then(rustix::fs::fstatfs).at(stage, call)?.f_type;
        if kind as i64 == FUSE_SUPER_MAGIC {
            return Ok(true);
        }
        let limit = Timespec {
            tv_sec: 0,
            tv_nsec: pause,
        };
        let mut fds: Vec<_> = channel
            .map(|channel| PollFd::new(channel, PollFlags::IN))
            .into_iter()
            .collect();
        if poll(&mut fds, Some(&limit)).is_ok_and(|n| n > 0)
            && let Some(channel) = channel
            && answer(channel, stage)? == ToInit::Refused
        {
            return Ok(false);
        }
        pause = (pause * 2).min(10_000_000);
    }
    Err(rustix::io::Errno::TIMEDOUT).at(stage, call)
}

/// Makes the mount of the root read-only, when everything below it stands.
pub(super) fn seal_root(root: &Root) -> Result<(), InitError> {
    mount::add_attr(root.as_fd(), Attr::RDONLY, false)
        .at(Stage::Mounts, || "mount_setattr(`/`, RDONLY)".into())
}

/// Waits for [`ToInit::Continue`].
pub(super) fn wait(channel: &Channel, stage: Stage) -> Result<(), InitError> {
    let call = match answer(channel, stage)? {
        ToInit::Continue => return Ok(()),
        ToInit::Refused => "fuse-overlayfs, which serves a view, has ended".to_owned(),
        other => format!("unexpected message {other:?}"),
    };
    Err(InitError {
        stage,
        call,
        errno: 0,
    })
}

/// Waits for the launcher's next word.
pub(super) fn answer(channel: &Channel, stage: Stage) -> Result<ToInit, InitError> {
    match receive::<ToInit>(channel) {
        Ok(Some((word, _))) => Ok(word),
        // The launcher is gone: nobody is left to tell.
        Ok(None) => crate::sys::process::exit_now(125),
        Err(errno) => Err(errno).at(stage, || "recvmsg(launcher)".into()),
    }
}
