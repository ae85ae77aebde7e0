//! Views: a directory of the host as the lower side of an overlay, so that what is written stays the
//! container's. There is always one of five, tried in this order:
//!
//! 1. overlay with the container's own upper directory;
//! 2. the same over a read-only overlay of the host's directory, where the kernel refuses an upper
//!    directory that lies below the lower one (`ELOOP`): to it these are two file systems then;
//! 3. the same over the host's directory as fuse-overlayfs shows it, where something is mounted below that and the
//!    kernel refuses it for that (`EINVAL`);
//! 4. overlay with an upper directory in memory, for a container that is thrown away at its end;
//! 5. the host's directory read-only, and a line that says so. Never writable.
//!
//! An overlay does not show what is mounted below the host's directory: the engine binds that. In a user namespace
//! the kernel refuses it, since it would uncover what those mounts hide (`has_locked_children` in fs/namespace.c).
//!
//! The kernel works on upper and work directories as whoever mounts. For as long as that takes, we are
//! their owner, so that what it makes for itself there can be removed by them.

use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{CWD, Gid, Mode, OFlags, Uid};
use rustix::io::Errno;
use rustix::mount::MountPropagationFlags;

use super::error::{At, InitError, Stage};
use super::inside::Root;
use super::plan::View;
use super::proto::{FromInit, ToInit, send};
use super::rootfs;
use crate::sys::caps;
use crate::sys::fs::remove_tree;
use crate::sys::mount::{self, Attr};
use crate::sys::sabotage::dropped;
use crate::sys::socket::Channel;

const STAGE: Stage = Stage::Mounts;
/// f_type of tmpfs (statfs(2)).
const TMPFS_MAGIC: i64 = 0x0102_1994;

/// The directories of a view, opened.
pub(super) struct Opened {
    lower: OwnedFd,
    upper: OwnedFd,
    work: OwnedFd,
}

/// Opens them, as the caller, whose they are.
pub(super) fn open(view: &View) -> Result<Opened, InitError> {
    let open = |path: &Path| {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        rustix::fs::openat(CWD, path, flags, Mode::empty())
            .at(STAGE, || format!("openat(CWD, `{}`)", path.display()))
    };
    Ok(Opened {
        lower: open(&view.lower)?,
        upper: open(&view.upper)?,
        work: open(&view.work)?,
    })
}

/// Mounts a view on `target`. Returns the line for the user when it is read-only, or in memory. A server is asked for
/// through `channel`.
pub(super) fn mount(
    view: &View,
    opened: &Opened,
    root: &Root,
    target: &str,
    attr: Attr,
    channel: &Channel,
) -> Result<Outcome, InitError> {
    let point = root
        .directory(target)
        .at(STAGE, || format!("mkdirat(root, `{target}`)"))?;
    let attr = attr | Attr::NODEV | Attr::NOSUID;
    // The descriptor of the mount point is below what is mounted: ask for what is there now.
    let scratch = || {
        let top = root.resolve(target)?;
        let tmpfs = rustix::fs::fstatfs(&top)?.f_type as i64 == TMPFS_MAGIC;
        tmpfs.then_some(top).ok_or(Errno::NXIO)
    };
    let owner = rustix::fs::fstat(&opened.upper).at(STAGE, || format!("fstat(view `{target}`)"))?;
    let as_owner = |work: &dyn Fn() -> rustix::io::Result<()>| {
        caps::with_fs_ids(owner.st_uid, owner.st_gid, work)
    };
    let mut made = as_owner(&|| disk(view, opened, point.as_fd(), attr, &scratch));
    if made == Err(Errno::INVAL) && view.served {
        let lower = served(view, point.as_fd(), &scratch, channel)?;
        if let Some(lower) = lower {
            let parts = (&opened.upper, &opened.work);
            made = as_owner(&|| {
                // The first try has marked it as one that is not to be used again (overlayfs.rst, "Volatile mount").
                let _ = remove_tree(opened.work.as_fd(), b"work");
                overlay(&lower, parts, point.as_fd(), attr, view.throw_away)
            });
        }
    }
    let errno = match made {
        Ok(()) => return Ok(Outcome::Stands(None)),
        Err(errno) => errno,
    };
    let mut why = format!(
        "overlay: {}",
        crate::sys::errno::errno_name(errno.raw_os_error())
    );
    if errno == Errno::INVAL {
        why += ", as where something is mounted below it; the directory that one stands in has its own";
    }
    let ids = (owner.st_uid, owner.st_gid);
    if view.throw_away && memory(opened, point.as_fd(), attr, ids, &scratch).is_ok() {
        let text = format!("`{target}`: what is written there is kept in memory ({why})");
        return Ok(Outcome::Stands(Some(text)));
    }
    let named = |call: &str| format!("{call}(view `{target}`)");
    // Whatever the last try left there is below this.
    mount::bind(opened.lower.as_fd(), point.as_fd(), true).at(STAGE, || named("bind"))?;
    let mounted = root.resolve(target).at(STAGE, || named("openat2"))?;
    let same = |fd: &OwnedFd| rustix::fs::fstat(fd).map(|s| (s.st_dev, s.st_ino));
    if same(&mounted).ok() != same(&opened.lower).ok() {
        return Err(InitError {
            stage: STAGE,
            call: format!("`{target}` leads elsewhere since something was mounted on it"),
            errno: 0,
        });
    }
    mount::add_attr(mounted.as_fd(), attr | Attr::RDONLY, true)
        .at(STAGE, || named("mount_setattr"))?;
    Ok(Outcome::ReadOnly(format!(
        "`{target}` is read-only: there is no copy-on-write view of it ({why})"
    )))
}

