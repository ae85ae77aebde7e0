//! Which rung of the network ladder: pasta, then slirp4netns; passt, slower but without a device, where
//! /dev/net/tun cannot be opened. `none` and `host` only when asked for.
//!
//! Found by trying: the programs are looked for, /dev/net/tun is opened. pasta of before 2024 cannot
//! start on a host without a default route (a laptop on a train), slirp4netns can; so that one comes
//! first there. So it does where the host's resolver is on loopback in an address family that has no default
//! route: slirp4netns carries both.

use std::ffi::OsStr;
use std::net::Ipv4Addr;
use std::path::PathBuf;

use super::{Error, Mode};
use crate::model::subnet::Subnet;

/// What carries the network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Link {
    /// pasta, the program at this path.
    Pasta(PathBuf),
    /// slirp4netns, the program at this path.
    Slirp4netns(PathBuf),
    /// passt, the program at this path.
    Passt(PathBuf),
    /// The switch of a network with a name, with slirp4netns (the program at this path) as its way out, if it has one.
    Named(Option<PathBuf>),
    /// Nothing: `lo` only.
    None,
    /// No network namespace.
    Host,
}

/// The choice, and how it came about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Choice {
    /// What carries the network.
    pub link: Link,
    /// One line per fact that led here, for `rl doctor` and `--verbose`.
    pub evidence: Vec<String>,
}

impl Choice {
    /// The mode that was chosen.
    pub fn mode(&self) -> Mode {
        match self.link {
            Link::Pasta(_) => Mode::Pasta,
            Link::Slirp4netns(_) => Mode::Slirp4netns,
            Link::Passt(_) => Mode::Passt,
            Link::Named(_) => Mode::Named,
            Link::None => Mode::None,
            Link::Host => Mode::Host,
        }
    }

    /// Whether the container gets a network namespace of its own.
    pub fn own_namespace(&self) -> bool {
        self.link != Link::Host
    }
}

/// Settles on a rung: the one asked for, or else the best that is here. `path` is the value of PATH.
///
/// # Errors
/// [`Error::NoHelper`], [`Error::NoTun`].
pub fn choose(requested: Option<Mode>, path: Option<&OsStr>) -> Result<Choice, Error> {
    let link = match requested {
        Some(Mode::None) => Link::None,
        Some(Mode::Host) => Link::Host,
        _ => return helper(requested, path),
    };
    Ok(Choice {
        link,
        evidence: vec!["asked for".to_owned()],
    })
}

/// The same for a network with a name: slirp4netns is its way out, unless it is `internal`. What carries the frames of a
/// container is found out at every start.
///
/// # Errors
/// [`Error::NoUplink`].
pub fn choose_named(internal: bool, path: Option<&OsStr>) -> Result<Choice, Error> {
    if internal {
        return Ok(Choice {
            link: Link::Named(None),
            evidence: vec!["internal: no way out".to_owned()],
        });
    }
    let program = helper_process::find("slirp4netns", path).ok_or(Error::NoUplink)?;
    let evidence = vec![format!("slirp4netns: `{}`", program.display())];
    Ok(Choice {
        link: Link::Named(Some(program)),
        evidence,
    })
}

fn helper(requested: Option<Mode>, path: Option<&OsStr>) -> Result<Choice, Error> {
    let mut evidence = Vec::new();
    let mut find = |program: &str| {
        let found = helper_process::find(program, path);
        evidence.push(match &found {
            Some(file) => format!("{program}: `{}`", file.display()),
            None => format!("{program}: not found"),
        });
        found
    };
    let link = match requested {
        Some(Mode::Slirp4netns) => find("slirp4netns")
            .map(Link::Slirp4netns)
            .ok_or(Error::NoHelper("`slirp4netns` is not installed")),
        Some(Mode::Passt) => find("passt")
            .map(Link::Passt)
            .ok_or(Error::NoHelper("`passt` is not installed")),
        Some(_) => find("pasta")
            .map(Link::Pasta)
            .ok_or(Error::NoHelper("`pasta` is not installed")),
        None => {
            let pasta = find("pasta").map(Link::Pasta);
            let offline = !has_default_route();
            let deaf = deaf(super::HostResolver::read().only_family());
            let slirp = if pasta.is_none() || offline || deaf {
                find("slirp4netns").map(Link::Slirp4netns)
            } else {
                None
            };
            if offline {
                evidence.push("no default route: slirp4netns before pasta".to_owned());
            }
            if deaf && !offline {
                evidence.push(
                    "the resolver on loopback is of a family that has no default route: slirp4netns before pasta"
                        .to_owned(),
                );
            }
            let (first, second) = if offline || deaf {
                (slirp, pasta)
            } else {
                (pasta, slirp)
            };
            first.or(second).ok_or(Error::NoHelper(
                "neither `pasta` nor `slirp4netns` is installed: the container would have no network",
            ))
        }
    }?;
    if let Link::Passt(_) = link {
        return Ok(Choice { link, evidence });
    }
    let Err(refused) = helper_process::TUN.open() else {
        evidence.push("/dev/net/tun: opened".to_owned());
        return Ok(Choice { link, evidence });
    };
    match helper_process::find("passt", path) {
        Some(passt) if requested.is_none() => {
            evidence.push(format!("/dev/net/tun: {refused}"));
            evidence.push(format!(
                "passt, which needs no device: `{}`",
                passt.display()
            ));
            let link = Link::Passt(passt);
            Ok(Choice { link, evidence })
        }
        _ => Err(Error::NoTun(refused)),
    }
}

