//! A network interface of a container whose frames a program carries, in one of two ways.
//!
//! Without /dev/net/tun: one end of a veth(4) pair is the container's `eth0`, the other lies in a second network
//! namespace of its own, where a packet(7) socket takes and gives its frames. The socket alone keeps that namespace;
//! nothing of it shows in the container.
//!
//! With it: `eth0` is a tap (the kernel's Documentation/networking/tuntap.rst), whose open file takes and gives them.
//!
//! The few rtnetlink(7) messages are written by hand (include/uapi/linux/rtnetlink.h, if_link.h, if_addr.h, veth.h).

use std::net::IpAddr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use nix::sched::{CloneFlags, setns, unshare};
use rustix::io::{Errno, Result};
use serde::{Deserialize, Serialize};

use super::cvt;

/// The hardware address of a container that is alone on the wire: locally administered.
pub const MAC: [u8; 6] = [0x02, 0, 0, 0, 0, 0x02];
/// The interface's name in the container.
const NAME: &str = "eth0";
/// The other end's name, in the namespace that nobody sees.
const FAR: &str = "wire";
/// How many bytes the kernel may queue on a socket of the wire, where its limits (`net.core.rmem_max`, `wmem_max`) allow
/// as many.
const QUEUE: usize = 4 << 20;
/// veth.h, if_link.h: not in the C library's headers.
const VETH_INFO_PEER: u16 = 1;
const IFLA_INET6_ADDR_GEN_MODE: u16 = 8;
const IN6_ADDR_GEN_MODE_NONE: u8 = 1;
/// if_packet.h, since Linux 4.20.
const PACKET_IGNORE_OUTGOING: libc::c_int = 23;
/// ethtool.h
const ETHTOOL_STXCSUM: u32 = 0x17;

/// What carries the frames of an interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Kind {
    /// A packet socket behind a veth pair.
    Pair,
    /// A tap.
    Tap,
}

/// The container's interface.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Interface {
    /// What carries its frames.
    pub kind: Kind,
    /// Its hardware address.
    pub mac: [u8; 6],
    /// Its maximum transmission unit in bytes.
    pub mtu: u32,
    /// Its addresses.
    pub addresses: Vec<Address>,
}

/// An address of the container's end, its prefix length, and its way to everywhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Address {
    /// The container's own.
    pub own: IpAddr,
    /// Prefix length in bits.
    pub prefix: u8,
    /// The gateway, where there is a way.
    pub gateway: Option<IpAddr>,
}

/// A call that failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Failed {
    /// It and its arguments.
    pub call: &'static str,
    /// What it said.
    pub errno: Errno,
}

fn call<T>(call: &'static str) -> impl FnOnce(Errno) -> std::result::Result<T, Failed> {
    move |errno| Err(Failed { call, errno })
}

/// Makes the interface, sets it up, and returns what carries its frames. The caller is single-threaded and holds
/// `CAP_NET_ADMIN` and `CAP_NET_RAW` over its network namespace, and `CAP_SYS_ADMIN` in its user namespace.
///
/// # Errors
/// The first call that failed. The process may then be in another network namespace, and should end.
pub fn connect(interface: &Interface) -> std::result::Result<OwnedFd, Failed> {
    let carrier = match interface.kind {
        Kind::Pair => pair(interface)?,
        Kind::Tap => tap()?,
    };
    let here = Netlink::open().or_else(call("socket(AF_NETLINK)"))?;
    let near = index(NAME).or_else(call("if_nametoindex(`eth0`)"))?;
    match interface.kind {
        Kind::Pair => whole_frames().or_else(call("ioctl(`eth0`, ETHTOOL_STXCSUM)"))?,
        Kind::Tap => {
            here.shape(near, interface)
                .or_else(call("rtnetlink(RTM_SETLINK, `eth0`)"))?;
            // IPv4 only: whoever takes its frames takes no others.
            let _ = here.quiet(near);
        }
    }
    here.up(near)
        .or_else(call("rtnetlink(RTM_SETLINK, `eth0` up)"))?;
    for address in &interface.addresses {
        here.assign(near, address)?;
    }
    Ok(carrier)
}

/// Gives an interface that another program made an address, and with it a way to everywhere. The caller holds
/// `CAP_NET_ADMIN` over its network namespace.
///
/// # Errors
/// The first call that failed.
pub fn add_address(name: &str, address: &Address) -> std::result::Result<(), Failed> {
    let here = Netlink::open().or_else(call("socket(AF_NETLINK)"))?;
    let index = index(name).or_else(call("if_nametoindex()"))?;
    here.assign(index, address)
}

