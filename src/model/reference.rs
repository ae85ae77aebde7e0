//! Image references as Docker writes them: `[host[:port]/]name[:tag][@digest]`
//! (distribution/reference, the grammar in the package comment; short names belong to
//! `docker.io/library`).
//!
//! The order: the digest is cut off at `@`, the tag at the last `:` after the last `/`, the host is
//! the first component when it looks like one, and what is left is the repository. A reference is
//! normalised when it is made, so that two spellings of one image compare equal.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::Digest;
use super::digest::DigestError;

/// The registry of a name that names none.
const DEFAULT_REGISTRY: &str = "docker.io";
/// Where `docker.io` keeps its one-word names.
const OFFICIAL: &str = "library/";
/// The tag of a name that has neither tag nor digest.
const DEFAULT_TAG: &str = "latest";
/// distribution/reference, `RepositoryNameTotalLengthMax`.
const NAME_MAX: usize = 255;
/// distribution/reference, the tag's regular expression.
const TAG_MAX: usize = 128;

/// A normalised image reference: registry and repository are always there, and at least one of tag
/// and digest.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Reference {
    registry: String,
    repository: String,
    tag: Option<String>,
    digest: Option<Digest>,
}

/// Why a text is not an image reference.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum ReferenceError {
    /// The empty text, or one that starts with `:` or `@`.
    #[error("image reference `{0}` has no name")]
    NoName(String),
    /// An upper-case letter in the repository.
    #[error("repository `{0}` has upper-case letters, a repository must be lower case")]
    UpperCase(String),
    /// The repository breaks the grammar.
    #[error(
        "`{component}` in repository `{repository}` is not lower-case letters and digits joined by `.`, `_`, `__` or `-`"
    )]
    Component {
        /// The component between two slashes.
        component: String,
        /// The whole repository.
        repository: String,
    },
    /// The host breaks the grammar.
    #[error("`{0}` is not a registry host of the form `host[:port]`")]
    Host(String),
    /// The tag breaks the grammar.
    #[error(
        "tag `{0}` is not 1 to 128 letters, digits, `_`, `.` and `-`, starting with none of `.-`"
    )]
    Tag(String),
    /// What follows `@` is no digest.
    #[error("image reference with a bad digest: {0}")]
    Digest(#[from] DigestError),
    /// A bare image id, which is no name.
    #[error("`{0}` is an image id, not a name: 64 hex digits cannot be a repository")]
    ImageId(String),
    /// Longer than 255 bytes.
    #[error("repository name of {0} bytes is longer than 255")]
    TooLong(usize),
}

impl Reference {
    /// The registry's host and port as written, `docker.io` when none was.
    pub fn registry(&self) -> &str {
        &self.registry
    }

    /// The repository, with `library/` for Docker's one-word names.
    pub fn repository(&self) -> &str {
        &self.repository
    }

    /// The tag; `None` only when there is a digest.
    pub fn tag(&self) -> Option<&str> {
        self.tag.as_deref()
    }

    /// The digest that pins the manifest (or index).
    pub fn digest(&self) -> Option<Digest> {
        self.digest
    }

    /// `registry/repository`, without tag and digest.
    pub fn name(&self) -> String {
        format!("{}/{}", self.registry, self.repository)
    }

    /// What stands after `/manifests/` in a registry's URL: the digest, else the tag.
    pub fn selector(&self) -> String {
        match (&self.digest, &self.tag) {
            (Some(digest), _) => digest.to_string(),
            (None, Some(tag)) => tag.clone(),
            (None, None) => DEFAULT_TAG.to_owned(),
        }
    }

    /// The same name with this digest and without a tag.
    pub fn with_digest(&self, digest: Digest) -> Self {
        Reference {
            tag: None,
            digest: Some(digest),
            ..self.clone()
        }
    }

    /// The same name with this tag and without a digest.
    ///
    /// # Errors
    /// [`ReferenceError::Tag`] when the tag breaks the grammar.
    pub fn with_tag(&self, tag: &str) -> Result<Self, ReferenceError> {
        check_tag(tag)?;
        Ok(Reference {
            tag: Some(tag.to_owned()),
            digest: None,
            ..self.clone()
        })
    }

