//! Ports inside that somebody listens on, or says so: `EXPOSE` of an image, `--expose`, and what `-P` publishes of them.

use std::collections::BTreeSet;

use super::units;
use crate::net::Publish;

/// Ports inside in Docker's notation: `80`, `53/udp`, `8000-8080/tcp`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Inside {
    first: u16,
    last: u16,
    /// `tcp`, `udp` or `sctp`.
    proto: String,
}

impl Inside {
    /// `PORT[-PORT][/PROTO]`, tcp where none is said.
    pub fn parse(text: &str) -> Option<Inside> {
        let (ports, proto) = text.split_once('/').unwrap_or((text, "tcp"));
        let (first, last) = ports.split_once('-').unwrap_or((ports, ports));
        let number = |text: &str| text.parse().ok().filter(|&port: &u16| port > 0);
        let inside = Inside {
            first: number(first)?,
            last: number(last)?,
            proto: proto.to_ascii_lowercase(),
        };
        let known = ["tcp", "udp", "sctp"].contains(&&*inside.proto);
        (known && inside.first <= inside.last).then_some(inside)
    }

    /// Whether some of another's are among them.
    pub fn meets(&self, text: &str) -> bool {
        Inside::parse(text).is_some_and(|other| {
            other.proto == self.proto && other.first <= self.last && self.first <= other.last
        })
    }
}

/// Single ports, each with its protocol.
type Set = BTreeSet<(String, u16)>;

fn set<'a>(texts: impl IntoIterator<Item = &'a str>) -> Set {
    let all = texts.into_iter().filter_map(Inside::parse);
    let each = |inside: Inside| {
        let Inside { first, last, proto } = inside;
        (first..=last).map(move |port| (proto.clone(), port))
    };
    all.flat_map(each).collect()
}

/// The same in as few words as there can be.
fn ranges(set: &Set) -> Vec<String> {
    let mut all: Vec<(&str, u16, u16)> = Vec::new();
    for (proto, port) in set {
        match all.last_mut() {
            Some((same, _, last)) if same == proto && last.checked_add(1) == Some(*port) => {
                *last = *port;
            }
            _ => all.push((proto, *port, *port)),
        }
    }
    let text = |(proto, first, last): (&str, u16, u16)| match first == last {
        true => format!("{first}/{proto}"),
        false => format!("{first}-{last}/{proto}"),
    };
    all.into_iter().map(text).collect()
}

/// What is published of the inside.
fn published(publish: &[String]) -> Set {
    let all = publish
        .iter()
        .filter_map(|text| text.parse::<Publish>().ok());
    let each = |publish: Publish| {
        let proto = publish.proto.to_string();
        publish
            .container
            .iter()
            .map(move |port| (proto.clone(), port))
    };
    all.flat_map(each).collect()
}

/// Every single port of these, in the same notation.
pub fn each(exposed: &[String]) -> impl Iterator<Item = String> {
    let all = set(exposed.iter().map(String::as_str)).into_iter();
    all.map(|(proto, port)| format!("{port}/{proto}"))
}

/// Refuses values of `--expose` that are none.
///
/// # Errors
/// The first of them.
pub fn check(asked: &[String]) -> Result<(), units::Error> {
    match asked.iter().find(|text| Inside::parse(text).is_none()) {
        Some(text) => Err(units::Error {
            option: "--expose",
            value: text.clone(),
            reason: "expected ports such as `80`, `53/udp` or `8000-8080/tcp`".into(),
        }),
        None => Ok(()),
    }
}

/// What a container exposes: as its image says, as is asked, and what is published.
pub fn exposed(image: &[String], asked: &[String], publish: &[String]) -> Vec<String> {
    let mut all = set(image.iter().chain(asked).map(String::as_str));
    all.extend(published(publish));
    ranges(&all)
}

/// What of this is not published.
pub fn unpublished(exposed: &[String], publish: &[String]) -> Vec<String> {
    let all = set(exposed.iter().map(String::as_str));
    ranges(&all.difference(&published(publish)).cloned().collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(texts: &[&str]) -> Vec<String> {
        texts.iter().map(|text| (*text).to_owned()).collect()
    }

    #[test]
    fn each_port_once_and_in_few_words() {
        let image = words(&["80/tcp", "no port", "53/UDP"]);
        let all = exposed(&image, &words(&["81-83", "82"]), &words(&["8080:84", "90"]));
        assert_eq!(all, ["80-84/tcp", "90/tcp", "53/udp"]);
        let left = unpublished(&all, &words(&["127.0.0.1:1-2:81-82", "53/udp"]));
        assert_eq!(left, ["80/tcp", "83-84/tcp", "90/tcp"]);
        assert_eq!(exposed(&[], &words(&["1-65535"]), &[]), ["1-65535/tcp"]);
    }

    #[test]
    fn what_exposes_nothing_is_refused() {
        assert!(check(&words(&["80", "1-2/sctp"])).is_ok());
        for bad in ["", "0", "http", "2-1", "80:80", "80/icmp", "65536"] {
            assert!(check(&words(&[bad])).is_err(), "{bad}");
        }
    }
}
