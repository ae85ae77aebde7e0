//! Why an archive could not be unpacked.

use std::io;

use crate::model::text;
use crate::sys::fs::CallError;

/// A failure with the entry it belongs to.
#[derive(Debug, thiserror::Error)]
pub enum UnpackError {
    /// The stream under the archive failed.
    #[error("reading the tar: {0}")]
    Read(#[source] io::Error),
    /// The archive's framing is broken.
    #[error("tar header at byte {offset}: {reason}")]
    Header {
        /// Where the header starts.
        offset: u64,
        /// What is wrong with it.
        reason: Reason,
    },
    /// One entry.
    #[error("entry `{entry}`: {reason}")]
    Entry {
        /// Its name, escaped.
        entry: String,
        /// What is wrong.
        reason: Reason,
    },
    /// The directory itself.
    #[error(transparent)]
    Root(#[from] CallError),
}

/// What is wrong with an entry.
#[derive(Debug, thiserror::Error)]
pub enum Reason {
    /// The stream under the archive failed.
    #[error("reading the tar: {0}")]
    Read(#[source] io::Error),
    /// The archive ends within it.
    #[error("the archive ends in the middle of it")]
    Truncated,
    /// The header's checksum does not match.
    #[error("the header's checksum is wrong")]
    Checksum,
    /// A field that is no number.
    #[error("the header's {0} is not a number")]
    Field(&'static str),
    /// An extension header beyond the limit.
    #[error("an extension header of {0} bytes is over the limit of 1 MiB")]
    LongHeader(u64),
    /// Too many extension headers for one entry.
    #[error("more than {0} extension headers for one entry")]
    ManyHeaders(usize),
    /// A PAX record that breaks POSIX.1-2001's grammar.
    #[error("malformed PAX record")]
    Pax,
    /// A sparse map that is out of order, overlaps, or is longer than the file.
    #[error("malformed sparse map")]
    Sparse,
    /// A type flag that cannot be unpacked.
    #[error("entries of type `{0}` cannot be unpacked")]
    Type(String),
    /// A name with `..`, which could lead anywhere.
    #[error("the name has a `..` component")]
    DotDot,
    /// A NUL in a name or link.
    #[error("the name has a NUL byte")]
    Nul,
    /// A name without a last component that is not a directory.
    #[error("the name is that of the root, but it is not a directory")]
    RootNotDir,
    /// A whiteout of `.`, `..` or nothing.
    #[error("a whiteout without a proper name")]
    BadWhiteout,
    /// A component that starts with `.wh.` and has something below it.
    #[error("the name goes through a whiteout")]
    ThroughWhiteout,
    /// A parent that is there and not a directory.
    #[error("`{0}` is not a directory")]
    NotDir(String),
    /// A link without a target.
    #[error("the link has no target")]
    NoTarget,
    /// A hard link to a missing file.
    #[error("hard link to `{0}`, which is not in this layer")]
    LinkTarget(String),
    /// A hard link to a directory.
    #[error("hard link to `{0}`, which is a directory")]
    LinkToDir(String),
    /// The owner is not in the user namespace's map.
    #[error("{kind} {id} is not mapped; the {kind} map is {map}")]
    Unmapped {
        /// `uid` or `gid`.
        kind: &'static str,
        /// The id in the archive.
        id: u64,
        /// The map's lines: container, host, length.
        map: String,
    },
    /// The disk or quota is full.
    #[error("{call}: no space left: this file needs {missing} more bytes, {free} are free")]
    NoSpace {
        /// The call that was refused.
        call: String,
        /// Bytes of this file not yet written.
        missing: u64,
        /// Bytes the file system still has for us.
        free: u64,
    },
    /// More directories than any image has.
    #[error("more than {0} directories in one layer")]
    ManyDirs(usize),
    /// A system call.
    #[error(transparent)]
    Call(#[from] CallError),
}

impl UnpackError {
    pub(in crate::store) fn entry(path: &[u8], reason: Reason) -> Self {
        match reason {
            Reason::Read(source) => UnpackError::Read(source),
            reason => UnpackError::Entry {
                entry: text::escape_bytes(path),
                reason,
            },
        }
    }

    /// Whether the archive is to blame, rather than this machine.
    pub fn is_content(&self) -> bool {
        match self {
            UnpackError::Read(_) | UnpackError::Header { .. } => true,
            UnpackError::Root(_) => false,
            UnpackError::Entry { reason, .. } => !matches!(
                reason,
                Reason::Call(_) | Reason::NoSpace { .. } | Reason::Unmapped { .. }
            ),
        }
    }

    /// Whether the disk, or the user's quota of it, is full.
    pub fn is_full(&self) -> bool {
        match self {
            UnpackError::Root(call)
            | UnpackError::Entry {
                reason: Reason::Call(call),
                ..
            } => call.is_full(),
            UnpackError::Entry {
                reason: Reason::NoSpace { .. },
                ..
            } => true,
            _ => false,
        }
    }

    /// What to do about it, where that is known.
    pub fn hint(&self) -> Option<String> {
        match self {
            UnpackError::Entry {
                reason: Reason::Unmapped { kind, id, .. },
                ..
            } => {
                let (file, option) = match *kind {
                    "gid" => ("/etc/subgid", "--add-subgids"),
                    _ => ("/etc/subuid", "--add-subuids"),
                };
                Some(format!(
                    "the image needs ids up to {id}: give the user more in {file}, such as \
                     `usermod {option} FIRST-LAST USER`, or run with `--userns single`"
                ))
            }
            _ => None,
        }
    }
}
