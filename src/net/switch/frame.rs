//! Ethernet frames as they lie in memory (IEEE 802.3; ARP: RFC 826; IPv4: RFC 791; UDP: RFC 768).
//!
//! They come from containers, which may put anything into them: a frame is looked at through [`parse`], which has
//! checked every length before anybody relies on it. What is no ARP or IPv4 is nothing.

use std::net::Ipv4Addr;
use std::ops::Range;

/// The longest frame: an Ethernet header and 65535 bytes of IPv4.
pub const LONGEST: usize = ETHERNET + 65535;
const ETHERNET: usize = 14;
/// Behind the Ethernet header.
const ARP: usize = 28;
const IPV4: usize = 20;
const UDP: usize = 8;
/// Numbers of protocols (RFC 5237).
const PROTOCOL_TCP: u8 = 6;
const PROTOCOL_UDP: u8 = 17;
/// Bits of a TCP header (RFC 9293, 3.1).
const SYN: u8 = 2;
const RST: u8 = 4;
const ACK: u8 = 16;

/// The hardware address of the gateway of every network.
pub const GATEWAY_MAC: [u8; 6] = [0x52, 0x55, 240, 0, 0, 2];

/// The hardware address of the member that has this address, where it has asked for no other: locally administered, and
/// the same at every start.
pub fn mac(address: Ipv4Addr) -> [u8; 6] {
    let [a, b, c, d] = address.octets();
    [0x02, 0x42, a, b, c, d]
}

/// What a frame is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A question for, or an answer with, a hardware address.
    Arp(Arp),
    /// An IPv4 packet.
    Ipv4(Ipv4),
}

/// An ARP message for Ethernet and IPv4.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Arp {
    /// It asks.
    pub request: bool,
    /// Who says it, by hardware address and address.
    pub sender: ([u8; 6], Ipv4Addr),
    /// Whom it is about.
    pub target: Ipv4Addr,
}

/// An IPv4 packet whose header is whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ipv4 {
    /// Source address.
    pub source: Ipv4Addr,
    /// Destination address.
    pub destination: Ipv4Addr,
    /// What is in it.
    protocol: u8,
    /// Where that lies in the frame.
    body: Range<usize>,
    /// How many bytes of a larger packet come before it.
    offset: u16,
    /// It is one part of a larger packet.
    fragment: bool,
}

/// A frame, checked; `None` for what nothing here carries.
pub fn parse(frame: &[u8]) -> Option<Kind> {
    match (at::<2>(frame, 12)?, frame.get(ETHERNET..)?) {
        ([8, 6], rest) if rest.len() >= ARP => {
            let operation = match at::<8>(rest, 0)? {
                [0, 1, 8, 0, 6, 4, 0, operation @ (1 | 2)] => operation,
                _ => return None,
            };
            Some(Kind::Arp(Arp {
                request: operation == 1,
                sender: (at(rest, 8)?, at::<4>(rest, 14)?.into()),
                target: at::<4>(rest, 24)?.into(),
            }))
        }
        ([8, 0], rest) => {
            let [first] = at::<1>(rest, 0)?;
            let (version, header) = (first >> 4, usize::from(first & 15) * 4);
            let total = usize::from(u16::from_be_bytes(at(rest, 2)?));
            if version != 4 || header < IPV4 || total < header || total > rest.len() {
                return None;
            }
            let part = u16::from_be_bytes(at(rest, 6)?);
            Some(Kind::Ipv4(Ipv4 {
                source: at::<4>(rest, 12)?.into(),
                destination: at::<4>(rest, 16)?.into(),
                protocol: at::<1>(rest, 9)?[0],
                body: ETHERNET + header..ETHERNET + total,
                offset: part & 0x1fff,
                fragment: part & 0x3fff != 0,
            }))
        }
        _ => None,
    }
}

/// The bytes at a place, if there are as many.
fn at<const N: usize>(bytes: &[u8], place: usize) -> Option<[u8; N]> {
    bytes.get(place..)?.first_chunk().copied()
}

/// Where a frame goes, by hardware address.
pub fn to(frame: &[u8]) -> [u8; 6] {
    at(frame, 0).unwrap_or_default()
}

/// Whether a frame says the truth about who sent it: the member that has these addresses. One that looks whether an
/// address is free (RFC 5227) does not say one.
pub fn is_from(frame: &[u8], kind: &Kind, (mac, own): ([u8; 6], Ipv4Addr)) -> bool {
    at(frame, 6) == Some(mac)
        && match kind {
            Kind::Arp(arp) => {
                let (hardware, address) = arp.sender;
                hardware == mac && (address == own || address.is_unspecified())
            }
            Kind::Ipv4(packet) => packet.source == own,
        }
}

