//! Packing a directory into a tar, the other way round from [`super::unpack`].
//!
//! The format is that of POSIX.1-2001 (pax): a ustar header, and before it a record of whatever does not fit in:
//! long names, large numbers, parts of seconds, extended attributes (`SCHILY.xattr.NAME`, as all tools of this
//! field write them). The walk goes by descriptors, one component at a time and never through a link, so a tree
//! that changes meanwhile leads nowhere else. Each directory comes before what is in it, names in order, so the
//! same tree gives the same archive.
//!
//! | on disk | in the archive |
//! | --- | --- |
//! | a second name of a file | a hard link to the first |
//! | `user.rl.rdev` on a file | the device node that could not be made |
//! | `user.rl.owner` | the owner and mode that could not be given |
//! | character device 0:0, of a writable layer | `.wh.NAME` |
//! | `user.overlay.opaque=y`, of a writable layer | `.wh..wh..opq` in the directory |
//! | `.wh.NAME`, of a writable layer of fuse-overlayfs | the same |
//! | sockets | left out, with a note |
//! | `user.overlay.*`, `user.rl.*`, labels of this host | left out |

use std::collections::{BTreeSet, HashMap};
use std::ffi::{CStr, CString};
use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{AtFlags, FileType, Mode, OFlags, Stat, major, minor};
use rustix::io::Errno;
use tar::{EntryType, Header};

use super::unpack::SET_IDS;
use crate::model::text::escape_bytes;
use crate::sys::copy::{XATTR_MAX, is_portable};
use crate::sys::fs::{CallError, is_opaque, is_whiteout};

/// The largest id that seven octal digits hold.
const ID_MAX: u32 = 0o7_777_777;
/// The largest size that eleven octal digits hold.
const SIZE_MAX: u64 = 0o77_777_777_777;
const BLOCK: u64 = 512;
/// Notes of one kind each, at most.
const MOST_NOTES: usize = 32;

/// What can go wrong.
#[derive(Debug, thiserror::Error)]
pub enum PackError {
    /// The tree cannot be read.
    #[error(transparent)]
    Tree(#[from] CallError),
    /// The archive cannot be written.
    #[error("write(archive): {0}")]
    Write(#[source] io::Error),
}

/// How a tree is packed.
pub struct Rules<'a> {
    /// It is the writable layer of an overlay: its marks become those of an image's layer.
    pub layer: bool,
    /// Paths (below the top, without a slash in front) that are left out when they are empty files or directories:
    /// made for something to be mounted on.
    pub points: &'a dyn Fn(&[u8]) -> bool,
}

impl Rules<'static> {
    /// A tree that is what it looks like.
    pub const PLAIN: Rules<'static> = Rules {
        layer: false,
        points: &|_| false,
    };
}

/// Writes one archive.
pub struct Packer<'a, W> {
    out: W,
    rules: Rules<'a>,
    /// Files with several names, by the first.
    links: HashMap<(u64, u64), Vec<u8>>,
    buffer: Vec<u8>,
    notes: Vec<String>,
}

/// A directory whose entries are being packed.
struct Level {
    dir: OwnedFd,
    names: std::collections::btree_set::IntoIter<CString>,
    /// The length of the path above it.
    above: usize,
}

impl<'a, W: Write> Packer<'a, W> {
    /// An archive that goes to `out`.
    pub fn new(out: W, rules: Rules<'a>) -> Self {
        Packer {
            out,
            rules,
            links: HashMap::new(),
            buffer: vec![0; 256 << 10],
            notes: Vec::new(),
        }
    }

    /// Ends the archive and returns what it went to, and what could not be kept.
    ///
    /// # Errors
    /// [`PackError::Write`].
    pub fn finish(mut self) -> Result<(W, Vec<String>), PackError> {
        let end = self.out.write_all(&[0; 2 * BLOCK as usize]);
        end.and_then(|()| self.out.flush())
            .map_err(PackError::Write)?;
        Ok((self.out, self.notes))
    }

    /// All that is in `dir`, under the names it has there; with `root` an entry `./` for the directory itself.
    ///
    /// # Errors
    /// [`PackError`].
    pub fn tree(&mut self, dir: BorrowedFd<'_>, root: bool) -> Result<(), PackError> {
        let dir = open_dir(dir, c".", b".")?;
        if root {
            let stat = rustix::fs::fstat(&dir).map_err(failed("fstat", b"."))?;
            self.header(b"./", Some(dir.as_fd()), &stat, Target::None)?;
        }
        self.below(dir, Vec::new())
    }

