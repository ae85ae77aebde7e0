//! The root file system: three ways to make it that show the same, and volumes that begin with it.

#[macro_use]
mod support;

#[path = "rootfs/stack.rs"]
mod stack;

use std::os::unix::fs::symlink;
use std::path::PathBuf;

use support::images::Layer;
use support::run::Program;
use support::{Env, Identity, Image, wait_for};
use tar::EntryType;

/// Of everything an overlay has to do, a little; what must be seen is in [`SEEN`].
fn image(t: &Env) -> String {
    let below = Layer::new()
        .dir("srv", 0o2775)
        .file("srv/one", 0o640, "1")
        .hardlink("srv/again", "srv/one")
        .symlink("srv/link", "one")
        .dir("opaque", 0o755)
        .file("opaque/old", 0o644, "old")
        .file("gone", 0o644, "gone")
        .dir("both", 0o755)
        .file("both/lower", 0o644, "lower")
        .entry(EntryType::Directory, "owned", 0o750, 1000, "", b"")
        .owned("owned/file", 0o600, 1000, "mine");
    let above = Layer::new()
        .file(".wh.gone", 0o644, "")
        .dir("opaque", 0o711)
        .file("opaque/.wh..wh..opq", 0o644, "")
        .file("opaque/new", 0o644, "new")
        .dir("both", 0o700)
        .file("both/upper", 0o644, "upper");
    Image::busybox()
        .layer(below)
        .layer(above)
        .write_for(t, "image")
}

/// Prints what must be the same on every rung, then writes everywhere.
const LOOK: &str = "
    cd /; test ! -e junk || echo junk is here; stat -c '%n %A %u:%g' / srv srv/one both opaque owned owned/file
    ls both opaque srv; cat srv/link owned/file; echo; test ! -e gone || echo gone is here
    test $(stat -c %i srv/one) = $(stat -c %i srv/again) || echo no link
    set -e; echo x > srv/one; test $(cat srv/one) = x; rm both/lower; mkdir gone; mv opaque/new gone/
    rm -r opaque; mkdir opaque; test -z \"$(ls opaque)\"; echo written";

const SEEN: &str = "\
/ drwxr-xr-x 0:0
srv drwxrwsr-x 0:0
srv/one -rw-r----- 0:0
both drwx------ 0:0
opaque drwx--x--x 0:0
owned drwxr-x--- 1000:1000
owned/file -rw------- 1000:1000
both:
lower
upper

opaque:
new

srv:
again
link
one
1mine";

/// `rl run --verbose` behind a shell that prepares: `$RL` and the words after the script are there.
fn run<'a>(t: &'a Env, before: &str, options: &[&str], image: &str) -> Program<'a> {
    let script = format!("{before} $RL run --rm --network none --verbose \"$@\"");
    let words = options.iter().copied().chain([image, "sh", "-c", LOOK]);
    t.sh(&script).arg("sh").args(words)
}

/// Makes mount(2) refuse overlays. A traced setuid program has no privileges, so whoever is not root
/// gets a map that needs none.
const REFUSE: &str = "strace -f -o /dev/null -P overlay -e trace=mount -e inject=mount:error=EPERM";

fn map(t: &Env) -> &'static [&'static str] {
    if t.who == Identity::Sub {
        &["--userns", "single"]
    } else {
        &[]
    }
}

/// Owners other than root are all root with a map of one id.
fn seen(t: &Env, options: &[&str]) -> String {
    let many = t.who.has_many_ids() && !options.contains(&"single");
    let owners = |text: &str| text.replace("1000:1000", "0:0");
    format!("{}\nwritten", if many { SEEN.into() } else { owners(SEEN) })
}

/// The line that tells the rung.
fn told(err: &str) -> Vec<&str> {
    let lines = err.lines();
    lines
        .filter_map(|line| line.split_once("root file system: "))
        .map(|(_, rung)| rung)
        .collect()
}

