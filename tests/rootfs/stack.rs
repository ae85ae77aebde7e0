//! Layers laid over each other by copying, beside the kernel's overlay of the same layers: random small
//! stacks, compared entry by entry.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{BufRead as _, BufReader};
use std::os::fd::AsFd as _;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _, symlink};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, UNIX_EPOCH};

use proptest::prelude::*;
use rustix::fs::{FileType, Mode, XattrFlags};

#[derive(Clone, Debug)]
enum Kind {
    Dir {
        mode: u32,
        opaque: bool,
        attribute: bool,
    },
    File {
        text: String,
        mode: u32,
        attribute: bool,
    },
    Symlink(String),
    Fifo,
    /// To whatever stands in the layer there.
    Link(String),
    Whiteout,
}

type Entries = Vec<(String, Kind)>;

/// Few names, so that layers meet each other.
fn path() -> impl Strategy<Value = String> {
    prop::collection::vec(prop::sample::select(vec!["a", "b", "c"]), 1..=3)
        .prop_map(|parts| parts.join("/"))
}

fn kind() -> impl Strategy<Value = Kind> {
    let mode = || prop::sample::select(vec![0o700u32, 0o755, 0o1777, 0o2750]);
    prop_oneof![
        4 => (mode(), any::<bool>(), any::<bool>())
            .prop_map(|(mode, opaque, attribute)| Kind::Dir { mode, opaque, attribute }),
        4 => ("[a-z]{0,5}", prop::sample::select(vec![0o600u32, 0o644, 0o4711]), any::<bool>())
            .prop_map(|(text, mode, attribute)| Kind::File { text, mode, attribute }),
        1 => path().prop_map(Kind::Symlink),
        1 => Just(Kind::Fifo),
        2 => path().prop_map(Kind::Link),
        3 => Just(Kind::Whiteout),
    ]
}

fn layer() -> impl Strategy<Value = Entries> {
    prop::collection::vec((path(), kind()), 0..10)
}

/// Makes what can be made: parents are made, an entry whose name is taken is left out.
fn make(dir: &Path, entries: &Entries, time: u64) {
    fs::create_dir(dir).unwrap();
    let mut modes = Vec::new();
    for (name, kind) in entries {
        let path = dir.join(name);
        if fs::create_dir_all(path.parent().unwrap()).is_err() || path.symlink_metadata().is_ok() {
            continue;
        }
        let attribute = |wanted: bool, value: &str| {
            if wanted {
                rustix::fs::setxattr(&path, "user.word", value.as_bytes(), XattrFlags::empty())
                    .unwrap();
            }
        };
        match kind {
            Kind::Dir {
                mode,
                opaque,
                attribute: wanted,
            } => {
                fs::create_dir(&path).unwrap();
                attribute(*wanted, name);
                if *opaque {
                    let name = "user.overlay.opaque";
                    rustix::fs::setxattr(&path, name, b"y", XattrFlags::empty()).unwrap();
                }
                modes.push((path, *mode));
            }
            Kind::File {
                text,
                mode,
                attribute: wanted,
            } => {
                fs::write(&path, text).unwrap();
                attribute(*wanted, text);
                fs::set_permissions(&path, fs::Permissions::from_mode(*mode)).unwrap();
                let time = UNIX_EPOCH + Duration::from_secs(time + text.len() as u64);
                File::open(&path).unwrap().set_modified(time).unwrap();
            }
            Kind::Symlink(target) => symlink(target, &path).unwrap(),
            Kind::Fifo => {
                rustix::fs::mknodat(rustix::fs::CWD, &path, FileType::Fifo, Mode::RWXU, 0).unwrap();
            }
            Kind::Link(target) => {
                let target = dir.join(target);
                let file = target.symlink_metadata().is_ok_and(|m| m.is_file());
                if file {
                    fs::hard_link(target, &path).unwrap();
                }
            }
            Kind::Whiteout => {
                let parent = File::open(path.parent().unwrap()).unwrap();
                let name = path.file_name().unwrap().as_encoded_bytes();
                rl::sys::fs::make_whiteout(parent.as_fd(), name).unwrap();
            }
        }
    }
    for (path, mode) in modes {
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        let time = UNIX_EPOCH + Duration::from_secs(time + 100);
        File::open(&path).unwrap().set_modified(time).unwrap();
    }
}

