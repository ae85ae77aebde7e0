//! Published ports: docker's `-p` notation, and their reservation.
//!
//! [`reserve`] binds every port as the helper will, all at the same time so that two requests for
//! one port meet, then lets them go: a port that is taken, reserved for root, or on an address that
//! is not the host's, is refused by name before anything is started. Where the host's port is left
//! open, the kernel picks a free one.

use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, UdpSocket};
use std::str::FromStr;
use std::sync::OnceLock;

use serde::{Deserialize, Serialize};

use super::choose::{has_ipv4, has_ipv6};
use super::{Error, Mode};

/// TCP or UDP.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Proto {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
}

impl fmt::Display for Proto {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if *self == Proto::Tcp { "tcp" } else { "udp" })
    }
}

/// Consecutive ports, none of them 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ports {
    /// The first.
    pub first: u16,
    /// How many, at least 1.
    pub count: u16,
}

impl Ports {
    /// Every port in turn.
    pub fn iter(self) -> impl Iterator<Item = u16> {
        (0..self.count).map(move |offset| self.first.saturating_add(offset))
    }
}

/// One `-p`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Publish {
    /// The host's address, or all of them.
    pub host_ip: Option<IpAddr>,
    /// The host's ports, as many as the container's; `None` has free ones picked.
    pub host: Option<Ports>,
    /// The container's ports.
    pub container: Ports,
    /// TCP or UDP.
    pub proto: Proto,
}

/// A published port that could be bound a moment ago.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reserved {
    /// The host's address, or all of them.
    pub host_ip: Option<IpAddr>,
    /// The host's ports.
    pub host: Ports,
    /// The container's ports, as many.
    pub container: Ports,
    /// TCP or UDP.
    pub proto: Proto,
}

impl FromStr for Publish {
    type Err = Error;

    /// docker-run(1), `--publish`: `[ip:][host[-end]]:container[-end][/tcp|udp]`, or the container's
    /// ports alone; IPv6 addresses stand in brackets.
    fn from_str(text: &str) -> Result<Self, Error> {
        let bad = |why| Error::BadPublish {
            text: text.to_owned(),
            why,
        };
        let (rest, proto) = match text.rsplit_once('/') {
            None => (text, Proto::Tcp),
            Some((rest, "tcp")) => (rest, Proto::Tcp),
            Some((rest, "udp")) => (rest, Proto::Udp),
            Some(_) => return Err(bad("the protocol is neither `tcp` nor `udp`")),
        };
        let (host_ip, rest) = address(rest).ok_or_else(|| bad("the address is malformed"))?;
        let (host, container) = match rest.split_once(':') {
            Some((host, container)) => (host, container),
            None if host_ip.is_some() => return Err(bad("the container's port is missing")),
            None => ("", rest),
        };
        let ports = |text| ports(text).ok_or_else(|| bad("a port is a number from 1 to 65535"));
        let container = ports(container)?;
        let host = if host.is_empty() {
            None
        } else {
            Some(ports(host)?)
        };
        if host.is_some_and(|host| host.count != container.count) {
            return Err(bad("the two ranges differ in length"));
        }
        Ok(Publish {
            host_ip,
            host,
            container,
            proto,
        })
    }
}

/// Splits an address off the front: `[v6]:`, or `v4:` where two colons are.
fn address(text: &str) -> Option<(Option<IpAddr>, &str)> {
    if let Some(rest) = text.strip_prefix('[') {
        let (ip, rest) = rest.split_once("]:")?;
        return Some((Some(IpAddr::V6(ip.parse().ok()?)), rest));
    }
    match text.split_once(':') {
        // An empty address means all, as for docker.
        Some(("", rest)) if rest.contains(':') => Some((None, rest)),
        Some((ip, rest)) if rest.contains(':') => Some((Some(IpAddr::V4(ip.parse().ok()?)), rest)),
        _ => Some((None, text)),
    }
}

/// `first` or `first-last`.
fn ports(text: &str) -> Option<Ports> {
    let number = |text: &str| {
        let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
        digits
            .then(|| text.parse::<u16>().ok().filter(|&port| port > 0))
            .flatten()
    };
    let (first, last) = match text.split_once('-') {
        Some((first, last)) => (number(first)?, number(last)?),
        None => (number(text)?, number(text)?),
    };
    // 1-65535 has 65535 ports, which still fits.
    Some(Ports {
        first,
        count: last.checked_sub(first)?.checked_add(1)?,
    })
}

/// A socket held to keep a port.
enum Held {
    Tcp(TcpListener),
    Udp(UdpSocket),
}

impl Held {
    fn bind(proto: Proto, address: IpAddr, port: u16) -> io::Result<Self> {
        match proto {
            Proto::Tcp => TcpListener::bind((address, port)).map(Held::Tcp),
            Proto::Udp => UdpSocket::bind((address, port)).map(Held::Udp),
        }
    }