/// A tap that is called [`NAME`], as an open file that does not block.
fn tap() -> std::result::Result<OwnedFd, Failed> {
    use rustix::fs::{Mode, OFlags};
    let flags = OFlags::RDWR | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = rustix::fs::open(c"/dev/net/tun", flags, Mode::empty())
        .or_else(call("open(`/dev/net/tun`, O_RDWR)"))?;
    // SAFETY: ifreq is plain data for which zero is valid.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(NAME.bytes()) {
        *to = from as libc::c_char;
    }
    request.ifr_ifru.ifru_flags = (libc::IFF_TAP | libc::IFF_NO_PI) as libc::c_short;
    // SAFETY: the ioctl reads and writes one ifreq, live for the call.
    cvt(i64::from(unsafe {
        libc::ioctl(file.as_raw_fd(), libc::TUNSETIFF as _, &raw mut request)
    }))
    .or_else(call("ioctl(TUNSETIFF, `eth0`)"))?;
    Ok(file)
}

/// Makes a pair, and returns the packet socket on the end that is not the container's.
fn pair(interface: &Interface) -> std::result::Result<OwnedFd, Failed> {
    let errno = |e: nix::errno::Errno| Errno::from_raw_os_error(e as i32);
    let own = std::fs::File::open("/proc/self/ns/net")
        .map_err(super::errno::to_errno)
        .or_else(call("open(`/proc/self/ns/net`)"))?;
    unshare(CloneFlags::CLONE_NEWNET)
        .map_err(errno)
        .or_else(call("unshare(CLONE_NEWNET)"))?;
    let there = Netlink::open().or_else(call("socket(AF_NETLINK)"))?;
    there
        .pair(own.as_fd(), interface)
        .or_else(call("rtnetlink(RTM_NEWLINK, veth `eth0`)"))?;
    let far = index(FAR).or_else(call("if_nametoindex(`wire`)"))?;
    // No address, so no word of its own on the wire. A kernel without IPv6 says none anyway.
    let _ = there.quiet(far);
    let socket = packet_socket(far).or_else(call("socket(AF_PACKET)"))?;
    there
        .up(far)
        .or_else(call("rtnetlink(RTM_SETLINK, `wire` up)"))?;
    setns(&own, CloneFlags::CLONE_NEWNET)
        .map_err(errno)
        .or_else(call("setns(CLONE_NEWNET)"))?;
    Ok(socket)
}

fn index(name: &str) -> Result<u32> {
    let name = std::ffi::CString::new(name).map_err(|_| Errno::INVAL)?;
    // SAFETY: a C string, live for the call.
    match unsafe { libc::if_nametoindex(name.as_ptr()) } {
        0 => Err(Errno::NODEV),
        index => Ok(index),
    }
}

/// Has the kernel finish checksums and cut segments before a frame leaves `eth0`: on a veth pair both would be left
/// to a receiver, and the one here is a program.
fn whole_frames() -> Result<()> {
    let (family, kind) = (
        rustix::net::AddressFamily::INET,
        rustix::net::SocketType::DGRAM,
    );
    let socket = rustix::net::socket_with(family, kind, rustix::net::SocketFlags::CLOEXEC, None)?;
    let mut value = [ETHTOOL_STXCSUM, 0];
    // SAFETY: ifreq is plain data for which zero is valid.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(NAME.bytes()) {
        *to = from as libc::c_char;
    }
    request.ifr_ifru.ifru_data = value.as_mut_ptr().cast();
    // SAFETY: the ioctl reads one ifreq and the `struct ethtool_value` (two u32) it points to, both live.
    cvt(i64::from(unsafe {
        libc::ioctl(socket.as_raw_fd(), libc::SIOCETHTOOL as _, &raw mut request)
    }))?;
    Ok(())
}

/// Lets the kernel queue as much as it will on a socket that carries frames: what finds no place in a queue is lost, and
/// sent again after a while only.
pub fn enlarge_queues(socket: BorrowedFd<'_>) {
    // The limits cut a larger wish down; there is nothing to do about any other answer.
    let _ = rustix::net::sockopt::set_socket_recv_buffer_size(socket, QUEUE);
    let _ = rustix::net::sockopt::set_socket_send_buffer_size(socket, QUEUE);
}

