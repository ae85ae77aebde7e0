//! Stopping a container in the middle of what it does.
//!
//! Without a cgroup of its own there is no freezer: every process of the pid namespace gets SIGSTOP, again and
//! again until none was missed (a process can be born while we look), and SIGCONT to go on. One that was signalled
//! stops when it is its turn to run, which on a busy machine takes a while. Those inside can notice, which a freezer
//! would not let them.

use std::collections::BTreeSet;
use std::os::fd::AsFd as _;
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, pidfd_open};

use crate::sys::proc;
use crate::sys::process::{Child, signal_pidfd};

/// How often one looks and finds processes that were missed.
const TURNS: usize = 20;

/// How long those that were signalled may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// Stops all processes of the pid namespace of `first`, or lets them go on.
///
/// # Errors
/// What a person should know: the container has no pid namespace of its own, or is faster than we are.
pub(super) fn set(first_process: &Child, on: bool) -> Result<(), String> {
    let signal = if on { libc::SIGSTOP } else { libc::SIGCONT };
    let first = first_process.proc_pid().as_raw_nonzero().get();
    let deadline = Instant::now() + PATIENCE;
    let (mut signalled, mut turns) = (BTreeSet::new(), 0);
    while turns < TURNS && Instant::now() < deadline {
        let processes = proc::beside(first);
        let processes = processes.ok_or("it shares the process ids of this machine")?;
        let (mut missed, mut waited) = (false, false);
        for pid in processes.into_iter().filter(|pid| wants(*pid, on)) {
            let handle = Pid::from_raw(pid).map(|pid| pidfd_open(pid, PidfdFlags::empty()));
            let sent = match handle {
                Some(Ok(handle)) if proc::is_beside(pid, first) => {
                    signal_pidfd(handle.as_fd(), signal)
                }
                Some(Err(errno)) => Err(errno),
                // It is another one's by now, or was no number.
                _ => Err(Errno::SRCH),
            };
            match sent {
                Ok(()) if signalled.insert(pid) => missed = true,
                Ok(()) => waited = true,
                // It has ended.
                Err(Errno::SRCH) => {}
                // By number alone it could be another one's process that is stopped.
                Err(errno) => {
                    return Err(format!(
                        "it has no control group, and its processes cannot be signalled by pidfd ({errno})"
                    ));
                }
            }
        }
        if !missed && !waited {
            return Ok(());
        }
        turns += usize::from(missed);
        std::thread::sleep(Duration::from_millis(1));
    }
    if on {
        // Half of it stopped is worth nothing.
        let _ = set(first_process, false);
    }
    Err(match turns < TURNS {
        true => "its processes do not stop".into(),
        false => "its processes are born faster than they can be stopped".into(),
    })
}

/// Whether a process is to be stopped, or to go on (proc_pid_stat(5), field 3). One that has ended and that nobody has
/// waited for does neither.
fn wants(pid: i32, on: bool) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let state = stat
        .rsplit(')')
        .next()
        .and_then(|rest| rest.trim_start().chars().next());
    match state {
        None | Some('Z' | 'X') => false,
        Some('T' | 't') => !on,
        Some(_) => on,
    }
}