/// Everything below a directory that one can reach, by path.
fn tree(top: &Path) -> BTreeMap<String, String> {
    let mut out = BTreeMap::new();
    let mut inodes = BTreeMap::new();
    let mut todo = vec![String::new()];
    while let Some(name) = todo.pop() {
        let path = top.join(&name);
        // In a directory of one layer, overlay lists whiteouts that it does not find then.
        let Ok(meta) = path.symlink_metadata() else {
            continue;
        };
        let mut text = format!("{:o} {}:{}", meta.mode(), meta.uid(), meta.gid());
        let kind = meta.file_type();
        if kind.is_dir() {
            for entry in fs::read_dir(&path).unwrap() {
                let below = entry.unwrap().file_name().into_string().unwrap();
                todo.push(format!("{name}/{below}").trim_start_matches('/').to_owned());
            }
        } else if kind.is_symlink() {
            text += &format!(" -> {}", fs::read_link(&path).unwrap().display());
        } else {
            assert!(kind.is_file() || kind.is_fifo(), "{name}: {kind:?}");
        }
        if !kind.is_symlink() {
            text += &format!(" at {}.{}", meta.mtime(), meta.mtime_nsec());
            let mut value = [0u8; 64];
            if let Ok(length) = rustix::fs::lgetxattr(&path, "user.word", &mut value[..]) {
                text += &format!(" word={:?}", String::from_utf8_lossy(&value[..length]));
            }
            for steers in ["user.overlay.opaque", "user.overlay.origin"] {
                let got = rustix::fs::lgetxattr(&path, steers, &mut value[..]);
                assert!(got.is_err(), "{name} has {steers}");
            }
        }
        if kind.is_file() {
            text += &format!(" {:?}", fs::read_to_string(&path).unwrap());
        }
        if !kind.is_dir() {
            inodes
                .entry(meta.ino())
                .or_insert_with(Vec::new)
                .push(name.clone());
        }
        out.insert(name, text);
    }
    for mut names in inodes.into_values().filter(|names| names.len() > 1) {
        names.sort();
        for name in &names {
            out.get_mut(name)
                .unwrap()
                .push_str(&format!(" one of {names:?}"));
        }
    }
    out
}

/// What the kernel's overlay of `layers`, lowest first, shows; read through the process that holds the
/// namespace of the mount. `None` where user namespaces may not mount overlays.
fn overlay(dir: &Path, layers: usize) -> Option<BTreeMap<String, String>> {
    let mut holder = Command::new("unshare")
        .args(if rustix::process::geteuid().is_root() {
            &["--mount"][..]
        } else {
            &["--mount", "--map-root-user"]
        })
        .args([
            "sh",
            "-c",
            "mount -t overlay -o \"$1\" overlay shown && echo up && read line",
            "sh",
        ])
        .arg({
            let lower: Vec<String> = (0..layers).rev().map(|n| format!("l{n}")).collect();
            format!("lowerdir={},userxattr", lower.join(":"))
        })
        .current_dir(dir)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    let mut output = BufReader::new(holder.stdout.take().unwrap());
    output.read_line(&mut line).unwrap();
    let shown = (line == "up\n").then(|| {
        let root = format!("/proc/{}/root", holder.id());
        tree(
            &Path::new(&root)
                .join(dir.strip_prefix("/").unwrap())
                .join("shown"),
        )
    });
    drop(holder.stdin.take());
    holder.wait().unwrap();
    shown
}

/// Both ways; the stacks have two layers at least, since one is no overlay.
fn compare(layers: &[Entries]) -> bool {
    let dir = tempfile::tempdir_in(crate::support::place()).unwrap();
    for (number, entries) in layers.iter().enumerate() {
        make(
            &dir.path().join(format!("l{number}")),
            entries,
            1_000_000 * (number as u64 + 1),
        );
    }
    for name in ["shown", "copy"] {
        fs::create_dir(dir.path().join(name)).unwrap();
    }
    let Some(shown) = overlay(dir.path(), layers.len()) else {
        crate::support::skip("overlays cannot be mounted in a user namespace");
        return false;
    };
    let copy = dir.path().join("copy");
    for number in 0..layers.len() {
        let notes = rl::store::lay_over(&dir.path().join(format!("l{number}")), &copy).unwrap();
        assert_eq!(notes, Vec::<String>::new());
    }
    assert_eq!(tree(&copy), shown, "{layers:#?}");
    true
}

#[test]
fn copies_show_what_overlay_shows() {
    let mut runner = proptest::test_runner::TestRunner::new(ProptestConfig {
        cases: 48,
        failure_persistence: None,
        ..ProptestConfig::default()
    });
    let stacks = prop::collection::vec(layer(), 2..5);
    let result = runner.run(&stacks, |layers| {
        compare(&layers);
        Ok(())
    });
    if let Err(error) = result {
        panic!("{error}");
    }
}
