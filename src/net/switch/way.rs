//! Where a frame goes: decided here, and carried out by the parent module.
//!
//! A member reaches the others by their hardware addresses, for which it is told by nobody but the switch, and
//! everything else by the gateway. That one is not there: what goes to it is a question for a name, which the switch
//! answers where it knows better than the world, or goes to the uplink. The uplink has a network of its own of addresses
//! that exist nowhere (RFC 1112, class E), so that none of the world's is hidden; no member sees one of them, since the
//! gateway's stands for it.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use super::frame::{self, GATEWAY_MAC, Ipv4, Kind, Transport};
use super::names;
use crate::model::subnet::Subnet;

/// The network, as far as frames are concerned.
#[derive(Clone, Copy, Debug)]
pub struct Net {
    /// The members' addresses.
    pub subnet: Subnet,
    /// The gateway's, which none of them has.
    pub gateway: Ipv4Addr,
    /// The way out, if there is one.
    pub uplink: Option<Uplink>,
}

/// Addresses of the uplink's.
#[derive(Clone, Copy, Debug)]
pub struct Uplink {
    /// Stands for the host.
    pub host: Ipv4Addr,
    /// Asks the host's resolver.
    pub dns: Ipv4Addr,
}

/// The members by their addresses.
pub type Members = BTreeMap<Ipv4Addr, Member>;

/// What is known of a member.
#[derive(Debug)]
pub struct Member {
    /// Its hardware address, which is nobody else's.
    pub mac: [u8; 6],
    /// What it is called, in small letters.
    pub names: Vec<String>,
    /// Whom it asks for names of the world, if that is not the host's resolver.
    pub resolver: Option<Resolver>,
}

/// A name server of a member's own, which it asks through the gateway, and can ask directly as well.
#[derive(Debug)]
pub struct Resolver {
    address: Ipv4Addr,
    /// Ports from which it was last asked through the gateway, a bit for each; TCP and UDP.
    asked: [Vec<u64>; 2],
}

impl Resolver {
    /// The one at this address.
    pub fn new(address: Ipv4Addr) -> Resolver {
        let none = || vec![0; 1024];
        Resolver {
            address,
            asked: [none(), none()],
        }
    }

    fn bit(&mut self, transport: Transport, port: u16) -> (&mut u64, u64) {
        let bits = &mut self.asked[usize::from(transport == Transport::Udp)];
        (&mut bits[usize::from(port / 64)], 1 << (port % 64))
    }

    fn note(&mut self, transport: Transport, port: u16, through_gateway: bool) {
        let (word, bit) = self.bit(transport, port);
        *word = match through_gateway {
            true => *word | bit,
            false => *word & !bit,
        };
    }

    fn was_asked(&mut self, transport: Transport, port: u16) -> bool {
        let (word, bit) = self.bit(transport, port);
        *word & bit != 0
    }
}

/// Where a frame goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Way {
    /// Nowhere.
    Lost,
    /// To this member.
    Member(Ipv4Addr),
    /// To all members but its sender.
    Everybody,
    /// Out.
    Uplink,
    /// This one goes to its sender instead.
    Back(Vec<u8>),
}

const DOMAIN: u16 = 53;

/// Whether somebody has a hardware address, or the gateway.
pub fn is_taken(members: &Members, mac: [u8; 6]) -> bool {
    mac == GATEWAY_MAC || members.values().any(|member| member.mac == mac)
}

/// The hardware address of the member that has this address.
fn mac_of(members: &Members, address: Ipv4Addr) -> Option<[u8; 6]> {
    members.get(&address).map(|member| member.mac)
}

/// The way of a frame from the member that has the address `own`. Its addresses may be changed.
pub fn from_member(net: &Net, members: &mut Members, own: Ipv4Addr, bytes: &mut [u8]) -> Way {
    let Some(sender) = mac_of(members, own).map(|mac| (mac, own)) else {
        return Way::Lost;
    };
    let Some(kind) = frame::parse(bytes).filter(|kind| frame::is_from(bytes, kind, sender)) else {
        return Way::Lost;
    };
    let mut packet = match kind {
        Kind::Arp(arp) => {
            let target = match arp.target {
                address if address == net.gateway => Some(GATEWAY_MAC),
                address if address == own => None,
                address => mac_of(members, address),
            };
            return match target.filter(|_| arp.request) {
                Some(mac) => Way::Back(frame::arp_reply(&arp, mac).to_vec()),
                None => Way::Lost,
            };
        }
        Kind::Ipv4(packet) => packet,
    };
    let (to, destination) = (frame::to(bytes), packet.destination);
    match mac_of(members, destination) {
        _ if to == GATEWAY_MAC => to_gateway(net, members, own, bytes, &mut packet),
        _ if to[0] & 1 == 1 => {
            let everybody = destination == Ipv4Addr::BROADCAST
                || destination == net.subnet.broadcast()
                || destination.is_multicast();
            match everybody {
                true => Way::Everybody,
                false => Way::Lost,
            }
        }
        // No member is a way to somebody else.
        Some(mac) if mac == to => Way::Member(destination),
        _ => Way::Lost,
    }
}