/// What became of a view.
pub(super) enum Outcome {
    /// It is there, if need be with something to say.
    Stands(Option<String>),
    /// The host's directory is there, read-only, which is to be said.
    ReadOnly(String),
}

fn disk(
    view: &View,
    opened: &Opened,
    point: BorrowedFd<'_>,
    attr: Attr,
    scratch: &dyn Fn() -> rustix::io::Result<OwnedFd>,
) -> rustix::io::Result<()> {
    let Opened { lower, upper, work } = opened;
    let first = match dropped("view") {
        true => Err(Errno::LOOP),
        false => overlay(lower, (upper, work), point, attr, view.throw_away),
    };
    match first {
        Err(Errno::LOOP) => {}
        other => return other,
    }
    // What is mounted here stays below the view, out of reach.
    mount::new("tmpfs", "tmpfs", point, Attr::NODEV, "size=16k,mode=755")?;
    let scratch = scratch()?;
    let [empty, below] = ["empty", "below"].map(|name| directory(&scratch, name));
    let (empty, below) = (empty?, below?);
    let options = format!("lowerdir={}:{},userxattr", fd(lower), fd(&empty));
    mount::new("overlay", "overlay", below.as_fd(), Attr::RDONLY, &options)?;
    let below = rustix::fs::openat(&scratch, c"below", FLAGS, Mode::empty())?;
    overlay(&below, (upper, work), point, attr, view.throw_away)
}

/// The host's directory, mounted by a server on a directory that stays below the view, out of reach; `None` where there
/// is no server.
fn served(
    view: &View,
    point: BorrowedFd<'_>,
    scratch: &dyn Fn() -> rustix::io::Result<OwnedFd>,
    channel: &Channel,
) -> Result<Option<OwnedFd>, InitError> {
    let call = |call: &'static str| move || format!("{call}(view `{}`)", view.lower.display());
    mount::new("tmpfs", "tmpfs", point, Attr::NODEV, "size=16k,mode=755")
        .at(STAGE, call("mount(tmpfs)"))?;
    let scratch = scratch().at(STAGE, call("openat2"))?;
    let below = directory(&scratch, "below").at(STAGE, call("mkdirat"))?;
    // As with a root that is provided.
    mount::propagation(scratch.as_fd(), MountPropagationFlags::SHARED)
        .at(STAGE, call("mount(shared)"))?;
    let point = std::fs::read_link(fd(&below)).map_err(crate::sys::errno::to_errno);
    let wanted = FromInit::NeedView {
        lower: view.lower.clone(),
        point: point.at(STAGE, call("readlink"))?,
    };
    send(channel, &wanted, None).at(STAGE, call("sendmsg"))?;
    let top = || rustix::fs::openat(&scratch, c"below", FLAGS, Mode::empty());
    let stands = match rootfs::answer(channel, STAGE)? {
        ToInit::Refused => false,
        _ => rootfs::await_mount(Some(channel), STAGE, top)?,
    };
    let private = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
    mount::propagation(scratch.as_fd(), private).at(STAGE, call("mount(private)"))?;
    match stands {
        true => top().map(Some).at(STAGE, call("openat")),
        false => Ok(None),
    }
}

/// An upper directory in memory, below the view.
fn memory(
    opened: &Opened,
    point: BorrowedFd<'_>,
    attr: Attr,
    (uid, gid): (u32, u32),
    scratch: &dyn Fn() -> rustix::io::Result<OwnedFd>,
) -> rustix::io::Result<()> {
    mount::new("tmpfs", "tmpfs", point, Attr::NODEV, "mode=755")?;
    let scratch = scratch()?;
    let [upper, work] = ["upper", "work"].map(|name| directory(&scratch, name));
    let (upper, work) = (upper?, work?);
    let mode = rustix::fs::fstat(&opened.upper)?.st_mode & 0o7777;
    let own = |name| {
        let (uid, gid) = (Uid::from_raw(uid), Gid::from_raw(gid));
        rustix::fs::chownat(
            &scratch,
            name,
            Some(uid),
            Some(gid),
            rustix::fs::AtFlags::empty(),
        )
    };
    own(c"upper")?;
    own(c"work")?;
    rustix::fs::chmodat(
        &scratch,
        c"upper",
        Mode::from_raw_mode(mode),
        rustix::fs::AtFlags::empty(),
    )?;
    overlay(&opened.lower, (&upper, &work), point, attr, false)
}

const FLAGS: OFlags = OFlags::PATH
    .union(OFlags::DIRECTORY)
    .union(OFlags::NOFOLLOW)
    .union(OFlags::CLOEXEC);

fn overlay(
    lower: &OwnedFd,
    (upper, work): (&OwnedFd, &OwnedFd),
    point: BorrowedFd<'_>,
    attr: Attr,
    volatile: bool,
) -> rustix::io::Result<()> {
    let volatile = if volatile { ",volatile" } else { "" };
    let options = format!(
        "lowerdir={},upperdir={},workdir={},userxattr{volatile}",
        fd(lower),
        fd(upper),
        fd(work)
    );
    mount::new("overlay", "overlay", point, attr, &options)
}

fn fd(fd: &OwnedFd) -> String {
    format!("/proc/self/fd/{}", fd.as_raw_fd())
}

fn directory(at: &OwnedFd, name: &str) -> rustix::io::Result<OwnedFd> {
    rustix::fs::mkdirat(at, name, Mode::from(0o755))?;
    rustix::fs::openat(at, name, FLAGS, Mode::empty())
}
