//! `rl load`, and images named by a path: archives of `docker save`, OCI archives, OCI layouts.
//!
//! An archive is read once, front to back, from a pipe too: every member becomes a blob under its
//! digest (for an OCI archive that is its name, for a plain layer of docker-archive its diff id), and
//! small members are remembered as documents. When the archive has ended, `manifest.json` (Docker) or
//! `index.json` (OCI) tells which blobs make which image; what no image uses is left to the next
//! garbage collection. Docker's own archives hold both files: `manifest.json` wins, it has full names.

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::Path;

use oci_spec::image::{Descriptor, ImageConfiguration, ImageIndex, ImageManifest, MediaType};
use serde::Deserialize;

use super::{ImageError, Result, descriptor, display};
use crate::model::reference::Source;
use crate::model::{Digest, Reference};
use crate::store::archive::{Archive, Member};
use crate::store::{Compression, Image, MapKey, REF_NAME, Store, decoder};

/// Members up to this size are kept in memory as well, being perhaps manifests.
const DOCUMENT_LIMIT: u64 = 4 << 20;
/// Documents kept in memory, in bytes.
const DOCUMENTS_LIMIT: usize = 32 << 20;
/// Links followed from member to member.
const LINK_LIMIT: usize = 8;

/// An image that was loaded.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// Its names; empty when it had none, or none was wanted.
    pub references: Vec<Reference>,
    /// Digest of its manifest.
    pub manifest: Digest,
    /// Its id.
    pub id: Digest,
}

/// Takes the images of `source` into the store, and names them as they are named there; an
/// unambiguous unnamed image is kept without a name. With `map`, unpacks them too. `oci:` and
/// archives with a tag load only that image.
///
/// # Errors
/// A source that cannot be read or is none of these kinds, wrong digests, no space.
pub fn load(store: &Store, source: &Source, map: Option<&MapKey>) -> Result<Vec<Loaded>> {
    let _lock = store.lock_shared()?;
    let loaded = match source {
        Source::OciDir(dir, tag) => load_layout(store, dir, tag.as_deref())?,
        Source::OciArchive(path, tag) => load_file(store, path, tag.as_deref())?,
        Source::DockerArchive(path, reference) => load_file(
            store,
            path,
            reference.as_ref().map(ToString::to_string).as_deref(),
        )?,
        Source::Rootfs(path) if path.is_file() => load_file(store, path, None)?,
        Source::Rootfs(path) => load_layout(store, path, None)?,
        Source::Registry(reference) => return Err(ImageError::NotFound(reference.familiar())),
    };
    unpack(store, &loaded, map)?;
    Ok(loaded)
}

/// The same for an archive from a pipe. It may be compressed.
///
/// # Errors
/// As [`load`].
pub fn load_stream(
    store: &Store,
    reader: impl BufRead,
    map: Option<&MapKey>,
) -> Result<Vec<Loaded>> {
    let _lock = store.lock_shared()?;
    let loaded = load_archive(store, reader, "standard input", None)?;
    unpack(store, &loaded, map)?;
    Ok(loaded)
}

fn unpack(store: &Store, loaded: &[Loaded], map: Option<&MapKey>) -> Result<()> {
    let Some(map) = map else { return Ok(()) };
    for one in loaded {
        if let Some(image) = store.image_by_id(&one.manifest.to_string())? {
            store.ensure_layers(&image, map)?;
        }
    }
    Ok(())
}

fn load_file(store: &Store, path: &Path, name: Option<&str>) -> Result<Vec<Loaded>> {
    let file =
        File::open(path).map_err(ImageError::io(|| format!("open(`{}`)", path.display())))?;
    load_archive(
        store,
        BufReader::with_capacity(256 << 10, file),
        &display(path),
        name,
    )
}

/// What an archive holds: for each member its blob, and the small ones' content.
#[derive(Default)]
struct Contents {
    blobs: HashMap<String, (Digest, u64)>,
    links: HashMap<String, String>,
    documents: BTreeMap<String, Vec<u8>>,
}

impl Contents {
    fn blob(&self, name: &str) -> Result<(Digest, u64)> {
        let mut name = name;
        for _ in 0..LINK_LIMIT {
            if let Some(found) = self.blobs.get(name) {
                return Ok(*found);
            }
            match self.links.get(name) {
                Some(target) => name = target,
                None => break,
            }
        }
        Err(ImageError::NoMember(name.to_owned()))
    }
}

