//! The life of a container: made, started, detached, watched, entered, changed, stopped and removed.

#[macro_use]
mod support;

use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use support::{Env, Identity, images, wait_for};

/// Prints a number every few milliseconds and ends at SIGTERM with 5.
const COUNT: &str = "trap 'exit 5' TERM; i=0; while :; do i=$((i+1)); echo n$i; sleep 0.02; done";

/// A detached container of this name that runs a shell script.
fn detached(t: &Env, name: &str, options: &[&str], script: &str) -> String {
    let run = ["run", "-d", "--name", name, "--network", "none"];
    let id = t
        .rl(run)
        .args(options)
        .arg(images::busybox())
        .args(["sh", "-c", script])
        .run()
        .ok()
        .out();
    assert_eq!(id.len(), 64, "{id}");
    id
}

/// The status column of `ps -a` for a name, or nothing.
fn status(t: &Env, name: &str) -> String {
    let table = t.rl(["ps", "-a"]).run().ok().out();
    let line = table.lines().find(|line| line.trim_end().ends_with(name));
    line.unwrap_or_default().to_owned()
}

/// Whose child a process is.
fn parent(pid: i32) -> Option<i32> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, rest) = stat.rsplit_once(") ")?;
    rest.split(' ').nth(1)?.parse().ok()
}

/// Those that have a child: what brings an image to the disk meanwhile is no monitor.
fn monitors(t: &Env) -> Vec<i32> {
    let all = t.processes();
    let parents: Vec<i32> = all.iter().filter_map(|p| parent(p.pid)).collect();
    let ours = all.into_iter().filter(|p| p.name.starts_with("rl"));
    ours.map(|p| p.pid)
        .filter(|pid| parents.contains(pid))
        .collect()
}