/// The answer to an ARP request: its target has this hardware address.
pub fn arp_reply(arp: &Arp, mac: [u8; 6]) -> [u8; ETHERNET + ARP] {
    let mut reply = [0; ETHERNET + ARP];
    let (asker, address) = arp.sender;
    let mut parts = reply.iter_mut();
    let mut put = |bytes: &[u8]| parts.by_ref().zip(bytes).for_each(|(to, from)| *to = *from);
    put(&asker);
    put(&mac);
    put(&[8, 6, 0, 1, 8, 0, 6, 4, 0, 2]);
    put(&mac);
    put(&arp.target.octets());
    put(&asker);
    put(&address.octets());
    reply
}

/// TCP or UDP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
}

impl Ipv4 {
    /// Transport, source port and destination port, where this is the part that says.
    pub fn ports(&self, frame: &[u8]) -> Option<(Transport, u16, u16)> {
        let transport = match self.protocol {
            PROTOCOL_TCP => Transport::Tcp,
            PROTOCOL_UDP => Transport::Udp,
            _ => return None,
        };
        let body = frame.get(self.body.clone()).filter(|_| self.offset == 0)?;
        let port = |place| at(body, place).map(u16::from_be_bytes);
        Some((transport, port(0)?, port(2)?))
    }

    /// Whether it asks for a TCP connection (RFC 9293, 3.5): SYN without ACK.
    pub fn opens(&self, frame: &[u8]) -> bool {
        let flags = frame.get(self.body.clone()).and_then(|body| at(body, 13));
        let [flags] = flags.unwrap_or_default();
        self.protocol == PROTOCOL_TCP && self.offset == 0 && flags & (SYN | ACK) == SYN
    }

    /// The frame that refuses the connection that this packet [opens](Ipv4::opens): as from a port that nobody listens
    /// at (RFC 9293, 3.10.7.1).
    pub fn refusal(&self, frame: &[u8]) -> Option<Vec<u8>> {
        let body = frame.get(self.body.clone())?;
        let [first] = at::<1>(body, 12)?;
        let payload = body.len().checked_sub(usize::from(first >> 4) * 4)?;
        let sequence = u32::from_be_bytes(at(body, 4)?);
        // SYN counts as one.
        let seen = sequence.wrapping_add(u32::try_from(payload).ok()?.wrapping_add(1));
        let mut segment = Vec::with_capacity(20);
        segment.extend([at::<2>(body, 2)?, at::<2>(body, 0)?].concat());
        segment.extend([0; 4]);
        segment.extend(seen.to_be_bytes());
        // Five words of header; no window, checksum or urgent bytes.
        segment.extend([5 << 4, RST | ACK, 0, 0, 0, 0, 0, 0]);
        let mut out = self.header(frame, PROTOCOL_TCP, segment.len())?;
        let mut all = out.get(ETHERNET + 12..)?.to_vec();
        all.extend([0, PROTOCOL_TCP]);
        all.extend(u16::try_from(segment.len()).ok()?.to_be_bytes());
        all.extend(&segment);
        segment[16..18].copy_from_slice(&checksum(&all).to_be_bytes());
        out.extend(segment);
        Some(out)
    }

    /// What a UDP packet holds that is in one piece.
    pub fn datagram<'a>(&self, frame: &'a [u8]) -> Option<&'a [u8]> {
        let body = frame.get(self.body.clone())?;
        let length = usize::from(u16::from_be_bytes(at(body, 4)?));
        let whole = self.protocol == PROTOCOL_UDP && !self.fragment;
        body.get(UDP..length).filter(|_| whole)
    }

    /// The frame that answers a UDP packet with `payload`.
    pub fn reply(&self, frame: &[u8], payload: &[u8]) -> Option<Vec<u8>> {
        let (_, from, to) = self.ports(frame)?;
        let length = UDP + payload.len();
        let mut out = self.header(frame, PROTOCOL_UDP, length)?;
        out.extend(to.to_be_bytes());
        out.extend(from.to_be_bytes());
        out.extend(u16::try_from(length).ok()?.to_be_bytes());
        // No checksum, which IPv4 allows: nothing here goes over a wire.
        out.extend([0, 0]);
        out.extend(payload);
        Some(out)
    }

    /// The headers of a frame that answers this one with so many bytes of a protocol.
    fn header(&self, frame: &[u8], protocol: u8, length: usize) -> Option<Vec<u8>> {
        let mut out = Vec::with_capacity(ETHERNET + IPV4 + length);
        out.extend(at::<6>(frame, 6)?);
        out.extend(at::<6>(frame, 0)?);
        // Version and header length, in one piece, 64 hops.
        out.extend([8, 0, 0x45, 0]);
        out.extend(u16::try_from(IPV4 + length).ok()?.to_be_bytes());
        out.extend([0, 0, 0x40, 0, 64, protocol, 0, 0]);
        out.extend(self.destination.octets());
        out.extend(self.source.octets());
        let sum = checksum(&out[ETHERNET..]);
        out[ETHERNET + 10..ETHERNET + 12].copy_from_slice(&sum.to_be_bytes());
        Some(out)
    }

    /// Gives the packet another source address.
    pub fn set_source(&mut self, frame: &mut [u8], address: Ipv4Addr) {
        self.replace(frame, ETHERNET + 12, self.source, address);
        self.source = address;
    }

    /// Gives the packet another destination address.
    pub fn set_destination(&mut self, frame: &mut [u8], address: Ipv4Addr) {
        self.replace(frame, ETHERNET + 16, self.destination, address);
        self.destination = address;
    }

    /// Replaces an address, and what it adds to the checksums of the header and of TCP or UDP (RFC 1624).
    fn replace(&self, frame: &mut [u8], place: usize, old: Ipv4Addr, new: Ipv4Addr) {
        frame[place..place + 4].copy_from_slice(&new.octets());
        adjust(frame, ETHERNET + 10, old, new);
        let sum = match self.protocol {
            6 => self.body.start + 16,
            17 => self.body.start + 6,
            _ => return,
        };
        let there = self.offset == 0 && sum + 2 <= self.body.end;
        // A UDP packet without a checksum has none afterwards.
        if there && (self.protocol == 6 || frame[sum..sum + 2] != [0, 0]) {
            adjust(frame, sum, old, new);
            if self.protocol == 17 && frame[sum..sum + 2] == [0, 0] {
                frame[sum..sum + 2].copy_from_slice(&[0xff, 0xff]);
            }
        }
    }
}

