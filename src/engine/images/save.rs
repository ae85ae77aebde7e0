//! `rl save`: images as an archive or a layout, for `rl load`, `docker load`, skopeo and the rest.
//!
//! docker-archive holds plain layers named by their diff id, because older readers take nothing else;
//! a tar header needs the size first, so a compressed layer is decompressed twice rather than kept in
//! memory or on disk. The OCI formats hold the blobs as they are.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, BufReader, Read, Write};
use std::path::Path;
use std::str::FromStr;

use oci_spec::image::{Descriptor, ImageIndex, MediaType};
use serde_json::json;

use super::{ImageError, Result};
use crate::model::{Digest, Reference};
use crate::store::{Image, REF_NAME, Store, decoder};

/// What [`save`] writes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// What `docker save` writes.
    #[default]
    DockerArchive,
    /// A tar of an OCI image layout.
    OciArchive,
    /// An OCI image layout.
    OciDir,
}

impl FromStr for Format {
    type Err = ImageError;

    fn from_str(text: &str) -> Result<Self> {
        match text {
            "docker-archive" => Ok(Format::DockerArchive),
            "oci-archive" => Ok(Format::OciArchive),
            "oci-dir" => Ok(Format::OciDir),
            _ => Err(ImageError::Format(text.to_owned())),
        }
    }
}

/// An image and the names to save it under.
struct Chosen {
    image: Image,
    names: Vec<Reference>,
}

/// Writes the images that `words` name. One given by name is saved under that name, one given by id
/// under none. An archive goes to `out`; [`Format::OciDir`] makes or adds to `directory`.
///
/// # Errors
/// An image that is not there, blobs that are missing or damaged, or a failed write.
pub fn save(
    store: &Store,
    words: &[String],
    format: Format,
    directory: Option<&Path>,
    out: &mut dyn Write,
) -> Result<()> {
    let _lock = store.lock_shared()?;
    let mut chosen: Vec<Chosen> = Vec::new();
    for word in words {
        let image = super::find(store, word)?;
        let name = word
            .parse::<Reference>()
            .ok()
            .filter(|r| image.references.contains(r));
        match chosen
            .iter_mut()
            .find(|c| c.image.manifest == image.manifest)
        {
            Some(known) => known.names.extend(name),
            None => chosen.push(Chosen {
                image,
                names: name.into_iter().collect(),
            }),
        }
    }
    match (format, directory) {
        (Format::DockerArchive, _) => docker(store, &chosen, out),
        (Format::OciArchive, _) => {
            let ids = (
                rustix::process::geteuid().as_raw(),
                rustix::process::getegid().as_raw(),
            );
            let mut sink = TarSink { out, ids };
            sink.dir("blobs/")?;
            sink.dir("blobs/sha256/")?;
            oci(store, &chosen, &mut sink, ImageIndex::default())?;
            sink.finish()
        }
        (Format::OciDir, Some(dir)) => oci_dir(store, &chosen, dir),
        (Format::OciDir, None) => Err(ImageError::NeedsDirectory),
    }
}

fn docker(store: &Store, chosen: &[Chosen], out: &mut dyn Write) -> Result<()> {
    let mut sink = TarSink { out, ids: (0, 0) };
    let mut written = BTreeSet::new();
    let mut manifest = Vec::new();
    for Chosen { image, names } in chosen {
        let mut members = Vec::new();
        for (layer, diff_id) in image.layers.iter().zip(&image.diff_ids) {
            let member = format!("{}.tar", diff_id.hex());
            if written.insert(member.clone()) {
                let digest = Image::layer_digest(layer)?;
                let size = match plain(store, &digest, *diff_id)? {
                    Some(size) => size,
                    None => io::copy(&mut open_plain(store, &digest)?, &mut io::sink())
                        .map_err(ImageError::io(|| format!("read(`{digest}`)")))?,
                };
                sink.member(&member, size, &mut open_plain(store, &digest)?)?;
            }
            members.push(member);
        }
        let config = format!("{}.json", image.id.hex());
        if written.insert(config.clone()) {
            sink.bytes(&config, &store.read_blob(&image.id)?)?;
        }
        let tags: Vec<String> = names.iter().map(Reference::familiar).collect();
        manifest.push(json!({"Config": config, "RepoTags": tags, "Layers": members}));
    }
    sink.bytes("manifest.json", json!(manifest).to_string().as_bytes())?;
    sink.finish()
}

/// The size of a layer's tar if its blob is the tar.
fn plain(store: &Store, digest: &Digest, diff_id: Digest) -> Result<Option<u64>> {
    if *digest != diff_id {
        return Ok(None);
    }
    let file = store.open_blob(digest)?;
    let metadata = file
        .metadata()
        .map_err(ImageError::io(|| format!("fstat(`{digest}`)")))?;
    Ok(Some(metadata.len()))
}

fn open_plain(store: &Store, digest: &Digest) -> Result<Box<dyn Read>> {
    let file = BufReader::with_capacity(128 << 10, store.open_blob(digest)?);
    decoder(file).map_err(ImageError::io(|| format!("read(`{digest}`)")))
}

/// Where the files of an OCI layout go.
trait Sink {
    fn bytes(&mut self, name: &str, bytes: &[u8]) -> Result<()>;
    fn blob(&mut self, store: &Store, digest: &Digest) -> Result<()>;
}

