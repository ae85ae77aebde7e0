//! What is refused, killed, full or missing: each time the error says where, nothing is left behind, no
//! wall is missing from a container that runs, and the next command works.
//!
//! System calls are refused, and processes killed at them, by strace(1), whose counts are each process's
//! own: `when=3` is the third such call of every process of the start.

#[macro_use]
mod support;
#[allow(dead_code)]
#[path = "support/registry.rs"]
mod registry;

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use registry::{Access, Layout, Registry, noise_layer};
use rustix::process::{Pid, Signal, kill_process};
use support::{Env, Identity, Output, Program, Running, have, images, skip, wait_for};

/// A user with subordinate ids, and the small image in their store.
fn with_image() -> Option<(Env, String)> {
    if !support::identity::is_root() {
        skip("only root can trace newuidmap and newgidmap");
        return None;
    }
    if !have("strace") || !have("docker-registry") || !have("skopeo") {
        return None;
    }
    let env = Env::new(Identity::Sub)?;
    let registry = Registry::start(&Access::Open);
    registry.push(images::busybox(), "busybox", &[]);
    let image = format!("{}/busybox", registry.host());
    run(&env, &image, &[], &["true"]).run().ok();
    Some((env, image))
}

fn run<'a>(t: &'a Env, image: &str, options: &[&str], command: &[&str]) -> Program<'a> {
    let network = match options.contains(&"--network") {
        true => &[][..],
        false => &["--network", "none"],
    };
    t.rl(["run", "--rm", "--quiet"])
        .args(network)
        .args(options)
        .arg(image)
        .args(command)
}

/// What is left in the user's directories, and the processes that still run; whoever has ended and waits
/// for the machine's init is gone as far as this is concerned.
fn left(t: &Env) -> Vec<String> {
    let running = t.processes().into_iter().filter(|p| p.state != 'Z');
    running
        .map(|p| format!("{p:?}"))
        .chain(left_on_disk(t))
        .collect()
}

fn left_on_disk(t: &Env) -> Vec<String> {
    let data = t.dir().join("data/rl");
    let list = |dir: &str| fs::read_dir(data.join(dir)).into_iter().flatten().flatten();
    let found = ["containers", "containers/by-name", "tmp"]
        .into_iter()
        .flat_map(list);
    found
        .map(|entry| entry.path().display().to_string())
        .filter(|path| !path.ends_with("/by-name") && !path.ends_with("/locks"))
        .collect()
}

