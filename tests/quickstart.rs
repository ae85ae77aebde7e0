//! `contrib/quickstart`, whole but for the compiler: what is tested stands for what it would build.

#[macro_use]
mod support;

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use support::{Env, Identity, images};

/// Runs it as from a clone, with this image; its output. No package helps where the image cannot be had.
#[track_caller]
fn quickstart(t: &Env, image: &str) -> String {
    for dir in ["clone", "clone/contrib", "bin"] {
        if !t.path(dir).exists() {
            t.directory(dir);
        }
    }
    let programs = [
        (
            "clone/contrib/quickstart",
            include_str!("../contrib/quickstart"),
        ),
        (
            "bin/cargo",
            "#!/bin/sh\n[ \"$*\" = 'build --release --quiet' ] && install -D \"$RL\" \"target/$(uname -m)-unknown-linux-gnu/release/rl\"\n",
        ),
        (
            "bin/mmdebstrap",
            "#!/bin/sh\necho no mirror today >&2; exit 1\n",
        ),
    ];
    for (name, text) in programs {
        let path = t.file(name, text);
        fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
    }
    let script =
        "env -u CARGO_TARGET_DIR -u SUDO_USER PATH=\"$PWD/bin:$PATH\" clone/contrib/quickstart";
    t.sh(script).env("RL_IMAGE", image).run().ok().out()
}

/// The lines about the inside.
#[track_caller]
fn inside<'a>(output: &'a str, image: &str) -> &'a str {
    let head = format!("\n==> Inside: rl run --rm {image} sh\n");
    let (_, rest) = output
        .split_once(&head)
        .unwrap_or_else(|| panic!("no `{head}`:\n{output}"));
    rest.split("\n==> ").next().unwrap_or_default()
}

/// A user without an administrator, on a machine without the helpers, sees a container all the same.
#[test]
fn without_what_carries_a_network() {
    let Some(t) = Env::new(Identity::NoSub) else {
        return;
    };
    if !support::identity::is_root() {
        return support::skip("hiding programs needs root");
    }
    nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNS).unwrap();
    let hide = "mount --make-rprivate /; for p in pasta passt slirp4netns; do \
        f=$(command -v $p) || continue; f=$(readlink -f \"$f\"); \
        [ ! -x \"$f\" ] || mount --bind /dev/null \"$f\"; done";
    let status = std::process::Command::new("/bin/sh")
        .args(["-ec", hide])
        .status();
    assert!(status.unwrap().success());
    let image = images::busybox();
    let output = quickstart(&t, image);
    let line = "apt-get install -y --no-install-recommends passt slirp4netns";
    assert!(output.contains(line), "{output}");
    let inside = inside(&output, image);
    assert!(
        inside.contains("hint: as root: apt-get install passt")
            && inside.contains("once more, without a network\n"),
        "{output}"
    );
    assert!(inside.contains("process: 1 of "), "{output}");
    let command = format!("/rl run --rm --network none {image} sh");
    assert!(output.trim_end().ends_with(&command), "{output}");
}

identities! {
    fn it_ends_in_a_container(t: [sub nosub root]) {
        let image = images::busybox();
        // Safe to repeat.
        for _ in 0..2 {
            let output = quickstart(t, image);
            assert!(output.contains("/newuidmap\n") && output.contains("rl run takes:"), "{output}");
            let inside = inside(&output, image);
            assert!(inside.contains("uid=0(root)") && inside.contains("process: 1 of "), "{output}");
            let outside = format!("uid={}(", t.uid());
            assert!(output.contains(&outside), "{output}");
            let command = format!("target/{}-unknown-linux-gnu/release/rl run --rm {image} sh", std::env::consts::ARCH);
            assert!(output.trim_end().ends_with(&command), "{output}");
        }
    }

    fn where_no_image_can_be_had_it_is_this_machine(t: [sub nosub root]) {
        let output = quickstart(t, "127.0.0.1:1/none");
        assert!(output.contains("127.0.0.1:1"), "why not that: {output}");
        assert!(output.contains("no mirror today"), "why no packages: {output}");
        assert!(inside(&output, "host").contains("process: 1 of "), "{output}");
    }
}
