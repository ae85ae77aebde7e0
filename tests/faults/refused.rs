//! Calls that are refused or unknown: the start fails cleanly, or stands on the next rung with all its walls.

use std::path::Path;

use crate::support::filter::{self, NEWER};
use crate::support::{self, Env, Output, wait_for};
use crate::{nothing_left, run, run_by, with_image};

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

/// What was refused something has all its walls, or fails cleanly. Returns whether it has failed.
#[track_caller]
fn fails(expected: &[String], output: Output, what: &str) -> bool {
    if output.status.success() {
        stand(expected, &output, what);
        return false;
    }
    let output = output.refuses(125, "error: ");
    let said = output.err();
    assert!(!said.contains("was killed"), "{what}: {said}");
    assert!(output.out().is_empty(), "{what}");
    true
}

/// Refuses the first, second, … call of what `look` starts: each time that fails cleanly, or has all its walls, and
/// `after` is content. Returns the walls.
fn refuse_each(
    look: &dyn Fn(&[String]) -> Output,
    after: &dyn Fn(&str),
    list: &[(&str, &str, usize, usize)],
) -> Vec<String> {
    let expected = walls(&look(&[]).ok());
    assert!(expected.len() > 30, "{expected:#?}");
    for &(call, errno, last, step) in list {
        let mut failed = 0;
        for n in (1..=last).step_by(step) {
            let what = format!("{call} {n}: {errno}");
            let output = look(&[format!("inject={call}:error={errno}:when={n}")]);
            failed += u32::from(fails(&expected, output, &what));
            after(&what);
        }
        assert!(failed > 0, "{call} was never refused: is it still used?");
    }
    expected
}

/// The same of a start.
fn refuse(t: &Env, image: &str, list: &[(&str, &str, usize, usize)]) {
    refuse_by(support::binary(), t, image, list);
}

/// The same of a start by this program.
fn refuse_by(program: &Path, t: &Env, image: &str, list: &[(&str, &str, usize, usize)]) {
    let look = |faults: &[String]| {
        let command = ["sh", "-c", WALLS];
        let run = run_by(program, t, image, &["--hostname", "walls"], &command);
        run.traced(faults).run()
    };
    let after = |what: &str| {
        nothing_left(t, what);
        // The next one is to try the kernel's overlay again.
        let _ = std::fs::remove_file(t.dir().join("data/rl/overlay-refused.json"));
    };
    refuse_each(&look, &after, list);
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
    // The user's own program is executed again, from where nobody inside can write to it.
    let own = [
        ("execveat", "EACCES", 1, 1),
        ("memfd_create", "ENOMEM", 2, 1),
        ("dup2", "EBADF", 3, 1),
    ];
    refuse_by(&t.own_binary(), &t, &image, &own);
    let mut passed = Vec::new();
    for n in 1..=4 {
        let what = format!("write {n}");
        let fault = format!("inject=write:error=ENOSPC:when={n}");
        let output = run(&t, &image, &[], &["true"]).traced([fault]).run();
        match output.status.success() {
            true => passed.push(n),
            false => drop(output.refuses(125, "write(")),
        }
        nothing_left(&t, &what);
    }
    // The line for `rl events` is no condition of anything.
    assert_eq!(passed.len(), 1, "{passed:?}");
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
    // No kernel has the first call of Landlock and lacks the others.
    let with_others = ["landlock_add_rule", "landlock_restrict_self"];
    let alone = NEWER.iter().filter(|call| !with_others.contains(call));
    let faults = alone.map(|call| format!("inject={call}:error=ENOSYS"));
    let faults: Vec<String> = faults.collect();
    let refused = NEWER
        .iter()
        .filter(|call| !["clone3", "seccomp"].contains(call));
    let refused: Vec<&str> = refused.copied().collect();
    for program in [support::binary(), &t.own_binary()] {
        let look = |faults: &[String]| {
            let run = run_by(program, &t, &image, &options, &["sh", "-c", &script]);
            run.traced(faults).run().ok()
        };
        let expected = walls(&look(&[]));
        assert!(
            expected.iter().any(|line| line.contains(" /mnt ro,")),
            "{expected:#?}"
        );
        for fault in &faults {
            stand(&expected, &look(std::slice::from_ref(fault)), fault);
            nothing_left(&t, fault);
        }
        let all = [format!("inject={}:error=ENOSYS", NEWER.join(","))];
        stand(&expected, &look(&all), "all at once");
        // A filter may say EPERM instead.
        let all = [format!("inject={}:error=EPERM", refused.join(","))];
        stand(&expected, &look(&all), "all at once refused");
        nothing_left(&t, "all at once");
    }
}

