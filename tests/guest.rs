//! `rl` where systemd is the first process, on control groups of version 2: the cases of `tests/vm/cases`, each in a
//! guest of its own, resumed from the moment at which `tests/vm/build` has saved it.

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
    as_root
    basics
    doctor
    groups
    hugetlb
    init
    limits
    nested
    systemd
    undelegated
}

fn ours() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/vm"))
}

fn case(name: &str) {
    let built = Command::new(ours().join("build")).arg("--check").output();
    let built = built.unwrap();
    if !built.status.success() {
        return support::skip(String::from_utf8_lossy(&built.stderr).trim());
    }

    let folder = tempfile::tempdir_in("/var/tmp").unwrap();
    for file in ["case", "lib.sh", &format!("cases/{name}.sh")] {
        let copy = folder.path().join(file.rsplit('/').next().unwrap());
        fs::copy(ours().join(file), copy).unwrap();
    }
    fs::copy(support::binary(), folder.path().join("rl")).unwrap();

    let mut command = Command::new(ours().join("run"));
    command.args(["-v", "-m", "root", "-t", LIMIT, "-d"]);
    command.arg(folder.path());
    command.args(["bash", "/mnt/host/case", name]);
    let output = command.stdin(Stdio::null()).output().unwrap();
    assert!(
        output.status.success(),
        "{}\n{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
}
