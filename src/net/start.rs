//! Running the helper: one shape for pasta, passt, slirp4netns, and the switch of a network with a name.
//!
//! With pasta, the container has the host's own address, so that the host itself cannot be reached
//! by it. Where `host-gateway` is asked for, the container gets slirp4netns' addresses instead, and
//! the host's address leads to the host; its loopback stays closed in either case.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, UdpSocket};
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::process::{Command, ExitStatus};

use helper_process::{Forward, Helper};
use rustix::process::{Pid, PidfdFlags};

use super::choose::{has_ipv4, has_ipv6};
use super::member::{self, Member};
use super::pump::Pump;
use crate::sys::process::{self, Fork, Namespaces, exit_now};
use crate::sys::wire::{Address, Interface, Kind, MAC, add_address, enlarge_queues};

use super::{Choice, Error, Link, Mode, PASTA_DNS, PASTA_DNS6, Proto, Reserved};

/// What the helper is asked to do.
#[derive(Clone, Debug)]
pub struct Request<'a> {
    /// A process in the container's user and network namespaces, as seen from here.
    pub pid: u32,
    /// The published ports.
    pub ports: &'a [Reserved],
    /// [`super::Resolver::forward`].
    pub forward_dns: bool,
    /// The host is to be reachable by its own address.
    pub host_gateway: bool,
    /// Where slirp4netns makes its API socket: a path of at most 107 bytes in a directory of ours; a
    /// relative one stays valid for as long as the working directory does.
    pub api_socket: PathBuf,
    /// The caller is root of the initial user namespace.
    pub as_root: bool,
    /// Root inside is not the caller.
    pub other_root: bool,
    /// The hardware address of the container's interface, if it is asked for.
    pub mac: Option<[u8; 6]>,
    /// Who the container is on its network with a name.
    pub member: Option<&'a Member>,
    /// [`super::switch::Setup::apart`].
    pub apart: fn(&str),
}

/// The addresses of /etc/hosts: (the container's own, the one by which it reaches the host).
pub fn addresses(mode: Mode, host_gateway: bool) -> (Option<IpAddr>, Option<IpAddr>) {
    let slirp = Some(IpAddr::V4(slirp4netns_rs::GUEST));
    match mode {
        Mode::None => (None, None),
        Mode::Host => (None, Some(IpAddr::V4(Ipv4Addr::LOCALHOST))),
        // What a member has for itself is known elsewhere.
        Mode::Named => (None, host_address()),
        Mode::Slirp4netns | Mode::Passt => (slirp, host_address()),
        Mode::Pasta if host_gateway => (slirp, host_address()),
        Mode::Pasta => (host_address(), None),
    }
}

/// The container's IPv6 address and gateway with passt, to which any address is a gateway, and with slirp4netns.
const WIRE6: (Ipv6Addr, Ipv6Addr) = (
    Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 0x100),
    Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 2),
);

/// The same for an interface.
fn ipv6() -> Address {
    Address {
        own: WIRE6.0.into(),
        prefix: 64,
        gateway: Some(WIRE6.1.into()),
    }
}

/// The interface's maximum transmission unit in bytes with passt. Without scatter-gather, which goes with checksums, a
/// frame is one block of memory with some 600 bytes of the kernel's own in it, rounded up to a power of two: of 65520
/// bytes, the most that passt takes, the packet socket's queue would hold one or two.
const WIRE_MTU: u32 = 32000;

/// The interface that the container makes itself with passt: it has the addresses of slirp4netns, in the families that
/// the host has. `mac` is asked for.
pub fn wire(mac: Option<[u8; 6]>) -> Interface {
    let (own, gateway) = (slirp4netns_rs::GUEST.into(), slirp4netns_rs::GATEWAY.into());
    let ipv4 = Address {
        own,
        prefix: 24,
        gateway: Some(gateway),
    };
    let all = [has_ipv4().then_some(ipv4), has_ipv6().then(ipv6)];
    Interface {
        kind: Kind::Pair,
        mac: mac.unwrap_or(MAC),
        mtu: WIRE_MTU,
        addresses: all.into_iter().flatten().collect(),
    }
}

