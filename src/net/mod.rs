//! The container's network: the request, the choice, the helper that carries it, the two files that
//! go with it.
//!
//! In order: [`Mode`] and [`Publish`] are what was asked for; [`choose`] settles on one of the
//! ladder's rungs and keeps the evidence; [`reserve`] turns the published ports into definite ones,
//! refusing those that cannot be bound, before anything is started; [`resolver`] and [`hosts`] give
//! the texts of /etc/resolv.conf and /etc/hosts; once the namespaces exist [`start`] runs the helper,
//! [`Starting::finish`] waits for it and [`Running`] is watched and stopped by the monitor.
//!
//! Bringing `lo` up is the container's own work.
//!
//! On a network with a name a container is a [`Member`]. Its frames are carried by a process that all members of the
//! network share (`switch`), which is joined instead of started where it runs already.

mod choose;
mod files;
mod member;
mod publish;
mod pump;
mod start;
mod switch;

pub use choose::{Choice, Link, choose, choose_named, routes, same_for_all};
pub use files::{
    AddHost, Dns, HostAddress, HostResolver, Resolver, hosts, member_resolver, resolver,
};
pub use member::{Member, mac};
pub use publish::{Ports, Proto, Publish, Reserved, anywhere, reserve};
pub use start::{Ended, Request, Running, Starting, addresses, start, wire};

use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

/// Where the host's resolver answers inside when pasta forwards to it: a link-local address that no
/// one else has (the one podman uses).
pub const PASTA_DNS: Ipv4Addr = Ipv4Addr::new(169, 254, 1, 1);

/// The same in IPv6; a link-local one would need a zone.
pub const PASTA_DNS6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 0x53);

pub use crate::model::spec::NetworkMode as Mode;
use helper_process::packages::install;

use crate::model::subnet::Subnet;

impl Mode {
    /// The mode of `--network TEXT`; `None` for the words that leave the choice to us.
    ///
    /// # Errors
    /// [`Error::UnknownMode`], [`Error::NotYet`].
    pub fn parse(text: &str) -> Result<Option<Self>, Error> {
        match text {
            "" | "default" | "private" => Ok(None),
            other => other.parse().map(Some),
        }
    }
}

impl FromStr for Mode {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        match text {
            "pasta" => Ok(Mode::Pasta),
            "slirp4netns" => Ok(Mode::Slirp4netns),
            "passt" => Ok(Mode::Passt),
            "none" => Ok(Mode::None),
            "host" => Ok(Mode::Host),
            "bridge" => Err(Error::NotYet(text.to_owned())),
            _ if text.contains([':', ',']) => Err(Error::NotYet(text.to_owned())),
            _ if is_name(text) => Ok(Mode::Named),
            _ => Err(Error::UnknownMode(text.to_owned())),
        }
    }
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Mode::Pasta => "pasta",
            Mode::Slirp4netns => "slirp4netns",
            Mode::Passt => "passt",
            Mode::Named => "NAME",
            Mode::None => "none",
            Mode::Host => "host",
        })
    }
}

/// Whether a network can have this name: Docker's rule, and no word that `--network` takes for something else.
pub fn is_name(text: &str) -> bool {
    let letters = |b: u8| b.is_ascii_alphanumeric() || b"_.-".contains(&b);
    let taken = [
        "bridge",
        "container",
        "default",
        "host",
        "none",
        "ns",
        "passt",
        "pasta",
        "private",
        "slirp4netns",
    ];
    text.starts_with(|c: char| c.is_ascii_alphanumeric())
        && text.bytes().all(letters)
        && text.len() <= 128
        && !taken.contains(&text)
}

