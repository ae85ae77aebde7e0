//! Layers as an adversary writes them, unpacked beside a tree that must not change.

mod layerkit;

use std::os::unix::fs::{MetadataExt as _, PermissionsExt};
use std::path::Path;
use std::process::Command;

use layerkit::{Tar, Yard, many_ids, skip, takes_xattrs, xattr};

/// Unpacks, expecting an error whose text has `part` in it.
fn refused(tar: Tar, part: &str) {
    let yard = Yard::new();
    let error = yard.unpack(&tar.end()).expect_err(part).to_string();
    assert!(error.contains(part), "`{error}` does not say `{part}`");
}

/// Unpacks and compares the tree: `path=what`, the root left out.
fn becomes(tar: Tar, expected: &[(&str, &str)]) -> Yard {
    let yard = Yard::new();
    yard.unpack(&tar.end()).unwrap();
    let tree = yard.tree();
    let seen: Vec<(&str, &str)> = tree
        .iter()
        .filter(|(k, _)| !k.is_empty())
        .map(|(k, v)| (&k[..], &v[..]))
        .collect();
    assert_eq!(seen, expected);
    yard
}

#[test]
fn names_cannot_leave_the_root() {
    refused(Tar::new().file("../canary/file", "x"), "`..`");
    refused(Tar::new().file("a/../../canary/file", "x"), "`..`");
    refused(Tar::new().dir("..", 0o777), "`..`");
    refused(Tar::new().hard("a", "../canary/file"), "`..`");
    becomes(
        Tar::new().file("/canary/file", "x"),
        &[("canary", "dir"), ("canary/file", "file x")],
    );
}

#[test]
fn links_are_followed_inside_the_root_only() {
    for target in [
        "../canary",
        "../../../../../../../tmp",
        "/etc",
        "/proc/self/root/etc",
    ] {
        refused(
            Tar::new().symlink("esc", target).file("esc/file", "x"),
            "not a directory",
        );
    }
    let yard = Yard::new();
    let outside = yard.dir.path().join("canary");
    let tar = Tar::new()
        .symlink("esc", outside.to_str().unwrap())
        .file("esc/file", "x");
    assert!(yard.unpack(&tar.end()).is_err());
    // `..` at the root stays at the root.
    becomes(
        Tar::new()
            .symlink("up", "../../..")
            .file("up/x", "1")
            .hard("up/y", "up/x"),
        &[("up", "-> ../../.."), ("x", "file 1"), ("y", "file 1")],
    );
    refused(
        Tar::new()
            .symlink("a", "b")
            .symlink("b", "a")
            .file("a/x", ""),
        "ELOOP",
    );
    refused(Tar::new().symlink("a", "a").file("a/x", ""), "ELOOP");
}

#[test]
fn merged_usr_works_by_relative_and_absolute_link() {
    for target in ["usr/lib", "/usr/lib", "./usr//lib/", "usr/../usr/lib"] {
        let tar = Tar::new()
            .dir("usr/lib", 0o755)
            .symlink("lib", target)
            .file("lib/x", "1");
        let link = format!("-> {target}");
        becomes(
            tar,
            &[
                ("lib", &link),
                ("usr", "dir"),
                ("usr/lib", "dir"),
                ("usr/lib/x", "file 1"),
            ],
        );
    }
}

#[test]
fn a_last_link_is_replaced_not_followed() {
    let to = |make: fn(Tar) -> Tar, what: &str| {
        for target in ["../canary/file", "../canary/dir", "x"] {
            becomes(make(Tar::new().symlink("s", target)), &[("s", what)]);
        }
    };
    to(|t| t.file("s", "mine"), "file mine");
    to(|t| t.dir("s", 0o777), "dir");
    to(|t| t.symlink("s", "other"), "-> other");
    to(|t| t.raw(b'6', b"s", b"", 0o644, (0, 0), b""), "fifo");
    to(|t| t.device(b'3', "s", 1, 3), "file ");
}

