//! Blobs: written once, hashed on the way, named by their digest.

use std::fs::File;
use std::io::{self, Read as _, Write};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use rustix::fs::XattrFlags;
use rustix::io::Errno;
use sha2::{Digest as _, Sha256};

use super::scratch::Place;
use super::{Marked, Result, Store, StoreError, open_path, rename};
use crate::model::Digest;
use crate::sys::fs::CallError;

/// Set on a blob that may not have reached the disk; the value is the boot id of its writing.
const UNSETTLED: &str = "user.rl.unsettled";
/// Manifests and configurations larger than this are refused (image-spec asks for 4 MiB of manifest).
const DOCUMENT_LIMIT: u64 = 16 << 20;

/// A blob being written. Dropped unfinished, it leaves nothing.
#[derive(Debug)]
pub struct BlobWriter<'a> {
    store: &'a Store,
    file: File,
    place: Place,
    hasher: Sha256,
    written: u64,
}

impl Write for BlobWriter<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write_all(bytes)?;
        self.hasher.update(bytes);
        self.written += bytes.len() as u64;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for BlobWriter<'_> {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.place.path);
    }
}

impl BlobWriter<'_> {
    /// Bytes written so far.
    pub fn written(&self) -> u64 {
        self.written
    }

    /// Where the unfinished blob lies, for errors.
    pub fn path(&self) -> &Path {
        &self.place.path
    }

    /// Only compares the digest; the blob is dropped.
    pub(super) fn check(mut self, expected: Digest) -> Result<()> {
        let hasher = std::mem::take(&mut self.hasher);
        let actual = Digest::from_bytes(hasher.finalize().into());
        if actual == expected {
            Ok(())
        } else {
            Err(StoreError::Digest { expected, actual })
        }
    }

    /// Gives the blob its name. With `expected`, content of another digest is refused.
    ///
    /// # Errors
    /// [`StoreError::Digest`], or the failing call.
    pub fn finish(mut self, expected: Option<Digest>) -> Result<Digest> {
        let hasher = std::mem::take(&mut self.hasher);
        let actual = Digest::from_bytes(hasher.finalize().into());
        if let Some(expected) = expected.filter(|e| *e != actual) {
            return Err(StoreError::Digest { expected, actual });
        }
        let boot = self.store.boot_id();
        let marked = !boot.is_empty()
            && rustix::fs::fsetxattr(&self.file, UNSETTLED, boot.as_bytes(), XattrFlags::empty())
                .is_ok();
        if !marked {
            rustix::fs::fdatasync(&self.file).map_err(CallError::of(|| {
                format!("fdatasync(`{}`)", self.place.path.display())
            }))?;
        }
        rename(&self.place.path, &self.store.blob_path(&actual))?;
        Ok(actual)
    }
}

impl Store {
    /// The file of a blob, whether it is there or not.
    pub fn blob_path(&self, digest: &Digest) -> PathBuf {
        self.root.join("images/blobs/sha256").join(digest.hex())
    }

