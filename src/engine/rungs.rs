//! The ladder of root file systems: the kernel's overlay, fuse-overlayfs, a copy.
//!
//! A rung is taken when the real mount of the one before was refused; what cannot even be tried
//! (no fuse-overlayfs program, no /dev/fuse) is passed over. A refused rung leaves nothing to the next
//! one. That the overlay was refused is remembered, so that later starts do not pay for the try: for
//! an hour, in this boot, in these namespaces, as long as the kernel knows the same file systems.
//!
//! A container in which something was written stays on the rung on which that was done: each leaves other marks of
//! what was removed, which the others would show as files, and none may empty what it holds.

use std::os::fd::AsFd as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{Context, Error, image_for};
use crate::model::spec::{ContainerSpec, RootfsSource};
use crate::monitor::wire::StartFailure;
use crate::runtime::Rootfs;
use crate::sys::fs::{Root, remove_tree};
use crate::{host, store, userns};

/// How long a refusal is believed. A person may have mended its cause meanwhile.
const BELIEVED: Duration = Duration::from_secs(3600);

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
    /// The machine's own root.
    Host,
}

impl Rung {
    /// What a person calls it.
    pub fn name(self) -> &'static str {
        match self {
            Rung::Overlay => "overlay of the kernel",
            Rung::Fuse => "fuse-overlayfs",
            Rung::Copy => "copy of the layers",
            Rung::Directory => "directory",
            Rung::Host => "this machine's own, read-only",
        }
    }
}

/// Where a start stands on the ladder.
#[derive(Debug)]
pub struct Ladder {
    rung: Rung,
    /// Why it is not one of those above, each with its name.
    why: Vec<String>,
    /// Something was tried and may have left traces.
    used: bool,
    /// The container has been written to on this rung.
    fixed: bool,
    /// The caller exists inside.
    mapped: bool,
    refusal: PathBuf,
}

impl Ladder {
    /// The best rung that there is a reason to try, for the container in the directory `dir`. `data` is where
    /// refusals are remembered.
    pub fn new(spec: &ContainerSpec, caller: &userns::Caller, data: &Path, dir: &Path) -> Ladder {
        let mapped = spec.uid_map.to_container(caller.uid).is_some()
            && spec.gid_map.to_container(caller.gid).is_some();
        let mut ladder = Ladder {
            rung: Rung::Overlay,
            why: Vec::new(),
            used: false,
            fixed: false,
            mapped,
            refusal: data.join("overlay-refused.json"),
        };
        match &spec.rootfs {
            RootfsSource::Directory(_) => ladder.rung = Rung::Directory,
            RootfsSource::Host => ladder.rung = Rung::Host,
            RootfsSource::Layers { base, names } => {
                let copied = names.iter().find(|name| store::is_for_copies(base, name));
                if !is_fresh(dir) {
                    ladder.fixed = true;
                    ladder.rung = match (is_copy(dir), is_fuse(dir)) {
                        (true, _) => Rung::Copy,
                        (_, true) => Rung::Fuse,
                        _ => Rung::Overlay,
                    };
                } else if let Some(name) = copied {
                    ladder.rung = Rung::Copy;
                    ladder.why.push(format!(
                        "layer {name} was unpacked on a file system that takes no whiteouts"
                    ));
                } else if let Some(why) = recall(&ladder.refusal) {
                    let name = ladder.rung.name();
                    ladder.why.push(format!("{name}, tried before: {why}"));
                    ladder.below_overlay();
                }
            }
        }
        ladder
    }

    /// The rung to try.
    pub fn rung(&self) -> Rung {
        self.rung
    }

    /// The rung and why it is this one, for who wants to know.
    pub fn told(&self) -> String {
        let mut text = format!("root file system: {}", self.rung.name());
        if !self.why.is_empty() {
            text.push_str(&format!(" ({})", self.why.join("; ")));
        }
        text
    }

    /// Goes down a step after the try failed like this; false when there is none.
    pub fn descend(&mut self, failure: &StartFailure) -> bool {
        if self.fixed {
            return false;
        }
        let why = failure.to_string();
        self.used = true;
        match self.rung {
            Rung::Overlay => {
                remember(&self.refusal, &why);
                self.why.push(format!("{}: {why}", self.rung.name()));
                self.below_overlay();
            }
            Rung::Fuse => {
                self.why.push(why);
                self.rung = Rung::Copy;
            }
            Rung::Copy | Rung::Directory | Rung::Host => return false,
        }
        true
    }

    /// Whether fuse-overlayfs can be had for views of a container that has some.
    pub fn serves(&self, spec: &ContainerSpec) -> bool {
        spec.views().next().is_some() && self.fuse().is_ok()
    }

    fn fuse(&self) -> Result<(), String> {
        match self.mapped {
            true => fuse_is_there(),
            // It runs as root inside and is told paths.
            false => Err(
                "fuse-overlayfs cannot enter the directories of a caller who is not mapped".into(),
            ),
        }
    }

    fn below_overlay(&mut self) {
        self.rung = match self.fuse() {
            Ok(()) => Rung::Fuse,
            Err(why) => {
                self.why.push(why);
                Rung::Copy
            }
        };
    }
}