#[test]
fn attributes_never_go_through_a_link() {
    // The directory's mode is set last; by then its name is a link to the outside.
    for absolute in [false, true] {
        let yard = Yard::new();
        let outside = yard.dir.path().join("canary/dir");
        let target = if absolute {
            outside.to_str().unwrap()
        } else {
            "../canary/dir"
        };
        let tar = Tar::new()
            .dir("d", 0o7777)
            .symlink("d", target)
            .dir("p/d", 0o7777)
            .symlink("p", "/d");
        yard.unpack(&tar.end()).unwrap();
    }
    // A hard link to a link is a link; writing its name replaces it.
    becomes(
        Tar::new()
            .symlink("s", "../canary/file")
            .hard("h", "s")
            .file("h", "mine"),
        &[("h", "file mine"), ("s", "-> ../canary/file")],
    );
    // Whiteouts and opaque marks behind a link.
    becomes(
        Tar::new()
            .symlink("up", "../..")
            .file("up/.wh.canary", "")
            .file("up/.wh..wh..opq", ""),
        &[("canary", "whiteout"), ("up", "-> ../..")],
    );
}

#[test]
fn hard_links_stay_inside() {
    refused(
        Tar::new().symlink("esc", "../canary").hard("h", "esc/file"),
        "not in this layer",
    );
    refused(Tar::new().hard("h", "missing"), "hard link to `missing`");
    refused(Tar::new().hard("h", "h"), "not in this layer");
    refused(Tar::new().dir("d", 0o755).hard("h", "d"), "is a directory");
    refused(Tar::new().hard("h", "/"), "is a directory");
    refused(Tar::new().hard("h", ""), "no target");
    refused(
        Tar::new().file(".wh.w", "").hard("h", "w"),
        "not in this layer",
    );
    becomes(Tar::new().file("a", "1").hard("a", "a"), &[("a", "file 1")]);
    becomes(
        Tar::new().file("a", "1").hard("b", "./a").hard("b", "/a"),
        &[("a", "file 1"), ("b", "file 1")],
    );
    // The size field of a hard link is no data (Go's rule): the next header follows at once.
    let mut link = tar::Header::new_gnu();
    link.set_path("b").unwrap();
    link.set_link_name("a").unwrap();
    link.set_entry_type(tar::EntryType::Link);
    link.set_size(1 << 30);
    link.set_mode(0o644);
    becomes(
        Tar::new().file("a", "1").header(link).file("c", "2"),
        &[("a", "file 1"), ("b", "file 1"), ("c", "file 2")],
    );
}

#[test]
fn types_change_between_entries() {
    becomes(
        Tar::new()
            .file("a/b/c", "1")
            .file("a", "2")
            .dir("a", 0o755)
            .file("a/x", "3")
            .symlink("a", "b"),
        &[("a", "-> b")],
    );
    refused(
        Tar::new().file("a", "1").file("a/b", "2"),
        "`a` is not a directory",
    );
    refused(
        Tar::new().file("a/b/x", "").file("a", "").file("a/b/y", ""),
        "is not a directory",
    );
    // What is known of open directories must not outlive a change of names.
    becomes(
        Tar::new()
            .dir("usr/lib", 0o755)
            .symlink("lib", "usr/lib")
            .file("lib/x", "1")
            .dir("lib", 0o755)
            .file("lib/y", "2"),
        &[
            ("lib", "dir"),
            ("lib/y", "file 2"),
            ("usr", "dir"),
            ("usr/lib", "dir"),
            ("usr/lib/x", "file 1"),
        ],
    );
    // A directory entry keeps what is in the directory.
    becomes(
        Tar::new().file("d/x", "1").dir("d", 0o700).file("d/x", "2"),
        &[("d", "dir"), ("d/x", "file 2")],
    );
}

#[test]
fn whiteouts_hide_only_what_lies_below() {
    let made = &[("d", "opaque"), ("d/x", "file 1")][..];
    becomes(
        Tar::new()
            .file(".wh.d", "")
            .dir("d", 0o755)
            .file("d/x", "1"),
        made,
    );
    becomes(Tar::new().file(".wh.d", "").file("d/x", "1"), made);
    becomes(Tar::new().file("d/x", "1").file(".wh.d", ""), made);
    becomes(Tar::new().file("d/x", "1").file("d/.wh..wh..opq", ""), made);
    becomes(Tar::new().file("d/.wh..wh..opq", "").file("d/x", "1"), made);
    becomes(
        Tar::new().file("f", "1").file(".wh.f", ""),
        &[("f", "file 1")],
    );
    becomes(
        Tar::new().file(".wh.f", "").file("f", "1"),
        &[("f", "file 1")],
    );
    becomes(
        Tar::new().file(".wh.f", "").file(".wh.f", ""),
        &[("f", "whiteout")],
    );
    becomes(
        Tar::new()
            .file(".wh..wh.plnk/1.2", "x")
            .file(".wh..wh.aufs", "x"),
        &[],
    );
    for bad in [".wh.", ".wh..", ".wh...", "d/.wh."] {
        refused(Tar::new().file(bad, ""), "whiteout");
    }
    refused(Tar::new().file(".wh.d/x", ""), "through a whiteout");
    let yard = Yard::new();
    let tar = Tar::new().file("./.wh..wh..opq", "").file("x", "1").end();
    assert!(yard.unpack(&tar).unwrap().opaque_root);
}

