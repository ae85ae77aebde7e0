//! Trees packed by us and unpacked by us, and by GNU tar, are the same again, whatever their names, owners and times.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::os::fd::AsFd as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, lchown, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use proptest::prelude::*;
use rl::model::{IdMap, IdRange};
use rl::store::pack::{Packer, Rules};
use rl::store::unpack::{Owners, unpack_over};
use rl::sys::fs::Root;
use rustix::fs::{AtFlags, CWD, Timespec, Timestamps, XattrFlags};

/// What may be in a tree.
#[derive(Clone, Copy, Debug)]
enum Kind {
    Directory,
    File(usize),
    Symlink(usize),
    Fifo,
    /// A further name of an earlier file.
    Link,
}

#[derive(Clone, Debug)]
struct Entry {
    kind: Kind,
    /// Which of the names, and of the directories that are there already.
    name: usize,
    parent: usize,
    mode: u32,
    owner: (usize, usize),
    time: usize,
    attribute: usize,
}

fn names() -> Vec<Vec<u8>> {
    vec![
        b"a".to_vec(),
        b"b c".to_vec(),
        b".wh.a".to_vec(),
        "\u{fc}\u{4e2d}".as_bytes().to_vec(),
        b"\xff\xfe=\n".to_vec(),
        vec![b'n'; 99],
        vec![b'n'; 100],
        vec![b'n'; 101],
        vec![b'l'; 255],
    ]
}

const IDS: [u32; 5] = [0, 1000, 0o7_777_777, 0o10_000_000, 4_000_000_000];
/// Seconds and nanoseconds; ext4 begins in 1901 and ends in 2446.
const TIMES: [(i64, i64); 6] = [
    (0, 0),
    (1_700_000_000, 123_456_789),
    (-2, 750_000_000),
    (-1_000_000_000, 0),
    (0o77_777_777_777, 1),
    (0o100_000_000_000, 0),
];
const ATTRIBUTES: [&[u8]; 4] = [b"", b"green", b"a=b\n\0c", &[7; 2000]];

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

fn entry() -> impl Strategy<Value = Entry> {
    let kind = prop_oneof![
        3 => Just(Kind::Directory),
        4 => prop_oneof![Just(0usize), Just(1), Just(511), Just(512), Just(513), Just(70_000)].prop_map(Kind::File),
        2 => prop_oneof![Just(1usize), Just(100), Just(101), Just(4000)].prop_map(Kind::Symlink),
        1 => Just(Kind::Fifo),
        2 => Just(Kind::Link),
    ];
    let owner = (0..IDS.len(), 0..IDS.len());
    let numbers = (0..names().len(), any::<usize>(), 0u32..0o10000);
    (kind, numbers, owner, 0..TIMES.len(), 0..ATTRIBUTES.len()).prop_map(
        |(kind, (name, parent, mode), owner, time, attribute)| Entry {
            kind,
            name,
            parent,
            mode,
            owner,
            time,
            attribute,
        },
    )
}

/// Makes what can be made: a name that is taken, or a path that is too long, is left out.
fn build(top: &Path, entries: &[Entry]) {
    let mut directories = vec![top.to_owned()];
    let mut files: Vec<PathBuf> = Vec::new();
    let mut made: Vec<(PathBuf, &Entry)> = Vec::new();
    for entry in entries {
        let parent = &directories[entry.parent % directories.len()];
        let path = parent.join(OsStr::from_bytes(&names()[entry.name]));
        if path.as_os_str().len() > 3000 || path.symlink_metadata().is_ok() {
            continue;
        }
        match entry.kind {
            Kind::Directory => {
                fs::create_dir(&path).unwrap();
                directories.push(path.clone());
            }
            Kind::File(size) => {
                let content: Vec<u8> = (0..size).map(|i| (i % 251) as u8).collect();
                fs::write(&path, content).unwrap();
                files.push(path.clone());
            }
            Kind::Symlink(length) => symlink("t".repeat(length), &path).unwrap(),
            Kind::Fifo => {
                let kind = rustix::fs::FileType::Fifo;
                rustix::fs::mknodat(CWD, &path, kind, rustix::fs::Mode::RUSR, 0).unwrap();
            }
            Kind::Link => match files.get(entry.parent % files.len().max(1)) {
                Some(first) => {
                    fs::hard_link(first, &path).unwrap();
                    continue;
                }
                None => continue,
            },
        }
        made.push((path, entry));
    }
    // From the inside out, so that a directory's time stays.
    for (path, entry) in made.iter().rev() {
        if is_root() {
            lchown(path, Some(IDS[entry.owner.0]), Some(IDS[entry.owner.1])).unwrap();
        }
        if !matches!(entry.kind, Kind::Symlink(_)) {
            let own = if is_root() { 0 } else { 0o700 };
            fs::set_permissions(path, fs::Permissions::from_mode(entry.mode | own)).unwrap();
        }
        let value = ATTRIBUTES[entry.attribute];
        if matches!(entry.kind, Kind::Directory | Kind::File(_)) && !value.is_empty() {
            rustix::fs::lsetxattr(path, "user.x", value, XattrFlags::empty()).unwrap();
        }
        let (tv_sec, tv_nsec) = TIMES[entry.time];
        let time = Timespec { tv_sec, tv_nsec };
        let times = Timestamps {
            last_access: time,
            last_modification: time,
        };
        rustix::fs::utimensat(CWD, path, &times, AtFlags::SYMLINK_NOFOLLOW).unwrap();
    }
}

