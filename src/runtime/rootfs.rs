//! The root file system, mounted on the mount point.

use rustix::fs::{CWD, Mode, OFlags};
use rustix::mount::{MountFlags, MountPropagationFlags};

use super::error::{At, InitError, Stage};
use super::inside::Root;
use super::plan::{InitPlan, Rootfs};
use super::proto::{FromInit, ToInit, receive, send};
use crate::sys::mount::{self, Attr};
use crate::sys::socket::Channel;

/// Mounts the root and returns it opened.
pub(super) fn mount_root(plan: &InitPlan, channel: &Channel) -> Result<Root, InitError> {
    let point = &plan.mount_point;
    let at_point = |what: &str| format!("{what}, `{}`)", point.display());
    match &plan.rootfs {
        Rootfs::Overlay {
            base,
            lower,
            upper,
            work,
            throw_away,
        } => {
            rustix::process::chdir(base)
                .at(Stage::Rootfs, || format!("chdir(`{}`)", base.display()))?;
            let volatile = if *throw_away { ",volatile" } else { "" };
            let options = format!(
                "lowerdir={},upperdir={upper},workdir={work},userxattr{volatile}",
                lower.join(":")
            );
            let flags = MountFlags::NODEV;
            let data = std::ffi::CString::new(options).unwrap_or_default();
            rustix::mount::mount("overlay", point, "overlay", flags, data.as_c_str())
                .at(Stage::Rootfs, || at_point("mount(overlay"))?;
            rustix::process::chdir("/").at(Stage::Rootfs, || "chdir(`/`)".into())?;
        }
        Rootfs::Provided => {
            send(channel, &FromInit::NeedRootfs, None)
                .at(Stage::Rootfs, || "send(need rootfs)".into())?;
            wait(channel, Stage::Rootfs)?;
            await_mount(point)?;
        }
        Rootfs::Directory(path) => {
            rustix::mount::mount_bind_recursive(path, point).at(Stage::Rootfs, || {
                at_point(&format!("bind(`{}`", path.display()))
            })?;
        }
    }
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let root = rustix::fs::openat(CWD, point, flags, Mode::empty())
        .at(Stage::Rootfs, || at_point("openat(CWD"))?;
    // pivot_root(2) wants the new root on a mount that is not shared.
    mount::propagation(
        std::os::fd::AsFd::as_fd(&root),
        MountPropagationFlags::PRIVATE | MountPropagationFlags::REC,
    )
    .at(Stage::Rootfs, || at_point("mount(private"))?;
    Ok(Root::new(root))
}

/// Waits until a FUSE file system answers at `point`. The launcher watches its server and ends us
/// when that dies; the limit is for one that hangs.
fn await_mount(point: &std::path::Path) -> Result<(), InitError> {
    const FUSE_SUPER_MAGIC: i64 = 0x6573_5546;
    let call = || format!("statfs(`{}`)", point.display());
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(20);
    let mut pause = std::time::Duration::from_micros(200);
    while std::time::Instant::now() < deadline {
        let kind = rustix::fs::statfs(point).at(Stage::Rootfs, call)?.f_type;
        if kind as i64 == FUSE_SUPER_MAGIC {
            return Ok(());
        }
        std::thread::sleep(pause);
        pause = (pause * 2).min(std::time::Duration::from_millis(10));
    }
    Err(rustix::io::Errno::TIMEDOUT).at(Stage::Rootfs, call)
}

/// Makes the mount of the root read-only, when everything below it stands.
pub(super) fn seal_root(root: &Root) -> Result<(), InitError> {
    mount::add_attr(std::os::fd::AsFd::as_fd(root), Attr::RDONLY, false)
        .at(Stage::Mounts, || "mount_setattr(`/`, RDONLY)".into())
}

/// Waits for [`ToInit::Continue`].
pub(super) fn wait(channel: &Channel, stage: Stage) -> Result<(), InitError> {
    match receive::<ToInit>(channel) {
        Ok(Some((ToInit::Continue, _))) => Ok(()),
        // The launcher is gone: nobody is left to tell.
        Ok(None) => crate::sys::process::exit_now(125),
        Ok(Some((other, _))) => Err(InitError {
            stage,
            call: format!("unexpected message {other:?}"),
            errno: 0,
        }),
        Err(errno) => Err(errno).at(stage, || "recvmsg(launcher)".into()),
    }
}