fn load_archive(
    store: &Store,
    reader: impl BufRead,
    path: &str,
    name: Option<&str>,
) -> Result<Vec<Loaded>> {
    let plain = decoder(reader).map_err(ImageError::io(|| format!("read(`{path}`)")))?;
    let contents = read_members(store, BufReader::with_capacity(256 << 10, plain), path)?;
    if let Some(bytes) = contents.documents.get("manifest.json") {
        return load_docker(store, bytes, &contents, path, name);
    }
    if let Some(bytes) = contents.documents.get("index.json") {
        let index: ImageIndex = serde_json::from_slice(bytes)
            .map_err(ImageError::json(|| "`index.json`".to_owned()))?;
        return load_index(store, &index, path, name, &|_, digest| {
            contents
                .blob(&format!("blobs/sha256/{}", digest.hex()))
                .map(drop)
        });
    }
    Err(ImageError::NoManifest)
}

fn read_members(store: &Store, reader: impl BufRead, path: &str) -> Result<Contents> {
    let mut contents = Contents::default();
    let mut archive = Archive::new(reader);
    let mut held = 0;
    while let Some((name, member)) = archive.next_member().map_err(ImageError::Archive)? {
        match member {
            Member::Other => {}
            Member::Link(target) => {
                contents.links.insert(name, target);
            }
            Member::File => {
                let mut document = Vec::new();
                let failed = || format!("read(`{path}`, member `{name}`)");
                (&mut archive)
                    .take(DOCUMENT_LIMIT)
                    .read_to_end(&mut document)
                    .map_err(ImageError::io(failed))?;
                let mut writer = store.blob_writer()?;
                writer
                    .write_all(&document)
                    .map_err(ImageError::io(failed))?;
                if document.len() as u64 == DOCUMENT_LIMIT {
                    std::io::copy(&mut archive, &mut writer).map_err(ImageError::io(failed))?;
                }
                let size = writer.written();
                // In an OCI archive the name is a promise.
                let promised = name
                    .strip_prefix("blobs/sha256/")
                    .and_then(|hex| format!("sha256:{hex}").parse::<Digest>().ok());
                let digest = writer.finish(promised)?;
                let json = document.iter().find(|b| !b.is_ascii_whitespace());
                if size < DOCUMENT_LIMIT
                    && matches!(json, Some(b'{' | b'['))
                    && held + document.len() <= DOCUMENTS_LIMIT
                {
                    held += document.len();
                    contents.documents.insert(name.clone(), document);
                }
                contents.blobs.insert(name, (digest, size));
            }
        }
    }
    Ok(contents)
}

/// One image of Docker's `manifest.json` (moby, `image/spec/v1.2.md`).
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct DockerManifest {
    config: String,
    #[serde(default)]
    repo_tags: Option<Vec<String>>,
    #[serde(default)]
    layers: Vec<String>,
}

fn load_docker(
    store: &Store,
    bytes: &[u8],
    contents: &Contents,
    path: &str,
    name: Option<&str>,
) -> Result<Vec<Loaded>> {
    let manifests: Vec<DockerManifest> =
        serde_json::from_slice(bytes).map_err(ImageError::json(|| "`manifest.json`".to_owned()))?;
    let wanted: Option<Reference> = name.map(str::parse).transpose()?;
    let mut loaded = Vec::new();
    for manifest in &manifests {
        let mut references = Vec::new();
        for tag in manifest.repo_tags.iter().flatten() {
            references.push(tag.parse::<Reference>()?);
        }
        if let Some(wanted) = &wanted {
            if !references.contains(wanted) {
                continue;
            }
            references.retain(|r| r == wanted);
        }
        let (id, size) = contents.blob(&manifest.config)?;
        let config: ImageConfiguration = serde_json::from_slice(&store.read_blob(&id)?)
            .map_err(ImageError::json(|| format!("configuration `{id}`")))?;
        let mut layers = Vec::with_capacity(manifest.layers.len());
        for (layer, diff_id) in manifest.layers.iter().zip(config.rootfs().diff_ids()) {
            let (digest, size) = contents.blob(layer)?;
            layers.push(descriptor(
                layer_type(store, &digest, diff_id)?,
                size,
                &digest,
            ));
        }
        if manifest.layers.len() != config.rootfs().diff_ids().len() {
            return Err(crate::store::StoreError::LayerCount {
                manifest: id,
                layers: manifest.layers.len(),
                diff_ids: config.rootfs().diff_ids().len(),
            }
            .into());
        }
        let config = descriptor(MediaType::ImageConfig, size, &id);
        let target = put_manifest(store, &config, &layers)?;
        loaded.push(keep(store, &target, references, id)?);
    }
    match name {
        Some(name) if loaded.is_empty() => Err(ImageError::NoName {
            path: path.to_owned(),
            name: name.to_owned(),
        }),
        _ => Ok(loaded),
    }
}

