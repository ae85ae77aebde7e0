//! Processes that are killed, and many at once: nobody is left over, and the next command works.

use std::fs;

use rustix::process::{Pid, Signal, kill_process};

use crate::support::{Env, Program, Running, have, wait_for};
use crate::{left, no_processes, nothing_left, run, stays, with_image};

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

fn parent(pid: i32) -> i32 {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix("PPid:"));
    line.unwrap().trim().parse().unwrap()
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

/// fuse-overlayfs serves the root: it goes with the monitor, and the container ends when it dies.
#[test]
fn a_root_helper_killed() {
    let Some((t, image)) = with_image() else {
        return;
    };
    if !have("fuse-overlayfs") {
        return;
    }
    // Once refused, the overlay is not tried again.
    let refused = run(&t, &image, &[], &["true"]).traced(["inject=mount:error=EPERM:when=2"]);
    drop(refused.run());
    let helper_of = |inside: &[i32]| {
        let name = |pid: i32| fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
        let found = inside
            .iter()
            .copied()
            .find(|pid| name(*pid).starts_with("fuse"));
        found.expect("fuse-overlayfs is the monitor's child")
    };
    for options in [&[][..], &["--init"]] {
        let (running, monitor, inside) = up(run(&t, &image, options, STAY));
        helper_of(&inside);
        kill(monitor);
        running.wait().refuses(125, "monitor was killed");
        nothing_left(&t, "a kill of the monitor");

        let (running, monitor, inside) = up(run(&t, &image, options, STAY));
        helper_of(&inside);
        kill(running.pid());
        kill(monitor);
        drop(running);
        no_processes(&t, "a kill of the front end and the monitor");
        run(&t, &image, &[], &["true"]).run().ok();
        nothing_left(&t, "a kill of the front end and the monitor");

        let command = ["sh", "-c", "echo up; read line; ls / || exit 7"];
        let loud = t.rl(["run", "--rm", "--network", "none"]).args(options);
        let (mut running, _, inside) = up(loud.arg(&image).args(command));
        kill(helper_of(&inside));
        running.expect_told(
            "`fuse-overlayfs` ended (killed by signal 9): the container's root file system",
        );
        running.close_stdin();
        let output = running.wait();
        assert_ne!(output.code(), 0, "{}", output.err());
        nothing_left(&t, "a kill of fuse-overlayfs");
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

/// The same of one that stays, detached: whichever verb comes first ends it, and says how it ended.
#[test]
fn a_detached_first_process_that_changed_its_user() {
    let Some((t, image)) = with_image() else {
        return;
    };
    let command = "echo up; exec sleep 1000";
    let command = ["su", "-s", "/bin/sh", "app", "-c", command];
    let runs = || t.processes().iter().any(|p| p.command == "sleep 1000");
    let verbs: [&[&str]; 6] = [
        &["ps"],
        &["inspect", "same"],
        &["logs", "same"],
        &["stop", "same"],
        &["start", "same"],
        &["rm", "-f", "same"],
    ];
    for verb in verbs {
        // Without a user namespace that is prepared for the next, which goes on beside it.
        let same = stays(&t, &image, &command);
        same.run().ok();
        wait_for("it", || {
            t.rl(["logs", "same"]).run().ok().out() == "up" && runs()
        });
        let mut all = t.processes().into_iter();
        let first = all.find(|p| p.command == "sleep 1000");
        let monitor = parent(first.expect("the first process").pid);
        let before: Vec<_> = t.processes().iter().map(|p| p.pid).collect();
        kill(monitor);
        wait_for("the monitor's end", || has_ended(monitor));
        assert!(runs(), "the kernel ended it: nothing is tried here");
        t.rl(verb).run().ok();
        let after = t.processes().into_iter().filter(|p| p.state != 'Z');
        let still: Vec<_> = after.filter(|p| before.contains(&p.pid)).collect();
        assert!(still.is_empty(), "after {verb:?}: {still:#?}");
        if !matches!(verb[0], "start" | "rm") {
            let ended = t.rl(["ps", "-a"]).run().ok().out();
            assert!(ended.contains("Exited (137)"), "after {verb:?}: {ended}");
            no_processes(&t, verb[0]);
        }
        if verb[0] != "rm" {
            t.rl(["rm", "-f", "same"]).run().ok();
        }
        nothing_left(&t, verb[0]);
    }
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
