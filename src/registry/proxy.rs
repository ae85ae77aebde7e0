//! Which requests go through a proxy: `HTTPS_PROXY`, `HTTP_PROXY`, `ALL_PROXY` and `NO_PROXY` as curl
//! and Go read them (curl(1), "ENVIRONMENT"; golang.org/x/net/http/httpproxy).

use std::net::IpAddr;

use super::error::Error;

/// The proxies of an environment.
#[derive(Clone, Debug, Default)]
pub struct Proxies {
    /// The error is the name of the variable with a bad value.
    http: Option<Result<ureq::Proxy, &'static str>>,
    https: Option<Result<ureq::Proxy, &'static str>>,
    bypass: Vec<Bypass>,
}

/// One entry of `NO_PROXY`.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Bypass {
    All,
    /// A domain with all below it; only those below it when it was written with a leading dot.
    Domain {
        name: String,
        below_only: bool,
        port: Option<u16>,
    },
    Net {
        address: IpAddr,
        prefix: u8,
    },
}

impl Proxies {
    /// Reads the variables through `lookup`. A lower-case name wins over the upper-case one;
    /// `HTTP_PROXY` in upper case is not read, because a CGI program's caller can set it.
    ///
    /// A value that is no address fails the first request it is for: going around a proxy in silence
    /// could reach what it is there to keep out.
    pub fn from_env(lookup: &dyn Fn(&str) -> Option<String>) -> Self {
        let get = |names: &[&'static str]| {
            let set = |name: &str| lookup(name).filter(|value| !value.trim().is_empty());
            names.iter().find_map(|name| Some((*name, set(name)?)))
        };
        let proxy = |names: &[&'static str]| {
            get(names).map(|(name, text)| ureq::Proxy::new(text.trim()).map_err(|_| name))
        };
        let bypass = get(&["no_proxy", "NO_PROXY"])
            .map(|(_, text)| text)
            .unwrap_or_default();
        Proxies {
            http: proxy(&["http_proxy", "all_proxy", "ALL_PROXY"]),
            https: proxy(&["https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"]),
            bypass: bypass.split([',', ' ']).filter_map(Bypass::parse).collect(),
        }
    }

    /// The proxy for plain HTTP, if its address could be read.
    pub(super) fn http(&self) -> Option<&ureq::Proxy> {
        self.http.as_ref()?.as_ref().ok()
    }

    /// The proxy for HTTPS, if its address could be read.
    pub(super) fn https(&self) -> Option<&ureq::Proxy> {
        self.https.as_ref()?.as_ref().ok()
    }

    /// Whether a request to this host goes through a proxy; never for this machine itself.
    ///
    /// # Errors
    /// [`Error::Proxy`] when it should and the proxy's address cannot be read.
    pub(super) fn applies(
        &self,
        https: bool,
        host: &str,
        port: Option<u16>,
    ) -> Result<bool, Error> {
        let proxy = if https { &self.https } else { &self.http };
        let bypassed =
            || is_loopback(host) || self.bypass.iter().any(|entry| entry.matches(host, port));
        match proxy {
            Some(Ok(_)) => Ok(!bypassed()),
            Some(Err(name)) if !bypassed() => Err(Error::Proxy(name)),
            _ => Ok(false),
        }
    }
}

impl Bypass {
    fn parse(text: &str) -> Option<Self> {
        let text = text.trim().to_ascii_lowercase();
        if text == "*" {
            return Some(Bypass::All);
        }
        if let Ok(address) = text.trim_matches(['[', ']']).parse::<IpAddr>() {
            return Some(Bypass::Net {
                address,
                prefix: if address.is_ipv4() { 32 } else { 128 },
            });
        }
        if let Some((address, prefix)) = text.split_once('/') {
            let address: IpAddr = address.parse().ok()?;
            let prefix = prefix
                .parse()
                .ok()
                .filter(|&p| p <= if address.is_ipv4() { 32 } else { 128 })?;
            return Some(Bypass::Net { address, prefix });
        }
        let (name, port) = match text.split_once(':') {
            Some((name, port)) => (name, Some(port.parse().ok()?)),
            None => (text.as_str(), None),
        };
        let name = name.strip_prefix('*').unwrap_or(name);
        let bare = name.trim_start_matches('.');
        (!bare.is_empty()).then(|| Bypass::Domain {
            name: bare.into(),
            below_only: bare != name,
            port,
        })
    }

