//! Images as the rest of the program sees them: a descriptor of `index.json` followed to its
//! manifest and configuration, both checked against their digests.

use oci_spec::image::{Descriptor, ImageConfiguration, ImageIndex, ImageManifest, MediaType};

use super::index::{digest, empty, is_named, name, origin, parent};
use super::{Result, Store, StoreError};
use crate::model::{Digest, Platform, Reference};

/// Docker's type for an index of manifests (distribution, manifest list v2).
const DOCKER_LIST: &str = "application/vnd.docker.distribution.manifest.list.v2+json";

/// A complete image of the store.
#[derive(Clone, Debug)]
pub struct Image {
    /// Its names, in the order of the index; empty for a dangling image.
    pub references: Vec<Reference>,
    /// The digest `index.json` holds: of the manifest, or of an image index that leads to it.
    pub target: Digest,
    /// The digest of the image index at the registry that it was chosen out of, when it was pulled so.
    pub origin: Option<Digest>,
    /// The id of the image that it was made of, when it was made here of one.
    pub parent: Option<Digest>,
    /// The manifest's digest.
    pub manifest: Digest,
    /// The image id: the digest of the configuration.
    pub id: Digest,
    /// The configuration.
    pub config: ImageConfiguration,
    /// The whole of it, where it has what the specification does not know.
    pub extended: Option<serde_json::Value>,
    /// The digests of the uncompressed layers, lowest first.
    pub diff_ids: Vec<Digest>,
    /// The layers' blobs, lowest first, one for each diff id.
    pub layers: Vec<Descriptor>,
    /// Bytes of all its blobs.
    pub size: u64,
    /// The descriptor of the index, as [`Store::tag`] takes it.
    pub descriptor: Descriptor,
}

impl Image {
    /// The digest of a layer's blob.
    ///
    /// # Errors
    /// A digest that is no sha256.
    pub fn layer_digest(layer: &Descriptor) -> Result<Digest> {
        digest(layer)
    }

    /// The platform its configuration names.
    pub fn platform(&self) -> Platform {
        Platform {
            os: self.config.os().to_string(),
            architecture: self.config.architecture().to_string(),
            variant: self.config.variant().clone(),
        }
    }
}

fn contains(text: &[u8], word: &[u8]) -> bool {
    text.windows(word.len()).any(|w| w == word)
}

fn is_index(media_type: &MediaType) -> bool {
    *media_type == MediaType::ImageIndex || media_type.as_ref() == DOCKER_LIST
}

impl Store {
    /// The image of a name. A name with a digest finds the image of that manifest whose repository
    /// is the same.
    ///
    /// # Errors
    /// The index, manifest or configuration is unreadable.
    pub fn image(&self, reference: &Reference) -> Result<Option<Image>> {
        let index = self.read_index()?;
        let full = reference.to_string();
        let named = index
            .manifests()
            .iter()
            .find(|d| is_named(d, &full, reference));
        let found = named.or_else(|| {
            let wanted = reference.digest()?.to_string();
            index.manifests().iter().find(|d| {
                d.digest().to_string() == wanted
                    && name(d)
                        .and_then(|n| n.parse::<Reference>().ok())
                        .is_some_and(|r| {
                            r.name() == reference.name()
                                && reference.tag().is_none_or(|tag| r.tag() == Some(tag))
                        })
            })
        });
        found.map(|d| self.load(d, &index)).transpose()
    }

    /// The image whose id, or whose manifest's digest, begins with `prefix` (hexadecimal, `sha256:`
    /// allowed before it).
    ///
    /// # Errors
    /// [`StoreError::Ambiguous`], or something unreadable.
    pub fn image_by_id(&self, prefix: &str) -> Result<Option<Image>> {
        let hex = prefix.strip_prefix("sha256:").unwrap_or(prefix);
        if hex.is_empty() || hex.len() > 64 || !hex.bytes().all(|b| b.is_ascii_hexdigit()) {
            return Ok(None);
        }
        let mut found: Vec<Image> = self.images()?;
        found.retain(|image| {
            [image.id, image.manifest, image.target]
                .iter()
                .any(|d| d.hex().starts_with(hex))
        });
        found.dedup_by(|a, b| a.id == b.id);
        match found.len() {
            0 | 1 => Ok(found.pop()),
            count => Err(StoreError::Ambiguous {
                prefix: prefix.to_owned(),
                count,
            }),
        }
    }

