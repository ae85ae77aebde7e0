//! HTTP as a registry needs it: which proxy, which redirects, which failures are worth a second try.
//!
//! One request goes: pick the agent (direct or through a proxy) → send → follow redirects by hand,
//! because an `Authorization` header must not travel to another origin (blobs redirect to content
//! delivery networks) and because plain HTTP is refused off this machine → on a failure that may
//! pass, wait and send again, a bounded number of times.

use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use ureq::http::{HeaderMap, Method, Request, Response, StatusCode, Uri};
use ureq::tls::{RootCerts, TlsConfig};
use ureq::unversioned::transport::DefaultConnector;
use ureq::{Agent, Body};

use super::Settings;
use super::error::{Error, Remote, classify};
use super::proxy;
use super::resolve::HostResolver;

/// Time to get a connection: name, TCP, proxy and TLS together.
const CONNECT: Duration = Duration::from_secs(20);
/// Longest silence inside an answer. There is no limit on the whole: layers are gigabytes.
const STALL: Duration = Duration::from_secs(45);
/// Redirects followed in one request.
const REDIRECTS: u32 = 8;
/// How often a request is sent when the failure may pass.
const TRIES: u32 = 4;
/// Longest wait that is granted to a `Retry-After`.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(30);
/// How much of a failed answer's body is read for its message.
const ERROR_BODY: u64 = 16 << 10;

/// What to send.
#[derive(Clone)]
pub(super) struct Call<'a> {
    pub method: Method,
    pub uri: Uri,
    pub headers: Vec<(&'static str, String)>,
    /// The `Authorization` header; goes to the origin of `uri` only.
    pub authorization: Option<&'a str>,
    /// The body of a POST, form-encoded.
    pub form: Option<&'a str>,
    /// `uri` is without TLS because the caller has been told so.
    pub plain: bool,
}

impl<'a> Call<'a> {
    pub fn get(uri: Uri) -> Self {
        Call {
            method: Method::GET,
            uri,
            headers: Vec::new(),
            authorization: None,
            form: None,
            plain: false,
        }
    }
}

/// An answer, and whether it came from the origin that was asked first.
pub(super) struct Answer {
    pub response: Response<Body>,
    pub same_origin: bool,
}

/// The agents and the rules of one client.
#[derive(Debug)]
pub(super) struct Http {
    agents: Agents,
    proxies: proxy::Proxies,
    tls_verify: bool,
    backoff: Duration,
    cancelled: Arc<(Mutex<bool>, Condvar)>,
}

/// An agent keeps connections open, so there is one for each way out.
#[derive(Debug)]
struct Agents {
    direct: Agent,
    http: Option<Agent>,
    https: Option<Agent>,
}

impl Http {
    pub fn new(settings: &Settings) -> Self {
        let agent = |proxy: Option<ureq::Proxy>| {
            let tls = TlsConfig::builder()
                .root_certs(RootCerts::PlatformVerifier)
                .disable_verification(!settings.tls_verify)
                .build();
            let config = Agent::config_builder()
                .tls_config(tls)
                .proxy(proxy)
                .http_status_as_error(false)
                .max_redirects(0)
                .user_agent(concat!("rl/", env!("CARGO_PKG_VERSION")))
                .timeout_connect(Some(CONNECT))
                .timeout_per_read(Some(STALL))
                .timeout_per_write(Some(STALL))
                .max_idle_connections_per_host(8)
                .build();
            Agent::with_parts(config, DefaultConnector::new(), HostResolver::default())
        };
        Http {
            agents: Agents {
                direct: agent(None),
                http: settings.proxies.http().cloned().map(|p| agent(Some(p))),
                https: settings.proxies.https().cloned().map(|p| agent(Some(p))),
            },
            proxies: settings.proxies.clone(),
            tls_verify: settings.tls_verify,
            backoff: settings.backoff,
            cancelled: Arc::default(),
        }
    }

    /// Ends every request under way and fails those to come.
    pub fn cancel(&self) {
        *self
            .cancelled
            .0
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = true;
        self.cancelled.1.notify_all();
        let proxied = [&self.agents.http, &self.agents.https]
            .into_iter()
            .flatten();
        for agent in proxied.chain([&self.agents.direct]) {
            agent.clone().shutdown();
        }
    }

