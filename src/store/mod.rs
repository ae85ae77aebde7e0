//! Images on disk: an OCI image layout, the layers unpacked from it, and the locks between their users.
//!
//! ```text
//! ROOT/lock                       flock: shared while images are used, exclusive while deleting
//! ROOT/index.lock                 flock: exclusive while index.json is replaced
//! ROOT/images/oci-layout          an OCI image layout (image-spec, image-layout.md)
//! ROOT/images/index.json          one descriptor per name, `org.opencontainers.image.ref.name`
//! ROOT/images/blobs/sha256/HEX    manifests, configurations, layers as they came
//! ROOT/layers/MAP/HEX24/          a layer's tree, usable as an overlay `lowerdir`
//! ROOT/layers/MAP/HEX24.json      its full diff id and whether it can be trusted
//! ROOT/tmp/PID-RANDOM/            one process's unfinished work; flocked while the process lives
//! ROOT/tmp/locks/                 one flock per layer being unpacked
//! ```
//!
//! A blob is written below `tmp`, hashed on the way, and renamed to its digest; a layer is unpacked
//! below `tmp` and renamed, then its JSON file is. So a name that is there was complete when it got
//! its name, and a process killed at any point leaves only a directory below `tmp` that nobody locks,
//! which the next writer deletes.
//!
//! Power cuts: a rename can survive while the data does not. Waiting for the disk costs more than a
//! pull may take, so work of this boot is trusted at once and marked with the boot id (blobs: an
//! extended attribute; layers: their JSON file). [`Store::settle`], which runs in the background after
//! each pull, flushes the file system once and takes the marks off. At a later boot a marked blob is
//! hashed again before it counts and a marked layer is unpacked again. `index.json` is always flushed
//! before it replaces the old one.
//!
//! What is read back is checked: manifests and configurations against their digest every time,
//! layers whenever they are unpacked.

pub mod archive;
mod blob;
mod decode;
mod error;
mod frames;
mod gc;
mod image;
mod index;
mod lay;
mod layer;
pub mod pack;
mod pipe;
mod scratch;
pub mod unpack;

use std::fs::File;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, OnceLock, Weak};

use rustix::fs::FlockOperation;

pub use blob::BlobWriter;
pub use decode::{Compression, decoder};
pub use error::{Result, StoreError};
pub use gc::GcReport;
pub use image::Image;
pub use index::{REF_NAME, set_origin, set_parent};
pub use lay::lay_over;
pub use layer::{Layer, MapKey, is_for_copies};
pub use scratch::WorkDir;

use crate::sys::fs::CallError;
use scratch::Scratch;

/// An open image store. Cheap to open; can be shared between threads.
#[derive(Debug)]
pub struct Store {
    root: PathBuf,
    scratch: Mutex<Weak<Scratch>>,
    boot_id: OnceLock<String>,
    windows: frames::Windows,
}

/// A file with a mark, as it was when it was listed: its name may belong to another by the time the
/// flush is over.
#[derive(Debug)]
struct Marked {
    path: PathBuf,
    identity: (u64, i64, i64),
}

impl Marked {
    fn new(path: PathBuf) -> Option<Self> {
        let identity = Self::identity(&path)?;
        Some(Marked { path, identity })
    }

    fn is_same(&self) -> bool {
        Self::identity(&self.path) == Some(self.identity)
    }

    fn identity(path: &Path) -> Option<(u64, i64, i64)> {
        use std::os::unix::fs::MetadataExt as _;
        let meta = path.symlink_metadata().ok()?;
        Some((meta.ino(), meta.ctime(), meta.ctime_nsec()))
    }
}

/// Where layers are locked while they are unpacked, in the directory of unfinished work.
const LOCKS: &str = "tmp/locks";

