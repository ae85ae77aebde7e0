//! `rl import`: a tar of a root file system becomes an image of one layer.
//!
//! The tar is stored as it comes, compressed or not; then its diff id is found by reading it back.

use std::io::{self, BufReader, Read, Write};

use oci_spec::image::MediaType;
use serde_json::{Map, json};
use sha2::{Digest as _, Sha256};

use super::change::apply;
use super::compose::keep;
use super::load::put_manifest;
use super::{ImageError, Loaded, Result, descriptor};
use crate::model::time::now_rfc3339_nanos;
use crate::model::{Digest, Platform, Reference};
use crate::store::{Compression, MapKey, Store, decoder};

/// What the image is to be like.
#[derive(Clone, Debug, Default)]
pub struct Import {
    /// Its name; without one it is kept nameless.
    pub reference: Option<Reference>,
    /// Dockerfile instructions that set the configuration (docker-import(1), `--change`).
    pub changes: Vec<String>,
    /// The comment of its only history entry; where the files come from by default.
    pub message: Option<String>,
    /// What made the files, for the history: `import` by default.
    pub created_by: Option<String>,
    /// For which platform; this machine's by default.
    pub platform: Option<Platform>,
}

/// Reads the tar from `reader` and makes the image. With `map`, unpacks it, which also tells whether
/// it is a tar at all.
///
/// # Errors
/// A change that cannot be applied, a failed read, no space, a broken tar.
pub fn import(
    store: &Store,
    mut reader: impl Read,
    options: &Import,
    map: Option<&MapKey>,
) -> Result<Loaded> {
    let mut config = Map::new();
    for change in &options.changes {
        apply(&mut config, change)?;
    }
    let _lock = store.lock_shared()?;
    let mut writer = store.blob_writer()?;
    io::copy(&mut reader, &mut writer).map_err(ImageError::io(|| "read(archive)".to_owned()))?;
    writer
        .flush()
        .map_err(ImageError::io(|| "write(blob)".to_owned()))?;
    let size = writer.written();
    let layer = writer.finish(None)?;
    let (media_type, diff_id) = look_inside(store, &layer)?;
    let platform = options.platform.clone().unwrap_or_else(Platform::host);
    let created = now_rfc3339_nanos();
    let mut document = json!({
        "created": created,
        "architecture": platform.architecture,
        "os": platform.os,
        "config": config,
        "rootfs": {"type": "layers", "diff_ids": [diff_id.to_string()]},
        "history": [{
            "created": created,
            "created_by": options.created_by.as_deref().unwrap_or("import"),
            "comment": options.message.as_deref().unwrap_or("Imported from a file"),
        }],
    });
    if let Some(variant) = platform.variant {
        document["variant"] = json!(variant);
    }
    let bytes = document.to_string();
    let id = store.put_blob(bytes.as_bytes())?;
    let target = put_manifest(
        store,
        &descriptor(MediaType::ImageConfig, bytes.len() as u64, &id),
        &[descriptor(media_type, size, &layer)],
    )?;
    let manifest = crate::store::Image::layer_digest(&target)?;
    keep(store, options.reference.as_ref(), &target, map)?;
    Ok(Loaded {
        references: options.reference.iter().cloned().collect(),
        manifest,
        id,
    })
}

/// The compression and the diff id of a layer's blob.
fn look_inside(store: &Store, layer: &Digest) -> Result<(MediaType, Digest)> {
    let failed = || format!("read(`{layer}`)");
    let mut start = [0u8; 4];
    let n = store
        .open_blob(layer)?
        .read(&mut start)
        .map_err(ImageError::io(failed))?;
    let media_type = match Compression::of(&start[..n]) {
        Compression::None => return Ok((MediaType::ImageLayer, *layer)),
        Compression::Gzip => MediaType::ImageLayerGzip,
        Compression::Zstd => MediaType::ImageLayerZstd,
    };
    let file = BufReader::with_capacity(128 << 10, store.open_blob(layer)?);
    let mut tar = decoder(file).map_err(ImageError::io(failed))?;
    let mut hasher = Sha256::new();
    let mut buffer = vec![0u8; 256 << 10];
    loop {
        match tar.read(&mut buffer).map_err(ImageError::io(failed))? {
            0 => return Ok((media_type, Digest::from_bytes(hasher.finalize().into()))),
            n => hasher.update(&buffer[..n]),
        }
    }
}
