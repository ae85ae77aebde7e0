//! `--init`: PID 1 is ours, the command its child. It passes signals on and reaps what is orphaned;
//! it ends when the command does, and with it the pid namespace.
//!
//! It is the same user under the same confinement as the command, holds none of our descriptors and
//! cannot be looked into: taking it over gains nothing.

use nix::sys::signal::{SigSet, Signal, kill};
use rustix::process::{Pid, WaitOptions};

use crate::sys::process::{Child, Ended, Fork, Namespaces, close_from, exit_now, fork, hide};

/// Forks. `None` in the command; in PID 1, whose signals are blocked then, the command: it has to
/// [`reap`] next.
pub(super) fn split() -> Result<Option<Child>, rustix::io::Errno> {
    let signals = SigSet::all();
    let _ = signals.thread_block();
    match fork(Namespaces::empty())? {
        Fork::Child => {
            // Not inherited (prctl(2)); with the host's pids nothing else ends it with PID 1.
            let kill = Some(rustix::process::Signal::KILL);
            rustix::process::set_parent_process_death_signal(kill)?;
            // A session of its own, so that a terminal's Ctrl-C reaches it once.
            let _ = rustix::process::setsid();
            Ok(None)
        }
        Fork::Parent(child) => {
            // The change of ids may have undone it.
            hide()?;
            Ok(Some(child))
        }
    }
}

/// Waits for the command's end and ends with its status.
pub(super) fn reap(command: Child) -> ! {
    let pid = command.pid();
    drop(command);
    // The launcher waits for the end of file on its channel, which means that the command runs.
    close_from(3);
    let signals = SigSet::all();
    loop {
        match signals.wait() {
            Ok(Signal::SIGCHLD) | Err(_) => {
                if let Some(ended) = reap_all(pid) {
                    exit_now(ended.status());
                }
            }
            Ok(signal) => {
                // Not reaped yet, so the number is still the command's.
                let _ = kill(
                    nix::unistd::Pid::from_raw(pid.as_raw_nonzero().get()),
                    signal,
                );
            }
        }
    }
}

/// Reaps everything that has ended; how the command ended, if it was among it.
fn reap_all(command: Pid) -> Option<Ended> {
    let mut found = None;
    while let Ok(Some((pid, status))) = rustix::process::wait(WaitOptions::NOHANG) {
        if pid == command {
            found = Some(match status.exit_status() {
                Some(code) => Ended::Exited(code as u8),
                None => Ended::Signaled(status.terminating_signal().unwrap_or(libc::SIGKILL)),
            });
        }
    }
    found
}