    /// What is called `name` in `dir`, as `path`, with all below it.
    ///
    /// # Errors
    /// [`PackError`].
    pub fn entry(
        &mut self,
        dir: BorrowedFd<'_>,
        name: &CStr,
        path: &[u8],
    ) -> Result<(), PackError> {
        match self.one(dir, name, path)? {
            Some(below) => self.below(below, path.to_vec()),
            None => Ok(()),
        }
    }

    fn below(&mut self, dir: OwnedFd, mut path: Vec<u8>) -> Result<(), PackError> {
        let names = names(&dir, &path)?.into_iter();
        if !path.is_empty() {
            path.push(b'/');
        }
        let above = path.len();
        let mut stack = vec![Level { dir, names, above }];
        while let Some(level) = stack.last_mut() {
            path.truncate(level.above);
            let Some(name) = level.names.next() else {
                stack.pop();
                continue;
            };
            path.extend_from_slice(name.to_bytes());
            if let Some(dir) = self.one(level.dir.as_fd(), &name, &path)? {
                let names = self::names(&dir, &path)?.into_iter();
                path.push(b'/');
                let above = path.len();
                stack.push(Level { dir, names, above });
            }
        }
        Ok(())
    }

    /// One entry; a directory is returned, opened, for what is in it.
    fn one(
        &mut self,
        dir: BorrowedFd<'_>,
        name: &CStr,
        path: &[u8],
    ) -> Result<Option<OwnedFd>, PackError> {
        let stat = rustix::fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW)
            .map_err(failed("fstatat", path))?;
        let kind = FileType::from_raw_mode(stat.st_mode);
        if self.rules.layer && is_whiteout(&stat) {
            self.mark(&with_name(path, b".wh.", name.to_bytes()))?;
            return Ok(None);
        }
        match kind {
            FileType::Socket => {
                self.note(format!("the socket `{}` is left out", escape_bytes(path)));
                return Ok(None);
            }
            FileType::Directory => return self.directory(dir, name, path, &stat),
            _ => {}
        }
        if kind == FileType::RegularFile && stat.st_size == 0 && (self.rules.points)(path) {
            return Ok(None);
        }
        if stat.st_nlink > 1 {
            let known = self.links.get(&(stat.st_dev, stat.st_ino)).cloned();
            if let Some(first) = known {
                self.link_entry(dir, name, path, &first, &stat)?;
                return Ok(None);
            }
            self.links.insert((stat.st_dev, stat.st_ino), path.to_vec());
        }
        match kind {
            FileType::RegularFile => self.file(dir, name, path)?,
            FileType::Symlink => {
                let target = rustix::fs::readlinkat(dir, name, Vec::new())
                    .map_err(failed("readlinkat", path))?;
                self.header(path, None, &stat, Target::Symbolic(target.to_bytes()))?;
            }
            _ => {
                self.header(path, None, &stat, Target::None)?;
            }
        }
        Ok(None)
    }

    fn directory(
        &mut self,
        dir: BorrowedFd<'_>,
        name: &CStr,
        path: &[u8],
        stat: &Stat,
    ) -> Result<Option<OwnedFd>, PackError> {
        let opened = open_dir(dir, name, path)?;
        if (self.rules.points)(path) && names(&opened, path)?.is_empty() {
            return Ok(None);
        }
        let mut shown = path.to_vec();
        shown.push(b'/');
        self.header(&shown, Some(opened.as_fd()), stat, Target::None)?;
        if self.rules.layer && is_opaque(opened.as_fd()) {
            shown.extend_from_slice(b".wh..wh..opq");
            self.mark(&shown)?;
        }
        Ok(Some(opened))
    }

    fn file(&mut self, dir: BorrowedFd<'_>, name: &CStr, path: &[u8]) -> Result<(), PackError> {
        let (file, stat) = open_file(dir, name, path)?;
        if !self.header(path, Some(file.as_fd()), &stat, Target::None)? {
            return Ok(());
        }
        let size = stat.st_size as u64;
        let mut left = size;
        while left > 0 {
            let most = self
                .buffer
                .len()
                .min(usize::try_from(left).unwrap_or(usize::MAX));
            match rustix::io::read(&file, &mut self.buffer[..most]) {
                Err(Errno::INTR) => {}
                Err(errno) => return Err(failed("read", path)(errno).into()),
                // It was cut short meanwhile; the header has promised more.
                Ok(0) => {
                    self.note(format!("`{}` became shorter meanwhile", escape_bytes(path)));
                    self.zeros(left)?;
                    left = 0;
                }
                Ok(n) => {
                    self.out
                        .write_all(&self.buffer[..n])
                        .map_err(PackError::Write)?;
                    left -= n as u64;
                }
            }
        }
        self.zeros(size.next_multiple_of(BLOCK) - size)
    }

    fn zeros(&mut self, mut count: u64) -> Result<(), PackError> {
        let zeros = [0u8; 4096];
        while count > 0 {
            let n = count.min(zeros.len() as u64);
            self.out
                .write_all(&zeros[..n as usize])
                .map_err(PackError::Write)?;
            count -= n;
        }
        Ok(())
    }

    fn note(&mut self, text: String) {
        if self.notes.len() < MOST_NOTES && !self.notes.contains(&text) {
            self.notes.push(text);
        }
    }

    /// An empty file of root's: the marks of a layer (image-spec, layer.md, "Whiteouts").
    fn mark(&mut self, path: &[u8]) -> Result<(), PackError> {
        let mut header = Header::new_ustar();
        header.set_entry_type(EntryType::Regular);
        header.set_mode(0);
        self.put(header, path, b"", Records::default())
    }

    /// Another name of what is there as `first`. It comes with all attributes once more: docker and containerd give
    /// a file those of each of its names.
    fn link_entry(
        &mut self,
        dir: BorrowedFd<'_>,
        name: &CStr,
        path: &[u8],
        first: &[u8],
        stat: &Stat,
    ) -> Result<(), PackError> {
        let first = Target::Hard(first);
        if FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile {
            let (file, stat) = open_file(dir, name, path)?;
            self.header(path, Some(file.as_fd()), &stat, first)?;
        } else {
            self.header(path, None, stat, first)?;
        }
        Ok(())
    }

    /// The header of what is open as `file`, or has no attributes but its status. Whether data follows.
    fn header(
        &mut self,
        path: &[u8],
        file: Option<BorrowedFd<'_>>,
        stat: &Stat,
        target: Target<'_>,
    ) -> Result<bool, PackError> {
        let mut header = Header::new_ustar();
        let mut records = Records::default();
        let mut owner = (stat.st_uid, stat.st_gid, stat.st_mode & 0o7777);
        let mut device = None;
        if let Some(file) = file {
            for (name, value) in self.xattrs(file, path)? {
                match name.to_bytes() {
                    b"user.rl.owner" => {
                        let noted = parse_owner(&value);
                        owner = noted.map_or(owner, |(uid, gid, mode)| {
                            (uid, gid, noted_mode(mode, stat.st_mode))
                        });
                    }
                    b"user.rl.rdev" => device = parse_device(&value),
                    own if own.starts_with(b"user.rl.") => {}
                    other => records.push(&with_name(b"", b"SCHILY.xattr.", other), &value),
                }
            }
        }
        let kind = FileType::from_raw_mode(stat.st_mode);
        if matches!(kind, FileType::CharacterDevice | FileType::BlockDevice) {
            let letter = if kind == FileType::CharacterDevice {
                b'c'
            } else {
                b'b'
            };
            device = Some((letter, major(stat.st_rdev), minor(stat.st_rdev)));
        }
        let hard = matches!(target, Target::Hard(_));
        header.set_entry_type(match (kind, device) {
            _ if hard => EntryType::Link,
            (_, Some((b'c', ..))) => EntryType::Char,
            (_, Some(_)) => EntryType::Block,
            (FileType::Directory, _) => EntryType::Directory,
            (FileType::Symlink, _) => EntryType::Symlink,
            (FileType::Fifo, _) => EntryType::Fifo,
            _ => EntryType::Regular,
        });
        if let Some((_, major, minor)) = device {
            let set = header.set_device_major(major);
            set.and_then(|()| header.set_device_minor(minor))
                .map_err(PackError::Write)?;
        }
        let (uid, gid, mode) = owner;
        header.set_mode(mode);
        for (id, key, is_user) in [(uid, b"uid", true), (gid, b"gid", false)] {
            let shown = if id > ID_MAX { 0 } else { u64::from(id) };
            match is_user {
                true => header.set_uid(shown),
                false => header.set_gid(shown),
            }
            if id > ID_MAX {
                records.push(key, id.to_string().as_bytes());
            }
        }
        let data = kind == FileType::RegularFile && device.is_none() && !hard;
        if data {
            let size = stat.st_size as u64;
            header.set_size(if size > SIZE_MAX { 0 } else { size });
            if size > SIZE_MAX {
                records.push(b"size", size.to_string().as_bytes());
            }
        }
        let (seconds, nanoseconds) = (stat.st_mtime, stat.st_mtime_nsec);
        header.set_mtime(u64::try_from(seconds).unwrap_or(0));
        if nanoseconds != 0 || seconds < 0 || seconds as u64 > SIZE_MAX {
            records.push(b"mtime", decimal(seconds, nanoseconds).as_bytes());
        }
        self.put(header, path, target.text(), records)?;
        Ok(data)
    }

    /// The portable attributes, in order; none where the file system has none.
    fn xattrs(
        &mut self,
        file: BorrowedFd<'_>,
        path: &[u8],
    ) -> Result<Vec<(CString, Vec<u8>)>, PackError> {
        let buffer = &mut self.buffer[..XATTR_MAX];
        let length = match rustix::fs::flistxattr(file, &mut *buffer) {
            Ok(length) => length,
            Err(Errno::OPNOTSUPP | Errno::BADF) => 0,
            Err(errno) => return Err(failed("flistxattr", path)(errno).into()),
        };
        let mut names: Vec<CString> = buffer[..length]
            .split(|b| *b == 0)
            .filter(|name| !name.is_empty() && is_portable(name))
            .filter_map(|name| CString::new(name).ok())
            .collect();
        names.sort();
        let mut out = Vec::new();
        for name in names {
            match rustix::fs::fgetxattr(file, &*name, &mut self.buffer[..XATTR_MAX]) {
                Ok(length) => out.push((name, self.buffer[..length].to_vec())),
                // It was taken off meanwhile.
                Err(Errno::NODATA) => {}
                Err(errno) => return Err(failed("fgetxattr", path)(errno).into()),
            }
        }
        Ok(out)
    }

    fn put(
        &mut self,
        mut header: Header,
        path: &[u8],
        link: &[u8],
        mut records: Records,
    ) -> Result<(), PackError> {
        place(&mut header.as_old_mut().name, path, b"path", &mut records);
        place(
            &mut header.as_old_mut().linkname,
            link,
            b"linkpath",
            &mut records,
        );
        if !records.0.is_empty() {
            let mut extended = Header::new_ustar();
            extended.set_entry_type(EntryType::XHeader);
            extended.set_mode(0o644);
            extended.set_size(records.0.len() as u64);
            place(
                &mut extended.as_old_mut().name,
                b"PaxHeaders/entry",
                b"",
                &mut Records::default(),
            );
            extended.set_cksum();
            let length = records.0.len() as u64;
            self.out
                .write_all(extended.as_bytes())
                .and_then(|()| self.out.write_all(&records.0))
                .map_err(PackError::Write)?;
            self.zeros(length.next_multiple_of(BLOCK) - length)?;
        }
        header.set_cksum();
        self.out
            .write_all(header.as_bytes())
            .map_err(PackError::Write)
    }
}

