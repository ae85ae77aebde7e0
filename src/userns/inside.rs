//! Work of our own inside a user namespace: layers are unpacked, and containers' files removed, by a
//! process for which the image's owners exist.

use std::os::fd::BorrowedFd;

use nix::sys::signal::{SigSet, SigmaskHow, Signal};
use nix::sys::signalfd::SignalFd;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags};

use super::{Error, Plan, start};
use crate::model::{IdMap, IdRange};
use crate::sys::process::{Child, Ended, Fork, Namespaces, exit_now, fork, hide, join};
use crate::sys::socket::Channel;

/// Runs `work` with all capabilities over a new user namespace with the maps of `plan`, in a child
/// process, and returns its exit status. The child keeps the caller's own ids, so that what it makes
/// in the caller's directories stays the caller's; maps that leave these ids out get them added. The calling process must be single-threaded; the child may make threads.
/// The child ends when its parent does.
///
/// # Errors
/// [`Error::Clone`] when there is no user namespace to be had, and those of [`start`].
pub fn run_inside(plan: &Plan, work: impl FnOnce() -> u8) -> Result<u8, Error> {
    run(plan, work, Child::wait)
}

/// The same for work that has something to undo when it is interrupted: SIGINT, SIGTERM, SIGHUP and SIGQUIT are
/// blocked here and in the child, which is told of each that arrives here and has to see to it. The caller's
/// mask is put back at the end.
///
/// # Errors
/// Those of [`run_inside`].
pub fn run_inside_passing_signals(plan: &Plan, work: impl FnOnce() -> u8) -> Result<u8, Error> {
    let signals: SigSet = PASSED.into_iter().collect();
    let failed = |call| {
        move |errno: nix::errno::Errno| Error::Clone {
            call,
            source: errno.into(),
        }
    };
    let before = signals
        .thread_swap_mask(SigmaskHow::SIG_BLOCK)
        .map_err(failed("sigprocmask()"))?;
    let fd = SignalFd::new(&signals).map_err(failed("signalfd()"))?;
    let result = run(plan, work, |child| wait_passing(child, &fd));
    let _ = before.thread_set_mask();
    result
}

/// Runs `work` in a child process in the user and mount namespaces of the process behind `target`, whose root it
/// sees as `/`, and returns its exit status. As the owner of that user namespace the child has all capabilities
/// over it; it stays out of the pid namespace, and is closed to whoever sees it all the same. The calling process must be
/// single-threaded. The child ends when its parent does.
///
/// # Errors
/// [`Error::Clone`]. The child says itself, by `refused`, that it could not join.
pub fn run_joined(
    target: BorrowedFd<'_>,
    refused: impl FnOnce(Errno) -> u8,
    work: impl FnOnce() -> u8,
) -> Result<u8, Error> {
    let failed = |call| {
        move |errno: Errno| Error::Clone {
            call,
            source: errno.into(),
        }
    };
    match fork(Namespaces::empty()).map_err(failed("clone3()"))? {
        Fork::Child => {
            let kill = Some(rustix::process::Signal::KILL);
            // Somebody inside may have CAP_SYS_PTRACE, and see the processes of the host.
            let joined = hide().and_then(|()| join(target, Namespaces::USER | Namespaces::MOUNT));
            // Joining makes this process another's, which clears the death signal.
            let _ = rustix::process::set_parent_process_death_signal(kill);
            exit_now(match joined {
                Ok(()) => work(),
                Err(errno) => refused(errno),
            })
        }
        Fork::Parent(child) => Ok(child.wait().map_err(failed("waitid()"))?.status()),
    }
}

/// The signals that people and sessions end a program with.
const PASSED: [Signal; 4] = [
    Signal::SIGINT,
    Signal::SIGTERM,
    Signal::SIGHUP,
    Signal::SIGQUIT,
];

fn wait_passing(child: &Child, signals: &SignalFd) -> rustix::io::Result<Ended> {
    loop {
        let mut fds = [
            PollFd::new(child, PollFlags::IN),
            PollFd::new(signals, PollFlags::IN),
        ];
        match poll(&mut fds, None) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(errno) => return Err(errno),
        }
        if !fds[1].revents().is_empty()
            && let Ok(Some(info)) = signals.read_signal()
        {
            // It may have ended meanwhile.
            let _ = child.signal(info.ssi_signo as i32);
        }
        if !fds[0].revents().is_empty() {
            return child.wait();
        }
    }
}

fn run(
    plan: &Plan,
    work: impl FnOnce() -> u8,
    wait: impl FnOnce(&Child) -> rustix::io::Result<Ended>,
) -> Result<u8, Error> {
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
            exit_now(in_child(&theirs, work))
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
            let ended = wait(&child).map_err(failed("waitid()"))?;
            Ok(ended.status())
        }
    }
}

fn in_child(channel: &Channel, work: impl FnOnce() -> u8) -> u8 {
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
