//! The network of a container: options, this machine's helpers and files brought together.

use std::net::{IpAddr, Ipv4Addr};

use super::units;
use super::{Context, Error};
use crate::model::mac;
use crate::model::network::NetworkSpec;
use crate::model::spec::{ContainerSpec, NetworkRequest};
use crate::monitor;
use crate::net::{self, AddHost, Choice, Dns, HostAddress, Member, Mode, Reserved, Resolver};
use crate::state::{Lease, Networks};
use crate::sys::wire::Interface;
use crate::userns::Rank;

/// All that is decided about a container's network.
#[derive(Debug)]
pub struct Decision {
    /// The helper, and why.
    pub choice: Choice,
    /// The container's resolver.
    pub resolver: Resolver,
    ports: Vec<Reserved>,
    added: Vec<AddHost>,
    host_gateway: bool,
    as_root: bool,
    /// The hardware address that is asked for.
    mac: Option<[u8; 6]>,
    /// The network with a name, and the container's address there.
    named: Option<Named>,
}

/// A place on a network with a name.
#[derive(Debug)]
struct Named {
    network: NetworkSpec,
    lease: Lease,
    dir: std::path::PathBuf,
    resolver: Option<Ipv4Addr>,
}

/// Decides; every port is known to be free a moment ago, and an address on a network with a name is the container's for
/// as long as the decision, or a process that was forked with it, lives.
///
/// # Errors
/// A mode, network, port, address or helper that is not to be had.
pub fn decide(context: &Context<'_>, request: &NetworkRequest) -> Result<Decision, Error> {
    let mode = Mode::parse(&request.mode)?;
    let path = std::env::var_os("PATH");
    let networks = Networks::new(context.dirs.networks());
    let network = match mode {
        Some(Mode::Named) => Some(networks.find(&request.mode)?),
        _ => None,
    };
    let choice = match &network {
        Some(network) => net::choose_named(network.internal, path.as_deref())?,
        None => net::choose(mode, path.as_deref())?,
    };
    let mut publish: Vec<net::Publish> = Vec::new();
    for text in &request.publish {
        publish.push(text.parse()?);
    }
    match &network {
        _ if publish.is_empty() => {}
        Some(network) if network.internal => {
            return Err(net::Error::Internal(network.name.clone()).into());
        }
        None if matches!(choice.mode(), Mode::None | Mode::Host) => {
            return Err(net::Error::NoPublish(choice.mode()).into());
        }
        _ => {}
    }
    let added: Vec<AddHost> = request
        .add_host
        .iter()
        .map(|a| a.parse())
        .collect::<Result<_, _>>()?;
    let mut servers = Vec::new();
    for text in &request.dns {
        servers.push(text.parse().map_err(|_| units::Error {
            option: "--dns",
            value: text.clone(),
            reason: "not an address".into(),
        })?);
    }
    let (search, options) = (request.dns_search.clone(), request.dns_option.clone());
    let dns = Dns {
        servers,
        search,
        options,
    };
    let named = match network {
        Some(network) => Some(place(&networks, network, request, &dns)?),
        None => {
            unnamed(request)?;
            None
        }
    };
    let host = net::HostResolver::read();
    let mac = request.mac.as_deref();
    let mac = mac.map(|text| hardware(text, choice.mode())).transpose()?;
    Ok(Decision {
        mac,
        resolver: match &named {
            Some(named) => net::member_resolver(named.network.gateway, &host, &dns),
            None => net::resolver(choice.mode(), &host, &dns),
        },
        ports: net::reserve(&publish)?,
        host_gateway: added.iter().any(|a| a.address == HostAddress::Gateway),
        added,
        as_root: context.caller()?.rank == Rank::HostRoot,
        choice,
        named,
    })
}

/// The hardware address that is asked for.
fn hardware(text: &str, mode: Mode) -> Result<[u8; 6], Error> {
    if matches!(mode, Mode::None | Mode::Host) {
        return Err(net::Error::NoMac(mode).into());
    }
    mac::parse(text).ok_or_else(|| {
        Error::Units(units::Error {
            option: "--mac-address",
            value: text.to_owned(),
            reason: "expected six bytes that are the address of one interface".into(),
        })
    })
}

/// Refuses what only a network with a name has.
fn unnamed(request: &NetworkRequest) -> Result<(), Error> {
    let option = match (&request.ip, request.aliases.is_empty()) {
        (Some(_), _) => "--ip",
        (None, false) => "--network-alias",
        (None, true) => return Ok(()),
    };
    Err(net::Error::NotNamed(option).into())
}

