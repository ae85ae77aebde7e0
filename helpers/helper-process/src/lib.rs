//! What every driver of an external program needs: finding it, its log, its ready signal, its death.
//!
//! In order: [`find`] gives the absolute path of a program; the driver crate makes a [`Command`] of
//! it, connects its standard input and output, and hands it to [`Helper::spawn`], which keeps its standard error and holds a
//! pidfd from the first moment on. [`Starting`] is one that says on a [`pipe`] when it is ready. Whoever watches the
//! helper polls [`Helper::end_fd`], and asks [`Helper::has_ended`]; [`Helper::stop`] ends and reaps it.

pub mod packages;

use std::ffi::OsStr;
use std::io;
use std::net::IpAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{Access, MemfdFlags, SealFlags, access};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal, kill_process, pidfd_open, pidfd_send_signal};
use rustix::time::{Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags};

/// Directories that are looked into after those of PATH: a login shell of an unprivileged user often
/// lacks the `sbin` ones.
const FALLBACK: [&str; 5] = ["/usr/bin", "/usr/sbin", "/usr/local/bin", "/bin", "/sbin"];

/// How much of a helper's standard error is kept, in bytes. What comes after is refused to the
/// helper (EPERM), so that a talkative one can neither fill memory nor block.
const LOG_SIZE: u64 = 32 * 1024;

/// How long a helper may take to be ready. It takes some 10 ms; a machine under load, seconds.
pub const READY: Duration = Duration::from_secs(20);
/// How long it may take to end after SIGTERM.
const GRACE: Duration = Duration::from_secs(2);
/// How long after SIGKILL.
const KILLED: Duration = Duration::from_secs(2);

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
struct Log(OwnedFd);

impl Log {
    /// An empty one.
    ///
    /// # Errors
    /// Those of memfd_create(2), ftruncate(2) and of sealing.
    fn new() -> io::Result<Self> {
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

    /// A handle for [`Command::stderr`].
    ///
    /// # Errors
    /// When the descriptor cannot be duplicated.
    fn stdio(&self) -> io::Result<Stdio> {
        Ok(Stdio::from(self.0.try_clone()?))
    }

    /// What was written so far, without surrounding white space.
    fn text(&self) -> String {
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

/// What is told of a program when it does not run.
#[derive(Clone, Copy, Debug)]
pub struct Program {
    /// Its name.
    pub name: &'static str,
    /// The package that has it.
    pub package: &'static str,
    /// What the lines of its standard error have in them that say nothing about its end.
    pub noise: &'static [&'static str],
}

/// Why a helper does not run.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A pipe, memory file or pidfd could not be made, or polling failed.
    #[error("{call}")]
    Io {
        /// The call with its arguments.
        call: &'static str,
        /// What it said.
        source: io::Error,
    },
    /// The program could not be executed.
    #[error("spawn(`{}`)", file.display())]
    Spawn {
        /// The program file.
        file: PathBuf,
        /// The package that has it.
        package: &'static str,
        /// What execve(2) said.
        source: io::Error,
    },
    /// It ended before it was ready.
    #[error(
        "`{name}` ended before the network was ready: {status}{}",
        said(stderr)
    )]
    Died {
        /// The program's name.
        name: &'static str,
        /// How it ended.
        status: String,
        /// What it wrote to standard error.
        stderr: String,
    },
    /// It was not ready in time; it has been stopped.
    #[error("`{name}` was not ready after {} seconds{}", READY.as_secs(), said(stderr))]
    Timeout {
        /// The program's name.
        name: &'static str,
        /// What it wrote to standard error.
        stderr: String,
    },
}

/// The tail of a message: what the program said, on one line.
fn said(stderr: &str) -> String {
    match stderr {
        "" => String::new(),
        lines => format!(": {}", lines.replace('\n', "; ")),
    }
}

impl Error {
    /// A call that failed.
    pub fn io(call: &'static str) -> impl Fn(io::Error) -> Error {
        move |source| Error::Io { call, source }
    }

    /// The line that mends it, where that is the same for all programs.
    pub fn hint(&self) -> Option<String> {
        match self {
            Error::Spawn { package, .. } => Some(packages::install(package)),
            Error::Died { stderr, .. } if stderr.contains(TUN.path) => {
                Some(format!("as root: modprobe tun; chmod 0666 {}", TUN.path))
            }
            _ => None,
        }
    }
}