#[test]
fn devices_never_become_whiteouts_or_devices() {
    let tar = Tar::new()
        .device(b'3', "white", 0, 0)
        .device(b'4', "sda", 8, 0);
    let yard = becomes(tar, &[("sda", "file "), ("white", "file ")]);
    if takes_xattrs(yard.dir.path()) {
        assert_eq!(
            xattr(&yard.layer().join("sda"), "user.rl.rdev").unwrap(),
            b"b:8:0"
        );
        assert_eq!(
            xattr(&yard.layer().join("white"), "user.rl.rdev").unwrap(),
            b"c:0:0"
        );
    }
}

#[test]
fn the_root_can_be_listed_but_not_replaced() {
    for name in ["", ".", "./", "/", "././"] {
        let yard = becomes(
            Tar::new().dir(name, 0o711).file("x", "1"),
            &[("x", "file 1")],
        );
        assert_eq!(
            yard.layer().metadata().unwrap().mode() & 0o7777,
            0o711,
            "{name}"
        );
    }
    let yard = becomes(Tar::new().file("x", "1"), &[("x", "file 1")]);
    assert_eq!(yard.layer().metadata().unwrap().mode() & 0o7777, 0o755);
    refused(Tar::new().file(".", "x"), "not a directory");
    refused(Tar::new().symlink("/", "../canary"), "not a directory");
}

#[test]
fn odd_names() {
    let long = "n".repeat(255);
    let deep = vec!["d"; 1500].join("/");
    becomes(Tar::new().file(&long, "1"), &[(&long, "file 1")]);
    refused(Tar::new().file("n".repeat(256), "1"), "ENAMETOOLONG");
    let yard = Yard::new();
    yard.unpack(&Tar::new().file(&deep, "1").end()).unwrap();
    refused(
        Tar::new().file(vec!["d"; 3000].join("/"), "1"),
        "ENAMETOOLONG",
    );
    refused(Tar::new().pax(&[("path", b"a\0b")]).file("x", ""), "NUL");
    refused(
        Tar::new().pax(&[("linkpath", b"a\0b")]).symlink("x", "y"),
        "NUL",
    );
    refused(Tar::new().symlink("x", ""), "no target");
    becomes(
        Tar::new().file(b"\xff\xfe", "1"),
        &[("\u{fffd}\u{fffd}", "file 1")],
    );
    becomes(
        Tar::new().file("a\nb\x1b[31m", "1"),
        &[("a\nb\x1b[31m", "file 1")],
    );
    // The error must not carry the terminal escape.
    let error = Yard::new()
        .unpack(&Tar::new().file("\x1b[31m/../x", "").end())
        .unwrap_err();
    assert!(!error.to_string().contains('\x1b'));
    // PAX beats the header and the GNU long name; a trailing slash says nothing.
    becomes(
        Tar::new()
            .pax(&[("path", b"p/")])
            .file("h".repeat(120), "1"),
        &[("p", "file 1")],
    );
    // A v7 archive marks directories by the slash alone.
    becomes(
        Tar::new().raw(0, b"v7/", b"", 0o755, (0, 0), b""),
        &[("v7", "dir")],
    );
}

#[test]
fn global_headers_change_nothing() {
    becomes(
        Tar::new()
            .pax_kind(b'g', &[("path", b"../canary/file"), ("comment", b"hello")])
            .file("a", "1")
            .file("b", "2"),
        &[("a", "file 1"), ("b", "file 2")],
    );
}

