//! `rl doctor` on this machine, and on ones that lack something: what it says, and that its lines, executed where
//! the lack was made, turn the verdict.

#[macro_use]
mod support;

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use serde_json::Value;
use support::{Env, Identity, Program, skip};

/// The findings; the exit status must say the same.
#[track_caller]
fn findings(t: &Env) -> Vec<Value> {
    findings_of(t.rl(["doctor", "--json"]))
}

#[track_caller]
fn findings_of(program: Program<'_>) -> Vec<Value> {
    let output = program.run();
    let found: Vec<Value> = serde_json::from_slice(&output.stdout).unwrap();
    let well = found.iter().all(|f| is(f, "ok") || is(f, "note"));
    let output = output.exits(i32::from(!well));
    assert_eq!(output.err(), "");
    found
}

fn is(finding: &Value, verdict: &str) -> bool {
    finding["verdict"] == verdict
}

#[track_caller]
fn finding<'a>(found: &'a [Value], id: &str) -> &'a Value {
    found
        .iter()
        .find(|f| f["id"] == id)
        .unwrap_or_else(|| panic!("no `{id}`: {found:#?}"))
}

/// The line for root.
#[track_caller]
fn line(finding: &Value) -> String {
    assert_eq!(finding["as_root"], true, "{finding:#?}");
    finding["fix"].as_str().unwrap().to_owned()
}

#[track_caller]
fn sh(line: &str) {
    let status = Command::new("/bin/sh").args(["-ec", line]).status();
    assert!(status.unwrap().success(), "{line}");
}

/// A user, where the calling thread has mounts of its own, changed by `script`.
#[track_caller]
fn alone(who: Identity, script: &str) -> Option<Env> {
    let t = Env::new(who)?;
    if !support::identity::is_root() {
        skip("changing what is mounted needs root");
        return None;
    }
    nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNS).unwrap();
    sh(&format!("mount --make-rprivate /; {script}"));
    Some(t)
}

const POWERLESS: &str = "for p in newuidmap newgidmap; do f=$(readlink -f \"$(command -v $p)\"); \
    cp \"$f\" /var/tmp/rl-test-$$; chmod 755 /var/tmp/rl-test-$$; mount --bind /var/tmp/rl-test-$$ \"$f\"; \
    rm /var/tmp/rl-test-$$; done";

identities! {
    /// What this machine has is judged to be well; the table fits a terminal; nothing stays behind.
    fn this_machine(t: [sub nosub unshared root]) {
        let found = findings(t);
        for id in ["user-namespace", "overlay", "network-helper", "named-networks", "network-namespace", "proc", "store"] {
            assert!(is(finding(&found, id), "ok"), "{found:#?}");
        }
        let ids = finding(&found, "subordinate-ids");
        assert!(is(ids, if t.who.has_many_ids() { "ok" } else { "degraded" }), "{found:#?}");
        if t.who == Identity::NoSub {
            assert!(line(ids).starts_with("usermod --add-subuids "), "{ids}");
            assert!(line(ids).ends_with(&support::identity::name_of(t.uid())), "{ids}");
        }
        let table = t.rl(["doctor"]).run().out();
        assert!(table.contains("rl run takes:") && !table.contains('\x1b'), "{table}");
        for line in table.lines().filter(|l| !l.contains('`')) {
            assert!(line.chars().count() <= 80, "{line}");
        }
        let left = std::fs::read_dir(t.dir().join("data/rl")).unwrap();
        let left: Vec<_> = left.map(|e| e.unwrap().file_name()).collect();
        assert!(left.is_empty(), "{left:?}");
    }
}

#[test]
fn powerless_newuidmap_and_its_line() {
    let Some(t) = alone(Identity::Sub, POWERLESS) else {
        return;
    };
    for (program, id) in [("newuidmap", "newuidmap"), ("newgidmap", "newuidmap")] {
        let found = findings(&t);
        let finding = finding(&found, id);
        assert!(is(finding, "degraded"), "{finding}");
        assert!(
            line(finding).starts_with("chmod u+s ") && line(finding).ends_with(program),
            "{finding}"
        );
        sh(&line(finding));
    }
    let found = findings(&t);
    assert!(
        is(finding(&found, "newuidmap"), "ok") && is(finding(&found, "id-maps"), "ok"),
        "{found:#?}"
    );
}

/// usermod replaces the files by renaming: not those bound here, so /etc as a whole is an overlay.
const OWN_ETC: &str = "mkdir /var/tmp/rl-test-$$; mount -t tmpfs none /var/tmp/rl-test-$$; cd /var/tmp/rl-test-$$; \
    mkdir up work; mount -t overlay -o lowerdir=/etc,upperdir=up,workdir=work none /etc; cd /; \
    umount -l /var/tmp/rl-test-$$; rmdir /var/tmp/rl-test-$$";