    fn port(&self) -> io::Result<u16> {
        let address = match self {
            Held::Tcp(socket) => socket.local_addr(),
            Held::Udp(socket) => socket.local_addr(),
        };
        address.map(|address: SocketAddr| address.port())
    }
}

/// The addresses of the host on which a port that names none is published: what the helper of `mode` binds. pasta and
/// passt take one socket for both families, and of the families only those that the host has a way out by (pasta(1)), as
/// it is when this is asked first; slirp4netns, which a network with a name has too, forwards IPv4 alone.
pub fn anywhere(mode: Mode) -> &'static [IpAddr] {
    const BOTH: [IpAddr; 2] = [
        IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        IpAddr::V6(Ipv6Addr::UNSPECIFIED),
    ];
    static WAYS: OnceLock<(bool, bool)> = OnceLock::new();
    match mode {
        Mode::Pasta | Mode::Passt => match WAYS.get_or_init(|| (has_ipv4(), has_ipv6())) {
            (true, true) => &BOTH,
            (false, true) => &BOTH[1..],
            _ => &BOTH[..1],
        },
        _ => &BOTH[..1],
    }
}

/// Makes the published ports definite, in their order; ranges with open host ports fall apart into
/// single ones.
///
/// # Errors
/// [`Error::InUse`], [`Error::Privileged`], [`Error::NotOurs`], [`Error::Bind`].
pub fn reserve(publish: &[Publish]) -> Result<Vec<Reserved>, Error> {
    let (mut held, mut out) = (Vec::new(), Vec::new());
    // The definite ones first, so that none that is picked takes theirs away.
    let (definite, open): (Vec<_>, Vec<_>) = publish
        .iter()
        .enumerate()
        .partition(|(_, publish)| publish.host.is_some());
    for (index, p) in definite.into_iter().chain(open) {
        let Publish {
            host_ip,
            container,
            proto,
            ..
        } = *p;
        match p.host {
            Some(host) => {
                for port in host.iter() {
                    held.push(bind(proto, host_ip, port)?);
                }
                out.push((
                    index,
                    Reserved {
                        host_ip,
                        host,
                        container,
                        proto,
                    },
                ));
            }
            None => {
                for target in container.iter() {
                    let socket = bind(proto, host_ip, 0)?;
                    let first = socket.port().map_err(|source| {
                        let address = host_ip.unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED));
                        Error::Bind {
                            address,
                            port: 0,
                            proto,
                            source,
                        }
                    })?;
                    held.push(socket);
                    let one = |first| Ports { first, count: 1 };
                    let (host, container) = (one(first), one(target));
                    out.push((
                        index,
                        Reserved {
                            host_ip,
                            host,
                            container,
                            proto,
                        },
                    ));
                }
            }
        }
    }
    out.sort_by_key(|(index, _)| *index);
    Ok(out.into_iter().map(|(_, reserved)| reserved).collect())
}

/// Binds `port` as the helper will: on all addresses through one socket for both families, on IPv4
/// only where the host has no IPv6.
fn bind(proto: Proto, address: Option<IpAddr>, port: u16) -> Result<Held, Error> {
    let first = address.unwrap_or(IpAddr::V6(Ipv6Addr::UNSPECIFIED));
    let mut result = Held::bind(proto, first, port);
    let no_ipv6 = |e: &io::Error| {
        matches!(
            e.raw_os_error(),
            Some(libc::EAFNOSUPPORT | libc::EADDRNOTAVAIL)
        )
    };
    if address.is_none() && result.as_ref().err().is_some_and(no_ipv6) {
        result = Held::bind(proto, IpAddr::V4(Ipv4Addr::UNSPECIFIED), port);
    }
    result.map_err(|source| match source.kind() {
        io::ErrorKind::AddrInUse => Error::InUse {
            port,
            proto,
            address,
        },
        io::ErrorKind::AddrNotAvailable => Error::NotOurs(first),
        io::ErrorKind::PermissionDenied => Error::Privileged {
            port,
            limit: port_limit(),
        },
        _ => Error::Bind {
            address: first,
            port,
            proto,
            source,
        },
    })
}