fn to_gateway(
    net: &Net,
    members: &mut Members,
    own: Ipv4Addr,
    bytes: &mut [u8],
    packet: &mut Ipv4,
) -> Way {
    let ports = packet.ports(bytes);
    let to_domain = ports.filter(|(_, _, to)| *to == DOMAIN);
    if packet.destination != net.gateway {
        let resolver = members.get_mut(&own).and_then(|m| m.resolver.as_mut());
        if let (Some(resolver), Some((transport, from, _))) = (resolver, to_domain)
            && resolver.address == packet.destination
        {
            resolver.note(transport, from, false);
        }
        return match net.uplink.is_some() && is_outside(net, packet.destination) {
            true => Way::Uplink,
            false => Way::Lost,
        };
    }
    let question = packet
        .datagram(bytes)
        .filter(|_| to_domain.is_some())
        .and_then(|message| Some((message, names::parse(message)?)));
    if let Some((message, question)) = question {
        let has = |member: &Member| member.names.contains(&question.name);
        let known = members.iter().filter(|(_, member)| has(member));
        let addresses: Vec<Ipv4Addr> = known.map(|(address, _)| *address).collect();
        let answer = match (addresses.is_empty(), net.uplink) {
            (false, _) => Some(names::answer(message, &question, &addresses)),
            (true, None) => Some(names::no_such_name(message, &question)),
            (true, Some(_)) => None,
        };
        if let Some(answer) = answer {
            return packet.reply(bytes, &answer).map_or(Way::Lost, Way::Back);
        }
    }
    // Nobody listens there, and the uplink would say so in a way that no kernel understands. What answers who came through a
    // published port opens nothing.
    let is_served = to_domain.is_some() && net.uplink.is_some();
    if packet.opens(bytes) && !is_served {
        return packet.refusal(bytes).map_or(Way::Lost, Way::Back);
    }
    let Some(uplink) = net.uplink else {
        return Way::Lost;
    };
    let resolver = members.get_mut(&own).and_then(|m| m.resolver.as_mut());
    let destination = match (to_domain, resolver) {
        (Some((transport, from, _)), Some(resolver)) => {
            resolver.note(transport, from, true);
            resolver.address
        }
        (Some(_), None) => uplink.dns,
        (None, _) => uplink.host,
    };
    packet.set_destination(bytes, destination);
    Way::Uplink
}

/// Whether an address is one of a machine out there.
fn is_outside(net: &Net, address: Ipv4Addr) -> bool {
    let first = address.octets()[0];
    !net.subnet.contains(address) && (1..224).contains(&first) && first != 127
}

/// The way of a frame from the uplink. Its addresses may be changed.
pub fn from_uplink(net: &Net, members: &mut Members, bytes: &mut [u8]) -> Way {
    let Some(uplink) = net.uplink else {
        return Way::Lost;
    };
    match frame::parse(bytes) {
        Some(Kind::Arp(arp)) if arp.request => match mac_of(members, arp.target) {
            Some(mac) => Way::Back(frame::arp_reply(&arp, mac).to_vec()),
            None => Way::Lost,
        },
        Some(Kind::Ipv4(mut packet)) => {
            let to = packet.destination;
            let Some(member) = members.get_mut(&to) else {
                return Way::Lost;
            };
            let ours = [uplink.host, uplink.dns].contains(&packet.source);
            if ours || is_answer(member, &packet, bytes) {
                packet.set_source(bytes, net.gateway);
            }
            frame::set_to(bytes, member.mac);
            Way::Member(to)
        }
        _ => Way::Lost,
    }
}

