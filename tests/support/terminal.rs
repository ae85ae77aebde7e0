//! A program in a terminal of its own: the test holds the other end.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::os::fd::OwnedFd;
use std::process::{Child, Command, ExitStatus};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{Gid, Mode, OFlags, Uid};
use rustix::process::{Pid, Signal, kill_process};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};

use super::{Env, leak};

/// The near end of the terminal, and the program that sits at it.
pub struct Terminal<'a> {
    env: &'a Env,
    master: File,
    child: Child,
    /// Everything shown so far, and how much of it [`Terminal::expect`] has gone past.
    shown: Vec<u8>,
    at: usize,
}

impl<'a> Terminal<'a> {
    #[track_caller]
    pub(super) fn start(env: &'a Env, mut command: Command) -> Self {
        let master =
            openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).unwrap();
        grantpt(&master).unwrap();
        unlockpt(&master).unwrap();
        let name = ptsname(&master, Vec::new()).unwrap();
        let slave = rustix::fs::open(
            &name,
            OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC,
            Mode::empty(),
        )
        .unwrap();
        if super::identity::is_root() {
            let (uid, gid) = (Uid::from_raw(env.user.uid), Gid::from_raw(env.user.gid));
            rustix::fs::fchown(&slave, Some(uid), Some(gid)).unwrap();
        }
        let dup = |fd: &OwnedFd| fd.try_clone().unwrap();
        command
            .env("TERM", "dumb")
            .stdin(dup(&slave))
            .stdout(dup(&slave))
            .stderr(slave);
        let child = command.spawn().unwrap();
        // The command holds copies of the far end: only the program itself shall.
        drop(command);
        let terminal = Terminal {
            env,
            master: master.into(),
            child,
            shown: Vec::new(),
            at: 0,
        };
        terminal.resize(80, 24);
        terminal
    }

    /// Closes the near end, as a window that is closed or a connection that breaks does.
    pub fn hang_up(&mut self) {
        self.master = File::open("/dev/null").unwrap();
    }

    /// Types.
    pub fn send(&mut self, text: &str) {
        self.master.write_all(text.as_bytes()).unwrap();
    }

    /// Changes the size of the window; the kernel tells the foreground process group.
    pub fn resize(&self, columns: u16, rows: u16) {
        tcsetwinsize(
            &self.master,
            Winsize {
                ws_col: columns,
                ws_row: rows,
                ws_xpixel: 0,
                ws_ypixel: 0,
            },
        )
        .unwrap();
    }

    /// Sends a signal to the process that the terminal was made for.
    pub fn signal(&self, signal: Signal) {
        kill_process(Pid::from_raw(self.child.id() as i32).unwrap(), signal).unwrap();
    }

    /// Reads what is there, waiting at most this long; false at the end of the terminal.
    fn read(&mut self, wait: Duration) -> bool {
        let timeout = Timespec {
            tv_sec: wait.as_secs() as i64,
            tv_nsec: i64::from(wait.subsec_nanos()),
        };
        let mut fds = [PollFd::new(&self.master, PollFlags::IN)];
        if poll(&mut fds, Some(&timeout)).unwrap() == 0 {
            return true;
        }
        let mut buffer = [0; 65536];
        // EIO: nobody holds the other end any more.
        let Ok(count @ 1..) = self.master.read(&mut buffer) else {
            return false;
        };
        self.shown.extend(&buffer[..count]);
        true
    }

    /// Waits until a text is shown after what was expected before; returns what came up to its end.
    #[track_caller]
    pub fn expect(&mut self, text: &str) -> String {
        let end = Instant::now() + super::deadline();
        loop {
            let new = String::from_utf8_lossy(&self.shown[self.at..]).into_owned();
            if let Some(position) = find(&self.shown[self.at..], text.as_bytes()) {
                let past = self.at + position + text.len();
                let found = String::from_utf8_lossy(&self.shown[self.at..past]).into_owned();
                self.at = past;
                return found;
            }
            let open = self.read(Duration::from_millis(100));
            let last = find(&self.shown[self.at..], text.as_bytes()).is_none();
            if last && (!open || Instant::now() > end) {
                let why = if open { "in time" } else { "before the end" };
                panic!(
                    "the terminal does not show `{text}` {why}: {new:?}; processes: {:#?}",
                    self.env.processes()
                );
            }
        }
    }

    /// Everything shown so far.
    pub fn shown(&self) -> String {
        String::from_utf8_lossy(&self.shown).into_owned()
    }

    /// Waits for the program to end; everything it showed is in [`Terminal::shown`] then.
    #[track_caller]
    pub fn wait(&mut self) -> ExitStatus {
        let end = Instant::now() + super::deadline();
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                while self.read(Duration::ZERO) && Instant::now() < end && self.pending() {}
                return status;
            }
            if Instant::now() > end {
                let left = self.env.processes();
                leak::kill(self.env.tag);
                panic!(
                    "the program in the terminal does not end: {left:#?}\n{}",
                    self.shown()
                );
            }
            self.read(Duration::from_millis(5));
        }
    }

    fn pending(&self) -> bool {
        let mut fds = [PollFd::new(&self.master, PollFlags::IN)];
        poll(
            &mut fds,
            Some(&Timespec {
                tv_sec: 0,
                tv_nsec: 0,
            }),
        )
        .is_ok_and(|n| n > 0)
    }

    /// Waits for the program to end with this status.
    #[track_caller]
    pub fn exits(&mut self, code: i32) {
        let status = self.wait();
        assert_eq!(status.code(), Some(code), "{status}\n{}", self.shown());
    }
}

impl Drop for Terminal<'_> {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    haystack
        .windows(needle.len())
        .position(|window| window == needle)
}
