//! Owner, mode, extended attributes and times of what was made.

use std::collections::HashSet;
use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{AtFlags, Gid, Mode, OFlags, Timespec, Timestamps, Uid, XattrFlags};
use rustix::io::Errno;

use super::dirs::call;
use super::stream::{Entry, Kind};
use super::{Owners, Reason, Unpacker};
use crate::model::text::escape_bytes;
use crate::sys::fs::{CallError, Root};

/// Directories whose attributes wait for the end, at most: what bounds the memory of an archive that
/// lists nothing but directories.
const MOST_DIRS: usize = 500_000;
/// `UID:GID:MODE` in decimal, decimal and octal, when the owner could not be set.
const OWNER_XATTR: &str = "user.rl.owner";
/// Set-user-id and set-group-id.
pub(in crate::store) const SET_IDS: u32 = 0o6000;

/// A directory whose mode, attributes and times are set at the end.
pub(super) struct Later {
    pub path: Vec<u8>,
    mode: u32,
    mtime: (i64, u32),
    xattrs: Vec<(Vec<u8>, Vec<u8>)>,
}

impl Later {
    pub(super) fn of(path: Vec<u8>, entry: &Entry, mode: u32) -> Self {
        Later {
            path,
            mode,
            mtime: entry.mtime,
            xattrs: entry.xattrs.clone(),
        }
    }
}

/// Who owns new files below `root`. A setgid bit that the directory inherited is taken off, since
/// with it the group of new files would follow their directory.
pub(super) fn own_ids(root: &Root) -> Result<(u32, u32), CallError> {
    let stat = rustix::fs::fstat(root).map_err(CallError::of(|| "fstat(root)".to_owned()))?;
    if stat.st_mode & 0o2000 != 0 {
        rustix::fs::fchmod(root, Mode::RWXU)
            .map_err(CallError::of(|| "fchmod(root, 0700)".to_owned()))?;
    }
    Ok((
        rustix::process::geteuid().as_raw(),
        rustix::process::getegid().as_raw(),
    ))
}

fn times(mtime: (i64, u32)) -> Timestamps {
    let time = Timespec {
        tv_sec: mtime.0,
        tv_nsec: mtime.1.into(),
    };
    Timestamps {
        last_access: time,
        last_modification: time,
    }
}

impl Unpacker<'_> {
    /// The ids to set for an entry, `None` when only the attribute remembers them.
    pub(super) fn ids(&self, entry: &Entry) -> Result<Option<(u32, u32)>, Reason> {
        let Owners::Kept { uid, gid } = self.owners else {
            return Ok(None);
        };
        let check = |kind, id: u64, map: &crate::model::IdMap| {
            u32::try_from(id)
                .ok()
                .filter(|&id| map.to_host(id).is_some())
                .ok_or_else(|| Reason::Unmapped {
                    kind,
                    id,
                    map: map.to_proc().trim_end().replace('\n', ", "),
                })
        };
        Ok(Some((
            check("uid", entry.uid, uid)?,
            check("gid", entry.gid, gid)?,
        )))
    }

    /// The mode to set: a setuid file whose owner is not kept would become setuid to another user.
    pub(super) fn mode(&self, entry: &Entry) -> u32 {
        let foreign = *self.owners == Owners::Remembered && (entry.uid, entry.gid) != (0, 0);
        if foreign && entry.kind != Kind::Directory {
            entry.mode & !SET_IDS
        } else {
            entry.mode
        }
    }

    /// Owner, mode, attributes and times of an open regular file.
    pub(super) fn set_file(&mut self, file: &OwnedFd, entry: &Entry) -> Result<(), Reason> {
        let name = &entry.path[..];
        if let Some((uid, gid)) = self.ids(entry)?.filter(|ids| *ids != self.own) {
            rustix::fs::fchown(file, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)))
                .map_err(call("fchown", name))?;
        }
        let mode = Mode::from_raw_mode(self.mode(entry));
        rustix::fs::fchmod(file, mode).map_err(call("fchmod", name))?;
        self.set_xattrs(file, &entry.xattrs);
        self.remember_owner(file, entry);
        rustix::fs::futimens(file, &times(entry.mtime)).map_err(call("futimens", name))
    }

    /// Owner, mode (not of links) and times of something that is not opened.
    pub(super) fn set_node(
        &mut self,
        parent: &OwnedFd,
        name: &[u8],
        entry: &Entry,
    ) -> Result<(), Reason> {
        self.set_owner(parent, name, entry)?;
        if entry.kind != Kind::Symlink {
            super::dirs::set_mode(parent, name, self.mode(entry))?;
        }
        if !entry.xattrs.is_empty() {
            self.note("extended attributes of links and FIFOs are not kept".to_owned());
        }
        rustix::fs::utimensat(parent, name, &times(entry.mtime), AtFlags::SYMLINK_NOFOLLOW)
            .map_err(call("utimensat", name))
    }

    /// Owner of `name`, never through a link.
    pub(super) fn set_owner(
        &self,
        parent: &OwnedFd,
        name: &[u8],
        entry: &Entry,
    ) -> Result<(), Reason> {
        match self.ids(entry)? {
            Some((uid, gid)) => crate::sys::fs::lchown(parent.as_fd(), name, uid, gid)
                .map_err(call("fchownat", name)),
            None => Ok(()),
        }
    }

    /// Puts a directory on the list of those finished at the end.
    pub(super) fn dir_later(&mut self, path: Vec<u8>, entry: &Entry) -> Result<(), Reason> {
        if self.later.len() >= MOST_DIRS {
            return Err(Reason::ManyDirs(MOST_DIRS));
        }
        let mode = self.mode(entry);
        self.later.push(Later::of(path, entry, mode));
        Ok(())
    }

    /// Finishes the directories, last first: a parent may be about to become unreadable, and of two
    /// entries for one directory the later counts.
    pub(super) fn settle_dirs(&mut self) -> Result<(), (Vec<u8>, Reason)> {
        let mut done = HashSet::new();
        for later in std::mem::take(&mut self.later).into_iter().rev() {
            self.settle_dir(&later, &mut done)
                .map_err(|reason| (later.path, reason))?;
        }
        Ok(())
    }

    fn settle_dir(&mut self, later: &Later, done: &mut HashSet<(u64, u64)>) -> Result<(), Reason> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW;
        let dir = match self
            .dirs
            .root
            .open_in_root(&later.path, flags, Mode::empty())
        {
            Ok(dir) => dir,
            // A later entry replaced it.
            Err(e) if matches!(e.errno, Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => {
                return Ok(());
            }
            Err(e) => return Err(e.into()),
        };
        let stat = rustix::fs::fstat(&dir).map_err(call("fstat", &later.path))?;
        if !done.insert((stat.st_dev, stat.st_ino)) {
            return Ok(());
        }
        self.set_xattrs(&dir, &later.xattrs);
        rustix::fs::fchmod(&dir, Mode::from_raw_mode(later.mode))
            .map_err(call("fchmod", &later.path))?;
        rustix::fs::futimens(&dir, &times(later.mtime)).map_err(call("futimens", &later.path))
    }

    /// Writes the owner down where it cannot be set.
    pub(super) fn remember_owner(&mut self, file: &OwnedFd, entry: &Entry) {
        if *self.owners != Owners::Remembered || (entry.uid, entry.gid) == (0, 0) {
            return;
        }
        let text = format!("{}:{}:{:o}", entry.uid, entry.gid, entry.mode);
        if let Err(errno) =
            rustix::fs::fsetxattr(file, OWNER_XATTR, text.as_bytes(), XattrFlags::empty())
        {
            self.xattr_lost(OWNER_XATTR.as_bytes(), errno);
        }
    }

    /// Sets the attributes that may come from an image. One that cannot be set is noted: the file
    /// system has no place for it, or the user namespace no right to it, and the rest of the image is
    /// still good.
    pub(super) fn set_xattrs(&mut self, file: impl AsFd, xattrs: &[(Vec<u8>, Vec<u8>)]) {
        for (name, value) in xattrs {
            let Some(value) = allowed(name, value) else {
                continue;
            };
            if name.contains(&0) {
                continue;
            }
            if let Err(errno) =
                rustix::fs::fsetxattr(&file, &name[..], value.as_ref(), XattrFlags::empty())
            {
                self.xattr_lost(name, errno);
            }
        }
    }

    fn xattr_lost(&mut self, name: &[u8], errno: Errno) {
        let errno = nix::errno::Errno::from_raw(errno.raw_os_error());
        self.note(format!(
            "extended attribute `{}` is not kept: {errno}",
            escape_bytes(name)
        ));
    }
}

