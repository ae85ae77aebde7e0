//! `.volume` files: a service that makes the volume and stays active, so that containers can require it.

use super::names::{Known, Made};
use super::parse::Unit;
use super::service::{self, Frame};
use super::{Error, Host, words};

/// Keys of podman's for which there is nothing here.
const NOT_YET: &[&str] = &[
    "ContainersConfModule",
    "Copy",
    "Driver",
    "GID",
    "GlobalArgs",
    "Group",
    "Image",
    "PodmanArgs",
    "UID",
    "User",
];

/// Keys of `[Volume]`.
pub const KEYS: &[&str] = &[
    "Device",
    "Label",
    "Options",
    "RlArgs",
    "ServiceName",
    "Type",
    "VolumeName",
];

/// The text of the service.
///
/// # Errors
/// A key or a value.
pub fn text(unit: &Unit, made: &Made, known: &Known, host: &Host<'_>) -> Result<String, Error> {
    service::check(unit, "volume", &|key| KEYS.contains(&key), NOT_YET)?;
    let mut line = service::rl(host, &["volume", "create"]);
    for entry in unit.all("Volume", "Label") {
        let labels = entry.words()?.into_iter();
        line.extend(labels.map(|label| words::quote(&format!("--label={label}"))));
    }
    for (key, name) in [("Type", "type"), ("Device", "device"), ("Options", "o")] {
        if let Some(entry) = unit.last("Volume", key) {
            line.push(words::quote(&format!("--opt={name}={}", entry.value)));
        }
    }
    for entry in unit.all("Volume", "RlArgs") {
        line.extend(entry.words()?.iter().map(|word| words::quote(word)));
    }
    line.push(words::quote(&made.object));
    Frame::made_once(unit, line).text(known, host)
}
