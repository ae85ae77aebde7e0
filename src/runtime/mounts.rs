//! Everything mounted below the root, in the plan's order; then the console, the masks and the
//! kernel parameters.
//!
//! A destination is resolved inside the root to a descriptor and mounted through it, so an image
//! whose `/proc` or `/dev` is a symbolic link, or changes while we look, redirects nothing. /proc and
//! /sys may not be links at all, and masks are found from the descriptor of the procfs and sysfs
//! that were mounted here, which must be what they claim (the class of CVE-2025-31133, -52565, -52881).

use std::collections::VecDeque;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{CWD, FileType, Mode, OFlags};
use rustix::io::Errno;
use rustix::mount::MountPropagationFlags;

use super::error::{At, InitError, Stage, Without};
use super::inside::{Root, open_kernel};
use super::plan::{InitPlan, MountKind, MountPlan};
use super::proto::{FromInit, send};
use super::view;
use crate::sys::mount::{self, Attr};
use crate::sys::sabotage::dropped;
use crate::sys::socket::Channel;
use crate::sys::tty;

/// f_type of procfs and sysfs (statfs(2)).
const PROC_SUPER_MAGIC: i64 = 0x9fa0;
const SYSFS_MAGIC: i64 = 0x6265_6572;

/// The kernel's own file systems, as mounted here.
#[derive(Default)]
pub(super) struct Kernel {
    proc: Option<OwnedFd>,
    sys: Option<OwnedFd>,
    /// Where views stand: no socket of the host can be reached below.
    views: Vec<String>,
}

/// What a mount shows, opened.
pub(super) enum Source {
    Bind(OwnedFd),
    View(view::Opened),
}

/// Opens what the plan's bind mounts and views show, in their order.
pub(super) fn open_sources(plan: &InitPlan) -> Result<VecDeque<Source>, InitError> {
    let mut sources = VecDeque::new();
    for entry in &plan.mounts {
        match &entry.kind {
            MountKind::Bind { source, .. } => {
                let flags = OFlags::PATH | OFlags::CLOEXEC;
                let fd = rustix::fs::openat(CWD, source, flags, Mode::empty())
                    .at(Stage::Mounts, || {
                        format!("openat(CWD, `{}`)", source.display())
                    })?;
                sources.push_back(Source::Bind(fd));
            }
            MountKind::View(view) => sources.push_back(Source::View(view::open(view)?)),
            _ => {}
        }
    }
    Ok(sources)
}

/// Makes all mounts of the plan; `sources` are those of [`open_sources`].
pub(super) fn mount_all(
    plan: &InitPlan,
    root: &Root,
    mut sources: VecDeque<Source>,
    channel: &Channel,
) -> Result<Kernel, InitError> {
    let mut kernel = Kernel::default();
    for entry in &plan.mounts {
        if let Some(notice) = mount_one(entry, root, &mut kernel, &mut sources, channel)? {
            send(channel, &FromInit::Notice(notice), None)
                .at(Stage::Mounts, || "sendmsg(notice)".into())?;
        }
    }
    Ok(kernel)
}

