//! Pulls that are interrupted, disks that are full, directories that are closed.

use std::fs;
use std::path::Path;

use crate::registry::{Layout, noise_layer};
use crate::support::{Env, Program, wait_for};
use crate::{no_processes, nothing_left, run, with_image, with_registry};

/// A pull that is killed, or that the machine refuses something, is done by the next run.
#[test]
fn interrupted_pulls() {
    let Some((t, _)) = with_image() else {
        return;
    };
    let Some(registry) = with_registry() else {
        return;
    };
    let layout = Layout::new((1..4).map(|seed| noise_layer(seed, 600_000)).collect());
    registry.push(&layout.source("one"), "noise", &[]);
    let data = t.path("fresh");
    let fresh = || {
        let _ = fs::remove_dir_all(&data);
        fs::create_dir(&data).unwrap();
        t.own(&data);
    };
    let pull = |image: &str, command: &str| {
        let image = format!("{}/{image}", registry.host());
        run(&t, &image, &[], &[command]).env("XDG_DATA_HOME", &data)
    };
    let converges = |what: &str| {
        // There is no `/x` in it: the start gets to the very end.
        let output = pull("noise", "/x").run();
        assert_eq!(output.code(), 127, "after {what}: {}", output.err());
        no_processes(&t, what);
        let left = || -> Vec<_> {
            let dirs = ["tmp", "containers"].map(|dir| data.join("rl").join(dir));
            dirs.iter()
                .flat_map(|dir| fs::read_dir(dir).unwrap().flatten())
                .map(|entry| entry.file_name().into_string().unwrap())
                .filter(|name| name != "locks" && name != "by-name" && name != "mnt")
                .collect()
        };
        if !left().is_empty() {
            // What was complete but for its tidying up is tidied up by the next pull.
            pull("busybox", "true").run().ok();
            no_processes(&t, what);
        }
        assert!(left().is_empty(), "after {what}: {:?}", left());
    };
    let points = [
        ("clone3", 3),
        ("mkdir", 12),
        ("rename", 2),
        ("renameat", 6),
        ("renameat2", 2),
        ("pwrite64", 6),
        ("fsync", 4),
        ("fdatasync", 2),
        ("flock", 6),
        ("openat2", 6),
        ("linkat", 2),
        ("unlinkat", 8),
        ("fchmod", 4),
    ];
    for (call, last) in points {
        for n in (1..=last).step_by(2) {
            fresh();
            let what = format!("a kill at {call} {n}");
            let fault = format!("inject={call}:signal=SIGKILL:when={n}");
            let output = pull("noise", "/x").traced([fault]).run();
            assert!(
                !output.err().contains("panicked"),
                "{what}: {}",
                output.err()
            );
            no_processes(&t, &what);
            converges(&what);
        }
    }
    let refused = [
        ("pwrite64", "ENOSPC", 5),
        ("write", "ENOSPC", 3),
        ("renameat", "ENOSPC", 5),
        ("mkdirat", "ENOSPC", 2),
        ("openat2", "EMFILE", 3),
        ("fsync", "EIO", 3),
        ("flock", "ENOLCK", 4),
    ];
    for (call, errno, last) in refused {
        for n in (1..=last).step_by(2) {
            fresh();
            let what = format!("{call} {n}: {errno}");
            let fault = format!("inject={call}:error={errno}:when={n}");
            let output = pull("noise", "/x").traced([fault]).run();
            match output.code() {
                127 => {}
                _ => drop(output.refuses(125, "error: ")),
            }
            converges(&what);
        }
    }
    // Without calls that older kernels lack.
    fresh();
    let missing = "inject=openat2,clone3,close_range,statx,copy_file_range,renameat2:error=ENOSYS";
    pull("busybox", "true").traced([missing]).run().ok();
    fs::remove_dir_all(&data).unwrap();
}

