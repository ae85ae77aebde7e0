//! Signals: what a monitor does with its own, and how it sends one so that it acts as it would on a
//! plain program.
//!
//! PID 1 of a pid namespace gets no signal for which it has no handler (pid_namespaces(7)): Ctrl-C
//! would do nothing to `sleep 100`. Where the command leaves a signal at its default action and that
//! action is to end the process, the monitor carries it out and reports the signal as the cause.

use std::os::fd::BorrowedFd;

use rustix::process::Pid;

use crate::sys::process::Child;

/// The monitor has no terminal and outlives its front end: nothing that a terminal or a closed pipe
/// sends may end it. SIGTERM is left alone: it ends the monitor and with it the container.
pub(super) fn settle() {
    use libc::{SIGHUP, SIGINT, SIGPIPE, SIGQUIT, SIGTSTP, SIGTTIN, SIGTTOU};
    for ignored in [SIGHUP, SIGINT, SIGPIPE, SIGQUIT, SIGTSTP, SIGTTIN, SIGTTOU] {
        crate::sys::process::ignore_signal(ignored);
    }
    let _ = nix::sys::signal::SigSet::empty().thread_set_mask();
}

/// Whom a signal is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Whom {
    /// The command.
    Command,
    /// The command and what it started, as far as that is in its process group: a terminal sends what a key stands
    /// for to all of them. A shell waits for the program that it runs, and counts on that. PID 1 of `--init` passes it
    /// on to the command alone.
    Group,
}

/// Sends `number` to the command. Returns the signal if the command was ended in its name.
pub(super) fn deliver(command: &Child, number: i32, whom: Whom) -> Option<i32> {
    if would_end(command.proc_pid(), number) {
        let _ = command.signal(libc::SIGKILL);
        return Some(number);
    }
    send(command, number, whom);
    None
}

/// The same without a look at what it does about it: for any but a first process.
pub(super) fn send(command: &Child, number: i32, whom: Whom) {
    if whom == Whom::Command || command.signal_group(number).is_err() {
        let _ = command.signal(number);
    }
}

/// Which signals this process ignores, as nohup(1) has it: bit n-1 for signal n.
pub(super) fn ignored() -> u64 {
    dispositions("self").map_or(0, |d| d.ignored)
}

/// Whether a signal would end a plain program with the dispositions of `pid`.
pub(super) fn would_end(pid: Pid, number: i32) -> bool {
    ends_by_default(number)
        && dispositions(pid.as_raw_nonzero()).is_some_and(|d| d.is_default(number))
}

/// Whether a process has no children (proc_pid_children(5)).
pub(super) fn is_childless(pid: Pid) -> bool {
    let pid = pid.as_raw_nonzero();
    std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"))
        .is_ok_and(|children| children.trim().is_empty())
}

/// Whether the default action of a signal ends a process (signal(7), "Standard signals").
pub(super) fn ends_by_default(number: i32) -> bool {
    use libc::{SIGALRM, SIGHUP, SIGINT, SIGPIPE, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2};
    [
        SIGHUP, SIGINT, SIGQUIT, SIGUSR1, SIGUSR2, SIGPIPE, SIGALRM, SIGTERM,
    ]
    .contains(&number)
}

/// Which signals a process blocks, ignores and catches.
struct Dispositions {
    blocked: u64,
    ignored: u64,
    caught: u64,
}

impl Dispositions {
    fn is_default(&self, number: i32) -> bool {
        (self.blocked | self.ignored | self.caught) & (1 << (number - 1)) == 0
    }
}

/// From `/proc/PID/status` (proc_pid_status(5), SigBlk, SigIgn, SigCgt).
fn dispositions(pid: impl std::fmt::Display) -> Option<Dispositions> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let field = |name: &str| {
        let line = status.lines().find_map(|l| l.strip_prefix(name))?;
        u64::from_str_radix(line.trim(), 16).ok()
    };
    Some(Dispositions {
        blocked: field("SigBlk:")?,
        ignored: field("SigIgn:")?,
        caught: field("SigCgt:")?,
    })
}

/// The signal that a typed byte stands for on this terminal (termios(3), ISIG, VINTR, VQUIT).
pub(super) fn typed(terminal: Option<BorrowedFd<'_>>, bytes: &[u8]) -> Option<i32> {
    use rustix::termios::{LocalModes, SpecialCodeIndex};
    if !bytes.iter().any(|b| *b < 0x20) {
        return None;
    }
    let modes = rustix::termios::tcgetattr(terminal?).ok()?;
    if !modes.local_modes.contains(LocalModes::ISIG) {
        return None;
    }
    [
        (SpecialCodeIndex::VINTR, libc::SIGINT),
        (SpecialCodeIndex::VQUIT, libc::SIGQUIT),
    ]
    .into_iter()
    .find(|(index, _)| bytes.contains(&modes.special_codes[*index]))
    .map(|(_, signal)| signal)
}