fn mount_one(
    entry: &MountPlan,
    root: &Root,
    kernel: &mut Kernel,
    sources: &mut VecDeque<Source>,
    channel: &Channel,
) -> Result<Option<String>, InitError> {
    let target = entry.target.as_str();
    let attr = Attr::from_bits_truncate(entry.attr);
    let named = |kind: &str| format!("mount({kind}, `{target}`)");
    match &entry.kind {
        MountKind::Proc => {
            kernel.proc = Some(mount_kernel(
                root,
                target,
                "proc",
                attr,
                "/proc",
                PROC_SUPER_MAGIC,
            )?);
        }
        MountKind::Sysfs => {
            kernel.sys = Some(mount_kernel(
                root,
                target,
                "sysfs",
                attr,
                "/sys",
                SYSFS_MAGIC,
            )?);
        }
        MountKind::Dev { data } => {
            let point = directory(root, target)?;
            if !dropped("dev") {
                mount::new("tmpfs", "tmpfs", point.as_fd(), attr - Attr::NOEXEC, data)
                    .at(Stage::Mounts, || named("tmpfs"))?;
            }
            fill_dev(root, target)?;
        }
        MountKind::Tmpfs { data } => {
            let point = directory(root, target)?;
            mount::new("tmpfs", "tmpfs", point.as_fd(), attr, data)
                .at(Stage::Mounts, || named("tmpfs"))?;
        }
        MountKind::Devpts { data } => {
            let point = directory(root, target)?;
            mount::new("devpts", "devpts", point.as_fd(), attr, data)
                .at(Stage::Mounts, || named("devpts"))?;
        }
        MountKind::Mqueue => {
            let point = directory(root, target)?;
            match mount::new("mqueue", "mqueue", point.as_fd(), attr, "") {
                // A kernel without message queues has none to offer.
                Ok(()) | Err(Errno::NODEV) => {}
                Err(errno) => return Err(errno).at(Stage::Mounts, || named("mqueue")),
            }
        }
        MountKind::Cgroup => {
            // Only a machine with the unified hierarchy can show one; elsewhere the directory of
            // sysfs stays empty, as it would for a process without cgroups.
            if let Ok(point) = root.resolve(target) {
                let _ = mount::new("cgroup2", "cgroup2", point.as_fd(), attr, "");
            }
        }
        MountKind::Bind { source, recursive } => {
            let Some(Source::Bind(from)) = sources.pop_front() else {
                return Err(Errno::BADF).at(Stage::Mounts, || named("bind"));
            };
            if entry.optional && root.resolve(parent(target)).is_err() {
                return Ok(None);
            }
            let point = point_for(&from, root, target)?;
            let named = || format!("bind(`{}`, `{target}`)", source.display());
            mount::bind(from.as_fd(), point.as_fd(), *recursive).at(Stage::Mounts, named)?;
            finish_bind(entry, root, &from, attr, *recursive)?;
        }
        MountKind::View(view) => {
            let Some(Source::View(opened)) = sources.pop_front() else {
                return Err(Errno::BADF).at(Stage::Mounts, || named("overlay"));
            };
            match view::mount(view, &opened, root, target, attr, channel)? {
                view::Outcome::ReadOnly(notice) => return Ok(Some(notice)),
                view::Outcome::Stands(notice) => {
                    kernel.views.push(target.to_owned());
                    return Ok(notice);
                }
            }
        }
    }
    Ok(None)
}

fn parent(target: &str) -> &str {
    target.rsplit_once('/').map_or("/", |(parent, _)| parent)
}

/// Attributes and propagation of a fresh bind mount: what `target` names now is its root.
fn finish_bind(
    entry: &MountPlan,
    root: &Root,
    from: &OwnedFd,
    attr: Attr,
    recursive: bool,
) -> Result<(), InitError> {
    let target = &entry.target;
    let propagation = MountPropagationFlags::from_bits_truncate(entry.propagation);
    if attr.is_empty() && propagation.is_empty() {
        return Ok(());
    }
    let mounted = root
        .resolve(target)
        .at(Stage::Mounts, || format!("openat2(root, `{target}`)"))?;
    // Symbolic links that now lead elsewhere must not take the attributes elsewhere.
    let id = |fd: &OwnedFd| {
        let stat = rustix::fs::fstat(fd).at(Stage::Mounts, || format!("fstat(`{target}`)"))?;
        Ok((stat.st_dev, stat.st_ino))
    };
    if id(from)? != id(&mounted)? && !dropped("attributes") {
        let call = format!("`{target}` leads elsewhere since something was mounted on it");
        return Err(InitError {
            stage: Stage::Mounts,
            call,
            errno: 0,
        });
    }
    if !attr.is_empty() {
        mount::add_attr(mounted.as_fd(), attr, recursive).at(Stage::Mounts, || {
            format!("mount_setattr(`{target}`, {attr:?})")
        })?;
    }
    if !propagation.is_empty() {
        mount::propagation(mounted.as_fd(), propagation).at(Stage::Mounts, || {
            format!("mount(`{target}`, {propagation:?})")
        })?;
    }
    Ok(())
}