#[test]
fn no_subordinate_ids_and_their_line() {
    let Some(t) = alone(Identity::NoSub, OWN_ETC) else {
        return;
    };
    let found = findings(&t);
    let before = finding(&found, "subordinate-ids");
    assert!(is(before, "degraded"), "{before}");
    let line = line(before);
    sh(&line);
    let found = findings(&t);
    assert!(
        is(finding(&found, "subordinate-ids"), "ok") && is(finding(&found, "id-maps"), "ok"),
        "{found:#?}"
    );
    // Of ids of one kind no more are given.
    let groups = std::fs::read_to_string("/etc/subgid").unwrap();
    let name = support::identity::name_of(t.uid());
    let others = groups
        .lines()
        .filter(|l| !l.starts_with(&format!("{name}:")));
    std::fs::write(
        "/etc/subgid",
        others.map(|l| format!("{l}\n")).collect::<String>(),
    )
    .unwrap();
    let found = findings(&t);
    let before = finding(&found, "subordinate-ids");
    assert!(
        before["fix"]
            .as_str()
            .unwrap()
            .starts_with("usermod --add-subgids "),
        "{before}"
    );
    sh(&self::line(before));
    assert!(is(finding(&findings(&t), "subordinate-ids"), "ok"));
    // Once more does nothing more.
    let granted = std::fs::read_to_string("/etc/subuid").unwrap();
    sh(&line);
    assert_eq!(std::fs::read_to_string("/etc/subuid").unwrap(), granted);
}

#[test]
fn no_user_namespaces_and_their_line() {
    let Some(t) = Env::new(Identity::Unshared) else {
        return;
    };
    let script = "sysctl -qw user.max_user_namespaces=0; $RL doctor --json >first || true; \
        $RL run --rm --network none --rootfs . true 2>error || true; \
        $RL doctor --admin-script >fix || true; sh fix >/dev/null; $RL doctor --json || true";
    let output = t.sh(script).run().ok();
    let read = |name| std::fs::read_to_string(t.path(name)).unwrap();
    let first: Vec<Value> = serde_json::from_str(&read("first")).unwrap();
    let before = finding(&first, "user-namespace");
    assert!(is(before, "missing"), "{before}");
    assert!(
        before["evidence"]
            .as_str()
            .unwrap()
            .contains("user.max_user_namespaces is 0"),
        "{before}"
    );
    let line = line(before);
    assert!(
        line.starts_with("sysctl -w user.max_user_namespaces="),
        "{line}"
    );
    assert!(read("fix").contains(&line), "{}", read("fix"));
    assert!(
        read("error").contains(&format!("hint: as root: {line}")),
        "{}",
        read("error")
    );
    let last: Vec<Value> = serde_json::from_slice(&output.stdout).unwrap();
    assert!(is(finding(&last, "user-namespace"), "ok"), "{last:#?}");
}

/// Two lacks at once, mended by the script.
#[test]
fn the_script_mends_what_it_names() {
    let devices = "mkdir /var/tmp/rl-dev-$$; mount -t tmpfs none /var/tmp/rl-dev-$$; \
        mknod /var/tmp/rl-dev-$$/tun c 10 200; chmod 0 /var/tmp/rl-dev-$$/tun; \
        mount --bind /var/tmp/rl-dev-$$/tun /dev/net/tun; umount -l /var/tmp/rl-dev-$$; rmdir /var/tmp/rl-dev-$$";
    let Some(t) = alone(Identity::Sub, &format!("{POWERLESS}; {devices}")) else {
        return;
    };
    let found = findings(&t);
    let tun = finding(&found, "tun");
    assert!(
        !is(tun, "ok") && line(tun) == "chmod 0666 /dev/net/tun",
        "{tun}"
    );
    // newgidmap shows once newuidmap is mended.
    for _ in 0..2 {
        let script = t.rl(["doctor", "--admin-script"]).run().exits(1).out();
        let path = t.file("fix", &script);
        sh(&format!("sh -n {0}; sh {0}", path.display()));
    }
    let found = findings(&t);
    for id in ["tun", "newuidmap", "id-maps"] {
        assert!(is(finding(&found, id), "ok"), "{found:#?}");
    }
    let script = t.rl(["doctor", "--admin-script"]).run().out();
    assert!(script.contains("there is nothing to do"), "{script}");
}

