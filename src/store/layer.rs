//! Unpacked layers: where they lie, whether they can be trusted, how they come to be.
//!
//! The owners of a layer's files depend on the id map it was unpacked under, so each map has its own
//! directory ([`MapKey`]). A directory's name is the beginning of its diff id: overlay's option string
//! is limited to one page (mount(2)), and relative names of 24 digits let 150 layers fit. The full
//! diff id stands in the JSON file beside it and is compared on every use.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use oci_spec::image::Descriptor;
use rustix::fs::FlockOperation;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::index::digest;
use super::unpack::Owners;
use super::{Image, LOCKS, Marked, Result, Store, StoreError, flock, pipe, rename};
use crate::model::{Digest, IdMap};
use crate::sys::fs::{CallError, Root, remove_tree};

/// How many digits of the diff id name a layer's directory.
const NAME_DIGITS: usize = 24;

/// The pair of id maps a layer is unpacked under.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MapKey {
    name: String,
    owners: Owners,
}

impl MapKey {
    /// The key of these maps. All maps of a single id to the same host id share one, since every file
    /// then has the same owner on disk.
    pub fn of(uid: &IdMap, gid: &IdMap) -> MapKey {
        let single = uid.len() == 1 && gid.len() == 1;
        let (kind, text) = if single {
            let hosts = |map: &IdMap| map.ranges()[0].host;
            ("one", format!("{} {}", hosts(uid), hosts(gid)))
        } else {
            ("map", format!("{}\n{}", uid.to_proc(), gid.to_proc()))
        };
        let mut hex = Digest::from_bytes(Sha256::digest(text).into()).hex();
        hex.truncate(8);
        let owners = if single {
            Owners::Remembered
        } else {
            Owners::Kept {
                uid: uid.clone(),
                gid: gid.clone(),
            }
        };
        MapKey {
            name: format!("{kind}-{hex}"),
            owners,
        }
    }

    /// The directory name below `layers/`: `map-` or `one-` and eight hexadecimal digits.
    pub fn name(&self) -> &str {
        &self.name
    }
}

/// What is known about an unpacked layer: the JSON file beside its directory.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Layer {
    /// The digest of its tar.
    pub diff_id: Digest,
    /// The boot it was unpacked in, while its data may not have reached the disk.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unsettled: Option<String>,
    /// Everything below is hidden: the root directory itself is opaque, which overlay cannot mark.
    #[serde(default)]
    pub opaque_root: bool,
    /// Only [`super::lay_over`] knows its whiteouts, for which something else stands.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub stand_ins: bool,
    /// Bytes of its regular files.
    pub bytes: u64,
    /// Entries of its tar.
    pub entries: u64,
    /// What could not be kept, such as extended attributes the file system has no place for.
    #[serde(default)]
    pub notes: Vec<String>,
}

/// Whether the layer `name` in the directory `base` shows what it is to show only when it is copied.
pub fn is_for_copies(base: &Path, name: &str) -> bool {
    let bytes = std::fs::read(base.join(format!("{name}.json"))).unwrap_or_default();
    serde_json::from_slice::<Layer>(&bytes).is_ok_and(|layer| layer.stand_ins)
}

impl Store {
    /// The directory that holds the layers of a map: where relative `lowerdir` names start.
    pub fn layer_path(&self, map: &MapKey) -> PathBuf {
        self.root.join("layers").join(&map.name)
    }

    /// The name of a layer's directory.
    pub fn layer_name(&self, diff_id: &Digest) -> String {
        let mut hex = diff_id.hex();
        hex.truncate(NAME_DIGITS);
        hex
    }

    /// Whether the layer is unpacked for this map and whole.
    ///
    /// # Errors
    /// Its JSON file is there and unreadable.
    pub fn has_layer(&self, map: &MapKey, diff_id: &Digest) -> Result<bool> {
        Ok(self.layer(map, diff_id)?.is_some())
    }

    /// What is known of a layer that is unpacked for this map and whole.
    ///
    /// # Errors
    /// Its JSON file is there and unreadable.
    pub fn layer(&self, map: &MapKey, diff_id: &Digest) -> Result<Option<Layer>> {
        let path = self.meta_path(map, diff_id);
        let bytes = match std::fs::read(&path) {
            Ok(bytes) => bytes,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(StoreError::io(|| format!("read(`{}`)", path.display()))(e)),
        };
        // A file torn by a power cut is as good as none.
        let Ok(layer) = serde_json::from_slice::<Layer>(&bytes) else {
            return Ok(None);
        };
        let trusted = match &layer.unsettled {
            None => true,
            Some(boot) => !boot.is_empty() && boot == self.boot_id(),
        };
        Ok((trusted && layer.diff_id == *diff_id).then_some(layer))
    }