/// Where an entry leads.
#[derive(Clone, Copy)]
enum Target<'a> {
    /// Nowhere.
    None,
    /// The text of a symbolic link.
    Symbolic(&'a [u8]),
    /// The path of the entry that is the same file.
    Hard(&'a [u8]),
}

impl<'a> Target<'a> {
    fn text(self) -> &'a [u8] {
        match self {
            Target::None => b"",
            Target::Symbolic(text) | Target::Hard(text) => text,
        }
    }
}

/// The records of an extended header (POSIX.1-2001, pax, "pax Extended Header").
#[derive(Default)]
struct Records(Vec<u8>);

impl Records {
    fn push(&mut self, key: &[u8], value: &[u8]) {
        // The length counts its own digits.
        let rest = key.len() + value.len() + 3;
        let mut length = rest + 1;
        while length.to_string().len() + rest > length {
            length += 1;
        }
        self.0.extend_from_slice(format!("{length} ").as_bytes());
        self.0.extend_from_slice(key);
        self.0.push(b'=');
        self.0.extend_from_slice(value);
        self.0.push(b'\n');
    }
}

/// Puts a name into its field, or as much of it as fits and the whole into a record.
fn place(field: &mut [u8], name: &[u8], key: &[u8], records: &mut Records) {
    let fits = name.len().min(field.len());
    field[..fits].copy_from_slice(&name[..fits]);
    if fits < name.len() || !name.is_ascii() {
        records.push(key, name);
    }
}