/// Mounts procfs or sysfs afresh; where the kernel refuses (an outer container masks parts of its
/// own, or the namespace that the file system shows is not ours) the outer one is bound with all
/// that masks it. Returns its root, which is what it claims to be.
fn mount_kernel(
    root: &Root,
    target: &str,
    kind: &str,
    attr: Attr,
    outer: &str,
    magic: i64,
) -> Result<OwnedFd, InitError> {
    directory(root, target)?;
    let open = || match dropped("kernel") {
        true => root.resolve(target),
        false => open_kernel(root.as_fd(), target.trim_start_matches('/'), OFlags::PATH),
    };
    let named = |call: &str| format!("{call}({kind}, `{target}`)");
    let point = open().at(Stage::Mounts, || named("openat2"))?;
    match mount::new(kind, kind, point.as_fd(), attr, "") {
        Err(Errno::PERM) => {
            let from =
                rustix::fs::openat(CWD, outer, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())
                    .at(Stage::Mounts, || format!("openat(CWD, `{outer}`)"))?;
            mount::bind(from.as_fd(), point.as_fd(), true).at(Stage::Mounts, || named("bind"))?;
            let mounted = open().at(Stage::Mounts, || named("openat2"))?;
            // What is mounted below /sys (control groups that the user may own, among others) is as
            // read-only as /sys itself.
            let below = attr.contains(Attr::RDONLY) && !dropped("readonly");
            mount::add_attr(mounted.as_fd(), attr, below)
                .at(Stage::Mounts, || named("mount_setattr"))?;
        }
        other => other.at(Stage::Mounts, || named("mount"))?,
    }
    let mounted = open().at(Stage::Mounts, || named("openat2"))?;
    let found = rustix::fs::fstatfs(&mounted)
        .at(Stage::Mounts, || named("fstatfs"))?
        .f_type;
    if found as i64 != magic && !dropped("kernel") {
        let call = format!("{target} is not the {kind} that was mounted there");
        return Err(InitError {
            stage: Stage::Mounts,
            call,
            errno: 0,
        });
    }
    Ok(mounted)
}

fn directory(root: &Root, target: &str) -> Result<OwnedFd, InitError> {
    root.directory(target)
        .at(Stage::Mounts, || format!("mkdirat(root, `{target}`)"))
}

/// Binds what is open as `from`, in the same mount namespace, at `target` below `root`, for work of our own on a
/// container that does not run. The place is made where there is none, as at a start.
///
/// # Errors
/// [`InitError`] of stage `mounts`.
pub fn bind_at(
    root: &OwnedFd,
    from: &OwnedFd,
    target: &str,
    read_only: bool,
) -> Result<(), InitError> {
    let call = || format!("bind(`{target}`)");
    let root = root.try_clone().map_err(|_| Errno::MFILE);
    let root = Root::new(root.at(Stage::Mounts, call)?);
    let point = point_for(from, &root, target)?;
    mount::bind(from.as_fd(), point.as_fd(), true).at(Stage::Mounts, call)?;
    if !read_only {
        return Ok(());
    }
    let mounted = root.resolve(target).at(Stage::Mounts, call)?;
    mount::add_attr(mounted.as_fd(), Attr::RDONLY, true).at(Stage::Mounts, call)
}

/// A place for a bind of `from`: a directory for a directory, a file for anything else.
fn point_for(from: &OwnedFd, root: &Root, target: &str) -> Result<OwnedFd, InitError> {
    let stat =
        rustix::fs::fstat(from).at(Stage::Mounts, || format!("fstat(source, `{target}`)"))?;
    if FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
        directory(root, target)
    } else {
        root.file(target).at(Stage::Mounts, || {
            format!("openat2(root, `{target}`, CREAT)")
        })
    }
}

