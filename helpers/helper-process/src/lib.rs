//! What every driver of an external program needs: finding it, its log, its ready signal, its death.
//!
//! In order: [`find`] gives the absolute path of a program; the driver crate makes a [`Command`] of
//! it, connects its standard streams to [`pipe`]s and to a [`Log`], and hands it to
//! [`Helper::spawn`], which holds a pidfd from the first moment on. Whoever watches the helper polls
//! that pidfd; [`Helper::stop`] ends and reaps it.

use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{Access, MemfdFlags, SealFlags, access};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

/// Directories that are looked into after those of PATH: a login shell of an unprivileged user often
/// lacks the `sbin` ones.
const FALLBACK: [&str; 5] = ["/usr/bin", "/usr/sbin", "/usr/local/bin", "/bin", "/sbin"];

/// How much of a helper's standard error is kept, in bytes. What comes after is refused to the
/// helper (EPERM), so that a talkative one can neither fill memory nor block.
const LOG_SIZE: u64 = 32 * 1024;

/// The absolute path of the executable `program`: the first in the directories of `path` (the value
/// of PATH; relative entries are passed over), then in the usual system directories.
pub fn find(program: &str, path: Option<&OsStr>) -> Option<PathBuf> {
    let from_path = path.into_iter().flat_map(std::env::split_paths);
    from_path
        .chain(FALLBACK.iter().map(PathBuf::from))
        .filter(|dir| dir.is_absolute())
        .map(|dir| dir.join(program))
        .find(|file| file.is_file() && access(file, Access::EXEC_OK).is_ok())
}

/// The standard error of a helper: a memory file of fixed size, so that writing to it never blocks
/// and it needs no reader.
#[derive(Debug)]
pub struct Log(OwnedFd);

impl Log {
    /// An empty log.
    ///
    /// # Errors
    /// Those of memfd_create(2), ftruncate(2) and of sealing.
    pub fn new() -> io::Result<Self> {
        let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
        // `vm.memfd_noexec=2` demands NOEXEC_SEAL; kernels before 6.3 refuse it.
        let fd = match rustix::fs::memfd_create("helper-log", flags | MemfdFlags::NOEXEC_SEAL) {
            Err(Errno::INVAL) => rustix::fs::memfd_create("helper-log", flags)?,
            other => other?,
        };
        rustix::fs::ftruncate(&fd, LOG_SIZE)?;
        rustix::fs::fcntl_add_seals(&fd, SealFlags::GROW | SealFlags::SHRINK)?;
        Ok(Log(fd))
    }

    /// The file itself.
    ///
    /// # Errors
    /// When the descriptor cannot be duplicated.
    pub fn file(&self) -> io::Result<OwnedFd> {
        self.0.try_clone()
    }

    /// A handle for [`Command::stderr`].
    ///
    /// # Errors
    /// When the descriptor cannot be duplicated.
    pub fn stdio(&self) -> io::Result<Stdio> {
        Ok(Stdio::from(self.0.try_clone()?))
    }

    /// What was written so far, without surrounding white space.
    pub fn text(&self) -> String {
        let mut bytes = vec![0u8; LOG_SIZE as usize];
        let mut filled = 0;
        while filled < bytes.len() {
            match rustix::io::pread(&self.0, &mut bytes[filled..], filled as u64) {
                Ok(0) => break,
                Ok(n) => filled += n,
                Err(Errno::INTR) => {}
                Err(_) => break,
            }
        }
        let end = bytes
            .iter()
            .rposition(|&b| b != 0)
            .map_or(0, |last| last + 1);
        String::from_utf8_lossy(&bytes[..end]).trim().to_owned()
    }
}

/// A pipe, both ends close-on-exec: (read end, write end).
///
/// # Errors
/// Those of pipe2(2).
pub fn pipe() -> io::Result<(OwnedFd, OwnedFd)> {
    Ok(rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?)
}

/// A pair of connected stream sockets, both close-on-exec.
///
/// # Errors
/// Those of socketpair(2).
pub fn socketpair() -> io::Result<(OwnedFd, OwnedFd)> {
    use rustix::net::{AddressFamily, SocketFlags, SocketType};
    let (family, kind) = (AddressFamily::UNIX, SocketType::STREAM);
    Ok(rustix::net::socketpair(
        family,
        kind,
        SocketFlags::CLOEXEC,
        None,
    )?)
}

