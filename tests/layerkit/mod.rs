//! Archives written byte by byte, and what they became on disk. Shared by the tests of the store.
#![allow(dead_code)]

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::process::Command;

use rl::model::{Digest, IdMap, IdRange};
use rl::store::MapKey;
use rl::store::unpack::{Owners, Report, UnpackError, unpack};
use rl::sys::fs::Root;
use sha2::Digest as _;

/// A tar under construction.
#[derive(Clone, Default)]
pub struct Tar {
    pub bytes: Vec<u8>,
}

impl Tar {
    pub fn new() -> Self {
        Tar::default()
    }

    /// A header with these fields and the data behind it. Names over 100 bytes get a GNU long name.
    pub fn raw(
        mut self,
        kind: u8,
        name: &[u8],
        link: &[u8],
        mode: u32,
        ids: (u32, u32),
        data: &[u8],
    ) -> Self {
        for (flag, text) in [(b'L', name), (b'K', link)] {
            if text.len() > 100 {
                let mut long = text.to_vec();
                long.push(0);
                self = self.raw(flag, b"././@LongLink", b"", 0o644, (0, 0), &long);
            }
        }
        let mut header = tar::Header::new_gnu();
        {
            let old = header.as_old_mut();
            let n = name.len().min(100);
            old.name[..n].copy_from_slice(&name[..n]);
            let n = link.len().min(100);
            old.linkname[..n].copy_from_slice(&link[..n]);
            old.linkflag = [kind];
        }
        header.set_mode(mode);
        header.set_uid(ids.0.into());
        header.set_gid(ids.1.into());
        header.set_size(data.len() as u64);
        header.set_mtime(1_000_000_000);
        self.header(header).data(data)
    }

    /// A header block, checksum set.
    pub fn header(mut self, mut header: tar::Header) -> Self {
        header.set_cksum();
        self.bytes.extend_from_slice(header.as_bytes());
        self
    }

    /// Data, padded.
    pub fn data(mut self, data: &[u8]) -> Self {
        self.bytes.extend_from_slice(data);
        let padded = self.bytes.len().next_multiple_of(512);
        self.bytes.resize(padded, 0);
        self
    }

    pub fn file(self, name: impl AsRef<[u8]>, data: impl AsRef<[u8]>) -> Self {
        self.raw(b'0', name.as_ref(), b"", 0o644, (0, 0), data.as_ref())
    }

    pub fn dir(self, name: impl AsRef<[u8]>, mode: u32) -> Self {
        self.raw(b'5', name.as_ref(), b"", mode, (0, 0), b"")
    }

    pub fn symlink(self, name: impl AsRef<[u8]>, target: impl AsRef<[u8]>) -> Self {
        self.raw(b'2', name.as_ref(), target.as_ref(), 0o777, (0, 0), b"")
    }

    pub fn hard(self, name: impl AsRef<[u8]>, target: impl AsRef<[u8]>) -> Self {
        self.raw(b'1', name.as_ref(), target.as_ref(), 0o644, (0, 0), b"")
    }

    pub fn device(mut self, kind: u8, name: &str, major: u32, minor: u32) -> Self {
        let mut header = tar::Header::new_gnu();
        header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
        header.as_old_mut().linkflag = [kind];
        header.set_mode(0o666);
        header.set_uid(0);
        header.set_gid(0);
        header.set_size(0);
        header.set_mtime(0);
        header.set_device_major(major).unwrap();
        header.set_device_minor(minor).unwrap();
        self = self.header(header);
        self
    }

    /// An extended header for the next entry.
    pub fn pax(self, records: &[(&str, &[u8])]) -> Self {
        self.pax_kind(b'x', records)
    }

    pub fn pax_kind(self, kind: u8, records: &[(&str, &[u8])]) -> Self {
        let mut data = Vec::new();
        for (key, value) in records {
            let rest = key.len() + value.len() + 3;
            let mut length = rest + 1;
            while rest + length.to_string().len() != length {
                length = rest + length.to_string().len();
            }
            data.extend_from_slice(format!("{length} {key}=").as_bytes());
            data.extend_from_slice(value);
            data.push(b'\n');
        }
        self.raw(kind, b"PaxHeaders/x", b"", 0o644, (0, 0), &data)
    }