/// The media type of a layer that came without one. A plain layer's digest is its diff id.
fn layer_type(store: &Store, digest: &Digest, diff_id: &str) -> Result<MediaType> {
    if digest.to_string() == diff_id {
        return Ok(MediaType::ImageLayer);
    }
    let mut start = [0u8; 4];
    let n = store
        .open_blob(digest)?
        .read(&mut start)
        .map_err(ImageError::io(|| format!("read(`{digest}`)")))?;
    Ok(match Compression::of(&start[..n]) {
        Compression::None => MediaType::ImageLayer,
        Compression::Gzip => MediaType::ImageLayerGzip,
        Compression::Zstd => MediaType::ImageLayerZstd,
    })
}

/// Writes a manifest for these blobs.
pub(super) fn put_manifest(
    store: &Store,
    config: &Descriptor,
    layers: &[Descriptor],
) -> Result<Descriptor> {
    let manifest = serde_json::json!({
        "schemaVersion": 2,
        "mediaType": MediaType::ImageManifest.as_ref(),
        "config": config,
        "layers": layers,
    });
    let bytes = manifest.to_string().into_bytes();
    let digest = store.put_blob(&bytes)?;
    Ok(descriptor(
        MediaType::ImageManifest,
        bytes.len() as u64,
        &digest,
    ))
}

fn keep(
    store: &Store,
    target: &Descriptor,
    references: Vec<Reference>,
    id: Digest,
) -> Result<Loaded> {
    for reference in &references {
        store.tag(reference, target)?;
    }
    if references.is_empty() {
        store.keep_untagged(target)?;
    }
    Ok(Loaded {
        references,
        manifest: Image::layer_digest(target)?,
        id,
    })
}

/// An OCI layout on disk: its blobs are copied and checked.
fn load_layout(store: &Store, dir: &Path, name: Option<&str>) -> Result<Vec<Loaded>> {
    let path = dir.join("index.json");
    let bytes =
        std::fs::read(&path).map_err(ImageError::io(|| format!("read(`{}`)", path.display())))?;
    let index: ImageIndex = serde_json::from_slice(&bytes)
        .map_err(ImageError::json(|| format!("`{}`", path.display())))?;
    load_index(store, &index, &display(dir), name, &|descriptor, digest| {
        let path = dir.join("blobs/sha256").join(digest.hex());
        let file =
            File::open(&path).map_err(ImageError::io(|| format!("open(`{}`)", path.display())))?;
        Ok(store.ingest_blob(file, descriptor, &|_| {})?)
    })
}

/// Brings a blob into the store.
type Fetch<'a> = &'a dyn Fn(&Descriptor, &Digest) -> Result<()>;

/// The images of an OCI index: the one called `name`, or all.
fn load_index(
    store: &Store,
    index: &ImageIndex,
    path: &str,
    name: Option<&str>,
    fetch: Fetch<'_>,
) -> Result<Vec<Loaded>> {
    let ref_name = |d: &Descriptor| d.annotations().as_ref()?.get(REF_NAME).cloned();
    let fits = |d: &Descriptor, name: &str| {
        ref_name(d).is_some_and(|own| {
            own == name || own.parse::<Reference>().ok() == name.parse::<Reference>().ok()
        })
    };
    let chosen: Vec<&Descriptor> = match name {
        Some(name) => index
            .manifests()
            .iter()
            .filter(|d| fits(d, name))
            .take(1)
            .collect(),
        None => index.manifests().iter().collect(),
    };
    if let Some(name) = name.filter(|_| chosen.is_empty()) {
        return Err(ImageError::NoName {
            path: path.to_owned(),
            name: name.to_owned(),
        });
    }
    let mut loaded: Vec<Loaded> = Vec::new();
    for found in chosen {
        let target = Image::layer_digest(found)?;
        fetch(found, &target)?;
        let manifest = store.choose_platform(found)?;
        let digest = Image::layer_digest(&manifest)?;
        fetch(&manifest, &digest)?;
        let parsed: ImageManifest = serde_json::from_slice(&store.read_blob(&digest)?)
            .map_err(ImageError::json(|| format!("manifest `{digest}`")))?;
        let parts = [parsed.config()].into_iter().chain(parsed.layers());
        for part in parts {
            fetch(part, &Image::layer_digest(part)?)?;
        }
        // A bare tag names no repository; containerd writes the whole name beside it.
        let annotation = |key: &str| found.annotations().as_ref()?.get(key).cloned();
        let full = annotation("io.containerd.image.name")
            .or_else(|| ref_name(found).filter(|n| n.contains(['/', ':'])));
        let references: Vec<Reference> = full.iter().filter_map(|n| n.parse().ok()).collect();
        let mut bare = manifest.clone();
        bare.set_annotations(None);
        bare.set_platform(None);
        loaded.push(keep(
            store,
            &bare,
            references,
            Image::layer_digest(parsed.config())?,
        )?);
    }
    Ok(loaded)
}
