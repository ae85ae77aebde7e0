//! Work of our own inside a user namespace: layers are unpacked, and containers' files removed, by a
//! process for which the image's owners exist.

use rustix::net::{RecvFlags, SendFlags};

use super::{Error, Plan, start};
use crate::sys::process::{Fork, Namespaces, exit_now, fork};
use crate::sys::socket::Channel;

/// Runs `work` as root of a new user namespace with the maps of `plan`, in a child process, and
/// returns its exit status. The calling process must be single-threaded; the child may make threads.
/// The child ends when its parent does.
///
/// # Errors
/// [`Error::Clone`] when there is no user namespace to be had, and those of [`start`].
pub fn run_inside(plan: &Plan, work: impl FnOnce() -> u8) -> Result<u8, Error> {
    let failed = |call| {
        move |errno: rustix::io::Errno| Error::Clone {
            call,
            source: errno.into(),
        }
    };
    let (ours, theirs) = Channel::pair().map_err(failed("socketpair()"))?;
    match fork(Namespaces::USER).map_err(failed("clone3(CLONE_NEWUSER)"))? {
        Fork::Child => {
            drop(ours);
            exit_now(child(&theirs, work))
        }
        Fork::Parent(child) => {
            drop(theirs);
            let mapped = start(plan, child.pid().as_raw_nonzero().get() as u32)
                .and_then(super::Writing::wait);
            if let Err(error) = mapped {
                // End of file tells the child to go.
                drop(ours);
                let _ = child.wait();
                return Err(error);
            }
            let _ = ours.send(b"m", None, SendFlags::empty());
            let ended = child.wait().map_err(failed("waitid()"))?;
            Ok(ended.status())
        }
    }
}

fn child(channel: &Channel, work: impl FnOnce() -> u8) -> u8 {
    let kill = Some(rustix::process::Signal::KILL);
    let mut byte = [0u8; 1];
    match channel.recv(&mut byte, RecvFlags::empty()) {
        Ok((1, _)) => {}
        _ => return 125,
    }
    // An id map without 0 (keep-id with a single id) leaves the capabilities as they are.
    let _ = nix::unistd::setresgid(0.into(), 0.into(), 0.into());
    let _ = nix::unistd::setresuid(0.into(), 0.into(), 0.into());
    let _ = rustix::process::set_parent_process_death_signal(kill);
    work()
}
