//! Networks with a name: their verbs.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use serde_json::{Value, json};

use super::only::{self, Label, Only, Pattern, PatternError, truth};
use super::{Context, containers, names};
use crate::model::network::NetworkSpec;
use crate::model::spec::{ContainerSpec, VERSION};
use crate::model::subnet::{Subnet, SubnetError};
use crate::model::time::{now, to_rfc3339};
use crate::net;
use crate::state::{Container, Networks};

/// Why there is no such network, or one too many.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A name that breaks Docker's rule, or means something else.
    #[error(
        "`{0}` is not a network name: at most 128 letters, digits, `_`, `.` and `-`, and no word such as `host`"
    )]
    Name(String),
    /// A network of this name is there.
    #[error("network `{0}` is there already")]
    Taken(String),
    /// A driver that is none.
    #[error("`--driver {0}`: there is `bridge` alone, a network of containers on this machine")]
    Driver(String),
    /// A subnet that is none.
    #[error("`--subnet`: {0}")]
    Subnet(#[from] SubnetError),
    /// Somebody has some of its addresses.
    #[error("`--subnet {subnet}` has addresses in common with {owner}")]
    Overlap {
        /// The subnet.
        subnet: Subnet,
        /// Who has them.
        owner: String,
    },
    /// The range that subnets are taken from is used up.
    #[error("no free subnet is left in 10.89.0.0/16")]
    NoSubnet,
    /// A gateway that is no address of the subnet.
    #[error("`--gateway {gateway}` is no address of {subnet}")]
    Gateway {
        /// The gateway.
        gateway: String,
        /// The subnet.
        subnet: Subnet,
    },
    /// A gateway without the subnet that it is in.
    #[error("`--gateway` needs `--subnet`")]
    GatewayAlone,
    /// Containers are on it.
    #[error("network `{name}` is in use by {}", list_of(containers))]
    InUse {
        /// The network.
        name: String,
        /// They.
        containers: Vec<String>,
    },
    /// A filter that there is not.
    #[error("`{0}` is not a filter: name, id, label, driver or dangling, then `=` and a value")]
    Filter(String),
    /// A name to look for that is no regular expression.
    #[error(transparent)]
    Pattern(#[from] PatternError),
}

/// At most three names, and how many more there are.
fn list_of(containers: &[String]) -> String {
    let shown: Vec<String> = containers
        .iter()
        .take(3)
        .map(|c| format!("`{c}`"))
        .collect();
    let word = match containers.len() {
        1 => "container",
        _ => "containers",
    };
    let more = match containers.len().saturating_sub(3) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    format!("{word} {}{more}", shown.join(", "))
}

impl Error {
    /// What to do about it.
    pub fn hint(&self) -> String {
        match self {
            Error::Name(_) => "rl network create backend".into(),
            Error::Taken(name) => {
                format!("`rl network inspect {name}` shows it; `rl network rm {name}` removes it")
            }
            Error::Driver(_) => "leave `--driver` out".into(),
            Error::Subnet(_) => "rl network create --subnet 10.89.7.0/24 backend".into(),
            Error::Overlap { .. } => "leave `--subnet` out to have a free one".into(),
            Error::NoSubnet => {
                "name another with `--subnet`, or remove networks: rl network prune".into()
            }
            Error::Gateway { subnet, .. } => {
                format!(
                    "such as `--gateway {}`, which it is without the option",
                    subnet.host(1)
                )
            }
            Error::GatewayAlone => {
                "rl network create --subnet 10.89.7.0/24 --gateway 10.89.7.254 backend".into()
            }
            Error::InUse { containers, .. } => format!("rl rm --force {}", containers.join(" ")),
            Error::Filter(_) | Error::Pattern(_) => "such as `--filter label=tier=db`".into(),
        }
    }
}

/// What is asked for.
#[derive(Clone, Debug, Default)]
pub struct New {
    /// Its name.
    pub name: String,
    /// Its driver.
    pub driver: Option<String>,
    /// Its subnet; a free one where it is left open.
    pub subnet: Option<String>,
    /// The gateway's address; the first where it is left open.
    pub gateway: Option<String>,
    /// Whether there is no way out.
    pub internal: bool,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// One that is there is left as it is.
    pub ignore: bool,
}

/// Makes a network; returns its name.
///
/// # Errors
/// A name or a subnet that cannot be had.
pub fn create(context: &Context<'_>, new: &New) -> Result<String, super::Error> {
    if !net::is_name(&new.name) {
        return Err(Error::Name(new.name.clone()).into());
    }
    if let Some(driver) = new.driver.as_ref().filter(|driver| *driver != "bridge") {
        return Err(Error::Driver(driver.clone()).into());
    }
    let wanted = new.subnet.as_deref().map(str::parse::<Subnet>);
    let wanted = wanted.transpose().map_err(Error::from)?;
    let all = Networks::new(context.dirs.networks());
    if new.ignore && all.find(&new.name).is_ok() {
        return Ok(new.name.clone());
    }
    let made = all.create(|others| -> Result<NetworkSpec, super::Error> {
        if others.iter().any(|other| other.name == new.name) {
            return Err(Error::Taken(new.name.clone()).into());
        }
        let subnet = subnet(wanted, others)?;
        Ok(NetworkSpec {
            version: VERSION,
            id: names::random_id(),
            name: new.name.clone(),
            subnet,
            gateway: gateway(new.gateway.as_deref(), wanted, subnet)?,
            internal: new.internal,
            labels: new.labels.clone(),
            created: u64::try_from(now()).unwrap_or(0),
        })
    })?;
    context.event("network", &made.id, &made.name, "create");
    Ok(made.name)
}

/// The subnet asked for, or the first that neither a network nor a route of the host has.
fn subnet(wanted: Option<Subnet>, others: &[NetworkSpec]) -> Result<Subnet, Error> {
    let taken = |subnet: Subnet| {
        let other = others.iter().find(|other| other.subnet.overlaps(subnet));
        other.map(|other| format!("network `{}` ({})", other.name, other.subnet))
    };
    if let Some(subnet) = wanted {
        // A subnet of the host's may be meant to be hidden; another network's never is.
        return match taken(subnet) {
            Some(owner) => Err(Error::Overlap { subnet, owner }),
            None => Ok(subnet),
        };
    }
    let routes = net::routes();
    let all = (0..=255).filter_map(|n| Subnet::new(Ipv4Addr::new(10, 89, n, 0), 24));
    let mut free = all.filter(|subnet| {
        taken(*subnet).is_none() && !routes.iter().any(|route| route.overlaps(*subnet))
    });
    free.next().ok_or(Error::NoSubnet)
}

fn gateway(text: Option<&str>, wanted: Option<Subnet>, subnet: Subnet) -> Result<Ipv4Addr, Error> {
    let Some(text) = text else {
        return Ok(subnet.host(1));
    };
    if wanted.is_none() {
        return Err(Error::GatewayAlone);
    }
    let address = text.parse().ok();
    let address = address.filter(|address| subnet.is_host(*address));
    address.ok_or_else(|| Error::Gateway {
        gateway: text.to_owned(),
        subnet,
    })
}

/// A condition of `rl network ls --filter`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Filter {
    /// The name contains something like this.
    Name(Pattern),
    /// The id starts with this.
    Id(String),
    /// A label, perhaps with a value.
    Label(Label),
    /// The driver.
    Driver(String),
    /// Whether no container is on it.
    Dangling(bool),
}