    /// The short form Docker prints: without `docker.io/` and `library/` where leaving them out
    /// still means the same image.
    pub fn familiar(&self) -> String {
        if self.registry == DEFAULT_REGISTRY {
            let official = self.repository.strip_prefix(OFFICIAL);
            for name in [official, Some(self.repository.as_str())]
                .into_iter()
                .flatten()
            {
                let short = format!("{name}{}", self.suffix());
                if short.parse().as_ref() == Ok(self) {
                    return short;
                }
            }
        }
        self.to_string()
    }

    /// [`Reference::familiar`] without tag and digest, the REPOSITORY column of `rl images`.
    pub fn familiar_name(&self) -> String {
        let mut text = self.familiar();
        text.truncate(text.len() - self.suffix().len());
        text
    }

    /// `[:tag][@digest]`.
    fn suffix(&self) -> String {
        let mut out = String::new();
        if let Some(tag) = &self.tag {
            out.push(':');
            out.push_str(tag);
        }
        if let Some(digest) = &self.digest {
            out.push('@');
            out.push_str(&digest.to_string());
        }
        out
    }
}

impl FromStr for Reference {
    type Err = ReferenceError;

    fn from_str(text: &str) -> Result<Self, ReferenceError> {
        if is_image_id(text) {
            return Err(ReferenceError::ImageId(text.to_owned()));
        }
        let (rest, digest) = match text.split_once('@') {
            Some((rest, digest)) => (rest, Some(digest.parse::<Digest>()?)),
            None => (text, None),
        };
        let (host, path) = split_host(rest);
        let (repository, tag) = match path.rsplit_once(':') {
            Some((name, tag)) if !tag.contains('/') => (name, Some(tag)),
            _ => (path, None),
        };
        if repository.is_empty() {
            return Err(ReferenceError::NoName(text.to_owned()));
        }
        if let Some(host) = host {
            check_host(host)?;
        }
        check_repository(repository)?;
        if let Some(tag) = tag {
            check_tag(tag)?;
        }
        let registry = match host {
            None | Some("index.docker.io") => DEFAULT_REGISTRY,
            Some(host) => host,
        };
        let official = registry == DEFAULT_REGISTRY && !repository.contains('/');
        let repository = format!("{}{repository}", if official { OFFICIAL } else { "" });
        if repository.len() > NAME_MAX {
            return Err(ReferenceError::TooLong(repository.len()));
        }
        let tag = match (tag, digest) {
            (None, None) => Some(DEFAULT_TAG),
            (tag, _) => tag,
        };
        let tag = tag.map(str::to_owned);
        Ok(Reference {
            registry: registry.to_owned(),
            repository,
            tag,
            digest,
        })
    }
}

/// Cuts off the first component when it is a host: it holds `.` or `:` or an upper-case letter, or
/// is `localhost` (distribution/reference, `splitDockerDomain`).
fn split_host(text: &str) -> (Option<&str>, &str) {
    match text.split_once('/') {
        Some((first, rest))
            if first == "localhost"
                || first.contains(['.', ':'])
                || first.bytes().any(|b| b.is_ascii_uppercase()) =>
        {
            (Some(first), rest)
        }
        _ => (None, text),
    }
}

