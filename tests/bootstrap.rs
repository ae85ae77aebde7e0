//! `rl bootstrap`: images made from packages. These tests use the package mirror that this machine is set to.

#[macro_use]
mod support;
#[path = "support/http.rs"]
mod http;

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use http::{Reply, Request, Server};
use rustix::process::Signal;
use serde_json::Value;
use support::{Env, Identity, Output, images, skip, wait_for};

/// Fetching and installing some 90 packages, on a busy machine.
fn patience() -> Duration {
    support::seconds(600)
}

fn bootstrap(t: &Env, args: &[&str]) -> Output {
    t.rl(["bootstrap"]).args(args).patient(patience()).run()
}

/// What lies in the store's directory for unfinished work.
fn unfinished(t: &Env) -> Vec<PathBuf> {
    let Ok(dir) = fs::read_dir(t.dir().join("data/rl/tmp")) else {
        return Vec::new();
    };
    let paths = dir.map(|entry| entry.unwrap().path());
    paths.filter(|path| !path.ends_with("locks")).collect()
}

#[track_caller]
fn refuses(output: Output, error: &str, hint: &str) {
    let err = output.refuses(125, error).err();
    let hints: Vec<&str> = err.lines().filter(|l| l.starts_with("hint: ")).collect();
    assert!(
        hints.len() == 1 && hints[0].contains(hint),
        "no hint `{hint}`:\n{err}"
    );
}

/// Hides a program in a mount namespace of this test's own.
fn hide(programs: &[&str]) {
    nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNS).unwrap();
    let mut script = String::from("set -e; mount --make-rprivate /\n");
    for program in programs {
        script +=
            &format!("mount --bind /dev/null \"$(readlink -f \"$(command -v {program})\")\"\n");
    }
    assert!(
        Command::new("/bin/sh")
            .args(["-c", &script])
            .status()
            .unwrap()
            .success()
    );
}

identities! {
    /// With all ids, as root of the namespace; with one id, by fakechroot, which the tar does not show.
    fn made_once_and_run(t: [sub nosub root]) {
        if !support::have("mmdebstrap") || (!t.who.has_many_ids() && !support::have("fakechroot")) {
            return;
        }
        let many = t.who == Identity::Sub;
        let set = if many { "minbase" } else { "essential" };
        let output = bootstrap(t, &["--variant", set, "debian:bookworm"]).ok();
        let id = output.out();
        assert!(id.len() == 64 && id.bytes().all(|b| b.is_ascii_hexdigit()), "{id}");
        // Nothing but data on standard output, and no progress where there is no terminal.
        assert_eq!(output.err(), "");
        assert!(unfinished(t).is_empty());
        // Under the registry's name, so that no registry is asked for it.
        let run = |command: &str| t.rl(["run", "--rm", "--quiet", "--network", "none", "debian:bookworm", "sh", "-c", command]).run().ok().out();
        assert_eq!(run("id -u; . /etc/os-release; echo $VERSION_CODENAME; echo $PATH"), "0\nbookworm\n/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");
        // Nothing of this machine: no name, no resolver, no settings for the time of making, no devices.
        assert_eq!(run("cat /etc/apt/apt.conf.d/90here /etc/hostname 2>/dev/null | grep -v \"$(hostname)\"; true"), "");
        let group = if t.who.has_many_ids() { 50 } else { 0 };
        assert_eq!(run("stat -c '%u:%g %a' /var/local /usr/bin/dpkg"), format!("0:{group} 2775\n0:0 755"));
        if many {
            assert_eq!(run("stat -c '%u:%g %a' /etc/shadow /usr/bin/passwd"), "0:42 640\n0:0 4755");
        }
        let image: Value = serde_json::from_slice(&t.rl(["inspect", "docker.io/library/debian:bookworm"]).run().ok().stdout).unwrap();
        let image = &image[0];
        assert_eq!(image["Id"], format!("sha256:{id}"));
        assert_eq!(image["Config"]["Cmd"], serde_json::json!(["bash"]));
        let history = image["History"][0]["created_by"].as_str().unwrap();
        assert!(history.starts_with(&format!("mmdebstrap --variant={set} bookworm http")), "{history}");
        assert!(image["Created"].as_str().unwrap() > "2020", "{image}");
        if many {
            // The image's own sources and keys, through the container's network.
            let update = t.rl(["run", "--rm", "debian:bookworm", "sh", "-c", "apt-get update && apt-get install -y --no-install-recommends hello && hello"]).patient(patience()).run().ok();
            assert!(update.out().ends_with("Hello, world!"), "{}", update.out());
        }
    }

    fn words_that_mean_nothing(t: [sub]) {
        if !support::have("mmdebstrap") {
            return;
        }
        refuses(bootstrap(t, &["fedora"]), "`fedora:latest` is no release of Debian or Ubuntu", "debian:bookworm");
        refuses(bootstrap(t, &["ubuntu"]), "`ubuntu:latest` is no release", "ubuntu:24.04");
        refuses(bootstrap(t, &["quay.io/x/debian:bookworm"]), "is no release", "debian:bookworm");
        refuses(bootstrap(t, &["--variant", "tiny", "debian:12"]), "`--variant tiny`: no such package set", "minbase");
        refuses(bootstrap(t, &["--include", "?all", "debian:12"]), "`--include ?all`", "commas");
        refuses(bootstrap(t, &["--mirror", "here", "debian:12"]), "`--mirror here`", "dists/");
    }

    fn mirrors_that_do_not_have_it(t: [sub nosub]) {
        if !support::have("mmdebstrap") || (!t.who.has_many_ids() && !support::have("fakechroot")) {
            return;
        }
        refuses(bootstrap(t, &["--mirror", "http://127.0.0.1:1/debian", "debian:bookworm"]), "package mirror: Could not connect to 127.0.0.1:1", "--mirror URL");
        let server = Server::start(|_: &Request| Reply::new(404, "no"));
        let mirror = format!("http://me:secret@{}/debian", server.address);
        let output = bootstrap(t, &["--mirror", &mirror, "debian:bookworm"]);
        assert!(!output.err().contains("secret"), "{}", output.err());
        refuses(output, &format!("`http://{}/debian` has no suite `bookworm`", server.address), "/debian/dists/`");
        // Something that nobody signed.
        let server = Server::start(|request: &Request| match request.target.ends_with("/Release") {
            true => Reply::new(200, "Origin: Debian\nSuite: bookworm\nCodename: bookworm\nComponents: main\nArchitectures: amd64\nDate: Sat, 01 Jan 2022 00:00:00 UTC\n"),
            false => Reply::new(404, "no"),
        });
        let mirror = format!("http://{}/debian", server.address);
        refuses(bootstrap(t, &["--mirror", &mirror, "debian:bookworm"]), "are not signed by a key that is trusted here", "debian-archive-keyring");
        assert!(unfinished(t).is_empty());
        assert_eq!(t.rl(["images", "--quiet"]).run().ok().out(), "");
        // All that it said, for who wants to see it.
        let output = bootstrap(t, &["--verbose", "--mirror", &mirror, "debian:bookworm"]).exits(125);
        output.complains("I: running apt-get update").complains("error: the packages of bookworm");
    }

    /// Whoever interrupts it gets the prompt back with nothing left; after a SIGKILL the next writer cleans up.
    fn interrupted(t: [sub nosub]) {
        if !support::have("mmdebstrap") || (!t.who.has_many_ids() && !support::have("fakechroot")) {
            return;
        }
        for (signal, status) in [(Signal::INT, 130), (Signal::TERM, 143), (Signal::KILL, 0)] {
            let running = t.rl(["bootstrap", "debian:bookworm"]).patient(patience()).spawn();
            let at_work = || {
                let found = unfinished(t).into_iter().flat_map(|dir| fs::read_dir(dir.join("work-0")).into_iter().flatten());
                found.flatten().any(|entry| entry.path().join("var/lib/dpkg").exists())
            };
            wait_for("mmdebstrap to be at work", at_work);
            running.signal(signal);
            let output = running.wait();
            match signal {
                Signal::KILL => assert!(!output.status.success()),
                _ => assert_eq!((output.code(), output.err().as_str()), (status, "")),
            }
            t.quiet();
            assert_eq!(unfinished(t).is_empty(), signal != Signal::KILL, "{signal:?}");
        }
        assert_eq!(t.rl(["images", "--all", "--quiet"]).run().ok().out(), "");
        t.rl(["pull", images::busybox()]).run().ok();
        assert_eq!(unfinished(t), Vec::<PathBuf>::new());
    }

    fn a_pull_without_a_registry_leads_here(t: [sub nosub]) {
        if !support::have("mmdebstrap") {
            return;
        }
        let run = |image: &str| t.rl(["run", "--rm", "--quiet", "--network", "none", image, "true"]).env("https_proxy", "http://127.0.0.1:1").run();
        refuses(run("debian:bookworm"), "registry", "`rl bootstrap debian:bookworm` makes it");
        refuses(run("ubuntu"), "registry", "`rl bootstrap ubuntu:24.04` makes it");
        refuses(run("nginx"), "registry", "https_proxy");
    }
}

