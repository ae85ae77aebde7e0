//! The process that carries the frames of a network with a name: between its members, and to and from the uplink.
//!
//! The first member's monitor forks it, and it is nobody's child, in no container's control group; it ends when the last
//! member has left. When it is killed, the monitors start another. Each member is a channel to a monitor ([`message`])
//! and an open file that gives and takes the frames of a container's interface. [`way`] decides where one goes; what
//! finds no room in the uplink's queue waits, and its sender is not listened to until it is gone. What another member's
//! kernel does not take is lost, as on any wire.
//!
//! It keeps no more than its descriptors, has no capabilities and gains none, sees of the file system the network's
//! directory only, and the kernel kills it at any system call that it has no use for ([`calls::all`]). Frames are hostile,
//! monitors are not: they run as the same user, in a directory that is closed to others.

mod calls;
pub mod frame;
mod life;
pub mod message;
mod names;
mod uplink;
pub mod way;

pub use life::run;

use std::collections::BTreeMap;
use std::fs::File;
use std::net::Ipv4Addr;
use std::os::fd::OwnedFd;
use std::path::PathBuf;

use rustix::buffer::spare_capacity;
use rustix::event::Timespec;
use rustix::event::epoll::{self, EventData, EventFlags};
use rustix::fs::FlockOperation;
use rustix::io::Errno;
use rustix::net::RecvFlags;

use crate::model::subnet::Subnet;
use crate::sys::socket::Channel;
use message::{FromSwitch, Join, ToSwitch};
use uplink::{Step, Uplink};
use way::{Members, Net, Resolver, Way};

/// Where it listens, in the network's directory.
pub const SOCKET: &str = "switch";
/// The lock of who starts or ends it.
pub const LOCK: &str = "switch.lock";

/// How many frames are taken from one side before the others are served.
const BATCH: usize = 64;
/// How long it waits without a member before it looks again whether it may end.
const LAST_LOOK: Timespec = Timespec {
    tv_sec: 0,
    tv_nsec: 50_000_000,
};

/// The network that it is for.
#[derive(Clone, Debug)]
pub struct Setup {
    /// The members' addresses.
    pub subnet: Subnet,
    /// The gateway's.
    pub gateway: Ipv4Addr,
    /// slirp4netns, by its path, where there is a way out.
    pub uplink: Option<PathBuf>,
    /// Maximum transmission unit in bytes of the members' interfaces. They have the same, since they are on one machine;
    /// slirp4netns does not heed what they say of it.
    pub mtu: u32,
    /// The network's name.
    pub name: String,
    /// Moves the calling process out of the control group of the container whose monitor has forked it, for the network
    /// of this name.
    pub apart: fn(&str),
}

/// What an event is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Source {
    Listener,
    /// Frames of the uplink.
    Uplink,
    /// The uplink is dead.
    UplinkEnd,
    /// An answer of the uplink's.
    Call,
    /// A monitor's channel.
    Channel(u32),
    /// A member's frames.
    Frames(u32),
}

impl Source {
    fn data(self) -> EventData {
        let (kind, number) = match self {
            Source::Listener => (0, 0),
            Source::Uplink => (1, 0),
            Source::UplinkEnd => (2, 0),
            Source::Call => (3, 0),
            Source::Channel(number) => (4, number),
            Source::Frames(number) => (5, number),
        };
        EventData::new_u64(kind << 32 | u64::from(number))
    }

    fn of(data: EventData) -> Option<Source> {
        let number = data.u64() as u32;
        Some(match data.u64() >> 32 {
            0 => Source::Listener,
            1 => Source::Uplink,
            2 => Source::UplinkEnd,
            3 => Source::Call,
            4 => Source::Channel(number),
            5 => Source::Frames(number),
            _ => return None,
        })
    }
}

/// A monitor.
struct Client {
    channel: Channel,
    /// The container that it has joined with.
    port: Option<Port>,
}

/// A member's end.
struct Port {
    address: Ipv4Addr,
    frames: OwnedFd,
    /// A frame that the uplink had no room for. While there is one, no other is taken.
    waiting: Option<Vec<u8>>,
}

/// What becomes of the loop.
type Done = Result<(), Errno>;

struct Switch {
    epoll: OwnedFd,
    net: Net,
    listener: OwnedFd,
    uplink: Option<Uplink>,
    /// Why there is no uplink.
    failure: Option<FromSwitch>,
    clients: BTreeMap<u32, Client>,
    /// The number that the next client gets.
    next: u32,
    members: Members,
    /// Who has which address.
    by_address: BTreeMap<Ipv4Addr, u32>,
    buffer: Vec<u8>,
}

