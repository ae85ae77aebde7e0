//! Drive slirp4netns(1): user-mode TCP/IP for a network namespace, where pasta is not to be had.
//!
//! In order: [`Options`] become a [`Command`] with [`Options::command`]; [`spawn`] starts it and
//! returns at once; [`Starting::poll_fd`] becomes readable when slirp4netns is ready or dead;
//! [`Starting::finish`] tells which, and publishes the ports through the API socket.
//!
//! Its descriptors: 0 is the write end of a pipe, given as `--ready-fd`, on which a byte arrives when
//! the interface is configured; 1 is one end of a socket pair, given as `--exit-fd`, so that it ends
//! when we do, however we end (its few printed words rest in the socket unread); 2 is a log.
//!
//! Needs slirp4netns 1.1 or newer (all of `--enable-ipv6`, `--enable-sandbox`, `--enable-seccomp`,
//! `--userns-path`); nothing is probed ahead, a missing option shows in [`helper_process::Error::Died`].

mod api;
pub mod bess;

pub use api::{Call, Request};

use std::ffi::OsString;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};

pub use helper_process::{Forward, Proto};
use helper_process::{Helper, Program, pipe, socketpair};

const SLIRP4NETNS: Program = Program {
    name: "slirp4netns",
    package: "slirp4netns",
    noise: &["WARNING: Support for"],
};

/// Where the host's resolver answers inside (slirp4netns(1), default of `--cidr`).
pub const DNS: Ipv4Addr = Ipv4Addr::new(10, 0, 2, 3);
/// The same in IPv6, with [`Options::ipv6`].
pub const DNS6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 3);
/// The namespace's own address.
pub const GUEST: Ipv4Addr = Ipv4Addr::new(10, 0, 2, 100);
/// The address inside that stands for the host (its loopback stays closed unless asked for).
pub const GATEWAY: Ipv4Addr = Ipv4Addr::new(10, 0, 2, 2);

/// Whose network namespace is connected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// The user and network namespaces of this process.
    Pid(u32),
    /// A network namespace file, joined from the caller's user namespace. Without sandbox:
    /// slirp4netns 1.2 cannot enter one when it is not told a process.
    Path(PathBuf),
}

/// What slirp4netns is asked to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// Give the namespace an IPv6 address too.
    pub ipv6: bool,
    /// Maximum transmission unit in bytes; 65520 is the fastest.
    pub mtu: u32,
    /// The interface's name inside.
    pub interface: String,
    /// The interface's hardware address; slirp4netns' own default is made up.
    pub mac: Option<[u8; 6]>,
    /// Let 10.0.2.2 lead to the host's loopback.
    pub host_loopback: bool,
    /// A mount namespace of its own, and a seccomp filter.
    pub sandbox: bool,
    /// Where the API socket is made; needed to publish ports. At most 107 bytes.
    pub api_socket: Option<PathBuf>,
    /// Published ports. IPv6 addresses are refused: libslirp's forwarding is IPv4 only here.
    pub forwards: Vec<Forward>,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            ipv6: false,
            mtu: 65_520,
            interface: "tap0".to_owned(),
            mac: None,
            host_loopback: false,
            sandbox: true,
            api_socket: None,
            forwards: Vec::new(),
        }
    }
}

/// Why slirp4netns does not run.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It cannot be started, or ended before it was ready.
    #[error(transparent)]
    Start(#[from] helper_process::Error),
    /// Ports were asked for without an API socket.
    #[error("publishing ports through `slirp4netns` needs an API socket path")]
    NoApiSocket,
    /// libslirp forwards IPv4 only.
    #[error("`slirp4netns` cannot publish a port on the IPv6 address `{0}`")]
    Ipv6Forward(IpAddr),
    /// Talking to the API socket failed.
    #[error("slirp4netns API socket `{}`", path.display())]
    Api {
        /// The socket.
        path: PathBuf,
        /// What connect(2), write(2) or read(2) said.
        source: io::Error,
    },
    /// A port could not be published.
    #[error("`slirp4netns` refused to publish port {address}:{port}: {reason}")]
    Refused {
        /// The host's address.
        address: Ipv4Addr,
        /// The host's port.
        port: u16,
        /// Its answer.
        reason: String,
    },
}