/// Whether the only resolver is of an address family without a default route, in which pasta carries nothing.
fn deaf(only_family: Option<bool>) -> bool {
    only_family.is_some_and(|v6| match v6 {
        true => !has_ipv6(),
        false => !has_ipv4(),
    })
}

/// The IPv4 address, its prefix's length and the gateway that every container of this mode has; `None` where each has its
/// own, or the host's.
pub fn same_for_all(mode: Mode) -> Option<(Ipv4Addr, u8, Ipv4Addr)> {
    let slirp = (slirp4netns_rs::GUEST, 24, slirp4netns_rs::GATEWAY);
    matches!(mode, Mode::Slirp4netns | Mode::Passt).then_some(slirp)
}

/// Whether the host knows a way to everywhere, in either address family.
fn has_default_route() -> bool {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    ipv4_default(&read("/proc/net/route")) || ipv6_default(&read("/proc/net/ipv6_route"))
}

/// Whether the host has an IPv4 default route.
pub(super) fn has_ipv4() -> bool {
    ipv4_default(&std::fs::read_to_string("/proc/net/route").unwrap_or_default())
}

/// Whether the host has an IPv6 default route.
pub(super) fn has_ipv6() -> bool {
    ipv6_default(&std::fs::read_to_string("/proc/net/ipv6_route").unwrap_or_default())
}

/// The subnets that the host has a way to, beside the default one.
pub fn routes() -> Vec<Subnet> {
    subnets(&std::fs::read_to_string("/proc/net/route").unwrap_or_default())
}

/// Of such lines, destination and mask, as hexadecimal numbers in the machine's order of bytes.
fn subnets(table: &str) -> Vec<Subnet> {
    let number = |text: &str| u32::from_str_radix(text, 16).ok().map(u32::from_be);
    let line = |line: &str| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let destination = number(fields.get(1)?)?;
        let prefix = number(fields.get(7)?)?.leading_ones() as u8;
        // A single host is as good as the smallest subnet around it.
        Subnet::new(destination.into(), prefix.min(30))
    };
    table.lines().skip(1).filter_map(line).collect()
}

/// A line of /proc/net/route: interface, destination, gateway, flags, …, mask as 8th.
fn ipv4_default(table: &str) -> bool {
    table.lines().skip(1).any(|line| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        fields.get(1) == Some(&"00000000") && fields.get(7) == Some(&"00000000")
    })
}

/// A line of /proc/net/ipv6_route: destination, its prefix length, …, interface as the 10th. The
/// kernel's own unreachable default is on `lo`.
fn ipv6_default(table: &str) -> bool {
    table.lines().any(|line| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        fields
            .first()
            .is_some_and(|to| to.bytes().all(|b| b == b'0'))
            && fields.get(1) == Some(&"00")
            && fields.get(9).is_some_and(|&interface| interface != "lo")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn routes() {
        let head = "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\n";
        let default = "eth0\t00000000\t010200C0\t0003\t0\t0\t0\t00000000\t0\t0\t0\n";
        let half = "tun0\t00000000\t010200C0\t0003\t0\t0\t0\t00000080\t0\t0\t0\n";
        assert!(!ipv4_default(head));
        assert!(!ipv4_default(&format!("{head}{half}")));
        let lan = "eth0\t000AA8C0\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0\n";
        let host = "tun0\t0500590A\t00000000\t0005\t0\t0\t0\tFFFFFFFF\t0\t0\t0\n";
        let found = subnets(&format!("{head}{default}{lan}{host}"));
        let found: Vec<String> = found.iter().map(Subnet::to_string).collect();
        assert_eq!(found, ["192.168.10.0/24", "10.89.0.4/30"]);
        assert!(ipv4_default(&format!("{head}{default}")));
        let zero = "0".repeat(32);
        let line = |interface: &str| {
            format!("{zero} 00 {zero} 00 {zero} ffffffff 00000001 00000000 00200200 {interface}\n")
        };
        assert!(!ipv6_default(&line("lo")));
        assert!(ipv6_default(&line("eth0")));
    }

    #[test]
    fn none_and_host_need_nothing() {
        assert_eq!(choose(Some(Mode::None), None).unwrap().link, Link::None);
        let host = choose(Some(Mode::Host), None).unwrap();
        assert!(!host.own_namespace());
    }

    #[test]
    fn every_choice_has_its_evidence() {
        match choose(None, std::env::var_os("PATH").as_deref()) {
            Ok(choice) => assert!(choice.evidence.len() >= 2, "{:?}", choice.evidence),
            Err(error) => assert!(error.hint().unwrap().contains("--network none")),
        }
    }
}
