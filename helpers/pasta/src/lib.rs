//! Drive pasta(1) of passt: a network namespace gets the host's connectivity through a tap device,
//! without privileges.
//!
//! In order: [`Options`] become a [`Command`] with [`Options::command`]; [`spawn`] starts it and
//! returns at once; [`Starting::poll_fd`] becomes readable when pasta is ready or dead, and
//! [`Starting::finish`] tells which.
//!
//! pasta stays our child (`--foreground`): its pid is known without a file, its death shows on a
//! pidfd and its last words stay readable. Ready is told through `--pid`, which every version writes
//! at the same point, after the interface is configured and every port is bound, right before the
//! main loop; the "file" is the pipe it has as standard output, so nothing touches the disk and end
//! of file means it died before that. pasta closes descriptors above 2 on start, which is why it
//! must be this one.
//!
//! Only options that the version of March 2023 (Debian 12) has are used; they all still exist in
//! 2025's. Nothing is probed ahead: an option that a version lacks shows in [`Error::Died`].

use std::ffi::OsString;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

pub use helper_process::{Error, Forward, Proto, Starting};
use helper_process::{Helper, Program, pipe};

const PASTA: Program = Program {
    name: "pasta",
    package: "passt",
    noise: &["to syslog", "AVX2"],
};

/// Whose network namespace is connected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// The user and network namespaces of this process.
    Pid(u32),
    /// No namespace: a program at the other end of standard input takes and gives Ethernet frames, each after its
    /// length in 32 bits, big endian. The program is then to be called `passt`, and ends with that socket.
    Stream,
    /// Namespace files; without `userns` pasta stays in the caller's.
    Paths {
        /// A network namespace file.
        netns: PathBuf,
        /// The user namespace file that owns it.
        userns: Option<PathBuf>,
    },
}

/// What pasta is asked to do. [`Options::default`] gives plain outbound connectivity: both address
/// families as far as the host has them, no forwarded port, the host's loopback out of reach.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Options {
    /// Refuse IPv6 (`--ipv4-only`).
    pub no_ipv6: bool,
    /// Refuse IPv4 (`--ipv6-only`).
    pub no_ipv4: bool,
    /// Maximum transmission unit in bytes; pasta's own default is 65520.
    pub mtu: Option<u32>,
    /// The interface's name inside; pasta's own default is the host's.
    pub interface: Option<String>,
    /// The hardware address of the interface inside; pasta's own default is made up.
    pub mac: Option<[u8; 6]>,
    /// The namespace's own IPv4 address, prefix length and gateway; pasta's own default is the
    /// host's, which makes the host itself unreachable from inside.
    pub ipv4: Option<(Ipv4Addr, u8, Ipv4Addr)>,
    /// The same for IPv6, where the prefix is always of 64 bits: address and gateway.
    pub ipv6: Option<(Ipv6Addr, Ipv6Addr)>,
    /// Let the gateway's address, as seen inside, lead to the host's loopback.
    pub map_gateway: bool,
    /// Addresses (at most one of each family) at which the host's first resolver answers inside.
    pub dns_forward: Vec<IpAddr>,
    /// Published ports.
    pub forwards: Vec<Forward>,
    /// The caller is root of the initial user namespace. pasta would change to `nobody` and then be
    /// refused the namespace, which belongs to root.
    pub as_root: bool,
    /// It does not end by itself when its namespace does, only when it is told to: for one that [cannot look](may_not_look).
    pub stays: bool,
}

/// Whether it died because it could not look for the end of its namespace. A newer pasta does that as root of the container's
/// user namespace, by a directory that belongs to the caller.
pub fn may_not_look(error: &Error) -> bool {
    matches!(error, Error::Died { stderr, .. } if stderr.contains("netns dir open"))
}

/// The line that mends what pasta died of, where one is known.
pub fn hint(error: &Error) -> Option<String> {
    error.hint().or_else(|| {
        let Error::Died { stderr, .. } = error else {
            return None;
        };
        if stderr.contains("unrecognized option") || stderr.contains("invalid option") {
            return Some(
                "this pasta is older than March 2023: apt-get install --only-upgrade passt".to_owned(),
            );
        }
        // pasta shows the way of an interface of the host's, and the host has none.
        stderr.contains("No external routable interface").then(|| {
            "this machine is on no network: leave the mode out, or run with `--network slirp4netns` or `none`"
                .to_owned()
        })
    })
}

