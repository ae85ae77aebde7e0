//! The texts of the container's /etc/resolv.conf and /etc/hosts (resolv.conf(5), hosts(5)).
//!
//! A resolver on the host's loopback (systemd-resolved's stub, dnsmasq) is out of a container's
//! reach. It is replaced by the address at which the network helper forwards to it, so that the
//! host's own split DNS and cache keep working; the servers that systemd-resolved itself asks come
//! after it.

use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::{Error, Mode, PASTA_DNS, PASTA_DNS6};

/// `--dns`, `--dns-search`, `--dns-option`; what is empty is taken from the host.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Dns {
    /// Name servers.
    pub servers: Vec<IpAddr>,
    /// Search domains; a single `.` means none.
    pub search: Vec<String>,
    /// Resolver options.
    pub options: Vec<String>,
}

/// What the host's own files say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HostResolver {
    /// /etc/resolv.conf.
    pub etc: String,
    /// /run/systemd/resolve/resolv.conf: the servers behind the stub resolver.
    pub systemd: String,
}

impl HostResolver {
    /// Reads both; one that is missing is empty.
    pub fn read() -> Self {
        let read = |path| {
            std::fs::read(path)
                .map(|b| String::from_utf8_lossy(&b).into_owned())
                .unwrap_or_default()
        };
        HostResolver {
            etc: read("/etc/resolv.conf"),
            systemd: read("/run/systemd/resolve/resolv.conf"),
        }
    }
}

impl HostResolver {
    /// The address family without which a container has no resolver, as a helper forwards to one on the host's
    /// loopback and that is of this family alone: whether it is IPv6.
    pub(super) fn only_family(&self) -> Option<bool> {
        let (etc, behind) = (parse(&self.etc).servers, parse(&self.systemd).servers);
        let local = loopback(&etc);
        let first = local.first()?.is_ipv6();
        let alone = reachable(&etc).is_empty() && reachable(&behind).is_empty();
        (alone && local.iter().all(|server| server.is_ipv6() == first)).then_some(first)
    }
}

/// The container's resolver.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resolver {
    /// The text of /etc/resolv.conf.
    pub text: String,
    /// Whether the helper has to be told to forward to the host's resolver: pasta what comes to [`PASTA_DNS`] and
    /// [`PASTA_DNS6`]; slirp4netns, which does so for IPv4 anyway, to carry IPv6 for it.
    pub forward: bool,
}

/// The parts of a resolv.conf that matter.
#[derive(Default)]
struct Parsed<'a> {
    servers: Vec<&'a str>,
    search: Vec<&'a str>,
    options: Vec<&'a str>,
}

/// As the resolver library reads it: `search` and `domain` overwrite each other, the last counts.
fn parse(text: &str) -> Parsed<'_> {
    let mut parsed = Parsed::default();
    for line in text.lines() {
        let mut words = line.split_whitespace();
        match words.next() {
            Some("nameserver") => parsed.servers.extend(words.next()),
            Some("search") => parsed.search = words.collect(),
            Some("domain") => parsed.search = words.take(1).collect(),
            Some("options") => parsed.options.extend(words),
            _ => {}
        }
    }
    parsed
}

/// The servers that a network namespace of its own can reach: no loopback, and no address with a
/// zone (`fe80::1%eth0`), whose interface is not there.
fn reachable(servers: &[&str]) -> Vec<IpAddr> {
    servers
        .iter()
        .filter_map(|server| server.parse::<IpAddr>().ok())
        .filter(|server| !server.is_loopback() && !server.is_unspecified() && !link_local(server))
        .collect()
}

/// The servers on the host's loopback.
fn loopback(servers: &[&str]) -> Vec<IpAddr> {
    let addresses = servers.iter().filter_map(|server| server.parse().ok());
    addresses.filter(IpAddr::is_loopback).collect()
}