/// The address that the host would use towards the world: connecting a UDP socket asks the routing
/// table and sends nothing. The destinations are documentation addresses (RFC 5737, RFC 3849).
fn host_address() -> Option<IpAddr> {
    let towards = |bind: &str, to: &str| {
        let socket = UdpSocket::bind(bind).ok()?;
        socket.connect(to).ok()?;
        let address = socket.local_addr().ok()?.ip();
        (!address.is_loopback() && !address.is_unspecified()).then_some(address)
    };
    towards("0.0.0.0:0", "198.51.100.1:9").or_else(|| towards("[::]:0", "[2001:db8::1]:9"))
}

/// Starts the helper of `choice`; `None` where there is none to start. `prepare` may change the
/// command before it is run (a parent-death signal, say).
///
/// # Errors
/// [`Error::NoPublish`], [`Error::Pasta`], [`Error::Slirp`], [`Error::Switch`].
pub fn start(
    choice: &Choice,
    request: &Request<'_>,
    prepare: &mut dyn FnMut(&mut Command),
) -> Result<Option<Starting>, Error> {
    match &choice.link {
        Link::None | Link::Host if !request.ports.is_empty() => {
            Err(Error::NoPublish(choice.mode()))
        }
        Link::None | Link::Host => Ok(None),
        Link::Named(uplink) => {
            let Some(member) = request.member else {
                return Ok(None);
            };
            let starting = member::Starting::new(member, uplink.as_deref(), request)?;
            Ok(Some(Starting::Named(starting)))
        }
        Link::Pasta(program) => {
            let mut command = |stays| {
                let options = pasta::Options {
                    stays,
                    ..pasta_options(request)
                };
                let mut command = options.command(program, &pasta::Target::Pid(request.pid));
                prepare(&mut command);
                command
            };
            let starting = pasta::spawn(command(false)).map_err(Box::new)?;
            let other = request.other_root.then(|| Box::new(command(true)));
            Ok(Some(Starting::Pasta(starting, other)))
        }
        Link::Passt(program) => {
            let (ours, theirs) = helper_process::socketpair().map_err(Error::Pump)?;
            enlarge_queues(ours.as_fd());
            enlarge_queues(theirs.as_fd());
            let mut options = pasta_options(request);
            (options.interface, options.mac) = (None, None);
            let address = (slirp4netns_rs::GUEST, 24, slirp4netns_rs::GATEWAY);
            options.ipv4 = has_ipv4().then_some(address);
            options.ipv6 = has_ipv6().then_some(WIRE6);
            (options.no_ipv4, options.no_ipv6) = (!has_ipv4(), !has_ipv6());
            let mut command = options.command(program, &pasta::Target::Stream);
            prepare(&mut command);
            let starting = pasta::spawn_on(command, theirs.into()).map_err(Box::new)?;
            Ok(Some(Starting::Passt(
                starting,
                Pump::new(ours, request.mac.unwrap_or(MAC)),
            )))
        }
        Link::Slirp4netns(program) => {
            let options = slirp_options(request);
            let target = slirp4netns_rs::Target::Pid(request.pid);
            let mut command = options.command(program, &target);
            prepare(&mut command);
            let starting = slirp4netns_rs::spawn(command, &options).map_err(Box::new)?;
            let guest = options.ipv6.then(|| guest(request.pid)).flatten();
            Ok(Some(Starting::Slirp(starting, guest)))
        }
    }
}

fn pasta_options(request: &Request<'_>) -> pasta::Options {
    pasta::Options {
        // Images expect the first interface to be eth0; the host's may be `wlp3s0`.
        interface: Some("eth0".to_owned()),
        dns_forward: match request.forward_dns {
            true => vec![IpAddr::V4(PASTA_DNS), IpAddr::V6(PASTA_DNS6)],
            false => Vec::new(),
        },
        ipv4: request
            .host_gateway
            .then_some((slirp4netns_rs::GUEST, 24, slirp4netns_rs::GATEWAY)),
        forwards: request.ports.iter().map(forward).collect(),
        as_root: request.as_root,
        mac: request.mac,
        ..pasta::Options::default()
    }
}