impl std::str::FromStr for Filter {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let bad = || Error::Filter(text.to_owned());
        let (key, value) = text.split_once('=').ok_or_else(bad)?;
        let owned = value.to_owned();
        Ok(match key {
            "name" => Filter::Name(Pattern::parse(value)?),
            "id" => Filter::Id(owned),
            "label" => Filter::Label(Label::parse(value)),
            "driver" => Filter::Driver(owned),
            "dangling" => Filter::Dangling(truth(value).ok_or_else(bad)?),
            _ => return Err(bad()),
        })
    }
}

/// The networks that pass all filters, by name.
///
/// # Errors
/// The containers cannot be read, where a filter asks for them.
pub fn list(context: &Context<'_>, filters: &[Filter]) -> Result<Vec<NetworkSpec>, super::Error> {
    let mut all = Networks::new(context.dirs.networks()).list();
    let used = match filters.iter().any(|f| matches!(f, Filter::Dangling(_))) {
        true => containers::list(context, true)?,
        false => Vec::new(),
    };
    all.retain(|network| {
        let fits = |filter: &Filter| match filter {
            Filter::Name(pattern) => pattern.fits(&network.name),
            Filter::Id(text) => network.id.starts_with(text),
            Filter::Label(label) => label.is_among(&network.labels),
            Filter::Driver(word) => word == "bridge",
            Filter::Dangling(wanted) => users(&used, &network.name).is_empty() == *wanted,
        };
        only::passes(filters, |f| matches!(f, Filter::Label(_)), fits)
    });
    Ok(all)
}