/// The customary device files: bound from the host, because a user namespace cannot make any.
fn fill_dev(root: &Root, dev: &str) -> Result<(), InitError> {
    let devices = [
        ("null", 1, 3),
        ("zero", 1, 5),
        ("full", 1, 7),
        ("random", 1, 8),
        ("urandom", 1, 9),
        ("tty", 5, 0),
    ];
    for (name, major, minor) in devices {
        let from = host_device(&format!("/dev/{name}"), major, minor)?;
        let target = format!("{dev}/{name}");
        let point = root
            .file(&target)
            .at(Stage::Mounts, || format!("create(`{target}`)"))?;
        mount::bind(from.as_fd(), point.as_fd(), false)
            .at(Stage::Mounts, || format!("bind(`/dev/{name}`, `{target}`)"))?;
    }
    let dir = directory(root, dev)?;
    let links = [
        ("fd", "/proc/self/fd"),
        ("stdin", "/proc/self/fd/0"),
        ("stdout", "/proc/self/fd/1"),
        ("stderr", "/proc/self/fd/2"),
        ("core", "/proc/kcore"),
        ("ptmx", "pts/ptmx"),
    ];
    for (name, to) in links {
        rustix::fs::symlinkat(to, &dir, name).at(Stage::Mounts, || {
            format!("symlinkat(`{to}`, `{dev}/{name}`)")
        })?;
    }
    Ok(())
}

/// A device of the host, which must be the one it is named for.
fn host_device(path: &str, major: u32, minor: u32) -> Result<OwnedFd, InitError> {
    let fd = rustix::fs::openat(CWD, path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())
        .at(Stage::Mounts, || format!("openat(CWD, `{path}`)"))?;
    if mount::is_device(&fd, major, minor) {
        Ok(fd)
    } else {
        let call = format!("`{path}` on this machine is not the device {major}:{minor}");
        Err(InitError {
            stage: Stage::Mounts,
            call,
            errno: 0,
        })
    }
}

/// A terminal of the container's own devpts becomes this process's streams; its master goes to the launcher.
/// The slave is returned.
pub(super) fn terminal(
    root: &Root,
    size: Option<(u16, u16)>,
    channel: &Channel,
) -> Result<OwnedFd, InitError> {
    let devpts = root
        .resolve("dev/pts")
        .at(Stage::Console, || "openat2(root, `dev/pts`)".into())?;
    let (master, slave) = tty::open_pair(&devpts).at(Stage::Console, || "open(ptmx)".into())?;
    if let Some(size) = size {
        tty::set_size(&master, size).at(Stage::Console, || "ioctl(TIOCSWINSZ)".into())?;
    }
    for target in [0, 1, 2] {
        crate::sys::process::replace_stdio(slave.as_fd(), target)
            .at(Stage::Console, || format!("dup2(pty, {target})"))?;
    }
    send(channel, &FromInit::Console, Some(master.as_fd()))
        .at(Stage::Console, || "sendmsg(console)".into())?;
    Ok(slave)
}

/// The terminal of the container's first process, bound on `/dev/console` too.
pub(super) fn console(
    root: &Root,
    size: Option<(u16, u16)>,
    channel: &Channel,
) -> Result<(), InitError> {
    let slave = terminal(root, size, channel)?;
    let point = root
        .file("dev/console")
        .at(Stage::Console, || "create(`/dev/console`)".into())?;
    mount::bind(slave.as_fd(), point.as_fd(), false)
        .at(Stage::Console, || "bind(pty, `/dev/console`)".into())
}

/// Writes the kernel parameters.
pub(super) fn set_sysctls(
    plan: &InitPlan,
    kernel: &Kernel,
    without: &mut Without,
) -> Result<(), InitError> {
    for (key, value) in &plan.sysctls {
        let customary = plan.customary.sysctls.contains(key);
        without.unless(set_sysctl(kernel, key, value), !customary)?;
    }
    Ok(())
}

