//! `--init`: PID 1 is ours, the command its child. It passes signals on and reaps what is orphaned;
//! it ends when the command does, and with it the pid namespace.

use rustix::process::{Pid, WaitOptions};

use crate::sys::process::{Child, Ended, Fork, Namespaces, exit_now, fork};

/// Forks; the command goes on in the child. In PID 1 this does not return.
pub(super) fn split() -> Result<(), rustix::io::Errno> {
    let signals = nix::sys::signal::SigSet::all();
    let _ = signals.thread_block();
    match fork(Namespaces::empty())? {
        Fork::Child => {
            // A group of its own, so that a terminal's Ctrl-C reaches it once.
            let _ = rustix::process::setpgid(None, None);
            Ok(())
        }
        Fork::Parent(child) => reap(&child, &signals),
    }
}

fn reap(child: &Child, signals: &nix::sys::signal::SigSet) -> ! {
    loop {
        match signals.wait() {
            Ok(nix::sys::signal::Signal::SIGCHLD) | Err(_) => {
                if let Some(ended) = reap_all(child.pid()) {
                    exit_now(ended.status());
                }
            }
            Ok(signal) => {
                let _ = child.signal(signal as i32);
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
