//! The real newuidmap and newgidmap on a real user namespace, and their refusals.

use std::os::unix::fs::PermissionsExt as _;
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use newuidmap_sys::{Cause, Error, Files, Kind, Map, Programs, lookup, spawn_maps, user_name};

/// Passes the test over, unless the machine is one where everything must work.
fn skip(missing: &str) {
    assert!(
        std::env::var_os("RL_MUST_WORK").is_none(),
        "must not be skipped: {missing}"
    );
    // Past what keeps the output of a test that passes.
    let line = format!("skipped: {missing}\n");
    let _ = std::io::Write::write_all(&mut std::io::stderr(), line.as_bytes());
}

/// A process in a user namespace without maps.
struct Unmapped(Child);

impl Unmapped {
    fn new() -> Self {
        let child = Command::new("unshare")
            .args(["--user", "sleep", "1000"])
            .spawn()
            .unwrap();
        let comm = format!("/proc/{}/comm", child.id());
        let deadline = Instant::now() + Duration::from_secs(20);
        while !std::fs::read_to_string(&comm).is_ok_and(|name| name == "sleep\n") {
            assert!(Instant::now() < deadline, "unshare did not get there");
            std::thread::sleep(Duration::from_millis(2));
        }
        Unmapped(child)
    }

    fn map(&self, file: &str) -> Vec<Map> {
        let text = std::fs::read_to_string(format!("/proc/{}/{file}", self.0.id())).unwrap();
        let numbers = |line: &str| -> Vec<u32> {
            line.split_whitespace()
                .map(|n| n.parse().unwrap())
                .collect()
        };
        text.lines()
            .map(numbers)
            .map(|n| (n[0], n[1], n[2]))
            .collect()
    }
}

impl Drop for Unmapped {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn own() -> (u32, u32) {
    (
        rustix::process::getuid().as_raw(),
        rustix::process::getgid().as_raw(),
    )
}

/// A line for the own id and one for the first granted range, of `kind`.
fn granted(kind: Kind, own: u32) -> Option<[Map; 2]> {
    let name = user_name(own_uid(), None);
    let found = lookup(&Files::default(), kind, name.as_deref(), own_uid(), None);
    let range = found.ranges.first()?;
    Some([(0, own, 1), (1, range.start, range.length)])
}

fn own_uid() -> u32 {
    own().0
}

#[test]
fn granted_ranges_are_mapped() {
    let Ok(programs) = Programs::find(None) else {
        return skip("newuidmap");
    };
    let (uid, gid) = own();
    let (Some(uids), Some(gids)) = (granted(Kind::Uid, uid), granted(Kind::Gid, gid)) else {
        eprintln!("nothing to try: this user has no subordinate ids");
        return;
    };
    let child = Unmapped::new();
    spawn_maps(&programs, child.0.id(), &uids, &gids)
        .unwrap()
        .wait()
        .unwrap();
    assert_eq!(child.map("uid_map"), uids);
    assert_eq!(child.map("gid_map"), gids);
}

#[test]
fn a_range_that_is_not_granted_is_refused_with_a_fix() {
    let Ok(programs) = Programs::find(None) else {
        return skip("newuidmap");
    };
    let child = Unmapped::new();
    let (uid, gid) = own();
    let uids = [(0, uid, 1), (1, 4_000_000_000, 10)];
    let error = spawn_maps(&programs, child.0.id(), &uids, &[(0, gid, 1)])
        .unwrap()
        .wait();
    let error = error.unwrap_err();
    assert!(
        matches!(
            error,
            Error::Failed {
                cause: Cause::RangeNotAllowed,
                ..
            }
        ),
        "{error}"
    );
    let hint = error.hint("ann").unwrap();
    assert!(
        hint.starts_with("usermod --add-subuids ") && hint.ends_with(" ann"),
        "{hint}"
    );
    assert!(child.map("uid_map").is_empty());
}

#[test]
fn a_program_without_privilege_is_named() {
    if rustix::process::geteuid().is_root() {
        return; // root needs no privileged program
    }
    let Ok(programs) = Programs::find(None) else {
        return skip("newuidmap");
    };
    let (uid, gid) = own();
    let (Some(uids), Some(gids)) = (granted(Kind::Uid, uid), granted(Kind::Gid, gid)) else {
        return;
    };
    let dir = tempfile::tempdir().unwrap();
    for kind in [Kind::Uid, Kind::Gid] {
        let copy = dir.path().join(kind.program());
        std::fs::copy(programs.path(kind), &copy).unwrap();
        std::fs::set_permissions(&copy, std::fs::Permissions::from_mode(0o755)).unwrap();
    }
    let copies = Programs::find(Some(dir.path().as_os_str())).unwrap();
    let child = Unmapped::new();
    let error = spawn_maps(&copies, child.0.id(), &uids, &gids)
        .unwrap()
        .wait()
        .unwrap_err();
    let Error::Failed { cause, .. } = &error else {
        panic!("{error}")
    };
    // The temporary directory may be on a nosuid mount, which is as good a reason.
    assert!(
        matches!(cause, Cause::NotPrivileged | Cause::NosuidMount),
        "{error}"
    );
    if *cause == Cause::NotPrivileged {
        let expected = format!("chmod u+s {}", dir.path().join("newuidmap").display());
        assert_eq!(error.hint("ann"), Some(expected));
    }
}