/// The same for a further command in a container that runs, and goes on whatever is refused.
#[test]
fn refused_where_a_command_joins() {
    let Some((t, image)) = with_image() else {
        return;
    };
    let run = ["run", "-d", "--name", "box", "--hostname", "walls"];
    let run = t.rl(run).args(["--network", "none"]).arg(&image);
    run.args(["sleep", "1000"]).run().ok();
    let own = t.own_binary();
    let look = |program: &Path, faults: &[String]| {
        let program = t.program(program).args(["exec", "box", "sh", "-c", WALLS]);
        program.traced(faults).run()
    };
    let alone = |what: &str| {
        let running = || t.processes().iter().filter(|p| p.state != 'Z').count();
        // The monitor and its command.
        wait_for(what, || running() == 2);
    };
    alone("the start");
    let list = [
        ("clone3", "EAGAIN", 2, 1),
        ("setns", "EPERM", 2, 1),
        ("memfd_create", "ENOMEM", 1, 1),
        ("socketpair", "EMFILE", 2, 1),
        ("pipe2", "EMFILE", 3, 1),
        ("sendmsg", "ENOBUFS", 1, 1),
        ("dup2", "EBADF", 6, 1),
        ("capset", "EPERM", 2, 1),
        ("prctl", "EPERM", 6, 1),
        ("setresuid", "EPERM", 2, 1),
        ("setgroups", "EPERM", 1, 1),
        ("fchdir", "EACCES", 1, 1),
        ("seccomp", "EPERM", 1, 1),
        ("landlock_restrict_self", "E2BIG", 1, 1),
    ];
    let expected = refuse_each(&|faults| look(support::binary(), faults), &alone, &list);
    // The user's own program is executed again, from where nobody inside can write to it.
    let list = [
        ("clone", "EAGAIN", 1, 1),
        ("setns", "EPERM", 2, 1),
        ("unshare", "EPERM", 1, 1),
        ("execveat", "EACCES", 1, 1),
        ("dup2", "EBADF", 6, 1),
    ];
    refuse_each(&|faults| look(&own, faults), &alone, &list);
    for call in [
        "clone3",
        "close_range",
        "open_tree",
        "mount_setattr",
        "openat2",
        "pidfd_open",
        "pidfd_send_signal",
    ] {
        let fault = format!("inject={call}:error=ENOSYS");
        for program in [support::binary(), &own] {
            let output = look(program, std::slice::from_ref(&fault));
            stand(&expected, &output.ok(), &fault);
            alone(&fault);
        }
    }
    t.rl(["rm", "-f", "box"]).run().ok();
}

/// No verb takes a container that runs for one that does not, or says that it is done with what it cannot do.
#[test]
fn verbs_without_newer_calls() {
    let Some((t, image)) = with_image() else {
        return;
    };
    let script = r#"
        $RL run -d --name box --network none "$IMAGE" sleep 1000 >/dev/null
        $RL exec box echo joined
        $RL top box | grep -c 'sleep 1000'
        $RL cp box:/etc/passwd copied && grep -c ^root: copied
        $RL pause box 2>&1
        $RL stats --no-stream --format '{{.PIDs}}' box
        $RL stop -t 0 box
        $RL ps -a --format '{{.Status}}' | cut -d' ' -f1
        $RL start box
        $RL rm -f box
        $RL network create backend >/dev/null
        $RL run --rm --network backend "$IMAGE" ip route | grep -c ^default
        $RL network rm backend"#;
    if !crate::support::have("slirp4netns") {
        return;
    }
    let limited = || {
        filter::answer(libc::ENOSYS, &filter::NEWER)
            .then(|| t.sh(script).env("IMAGE", &image).run().ok().out())
    };
    let said = std::thread::scope(|scope| scope.spawn(limited).join().unwrap());
    let Some(said) = said else { return };
    let said: Vec<&str> = said.lines().filter(|l| !l.starts_with("hint: ")).collect();
    let refused = "error: it has no control group, and its processes cannot be signalled by pidfd (Function not implemented)";
    assert!([refused, "box"].contains(&said[3]), "{said:#?}");
    assert_eq!(said[..3], ["joined", "1", "1"]);
    assert_eq!(
        said[4..],
        ["1", "box", "Exited", "box", "box", "1", "backend"]
    );
}
