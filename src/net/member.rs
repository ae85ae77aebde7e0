//! A container on a network with a name, as its monitor sees it: the [switch](super::switch) is found or started, and
//! joined with what carries the frames of the container's interface.
//!
//! Whoever looks for the switch holds a lock meanwhile, and so does a switch that is about to end: there is one or none.
//! When it is killed, every monitor sees that on its channel and looks for another, with which it joins again; the
//! container's interface stays what it was.

use std::net::Ipv4Addr;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use helper_process::wait_readable;
use rustix::fs::{AtFlags, FlockOperation, Mode, OFlags};
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags};

use super::switch::message::{FromSwitch, Join, ToSwitch};
use super::switch::{self, Setup, frame};
use super::{Error, Request};
use crate::model::subnet::Subnet;
use crate::sys::process::{self, Fork, Namespaces, exit_now};
use crate::sys::socket::Channel;
use crate::sys::wire::{Address, Interface, Kind};

/// Maximum transmission unit in bytes of a tap: what slirp4netns takes at most. A frame costs the less the longer it is.
const TAP_MTU: u32 = 65520;
/// The same of a veth pair, where a frame of this length takes 4096 bytes of the packet socket's queue: the window of a
/// connection to slirp4netns, 64 KiB, finds room in it. What does not is sent again after seconds.
const PAIR_MTU: u32 = 3400;
/// How long the switch may take to close ports, or to learn other names.
const PARTING: Duration = Duration::from_secs(2);
/// How long it may take to answer who joins. It waits for its uplink, which is given as long.
const ANSWER: Duration = Duration::from_secs(25);
/// How long who joins again waits after a refusal.
const AGAIN: Duration = Duration::from_millis(200);
/// So many switches are looked for in such a time when one after the other dies.
const REVIVALS: (usize, Duration) = (5, Duration::from_secs(60));

/// A container on a network with a name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// The network's directory.
    pub dir: PathBuf,
    /// Its addresses.
    pub subnet: Subnet,
    /// That of its gateway.
    pub gateway: Ipv4Addr,
    /// Whether there is a way out.
    pub internal: bool,
    /// The container's address, which is nobody else's.
    pub address: Ipv4Addr,
    /// Its hardware address, if one is asked for.
    pub mac: Option<[u8; 6]>,
    /// What it is called.
    pub names: Vec<String>,
    /// Whom it asks for names of the world; the host's resolver if nobody.
    pub resolver: Option<Ipv4Addr>,
}

impl Member {
    /// The container's interface.
    pub fn interface(&self) -> Interface {
        let (kind, mtu) = match helper_process::TUN.open() {
            Ok(()) => (Kind::Tap, TAP_MTU),
            Err(_) => (Kind::Pair, PAIR_MTU),
        };
        Interface {
            kind,
            mtu,
            mac: self.mac.unwrap_or_else(|| frame::mac(self.address)),
            addresses: vec![Address {
                own: self.address.into(),
                prefix: self.subnet.prefix(),
                gateway: (!self.internal).then_some(self.gateway.into()),
            }],
        }
    }
}

/// The hardware address that a member with this address has, where no other is asked for.
pub fn mac(address: Ipv4Addr) -> String {
    crate::model::mac::text(frame::mac(address))
}

/// What it takes to join, again and again.
#[derive(Debug)]
struct Ticket {
    dir: PathBuf,
    setup: Setup,
    join: Join,
    /// The hardware address that is asked for.
    mac: Option<[u8; 6]>,
}

impl Ticket {
    fn message(&self) -> ToSwitch {
        match self.mac {
            Some(mac) => ToSwitch::JoinAs(self.join.clone(), mac),
            None => ToSwitch::Join(self.join.clone()),
        }
    }
}

/// A channel to the switch, over which the container has not joined yet.
#[derive(Debug)]
pub struct Starting {
    ticket: Ticket,
    channel: Channel,
    frames: Option<OwnedFd>,
}