impl Error {
    /// The line that mends it, where one is known.
    pub fn hint(&self) -> Option<String> {
        match self {
            Error::Start(helper_process::Error::Died { stderr, .. })
                if stderr.contains("unrecognized option") =>
            {
                let version = match stderr.contains("target-type") {
                    true => "1.2",
                    false => "1.1",
                };
                Some(format!(
                    "this slirp4netns is older than {version}: apt-get install --only-upgrade slirp4netns"
                ))
            }
            Error::Start(error) => error.hint(),
            Error::Ipv6Forward(_) => Some("use pasta: apt-get install passt".to_owned()),
            _ => None,
        }
    }
}

impl Options {
    /// The arguments, without the program's name.
    pub fn args(&self, target: &Target) -> Vec<OsString> {
        let mut args: Vec<OsString> = vec![
            "--configure".into(),
            format!("--mtu={}", self.mtu).into(),
            "--ready-fd=0".into(),
            "--exit-fd=1".into(),
        ];
        if !self.host_loopback {
            args.push("--disable-host-loopback".into());
        }
        if let Some(mac) = self.mac {
            let mac = mac.map(|byte| format!("{byte:02x}")).join(":");
            args.push(format!("--macaddress={mac}").into());
        }
        if self.ipv6 {
            args.push("--enable-ipv6".into());
        }
        if self.sandbox && matches!(target, Target::Pid(_)) {
            args.push("--enable-sandbox".into());
        }
        if self.sandbox {
            args.push("--enable-seccomp".into());
        }
        if let Some(socket) = &self.api_socket {
            let mut arg = OsString::from("--api-socket=");
            arg.push(socket);
            args.push(arg);
        }
        match target {
            // Root of the initial namespace does not join the user namespace unless told which.
            Target::Pid(pid) => args.extend([
                format!("--userns-path=/proc/{pid}/ns/user").into(),
                pid.to_string().into(),
            ]),
            Target::Path(path) => args.extend(["--netns-type=path".into(), path.into()]),
        }
        args.push(OsString::from(&self.interface));
        args
    }

    /// The command; the caller may still change it before [`spawn`].
    pub fn command(&self, program: &Path, target: &Target) -> Command {
        let mut command = Command::new(program);
        command.args(self.args(target));
        command
    }

    /// The API requests for the forwards, refused here rather than after the start.
    fn requests(&self) -> Result<Vec<api::Request>, Error> {
        if !self.forwards.is_empty() && self.api_socket.is_none() {
            return Err(Error::NoApiSocket);
        }
        requests(&self.forwards, None)
    }
}

/// The single requests of which forwards consist, all to the ports of `guest`.
///
/// # Errors
/// [`Error::Ipv6Forward`].
pub fn requests(forwards: &[Forward], guest: Option<Ipv4Addr>) -> Result<Vec<Request>, Error> {
    let mut requests = Vec::new();
    for forward in forwards {
        let address = match forward.address {
            None => Ipv4Addr::UNSPECIFIED,
            Some(IpAddr::V4(address)) => address,
            Some(address) => return Err(Error::Ipv6Forward(address)),
        };
        for offset in 0..forward.count.max(1) {
            requests.push(Request {
                proto: forward.proto,
                address,
                port: forward.host.saturating_add(offset),
                guest,
                target: forward.target.saturating_add(offset),
            });
        }
    }
    Ok(requests)
}

/// Starts `command`, made by [`Options::command`] of these `options`.
///
/// # Errors
/// [`Error::NoApiSocket`], [`Error::Ipv6Forward`], [`Error::Start`].
pub fn spawn(mut command: Command, options: &Options) -> Result<Starting, Error> {
    let requests = options.requests()?;
    let (ready, theirs) = pipe().map_err(helper_process::Error::io("pipe2(O_CLOEXEC)"))?;
    let (lifeline, their_end) = exit_pair()?;
    command
        .stdin(Stdio::from(theirs))
        .stdout(Stdio::from(their_end));
    let helper = Helper::spawn(SLIRP4NETNS, command, Some(lifeline))?;
    Ok(Starting {
        starting: helper_process::Starting::new(helper, ready),
        requests,
        api_socket: options.api_socket.clone(),
    })
}

/// A pair of sockets of which `--exit-fd` is given the second.
fn exit_pair() -> Result<(OwnedFd, OwnedFd), helper_process::Error> {
    socketpair().map_err(helper_process::Error::io(
        "socketpair(AF_UNIX, SOCK_STREAM)",
    ))
}

