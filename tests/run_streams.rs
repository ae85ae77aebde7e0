//! `rl run` as a plain program: exit status, the three streams, signals.

#[macro_use]
mod support;

use rustix::process::Signal;

/// Bytes that no text conversion leaves alone.
fn noise(length: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut bytes = Vec::with_capacity(length + 8);
    while bytes.len() < length {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend(state.to_le_bytes());
    }
    bytes.truncate(length);
    bytes
}

identities! {
    fn the_exit_status_is_the_commands(t: [sub nosub unshared root]) {
        t.run(["true"]).run().exits(0);
        t.run(["false"]).run().exits(1);
        t.run(["sh", "-c", "exit 42"]).run().exits(42);
        t.run(["sh", "-c", "exit 125"]).run().exits(125);
        t.run(["sh", "-c", "exit 255"]).run().exits(255);
    }

    fn only_some_streams_are_attached(t: [sub]) {
        let command = ["sh", "-c", "read line; echo out $line; echo err >&2"];
        let run = |streams: &[&str]| {
            let options: Vec<String> = streams.iter().map(|s| format!("--attach={s}")).collect();
            let options: Vec<&str> = options.iter().map(String::as_str).collect();
            let output = t.run_with(&options, command).stdin(*b"in\n").run();
            (output.out(), output.err())
        };
        assert_eq!(run(&["stdin", "stdout", "STDERR"]), ("out in".into(), "err\n".into()));
        assert_eq!(run(&["stdout"]), ("out".into(), String::new()));
        assert_eq!(run(&["stdin", "stderr"]), (String::new(), "err\n".into()));
        t.run_with(&["-d", "-a", "stdout"], ["true"]).run().refuses(125, "cannot be used with");
    }

    fn a_command_that_cannot_run_is_126_or_127(t: [sub nosub root]) {
        t.run(["no-such-command"]).run().refuses(127, "`no-such-command`");
        t.run(["/no/such/command"]).run().refuses(127, "`/no/such/command`");
        t.run(["/etc/passwd"]).run().refuses(126, "`/etc/passwd`");
        t.run(["/etc"]).run().refuses(126, "`/etc`");
    }

    fn a_failure_of_rl_itself_is_125(t: [sub nosub root]) {
        t.rl(["run"]).run().refuses(125, "no image");
        t.rl(["run", "--no-such-option", "x"]).run().refuses(125, "`--no-such-option`");
        t.rl(["run", "--gpus=all", "x"]).run().refuses(125, "not there yet");
        t.rl(["run", "--memory=lots", "x"]).run().refuses(125, "`--memory lots`");
        t.rl(["run", "debian:bad tag"]).run().refuses(125, "bad tag");
    }

    fn a_signal_is_128_and_its_number(t: [sub nosub root]) {
        for (name, number) in [("TERM", 15), ("KILL", 9), ("SEGV", 11), ("HUP", 1)] {
            t.run_with(&["--init"], ["sh", "-c", &format!("kill -{name} $$; sleep 1000")]).run().exits(128 + number);
        }
    }

    fn killed_from_outside_is_137(t: [sub root]) {
        let running = t.run(["sleep", "1234"]).spawn();
        support::wait_for("the sleep", || t.processes().iter().any(|p| p.command == "sleep 1234"));
        let sleep = t.processes().into_iter().find(|p| p.command == "sleep 1234").unwrap();
        rustix::process::kill_process(rustix::process::Pid::from_raw(sleep.pid).unwrap(), Signal::KILL).unwrap();
        running.wait().exits(137);
    }

    fn signals_are_passed_on(t: [sub nosub unshared root]) {
        for (signal, name) in [(Signal::TERM, "TERM"), (Signal::INT, "INT"), (Signal::HUP, "HUP"), (Signal::USR1, "USR1"), (Signal::QUIT, "QUIT")] {
            let script = format!("trap 'echo got {name}; exit 7' {name}; echo ready; while :; do sleep 0.05; done");
            let mut running = t.run(["sh", "-c", &script]).spawn();
            running.expect("ready");
            running.signal(signal);
            assert_eq!(running.wait().exits(7).out(), format!("ready\ngot {name}"));
        }
    }

    /// As under nohup(1), or in the background of a script.
    fn signals_that_are_ignored_are_not_passed_on(t: [sub nosub]) {
        let image = support::images::busybox();
        let command = format!("trap '' HUP INT; exec $RL run --rm --network none {image} sh -c 'echo ready; read line; echo $line'");
        let mut running = t.sh(&command).stdin_open().spawn();
        running.expect("ready");
        for signal in [Signal::HUP, Signal::INT] {
            running.signal(signal);
        }
        running.write(b"still here\n");
        assert_eq!(running.wait().ok().out(), "ready\nstill here");
    }

    fn init_lets_a_signal_end_a_command_without_handlers(t: [sub root]) {
        let mut running = t.run_with(&["--init"], ["sh", "-c", "echo ready; exec sleep 1000"]).spawn();
        running.expect("ready");
        running.signal(Signal::TERM);
        running.wait().exits(143);
    }

    fn streams_are_byte_clean_and_apart(t: [sub nosub unshared root]) {
        let bytes = noise(1 << 20);
        let output = t.run(["cat"]).stdin(bytes.clone()).run().ok();
        assert!(output.stdout == bytes, "{} bytes came back, with differences", output.stdout.len());
        let output = t.run(["sh", "-c", "cat >&2; echo out"]).stdin(bytes.clone()).run().ok();
        assert_eq!(output.out(), "out");
        assert!(output.stderr.ends_with(&bytes), "{} bytes on standard error", output.stderr.len());
    }

    fn much_output_arrives_whole(t: [sub]) {
        let output = t.run(["sh", "-c", "dd if=/dev/zero bs=1M count=16 2>/dev/null; echo end"]).run().ok();
        assert_eq!(output.stdout.len(), (16 << 20) + 4);
        assert!(output.stdout.ends_with(b"end\n"));
    }

    /// What one command does not take of a file is there for the next, as with plain programs in a loop.
    fn a_file_is_read_by_one_after_the_other(t: [sub nosub]) {
        let file = t.path("lines");
        std::fs::write(&file, "one\ntwo\nthree\n").unwrap();
        let image = support::images::busybox();
        // dd reads a byte at a time, so it takes what it is asked for and no more.
        let script = format!("for n in 1 2 3; do $RL run --rm --network none {image} dd bs=1 count=4 2>/dev/null; done; $RL run --rm --network none {image} true; cat");
        let output = t.sh(&script).stdin_from(std::fs::File::open(&file).unwrap()).run().ok();
        assert_eq!(output.out(), "one\ntwo\nthree\n".trim_end());
        // A start that fails has taken nothing.
        let script = format!("$RL run --rm --network none {image} no-such-command; cat");
        let output = t.sh(&script).stdin_from(std::fs::File::open(&file).unwrap()).run();
        assert_eq!(output.out(), "one\ntwo\nthree");
    }

    fn standard_input_may_be_a_file(t: [sub nosub root]) {
        let bytes = noise(300_000);
        let path = t.file("input", &bytes);
        let output = t.run(["cat"]).stdin_from(std::fs::File::open(path).unwrap()).run().ok();
        assert!(output.stdout == bytes);
    }

    fn the_end_of_standard_input_arrives(t: [sub root]) {
        let mut running = t.run(["sh", "-c", "while read line; do echo \"got $line\"; done; echo end"]).stdin_open().spawn();
        running.write(b"one\n");
        running.expect("got one\n");
        running.write(b"two\n");
        running.expect("got two\n");
        running.close_stdin();
        assert_eq!(running.wait().ok().out(), "got one\ngot two\nend");
    }

    fn a_reader_that_goes_away_ends_it(t: [sub root]) {
        let image = support::images::busybox();
        let script = format!("{{ $RL run --rm --network none {image} yes; echo $? >&2; }} | head -n 1");
        // It never gets as far as a word about that.
        for _ in 0..6 {
            let ended = t.sh(&script).run().ok();
            assert_eq!((ended.out().as_str(), ended.err().trim()), ("y", "141"));
        }
    }

    fn a_closed_or_full_output_is_the_commands_business(t: [sub]) {
        let image = support::images::busybox();
        t.sh(&format!("$RL run --rm --network none {image} true >&-")).run().ok();
        let full = t.sh(&format!("$RL run --rm --network none {image} echo x >/dev/full")).run();
        assert_ne!(full.code(), 0, "what could not be written is lost without a word");
        t.sh(&format!("$RL run --rm --network none {image} sh -c 'exit 5' <&-")).run().exits(5);
    }

    /// The container ends with its first process, whoever still holds its output.
    fn background_processes_do_not_keep_it(t: [sub root]) {
        assert_eq!(t.run(["sh", "-c", "sleep 1000 & echo done"]).run().ok().out(), "done");
    }

    fn orphans_inside_are_reaped_with_init(t: [sub]) {
        let script = "for i in 1 2 3 4 5; do (sleep 0.01 &); done; sleep 0.5; cat /proc/[0-9]*/stat | grep -c ' Z ' || true";
        assert_eq!(t.run_with(&["--init"], ["sh", "-c", script]).run().ok().out(), "0");
    }
}