/// The addresses at which a helper forwards to servers on the host's loopback: it asks one of the family that it
/// is asked in.
fn forwarders(loopback: &[IpAddr], v4: Ipv4Addr, v6: Ipv6Addr) -> Vec<IpAddr> {
    let only_v6 = !loopback.is_empty() && loopback.iter().all(IpAddr::is_ipv6);
    let some_v6 = loopback.iter().any(IpAddr::is_ipv6);
    [
        (!only_v6).then_some(IpAddr::V4(v4)),
        some_v6.then_some(IpAddr::V6(v6)),
    ]
    .into_iter()
    .flatten()
    .collect()
}

fn link_local(address: &IpAddr) -> bool {
    matches!(address, IpAddr::V6(v6) if v6.segments()[0] & 0xffc0 == 0xfe80)
}

/// The container's resolver in network mode `mode`.
pub fn resolver(mode: Mode, host: &HostResolver, dns: &Dns) -> Resolver {
    let etc = parse(&host.etc);
    let mut forward = false;
    let servers: Vec<String> = if !dns.servers.is_empty() {
        dns.servers.iter().map(IpAddr::to_string).collect()
    } else {
        match mode {
            Mode::Host => etc.servers.iter().map(|&s| s.to_owned()).collect(),
            // A member's is the gateway: [`member_resolver`].
            Mode::None | Mode::Named => Vec::new(),
            Mode::Pasta | Mode::Passt | Mode::Slirp4netns => {
                let mut servers = reachable(&etc.servers);
                if servers.is_empty() {
                    let slirp = mode == Mode::Slirp4netns;
                    let (v4, v6) = match slirp {
                        true => (slirp4netns_rs::DNS, slirp4netns_rs::DNS6),
                        false => (PASTA_DNS, PASTA_DNS6),
                    };
                    let through = forwarders(&loopback(&etc.servers), v4, v6);
                    forward = !slirp || through.iter().any(IpAddr::is_ipv6);
                    servers.extend(through);
                    servers.extend(reachable(&parse(&host.systemd).servers));
                }
                servers.iter().map(IpAddr::to_string).collect()
            }
        }
    };
    let search: Vec<&str> = match dns.search.as_slice() {
        [] => etc.search,
        [dot] if dot == "." => Vec::new(),
        given => given.iter().map(String::as_str).collect(),
    };
    let options: Vec<&str> = match dns.options.as_slice() {
        // `trust-ad` vouches for a local resolver; the one asked now is another.
        [] if forward => etc
            .options
            .into_iter()
            .filter(|&o| o != "trust-ad")
            .collect(),
        [] => etc.options,
        given => given.iter().map(String::as_str).collect(),
    };
    let mut text = String::new();
    for server in &servers {
        let _ = writeln!(text, "nameserver {server}");
    }
    for (word, values) in [("search", search), ("options", options)] {
        if !values.is_empty() {
            let _ = writeln!(text, "{word} {}", values.join(" "));
        }
    }
    Resolver { text, forward }
}

/// The resolver of a member of a network with a name: the gateway answers for the others and asks for the rest, also where
/// `dns` has servers. A name without a dot is asked for as it is, before search domains are tried: it may be a container's.
pub fn member_resolver(gateway: Ipv4Addr, host: &HostResolver, dns: &Dns) -> Resolver {
    let mut dns = dns.clone();
    dns.servers = vec![gateway.into()];
    if dns.options.is_empty() {
        let etc = parse(&host.etc);
        let kept = etc.options.iter();
        let kept = kept.filter(|o| **o != "trust-ad" && !o.starts_with("ndots:"));
        dns.options = kept.map(|&o| o.to_owned()).collect();
        dns.options.push("ndots:0".to_owned());
    }
    resolver(Mode::Named, host, &dns)
}

/// Where an `--add-host` name leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum HostAddress {
    /// This address.
    Ip(IpAddr),
    /// `host-gateway`: the host, as the container reaches it.
    Gateway,
}

