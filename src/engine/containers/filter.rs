//! `rl ps --filter`.

use super::super::Context;
use crate::engine::only::{self, Label, Pattern, PatternError, truth};
use crate::engine::ports::Inside;
use crate::model::Reference;
use crate::model::spec::MountSource;
use crate::state::{Listed, Status};

/// A filter that there is not.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FilterError {
    /// Not one of these.
    #[error(
        "`{0}` is not a filter: id, name, label, status, exited, ancestor, volume, network, health, publish, expose, is-task, before or since, then `=` and a value"
    )]
    Unknown(String),
    /// No ports.
    #[error("`{0}`: expected ports such as `80`, `53/udp` or `8000-8080/tcp`")]
    Ports(String),
    /// A name to look for that is no regular expression.
    #[error(transparent)]
    Pattern(#[from] PatternError),
}

/// What `status` takes (docker-ps(1)); no container here is ever being removed, or dead.
const STATES: [&str; 7] = [
    "created",
    "running",
    "paused",
    "restarting",
    "exited",
    "removing",
    "dead",
];

/// A condition of `--filter`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Filter {
    /// The id starts with this.
    Id(String),
    /// The name contains something like this, with the `/` that docker has before names or without.
    Name(Pattern),
    /// A label, perhaps with a value.
    Label(Label),
    /// `created`, `running` or `exited`.
    Status(String),
    /// It ended with this exit status.
    Exited(u8),
    /// The image as it was named, with or without a tag, or its id.
    Ancestor(String),
    /// A volume's name, or a path inside that something is mounted at.
    Volume(String),
    /// How it reaches the network.
    Network(String),
    /// What its checks say: `starting`, `healthy`, `unhealthy` or `none`.
    Health(String),
    /// Ports inside of which one is published.
    Publish(Inside),
    /// The same with those that its image or its maker names.
    Expose(Inside),
    /// Whether it is of a swarm, which there is none of.
    IsTask(bool),
    /// It was made before this container, or, once that has been [looked up](settle), this nanosecond.
    Before(String),
    /// It was made after.
    Since(String),
}

impl std::str::FromStr for Filter {
    type Err = FilterError;

    fn from_str(text: &str) -> Result<Self, FilterError> {
        let bad = || FilterError::Unknown(text.to_owned());
        let ports = |value| Inside::parse(value).ok_or_else(|| FilterError::Ports(text.to_owned()));
        let (key, value) = text.split_once('=').ok_or_else(bad)?;
        let owned = value.to_owned();
        Ok(match key {
            "id" => Filter::Id(owned),
            "name" => Filter::Name(Pattern::parse(value)?),
            "label" => Filter::Label(Label::parse(value)),
            "status" if STATES.contains(&value) => Filter::Status(owned),
            "health" if ["starting", "healthy", "unhealthy", "none"].contains(&value) => {
                Filter::Health(owned)
            }
            "publish" => Filter::Publish(ports(value)?),
            "expose" => Filter::Expose(ports(value)?),
            "is-task" => Filter::IsTask(truth(value).ok_or_else(bad)?),
            "before" => Filter::Before(owned),
            "since" => Filter::Since(owned),
            "exited" => Filter::Exited(value.parse().map_err(|_| bad())?),
            "ancestor" => Filter::Ancestor(owned),
            "volume" => Filter::Volume(owned),
            "network" => Filter::Network(owned),
            _ => return Err(bad()),
        })
    }
}

impl Filter {
    /// Whether it asks for containers that do not run, so that `--all` goes without saying.
    pub fn wants_all(&self) -> bool {
        matches!(self, Filter::Status(_) | Filter::Exited(_))
    }

    fn fits(&self, container: &Listed) -> bool {
        let spec = &container.spec;
        match self {
            Filter::Id(id) => spec.id.starts_with(id),
            Filter::Name(pattern) => {
                pattern.fits(&spec.name) || pattern.fits(&format!("/{}", spec.name))
            }
            Filter::Label(label) => label.is_among(&spec.labels),
            Filter::Status(status) => super::row::state(container.state.status) == status,
            Filter::Exited(code) => {
                let ended = container.state.ended;
                container.state.status == Status::Exited && ended.map_or(0, |e| e.status()) == *code
            }
            Filter::Ancestor(image) => {
                let tag = spec.image.strip_prefix(image.as_str());
                let id = spec.image_id.as_ref().map(|id| id.hex().to_owned());
                let hex = image.trim_start_matches("sha256:");
                tag.is_some_and(|tag| tag.is_empty() || tag.starts_with([':', '@']))
                    || same_name(&spec.image, image)
                    || hex.len() >= 12 && id.is_some_and(|id| id.starts_with(hex))
            }
            Filter::Volume(word) => spec.mounts.iter().any(|mount| {
                let named = match &mount.source {
                    MountSource::Volume { name, .. } => name == word,
                    _ => false,
                };
                named || mount.target == *word
            }),
            Filter::Network(word) => {
                super::row::network(spec.network.mode, &spec.network.request.mode) == word
            }
            Filter::Health(word) => {
                let verdict = container.state.health.as_ref().map(|health| health.verdict);
                verdict.map_or("none", crate::state::Verdict::word) == word
            }
            Filter::Publish(ports) => publishes(container, ports),
            Filter::Expose(ports) => {
                let exposed = spec.exposed.iter().any(|port| ports.meets(port));
                exposed || publishes(container, ports)
            }
            Filter::IsTask(wanted) => !wanted,
            Filter::Before(at) => at.parse().is_ok_and(|at: u64| spec.made() < at),
            Filter::Since(at) => at.parse().is_ok_and(|at: u64| spec.made() > at),
        }
    }
}

fn publishes(container: &Listed, ports: &Inside) -> bool {
    let network = &container.spec.network;
    let published = super::published(&network.publish, network.mode);
    published.iter().any(|(inside, ..)| ports.meets(inside))
}

/// Whether two words name one image: `debian`, `debian:latest` and `docker.io/library/debian` do.
fn same_name(one: &str, other: &str) -> bool {
    let both = (one.parse::<Reference>(), other.parse::<Reference>());
    matches!(both, (Ok(one), Ok(other)) if one == other)
}

/// The filters with containers that they name replaced by when these were made.
///
/// # Errors
/// No such container; the containers cannot be read.
pub fn settle(
    context: &Context<'_>,
    found: &[Listed],
    filters: &[Filter],
) -> Result<Vec<Filter>, super::Error> {
    let mut everything = None;
    let mut created = |word: &String| -> Result<String, super::Error> {
        let named = |c: &&Listed| c.spec.name == *word || c.spec.id.starts_with(&**word);
        if let Some(container) = found.iter().find(named) {
            return Ok(container.spec.made().to_string());
        }
        if everything.is_none() {
            everything = Some(super::listed(context, true)?);
        }
        let container = everything.iter().flatten().find(named);
        let container = container.ok_or_else(|| crate::state::Error::NotFound(word.clone()))?;
        Ok(container.spec.made().to_string())
    };
    let settle = |filter: &Filter| {
        Ok(match filter {
            Filter::Before(word) => Filter::Before(created(word)?),
            Filter::Since(word) => Filter::Since(created(word)?),
            other => other.clone(),
        })
    };
    filters.iter().map(settle).collect()
}

/// Whether a container passes.
pub fn passes(container: &Listed, filters: &[Filter]) -> bool {
    let each = |filter: &Filter| matches!(filter, Filter::Label(..));
    only::passes(filters, each, |filter| filter.fits(container))
}