#[track_caller]
fn nothing_left(t: &Env, after: &str) {
    let end = Instant::now() + Duration::from_secs(20);
    loop {
        let left = left(t);
        if left.is_empty() {
            return;
        }
        assert!(Instant::now() < end, "after {after}: {left:#?}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

#[track_caller]
fn no_processes(t: &Env, after: &str) {
    let end = Instant::now() + Duration::from_secs(20);
    loop {
        let running: Vec<_> = t
            .processes()
            .into_iter()
            .filter(|p| p.state != 'Z')
            .collect();
        if running.is_empty() {
            return;
        }
        assert!(Instant::now() < end, "after {after}: {running:#?}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// A look at the walls from inside, one on a line.
const WALLS: &str = r#"
sed -n -E '/^(Cap|NoNew|Seccomp:|Groups|Uid|Gid)/p' /proc/self/status
sed -E 's/^[0-9]+ [0-9]+ [0-9:]+ /mount /; s/[0-9a-f]{64}/ID/g' /proc/self/mountinfo | cut -d' ' -f 1-4,6
sed 's/^/map /' /proc/self/uid_map /proc/self/gid_map
echo host $(hostname)
(echo x >/proc/sys/kernel/domainname) 2>/dev/null && echo /proc/sys can be written
exit 0
"#;

/// The lines that must be there whatever rung of a ladder the start came to stand on.
fn walls(output: &Output) -> Vec<String> {
    let text = output.out();
    // The root and the cgroup tree have rungs of their own.
    let rungs = [Some("/"), Some("/sys/fs/cgroup")];
    text.lines()
        .filter(|line| !line.starts_with("mount ") || !rungs.contains(&line.split(' ').nth(2)))
        .map(str::to_owned)
        .collect()
}

#[track_caller]
fn stand(expected: &[String], output: &Output, what: &str) {
    let found = walls(output);
    for line in expected {
        assert!(
            found.contains(line),
            "{what}: `{line}` is not in {found:#?}"
        );
    }
    // More is mounted only where an outer /proc or /sys had to do.
    for line in found.iter().filter(|line| !expected.contains(line)) {
        let outer = ["/proc/", "/sys/"]
            .iter()
            .any(|dir| line.split(' ').nth(2).is_some_and(|at| at.starts_with(dir)));
        assert!(outer, "{what}: there is also `{line}`");
    }
}

/// Refuses the first, second, … call: each start fails cleanly, or has all its walls.
fn refuse(t: &Env, image: &str, list: &[(&str, &str, usize, usize)]) {
    let look = |faults: &[String]| {
        let program = run(t, image, &["--hostname", "walls"], &["sh", "-c", WALLS]);
        match faults.is_empty() {
            true => program.run(),
            false => program.traced(faults).run(),
        }
    };
    let expected = walls(&look(&[]).ok());
    assert!(expected.len() > 30, "{expected:#?}");
    for &(call, errno, last, step) in list {
        let mut failed = 0;
        for n in (1..=last).step_by(step) {
            let what = format!("{call} {n}: {errno}");
            let output = look(&[format!("inject={call}:error={errno}:when={n}")]);
            match output.code() {
                0 => stand(&expected, &output, &what),
                125 => {
                    failed += 1;
                    let output = output.refuses(125, "error: ");
                    assert!(
                        !output.err().contains("was killed"),
                        "{what}: {}",
                        output.err()
                    );
                    assert!(output.out().is_empty(), "{what}");
                }
                other => panic!("{what}: exit status {other}\n{}", output.err()),
            }
            nothing_left(t, &what);
        }
        assert!(failed > 0, "{call} was never refused: is it still used?");
    }
}

#[test]
fn refused_mounts() {
    let Some((t, image)) = with_image() else {
        return;
    };
    let list = [
        ("mount", "EPERM", 30, 1),
        ("mount", "ENOMEM", 30, 5),
        ("mount_setattr", "EINVAL", 9, 1),
        ("pivot_root", "EPERM", 1, 1),
        ("umount2", "EPERM", 1, 1),
        ("symlinkat", "ENOSPC", 6, 2),
        ("mkdirat", "EROFS", 3, 1),
        ("fstatfs", "EIO", 2, 1),
        ("chdir", "EACCES", 5, 1),
        ("fchdir", "EACCES", 1, 1),
    ];
    refuse(&t, &image, &list);
}

#[test]
fn refused_paths_inside() {
    let Some((t, image)) = with_image() else {
        return;
    };
    refuse(
        &t,
        &image,
        &[("openat2", "EIO", 99, 3), ("openat2", "ENOMEM", 99, 13)],
    );
}

#[test]
fn refused_confinement() {
    let Some((t, image)) = with_image() else {
        return;
    };
    let list = [
        ("seccomp", "EPERM", 2, 1),
        ("seccomp", "EINVAL", 1, 1),
        ("capset", "EPERM", 2, 1),
        ("landlock_create_ruleset", "ENOMEM", 3, 1),
        ("landlock_add_rule", "ENOMEM", 2, 1),
        ("landlock_restrict_self", "E2BIG", 2, 1),
        ("prctl", "EPERM", 6, 1),
        ("prctl", "EPERM", 75, 7),
        ("setresuid", "EPERM", 2, 1),
        ("setresgid", "EPERM", 2, 1),
        ("setgroups", "EPERM", 1, 1),
        ("sethostname", "EPERM", 1, 1),
    ];
    refuse(&t, &image, &list);
}

#[test]
fn refused_processes_and_files() {
    let Some((t, image)) = with_image() else {
        return;
    };
    let list = [
        ("clone3", "EAGAIN", 4, 1),
        ("execveat", "EACCES", 1, 1),
        ("memfd_create", "ENOMEM", 2, 1),
        ("socketpair", "EMFILE", 3, 1),
        ("pipe2", "EMFILE", 5, 1),
        ("sendmsg", "ENOBUFS", 2, 1),
        ("mkdir", "EACCES", 7, 1),
        ("symlink", "ENOSPC", 1, 1),
        ("rename", "ENOSPC", 1, 1),
        ("chmod", "EPERM", 2, 1),
    ];
    refuse(&t, &image, &list);
    for n in 1..=3 {
        let what = format!("write {n}");
        let fault = format!("inject=write:error=ENOSPC:when={n}");
        run(&t, &image, &[], &["true"])
            .traced([fault])
            .run()
            .refuses(125, "write(");
        nothing_left(&t, &what);
    }
}

/// Calls that older kernels, and the filters of other sandboxes, do not know: the next rung holds.
#[test]
fn missing_calls() {
    let Some((t, image)) = with_image() else {
        return;
    };
    let volume = t.directory("volume");
    let volume = format!("{}:/mnt:ro", volume.display());
    let options = ["--hostname", "walls", "-v", &volume];
    let script = format!("touch /mnt/x 2>/dev/null && echo /mnt can be written\n{WALLS}");
    let look = |faults: &[String]| {
        let program = run(&t, &image, &options, &["sh", "-c", &script]);
        match faults.is_empty() {
            true => program.run().ok(),
            false => program.traced(faults).run().ok(),
        }
    };
    let expected = walls(&look(&[]));
    assert!(
        expected.iter().any(|line| line.contains(" /mnt ro,")),
        "{expected:#?}"
    );
    let missing = [
        "clone3",
        "close_range",
        "open_tree",
        "mount_setattr",
        "landlock_create_ruleset",
        "openat2",
        "seccomp",
        "statx",
        "faccessat2",
    ];
    let faults = missing.map(|call| format!("inject={call}:error=ENOSYS"));
    for fault in &faults {
        stand(&expected, &look(std::slice::from_ref(fault)), fault);
        nothing_left(&t, fault);
    }
    let all = [format!("inject={}:error=ENOSYS", missing.join(","))];
    stand(&expected, &look(&all), "all at once");
    // A filter may say EPERM instead.
    let all = [String::from(
        "inject=close_range,open_tree,openat2:error=EPERM",
    )];
    stand(&expected, &look(&all), "all at once refused");
    nothing_left(&t, "all at once");
}

/// Ends whoever of a start makes a call; then the same name must be free for the next run.
fn kill_at(t: &Env, image: &str, options: &[&str], list: &[(&str, usize)]) {
    let named = [&["--name", "same"], options].concat();
    for &(call, last) in list {
        for n in 1..=last {
            let what = format!("a kill at {call} {n} {options:?}");
            let fault = format!("inject={call}:signal=SIGKILL:when={n}");
            let output = run(t, image, &named, &["true"]).traced([fault]).run();
            assert!(
                !output.err().contains("panicked"),
                "{what}: {}",
                output.err()
            );
            no_processes(t, &what);
            let next = run(t, image, &named, &["echo", "works"]).run();
            assert_eq!(
                (next.code(), next.out().as_str()),
                (0, "works"),
                "after {what}: {}",
                next.err()
            );
            nothing_left(t, &what);
        }
    }
}

#[test]
fn killed_while_it_prepares() {
    let Some((t, image)) = with_image() else {
        return;
    };
    let list = [
        ("mkdir", 7),
        ("symlink", 1),
        ("chmod", 2),
        ("rename", 2),
        ("write", 4),
        ("socketpair", 2),
        ("clone3", 3),
        ("setsid", 1),
        ("memfd_create", 1),
        ("sendmsg", 5),
        ("recvmsg", 5),
        ("ppoll", 7),
        ("waitid", 2),
    ];
    kill_at(&t, &image, &[], &list);
}

#[test]
fn killed_while_it_starts_and_ends() {
    let Some((t, image)) = with_image() else {
        return;
    };
    let list = [
        ("execve", 2),
        ("execveat", 1),
        ("sethostname", 1),
        ("pivot_root", 1),
        ("landlock_restrict_self", 1),
        ("seccomp", 1),
        ("unlinkat", 10),
        ("rmdir", 4),
        ("unlink", 2),
        ("exit_group", 1),
    ];
    kill_at(&t, &image, &[], &list);
    for n in [1, 2, 5, 14, 20, 28] {
        kill_one(&t, &image, "mount", n);
    }
    kill_at(&t, &image, &["--init"], &[("ppoll", 3), ("clone3", 4)]);
    kill_at(
        &t,
        &image,
        &["--user", "app"],
        &[("ppoll", 3), ("setresuid", 2)],
    );
}

fn kill_one(t: &Env, image: &str, call: &str, n: usize) {
    let fault = format!("inject={call}:signal=SIGKILL:when={n}");
    let output = run(t, image, &[], &["true"]).traced([fault]).run();
    output.refuses(125, "first process ended with status 137");
    nothing_left(t, &format!("a kill at {call} {n}"));
}

fn children(pid: i32) -> Vec<i32> {
    let text = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    text.split_whitespace()
        .map(|word| word.parse().unwrap())
        .collect()
}

fn kill(pid: i32) {
    kill_process(Pid::from_raw(pid).unwrap(), Signal::KILL).unwrap();
}

fn has_ended(pid: i32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"));
    stat.map_or(true, |stat| stat.contains(") Z "))
}

/// A container that says `up` and stays; with the pids of its monitor and of the monitor's children.
fn up<'a>(program: Program<'a>) -> (Running<'a>, i32, Vec<i32>) {
    let mut running = program.stdin_open().spawn();
    running.expect("up");
    let monitor = children(running.pid())[0];
    (running, monitor, children(monitor))
}

const STAY: &[&str] = &["sh", "-c", "echo up; sleep 1000"];

/// Kinds of containers, each of which might survive its monitor in its own way.
const KINDS: [&[&str]; 8] = [
    &[],
    &["--init"],
    &["--user", "app"],
    &["--user", "app", "--init"],
    &["--pid", "host", "--init"],
    &["--network", "pasta"],
    &["--network", "slirp4netns"],
    &["--userns", "keep-id"],
];

#[test]
fn killed_while_it_runs() {
    let Some((t, image)) = with_image() else {
        return;
    };
    for kind in KINDS {
        let start = || up(run(&t, &image, kind, STAY));
        let what = |who: &str| format!("a kill of the {who}, {kind:?}");

        let (running, monitor, _) = start();
        kill(monitor);
        running.wait().refuses(125, "monitor was killed");
        nothing_left(&t, &what("monitor"));

        let (running, _, _) = start();
        kill(running.pid());
        drop(running);
        nothing_left(&t, &what("front end"));

        let (running, monitor, _) = start();
        kill(running.pid());
        kill(monitor);
        drop(running);
        no_processes(&t, &what("front end and monitor"));
        run(&t, &image, &[], &["true"]).run().ok();
        nothing_left(&t, &what("front end and monitor"));

        let (running, _, inside) = start();
        kill(inside[0]);
        running.wait().exits(137);
        nothing_left(&t, &what("first process"));
    }
}

#[test]
fn a_network_helper_killed() {
    let Some((t, image)) = with_image() else {
        return;
    };
    for helper in ["pasta", "slirp4netns"] {
        let script = ["sh", "-c", "echo up; read line; exit 7"];
        let (mut running, _, inside) = up(run(&t, &image, &["--network", helper], &script));
        let helper_pid = inside.iter().copied().find(|pid| {
            let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
            name.starts_with("pas") || name.starts_with("slirp")
        });
        kill(helper_pid.expect("the helper is the monitor's child"));
        running.close_stdin();
        running.wait().exits(7);
        nothing_left(&t, &format!("a kill of {helper}"));
    }
}

/// A process that changed its user lost the signal that ends it with its monitor. With both gone that
/// could end it, the next command does.
#[test]
fn a_first_process_that_changed_its_user() {
    let Some((t, image)) = with_image() else {
        return;
    };
    let script = [
        "sh",
        "-c",
        "exec su -s /bin/sh app -c 'echo up; exec sleep 1000'",
    ];
    let (running, monitor, _) = up(run(&t, &image, &[], &script));
    kill(monitor);
    running.wait().refuses(125, "monitor was killed");
    nothing_left(&t, "a kill of the monitor");

    let (running, monitor, _) = up(run(&t, &image, &["--name", "same"], &script));
    kill(running.pid());
    kill(monitor);
    drop(running);
    wait_for("the monitor's end", || has_ended(monitor));
    run(&t, &image, &["--name", "same"], &["true"]).run().ok();
    nothing_left(&t, "a kill of the front end and the monitor");
}

/// A command that is deaf to the hang-up is ended all the same.
#[test]
fn a_command_that_ignores_the_hang_up() {
    let Some((t, image)) = with_image() else {
        return;
    };
    for options in [&[][..], &["--init"]] {
        let script = [
            "sh",
            "-c",
            "trap '' HUP; echo up; while :; do sleep 1; done",
        ];
        let (running, _, _) = up(run(&t, &image, options, &script));
        kill(running.pid());
        drop(running);
        wait_for("the end of the container", || left(&t).is_empty());
    }
}

/// A container without `--rm` keeps its name, and the next one is told.
#[test]
fn a_name_that_is_taken() {
    let Some((t, image)) = with_image() else {
        return;
    };
    t.keeps_containers();
    let named = |command: &[&str]| {
        t.rl([
            "run",
            "--quiet",
            "--network",
            "none",
            "--name",
            "same",
            &image,
        ])
        .args(command)
    };
    let (running, monitor, _) = up(named(STAY));
    named(&["true"]).run().refuses(125, "`same` is in use");
    kill(monitor);
    running.wait().refuses(125, "monitor was killed");
    no_processes(&t, "a kill of the monitor");
}

#[test]
fn many_at_once() {
    let Some((t, image)) = with_image() else {
        return;
    };
    let many: Vec<_> = (0..20)
        .map(|i| run(&t, &image, &[], &["echo", &format!("number {i}")]).spawn())
        .collect();
    for (i, running) in many.into_iter().enumerate() {
        assert_eq!(running.wait().ok().out(), format!("number {i}"));
    }
    nothing_left(&t, "twenty at once");
    for round in 0..3 {
        let mut same: Vec<_> = (0..5)
            .map(|_| {
                let program = run(
                    &t,
                    &image,
                    &["--name", "same"],
                    &["sh", "-c", "echo up; cat"],
                );
                program.stdin_open().spawn()
            })
            .collect();
        // Four are refused while the one that won waits for its input.
        let ended = |running: &Running<'_>| has_ended(running.pid());
        wait_for("the losers", || {
            same.iter().filter(|r| ended(r)).count() == 4
        });
        let winner = same.iter().position(|r| !ended(r)).unwrap();
        same.swap_remove(winner).wait().ok();
        for loser in same {
            loser.wait().refuses(125, "`same` is in use");
        }
        nothing_left(&t, &format!("round {round} of five of one name"));
    }
}

/// A pull that is killed, or that the machine refuses something, is done by the next run.
#[test]
fn interrupted_pulls() {
    let Some((t, _)) = with_image() else {
        return;
    };
    let layout = Layout::new((1..4).map(|seed| noise_layer(seed, 600_000)).collect());
    let registry = Registry::start(&Access::Open);
    registry.push(&layout.source("one"), "noise", &[]);
    registry.push(images::busybox(), "busybox", &[]);
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
                .filter(|name| name != "locks" && name != "by-name")
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
    let registry = Registry::start(&Access::Open);
    registry.push(images::busybox(), "busybox", &[]);
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
            .filter(|n| n != "by-name" && n != "locks")
            .collect::<Vec<_>>()
    };
    for size in ["1m", "2m", "3m"] {
        // Too little for the blob, or for the layer too.
        remount(&disk, &format!("size={size}"));
        let output = on_disk(&[], &["true"]).run().refuses(125, "no space left");
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