/// A directory of programs without fuse-overlayfs.
fn path_without_fuse(t: &Env) -> PathBuf {
    let dir = t.directory("path");
    let path = std::env::var_os("PATH").unwrap();
    for name in ["newuidmap", "newgidmap", "getsubids", "strace"] {
        if let Some(program) = std::env::split_paths(&path)
            .map(|d| d.join(name))
            .find(|p| p.is_file())
        {
            symlink(program, dir.join(name)).unwrap();
        }
    }
    dir
}

fn fuse_is_open() -> bool {
    let open = std::fs::File::options()
        .read(true)
        .write(true)
        .open("/dev/fuse")
        .is_ok();
    let all = std::fs::metadata("/dev/fuse")
        .is_ok_and(|m| std::os::unix::fs::PermissionsExt::mode(&m.permissions()) & 0o6 == 0o6);
    if !(open && all) {
        support::skip("/dev/fuse is not open to everybody");
    }
    open && all
}

identities! {
    fn the_overlay_comes_first(t: [sub nosub unshared root]) {
        let output = run(t, "", &[], &image(t)).run().ok();
        assert_eq!(output.out(), seen(t, &[]));
        assert_eq!(told(&output.err()), ["overlay of the kernel"]);
    }

    fn a_lost_root_is_shown(t: [sub nosub]) {
        if !support::have("strace") || !support::have("fuse-overlayfs") || !fuse_is_open() {
            return;
        }
        let image = image(t);
        run(t, REFUSE, map(t), &image).run().ok();
        t.rl(["run", "-d", "--name", "box", "--network", "none", &image, "sleep", "1000"]).run().ok();
        let status = || t.rl(["ps", "--format", "{{.Status}}"]).run().ok().out();
        assert!(status().starts_with("Up ") && !status().contains('('), "{}", status());
        let error = || t.rl(["inspect", "-f", "{{.State.Status}}: {{.State.Error}}", "box"]).run().ok().out();
        assert_eq!(error(), "running:");
        let mut all = t.processes().into_iter();
        let server = all.find(|p| p.name.starts_with("fuse-overlayfs")).unwrap();
        let pid = rustix::process::Pid::from_raw(server.pid).unwrap();
        rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
        support::wait_for("its loss", || status().ends_with("(root file system gone)"));
        assert_eq!(error(), "running: `fuse-overlayfs` ended (killed by signal 9): the container's root file system is gone");
        t.rl(["restart", "-t", "0", "box"]).run().ok();
        assert!(status().starts_with("Up ") && !status().contains('('), "{}", status());
        assert_eq!(error(), "running:");
        t.rl(["rm", "-f", "box"]).run().ok();
    }

    fn fuse_overlayfs_takes_over_and_that_is_remembered(t: [sub nosub unshared root]) {
        if !support::have("strace") || !support::have("fuse-overlayfs") || !fuse_is_open() {
            return;
        }
        let image = image(t);
        let rung = if t.who == Identity::Root { "copy of the layers" } else { "fuse-overlayfs" };
        let output = run(t, REFUSE, map(t), &image).run().ok();
        assert_eq!(output.out(), seen(t, map(t)));
        let err = output.err();
        let lines = told(&err);
        assert_eq!(lines[0], "overlay of the kernel");
        assert!(lines[1].starts_with(&format!("{rung} (overlay of the kernel: rootfs: mount(overlay")), "{err}");
        assert!(lines[1].contains("EPERM") && lines.len() == 2, "{err}");
        if t.who == Identity::Unshared {
            // Its next command is in another user namespace, of which nothing is known.
            return;
        }
        t.quiet();
        let output = run(t, "", &[], &image).run().ok();
        assert_eq!(output.out(), seen(t, &[]));
        assert!(told(&output.err())[0].starts_with(&format!("{rung} (overlay of the kernel, tried before")), "{}", output.err());
        // Another boot: nothing is known.
        let memory = t.dir().join("data/rl/overlay-refused.json");
        let text = std::fs::read_to_string(&memory).unwrap();
        let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap();
        std::fs::write(&memory, text.replace(boot.trim(), "another")).unwrap();
        let output = run(t, "", &[], &image).run().ok();
        assert_eq!(told(&output.err()), ["overlay of the kernel"]);
    }

    fn files_are_reached_on_each_rung(t: [sub nosub]) {
        if !support::have("strace") || !support::have("fuse-overlayfs") || !fuse_is_open() {
            return;
        }
        t.keeps_containers();
        let image = image(t);
        t.file("f", "in");
        let path = format!("PATH={}", path_without_fuse(t).display());
        let script = "cd /; rm -r both; mkdir both; echo n >both/new; rm srv/link; echo ready; exec sleep 1000";
        for (rung, path) in [("fuse-overlayfs", ""), ("copy of the layers", &path)] {
            // That the kernel refused is remembered.
            run(t, &format!("{path} {REFUSE}"), map(t), &image).run().ok();
            t.quiet();
            let words = ["--name", "box", &image, "sh", "-c", script];
            let started = t.sh(&format!("{path} $RL run -d --network none --verbose \"$@\"")).arg("sh").args(words).run().ok();
            assert!(told(&started.err())[0].starts_with(rung), "{}", started.err());
            wait_for("its changes", || t.rl(["logs", "box"]).run().ok().out() == "ready");
            for state in ["running", "stopped"] {
                t.rl(["cp", "f"]).arg(format!("box:/srv/{state}")).run().ok();
                t.rl(["cp", "box:/srv/one", "box-one"]).run().ok();
                assert_eq!(std::fs::read(t.path("box-one")).unwrap(), b"1", "{rung}, {state}");
                let archive = t.rl(["export", "box"]).run().ok().stdout;
                let table = t.program("tar").arg("-t").stdin(archive).run().ok().out();
                let mut names: Vec<&str> = table.lines().filter(|l| ["srv/", "both/"].iter().any(|d| l.starts_with(d)) && !l.ends_with("/stopped")).collect();
                names.sort_unstable();
                assert_eq!(names, ["both/", "both/new", "srv/", "srv/again", "srv/one", "srv/running"], "{rung}, {state}");
                t.rl(["commit", "box", "my/box"]).run().ok();
                let seen = t.rl(["run", "--rm", "--network", "none", "my/box", "sh", "-c", "cd /; ls both; cat srv/running"]).run().ok().out();
                assert_eq!(seen, "new\nin", "{rung}, {state}");
                t.rl(["stop", "-t", "0", "box"]).run().ok();
            }
            // It stays on its rung, also when the kernel refuses no more.
            std::fs::remove_file(t.dir().join("data/rl/overlay-refused.json")).unwrap();
            t.rl(["start", "box"]).run().ok();
            wait_for("its changes once more", || t.rl(["logs", "box"]).run().ok().out() == "ready\nready");
            assert_eq!(t.rl(["exec", "box", "sh", "-c", "cd /; ls -A both; cat srv/stopped"]).run().ok().out(), "new\nin", "{rung}");
            t.rl(["rm", "-f", "box"]).run().ok();
        }
    }

    fn a_copy_is_the_last_way(t: [sub nosub unshared root]) {
        if !support::have("strace") {
            return;
        }
        let image = image(t);
        let path = path_without_fuse(t);
        let without = format!("PATH={}", path.display());
        let output = run(t, &format!("{without} {REFUSE}"), map(t), &image).run().ok();
        assert_eq!(output.out(), seen(t, map(t)));
        let err = output.err();
        let last = told(&err).pop().unwrap();
        assert!(last.starts_with("copy of the layers (overlay of the kernel: "), "{err}");
        if t.who != Identity::Root {
            assert!(last.contains("apt-get install fuse-overlayfs"), "{err}");
        }
        t.quiet();
        let output = run(t, &without, &[], &image).run().ok();
        assert_eq!(output.out(), seen(t, &[]));
    }

    fn a_failed_way_leaves_nothing_to_the_next(t: [sub nosub unshared]) {
        if !support::have("strace") || !fuse_is_open() {
            return;
        }
        let path = path_without_fuse(t);
        let script = "#!/bin/sh\n\
            upper=$(expr \"$*\" : '.*upperdir=\\([^,]*\\)')\n\
            /bin/echo junk > $upper/junk; /bin/mkdir -m 0 $upper/srv ${upper%upper}work/work\n\
            /bin/echo out of order >&2; exit 1\n";
        let program = path.join("fuse-overlayfs");
        std::fs::write(&program, script.replace("$(expr", "$(/usr/bin/expr")).unwrap();
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        std::fs::set_permissions(&program, mode).unwrap();
        let before = format!("PATH={} {REFUSE}", path.display());
        let output = run(t, &before, map(t), &image(t)).run().ok();
        let err = output.err();
        assert_eq!(output.out(), seen(t, map(t)), "{err}");
        let lines = told(&err);
        assert!(lines[1].starts_with("fuse-overlayfs ("), "{err}");
        assert!(lines[2].starts_with("copy of the layers (") && lines[2].contains("out of order"), "{err}");
    }

    fn a_new_volume_begins_with_the_image(t: [sub nosub unshared root]) {
        let image = image(t);
        let cat = |options: &[&str], script: &str| {
            let command = [image.as_str(), "sh", "-c", script];
            let words = options.iter().chain(&command);
            t.rl(["run", "--rm", "--network", "none"]).args(words).run().ok().out()
        };
        let look = "cd /v 2>/dev/null || cd /owned; stat -c '%A %u:%g' . file; cat file; echo; ls";
        let owner = if t.who.has_many_ids() { "1000:1000" } else { "0:0" };
        let full = format!("drwxr-x--- {owner}\n-rw------- {owner}\nmine\nfile");
        assert_eq!(cat(&["-v", "a:/owned:ro"], look), full);
        // It is the volume's now: another container sees it elsewhere, changes it, and it stays.
        assert_eq!(cat(&["-v", "a:/v"], look), full);
        cat(&["-v", "a:/v"], "rm /v/file; echo other > /v/new");
        assert_eq!(cat(&["-v", "a:/owned"], "ls /owned; cat /owned/new"), "new\nother");
        // Not asked for, nothing to begin with, or not from below another mount.
        assert_eq!(cat(&["-v", "b:/owned:nocopy"], "ls /owned"), "");
        assert_eq!(cat(&["--mount", "type=volume,src=c,dst=/owned,volume-nocopy"], "ls /owned"), "");
        assert_eq!(cat(&["-v", "d:/nowhere"], "touch /nowhere/x; ls /nowhere"), "x");
        let host = t.directory("host");
        std::fs::create_dir(host.join("owned")).unwrap();
        std::fs::write(host.join("owned/host"), "").unwrap();
        let bind = format!("{}:/both", host.display());
        assert_eq!(cat(&["-v", &bind, "-v", "e:/both/owned"], "ls /both/owned"), "");
    }

    fn a_volume_is_filled_once_and_whole(t: [sub root]) {
        let image = image(t);
        let start = || t.rl(["run", "--rm", "--network", "none", "-v", "v:/srv", &image, "ls", "/srv"]).spawn();
        t.rl(["run", "--rm", "--network", "none", &image, "true"]).run().ok();
        // Side by side: none sees it half full.
        let all: Vec<_> = (0..4).map(|_| start()).collect();
        for one in all {
            assert_eq!(one.wait().ok().out(), "again\nlink\none");
        }
        // Cut off: the mark is still there, a file is not.
        let volume = t.dir().join("data/rl/volumes/v/_data");
        std::fs::remove_file(volume.join("one")).unwrap();
        rustix::fs::setxattr(&volume, "user.rl.unfinished", b"", rustix::fs::XattrFlags::empty()).unwrap();
        assert_eq!(start().wait().ok().out(), "again\nlink\none");
        let mark = rustix::fs::getxattr(&volume, "user.rl.unfinished", &mut [0u8; 1][..]);
        assert_eq!(mark, Err(rustix::io::Errno::NODATA));
    }
}