/// Whether fuse-overlayfs can be tried, and if not, why, with what would help.
fn fuse_is_there() -> Result<(), String> {
    host::fuse(std::env::var_os("PATH").as_deref()).map_err(|obstacle| match obstacle.fix {
        Some(fix) => format!("{}: try `{}`", obstacle.why, fix.line),
        None => obstacle.why,
    })
}

/// Makes ready what the rung stands on.
///
/// # Errors
/// What an earlier try left cannot be removed, or the layers cannot be copied.
pub fn prepare(
    context: &Context<'_>,
    ladder: &Ladder,
    spec: &ContainerSpec,
    plan: &userns::Plan,
    dir: &Path,
) -> Result<(), Error> {
    if ladder.used {
        // What belongs to other ids can only be removed where these ids exist.
        if clean(dir).is_err() {
            image_for::inside(context, plan, || Ok(clean(dir)?))?;
        }
    }
    if ladder.rung == Rung::Copy && !is_copy(dir) {
        mark(dir, COPYING)?;
        image_for::copy(context, spec, plan, dir)?;
        mark(dir, COPIED)?;
    }
    if ladder.rung == Rung::Fuse {
        mark(dir, FUSED)?;
    }
    Ok(())
}

fn mark(dir: &Path, name: &str) -> Result<(), Error> {
    let path = dir.join(name);
    std::fs::write(&path, "").map_err(|source| Error::Write { path, source })
}

/// The same while that is made ready: what is in the upper directory may be a part of it.
const COPYING: &str = "copying";

/// A file in the directory of a container that stands on fuse-overlayfs.
const FUSED: &str = "fused";

/// Whether what a container has written was written by fuse-overlayfs.
pub fn is_fuse(dir: &Path) -> bool {
    dir.join(FUSED).exists()
}

/// Notes that it was.
///
/// # Errors
/// The note cannot be written.
pub fn mark_fuse(dir: &Path) -> Result<(), Error> {
    mark(dir, FUSED)
}

/// Whether nothing was written yet.
fn is_fresh(dir: &Path) -> bool {
    let entries = std::fs::read_dir(dir.join("upper"));
    let empty = entries.is_ok_and(|mut entries| entries.next().is_none());
    empty || (dir.join(COPYING).exists() && !is_copy(dir))
}

/// A file in the directory of a container that stands on the last rung.
const COPIED: &str = "copied";

/// Whether the upper directory of a container is a copy of its layers.
pub fn is_copy(dir: &Path) -> bool {
    dir.join(COPIED).exists()
}

/// Empties the directories that a refused overlay may have used; they keep their owners.
fn clean(dir: &Path) -> Result<(), store::StoreError> {
    for name in ["upper", "work"] {
        let path = dir.join(name);
        let call = || format!("readdir(`{}`)", path.display());
        let root = Root::open(&path)?;
        for entry in std::fs::read_dir(&path).map_err(store::StoreError::io(call))? {
            let entry = entry.map_err(store::StoreError::io(call))?;
            remove_tree(root.as_fd(), entry.file_name().as_bytes())?;
        }
    }
    Ok(())
}

/// A refusal on disk.
#[derive(Serialize, Deserialize)]
struct Refusal {
    /// Under which circumstances.
    place: String,
    /// What the kernel said.
    why: String,
}

/// What the answer may depend on: boot, kernel, the namespaces we are in, the file systems known.
fn place() -> String {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let namespace = |kind: &str| {
        let meta = std::fs::metadata(format!("/proc/self/ns/{kind}"));
        meta.map_or(0, |m| m.ino())
    };
    let overlay = read("/proc/filesystems")
        .lines()
        .any(|line| line.split_whitespace().last() == Some("overlay"));
    format!(
        "{} {} user:{} mnt:{} overlay:{overlay}",
        read("/proc/sys/kernel/random/boot_id").trim(),
        rustix::system::uname().release().to_string_lossy(),
        namespace("user"),
        namespace("mnt"),
    )
}

/// Why the overlay was refused, if it was lately and nothing has changed.
fn recall(path: &Path) -> Option<String> {
    let age = std::fs::metadata(path).ok()?.modified().ok()?.elapsed();
    let refusal: Refusal = serde_json::from_slice(&std::fs::read(path).ok()?).ok()?;
    (age.ok()? < BELIEVED && refusal.place == place()).then_some(refusal.why)
}

/// Remembers a refusal; that it cannot be written costs a try the next time, nothing else.
fn remember(path: &Path, why: &str) {
    let refusal = Refusal {
        place: place(),
        why: why.to_owned(),
    };
    let temporary = path.with_extension(format!("{}.tmp", std::process::id()));
    if let Ok(bytes) = serde_json::to_vec(&refusal)
        && std::fs::write(&temporary, bytes)
            .and_then(|()| std::fs::rename(&temporary, path))
            .is_err()
    {
        let _ = std::fs::remove_file(&temporary);
    }
}

/// The plan of a rung, for a container kept in `dir`.
pub fn rootfs(rung: Rung, spec: &ContainerSpec, dir: &Path) -> Rootfs {
    match (rung, &spec.rootfs) {
        (_, RootfsSource::Directory(path)) => Rootfs::Directory(path.clone()),
        (_, RootfsSource::Host) => Rootfs::Host,
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
        squash_to_root: userns::is_root_alone(&spec.uid_map),
        extra: Vec::new(),
    })
}
