//! The real fuse-overlayfs in a user and mount namespace of its own.
//!
//! The test runs itself again under unshare(1); the inner run does the mounting.

use std::path::Path;
use std::process::Command;

use fuse_overlayfs::{Error, Options, check_device, is_mounted, spawn};

/// Passes the test over, unless the machine is one where everything must work.
fn skip(missing: &str) {
    assert!(
        std::env::var_os("RL_MUST_WORK").is_none(),
        "must not be skipped: {missing}"
    );
    eprintln!("skipped: {missing}");
}

#[test]
fn mounts_writes_and_shows_its_death() {
    if std::env::var_os("INNER").is_some() {
        return inner();
    }
    if helper_process::find("fuse-overlayfs", None).is_none() {
        return skip("fuse-overlayfs");
    }
    if check_device().is_err() {
        return skip("/dev/fuse");
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
    let program = helper_process::find("fuse-overlayfs", None).unwrap();
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
    assert!(!is_mounted(&root).unwrap());
    let command = options.command(&program, &root).unwrap();
    let mut running = spawn(command, &root).unwrap().wait_ready().unwrap();
    assert!(is_mounted(&root).unwrap());
    assert_eq!(std::fs::read_to_string(root.join("file")).unwrap(), "above");
    assert!(root.join("other").exists());
    std::fs::write(root.join("new"), "x").unwrap();
    assert!(at("upper").join("new").exists());

    umount(&root);
    let limit = std::time::Duration::from_secs(20);
    assert!(
        helper_process::wait_readable(running.pidfd(), limit).unwrap(),
        "it ends with its mount"
    );
    assert!(running.try_wait().unwrap().unwrap().success());

    let missing = Options {
        lower: vec![at("missing")],
        ..Options::default()
    };
    let command = missing.command(&program, &root).unwrap();
    match spawn(command, &root).unwrap().wait_ready() {
        Err(Error::Died { stderr, .. }) => assert!(stderr.contains("missing"), "{stderr}"),
        other => panic!("{other:?}"),
    }
}

fn umount(path: &Path) {
    assert!(Command::new("umount").arg(path).status().unwrap().success());
}