    pub fn is_cancelled(&self) -> bool {
        *self
            .cancelled
            .0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits before try number `tries + 1`: doubling, or as long as the peer asked for.
    ///
    /// # Errors
    /// [`Error::Cancelled`] as soon as the client is cancelled.
    pub fn wait(&self, tries: u32, asked: Option<Duration>) -> Result<(), Error> {
        let pause = asked.unwrap_or_else(|| self.backoff * 2u32.pow(tries.min(6)));
        let end = Instant::now() + pause;
        let mut cancelled = self
            .cancelled
            .0
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        while !*cancelled {
            let Some(left) = end.checked_duration_since(Instant::now()) else {
                return Ok(());
            };
            let woken = self.cancelled.1.wait_timeout(cancelled, left);
            cancelled = woken.unwrap_or_else(PoisonError::into_inner).0;
        }
        Err(Error::Cancelled)
    }

    /// Whether this host may be spoken to without TLS.
    pub fn plain_allowed(&self, host: &str) -> bool {
        !self.tls_verify || proxy::is_loopback(host)
    }

    /// Sends until there is an answer that another try would not change. A status of failure is an
    /// answer, save 429 and the 5xx that may pass.
    pub fn send(&self, call: &Call<'_>) -> Result<Answer, Error> {
        let mut tries = 0;
        loop {
            let error = match self.send_once(call) {
                Ok(answer) => match answer.response.status().as_u16() {
                    429 | 500 | 502 | 503 | 504 => failure(&call.uri, answer.response),
                    _ => return Ok(answer),
                },
                Err(error) => error,
            };
            tries += 1;
            let asked = match &error {
                Error::RateLimited { retry_after, .. } => *retry_after,
                _ => None,
            };
            if self.is_cancelled() {
                return Err(Error::Cancelled);
            }
            if !error.is_transient() || tries >= TRIES || asked.is_some_and(|a| a > RETRY_AFTER_MAX)
            {
                return Err(error);
            }
            self.wait(tries - 1, asked)?;
        }
    }

    /// Sends once, following redirects.
    pub fn send_once(&self, call: &Call<'_>) -> Result<Answer, Error> {
        let mut uri = call.uri.clone();
        for _ in 0..=REDIRECTS {
            let host = authority(&uri);
            if uri.scheme_str() != Some("https")
                && !call.plain
                && !self.plain_allowed(uri.host().unwrap_or_default())
            {
                return Err(Error::PlainHttp(super::error::escape(
                    &uri.to_string(),
                    200,
                )));
            }
            let same_origin = origin(&uri) == origin(&call.uri);
            let mut response = self.exchange(call, &uri, same_origin)?;
            let redirect = matches!(response.status().as_u16(), 301 | 302 | 303 | 307 | 308);
            if !redirect {
                return Ok(Answer {
                    response,
                    same_origin,
                });
            }
            let _ = remote_words(&mut response);
            let location = response
                .headers()
                .get("location")
                .and_then(|value| value.to_str().ok());
            uri = location
                .and_then(|location| join(&uri, location))
                .ok_or(Error::Protocol {
                    host,
                    what: "a redirect without a usable location",
                })?;
        }
        Err(Error::Protocol {
            host: authority(&call.uri),
            what: "too many redirects",
        })
    }

    /// One request on the wire.
    fn exchange(
        &self,
        call: &Call<'_>,
        uri: &Uri,
        same_origin: bool,
    ) -> Result<Response<Body>, Error> {
        if self.is_cancelled() {
            return Err(Error::Cancelled);
        }
        let https = uri.scheme_str() == Some("https");
        let mut request = Request::builder()
            .method(call.method.clone())
            .uri(uri.clone());
        for (name, value) in &call.headers {
            request = request.header(*name, value);
        }
        if let (true, Some(authorization)) = (same_origin, call.authorization) {
            request = request.header("authorization", authorization);
        }
        let agent = self.agent(uri, https)?;
        let result = match (call.form, same_origin) {
            // The form holds a refresh token: like the header, it stays with its origin.
            (Some(form), true) => request
                .header("content-type", "application/x-www-form-urlencoded")
                .body(form.to_owned())
                .map_err(ureq::Error::Http)
                .and_then(|request| agent.run(request)),
            _ => request
                .body(())
                .map_err(ureq::Error::Http)
                .and_then(|request| agent.run(request)),
        };
        result.map_err(|error| {
            if self.is_cancelled() {
                Error::Cancelled
            } else {
                classify(&authority(uri), https, error)
            }
        })
    }

    fn agent(&self, uri: &Uri, https: bool) -> Result<&Agent, Error> {
        let proxied = if https {
            &self.agents.https
        } else {
            &self.agents.http
        };
        let host = uri.host().unwrap_or_default();
        match (proxied, self.proxies.applies(https, host, uri.port_u16())?) {
            (Some(agent), true) => Ok(agent),
            _ => Ok(&self.agents.direct),
        }
    }
}

/// The error for an answer of failure; reads a little of its body for the registry's words.
pub(super) fn failure(uri: &Uri, mut response: Response<Body>) -> Error {
    let remote = remote_words(&mut response);
    let host = authority(uri);
    match response.status() {
        StatusCode::TOO_MANY_REQUESTS => Error::RateLimited {
            host,
            remote,
            retry_after: retry_after(response.headers()),
        },
        status => Error::Status {
            host,
            path: uri.path().to_owned(),
            status: status.as_u16(),
            remote,
        },
    }
}

/// The registry's message in the body of a failed answer. Reading it also lets the connection go
/// back to the pool, which saves a handshake.
pub(super) fn remote_words(response: &mut Response<Body>) -> Remote {
    use std::io::Read;
    let mut body = Vec::new();
    // A body that breaks off has nothing to say; the status stands.
    let _ = response
        .body_mut()
        .as_reader()
        .take(ERROR_BODY)
        .read_to_end(&mut body);
    Remote::parse(&body)
}

/// `Retry-After` in seconds; the date form is not used by registries.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let value = headers.get("retry-after")?.to_str().ok()?;
    value.trim().parse().ok().map(Duration::from_secs)
}

