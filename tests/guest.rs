//! `rl` where systemd is the first process, on control groups of version 2: the cases of `tests/vm/cases`, and one of the
//! suites beside this one, each in a guest of its own, resumed from the moment at which `tests/vm/build` has saved it, or
//! booted where a case wants more than the one processor that it was saved with. A case's line `# guest:` says which guest.

// The guest is made for this machine only.
#![cfg(target_arch = "x86_64")]

mod support;

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

/// Seconds for a case; the machine may be slow and busy, and the guest is emulated.
const LIMIT: &str = "300";

/// A test for each case, and one that no case has been forgotten.
macro_rules! cases {
    ($($name:ident)*) => {
        $(
            #[test]
            fn $name() {
                case(stringify!($name));
            }
        )*

        #[test]
        fn every_case_is_run() {
            let mut there: Vec<_> = fs::read_dir(ours().join("cases"))
                .unwrap()
                .map(|entry| entry.unwrap().path().file_stem().unwrap().to_owned())
                .collect();
            there.sort();
            assert_eq!(there, [$(stringify!($name)),*]);
        }
    };
}

cases! {
    apparmor
    as_root
    basics
    disks
    doctor
    groups
    hugetlb
    init
    keep_id
    limits
    logins
    logout
    nested
    processors
    seen
    session
    stats
    switch
    systemd
    undelegated
    update
}

/// `tests/vm/suite` knows every suite, or why it cannot run in the guest.
#[test]
fn every_suite_is_known_to_the_guest() {
    let output = Command::new(ours().join("suite")).arg("--list").output();
    let list = String::from_utf8(output.unwrap().stdout).unwrap();
    let mut known: Vec<_> = list.lines().map(|l| l.split(':').next().unwrap()).collect();
    known.sort_unstable();
    let tests = ours().parent().unwrap();
    let mut there: Vec<String> = fs::read_dir(tests)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|e| e == "rs") || path.join("main.rs").exists())
        .map(|path| path.file_stem().unwrap().to_string_lossy().into_owned())
        .collect();
    there.sort();
    assert_eq!(known, there);
}

/// One suite of all that `tests/vm/suite all` runs there: what a container's walls need of a kernel.
#[test]
fn the_sandbox() {
    if !there_is_a_guest("bookworm") {
        return;
    }
    let mut command = Command::new(ours().join("suite"));
    if !cfg!(debug_assertions) {
        command.arg("--release");
    }
    run(command.arg("run_sandbox"));
}

fn ours() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/vm"))
}

/// With a skip where there is none of that name.
fn there_is_a_guest(name: &str) -> bool {
    let mut build = Command::new(ours().join("build"));
    let built = build.arg("--check").env("RL_GUEST", name).output();
    let built = built.unwrap();
    if !built.status.success() {
        support::skip(String::from_utf8_lossy(&built.stderr).trim());
    }
    built.status.success()
}

fn case(name: &str) {
    let text = fs::read_to_string(ours().join(format!("cases/{name}.sh"))).unwrap();
    let header = |key: &str| {
        let mut lines = text.lines();
        lines.find_map(|line| line.strip_prefix(&format!("# {key}: ")))
    };
    let guest = header("guest").unwrap_or("bookworm");
    if !there_is_a_guest(guest) {
        return;
    }
    let folder = tempfile::tempdir_in(support::place()).unwrap();
    for file in ["case", "lib.sh", &format!("cases/{name}.sh")] {
        let copy = folder.path().join(file.rsplit('/').next().unwrap());
        fs::copy(ours().join(file), copy).unwrap();
    }
    fs::copy(support::binary(), folder.path().join("rl")).unwrap();

    let mut command = Command::new(ours().join("run"));
    command.env("RL_GUEST", guest);
    command.args(["-v", "-m", "root", "-t", LIMIT, "-d"]);
    command.arg(folder.path());
    let processors = header("processors");
    command.args(processors.into_iter().flat_map(|n| ["-c", "-p", n]));
    run(command.args(["bash", "/mnt/host/case", name]));
}

fn run(command: &mut Command) {
    let output = command.stdin(Stdio::null()).output().unwrap();
    assert!(
        output.status.success(),
        "{}\n{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
}
