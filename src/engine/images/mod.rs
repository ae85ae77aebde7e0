//! What the image verbs mean: `images`, `inspect`, `tag`, `rmi`, `load`, `save`, `import`.
//!
//! Nothing here makes a user namespace. What writes or deletes unpacked layers ([`load`] with maps,
//! [`import`], [`remove`]) is to be called inside the one whose maps it is given.

mod change;
mod compose;
mod import;
mod inspect;
mod list;
mod load;
mod remove;
mod save;

use std::io;
use std::path::{Path, PathBuf};

pub use crate::model::time::{ago, now, parse_rfc3339, to_rfc3339};
pub use compose::{Compose, compose};
pub use import::{Import, import};
pub use inspect::inspect;
pub use list::{Filter, Row, human_size, rows};
pub use load::{Loaded, load, load_stream};
pub use remove::{Removed, containers_of, remove};
pub use save::{Format, save};

use crate::model::reference::{ReferenceError, Source, SourceError};
use crate::model::{Digest, Reference};
use crate::store::unpack::UnpackError;
use crate::store::{Image, Store, StoreError};

/// Why an image verb failed.
#[derive(Debug, thiserror::Error)]
pub enum ImageError {
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A name that is none.
    #[error(transparent)]
    Reference(#[from] ReferenceError),
    /// A transport that is none.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// Nothing of that name or id.
    #[error("no image `{0}` in the store")]
    NotFound(String),
    /// A file outside the store.
    #[error("{call}: {source}")]
    Io {
        /// The operation with its arguments.
        call: String,
        /// The answer.
        source: io::Error,
    },
    /// An archive of images that is broken.
    #[error("image archive: {0}")]
    Archive(#[source] UnpackError),
    /// An archive with neither `manifest.json` nor `index.json`.
    #[error("not an image archive: neither `manifest.json` nor `index.json` in it")]
    NoManifest,
    /// A member that the archive's manifest names and that is not there.
    #[error("image archive has no member `{0}`")]
    NoMember(String),
    /// A JSON document of an archive or layout.
    #[error("{what} is not valid: {source}")]
    Json {
        /// Which.
        what: String,
        /// Line and reason.
        source: serde_json::Error,
    },
    /// A layout or archive with several images and no word which.
    #[error("`{path}` has {count} images: {names}")]
    Which {
        /// The layout or archive.
        path: String,
        /// How many.
        count: usize,
        /// Their names.
        names: String,
    },
    /// A layout without the asked-for name.
    #[error("`{path}` has no image named `{name}`")]
    NoName {
        /// The layout or archive.
        path: String,
        /// The name.
        name: String,
    },
    /// Containers stand in the way of a removal.
    #[error("image `{image}` is used by container {}", .containers.join(", "))]
    InUse {
        /// As it was named.
        image: String,
        /// Short ids.
        containers: Vec<String>,
    },
    /// An id with several names cannot be removed without force.
    #[error("image `{image}` has several names: {}", .names.join(", "))]
    SeveralNames {
        /// As it was given.
        image: String,
        /// The names.
        names: Vec<String>,
    },
    /// A `--filter` that does not exist.
    #[error(
        "`{0}` is not a filter: `reference=PATTERN`, `dangling=true|false`, `label=KEY[=VALUE]`, `before=IMAGE`, `since=IMAGE` or `until=TIME`"
    )]
    Filter(String),
    /// A `--change` that cannot be applied.
    #[error(
        "`{0}` cannot be applied: CMD, ENTRYPOINT, ENV, EXPOSE, HEALTHCHECK, LABEL, ONBUILD, STOPSIGNAL, USER, VOLUME and WORKDIR can"
    )]
    Change(String),
    /// Not a format of `save`.
    #[error("`{0}` is not a format: docker-archive, oci-archive or oci-dir")]
    Format(String),
    /// Nothing to read.
    #[error("standard input is a terminal, not an archive")]
    TerminalInput,
    /// Nowhere to write.
    #[error("an archive is not written to a terminal")]
    TerminalOutput,
    /// A directory format needs a place.
    #[error("format oci-dir needs a directory")]
    NeedsDirectory,
}

impl ImageError {
    pub(super) fn io(call: impl FnOnce() -> String) -> impl FnOnce(io::Error) -> ImageError {
        move |source| ImageError::Io {
            call: call(),
            source,
        }
    }