#[test]
fn no_device_or_no_true_one_and_their_lines() {
    let Some(t) = alone(Identity::Sub, "mount -t tmpfs none /dev/net") else {
        return;
    };
    let node = "mknod -m 0666 /dev/net/tun c 10 200";
    for (lack, begins, ends) in [
        ("true", "modprobe tun", node),
        (
            "rm /dev/net/tun; touch /dev/net/tun; chmod 666 /dev/net/tun",
            "rm ",
            node,
        ),
        (
            "touch /dev/net/file; mount --bind /dev/net/file /dev/net/tun",
            "umount ",
            "/dev/net/tun",
        ),
    ] {
        sh(lack);
        let found = findings(&t);
        let tun = finding(&found, "tun");
        assert!(is(tun, "degraded"), "{tun}");
        let line = line(tun);
        assert!(line.starts_with(begins) && line.ends_with(ends), "{line}");
        sh(&line);
        assert!(is(finding(&findings(&t), "tun"), "ok"));
    }
}

/// A file system that a program serves, for as long as this lives.
struct Served {
    server: Child,
    at: PathBuf,
}

impl Served {
    /// One of the user's that can be written to; the calling thread has mounts of its own.
    fn new(t: &Env) -> Served {
        let [lower, upper, work, at] = ["lower", "upper", "work", "served"].map(|d| t.directory(d));
        let [lower, upper, work] = [lower, upper, work].map(|d| d.display().to_string());
        let server = Command::new("fuse-overlayfs")
            .arg("-f")
            .arg(format!(
                "-oallow_other,lowerdir={lower},upperdir={upper},workdir={work}"
            ))
            .arg(&at)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let served = Served { server, at };
        support::wait_for("the file system is there", || {
            let table = std::fs::read_to_string("/proc/thread-self/mountinfo").unwrap();
            table.contains(&served.at.display().to_string())
        });
        served
    }

    /// It does not answer any more.
    fn hang(&self) {
        let pid = nix::unistd::Pid::from_raw(self.server.id().cast_signed());
        nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGSTOP).unwrap();
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        let _ = self.server.kill();
        let _ = self.server.wait();
        let _ = Command::new("umount").arg("-l").arg(&self.at).status();
    }
}

/// As that of a file server that is gone.
#[test]
fn a_store_that_never_answers() {
    let Some(t) = alone(Identity::Sub, "true") else {
        return;
    };
    if !support::have("fuse-overlayfs") {
        return;
    }
    let served = Served::new(&t);
    served.hang();
    let program = t.rl(["doctor", "--json"]);
    let found = findings_of(program.env("XDG_DATA_HOME", &served.at));
    let store = finding(&found, "store");
    assert!(is(store, "missing"), "{store}");
    let evidence = store["evidence"].as_str().unwrap();
    assert!(
        evidence.contains("ETIMEDOUT: the file system does not answer"),
        "{evidence}"
    );
    assert!(is(finding(&found, "user-namespace"), "ok"), "{found:#?}");
}

/// Removes what the line of the user's made, where it was not there before.
struct Made(PathBuf);

impl Drop for Made {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

#[test]
fn a_store_on_a_file_server_and_its_line() {
    let Some(t) = alone(Identity::Sub, "true") else {
        return;
    };
    if !support::have("fuse-overlayfs") {
        return;
    }
    let served = Served::new(&t);
    let found = findings_of(t.rl(["doctor", "--json"]).env("XDG_DATA_HOME", &served.at));
    let store = finding(&found, "store");
    assert!(is(store, "degraded"), "{store}");
    let evidence = store["evidence"].as_str().unwrap();
    let begins = format!("`{}/rl` on fuse", served.at.display());
    assert!(evidence.starts_with(&begins), "{evidence}");
    assert_eq!(store["as_root"], false, "{store}");
    let line = store["fix"].as_str().unwrap();
    // Which is the user's own, who has no other mount there.
    let local = PathBuf::from(format!("/var/tmp/{}", t.uid()));
    let made = (!local.exists()).then(|| Made(local.clone()));
    let script = format!("{line}; exec \"$RL\" doctor --json");
    let found = findings_of(t.sh(&script).env("XDG_DATA_HOME", &served.at));
    let store = finding(&found, "store");
    assert!(is(store, "ok"), "{store}");
    let evidence = store["evidence"].as_str().unwrap();
    assert!(
        evidence.starts_with(&format!("`{}/rl` on ", local.display())),
        "{evidence}"
    );
    // And a container runs from there.
    let script = format!("{line}; exec \"$RL\" run --rm --network none \"$IMAGE\" echo done");
    let program = t.sh(&script).env("XDG_DATA_HOME", &served.at);
    let image = support::images::busybox();
    assert_eq!(program.env("IMAGE", image).run().ok().out(), "done");
    drop(made);
}