fn packet_socket(interface: u32) -> Result<OwnedFd> {
    let kind = libc::SOCK_RAW | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
    // SAFETY: plain integers. Protocol 0 receives nothing until it is bound.
    let fd = cvt(i64::from(unsafe { libc::socket(libc::AF_PACKET, kind, 0) }))?;
    // SAFETY: new, and nobody else's.
    let socket = unsafe { OwnedFd::from_raw_fd(fd as i32) };
    enlarge_queues(socket.as_fd());
    let on: libc::c_int = 1;
    // SAFETY: reads one int, live for the call.
    cvt(i64::from(unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_PACKET,
            PACKET_IGNORE_OUTGOING,
            (&raw const on).cast(),
            4,
        )
    }))?;
    // SAFETY: sockaddr_ll is plain data for which zero is valid.
    let mut address: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
    address.sll_family = libc::AF_PACKET as u16;
    address.sll_protocol = (libc::ETH_P_ALL as u16).to_be();
    address.sll_ifindex = interface as i32;
    let size = std::mem::size_of_val(&address) as libc::socklen_t;
    // SAFETY: reads one sockaddr_ll of this size, live for the call.
    cvt(i64::from(unsafe {
        libc::bind(socket.as_raw_fd(), (&raw const address).cast(), size)
    }))?;
    Ok(socket)
}

/// A message under construction.
struct Message(Vec<u8>);

impl Message {
    /// `struct nlmsghdr` and the family's fixed header.
    fn new(kind: u16, flags: i32, fixed: &[u8]) -> Self {
        let flags = (flags | libc::NLM_F_REQUEST | libc::NLM_F_ACK) as u16;
        let mut bytes = vec![0; 16];
        bytes[4..6].copy_from_slice(&kind.to_ne_bytes());
        bytes[6..8].copy_from_slice(&flags.to_ne_bytes());
        bytes.extend(fixed);
        Message(bytes)
    }

    /// `struct rtattr` and its value, padded to 4 bytes.
    fn add(mut self, kind: u16, value: &[u8]) -> Self {
        let length = (value.len() + 4) as u16;
        self.0.extend(length.to_ne_bytes());
        self.0.extend(kind.to_ne_bytes());
        self.0.extend(value);
        self.0.resize(self.0.len().next_multiple_of(4), 0);
        self
    }
}

/// `struct ifinfomsg`: family, type, index, flags, change.
fn link(index: u32, flags: u32) -> [u8; 16] {
    let mut bytes = [0; 16];
    bytes[4..8].copy_from_slice(&index.to_ne_bytes());
    bytes[8..12].copy_from_slice(&flags.to_ne_bytes());
    bytes[12..16].copy_from_slice(&flags.to_ne_bytes());
    bytes
}

fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(v4) => v4.octets().to_vec(),
        IpAddr::V6(v6) => v6.octets().to_vec(),
    }
}

fn family(address: IpAddr) -> u8 {
    match address {
        IpAddr::V4(_) => libc::AF_INET as u8,
        IpAddr::V6(_) => libc::AF_INET6 as u8,
    }
}

struct Netlink(OwnedFd);

impl Netlink {
    fn open() -> Result<Self> {
        let kind = libc::SOCK_RAW | libc::SOCK_CLOEXEC;
        // SAFETY: plain integers.
        let fd = cvt(i64::from(unsafe {
            libc::socket(libc::AF_NETLINK, kind, libc::NETLINK_ROUTE)
        }))?;
        // SAFETY: new, and nobody else's.
        Ok(Netlink(unsafe { OwnedFd::from_raw_fd(fd as i32) }))
    }

    /// Sends one request and takes its acknowledgement (`struct nlmsgerr`).
    fn ask(&self, message: Message) -> Result<()> {
        let mut bytes = message.0;
        let length = bytes.len() as u32;
        bytes[..4].copy_from_slice(&length.to_ne_bytes());
        rustix::net::send(&self.0, &bytes, rustix::net::SendFlags::empty())?;
        let mut answer = [0u8; 4096];
        let (n, _) = rustix::net::recv(&self.0, &mut answer, rustix::net::RecvFlags::empty())?;
        let kind = u16::from_ne_bytes([answer[4], answer[5]]);
        if n < 20 || i32::from(kind) != libc::NLMSG_ERROR {
            return Err(Errno::BADMSG);
        }
        match i32::from_ne_bytes([answer[16], answer[17], answer[18], answer[19]]) {
            0 => Ok(()),
            error => Err(Errno::from_raw_os_error(error.saturating_neg())),
        }
    }