/// Takes an address on the network.
fn place(
    networks: &Networks,
    network: NetworkSpec,
    request: &NetworkRequest,
    dns: &Dns,
) -> Result<Named, Error> {
    if let Some(alias) = request.aliases.iter().find(|alias| !is_host_name(alias)) {
        return Err(net::Error::BadAlias(alias.clone()).into());
    }
    let wanted = match &request.ip {
        None => None,
        Some(text) => {
            let address: Option<Ipv4Addr> = text.parse().ok();
            let (subnet, gateway) = (network.subnet, network.gateway);
            let address = address.filter(|a| subnet.is_host(*a) && *a != gateway);
            let refused = || net::Error::NoSuchAddress {
                address: text.clone(),
                network: network.name.clone(),
                subnet,
                gateway,
            };
            Some(address.ok_or_else(refused)?)
        }
    };
    // The gateway asks one server, in the only address family that there is.
    let resolver = dns.servers.iter().find_map(|server| match server {
        IpAddr::V4(address) => Some(*address),
        IpAddr::V6(_) => None,
    });
    if let (None, Some(server)) = (resolver, dns.servers.first()) {
        return Err(Error::Units(units::Error {
            option: "--dns",
            value: server.to_string(),
            reason: "a network with a name has IPv4 only".into(),
        }));
    }
    Ok(Named {
        lease: networks.lease(&network, wanted)?,
        dir: networks.dir(&network.name),
        resolver,
        network,
    })
}

/// What a resolver asks for: letters, digits, `_`, `.` and `-`, at most 63 between two dots (RFC 1035).
fn is_host_name(text: &str) -> bool {
    let label = |label: &str| {
        let fits = |b: u8| b.is_ascii_alphanumeric() || b"_-".contains(&b);
        !label.is_empty() && label.len() <= 63 && label.bytes().all(fits)
    };
    text.len() <= 253 && text.split('.').all(label)
}

impl Decision {
    /// The mode that was chosen.
    pub fn mode(&self) -> Mode {
        self.choice.mode()
    }

    /// The published ports with all numbers filled in, in Docker's notation.
    pub fn published(&self) -> Vec<String> {
        let ports = |p: net::Ports| match p.count {
            1 => p.first.to_string(),
            n => format!("{}-{}", p.first, p.first.saturating_add(n - 1)),
        };
        self.ports
            .iter()
            .map(|p| {
                let ip = p.host_ip.map(|ip| match ip {
                    std::net::IpAddr::V4(ip) => format!("{ip}:"),
                    std::net::IpAddr::V6(ip) => format!("[{ip}]:"),
                });
                let ip = ip.unwrap_or_default();
                format!("{ip}{}:{}/{}", ports(p.host), ports(p.container), p.proto)
            })
            .collect()
    }

    /// The text of `/etc/hosts`.
    ///
    /// # Errors
    /// `host-gateway` where the host cannot be reached.
    pub fn hosts(&self, hostname: &str) -> Result<String, Error> {
        let (address, gateway) = net::addresses(self.mode(), self.host_gateway);
        let leased = self.named.as_ref().map(|named| named.lease.address.into());
        Ok(net::hosts(
            hostname,
            address.or(leased),
            gateway,
            &self.added,
        )?)
    }

    /// The interface that the container makes itself, where no helper does.
    pub fn interface(&self, spec: &ContainerSpec) -> Option<Interface> {
        match self.mode() {
            Mode::Passt => Some(net::wire(self.mac)),
            _ => self.member(spec).map(|member| member.interface()),
        }
    }

    /// Who the container is on its network with a name.
    fn member(&self, spec: &ContainerSpec) -> Option<Member> {
        let named = self.named.as_ref()?;
        Some(Member {
            dir: named.dir.clone(),
            subnet: named.network.subnet,
            gateway: named.network.gateway,
            internal: named.network.internal,
            address: named.lease.address,
            mac: self.mac,
            names: spec.network_names(),
            resolver: named.resolver,
        })
    }

    /// What the monitor starts.
    pub fn task(&self, spec: &ContainerSpec) -> Option<monitor::Network> {
        (!matches!(self.mode(), Mode::None | Mode::Host)).then(|| monitor::Network {
            choice: self.choice.clone(),
            ports: self.ports.clone(),
            forward_dns: self.resolver.forward,
            host_gateway: self.host_gateway,
            as_root: self.as_root,
            mac: self.mac,
            member: self.member(spec),
        })
    }
}