identities! {
    fn it_lives_without_its_front_end(t: [sub nosub unshared root]) {
        let id = detached(t, "one", &[], COUNT);
        assert!(t.rl(["ps", "-q", "--no-trunc"]).run().ok().out().contains(&id));
        wait_for("its log", || t.rl(["logs", "one"]).run().ok().out().contains("n3"));
        t.rl(["stop", "one"]).run().ok();
        assert!(status(t, "one").contains("Exited (5)"), "{}", status(t, "one"));
        t.rl(["start", "one"]).run().ok();
        assert!(status(t, "one").contains("Up "));
        t.rl(["rm", "one"]).run().refuses(1, "is running");
        t.rl(["rm", "-f", "one"]).run().ok();
        assert_eq!(t.rl(["ps", "-aq"]).run().ok().out(), "");
    }

    fn created_is_not_started(t: [sub root]) {
        t.rl(["create", "--name", "made", "--network", "none"]).arg(images::busybox())
            .args(["sh", "-c", "echo once more; exit 4"]).run().ok();
        assert!(status(t, "made").contains("Created"));
        for _ in 0..2 {
            assert_eq!(t.rl(["start", "-a", "made"]).run().exits(4).out(), "once more");
        }
        assert_eq!(t.rl(["logs", "made"]).run().ok().out(), "once more\nonce more");
        t.rl(["rm", "made"]).run().ok();
    }

    fn one_that_cannot_be_executed_says_why(t: [sub root]) {
        let shown = || t.rl(["inspect", "-f", "{{.State.Status}} {{.State.ExitCode}} {{.State.Error}}", "made"]).run().ok().out();
        t.rl(["create", "--name", "made", "--network", "none"]).arg(images::busybox()).arg("nonsense").run().ok();
        t.rl(["start", "made"]).run().refuses(1, "command not found");
        assert_eq!(shown(), "created 127 `nonsense`: command not found");
        t.rl(["start", "-a", "made"]).run().refuses(127, "command not found");
        let told = t.rl(["events", "--since", "1h", "--until", "0s", "--format", "{{.Action}}"]).run().ok().out();
        assert_eq!(told, "create");
        t.rl(["rm", "made"]).run().ok();
        // One that did run before has ended then, and that was it.
        t.rl(["create", "--name", "made", "--network", "none"]).arg(images::busybox()).args(["/bin/rm", "/bin/rm"]).run().ok();
        t.rl(["start", "-a", "made"]).run().ok();
        t.rl(["start", "made"]).run().refuses(1, "command not found");
        assert!(shown().starts_with("exited 127 "), "{}", shown());
        assert!(status(t, "made").contains("Exited (127)"), "{}", status(t, "made"));
        t.rl(["rm", "made"]).run().ok();
    }

    fn stop_asks_first_and_kills_after(t: [sub root]) {
        let deaf = "trap '' TERM; echo up; while :; do sleep 0.05; done";
        detached(t, "deaf", &["--stop-timeout", "60"], deaf);
        wait_for("the trap", || t.rl(["logs", "deaf"]).run().ok().out().contains("up"));
        t.rl(["stop", "-t", "1", "deaf"]).run().ok();
        assert!(status(t, "deaf").contains("Exited (137)"), "{}", status(t, "deaf"));
        let other = "trap 'exit 9' USR1; echo up; while :; do sleep 0.05; done";
        detached(t, "other", &["--stop-signal", "USR1"], other);
        wait_for("the trap", || t.rl(["logs", "other"]).run().ok().out().contains("up"));
        t.rl(["stop", "other"]).run().ok();
        assert!(status(t, "other").contains("Exited (9)"), "{}", status(t, "other"));
        // An init passes the signal on to a command that has a handler.
        let handler = "trap 'echo bye; exit 5' TERM; echo up; while :; do sleep 0.05; done";
        detached(t, "init", &["--init", "--stop-timeout", "60"], handler);
        wait_for("the trap", || t.rl(["logs", "init"]).run().ok().out().contains("up"));
        t.rl(["stop", "init"]).run().ok();
        assert!(status(t, "init").contains("Exited (5)"), "{}", status(t, "init"));
        assert_eq!(t.rl(["logs", "init"]).run().ok().out(), "up\nbye");
        // One that would be ended by the signal does not wait for the other.
        detached(t, "plain", &["--stop-timeout", "600"], "exec sleep 1000");
        t.rl(["stop", "plain"]).run().ok();
        assert!(status(t, "plain").contains("Exited (143)"), "{}", status(t, "plain"));
        t.rl(["rm", "deaf", "other", "init", "plain"]).run().ok();
    }

    fn who_is_killed_has_ended(t: [sub root]) {
        for name in ["one", "two"] {
            detached(t, name, &[], "trap 'echo got; exit 7' TERM; echo up; while :; do sleep 0.05; done");
            wait_for("the trap", || t.rl(["logs", name]).run().ok().out() == "up");
            t.rl(["pause", name]).run().ok();
        }
        t.rl(["kill", "one"]).run().ok();
        assert!(status(t, "one").contains("Exited (137)"), "{}", status(t, "one"));
        t.rl(["kill", "-s", "TERM", "two"]).run().ok();
        assert_eq!(t.rl(["wait", "two"]).run().ok().out(), "7");
        t.rl(["rm", "one", "two"]).run().ok();
    }

    fn several_at_once_each_failure_named(t: [sub]) {
        for name in ["a", "b"] {
            detached(t, name, &[], COUNT);
            wait_for("its first word", || t.rl(["logs", name]).run().ok().out().contains("n1"));
        }
        let stopped = t.rl(["stop", "a", "nobody", "b"]).run().exits(1);
        assert_eq!(stopped.out(), "a\nb");
        assert!(stopped.err().contains("`nobody`"), "{}", stopped.err());
        let logs = t.rl(["logs", "--tail", "1", "a", "nobody", "b"]).run().exits(1);
        assert!(logs.out().starts_with("a | n") && logs.out().contains("\nb | n"), "{}", logs.out());
        assert!(logs.err().contains("`nobody`"), "{}", logs.err());
        let figures = ["stats", "--no-stream", "--format", "{{.Name}}", "nobody", "a", "b"];
        let figures = t.rl(figures).run().exits(1);
        assert_eq!(figures.out(), "a\nb");
        assert!(figures.err().contains("`nobody`"), "{}", figures.err());
        t.rl(["stats", "--no-stream", "nobody"]).run().refuses(125, "no such container");
        let removed = t.rl(["rm", "nobody", "b", "a"]).run().exits(1);
        assert_eq!(removed.out(), "b\na");
        // With force it is told, and is no failure.
        assert!(t.rl(["rm", "-f", "nobody"]).run().ok().err().contains("`nobody`"));
        t.rl(["rm", "nobody"]).run().refuses(1, "no such container");
    }

    fn a_stop_without_end_waits(t: [sub]) {
        let script = "trap 'echo asked' TERM; trap 'exit 3' USR1; echo up; while :; do sleep 0.02; done";
        detached(t, "own", &["--stop-timeout", "-1"], script);
        detached(t, "told", &["--stop-timeout", "1"], script);
        assert_eq!(t.rl(["inspect", "-f", "{{.Config.StopTimeout}}", "own", "told"]).run().ok().out(), "-1\n1");
        for (name, option) in [("own", &[][..]), ("told", &["-t", "-1"])] {
            wait_for("the traps", || t.rl(["logs", name]).run().ok().out() == "up");
            let stop = t.rl(["stop"]).args(option).arg(name).spawn();
            wait_for("the signal", || t.rl(["logs", name]).run().ok().out().contains("asked"));
            t.rl(["kill", "-s", "USR1", name]).run().ok();
            assert_eq!(stop.wait().ok().out(), name);
            assert!(status(t, name).contains("Exited (3)"), "{}", status(t, name));
        }
        assert!(t.rl(["generate", "systemd", "own"]).run().ok().out().contains("\nTimeoutStopSec=infinity\n"));
        t.rl(["stop", "-t", "soon", "own"]).run().refuses(125, "expected seconds, or -1");
        t.rl(["rm", "own", "told"]).run().ok();
    }

    fn exec_runs_in_it_and_as_confined(t: [sub nosub root]) {
        let see = "grep -E '^(Cap|NoNewPrivs|Seccomp|Uid|Gid|Groups)' /proc/self/status; for ns in user pid mnt net uts ipc; do readlink /proc/self/ns/$ns; done; pwd; hostname";
        detached(t, "box", &[], &format!("{see}; exec sleep 1000"));
        wait_for("its words", || t.rl(["logs", "box"]).run().ok().out().contains("\n/\n"));
        let first = t.rl(["logs", "box"]).run().ok().out();
        let second = t.rl(["exec", "box", "sh", "-c", see]).run().ok().out();
        assert_eq!(first, second);
        // Only its own processes, and the descriptors that are given.
        let seen = t.rl(["exec", "box", "sh", "-c", "set -- /proc/[0-9]*; echo $#; ls /proc/self/fd | tr '\\n' ' '"]).run().ok().out();
        assert_eq!(seen, "2\n0 1 2 3", "the first and sh; and what ls reads");
        assert_eq!(t.rl(["exec", "-i", "box", "cat"]).stdin("in\0\u{ff}").run().ok().out(), "in\0\u{ff}");
        t.rl(["exec", "box", "sh", "-c", "exit 7"]).run().exits(7);
        t.rl(["exec", "box", "nothing"]).run().refuses(127, "`nothing`").complains("`rl exec box sh`");
        t.rl(["exec", "box", "/etc"]).run().refuses(126, "`/etc`");
        let shaped = t.rl(["exec", "-e", "X=y", "-w", "/tmp", "box", "sh", "-c", "echo $X $PWD"]).run().ok();
        assert_eq!(shaped.out(), "y /tmp");
        // Unlike `run`, it makes none.
        t.rl(["exec", "-w", "/nowhere", "box", "true"]).run().refuses(127, "`/nowhere`");
        t.rl(["exec", "-w", "/etc/passwd", "box", "true"]).run().refuses(127, "`/etc/passwd`");
        t.rl(["exec", "-d", "box", "sh", "-c", "sleep 0.1; echo done >/tmp/done"]).run().ok();
        wait_for("the detached one", || t.rl(["exec", "box", "cat", "/tmp/done"]).run().code() == 0);
        t.rl(["rm", "-f", "box"]).run().ok();
        t.rl(["exec", "box", "true"]).run().refuses(125, "no such container");
    }

    fn exec_on_a_terminal(t: [sub root]) {
        detached(t, "box", &[], "exec sleep 1000");
        // One inside needs none outside where nothing is typed.
        assert!(t.rl(["exec", "-t", "box", "tty"]).run().ok().out().starts_with("/dev/pts/"));
        assert!(t.run_with(&["-t"], ["tty"]).run().ok().out().starts_with("/dev/pts/"));
        t.rl(["exec", "-it", "box", "tty"]).run().refuses(125, "`--tty` with `--interactive`");
        let mut terminal = t.rl(["exec", "-it", "box", "sh", "-c", "tty; stty size; read line; echo got $line; kill -INT $$; sleep 9"]).terminal();
        terminal.expect("/dev/pts/");
        terminal.expect("24 80");
        terminal.send("word\n");
        terminal.expect("got word");
        terminal.exits(130);
        t.rl(["rm", "-f", "box"]).run().ok();
    }

    fn exec_ends_with_its_front_end_and_its_container(t: [sub]) {
        detached(t, "box", &[], "exec sleep 1000");
        let running = t.rl(["exec", "box", "sleep", "4321"]).spawn();
        wait_for("it", || t.processes().iter().any(|p| p.command == "sleep 4321"));
        t.rl(["kill", "box"]).run().ok();
        running.wait().exits(137);
        t.rl(["start", "box"]).run().ok();
        let running = t.rl(["exec", "box", "sleep", "4322"]).spawn();
        wait_for("it", || t.processes().iter().any(|p| p.command == "sleep 4322"));
        running.signal(Signal::KILL);
        running.wait();
        wait_for("its end", || !t.processes().iter().any(|p| p.command == "sleep 4322"));
        t.rl(["rm", "-f", "box"]).run().ok();
    }

    fn who_serves_an_exec_can_do_little(t: [sub root]) {
        detached(t, "box", &[], "exec sleep 1000");
        // Another user's: to end that, the capability that is kept is needed.
        let running = t.rl(["exec", "-u", "1000", "box", "sleep", "4324"]).spawn();
        let find = || t.processes().into_iter().find(|p| p.command == "sleep 4324");
        wait_for("it", || find().is_some());
        let command = find().unwrap();
        let field = |pid: &str, name: &str| {
            let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
            let line = status.lines().find_map(|line| line.strip_prefix(name));
            line.unwrap().trim().to_owned()
        };
        let serves = field(&command.pid.to_string(), "PPid:");
        assert_eq!(u64::from_str_radix(&field(&serves, "CapPrm:"), 16).unwrap(), 1 << 5, "CAP_KILL");
        assert_eq!(field(&serves, "NSpid:"), serves, "not in the container's pid namespace");
        running.signal(Signal::TERM);
        running.wait().exits(143);
        t.rl(["rm", "-f", "box"]).run().ok();
    }

    fn attach_and_detach(t: [sub root]) {
        let script = "while read line; do echo \"<$line>\"; done";
        let run = t.rl(["run", "-dit", "--name", "shell", "--network", "none"]).arg(images::busybox());
        run.args(["sh", "-c", script]).run().ok();
        let mut first = t.rl(["attach", "shell"]).terminal();
        let mut second = t.rl(["attach", "--detach-keys", "ctrl-x,x", "shell"]).terminal();
        // What it hears shows that each is attached.
        first.send("one\r");
        first.expect("<one>");
        second.send("both\r");
        second.expect("<both>");
        first.expect("<both>");
        second.send("\u{18}x");
        second.exits(0);
        first.send("two\r");
        first.expect("<two>");
        first.send("\u{10}\u{11}");
        first.exits(0);
        assert!(status(t, "shell").contains("Up "));
        t.rl(["rm", "-f", "shell"]).run().ok();
    }

    fn who_attaches_sees_where_it_stands(t: [sub]) {
        // Drawn when it is asked for, and not otherwise.
        let script = "trap 'echo drawn' WINCH; echo ready; while :; do sleep 0.05; done";
        detached(t, "box", &["-it"], script);
        wait_for("the trap", || t.rl(["logs", "box"]).run().ok().out().contains("ready"));
        for _ in 0..2 {
            let mut terminal = t.rl(["attach", "box"]).terminal();
            terminal.expect("drawn");
            terminal.send("\u{10}\u{11}");
            terminal.exits(0);
        }
        assert_eq!(t.rl(["exec", "box", "sh", "-c", "stty size </dev/console"]).run().ok().out(), "24 80");
        t.rl(["rm", "-f", "box"]).run().ok();
    }

    fn a_foreground_container_can_be_left(t: [sub]) {
        let mut terminal = t.run_with(&["--name", "left"], ["sh", "-c", "printf here; while :; do sleep 0.1; done"]).terminal();
        terminal.expect("here");
        terminal.send("\u{10}\u{11}");
        terminal.exits(0);
        assert!(terminal.shown().ends_with('\n'), "{:?}", terminal.shown());
        assert!(status(t, "left").contains("Up "));
        t.rl(["stop", "-t", "0", "left"]).run().ok();
        assert_eq!(status(t, "left"), "", "--rm");
    }

    fn wait_tells_the_status(t: [sub root]) {
        detached(t, "seven", &[], "sleep 0.2; exit 7");
        assert_eq!(t.rl(["wait", "seven"]).run().ok().out(), "7");
        assert_eq!(t.rl(["wait", "seven"]).run().ok().out(), "7");
        t.rl(["rm", "seven"]).run().ok();
        // It is there until somebody waits for it.
        let script = format!("sleep {}; exit 8", support::seconds(1).as_secs());
        detached(t, "brief", &["--rm"], &script);
        assert_eq!(t.rl(["wait", "brief"]).run().ok().out(), "8");
        wait_for("its end", || status(t, "brief").is_empty());
    }

    fn wait_for_other_points(t: [sub root]) {
        let wait = |conditions: &[&str], name: &str| {
            let conditions = conditions.iter().map(|word| format!("--condition={word}"));
            t.rl(["wait", "-i", "10ms"]).args(conditions).arg(name)
        };
        let reached = |conditions: &[&str]| wait(conditions, "box").run().ok().out();
        t.rl(["create", "--network", "none", "--name", "box"]).arg(images::busybox()).args(["sh", "-c", "trap 'exit 6' TERM; while :; do sleep 0.02; done"]).run().ok();
        assert_eq!(reached(&["created"]), "-1");
        assert_eq!(reached(&["stopped", "initialized"]), "-1", "one of them");
        let (up, paused) = (wait(&["running"], "box").spawn(), wait(&["paused"], "box").spawn());
        t.rl(["start", "box"]).run().ok();
        assert_eq!(up.wait().ok().out(), "-1");
        t.rl(["pause", "box"]).run().ok();
        assert_eq!(paused.wait().ok().out(), "-1");
        t.rl(["unpause", "box"]).run().ok();
        let ends = ["exited", "stopped"].map(|word| wait(&[word, "healthy"], "box").spawn());
        wait(&["healthy"], "box").run().refuses(1, "has no check of its health");
        t.rl(["stop", "box"]).run().ok();
        ends.into_iter().for_each(|end| assert_eq!(end.wait().ok().out(), "6"));
        let gone = wait(&["removing"], "box").spawn();
        t.rl(["rm", "box"]).run().ok();
        // It may have been gone before it was looked for.
        assert_eq!(gone.wait().ok().out(), "-1");
        wait(&["running"], "box").run().refuses(1, "no such container: `box`");

        detached(t, "again", &["--restart", "always"], "exit 3");
        assert_eq!(wait(&["restarting"], "again").run().ok().out(), "-1");
        t.rl(["rm", "-f", "again"]).run().ok();
        let check = ["--rm", "--health-cmd", "test -e /tmp/well", "--health-interval", "50ms", "--health-retries", "1"];
        detached(t, "well", &check, "exec sleep 1000");
        assert_eq!(wait(&["unhealthy"], "well").run().ok().out(), "-1");
        let well = wait(&["healthy"], "well").spawn();
        t.rl(["exec", "well", "touch", "/tmp/well"]).run().ok();
        assert_eq!(well.wait().ok().out(), "-1");
        // The end of one that is gone by then.
        let end = wait(&["exited", "paused"], "well").spawn();
        t.rl(["exec", "well", "true"]).run().ok();
        t.rl(["kill", "well"]).run().ok();
        let end = end.wait();
        assert!(end.code() == 0 && end.out() == "137" || end.err().contains("no such container"), "{} {}", end.out(), end.err());
        t.rl(["wait", "--condition", "happy", "box"]).run().refuses(125, "`happy` is not a condition");
        t.rl(["wait", "--condition", "paused", "-i", "soon", "box"]).run().refuses(125, "`--interval soon`");
    }

    fn one_whose_specification_is_not_whole_is_removed(t: [sub root]) {
        let id = detached(t, "box", &[], "exec sleep 1000");
        let dir = t.rl(["inspect", "-f", "{{.HostnamePath}}", "box"]).run().ok().out();
        let spec = std::path::Path::new(&dir).with_file_name("spec.json");
        let whole = std::fs::read(&spec).unwrap();
        std::fs::write(&spec, &whole[..whole.len() / 2]).unwrap();
        let shown = t.rl(["ps"]).run().ok();
        assert!(shown.err().contains("is not whole") && shown.err().contains(&format!("rl rm -f {}", &id[..12])), "{}", shown.err());
        assert_eq!(t.rl(["wait", "--condition=unknown", "box"]).run().ok().out(), "-1");
        t.rl(["rm", "box"]).run().refuses(1, "container `box` is running");
        t.rl(["rm", "-f", "box"]).run().ok();
        assert!(!spec.exists());
        wait_for("its end", || t.processes().is_empty());
        let shown = t.rl(["ps", "-aq"]).run().ok();
        assert_eq!((shown.out().as_str(), shown.err().as_str()), ("", ""));
        // By its id as well; and the name is free.
        let id = detached(t, "box", &[], "exec sleep 1000");
        std::fs::write(spec.parent().unwrap().with_file_name(&id).join("spec.json"), "{").unwrap();
        t.rl(["rm", "-f", &id[..10]]).run().ok();
        t.rl(["rm", "box"]).run().refuses(1, "no such container");
    }

    fn pause_stops_all_of_it(t: [sub root]) {
        detached(t, "box", &[], COUNT);
        wait_for("its log", || t.rl(["logs", "box"]).run().ok().out().contains("n3"));
        t.rl(["pause", "box"]).run().ok();
        assert!(status(t, "box").contains("(Paused)"));
        let before = t.rl(["logs", "box"]).run().ok().out();
        std::thread::sleep(Duration::from_millis(200));
        assert_eq!(t.rl(["logs", "box"]).run().ok().out(), before);
        t.rl(["pause", "box"]).run().refuses(1, "paused already");
        t.rl(["exec", "box", "true"]).run().refuses(125, "is paused");
        t.rl(["unpause", "box"]).run().ok();
        wait_for("more", || t.rl(["logs", "box"]).run().ok().out().len() > before.len());
        t.rl(["rm", "-f", "box"]).run().ok();
    }

    fn restarted_by_policy(t: [sub root]) {
        detached(t, "again", &["--restart", "on-failure:2"], "echo try; exit 3");
        wait_for("the last try", || status(t, "again").contains("Exited (3)"));
        assert_eq!(t.rl(["logs", "again"]).run().ok().out(), "try\ntry\ntry");
        t.rl(["rm", "again"]).run().ok();
        detached(t, "ever", &["--restart", "always"], "echo up; exec sleep 1000");
        t.rl(["exec", "ever", "true"]).run().ok();
        let sleep = || t.processes().into_iter().find(|p| p.command == "sleep 1000").map(|p| p.pid);
        wait_for("the sleep", || sleep().is_some());
        kill_process(Pid::from_raw(sleep().unwrap()).unwrap(), Signal::KILL).unwrap();
        wait_for("the next", || t.rl(["logs", "ever"]).run().ok().out() == "up\nup");
        // What is changed while it waits to be started again holds.
        detached(t, "loop", &["--restart", "always"], "exit 3");
        wait_for("the wait", || status(t, "loop").contains("Restarting (3)"));
        for words in [&["exec", "loop", "true"][..], &["top", "loop"], &["pause", "loop"]] {
            wait_for("a refusal", || t.rl(words).run().err().contains("container `loop` is about to be started again\n"));
            t.rl(["unpause", "loop"]).run();
        }
        t.rl(["update", "--restart", "no", "loop"]).run().ok();
        wait_for("its end", || status(t, "loop").contains("Exited (3)"));
        // One that waits is no further end.
        let told = t.rl(["events", "--since", "1h", "--until", "0s", "--filter", "container=loop", "--format", "{{.Action}}"]).run().ok().out();
        let count = |word: &str| told.lines().filter(|line| *line == word).count();
        assert!(count("die") > 0 && count("die") == count("start"), "{told}");
        t.rl(["rm", "loop"]).run().ok();
        t.rl(["stop", "ever"]).run().ok();
        std::thread::sleep(Duration::from_millis(400));
        assert!(status(t, "ever").contains("Exited"), "{}", status(t, "ever"));
        t.rl(["rm", "ever"]).run().ok();
        t.run_with(&["--restart", "always"], ["true"]).run().refuses(125, "--rm");
    }

    fn checks_tell_its_health(t: [sub root]) {
        let check = ["--health-cmd", "test -e /tmp/well", "--health-interval", "50ms", "--health-retries", "2"];
        detached(t, "box", &check, "exec sleep 1000");
        wait_for("the verdict", || status(t, "box").contains("(unhealthy)"));
        t.rl(["exec", "box", "touch", "/tmp/well"]).run().ok();
        wait_for("the verdict", || status(t, "box").contains("(healthy)"));
        // Those that are due while it is paused keep nobody busy.
        t.rl(["pause", "box"]).run().ok();
        // A check that was paused in the middle has a monitor of its own.
        let first = t.rl(["inspect", "-f", "{{.State.Pid}}", "box"]).run().ok().out();
        let monitor = parent(first.parse().unwrap()).unwrap();
        let waits = || {
            std::thread::sleep(Duration::from_millis(20));
            std::fs::read_to_string(format!("/proc/{monitor}/stat")).unwrap().contains(") S ")
        };
        assert!((0..20).filter(|_| waits()).count() > 10);
        t.rl(["unpause", "box"]).run().ok();
        t.rl(["rm", "-f", "box"]).run().ok();
    }

    fn checks_of_the_start_come_at_a_pace_of_their_own(t: [sub]) {
        let check = ["--health-cmd", "test -e /tmp/well", "--health-interval", "1h", "--health-retries", "1"];
        let start = ["--health-start-period", "1h", "--health-start-interval", "30ms"];
        detached(t, "box", &[&check[..], &start].concat(), "exec sleep 1000");
        let field = |field: &str| t.rl(["inspect", "-f", field, "box"]).run().ok().out();
        assert_eq!(field("{{.Config.Healthcheck.StartInterval}}"), "30000000");
        // What fails in that time does not count.
        wait_for("two checks", || field("{{len .State.Health.Log}}").parse::<u32>().unwrap() > 1);
        assert!(status(t, "box").contains("(health: starting)"), "{}", status(t, "box"));
        t.rl(["exec", "box", "touch", "/tmp/well"]).run().ok();
        wait_for("the verdict", || status(t, "box").contains("(healthy)"));
        // From then on an hour passes.
        t.rl(["exec", "box", "rm", "/tmp/well"]).run().ok();
        let checks = "{{range .State.Health.Log}}{{.Start}} {{end}}";
        let before = field(checks);
        std::thread::sleep(Duration::from_millis(200));
        assert_eq!(field(checks), before);
        t.rl(["rm", "-f", "box"]).run().ok();
        t.run_with(&["--health-cmd", "true", "--health-start-interval", "soon"], ["true"]).run().refuses(125, "--health-start-interval");
    }

    fn nothing_stays_of_a_check_that_takes_too_long(t: [sub root]) {
        let check = ["--health-cmd", "sleep 77; true", "--health-interval", "20ms", "--health-timeout", "60ms", "--health-retries", "3"];
        detached(t, "box", &check, "exec sleep 1000");
        wait_for("the verdict", || status(t, "box").contains("(unhealthy)"));
        let log = t.rl(["inspect", "-f", "{{range .State.Health.Log}}{{.ExitCode}} {{.Output}};{{end}}", "box"]).run().ok().out();
        assert!(log.starts_with("-1 it took longer than 60 ms;"), "{log}");
        // One may run now.
        let left = t.rl(["top", "box"]).run().ok().out();
        let left = left.lines().filter(|line| line.ends_with(" sleep 77")).count();
        assert!(left <= 1, "{left}");
        t.rl(["rm", "-f", "box"]).run().ok();
    }

    fn names_change(t: [sub]) {
        let id = detached(t, "before", &[], COUNT);
        detached(t, "taken", &[], COUNT);
        t.rl(["rename", "before", "taken"]).run().refuses(125, "in use");
        t.rl(["rename", "before", "before"]).run().refuses(125, "has this name already");
        t.rl(["rename", "before", "after"]).run().ok();
        t.rl(["exec", "before", "true"]).run().refuses(125, "no such container");
        t.rl(["exec", "after", "true"]).run().ok();
        t.rl(["exec", &id[..10], "true"]).run().ok();
        t.rl(["rm", "-f", "after", "taken"]).run().ok();
        detached(t, "after", &[], COUNT);
        t.rl(["rm", "-f", "after"]).run().ok();
    }

    fn logs_keep_every_byte(t: [sub]) {
        // Which of two streams is read first, nobody knows: the last lines are of one.
        let script = "echo err >&2; sleep 0.2; printf 'a\\377b\\0c\\n'; printf part; sleep 0.2; echo ial; printf end";
        detached(t, "bytes", &[], script);
        t.rl(["wait", "bytes"]).run().ok();
        let log = t.rl(["logs", "bytes"]).run().ok();
        assert_eq!(log.stdout, b"a\xffb\0c\npartial\nend");
        assert_eq!(log.err(), "err\n");
        assert_eq!(t.rl(["logs", "--tail", "2", "bytes"]).run().ok().stdout, b"partial\nend");
        let stamped = t.rl(["logs", "-t", "--tail", "1", "bytes"]).run().ok().out();
        assert!(stamped.starts_with("20") && stamped.ends_with("Z end"), "{stamped}");
        assert_eq!(t.rl(["logs", "--since", "1h", "--tail", "1", "bytes"]).run().ok().out(), "end");
        assert_eq!(t.rl(["logs", "--until", "1h", "bytes"]).run().ok().out(), "");
        let last = t.rl(["logs", "-t", "--tail", "1", "bytes"]).run().ok().out();
        let at = last.split_once('Z').unwrap().0;
        let since = |zone: &str, time: &str| t.rl(["logs", "--since", time, "bytes"]).env("TZ", zone).run().ok().stdout;
        let late = since("UTC", at);
        assert!(late.ends_with(b"end") && !late.contains(&b'b'), "{late:?}");
        assert_eq!(since("XXX-5", &format!("{at}Z")), late);
        assert_eq!(since("XXX-5", at), since("XXX-5", &at[..10]), "the clock there was further already");
        assert_eq!(since("XXX5", at), b"", "and here it is not yet so late");
        t.rl(["rm", "bytes"]).run().ok();
    }

    fn logs_show_what_was_asked_for_beside_each_line(t: [sub]) {
        let options = [
            "--label", "tier=db & more", "--label", "other=x", "--label", "com.example.a=1", "-e", "MODE=fast", "-e", "SECRET=s",
            "--log-opt", "labels=tier,nothing", "--log-opt", "labels-regex=^com\\.", "--log-opt", "env=MODE", "--log-opt", "tag={{.Name}}/{{.ID}}",
        ];
        let id = detached(t, "box", &options, "echo \"a\\\"b\"; printf end");
        t.rl(["wait", "box"]).run().ok();
        let beside = format!("MODE=fast,com.example.a=1,tag=box%2F{},tier=db+%26+more", &id[..12]);
        let logs = |options: &[&str]| t.rl(["logs"]).args(options).arg("box").run().ok().out();
        assert_eq!(logs(&["--details"]), format!("{beside} a\"b\n{beside} end"));
        assert_eq!(logs(&["--details", "--tail", "1"]), format!("{beside} end"));
        assert_eq!(logs(&[]), "a\"b\nend");
        let stamped = logs(&["-t", "--details", "--tail", "1"]);
        assert!(stamped.starts_with("20") && stamped.ends_with(&format!("Z {beside} end")), "{stamped}");
        let config = t.rl(["inspect", "-f", "{{json .HostConfig.LogConfig.Config}}", "box"]).run().ok().out();
        assert!(config.contains(r#""env":"MODE""#) && config.contains(r#""labels":"tier,nothing""#), "{config}");
        let path = t.rl(["inspect", "-f", "{{.LogPath}}", "box"]).run().ok().out();
        let first = std::fs::read_to_string(path).unwrap();
        let first: serde_json::Value = serde_json::from_str(first.lines().next().unwrap()).unwrap();
        assert_eq!(first["attrs"]["tier"], "db & more");
        detached(t, "plain", &[], "echo x");
        t.rl(["wait", "plain"]).run().ok();
        assert_eq!(t.rl(["logs", "--details", "plain"]).run().ok().out(), " x", "a blank is between nothing and it");
        for (bad, says) in [("env-regex=(", "found open group"), ("tag={{.Nothing}}", "Nothing"), ("label=x", "expected")] {
            t.run_with(&["--log-opt", bad], ["true"]).run().refuses(125, says);
        }
        t.run_with(&["--log-driver", "none", "--log-opt", "labels=x"], ["true"]).run().refuses(125, "no log is kept");
        t.rl(["rm", "box", "plain"]).run().ok();
    }

    fn logs_are_bounded_and_followed_through_rotation(t: [sub]) {
        let script = "sleep 0.3; i=0; while [ $i -lt 3000 ]; do i=$((i+1)); echo line $i; done";
        let options = |size| ["--log-opt", size, "--log-opt", "max-file=3"];
        // Three files for all of it, and three for a part.
        detached(t, "loud", &options("max-size=150k"), script);
        let followed = t.rl(["logs", "-f", "loud"]).run().ok().out();
        let missing = (1..=3000).find(|i| followed.lines().nth(i - 1) != Some(&format!("line {i}")));
        let ends = (followed.lines().next(), followed.lines().last());
        assert_eq!((missing, followed.lines().count()), (None, 3000), "{ends:?}");
        detached(t, "louder", &options("max-size=20k"), script);
        t.rl(["wait", "louder"]).run().ok();
        let kept = t.rl(["logs", "louder"]).run().ok().out();
        assert!(kept.ends_with("line 3000") && kept.lines().count() < 1500, "{}", kept.lines().count());
        // Who is overtaken by it is told what is missing, and sees the rest.
        let script = "until [ -e /tmp/go ]; do sleep 0.05; done; i=0; while [ $i -lt 9000 ]; do i=$((i+1)); echo line $i; done";
        detached(t, "loudest", &options("max-size=4k"), &format!("echo line 0; {script}"));
        let mut stuck = t.rl(["logs", "-f", "loudest"]).spawn();
        stuck.expect("line 0");
        stuck.signal(Signal::STOP);
        t.rl(["exec", "loudest", "touch", "/tmp/go"]).run().ok();
        t.rl(["wait", "loudest"]).run().ok();
        stuck.signal(Signal::CONT);
        let overtaken = stuck.wait().ok();
        assert!(overtaken.out().ends_with("line 9000"), "{overtaken:?}");
        assert!(overtaken.err().contains("files of the log of `loudest` were rotated away"), "{overtaken:?}");
        t.rl(["rm", "loud", "louder", "loudest"]).run().ok();
    }

    fn a_slow_follower_holds_nobody_up(t: [sub]) {
        detached(t, "loud", &["--rm"], "until [ -e /tmp/go ]; do echo tick; sleep 0.05; done; yes | head -c 4000000; echo; echo ready; exec sleep 1000");
        let mut stuck = t.rl(["attach", "--no-stdin", "loud"]).spawn();
        stuck.expect("tick");
        stuck.signal(Signal::STOP);
        t.rl(["exec", "loud", "touch", "/tmp/go"]).run().ok();
        wait_for("the end of it", || t.rl(["logs", "--tail", "1", "loud"]).run().ok().out() == "ready");
        stuck.signal(Signal::CONT);
        stuck.wait().refuses(125, "faster than it was taken");
        t.rl(["rm", "-f", "loud"]).run().ok();
    }

    fn a_killed_monitor_takes_the_container_along(t: [sub root]) {
        detached(t, "box", &[], "exec sleep 1000");
        for pid in monitors(t) {
            kill_process(Pid::from_raw(pid).unwrap(), Signal::KILL).unwrap();
        }
        t.quiet();
        // The first one who looks already sees when.
        let first = status(t, "box");
        assert!(first.contains("Exited (137) ") && first.contains(" ago "), "{first}");
        assert!(first.rfind(" ago ").unwrap() > first.find("Exited").unwrap(), "{first}");
        t.rl(["start", "box"]).run().ok();
        for pid in monitors(t) {
            kill_process(Pid::from_raw(pid).unwrap(), Signal::KILL).unwrap();
        }
        t.quiet();
        assert_ne!(t.rl(["inspect", "-f", "{{.State.FinishedAt}}", "box"]).run().ok().out(), "0001-01-01T00:00:00Z");
        t.rl(["start", "box"]).run().ok();
        t.rl(["exec", "box", "true"]).run().ok();
        // Who waits hears of it.
        let waits = t.rl(["wait", "box"]).spawn();
        wait_for("who waits", || t.processes().iter().any(|p| p.command.ends_with(" wait box") && p.state == 'S'));
        for pid in monitors(t) {
            kill_process(Pid::from_raw(pid).unwrap(), Signal::KILL).unwrap();
        }
        assert_eq!(waits.wait().ok().out(), "137");
        t.quiet();
        t.rl(["rm", "-f", "box"]).run().ok();
    }

    fn the_sockets_of_root_are_in_run(t: [root]) {
        use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _};
        let id = detached(t, "box", &[], "exec sleep 1000");
        let place = std::path::Path::new("/run/rl").join(&id);
        let is_there = || place.symlink_metadata().is_ok_and(|meta| meta.file_type().is_socket());
        let link = t.dir().join("data/rl/containers").join(&id).join("socket");
        assert!(is_there());
        assert_eq!(std::fs::read_link(&link).unwrap(), place);
        assert_eq!(std::fs::metadata("/run/rl").unwrap().permissions().mode() & 0o777, 0o700);
        t.rl(["pause", "box"]).run().ok();
        t.rl(["stop", "-t", "0", "box"]).run().ok();
        assert!(!is_there(), "it ends with its monitor");
        // One that could not take it away.
        for end in ["start", "rm"] {
            t.rl(["start", "box"]).run().ok();
            for pid in monitors(t) {
                kill_process(Pid::from_raw(pid).unwrap(), Signal::KILL).unwrap();
            }
            t.quiet();
            assert!(is_there());
            t.rl([end, "box"]).run().ok();
            t.rl(["kill", "box"]).run();
        }
        assert!(!is_there());
    }

    fn a_reboot_is_an_end(t: [sub root]) {
        let id = detached(t, "box", &[], "exec sleep 1000");
        let dir = t.rl(["inspect", "-f", "{{.HostnamePath}}", "box"]).run().ok().out();
        let state = std::path::Path::new(&dir).with_file_name("state.json");
        let running = std::fs::read_to_string(&state).unwrap();
        t.rl(["kill", "box"]).run().ok();
        // As the machine was switched off; somebody else, whose end would be seen, has the number now.
        let mut other = std::process::Command::new("sleep").arg("1000").spawn().unwrap();
        let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap();
        let mut then: serde_json::Value = serde_json::from_str(&running.replace(boot.trim(), "of-another-time")).unwrap();
        assert_eq!(then["boot_id"], "of-another-time");
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", other.id())).unwrap();
        let start: u64 = stat.rsplit(')').next().unwrap().split_whitespace().nth(19).unwrap().parse().unwrap();
        (then["pid"], then["start_time"]) = (other.id().into(), start.into());
        std::fs::write(&state, then.to_string()).unwrap();
        assert!(status(t, "box").contains("Exited"), "{}", status(t, "box"));
        t.rl(["exec", "box", "true"]).run().refuses(125, "is not running");
        t.rl(["start", "box"]).run().ok();
        assert_eq!(t.rl(["ps", "-q", "--no-trunc"]).run().ok().out(), id);
        t.rl(["rm", "-f", "box"]).run().ok();
        assert_eq!(other.try_wait().unwrap(), None, "nobody else is ended");
        other.kill().unwrap();
        other.wait().unwrap();
    }

    fn top_shows_the_processes_of_the_host(t: [sub root]) {
        detached(t, "box", &[], "sleep 1001 & exec sleep 1000");
        let table = || t.rl(["top", "box", "-eo", "pid,args"]).run().ok().out();
        wait_for("both", || table().contains("sleep 1001") && table().contains("sleep 1000"));
        assert_eq!(table().lines().count(), 3, "{}", table());
        assert!(t.rl(["top", "box", "aux"]).run().ok().out().contains("sleep 1001"));
        // All of them, wherever they are; what only shows some of what is chosen needs no number.
        let on_a_terminal = ["-dt", "box", "sleep", "1002"];
        t.rl(["exec"]).args(on_a_terminal).run().ok();
        wait_for("the third", || table().contains("sleep 1002"));
        for columns in ["pid,args", "args"] {
            let shown = t.rl(["top", "box", "-o", columns]).run().ok().out();
            assert!((1000..1003).all(|n| shown.contains(&format!("sleep {n}"))) && shown.lines().count() == 4, "{shown}");
        }
        t.rl(["rm", "-f", "box"]).run().ok();
    }

    fn top_shows_columns_by_name(t: [sub nosub root]) {
        detached(t, "box", &[], "sleep 1001 & exec sleep 1000");
        let rows = |words: &[&str]| {
            let out = t.rl(["top", "box"]).args(words).run().ok().out();
            let cells = |line: &str| line.split_whitespace().map(str::to_owned).collect();
            out.lines().map(cells).collect::<Vec<Vec<String>>>()
        };
        wait_for("both", || rows(&["args"]).len() == 3 && rows(&["comm"])[1..] == [["sleep"], ["sleep"]]);
        assert_eq!(rows(&["pid", "ppid", "pgid"])[..2], [["PID", "PPID", "PGID"], ["1", "0", "1"]]);
        assert_eq!(rows(&["user,group", "seccomp", "state", "nice", "tty"])[1], ["root", "root", "filter", "S", "0", "?"]);
        let first = t.rl(["inspect", "-f", "{{.State.Pid}}", "box"]).run().ok().out();
        assert_eq!(rows(&["hpid"])[1], [first]);
        if t.who != Identity::Root {
            assert_eq!(rows(&["huser"])[1], [support::identity::name_of(t.uid())]);
        }
        // All of them at once.
        let shown = t.rl(["top", "box", "pid", "colour"]).run().refuses(125, "`colour` is no column");
        let hint = shown.err();
        let (_, names) = hint.split_once("there are ").unwrap();
        let names = names.split_once(';').unwrap().0.replace(' ', "");
        let all = t.rl(["top", "box", &names]).run().ok().out();
        assert_eq!((names.split(',').count(), all.lines().count()), (30, 3), "{all}");
        t.rl(["rm", "-f", "box"]).run().ok();
    }

    fn one_that_nobody_has_waited_for_does_not_keep_others_paused(t: [sub root]) {
        detached(t, "box", &[], "sleep 0.01 & exec sleep 1000");
        let states = || t.rl(["top", "box", "state"]).run().ok().out().split_whitespace().skip(1).collect::<Vec<_>>().concat();
        wait_for("its end", || states() == "SZ");
        t.rl(["pause", "box"]).run().ok();
        // Whether by a signal or by a freezer.
        assert!(["TZ", "SZ", "DZ"].contains(&&*states()), "{}", states());
        t.rl(["unpause", "box"]).run().ok();
        t.rl(["exec", "box", "true"]).run().ok();
        assert!(status(t, "box").contains("Up ") && !status(t, "box").contains("Paused"));
        t.rl(["rm", "-f", "box"]).run().ok();
    }

    fn all_that_it_can_be_done_to(t: [sub]) {
        let script = "trap 'exit 5' TERM; echo up; while :; do sleep 0.02; done";
        for name in ["one", "two"] {
            detached(t, name, &[], script);
            wait_for("the trap", || t.rl(["logs", name]).run().ok().out() == "up");
        }
        t.rl(["create", "--name", "three", "--network", "none"]).arg(images::busybox()).args(["sleep", "1000"]).run().ok();
        let states = || t.rl(["ps", "-a", "--sort", "names", "--format", "{{.State}}"]).run().ok().out().replace('\n', " ");
        let did = |words: &[&str]| t.rl(words).run().ok().out().lines().count();
        assert_eq!((did(&["pause", "-a"]), states()), (2, "paused created paused".into()));
        assert_eq!((did(&["unpause", "--all"]), states()), (2, "running created running".into()));
        assert_eq!((did(&["stop", "-a"]), states()), (2, "exited created exited".into()));
        assert!(status(t, "one").contains("Exited (5)"), "{}", status(t, "one"));
        t.rl(["start", "one"]).run().ok();
        assert_eq!((did(&["restart", "-t", "0", "--running"]), states()), (1, "running created exited".into()));
        assert_eq!((did(&["start", "--all"]), states()), (2, "running running running".into()));
        assert_eq!((did(&["restart", "-t", "0", "-a"]), states()), (3, "running running running".into()));
        assert_eq!((did(&["kill", "-a"]), states()), (3, "exited exited exited".into()));
        assert_eq!(did(&["kill", "-a"]), 0);
        t.rl(["stop", "-a", "one"]).run().refuses(125, "cannot be used with");
        t.rl(["stop"]).run().refuses(125, "required");
        // Asked first.
        let starts = || t.rl(["logs", "one"]).run().ok().out().lines().count();
        let before = starts();
        t.rl(["start", "one"]).run().ok();
        wait_for("the trap", || starts() > before);
        t.rl(["rm", "-f", "-t", "60", "one", "two", "three"]).run().ok();
        let codes = ["events", "--stream=false", "--filter", "event=die", "--filter", "container=one", "--format", "{{.Actor.Attributes.exitCode}}"];
        assert_eq!(t.rl(codes).run().ok().out().lines().last(), Some("5"));
        t.rl(["rm", "-t", "60", "one"]).run().refuses(125, "--force");
    }

    fn those_that_fit_and_those_in_files(t: [sub]) {
        for (name, label) in [("one", "a=1"), ("two", "a=2"), ("three", "b=1")] {
            detached(t, name, &["--label", label, "--cidfile", &format!("{name}.id")], "exec sleep 1000");
        }
        t.rl(["create", "--name", "four", "--label", "a=1", "--network", "none"]).args([images::busybox(), "sleep", "1000"]).run().ok();
        let states = || t.rl(["ps", "-a", "--sort", "created", "--format", "{{.State}}"]).run().ok().out().replace('\n', " ");
        let did = |words: &[&str]| t.rl(words).run().ok().out().lines().count();
        assert_eq!((did(&["pause", "--filter", "label=a"]), states()), (2, "paused paused running created".into()));
        assert_eq!((did(&["unpause", "-f", "name=^two$"]), states()), (1, "paused running running created".into()));
        assert_eq!((did(&["unpause", "--cidfile", "one.id"]), states()), (1, "running running running created".into()));
        assert_eq!((did(&["stop", "-t", "0", "--filter", "label=a", "--filter", "label=a=1"]), states()), (1, "exited running running created".into()));
        assert_eq!((did(&["kill", "--cidfile", "two.id", "--cidfile", "three.id"]), states()), (2, "exited exited exited created".into()));
        assert_eq!((did(&["start", "--filter", "label=a=1"]), states()), (2, "running exited exited running".into()));
        assert_eq!((did(&["restart", "-t", "0", "--filter", "label=a=2"]), states()), (1, "running running exited running".into()));
        assert_eq!((did(&["restart", "-t", "0", "--running", "--filter", "label=a=1"]), states()), (2, "running running exited running".into()));
        assert_eq!(did(&["kill", "--filter", "label=nothing"]), 0);
        assert_eq!((did(&["rm", "--cidfile", "three.id"]), states()), (1, "running running running".into()));
        t.rl(["rm", "--filter", "label=a=2"]).run().refuses(1, "rl stop");
        assert_eq!((did(&["rm", "-f", "--filter", "label=a=1"]), states()), (2, "running".into()));
        // As podman has it, nothing is missed of a file that is not there.
        for verb in ["stop", "rm"] {
            assert_eq!(did(&[verb, "--ignore", "--cidfile", "no.id"]), 0);
            t.rl([verb, "--cidfile", "no.id"]).run().refuses(125, "--cidfile no.id").complains("hint: a file that `rl run --cidfile FILE` has written");
        }
        t.rl(["rm", "--ignore", "--cidfile", "one.id"]).run().ok();
        t.rl(["stop", "--filter", "label=a", "two"]).run().refuses(125, "cannot be used with");
        t.rl(["stop", "--filter", "frob=a"]).run().refuses(125, "`frob=a`");
        t.rl(["rm", "-f", "two"]).run().ok();
    }

    fn what_becomes_unhealthy_is_ended(t: [sub root]) {
        let check = ["--health-cmd", "test ! -e /ill", "--health-interval", "30ms", "--health-retries", "2", "--health-on-failure"];
        let script = "trap 'exit 5' TERM; echo up; test -e /once && rm /ill; echo x >/once; while :; do sleep 0.02; done";
        let up = |name: &str, remedy: &str, more: &[&str]| {
            detached(t, name, &[&check[..], &[remedy], more].concat(), script);
            wait_for("the trap", || t.rl(["logs", name]).run().ok().out().starts_with("up"));
            t.rl(["exec", name, "touch", "/ill"]).run().ok();
        };
        let field = |name: &str, field: &str| t.rl(["inspect", "-f", field, name]).run().ok().out();
        for (remedy, code) in [("stop", "(5)"), ("kill", "(137)")] {
            // No policy starts it again.
            up(remedy, remedy, &["--restart", "always"]);
            wait_for("its end", || status(t, remedy).contains(&format!("Exited {code}")));
            assert_eq!(field(remedy, "{{.Config.HealthcheckOnFailureAction}} {{.RestartCount}}"), format!("{remedy} 0"));
        }
        up("restart", "restart", &[]);
        wait_for("its next life", || field("restart", "{{.RestartCount}}") == "1" && status(t, "restart").contains("(healthy)"));
        assert_eq!(t.rl(["logs", "restart"]).run().ok().out(), "up\nup");
        // Once more, and after a start anew.
        for before in [2, 3] {
            t.rl(["exec", "restart", "touch", "/ill"]).run().ok();
            wait_for("its next life", || t.rl(["logs", "restart"]).run().ok().out().lines().count() == before + 1);
        }
        t.rl(["stop", "restart"]).run().ok();
        assert!(status(t, "restart").contains("Exited (5)"));
        up("none", "none", &[]);
        wait_for("the verdict", || status(t, "none").contains("(unhealthy)"));
        t.rl(["rm", "-f", "-a"]).run().ok();
        for (options, text) in [
            (&["--health-on-failure", "kill"][..], "there is no check"),
            (&["--health-on-failure", "kill", "--health-cmd", "none"], "there is no check"),
            (&["--rm", "--health-on-failure", "restart", "--health-cmd", "true"], "--rm"),
            (&["--restart", "always", "--health-on-failure", "restart", "--health-cmd", "true"], "--restart"),
            (&["--health-on-failure", "pray", "--health-cmd", "true"], "pray"),
        ] {
            t.rl(["run", "--network", "none"]).args(options).args([images::busybox(), "true"]).run().refuses(125, text);
        }
    }

    fn a_time_for_the_command(t: [sub nosub root]) {
        t.keeps_containers();
        let run = ["run", "--name", "box", "--network", "none", "--timeout", "1", images::busybox(), "sh", "-c", "echo up; trap 'echo asked' TERM; while :; do sleep 0.02; done"];
        t.rl(run).run().exits(137);
        assert_eq!(t.rl(["inspect", "-f", "{{.Config.Timeout}}", "box"]).run().ok().out(), "1");
        // It holds for every start.
        t.rl(["start", "box"]).run().ok();
        t.rl(["pause", "box"]).run().ok();
        assert_eq!(t.rl(["wait", "box"]).run().ok().out(), "137");
        assert_eq!(t.rl(["logs", "box"]).run().ok().out(), "up\nup");
        t.rl(["rm", "box"]).run().ok();
        detached(t, "ever", &["--timeout", "0"], "exec sleep 1000");
        t.rl(["stop", "-t", "0", "ever"]).run().ok();
        t.rl(["rm", "ever"]).run().ok();
        t.run_with(&["--timeout=-1"], ["true"]).run().refuses(125, "--timeout");
    }

    fn a_file_for_the_process_id(t: [sub nosub root]) {
        t.keeps_containers();
        let file = t.path("box.pid");
        let read = || std::fs::read_to_string(&file).ok();
        let first = || Some(t.rl(["inspect", "-f", "{{.State.Pid}}", "box"]).run().ok().out());
        t.rl(["create", "--name", "box", "--pidfile", "box.pid", "--restart", "on-failure:1", "--network", "none"])
            .args([images::busybox(), "sh", "-c", "test -e /once && exec sleep 1000; touch /once; exec sleep 1001"]).run().ok();
        assert_eq!(read(), None);
        t.rl(["start", "box"]).run().ok();
        assert_eq!(read(), first());
        assert_eq!(t.rl(["inspect", "-f", "{{.PidFile}}", "box"]).run().ok().out(), file.to_str().unwrap());
        let before: i32 = read().unwrap().parse().unwrap();
        kill_process(Pid::from_raw(before).unwrap(), Signal::KILL).unwrap();
        // It is written a moment before that can be seen.
        wait_for("its next life", || read() != Some(before.to_string()) && read() == first());
        t.rl(["stop", "-t", "0", "box"]).run().ok();
        assert_eq!(read(), None);
        t.rl(["rm", "box"]).run().ok();
        t.run_with(&["--pidfile", "no/such/dir"], ["true"]).run().refuses(125, "--pidfile").complains("hint: the file is made at every start");
        t.run_with(&["--pidfile", "box.pid"], ["no-such-program"]).run().refuses(127, "no-such-program");
        assert_eq!(read(), None);
    }

    fn a_check_out_of_turn(t: [sub nosub root]) {
        let check = ["--health-cmd", "echo looked; test -e /tmp/well", "--health-interval", "1h", "--health-retries", "2"];
        detached(t, "box", &check, "exec sleep 1000");
        let run = || t.rl(["healthcheck", "run", "box"]).run();
        let field = |field: &str| t.rl(["inspect", "-f", field, "box"]).run().ok().out();
        assert_eq!(run().exits(1).out(), "");
        assert_eq!(field("{{.State.Health.Status}} {{.State.Health.FailingStreak}}"), "starting 1");
        assert_eq!(run().exits(1).out(), "unhealthy");
        t.rl(["exec", "box", "touch", "/tmp/well"]).run().ok();
        // Each waits for one that has begun after it came.
        let all: Vec<_> = (0..4).map(|_| t.rl(["healthcheck", "run", "box"]).spawn()).collect();
        for one in all {
            assert_eq!(one.wait().ok().out(), "");
        }
        assert_eq!(field("{{.State.Health.Status}}"), "healthy");
        assert_eq!(field("{{range .State.Health.Log}}{{.Output}}{{end}}").matches("looked").count(), field("{{len .State.Health.Log}}").parse::<usize>().unwrap());
        t.rl(["pause", "box"]).run().ok();
        run().refuses(125, "is paused");
        t.rl(["unpause", "box"]).run().ok();
        t.rl(["stop", "-t", "0", "box"]).run().ok();
        run().refuses(125, "is not running");
        detached(t, "plain", &[], "exec sleep 1000");
        t.rl(["healthcheck", "run", "plain"]).run().refuses(125, "has no check of its health");
        t.rl(["healthcheck", "run", "none"]).run().refuses(125, "`none`");
        t.rl(["rm", "-f", "-a"]).run().ok();
    }

    fn what_is_there_and_what_is_not(t: [sub]) {
        t.rl(["create", "--name", "box", "--network", "none"]).arg(images::busybox()).run().ok();
        t.rl(["commit", "-q", "box", "my/image"]).run().ok();
        t.rl(["volume", "create", "data"]).run().ok();
        t.rl(["network", "create", "net"]).run().ok();
        for (kind, there) in [("container", "box"), ("image", "my/image"), ("volume", "data"), ("network", "net")] {
            for (word, status) in [(there, 0), ("nothing", 1)] {
                let output = t.rl([kind, "exists", word]).run().exits(status);
                assert_eq!(output.out() + &output.err(), "", "{kind} {word}");
            }
        }
        t.rl(["network", "rm", "net"]).run().ok();
        t.rl(["volume", "rm", "data"]).run().ok();
        t.rl(["rm", "box"]).run().ok();
    }

    fn who_looks_on_can_go(t: [sub]) {
        detached(t, "box", &["-it"], "trap 'echo asked' INT; while :; do echo tick; sleep 0.1; done");
        let mut terminal = t.rl(["attach", "--no-stdin", "box"]).terminal();
        terminal.expect("tick");
        terminal.send("\u{3}");
        terminal.wait();
        assert!(status(t, "box").contains("Up "));
        assert!(!t.rl(["logs", "box"]).run().ok().out().contains("asked"));
        t.rl(["rm", "-f", "box"]).run().ok();
    }

    fn many_verbs_at_once(t: [sub]) {
        let script = "for i in 1 2 3 4 5 6 7 8; do \
            { $RL run -d --name m$i --network none $IMAGE sleep 1000 && $RL exec m$i true && $RL stop -t 0 m$i && $RL start m$i && $RL rm -f m$i; } >/dev/null & \
            $RL ps -a >/dev/null & done; wait";
        let done = t.sh(script).env("IMAGE", images::busybox()).run().ok();
        assert_eq!(done.err(), "");
        assert_eq!(t.rl(["ps", "-aq"]).run().ok().out(), "");
    }

    fn who_joins_cannot_be_written_to(t: [sub root]) {
        let own = t.own_binary();
        let before = std::fs::read(&own).unwrap();
        // Writes to whatever program it sees, as fast as it can; its own is busy.
        let attack = "echo '#!/proc/self/exe' >/tmp/trap; chmod 755 /tmp/trap; echo up; \
            while :; do for exe in /proc/[0-9]*/exe; do echo broken 2>/dev/null >>$exe; done; done 2>/dev/null";
        detached(t, "hostile", &["--security-opt", "seccomp=unconfined"], attack);
        wait_for("the attack", || t.rl(["logs", "hostile"]).run().ok().out() == "up");
        let others = support::binary();
        for _ in 0..40 {
            for program in [&own, others] {
                t.program(program).args(["exec", "hostile", "true"]).run().ok();
                t.program(program).args(["exec", "hostile", "/tmp/trap"]).run();
            }
        }
        t.rl(["rm", "-f", "hostile"]).run().ok();
        for program in [&own, others] {
            assert!(std::fs::read(program).unwrap() == before, "{} was changed from inside", program.display());
        }
    }

    fn volumes_have_verbs(t: [sub nosub root]) {
        assert_eq!(t.rl(["volume", "create", "-l", "a=b", "data"]).run().ok().out(), "data");
        t.run_with(&["-v", "data:/d", "-v", "other:/o"], ["sh", "-c", "echo kept >/d/f; chown 5:5 /d/f"]).run().ok();
        assert_eq!(t.rl(["volume", "ls", "-q"]).run().ok().out(), "data\nother");
        assert_eq!(t.rl(["volume", "inspect", "-f", "{{.Labels}}", "data"]).run().ok().out(), "map[a:b]");
        t.rl(["create", "--name", "user", "-v", "data:/d"]).arg(images::busybox()).arg("true").run().ok();
        t.rl(["volume", "rm", "data"]).run().refuses(1, "in use by container `user`");
        t.rl(["volume", "prune", "-f"]).run().ok();
        assert_eq!(t.rl(["volume", "ls", "-q"]).run().ok().out(), "data\nother");
        t.rl(["volume", "prune", "-a", "-f"]).run().ok();
        assert_eq!(t.rl(["volume", "ls", "-q"]).run().ok().out(), "data");
        t.rl(["rm", "user"]).run().ok();
        t.rl(["volume", "rm", "data"]).run().ok();
        t.rl(["volume", "rm", "data"]).run().refuses(1, "no such volume");
        t.rl(["volume", "create", "../x"]).run().refuses(125, "not a volume name");
    }

    fn what_a_killed_monitor_was_removing_is_removed(t: [sub root]) {
        let id = detached(t, "box", &[], "echo x >/file; exec sleep 1000");
        for pid in monitors(t) {
            kill_process(Pid::from_raw(pid).unwrap(), Signal::KILL).unwrap();
        }
        t.quiet();
        let containers = t.dir().join("data/rl/containers");
        std::fs::rename(containers.join(&id), containers.join(format!("{id}.gone"))).unwrap();
        assert_eq!(t.rl(["ps", "-aq"]).run().ok().out(), "");
        assert!(!containers.join(format!("{id}.gone")).exists());
        // The name that its claim is left of is free.
        detached(t, "box", &[], "exec sleep 1000");
        t.rl(["rm", "-f", "box"]).run().ok();
    }
}