/// The containers on the network `name`.
fn users<'a>(containers: &'a [Container], name: &str) -> Vec<&'a Container> {
    let on_it = |c: &&Container| c.spec.network.name() == Some(name);
    containers.iter().filter(on_it).collect()
}

/// Removes a network.
///
/// # Errors
/// There is none, or containers are on it.
pub fn remove(context: &Context<'_>, name: &str) -> Result<(), super::Error> {
    let mut id = String::new();
    Networks::new(context.dirs.networks()).remove(name, |network| {
        id.clone_from(&network.id);
        let all = containers::list(context, true)?;
        let containers = users(&all, name).into_iter();
        let containers: Vec<String> = containers.map(|c| c.spec.name.clone()).collect();
        match containers.is_empty() {
            true => Ok(()),
            false => Err(super::Error::from(Error::InUse {
                name: name.to_owned(),
                containers,
            })),
        }
    })?;
    context.event("network", &id, name, "destroy");
    Ok(())
}

/// Removes the networks that no container is on and that fit `only`; returns their names.
///
/// # Errors
/// The containers cannot be read. What cannot be removed is told and left.
pub fn prune(context: &Context<'_>, only: &Only) -> Result<Vec<String>, super::Error> {
    let mut removed = Vec::new();
    for network in list(context, &[Filter::Dangling(true)])? {
        let made = i64::try_from(network.created).unwrap_or(i64::MAX);
        if !only.fits(made, &network.labels) {
            continue;
        }
        match remove(context, &network.name) {
            Ok(()) => removed.push(network.name),
            // A container was quicker.
            Err(super::Error::Networks(Error::InUse { .. })) => {}
            Err(error) => drop(context.ui.fail(&error)),
        }
    }
    Ok(removed)
}

/// What is known of a network and of the containers that run on it, in Docker's shape.
///
/// # Errors
/// There is none; the containers cannot be read.
pub fn inspect(context: &Context<'_>, name: &str) -> Result<Value, super::Error> {
    let network = Networks::new(context.dirs.networks()).find(name)?;
    let all = containers::list(context, true)?;
    let mut on_it = serde_json::Map::new();
    for container in users(&all, name) {
        if let Some(address) = container.state.address {
            let value = json!({
                "Name": container.spec.name,
                "MacAddress": mac(&container.spec, address),
                "IPv4Address": format!("{address}/{}", network.subnet.prefix()),
                "IPv6Address": "",
            });
            on_it.insert(container.spec.id.clone(), value);
        }
    }
    let mut value = fields(&network);
    value["IPAM"] = json!({
        "Driver": "default",
        "Config": [{
            "Subnet": network.subnet.to_string(),
            "Gateway": network.gateway.to_string(),
        }],
    });
    value["Containers"] = Value::Object(on_it);
    Ok(value)
}