/// Hides and write-protects what the plan names.
pub(super) fn protect(plan: &InitPlan, root: &Root, kernel: &Kernel) -> Result<(), InitError> {
    let null = host_device("/dev/null", 1, 3)?;
    for path in plan.read_only.iter().filter(|_| !dropped("readonly")) {
        if let Some(fd) = find(root, kernel, path)? {
            mount::bind(fd.as_fd(), fd.as_fd(), true)
                .at(Stage::Masks, || format!("bind(`{path}`, `{path}`)"))?;
            let mounted = find(root, kernel, path)?.unwrap_or(fd);
            mount::add_attr(mounted.as_fd(), Attr::RDONLY, false)
                .at(Stage::Masks, || format!("mount_setattr(`{path}`, RDONLY)"))?;
        }
    }
    for path in plan.masked.iter().filter(|_| !dropped("masks")) {
        hide((root, kernel), path, null.as_fd(), |_| true)?;
    }
    // A socket below an overlay is not the one that somebody listens on (af_unix.c looks it up by inode).
    let in_view = |path: &&String| {
        let path = std::path::Path::new(path);
        kernel.views.iter().any(|view| path.starts_with(view))
    };
    for path in plan.sockets.iter().filter(|path| !in_view(path)) {
        let is_socket = |fd: &OwnedFd| {
            rustix::fs::fstat(fd)
                .is_ok_and(|s| FileType::from_raw_mode(s.st_mode) == FileType::Socket)
        };
        hide((root, kernel), path, null.as_fd(), is_socket)?;
    }
    Ok(())
}

/// Masks what a path names, if that is to be. What somebody removes just then cannot be mounted on, and need not be; what
/// takes its place is looked at like it.
fn hide(
    (root, kernel): (&Root, &Kernel),
    path: &str,
    null: BorrowedFd<'_>,
    is_meant: impl Fn(&OwnedFd) -> bool,
) -> Result<(), InitError> {
    const TRIES: usize = 8;
    let mut done = Ok(());
    for _ in 0..TRIES {
        let Some(fd) = find(root, kernel, path)?.filter(&is_meant) else {
            return Ok(());
        };
        done = mask(&fd, null);
        if done != Err(Errno::NOENT) {
            break;
        }
    }
    done.at(Stage::Masks, || format!("mask(`{path}`)"))
}

fn mask(fd: &OwnedFd, null: BorrowedFd<'_>) -> Result<(), Errno> {
    let kind = FileType::from_raw_mode(rustix::fs::fstat(fd)?.st_mode);
    if kind == FileType::Directory {
        let attr = Attr::RDONLY | Attr::NOSUID | Attr::NODEV | Attr::NOEXEC;
        mount::new("tmpfs", "tmpfs", fd.as_fd(), attr, "size=0,mode=555")
    } else {
        mount::bind(null, fd.as_fd(), false)
    }
}

/// What a masked or read-only path names; `None` if this machine has no such file.
fn find(root: &Root, kernel: &Kernel, path: &str) -> Result<Option<OwnedFd>, InitError> {
    let found = match (path.strip_prefix("/proc/"), path.strip_prefix("/sys/")) {
        (Some(rest), _) if kernel.proc.is_some() => below(&kernel.proc, rest),
        (_, Some(rest)) if kernel.sys.is_some() => below(&kernel.sys, rest),
        _ => root.resolve(path),
    };
    match found {
        Ok(fd) => Ok(Some(fd)),
        Err(Errno::NOENT | Errno::NOTDIR | Errno::ACCESS) => Ok(None),
        Err(errno) => Err(errno).at(Stage::Masks, || format!("openat2(root, `{path}`)")),
    }
}

fn below(mount: &Option<OwnedFd>, path: &str) -> Result<OwnedFd, Errno> {
    let mount = mount.as_ref().ok_or(Errno::NOENT)?;
    open_kernel(mount.as_fd(), path, OFlags::PATH)
}

fn set_sysctl(kernel: &Kernel, key: &str, value: &str) -> Result<(), InitError> {
    // Dots separate, unless slashes do (sysctl(8)).
    let path = if key.contains('/') {
        key.to_owned()
    } else {
        key.replace('.', "/")
    };
    let path = format!("sys/{path}");
    let proc = kernel.proc.as_ref().ok_or(Errno::NOENT);
    let written = proc
        .and_then(|proc| open_kernel(proc.as_fd(), &path, OFlags::WRONLY))
        .and_then(|file| rustix::io::write(&file, value.as_bytes()));
    written.at(Stage::Masks, || format!("write(`/proc/{path}`, `{value}`)"))?;
    Ok(())
}
