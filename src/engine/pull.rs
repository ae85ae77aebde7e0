//! `rl pull`: from a reference to an image in the store.
//!
//! The order: the policy says whether the registry is asked at all → manifest and config are fetched
//! and verified → the layers that are not there yet are fetched and unpacked side by side, the
//! biggest first → manifest and config are stored and the name is set, last, so that a name never
//! points to an image with a layer missing. The first error stops the other layers and is the one
//! that is reported.

use std::collections::{HashSet, VecDeque};
use std::io::{self, Read};
use std::str::FromStr;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::model::{Digest, Platform, Reference};
use crate::registry::{self, Client, Image, Layer};

/// Layers fetched at once. More would only share one network and one disk.
const PARALLEL: usize = 4;

/// When to ask the registry (podman-run(1), `--pull`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Policy {
    /// Each time; an error when the registry cannot be asked.
    Always,
    /// When the image is not in the store.
    #[default]
    Missing,
    /// Not at all.
    Never,
    /// Each time, but what is in the store will do when the registry cannot be asked.
    Newer,
}

/// The word is not a pull policy.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("`{0}` is not a pull policy: `always`, `missing`, `never` or `newer`")]
pub struct PolicyError(pub String);

impl FromStr for Policy {
    type Err = PolicyError;

    fn from_str(text: &str) -> Result<Self, PolicyError> {
        match text {
            "always" | "true" => Ok(Policy::Always),
            "missing" | "ifnotpresent" => Ok(Policy::Missing),
            "never" | "false" => Ok(Policy::Never),
            "newer" | "ifnewer" => Ok(Policy::Newer),
            _ => Err(PolicyError(text.to_owned())),
        }
    }
}

/// What a pull tells while it works; called from several threads. A layer is known by the digest of
/// its blob.
pub trait Progress: Sync {
    /// The layer is in the store already.
    fn exists(&self, layer: &Digest);
    /// The layer's transfer begins; it has `total` bytes.
    fn started(&self, layer: &Digest, total: u64);
    /// Another `count` bytes have come.
    fn advanced(&self, layer: &Digest, count: u64);
    /// The layer is verified, unpacked and stored.
    fn done(&self, layer: &Digest);
}

/// Tells nothing.
#[derive(Debug, Default)]
pub struct Silent;

impl Progress for Silent {
    fn exists(&self, _: &Digest) {}
    fn started(&self, _: &Digest, _: u64) {}
    fn advanced(&self, _: &Digest, _: u64) {}
    fn done(&self, _: &Digest) {}
}

/// An image in the store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pulled {
    /// What the name stands for: the digest of the index, or of the manifest when there is no index.
    pub digest: Digest,
    /// The manifest of the platform's image.
    pub manifest: Digest,
    /// The image id: the digest of the config.
    pub id: Digest,
    /// Whether anything was fetched.
    pub changed: bool,
}

/// Where a pull puts an image. Calls come from several threads.
pub trait ImageSink: Sync {
    /// The store's own error.
    type Error: std::error::Error + Send + Sync + 'static;

    /// The image that the name stands for now, if it is complete and for this platform.
    ///
    /// # Errors
    /// When the store cannot be read.
    fn local(
        &self,
        reference: &Reference,
        platform: &Platform,
    ) -> Result<Option<Pulled>, Self::Error>;

    /// Whether blob and unpacked tree of the layer are there.
    ///
    /// # Errors
    /// When the store cannot be read.
    fn has_layer(&self, layer: &Layer) -> Result<bool, Self::Error>;

    /// Stores and unpacks a layer, reading `blob` to its end; checks the blob's digest and the diff id.
    ///
    /// # Errors
    /// Those of `blob`, of the checks, and of the disk.
    fn put_layer(&self, layer: &Layer, blob: &mut (dyn Read + Send)) -> Result<(), Self::Error>;

    /// Stores manifest and config, and makes the name stand for them. What [`ImageSink::local`] tells
    /// later has the digest of the index, if there is one.
    ///
    /// # Errors
    /// When the store cannot be written.
    fn finish(&self, reference: &Reference, image: &Image) -> Result<(), Self::Error>;
}

/// Why there is no image.
#[derive(Debug, thiserror::Error)]
pub enum PullError<E: std::error::Error + 'static> {
    /// The registry, or the way to it.
    #[error(transparent)]
    Registry(#[from] registry::Error),
    /// The store.
    #[error(transparent)]
    Store(E),
    /// `--pull never`, and the store does not have it.
    #[error("image `{0}` is not in the store, and --pull never forbids to fetch it")]
    NotLocal(String),
}

impl<E: std::error::Error + 'static> PullError<E> {
    /// The command that would help, if one is known; the store's own hints are asked of the store.
    pub fn hint(&self) -> Option<String> {
        match self {
            PullError::Registry(error) => error.hint(),
            PullError::NotLocal(name) => Some(format!("rl pull {name}")),
            PullError::Store(_) => None,
        }
    }
}

