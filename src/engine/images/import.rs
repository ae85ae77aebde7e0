//! `rl import`: a tar of a root file system becomes an image of one layer.
//!
//! The tar is stored as it comes, compressed or not; then its diff id is found by reading it back.

use std::io::{self, BufReader, Read, Write};

use oci_spec::image::MediaType;
use serde_json::{Map, Value, json};
use sha2::{Digest as _, Sha256};

use super::load::put_manifest;
use super::{ImageError, Loaded, Result, descriptor, now, to_rfc3339};
use crate::model::{Digest, Platform, Reference};
use crate::store::{Compression, MapKey, Store, decoder};

/// What the image is to be like.
#[derive(Clone, Debug, Default)]
pub struct Import {
    /// Its name; without one it is kept nameless.
    pub reference: Option<Reference>,
    /// Dockerfile instructions that set the configuration (docker-import(1), `--change`).
    pub changes: Vec<String>,
    /// The comment of its only history entry.
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
    let created = to_rfc3339(now());
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
    match &options.reference {
        Some(reference) => store.tag(reference, &target)?,
        None => store.keep_untagged(&target)?,
    }
    if let Some(map) = map
        && let Some(image) = store.image_by_id(&manifest.to_string())?
    {
        store.ensure_layers(&image, map)?;
    }
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

/// Applies one Dockerfile instruction to a configuration.
fn apply(config: &mut Map<String, Value>, change: &str) -> Result<()> {
    let bad = || ImageError::Change(change.to_owned());
    let (word, rest) = change
        .trim()
        .split_once(char::is_whitespace)
        .ok_or_else(bad)?;
    let rest = rest.trim();
    let list = || serde_json::from_str::<Vec<String>>(rest).ok();
    let command = || list().unwrap_or_else(|| vec!["/bin/sh".into(), "-c".into(), rest.into()]);
    match word.to_ascii_uppercase().as_str() {
        "CMD" => drop(config.insert("Cmd".into(), json!(command()))),
        "ENTRYPOINT" => drop(config.insert("Entrypoint".into(), json!(command()))),
        "USER" => drop(config.insert("User".into(), json!(rest))),
        "WORKDIR" => drop(config.insert("WorkingDir".into(), json!(rest))),
        "STOPSIGNAL" => drop(config.insert("StopSignal".into(), json!(rest))),
        "ENV" => {
            for (key, value) in pairs(rest).ok_or_else(bad)? {
                let env = config.entry("Env").or_insert_with(|| json!([]));
                if let Value::Array(env) = env {
                    let prefix = format!("{key}=");
                    env.retain(|v| !v.as_str().is_some_and(|v| v.starts_with(&prefix)));
                    env.push(json!(format!("{key}={value}")));
                }
            }
        }
        "LABEL" => {
            for (key, value) in pairs(rest).ok_or_else(bad)? {
                put(config, "Labels", key, json!(value));
            }
        }
        "EXPOSE" => {
            for port in rest.split_whitespace() {
                let port = if port.contains('/') {
                    port.to_owned()
                } else {
                    format!("{port}/tcp")
                };
                put(config, "ExposedPorts", port, json!({}));
            }
        }
        "VOLUME" => {
            let words = || rest.split_whitespace().map(str::to_owned).collect();
            for volume in list().unwrap_or_else(words) {
                put(config, "Volumes", volume, json!({}));
            }
        }
        _ => return Err(bad()),
    }
    Ok(())
}

fn put(config: &mut Map<String, Value>, field: &str, key: String, value: Value) {
    let object = config.entry(field).or_insert_with(|| json!({}));
    if let Value::Object(object) = object {
        object.insert(key, value);
    }
}

/// `KEY=VALUE KEY="VAL UE"`, or the old `KEY VALUE` (Dockerfile reference, ENV).
fn pairs(text: &str) -> Option<Vec<(String, String)>> {
    let words = words(text)?;
    if !words.first()?.contains('=') {
        let (key, value) = text.split_once(char::is_whitespace)?;
        return Some(vec![(key.to_owned(), value.trim().to_owned())]);
    }
    words
        .iter()
        .map(|word| {
            word.split_once('=')
                .map(|(k, v)| (k.to_owned(), v.to_owned()))
        })
        .map(|pair| pair.filter(|(key, _)| !key.is_empty()))
        .collect()
}

/// Words separated by blanks, with quotes and backslashes taken off; `None` for an open quote.
fn words(text: &str) -> Option<Vec<String>> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quote = None;
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match (c, quote) {
            ('\\', None | Some('"')) => word.get_or_insert_default().push(chars.next()?),
            ('"' | '\'', None) => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            (c, Some(q)) if c == q => quote = None,
            (c, None) if c.is_whitespace() => words.extend(word.take()),
            (c, _) => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    quote.is_none().then_some(words)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes() {
        let mut config = Map::new();
        for change in [
            "CMD [\"sh\", \"-l\"]",
            "entrypoint exec top",
            "ENV A=1 B=\"two words\" C=x\\ y",
            "ENV A 3 4",
            "LABEL a.b='c d'",
            "EXPOSE 80 53/udp",
            "VOLUME /data /log",
            "USER nobody",
        ] {
            apply(&mut config, change).unwrap();
        }
        assert_eq!(
            Value::Object(config),
            json!({
                "Cmd": ["sh", "-l"],
                "Entrypoint": ["/bin/sh", "-c", "exec top"],
                "Env": ["B=two words", "C=x y", "A=3 4"],
                "Labels": {"a.b": "c d"},
                "ExposedPorts": {"80/tcp": {}, "53/udp": {}},
                "Volumes": {"/data": {}, "/log": {}},
                "User": "nobody",
            })
        );
        for bad in ["RUN x", "CMD", "ENV", "ENV A=\"x", "", "ENV =x"] {
            assert!(apply(&mut Map::new(), bad).is_err(), "{bad}");
        }
    }
}