/// The first port that is not reserved for root (ip(7), ip_unprivileged_port_start).
fn port_limit() -> u16 {
    std::fs::read_to_string("/proc/sys/net/ipv4/ip_unprivileged_port_start")
        .ok()
        .and_then(|text| text.trim().parse().ok())
        .unwrap_or(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Address, host's first port and count, container's, protocol.
    type Flat = (Option<String>, Option<(u16, u16)>, (u16, u16), Proto);

    fn parse(text: &str) -> Result<Flat, Error> {
        let p: Publish = text.parse()?;
        let pair = |p: Ports| (p.first, p.count);
        Ok((
            p.host_ip.map(|ip| ip.to_string()),
            p.host.map(pair),
            pair(p.container),
            p.proto,
        ))
    }

    #[test]
    fn docker_notation() {
        use Proto::{Tcp, Udp};
        let ip = |text: &str| Some(text.to_owned());
        assert_eq!(parse("80").unwrap(), (None, None, (80, 1), Tcp));
        assert_eq!(
            parse("8080:80").unwrap(),
            (None, Some((8080, 1)), (80, 1), Tcp)
        );
        assert_eq!(
            parse("53:53/udp").unwrap(),
            (None, Some((53, 1)), (53, 1), Udp)
        );
        assert_eq!(
            parse("127.0.0.1:8000-8010:9000-9010/tcp").unwrap(),
            (ip("127.0.0.1"), Some((8000, 11)), (9000, 11), Tcp)
        );
        assert_eq!(
            parse("127.0.0.1::80").unwrap(),
            (ip("127.0.0.1"), None, (80, 1), Tcp)
        );
        assert_eq!(
            parse("[::1]:8080:80").unwrap(),
            (ip("::1"), Some((8080, 1)), (80, 1), Tcp)
        );
        assert_eq!(
            parse("[fd00::2]::80-81").unwrap(),
            (ip("fd00::2"), None, (80, 2), Tcp)
        );
        assert_eq!(parse("::80").unwrap(), (None, None, (80, 1), Tcp));
        assert_eq!(parse(":80").unwrap(), (None, None, (80, 1), Tcp));
        assert_eq!(parse("1-65535").unwrap(), (None, None, (1, 65_535), Tcp));
    }

    #[test]
    fn what_is_no_port() {
        for text in [
            "",
            ":",
            "0",
            "65536",
            "80/sctp",
            "80-79",
            "8000-8001:80",
            "a:80",
            "1.2.3:80:80",
            "[::1]",
            "[::1]:",
            "[::1]80:80",
            "[::1]:80",
            "80:",
            "+80:80",
            "80:80:80:80",
            "localhost:80:80",
        ] {
            assert!(
                matches!(parse(text), Err(Error::BadPublish { .. })),
                "{text}"
            );
        }
    }

    fn publish(text: &str) -> Publish {
        text.parse().unwrap()
    }

    #[test]
    fn a_taken_port_is_named() {
        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = taken.local_addr().unwrap().port();
        for text in [format!("{port}:80"), format!("127.0.0.1:{port}:80")] {
            match reserve(&[publish(&text)]) {
                Err(Error::InUse {
                    port: named,
                    proto: Proto::Tcp,
                    ..
                }) => assert_eq!(named, port),
                other => panic!("{text}: {other:?}"),
            }
        }
        // The same number in UDP is free, and in TCP once it was let go.
        reserve(&[publish(&format!("127.0.0.1:{port}:80/udp"))]).unwrap();
        drop(taken);
        let reserved = reserve(&[publish(&format!("127.0.0.1:{port}:80"))]).unwrap();
        assert_eq!(
            reserved[0].host,
            Ports {
                first: port,
                count: 1
            }
        );
    }

    #[test]
    fn twice_the_same_port_is_refused() {
        let free = TcpListener::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap()
            .port();
        let one = publish(&format!("127.0.0.1:{free}:80"));
        assert!(matches!(reserve(&[one, one]), Err(Error::InUse { .. })));
    }

    #[test]
    fn open_ports_are_picked_in_order() {
        let reserved = reserve(&[publish("127.0.0.1::80-81"), publish("90/udp")]).unwrap();
        let targets: Vec<_> = reserved
            .iter()
            .map(|r| (r.container.first, r.proto))
            .collect();
        assert_eq!(
            targets,
            [(80, Proto::Tcp), (81, Proto::Tcp), (90, Proto::Udp)]
        );
        assert!(
            reserved
                .iter()
                .all(|r| r.host.first != 0 && r.host.count == 1)
        );
        assert_ne!(reserved[0].host, reserved[1].host);
    }

    #[test]
    fn foreign_addresses_and_low_ports() {
        let foreign = publish("198.51.100.77:8099:80");
        assert!(matches!(reserve(&[foreign]), Err(Error::NotOurs(_))));
        if !rustix::process::geteuid().is_root() && port_limit() > 79 {
            let error = reserve(&[publish("127.0.0.1:79:80")]).unwrap_err();
            assert!(
                matches!(error, Error::Privileged { port: 79, .. }),
                "{error}"
            );
            let hint = error.hint().unwrap();
            assert!(
                hint.ends_with("sysctl net.ipv4.ip_unprivileged_port_start=79"),
                "{hint}"
            );
        }
    }
}