/// Sees to it that the store has the image, as the policy says. After an error the client is
/// cancelled and of no more use.
///
/// # Errors
/// [`PullError`].
pub fn pull<S: ImageSink>(
    client: &Client,
    sink: &S,
    reference: &Reference,
    platform: &Platform,
    policy: Policy,
    progress: &dyn Progress,
) -> Result<Pulled, PullError<S::Error>> {
    let local = sink.local(reference, platform).map_err(PullError::Store)?;
    match (policy, local) {
        (Policy::Never | Policy::Missing, Some(local)) => Ok(local),
        (Policy::Never, None) => Err(PullError::NotLocal(reference.familiar())),
        // One small request tells whether there is anything to fetch; a digest always means the same.
        (_, Some(local)) => {
            let current = reference
                .digest()
                .map_or_else(|| client.digest(reference), Ok);
            match current {
                Ok(digest) if digest == local.digest || digest == local.manifest => Ok(local),
                Err(_) if policy == Policy::Newer => Ok(local),
                Err(error) => Err(error.into()),
                Ok(_) => fetch(client, sink, reference, platform, progress),
            }
        }
        (_, None) => fetch(client, sink, reference, platform, progress),
    }
}

/// Fetches the image whatever the store has.
fn fetch<S: ImageSink>(
    client: &Client,
    sink: &S,
    reference: &Reference,
    platform: &Platform,
    progress: &dyn Progress,
) -> Result<Pulled, PullError<S::Error>> {
    let image = client.resolve(reference, platform)?;
    let mut missing = Vec::new();
    let mut seen = HashSet::new();
    for layer in image
        .layers
        .iter()
        .filter(|layer| seen.insert(layer.diff_id))
    {
        if sink.has_layer(layer).map_err(PullError::Store)? {
            progress.exists(&layer.descriptor.digest);
        } else {
            missing.push(layer);
        }
    }
    fetch_layers(client, sink, reference, &missing, progress)?;
    sink.finish(reference, &image).map_err(PullError::Store)?;
    let manifest = image.manifest.descriptor.digest;
    Ok(Pulled {
        digest: image
            .index
            .map_or(manifest, |index| index.descriptor.digest),
        manifest,
        id: image.config.descriptor.digest,
        changed: !missing.is_empty(),
    })
}

/// Fetches layers in a few threads, this one among them; the biggest first, so that it is not the one that ends last.
fn fetch_layers<S: ImageSink>(
    client: &Client,
    sink: &S,
    reference: &Reference,
    layers: &[&Layer],
    progress: &dyn Progress,
) -> Result<(), PullError<S::Error>> {
    let mut queue: Vec<&Layer> = layers.to_vec();
    queue.sort_by_key(|layer| std::cmp::Reverse(layer.descriptor.size));
    let queue = Mutex::new(VecDeque::from(queue));
    let failure = Mutex::new(None);
    let fetch = || {
        loop {
            let next = lock(&queue).pop_front();
            let Some(layer) = next else { return };
            if let Err(error) = fetch_layer(client, sink, reference, layer, progress) {
                // Under one lock with the cancelling: what the others then report is its echo.
                let mut failure = lock(&failure);
                if failure.is_none() {
                    *failure = Some(error);
                    lock(&queue).clear();
                    client.cancel();
                }
                return;
            }
        }
    };
    std::thread::scope(|scope| {
        for _ in 1..PARALLEL.min(layers.len()) {
            // Refused, it is only slower.
            let _ = std::thread::Builder::new().spawn_scoped(scope, fetch);
        }
        fetch();
    });
    let failure = failure.into_inner().unwrap_or_else(PoisonError::into_inner);
    failure.map_or(Ok(()), Err)
}

fn fetch_layer<S: ImageSink>(
    client: &Client,
    sink: &S,
    reference: &Reference,
    layer: &Layer,
    progress: &dyn Progress,
) -> Result<(), PullError<S::Error>> {
    let digest = &layer.descriptor.digest;
    progress.started(digest, layer.descriptor.size);
    let blob = client.blob(reference, &layer.descriptor);
    let mut reader = Watched {
        inner: blob,
        layer: digest,
        progress,
        error: None,
    };
    match sink.put_layer(layer, &mut reader) {
        Ok(()) => {
            progress.done(digest);
            Ok(())
        }
        Err(error) => Err(reader
            .error
            .map_or(PullError::Store(error), PullError::Registry)),
    }
}

/// A reader that counts for the progress, and keeps the registry's error: what comes out of the store
/// is the store's error about a reader that failed, and says less.
struct Watched<'a, R> {
    inner: R,
    layer: &'a Digest,
    progress: &'a dyn Progress,
    error: Option<registry::Error>,
}

impl<R: Read> Read for Watched<'_, R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        match self.inner.read(buf) {
            Ok(count) => {
                self.progress.advanced(self.layer, count as u64);
                Ok(count)
            }
            Err(error) => match registry::Error::from_io(error) {
                Ok(error) => {
                    let brief = io::Error::other(error.to_string());
                    self.error = Some(error);
                    Err(brief)
                }
                Err(error) => Err(error),
            },
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