/// All that is known of each thing in a tree; of its inode, the first name that it has.
fn seen(top: &Path) -> BTreeMap<PathBuf, String> {
    let mut all = BTreeMap::new();
    let mut first: BTreeMap<u64, PathBuf> = BTreeMap::new();
    let mut stack = vec![top.to_owned()];
    let mut paths = Vec::new();
    while let Some(dir) = stack.pop() {
        for entry in fs::read_dir(&dir).unwrap() {
            let path = entry.unwrap().path();
            if path.symlink_metadata().unwrap().is_dir() {
                stack.push(path.clone());
            }
            paths.push(path);
        }
    }
    paths.sort();
    for path in paths {
        let meta = path.symlink_metadata().unwrap();
        let below = path.strip_prefix(top).unwrap().to_owned();
        let first = first.entry(meta.ino()).or_insert_with(|| below.clone());
        let content = match meta.file_type() {
            kind if kind.is_file() => fs::read(&path).unwrap(),
            kind if kind.is_symlink() => fs::read_link(&path)
                .unwrap()
                .as_os_str()
                .as_bytes()
                .to_vec(),
            _ => Vec::new(),
        };
        let mut value = [0; 4096];
        let length = rustix::fs::lgetxattr(&path, "user.x", &mut value).unwrap_or(0);
        let size = if meta.is_dir() { 0 } else { meta.len() };
        let told = format!(
            "{:o} {}:{} {size} {}.{:09} {first:?} {:?} {}",
            meta.mode(),
            meta.uid(),
            meta.gid(),
            meta.mtime(),
            meta.mtime_nsec(),
            &value[..length],
            String::from_utf8_lossy(&content),
        );
        all.insert(below, told);
    }
    all
}

fn packed(top: &Path) -> Vec<u8> {
    let mut packer = Packer::new(Vec::new(), Rules::PLAIN);
    packer.tree(File::open(top).unwrap().as_fd(), true).unwrap();
    let (bytes, notes) = packer.finish().unwrap();
    assert_eq!(notes, [""; 0]);
    bytes
}

fn all_ids() -> IdMap {
    let (container, host) = (0, 0);
    let length = u32::MAX;
    IdMap::new(vec![IdRange {
        container,
        host,
        length,
    }])
    .unwrap()
}

fn yard() -> tempfile::TempDir {
    // Not /tmp, which may be a tmpfs without attributes.
    tempfile::Builder::new()
        .prefix("rl-pack-")
        .tempdir_in("/var/tmp")
        .unwrap()
}

fn there_and_back(entries: &[Entry], other: bool) {
    let yard = yard();
    let (from, to) = (yard.path().join("from"), yard.path().join("to"));
    fs::create_dir(&from).unwrap();
    fs::create_dir(&to).unwrap();
    build(&from, entries);
    let archive = packed(&from);
    assert_eq!(archive.len() % 512, 0);
    let before = seen(&from);
    if other {
        let path = yard.path().join("tar");
        fs::write(&path, &archive).unwrap();
        let mut tar = Command::new("tar");
        tar.args([
            "-xp",
            "--xattrs",
            "--xattrs-include=*",
            "--numeric-owner",
            "--warning=no-timestamp",
            "-f",
        ]);
        let done = tar.arg(&path).arg("-C").arg(&to).output().unwrap();
        let said = String::from_utf8_lossy(&done.stderr);
        assert!(done.status.success() && said.is_empty(), "{said}");
    } else {
        let (uid, gid) = (all_ids(), all_ids());
        let owners = Owners::Kept { uid, gid };
        let report = unpack_over(&archive[..], Root::open(&to).unwrap(), &owners).unwrap();
        assert_eq!(report.notes, [""; 0]);
    }
    let after = seen(&to);
    for (path, told) in &before {
        assert_eq!(after.get(path), Some(told), "{path:?}");
    }
    assert_eq!(after.len(), before.len());
    // The same tree gives the same archive.
    assert!(packed(&from) == archive);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn we_read_what_we_write(entries in proptest::collection::vec(entry(), 1..24)) {
        there_and_back(&entries, false);
    }

    #[test]
    fn gnu_tar_reads_what_we_write(entries in proptest::collection::vec(entry(), 1..24)) {
        there_and_back(&entries, true);
    }
}