/// Whether the text is 64 hexadecimal digits.
fn is_image_id(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

/// `host[:port]`: labels of letters, digits and inner hyphens, or an IPv6 address in brackets.
fn check_host(host: &str) -> Result<(), ReferenceError> {
    let bad = || ReferenceError::Host(host.to_owned());
    let (name, port) = match host.strip_prefix('[') {
        Some(rest) => {
            let (address, rest) = rest.split_once(']').ok_or_else(bad)?;
            address.parse::<std::net::Ipv6Addr>().map_err(|_| bad())?;
            let port = if rest.is_empty() {
                None
            } else {
                Some(rest.strip_prefix(':'))
            };
            (None, port.map(|p| p.ok_or_else(bad)).transpose()?)
        }
        None => match host.split_once(':') {
            Some((name, port)) => (Some(name), Some(port)),
            None => (Some(host), None),
        },
    };
    let label = |label: &str| {
        !label.is_empty()
            && label
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b == b'-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    let number =
        |port: &str| port.bytes().all(|b| b.is_ascii_digit()) && port.parse::<u16>().is_ok();
    if name.is_some_and(|name| !name.split('.').all(label)) || port.is_some_and(|p| !number(p)) {
        return Err(bad());
    }
    Ok(())
}

/// Components of `[a-z0-9]+` joined by `.`, `_`, `__` or any number of `-`, separated by `/`.
fn check_repository(repository: &str) -> Result<(), ReferenceError> {
    if repository.bytes().any(|b| b.is_ascii_uppercase()) {
        return Err(ReferenceError::UpperCase(repository.to_owned()));
    }
    let alnum = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    for component in repository.split('/') {
        let separators = component.split(|c: char| c.is_ascii() && alnum(c as u8));
        let good = component.bytes().next().is_some_and(alnum)
            && component.bytes().next_back().is_some_and(alnum)
            && separators
                .filter(|s| !s.is_empty())
                .all(|s| matches!(s, "." | "_" | "__") || s.bytes().all(|b| b == b'-'));
        if !good {
            return Err(ReferenceError::Component {
                component: component.to_owned(),
                repository: repository.to_owned(),
            });
        }
    }
    Ok(())
}

/// `[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}`.
fn check_tag(tag: &str) -> Result<(), ReferenceError> {
    let word = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    let good = tag.len() <= TAG_MAX
        && tag.bytes().next().is_some_and(word)
        && tag.bytes().all(|b| word(b) || b == b'.' || b == b'-');
    if good {
        Ok(())
    } else {
        Err(ReferenceError::Tag(tag.to_owned()))
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}{}", self.registry, self.repository, self.suffix())
    }
}

impl Serialize for Reference {
    fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Reference {
    fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        String::deserialize(d)?
            .parse()
            .map_err(serde::de::Error::custom)
    }
}

/// Where an image comes from, as the user wrote it (containers-transports(5), the part of it that
/// `rl` speaks).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// `docker://REF`, or a bare reference: local storage or a registry.
    Registry(Reference),
    /// `oci:DIR[:TAG]`: an OCI image layout; the tag is its `org.opencontainers.image.ref.name`.
    OciDir(PathBuf, Option<String>),
    /// `oci-archive:FILE[:TAG]`: a tar of an OCI image layout.
    OciArchive(PathBuf, Option<String>),
    /// `docker-archive:FILE[:REF]`: what `docker save` writes.
    DockerArchive(PathBuf, Option<Reference>),
    /// A path that starts with `/`, `./` or `../`: an unpacked root filesystem.
    Rootfs(PathBuf),
}

/// Why a text names no source.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum SourceError {
    /// The part after the transport is not a reference.
    #[error(transparent)]
    Reference(#[from] ReferenceError),
    /// A transport of containers-transports(5) that is not spoken here.
    #[error(
        "transport `{0}` is not supported, only docker://, oci:, oci-archive: and docker-archive:"
    )]
    Transport(String),
    /// `oci:` and nothing behind it.
    #[error("`{0}` names no path")]
    NoPath(String),
}