fn oci(store: &Store, chosen: &[Chosen], sink: &mut dyn Sink, mut index: ImageIndex) -> Result<()> {
    let mut written = BTreeSet::new();
    let mut entries = index.manifests().clone();
    sink.bytes("oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#)?;
    for Chosen { image, names } in chosen {
        let mut parts = vec![image.manifest, image.id];
        for layer in &image.layers {
            parts.push(Image::layer_digest(layer)?);
        }
        for digest in parts {
            if written.insert(digest) {
                sink.blob(store, &digest)?;
            }
        }
        let manifest = store.choose_platform(&image.descriptor)?;
        let named = names.iter().map(|name| Some(name.to_string()));
        let names: Vec<Option<String>> = if names.is_empty() {
            vec![None]
        } else {
            named.collect()
        };
        for name in names {
            let mut entry: Descriptor = manifest.clone();
            let annotation = name
                .clone()
                .map(|name| [(REF_NAME.to_owned(), name)].into());
            entry.set_annotations(annotation);
            entries.retain(|old| *old != entry && (name.is_none() || ref_name(old) != name));
            entries.push(entry);
        }
    }
    index.set_schema_version(2);
    index.set_media_type(Some(MediaType::ImageIndex));
    index.set_manifests(entries);
    let bytes =
        serde_json::to_vec(&index).map_err(ImageError::json(|| "`index.json`".to_owned()))?;
    sink.bytes("index.json", &bytes)
}

fn ref_name(descriptor: &Descriptor) -> Option<String> {
    descriptor.annotations().as_ref()?.get(REF_NAME).cloned()
}

fn oci_dir(store: &Store, chosen: &[Chosen], dir: &Path) -> Result<()> {
    let path = dir.join("index.json");
    let index = match std::fs::read(&path) {
        Ok(bytes) => serde_json::from_slice(&bytes)
            .map_err(ImageError::json(|| format!("`{}`", path.display())))?,
        Err(e) if e.kind() == io::ErrorKind::NotFound => ImageIndex::default(),
        Err(e) => return Err(ImageError::io(|| format!("read(`{}`)", path.display()))(e)),
    };
    let blobs = dir.join("blobs/sha256");
    std::fs::create_dir_all(&blobs)
        .map_err(ImageError::io(|| format!("mkdir(`{}`)", blobs.display())))?;
    oci(store, chosen, &mut DirSink(dir), index)
}

struct DirSink<'a>(&'a Path);

impl DirSink<'_> {
    /// Writes beside the name, then renames: an interrupted save leaves no half file.
    fn write(&self, name: &str, from: &mut dyn Read) -> Result<()> {
        let path = self.0.join(name);
        let part = self.0.join(format!("{name}.part"));
        let failed = || format!("write(`{}`)", path.display());
        let mut file = File::create(&part).map_err(ImageError::io(failed))?;
        io::copy(from, &mut file).map_err(ImageError::io(failed))?;
        std::fs::rename(&part, &path).map_err(ImageError::io(failed))
    }
}

impl Sink for DirSink<'_> {
    fn bytes(&mut self, name: &str, mut bytes: &[u8]) -> Result<()> {
        self.write(name, &mut bytes)
    }

    fn blob(&mut self, store: &Store, digest: &Digest) -> Result<()> {
        self.write(
            &format!("blobs/sha256/{}", digest.hex()),
            &mut store.open_blob(digest)?,
        )
    }
}

/// A tar of regular files.
struct TarSink<'a> {
    out: &'a mut dyn Write,
    /// Owner of the members. skopeo sets it when it reads an OCI archive, also when it is not root.
    ids: (u32, u32),
}

impl TarSink<'_> {
    fn member(&mut self, name: &str, size: u64, from: &mut dyn Read) -> Result<()> {
        let failed = || format!("write(archive, `{name}`)");
        self.head(name, size, tar::EntryType::Regular)?;
        let copied = io::copy(&mut from.take(size), self.out).map_err(ImageError::io(failed))?;
        if copied != size {
            return Err(ImageError::io(failed)(io::ErrorKind::UnexpectedEof.into()));
        }
        let padding = usize::try_from(size.next_multiple_of(512) - size).unwrap_or(0);
        self.out
            .write_all(&[0; 512][..padding])
            .map_err(ImageError::io(failed))
    }

    fn dir(&mut self, name: &str) -> Result<()> {
        self.head(name, 0, tar::EntryType::Directory)
    }

    fn head(&mut self, name: &str, size: u64, kind: tar::EntryType) -> Result<()> {
        let failed = || format!("write(archive, `{name}`)");
        let mut header = tar::Header::new_ustar();
        header.set_path(name).map_err(ImageError::io(failed))?;
        header.set_entry_type(kind);
        header.set_size(size);
        header.set_mode(if kind == tar::EntryType::Directory {
            0o755
        } else {
            0o644
        });
        header.set_mtime(0);
        header.set_uid(self.ids.0.into());
        header.set_gid(self.ids.1.into());
        header.set_cksum();
        self.out
            .write_all(header.as_bytes())
            .map_err(ImageError::io(failed))
    }

    fn finish(self) -> Result<()> {
        let failed = || "write(archive)".to_owned();
        self.out
            .write_all(&[0; 1024])
            .map_err(ImageError::io(failed))?;
        self.out.flush().map_err(ImageError::io(failed))
    }
}

impl Sink for TarSink<'_> {
    fn bytes(&mut self, name: &str, mut bytes: &[u8]) -> Result<()> {
        self.member(name, bytes.len() as u64, &mut bytes)
    }

    fn blob(&mut self, store: &Store, digest: &Digest) -> Result<()> {
        let mut file = store.open_blob(digest)?;
        let metadata = file
            .metadata()
            .map_err(ImageError::io(|| format!("fstat(`{digest}`)")))?;
        self.member(
            &format!("blobs/sha256/{}", digest.hex()),
            metadata.len(),
            &mut file,
        )
    }
}