impl Starting {
    /// Finds or starts the switch, for what `request` says. `uplink` is slirp4netns. The caller is single-threaded.
    ///
    /// # Errors
    /// [`Error::Switch`].
    pub fn new(
        member: &Member,
        uplink: Option<&Path>,
        request: &Request<'_>,
    ) -> Result<Starting, Error> {
        let ticket = Ticket {
            dir: member.dir.clone(),
            setup: Setup {
                subnet: member.subnet,
                gateway: member.gateway,
                uplink: uplink.map(Path::to_owned),
                mtu: member.interface().mtu,
                name: dir_name(&member.dir),
                apart: request.apart,
            },
            join: Join {
                address: member.address,
                names: member.names.clone(),
                resolver: member.resolver,
                ports: request.ports.to_vec(),
            },
            mac: member.mac,
        };
        Ok(Starting {
            channel: find(&ticket)?,
            ticket,
            frames: None,
        })
    }

    /// Joins with what carries the frames of the container's interface.
    ///
    /// # Errors
    /// [`Error::Switch`].
    pub fn attach(&mut self, frames: OwnedFd) -> Result<(), Error> {
        let message = self.ticket.message();
        send(&self.channel, &message, Some(frames.as_fd()))?;
        self.frames = Some(frames);
        Ok(())
    }

    /// Readable when there is an answer.
    pub fn poll_fd(&self) -> BorrowedFd<'_> {
        self.channel.as_fd()
    }

    /// Waits for the answer.
    ///
    /// # Errors
    /// [`Error::Refused`], [`Error::Switch`].
    pub fn finish(self) -> Result<Running, Error> {
        let (message, hint) = match receive(&self.channel, ANSWER) {
            Ok(FromSwitch::Joined) => {
                return Ok(Running {
                    ticket: self.ticket,
                    channel: self.channel,
                    frames: self.frames,
                    revivals: Vec::new(),
                });
            }
            Ok(FromSwitch::Refused { message, hint }) => (message, hint),
            Ok(FromSwitch::Left | FromSwitch::Named) => {
                ("the switch answers what nobody asked".to_owned(), None)
            }
            Err(errno) => return Err(failed("recvmsg(switch)")(errno)),
        };
        Err(Error::Refused { message, hint })
    }
}

/// A container that has joined. Dropping it takes it out.
#[derive(Debug)]
pub struct Running {
    ticket: Ticket,
    channel: Channel,
    frames: Option<OwnedFd>,
    /// When the switch was looked for again.
    revivals: Vec<Instant>,
}

impl Running {
    /// Readable once the switch is gone.
    pub fn end_fd(&self) -> BorrowedFd<'_> {
        self.channel.as_fd()
    }

    /// After the end of the switch: finds or starts another, and joins it.
    ///
    /// # Errors
    /// As [`Starting::new`] and [`Starting::finish`]; [`Error::SwitchDies`] when that was done too often.
    pub fn revive(&mut self) -> Result<(), Error> {
        let (times, time) = REVIVALS;
        self.revivals.retain(|at| at.elapsed() < time);
        if self.revivals.len() >= times {
            return Err(Error::SwitchDies);
        }
        self.revivals.push(Instant::now());
        let message = self.ticket.message();
        let frames = self.frames.as_ref().map(|frames| frames.as_fd());
        let mut tries = 1..=times;
        loop {
            // One that refused the first who came ends; there is another then.
            let channel = find(&self.ticket)?;
            send(&channel, &message, frames)?;
            match receive(&channel, ANSWER) {
                Ok(FromSwitch::Refused { message, hint }) => {
                    tries.next().ok_or(Error::Refused { message, hint })?;
                    // The old uplink may still be about to close its ports.
                    std::thread::sleep(AGAIN);
                }
                Err(errno) => return Err(failed("recvmsg(switch)")(errno)),
                Ok(_) => {
                    self.channel = channel;
                    return Ok(());
                }
            }
        }
    }

    /// Is called `names` from here on: by the switch that there is, and by those that follow it.
    pub fn rename(&mut self, names: Vec<String>) {
        self.ticket.join.names.clone_from(&names);
        if send(&self.channel, &ToSwitch::Names(names), None).is_ok() {
            // The end of the switch is seen again, by who looks after that.
            let _ = receive(&self.channel, PARTING);
        }
    }

    /// Leaves, and waits until the ports are closed: the next start may want the same. Returns what carried the frames.
    pub fn stop(self) -> Option<OwnedFd> {
        if send(&self.channel, &ToSwitch::Leave, None).is_ok() {
            // A switch that is gone has no ports.
            let _ = receive(&self.channel, PARTING);
        }
        self.frames
    }
}

