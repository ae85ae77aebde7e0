//! What can go wrong between this machine and a registry, and what to do about it.
//!
//! A registry is not trusted: the text of its answers is cut short and its control characters are
//! escaped before they become part of a message.

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

use crate::model::{Digest, Platform};

/// A request to a registry failed, or its answer cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// No connection: unknown host, refused, no route, no answer in time.
    #[error("registry `{host}` cannot be reached: {source}")]
    Unreachable {
        /// The host (and port) that was tried.
        host: String,
        /// What the connection attempt ended with.
        source: Box<ureq::Error>,
    },
    /// No trusted TLS connection.
    #[error("TLS connection to `{host}` failed: {source}")]
    Tls {
        /// The host (and port) that was tried.
        host: String,
        /// What the handshake ended with.
        source: Box<ureq::Error>,
    },
    /// The connection broke, or the peer does not speak HTTP.
    #[error("connection to `{host}` broke: {source}")]
    Broken {
        /// The host (and port).
        host: String,
        /// What the exchange ended with.
        source: Box<ureq::Error>,
    },
    /// 401 or 403.
    #[error("registry `{host}` denied access to `{what}`{remote}{}", .tried)]
    Denied {
        /// The registry's host.
        host: String,
        /// The repository that was asked for.
        what: String,
        /// The registry's own words.
        remote: Remote,
        /// What was offered to it.
        tried: Box<Tried>,
    },
    /// 404 for a manifest.
    #[error("image `{reference}` was not found in registry `{host}`{remote}")]
    NotFound {
        /// The registry's host.
        host: String,
        /// The reference in its short form.
        reference: String,
        /// The registry's own words.
        remote: Remote,
    },
    /// 429, and it stayed so.
    #[error("registry `{host}` limits the rate of requests{remote}")]
    RateLimited {
        /// The registry's host.
        host: String,
        /// The registry's own words.
        remote: Remote,
        /// How long it asked to wait.
        retry_after: Option<Duration>,
    },
    /// Any other status that is not a success.
    #[error("registry `{host}` answered {status} to `{path}`{remote}")]
    Status {
        /// The registry's host.
        host: String,
        /// The path of the request.
        path: String,
        /// The HTTP status.
        status: u16,
        /// The registry's own words.
        remote: Remote,
    },
    /// An answer that breaks the distribution spec.
    #[error("registry `{host}` broke the protocol: {what}")]
    Protocol {
        /// The registry's host.
        host: String,
        /// What is wrong with the answer.
        what: &'static str,
    },
    /// A proxy variable of the environment that is no address. Its value may hold a password.
    #[error("the variable `{0}` is not the address of a proxy, as in `http://proxy:3128`")]
    Proxy(&'static str),
    /// A redirect or a token service that asks for plain HTTP.
    #[error("`{0}` is plain HTTP and not on this machine")]
    PlainHttp(String),
    /// An answer longer than what is accepted.
    #[error("{what} is larger than the limit of {limit} bytes")]
    TooLarge {
        /// What was fetched.
        what: String,
        /// The limit in bytes.
        limit: u64,
    },
    /// Docker's first manifest format.
    #[error("image `{0}` is in Docker's schema 1 format, which is obsolete and not supported")]
    Schema1(String),
    /// A manifest, config or layer of a type that is not part of a container image.
    #[error("{what} has the media type `{media_type}`, which is not one of a container image")]
    MediaType {
        /// What was fetched.
        what: String,
        /// Its type, escaped.
        media_type: String,
    },
    /// A document that is no JSON of the shape the image spec gives.
    #[error("{what} is malformed: {source}")]
    Json {
        /// What was fetched.
        what: String,
        /// Where it is wrong.
        source: serde_json::Error,
    },
    /// A document that is JSON, but contradicts itself.
    #[error("{what} is malformed: {why}")]
    Malformed {
        /// What was fetched.
        what: String,
        /// The contradiction.
        why: &'static str,
    },
    /// The bytes are not those that were asked for.
    #[error("{what} has the digest `{actual}` instead of `{expected}`")]
    DigestMismatch {
        /// What was fetched.
        what: String,
        /// The digest that was asked for.
        expected: Digest,
        /// The digest of what came.
        actual: Digest,
    },
    /// More or fewer bytes than the descriptor says.
    #[error("{what} has {actual} bytes instead of {expected}")]
    SizeMismatch {
        /// What was fetched.
        what: String,
        /// The descriptor's size.
        expected: u64,
        /// What came, or was announced.
        actual: u64,
    },
    /// No image for the wanted platform.
    #[error("image `{reference}` is not available for {wanted}, only for {}", list(.available))]
    NoPlatform {
        /// The reference in its short form.
        reference: String,
        /// The platform that was asked for.
        wanted: Platform,
        /// What there is.
        available: Vec<Platform>,
    },
    /// An auth file cannot be read.
    #[error("auth file `{}`: {source}", .path.display())]
    AuthFile {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// An auth file is not what containers-auth.json(5) describes.
    #[error("auth file `{}` is malformed: {why}", .path.display())]
    AuthFormat {
        /// The file.
        path: PathBuf,
        /// Where it is wrong.
        why: String,
    },
    /// A blob's connection was cut again and again.
    #[error("blob `{digest}` stopped at {offset} of {size} bytes after {tries} tries: {source}")]
    Cut {
        /// The blob.
        digest: Digest,
        /// Bytes received.
        offset: u64,
        /// Bytes announced by the descriptor.
        size: u64,
        /// How often a connection was tried without getting further.
        tries: u32,
        /// The last failure.
        source: io::Error,
    },
    /// [`super::Client::cancel`] was called.
    #[error("the transfer was cancelled")]
    Cancelled,
}

impl Error {
    /// The command or setting that would help, if one is known.
    pub fn hint(&self) -> Option<String> {
        match self {
            Error::Tls { host, .. } => Some(format!(
                "for a company's own certificate authority set SSL_CERT_FILE=/path/to/ca.pem; to trust `{host}` \
                 unchecked use --tls-verify=false"
            )),
            Error::Unreachable { host, source } => Some(match **source {
                ureq::Error::HostNotFound => format!(
                    "`{host}` stands where the registry does in a name (`registry/user/app`): check its spelling, or \
                     the network"
                ),
                _ => format!("check that `{host}` is up, the network, and `https_proxy` if there is a proxy"),
            }),
            Error::Json { .. } | Error::Protocol { .. } => Some(
                "something else may have answered in the registry's place, such as a proxy or a log-in page".into(),
            ),
            Error::PlainHttp(_) => Some("use --tls-verify=false if this network is trusted".into()),
            Error::Denied { host, tried, .. } => Some(match tried.with {
                Offered::Nothing => format!(
                    "the image may not exist, or be private: `podman login {host}` or `docker login {host}` saves a \
                     user and password where they are found"
                ),
                Offered::Credentials { .. } => {
                    "this user may not read that repository, or the saved password is out of date".into()
                }
            }),
            Error::NotFound { host, .. } if host == "docker.io" => Some(
                "check name and tag; an image of another registry needs its host in front, as in `quay.io/user/app`"
                    .into(),
            ),
            Error::NotFound { .. } => Some("check repository and tag for spelling".into()),
            Error::RateLimited { retry_after, .. } => Some(match retry_after {
                Some(wait) => format!("try again in {} s; a logged-in user has a higher limit", wait.as_secs()),
                None => "try again later; a logged-in user has a higher limit".into(),
            }),
            Error::NoPlatform { available, .. } => {
                available.first().map(|platform| format!("take another with --platform {platform}"))
            }
            _ => None,
        }
    }

    /// Whether no registry answered at all: the way there is missing, not the image.
    pub fn is_no_answer(&self) -> bool {
        matches!(
            self,
            Error::Unreachable { .. }
                | Error::Tls { .. }
                | Error::Broken { .. }
                | Error::Json { .. }
                | Error::Protocol { .. }
                | Error::Status { .. }
        )
    }

    /// Whether the same request may succeed when it is sent again.
    pub(super) fn is_transient(&self) -> bool {
        match self {
            // After a time limit the user has waited long enough.
            Error::Broken { source, .. } => !matches!(**source, ureq::Error::Timeout(_)),
            Error::Status { status, .. } => matches!(status, 500 | 502 | 503 | 504),
            Error::RateLimited { .. } => true,
            _ => false,
        }
    }

    /// The error as [`io::Error`], for an implementation of [`io::Read`].
    pub(super) fn into_io(self) -> io::Error {
        io::Error::other(self)
    }

    /// Takes the registry's error out of an [`io::Error`] that a reader of this module returned.
    ///
    /// # Errors
    /// The same [`io::Error`] when it holds something else.
    pub fn from_io(error: io::Error) -> Result<Self, io::Error> {
        error.downcast::<Error>()
    }
}

/// Sorts what the HTTP library says into the cases that a user can act on.
pub(super) fn classify(host: &str, https: bool, error: ureq::Error) -> Error {
    use ureq::{Error as Http, Timeout};
    let host = host.to_owned();
    let source = Box::new(error);
    match &*source {
        Http::Tls(_) | Http::Rustls(_) | Http::Pem(_) | Http::TlsRequired => {
            Error::Tls { host, source }
        }
        // The handshake's own error arrives wrapped as invalid data.
        Http::Io(e) if https && e.kind() == io::ErrorKind::InvalidData => {
            Error::Tls { host, source }
        }
        Http::HostNotFound
        | Http::ConnectionFailed
        | Http::ConnectProxyFailed(_)
        | Http::InvalidProxyUrl
        | Http::BadUri(_)
        | Http::Timeout(Timeout::Resolve | Timeout::Connect) => Error::Unreachable { host, source },
        Http::Io(e) => match e.kind() {
            io::ErrorKind::UnexpectedEof
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionAborted
            | io::ErrorKind::BrokenPipe
            | io::ErrorKind::InvalidData => Error::Broken { host, source },
            _ => Error::Unreachable { host, source },
        },
        _ => Error::Broken { host, source },
    }
}

/// The registry's own words about a failure: `errors[].code` and `.message` of the distribution
/// spec, escaped and cut. Prints as nothing, or as `: code: message`.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Remote(String);

impl Remote {
    /// Reads the body of a failed answer; a body that is not the spec's JSON says nothing.
    pub(super) fn parse(body: &[u8]) -> Self {
        #[derive(serde::Deserialize)]
        struct Body {
            #[serde(default)]
            errors: Vec<Entry>,
            // What token services send instead.
            details: Option<String>,
        }
        #[derive(serde::Deserialize)]
        struct Entry {
            code: Option<String>,
            message: Option<String>,
        }
        let Ok(body) = serde_json::from_slice::<Body>(body) else {
            return Remote::default();
        };
        let entries = body.errors.into_iter().take(3);
        let mut parts: Vec<String> = entries
            .flat_map(|entry| [entry.code, entry.message])
            .flatten()
            .filter(|part| !part.is_empty())
            .collect();
        parts.extend(body.details);
        Remote(escape(&parts.join(": "), 300))
    }
}

impl fmt::Display for Remote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            Ok(())
        } else {
            write!(f, ": {}", self.0)
        }
    }
}

