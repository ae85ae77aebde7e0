//! Work of our own inside a user namespace: layers are unpacked, and containers' files removed, by a
//! process for which the image's owners exist.

use rustix::net::{RecvFlags, SendFlags};

use super::{Error, Plan, start};
use crate::model::{IdMap, IdRange};
use crate::sys::process::{Fork, Namespaces, exit_now, fork};
use crate::sys::socket::Channel;

/// Runs `work` with all capabilities over a new user namespace with the maps of `plan`, in a child
/// process, and returns its exit status. The child keeps the caller's own ids, so that what it makes
/// in the caller's directories stays the caller's; maps that leave these ids out get them added. The calling process must be single-threaded; the child may make threads.
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
            let mapped = start(
                &with_caller(plan),
                child.proc_pid().as_raw_nonzero().get() as u32,
            )
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
    let _ = rustix::process::set_parent_process_death_signal(kill);
    work()
}

/// The plan with the caller's own ids mapped, at the first ids inside that are free.
fn with_caller(plan: &Plan) -> Plan {
    let add = |map: &IdMap, own: u32| {
        if map.to_container(own).is_some() {
            return map.clone();
        }
        let free = map
            .ranges()
            .iter()
            .map(|r| r.container + r.length)
            .max()
            .unwrap_or(0);
        let mut ranges = map.ranges().to_vec();
        ranges.push(IdRange {
            container: free,
            host: own,
            length: 1,
        });
        IdMap::new(ranges).unwrap_or_else(|_| map.clone())
    };
    let (uid, gid) = (
        rustix::process::geteuid().as_raw(),
        rustix::process::getegid().as_raw(),
    );
    Plan {
        uid: add(&plan.uid, uid),
        gid: add(&plan.gid, gid),
        ..plan.clone()
    }
}
