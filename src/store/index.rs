//! `index.json`: which names stand for which manifests (image-spec, image-index.md and
//! annotations.md, `org.opencontainers.image.ref.name`).
//!
//! Read without a lock, since it is only ever replaced whole; changed under `index.lock`. A name that
//! moves to another image leaves the old one as a descriptor without a name ("dangling").

use std::collections::HashMap;
use std::path::PathBuf;

use oci_spec::image::{Descriptor, ImageIndex, MediaType};
use rustix::fs::FlockOperation;

use super::{Result, Store, StoreError, StoreLock, flock};
use crate::model::{Digest, Reference};

/// The annotation that holds a descriptor's name: the full normalised reference.
pub const REF_NAME: &str = "org.opencontainers.image.ref.name";

/// The annotation of a manifest that was chosen out of an image index: the digest of that index, which
/// is what the registry answers for the tag.
const ORIGIN: &str = "rl.index.digest";

/// The annotation of an image that was made of another here: the id of that one.
const PARENT: &str = "rl.parent";

/// An index without images.
pub(super) fn empty() -> ImageIndex {
    let mut index = ImageIndex::default();
    index.set_schema_version(2);
    index.set_media_type(Some(MediaType::ImageIndex));
    index
}

/// The name a descriptor carries.
pub(super) fn name(descriptor: &Descriptor) -> Option<&str> {
    descriptor
        .annotations()
        .as_ref()?
        .get(REF_NAME)
        .map(String::as_str)
}

/// Whether a descriptor's name means `reference`: written in full by us, perhaps short by others.
pub(super) fn is_named(descriptor: &Descriptor, full: &str, reference: &Reference) -> bool {
    name(descriptor).is_some_and(|name| {
        name == full
            || name
                .parse::<Reference>()
                .is_ok_and(|parsed| parsed == *reference)
    })
}

/// The digest of a descriptor as one of ours.
pub(super) fn digest(descriptor: &Descriptor) -> Result<Digest> {
    Ok(descriptor.digest().to_string().parse()?)
}

/// Notes that the manifest was chosen out of the image index `index`, which is not stored itself.
pub fn set_origin(descriptor: &mut Descriptor, index: &Digest) {
    annotate(descriptor, ORIGIN, Some(&index.to_string()));
}

/// The image index that the manifest was chosen out of, if that was noted.
pub(super) fn origin(descriptor: &Descriptor) -> Option<Digest> {
    let annotations = descriptor.annotations().as_ref()?;
    annotations.get(ORIGIN)?.parse().ok()
}

/// Notes the id of the image that this one was made of.
pub fn set_parent(descriptor: &mut Descriptor, parent: &Digest) {
    annotate(descriptor, PARENT, Some(&parent.to_string()));
}

/// The id of the image that this one was made of, if that was noted.
pub(super) fn parent(descriptor: &Descriptor) -> Option<Digest> {
    let annotations = descriptor.annotations().as_ref()?;
    annotations.get(PARENT)?.parse().ok()
}

fn set_name(descriptor: &mut Descriptor, name: Option<&str>) {
    annotate(descriptor, REF_NAME, name);
}

fn annotate(descriptor: &mut Descriptor, key: &str, value: Option<&str>) {
    let mut annotations: HashMap<String, String> =
        descriptor.annotations().clone().unwrap_or_default();
    match value {
        Some(value) => annotations.insert(key.to_owned(), value.to_owned()),
        None => annotations.remove(key),
    };
    descriptor.set_annotations((!annotations.is_empty()).then_some(annotations));
}

impl Store {
    pub(super) fn index_path(&self) -> PathBuf {
        self.root.join("images/index.json")
    }

    pub(super) fn lock_index(&self) -> Result<StoreLock> {
        flock(&self.root.join("index.lock"), FlockOperation::LockExclusive).map(StoreLock)
    }

    pub(super) fn read_index(&self) -> Result<ImageIndex> {
        let path = self.index_path();
        let bytes = std::fs::read(&path)
            .map_err(StoreError::io(|| format!("read(`{}`)", path.display())))?;
        serde_json::from_slice(&bytes).map_err(|source| StoreError::Json {
            what: format!("`{}`", path.display()),
            source,
        })
    }

