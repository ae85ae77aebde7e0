//! Terminals: raw mode, window size, and a new pair in a given devpts.

use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{Mode, OFlags};
use rustix::io::Result;
use rustix::pty::OpenptFlags;
use rustix::termios::{OptionalActions, Termios, Winsize};

/// A terminal in raw mode; dropping it puts the old settings back.
#[derive(Debug)]
pub struct RawMode<Fd: AsFd> {
    terminal: Fd,
    before: Termios,
}

impl<Fd: AsFd> RawMode<Fd> {
    /// Every byte typed goes through as it is; output is left untouched (cfmakeraw(3)).
    ///
    /// # Errors
    /// Those of tcgetattr(3) and tcsetattr(3).
    pub fn enter(terminal: Fd) -> Result<Self> {
        let before = rustix::termios::tcgetattr(&terminal)?;
        let mut raw = before.clone();
        raw.make_raw();
        rustix::termios::tcsetattr(&terminal, OptionalActions::Now, &raw)?;
        Ok(RawMode { terminal, before })
    }
}

impl<Fd: AsFd> Drop for RawMode<Fd> {
    fn drop(&mut self) {
        let _ = rustix::termios::tcsetattr(&self.terminal, OptionalActions::Drain, &self.before);
    }
}

/// Rows and columns of a terminal, if it knows them.
pub fn size(terminal: impl AsFd) -> Option<(u16, u16)> {
    let size = rustix::termios::tcgetwinsize(terminal).ok()?;
    (size.ws_row > 0 && size.ws_col > 0).then_some((size.ws_row, size.ws_col))
}

/// Sets rows and columns; the kernel tells the foreground processes with SIGWINCH.
///
/// # Errors
/// Those of the ioctl.
pub fn set_size(terminal: impl AsFd, (rows, columns): (u16, u16)) -> Result<()> {
    let size = Winsize {
        ws_row: rows,
        ws_col: columns,
        ws_xpixel: 0,
        ws_ypixel: 0,
    };
    rustix::termios::tcsetwinsize(terminal, size)
}

/// A new pair from the devpts instance whose root `devpts` is: (master, slave). The slave is opened
/// through the master (`TIOCGPTPEER`), so no path in the container is walked.
///
/// # Errors
/// Those of openat(2) and the ioctls; `ENOSYS`-like `ENOTTY` before Linux 4.13.
pub fn open_pair(devpts: impl AsFd) -> Result<(OwnedFd, OwnedFd)> {
    let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let master = rustix::fs::openat(devpts, c"ptmx", flags, Mode::empty())?;
    rustix::pty::unlockpt(&master)?;
    let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
    let slave = rustix::pty::ioctl_tiocgptpeer(&master, flags)?;
    Ok((master, slave))
}

/// Whether this process is in the foreground of the terminal: it may change its settings and read.
pub fn in_foreground(terminal: impl AsFd) -> bool {
    match rustix::termios::tcgetpgrp(terminal) {
        Ok(foreground) => foreground == rustix::process::getpgrp(),
        Err(_) => true,
    }
}
