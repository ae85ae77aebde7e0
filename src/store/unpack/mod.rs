//! Unpacking a layer's tar into a directory, as an adversary may have written it.
//!
//! The order of work, for each entry of the archive ([`stream`] parses it):
//! 1. [`name`] splits the entry's name into parent and last component, and sorts out whiteouts.
//! 2. [`dirs`] gives an open descriptor of the parent, looked up inside the root and made if missing.
//!    Links on the way are followed, but never out of the root.
//! 3. [`make`] creates the last component relative to that descriptor, never through a link. What
//!    was there before is removed (unless both are directories).
//! 4. [`attrs`] sets owner, then mode (chown(2) clears setuid), then extended attributes (chown
//!    clears file capabilities), then times.
//! 5. At the end directories get their modes and times, in the order they came: children could not
//!    be made in a read-only directory, and making them changes its times.
//!
//! What becomes of the odd ones:
//!
//! | in the archive | on disk |
//! | --- | --- |
//! | `.wh.NAME` | `NAME` as character device 0:0, overlay's whiteout |
//! | `.wh.NAME` where that is refused | a socket of mode 0, and [`Report::stand_ins`] |
//! | `.wh..wh..opq` | `user.overlay.opaque=y` on the directory; for the root, [`Report::opaque_root`] |
//! | other `.wh..wh.*` | nothing (aufs' own files) |
//! | whiteout and entry of one name | the entry; opaque if it is a directory |
//! | device node, 0:0 included | an empty file with `user.rl.rdev` = `c:MAJOR:MINOR` or `b:…` |
//! | owners, when only one id is mapped | `user.rl.owner` = `UID:GID:MODE`; no setuid of others |
//! | `user.overlay.*`, `user.rl.*`, `trusted.*`, `security.*` but capabilities | left out |
//! | a name with `..`, a NUL, or a component over 255 bytes | an error |

mod attrs;
mod dirs;
mod error;
mod make;
mod name;
mod pax;
mod stream;

use std::io::BufRead;

pub(super) use attrs::SET_IDS;
pub use error::{Reason, UnpackError};

use crate::model::IdMap;
use crate::sys::fs::{CallError, Root};
use dirs::Dirs;
use name::Name;
pub(super) use stream::{Kind, TarStream};

/// What to do with the owners an archive names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Owners {
    /// Set them; the running user namespace has these maps.
    Kept {
        /// User ids that are mapped.
        uid: IdMap,
        /// Group ids that are mapped.
        gid: IdMap,
    },
    /// Only one id is mapped: everything belongs to it, and other owners are written to an extended
    /// attribute.
    Remembered,
}

/// What came of a whole archive.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Entries seen.
    pub entries: u64,
    /// Bytes of regular files, holes included.
    pub bytes: u64,
    /// The archive hides everything below it.
    pub opaque_root: bool,
    /// Something else stands for whiteouts, which cannot be made here.
    pub stand_ins: bool,
    /// What could not be kept, each kind once.
    pub notes: Vec<String>,
}

/// One archive being unpacked.
struct Unpacker<'a> {
    dirs: Dirs,
    owners: &'a Owners,
    /// It is no layer: names have no special meaning, and the root keeps its attributes.
    literal: bool,
    /// New files already belong to this user and group.
    own: (u32, u32),
    later: Vec<attrs::Later>,
    root_listed: bool,
    report: Report,
}

/// Unpacks the tar that `source` gives into `root`, an empty directory of ours. Reads to the end of
/// the archive, not of the source. Runs in the user namespace whose maps `owners` tells.
///
/// # Errors
/// [`UnpackError`] with the entry's name. What was unpacked before stays.
pub fn unpack(source: impl BufRead, root: Root, owners: &Owners) -> Result<Report, UnpackError> {
    run(source, root, owners, false)
}

/// The same into a directory that holds something already and keeps its own attributes. The archive is no layer: names
/// such as `.wh.x` mean nothing special.
///
/// # Errors
/// As [`unpack`].
pub fn unpack_over(
    source: impl BufRead,
    root: Root,
    owners: &Owners,
) -> Result<Report, UnpackError> {
    run(source, root, owners, true)
}

fn run(
    source: impl BufRead,
    root: Root,
    owners: &Owners,
    literal: bool,
) -> Result<Report, UnpackError> {
    let mut stream = TarStream::new(source);
    let own = attrs::own_ids(&root)?;
    // We may be somebody else than root inside, to whom directories without an owner belong.
    let implied_owner = match owners {
        Owners::Kept { uid, gid } => {
            (own != (0, 0) && uid.to_host(0).is_some() && gid.to_host(0).is_some())
                .then_some((0, 0))
        }
        Owners::Remembered => None,
    };
    let mut unpacker = Unpacker {
        own,
        dirs: Dirs::new(root, implied_owner),
        owners,
        literal,
        later: Vec::new(),
        root_listed: literal,
        report: Report::default(),
    };
    while let Some(entry) = stream.next()? {
        unpacker.report.entries += 1;
        unpacker
            .entry(&entry, &mut stream)
            .map_err(|reason| UnpackError::entry(&entry.path, reason))?;
    }
    unpacker.finish()
}

impl Unpacker<'_> {
    fn entry(
        &mut self,
        entry: &stream::Entry,
        stream: &mut TarStream<impl BufRead>,
    ) -> Result<(), Reason> {
        match name::split(&entry.path, self.literal)? {
            Name::Root => self.root_entry(entry),
            Name::Skipped => Ok(()),
            Name::Opaque { dir } => self.opaque(&dir),
            Name::Whiteout { dir, name } => self.whiteout(&dir, &name),
            Name::Plain { dir, name } => {
                let parent = self.dirs.get(&dir)?;
                self.plain(entry, &parent, &name, &dir, stream)
            }
        }
    }

    /// Says once that something was left out.
    fn note(&mut self, text: String) {
        const MOST: usize = 32;
        if self.report.notes.len() < MOST && !self.report.notes.contains(&text) {
            self.report.notes.push(text);
        }
    }

    /// Directories last, then the report.
    fn finish(mut self) -> Result<Report, UnpackError> {
        // A layer that does not list its root has the customary one.
        if !self.root_listed {
            self.dirs
                .own(&self.dirs.root, b".")
                .map_err(|reason| UnpackError::entry(b".", reason))?;
            let mode = rustix::fs::Mode::from_raw_mode(0o755);
            rustix::fs::fchmod(&self.dirs.root, mode)
                .map_err(CallError::of(|| "fchmod(root, 0755)".to_owned()))?;
        }
        self.settle_dirs()
            .map_err(|(path, reason)| UnpackError::entry(&path, reason))?;
        Ok(self.report)
    }
}
