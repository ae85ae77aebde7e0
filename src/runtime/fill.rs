//! A named volume that is empty begins with what the image has at its place, as with Docker
//! (docs.docker.com, "Volumes", "Populate a volume using a container").
//!
//! It happens before anything is mounted below the root, so that the image's content is what is
//! copied, never that of another mount. Both trees are reached by descriptors only: the image cannot
//! lead the copy out of its root, nor the volume out of its directory.
//!
//! Two containers that begin to use a volume at once wait for each other by a lock on the directory
//! that holds the volume's (no container can reach that one). A copy that was cut off leaves a file
//! there, and the next start does it again.

use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use rustix::fs::{AtFlags, CWD, FlockOperation, Mode, OFlags};
use rustix::io::Errno;

use super::error::{At, InitError, Stage};
use super::inside::Root;
use super::plan::{Fill, InitPlan};
use crate::sys::copy::{self, Device, Rules};

/// Beside the volume's directory while it is being filled.
const UNFINISHED: &str = "unfinished";
const STAGE: Stage = Stage::Mounts;

/// Fills all volumes of the plan that want it.
pub(super) fn fill_all(plan: &InitPlan, root: &Root) -> Result<(), InitError> {
    plan.fills.iter().try_for_each(|fill| fill_one(fill, root))
}

fn fill_one(fill: &Fill, root: &Root) -> Result<(), InitError> {
    let directory = OFlags::RDONLY | OFlags::DIRECTORY;
    let image = match root.open(&fill.target, directory) {
        Ok(fd) => fd,
        // The image has no directory there: the volume stays as it is.
        Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => return Ok(()),
        Err(errno) => return Err(errno).at(STAGE, || format!("openat2(root, `{}`)", fill.target)),
    };
    let open = |path: &Path| {
        let flags = directory | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        rustix::fs::openat(CWD, path, flags, Mode::empty())
            .at(STAGE, || format!("openat(CWD, `{}`)", path.display()))
    };
    let volume = open(&fill.volume)?;
    let holder = open(fill.volume.parent().unwrap_or(Path::new("/")))?;
    if !wanted(fill, &volume, &holder)? {
        return Ok(());
    }
    rustix::fs::flock(&holder, FlockOperation::LockExclusive)
        .at(STAGE, || format!("flock(`{}`, LOCK_EX)", holder_name(fill)))?;
    // While we waited, somebody else may have filled it.
    if !wanted(fill, &volume, &holder)? {
        return Ok(());
    }
    let mark = || format!("openat(`{}`, `{UNFINISHED}`)", holder_name(fill));
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    drop(rustix::fs::openat(&holder, UNFINISHED, flags, Mode::from(0o600)).at(STAGE, mark)?);
    let rules = Rules {
        // The image has none that could be opened, and none could be made.
        device: &|_| Device::Skip,
        hides: &|_| Ok(false),
    };
    copy::tree(image.as_fd(), volume.as_fd(), &rules).map_err(|e| {
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
    rustix::fs::unlinkat(&holder, UNFINISHED, AtFlags::empty()).at(STAGE, mark)
}

fn holder_name(fill: &Fill) -> std::path::Display<'_> {
    fill.volume.parent().unwrap_or(Path::new("/")).display()
}

/// Whether the volume is empty, or its last filling was cut off.
fn wanted(fill: &Fill, volume: &OwnedFd, holder: &OwnedFd) -> Result<bool, InitError> {
    if rustix::fs::statat(holder, UNFINISHED, AtFlags::SYMLINK_NOFOLLOW).is_ok() {
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