/// A published port in the words of the drivers.
pub(super) fn forward(port: &Reserved) -> Forward {
    Forward {
        proto: match port.proto {
            Proto::Tcp => helper_process::Proto::Tcp,
            Proto::Udp => helper_process::Proto::Udp,
        },
        address: port.host_ip,
        host: port.host.first,
        target: port.container.first,
        count: port.host.count,
    }
}

fn slirp_options(request: &Request<'_>) -> slirp4netns_rs::Options {
    let forwards: Vec<_> = request.ports.iter().map(forward).collect();
    slirp4netns_rs::Options {
        ipv6: has_ipv6() || request.forward_dns,
        api_socket: (!forwards.is_empty()).then(|| request.api_socket.clone()),
        forwards,
        mac: request.mac,
        ..slirp4netns_rs::Options::default()
    }
}

/// The process of this number; `None` on a kernel without pidfd_open(2).
fn guest(pid: u32) -> Option<OwnedFd> {
    let pid = Pid::from_raw(i32::try_from(pid).ok()?)?;
    rustix::process::pidfd_open(pid, PidfdFlags::empty()).ok()
}

/// slirp4netns leaves IPv6 to its router advertisements, for which the kernel asks a second or more after the interface
/// is up: the container's command would start without. An address of the same network, and the same way, are given here
/// at once. What the advertisements give comes beside them later.
fn give_ipv6(guest: &OwnedFd) {
    let interface = slirp4netns_rs::Options::default().interface;
    match process::fork(Namespaces::empty()) {
        Ok(Fork::Parent(child)) => drop(child.wait()),
        Ok(Fork::Child) => {
            let joined = process::join(guest.as_fd(), Namespaces::USER | Namespaces::NET)
                // In the user namespace already.
                .or_else(|_| process::join(guest.as_fd(), Namespaces::NET));
            if joined.is_ok() {
                let _ = add_address(&interface, &ipv6());
            }
            exit_now(0)
        }
        Err(_) => {}
    }
}

/// A helper that has been started and may or may not be ready.
#[derive(Debug)]
pub enum Starting {
    /// pasta, and what is started in its place where it may not look for the end of its namespace. Not at once: what
    /// ends by itself ends where AppArmor lets nobody end it.
    Pasta(pasta::Starting, Option<Box<Command>>),
    /// passt.
    Passt(pasta::Starting, Pump),
    /// slirp4netns, and where it is to have IPv6 a process of the container's.
    Slirp(slirp4netns_rs::Starting, Option<OwnedFd>),
    /// The switch of a network with a name.
    Named(member::Starting),
}

impl Starting {
    /// Takes what carries the frames of the container's interface.
    ///
    /// # Errors
    /// [`Error::Pump`], [`Error::Switch`].
    pub fn attach(&mut self, socket: OwnedFd) -> Result<(), Error> {
        match self {
            Starting::Passt(_, pump) => pump.start(socket),
            Starting::Named(starting) => starting.attach(socket),
            _ => Ok(()),
        }
    }

    /// Readable (or hung up) when [`Starting::finish`] will not wait for the start.
    pub fn poll_fd(&self) -> BorrowedFd<'_> {
        match self {
            Starting::Pasta(starting, _) | Starting::Passt(starting, _) => starting.poll_fd(),
            Starting::Slirp(starting, _) => starting.poll_fd(),
            Starting::Named(starting) => starting.poll_fd(),
        }
    }

    /// Waits until the network is up and the ports are published.
    ///
    /// # Errors
    /// [`Error::Pasta`], [`Error::Slirp`]; the helper is ended and reaped then. [`Error::Refused`], [`Error::Switch`].
    pub fn finish(self) -> Result<Running, Error> {
        match self {
            Starting::Pasta(starting, other) => {
                let running = match (starting.finish(), other) {
                    (Err(error), Some(other)) if pasta::may_not_look(&error) => {
                        pasta::spawn(*other).and_then(pasta::Starting::finish)
                    }
                    (result, _) => result,
                };
                Ok(Running::Pasta(running.map_err(Box::new)?))
            }
            Starting::Passt(starting, pump) => {
                Ok(Running::Passt(starting.finish().map_err(Box::new)?, pump))
            }
            Starting::Slirp(starting, guest) => {
                let running = starting.finish().map_err(Box::new)?;
                if let Some(guest) = guest {
                    give_ipv6(&guest);
                }
                Ok(Running::Slirp(running))
            }
            Starting::Named(starting) => Ok(Running::Named(starting.finish()?)),
        }
    }
}