impl Options {
    /// The arguments, without the program's name.
    pub fn args(&self, target: &Target) -> Vec<OsString> {
        let mut args: Vec<OsString> = Vec::with_capacity(32);
        let mut add = |words: &[&str]| args.extend(words.iter().map(OsString::from));
        add(&["--foreground", "--quiet", "--pid", "/proc/self/fd/1"]);
        if let Target::Stream = target {
            // What the other side is told by its owner, it need not be told again.
            add(&["--fd", "0", "--no-dhcp", "--no-dhcpv6", "--no-ra"]);
        } else {
            add(&["--config-net"]);
        }
        if !self.map_gateway {
            add(&["--no-map-gw"]);
        }
        match (self.no_ipv4, self.no_ipv6) {
            (false, true) => add(&["--ipv4-only"]),
            (true, false) => add(&["--ipv6-only"]),
            _ => {}
        }
        if let Some(mtu) = self.mtu {
            add(&["--mtu", &mtu.to_string()]);
        }
        if let Some(name) = &self.interface {
            add(&["--ns-ifname", name]);
        }
        if let Some(mac) = self.mac {
            let mac = mac.map(|byte| format!("{byte:02x}")).join(":");
            add(&["--ns-mac-addr", &mac]);
        }
        if let Some((address, prefix, gateway)) = self.ipv4 {
            let (address, prefix, gateway) =
                (address.to_string(), prefix.to_string(), gateway.to_string());
            add(&[
                "--address",
                &address,
                "--netmask",
                &prefix,
                "--gateway",
                &gateway,
            ]);
        }
        if let Some((address, gateway)) = self.ipv6 {
            let (address, gateway) = (address.to_string(), gateway.to_string());
            add(&["--address", &address, "--gateway", &gateway]);
        }
        if self.as_root {
            add(&["--runas", "0:0"]);
        }
        for address in &self.dns_forward {
            add(&["--dns-forward", &address.to_string()]);
        }
        for (option, proto) in [("--tcp-ports", Proto::Tcp), ("--udp-ports", Proto::Udp)] {
            let mut any = false;
            for forward in self.forwards.iter().filter(|f| f.proto == proto) {
                add(&[option, &spec(forward)]);
                any = true;
            }
            if !any {
                add(&[option, "none"]);
            }
        }
        if let Target::Stream = target {
            return args;
        }
        if self.stays {
            add(&["--no-netns-quit"]);
        }
        // From the namespace to the host's loopback: never.
        add(&["--tcp-ns", "none", "--udp-ns", "none"]);
        let (netns, userns) = match target {
            Target::Pid(pid) => (
                PathBuf::from(format!("/proc/{pid}/ns/net")),
                Some(PathBuf::from(format!("/proc/{pid}/ns/user"))),
            ),
            Target::Stream => return args,
            Target::Paths { netns, userns } => (netns.clone(), userns.clone()),
        };
        match userns {
            Some(userns) => args.extend(["--userns".into(), userns.into_os_string()]),
            None => args.push("--netns-only".into()),
        }
        args.extend(["--netns".into(), netns.into_os_string()]);
        args
    }

    /// The command; the caller may still change it (a parent-death signal, say) before [`spawn`].
    pub fn command(&self, program: &Path, target: &Target) -> Command {
        let mut command = Command::new(program);
        command.args(self.args(target));
        command
    }
}

/// Ports in pasta's own notation: `[address/]first[-last]:first[-last]`.
fn spec(forward: &Forward) -> String {
    let range = |first: u16| match forward.count {
        0 | 1 => first.to_string(),
        count => format!("{first}-{}", first.saturating_add(count - 1)),
    };
    let ports = format!("{}:{}", range(forward.host), range(forward.target));
    match forward.address {
        Some(address) => format!("{address}/{ports}"),
        None => ports,
    }
}

