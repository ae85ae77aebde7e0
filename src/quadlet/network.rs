//! `.network` files: a service that makes the network and stays active, so that containers can require it.

use super::names::{Known, Made};
use super::parse::Unit;
use super::service::{self, Frame};
use super::{Error, Host, words};

const SECTION: &str = "Network";

/// Keys of podman's for which there is nothing here.
const NOT_YET: &[&str] = &[
    "ContainersConfModule",
    "DNS",
    "DisableDNS",
    "GlobalArgs",
    "IPAMDriver",
    "IPRange",
    "IPv6",
    "InterfaceName",
    "NetworkDeleteOnStop",
    "Options",
    "PodmanArgs",
];

/// Keys of `[Network]`.
pub const KEYS: &[&str] = &[
    "NetworkName",
    "ServiceName",
    "Subnet",
    "Gateway",
    "Internal",
    "Driver",
    "Label",
    "RlArgs",
];

/// The text of the service.
///
/// # Errors
/// A key or a value.
pub fn text(unit: &Unit, made: &Made, known: &Known, host: &Host<'_>) -> Result<String, Error> {
    service::check(unit, "network", &|key| KEYS.contains(&key), NOT_YET)?;
    // One that is there is as good, in particular after the service was stopped, which leaves it.
    let mut line = service::rl(host, &["network", "create", "--ignore"]);
    for (key, option) in [
        ("Subnet", "--subnet"),
        ("Gateway", "--gateway"),
        ("Driver", "--driver"),
    ] {
        let given = unit.all(SECTION, key);
        // podman makes a network of several subnets.
        if let [_, second, ..] = given[..] {
            return Err(second.refuse("one at a time"));
        }
        let given = given.into_iter();
        line.extend(given.map(|entry| words::quote(&format!("{option}={}", entry.value))));
    }
    if let Some(entry) = unit.last(SECTION, "Internal")
        && entry.truth()?
    {
        line.push("--internal".to_owned());
    }
    for entry in unit.all(SECTION, "Label") {
        let labels = entry.words()?.into_iter();
        line.extend(labels.map(|label| words::quote(&format!("--label={label}"))));
    }
    for entry in unit.all(SECTION, "RlArgs") {
        line.extend(entry.words()?.iter().map(|word| words::quote(word)));
    }
    line.push(words::quote(&made.object));
    Frame::made_once(unit, line).text(known, host)
}