/// A helper at work. Dropping it ends it.
#[derive(Debug)]
pub enum Running {
    /// pasta.
    Pasta(Helper),
    /// passt.
    Passt(Helper, Pump),
    /// slirp4netns.
    Slirp(slirp4netns_rs::Running),
    /// The switch of a network with a name, which has other members.
    Named(member::Running),
}

/// A helper's end that nobody asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ended {
    /// Its program's name.
    pub program: &'static str,
    /// How it ended.
    pub status: ExitStatus,
    /// What it wrote to standard error.
    pub log: String,
}

impl std::fmt::Display for Ended {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let how = helper_process::ended(self.status);
        write!(f, "`{}` ended ({how})", self.program)?;
        // Whoever is killed has said nothing about it.
        match self.log.lines().rfind(|line| !line.trim().is_empty()) {
            Some(last) if self.status.code().is_some() => write!(f, ": {last}"),
            _ => Ok(()),
        }
    }
}

impl Running {
    /// As [`Starting::attach`].
    ///
    /// # Errors
    /// [`Error::Pump`].
    pub fn attach(&mut self, socket: OwnedFd) -> Result<(), Error> {
        match self {
            Running::Passt(_, pump) => pump.start(socket),
            _ => Ok(()),
        }
    }

    /// The program's name.
    pub fn program(&self) -> &'static str {
        match self {
            Running::Pasta(_) => "pasta",
            Running::Passt(..) => "passt",
            Running::Slirp(_) => "slirp4netns",
            Running::Named(_) => "rl-switch",
        }
    }

    /// Readable once the helper may have died.
    pub fn end_fd(&self) -> BorrowedFd<'_> {
        match self {
            Running::Pasta(running) | Running::Passt(running, _) => running.end_fd(),
            Running::Slirp(running) => running.end_fd(),
            Running::Named(running) => running.end_fd(),
        }
    }

    /// Whether it has, after that was readable.
    pub fn has_ended(&mut self) -> bool {
        match self {
            Running::Pasta(running) | Running::Passt(running, _) => running.has_ended(),
            Running::Slirp(running) => running.has_ended(),
            Running::Named(_) => true,
        }
    }

    /// After its end: another one in its place, where the container can be connected to it. False where there is none.
    ///
    /// # Errors
    /// There should be one, and it does not do.
    pub fn revive(&mut self) -> Result<bool, Error> {
        match self {
            Running::Named(running) => running.revive().map(|()| true),
            _ => Ok(false),
        }
    }

    /// On a network with a name the container is called `names` from here on.
    pub fn rename(&mut self, names: Vec<String>) {
        if let Running::Named(running) = self {
            running.rename(names);
        }
    }

    /// Its end, if it has died, without waiting.
    ///
    /// # Errors
    /// Those of waitpid(2).
    pub fn ended(&mut self) -> io::Result<Option<Ended>> {
        let program = self.program();
        let (status, log) = match self {
            Running::Pasta(running) | Running::Passt(running, _) => {
                (running.try_wait()?, running.log())
            }
            Running::Slirp(running) => (running.try_wait()?, running.log()),
            // Nobody here can say how.
            Running::Named(_) => return Ok(None),
        };
        Ok(status.map(|status| Ended {
            program,
            status,
            log,
        }))
    }

    /// Ends and reaps it, or leaves it to the others. What is returned had better be closed when nobody waits any more: the
    /// kernel takes its time to remove a tap whose last descriptor is closed (some 20 ms), and takes it elsewhere when it
    /// removes the network namespace.
    ///
    /// # Errors
    /// Those of waitpid(2).
    pub fn stop(self) -> io::Result<Option<OwnedFd>> {
        match self {
            Running::Pasta(mut running) | Running::Passt(mut running, _) => {
                running.stop().map(|_| None)
            }
            Running::Slirp(running) => running.stop().map(|_| None),
            Running::Named(running) => Ok(running.stop()),
        }
    }
}

#[cfg(test)]
mod tests;
