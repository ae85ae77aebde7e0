//! Owner, mode, extended attributes and times of what was made.

use std::ffi::{CStr, CString};
use std::os::fd::BorrowedFd;

use rustix::fs::{AtFlags, FileType, Gid, Mode, Stat, Uid, XattrFlags};
use rustix::io::Errno;

use super::Copier;
use crate::sys::fs::{CallError, lchown, times};

/// The longest list of names and the longest value (linux/limits.h, `XATTR_LIST_MAX`,
/// `XATTR_SIZE_MAX`).
pub const XATTR_MAX: usize = 65536;
/// What has the capabilities of a file (capabilities(7), "File capability extensions").
const CAPABILITY: &[u8] = b"security.capability";
/// Set-user-id and set-group-id.
const SET_IDS: u32 = 0o6000;

/// Whether an extended attribute means the same in another place: the user's own, file capabilities
/// and access control lists; not those by which an overlay steers, nor labels of this host.
pub fn is_portable(name: &[u8]) -> bool {
    let steers = [&b"user.overlay."[..], b"user.fuseoverlayfs."];
    match name {
        CAPABILITY | b"system.posix_acl_access" | b"system.posix_acl_default" => true,
        _ => name.starts_with(b"user.") && !steers.iter().any(|p| name.starts_with(p)),
    }
}

impl Copier<'_> {
    /// Owner, mode, extended attributes and times of something open.
    pub(super) fn settle(
        &mut self,
        from: BorrowedFd<'_>,
        to: BorrowedFd<'_>,
        stat: &Stat,
        merged: bool,
        name: &CStr,
    ) -> Result<(), CallError> {
        let (uid, gid) = self.owner(stat);
        let changed = rustix::fs::fchown(to, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)));
        let owned = self.owned(changed, stat, name)?;
        let mode = mode(stat, owned && self.rules.set_ids);
        rustix::fs::fchmod(to, mode).map_err(self.failed("fchmod", name))?;
        self.xattrs(from, to, merged);
        rustix::fs::futimens(to, &times(stat)).map_err(self.failed("futimens", name))
    }

    /// The same for something that is not opened and has no extended attributes of a user's.
    pub(super) fn settle_name(
        &mut self,
        to: BorrowedFd<'_>,
        name: &CStr,
        stat: &Stat,
        has_mode: bool,
    ) -> Result<(), CallError> {
        let (uid, gid) = self.owner(stat);
        let changed = lchown(to, name.to_bytes(), uid, gid);
        let owned = self.owned(changed, stat, name)?;
        if has_mode {
            // The name was made here as no link; chmodat cannot refuse to follow one.
            let mode = mode(stat, owned && self.rules.set_ids);
            rustix::fs::chmodat(to, name, mode, AtFlags::empty())
                .map_err(self.failed("fchmodat", name))?;
        }
        rustix::fs::utimensat(to, name, &times(stat), AtFlags::SYMLINK_NOFOLLOW)
            .map_err(self.failed("utimensat", name))
    }

    /// Whose the copy becomes.
    fn owner(&self, stat: &Stat) -> (u32, u32) {
        (self.rules.owner)((stat.st_uid, stat.st_gid))
    }

    /// Whether the owner is kept.
    fn owned(
        &mut self,
        changed: rustix::io::Result<()>,
        stat: &Stat,
        name: &CStr,
    ) -> Result<bool, CallError> {
        match changed {
            Ok(()) => Ok(self.owner(stat) == (stat.st_uid, stat.st_gid)),
            Err(Errno::PERM | Errno::INVAL) => {
                let (uid, gid) = self.owner(stat);
                self.note(format!("owner {uid}:{gid} cannot be set"));
                Ok(false)
            }
            Err(errno) => Err(self.failed("fchown", name)(errno)),
        }
    }

    /// Copies the portable attributes; from a directory that was there before, others are taken off.
    fn xattrs(&mut self, from: BorrowedFd<'_>, to: BorrowedFd<'_>, merged: bool) {
        let wanted = self.list(from);
        if merged {
            for name in self.list(to) {
                if !wanted.contains(&name)
                    && let Err(errno) = rustix::fs::fremovexattr(to, &*name)
                {
                    self.xattr_lost(&name, errno);
                }
            }
        }
        for name in wanted {
            let got = rustix::fs::fgetxattr(from, &*name, &mut self.value[..]);
            let set = got.and_then(|length| {
                let length = match name.to_bytes() {
                    CAPABILITY if self.rules.own_capabilities => {
                        without_root(&mut self.value[..length])
                    }
                    _ => length,
                };
                rustix::fs::fsetxattr(to, &*name, &self.value[..length], XattrFlags::empty())
            });
            if let Err(errno) = set {
                self.xattr_lost(&name, errno);
            }
        }
    }

    /// The portable attributes of a file; none where the file system has none.
    fn list(&mut self, file: BorrowedFd<'_>) -> Vec<CString> {
        let length = rustix::fs::flistxattr(file, &mut self.names[..]).unwrap_or(0);
        let remembered = self.rules.remembered;
        self.names[..length]
            .split(|b| *b == 0)
            .filter(|name| !name.is_empty() && is_portable(name))
            .filter(|name| remembered || !name.starts_with(b"user.rl."))
            .filter_map(|name| CString::new(name).ok())
            .collect()
    }

    fn xattr_lost(&mut self, name: &CStr, errno: Errno) {
        let errno = nix::errno::Errno::from_raw(errno.raw_os_error());
        self.note(format!(
            "extended attribute `{}` is not kept: {errno}",
            name.to_string_lossy()
        ));
    }
}

/// Capabilities without the root that they count for, if they name one: version 3 becomes version 2
/// (linux/capability.h, `struct vfs_ns_cap_data`). Returns how long they are now.
fn without_root(value: &mut [u8]) -> usize {
    // The version is in the highest byte of the first number, and the root is the last one.
    let length = value.len();
    match value {
        [_, _, _, version @ 3, ..] if length == 24 => {
            *version = 2;
            20
        }
        _ => length,
    }
}

/// A set-user-id file whose owner is not kept would become one of another user. Of a directory the bits mean something else.
fn mode(stat: &Stat, set_ids: bool) -> Mode {
    let directory = FileType::from_raw_mode(stat.st_mode) == FileType::Directory;
    let lost = if set_ids || directory { 0 } else { SET_IDS };
    Mode::from_raw_mode(stat.st_mode & 0o7777 & !lost)
}