/// Starts the command that [`Options::command`] made, connecting its standard streams.
///
/// # Errors
/// [`Error::Io`], [`Error::Spawn`].
pub fn spawn(command: Command) -> Result<Starting, Error> {
    start(PASTA, command, Stdio::null())
}

/// The same for [`Target::Stream`], where the program is passt(1), with the socket.
///
/// # Errors
/// [`Error::Io`], [`Error::Spawn`].
pub fn spawn_on(command: Command, stream: Stdio) -> Result<Starting, Error> {
    let name = "passt";
    start(Program { name, ..PASTA }, command, stream)
}

fn start(program: Program, mut command: Command, stream: Stdio) -> Result<Starting, Error> {
    let (ready, theirs) = pipe().map_err(Error::io("pipe2(O_CLOEXEC)"))?;
    command.stdin(stream).stdout(Stdio::from(theirs));
    let helper = Helper::spawn(program, command, None)?;
    Ok(Starting::new(helper, ready))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(options: &Options, target: &Target) -> String {
        let args = options.args(target);
        args.iter()
            .map(|a| a.to_string_lossy())
            .collect::<Vec<_>>()
            .join(" ")
    }

    #[test]
    fn nothing_is_forwarded_by_default() {
        assert_eq!(
            words(&Options::default(), &Target::Pid(7)),
            "--foreground --quiet --pid /proc/self/fd/1 --config-net --no-map-gw \
             --tcp-ports none --udp-ports none --tcp-ns none --udp-ns none \
             --userns /proc/7/ns/user --netns /proc/7/ns/net"
        );
        let target = Target::Paths {
            netns: "/run/netns/a b".into(),
            userns: None,
        };
        assert!(
            words(&Options::default(), &target).ends_with("--netns-only --netns /run/netns/a b")
        );
    }

    #[test]
    fn ports_and_addresses() {
        let forward = |proto, address: Option<&str>, host, target, count| Forward {
            proto,
            address: address.map(|a| a.parse().unwrap()),
            host,
            target,
            count,
        };
        let options = Options {
            forwards: vec![
                forward(Proto::Tcp, Some("127.0.0.1"), 8080, 80, 1),
                forward(Proto::Tcp, Some("::1"), 8000, 9000, 11),
                forward(Proto::Udp, None, 53, 53, 1),
            ],
            dns_forward: vec!["169.254.1.1".parse().unwrap()],
            interface: Some("eth0".into()),
            as_root: true,
            no_ipv6: true,
            mtu: Some(1500),
            ..Options::default()
        };
        let words = words(&options, &Target::Pid(7));
        for part in [
            "--tcp-ports 127.0.0.1/8080:80 --tcp-ports ::1/8000-8010:9000-9010 --udp-ports 53:53",
            "--dns-forward 169.254.1.1",
            "--ns-ifname eth0",
            "--runas 0:0",
            "--ipv4-only --mtu 1500",
        ] {
            assert!(words.contains(part), "{part} in {words}");
        }
    }

    #[test]
    fn a_program_that_dies_early_is_told_with_its_words() {
        let mut command = Command::new("/bin/sh");
        command.args([
            "-c",
            "echo 'sent to syslog' >&2; echo 'no route' >&2; exit 1",
        ]);
        let error = spawn(command).unwrap().finish().unwrap_err();
        let expected = "`pasta` ended before the network was ready: exit status 1: no route";
        assert_eq!(error.to_string(), expected);
        let error = spawn(Command::new("/no/such/pasta")).unwrap_err();
        assert_eq!(hint(&error).as_deref(), Some("apt-get install passt"));
    }

    #[test]
    fn hints() {
        let of = |stderr: &str| {
            let (name, status, stderr) = ("pasta", String::new(), stderr.to_owned());
            hint(&Error::Died {
                name,
                status,
                stderr,
            })
        };
        for (stderr, part) in [
            ("/dev/net/tun: No such file", "modprobe tun"),
            ("pasta: unrecognized option '--x'", "--only-upgrade passt"),
            ("No external routable interface for IPv4", "on no network"),
        ] {
            assert!(of(stderr).unwrap().contains(part), "{stderr}");
        }
        assert_eq!(of("whatever"), None);
    }
}
