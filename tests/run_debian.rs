//! The main job on a real image: Debian from a real registry, packages installed in it, a server started in
//! it, and other tools reading what we keep and writing what we run.
//!
//! Packages come from wherever the machine itself gets them (tests/support/fixtures).

#[macro_use]
mod support;

use std::process::Command;

use support::{Env, images};

/// `rl run --rm` of the real image with options and a shell command.
fn debian<'a>(t: &'a Env, host: &str, options: &[&str], script: &str) -> support::Program<'a> {
    t.rl(["run", "--rm"])
        .args(options)
        .arg(format!("{host}/debian:latest"))
        .args(["bash", "-ec", script])
}

identities! {
    fn the_image_is_whole(t: [sub root]) {
        let Some(host) = images::registry() else { return };
        let output = debian(t, &host, &["--network=none"], "
            . /etc/os-release; echo $ID $VERSION_ID
            id -un; stat -c '%U:%G %a' /home/app /etc/shadow /usr/bin/passwd
            ls /usr/share/locale
            test ! -e /usr/share/doc/git && echo whiteout
            test /usr/bin/env -ef /usr/local/bin/env-hardlink && echo hardlink
            getcap /usr/bin/ping
            dpkg --audit | wc -l; dpkg --verify libc6; python3 -c 'print(6 * 7)'; git --version | cut -d ' ' -f 1
            find / -xdev | wc -l").run().ok().out();
        let lines: Vec<&str> = output.lines().collect();
        assert_eq!(lines[..7], ["debian 12", "root", "app:app 755", "root:shadow 640", "root:root 2755", "kept", "whiteout"], "{output}");
        assert!(output.contains("\nhardlink\n"), "{output}");
        assert!(output.contains("/usr/bin/ping cap_net_raw=ep"), "{output}");
        assert!(output.contains("\n0\n42\ngit\n"), "{output}");
        assert!(lines.last().unwrap().parse::<u32>().unwrap() > 9000, "{output}");
    }

    fn gzip_and_zstd_are_the_same_tree(t: [sub]) {
        let Some(host) = images::registry() else { return };
        let sums: Vec<String> = ["gzip", "zstd"].into_iter().map(|tag| {
            let image = format!("{host}/debian:{tag}");
            let script = "cd /; find usr etc var -xdev -printf '%p %m %u %g %s %l\\n' | grep -v '^etc/\\(hosts\\|hostname\\|resolv.conf\\|mtab\\)' | sort | sha256sum";
            t.rl(["run", "--rm", "--network=none", &image, "sh", "-c", script]).run().ok().out()
        }).collect();
        assert_eq!(sums[0], sums[1]);
    }

    fn packages_are_installed_and_a_server_runs(t: [sub nosub root]) {
        let Some(host) = images::registry() else { return };
        let output = debian(t, &host, &[], "
            apt-get update -qq
            DEBIAN_FRONTEND=noninteractive apt-get install -y -qq wget redis-server >/dev/null
            redis-server >/dev/null &
            for i in $(seq 100); do redis-cli ping >/dev/null 2>&1 && break; sleep 0.1; done
            redis-cli ping
            redis-cli set key value; redis-cli get key
            su app -s /bin/sh -c 'wget --version' | head -n 1 | cut -d ' ' -f 2").run().ok();
        assert!(output.out().ends_with("PONG\nOK\nvalue\nWget"), "{}\n{}", output.out(), output.err());
    }

    fn a_second_start_needs_no_registry(t: [sub]) {
        let Some(host) = images::registry() else { return };
        debian(t, &host, &["--network=none"], "true").run().ok();
        let started = debian(t, &host, &["--network=none", "--pull=never"], "echo again").run().ok();
        assert_eq!((started.out().as_str(), started.err().as_str()), ("again", ""));
        debian(t, &host, &["--pull=never"], "true").env("XDG_DATA_HOME", t.dir().join("work")).run().refuses(125, "debian:latest");
    }

    fn skopeo_reads_the_store(t: [sub]) {
        let Some(host) = images::registry() else { return };
        if !support::have("skopeo") {
            return;
        }
        let image = format!("{host}/debian:gzip");
        t.rl(["pull", "--quiet", &image]).run().ok();
        let copied = t.path("copied");
        let store = t.dir().join("data/rl/images");
        t.program("skopeo").args(["copy", "--quiet"]).arg(format!("oci:{}:{image}", store.display())).arg(format!("oci:{}:x", copied.display())).run().ok();
        let manifest = |layout: String| {
            let output = Command::new("skopeo").args(["inspect", "--raw", &layout]).output().unwrap();
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
            output.stdout
        };
        let original = images::debian().unwrap();
        assert_eq!(manifest(format!("oci:{}:x", copied.display())), manifest(format!("oci:{}:gzip", original.display())));
    }
}

/// What other tools wrote, we run; what we saved, they read.
#[test]
fn archives_go_both_ways() {
    let Some(t) = Env::new(support::Identity::Sub) else {
        return;
    };
    if !support::have("skopeo") || !support::have("umoci") {
        return;
    }
    let busybox = images::busybox();
    for (transport, name) in [("oci-archive", "a.tar"), ("docker-archive", "b.tar")] {
        let path = t.path(name);
        let archive = format!("{transport}:{}", path.display());
        t.program("skopeo")
            .args([
                "copy",
                "--quiet",
                busybox,
                &format!("{archive}:localhost/made:1"),
            ])
            .run()
            .ok();
        let output = t
            .rl(["run", "--rm", "--network=none", &archive, "echo", transport])
            .run()
            .ok();
        assert_eq!(output.out(), transport);
    }
    // umoci writes a layout of its own, with a layer that it made.
    let layout = t.path("umoci");
    let (from, to) = (busybox.to_owned(), format!("oci:{}:x", layout.display()));
    t.program("skopeo")
        .args(["copy", "--quiet", &from, &to])
        .run()
        .ok();
    let script = format!(
        "umoci unpack --rootless --image {0}:x bundle && echo new >bundle/rootfs/etc/motd && rm bundle/rootfs/etc/group && umoci repack --image {0}:y bundle && umoci config --image {0}:y --config.user app --config.entrypoint cat",
        layout.display()
    );
    t.sh(&script).run().ok();
    let image = format!("oci:{}:y", layout.display());
    assert_eq!(
        t.rl(["run", "--rm", "--network=none", &image, "/etc/motd"])
            .run()
            .ok()
            .out(),
        "new"
    );
    t.rl(["run", "--rm", "--network=none", &image, "/etc/group"])
        .run()
        .exits(1);
    // And back.
    let archive = t.path("ours.tar");
    let named = format!("oci-archive:{}:localhost/ours:1", archive.display());
    t.program("skopeo")
        .args(["copy", "--quiet", &image, &named])
        .run()
        .ok();
    t.rl(["load", "-i"]).arg(&archive).run().ok();
    let saved = [
        ("docker-archive", "docker-archive"),
        ("oci-archive", "oci-archive"),
        ("oci-dir", "oci"),
    ];
    for (format, transport) in saved {
        let path = t.path(format!("saved-{format}"));
        t.rl(["save", "--format", format, "-o"])
            .arg(&path)
            .arg("localhost/ours:1")
            .run()
            .ok();
        let reference = format!("{transport}:{}", path.display());
        let output = t
            .program("skopeo")
            .args(["inspect", "--config", &reference])
            .run()
            .ok();
        assert!(
            output.out().contains("\"app\""),
            "{format}: {}",
            output.out()
        );
    }
}
