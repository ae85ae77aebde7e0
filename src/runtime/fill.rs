//! A named volume that is empty begins with what the image has at its place, as with Docker
//! (docs.docker.com, "Volumes", "Populate a volume using a container").
//!
//! It happens before anything is mounted below the root, so that the image's content is what is
//! copied, never that of another mount. Both trees are reached by descriptors only: the image cannot
//! lead the copy out of its root, nor the volume out of its directory.
//!
//! Two containers that begin to use a volume at once wait for each other by a lock on the directory
//! that holds the volume's (no container can reach that one). While a volume is filled, it carries a
//! mark, which the copy takes off as its last step but one: a copy that was cut off is done again by
//! the next start.

use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use rustix::fs::{CWD, FlockOperation, Mode, OFlags, XattrFlags};
use rustix::io::Errno;

use super::error::{At, InitError, Stage};
use super::inside::Root;
use super::plan::{Fill, InitPlan};
use crate::sys::copy::{self, Rules};

/// An extended attribute of the volume's directory while it is being filled. The image's directory
/// does not have it, so the copy removes it when it gives the volume the attributes of that.
const UNFINISHED: &str = "user.rl.unfinished";
const STAGE: Stage = Stage::Mounts;

/// A volume to be filled, and the directory that holds its directory.
pub(super) struct Volume<'a> {
    fill: &'a Fill,
    volume: OwnedFd,
    holder: OwnedFd,
}

/// Opens the volumes of the plan that want it, as the caller, whose directories they lie in.
pub(super) fn open(plan: &InitPlan) -> Result<Vec<Volume<'_>>, InitError> {
    let open = |path: &Path| {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        rustix::fs::openat(CWD, path, flags, Mode::empty())
            .at(STAGE, || format!("openat(CWD, `{}`)", path.display()))
    };
    let volumes = plan.fills.iter().map(|fill| {
        Ok(Volume {
            fill,
            volume: open(&fill.volume)?,
            holder: open(holder_of(fill))?,
        })
    });
    volumes.collect()
}

/// Fills them from the root, on which nothing is mounted yet.
pub(super) fn fill_all(volumes: Vec<Volume<'_>>, root: &Root) -> Result<(), InitError> {
    // Each lock ends with its volume: the next one may be the same volume at another place.
    volumes
        .into_iter()
        .try_for_each(|volume| fill_one(&volume, root))
}

fn fill_one(volume: &Volume<'_>, root: &Root) -> Result<(), InitError> {
    let Volume {
        fill,
        volume,
        holder,
    } = volume;
    let image = match root.open(&fill.target, OFlags::RDONLY | OFlags::DIRECTORY) {
        Ok(fd) => fd,
        // The image has no directory there: the volume stays as it is.
        Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => return Ok(()),
        Err(errno) => return Err(errno).at(STAGE, || format!("openat2(root, `{}`)", fill.target)),
    };
    if !wanted(fill, volume)? {
        return Ok(());
    }
    rustix::fs::flock(holder, FlockOperation::LockExclusive).at(STAGE, || {
        format!("flock(`{}`, LOCK_EX)", holder_of(fill).display())
    })?;
    // While we waited, somebody else may have filled it.
    if !wanted(fill, volume)? {
        return Ok(());
    }
    // Where there are no extended attributes, a cut off copy stays as it is.
    let _ = rustix::fs::fsetxattr(volume, UNFINISHED, b"", XattrFlags::empty());
    // The image has no device that could be opened, and none could be made.
    copy::tree(image.as_fd(), volume.as_fd(), &Rules::PLAIN).map_err(|e| {
        let call = format!(
            "copy `{}` of the image to volume `{}`: {}",
            fill.target,
            fill.volume.display(),
            e.call
        );
        InitError {
            stage: STAGE,
            call,
            errno: e.errno.raw_os_error(),
        }
    })?;
    Ok(())
}

fn holder_of(fill: &Fill) -> &Path {
    fill.volume.parent().unwrap_or(Path::new("/"))
}

/// Whether the volume is empty, or its last filling was cut off.
fn wanted(fill: &Fill, volume: &OwnedFd) -> Result<bool, InitError> {
    if rustix::fs::fgetxattr(volume, UNFINISHED, &mut [0u8; 1][..]).is_ok() {
        return Ok(true);
    }
    let call = || format!("getdents(`{}`)", fill.volume.display());
    for entry in rustix::fs::Dir::read_from(volume).at(STAGE, call)? {
        let entry = entry.at(STAGE, call)?;
        if !matches!(entry.file_name().to_bytes(), b"." | b"..") {
            return Ok(false);
        }
    }
    Ok(true)
}