/// Why there is no network as asked for.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// `--network` with a word that means nothing.
    #[error(
        "`{0}` is neither a network mode (`pasta`, `slirp4netns`, `passt`, `none`, `host`) nor a network's name"
    )]
    UnknownMode(String),
    /// `--network` with something docker or podman have.
    #[error("`--network {0}` is not supported yet")]
    NotYet(String),
    /// Neither helper is installed, or not the one asked for.
    #[error("{0}")]
    NoHelper(&'static str),
    /// /dev/net/tun cannot be opened.
    #[error("open(`/dev/net/tun`, O_RDWR)")]
    NoTun(#[source] io::Error),
    /// `-p` that is not in docker's notation.
    #[error(
        "`{text}` is no port to publish: {why} (`[ip:][host[-end]]:container[-end][/tcp|udp]`)"
    )]
    BadPublish {
        /// The argument.
        text: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// `-p` without a network namespace that could be reached.
    #[error("ports cannot be published with `--network {0}`")]
    NoPublish(Mode),
    /// `--mac-address` without an interface of the container's own.
    #[error("there is no hardware address to be chosen with `--network {0}`")]
    NoMac(Mode),
    /// A port below the limit for unprivileged users.
    #[error("port {port} of the host is reserved for root: ports below {limit} are")]
    Privileged {
        /// The port.
        port: u16,
        /// net.ipv4.ip_unprivileged_port_start.
        limit: u16,
    },
    /// Somebody has it already.
    #[error("port {port}/{proto} of the host is already in use{}", on(*address))]
    InUse {
        /// The port.
        port: u16,
        /// Its protocol.
        proto: Proto,
        /// The address that was asked for.
        address: Option<IpAddr>,
    },
    /// The host has no such address.
    #[error("`{0}` is not an address of this host")]
    NotOurs(IpAddr),
    /// Another failure to bind.
    #[error("bind({address}, port {port}/{proto})")]
    Bind {
        /// The address that was bound.
        address: IpAddr,
        /// The port; 0 to have one picked.
        port: u16,
        /// Its protocol.
        proto: Proto,
        /// What bind(2) said.
        source: io::Error,
    },
    /// `--add-host` that is not `name:ip`.
    #[error("`{0}` is no host entry of the form `name:ip` or `name:host-gateway`")]
    BadAddHost(String),
    /// `host-gateway` where no address leads to the host.
    #[error("`{name}:host-gateway`: this host has no address that a container could reach it by")]
    NoGateway {
        /// The name it was to have.
        name: String,
    },
    /// pasta or passt failed.
    #[error(transparent)]
    Pasta(#[from] Box<helper_process::Error>),
    /// The process between passt and the container cannot be started.
    #[error("clone3(pump)")]
    Pump(#[source] io::Error),
    /// slirp4netns failed.
    #[error(transparent)]
    Slirp(#[from] Box<slirp4netns_rs::Error>),
    /// The way out of networks with a name is missing.
    #[error("`slirp4netns` is not installed, which is the way out of a network with a name")]
    NoUplink,
    /// An option for members of networks with a name, without one.
    #[error("`{0}` needs `--network` with the name of a network")]
    NotNamed(&'static str),
    /// A port that is to lead into a network which nothing leads into.
    #[error("network `{0}` is internal: no port can be published")]
    Internal(String),
    /// An address that cannot be had.
    #[error("`--ip {address}`: network `{network}` has the addresses of {subnet} except {gateway}")]
    NoSuchAddress {
        /// The one that was asked for.
        address: String,
        /// The network.
        network: String,
        /// Its addresses.
        subnet: Subnet,
        /// Its gateway's.
        gateway: Ipv4Addr,
    },
    /// An alias that no resolver would ask for.
    #[error("`{0}` is no name for a container on a network: letters, digits, `_`, `.` and `-`")]
    BadAlias(String),
    /// The process that carries the frames of a network cannot be started or talked to.
    #[error("{call}")]
    Switch {
        /// The call.
        call: &'static str,
        /// What it said.
        source: io::Error,
    },
    /// It does not take the container.
    #[error("{message}")]
    Refused {
        /// Why.
        message: String,
        /// What to do about it.
        hint: Option<String>,
    },
    /// It has died again and again.
    #[error("the network's switch dies again and again")]
    SwitchDies,
}

/// ` on ADDRESS`, or nothing.
fn on(address: Option<IpAddr>) -> String {
    address
        .map(|address| format!(" on {address}"))
        .unwrap_or_default()
}

impl Error {
    /// The line that mends it, where one is known.
    pub fn hint(&self) -> Option<String> {
        match self {
            Error::NotYet(text) if text == "bridge" => Some("leave `--network` out".to_owned()),
            Error::NoHelper(why) => {
                let package = if why.starts_with("`slirp4netns`") {
                    "slirp4netns"
                } else {
                    "passt"
                };
                Some(format!(
                    "as root: {}; or run with `--network none`",
                    install(package)
                ))
            }
            Error::NoTun(source) => Some(format!(
                "as root: {} (or {}, which can do without); or run with `--network none`",
                helper_process::TUN.fix(source),
                install("passt")
            )),
            Error::Privileged { port, .. } => Some(format!(
                "as root: sysctl net.ipv4.ip_unprivileged_port_start={port}"
            )),
            Error::InUse { port, proto, .. } => {
                let option = if *proto == Proto::Tcp { "-t" } else { "-u" };
                Some(format!(
                    "to see who has it: ss -lpn {option} 'sport = :{port}'"
                ))
            }
            Error::NoGateway { .. } => {
                Some("connect the host to a network, or leave it out".into())
            }
            Error::NoUplink => Some(format!(
                "as root: {}; or make it `--internal`, without a way out",
                install("slirp4netns")
            )),
            Error::NoMac(_) => Some(
                "one goes with pasta, slirp4netns and the networks of `rl network create`".into(),
            ),
            Error::NotNamed(_) => Some("rl network create NAME; rl run --network NAME …".into()),
            Error::Internal(_) => {
                Some("leave `--publish` out: its containers reach each other at any port".into())
            }
            Error::NoSuchAddress { .. } => Some("leave `--ip` out to have a free one".into()),
            Error::Refused { hint, .. } => hint.clone(),
            Error::Pasta(error) => pasta::hint(error),
            Error::Slirp(error) => error.hint(),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes() {
        for mode in [
            Mode::Pasta,
            Mode::Slirp4netns,
            Mode::Passt,
            Mode::None,
            Mode::Host,
        ] {
            assert_eq!(Mode::parse(&mode.to_string()).unwrap(), Some(mode));
        }
        assert_eq!(Mode::parse("").unwrap(), None);
        for text in ["bridge", "container:x", "pasta:--mtu,1500", "ns:/x", "a,b"] {
            assert!(matches!(Mode::parse(text), Err(Error::NotYet(_))), "{text}");
        }
        assert_eq!(Mode::parse("past").unwrap(), Some(Mode::Named));
        for text in ["a b", "-x", "/ns", ".", "x/y"] {
            assert!(
                matches!(Mode::parse(text), Err(Error::UnknownMode(_))),
                "{text}"
            );
        }
    }
}
