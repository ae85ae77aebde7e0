//! A new image made of an image and one more layer: `rl commit`.

use std::io::{self, Write};

use flate2::Compression;
use flate2::write::GzEncoder;
use oci_spec::image::{Descriptor, MediaType};
use serde_json::{Map, Value, json};
use sha2::{Digest as _, Sha256};

use super::change::apply;
use super::load::put_manifest;
use super::{ImageError, Loaded, Result, descriptor};
use crate::model::time::now_rfc3339_nanos;
use crate::model::{Digest, Platform, Reference};
use crate::store::{BlobWriter, Image, MapKey, Store, set_parent};

/// What the new image is to be like.
#[derive(Clone, Debug, Default)]
pub struct Compose {
    /// Its name; without one it is kept nameless.
    pub reference: Option<Reference>,
    /// The id of the image that it comes of.
    pub parent: Option<Digest>,
    /// Fields of the configuration that are set, before the changes.
    pub config: Map<String, Value>,
    /// Dockerfile instructions that set the configuration.
    pub changes: Vec<String>,
    /// Who made it.
    pub author: Option<String>,
    /// The comment of its history entry.
    pub comment: Option<String>,
    /// What made the files, for the history.
    pub created_by: String,
}

/// Hashes what goes through it.
struct Hashing<W> {
    out: W,
    hasher: Sha256,
}

impl<W: Write> Write for Hashing<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let n = self.out.write(bytes)?;
        self.hasher.update(&bytes[..n]);
        Ok(n)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

/// Makes the image: the layers of `base` and one whose tar `pack` writes. The layer is unpacked for `map`, in whose user
/// namespace this is to be called.
///
/// # Errors
/// A change that cannot be applied, no space, and those of `pack`.
pub fn compose<E: From<ImageError>>(
    store: &Store,
    base: Option<&Image>,
    request: &Compose,
    map: &MapKey,
    pack: impl FnOnce(&mut dyn Write) -> std::result::Result<(), E>,
) -> std::result::Result<Loaded, E> {
    let _lock = store.lock_shared().map_err(ImageError::from)?;
    let mut document = match base {
        Some(image) => document_of(store, image)?,
        None => json!({
            "architecture": Platform::host().architecture,
            "os": Platform::host().os,
            "rootfs": {"type": "layers", "diff_ids": []},
        }),
    };
    configure(&mut document, request)?;
    let broken = || "write(layer)".to_owned();
    let writer = store.blob_writer().map_err(ImageError::from)?;
    let mut tar = Hashing {
        out: GzEncoder::new(writer, Compression::default()),
        hasher: Sha256::new(),
    };
    pack(&mut tar)?;
    let diff_id = Digest::from_bytes(tar.hasher.finalize().into());
    let mut writer: BlobWriter<'_> = tar.out.finish().map_err(ImageError::io(broken))?;
    writer.flush().map_err(ImageError::io(broken))?;
    let size = writer.written();
    let layer = writer.finish(None).map_err(ImageError::from)?;
    let mut layers = base.map(|image| image.layers.clone()).unwrap_or_default();
    layers.push(descriptor(MediaType::ImageLayerGzip, size, &layer));
    Ok(put(store, document, diff_id, &layers, request, map)?)
}

/// The configuration as it is kept, with fields that the specification does not know.
fn document_of(store: &Store, image: &Image) -> Result<Value> {
    let bytes = store.read_blob(&image.id)?;
    serde_json::from_slice(&bytes).map_err(|e| ImageError::Io {
        call: format!("read(`{}`)", image.id),
        source: e.into(),
    })
}

fn configure(document: &mut Value, request: &Compose) -> Result<()> {
    let old = document.get("config").and_then(Value::as_object).cloned();
    let mut config = old.unwrap_or_default();
    config.extend(request.config.clone());
    for change in &request.changes {
        apply(&mut config, change)?;
    }
    let created = now_rfc3339_nanos();
    let mut entry = json!({"created": created, "created_by": request.created_by});
    if let Some(author) = &request.author {
        entry["author"] = json!(author);
        document["author"] = json!(author);
    }
    if let Some(comment) = &request.comment {
        entry["comment"] = json!(comment);
    }
    document["config"] = Value::Object(config);
    document["created"] = json!(created);
    match document.get_mut("history").and_then(Value::as_array_mut) {
        Some(history) => history.push(entry),
        None => document["history"] = json!([entry]),
    }
    Ok(())
}

/// Makes an image of a manifest that is stored with all that it names: unpacked first, where a `map` is given, so that what
/// cannot be unpacked is no image and takes nobody's name. Nothing names it until then: the caller's lock on the store is
/// what keeps its blobs.
pub(super) fn keep(
    store: &Store,
    reference: Option<&Reference>,
    target: &Descriptor,
    map: Option<&MapKey>,
) -> Result<()> {
    if let Some(map) = map {
        store.ensure_layers(&store.image_at(target)?, map)?;
    }
    match reference {
        Some(reference) => store.tag(reference, target)?,
        None => store.keep_untagged(target)?,
    }
    Ok(())
}

fn put(
    store: &Store,
    mut document: Value,
    diff_id: Digest,
    layers: &[Descriptor],
    request: &Compose,
    map: &MapKey,
) -> Result<Loaded> {
    let ids = document.pointer_mut("/rootfs/diff_ids");
    if let Some(ids) = ids.and_then(Value::as_array_mut) {
        ids.push(json!(diff_id.to_string()));
    }
    let bytes = document.to_string();
    let id = store.put_blob(bytes.as_bytes())?;
    let config = descriptor(MediaType::ImageConfig, bytes.len() as u64, &id);
    let mut target = put_manifest(store, &config, layers)?;
    if let Some(parent) = &request.parent {
        set_parent(&mut target, parent);
    }
    let manifest = Image::layer_digest(&target)?;
    keep(store, request.reference.as_ref(), &target, Some(map))?;
    Ok(Loaded {
        references: request.reference.iter().cloned().collect(),
        manifest,
        id,
    })
}