/// `host[:port]` as it stands in the URI, without a user.
pub(super) fn authority(uri: &Uri) -> String {
    match (uri.host(), uri.port_u16()) {
        (Some(host), Some(port)) => format!("{host}:{port}"),
        (host, _) => host.unwrap_or_default().to_owned(),
    }
}

/// Scheme, host and port: what must stay the same for credentials to be sent along.
fn origin(uri: &Uri) -> (String, String, u16) {
    let scheme = uri.scheme_str().unwrap_or_default().to_ascii_lowercase();
    let port = uri
        .port_u16()
        .unwrap_or(if scheme == "http" { 80 } else { 443 });
    (
        scheme,
        uri.host().unwrap_or_default().to_ascii_lowercase(),
        port,
    )
}

/// Resolves a `Location` against the URI it came from (RFC 3986, section 5.2, without dot segments,
/// which servers resolve themselves).
fn join(base: &Uri, location: &str) -> Option<Uri> {
    let location = location.split('#').next()?.trim();
    let scheme = base.scheme_str()?;
    let text = if location.starts_with("http://") || location.starts_with("https://") {
        location.to_owned()
    } else if location.starts_with("//") {
        format!("{scheme}:{location}")
    } else if location.starts_with('/') {
        format!("{scheme}://{}{location}", base.authority()?)
    } else if location.is_empty() || location.split('/').next()?.contains(':') {
        return None;
    } else {
        let directory = base.path().rsplit_once('/')?.0;
        format!("{scheme}://{}{directory}/{location}", base.authority()?)
    };
    let uri: Uri = text.parse().ok()?;
    uri.host().filter(|host| !host.is_empty())?;
    Some(uri)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn locations() {
        let base: Uri = "https://h:5000/v2/a/blobs/x?q=1".parse().unwrap();
        let to = |location: &str| join(&base, location).map(|uri| uri.to_string());
        assert_eq!(
            to("https://cdn/x?s=1#f").as_deref(),
            Some("https://cdn/x?s=1")
        );
        assert_eq!(to("//cdn/x").as_deref(), Some("https://cdn/x"));
        assert_eq!(to("/x").as_deref(), Some("https://h:5000/x"));
        assert_eq!(to("y").as_deref(), Some("https://h:5000/v2/a/blobs/y"));
        assert_eq!(to("file:///etc/passwd"), None);
        assert_eq!(to(""), None);
    }

    #[test]
    fn origins() {
        let same = |a: &str, b: &str| origin(&a.parse().unwrap()) == origin(&b.parse().unwrap());
        assert!(same("https://H/x", "https://h:443/y"));
        assert!(!same("https://h/", "http://h/"));
        assert!(!same("https://h/", "https://h:444/"));
        assert!(!same("https://h/", "https://h.evil/"));
    }
}