/// Mounts a small file system for this thread and what it starts. It is gone when the test is.
fn small_disk(t: &Env, at: &Path, size: &str) {
    use nix::mount::{MsFlags, mount};
    use nix::sched::{CloneFlags, unshare};
    unshare(CloneFlags::CLONE_NEWNS).unwrap();
    let none = None::<&str>;
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none).unwrap();
    let size = format!("size={size},mode=755");
    mount(
        Some("tmpfs"),
        at,
        Some("tmpfs"),
        MsFlags::empty(),
        Some(size.as_str()),
    )
    .unwrap();
    t.own(at);
}

fn remount(at: &Path, options: &str) {
    let status = std::process::Command::new("mount")
        .args(["-o", &format!("remount,{options}")])
        .arg(at)
        .status();
    assert!(status.unwrap().success());
}

#[test]
fn a_full_disk() {
    let Some((t, _)) = with_image() else {
        return;
    };
    let Some(registry) = with_registry() else {
        return;
    };
    let image = format!("{}/busybox", registry.host());
    let disk = t.directory("disk");
    small_disk(&t, &disk, "1m");
    let on_disk = |options: &[&str], command: &[&str]| {
        run(&t, &image, options, command).env("XDG_DATA_HOME", &disk)
    };
    let containers = disk.join("rl/containers");
    let kept = || {
        let dirs = [
            containers.clone(),
            containers.join("by-name"),
            disk.join("rl/tmp"),
        ];
        let all = dirs
            .iter()
            .flat_map(|dir| fs::read_dir(dir).into_iter().flatten().flatten());
        let names = all.map(|entry| entry.file_name().into_string().unwrap());
        names
            .filter(|n| n != "by-name" && n != "locks" && n != "mnt")
            .collect::<Vec<_>>()
    };
    for size in ["1m", "2m", "3m"] {
        // Too little for the blob, or for the layer too.
        remount(&disk, &format!("size={size}"));
        let output = on_disk(&[], &["true"]).run().refuses(125, "o space left");
        assert!(output.err().contains("hint: "), "{}", output.err());
        wait_for("an empty store", || kept().is_empty());
    }
    remount(&disk, "size=30m");
    on_disk(&[], &["true"]).run().ok();

    // Full for the container alone.
    let fill = disk.join("fill");
    let mut size = 30 << 20;
    while size >= 4096 {
        let mut file = fs::File::options()
            .append(true)
            .create(true)
            .open(&fill)
            .unwrap();
        if std::io::Write::write_all(&mut file, &vec![0; size]).is_err() {
            size /= 2;
        }
    }
    for options in [&[][..], &["--name", "same"]] {
        let output = on_disk(options, &["true"])
            .run()
            .refuses(125, "o space left");
        assert!(
            output.err().contains(&*disk.to_string_lossy()),
            "{}",
            output.err()
        );
        assert!(output.err().contains("hint: "), "{}", output.err());
        wait_for("no container", || kept().is_empty());
    }
    fs::remove_file(&fill).unwrap();
    on_disk(&["--name", "same"], &["true"]).run().ok();

    // A name that cannot be changed to is still free.
    t.rl([
        "create",
        "--name",
        "kept",
        "--network",
        "none",
        &image,
        "true",
    ])
    .env("XDG_DATA_HOME", &disk)
    .run()
    .ok();
    let verb = |words: &[&str]| t.rl(words).env("XDG_DATA_HOME", &disk).run();
    let full = "inject=write:error=ENOSPC:when=1";
    let renaming = t.rl(["rename", "kept", "other"]).traced([full]);
    let renaming = renaming.env("XDG_DATA_HOME", &disk).run();
    renaming.refuses(125, "o space left");
    verb(&["inspect", "kept"]).ok();
    verb(&["inspect", "other"]).complains("`other`");
    verb(&["rm", "kept"]).ok();
    wait_for("no container", || kept().is_empty());

    // Filled by the container.
    let script = [
        "sh",
        "-c",
        "dd if=/dev/zero of=/x bs=64k 2>/dev/null || echo full",
    ];
    assert_eq!(on_disk(&[], &script).run().ok().out(), "full");
    wait_for("no container", || kept().is_empty());
    on_disk(&[], &["true"]).run().ok();
    wait_for("no container", || kept().is_empty());

    // How it ended is known all the same, and that another one runs.
    let words = ["create", "--name", "runs", "--network", "none", &image];
    let runs = t.rl(words).args(["sleep", "1000"]);
    runs.env("XDG_DATA_HOME", &disk).run().ok();
    verb(&["start", "runs"]).ok();
    verb(&["stop", "-t", "0", "runs"]).ok();
    let script = "dd if=/dev/zero of=/x bs=4k 2>/dev/null || exit 7";
    let words = ["run", "--name", "fills", "--network", "none", &image];
    let fills = t.rl(words).args(["sh", "-c", script]);
    assert_eq!(fills.env("XDG_DATA_HOME", &disk).run().code(), 7);
    let status = || {
        verb(&[
            "inspect",
            "-f",
            "{{.State.Status}} {{.State.ExitCode}}",
            "fills",
        ])
    };
    wait_for("its end", || status().ok().out() == "exited 7");
    assert!(verb(&["ps", "-a"]).ok().out().contains("Exited (7)"));
    verb(&["start", "runs"]).ok();
    assert!(verb(&["ps"]).ok().out().contains(" Up "));
    verb(&["stop", "-t", "0", "runs"]).ok();
    assert!(!verb(&["ps"]).ok().out().contains(" Up "));
    verb(&["rm", "runs"]).ok();
    verb(&["rm", "fills"]).ok();
    wait_for("no container", || kept().is_empty());

    // Read-only.
    remount(&disk, "ro");
    on_disk(&[], &["true"])
        .run()
        .refuses(125, &disk.to_string_lossy())
        .complains("hint: set XDG_DATA_HOME");
    no_processes(&t, "a read-only disk");
    nix::mount::umount2(&disk, nix::mount::MntFlags::MNT_DETACH).unwrap();
}

