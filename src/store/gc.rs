//! Deleting what no image leads to.
//!
//! Under the exclusive lock nobody is between fetching a blob and naming it. First the set of digests
//! and diff ids that `index.json` leads to, then blobs, then layers: a layer's JSON file goes first
//! and its tree is moved below `tmp`, so that a kill in between never leaves half a layer in place.

use std::collections::HashSet;
use std::path::Path;

use oci_spec::image::{ImageConfiguration, ImageManifest};
use rustix::fs::FlockOperation;

use super::image::parse;
use super::index::digest;
use super::layer::{read_meta, remove, remove_meta};
use super::{Result, Store, StoreError, blob, rename};
use crate::model::Digest;

/// What a collection deleted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GcReport {
    /// Digests of deleted blobs.
    pub blobs: Vec<Digest>,
    /// Diff ids of deleted layers, once for each map.
    pub layers: Vec<Digest>,
    /// Bytes of the deleted blobs.
    pub bytes: u64,
}

#[derive(Default)]
struct Live {
    blobs: HashSet<Digest>,
    layers: HashSet<Digest>,
}

impl Store {
    /// Deletes every blob and layer that no image leads to. With `wait`, waits for the store's users;
    /// without, answers `None` when there are any. Layers of subordinate ids can be deleted only
    /// inside the user namespace that maps them.
    ///
    /// # Errors
    /// An unreadable index or manifest (nothing is deleted then), or [`StoreError::Remove`] with
    /// every layer that could not be deleted, after all others were.
    pub fn gc(&self, wait: bool) -> Result<Option<GcReport>> {
        let lock = if wait {
            Some(self.lock_exclusive()?)
        } else {
            self.try_lock_exclusive()?
        };
        let Some(_lock) = lock else { return Ok(None) };
        let _marks = self.lock_marks(FlockOperation::LockExclusive)?;
        let live = self.live()?;
        let mut report = GcReport::default();
        self.collect_blobs(&live, &mut report)?;
        self.collect_layers(&live, &mut report)?;
        Ok(Some(report))
    }

    fn live(&self) -> Result<Live> {
        let mut live = Live::default();
        for descriptor in self.read_index()?.manifests() {
            let top = digest(descriptor)?;
            live.blobs.insert(top);
            if !self.blob_path(&top).exists() {
                continue;
            }
            for leaf in self.leaves(descriptor)? {
                let manifest = digest(&leaf)?;
                live.blobs.insert(manifest);
                if !self.blob_path(&manifest).exists() {
                    continue;
                }
                let parsed: ImageManifest =
                    parse(&self.read_blob(&manifest)?, "manifest", &manifest)?;
                for layer in parsed.layers() {
                    live.blobs.insert(digest(layer)?);
                }
                let id = digest(parsed.config())?;
                live.blobs.insert(id);
                // An artifact's configuration is no image configuration; it has no layers of ours.
                if let Ok(config) = self
                    .read_blob(&id)
                    .and_then(|b| parse::<ImageConfiguration>(&b, "", &id))
                {
                    live.layers.extend(
                        config
                            .rootfs()
                            .diff_ids()
                            .iter()
                            .filter_map(|d| d.parse::<Digest>().ok()),
                    );
                }
            }
        }
        Ok(live)
    }

    fn collect_blobs(&self, live: &Live, report: &mut GcReport) -> Result<()> {
        let dir = self.root.join("images/blobs/sha256");
        let entries = std::fs::read_dir(&dir)
            .map_err(StoreError::io(|| format!("readdir(`{}`)", dir.display())))?;
        for entry in entries.flatten() {
            let name = entry.file_name();
            let Ok(digest) = format!("sha256:{}", name.to_string_lossy()).parse::<Digest>() else {
                continue;
            };
            if live.blobs.contains(&digest) {
                continue;
            }
            let path = entry.path();
            let size = blob::blob_size(&path)?;
            std::fs::remove_file(&path)
                .map_err(StoreError::io(|| format!("unlink(`{}`)", path.display())))?;
            report.bytes += size;
            report.blobs.push(digest);
        }
        Ok(())
    }

    fn collect_layers(&self, live: &Live, report: &mut GcReport) -> Result<()> {
        let mut failed = Vec::new();
        for meta in self.all_metas()? {
            let layer = read_meta(&meta);
            if layer
                .as_ref()
                .is_some_and(|l| live.layers.contains(&l.diff_id))
            {
                continue;
            }
            remove_meta(&meta)?;
            match self.remove_layer_dir(&meta.with_extension("")) {
                Ok(()) => report.layers.extend(layer.map(|l| l.diff_id)),
                Err(StoreError::Call(e)) => failed.push(e),
                Err(e) => return Err(e),
            }
        }
        self.collect_strays(&mut failed)?;
        if failed.is_empty() {
            Ok(())
        } else {
            Err(StoreError::Remove(failed))
        }
    }

    /// Layer directories that lost, or never got, their JSON file.
    fn collect_strays(&self, failed: &mut Vec<crate::sys::fs::CallError>) -> Result<()> {
        let maps = std::fs::read_dir(self.root.join("layers"))
            .into_iter()
            .flatten()
            .flatten();
        for map in maps {
            for entry in std::fs::read_dir(map.path())
                .into_iter()
                .flatten()
                .flatten()
            {
                let path = entry.path();
                let stray = path.extension().is_none() && !path.with_extension("json").exists();
                if !stray {
                    continue;
                }
                match self.remove_layer_dir(&path) {
                    Ok(()) => {}
                    Err(StoreError::Call(e)) => failed.push(e),
                    Err(e) => return Err(e),
                }
            }
        }
        Ok(())
    }

    fn remove_layer_dir(&self, dir: &Path) -> Result<()> {
        let old = self.scratch("old")?;
        match rename(dir, &old.path) {
            Ok(()) => remove(&old.path).map_err(StoreError::from),
            Err(StoreError::Call(e)) if e.errno == rustix::io::Errno::NOENT => Ok(()),
            Err(e) => Err(e),
        }
    }
}