#[test]
fn bombs_are_defused() {
    let mut huge = tar::Header::new_gnu();
    huge.set_entry_type(tar::EntryType::XHeader);
    huge.set_size(1 << 40);
    refused(Tar::new().header(huge.clone()), "limit of 1 MiB");
    huge.set_entry_type(tar::EntryType::GNULongName);
    refused(Tar::new().header(huge.clone()), "limit of 1 MiB");
    huge.set_entry_type(tar::EntryType::Regular);
    huge.set_size(u64::MAX);
    refused(Tar::new().header(huge.clone()), "size");
    huge.set_size(1 << 50);
    huge.set_path("f").unwrap();
    refused(Tar::new().header(huge), "ends in the middle");
    let many = (0..100).fold(Tar::new(), |t, _| t.pax(&[("comment", b"x")]));
    refused(many.file("a", ""), "extension headers");
    refused(
        Tar::new().pax(&[("path", b"x")]).data(&[1; 512]),
        "checksum",
    );
    refused(
        Tar::new().raw(b'S', b"s", b"", 0o644, (0, 0), b"data"),
        "sparse",
    );
    for records in [
        &[
            (
                "GNU.sparse.map",
                &b"0,9223372036854775807,9223372036854775807,5"[..],
            ),
            ("GNU.sparse.size", b"9"),
        ][..],
        &[("GNU.sparse.map", b"5,1,0,1"), ("GNU.sparse.size", b"9")],
        &[("GNU.sparse.map", b"0"), ("GNU.sparse.size", b"9")],
        &[("GNU.sparse.map", b"0,100"), ("GNU.sparse.size", b"100")],
        &[("GNU.sparse.map", b"0,1")],
        &[("GNU.sparse.numbytes", b"1"), ("GNU.sparse.size", b"9")],
        &[("GNU.sparse.major", b"1"), ("GNU.sparse.size", b"9")],
        &[("GNU.sparse.major", b"7"), ("GNU.sparse.size", b"9")],
    ] {
        assert!(
            Yard::new()
                .unpack(&Tar::new().pax(records).file("s", "x").end())
                .is_err(),
            "{records:?}"
        );
    }
}

#[test]
fn truncated_archives_are_errors_except_between_entries() {
    let whole = Tar::new().file("a", "x".repeat(600)).bytes;
    for cut in [1, 511, 513, 1000, 1111] {
        assert!(Yard::new().unpack(&whole[..cut]).is_err(), "{cut}");
    }
    assert!(Yard::new().unpack(&whole).is_ok());
    assert!(Yard::new().unpack(b"").is_ok());
}

#[test]
fn steering_attributes_of_the_image_are_left_out() {
    let yard = Yard::new();
    if !takes_xattrs(yard.dir.path()) {
        return skip("user.* extended attributes on the temporary directory");
    }
    let records: &[(&str, &[u8])] = &[
        ("SCHILY.xattr.user.overlay.opaque", b"y"),
        ("SCHILY.xattr.user.overlay.redirect", b"/etc"),
        ("SCHILY.xattr.trusted.overlay.opaque", b"y"),
        ("SCHILY.xattr.user.rl.owner", b"0:0:777"),
        ("SCHILY.xattr.user.mine", b"a\nb=\x00\xff"),
    ];
    let tar = Tar::new()
        .pax(records)
        .dir("d", 0o755)
        .pax(records)
        .file("f", "1")
        .end();
    yard.unpack(&tar).unwrap();
    for name in ["d", "f"] {
        let path = yard.layer().join(name);
        let mut list = vec![0u8; 4096];
        let n = rustix::fs::llistxattr(&path, &mut list[..]).unwrap();
        assert_eq!(&list[..n], b"user.mine\0", "{name}");
        assert_eq!(xattr(&path, "user.mine").unwrap(), b"a\nb=\x00\xff");
    }
}

