//! The network of a container: options, this machine's helpers and files brought together.

use super::Error;
use super::units;
use crate::model::spec::NetworkRequest;
use crate::monitor;
use crate::net::{self, AddHost, Choice, Dns, HostAddress, Mode, Reserved, Resolver};
use crate::userns::{Caller, Rank};

/// All that is decided about a container's network.
#[derive(Clone, Debug)]
pub struct Decision {
    /// The helper, and why.
    pub choice: Choice,
    /// The container's resolver.
    pub resolver: Resolver,
    ports: Vec<Reserved>,
    added: Vec<AddHost>,
    host_gateway: bool,
    as_root: bool,
}

/// Decides; every port is known to be free a moment ago.
///
/// # Errors
/// A mode, port, address or helper that is not to be had.
pub fn decide(request: &NetworkRequest, caller: &Caller) -> Result<Decision, Error> {
    let mode = Mode::parse(&request.mode)?;
    let choice = net::choose(mode, std::env::var_os("PATH").as_deref())?;
    let mut publish = Vec::new();
    for text in &request.publish {
        publish.push(text.parse()?);
    }
    if !publish.is_empty() && matches!(choice.mode(), Mode::None | Mode::Host) {
        return Err(net::Error::NoPublish(choice.mode()).into());
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
    Ok(Decision {
        resolver: net::resolver(choice.mode(), &net::HostResolver::read(), &dns),
        ports: net::reserve(&publish)?,
        host_gateway: added.iter().any(|a| a.address == HostAddress::Gateway),
        added,
        as_root: caller.rank == Rank::HostRoot,
        choice,
    })
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
        Ok(net::hosts(hostname, address, gateway, &self.added)?)
    }

    /// What the monitor starts.
    pub fn task(&self) -> Option<monitor::Network> {
        (!matches!(self.mode(), Mode::None | Mode::Host)).then(|| monitor::Network {
            choice: self.choice.clone(),
            ports: self.ports.clone(),
            forward_dns: self.resolver.forward,
            host_gateway: self.host_gateway,
            as_root: self.as_root,
        })
    }
}