/// `path` with `prefix` before its last component, which is `name`.
fn with_name(path: &[u8], prefix: &[u8], name: &[u8]) -> Vec<u8> {
    let parent = path.len().saturating_sub(name.len());
    [&path[..parent], prefix, name].concat()
}

/// Seconds with their parts, as a record has them.
fn decimal(seconds: i64, nanoseconds: u64) -> String {
    match (seconds, nanoseconds) {
        (_, 0) => seconds.to_string(),
        // -1.25 s is kept as -2 s and 750,000,000 ns.
        (..0, _) => format!("-{}.{:09}", -(seconds + 1), 1_000_000_000 - nanoseconds),
        _ => format!("{seconds}.{nanoseconds:09}"),
    }
}

/// `UID:GID:MODE`, as [`super::unpack`] writes it.
fn parse_owner(value: &[u8]) -> Option<(u32, u32, u32)> {
    let mut parts = std::str::from_utf8(value).ok()?.split(':');
    let uid = parts.next()?.parse().ok()?;
    let gid = parts.next()?.parse().ok()?;
    let mode = u32::from_str_radix(parts.next()?, 8).ok()?;
    Some((uid, gid, mode & 0o7777))
}

/// The mode of what belongs to somebody who could not be given it: the one that was noted, with the bits that were not set
/// for that reason ([`super::unpack`]), or, where another was given since, that one.
fn noted_mode(noted: u32, now: u32) -> u32 {
    let kept = match FileType::from_raw_mode(now) {
        FileType::Directory => noted,
        _ => noted & !SET_IDS,
    };
    match now & 0o7777 {
        now if now == kept => noted,
        now => now,
    }
}