    /// The archive with its two closing blocks.
    pub fn end(mut self) -> Vec<u8> {
        self.bytes.extend_from_slice(&[0; 1024]);
        self.bytes
    }
}

/// The digest of some bytes.
pub fn sha256(bytes: &[u8]) -> Digest {
    Digest::from_bytes(sha2::Sha256::digest(bytes).into())
}

/// The maps of the user namespace the test runs in; a plain user has a single id.
pub fn maps() -> (IdMap, IdMap) {
    let read = |path: &str, own: u32| {
        if !rustix::process::geteuid().is_root() {
            return IdMap::single(0, own);
        }
        let text = std::fs::read_to_string(path).unwrap();
        let ranges = text.lines().map(|line| {
            let n: Vec<u32> = line
                .split_whitespace()
                .map(|w| w.parse().unwrap())
                .collect();
            IdRange {
                container: n[0],
                host: n[1],
                length: n[2].min(u32::MAX - 1),
            }
        });
        IdMap::new(ranges.collect()).unwrap()
    };
    (
        read("/proc/self/uid_map", rustix::process::geteuid().as_raw()),
        read("/proc/self/gid_map", rustix::process::getegid().as_raw()),
    )
}

pub fn map_key() -> MapKey {
    let (uid, gid) = maps();
    MapKey::of(&uid, &gid)
}

/// Whether other owners than our own can be set here.
pub fn many_ids() -> bool {
    maps().0.len() > 1
}

pub fn owners() -> Owners {
    let (uid, gid) = maps();
    if many_ids() {
        Owners::Kept { uid, gid }
    } else {
        Owners::Remembered
    }
}

/// A directory to unpack into, with a tree beside it that must not change.
pub struct Yard {
    pub dir: tempfile::TempDir,
    before: BTreeMap<String, String>,
}

impl Yard {
    pub fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let canary = dir.path().join("canary");
        std::fs::create_dir_all(canary.join("dir")).unwrap();
        std::fs::create_dir(dir.path().join("layer")).unwrap();
        std::fs::write(canary.join("file"), "sing").unwrap();
        std::fs::write(canary.join("dir/file"), "song").unwrap();
        std::os::unix::fs::symlink("file", canary.join("link")).unwrap();
        let before = snapshot(&canary, true);
        Yard { dir, before }
    }

    pub fn layer(&self) -> PathBuf {
        self.dir.path().join("layer")
    }

    pub fn unpack(&self, tar: &[u8]) -> Result<Report, UnpackError> {
        let result = unpack(tar, Root::open(&self.layer()).unwrap(), &owners());
        self.check();
        result
    }

    /// Fails when anything beside the layer changed.
    pub fn check(&self) {
        assert_eq!(
            snapshot(&self.dir.path().join("canary"), true),
            self.before,
            "canary changed"
        );
        let mut names: Vec<_> = std::fs::read_dir(self.dir.path())
            .unwrap()
            .map(|e| e.unwrap().file_name())
            .collect();
        names.sort();
        assert_eq!(names, ["canary", "layer"], "something new beside the layer");
    }

    pub fn tree(&self) -> BTreeMap<String, String> {
        snapshot(&self.layer(), false)
    }
}

impl Drop for Yard {
    fn drop(&mut self) {
        let parent = Root::open(self.dir.path()).unwrap();
        let _ = rl::sys::fs::remove_tree(std::os::fd::AsFd::as_fd(&parent), b"layer");
    }
}

