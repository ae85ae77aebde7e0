//! `contrib/quickstart`, whole but for the compiler: what is tested stands for what it would build.

#[macro_use]
mod support;

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use support::{Env, images};

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