#[test]
fn modes_owners_and_times() {
    let tar = Tar::new()
        .dir("ro", 0o555)
        .pax(&[("mtime", b"1234567890.123456789")])
        .file("ro/x", "1")
        .dir("closed", 0o000)
        .file("closed/x", "1")
        .raw(b'0', b"suid", b"", 0o4755, (0, 0), b"1")
        .raw(b'0', b"other", b"", 0o6755, (7, 8), b"1")
        .raw(b'5', b"otherdir", b"", 0o2755, (7, 8), b"")
        .raw(b'2', b"otherlink", b"x", 0o777, (7, 8), b"")
        .end();
    let yard = Yard::new();
    yard.unpack(&tar).unwrap();
    let at = |name: &str| yard.layer().join(name).symlink_metadata().unwrap();
    assert_eq!(at("ro").mode() & 0o7777, 0o555);
    assert_eq!(
        at("ro").mtime(),
        1_000_000_000,
        "making the child must not show"
    );
    assert_eq!(
        (at("ro/x").mtime(), at("ro/x").mtime_nsec()),
        (1_234_567_890, 123_456_789)
    );
    assert_eq!(at("closed").mode() & 0o7777, 0);
    assert_eq!(at("suid").mode() & 0o7777, 0o4755);
    if many_ids() {
        for name in ["other", "otherdir", "otherlink"] {
            assert_eq!((at(name).uid(), at(name).gid()), (7, 8), "{name}");
        }
        assert_eq!(at("other").mode() & 0o7777, 0o6755);
    } else {
        assert_eq!(
            at("other").mode() & 0o7777,
            0o755,
            "setuid to the wrong user"
        );
        if takes_xattrs(yard.dir.path()) {
            assert_eq!(
                xattr(&yard.layer().join("other"), "user.rl.owner").unwrap(),
                b"7:8:6755"
            );
            assert_eq!(
                xattr(&yard.layer().join("otherdir"), "user.rl.owner").unwrap(),
                b"7:8:2755"
            );
        }
    }
    std::fs::set_permissions(
        yard.layer().join("closed"),
        PermissionsExt::from_mode(0o700),
    )
    .unwrap();
}

#[test]
fn an_unmapped_owner_is_named() {
    use rl::model::IdMap;
    use rl::store::unpack::{Owners, unpack};
    let yard = Yard::new();
    let few = IdMap::new(vec![rl::model::IdRange {
        container: 0,
        host: 0,
        length: 5,
    }])
    .unwrap();
    let owners = Owners::Kept {
        uid: few.clone(),
        gid: few,
    };
    let tar = Tar::new()
        .raw(b'0', b"shadow", b"", 0o640, (0, 42), b"")
        .end();
    let root = rl::sys::fs::Root::open(&yard.layer()).unwrap();
    let error = unpack(&tar[..], root, &owners).unwrap_err();
    let text = error.to_string();
    assert!(
        text.contains("shadow") && text.contains("gid 42") && text.contains("0 0 5"),
        "{text}"
    );
    assert!(error.hint().unwrap().contains("/etc/subgid"));
}

#[test]
fn file_capabilities_survive() {
    let value: [u8; 20] = {
        let mut v = [0; 20];
        v[..4].copy_from_slice(&0x0200_0001u32.to_le_bytes());
        // Bit 13, CAP_NET_RAW, and the newline that breaks readers which cut PAX records at lines.
        v[4..8].copy_from_slice(&0x0000_200au32.to_le_bytes());
        v
    };
    let yard = Yard::new();
    let tar = Tar::new()
        .pax(&[("SCHILY.xattr.security.capability", &value)])
        .file("ping", "1")
        .end();
    let report = yard.unpack(&tar).unwrap();
    match xattr(&yard.layer().join("ping"), "security.capability") {
        Some(set) => assert_eq!(set[4..8], value[4..8]),
        None if rustix::process::geteuid().is_root() => panic!("lost: {:?}", report.notes),
        None => assert!(
            report.notes[0].contains("security.capability"),
            "{:?}",
            report.notes
        ),
    }
}