/// Every path below `dir` with its type and content; with `strict` also mode, owner, links, times.
pub fn snapshot(dir: &Path, strict: bool) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    let mut todo = vec![dir.to_owned()];
    while let Some(path) = todo.pop() {
        let meta = path.symlink_metadata().unwrap();
        let kind = meta.file_type();
        let mut text = if kind.is_dir() {
            for entry in std::fs::read_dir(&path).unwrap() {
                todo.push(entry.unwrap().path());
            }
            let opaque = xattr(&path, "user.overlay.opaque").is_some();
            (if opaque { "opaque" } else { "dir" }).to_owned()
        } else if kind.is_symlink() {
            format!(
                "-> {}",
                std::fs::read_link(&path).unwrap().as_os_str().display()
            )
        } else if kind.is_char_device() && meta.rdev() == 0 {
            "whiteout".to_owned()
        } else if kind.is_fifo() {
            "fifo".to_owned()
        } else if kind.is_file() {
            let mut content = Vec::new();
            File::open(&path)
                .unwrap()
                .take(100)
                .read_to_end(&mut content)
                .unwrap();
            format!("file {}", String::from_utf8_lossy(&content))
        } else {
            "device".to_owned()
        };
        if strict {
            let m = &meta;
            text += &format!(
                " {:o} {}:{} n{} {}.{} c{}.{}",
                m.mode(),
                m.uid(),
                m.gid(),
                m.nlink(),
                m.mtime(),
                m.mtime_nsec(),
                m.ctime(),
                m.ctime_nsec()
            );
        }
        let name = path.strip_prefix(dir).unwrap().as_os_str().as_bytes();
        found.insert(String::from_utf8_lossy(name).into_owned(), text);
    }
    found
}

/// An extended attribute.
pub fn xattr(path: &Path, name: &str) -> Option<Vec<u8>> {
    let mut value = vec![0; 4096];
    let n = rustix::fs::lgetxattr(path, name, &mut value[..]).ok()?;
    value.truncate(n);
    Some(value)
}

/// Whether the file system under `dir` takes user attributes (where not, there is nothing to test).
pub fn takes_xattrs(dir: &Path) -> bool {
    rustix::fs::setxattr(dir, "user.probe", b"1", rustix::fs::XattrFlags::empty()).is_ok()
}

/// Says that something could not be tested here, which CI does not accept.
pub fn skip(missing: &str) {
    assert!(
        std::env::var_os("RL_MUST_WORK").is_none(),
        "cannot be tested here: {missing}"
    );
    // Past what keeps the output of a test that passes.
    let line = format!("skipped: {missing}\n");
    let _ = std::io::Write::write_all(&mut std::io::stderr(), line.as_bytes());
}

/// Runs the whole test program again as other identities: inside `unshare -r`, as a plain user, as a
/// plain user there, and in a namespace with subordinate ids.
pub fn again_as_others() {
    if std::env::var_os("RL_TEST_INNER").is_some() {
        return;
    }
    let copy = tempfile::tempdir().unwrap();
    std::fs::set_permissions(copy.path(), PermissionsExt::from_mode(0o755)).unwrap();
    let exe = copy.path().join("again");
    std::fs::copy(std::env::current_exe().unwrap(), &exe).unwrap();
    let owned: Vec<String>;
    let mut ways: Vec<Vec<&str>> = vec![vec!["unshare", "-Ur"]];
    if rustix::process::geteuid().is_root() {
        let drop = [
            "setpriv",
            "--reuid",
            "65534",
            "--regid",
            "65534",
            "--clear-groups",
        ];
        ways.push(drop.to_vec());
        ways.push([&drop[..], &["unshare", "-Ur"]].concat());
        // A user with subordinate ids, in a namespace that maps them.
        let subuid = std::fs::read_to_string("/etc/subuid").unwrap_or_default();
        match subuid.split(':').next().filter(|name| !name.is_empty()) {
            Some(user) => {
                let become_user = ["setpriv", "--reuid", user, "--regid", user, "--init-groups"];
                let user: Vec<String> = become_user.iter().map(|s| (*s).to_owned()).collect();
                owned = user;
                let mut way: Vec<&str> = owned.iter().map(String::as_str).collect();
                way.extend(["unshare", "-Ur", "--map-auto"]);
                ways.push(way);
            }
            None => skip("a user in /etc/subuid"),
        }
    }
    for way in ways {
        let probe = Command::new(way[0]).args(&way[1..]).arg("true").output();
        if !probe.is_ok_and(|p| p.status.success()) {
            skip(&way.join(" "));
            continue;
        }
        let output = Command::new(way[0])
            .args(&way[1..])
            .arg(&exe)
            .env("RL_TEST_INNER", "1")
            .env("TMPDIR", "/tmp")
            .current_dir("/")
            .output()
            .unwrap();
        assert!(
            output.status.success(),
            "as {way:?}:\n{}{}",
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        );
    }
}