/// Waits until `fd` is readable or hung up. Returns false when `limit` has passed first.
///
/// # Errors
/// Those of poll(2), except EINTR.
pub fn wait_readable(fd: BorrowedFd<'_>, limit: Duration) -> io::Result<bool> {
    let deadline = Instant::now() + limit;
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let mut fds = [PollFd::new(&fd, PollFlags::IN)];
        match poll(&mut fds, Timespec::try_from(left).ok().as_ref()) {
            Ok(0) if left.is_zero() => return Ok(false),
            Ok(0) | Err(Errno::INTR) => {}
            Ok(_) => return Ok(true),
            Err(errno) => return Err(errno.into()),
        }
    }
}

/// A running helper. Dropping it kills and reaps it: none outlives its owner by mistake.
#[derive(Debug)]
pub struct Helper {
    child: Child,
    pidfd: OwnedFd,
    log: Log,
    /// Ends of pipes whose closing tells the helper to exit.
    lifeline: Option<OwnedFd>,
    status: Option<ExitStatus>,
}

impl Helper {
    /// Spawns `command`, with its standard error going to a fresh [`Log`]. `lifeline` is kept open
    /// as long as the helper is wanted.
    ///
    /// # Errors
    /// When the program cannot be executed, or no pidfd can be had (Linux before 5.3).
    pub fn spawn(mut command: Command, lifeline: Option<OwnedFd>) -> io::Result<Self> {
        let log = Log::new()?;
        command.stderr(log.stdio()?);
        let mut child = command.spawn()?;
        // The child is not reaped yet, so its number cannot belong to anyone else.
        let pidfd = i32::try_from(child.id())
            .ok()
            .and_then(Pid::from_raw)
            .ok_or(Errno::SRCH)
            .and_then(|pid| pidfd_open(pid, PidfdFlags::empty()));
        let pidfd = match pidfd {
            Ok(pidfd) => pidfd,
            Err(errno) => {
                let _ = child.kill();
                let _ = child.wait();
                return Err(errno.into());
            }
        };
        Ok(Helper {
            child,
            pidfd,
            log,
            lifeline,
            status: None,
        })
    }

    /// Readable (POLLIN) once the helper has died.
    pub fn pidfd(&self) -> BorrowedFd<'_> {
        self.pidfd.as_fd()
    }

    /// Its process id, valid until it is reaped.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What it wrote to its standard error so far.
    pub fn log(&self) -> String {
        self.log.text()
    }

    /// Its exit status if it has died (and is reaped by this), without waiting.
    ///
    /// # Errors
    /// Those of waitpid(2).
    pub fn try_wait(&mut self) -> io::Result<Option<ExitStatus>> {
        if self.status.is_none() {
            self.status = self.child.try_wait()?;
        }
        Ok(self.status)
    }

    /// Waits for its end, at most `limit`. `None`: it still runs.
    ///
    /// # Errors
    /// Those of poll(2) and waitpid(2).
    pub fn wait(&mut self, limit: Duration) -> io::Result<Option<ExitStatus>> {
        if self.status.is_none() {
            wait_readable(self.pidfd.as_fd(), limit)?;
        }
        self.try_wait()
    }

    /// Ends it: SIGTERM, after `grace` SIGKILL, and reaps it. Ending a dead one is no error.
    ///
    /// # Errors
    /// Those of waitpid(2).
    pub fn stop(&mut self, grace: Duration) -> io::Result<ExitStatus> {
        self.lifeline = None;
        if let Some(status) = self.try_wait()? {
            return Ok(status);
        }
        let _ = pidfd_send_signal(&self.pidfd, Signal::TERM);
        if let Some(status) = self.wait(grace)? {
            return Ok(status);
        }
        let _ = pidfd_send_signal(&self.pidfd, Signal::KILL);
        let status = self.child.wait()?;
        self.status = Some(status);
        Ok(status)
    }
}

impl Drop for Helper {
    fn drop(&mut self) {
        if self.status.is_none() {
            let _ = self.stop(Duration::from_millis(100));
        }
    }
}

/// How a process ended, in words: `exit status 1`, `killed by signal 9`.
pub fn ended(status: ExitStatus) -> String {
    use std::os::unix::process::ExitStatusExt;
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exit status {code}"),
        (None, Some(signal)) => format!("killed by signal {signal}"),
        (None, None) => "unknown end".to_owned(),
    }
}