/// What was offered to a registry that denied access. Prints as a clause.
#[derive(Debug, Default)]
pub struct Tried {
    /// The kind of proof.
    pub with: Offered,
    /// The auth files that were read, most important first.
    pub files: Vec<PathBuf>,
    /// A credential helper that failed, in its own words.
    pub trouble: Option<String>,
}

/// The kind of proof that was offered.
#[derive(Debug, Default, PartialEq, Eq)]
pub enum Offered {
    /// None was found.
    #[default]
    Nothing,
    /// Name and password, or an identity token.
    Credentials {
        /// The user's name.
        user: String,
    },
}

impl fmt::Display for Tried {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.with {
            Offered::Credentials { user } => write!(f, " (as user `{}`", escape(user, 60))?,
            Offered::Nothing if self.files.is_empty() => f.write_str(" (no auth file found")?,
            Offered::Nothing => {
                let files: Vec<_> = self
                    .files
                    .iter()
                    .map(|p| format!("`{}`", p.display()))
                    .collect();
                write!(f, " (nothing for it in {}", files.join(", "))?;
            }
        }
        if let Some(trouble) = &self.trouble {
            write!(f, "; {trouble}")?;
        }
        f.write_str(")")
    }
}

/// Text of a stranger: made safe for a terminal, and of at most `limit` characters before that.
pub(super) fn escape(text: &str, limit: usize) -> String {
    match text.char_indices().nth(limit) {
        Some((end, _)) => crate::model::text::escape(&text[..end]) + "…",
        None => crate::model::text::escape(text),
    }
}

