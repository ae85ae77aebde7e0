//! What can go wrong in the store.

use std::io;

use crate::model::Digest;
use crate::store::frames::WindowError;
use crate::store::unpack::UnpackError;
use crate::sys::fs::CallError;

/// A failed operation on the store.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// A system call.
    #[error(transparent)]
    Call(#[from] CallError),
    /// Reading or writing through the standard library.
    #[error("{call}: {source}")]
    Io {
        /// The operation with its arguments.
        call: String,
        /// The answer.
        source: io::Error,
    },
    /// The bytes that arrived are not those that were asked for.
    #[error("blob `{expected}` has wrong content: its digest is `{actual}`")]
    Digest {
        /// The digest asked for.
        expected: Digest,
        /// The digest of the bytes.
        actual: Digest,
    },
    /// Fewer or more bytes than the descriptor says.
    #[error("blob `{digest}` has {actual} bytes, its descriptor says {expected}")]
    Size {
        /// The blob.
        digest: Digest,
        /// Bytes by the descriptor.
        expected: u64,
        /// Bytes seen (at least, when there are more than expected).
        actual: u64,
    },
    /// The unpacked tar is not the one the image's configuration names.
    #[error("layer `{layer}` unpacks to diff id `{actual}`, the image says `{expected}`")]
    DiffId {
        /// The compressed blob.
        layer: Digest,
        /// From the image's configuration.
        expected: Digest,
        /// Of the tar.
        actual: Digest,
    },
    /// The stream of a layer broke off or is not what its compression says.
    #[error("layer `{layer}`: {source}")]
    Stream {
        /// The compressed blob.
        layer: Digest,
        /// The reader's or decoder's error.
        source: io::Error,
    },
    /// An entry of a layer could not be unpacked.
    #[error("layer `{layer}`: {source}")]
    Unpack {
        /// The compressed blob.
        layer: Digest,
        /// Entry and reason.
        source: UnpackError,
    },
    /// A media type that is no layer, such as an encrypted one.
    #[error("layer `{layer}` has media type `{media_type}`, which cannot be unpacked")]
    MediaType {
        /// The blob.
        layer: Digest,
        /// Its media type.
        media_type: String,
    },
    /// A blob that the store's index leads to is not there.
    #[error("blob `{0}` is missing from the store")]
    MissingBlob(Digest),
    /// A digest that is no sha256.
    #[error(transparent)]
    BadDigest(#[from] crate::model::digest::DigestError),
    /// A JSON document that cannot be read.
    #[error("{what} is not valid: {source}")]
    Json {
        /// Which document.
        what: String,
        /// Line and reason.
        source: serde_json::Error,
    },
    /// A JSON document larger than any real one.
    #[error("{what} has {size} bytes, more than the limit of {limit}")]
    TooLarge {
        /// Which document.
        what: String,
        /// Its size in bytes.
        size: u64,
        /// The limit in bytes.
        limit: u64,
    },
    /// Layers and diff ids do not pair up.
    #[error("image `{manifest}` has {layers} layers but {diff_ids} diff ids")]
    LayerCount {
        /// The manifest.
        manifest: Digest,
        /// In the manifest.
        layers: usize,
        /// In the configuration.
        diff_ids: usize,
    },
    /// An image index without an entry for this machine.
    #[error("image index `{index}` has no image for platform `{platform}`")]
    NoPlatform {
        /// The index.
        index: Digest,
        /// The platform asked for.
        platform: String,
    },
    /// An id prefix of several images.
    #[error("`{prefix}` is the beginning of {count} image ids")]
    Ambiguous {
        /// What was given.
        prefix: String,
        /// How many match.
        count: usize,
    },
    /// Every layer directory that could not be deleted.
    #[error("layers that could not be deleted: {}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))]
    Remove(Vec<CallError>),
}

impl StoreError {
    /// For `map_err`: an I/O error with the operation it came from.
    pub(crate) fn io(call: impl FnOnce() -> String) -> impl FnOnce(io::Error) -> StoreError {
        move |source| StoreError::Io {
            call: call(),
            source,
        }
    }

    /// Whether the disk, or the user's quota of it, is full.
    fn is_full(&self) -> bool {
        use io::ErrorKind::{QuotaExceeded, StorageFull};
        match self {
            StoreError::Call(call) => call.is_full(),
            StoreError::Io { source, .. } | StoreError::Stream { source, .. } => {
                matches!(source.kind(), StorageFull | QuotaExceeded)
            }
            StoreError::Unpack { source, .. } => source.is_full(),
            _ => false,
        }
    }

    /// The command that fixes it, where one is known.
    pub fn hint(&self) -> Option<String> {
        match self {
            StoreError::MissingBlob(_) => Some("fetch the image again: rl pull IMAGE".to_owned()),
            error if error.is_full() => Some(
                "the disk with the images is full: `df -h` shows which that is; free some space, or \
                 set XDG_DATA_HOME to a directory on another disk"
                    .to_owned(),
            ),
            StoreError::Unpack { source, .. } => source.hint(),
            StoreError::Stream { source, .. }
                if source.get_ref().is_some_and(|e| e.is::<WindowError>()) =>
            {
                Some(
                    "compress the layer with `zstd --long=25` at most, or copy the image with gzip: \
                     skopeo copy --dest-compress-format gzip docker://IMAGE oci:DIR"
                        .to_owned(),
                )
            }
            StoreError::Ambiguous { .. } => {
                Some("give more digits: rl images --no-trunc".to_owned())
            }
            _ => None,
        }
    }
}

/// What the store's functions return.
pub type Result<T> = std::result::Result<T, StoreError>;
