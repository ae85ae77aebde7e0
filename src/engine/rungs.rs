//! The ladder of root file systems: the kernel's overlay, fuse-overlayfs, a copy. The next rung is
//! taken when the real mount of the one before was refused.

use std::path::{Path, PathBuf};

use crate::model::spec::{ContainerSpec, RootfsSource};
use crate::runtime::Rootfs;

/// A way to make `/`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rung {
    /// Overlay in the user namespace.
    Overlay,
    /// fuse-overlayfs.
    Fuse,
    /// All layers copied into one directory.
    Copy,
    /// A directory of the user's.
    Directory,
}

impl Rung {
    /// The rungs for a source, best first.
    pub fn ladder(source: &RootfsSource) -> &'static [Rung] {
        match source {
            RootfsSource::Layers { .. } => &[Rung::Overlay, Rung::Fuse, Rung::Copy],
            RootfsSource::Directory(_) => &[Rung::Directory],
        }
    }

    /// What a person calls it.
    pub fn name(self) -> &'static str {
        match self {
            Rung::Overlay => "overlay of the kernel",
            Rung::Fuse => "fuse-overlayfs",
            Rung::Copy => "copy of the layers",
            Rung::Directory => "directory",
        }
    }
}

/// The plan of a rung, for a container kept in `dir`.
pub fn rootfs(rung: Rung, spec: &ContainerSpec, dir: &Path) -> Rootfs {
    match (rung, &spec.rootfs) {
        (_, RootfsSource::Directory(path)) => Rootfs::Directory(path.clone()),
        (Rung::Overlay, RootfsSource::Layers { base, names }) => Rootfs::Overlay {
            base: base.clone(),
            lower: names.clone(),
            upper: dir.join("upper"),
            work: dir.join("work"),
            throw_away: spec.remove,
        },
        (Rung::Fuse, _) => Rootfs::Provided,
        (_, RootfsSource::Layers { .. }) => Rootfs::Directory(dir.join("upper")),
    }
}

/// What fuse-overlayfs is told.
pub fn fuse(spec: &ContainerSpec, dir: &Path) -> Option<fuse_overlayfs::Options> {
    let RootfsSource::Layers { base, names } = &spec.rootfs else {
        return None;
    };
    let lower: Vec<PathBuf> = names.iter().map(|n| base.join(n)).collect();
    Some(fuse_overlayfs::Options {
        lower,
        upper: Some((dir.join("upper"), dir.join("work"))),
        volatile: spec.remove,
        squash_to_root: spec.uid_map.len() == 1,
        extra: Vec::new(),
    })
}