/// How the end of a helper is noticed.
#[derive(Debug)]
enum End {
    /// A pidfd.
    Pidfd(OwnedFd),
    /// Where pidfd_open(2) is missing, or a filter refuses it: a timer that says every second that somebody should look.
    Timer(OwnedFd),
}

impl End {
    fn of(pid: Pid) -> io::Result<End> {
        match pidfd_open(pid, PidfdFlags::empty()) {
            Ok(pidfd) => Ok(End::Pidfd(pidfd)),
            Err(Errno::NOSYS | Errno::PERM) => Ok(End::Timer(every_second()?)),
            Err(errno) => Err(errno.into()),
        }
    }

    fn fd(&self) -> BorrowedFd<'_> {
        match self {
            End::Pidfd(fd) | End::Timer(fd) => fd.as_fd(),
        }
    }
}

fn every_second() -> io::Result<OwnedFd> {
    let flags = TimerfdFlags::CLOEXEC | TimerfdFlags::NONBLOCK;
    let timer = rustix::time::timerfd_create(TimerfdClockId::Monotonic, flags)?;
    let second = Timespec {
        tv_sec: 1,
        tv_nsec: 0,
    };
    let every = Itimerspec {
        it_interval: second,
        it_value: second,
    };
    rustix::time::timerfd_settime(&timer, TimerfdTimerFlags::empty(), &every)?;
    Ok(timer)
}

/// A running helper. Dropping it kills and reaps it: none outlives its owner by mistake.
#[derive(Debug)]
pub struct Helper {
    program: Program,
    child: Child,
    end: End,
    log: Log,
    /// Ends of pipes whose closing tells the helper to exit.
    lifeline: Option<OwnedFd>,
    status: Option<ExitStatus>,
}

impl Helper {
    /// Spawns `command`, which runs `program`, with a log for its standard error. `lifeline` is kept open
    /// as long as the helper is wanted.
    ///
    /// # Errors
    /// [`Error::Spawn`], [`Error::Io`].
    pub fn spawn(
        program: Program,
        mut command: Command,
        lifeline: Option<OwnedFd>,
    ) -> Result<Self, Error> {
        let log = Log::new().map_err(Error::io("memfd_create(helper-log)"))?;
        command.stderr(log.stdio().map_err(Error::io("fcntl(F_DUPFD)"))?);
        let mut child = command.spawn().map_err(|source| Error::Spawn {
            file: command.get_program().into(),
            package: program.package,
            source,
        })?;
        // The child is not reaped yet, so its number cannot belong to anyone else.
        let end = match End::of(Pid::from_child(&child)) {
            Ok(end) => end,
            Err(source) => {
                let _ = child.kill();
                let _ = child.wait();
                return Err(Error::io("pidfd_open()")(source));
            }
        };
        Ok(Helper {
            program,
            child,
            end,
            log,
            lifeline,
            status: None,
        })
    }