impl Switch {
    fn new(
        setup: &Setup,
        listener: OwnedFd,
        uplink: Option<Uplink>,
        failure: Option<FromSwitch>,
    ) -> Result<Switch, Errno> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        epoll::add(&epoll, &listener, Source::Listener.data(), EventFlags::IN)?;
        if let Some(uplink) = &uplink {
            epoll::add(
                &epoll,
                uplink.frames(),
                Source::Uplink.data(),
                EventFlags::IN,
            )?;
            epoll::add(
                &epoll,
                uplink.end_fd(),
                Source::UplinkEnd.data(),
                EventFlags::IN,
            )?;
        }
        Ok(Switch {
            epoll,
            net: Net {
                subnet: setup.subnet,
                gateway: setup.gateway,
                uplink: uplink.as_ref().map(Uplink::addresses),
            },
            listener,
            uplink,
            failure,
            clients: BTreeMap::new(),
            next: 0,
            members: Members::new(),
            by_address: BTreeMap::new(),
            buffer: vec![0; frame::LONGEST],
        })
    }

    /// Waits once and handles what came. An error is the end.
    fn turn(&mut self, events: &mut Vec<epoll::Event>) -> Done {
        let limit = self.clients.is_empty().then_some(&LAST_LOOK);
        events.clear();
        match epoll::wait(&self.epoll, spare_capacity(events), limit) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(errno) => return Err(errno),
        }
        for event in events.iter() {
            let flags = event.flags;
            match Source::of(event.data) {
                Some(Source::Listener) => self.accept()?,
                Some(Source::Uplink) => {
                    if flags.contains(EventFlags::OUT) {
                        self.uplink_has_room()?;
                    }
                    self.hear_uplink()?;
                }
                Some(Source::UplinkEnd) if self.uplink.as_mut().is_none_or(Uplink::has_ended) => {
                    return Err(Errno::PIPE);
                }
                Some(Source::Call) => {
                    let steps = self.uplink.as_mut().map(Uplink::answered).transpose()?;
                    self.carry_out(steps.unwrap_or_default())?;
                }
                Some(Source::Channel(number)) => self.hear_monitor(number)?,
                Some(Source::Frames(number)) => self.hear_member(number)?,
                Some(Source::UplinkEnd) | None => {}
            }
        }
        Ok(())
    }

    /// With nobody left: whether nobody is about to come, and `lock` is held. Whoever comes holds it until he is in the
    /// queue of the listener.
    fn last_look(&mut self, lock: &File) -> Result<bool, Errno> {
        match rustix::fs::flock(lock, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(Errno::WOULDBLOCK | Errno::INTR) => return Ok(false),
            Err(errno) => return Err(errno),
        }
        self.accept()?;
        if !self.clients.is_empty() {
            rustix::fs::flock(lock, FlockOperation::Unlock)?;
        }
        Ok(self.clients.is_empty())
    }

    fn accept(&mut self) -> Done {
        loop {
            match Channel::accept(&self.listener) {
                Ok(channel) => {
                    let own = rustix::process::geteuid().as_raw();
                    if channel.peer() == Ok(own) {
                        self.add_client(channel)?;
                    }
                }
                Err(Errno::INTR | Errno::CONNABORTED) => {}
                Err(Errno::AGAIN) => return Ok(()),
                Err(errno) => return Err(errno),
            }
        }
    }

    fn add_client(&mut self, channel: Channel) -> Done {
        let number = self.next;
        self.next = self.next.wrapping_add(1);
        let source = Source::Channel(number);
        epoll::add(&self.epoll, &channel, source.data(), EventFlags::IN)?;
        let port = None;
        self.clients.insert(number, Client { channel, port });
        Ok(())
    }

    fn hear_monitor(&mut self, number: u32) -> Done {
        let Some(client) = self.clients.get(&number) else {
            return Ok(());
        };
        let (message, fd) = match client.channel.receive(RecvFlags::DONTWAIT) {
            Ok(Some(message)) => message,
            Err(Errno::AGAIN) => return Ok(()),
            Ok(None) | Err(_) => (Vec::new(), None),
        };
        match (postcard::from_bytes(&message), fd) {
            (Ok(ToSwitch::Join(join)), Some(frames)) => {
                let mac = frame::mac(join.address);
                self.join(number, join, mac, frames)
            }
            (Ok(ToSwitch::JoinAs(join, mac)), Some(frames)) => self.join(number, join, mac, frames),
            (Ok(ToSwitch::Leave), _) => {
                let mut steps = self.leave(number)?;
                steps.push(Step::Tell(number, FromSwitch::Left));
                self.enqueue(steps)
            }
            (Ok(ToSwitch::Names(names)), _) => {
                let address = client.port.as_ref().map(|port| port.address);
                if let Some(member) = address.and_then(|a| self.members.get_mut(&a)) {
                    member.names = small(&names);
                }
                self.tell(number, &FromSwitch::Named)
            }
            // The end of file, or no word of ours.
            _ => {
                let steps = self.leave(number)?;
                // With its channel it leaves the set as well.
                self.clients.remove(&number);
                self.enqueue(steps)
            }
        }
    }

    fn join(&mut self, number: u32, join: Join, mac: [u8; 6], frames: OwnedFd) -> Done {
        let refused = |message: &str| FromSwitch::Refused {
            message: message.to_owned(),
            hint: None,
        };
        let address = join.address;
        let fits = self.net.subnet.is_host(address) && address != self.net.gateway;
        let refusal = match &self.failure {
            Some(failure) => Some(failure.clone()),
            None if self.members.contains_key(&address) => Some(refused("the address is taken")),
            None if way::is_taken(&self.members, mac) => {
                Some(refused("the hardware address is taken"))
            }
            None if !fits => Some(refused("the address is not of the network")),
            None if self.uplink.is_none() && !join.ports.is_empty() => {
                Some(refused("nothing leads into an internal network"))
            }
            None => None,
        };
        if let Some(refusal) = refusal {
            return self.tell(number, &refusal);
        }
        let steps = match &self.uplink {
            Some(_) => uplink::publish(number, &join),
            None => Ok(vec![Step::Joined(number)]),
        };
        let steps = match steps {
            Ok(steps) => steps,
            Err(refusal) => return self.tell(number, &refusal),
        };
        let Some(client) = self.clients.get_mut(&number) else {
            return Ok(());
        };
        epoll::add(
            &self.epoll,
            &frames,
            Source::Frames(number).data(),
            EventFlags::IN,
        )?;
        client.port = Some(Port {
            address,
            frames,
            waiting: None,
        });
        let member = way::Member {
            names: small(&join.names),
            resolver: join.resolver.map(Resolver::new),
            mac,
        };
        self.members.insert(address, member);
        self.by_address.insert(address, number);
        self.enqueue(steps)
    }

    /// Takes the member of a client out, if it has joined; what closes its ports is left to be done.
    fn leave(&mut self, number: u32) -> Result<Vec<Step>, Errno> {
        let port = self.clients.get_mut(&number).and_then(|c| c.port.take());
        let Some(port) = port else {
            return Ok(Vec::new());
        };
        self.members.remove(&port.address);
        self.by_address.remove(&port.address);
        // Its monitor has the same open file, which would stay in the set.
        self.stop_listening(&port.frames);
        let uplink = self.uplink.as_mut();
        Ok(uplink
            .map(|uplink| uplink.withdraw(number))
            .unwrap_or_default())
    }

    fn stop_listening(&self, frames: &OwnedFd) {
        // Not there while one of its frames waits.
        let _ = epoll::delete(&self.epoll, frames);
    }

    fn enqueue(&mut self, steps: Vec<Step>) -> Done {
        match &mut self.uplink {
            Some(uplink) => {
                uplink.enqueue(steps);
                self.carry_out(Vec::new())
            }
            None => self.carry_out(steps),
        }
    }

    /// Tells who is to be told, and goes on with what the uplink is to be asked for.
    fn carry_out(&mut self, steps: Vec<Step>) -> Done {
        for step in steps {
            self.step(step)?;
        }
        while let Some(step) = self.uplink.as_mut().and_then(Uplink::next) {
            self.step(step)?;
        }
        Ok(())
    }

    fn step(&mut self, step: Step) -> Done {
        let has_joined = |number| self.clients.get(&number).is_some_and(|c| c.port.is_some());
        match step {
            Step::Joined(number) if has_joined(number) => self.tell(number, &FromSwitch::Joined),
            Step::Tell(number, message) => self.tell(number, &message),
            Step::Refused(number, message) => {
                let steps = self.leave(number)?;
                if let Some(uplink) = &mut self.uplink {
                    uplink.enqueue(steps);
                }
                self.tell(number, &message)
            }
            // Of one who has left meanwhile.
            Step::Publish(number, _) if !has_joined(number) => Ok(()),
            Step::Joined(_) => Ok(()),
            Step::Publish(..) | Step::Withdraw(_) => match &mut self.uplink {
                Some(uplink) => {
                    let call = uplink.call(step).map_err(crate::sys::errno::to_errno)?;
                    epoll::add(&self.epoll, call, Source::Call.data(), EventFlags::IN)
                }
                None => Ok(()),
            },
        }
    }

    fn tell(&self, number: u32, message: &FromSwitch) -> Done {
        match self.clients.get(&number) {
            Some(client) => say(&client.channel, message),
            None => Ok(()),
        }
    }

    /// Carries what a member has to say.
    fn hear_member(&mut self, number: u32) -> Done {
        for _ in 0..BATCH {
            let port = self.clients.get_mut(&number).and_then(|c| c.port.as_mut());
            let Some(port) = port.filter(|port| port.waiting.is_none()) else {
                return Ok(());
            };
            let length = match rustix::io::read(&port.frames, &mut self.buffer[..]) {
                Ok(length) => length,
                Err(Errno::AGAIN) => return Ok(()),
                // The interface was set down: root inside may do so, and set it up again.
                Err(Errno::INTR | Errno::NETDOWN) => continue,
                Err(_) => {
                    // It is gone, and its monitor will say so.
                    let _ = epoll::delete(&self.epoll, &port.frames);
                    return Ok(());
                }
            };
            let own = port.address;
            let bytes = &mut self.buffer[..length];
            match way::from_member(&self.net, &mut self.members, own, bytes) {
                Way::Lost => {}
                Way::Back(reply) => put(&port.frames, &reply),
                Way::Member(to) => self.deliver(to, length),
                Way::Everybody => {
                    let others = self.by_address.keys().filter(|to| **to != own);
                    let others: Vec<Ipv4Addr> = others.copied().collect();
                    others.iter().for_each(|to| self.deliver(*to, length));
                }
                Way::Uplink => self.send_out(number, length)?,
            }
        }
        Ok(())
    }

    /// Gives the frame in the buffer to a member.
    fn deliver(&self, to: Ipv4Addr, length: usize) {
        let number = self.by_address.get(&to);
        let port = number.and_then(|number| self.clients.get(number)?.port.as_ref());
        if let Some(port) = port {
            put(&port.frames, &self.buffer[..length]);
        }
    }

    /// Gives the frame in the buffer to the uplink, or keeps it until there is room.
    fn send_out(&mut self, number: u32, length: usize) -> Done {
        let bytes = &self.buffer[..length];
        let Some(uplink) = &self.uplink else {
            return Ok(());
        };
        if uplink.put(bytes)? {
            return Ok(());
        }
        let port = self.clients.get_mut(&number).and_then(|c| c.port.as_mut());
        if let Some(port) = port {
            port.waiting = Some(bytes.to_vec());
            let _ = epoll::delete(&self.epoll, &port.frames);
            let both = EventFlags::IN | EventFlags::OUT;
            epoll::modify(&self.epoll, uplink.frames(), Source::Uplink.data(), both)?;
        }
        Ok(())
    }

    /// What waits goes out, as far as there is room now.
    fn uplink_has_room(&mut self) -> Done {
        let Some(uplink) = &self.uplink else {
            return Ok(());
        };
        for (number, client) in &mut self.clients {
            let Some(port) = client.port.as_mut() else {
                continue;
            };
            let Some(bytes) = port.waiting.take() else {
                continue;
            };
            if !uplink.put(&bytes)? {
                port.waiting = Some(bytes);
                return Ok(());
            }
            let source = Source::Frames(*number);
            epoll::add(&self.epoll, &port.frames, source.data(), EventFlags::IN)?;
        }
        let (frames, data) = (uplink.frames(), Source::Uplink.data());
        epoll::modify(&self.epoll, frames, data, EventFlags::IN)
    }

    fn hear_uplink(&mut self) -> Done {
        for _ in 0..BATCH {
            let Some(uplink) = &self.uplink else {
                return Ok(());
            };
            let Some(length) = uplink.take(&mut self.buffer)? else {
                return Ok(());
            };
            let bytes = &mut self.buffer[..length];
            match way::from_uplink(&self.net, &mut self.members, bytes) {
                Way::Member(to) => self.deliver(to, length),
                // Where there is no room it asks again.
                Way::Back(reply) => drop(uplink.put(&reply)?),
                Way::Lost | Way::Everybody | Way::Uplink => {}
            }
        }
        Ok(())
    }
}

/// Tells a monitor something. Who is gone need not be told, and the few words that there are find room.
fn say(channel: &Channel, message: &FromSwitch) -> Done {
    let bytes = postcard::to_stdvec(message).map_err(|_| Errno::INVAL)?;
    let _ = channel.send(&bytes, None, rustix::net::SendFlags::DONTWAIT);
    Ok(())
}

/// Names as [`way::Member`] has them.
fn small(names: &[String]) -> Vec<String> {
    names.iter().map(|name| name.to_ascii_lowercase()).collect()
}

/// Gives an interface a frame; what it does not take is lost.
fn put(frames: &OwnedFd, bytes: &[u8]) {
    let _ = rustix::io::write(frames, bytes);
}