    /// The names of the directories to stack for an image, topmost first as overlay's `lowerdir`
    /// wants them, relative to [`Store::layer_path`]. Repeated layers appear once, at their highest
    /// place, and what an opaque root hides is left out.
    ///
    /// # Errors
    /// [`StoreError::MissingBlob`] naming the layer when one is not unpacked.
    pub fn lower_dirs(&self, image: &Image, map: &MapKey) -> Result<Vec<String>> {
        let mut names = Vec::with_capacity(image.diff_ids.len());
        for (diff_id, blob) in image.diff_ids.iter().zip(&image.layers).rev() {
            let Some(layer) = self.layer(map, diff_id)? else {
                return Err(StoreError::MissingBlob(digest(blob)?));
            };
            let name = self.layer_name(diff_id);
            if !names.contains(&name) {
                names.push(name);
            }
            if layer.opaque_root {
                break;
            }
        }
        Ok(names)
    }

    /// Bytes of the files of an image's layers; `None` when one is not unpacked.
    ///
    /// # Errors
    /// The layers' directory cannot be read.
    pub fn unpacked_size(&self, image: &Image) -> Result<Option<u64>> {
        let layers = self.unpacked_layers(image)?;
        let all = image.diff_ids.iter().all(|id| layers.contains_key(id));
        Ok(all.then(|| layers.values().sum()))
    }

    /// Bytes of the files of those of an image's layers that are unpacked.
    ///
    /// # Errors
    /// The layers' directory cannot be read.
    pub fn unpacked_layers(&self, image: &Image) -> Result<BTreeMap<Digest, u64>> {
        let layers = self.root.join("layers");
        let maps: Vec<PathBuf> = std::fs::read_dir(&layers)
            .map_err(StoreError::io(|| {
                format!("readdir(`{}`)", layers.display())
            }))?
            .flatten()
            .map(|entry| entry.path())
            .collect();
        let mut found = BTreeMap::new();
        for diff_id in &image.diff_ids {
            let name = format!("{}.json", self.layer_name(diff_id));
            let layer = maps.iter().find_map(|map| read_meta(&map.join(&name)));
            if let Some(layer) = layer.filter(|layer| layer.diff_id == *diff_id) {
                found.insert(*diff_id, layer.bytes);
            }
        }
        Ok(found)
    }

    /// Unpacks from the store's blobs the layers of `image` that this map does not have yet. To be
    /// called inside the user namespace with this map.
    ///
    /// # Errors
    /// A missing or damaged blob, or an entry that cannot be unpacked.
    pub fn ensure_layers(&self, image: &Image, map: &MapKey) -> Result<()> {
        for (diff_id, blob) in image.diff_ids.iter().zip(&image.layers) {
            if !self.has_layer(map, diff_id)? {
                let file = self.open_blob(&digest(blob)?)?;
                self.ingest_layer(file, blob, diff_id, map, &|_| {})?;
            }
        }
        Ok(())
    }

    /// Takes a layer in: `reader` gives the compressed blob, which is stored under its digest (unless
    /// it is there) and unpacked for `map` (unless it is). When both are there nothing is read. Two
    /// processes with the same layer wait for each other. `progress` is told the number of compressed
    /// bytes of each read. To be called inside the user namespace with this map.
    ///
    /// # Errors
    /// [`StoreError::Digest`], [`StoreError::Size`] and [`StoreError::DiffId`] for content that is
    /// not what was promised, [`StoreError::Stream`] when the reader or the decompression fails,
    /// [`StoreError::Unpack`] naming the entry. Nothing is left behind.
    pub fn ingest_layer(
        &self,
        reader: impl Read,
        blob: &Descriptor,
        diff_id: &Digest,
        map: &MapKey,
        progress: &dyn Fn(u64),
    ) -> Result<()> {
        let _lock = self.lock_layer(map, diff_id)?;
        let blob_digest = digest(blob)?;
        let keep_blob = !self.has_blob(&blob_digest, blob.size())?;
        let unpack = !self.has_layer(map, diff_id)?;
        if !unpack {
            if keep_blob {
                self.ingest_blob(reader, blob, progress)?;
            }
            return Ok(());
        }
        let place = self.scratch("layer")?;
        let temporary = &place.path;
        std::fs::create_dir(temporary).map_err(StoreError::io(|| {
            format!("mkdir(`{}`)", temporary.display())
        }))?;
        let job = pipe::Job {
            blob: blob_digest,
            size: blob.size(),
            diff_id: *diff_id,
        };
        let root = Root::open(temporary)?;
        let writer = if keep_blob {
            Some(self.blob_writer()?)
        } else {
            None
        };
        let result = pipe::run(
            reader,
            &job,
            writer,
            root,
            &map.owners,
            &self.windows,
            progress,
        );
        match result {
            Ok(report) => {
                let layer = Layer {
                    diff_id: *diff_id,
                    unsettled: Some(self.boot_id().to_owned()),
                    opaque_root: report.opaque_root,
                    stand_ins: report.stand_ins,
                    bytes: report.bytes,
                    entries: report.entries,
                    notes: report.notes,
                };
                self.install(temporary, map, &layer)
            }
            Err(error) => {
                // The scratch directory's end would delete it too, but a long-lived process keeps
                // the space until then.
                let _ = remove(temporary);
                Err(error)
            }
        }
    }

