//! `rl doctor` on this machine, and on ones that lack something: what it says, and that its lines, executed where
//! the lack was made, turn the verdict.

#[macro_use]
mod support;

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use serde_json::Value;
use support::images::{Image, Layer};
use support::{Env, Identity, Program, skip};
use tar::EntryType;

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
    let found = findings(&t);
    let both = finding(&found, "newuidmap");
    assert!(is(both, "degraded"), "{both}");
    let line = line(both);
    // The second alone, then both.
    let (first, second) = line
        .strip_prefix("chmod u+s ")
        .and_then(|paths| paths.split_once(' '))
        .unwrap();
    assert!(
        first.ends_with("/newuidmap") && second.ends_with("/newgidmap"),
        "{line}"
    );
    sh(&format!("chmod u+s {first}"));
    let found = findings(&t);
    let one = finding(&found, "newuidmap");
    assert_eq!(self::line(one), format!("chmod u+s {second}"));
    sh(&line);
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

/// A layer with owners, groups and modes of every kind, and what stat(1) says of them.
fn owned() -> (Layer, &'static str) {
    // CAP_NET_BIND_SERVICE, as of vfs_cap_data of revision 2 (include/uapi/linux/capability.h).
    let capability = [1, 0, 0, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    let record = [
        b" SCHILY.xattr.security.capability=",
        &capability[..],
        b"\n",
    ]
    .concat();
    let record = [(record.len() + 2).to_string().as_bytes(), &record].concat();
    let file = EntryType::Regular;
    let layer = Layer::new()
        .entry_of(EntryType::Directory, "srv", 0o2775, (33, 42), "", b"")
        .entry_of(file, "srv/file", 0o640, (33, 42), "", b"file\n")
        .entry_of(file, "srv/setgid", 0o2755, (0, 42), "", b"")
        .entry_of(file, "srv/setuid", 0o4755, (33, 0), "", b"")
        .entry_of(
            EntryType::Symlink,
            "srv/symlink",
            0o777,
            (33, 42),
            "file",
            b"",
        )
        .entry(EntryType::XHeader, "pax", 0o644, 0, "", &record)
        .entry_of(file, "srv/with", 0o755, (7, 8), "", b"");
    let seen = "33:42 2775 /srv\n33:42 640 /srv/file\n0:42 2755 /srv/setgid\n33:0 4755 /srv/setuid\n\
        33:42 777 /srv/symlink\n7:8 755 /srv/with";
    (layer, seen)
}

/// To which user id each capability of `srv/with` below a directory of layers belongs.
fn capability_roots(layers: &Path) -> Vec<u32> {
    let mut roots = Vec::new();
    for map in std::fs::read_dir(layers).unwrap().flatten() {
        for layer in std::fs::read_dir(map.path()).unwrap().flatten() {
            let mut value = [0; 24];
            let file = layer.path().join("srv/with");
            if let Ok(24) = rustix::fs::lgetxattr(file, "security.capability", &mut value) {
                roots.push(u32::from_le_bytes(value[20..].try_into().unwrap()));
            }
        }
    }
    roots
}

/// What was pulled, run and committed with one id has its owners where there are more, without another download; a
/// container that was made with one keeps it.
#[test]
fn owners_are_there_once_there_are_ids() {
    let Some(t) = alone(Identity::NoSub, OWN_ETC) else {
        return;
    };
    let (layer, seen) = owned();
    let image = Image::busybox().layer(layer).write_for(&t, "image");
    let id = t.rl(["pull", "--quiet", &image]).run().ok().out();
    t.rl(["tag", &id, "owned"]).run().ok();
    std::fs::remove_dir_all(t.path("image")).unwrap();
    let look = "stat -c '%u:%g %a %n' /srv /srv/*";
    let show = |image: &str| {
        let options = ["run", "--rm", "--network", "none", "--pull", "never"];
        let output = t.rl(options).args([image, "sh", "-c", look]).run();
        output.ok().out()
    };
    let single = show("owned");
    assert!(
        single.lines().all(|line| line.starts_with("0:0 ")),
        "{single}"
    );
    let script = format!("echo more >>/srv/file; chmod 600 /srv/file; {look}");
    let old = [
        "run",
        "--name",
        "old",
        "--network",
        "none",
        "--pull",
        "never",
        "owned",
    ];
    let said = t.rl(old).args(["sh", "-c", &script]).run().ok().out();
    let changed = single.replace("640", "600");
    assert_eq!(said, changed);
    t.rl(["commit", "old", "committed"]).run().ok();

    sh(&line(finding(&findings(&t), "subordinate-ids")));
    assert_eq!(show("owned"), seen);
    assert_eq!(show("committed"), seen.replace("640", "600"));
    // It goes on with the ids that it was made with, and with its files.
    let again = t.rl(["start", "--attach", "old"]).run().ok().out();
    assert_eq!(again, changed);
    t.rl(["cp", "old:/srv/file", "copied"]).run().ok();
    let copied = std::fs::read_to_string(t.path("copied")).unwrap();
    assert_eq!(copied, "file\nmore\nmore\n");
    t.rl(["commit", "old", "committed"]).run().ok();
    assert_eq!(show("committed"), seen.replace("640", "600"));
    t.rl(["rm", "old"]).run().ok();
    // Of both, the capability is the container root's, who is the user (capabilities(7), version 3).
    let roots = capability_roots(&t.dir().join("data/rl/layers"));
    assert_eq!(roots, [t.uid(), t.uid()]);
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
    // From a pipe, as who trusts it does.
    let script = t.rl(["doctor", "--admin-script"]).run().exits(1).out();
    let path = t.file("fix", &script);
    sh(&format!("sh -n {0}; cat {0} | sh", path.display()));
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