/// One `--add-host`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AddHost {
    /// The names, divided by `;` in the option as podman has it.
    pub names: Vec<String>,
    /// Where they lead.
    pub address: HostAddress,
}

impl FromStr for AddHost {
    type Err = Error;

    /// `name:ip`, `name=ip`, `name:[v6]`, `name:host-gateway`.
    fn from_str(text: &str) -> Result<Self, Error> {
        let bad = || Error::BadAddHost(text.to_owned());
        let (names, address) = text.split_once([':', '=']).ok_or_else(bad)?;
        let names: Vec<String> = names.split(';').map(str::to_owned).collect();
        let word = |name: &String| {
            !name.is_empty()
                && !name.contains(|c: char| c.is_whitespace() || c.is_control() || c == '#')
        };
        if !names.iter().all(word) {
            return Err(bad());
        }
        let address = match address {
            "host-gateway" => HostAddress::Gateway,
            ip => {
                let bare = ip
                    .strip_prefix('[')
                    .and_then(|ip| ip.strip_suffix(']'))
                    .unwrap_or(ip);
                HostAddress::Ip(bare.parse().map_err(|_| bad())?)
            }
        };
        Ok(AddHost { names, address })
    }
}

/// The text of /etc/hosts. `address` is the container's own (127.0.1.1 stands in for none, as
/// Debian has it), `gateway` the one by which it reaches the host.
///
/// # Errors
/// [`Error::NoGateway`].
pub fn hosts(
    hostname: &str,
    address: Option<IpAddr>,
    gateway: Option<IpAddr>,
    added: &[AddHost],
) -> Result<String, Error> {
    let mut text =
        String::from("127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n");
    for AddHost { names, address } in added {
        let address = match address {
            HostAddress::Ip(ip) => *ip,
            HostAddress::Gateway => gateway.ok_or_else(|| Error::NoGateway {
                name: names.join(";"),
            })?,
        };
        let _ = writeln!(text, "{address}\t{}", names.join(" "));
    }
    if !hostname.is_empty() && hostname != "localhost" {
        let own = address.map_or_else(|| "127.0.1.1".to_owned(), |address| address.to_string());
        // A full name is followed by its short form.
        match hostname.split_once('.') {
            Some((short, _)) if !short.is_empty() => {
                let _ = writeln!(text, "{own}\t{hostname} {short}");
            }
            _ => {
                let _ = writeln!(text, "{own}\t{hostname}");
            }
        }
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(etc: &str, systemd: &str) -> HostResolver {
        HostResolver {
            etc: etc.into(),
            systemd: systemd.into(),
        }
    }

    fn text(mode: Mode, host: &HostResolver) -> (String, bool) {
        let resolver = resolver(mode, host, &Dns::default());
        (resolver.text, resolver.forward)
    }

    const STUB: &str = "nameserver 127.0.0.53\noptions edns0 trust-ad\nsearch lan example.org\n";

    #[test]
    fn reachable_servers_are_taken_over() {
        let plain = host(
            "# by hand\nnameserver 192.0.2.53\nnameserver 127.0.0.1\nnameserver fe80::1%eth0\n",
            "",
        );
        let expected = ("nameserver 192.0.2.53\n".to_owned(), false);
        assert_eq!(text(Mode::Pasta, &plain), expected);
        assert_eq!(text(Mode::Slirp4netns, &plain), expected);
        assert_eq!(text(Mode::None, &plain), (String::new(), false));
    }

    #[test]
    fn a_loopback_resolver_is_reached_through_the_helper() {
        let stub = host(STUB, "");
        assert_eq!(
            text(Mode::Pasta, &stub),
            (
                "nameserver 169.254.1.1\nsearch lan example.org\noptions edns0\n".into(),
                true
            )
        );
        assert!(
            text(Mode::Slirp4netns, &stub)
                .0
                .starts_with("nameserver 10.0.2.3\nsearch")
        );
        let behind = host(STUB, "nameserver 192.0.2.7\nnameserver ::1\n");
        let (text_, forward) = text(Mode::Pasta, &behind);
        assert!(
            text_.starts_with("nameserver 169.254.1.1\nnameserver 192.0.2.7\nsearch"),
            "{text_}"
        );
        assert!(forward);
        let (host_text, forward) = text(Mode::Host, &behind);
        assert_eq!(
            host_text,
            "nameserver 127.0.0.53\nsearch lan example.org\noptions edns0 trust-ad\n"
        );
        assert!(!forward);
        assert!(text(Mode::Pasta, &host("", "")).1, "no server at all");
        assert_eq!(behind.only_family(), None);
        assert_eq!(stub.only_family(), Some(false));
    }

    #[test]
    fn a_resolver_is_asked_in_its_own_family() {
        let six = host("nameserver ::1\n", "");
        let of = |mode, host: &HostResolver| text(mode, host);
        assert_eq!(
            of(Mode::Pasta, &six),
            ("nameserver fd00::53\n".into(), true)
        );
        assert_eq!(
            of(Mode::Slirp4netns, &six),
            ("nameserver fd00::3\n".into(), true)
        );
        assert_eq!(six.only_family(), Some(true));
        let both = host("nameserver ::1\nnameserver 127.0.0.1\n", "");
        let expected = "nameserver 10.0.2.3\nnameserver fd00::3\n".to_owned();
        assert_eq!(of(Mode::Slirp4netns, &both), (expected, true));
        assert_eq!(both.only_family(), None);
    }

    #[test]
    fn options_replace_the_hosts() {
        let dns = Dns {
            servers: vec!["192.0.2.1".parse().unwrap(), "2001:db8::1".parse().unwrap()],
            search: vec![".".into()],
            options: vec!["ndots:2".into()],
        };
        let resolver = resolver(Mode::None, &host(STUB, ""), &dns);
        let expected = "nameserver 192.0.2.1\nnameserver 2001:db8::1\noptions ndots:2\n";
        assert_eq!(
            (resolver.text.as_str(), resolver.forward),
            (expected, false)
        );
    }

    #[test]
    fn add_host_notation() {
        let parse = |text: &str| text.parse::<AddHost>();
        let db = parse("db:192.0.2.9").unwrap();
        assert_eq!(db.names, ["db"]);
        assert_eq!(parse("db=192.0.2.9").unwrap(), db);
        let v6 = HostAddress::Ip("2001:db8::1".parse().unwrap());
        assert_eq!(parse("a;b:[2001:db8::1]").unwrap().address, v6);
        assert_eq!(parse("a:2001:db8::1").unwrap().address, v6);
        assert_eq!(
            parse("h:host-gateway").unwrap().address,
            HostAddress::Gateway
        );
        for text in [
            "",
            "a",
            "a:",
            ":1.2.3.4",
            "a:b",
            "a b:1.2.3.4",
            "a\n:1.2.3.4",
            "a#:1.2.3.4",
        ] {
            assert!(matches!(parse(text), Err(Error::BadAddHost(_))), "{text:?}");
        }
    }

    #[test]
    fn hosts_text() {
        let added: Vec<AddHost> = ["db:192.0.2.9", "gw:host-gateway"]
            .map(|t| t.parse().unwrap())
            .to_vec();
        let gateway = Some("192.0.2.2".parse().unwrap());
        let own = Some("10.0.2.100".parse().unwrap());
        assert_eq!(
            hosts("box.example.org", own, gateway, &added).unwrap(),
            "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n192.0.2.9\tdb\n\
             192.0.2.2\tgw\n10.0.2.100\tbox.example.org box\n"
        );
        assert!(
            hosts("box", None, None, &[])
                .unwrap()
                .ends_with("127.0.1.1\tbox\n")
        );
        assert!(matches!(
            hosts("box", None, None, &added),
            Err(Error::NoGateway { .. })
        ));
    }
}
