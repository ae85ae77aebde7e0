//! `rl run` at a terminal: allocation, size, keys, job control, and the terminal afterwards.

#[macro_use]
mod support;

use rustix::process::Signal;

/// A loop that a trap can interrupt.
const WAIT: &str = "echo ready; while :; do sleep 0.05; done";

/// Whether a process is in the foreground group of its terminal (proc_pid_stat(5), pgrp and tpgid).
fn in_foreground(pid: impl std::fmt::Display) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let fields: Vec<&str> = stat
        .rsplit(')')
        .next()
        .unwrap_or_default()
        .split_whitespace()
        .collect();
    fields.len() > 5 && fields[2] == fields[5]
}

identities! {
    fn a_terminal_is_allocated_where_a_person_sits(t: [sub nosub unshared root]) {
        let mut terminal = t.run(["sh", "-c", "tty; test -t 0 && test -t 1 && test -t 2 && echo all three"]).terminal();
        terminal.expect("/dev/pts/0");
        terminal.expect("all three");
        terminal.exits(0);
    }

    fn no_tty_is_honoured(t: [sub root]) {
        let mut terminal = t.run_with(&["--no-tty"], ["sh", "-c", "tty; echo end"]).terminal();
        terminal.expect("not a tty");
        terminal.exits(0);
    }

    fn no_terminal_through_pipes(t: [sub root]) {
        assert_eq!(t.run(["sh", "-c", "tty; true"]).run().ok().out(), "not a tty");
        t.run_with(&["-it"], ["true"]).run().refuses(125, "terminal");
        // Of its own, on which nobody types.
        assert_eq!(t.run_with(&["-t"], ["sh", "-c", "test -t 0 && test -t 1 && echo terminal"]).run().ok().out(), "terminal");
        t.run_with(&["-i"], ["cat"]).stdin("in").run().ok();
    }

    fn lines_end_once(t: [sub root]) {
        let mut terminal = t.run(["sh", "-c", "echo one; echo two; printf 'a\\tb'"]).terminal();
        terminal.exits(0);
        assert!(terminal.shown().ends_with("one\r\ntwo\r\na\tb"), "{:?}", terminal.shown());
    }

    fn the_size_is_right_from_the_start_and_follows(t: [sub nosub unshared root]) {
        let mut terminal = t.run(["sh", "-c", &format!("stty size; trap 'stty size' WINCH; {WAIT}")]).terminal();
        terminal.expect("24 80\r\n");
        terminal.expect("ready");
        terminal.resize(132, 50);
        terminal.expect("50 132\r\n");
        terminal.resize(40, 10);
        terminal.expect("10 40\r\n");
        terminal.signal(Signal::KILL);
    }

    fn a_shell_is_a_shell(t: [sub nosub unshared root]) {
        let mut shell = t.run(["sh"]).env("PS1", "").terminal();
        shell.expect("# ");
        // Echoed once by the terminal inside, not once more outside.
        shell.send("echo a$((40 + 2))b\n");
        let shown = shell.expect("a42b\r\n");
        assert_eq!(shown.matches("echo a$((40 + 2))b\r\n").count(), 1, "{shown:?}");
        // Ctrl-C ends what runs, not the shell.
        shell.send("sleep 1000\n");
        shell.expect("sleep 1000\r\n");
        support::wait_for("sleep", || t.processes().iter().any(|p| p.name == "sleep" && in_foreground(p.pid)));
        shell.send("\x03");
        shell.expect("# ");
        shell.send("echo status $?\n");
        shell.expect("status 130");
        // Ctrl-Z stops it, and it goes on.
        shell.send("sleep 1001\n");
        support::wait_for("sleep", || t.processes().iter().any(|p| p.name == "sleep" && in_foreground(p.pid)));
        shell.send("\x1a");
        shell.expect("Stopped");
        shell.send("fg\n");
        shell.expect("fg\r\n");
        shell.expect("sleep 1001");
        support::wait_for("sleep", || t.processes().iter().any(|p| p.name == "sleep" && in_foreground(p.pid)));
        shell.send("\x03");
        shell.expect("# ");
        // Ctrl-D is the end of input; the status is that of the last command.
        shell.send("\x04");
        shell.exits(130);
    }

    fn keys_reach_a_handler(t: [sub root]) {
        for (key, signal) in [("\x03", "INT"), ("\x1c", "QUIT")] {
            let mut terminal = t.run(["sh", "-c", &format!("trap 'echo got {signal}; exit 9' {signal}; {WAIT}")]).terminal();
            terminal.expect("ready");
            terminal.send(key);
            terminal.expect(&format!("got {signal}"));
            terminal.exits(9);
        }
    }

    /// A key is for whatever the command has started, too, as with a plain pipeline: the shell here waits for `sleep`.
    fn keys_reach_the_group_without_a_terminal_inside(t: [sub nosub unshared root]) {
        let asleep = |state: char| t.processes().iter().any(|p| p.command == "sleep 1000" && p.state == state);
        let mut terminal = t.run_with(&["--no-tty"], ["sh", "-c", "sleep 1000; echo went on"]).terminal();
        support::wait_for("sleep", || asleep('S'));
        terminal.send("\x03");
        terminal.exits(130);
        assert!(!terminal.shown().contains("went on"));
        let mut shell = t.program("/bin/sh").args(["-i"]).env("PS1", "> ").env("RL", support::binary()).terminal();
        shell.expect("> ");
        shell.send(&format!("$RL run --rm --no-tty --network none {} sh -c 'sleep 1000; echo went on'\n", support::images::busybox()));
        support::wait_for("sleep", || asleep('S'));
        shell.send("\x1a");
        shell.expect("Stopped");
        shell.expect("> ");
        support::wait_for("sleep to stop", || asleep('T'));
        shell.send("fg\n");
        support::wait_for("sleep to go on", || asleep('S'));
        shell.send("\x03");
        shell.expect("> ");
        shell.send("exit $?\n");
        shell.exits(130);
    }

    fn keys_reach_the_group_of_a_further_command(t: [sub nosub root]) {
        t.rl(["run", "-d", "--rm", "--name", "c", "--network", "none", support::images::busybox(), "sleep", "1001"]).run().ok();
        let mut terminal = t.rl(["exec", "c", "sh", "-c", "sleep 1000; echo went on"]).terminal();
        support::wait_for("sleep", || t.processes().iter().any(|p| p.command == "sleep 1000"));
        terminal.send("\x03");
        terminal.exits(130);
        assert!(!terminal.shown().contains("went on"));
        t.rl(["rm", "-f", "c"]).run().ok();
    }

    /// What is typed before the container is up is not lost.
    fn end_of_input_reaches_a_reader(t: [sub root]) {
        let mut terminal = t.run(["sh", "-c", "cat; echo over"]).terminal();
        terminal.send("line\n");
        terminal.expect("line\r\nline\r\n");
        terminal.send("\x04");
        terminal.expect("over");
        terminal.exits(0);
    }

    fn signals_are_passed_on_at_a_terminal_too(t: [sub root]) {
        let script = format!("trap 'echo got it; exit 6' TERM; {WAIT}");
        let mut terminal = t.sh(&format!("exec $RL run --rm --network none {} sh -c \"$SCRIPT\"", support::images::busybox())).env("SCRIPT", script).terminal();
        terminal.expect("ready");
        let rl = t.processes().into_iter().find(|p| p.command.contains(" run --rm ") && p.command.contains("/rl ")).expect("the front end");
        rustix::process::kill_process(rustix::process::Pid::from_raw(rl.pid).unwrap(), Signal::TERM).unwrap();
        terminal.expect("got it");
        terminal.exits(6);
    }

    fn init_works_at_a_terminal(t: [sub]) {
        let mut terminal = t.run_with(&["--init"], ["sh", "-c", "echo ready; read line; echo got $line; sleep 1000"]).terminal();
        terminal.expect("ready");
        terminal.send("words\n");
        terminal.expect("got words");
        terminal.send("\x03");
        terminal.exits(130);
    }

    /// The settings of the terminal are those from before, however it ended.
    fn the_terminal_is_left_as_it_was(t: [sub root]) {
        let image = support::images::busybox();
        let run = format!("$RL run --rm --network none {image}");
        let mut terminal = t
            .sh(&format!("before=$(stty -g); {run} true; {run} no-such-command; {run} sh -c 'stty raw -echo; exit 3'; test \"$before\" = \"$(stty -g)\" && echo same"))
            .terminal();
        terminal.expect("same");
        terminal.exits(0);
    }

    fn a_terminal_that_hangs_up_ends_the_container(t: [sub root]) {
        let mut terminal = t.run(["sh", "-c", WAIT]).terminal();
        terminal.expect("ready");
        terminal.hang_up();
        terminal.wait();
        t.quiet();
    }

    /// In the background of a shell the terminal is not ours to read or to change.
    fn the_background_is_quiet(t: [sub]) {
        let image = support::images::busybox();
        let script = format!("set -m; $RL run --rm --network none {image} sh -c 'echo inside; exit 3' & wait $!; echo status $?; stty -a | grep -q -- ' icanon' && echo sane");
        let mut terminal = t.sh(&script).terminal();
        terminal.expect("status 3");
        terminal.expect("sane");
        terminal.exits(0);
        assert!(terminal.shown().contains("inside"));
    }
}