    /// Stores a layer's blob without unpacking it.
    ///
    /// # Errors
    /// As [`Store::ingest_layer`].
    pub fn ingest_blob(
        &self,
        reader: impl Read,
        blob: &Descriptor,
        progress: &dyn Fn(u64),
    ) -> Result<()> {
        let expected = digest(blob)?;
        if self.has_blob(&expected, blob.size())? {
            return Ok(());
        }
        let job = pipe::Job {
            blob: expected,
            size: blob.size(),
            diff_id: expected,
        };
        pipe::store_only(reader, &job, self.blob_writer()?, progress)
    }

    /// Gives an unpacked tree its place, replacing an untrusted one.
    fn install(&self, tree: &Path, map: &MapKey, layer: &Layer) -> Result<()> {
        let dir = self.layer_path(map);
        std::fs::create_dir_all(&dir)
            .map_err(StoreError::io(|| format!("mkdir(`{}`)", dir.display())))?;
        let place = dir.join(self.layer_name(&layer.diff_id));
        remove_meta(&self.meta_path(map, &layer.diff_id))?;
        if place.symlink_metadata().is_ok() {
            // Moved away first: a kill during the deletion must not leave half a tree here.
            let old = self.scratch("old")?;
            rename(&place, &old.path)?;
            remove(&old.path)?;
        }
        rename(tree, &place)?;
        self.write_meta(&self.meta_path(map, &layer.diff_id), layer)
    }

    fn write_meta(&self, path: &Path, layer: &Layer) -> Result<()> {
        let bytes = serde_json::to_vec(layer).map_err(|source| StoreError::Json {
            what: format!("`{}`", path.display()),
            source,
        })?;
        self.write_atomic(path, &bytes, false)
    }

    fn meta_path(&self, map: &MapKey, diff_id: &Digest) -> PathBuf {
        self.layer_path(map)
            .join(format!("{}.json", self.layer_name(diff_id)))
    }

    /// One unpacker per layer and map; also between threads, since each opens the file anew.
    fn lock_layer(&self, map: &MapKey, diff_id: &Digest) -> Result<File> {
        let name = format!("{}-{}", map.name, self.layer_name(diff_id));
        flock(
            &self.root.join(LOCKS).join(name),
            FlockOperation::LockExclusive,
        )
    }

    /// The JSON files of all layers of this boot that still carry its mark.
    pub(super) fn unsettled_layers(&self) -> Result<Vec<Marked>> {
        let mut found = Vec::new();
        for path in self.all_metas()? {
            // Before it is read: what is read may be newer, never older.
            let Some(marked) = Marked::new(path) else {
                continue;
            };
            if read_meta(&marked.path)
                .and_then(|layer| layer.unsettled)
                .is_some_and(|boot| !boot.is_empty() && boot == self.boot_id())
            {
                found.push(marked);
            }
        }
        Ok(found)
    }

    pub(super) fn settle_layers(&self, marked: &[Marked]) -> Result<()> {
        for path in marked.iter().filter(|m| m.is_same()).map(|m| &m.path) {
            if let Some(mut layer) = read_meta(path) {
                layer.unsettled = None;
                self.write_meta(path, &layer)?;
            }
        }
        Ok(())
    }

    /// The JSON files of all layers of all maps.
    pub(super) fn all_metas(&self) -> Result<Vec<PathBuf>> {
        let layers = self.root.join("layers");
        let maps = std::fs::read_dir(&layers).map_err(StoreError::io(|| {
            format!("readdir(`{}`)", layers.display())
        }))?;
        let mut found = Vec::new();
        for map in maps.flatten() {
            let files = std::fs::read_dir(map.path())
                .into_iter()
                .flatten()
                .flatten();
            found.extend(
                files
                    .map(|f| f.path())
                    .filter(|p| p.extension().is_some_and(|e| e == "json")),
            );
        }
        Ok(found)
    }
}

/// The content of a layer's JSON file, if it is one.
pub(super) fn read_meta(path: &Path) -> Option<Layer> {
    serde_json::from_slice(&std::fs::read(path).ok()?).ok()
}

pub(super) fn remove_meta(path: &Path) -> Result<()> {
    match std::fs::remove_file(path) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
            Err(StoreError::io(|| format!("unlink(`{}`)", path.display()))(
                e,
            ))
        }
        _ => Ok(()),
    }
}

/// Deletes a file or tree by its trusted path.
pub(super) fn remove(path: &Path) -> std::result::Result<(), CallError> {
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
        return Ok(());
    };
    let parent = Root::open(parent)?;
    remove_tree(std::os::fd::AsFd::as_fd(&parent), name.as_encoded_bytes())
}
