//! Host names to addresses, for a static program.
//!
//! The C library of a static program cannot load the plug-ins that /etc/nsswitch.conf may name
//! (systemd-resolved, mDNS, LDAP), or loads those of another version. So the system's own `getent` is
//! asked, as for users and groups; where it is missing the C library does what it can.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::process::{Command, Stdio};
use std::sync::{Mutex, PoisonError};

use ureq::config::Config;
use ureq::http::Uri;
use ureq::unversioned::resolver::{DefaultResolver, ResolvedSocketAddrs, Resolver};
use ureq::unversioned::transport::NextTimeout;

/// Most addresses tried for one name.
const ADDRESSES: usize = 8;

/// Resolves through `getent ahosts`, once for each name.
#[derive(Debug, Default)]
pub(super) struct HostResolver {
    fallback: DefaultResolver,
    known: Mutex<HashMap<String, Vec<IpAddr>>>,
}

impl Resolver for HostResolver {
    fn resolve(
        &self,
        uri: &Uri,
        config: &Config,
        timeout: NextTimeout,
    ) -> Result<ResolvedSocketAddrs, ureq::Error> {
        let host = uri.host().unwrap_or_default().trim_matches(['[', ']']);
        let port = uri
            .port_u16()
            .unwrap_or(if uri.scheme_str() == Some("http") {
                80
            } else {
                443
            });
        let known = self
            .known
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .get(host)
            .cloned();
        let addresses = match known {
            Some(addresses) => addresses,
            None => match lookup(host) {
                Some(addresses) => addresses,
                None => return self.fallback.resolve(uri, config, timeout),
            },
        };
        if addresses.is_empty() {
            return Err(ureq::Error::HostNotFound);
        }
        let mut resolved = self.empty();
        for address in addresses.iter().take(ADDRESSES) {
            resolved.push(SocketAddr::new(*address, port));
        }
        self.known
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(host.to_owned(), addresses);
        Ok(resolved)
    }
}

/// The addresses of a name; none when it does not exist, `None` when `getent` could not say.
fn lookup(host: &str) -> Option<Vec<IpAddr>> {
    if let Ok(address) = host.parse() {
        return Some(vec![address]);
    }
    if host.eq_ignore_ascii_case("localhost") {
        return Some(vec![
            IpAddr::from([127, 0, 0, 1]),
            IpAddr::from([0, 0, 0, 0, 0, 0, 0, 1]),
        ]);
    }
    // The name may come from a redirect: nothing that `getent` could take for an option.
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"._-".contains(&b);
    if host.starts_with('-') || !host.bytes().all(plain) {
        return None;
    }
    let output = Command::new("getent")
        .args(["ahosts", host])
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .output()
        .ok()?;
    match output.status.code() {
        Some(0) => Some(parse(&String::from_utf8_lossy(&output.stdout))),
        // getent(1): one or more supplied keys could not be found.
        Some(2) => Some(Vec::new()),
        _ => None,
    }
}

/// The first column of `getent ahosts`, each address once, in its order.
fn parse(text: &str) -> Vec<IpAddr> {
    let mut addresses: Vec<IpAddr> = Vec::new();
    for address in text
        .lines()
        .filter_map(|line| line.split_whitespace().next()?.parse().ok())
    {
        if !addresses.contains(&address) {
            addresses.push(address);
        }
    }
    addresses
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_getent() {
        let text = "2001:db8::1 STREAM h\n2001:db8::1 DGRAM\n192.0.2.1 STREAM\n";
        assert_eq!(
            parse(text),
            [
                "2001:db8::1".parse::<IpAddr>().unwrap(),
                "192.0.2.1".parse().unwrap()
            ]
        );
    }

    #[test]
    fn addresses_and_localhost_need_no_program() {
        assert_eq!(
            lookup("192.0.2.7"),
            Some(vec!["192.0.2.7".parse().unwrap()])
        );
        assert_eq!(
            lookup("localhost").unwrap()[0],
            IpAddr::from([127, 0, 0, 1])
        );
        assert_eq!(lookup("-x"), None);
    }
}