/// Standard output on a full disk is told; a reader that went away is not.
#[test]
fn output_that_cannot_be_written() {
    let Some((t, image)) = with_image() else {
        return;
    };
    let script = format!("$RL run --rm --quiet --network none {image} seq 5 >/dev/full");
    t.sh(&script)
        .run()
        .refuses(125, "write(standard output): ENOSPC");
    let script = format!("$RL run --rm --quiet --network none {image} seq 1000000 | head -n 1");
    let output = t.sh(&script).run().ok();
    assert_eq!((output.out().as_str(), output.err().as_str()), ("1", ""));
    nothing_left(&t, "lost output");
}

#[test]
fn directories_that_are_missing_or_closed() {
    use std::os::unix::fs::PermissionsExt as _;
    let Some((t, image)) = with_image() else {
        return;
    };
    let echo = || run(&t, &image, &[], &["echo", "works"]);
    let works = |program: Program<'_>| assert_eq!(program.run().ok().out(), "works");
    works(echo().env_remove("XDG_RUNTIME_DIR"));
    works(echo().env("XDG_RUNTIME_DIR", "/nonexistent"));
    works(echo().env_remove("HOME"));
    works(echo().env_remove("TMPDIR"));
    let closed = |program: Program<'_>, path: &str| {
        let output = program.run().refuses(125, path);
        output.complains("hint: set XDG_DATA_HOME");
    };
    for home in ["/", "/nonexistent", "/proc"] {
        let program = echo().env_remove("XDG_DATA_HOME").env("HOME", home);
        closed(program, ".local/share/rl");
    }
    let data = t.directory("data");
    let file = data.join("rl");
    fs::write(&file, "").unwrap();
    closed(echo().env("XDG_DATA_HOME", &data), &file.to_string_lossy());
    fs::remove_file(&file).unwrap();
    fs::create_dir(&file).unwrap();
    t.own(&file);
    fs::set_permissions(&file, fs::Permissions::from_mode(0o000)).unwrap();
    closed(echo().env("XDG_DATA_HOME", &data), &file.to_string_lossy());
    let mode = |mode| {
        let path = t.dir().join("data/rl/containers");
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    };
    mode(0o500);
    echo().run().refuses(125, "containers").complains("hint: ");
    mode(0o700);
    works(echo());
    nothing_left(&t, "closed directories");
}