    /// Readable (POLLIN) once the helper has died; where no pidfd can be had, also now and then before, so that
    /// [`Helper::has_ended`] is to be asked.
    pub fn end_fd(&self) -> BorrowedFd<'_> {
        self.end.fd()
    }

    /// Whether it has died, after [`Helper::end_fd`] was readable.
    pub fn has_ended(&mut self) -> bool {
        if let End::Timer(timer) = &self.end {
            let _ = rustix::io::read(timer, &mut [0u8; 8]);
        }
        !matches!(self.try_wait(), Ok(None))
    }

    /// Its process id, valid until it is reaped.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What it wrote to its standard error so far, without empty lines and [noise](Program::noise).
    pub fn log(&self) -> String {
        let text = self.log.text();
        let is_noise = |line: &str| self.program.noise.iter().any(|part| line.contains(part));
        let lines = text
            .lines()
            .filter(|line| !line.trim().is_empty() && !is_noise(line));
        lines.collect::<Vec<_>>().join("\n")
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
        let deadline = Instant::now() + limit;
        match &self.end {
            End::Pidfd(pidfd) if self.status.is_none() => {
                wait_readable(pidfd.as_fd(), limit)?;
            }
            End::Pidfd(_) => {}
            End::Timer(_) => {
                // Not by nanosleep(2), which not every filter lets through.
                let moment = Timespec {
                    tv_sec: 0,
                    tv_nsec: 5_000_000,
                };
                while self.try_wait()?.is_none() && Instant::now() < deadline {
                    let _ = poll(&mut [], Some(&moment));
                }
            }
        }
        self.try_wait()
    }

    /// Sends a signal to one that is not reaped.
    fn signal(&self, signal: Signal) {
        let sent = match &self.end {
            End::Pidfd(pidfd) => pidfd_send_signal(pidfd, signal),
            End::Timer(_) => Err(Errno::NOSYS),
        };
        if let Err(Errno::NOSYS | Errno::PERM) = sent {
            let _ = kill_process(Pid::from_child(&self.child), signal);
        }
    }

    /// Ends it: SIGTERM, after two seconds SIGKILL, and reaps it. Ending a dead one is no error.
    ///
    /// # Errors
    /// Those of waitpid(2), and [`io::ErrorKind::TimedOut`]: it may not be signalled, as where AppArmor confines it, and does
    /// not end by itself.
    pub fn stop(&mut self) -> io::Result<ExitStatus> {
        self.end(GRACE)
    }

    fn end(&mut self, grace: Duration) -> io::Result<ExitStatus> {
        self.lifeline = None;
        if let Some(status) = self.try_wait()? {
            return Ok(status);
        }
        self.signal(Signal::TERM);
        if let Some(status) = self.wait(grace)? {
            return Ok(status);
        }
        self.signal(Signal::KILL);
        self.wait(KILLED)?.ok_or(io::ErrorKind::TimedOut.into())
    }

    /// The error of one that has ended, or is about to, before it was ready.
    pub fn died(&mut self) -> Error {
        match self.stop() {
            Ok(status) => Error::Died {
                name: self.program.name,
                status: ended(status),
                stderr: self.log(),
            },
            Err(source) => Error::io("waitpid(helper)")(source),
        }
    }

    /// The error of one that is not ready in time, which is ended.
    pub fn late(&mut self) -> Error {
        let _ = self.end(Duration::ZERO);
        Error::Timeout {
            name: self.program.name,
            stderr: self.log(),
        }
    }
}

impl Drop for Helper {
    fn drop(&mut self) {
        if self.status.is_none() {
            let _ = self.end(Duration::from_millis(100));
        }
    }
}

/// A helper that has been started and may or may not be ready. It writes to a pipe when it is.
#[derive(Debug)]
pub struct Starting {
    helper: Helper,
    ready: OwnedFd,
}

impl Starting {
    /// With the read end of the pipe, of which nobody but the helper has the other.
    pub fn new(helper: Helper, ready: OwnedFd) -> Self {
        Starting { helper, ready }
    }

    /// Readable (or hung up) when [`Starting::finish`] will not wait.
    pub fn poll_fd(&self) -> BorrowedFd<'_> {
        self.ready.as_fd()
    }

    /// Waits, at most 20 seconds, until it is ready.
    ///
    /// # Errors
    /// [`Error::Died`], [`Error::Timeout`], [`Error::Io`]; it is ended and reaped then.
    pub fn finish(mut self) -> Result<Helper, Error> {
        if !wait_readable(self.ready.as_fd(), READY).map_err(Error::io("poll(ready)"))? {
            return Err(self.helper.late());
        }
        let mut buffer = [0u8; 32];
        loop {
            match rustix::io::read(&self.ready, &mut buffer) {
                Ok(0) => return Err(self.helper.died()),
                Ok(_) => return Ok(self.helper),
                Err(Errno::INTR) => {}
                Err(errno) => return Err(Error::io("read(ready)")(errno.into())),
            }
        }
    }
}

/// TCP or UDP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Proto {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
}

/// Ports of the host that lead into a network namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Forward {
    /// TCP or UDP.
    pub proto: Proto,
    /// The host's address to bind, or all of them.
    pub address: Option<IpAddr>,
    /// The first port on the host.
    pub host: u16,
    /// The first port in the namespace.
    pub target: u16,
    /// How many consecutive ports, at least 1.
    pub count: u16,
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
mod tests;