/// A character device that a helper program opens.
#[derive(Clone, Copy, Debug)]
pub struct Device {
    /// Where it is.
    pub path: &'static str,
    /// Major and minor number (the kernel's Documentation/admin-guide/devices.txt).
    numbers: (u32, u32),
    /// The module of its driver.
    module: &'static str,
}

/// What pasta and slirp4netns carry packets through.
pub const TUN: Device = Device {
    path: "/dev/net/tun",
    numbers: (10, 200),
    module: "tun",
};

/// What every FUSE mount is made with.
pub const FUSE: Device = Device {
    path: "/dev/fuse",
    numbers: (10, 229),
    module: "fuse",
};

impl Device {
    /// Opens it for reading and writing, and closes it.
    ///
    /// # Errors
    /// Those of open(2); another kind where something that is no device has its place.
    pub fn open(self) -> io::Result<()> {
        use std::os::unix::fs::FileTypeExt as _;
        if !std::fs::metadata(self.path)?.file_type().is_char_device() {
            return Err(io::Error::other(
                "something that is no device has its place",
            ));
        }
        let file = std::fs::OpenOptions::new()
            .read(true)
            .write(true)
            .open(self.path)?;
        drop(file);
        Ok(())
    }

    /// The shell commands for root after which it opens for everybody, from what [`Device::open`] said. A
    /// driver that is built in has no module, and a container no modprobe: that one may fail.
    pub fn fix(self, refused: &io::Error) -> String {
        let Device {
            path,
            module,
            numbers: (major, minor),
        } = self;
        let node = format!("mknod -m 0666 {path} c {major} {minor}");
        match refused.kind() {
            io::ErrorKind::PermissionDenied => format!("chmod 0666 {path}"),
            io::ErrorKind::NotFound => {
                let dir = Path::new(path).parent().unwrap_or(Path::new("/"));
                // The module may make the node.
                format!(
                    "modprobe {module} || true; mkdir -p {}; test -c {path} || {node}",
                    dir.display()
                )
            }
            io::ErrorKind::Other if is_mount_point(path) => format!("umount {path}"),
            io::ErrorKind::Other => format!("rm -r {path}; {node}"),
            // The node is there, the driver is not.
            _ => format!("modprobe {module}; chmod 0666 {path}"),
        }
    }
}

/// From proc_pid_mountinfo(5), of which the fifth field is the mount point.
fn is_mount_point(path: &str) -> bool {
    let table = std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    table
        .lines()
        .any(|line| line.split(' ').nth(4) == Some(path))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Command {
        let mut command = Command::new("/bin/sh");
        command
            .args(["-c", script])
            .stdin(Stdio::null())
            .stdout(Stdio::null());
        command
    }

    #[test]
    fn find_needs_an_executable_file() {
        let dir = std::env::temp_dir();
        assert_eq!(
            find("sh", Some(OsStr::new("/bin"))),
            Some(PathBuf::from("/bin/sh"))
        );
        assert!(find("sh", None).is_some(), "fallback directories");
        assert_eq!(find("no-such-program", Some(dir.as_os_str())), None);
    }

    #[test]
    fn the_log_is_bounded_and_never_blocks() {
        let mut helper = Helper::spawn(
            shell("echo why >&2; head -c 1000000 /dev/zero | tr '\\0' x >&2; exit 3"),
            None,
        )
        .unwrap();
        let status = helper
            .wait(Duration::from_secs(20))
            .unwrap()
            .expect("it ends");
        assert_eq!(ended(status), "exit status 3");
        let log = helper.log();
        assert!(
            log.starts_with("why") && log.len() as u64 <= LOG_SIZE,
            "{} bytes",
            log.len()
        );
    }

    #[test]
    fn stop_kills_one_that_ignores_sigterm() {
        let (ready, theirs) = pipe().unwrap();
        let mut command = shell("trap '' TERM; echo up; while :; do sleep 1; done");
        command.stdout(Stdio::from(theirs));
        let mut helper = Helper::spawn(command, None).unwrap();
        assert!(wait_readable(ready.as_fd(), Duration::from_secs(20)).unwrap());
        assert!(helper.try_wait().unwrap().is_none());
        let status = helper.stop(Duration::from_millis(20)).unwrap();
        assert_eq!(ended(status), "killed by signal 9");
        assert!(wait_readable(helper.pidfd(), Duration::ZERO).unwrap());
    }
}