    pub(super) fn json(
        what: impl FnOnce() -> String,
    ) -> impl FnOnce(serde_json::Error) -> ImageError {
        move |source| ImageError::Json {
            what: what(),
            source,
        }
    }

    /// The command that fixes it, where one is known.
    pub fn hint(&self) -> Option<String> {
        match self {
            ImageError::Store(error) => error.hint(),
            ImageError::NotFound(name) => Some(format!("rl pull {name}")),
            ImageError::InUse { containers, .. } => Some(format!(
                "remove the container first: rl rm {}; or take the name away only: rl rmi --force",
                containers.join(" ")
            )),
            ImageError::SeveralNames { names, .. } => Some(format!(
                "remove one name: rl rmi {}; or all: rl rmi --force",
                names[0]
            )),
            ImageError::Which { path, .. } => Some(format!("add the name: {path}:NAME")),
            ImageError::TerminalInput => {
                Some("name a file, such as `-i FILE`, or use a pipe".to_owned())
            }
            ImageError::TerminalOutput => Some("rl save -o FILE IMAGE".to_owned()),
            ImageError::NeedsDirectory => Some("rl save --format oci-dir -o DIR IMAGE".to_owned()),
            _ => None,
        }
    }
}

/// What the functions of this module return.
pub type Result<T> = std::result::Result<T, ImageError>;

/// The image that `text` names: a reference, or the beginning of an id or digest. A name wins over an
/// id, as with Docker.
///
/// # Errors
/// [`ImageError::NotFound`], an ambiguous id, or an unreadable store.
pub fn find(store: &Store, text: &str) -> Result<Image> {
    match text.parse::<Reference>() {
        Ok(reference) => {
            if let Some(image) = store.image(&reference)? {
                return Ok(image);
            }
        }
        // Text that is no name may still be an id.
        Err(error) => {
            return store.image_by_id(text)?.ok_or(match error {
                ReferenceError::ImageId(_) => ImageError::NotFound(text.to_owned()),
                error => error.into(),
            });
        }
    }
    store
        .image_by_id(text)?
        .ok_or_else(|| ImageError::NotFound(text.to_owned()))
}

/// Gives an image another name.
///
/// # Errors
/// As [`find`], or a target that is no name with a tag.
pub fn tag(store: &Store, source: &str, target: &str) -> Result<Reference> {
    let _lock = store.lock_shared()?;
    let image = find(store, source)?;
    let reference: Reference = target.parse()?;
    if reference.tag().is_none() {
        return Err(ReferenceError::Tag(target.to_owned()).into());
    }
    store.tag(&reference, &image.descriptor)?;
    Ok(reference)
}

/// Takes the one image of another place (`oci:`, `oci-archive:`, `docker-archive:`) into the store,
/// without unpacking it.
///
/// # Errors
/// As [`load`]; [`ImageError::Which`] for several images.
pub fn take_in(store: &Store, source: &Source) -> Result<Image> {
    let loaded = load(store, source, None)?;
    let [one] = &loaded[..] else {
        let names = loaded
            .iter()
            .flat_map(|l| &l.references)
            .map(Reference::familiar);
        return Err(ImageError::Which {
            path: source_path(source).map_or_else(String::new, display),
            count: loaded.len(),
            names: names.collect::<Vec<_>>().join(", "),
        });
    };
    store
        .image_by_id(&one.manifest.to_string())?
        .ok_or(ImageError::NoManifest)
}

fn source_path(source: &Source) -> Option<&Path> {
    match source {
        Source::OciDir(path, _)
        | Source::OciArchive(path, _)
        | Source::DockerArchive(path, _)
        | Source::Rootfs(path) => Some(path),
        Source::Registry(_) => None,
    }
}

/// A descriptor of ours for a blob.
fn descriptor(
    media_type: oci_spec::image::MediaType,
    size: u64,
    digest: &Digest,
) -> oci_spec::image::Descriptor {
    let digest: oci_spec::image::Digest = digest
        .to_string()
        .parse()
        .unwrap_or_else(|_| unreachable!("a sha256 digest is one of oci-spec's"));
    oci_spec::image::Descriptor::new(media_type, size, digest)
}

/// Where the containers of this store live.
fn containers_dir(store: &Store) -> PathBuf {
    store.root().join("containers")
}

fn display(path: &Path) -> String {
    path.display().to_string()
}