/// The hardware address of a container that has this address.
fn mac(spec: &ContainerSpec, address: Ipv4Addr) -> String {
    let asked = spec.network.request.mac_told();
    asked.unwrap_or_else(|| net::mac(address))
}

/// What is known of a network, without its containers.
pub fn fields(network: &NetworkSpec) -> Value {
    let created = i64::try_from(network.created).unwrap_or(i64::MAX);
    json!({
        "Name": network.name,
        "Id": network.id,
        "Created": to_rfc3339(created),
        "Scope": "local",
        "Driver": "bridge",
        "EnableIPv6": false,
        "Internal": network.internal,
        "Labels": network.labels,
    })
}

/// What `rl inspect` shows of a container's networks.
pub fn of_container(networks: &Networks, container: &Container) -> Option<(String, Value)> {
    let spec = &container.spec;
    let name = spec.network.name()?;
    let network: Option<NetworkSpec> = networks.find(name).ok();
    let text = |address: Option<Ipv4Addr>| address.map(|a| a.to_string()).unwrap_or_default();
    let address = container.state.address;
    let up = network.as_ref().filter(|_| address.is_some());
    let value = json!({
        "NetworkID": network.as_ref().map(|network| network.id.clone()).unwrap_or_default(),
        "Aliases": spec.network.request.aliases,
        "IPAddress": text(address),
        "IPPrefixLen": up.map_or(0, |network| network.subnet.prefix()),
        "Gateway": text(up.filter(|network| !network.internal).map(|network| network.gateway)),
        "MacAddress": address.map(|address| mac(spec, address)).unwrap_or_default(),
    });
    Some((name.to_owned(), value))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn network(name: &str, subnet: &str) -> NetworkSpec {
        let subnet: Subnet = subnet.parse().unwrap();
        NetworkSpec {
            version: VERSION,
            id: names::random_id(),
            name: name.into(),
            subnet,
            gateway: subnet.host(1),
            internal: false,
            labels: BTreeMap::new(),
            created: 0,
        }
    }

    #[test]
    fn a_subnet_is_nobody_elses() {
        let others = [network("a", "10.89.0.0/24"), network("b", "10.89.1.0/26")];
        let free = subnet(None, &others).unwrap();
        assert!(others.iter().all(|other| !other.subnet.overlaps(free)));
        assert_eq!(free.prefix(), 24);
        let wanted = "10.89.0.0/16".parse().unwrap();
        let error = subnet(Some(wanted), &others).unwrap_err().to_string();
        assert_eq!(
            error,
            "`--subnet 10.89.0.0/16` has addresses in common with network `a` (10.89.0.0/24)"
        );
        let all = [network("all", "10.89.0.0/16")];
        assert!(matches!(subnet(None, &all), Err(Error::NoSubnet)));
    }

    #[test]
    fn a_gateway_is_one_of_the_addresses() {
        let net: Subnet = "10.1.0.0/24".parse().unwrap();
        let text = |text| gateway(text, Some(net), net);
        assert_eq!(text(None).unwrap(), net.host(1));
        assert_eq!(text(Some("10.1.0.254")).unwrap(), net.host(254));
        for bad in ["10.1.0.0", "10.1.0.255", "10.2.0.1", "x"] {
            assert!(text(Some(bad)).is_err(), "{bad}");
        }
        let alone = gateway(Some("10.1.0.2"), None, net);
        assert!(matches!(alone, Err(Error::GatewayAlone)));
    }

    #[test]
    fn users_are_named() {
        let names = |n: usize| list_of(&vec!["x".to_owned(); n]);
        assert_eq!(names(1), "container `x`");
        assert_eq!(names(5), "containers `x`, `x`, `x` and 2 more");
    }
}
