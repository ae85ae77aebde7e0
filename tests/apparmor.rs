//! The line for Ubuntu, whose kernel gives user namespaces only to programs with a profile: it is made by `rl doctor`, run
//! by root, and read by a parser of AppArmor 4.
//!
//! No kernel of Debian has the switch, so the refusal is that of a chroot (user_namespaces(7)), the switch is a file in its
//! place, and the parser keeps what it makes to itself. That a kernel with the profile loaded lets the program make its user
//! namespace is seen in a guest (`tests/vm/cases/apparmor.sh`), where a policy for all refuses it in place of the switch.

#[macro_use]
mod support;

use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;
use support::{Env, Identity, skip};

/// A copy of the switches with that of Ubuntu among them; /etc to write in, with the files that AppArmor 4 comes with.
/// What is mounted over the root last makes a chroot of the one that everybody here has.
const UBUNTU: &str = r#"
    mount -t tmpfs none /mnt; mkdir /mnt/kernel /mnt/up /mnt/work
    cp -r /proc/sys/kernel/. /mnt/kernel 2>/dev/null || true
    echo 1 >/mnt/kernel/apparmor_restrict_unprivileged_userns; chmod -R a+rX /mnt
    mount -t overlay -o lowerdir=/etc,upperdir=/mnt/up,workdir=/mnt/work none /etc
    mkdir -p /etc/apparmor.d; cp -r "$APPARMOR"/etc/apparmor.d/. /etc/apparmor.d
    mount --bind /mnt/kernel /proc/sys/kernel; umount -l /mnt
    mount --rbind / /"#;

/// The parser, which the kernel here has no use for: it compiles, and loads nothing.
const PARSER: &str = r#"#!/bin/sh
lib=$(dirname "$APPARMOR"/usr/lib/*/ld-linux-*.so.*)
exec "$lib"/ld-linux-*.so.* --library-path "$lib" "$APPARMOR"/usr/sbin/apparmor_parser --skip-kernel-load --skip-cache "$@"
"#;

struct Ubuntu {
    t: Env,
    /// The unpacked AppArmor.
    apparmor: PathBuf,
}

impl Ubuntu {
    /// The calling thread is there from here on.
    fn new() -> Option<Ubuntu> {
        let t = Env::new(Identity::Sub)?;
        if !support::identity::is_root() {
            skip("changing what is mounted needs root");
            return None;
        }
        let apparmor = support::images::fixture("apparmor")?;
        // Asked for while files are where they were.
        support::binary();
        let parser = t.file("apparmor_parser", PARSER);
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        std::fs::set_permissions(parser, mode).unwrap();
        nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNS).unwrap();
        let ubuntu = Ubuntu { t, apparmor };
        let made = ubuntu.as_root(&format!("mount --make-rprivate /; {UBUNTU}"));
        assert!(made.status.success(), "{made:?}");
        Some(ubuntu)
    }

    /// A script of root's, who finds the parser in PATH.
    fn as_root(&self, script: &str) -> Output {
        let path = std::env::var("PATH").unwrap();
        let path = format!("{}:{path}", self.t.path(".").display());
        let mut sh = Command::new("/bin/sh");
        sh.args(["-ec", script]).env("PATH", path);
        sh.env("APPARMOR", &self.apparmor).output().unwrap()
    }

    /// What `rl doctor` says of user namespaces.
    fn verdict(&self, program: &Path) -> Value {
        let output = self.t.program(program).args(["doctor", "--json"]).run();
        let found: Vec<Value> = serde_json::from_slice(&output.exits(1).stdout).unwrap();
        let found = found.into_iter().find(|f| f["id"] == "user-namespace");
        found.unwrap()
    }

    /// The bytes that the profile's path matches: the states of what it is compiled to are a chain, a byte each.
    fn attached(&self) -> Vec<u8> {
        let script = "apparmor_parser --dump=dfa-states -r /etc/apparmor.d/rl 2>&1";
        let text = String::from_utf8(self.as_root(script).stdout).unwrap();
        let states: Vec<&str> = text.split("} perms: none\n").skip(1).collect();
        let byte = |state: &&str| {
            let (step, next) = state.split_once(" -> {").unwrap();
            let end = next.find("\n    ").unwrap_or(next.len());
            assert_eq!(end, next.len(), "more than one way on: {text}");
            let number = step.rsplit("0x").next().unwrap();
            u8::from_str_radix(number, 16).unwrap_or_else(|_| panic!("{step}: {text}"))
        };
        states.iter().map(byte).collect()
    }
}

#[test]
fn ubuntus_switch_and_its_profile() {
    let Some(ubuntu) = Ubuntu::new() else { return };
    let t = &ubuntu.t;
    let odd = t.directory("a [x]{b}*?^\\\"q @{c}'d#,$(e)é").join("rl");
    std::fs::copy(support::binary(), &odd).unwrap();
    for program in [support::binary(), &odd] {
        let verdict = ubuntu.verdict(program);
        assert_eq!(verdict["verdict"], "missing", "{verdict}");
        let evidence = verdict["evidence"].as_str().unwrap();
        let switch = "EPERM; kernel.apparmor_restrict_unprivileged_userns is 1";
        assert!(evidence.ends_with(switch), "{evidence}");
        assert_eq!(verdict["as_root"], true, "{verdict}");
        let line = verdict["fix"].as_str().unwrap();
        let script = t.program(program).args(["doctor", "--admin-script"]).run();
        assert!(script.exits(1).out().contains(line), "{line}");

        let done = ubuntu.as_root(line);
        assert!(done.status.success(), "{done:?}\n{line}");
        let names = ubuntu.as_root("apparmor_parser --names /etc/apparmor.d/rl");
        assert_eq!(String::from_utf8_lossy(&names.stdout), "rl\n", "{names:?}");
        let real = program.canonicalize().unwrap();
        assert_eq!(
            String::from_utf8_lossy(&ubuntu.attached()),
            String::from_utf8_lossy(real.as_os_str().as_bytes())
        );
        // A parser that takes everything would show nothing.
        for (right, wrong) in [
            ("userns,", "usernz,"),
            ("abi/4.0", "abi/4.O"),
            ("\" fl", " fl"),
        ] {
            let wrong = ubuntu.as_root(&line.replacen(right, wrong, 1));
            assert!(!wrong.status.success(), "{wrong:?}\n{line}");
        }
    }
}

/// The same in one line under what cannot start; and what it is when the switch is off, which it asks for as well.
#[test]
fn a_container_there_and_its_hint() {
    let Some(ubuntu) = Ubuntu::new() else { return };
    let run = || {
        let output = ubuntu.t.run(["true"]).run();
        output.refuses(125, "error: ").err()
    };
    let line = "sysctl -w kernel.apparmor_restrict_unprivileged_userns=0";
    let hint = format!(
        "hint: as root: `{line}`, or for this program alone what `rl doctor --admin-script` prints"
    );
    let said = run();
    assert_eq!(said.lines().last(), Some(&*hint), "{said}");
    let done = ubuntu.as_root(line);
    assert!(done.status.success(), "{done:?}");
    let said = run();
    assert!(!said.contains("apparmor"), "{said}");
    assert!(said.lines().last().unwrap().starts_with("hint: "), "{said}");
}