/// As in a container without a volume: overlay refuses to be mounted on an overlay, and takes no whiteouts from above.
#[test]
fn a_store_on_an_overlay() {
    let Some(t) = Env::new(Identity::Sub) else {
        return;
    };
    if !support::identity::is_root() {
        return support::skip("mounting an overlay needs root");
    }
    let below = Layer::new()
        .file("gone", 0o644, "old")
        .dir("hidden", 0o755)
        .file("hidden/old", 0o644, "old")
        .dir("again", 0o755)
        .file("again/old", 0o644, "old");
    let above = Layer::new()
        .file(".wh.gone", 0o644, "")
        .dir("hidden", 0o755)
        .file("hidden/.wh..wh..opq", 0o644, "")
        .file("hidden/new", 0o644, "new")
        .file(".wh.again", 0o644, "")
        .dir("again", 0o755)
        .file("again/new", 0o644, "new");
    let image = Image::busybox().layer(below).layer(above);
    let image = image.write_for(&t, "image");
    let data = t.dir().join("data").display().to_string();
    let [upper, work] = ["upper", "work"].map(|d| t.directory(d).display().to_string());
    nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNS).unwrap();
    let sh = |line: &str| {
        let status = std::process::Command::new("/bin/sh")
            .args(["-ec", line])
            .status();
        assert!(status.unwrap().success(), "{line}");
    };
    sh(&format!(
        "mount --make-rprivate /; mount -t overlay -o lowerdir={data},upperdir={upper},workdir={work} none {data}"
    ));
    let run = |verbose: &str| {
        let words = [
            "run",
            "--rm",
            verbose,
            "--network",
            "none",
            &image,
            "sh",
            "-c",
        ];
        let look = "ls -d /gone 2>/dev/null; ls /hidden /again; find / -xdev -type s";
        t.rl(words).arg(look).run().ok()
    };
    // Once with unpacking, once without.
    for _ in 0..2 {
        let output = run("--verbose");
        assert_eq!(output.out(), "/again:\nnew\n\n/hidden:\nnew");
        let err = output.err();
        let rungs = told(&err);
        let last = rungs.last().unwrap();
        assert!(last.starts_with("copy of the layers (layer "), "{err}");
        assert!(last.ends_with("takes no whiteouts)"), "{err}");
    }
    t.quiet();
    sh(&format!("umount {data}"));
}

#[test]
fn a_volume_leads_nowhere_else() {
    let Some(t) = Env::new(Identity::Sub) else {
        return;
    };
    // The image's directory is a link to a place of the host, and one out of its root.
    let secret = t.directory("secret");
    std::fs::write(secret.join("key"), "secret").unwrap();
    let layer = Layer::new()
        .symlink("out", "../../../../../../../../etc")
        .dir("in", 0o755)
        .file("in/x", 0o644, "x")
        .symlink("absolute", "/in");
    let image = Image::busybox().layer(layer).write_for(&t, "image");
    let ls = |volume: &str, dir: &str| {
        let words = [
            "run",
            "--rm",
            "--network",
            "none",
            "-v",
            volume,
            &image,
            "ls",
            dir,
        ];
        t.rl(words).run().ok().out()
    };
    assert_eq!(ls("a:/absolute", "/in"), "x");
    let etc = ls("b:/out", "/etc");
    assert!(etc.contains("passwd") && !etc.contains("shadow"), "{etc}");
}