/// The last part of a path: a network's name is that of its directory.
fn dir_name(dir: &Path) -> String {
    let name = dir.file_name().unwrap_or_default();
    name.to_string_lossy().into_owned()
}

fn failed(call: &'static str) -> impl Fn(Errno) -> Error {
    move |errno| Error::Switch {
        call,
        source: errno.into(),
    }
}

fn send(
    channel: &Channel,
    message: &ToSwitch,
    frames: Option<BorrowedFd<'_>>,
) -> Result<(), Error> {
    let fault = failed("sendmsg(switch)");
    let bytes = postcard::to_stdvec(message).map_err(|_| fault(Errno::INVAL))?;
    channel
        .send(&bytes, frames, SendFlags::empty())
        .map_err(fault)
}

/// The next message; `EPIPE` when the switch is gone, `ETIMEDOUT` when it says nothing.
fn receive(channel: &Channel, limit: Duration) -> Result<FromSwitch, Errno> {
    if !wait_readable(channel.as_fd(), limit).map_err(crate::sys::errno::to_errno)? {
        return Err(Errno::TIMEDOUT);
    }
    let (bytes, _) = channel.receive(RecvFlags::empty())?.ok_or(Errno::PIPE)?;
    postcard::from_bytes(&bytes).map_err(|_| Errno::BADMSG)
}

/// A channel to the network's switch, which is started where there is none.
fn find(ticket: &Ticket) -> Result<Channel, Error> {
    let flags = OFlags::DIRECTORY | OFlags::RDONLY | OFlags::CLOEXEC;
    let dir =
        rustix::fs::open(&ticket.dir, flags, Mode::empty()).map_err(failed("open(network)"))?;
    let flags = OFlags::CREATE | OFlags::RDWR | OFlags::CLOEXEC;
    let lock = rustix::fs::openat(&dir, switch::LOCK, flags, Mode::RUSR | Mode::WUSR)
        .map_err(failed("open(`switch.lock`)"))?;
    while let Err(errno) = rustix::fs::flock(&lock, FlockOperation::LockExclusive) {
        if errno != Errno::INTR {
            return Err(failed("flock(`switch.lock`)")(errno));
        }
    }
    match Channel::connect(dir.as_fd(), switch::SOCKET) {
        Ok(channel) => {
            let own = rustix::process::geteuid().as_raw();
            match channel.peer() {
                Ok(peer) if peer == own => Ok(channel),
                _ => Err(failed("connect(`switch`)")(Errno::PERM)),
            }
        }
        Err(Errno::NOENT | Errno::CONNREFUSED) => start(&dir, &ticket.setup),
        Err(errno) => Err(failed("connect(`switch`)")(errno)),
    }
}

/// Starts the switch in the network's directory, and returns its first channel.
fn start(dir: &OwnedFd, setup: &Setup) -> Result<Channel, Error> {
    // That of one that was killed.
    let _ = rustix::fs::unlinkat(dir, switch::SOCKET, AtFlags::empty());
    let listener = Channel::listen(Some(dir.as_fd()), switch::SOCKET);
    let listener = listener.map_err(failed("bind(`switch`)"))?;
    let (ours, theirs) = Channel::pair().map_err(failed("socketpair()"))?;
    match process::fork(Namespaces::empty()).map_err(failed("clone3(switch)"))? {
        Fork::Parent(child) => {
            let _ = child.wait();
            Ok(ours)
        }
        // Nobody's child: it is no matter of the one who happens to be the first.
        Fork::Child => match process::fork(Namespaces::empty()) {
            Ok(Fork::Child) => switch::run(dir, &listener, &theirs, setup),
            _ => exit_now(0),
        },
    }
}