    /// Starts a blob.
    ///
    /// # Errors
    /// The temporary file cannot be made.
    pub fn blob_writer(&self) -> Result<BlobWriter<'_>> {
        let place = self.scratch("blob")?;
        let path = &place.path;
        let file = File::options()
            .write(true)
            .create_new(true)
            .open(path)
            .map_err(StoreError::io(|| {
                format!("open(`{}`, O_CREAT)", path.display())
            }))?;
        Ok(BlobWriter {
            store: self,
            file,
            place,
            hasher: Sha256::new(),
            written: 0,
        })
    }

    /// Stores these bytes; returns their digest.
    ///
    /// # Errors
    /// The failing call.
    pub fn put_blob(&self, bytes: &[u8]) -> Result<Digest> {
        let mut writer = self.blob_writer()?;
        let failed = format!("write(`{}`)", writer.place.path.display());
        writer.write_all(bytes).map_err(StoreError::io(|| failed))?;
        writer.finish(None)
    }

    /// Whether the blob is there with `size` bytes. One that was still on its way to the disk when
    /// the machine went down is hashed first, and deleted if it is not whole.
    ///
    /// # Errors
    /// The blob cannot be opened or read, for another reason than its absence.
    pub fn has_blob(&self, digest: &Digest, size: u64) -> Result<bool> {
        let path = self.blob_path(digest);
        let file = match File::open(&path) {
            Ok(file) => file,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(false),
            Err(e) => return Err(StoreError::io(|| format!("open(`{}`)", path.display()))(e)),
        };
        let stat = rustix::fs::fstat(&file)
            .map_err(CallError::of(|| format!("fstat(`{}`)", path.display())))?;
        let mut whole = u64::try_from(stat.st_size) == Ok(size);
        let mut boot = Vec::with_capacity(64);
        match rustix::fs::fgetxattr(&file, UNSETTLED, rustix::buffer::spare_capacity(&mut boot)) {
            Ok(_) if boot == self.boot_id().as_bytes() => {}
            Ok(_) => {
                whole = whole && hash(&file, &path)? == *digest;
                if whole {
                    let _ = rustix::fs::fremovexattr(&file, UNSETTLED);
                }
            }
            Err(_) => {}
        }
        if !whole {
            std::fs::remove_file(&path)
                .map_err(StoreError::io(|| format!("unlink(`{}`)", path.display())))?;
        }
        Ok(whole)
    }

    /// Opens a blob for streaming; whoever reads it hashes it.
    ///
    /// # Errors
    /// [`StoreError::MissingBlob`], or the failing `open`.
    pub fn open_blob(&self, digest: &Digest) -> Result<File> {
        let path = self.blob_path(digest);
        File::open(&path).map_err(|e| match e.kind() {
            io::ErrorKind::NotFound => StoreError::MissingBlob(*digest),
            _ => StoreError::io(|| format!("open(`{}`)", path.display()))(e),
        })
    }

    /// A manifest or configuration (at most 16 MiB), checked against its digest.
    ///
    /// # Errors
    /// [`StoreError::MissingBlob`], [`StoreError::Digest`], [`StoreError::TooLarge`].
    pub fn read_blob(&self, digest: &Digest) -> Result<Vec<u8>> {
        let file = self.open_blob(digest)?;
        let mut bytes = Vec::new();
        file.take(DOCUMENT_LIMIT + 1)
            .read_to_end(&mut bytes)
            .map_err(StoreError::io(|| format!("read(`{digest}`)")))?;
        if bytes.len() as u64 > DOCUMENT_LIMIT {
            return Err(StoreError::TooLarge {
                what: format!("blob `{digest}`"),
                size: bytes.len() as u64,
                limit: DOCUMENT_LIMIT,
            });
        }
        let actual = Digest::from_bytes(Sha256::digest(&bytes).into());
        if actual != *digest {
            return Err(StoreError::Digest {
                expected: *digest,
                actual,
            });
        }
        Ok(bytes)
    }

    /// The files of all blobs with a mark.
    pub(super) fn unsettled_blobs(&self) -> Result<Vec<Marked>> {
        let dir = self.root.join("images/blobs/sha256");
        let entries = std::fs::read_dir(&dir)
            .map_err(StoreError::io(|| format!("readdir(`{}`)", dir.display())))?;
        Ok(entries
            .flatten()
            .map(|entry| entry.path())
            .filter(|path| rustix::fs::getxattr_query(path, UNSETTLED).is_ok())
            .filter_map(Marked::new)
            .collect())
    }

    /// Takes the marks off; blobs of an earlier boot keep theirs, since only hashing clears them.
    pub(super) fn settle_blobs(&self, marked: &[Marked]) -> Result<()> {
        for path in marked.iter().filter(|m| m.is_same()).map(|m| &m.path) {
            let mut boot = Vec::with_capacity(64);
            let query =
                rustix::fs::getxattr(path, UNSETTLED, rustix::buffer::spare_capacity(&mut boot));
            if query.is_err() || boot != self.boot_id().as_bytes() {
                continue;
            }
            match rustix::fs::removexattr(path, UNSETTLED) {
                Ok(()) | Err(Errno::NODATA | Errno::NOENT) => {}
                Err(errno) => {
                    let call = format!("removexattr(`{}`, `{UNSETTLED}`)", path.display());
                    return Err(CallError { call, errno }.into());
                }
            }
        }
        Ok(())
    }
}

/// The digest of a whole file.
fn hash(file: impl AsFd, path: &Path) -> Result<Digest> {
    let mut hasher = Sha256::new();
    let mut buffer = vec![0u8; 256 << 10];
    loop {
        let n = rustix::io::read(&file, &mut buffer[..])
            .map_err(CallError::of(|| format!("read(`{}`)", path.display())))?;
        if n == 0 {
            return Ok(Digest::from_bytes(hasher.finalize().into()));
        }
        hasher.update(&buffer[..n]);
    }
}

/// Opens a blob's directory entry for its size, for listings.
pub(super) fn blob_size(path: &Path) -> Result<u64> {
    let file = open_path(path)?;
    let metadata = file
        .metadata()
        .map_err(StoreError::io(|| format!("fstat(`{}`)", path.display())))?;
    Ok(metadata.len())
}
