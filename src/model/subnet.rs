//! IPv4 subnets in the notation of RFC 4632: `10.89.0.0/24`.

use std::fmt;
use std::net::Ipv4Addr;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A subnet with room for a gateway and at least one other host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Subnet {
    base: u32,
    prefix: u8,
}

/// A text that is no such subnet.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no IPv4 subnet such as `10.89.0.0/24`, with a prefix length from 8 to 30")]
pub struct SubnetError(String);

impl Subnet {
    /// The subnet of this prefix length (8 to 30 bits) that `address` is in.
    pub fn new(address: Ipv4Addr, prefix: u8) -> Option<Subnet> {
        (8..=30).contains(&prefix).then(|| Subnet {
            base: u32::from(address) & mask(prefix),
            prefix,
        })
    }

    /// Prefix length in bits.
    pub fn prefix(self) -> u8 {
        self.prefix
    }

    /// Whether an address is in it.
    pub fn contains(self, address: Ipv4Addr) -> bool {
        u32::from(address) & mask(self.prefix) == self.base
    }

    /// Whether the two have addresses in common.
    pub fn overlaps(self, other: Subnet) -> bool {
        let shorter = mask(self.prefix.min(other.prefix));
        self.base & shorter == other.base & shorter
    }

    /// The address that means all hosts of it (RFC 919).
    pub fn broadcast(self) -> Ipv4Addr {
        Ipv4Addr::from(self.base | !mask(self.prefix))
    }

    /// The address number `n`; 0 is the subnet's own.
    pub fn host(self, n: u32) -> Ipv4Addr {
        Ipv4Addr::from(self.base.wrapping_add(n) & !mask(self.prefix) | self.base)
    }

    /// The number of an address in it.
    pub fn number(self, address: Ipv4Addr) -> u32 {
        u32::from(address) & !mask(self.prefix)
    }

    /// The number of its broadcast address: hosts have those below, from 1.
    pub fn last(self) -> u32 {
        !mask(self.prefix)
    }

    /// Whether an address can be a host's: in it, and neither its own nor its broadcast address.
    pub fn is_host(self, address: Ipv4Addr) -> bool {
        let number = self.number(address);
        self.contains(address) && number != 0 && number != self.last()
    }

    /// Whether its addresses can be those of single machines anywhere (RFC 6890): neither loopback, multicast nor
    /// reserved.
    pub fn is_unicast(self) -> bool {
        let first = Ipv4Addr::from(self.base).octets()[0];
        (1..224).contains(&first) && first != 127
    }
}

fn mask(prefix: u8) -> u32 {
    u32::MAX.checked_shl(32 - u32::from(prefix)).unwrap_or(0)
}

impl FromStr for Subnet {
    type Err = SubnetError;

    fn from_str(text: &str) -> Result<Subnet, SubnetError> {
        let parsed = || {
            let (address, prefix) = text.split_once('/')?;
            let digits = prefix.bytes().all(|b| b.is_ascii_digit());
            let prefix = prefix.parse().ok().filter(|_| digits)?;
            Subnet::new(address.parse().ok()?, prefix)
        };
        parsed()
            .filter(|subnet| subnet.is_unicast())
            .ok_or_else(|| SubnetError(text.to_owned()))
    }
}

impl TryFrom<String> for Subnet {
    type Error = SubnetError;

    fn try_from(text: String) -> Result<Subnet, SubnetError> {
        text.parse()
    }
}

impl From<Subnet> for String {
    fn from(subnet: Subnet) -> String {
        subnet.to_string()
    }
}

impl fmt::Display for Subnet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", Ipv4Addr::from(self.base), self.prefix)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn subnet(text: &str) -> Subnet {
        text.parse().unwrap()
    }

    #[test]
    fn notation() {
        assert_eq!(subnet("10.89.3.77/24").to_string(), "10.89.3.0/24");
        for text in [
            "",
            "10.89.0.0",
            "10.89.0.0/7",
            "10.89.0.0/31",
            "10.89.0/24",
            "10.0.0.0/+8",
            "127.0.0.0/8",
            "224.0.0.0/8",
            "240.0.0.0/24",
            "0.0.0.0/8",
            "fd00::/64",
        ] {
            assert!(text.parse::<Subnet>().is_err(), "{text}");
        }
    }

    #[test]
    fn addresses() {
        let net = subnet("10.89.0.0/24");
        let ip = |text: &str| text.parse::<Ipv4Addr>().unwrap();
        assert!(net.contains(ip("10.89.0.255")) && !net.contains(ip("10.89.1.0")));
        assert!(net.is_host(ip("10.89.0.1")));
        assert!(!net.is_host(ip("10.89.0.0")) && !net.is_host(ip("10.89.0.255")));
        assert_eq!((net.host(7), net.last()), (ip("10.89.0.7"), 255));
        assert_eq!(net.number(ip("10.89.0.7")), 7);
        assert_eq!(subnet("10.0.0.0/8").broadcast(), ip("10.255.255.255"));
    }

    #[test]
    fn overlaps_go_both_ways() {
        let (wide, narrow, other) = ("10.88.0.0/15", "10.89.4.0/24", "10.90.0.0/24");
        assert!(subnet(wide).overlaps(subnet(narrow)) && subnet(narrow).overlaps(subnet(wide)));
        assert!(!subnet(wide).overlaps(subnet(other)));
    }
}
