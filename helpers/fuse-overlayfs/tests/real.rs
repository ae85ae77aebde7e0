//! The real fuse-overlayfs in a user and mount namespace of its own.
//!
//! The test runs itself again under unshare(1); the inner run does the mounting.

#[path = "../../helper-process/tests/support/mod.rs"]
mod support;

use std::path::Path;
use std::process::{Child, Command, Stdio};

use fuse_overlayfs::{Options, PROGRAM};
use support::until;

fn program() -> Option<std::path::PathBuf> {
    support::program(PROGRAM, helper_process::FUSE)
}

#[test]
fn mounts_writes_and_shows_its_death() {
    if std::env::var_os("INNER").is_some() {
        return inner();
    }
    if program().is_none() {
        return;
    }
    let status = Command::new("unshare")
        .args(["--user", "--map-root-user", "--mount"])
        .arg(std::env::current_exe().unwrap())
        .args([
            "--exact",
            "mounts_writes_and_shows_its_death",
            "--nocapture",
        ])
        .env("INNER", "1")
        .status()
        .unwrap();
    assert!(status.success());
}

fn inner() {
    let program = program().unwrap();
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    for name in ["one,1", "two\\2", "upper", "work", "root"] {
        std::fs::create_dir(at(name)).unwrap();
    }
    std::fs::write(at("one,1").join("file"), "above").unwrap();
    std::fs::write(at("two\\2").join("file"), "below").unwrap();
    std::fs::write(at("two\\2").join("other"), "").unwrap();
    let options = Options {
        lower: vec![at("one,1"), at("two\\2")],
        upper: Some((at("upper"), at("work"))),
        volatile: true,
        ..Options::default()
    };
    let root = at("root");
    let mut running = options.command(&program, &root).unwrap().spawn().unwrap();
    until("mount", || root.join("file").exists());
    assert_eq!(std::fs::read_to_string(root.join("file")).unwrap(), "above");
    assert!(root.join("other").exists());
    std::fs::write(root.join("new"), "x").unwrap();
    assert!(at("upper").join("new").exists());

    umount(&root);
    assert!(end(&mut running), "it ends with its mount");

    let missing = Options {
        lower: vec![at("missing")],
        ..Options::default()
    };
    let mut command = missing.command(&program, &root).unwrap();
    let mut refused = command.stderr(Stdio::piped()).spawn().unwrap();
    assert!(!end(&mut refused));
    let words = std::io::read_to_string(refused.stderr.unwrap()).unwrap();
    assert!(words.contains("missing"), "{words}");
}

/// Waits for the end of a program; whether it went well.
fn end(child: &mut Child) -> bool {
    let mut status = None;
    until("end", || {
        status = child.try_wait().unwrap();
        status.is_some()
    });
    status.unwrap().success()
}

fn umount(path: &Path) {
    assert!(Command::new("umount").arg(path).status().unwrap().success());
}