/// Holds a lock on the store until dropped.
#[derive(Debug)]
pub struct StoreLock(#[allow(dead_code)] File);

impl Store {
    /// Opens the store below `root`, making what is missing (directories readable by their owner
    /// alone: an image's setuid files must not be reachable for other users of the host).
    ///
    /// # Errors
    /// A directory or file that cannot be made.
    pub fn open(root: &Path) -> Result<Store> {
        let store = Store {
            root: root.to_owned(),
            scratch: Mutex::new(Weak::new()),
            boot_id: OnceLock::new(),
            windows: frames::Windows::default(),
        };
        // What is called `tmp` somebody cleans away.
        let needed = [store.index_path(), root.join(LOCKS)];
        let is_there = |path| rustix::fs::access(path, rustix::fs::Access::EXISTS).is_ok();
        if !needed.iter().all(is_there) {
            store.create()?;
        }
        Ok(store)
    }

    fn create(&self) -> Result<()> {
        let mut builder = std::fs::DirBuilder::new();
        builder.recursive(true).mode(0o700);
        for dir in ["images/blobs/sha256", "layers", LOCKS] {
            let path = self.root.join(dir);
            builder
                .create(&path)
                .map_err(StoreError::io(|| format!("mkdir(`{}`)", path.display())))?;
        }
        self.write_atomic(
            &self.root.join("images/oci-layout"),
            br#"{"imageLayoutVersion":"1.0.0"}"#,
            true,
        )?;
        let _lock = self.lock_index()?;
        if !self.index_path().exists() {
            self.write_index(&index::empty())?;
        }
        Ok(())
    }

    /// The directory given to [`Store::open`].
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The OCI image layout inside the store.
    pub fn images_dir(&self) -> PathBuf {
        self.root.join("images")
    }

    /// Waits for deletions to end, and keeps further ones out until the lock is dropped. Whoever
    /// relies on an image that no name or container protects yet holds one (pull, run's set-up).
    ///
    /// # Errors
    /// The failing `open` or `flock`.
    pub fn lock_shared(&self) -> Result<StoreLock> {
        flock(&self.root.join("lock"), FlockOperation::LockShared).map(StoreLock)
    }

    /// Waits until nobody else uses the store.
    ///
    /// # Errors
    /// The failing `open` or `flock`.
    pub fn lock_exclusive(&self) -> Result<StoreLock> {
        flock(&self.root.join("lock"), FlockOperation::LockExclusive).map(StoreLock)
    }

    /// The exclusive lock, or `None` when somebody uses the store.
    ///
    /// # Errors
    /// The failing `open` or `flock`.
    pub fn try_lock_exclusive(&self) -> Result<Option<StoreLock>> {
        let path = self.root.join("lock");
        match flock(&path, FlockOperation::NonBlockingLockExclusive) {
            Ok(file) => Ok(Some(StoreLock(file))),
            Err(StoreError::Call(e)) if e.errno == rustix::io::Errno::WOULDBLOCK => Ok(None),
            Err(e) => Err(e),
        }
    }

    /// Against deletions while marks are taken away, after which one would be written for something that is gone. Held for
    /// moments only, and no use of the store that has deletions put off.
    fn lock_marks(&self, operation: FlockOperation) -> Result<StoreLock> {
        flock(&self.root.join("marks.lock"), operation).map(StoreLock)
    }

    /// Flushes the store's file system and takes the "not yet on disk" marks off blobs and layers.
    /// Worth doing in the background after a pull; without it the first use after a reboot checks
    /// blobs and unpacks layers again. Nobody is kept waiting: locks are held after the flush only.
    ///
    /// # Errors
    /// The failing `syncfs`, or a mark that cannot be changed.
    pub fn settle(&self) -> Result<()> {
        // What is marked after the flush began may have missed it: list first.
        let blobs = self.unsettled_blobs()?;
        let layers = self.unsettled_layers()?;
        if blobs.is_empty() && layers.is_empty() {
            return Ok(());
        }
        let root = open_path(&self.root)?;
        rustix::fs::syncfs(&root).map_err(CallError::of(|| {
            format!("syncfs(`{}`)", self.root.display())
        }))?;
        let _marks = self.lock_marks(FlockOperation::LockShared)?;
        self.settle_blobs(&blobs)?;
        self.settle_layers(&layers)
    }

    /// This boot's id (random(4), `/proc/sys/kernel/random/boot_id`); the empty text, which matches
    /// no mark, when it cannot be read.
    fn boot_id(&self) -> &str {
        self.boot_id.get_or_init(|| {
            std::fs::read_to_string("/proc/sys/kernel/random/boot_id")
                .map(|id| id.trim().to_owned())
                .unwrap_or_default()
        })
    }

    /// Replaces `path` by a file with this content, or makes it; flushed first when `durable`.
    fn write_atomic(&self, path: &Path, content: &[u8], durable: bool) -> Result<()> {
        let place = self.scratch("file")?;
        let temporary = &place.path;
        std::fs::write(temporary, content).map_err(StoreError::io(|| {
            format!("write(`{}`)", temporary.display())
        }))?;
        if durable {
            let fd = open_path(temporary)?;
            rustix::fs::fsync(&fd).map_err(CallError::of(|| {
                format!("fsync(`{}`)", temporary.display())
            }))?;
        }
        rename(temporary, path)
    }
}

/// Opens (making it where needed) and locks a lock file.
fn flock(path: &Path, operation: FlockOperation) -> Result<File> {
    let file = File::options()
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(path)
        .map_err(StoreError::io(|| format!("open(`{}`)", path.display())))?;
    loop {
        match rustix::fs::flock(&file, operation) {
            Err(rustix::io::Errno::INTR) => {}
            result => {
                result.map_err(CallError::of(|| format!("flock(`{}`)", path.display())))?;
                return Ok(file);
            }
        }
    }
}

/// Opens a file or directory for reading.
fn open_path(path: &Path) -> Result<File> {
    File::open(path).map_err(StoreError::io(|| format!("open(`{}`)", path.display())))
}

/// rename(2).
fn rename(from: &Path, to: &Path) -> Result<()> {
    rustix::fs::rename(from, to)
        .map_err(CallError::of(|| {
            format!("rename(`{}`, `{}`)", from.display(), to.display())
        }))
        .map_err(StoreError::from)
}