fn list(platforms: &[Platform]) -> String {
    let mut names: Vec<String> = platforms
        .iter()
        .map(|p| escape(&p.to_string(), 60))
        .collect();
    names.dedup();
    names.truncate(20);
    if names.is_empty() {
        "none".into()
    } else {
        names.join(", ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_of_a_registry_are_escaped_and_cut() {
        let body = br#"{"errors":[{"code":"DENIED","message":"a\u001b[31mb\nc","detail":{}}]}"#;
        assert_eq!(Remote::parse(body).to_string(), ": DENIED: a\\x1b[31mb\\nc");
        assert_eq!(Remote::parse(b"<html>").to_string(), "");
        let long = format!(r#"{{"errors":[{{"message":"{}"}}]}}"#, "x".repeat(9999));
        assert_eq!(
            Remote::parse(long.as_bytes()).to_string().chars().count(),
            303
        );
    }

    #[test]
    fn denied_says_where_was_looked() {
        let tried = Tried {
            files: vec!["/a/auth.json".into()],
            ..Tried::default()
        };
        let error = Error::Denied {
            host: "h".into(),
            what: "x".into(),
            remote: Remote::default(),
            tried: Box::new(tried),
        };
        assert_eq!(
            error.to_string(),
            "registry `h` denied access to `x` (nothing for it in `/a/auth.json`)"
        );
        assert!(error.hint().unwrap().contains("login h"));
    }
}