/// A slirp4netns that has been started and may or may not be ready.
#[derive(Debug)]
pub struct Starting {
    starting: helper_process::Starting,
    requests: Vec<api::Request>,
    api_socket: Option<PathBuf>,
}

impl Starting {
    /// Readable (or hung up) when [`Starting::finish`] will not wait for the start.
    pub fn poll_fd(&self) -> BorrowedFd<'_> {
        self.starting.poll_fd()
    }

    /// Waits, at most 20 seconds, until the namespace is connected, then publishes the ports.
    ///
    /// # Errors
    /// [`Error::Start`], [`Error::Api`], [`Error::Refused`]; slirp4netns is ended and reaped then.
    pub fn finish(self) -> Result<Running, Error> {
        let running = Running {
            helper: self.starting.finish()?,
            api_socket: self.api_socket,
        };
        if let Some(socket) = &running.api_socket {
            for request in &self.requests {
                api::add_hostfwd(socket, request)?;
            }
        }
        Ok(running)
    }
}

/// A slirp4netns that serves its namespace. Dropping it ends it.
#[derive(Debug)]
pub struct Running {
    helper: Helper,
    api_socket: Option<PathBuf>,
}

impl Running {
    /// Readable once slirp4netns may have died.
    pub fn end_fd(&self) -> BorrowedFd<'_> {
        self.helper.end_fd()
    }

    /// Whether it has, after that was readable.
    pub fn has_ended(&mut self) -> bool {
        self.helper.has_ended()
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.helper.pid()
    }

    /// What it wrote to standard error, to tell why it died.
    pub fn log(&self) -> String {
        self.helper.log()
    }

    /// How it ended, if it has, without waiting.
    ///
    /// # Errors
    /// Those of waitpid(2).
    pub fn try_wait(&mut self) -> io::Result<Option<ExitStatus>> {
        self.helper.try_wait()
    }

    /// Ends and reaps it, and removes its API socket.
    ///
    /// # Errors
    /// Those of waitpid(2).
    pub fn stop(mut self) -> io::Result<ExitStatus> {
        self.helper.stop()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(socket) = &self.api_socket {
            let _ = std::fs::remove_file(socket);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments() {
        let options = Options {
            ipv6: true,
            api_socket: Some("/run/user/1/s".into()),
            ..Options::default()
        };
        let words = |target: &Target| {
            let args = options.args(target);
            args.iter()
                .map(|a| a.to_string_lossy())
                .collect::<Vec<_>>()
                .join(" ")
        };
        assert_eq!(
            words(&Target::Pid(7)),
            "--configure --mtu=65520 --ready-fd=0 --exit-fd=1 --disable-host-loopback --enable-ipv6 \
             --enable-sandbox --enable-seccomp --api-socket=/run/user/1/s \
             --userns-path=/proc/7/ns/user 7 tap0"
        );
        assert!(words(&Target::Path("/run/n".into())).ends_with("--netns-type=path /run/n tap0"));
    }

    #[test]
    fn ranges_become_single_requests_and_ipv6_is_refused_before_the_start() {
        let forward = |address: Option<&str>| Forward {
            proto: Proto::Udp,
            address: address.map(|a| a.parse().unwrap()),
            host: 8000,
            target: 80,
            count: 3,
        };
        let mut options = Options {
            forwards: vec![forward(None)],
            ..Options::default()
        };
        assert!(matches!(options.requests(), Err(Error::NoApiSocket)));
        options.api_socket = Some("/tmp/s".into());
        let ports: Vec<_> = options
            .requests()
            .unwrap()
            .iter()
            .map(|r| (r.port, r.target))
            .collect();
        assert_eq!(ports, [(8000, 80), (8001, 81), (8002, 82)]);
        options.forwards = vec![forward(Some("::1"))];
        assert!(matches!(options.requests(), Err(Error::Ipv6Forward(_))));
    }

    #[test]
    fn a_program_that_dies_early_is_told_with_its_words() {
        let mut command = Command::new("/bin/sh");
        command.args([
            "-c",
            "echo 'WARNING: Support for x'>&2; echo 'open: no tun' >&2; exit 1",
        ]);
        let error = spawn(command, &Options::default())
            .unwrap()
            .finish()
            .unwrap_err();
        let expected =
            "`slirp4netns` ended before the network was ready: exit status 1: open: no tun";
        assert_eq!(error.to_string(), expected);
    }
}