    pub(super) fn write_index(&self, index: &ImageIndex) -> Result<()> {
        let path = self.index_path();
        let bytes = serde_json::to_vec(index).map_err(|source| StoreError::Json {
            what: format!("`{}`", path.display()),
            source,
        })?;
        self.write_atomic(&path, &bytes, true)
    }

    /// Gives the manifest (or index) behind `descriptor` a name, taking the name from whatever had it.
    /// The blobs must be in the store already.
    ///
    /// # Errors
    /// The index cannot be read or replaced.
    pub fn tag(&self, reference: &Reference, descriptor: &Descriptor) -> Result<()> {
        let full = reference.to_string();
        let _lock = self.lock_index()?;
        let mut index = self.read_index()?;
        let mut wanted = descriptor.clone();
        set_name(&mut wanted, Some(&full));
        let manifests = index.manifests().clone();
        let mut kept: Vec<Descriptor> = Vec::with_capacity(manifests.len() + 1);
        let mut displaced = Vec::new();
        for mut old in manifests {
            if is_named(&old, &full, reference) {
                set_name(&mut old, None);
                displaced.push(old);
            } else if name(&old).is_none() && old.digest() == wanted.digest() {
                // Was dangling, has a name now.
            } else {
                kept.push(old);
            }
        }
        kept.push(wanted);
        keep_reachable(&mut kept, displaced);
        index.set_manifests(kept);
        self.write_index(&index)
    }

    /// Keeps a manifest without a name, as `docker load` of a nameless image does.
    ///
    /// # Errors
    /// The index cannot be read or replaced.
    pub fn keep_untagged(&self, descriptor: &Descriptor) -> Result<()> {
        let _lock = self.lock_index()?;
        let mut index = self.read_index()?;
        let mut wanted = descriptor.clone();
        set_name(&mut wanted, None);
        let mut manifests = index.manifests().clone();
        keep_reachable(&mut manifests, vec![wanted]);
        index.set_manifests(manifests);
        self.write_index(&index)
    }

    /// Takes a name away; `false` when nothing had it. An image left without a name stays as a
    /// dangling one if `keep`, until [`Store::forget`].
    ///
    /// # Errors
    /// The index cannot be read or replaced.
    pub fn untag(&self, reference: &Reference, keep: bool) -> Result<bool> {
        let full = reference.to_string();
        let _lock = self.lock_index()?;
        let mut index = self.read_index()?;
        let (gone, mut kept): (Vec<_>, Vec<_>) = index
            .manifests()
            .clone()
            .into_iter()
            .partition(|d| is_named(d, &full, reference));
        let found = !gone.is_empty();
        if found {
            if keep {
                let unnamed = gone.into_iter().map(|mut d| {
                    set_name(&mut d, None);
                    d
                });
                keep_reachable(&mut kept, unnamed.collect());
            }
            index.set_manifests(kept);
            self.write_index(&index)?;
        }
        Ok(found)
    }

    /// Drops every descriptor of this manifest, named or not; `false` when there was none. The blobs
    /// stay until [`Store::gc`].
    ///
    /// # Errors
    /// The index cannot be read or replaced.
    pub fn forget(&self, manifest: &Digest) -> Result<bool> {
        let text = manifest.to_string();
        let _lock = self.lock_index()?;
        let mut index = self.read_index()?;
        let mut manifests = index.manifests().clone();
        manifests.retain(|d| d.digest().to_string() != text);
        let found = manifests.len() != index.manifests().len();
        if found {
            index.set_manifests(manifests);
            self.write_index(&index)?;
        }
        Ok(found)
    }
}

/// Adds nameless descriptors for manifests that nothing in `kept` leads to.
fn keep_reachable(kept: &mut Vec<Descriptor>, nameless: Vec<Descriptor>) {
    for descriptor in nameless {
        if !kept.iter().any(|k| k.digest() == descriptor.digest()) {
            kept.push(descriptor);
        }
    }
}
