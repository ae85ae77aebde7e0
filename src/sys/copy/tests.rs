use std::fs::{self, File};
use std::os::unix::fs::{FileExt as _, MetadataExt as _, PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::time::{Duration, UNIX_EPOCH};

use rustix::fs::{Gid, Uid, XattrFlags};

use super::*;

/// Not /tmp: a tmpfs has other abilities than the file systems that hold images.
fn dirs() -> (tempfile::TempDir, PathBuf, PathBuf) {
    let dir = tempfile::tempdir_in("/var/tmp").unwrap();
    let (from, to) = (dir.path().join("from"), dir.path().join("to"));
    fs::create_dir(&from).unwrap();
    fs::create_dir(&to).unwrap();
    (dir, from, to)
}

fn run(from: &Path, to: &Path, rules: &Rules<'_>) -> Report {
    let (from, to) = (File::open(from).unwrap(), File::open(to).unwrap());
    tree(from.as_fd(), to.as_fd(), rules).unwrap()
}

fn set_time(path: &Path, seconds: u64) {
    let time = UNIX_EPOCH + Duration::new(seconds, 123_456_789);
    File::open(path).unwrap().set_modified(time).unwrap();
}

fn chmod(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

/// All that must be the same.
fn look(path: &Path) -> (u32, u32, u32, u64, i64, i64) {
    let m = path.symlink_metadata().unwrap();
    let size = if m.is_dir() { 0 } else { m.size() };
    (m.mode(), m.uid(), m.gid(), size, m.mtime(), m.mtime_nsec())
}

#[test]
fn everything_is_kept() {
    let (_dir, from, to) = dirs();
    fs::create_dir(from.join("d")).unwrap();
    fs::write(from.join("d/program"), "x").unwrap();
    chmod(&from.join("d/program"), 0o6751);
    fs::hard_link(from.join("d/program"), from.join("again")).unwrap();
    symlink("/nowhere/at/all", from.join("link")).unwrap();
    rustix::fs::mknodat(
        rustix::fs::CWD,
        from.join("fifo"),
        FileType::Fifo,
        Mode::from(0o620),
        0,
    )
    .unwrap();
    let value = vec![7u8; 300];
    rustix::fs::setxattr(from.join("again"), "user.word", &value, XattrFlags::empty()).unwrap();
    rustix::fs::setxattr(
        from.join("d"),
        "user.overlay.opaque",
        b"y",
        XattrFlags::empty(),
    )
    .unwrap();
    if rustix::process::geteuid().is_root() {
        rustix::fs::chown(
            from.join("d"),
            Some(Uid::from_raw(1234)),
            Some(Gid::from_raw(4321)),
        )
        .unwrap();
    }
    set_time(&from.join("again"), 1_000_000);
    chmod(&from.join("d"), 0o1570);
    set_time(&from.join("d"), 2_000_000);
    chmod(&from, 0o711);
    set_time(&from, 3_000_000);
    let report = run(&from, &to, &Rules::PLAIN);
    assert_eq!((report.entries, report.bytes), (5, 1), "{report:?}");
    assert_eq!(report.notes, Vec::<String>::new());
    for name in ["", "d", "d/program", "again", "link", "fifo"] {
        assert_eq!(look(&from.join(name)), look(&to.join(name)), "{name}");
    }
    let ino = |name: &str| to.join(name).metadata().unwrap().ino();
    assert_eq!(ino("again"), ino("d/program"));
    let mut got = [0u8; 400];
    let length = rustix::fs::getxattr(to.join("again"), "user.word", &mut got[..]).unwrap();
    assert_eq!(got[..length], value);
    let steers = rustix::fs::getxattr(to.join("d"), "user.overlay.opaque", &mut got[..]);
    assert_eq!(steers, Err(Errno::NODATA));
    chmod(&from.join("d"), 0o700);
    chmod(&to.join("d"), 0o700);
}

#[test]
fn holes_stay_holes() {
    let (_dir, from, to) = dirs();
    let file = File::create(from.join("sparse")).unwrap();
    file.write_all_at(b"begin", 0).unwrap();
    file.write_all_at(b"middle", 5 << 20).unwrap();
    file.set_len(9 << 20).unwrap();
    let full: Vec<u8> = (0..300_000u32).map(|n| (n % 251) as u8).collect();
    fs::write(from.join("full"), &full).unwrap();
    run(&from, &to, &Rules::PLAIN);
    assert_eq!(fs::read(to.join("full")).unwrap(), full);
    let copy = to.join("sparse");
    assert_eq!(
        fs::read(&copy).unwrap(),
        fs::read(from.join("sparse")).unwrap()
    );
    assert!(copy.metadata().unwrap().blocks() * 512 < 1 << 20);
    // The way between file systems, without shared blocks and without copy_file_range.
    let other = File::create(to.join("other")).unwrap();
    let mut copier = Copier::new(&Rules::PLAIN, File::open(&to).unwrap().into());
    (copier.reflink, copier.ranges) = (false, false);
    let file = File::open(from.join("sparse")).unwrap();
    let stat = rustix::fs::fstat(&file).unwrap();
    copier
        .data(file.as_fd(), other.as_fd(), &stat, c"other")
        .unwrap();
    assert_eq!(
        fs::read(to.join("other")).unwrap(),
        fs::read(from.join("sparse")).unwrap()
    );
    assert!(other.metadata().unwrap().blocks() * 512 < 1 << 20);
}

#[test]
fn links_in_the_target_are_replaced_and_never_followed() {
    let (dir, from, to) = dirs();
    let outside = dir.path().join("outside");
    fs::create_dir(&outside).unwrap();
    fs::write(outside.join("canary"), "alive").unwrap();
    fs::create_dir(from.join("d")).unwrap();
    fs::write(from.join("d/canary"), "new").unwrap();
    fs::write(from.join("f"), "new").unwrap();
    symlink(&outside, to.join("d")).unwrap();
    symlink(outside.join("canary"), to.join("f")).unwrap();
    // A second name of a file in the target keeps the old content.
    fs::write(from.join("g"), "new").unwrap();
    fs::write(to.join("g"), "old").unwrap();
    fs::hard_link(to.join("g"), to.join("partner")).unwrap();
    run(&from, &to, &Rules::PLAIN);
    assert_eq!(fs::read_to_string(outside.join("canary")).unwrap(), "alive");
    assert_eq!(fs::read_dir(&outside).unwrap().count(), 1);
    for (name, text) in [
        ("d/canary", "new"),
        ("f", "new"),
        ("g", "new"),
        ("partner", "old"),
    ] {
        assert_eq!(fs::read_to_string(to.join(name)).unwrap(), text, "{name}");
    }
    assert!(to.join("d").symlink_metadata().unwrap().is_dir());
}

#[test]
fn directories_are_merged_and_kinds_replaced() {
    let (_dir, from, to) = dirs();
    for name in [
        "from/both",
        "from/was-file",
        "to/both",
        "to/was-dir",
        "to/hidden",
        "from/hidden",
    ] {
        fs::create_dir(from.join("..").join(name)).unwrap();
    }
    fs::write(from.join("both/new"), "new").unwrap();
    fs::write(to.join("both/old"), "old").unwrap();
    fs::write(to.join("was-file"), "old").unwrap();
    fs::write(to.join("was-dir/x"), "old").unwrap();
    fs::write(from.join("was-dir"), "new").unwrap();
    fs::write(to.join("hidden/x"), "old").unwrap();
    fs::write(to.join("white"), "old").unwrap();
    super::super::fs::make_whiteout(File::open(&from).unwrap().as_fd(), b"white").unwrap();
    rustix::fs::setxattr(to.join("both"), "user.old", b"1", XattrFlags::empty()).unwrap();
    rustix::fs::setxattr(from.join("hidden"), "user.hides", b"1", XattrFlags::empty()).unwrap();
    chmod(&to.join("both"), 0o500);
    chmod(&from.join("both"), 0o750);
    let rules = Rules {
        device: &|_| Device::Remove,
        hides: &|dir| match rustix::fs::fgetxattr(dir, "user.hides", &mut [0u8; 1][..]) {
            Err(Errno::NODATA) => Ok(false),
            other => other.map(|_| true),
        },
        ..Rules::PLAIN
    };
    run(&from, &to, &rules);
    let there = |name: &str| to.join(name).symlink_metadata().is_ok();
    assert!(there("both/new") && there("both/old") && !there("hidden/x") && !there("white"));
    assert!(to.join("was-file").is_dir() && to.join("was-dir").is_file());
    assert_eq!(to.join("both").metadata().unwrap().mode() & 0o7777, 0o750);
    let old = rustix::fs::getxattr(to.join("both"), "user.old", &mut [0u8; 1][..]);
    assert_eq!(old, Err(Errno::NODATA));
}

#[test]
fn depth_costs_no_descriptors() {
    const DEPTH: usize = 3 * OPEN_DEPTH;
    let (_dir, from, to) = dirs();
    let mut here = File::open(&from).unwrap();
    for level in 0..DEPTH {
        rustix::fs::mkdirat(&here, "d", Mode::RWXU).unwrap();
        let flags = OFlags::CREATE | OFlags::WRONLY;
        let file = rustix::fs::openat(&here, "f", flags, Mode::RUSR).unwrap();
        rustix::io::write(&file, &[level as u8]).unwrap();
        here = open_dir(here.as_fd(), c"d").unwrap().into();
    }
    // A second name far below, for a first one that is not open any more.
    let top = File::open(&from).unwrap();
    rustix::fs::linkat(&top, "f", &here, "link", AtFlags::empty()).unwrap();
    let report = run(&from, &to, &Rules::PLAIN);
    assert_eq!(report.entries, 2 * DEPTH as u64 + 1);
    let mut here = File::open(&to).unwrap();
    let first = rustix::fs::statat(&here, "f", AtFlags::empty())
        .unwrap()
        .st_ino;
    for level in 0..DEPTH {
        let file = rustix::fs::openat(&here, "f", OFlags::RDONLY, Mode::empty()).unwrap();
        let mut byte = [0u8; 2];
        assert_eq!(rustix::io::read(&file, &mut byte[..]), Ok(1));
        assert_eq!(byte[0], level as u8);
        here = open_dir(here.as_fd(), c"d").unwrap().into();
    }
    let link = rustix::fs::statat(&here, "link", AtFlags::empty()).unwrap();
    assert_eq!(link.st_ino, first);
}
