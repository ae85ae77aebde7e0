//! Verbs on containers that stay, killed at each of their stages: the front end, the monitor, the first process, and
//! the programs that they start. What is left is whole or gone with the next command.

use crate::support::{Env, wait_for};
use crate::{nothing_left, run, stays, with_image};

/// Stays when it is started first, and ends at once when it is again.
const ONCE: &str = "[ -e /again ] && exit; echo >/again; echo up; exec sleep 1000";

fn living(t: &Env) -> Vec<i32> {
    let all = t.processes().into_iter().filter(|p| p.state != 'Z');
    all.map(|p| p.pid).collect()
}

/// Kills whoever of a verb makes a call for the `n`th time, for every such point; `prepare` makes what the verb is about.
fn kill_at(
    t: &Env,
    image: &str,
    prepare: &dyn Fn(),
    verb: &[&str],
    points: &[(&str, std::ops::RangeInclusive<usize>)],
) {
    for (call, numbers) in points {
        for n in numbers.clone() {
            let what = format!("a kill of {verb:?} at {call} {n}");
            prepare();
            let before = living(t);
            let fault = format!("inject={call}:signal=SIGKILL:when={n}");
            // The tracer stays as long as who keeps a namespace; once is enough.
            let kept = if verb[0] == "run" { "1" } else { "0" };
            let program = t.rl(verb).env("RL_USERNS_WARM", kept);
            let output = program.traced([fault]).run();
            assert!(
                !output.err().contains("panicked"),
                "{what}: {}",
                output.err()
            );
            // Nothing of the verb's own goes on, but a container that it had started.
            let was_there = |pid: &i32| before.contains(pid);
            wait_for(&what, || living(t).iter().all(was_there));
            if matches!(verb[0], "cp" | "commit") {
                // It also tidies up what the store was left with.
                t.rl(verb).env("RL_USERNS_WARM", "0").run().ok();
            }
            converges(t, image, &what);
        }
    }
}

fn converges(t: &Env, image: &str, what: &str) {
    let listed = t.rl(["ps", "-a"]).run();
    assert_eq!(
        (listed.code(), listed.err().as_str()),
        (0, ""),
        "after {what}"
    );
    let there = listed.out().contains("same");
    let removed = t.rl(["rm", "-f", "same"]).run();
    // A monitor that was asked to remove it, and lives on, may have done so between the two.
    let gone = removed.err().contains("no such container");
    assert!(
        removed.code() == 0 && (there || gone),
        "after {what}: {}",
        removed.err()
    );
    let next = run(t, image, &["--name", "same"], &["echo", "works"]).run();
    let seen = (next.code(), next.out());
    assert_eq!(seen, (0, "works".into()), "after {what}: {}", next.err());
    nothing_left(t, what);
}

#[test]
fn killed_while_it_is_made_and_started() {
    let Some((t, image)) = with_image() else {
        return;
    };
    let same = [
        "--quiet",
        "--network",
        "none",
        "--name",
        "same",
        &image,
        "true",
    ];
    let detached = [&["run", "-d"], &same[..]].concat();
    let create = [&["create"], &same[..]].concat();
    let prepare = || drop(t.rl(&create).run().ok());
    let making = [
        ("mkdir", 1..=5),
        ("symlink", 1..=1),
        ("chmod", 1..=2),
        ("rename", 1..=3),
        ("fdatasync", 1..=2),
        ("fsync", 1..=3),
        ("write", 1..=5),
    ];
    let starting = [
        ("clone3", 1..=4),
        ("setsid", 1..=1),
        ("bind", 1..=1),
        ("execve", 2..=2),
        ("execveat", 1..=1),
        ("sendmsg", 1..=3),
        ("recvmsg", 1..=4),
        ("ppoll", 1..=3),
        ("pivot_root", 1..=1),
        ("seccomp", 1..=1),
        ("shutdown", 1..=1),
        ("unlink", 1..=1),
        ("exit_group", 1..=1),
    ];
    kill_at(&t, &image, &|| (), &create, &making);
    kill_at(&t, &image, &|| (), &detached, &making);
    kill_at(&t, &image, &|| (), &detached, &starting);
    kill_at(&t, &image, &prepare, &["start", "same"], &starting);
}

#[test]
fn killed_while_it_works_on_one_that_runs() {
    let Some((t, image)) = with_image() else {
        return;
    };
    let up = || {
        stays(&t, &image, &["sh", "-c", ONCE]).run().ok();
        wait_for("it", || t.rl(["logs", "same"]).run().ok().out() == "up");
    };
    let joining = [
        ("pidfd_open", 1..=1),
        ("clone3", 1..=2),
        ("setsid", 1..=1),
        ("setns", 1..=2),
        ("execve", 2..=2),
        ("execveat", 1..=1),
        ("sendmsg", 1..=2),
        ("recvmsg", 1..=4),
        ("ppoll", 1..=4),
        ("seccomp", 1..=1),
        ("write", 1..=2),
        ("exit_group", 1..=1),
    ];
    kill_at(&t, &image, &up, &["exec", "same", "echo", "x"], &joining);
    kill_at(&t, &image, &up, &["exec", "-d", "same", "true"], &joining);
    let asking = [
        ("connect", 1..=1),
        ("sendmsg", 1..=1),
        ("recvmsg", 1..=1),
        ("ppoll", 1..=1),
    ];
    for verb in ["stop", "rm"] {
        let option = if verb == "rm" { "-f" } else { "-t0" };
        kill_at(&t, &image, &up, &[verb, option, "same"], &asking);
    }
    let again = [
        ("connect", 1..=1),
        ("clone3", 1..=3),
        ("rename", 1..=3),
        ("bind", 1..=1),
        ("execveat", 1..=1),
        ("recvmsg", 1..=3),
        ("ppoll", 1..=4),
    ];
    kill_at(&t, &image, &up, &["restart", "-t0", "same"], &again);
}