#[test]
fn without_mmdebstrap() {
    let Some(t) = Env::new(Identity::Sub) else {
        return;
    };
    if !support::identity::is_root() {
        return skip("hiding a program needs root");
    }
    if !support::have("mmdebstrap") {
        return;
    }
    hide(&["mmdebstrap"]);
    refuses(
        bootstrap(&t, &["debian:bookworm"]),
        "`mmdebstrap` is not there",
        "sudo apt-get install mmdebstrap",
    );
}

/// As for a release that is not this machine's: fakechroot has programs of this one run with libraries of that.
#[test]
fn with_one_id_and_without_fakechroot() {
    let Some(t) = Env::new(Identity::NoSub) else {
        return;
    };
    if !support::identity::is_root() {
        return skip("hiding a program needs root");
    }
    if !support::have("mmdebstrap") || !support::have("fakechroot") {
        return;
    }
    hide(&["fakechroot"]);
    let output = bootstrap(&t, &["--variant", "essential", "debian:bookworm"]).ok();
    output
        .complains("rl: every file of the image belongs to root: ")
        .complains("usermod --add-subuids")
        .complains("apt-get install fakechroot fakeroot");
    assert!(unfinished(&t).is_empty());
    let script = "stat -c '%u:%g %a' /var/local; . /etc/os-release; echo $VERSION_CODENAME; dpkg --audit; \
        dpkg-query -W -f '${Status}\\n' | sort -u";
    let run = [
        "run",
        "--rm",
        "--quiet",
        "--network",
        "none",
        "debian:bookworm",
    ];
    let seen = t.rl(run).args(["sh", "-c", script]).run().ok().out();
    assert_eq!(seen, "0:0 2775\nbookworm\ninstall ok installed");
    // What was mounted to make it is not in it.
    t.rl(["save", "-o", "image.tar", "debian:bookworm"])
        .run()
        .ok();
    let list = "mkdir x; tar -xf image.tar -C x; for f in $(find x -type f); do tar -tf $f 2>/dev/null; done | grep -E '^(\\./)?dev/.' || echo nothing";
    assert_eq!(t.sh(list).run().ok().out(), "nothing");
}