/// `c:MAJOR:MINOR` or `b:MAJOR:MINOR`.
fn parse_device(value: &[u8]) -> Option<(u8, u32, u32)> {
    let mut parts = std::str::from_utf8(value).ok()?.split(':');
    let letter = *parts.next()?.as_bytes().first()?;
    Some((
        letter,
        parts.next()?.parse().ok()?,
        parts.next()?.parse().ok()?,
    ))
}

/// Opens a regular file, and what it is like.
fn open_file(at: BorrowedFd<'_>, name: &CStr, path: &[u8]) -> Result<(OwnedFd, Stat), CallError> {
    // Without O_NONBLOCK a FIFO that took the name meanwhile would stop everything.
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file =
        rustix::fs::openat(at, name, flags, Mode::empty()).map_err(failed("openat", path))?;
    let stat = rustix::fs::fstat(&file).map_err(failed("fstat", path))?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
        return Err(failed("openat", path)(Errno::STALE));
    }
    Ok((file, stat))
}

fn open_dir(at: BorrowedFd<'_>, name: &CStr, path: &[u8]) -> Result<OwnedFd, CallError> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::openat(at, name, flags, Mode::empty()).map_err(failed("openat", path))
}

fn names(dir: &OwnedFd, path: &[u8]) -> Result<BTreeSet<CString>, CallError> {
    let entries = rustix::fs::Dir::read_from(dir).map_err(failed("getdents", path))?;
    let mut out = BTreeSet::new();
    for entry in entries {
        let entry = entry.map_err(failed("getdents", path))?;
        let name = entry.file_name();
        if !matches!(name.to_bytes(), b"." | b"..") {
            out.insert(name.to_owned());
        }
    }
    Ok(out)
}

fn failed(call: &'static str, path: &[u8]) -> impl FnOnce(Errno) -> CallError + use<> {
    let path = path.to_vec();
    CallError::of(move || format!("{call}(`{}`)", escape_bytes(&path)))
}
