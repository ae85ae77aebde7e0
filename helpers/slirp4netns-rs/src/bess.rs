//! slirp4netns without a namespace: Ethernet frames come and go by a sequenced-packet socket (`--target-type=bess`,
//! since 1.2), one in each message. Who connects is the wire that any number of guests may be on; slirp4netns asks for
//! their addresses by ARP, and whether these are of its own network does not matter to it.
//!
//! It listens on a socket of its own making, and makes its API socket when somebody has connected: [`Starting::finish`]
//! waits for both. There is no descriptor on which it would tell.

use std::ffi::OsString;
use std::io;
use std::net::Ipv4Addr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use helper_process::{Helper, READY, wait_readable};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};

use crate::{Error, SLIRP4NETNS, exit_pair};

/// How long it is left alone between two looks whether it listens. It takes some 5 ms.
const LOOK: Duration = Duration::from_micros(500);

/// What it is asked to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// Its own network, of which it has the addresses 2 ([`Options::host`]) and 3 ([`Options::dns`]): the first address,
    /// of a subnet of 24 bits.
    pub network: Ipv4Addr,
    /// Maximum transmission unit in bytes.
    pub mtu: u32,
    /// A mount namespace of its own, for which it needs `CAP_SYS_ADMIN` in its user namespace.
    pub sandbox: bool,
    /// Where the socket for the frames is made. At most 107 bytes.
    pub socket: PathBuf,
    /// Where the API socket is made. At most 107 bytes.
    pub api_socket: PathBuf,
}

impl Options {
    /// The address that stands for the host, whose loopback is closed.
    pub fn host(&self) -> Ipv4Addr {
        Ipv4Addr::from(u32::from(self.network) | 2)
    }

    /// The address where the host's resolver answers.
    pub fn dns(&self) -> Ipv4Addr {
        Ipv4Addr::from(u32::from(self.network) | 3)
    }

    /// The arguments, without the program's name.
    pub fn args(&self) -> Vec<OsString> {
        let with = |option: &str, path: &Path| {
            let mut arg = OsString::from(option);
            arg.push(path);
            arg
        };
        let mut args: Vec<OsString> = vec![
            "--target-type=bess".into(),
            format!("--cidr={}/24", self.network).into(),
            format!("--mtu={}", self.mtu).into(),
            "--exit-fd=1".into(),
            "--disable-host-loopback".into(),
            "--enable-seccomp".into(),
            with("--api-socket=", &self.api_socket),
        ];
        if self.sandbox {
            args.push("--enable-sandbox".into());
        }
        args.push(self.socket.clone().into());
        args
    }

    /// The command; the caller may still change it before [`spawn`].
    pub fn command(&self, program: &Path) -> Command {
        let mut command = Command::new(program);
        command.args(self.args());
        command
    }
}

/// Starts `command`, made by [`Options::command`] of these `options`. What lies at the places of its sockets is removed.
///
/// # Errors
/// [`Error::Start`].
pub fn spawn(mut command: Command, options: &Options) -> Result<Starting, Error> {
    for path in [&options.socket, &options.api_socket] {
        let _ = std::fs::remove_file(path);
    }
    let (lifeline, theirs) = exit_pair()?;
    command.stdin(Stdio::null()).stdout(Stdio::from(theirs));
    let helper = Helper::spawn(SLIRP4NETNS, command, Some(lifeline))?;
    Ok(Starting {
        helper,
        options: options.clone(),
    })
}

/// One that has been started and may or may not be ready.
#[derive(Debug)]
pub struct Starting {
    helper: Helper,
    options: Options,
}

impl Starting {
    /// Waits, at most 20 seconds, until it takes frames and requests.
    ///
    /// # Errors
    /// [`Error::Start`]; it is ended and reaped then.
    pub fn finish(mut self) -> Result<Running, Error> {
        let end = Instant::now() + READY;
        let frames = self.until(end, "connect(frames)", connect)?;
        self.until(end, "connect(API)", |options| {
            UnixStream::connect(&options.api_socket).map(drop)
        })?;
        Ok(Running {
            helper: self.helper,
            frames,
            options: self.options,
        })
    }

    /// Tries until somebody listens.
    fn until<T>(
        &mut self,
        end: Instant,
        call: &'static str,
        try_it: impl Fn(&Options) -> io::Result<T>,
    ) -> Result<T, Error> {
        let io = helper_process::Error::io;
        loop {
            match try_it(&self.options) {
                Ok(done) => return Ok(done),
                Err(e) if not_yet(&e) => {}
                Err(e) => return Err(io(call)(e).into()),
            }
            let readable = wait_readable(self.helper.end_fd(), LOOK).map_err(io("poll(helper)"))?;
            if readable && self.helper.has_ended() {
                return Err(self.helper.died().into());
            }
            if Instant::now() > end {
                return Err(self.helper.late().into());
            }
        }
    }
}

fn not_yet(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused
    )
}

fn connect(options: &Options) -> io::Result<OwnedFd> {
    let (family, kind) = (AddressFamily::UNIX, SocketType::SEQPACKET);
    let socket = rustix::net::socket_with(family, kind, SocketFlags::CLOEXEC, None)?;
    let address = SocketAddrUnix::new(&options.socket)?;
    loop {
        match rustix::net::connect(&socket, &address) {
            Err(Errno::INTR) => {}
            other => return other.map(|()| socket).map_err(io::Error::from),
        }
    }
}

/// One that is the uplink of a wire. Dropping it ends it.
#[derive(Debug)]
pub struct Running {
    helper: Helper,
    frames: OwnedFd,
    options: Options,
}

impl Running {
    /// The socket for the frames, one in each message.
    pub fn frames(&self) -> BorrowedFd<'_> {
        self.frames.as_fd()
    }

    /// What it was asked to do.
    pub fn options(&self) -> &Options {
        &self.options
    }

    /// Readable once it has died.
    pub fn end_fd(&self) -> BorrowedFd<'_> {
        self.helper.end_fd()
    }

    /// Whether it has, after that was readable.
    pub fn has_ended(&mut self) -> bool {
        self.helper.has_ended()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        for path in [&self.options.socket, &self.options.api_socket] {
            let _ = std::fs::remove_file(path);
        }
    }
}
