//! Layers laid over each other by copying: what overlay would show, as plain files. The last way to
//! make a root file system, where neither the kernel's overlay nor fuse-overlayfs can be had.
//!
//! What steers an overlay (Documentation/filesystems/overlayfs.rst, "whiteouts and opaque
//! directories") is carried out here instead: a whiteout removes what the layers below left under its
//! name, an opaque directory removes what they left in it, and anything that is not a directory on
//! both sides is replaced.

use std::os::fd::{AsFd as _, BorrowedFd};
use std::path::Path;

use rustix::io::Errno;

use super::Result;
use crate::sys::copy::{self, Device, Rules};
use crate::sys::fs::{CallError, Root, is_layer_whiteout};

/// By which overlay (mounted with `userxattr`) knows an opaque directory.
const OPAQUE_XATTR: &str = "user.overlay.opaque";

/// Lays the tree of the unpacked layer `layer` over the directory `target`. Called for all layers of
/// an image from the bottom to the top, beginning with an empty directory, it makes the tree that an
/// overlay of them shows; `target` itself gets owner, mode and times of the topmost layer's root. To be
/// called inside the user namespace whose owners the layer has. Returns what could not be kept, each
/// kind once.
///
/// # Errors
/// The failing call with the file's name; what was laid before stays.
pub fn lay_over(layer: &Path, target: &Path) -> Result<Vec<String>> {
    let (from, to) = (Root::open(layer)?, Root::open(target)?);
    let rules = Rules {
        device: &|stat| {
            if is_layer_whiteout(stat) {
                Device::Remove
            } else {
                Device::Make
            }
        },
        hides: &is_opaque,
        ..Rules::PLAIN
    };
    let copied = copy::tree(from.as_fd(), to.as_fd(), &rules).map_err(|e| CallError {
        call: format!("copy of layer `{}`: {}", layer.display(), e.call),
        errno: e.errno,
    })?;
    Ok(copied.notes)
}

fn is_opaque(dir: BorrowedFd<'_>) -> rustix::io::Result<bool> {
    let mut value = [0u8; 2];
    match rustix::fs::fgetxattr(dir, OPAQUE_XATTR, &mut value[..]) {
        Ok(length) => Ok(&value[..length] == b"y"),
        // Not marked, marked with something longer, or nothing can be marked here.
        Err(Errno::NODATA | Errno::RANGE | Errno::OPNOTSUPP) => Ok(false),
        Err(errno) => Err(errno),
    }
}