/// Gives a frame another destination.
pub fn set_to(frame: &mut [u8], mac: [u8; 6]) {
    if let Some(place) = frame.first_chunk_mut() {
        *place = mac;
    }
}

fn adjust(frame: &mut [u8], place: usize, old: Ipv4Addr, new: Ipv4Addr) {
    let words = |address: Ipv4Addr| {
        let [a, b, c, d] = address.octets();
        [u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d])]
    };
    let now = u16::from_be_bytes([frame[place], frame[place + 1]]);
    let mut sum = u32::from(!now);
    sum += words(old).map(|word| u32::from(!word)).iter().sum::<u32>();
    sum += words(new).map(u32::from).iter().sum::<u32>();
    frame[place..place + 2].copy_from_slice(&fold(sum).to_be_bytes());
}

/// The Internet checksum (RFC 1071) of a header with an even number of bytes.
fn checksum(bytes: &[u8]) -> u16 {
    let words = bytes.chunks_exact(2);
    fold(
        words
            .map(|w| u32::from(u16::from_be_bytes([w[0], w[1]])))
            .sum(),
    )
}

fn fold(mut sum: u32) -> u16 {
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

#[cfg(test)]
pub mod tests {
    use super::*;

    pub const A: Ipv4Addr = Ipv4Addr::new(10, 89, 0, 2);
    pub const B: Ipv4Addr = Ipv4Addr::new(10, 89, 0, 3);

    /// A UDP packet between two members, with both checksums.
    pub fn udp(from: Ipv4Addr, to: Ipv4Addr, ports: (u16, u16), payload: &[u8]) -> Vec<u8> {
        let request = Ipv4 {
            source: to,
            destination: from,
            protocol: 17,
            body: 0..4,
            offset: 0,
            fragment: false,
        };
        let mut asked = [ports.1.to_be_bytes(), ports.0.to_be_bytes()].concat();
        asked.resize(6, 0);
        asked.extend(mac(from));
        let mut frame = request.reply(&asked, payload).unwrap();
        frame[..6].copy_from_slice(&mac(to));
        frame[6..12].copy_from_slice(&mac(from));
        let sum = transport_sum(&frame);
        frame[40..42].copy_from_slice(&sum.to_be_bytes());
        frame
    }

    /// The checksum that the UDP packet should have, with its pseudo header.
    fn transport_sum(frame: &[u8]) -> u16 {
        let body = &frame[34..];
        let mut all = frame[26..34].to_vec();
        all.extend([0, 17]);
        all.extend((body.len() as u16).to_be_bytes());
        all.extend(&body[..6]);
        all.extend([0, 0]);
        all.extend(&body[8..]);
        if all.len() % 2 == 1 {
            all.push(0);
        }
        checksum(&all)
    }

    fn packet(frame: &[u8]) -> Ipv4 {
        match parse(frame) {
            Some(Kind::Ipv4(packet)) => packet,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn an_address_that_is_replaced_leaves_the_checksums_right() {
        let mut frame = udp(A, B, (4000, 53), b"what?");
        let mut packet = packet(&frame);
        packet.set_destination(&mut frame, Ipv4Addr::new(240, 0, 0, 3));
        packet.set_source(&mut frame, Ipv4Addr::new(255, 254, 0, 1));
        assert_eq!(self::packet(&frame), packet);
        assert_eq!(checksum(&frame[14..34]), 0, "that of the header");
        assert_eq!(frame[40..42], transport_sum(&frame).to_be_bytes());
        assert_eq!(packet.datagram(&frame), Some(&b"what?"[..]));
    }

    #[test]
    fn a_packet_without_a_checksum_gets_none() {
        let mut frame = udp(A, B, (4000, 53), b"what?");
        frame[40..42].fill(0);
        let mut packet = packet(&frame);
        packet.set_destination(&mut frame, A);
        assert_eq!(frame[40..42], [0, 0]);
    }

    #[test]
    fn who_says_it_is_who_sent_it() {
        let is_from =
            |frame: &[u8], own| super::is_from(frame, &parse(frame).unwrap(), (mac(own), own));
        let frame = udp(A, B, (1, 2), b"");
        assert!(is_from(&frame, A) && !is_from(&frame, B));
        let mut hardware = frame.clone();
        hardware[11] ^= 1;
        assert!(!is_from(&hardware, A));
        let mut address = frame;
        address[29] = 3;
        assert!(!is_from(&address, A));
        let ask = |hardware, address| {
            let arp = Arp {
                request: true,
                sender: (mac(B), B),
                target: address,
            };
            let mut frame = arp_reply(&arp, hardware).to_vec();
            frame[6..12].copy_from_slice(&mac(A));
            frame
        };
        assert!(is_from(&ask(mac(A), A), A));
        assert!(is_from(&ask(mac(A), Ipv4Addr::UNSPECIFIED), A));
        assert!(!is_from(&ask(mac(A), B), A));
        assert!(!is_from(&ask(GATEWAY_MAC, A), A));
    }

    #[test]
    fn arp_is_answered() {
        let arp = Arp {
            request: true,
            sender: (mac(A), A),
            target: B,
        };
        let reply = arp_reply(&arp, mac(B));
        let Some(Kind::Arp(said)) = parse(&reply) else {
            panic!("no ARP");
        };
        let expected = Arp {
            request: false,
            sender: (mac(B), B),
            target: A,
        };
        assert_eq!((said, to(&reply)), (expected, mac(A)));
    }

    #[test]
    fn what_is_cut_off_or_says_wrong_lengths_is_nothing_or_smaller() {
        let whole = udp(A, B, (4000, 53), b"what?");
        for length in 0..whole.len() {
            assert_eq!(parse(&whole[..length]), None, "{length} bytes");
        }
        for (place, value) in [(14, 0x44), (14, 0x4f), (14, 0x65), (16, 0xff), (12, 0x86)] {
            let mut wrong = whole.clone();
            wrong[place] = value;
            assert_eq!(parse(&wrong), None, "{value:#x} at {place}");
        }
        let mut longer = whole.clone();
        longer[38..40].copy_from_slice(&99u16.to_be_bytes());
        assert_eq!(packet(&longer).datagram(&longer), None);
        let mut part = whole;
        part[21] = 1;
        assert_eq!(packet(&part).ports(&part), None);
        assert_eq!(packet(&part).datagram(&part), None);
    }

    /// Bytes of chance, and frames in which some bytes are of chance.
    pub fn garbage(mut take: impl FnMut(&mut Vec<u8>)) {
        let mut state = 0x9e37_79b9_7f4a_7c15_u64;
        let mut next = |below: usize| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state >> 20) as usize % below
        };
        for turn in 0..20_000 {
            let mut frame = match turn % 3 {
                0 => (0..next(80)).map(|_| next(256) as u8).collect(),
                1 => udp(A, B, (4000, 53), &[0; 30][..next(30)]),
                _ => {
                    let arp = Arp {
                        request: true,
                        sender: (mac(A), A),
                        target: B,
                    };
                    arp_reply(&arp, mac(A)).to_vec()
                }
            };
            for _ in 0..next(6) {
                if !frame.is_empty() {
                    let place = next(frame.len());
                    frame[place] = next(256) as u8;
                }
            }
            let length = frame.len() - next(2) * next(frame.len() + 1);
            frame.truncate(length);
            take(&mut frame);
        }
    }

    #[test]
    fn garbage_is_borne() {
        let mut seen = 0;
        garbage(|frame| {
            let length = frame.len();
            if let Some(Kind::Ipv4(mut packet)) = parse(frame) {
                seen += 1;
                let _ = packet.ports(frame);
                let _ = packet.datagram(frame);
                let _ = packet.reply(frame, b"answer");
                packet.set_source(frame, B);
                packet.set_destination(frame, A);
                assert_eq!(frame.len(), length);
            }
        });
        assert!(seen > 1000, "{seen}");
    }
}
