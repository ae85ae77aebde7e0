//! What the launcher and the child say to each other, over one sequenced-packet channel.
//!
//! ```text
//! launcher                                      child
//!    | -- clone3 ------------------------------> | copies the program
//!    |    newuidmap || newgidmap, since long     | waits
//!    | -- Mapped ------------------------------> | becomes root, executes the init stage
//!    |    network helper starts                  | host name, lo, rootfs
//!    | <-- Wire + fd --------------------------- | (only with passt, or a network with a name)
//!    |    pump starts, or switch takes it        |
//!    | <-- NeedRootfs -------------------------- | (only with fuse-overlayfs)
//!    | -- Continue ----------------------------> |
//!    |                                           | mounts, masks
//!    | <-- NeedView ---------------------------- | (for each view that wants fuse-overlayfs)
//!    | -- Continue, or Refused ----------------> |
//!    | <-- Notice ------------------------------ | (whenever something was done with less)
//!    | <-- Console + fd ------------------------ | (only with a terminal)
//!    | <-- Prepared ---------------------------- | pivot_root is done
//!    |    network helper is ready                |
//!    | -- Continue ----------------------------> | user, confinement, execve
//!    | <-- end of file ------------------------- | the command runs (close-on-exec)
//!    | <-- Failed(InitError) at any point        |
//! ```
//!
//! The last word comes ahead, right after `Mapped`, where there is no helper to wait for and none may be wanted. `Refused`
//! comes also later, for a server that has ended.
//!
//! End-of-file seen by the child means that the launcher is gone: it exits.

use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::PathBuf;

use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags};
use serde::{Deserialize, Serialize};

use super::error::InitError;
use crate::sys::socket::Channel;

/// From the child.
#[derive(Debug, Serialize, Deserialize)]
pub enum FromInit {
    /// Mount the root file system for me, in my namespaces.
    NeedRootfs,
    /// Mount a directory of the host for me, read-only, in my namespaces.
    NeedView {
        /// The directory.
        lower: PathBuf,
        /// On which directory, as this process sees it.
        point: PathBuf,
    },
    /// What carries the frames of my network interface comes with this message.
    Wire,
    /// The master side of my terminal comes with this message.
    Console,
    /// A line for the user: something was done with less.
    Notice(String),
    /// Everything is mounted, without these customary things that were refused; waiting for the word to go.
    Prepared(Vec<InitError>),
    /// It ended here.
    Failed(InitError),
}

/// From the launcher.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ToInit {
    /// The id maps are written.
    Mapped,
    /// What was waited for is there.
    Continue,
    /// It will not be there.
    Refused,
}

/// Sends one message.
///
/// # Errors
/// `EPIPE` when the other side is gone.
pub fn send<M: Serialize>(
    channel: &Channel,
    message: &M,
    fd: Option<BorrowedFd<'_>>,
) -> Result<(), Errno> {
    let bytes = postcard::to_stdvec(message).map_err(|_| Errno::INVAL)?;
    channel.send(&bytes, fd, SendFlags::empty())
}

/// Waits for one message; `None` at the end of file.
///
/// # Errors
/// Those of recvmsg(2); `EBADMSG` for bytes that are no message.
pub fn receive<M: for<'a> Deserialize<'a>>(
    channel: &Channel,
) -> Result<Option<(M, Option<OwnedFd>)>, Errno> {
    let Some((bytes, fd)) = channel.receive(RecvFlags::empty())? else {
        return Ok(None);
    };
    let message = postcard::from_bytes(&bytes).map_err(|_| Errno::BADMSG)?;
    Ok(Some((message, fd)))
}