    fn matches(&self, host: &str, port: Option<u16>) -> bool {
        match self {
            Bypass::All => true,
            Bypass::Domain {
                name,
                below_only,
                port: wanted,
            } => {
                let host = host.to_ascii_lowercase();
                let below = host
                    .strip_suffix(name.as_str())
                    .is_some_and(|rest| rest.ends_with('.'));
                (below || (!below_only && host == *name)) && (wanted.is_none() || *wanted == port)
            }
            Bypass::Net { address, prefix } => {
                match (address, host.trim_matches(['[', ']']).parse()) {
                    (IpAddr::V4(net), Ok(IpAddr::V4(host))) => {
                        let mask = u32::MAX.checked_shl(32 - u32::from(*prefix)).unwrap_or(0);
                        (u32::from(*net) ^ u32::from(host)) & mask == 0
                    }
                    (IpAddr::V6(net), Ok(IpAddr::V6(host))) => {
                        let mask = u128::MAX.checked_shl(128 - u32::from(*prefix)).unwrap_or(0);
                        (u128::from(*net) ^ u128::from(host)) & mask == 0
                    }
                    _ => false,
                }
            }
        }
    }
}

/// `localhost`, 127.0.0.0/8 and `[::1]`, as they stand in a URI.
pub(super) fn is_loopback(host: &str) -> bool {
    host.eq_ignore_ascii_case("localhost")
        || host
            .trim_matches(['[', ']'])
            .parse::<IpAddr>()
            .is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn environment() {
        type Pairs = &'static [(&'static str, &'static str)];
        let env = |pairs: Pairs| {
            Proxies::from_env(&move |name| {
                pairs
                    .iter()
                    .find(|(key, _)| *key == name)
                    .map(|(_, value)| (*value).to_owned())
            })
        };
        let proxies = env(&[
            ("HTTPS_PROXY", "http://proxy:3128"),
            ("HTTP_PROXY", "http://evil"),
            (
                "NO_PROXY",
                "corp.example, .only.example,10.0.0.0/8,h.example:5000,fd00::/8",
            ),
        ]);
        assert_eq!(proxies.https().unwrap().host(), "proxy");
        assert!(proxies.http().is_none());
        for (host, port, through) in [
            ("quay.io", None, true),
            ("corp.example", None, false),
            ("r.CORP.example", None, false),
            ("notcorp.example", None, true),
            ("only.example", None, true),
            ("r.only.example", None, false),
            ("10.1.2.3", None, false),
            ("11.1.2.3", None, true),
            ("[fd00::1]", None, false),
            ("h.example", Some(5000), false),
            ("h.example", None, true),
            ("localhost", Some(5000), false),
            ("127.8.9.1", None, false),
            ("[::1]", None, false),
        ] {
            assert_eq!(
                proxies.applies(true, host, port).unwrap(),
                through,
                "{host}"
            );
            assert!(!proxies.applies(false, host, port).unwrap());
        }
        let all = env(&[("all_proxy", "p:1"), ("no_proxy", "*")]);
        assert!(!all.applies(true, "x", None).unwrap());
        let bad = env(&[("HTTPS_PROXY", "ht!tp://u:secret@")]);
        assert!(!bad.applies(true, "localhost", None).unwrap());
        let error = bad.applies(true, "quay.io", None).unwrap_err().to_string();
        assert!(
            error.contains("HTTPS_PROXY") && !error.contains("secret"),
            "{error}"
        );
    }
}