/// Whether it comes from the member's own name server, which it asked through the gateway.
fn is_answer(member: &mut Member, packet: &Ipv4, bytes: &[u8]) -> bool {
    let Some(resolver) = member.resolver.as_mut() else {
        return false;
    };
    match packet.ports(bytes) {
        Some((transport, DOMAIN, to)) if packet.source == resolver.address => {
            resolver.was_asked(transport, to)
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::super::frame::tests::{A, B, garbage, udp};
    use super::*;

    const GATEWAY: Ipv4Addr = Ipv4Addr::new(10, 89, 0, 1);
    const WORLD: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 7);

    fn net() -> Net {
        Net {
            subnet: "10.89.0.0/24".parse().unwrap(),
            gateway: GATEWAY,
            uplink: Some(Uplink {
                host: Ipv4Addr::new(240, 0, 0, 2),
                dns: Ipv4Addr::new(240, 0, 0, 3),
            }),
        }
    }

    fn internal() -> Net {
        Net {
            uplink: None,
            ..net()
        }
    }

    fn members() -> Members {
        let member = |address, names: &[&str]| Member {
            mac: frame::mac(address),
            names: names.iter().map(|n| (*n).to_owned()).collect(),
            resolver: None,
        };
        [(A, member(A, &["web"])), (B, member(B, &["db", "store"]))].into()
    }

    /// A packet to this address, by the way that the kernel of `from` would choose.
    fn packet(from: Ipv4Addr, to: Ipv4Addr, port: u16, payload: &[u8]) -> Vec<u8> {
        let mut frame = udp(from, to, (4000, port), payload);
        if ![A, B].contains(&to) {
            frame::set_to(&mut frame, GATEWAY_MAC);
        }
        frame
    }

    fn destination(frame: &[u8]) -> Ipv4Addr {
        match frame::parse(frame) {
            Some(Kind::Ipv4(packet)) => packet.destination,
            other => panic!("{other:?}"),
        }
    }

    fn question(name: &str) -> Vec<u8> {
        let mut message = vec![0, 7, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, name.len() as u8];
        message.extend(name.bytes());
        message.extend([0, 0, 1, 0, 1]);
        message
    }

    #[test]
    fn members_reach_each_other_and_the_world() {
        let way = |net: &Net, mut frame: Vec<u8>| from_member(net, &mut members(), A, &mut frame);
        assert_eq!(way(&net(), packet(A, B, 80, b"")), Way::Member(B));
        assert_eq!(way(&net(), packet(A, WORLD, 80, b"")), Way::Uplink);
        assert_eq!(way(&internal(), packet(A, B, 80, b"")), Way::Member(B));
        assert_eq!(way(&internal(), packet(A, WORLD, 80, b"")), Way::Lost);
        let mut all = packet(A, Ipv4Addr::BROADCAST, 80, b"");
        frame::set_to(&mut all, [0xff; 6]);
        assert_eq!(way(&net(), all), Way::Everybody);
    }

    #[test]
    fn nothing_comes_where_it_has_no_business() {
        let way = |mut frame: Vec<u8>| from_member(&net(), &mut members(), A, &mut frame);
        let [nobody, other] = [[10, 89, 0, 9], [10, 89, 0, 3]].map(Ipv4Addr::from);
        assert_eq!(way(packet(B, A, 80, b"")), Way::Lost, "another's address");
        for to in [
            nobody,
            Ipv4Addr::LOCALHOST,
            Ipv4Addr::UNSPECIFIED,
            Ipv4Addr::new(240, 0, 0, 2),
            Ipv4Addr::new(224, 0, 0, 1),
        ] {
            assert_eq!(way(packet(A, to, 80, b"")), Way::Lost, "{to}");
        }
        let mut through = packet(A, other, 80, b"");
        frame::set_to(&mut through, GATEWAY_MAC);
        assert_eq!(way(through), Way::Lost, "a member by the gateway");
        let mut by_member = packet(A, WORLD, 80, b"");
        frame::set_to(&mut by_member, frame::mac(B));
        assert_eq!(way(by_member), Way::Lost, "the world by a member");
        let mut to_all = packet(A, WORLD, 80, b"");
        frame::set_to(&mut to_all, [0xff; 6]);
        assert_eq!(way(to_all), Way::Lost, "the world by everybody");
    }

    #[test]
    fn names_of_members_are_answered_and_others_asked_for() {
        let ask = |net: &Net, name: &str| {
            let mut frame = packet(A, GATEWAY, DOMAIN, &question(name));
            let way = from_member(net, &mut members(), A, &mut frame);
            (way, destination(&frame))
        };
        let (Way::Back(reply), _) = ask(&net(), "store") else {
            panic!("no answer");
        };
        let Some(Kind::Ipv4(said)) = frame::parse(&reply) else {
            panic!("no packet");
        };
        assert_eq!((said.source, said.destination), (GATEWAY, A));
        assert!(said.datagram(&reply).unwrap().ends_with(&B.octets()));
        let dns = net().uplink.unwrap().dns;
        assert_eq!(ask(&net(), "example"), (Way::Uplink, dns));
        let (Way::Back(reply), _) = ask(&internal(), "example") else {
            panic!("no answer");
        };
        let Some(Kind::Ipv4(said)) = frame::parse(&reply) else {
            panic!("no packet");
        };
        assert_eq!(said.datagram(&reply).unwrap()[3] & 15, 3);
    }

    #[test]
    fn the_gateway_stands_for_the_uplink() {
        let uplink = net().uplink.unwrap();
        let mut out = packet(A, GATEWAY, 80, b"");
        assert_eq!(
            from_member(&net(), &mut members(), A, &mut out),
            Way::Uplink
        );
        assert_eq!(destination(&out), uplink.host);
        for (source, shown) in [
            (uplink.host, GATEWAY),
            (uplink.dns, GATEWAY),
            (WORLD, WORLD),
        ] {
            let mut back = packet(source, A, 80, b"");
            let way = from_uplink(&net(), &mut members(), &mut back);
            assert_eq!(way, Way::Member(A));
            let Some(Kind::Ipv4(seen)) = frame::parse(&back) else {
                panic!("no packet");
            };
            assert_eq!((seen.source, frame::to(&back)), (shown, frame::mac(A)));
        }
        let mut nobody = packet(WORLD, Ipv4Addr::new(10, 89, 0, 9), 80, b"");
        assert_eq!(from_uplink(&net(), &mut members(), &mut nobody), Way::Lost);
    }

    #[test]
    fn who_opens_a_connection_to_the_gateway_is_refused() {
        let segment = |port: u16, flags: u8| {
            let mut frame = packet(A, GATEWAY, port, &[0; 12]);
            // TCP, with a header of five words.
            frame[23] = 6;
            frame[46] = 5 << 4;
            frame[47] = flags;
            frame
        };
        let way = |net: &Net, mut frame: Vec<u8>| from_member(net, &mut members(), A, &mut frame);
        let (syn, syn_ack) = (2, 18);
        for (net, port) in [(net(), 80), (internal(), 80), (internal(), DOMAIN)] {
            let Way::Back(reply) = way(&net, segment(port, syn)) else {
                panic!("no answer");
            };
            let Some(Kind::Ipv4(said)) = frame::parse(&reply) else {
                panic!("no packet");
            };
            assert_eq!((said.source, said.destination), (GATEWAY, A));
            assert_eq!(said.ports(&reply), Some((Transport::Tcp, port, 4000)));
            assert_eq!(reply[47], 20, "RST and ACK");
        }
        assert_eq!(way(&net(), segment(DOMAIN, syn)), Way::Uplink);
        let answer = way(&net(), segment(80, syn_ack));
        assert_eq!(answer, Way::Uplink, "of a published port");
    }

    #[test]
    fn a_resolver_of_its_own_is_asked_through_the_gateway_and_directly() {
        let mut members = members();
        let member = members.get_mut(&A).unwrap();
        member.resolver = Some(Resolver::new(WORLD));
        let mut seen_from = |to: Ipv4Addr| {
            let mut out = packet(A, to, DOMAIN, &question("example"));
            let way = from_member(&net(), &mut members, A, &mut out);
            assert_eq!((way, destination(&out)), (Way::Uplink, WORLD));
            let mut back = udp(WORLD, A, (DOMAIN, 4000), b"");
            from_uplink(&net(), &mut members, &mut back);
            match frame::parse(&back) {
                Some(Kind::Ipv4(packet)) => packet.source,
                other => panic!("{other:?}"),
            }
        };
        assert_eq!(seen_from(GATEWAY), GATEWAY);
        assert_eq!(seen_from(WORLD), WORLD);
    }

    #[test]
    fn garbage_is_borne_and_goes_nowhere_under_a_wrong_name() {
        let mut members = members();
        garbage(|frame| {
            let before = frame.clone();
            match from_member(&net(), &mut members, B, frame) {
                Way::Lost => {}
                way => assert_eq!(before[6..12], frame::mac(B), "{way:?}"),
            }
            let mut frame = before;
            from_uplink(&net(), &mut members, &mut frame);
        });
    }
}
