//! A file by its address (`rl import URL`): from any server of HTTP, which need be no registry. Nothing says what its digest
//! is to be; that all of it has come is known where the server says how long it is.

use std::io::{self, Read};

use ureq::BodyReader;
use ureq::http::Uri;

use super::auth::Credentials;
use super::error::Error;
use super::http::{Call, authority, failure};
use super::{Client, error};

/// The address of a file: `http://…` or `https://…`.
#[derive(Clone, Debug)]
pub struct Address {
    uri: Uri,
    /// The `Authorization` header, where a user stands before the host.
    authorization: Option<String>,
}

impl Address {
    /// Whether a word is meant as one.
    pub fn is_meant(text: &str) -> bool {
        let start = |scheme: &str| {
            let head = text.get(..scheme.len());
            head.is_some_and(|head| head.eq_ignore_ascii_case(scheme))
        };
        start("http://") || start("https://")
    }

    /// Reads one.
    ///
    /// # Errors
    /// [`Error::Protocol`] for what is none.
    pub fn parse(text: &str) -> Result<Address, Error> {
        let bad = || Error::Protocol {
            host: error::escape(text, 200),
            what: "no address",
        };
        let (scheme, rest) = text.split_once("://").ok_or_else(bad)?;
        let scheme = scheme.to_ascii_lowercase();
        let rest = rest.split('#').next().unwrap_or_default();
        let end = rest.find(['/', '?']).unwrap_or(rest.len());
        let (before, path) = rest.split_at(end);
        let (user, host) = match before.rsplit_once('@') {
            Some((user, host)) => (Some(user), host),
            None => (None, before),
        };
        let uri: Uri = format!("{scheme}://{host}{path}")
            .parse()
            .map_err(|_| bad())?;
        if uri.host().is_none_or(str::is_empty) {
            return Err(bad());
        }
        let authorization = user.and_then(|user| {
            let (user, password) = user.split_once(':').unwrap_or((user, ""));
            let (user, password) = (decoded(user), decoded(password));
            Credentials::Password { user, password }.basic()
        });
        Ok(Address { uri, authorization })
    }
}

/// Without a user and what is asked of the server, which may be secrets.
impl std::fmt::Display for Address {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let scheme = self.uri.scheme_str().unwrap_or_default();
        write!(f, "{scheme}://{}{}", authority(&self.uri), self.uri.path())
    }
}

/// `%XX` as the byte that it stands for (RFC 3986, section 2.1).
fn decoded(text: &str) -> String {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, after)) = rest.split_first() {
        let code = after.get(..2).filter(|_| first == b'%');
        let code = code.and_then(|code| std::str::from_utf8(code).ok());
        match code.and_then(|code| u8::from_str_radix(code, 16).ok()) {
            Some(byte) => {
                out.push(byte);
                rest = &after[2..];
            }
            None => {
                out.push(first);
                rest = after;
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

/// A file on its way.
pub struct Download {
    host: String,
    body: BodyReader<'static>,
    /// What is still to come, where the server has said.
    left: Option<u64>,
}

impl std::fmt::Debug for Download {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Download(from {})", self.host)
    }
}

impl Client {
    /// Asks for a file. Without TLS only where the address says so, and a redirect never leads out of TLS.
    ///
    /// # Errors
    /// No answer, or one of failure.
    pub fn file(&self, address: &Address) -> Result<Download, Error> {
        let mut call = Call::get(address.uri.clone());
        call.plain = address.uri.scheme_str() == Some("http");
        call.headers = vec![("accept-encoding", "identity".to_owned())];
        call.authorization = address.authorization.as_deref();
        let answer = self.0.http.send(&call)?.response;
        if !answer.status().is_success() {
            return Err(failure(&address.uri, answer));
        }
        Ok(Download {
            host: authority(&address.uri),
            left: answer.body().content_length(),
            body: answer.into_body().into_reader(),
        })
    }
}

impl Read for Download {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let cut = match self.body.read(buf) {
            Ok(0) if !buf.is_empty() && self.left.is_some_and(|left| left > 0) => {
                io::ErrorKind::UnexpectedEof.into()
            }
            Ok(count) => {
                let left = self.left.map(|left| left.saturating_sub(count as u64));
                self.left = left;
                return Ok(count);
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => return Err(error),
            Err(error) => error,
        };
        Err(Error::Broken {
            host: self.host.clone(),
            source: Box::new(cut.into()),
        }
        .into_io())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses() {
        let shown = |text: &str| Address::parse(text).map(|address| address.to_string()).ok();
        assert_eq!(
            shown("HTTPS://u:p@h:8/a/b.tar?key=1#x").as_deref(),
            Some("https://h:8/a/b.tar")
        );
        assert_eq!(
            shown("http://[::1]:8/a").as_deref(),
            Some("http://[::1]:8/a")
        );
        for bad in ["http://", "https:///x", "http://u@/x", "http://h h/", "x"] {
            assert!(Address::parse(bad).is_err(), "{bad}");
        }
        let user = Address::parse("http://a%40b:c%3Ad@h/")
            .unwrap()
            .authorization;
        // `a@b:c:d`.
        assert_eq!(user.as_deref(), Some("Basic YUBiOmM6ZA=="));
        assert!(
            Address::is_meant("Http://x")
                && !Address::is_meant("http.tar")
                && !Address::is_meant("é")
        );
    }
}
