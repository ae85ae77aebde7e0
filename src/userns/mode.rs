//! The words of `--userns`, `--uidmap` and `--gidmap` (podman-run(1)).

use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::Error;
use crate::model::IdRange;

/// What kind of map is asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Mode {
    /// The default map: container root is the caller, the other ids are subordinate ones.
    #[default]
    Default,
    /// The caller keeps their id inside (or gets the one named), around it the subordinate ids.
    KeepId {
        /// The id inside for the caller's uid; the same as outside if not named.
        uid: Option<u32>,
        /// The id inside for the caller's gid.
        gid: Option<u32>,
    },
    /// Subordinate ids only: the caller is not mapped at all.
    NoMap,
    /// One id: container root is the caller, and nobody else exists.
    Single,
    /// `--uidmap` and `--gidmap`. The middle number of a range counts along the caller's default
    /// map: 0 is the caller, 1 the first subordinate id. When root of the host asks, it is the
    /// host's id itself. An empty list takes over the other one.
    Explicit {
        /// User ids.
        uid: Vec<IdRange>,
        /// Group ids.
        gid: Vec<IdRange>,
    },
}

impl FromStr for Mode {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let (name, options) = match text.split_once(':') {
            Some((name, options)) => (name, Some(options)),
            None => (text, None),
        };
        match (name, options) {
            ("" | "default" | "private", None) => Ok(Mode::Default),
            ("nomap", None) => Ok(Mode::NoMap),
            ("single", None) => Ok(Mode::Single),
            ("keep-id", options) => keep_id(text, options.unwrap_or_default()),
            ("host", None) => Err(Error::Host),
            ("auto" | "ns" | "container", _) => Err(Error::NotYet(text.to_owned())),
            _ => Err(Error::UnknownMode(text.to_owned())),
        }
    }
}

/// The options of `keep-id:uid=N,gid=N`.
fn keep_id(text: &str, options: &str) -> Result<Mode, Error> {
    let (mut uid, mut gid) = (None, None);
    for option in options.split(',').filter(|o| !o.is_empty()) {
        let unknown = || Error::UnknownMode(text.to_owned());
        let (key, value) = option.split_once('=').ok_or_else(unknown)?;
        let slot = match key {
            "uid" => &mut uid,
            "gid" => &mut gid,
            "size" => return Err(Error::NotYet(text.to_owned())),
            _ => return Err(unknown()),
        };
        // The last id means "none" to the kernel.
        *slot = Some(
            value
                .parse()
                .ok()
                .filter(|&id| id != u32::MAX)
                .ok_or_else(unknown)?,
        );
    }
    Ok(Mode::KeepId { uid, gid })
}

/// The range of one `--uidmap` or `--gidmap`: `container:host[:length]`, the length 1 if left out.
///
/// # Errors
/// [`Error::BadRange`]; [`Error::NotYet`] for podman's `+` and `@` notations.
pub fn parse_id_range(text: &str) -> Result<IdRange, Error> {
    if text.contains(['+', '@']) {
        return Err(Error::NotYet(text.to_owned()));
    }
    let bad = || Error::BadRange(text.to_owned());
    let number = |field: &str| field.parse::<u32>().map_err(|_| bad());
    let fields: Vec<&str> = text.split(':').collect();
    let (container, host, length) = match fields.as_slice() {
        [container, host] => (number(container)?, number(host)?, 1),
        [container, host, length] => (number(container)?, number(host)?, number(length)?),
        _ => return Err(bad()),
    };
    if length == 0 || container.checked_add(length).is_none() || host.checked_add(length).is_none()
    {
        return Err(bad());
    }
    Ok(IdRange {
        container,
        host,
        length,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words() {
        let parse = |text: &str| text.parse::<Mode>();
        assert_eq!(parse("").unwrap(), Mode::Default);
        assert_eq!(
            parse("keep-id").unwrap(),
            Mode::KeepId {
                uid: None,
                gid: None
            }
        );
        assert_eq!(
            parse("keep-id:uid=5,gid=7").unwrap(),
            Mode::KeepId {
                uid: Some(5),
                gid: Some(7)
            }
        );
        assert_eq!(parse("nomap").unwrap(), Mode::NoMap);
        assert_eq!(parse("single").unwrap(), Mode::Single);
        assert!(matches!(parse("host"), Err(Error::Host)));
        for text in [
            "auto",
            "auto:size=5",
            "ns:/proc/1/ns/user",
            "keep-id:size=5",
        ] {
            assert!(matches!(parse(text), Err(Error::NotYet(_))), "{text}");
        }
        for text in [
            "keep-id:uid",
            "keep-id:uid=x",
            "keep-id:uid=4294967295",
            "keepid",
            "nomap:1",
        ] {
            assert!(matches!(parse(text), Err(Error::UnknownMode(_))), "{text}");
        }
    }

    #[test]
    fn ranges() {
        let range = |container, host, length| IdRange {
            container,
            host,
            length,
        };
        assert_eq!(parse_id_range("0:1:1000").unwrap(), range(0, 1, 1000));
        assert_eq!(parse_id_range("7:0").unwrap(), range(7, 0, 1));
        for text in [
            "",
            "1",
            "1:2:0",
            "1:2:3:4",
            "a:b:c",
            "-1:0:1",
            "4294967295:0:1",
        ] {
            assert!(
                matches!(parse_id_range(text), Err(Error::BadRange(_))),
                "{text}"
            );
        }
        assert!(matches!(parse_id_range("+1:@2:1"), Err(Error::NotYet(_))));
    }
}
