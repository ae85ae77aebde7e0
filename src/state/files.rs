//! Files, locks and facts of the kernel that a container's directory rests on.

use std::fs::File;
use std::io::{ErrorKind, Read as _, Write as _};
use std::os::fd::AsFd as _;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use rustix::io::Errno;
use serde::Deserialize;

use super::Error;

pub(super) fn io<'a>(call: &'static str, path: &'a Path) -> impl Fn(std::io::Error) -> Error + 'a {
    move |source| Error::Io {
        call,
        path: path.to_owned(),
        source,
    }
}

/// Removes a directory with all that is in it, however deep, and though overlay leaves its work directory without any
/// permission; no error if it is not there.
pub(super) fn remove_tree(path: &Path) -> Result<(), Error> {
    // Some of it goes meanwhile where somebody else removes it too.
    const TRIES: usize = 8;
    let parent = path.parent().unwrap_or(path);
    let name = path.file_name().unwrap_or_default();
    let mut done = Ok(());
    for _ in 0..TRIES {
        let parent = match File::open(parent) {
            Err(e) if e.kind() == ErrorKind::NotFound => return Ok(()),
            other => other.map_err(io("open", parent))?,
        };
        done = crate::sys::fs::remove_tree(parent.as_fd(), name.as_bytes());
        if !matches!(&done, Err(error) if error.errno == Errno::NOENT) {
            break;
        }
    }
    done.map_err(|error| io("remove", path)(error.errno.into()))
}

pub(super) fn lock_file(dir: &Path) -> Option<File> {
    File::open(dir.join("lock")).ok()
}

/// Takes the whole-file lock of this open file description (fcntl_locking(2), F_OFD_SETLK): it passes
/// on at fork, and it can be asked for without being taken, so a look never disturbs an owner.
pub(super) fn try_lock(file: &File) -> bool {
    let want = whole_file(libc::F_WRLCK);
    nix::fcntl::fcntl(file, nix::fcntl::FcntlArg::F_OFD_SETLK(&want)).is_ok()
}

/// Whether some process holds the lock.
pub(super) fn is_locked(file: &File) -> bool {
    let mut probe = whole_file(libc::F_WRLCK);
    let asked = nix::fcntl::fcntl(file, nix::fcntl::FcntlArg::F_OFD_GETLK(&mut probe));
    asked.is_ok() && i32::from(probe.l_type) != libc::F_UNLCK
}

pub(super) fn whole_file(kind: i32) -> libc::flock {
    libc::flock {
        l_type: kind as libc::c_short,
        l_whence: libc::SEEK_SET as libc::c_short,
        l_start: 0,
        l_len: 0,
        l_pid: 0,
    }
}

pub(super) fn make_dir(path: &Path) -> Result<(), Error> {
    private(path).map_err(io("mkdir", path))
}

/// Makes a directory, and those above it that are missing, for no other user.
///
/// # Errors
/// Those of mkdir(2).
pub fn private(path: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::DirBuilderExt as _;
    let mut builder = std::fs::DirBuilder::new();
    builder.recursive(true).mode(0o700).create(path)
}

pub(super) fn read_json<T: for<'a> Deserialize<'a>>(path: &Path) -> Result<T, Error> {
    let mut buffer = Vec::new();
    let text = File::open(path)
        .and_then(|file| read_small(&file, &mut buffer))
        .map_err(io("read", path))?;
    // A file that grew before what is in it came to the disk is filled up with zeros.
    let filled = text
        .iter()
        .rposition(|byte| *byte != 0)
        .map_or(0, |n| n + 1);
    serde_json::from_slice(&text[..filled]).map_err(|e| match e.is_eof() {
        true => Error::Torn(path.to_owned()),
        false => Error::Damaged {
            path: path.to_owned(),
            reason: e.to_string(),
        },
    })
}

/// A file that most often fits into one read: lists have hundreds of them, and asking for sizes and ends costs as
/// much as reading.
pub(super) fn read_small<'a>(
    mut file: &File,
    buffer: &'a mut Vec<u8>,
) -> std::io::Result<&'a [u8]> {
    const USUAL: usize = 16 << 10;
    if buffer.is_empty() {
        buffer.resize(USUAL, 0);
    }
    let mut filled = 0;
    loop {
        let n = match file.read(&mut buffer[filled..]) {
            Err(e) if e.kind() == ErrorKind::Interrupted => continue,
            other => other?,
        };
        filled += n;
        // Less than there was room for: a regular file ends there.
        if filled < buffer.len() {
            return Ok(&buffer[..filled]);
        }
        buffer.resize(buffer.len() * 2, 0);
    }
}

pub(super) fn now() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.map_or(0, |d| d.as_secs())
}

pub(super) fn boot_id() -> String {
    let id = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    id.trim().to_owned()
}

pub(super) fn start_time(pid: i32) -> Option<u64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name in parentheses may hold anything: count from the last one.
    stat.rsplit(')')
        .next()?
        .split_whitespace()
        .nth(19)?
        .parse()
        .ok()
}

/// Replaces a file atomically, and returns it, with a [lock](try_lock) that it has from when it can be found. With `sync` what
/// is in it is on disk before it has the name, so that a power cut leaves the old file or the new one; that it is the new
/// one is only sure after [`sync_dir`].
pub(super) fn replace(
    dir: &Path,
    name: &str,
    value: &impl serde::Serialize,
    sync: bool,
) -> Result<File, Error> {
    let path = dir.join(name);
    let temporary = dir.join(format!(".{name}.{}.tmp", std::process::id()));
    let bytes = encoded(&path, value)?;
    let mut file = File::create(&temporary).map_err(io("create", &temporary))?;
    let mut put = || {
        file.write_all(&bytes).map_err(io("write", &temporary))?;
        if sync {
            file.sync_data().map_err(io("fdatasync", &temporary))?;
        }
        try_lock(&file);
        std::fs::rename(&temporary, &path).map_err(io("rename", &path))
    };
    let done = put().inspect_err(|_| drop(std::fs::remove_file(&temporary)));
    done.map(|()| file)
}

/// Whether there is no room for more.
pub(super) fn is_full(error: &std::io::Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded
    )
}

/// Writes over what is in a file, where it has its room already: the last resort on a full disk, because a power cut in
/// the middle leaves neither the old nor the new. In one write(2), filled up with blanks to what it was. Returns it with
/// a [lock](try_lock), unless it has one.
pub(super) fn overwrite(
    dir: &Path,
    name: &str,
    value: &impl serde::Serialize,
    sync: bool,
) -> Result<File, Error> {
    let path = dir.join(name);
    let mut bytes = encoded(&path, value)?;
    let mut put = || {
        let mut file = File::options().write(true).open(&path)?;
        let length = usize::try_from(file.metadata()?.len()).unwrap_or(0);
        bytes.resize(bytes.len().max(length), b' ');
        try_lock(&file);
        file.write_all(&bytes)?;
        if sync {
            file.sync_data()?;
        }
        Ok(file)
    };
    put().map_err(io("write", &path))
}

fn encoded(path: &Path, value: &impl serde::Serialize) -> Result<Vec<u8>, Error> {
    serde_json::to_vec(value).map_err(|e| Error::Damaged {
        path: path.to_owned(),
        reason: e.to_string(),
    })
}

/// Waits until the names in a directory are on disk: fsync(2) of a file does not include its name.
///
/// # Errors
/// [`Error::Io`].
pub fn sync_dir(path: &Path) -> Result<(), Error> {
    let dir = File::open(path).map_err(io("open", path))?;
    dir.sync_all().map_err(io("fsync", path))
}