    fn pair(&self, namespace: BorrowedFd<'_>, interface: &Interface) -> Result<()> {
        let text = |s: &str| [s.as_bytes(), &[0]].concat();
        let peer = Message(link(0, 0).to_vec())
            .add(libc::IFLA_IFNAME, &text(NAME))
            .add(libc::IFLA_MTU, &interface.mtu.to_ne_bytes())
            .add(libc::IFLA_ADDRESS, &interface.mac)
            .add(libc::IFLA_NET_NS_FD, &namespace.as_raw_fd().to_ne_bytes());
        let data = Message(Vec::new()).add(VETH_INFO_PEER, &peer.0);
        let info = Message(Vec::new())
            .add(libc::IFLA_INFO_KIND, &text("veth"))
            .add(libc::IFLA_INFO_DATA, &data.0);
        let flags = libc::NLM_F_CREATE | libc::NLM_F_EXCL;
        self.ask(
            Message::new(libc::RTM_NEWLINK, flags, &link(0, 0))
                .add(libc::IFLA_IFNAME, &text(FAR))
                .add(libc::IFLA_MTU, &interface.mtu.to_ne_bytes())
                .add(libc::IFLA_LINKINFO, &info.0),
        )
    }

    fn shape(&self, index: u32, interface: &Interface) -> Result<()> {
        let message = Message::new(libc::RTM_SETLINK, 0, &link(index, 0));
        let message = message.add(libc::IFLA_ADDRESS, &interface.mac);
        self.ask(message.add(libc::IFLA_MTU, &interface.mtu.to_ne_bytes()))
    }

    fn quiet(&self, index: u32) -> Result<()> {
        let none = Message(Vec::new()).add(IFLA_INET6_ADDR_GEN_MODE, &[IN6_ADDR_GEN_MODE_NONE]);
        let inet6 = Message(Vec::new()).add(libc::AF_INET6 as u16, &none.0);
        let message = Message::new(libc::RTM_SETLINK, 0, &link(index, 0));
        self.ask(message.add(libc::IFLA_AF_SPEC, &inet6.0))
    }

    fn up(&self, index: u32) -> Result<()> {
        self.ask(Message::new(
            libc::RTM_SETLINK,
            0,
            &link(index, libc::IFF_UP as u32),
        ))
    }

    /// An address, and the way that it opens.
    fn assign(&self, index: u32, address: &Address) -> std::result::Result<(), Failed> {
        self.address(index, address)
            .or_else(call("rtnetlink(RTM_NEWADDR)"))?;
        if let Some(gateway) = address.gateway {
            self.route(index, gateway)
                .or_else(call("rtnetlink(RTM_NEWROUTE, default)"))?;
        }
        Ok(())
    }

    fn address(&self, index: u32, address: &Address) -> Result<()> {
        // `struct ifaddrmsg`: family, prefix length, flags, scope, index. Nobody else can have the address.
        let mut fixed = [0; 8];
        fixed[..3].copy_from_slice(&[family(address.own), address.prefix, libc::IFA_F_NODAD as u8]);
        fixed[4..].copy_from_slice(&index.to_ne_bytes());
        let own = octets(address.own);
        let flags = libc::NLM_F_CREATE | libc::NLM_F_EXCL;
        self.ask(
            Message::new(libc::RTM_NEWADDR, flags, &fixed)
                .add(libc::IFA_LOCAL, &own)
                .add(libc::IFA_ADDRESS, &own),
        )
    }

    fn route(&self, index: u32, gateway: IpAddr) -> Result<()> {
        // `struct rtmsg`: family, lengths, tos, table, protocol, scope, type, flags.
        let mut fixed = [0; 12];
        fixed[0] = family(gateway);
        fixed[4] = libc::RT_TABLE_MAIN;
        fixed[5] = libc::RTPROT_BOOT;
        fixed[6] = libc::RT_SCOPE_UNIVERSE;
        fixed[7] = libc::RTN_UNICAST;
        let flags = libc::NLM_F_CREATE | libc::NLM_F_EXCL;
        self.ask(
            Message::new(libc::RTM_NEWROUTE, flags, &fixed)
                .add(libc::RTA_GATEWAY, &octets(gateway))
                .add(libc::RTA_OIF, &index.to_ne_bytes()),
        )
    }
}