impl Source {
    /// Reads `TRANSPORT:REST`, a path or a bare reference. A transport's name wins over an image of
    /// that name; the path of a transport ends at its first `:`.
    ///
    /// # Errors
    /// [`SourceError`] for a bad reference, a transport not spoken here, or a missing path.
    pub fn parse(text: &str) -> Result<Self, SourceError> {
        if matches!(text, "." | "..")
            || ["/", "./", "../"]
                .iter()
                .any(|start| text.starts_with(start))
        {
            return Ok(Source::Rootfs(text.into()));
        }
        let Some((transport, rest)) = text.split_once(':') else {
            return Ok(Source::Registry(text.parse()?));
        };
        let path = || {
            let (path, tag) = match rest.split_once(':') {
                Some((path, tag)) => (path, Some(tag.to_owned())),
                None => (rest, None),
            };
            if path.is_empty() {
                return Err(SourceError::NoPath(text.to_owned()));
            }
            Ok((PathBuf::from(path), tag.filter(|tag| !tag.is_empty())))
        };
        match transport {
            "docker" if rest.starts_with("//") => Ok(Source::Registry(rest[2..].parse()?)),
            "oci" => path().map(|(path, tag)| Source::OciDir(path, tag)),
            "oci-archive" => path().map(|(path, tag)| Source::OciArchive(path, tag)),
            "docker-archive" => {
                let (path, name) = path()?;
                let name = name.map(|name| name.parse()).transpose()?;
                Ok(Source::DockerArchive(path, name))
            }
            "dir" | "docker-daemon" | "containers-storage" | "ostree" | "sif" | "tarball" => {
                Err(SourceError::Transport(transport.to_owned()))
            }
            other if rest.starts_with("//") => Err(SourceError::Transport(other.to_owned())),
            _ => Ok(Source::Registry(text.parse()?)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const HEX: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

    #[track_caller]
    fn full(text: &str, full: &str, familiar: &str) {
        let reference: Reference = text.parse().unwrap();
        assert_eq!(reference.to_string(), full);
        assert_eq!(reference.familiar(), familiar);
    }

    #[test]
    fn normalises() {
        full("ubuntu", "docker.io/library/ubuntu:latest", "ubuntu:latest");
        full(
            "ubuntu:18.04",
            "docker.io/library/ubuntu:18.04",
            "ubuntu:18.04",
        );
        full(
            "library/ubuntu",
            "docker.io/library/ubuntu:latest",
            "ubuntu:latest",
        );
        full(
            "index.docker.io/ubuntu",
            "docker.io/library/ubuntu:latest",
            "ubuntu:latest",
        );
        full("user/app", "docker.io/user/app:latest", "user/app:latest");
        full("localhost/x", "localhost/x:latest", "localhost/x:latest");
        full(
            "localhost:5000",
            "docker.io/library/localhost:5000",
            "localhost:5000",
        );
        full("Host/x:1", "Host/x:1", "Host/x:1");
        full(
            "[::1]:5000/a/b",
            "[::1]:5000/a/b:latest",
            "[::1]:5000/a/b:latest",
        );
        full(
            "a__b/c--d.e_f:T",
            "docker.io/a__b/c--d.e_f:T",
            "a__b/c--d.e_f:T",
        );
        let digest = format!("host:5000/n@sha256:{HEX}");
        full(&digest, &digest, &digest);
        let both = format!("x:t@sha256:{HEX}");
        full(&both, &format!("docker.io/library/{both}"), &both);
    }

    #[test]
    fn a_short_form_never_means_another_image() {
        full(
            "docker.io/localhost/x",
            "docker.io/localhost/x:latest",
            "docker.io/localhost/x:latest",
        );
        let id: Reference = format!("docker.io/library/{HEX}:t").parse().unwrap();
        assert_eq!(id.familiar().parse(), Ok(id));
    }

    #[test]
    fn says_what_is_wrong() {
        let error = |text: &str| text.parse::<Reference>().unwrap_err();
        assert!(matches!(error(""), ReferenceError::NoName(_)));
        assert!(matches!(error(":tag"), ReferenceError::NoName(_)));
        assert!(matches!(error("host:5000/"), ReferenceError::NoName(_)));
        assert!(matches!(error("Ubuntu"), ReferenceError::UpperCase(_)));
        assert!(matches!(
            error("host.io/User/x"),
            ReferenceError::UpperCase(_)
        ));
        assert!(matches!(error("ubuntu:"), ReferenceError::Tag(_)));
        assert!(matches!(error("ubuntu:-x"), ReferenceError::Tag(_)));
        assert!(matches!(error("ubuntu:ä"), ReferenceError::Tag(_)));
        assert!(matches!(
            error(&format!("u:{}", "t".repeat(129))),
            ReferenceError::Tag(_)
        ));
        assert!(matches!(error("a//b"), ReferenceError::Component { .. }));
        assert!(matches!(error("a___b"), ReferenceError::Component { .. }));
        assert!(matches!(error("../etc"), ReferenceError::Host(_)));
        assert!(matches!(error("a b"), ReferenceError::Component { .. }));
        assert!(matches!(error("ü/x"), ReferenceError::Component { .. }));
        assert!(matches!(error("-h.io/x"), ReferenceError::Host(_)));
        assert!(matches!(error("h:99999/x"), ReferenceError::Host(_)));
        assert!(matches!(error("x@sha256:12"), ReferenceError::Digest(_)));
        assert!(matches!(error(HEX), ReferenceError::ImageId(_)));
        assert!(matches!(
            error("a/".repeat(200).trim_end_matches('/')),
            ReferenceError::TooLong(_)
        ));
    }

    #[test]
    fn sources() {
        let image = |text: &str| Source::Registry(text.parse().unwrap());
        assert_eq!(Source::parse("docker://ubuntu:1"), Ok(image("ubuntu:1")));
        assert_eq!(Source::parse("ubuntu:1"), Ok(image("ubuntu:1")));
        assert_eq!(Source::parse("h:5000/x"), Ok(image("h:5000/x")));
        assert_eq!(
            Source::parse("oci:/a/b"),
            Ok(Source::OciDir("/a/b".into(), None))
        );
        assert_eq!(
            Source::parse("oci:d:t"),
            Ok(Source::OciDir("d".into(), Some("t".into())))
        );
        assert_eq!(
            Source::parse("oci-archive:f:"),
            Ok(Source::OciArchive("f".into(), None))
        );
        let named = Source::DockerArchive("f.tar".into(), Some("a:b".parse().unwrap()));
        assert_eq!(Source::parse("docker-archive:f.tar:a:b"), Ok(named));
        for path in ["/", "./x:y", "../r", "."] {
            assert_eq!(Source::parse(path), Ok(Source::Rootfs(path.into())));
        }
        assert!(matches!(Source::parse("oci:"), Err(SourceError::NoPath(_))));
        assert!(matches!(
            Source::parse("dir:/x"),
            Err(SourceError::Transport(_))
        ));
        assert!(matches!(
            Source::parse("https://h/x"),
            Err(SourceError::Transport(_))
        ));
        assert!(matches!(Source::parse("A"), Err(SourceError::Reference(_))));
    }

    proptest! {
        #[test]
        fn display_and_parse_are_a_fixed_point(
            host in proptest::option::of("(localhost|[a-z0-9]{1,5}\\.[A-Za-z]{2,3}|\\[::1\\])(:[0-9]{1,4})?"),
            path in "[a-z0-9]{1,4}((_|__|-{1,3})[a-z0-9]{1,3}){0,2}(/[a-z0-9]{1,9}(\\.[a-z0-9]{1,3})?){0,2}",
            tag in proptest::option::of("[A-Za-z0-9_][A-Za-z0-9_.-]{0,9}"),
            digest in proptest::option::of("[0-9a-f]{64}"),
        ) {
            let text = format!(
                "{}{path}{}{}",
                host.map(|h| h + "/").unwrap_or_default(),
                tag.map(|t| format!(":{t}")).unwrap_or_default(),
                digest.map(|d| format!("@sha256:{d}")).unwrap_or_default(),
            );
            let reference: Reference = text.parse().unwrap();
            prop_assert_eq!(reference.to_string().parse(), Ok(reference.clone()));
            prop_assert_eq!(reference.familiar().parse(), Ok(reference.clone()));
            let json = serde_json::to_string(&reference).unwrap();
            prop_assert_eq!(serde_json::from_str::<Reference>(&json).unwrap(), reference);
        }

        #[test]
        fn no_text_panics_and_what_parses_prints_back(text in "[a-zA-Z0-9:/@._\\[\\]-]{0,40}|\\PC{0,40}") {
            if let Ok(reference) = text.parse::<Reference>() {
                prop_assert_eq!(reference.to_string().parse(), Ok(reference));
            }
        }
    }
}
