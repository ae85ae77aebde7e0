//! `rl` where systemd is the first process, on control groups of version 2: the cases of `tests/vm/cases`, run in
//! one resumed guest, which `tests/vm/build` has made.
//!
//! `RL_GUEST_CASES="basics doctor"` runs these only.

// The guest is made for this machine only.
#![cfg(target_arch = "x86_64")]

mod support;

use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

/// Seconds for all the cases; the machine may be slow and busy, and the guest is emulated.
const LIMIT: &str = "600";

#[test]
fn every_case_passes() {
    let ours = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vm");
    let built = Command::new(ours.join("build")).arg("--check").output();
    let built = built.unwrap();
    if !built.status.success() {
        return support::skip(String::from_utf8_lossy(&built.stderr).trim());
    }

    let folder = tempfile::tempdir_in("/var/tmp").unwrap();
    let copied = Command::new("cp")
        .args(["-R", "all", "lib.sh", "cases"])
        .arg(folder.path())
        .current_dir(&ours)
        .status();
    assert!(copied.unwrap().success());
    fs::copy(support::binary(), folder.path().join("rl")).unwrap();

    let mut command = Command::new(ours.join("run"));
    command.args(["-v", "-m", "root", "-t", LIMIT, "-d"]);
    command.arg(folder.path());
    command.args(["bash", "/mnt/host/all", "/mnt/host"]);
    let wanted = std::env::var("RL_GUEST_CASES").unwrap_or_default();
    command.args(wanted.split_whitespace());
    let output = command.stdin(Stdio::null()).output().unwrap();
    let (out, err) = (
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr),
    );

    // `== case NAME`, what it printed, and `== ok NAME SECONDS` or `== FAILED NAME SECONDS: REASON`.
    // Told also when all is well, past what the test harness holds back.
    let mut report = std::io::stderr();
    let mut failed = Vec::new();
    let mut verdicts = 0;
    for case in out.split("== case ").skip(1) {
        let Some((_, verdict)) = case.trim_end().rsplit_once("\n== ") else {
            failed.push(case);
            continue;
        };
        writeln!(report, "{verdict}").unwrap();
        verdicts += 1;
        if !verdict.starts_with("ok ") {
            failed.push(case);
        }
    }
    writeln!(report, "{}", err.trim_end()).unwrap();
    assert!(failed.is_empty(), "{}", failed.concat());
    assert!(output.status.success() && verdicts > 0, "{out}\n{err}");
}