#[test]
fn sparse_files_and_zeros_take_no_space() {
    let blocks = |path: &Path| path.metadata().unwrap().blocks();
    let mut zeros = vec![0u8; 4 << 20];
    zeros[3 << 20] = 1;
    let map10 = {
        let mut map = b"2\n0\n3\n1048576\n3\n".to_vec();
        map.resize(512, 0);
        map.extend(b"abcdef");
        map
    };
    let tar = Tar::new()
        .file("zeros", &zeros)
        .file("tail", [vec![1u8; 65536], vec![0; 1 << 20]].concat())
        .pax(&[
            ("GNU.sparse.map", b"0,3,1048576,3"),
            ("GNU.sparse.size", b"2097152"),
            ("GNU.sparse.name", b"s01"),
        ])
        .file("GNUSparseFile.0/s01", "abcdef")
        .pax(&[
            ("GNU.sparse.major", b"1"),
            ("GNU.sparse.minor", b"0"),
            ("GNU.sparse.name", b"s10"),
            ("GNU.sparse.realsize", b"2097152"),
        ])
        .file("GNUSparseFile.0/s10", map10)
        .file("after", "1")
        .end();
    let yard = Yard::new();
    yard.unpack(&tar).unwrap();
    let read = |name: &str| std::fs::read(yard.layer().join(name)).unwrap();
    assert_eq!(read("zeros"), zeros);
    assert!(blocks(&yard.layer().join("zeros")) <= 256);
    assert_eq!(read("tail").len(), 65536 + (1 << 20));
    assert!(blocks(&yard.layer().join("tail")) <= 160);
    for name in ["s01", "s10"] {
        let content = read(name);
        assert_eq!(content.len(), 2_097_152, "{name}");
        assert_eq!(
            (&content[..4], &content[1_048_576..1_048_580]),
            (&b"abc\0"[..], &b"def\0"[..])
        );
        assert!(blocks(&yard.layer().join(name)) <= 32);
    }
    assert_eq!(read("after"), b"1");
}

#[test]
fn gnu_tar_writes_what_we_read() {
    let source = tempfile::tempdir().unwrap();
    let path = source.path();
    std::fs::create_dir_all(path.join("a").join("x".repeat(150))).unwrap();
    let sparse = std::fs::File::create(path.join("sparse")).unwrap();
    for i in 0..30u64 {
        std::os::unix::fs::FileExt::write_all_at(&sparse, b"data", i * 1_000_000).unwrap();
    }
    std::fs::write(path.join("a").join("x".repeat(150)).join("f"), "deep").unwrap();
    std::os::unix::fs::symlink("y".repeat(150), path.join("long")).unwrap();
    std::fs::hard_link(path.join("sparse"), path.join("zz")).unwrap();
    for format in ["gnu", "pax", "posix"] {
        for sparse in [
            "--sparse-version=0.0",
            "--sparse-version=0.1",
            "--sparse-version=1.0",
        ] {
            let output = Command::new("tar")
                .args(["-S", "--format", format, sparse, "-cf", "-", "-C"])
                .arg(path)
                .arg(".")
                .output()
                .unwrap();
            assert!(output.status.success());
            let yard = Yard::new();
            // GNU tar stores this machine's owners, which the map may not have.
            if many_ids() || rustix::process::geteuid().is_root() {
                yard.unpack(&output.stdout).unwrap();
                let mut expected = layerkit::snapshot(path, false);
                expected.remove("");
                let mut tree = yard.tree();
                tree.remove("");
                assert_eq!(tree, expected, "{format} {sparse}");
                let unpacked = yard.layer().join("sparse");
                assert_eq!(
                    std::fs::read(&unpacked).unwrap(),
                    std::fs::read(path.join("sparse")).unwrap()
                );
                assert!(unpacked.metadata().unwrap().blocks() < 1000);
            }
        }
    }
}

#[test]
fn a_very_deep_tree_can_be_replaced() {
    // Links make the tree deeper than one name can say: each round goes 900 levels down.
    let run = vec!["d"; 900].join("/");
    let mut tar = Tar::new();
    for round in 0..4 {
        let base = if round == 0 {
            String::new()
        } else {
            format!("l{}/", round - 1)
        };
        tar = tar.dir(format!("{base}{run}"), 0o700);
        let target = [&run[..]; 1].join("/");
        let target = if round == 0 {
            target
        } else {
            format!("l{}/{run}", round - 1)
        };
        tar = tar.symlink(format!("l{round}"), target);
    }
    becomes(
        tar.file("d", "flat"),
        &[
            ("d", "file flat"),
            ("l0", &format!("-> {run}")),
            ("l1", &format!("-> l0/{run}")),
            ("l2", &format!("-> l1/{run}")),
            ("l3", &format!("-> l2/{run}")),
        ],
    );
}

#[test]
fn the_same_for_other_identities() {
    layerkit::again_as_others();
}