    /// Every image, each once with all its names, in the order of the index. An image whose blobs are
    /// damaged or missing is left out here; asking for it by name tells what is wrong.
    ///
    /// # Errors
    /// The index is unreadable.
    pub fn images(&self) -> Result<Vec<Image>> {
        let index = self.read_index()?;
        let mut seen = Vec::new();
        let mut images = Vec::new();
        for descriptor in index.manifests() {
            if seen.contains(&descriptor.digest()) {
                continue;
            }
            seen.push(descriptor.digest());
            images.extend(self.load(descriptor, &index));
        }
        Ok(images)
    }

    /// The image of a manifest that is stored and that the index does not name yet.
    ///
    /// # Errors
    /// The manifest or configuration is unreadable.
    pub fn image_at(&self, descriptor: &Descriptor) -> Result<Image> {
        self.load(descriptor, &empty())
    }

    /// Follows a descriptor of `index` to the image.
    fn load(&self, descriptor: &Descriptor, index: &ImageIndex) -> Result<Image> {
        let target = digest(descriptor)?;
        let references = index
            .manifests()
            .iter()
            .filter(|d| d.digest() == descriptor.digest())
            .filter_map(|d| name(d)?.parse().ok())
            .collect();
        let manifest_descriptor = self.choose(descriptor, &Platform::host())?;
        let manifest = digest(&manifest_descriptor)?;
        let bytes = self.read_blob(&manifest)?;
        let parsed: ImageManifest = parse(&bytes, "manifest", &manifest)?;
        let id = digest(parsed.config())?;
        let config_bytes = self.read_blob(&id)?;
        let config: ImageConfiguration = parse(&config_bytes, "configuration", &id)?;
        // Docker's extension. Few images have it, and looking is cheaper than parsing.
        let extended = contains(&config_bytes, b"\"Healthcheck\"")
            .then(|| serde_json::from_slice(&config_bytes).ok())
            .flatten();
        let diff_ids = config
            .rootfs()
            .diff_ids()
            .iter()
            .map(|text| text.parse())
            .collect::<std::result::Result<Vec<Digest>, _>>()?;
        let layers = parsed.layers().clone();
        if layers.len() != diff_ids.len() {
            return Err(StoreError::LayerCount {
                manifest,
                layers: layers.len(),
                diff_ids: diff_ids.len(),
            });
        }
        let blobs = (bytes.len() + config_bytes.len()) as u64;
        let size = layers
            .iter()
            .map(Descriptor::size)
            .fold(blobs, u64::saturating_add);
        Ok(Image {
            references,
            target,
            origin: origin(descriptor),
            parent: parent(descriptor),
            manifest,
            id,
            config,
            extended,
            diff_ids,
            layers,
            size,
            descriptor: descriptor.clone(),
        })
    }

    /// The descriptor of the manifest for this machine: `descriptor` itself, or an entry of the image
    /// index it stands for, which must be in the store.
    ///
    /// # Errors
    /// [`StoreError::NoPlatform`], or an unreadable index.
    pub fn choose_platform(&self, descriptor: &Descriptor) -> Result<Descriptor> {
        self.choose(descriptor, &Platform::host())
    }

    /// The manifest behind a descriptor: itself, or the entry of an image index for `platform`.
    pub(super) fn choose(
        &self,
        descriptor: &Descriptor,
        platform: &Platform,
    ) -> Result<Descriptor> {
        if !is_index(descriptor.media_type()) {
            return Ok(descriptor.clone());
        }
        let own = digest(descriptor)?;
        let nested: ImageIndex = parse(&self.read_blob(&own)?, "image index", &own)?;
        let fits = |d: &&Descriptor| match d.platform() {
            Some(p) => platform.accepts(&Platform {
                os: p.os().to_string(),
                architecture: p.architecture().to_string(),
                variant: p.variant().clone(),
            }),
            None => nested.manifests().len() == 1,
        };
        nested
            .manifests()
            .iter()
            .find(fits)
            .cloned()
            .ok_or_else(|| StoreError::NoPlatform {
                index: own,
                platform: platform.to_string(),
            })
    }

    /// Every descriptor an image index leads to, or the descriptor itself; those whose blobs are not
    /// here included (a platform that was not fetched).
    pub(super) fn leaves(&self, descriptor: &Descriptor) -> Result<Vec<Descriptor>> {
        if !is_index(descriptor.media_type()) {
            return Ok(vec![descriptor.clone()]);
        }
        let own = digest(descriptor)?;
        let nested: ImageIndex = parse(&self.read_blob(&own)?, "image index", &own)?;
        Ok(nested.manifests().clone())
    }
}

/// Reads a JSON document, naming it in the error.
pub(super) fn parse<T: serde::de::DeserializeOwned>(
    bytes: &[u8],
    kind: &str,
    digest: &Digest,
) -> Result<T> {
    serde_json::from_slice(bytes).map_err(|source| StoreError::Json {
        what: format!("{kind} `{digest}`"),
        source,
    })
}
