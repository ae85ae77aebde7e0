//! The second rung of the root file system: fuse-overlayfs, run in the container's user and mount
//! namespaces but outside its pid namespace, so that nothing inside sees or signals it.

use std::path::Path;

use super::start::other;
use super::wire::{Part, StartFailure};
use crate::sys::process::{self, Child, Fork, Namespaces, exit_now};

/// Mounts on `point` in the namespaces of `child`.
pub(super) fn mount(
    options: &fuse_overlayfs::Options,
    child: &Child,
    point: &Path,
) -> Result<(), StartFailure> {
    let (ours, theirs) = crate::sys::socket::Channel::pair()
        .map_err(|errno| other(format!("socketpair(): {errno}")))?;
    let forked = process::fork(Namespaces::empty())
        .map_err(|errno| other(format!("clone3(): {errno}")))?;
    let helper = match forked {
        Fork::Parent(helper) => helper,
        Fork::Child => {
            let failure = serve(options, child, point).err();
            let bytes = postcard::to_stdvec(&failure).unwrap_or_default();
            let _ = theirs.send(&bytes, None, rustix::net::SendFlags::empty());
            exit_now(0)
        }
    };
    drop(theirs);
    let mut buffer = vec![0; crate::sys::socket::MAX_MESSAGE];
    let got = ours.recv(&mut buffer, rustix::net::RecvFlags::empty());
    let _ = helper.wait();
    match got.ok().and_then(|(n, _)| postcard::from_bytes(&buffer[..n]).ok()) {
        Some(None) => Ok(()),
        Some(Some(failure)) => Err(failure),
        None => Err(other("the fuse-overlayfs helper was killed".into())),
    }
}

/// In a process of its own: joins, starts fuse-overlayfs, which detaches when its mount stands.
fn serve(
    options: &fuse_overlayfs::Options,
    child: &Child,
    point: &Path,
) -> Result<(), StartFailure> {
    use std::os::fd::AsFd as _;
    process::join(child.as_fd(), Namespaces::USER | Namespaces::MOUNT)
        .map_err(|errno| other(format!("setns(pidfd, user|mnt): {errno}")))?;
    fuse_overlayfs::mount(options, point).map_err(|e| StartFailure {
        part: Part::Rootfs,
        message: e.to_string(),
        hint: e.hint(),
        status: 125,
    })
}