#[test]
fn killed_while_it_copies_and_removes() {
    let Some((t, image)) = with_image() else {
        return;
    };
    let made = || {
        let script = "echo >/file; chown 5:5 /file";
        stays(&t, &image, &["sh", "-c", script]).run().ok();
        t.rl(["wait", "same"]).run().ok();
        t.quiet();
    };
    let removing = [
        ("clone3", 1..=2),
        ("rename", 1..=1),
        ("unlink", 1..=2),
        ("unlinkat", 1..=8),
        ("rmdir", 1..=1),
        ("write", 1..=2),
    ];
    kill_at(&t, &image, &made, &["rm", "same"], &removing);
    let copying = [
        ("clone3", 1..=1),
        ("copy_file_range", 1..=1),
        ("fchmod", 1..=1),
        ("openat2", 1..=1),
        ("ppoll", 1..=1),
    ];
    t.file("in", "text");
    kill_at(&t, &image, &made, &["cp", "same:/file", "out"], &copying);
    kill_at(&t, &image, &made, &["cp", "in", "same:/tmp/in"], &copying);
    let committing = [
        ("clone3", 1..=3),
        ("flock", 1..=3),
        ("renameat", 1..=3),
        ("pwrite64", 1..=1),
        ("mkdir", 6..=7),
        ("unlinkat", 1..=6),
        ("fsync", 1..=1),
    ];
    let commit = ["commit", "same", "new"];
    kill_at(&t, &image, &made, &commit, &committing);
    made();
    t.rl(commit).run().ok();
    t.rl(["rm", "same"]).run().ok();
    run(&t, "new", &[], &["test", "-e", "/file"]).run().ok();
}

/// The monitor, when it is asked to end: the verb sees that it is gone, or is told what it asked for.
#[test]
fn a_monitor_killed_while_it_ends() {
    let Some((t, image)) = with_image() else {
        return;
    };
    let points = [
        ("rename", 2..=4),
        ("shutdown", 1..=1),
        ("sendmsg", 2..=5),
        ("unlink", 1..=2),
        ("unlinkat", 1..=6),
        ("fdatasync", 1..=2),
        ("waitid", 1..=2),
        ("exit_group", 1..=1),
    ];
    let verbs: [&[&str]; 3] = [
        &["stop", "-t0", "same"],
        &["rm", "-f", "same"],
        &["kill", "same"],
    ];
    for verb in verbs {
        for (call, numbers) in &points {
            for n in numbers.clone() {
                let what = format!("a kill of the monitor at {call} {n} in {verb:?}");
                let fault = format!("inject={call}:signal=SIGKILL:when={n}");
                let running = stays(&t, &image, &["sh", "-c", ONCE])
                    .traced([fault])
                    .spawn();
                let listed = || t.rl(["ps", "-a"]).run().ok().out();
                wait_for(&format!("its start or end: {what}"), || {
                    let now = listed();
                    let over = |last: String| last.contains("Created") || !last.contains("same");
                    now.contains(" Up ")
                        || now.contains("Exited")
                        || (living(&t).is_empty() && over(listed()))
                });
                let asked = t.rl(verb).run();
                let what = format!("{what}, which says {} {}", asked.code(), asked.err());
                assert!(!asked.err().contains("panicked"), "{what}");
                wait_for(&what, || living(&t).is_empty());
                running.wait();
                converges(&t, &image, &what);
            }
        }
    }
}

#[test]
fn many_at_once_on_the_same_one() {
    let Some((t, image)) = with_image() else {
        return;
    };
    let made = ["create", "--quiet", "--network", "none", "--name", "same"];
    t.rl(made).args([&image, "sleep", "1000"]).run().ok();
    for _ in 0..3 {
        let verbs = [
            &["start", "same"][..],
            &["restart", "-t", "0", "same"],
            &["stop", "-t", "0", "same"],
        ];
        for verb in verbs {
            let all: Vec<_> = (0..6).map(|_| t.rl(verb).spawn()).collect();
            for one in all {
                assert_eq!(one.wait().ok().out(), "same", "{verb:?}");
            }
        }
    }
    t.rl(["start", "same"]).run().ok();
    let entered: Vec<_> = (0..6)
        .map(|_| t.rl(["exec", "same", "true"]).spawn())
        .collect();
    t.rl(["kill", "same"]).run().ok();
    for one in entered {
        let one = one.wait();
        if ![0, 137].contains(&one.code()) {
            one.refuses(125, "container `same` is not running");
        }
    }
    t.rl(["rm", "same"]).run().ok();
    nothing_left(&t, "many at once");
}