/// The value to set for an attribute of an image, `None` for one that must not be set: those by which
/// overlay and this store steer, and those that mean something to this host alone.
fn allowed<'a>(name: &[u8], value: &'a [u8]) -> Option<std::borrow::Cow<'a, [u8]>> {
    const PRIVATE: [&[u8]; 4] = [
        b"user.overlay.",
        b"user.rl.",
        b"user.fuseoverlayfs.",
        b"user.containers.",
    ];
    if name == b"security.capability" {
        return Some(capability(value));
    }
    let acl = matches!(
        name,
        b"system.posix_acl_access" | b"system.posix_acl_default"
    );
    let user = name.starts_with(b"user.") && !PRIVATE.iter().any(|p| name.starts_with(p));
    (acl || user).then_some(value.into())
}

/// A file capability without a namespace: revision 3 carries the root id of the machine it was made
/// on (linux/capability.h, `vfs_ns_cap_data`); cut to revision 2, the kernel puts in the id of the
/// user namespace we run in.
fn capability(value: &[u8]) -> std::borrow::Cow<'_, [u8]> {
    const REVISION: std::ops::Range<usize> = 3..4;
    if value.len() == 24 && value[REVISION] == [3] {
        let mut second = value[..20].to_vec();
        second[REVISION.start] = 2;
        return second.into();
    }
    value.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steering_attributes_are_dropped() {
        for name in [
            "user.overlay.opaque",
            "user.overlay.redirect",
            "user.rl.owner",
            "user.fuseoverlayfs.opaque",
            "trusted.overlay.opaque",
            "security.selinux",
            "security.ima",
            "system.nfs4_acl",
        ] {
            assert!(allowed(name.as_bytes(), b"y").is_none(), "{name}");
        }
        for name in ["user.a", "security.capability", "system.posix_acl_access"] {
            assert!(allowed(name.as_bytes(), b"y").is_some(), "{name}");
        }
    }

    #[test]
    fn capabilities_lose_their_foreign_root() {
        let mut third = [0u8; 24];
        third[..4].copy_from_slice(&0x0300_0001u32.to_le_bytes());
        third[20] = 99;
        let second = capability(&third);
        assert_eq!(second.len(), 20);
        assert_eq!(second[..4], 0x0200_0001u32.to_le_bytes());
    }
}
