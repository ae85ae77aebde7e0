//! What is kept, told and thrown away: events, volumes that nobody named, checks of health, sizes, and the verbs
//! that prune.

#[macro_use]
mod support;

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use support::images::Layer;
use support::{Env, Image, images, wait_for};

/// A container in the background.
fn detached(t: &Env, name: &str, options: &[&str], image: &str, script: &str) -> String {
    let run = ["run", "-d", "--name", name, "--network", "none"];
    let started = t
        .rl(run)
        .args(options)
        .arg(image)
        .args(["sh", "-c", script]);
    started.run().ok().out()
}

/// What happened, a line each.
fn events(t: &Env, filter: &str, format: &str) -> Vec<String> {
    let words = [
        "events", "--since", "1h", "--until", "0s", "--filter", filter,
    ];
    let told = t.rl(words).args(["--format", format]).run().ok().out();
    told.lines().map(str::to_owned).collect()
}

/// The words that a verb prints, in order of their letters.
fn listed(t: &Env, words: &[&str]) -> Vec<String> {
    let out = t.rl(words).run().ok().out();
    let mut all: Vec<String> = out.lines().map(str::to_owned).collect();
    all.sort();
    all
}

fn volumes(t: &Env) -> Vec<String> {
    listed(t, &["volume", "ls", "-q"])
}

/// Megabytes of a size such as `2.1MB`.
fn megabytes(text: &str) -> f64 {
    let number = text.strip_suffix("MB").unwrap_or_else(|| panic!("{text}"));
    number.parse().unwrap()
}

const UP: &str = "echo up; exec sleep 1000";

identities! {
    /// Neither what containers do nor what they write is anything for other users, some of whom may pass through the
    /// home directory; whatever the umask is, and where it was otherwise.
    fn others_see_nothing_of_it(t: [sub nosub root]) {
        let data = t.dir().join("data/rl");
        let open = || {
            let entries = fs::read_dir(&data).unwrap().map(|entry| entry.unwrap());
            let open = entries.filter(|entry| entry.file_type().unwrap().is_dir() && entry.metadata().unwrap().permissions().mode() & 0o077 != 0);
            open.map(|entry| entry.file_name().into_string().unwrap()).collect::<Vec<_>>()
        };
        let rl = support::binary().display();
        let words = format!("umask 0; {rl} volume create named && {rl} run --rm -v named:/n -v /anonymous --network none {} sh -c 'touch /n/f /anonymous/f'", images::busybox());
        t.sh(&words).run().ok();
        assert_eq!(open(), Vec::<String>::new());
        for name in ["events", "volumes"] {
            fs::set_permissions(data.join(name), fs::Permissions::from_mode(0o755)).unwrap();
        }
        t.rl(["ps"]).run().ok();
        assert!(events(t, "type=volume", "{{.Action}}").len() > 1);
        assert_eq!(fs::metadata(data.join("events")).unwrap().permissions().mode() & 0o7777, 0o750);
        assert_eq!(fs::metadata(data.join("volumes")).unwrap().permissions().mode() & 0o7777, 0o750);
        t.rl(["volume", "rm", "named"]).run().ok();
    }

    fn what_happens_is_told_in_order(t: [sub nosub root]) {
        let id = detached(t, "box", &["--label", "a=b"], images::busybox(), "trap : USR1; echo up; while :; do sleep 0.02; done");
        wait_for("the trap", || t.rl(["logs", "box"]).run().ok().out() == "up");
        let long = ["rename", "box", "other"];
        for words in [&["exec", "box", "true"][..], &["exec", "box", "sh", "-c", "exit 3"], &["pause", "box"], &["unpause", "box"], &long, &["kill", "-s", "USR1", "other"]] {
            t.rl(words).run();
        }
        t.rl(["stop", "-t", "0", "other"]).run().ok();
        t.rl(["start", "other"]).run().ok();
        t.rl(["rm", "-f", "other"]).run().ok();
        t.rl(["volume", "create", "data"]).run().ok();
        t.rl(["volume", "rm", "data"]).run().ok();
        let actions = events(t, &format!("container={id}"), "{{.Action}}");
        let wanted = ["create", "start", "exec_start: true", "exec_die", "exec_start: sh -c exit 3", "exec_die", "pause", "unpause",
            "rename", "kill", "kill", "die", "stop", "start", "kill", "die", "destroy"];
        assert_eq!(actions, wanted);
        assert_eq!(events(t, "type=volume", "{{.Action}} {{.Actor.ID}}"), ["create data", "destroy data"]);
        assert_eq!(events(t, "event=exec_die", "{{.Actor.Attributes.exitCode}}"), ["0", "3"]);
        assert_eq!(events(t, "event=rename", "{{.Actor.Attributes.oldName}} {{.Actor.Attributes.name}}"), ["box other"]);
        assert_eq!(events(t, "label=a=b", "{{.Action}}").len(), wanted.len());
        assert_eq!(events(t, "label=a=c", "{{.Action}}").len(), 0);
        let old_names = events(t, "event=destroy", "{{.Status}} {{.ID}} {{.From}} {{.Scope}}");
        assert_eq!(old_names[0], format!("destroy {id} {} local", images::busybox()));
        let json = events(t, "event=die", "json");
        let died: Value = serde_json::from_str(&json[0]).unwrap();
        assert_eq!((&died["Type"], &died["Action"], &died["Actor"]["ID"]), (&json!("container"), &json!("die"), &json!(id)));
        assert_eq!(died["Actor"]["Attributes"]["exitCode"], "143");
        assert_eq!(died["timeNano"].as_u64().unwrap() / 1_000_000_000, died["time"].as_u64().unwrap());
        let line = t.rl(["events", "--since", "1h", "--until", "0s", "-f", "event=destroy"]).run().ok().out();
        assert!(line.contains(&format!("Z container destroy {id} (a=b, image=")), "{line}");
        assert_eq!(t.rl(["events", "--since", "1h", "--until", "30m"]).run().ok().out(), "");
        t.rl(["events", "--filter", "colour=red"]).run().refuses(125, "colour=red");
        assert!(!events(t, "scope=local", "{{.Action}}").is_empty());
        for none in ["scope=swarm", "daemon=x", "secret=x"] {
            assert_eq!(events(t, none, "{{.Action}}").len(), 0, "{none}");
        }
    }

    fn a_follower_ends_with_its_reader(t: [sub]) {
        t.rl(["volume", "create", "only"]).run().ok();
        let words = ["run", "-d", "--name", "box", "--network", "none"];
        t.rl(words).arg(images::busybox()).args(["sh", "-c", "echo only; exec sleep 1000"]).run().ok();
        // Nothing more comes that could not be written.
        for verb in ["events --since 1h", "logs -f box"] {
            let first = t.sh(&format!("$RL {verb} | head -n 1")).run().ok();
            assert!(first.out().contains("only"), "{verb}: {}", first.out());
            assert_eq!(first.err(), "", "{verb}");
        }
        t.rl(["rm", "-f", "box"]).run().ok();
        t.rl(["volume", "rm", "only"]).run().ok();
    }

    fn a_follower_misses_nothing_when_the_log_turns_over(t: [sub]) {
        t.rl(["volume", "create", "first"]).run().ok();
        let format = ["--format", "{{.Action}} {{.Actor.Attributes.name}}"];
        let mut follower = t.rl(["events", "--since", "1h"]).args(format).spawn();
        follower.expect("create first\n");
        // Each of its events has some hundred kilobytes.
        let label = format!("big={}", "x".repeat(100_000));
        let script = "for i in 1 2 3; do for j in 1 2 3; do \
            $RL run --rm --name m$i$j --network none -l \"$LABEL\" $IMAGE true & done; wait; done";
        t.sh(script).env("IMAGE", images::busybox()).env("LABEL", label).run().ok();
        t.rl(["volume", "create", "last"]).run().ok();
        let told = follower.expect("create last\n");
        for name in ["m11", "m12", "m13", "m21", "m22", "m23", "m31", "m32", "m33"] {
            let actions: Vec<&str> = told.lines().filter_map(|line| line.strip_suffix(&format!(" {name}"))).collect();
            assert_eq!(actions, ["create", "start", "die", "destroy"], "{name}");
        }
        follower.signal(Signal::INT);
        follower.wait();
        let logs = t.dir().join("data/rl/events");
        assert!(logs.join("log.1").exists());
        assert!(fs::metadata(logs.join("log")).unwrap().len() < 2 << 20);
        // What is left is told from the older one on.
        assert_eq!(events(t, "volume=last", "{{.Action}}"), ["create"]);
    }

    fn a_volume_that_nobody_named_goes_with_its_container(t: [sub nosub root]) {
        t.keeps_containers();
        let write = "echo x >/data/f; mkdir -m 700 /data/d";
        t.run_with(&["-v", "/data"], ["sh", "-c", write]).run().ok();
        t.run_with(&["--mount", "type=volume,dst=/data"], ["sh", "-c", write]).run().ok();
        assert_eq!(volumes(t), [""; 0]);
        detached(t, "kept", &["-v", "/data", "-v", "named:/n"], images::busybox(), write);
        t.rl(["wait", "kept"]).run().ok();
        let names = volumes(t);
        assert_eq!((names.len(), names[0].len() == 64 || names[1].len() == 64), (2, true), "{names:?}");
        // It is the same one at the next start.
        t.rl(["start", "kept"]).run().ok();
        t.rl(["wait", "kept"]).run().ok();
        assert!(t.rl(["logs", "kept"]).run().ok().err().contains("File exists"));
        t.rl(["rm", "kept"]).run().ok();
        assert_eq!(volumes(t), names);
        let pruned = t.rl(["volume", "prune", "-f"]).run().ok().out();
        assert!(names.iter().any(|name| name.len() == 64 && pruned.contains(name)) && pruned.contains("Total reclaimed space: "), "{pruned}");
        assert_eq!(volumes(t), ["named"]);
        let made = t.rl(["volume", "create"]).run().ok().out();
        let pruned = t.rl(["volume", "prune", "-f"]).run().ok().out();
        assert!(pruned.starts_with(&format!("Deleted Volumes:\n{made}\n")), "{pruned}");
        for running in [false, true] {
            detached(t, "box", &["-v", "/data", "-v", "named:/n"], images::busybox(), if running { UP } else { write });
            if !running {
                t.rl(["wait", "box"]).run().ok();
            }
            assert_eq!(volumes(t).len(), 2);
            t.rl(["volume", "prune", "-f", "-a"]).run().ok();
            assert_eq!(volumes(t).len(), 2, "in use");
            t.rl(["rm", "-f", "-v", "box"]).run().ok();
            assert_eq!(volumes(t), ["named"]);
        }
        t.rl(["volume", "prune", "-f", "-a"]).run().ok();
        assert_eq!(volumes(t), [""; 0]);
    }

    fn one_has_the_volumes_of_another(t: [sub nosub root]) {
        t.keeps_containers();
        let (shared, own) = (t.directory("shared"), t.directory("own"));
        fs::write(own.join("f"), "own").unwrap();
        let bind = format!("{}:/bound:ro", shared.display());
        let options = ["-v", "/data", "-v", "named:/n", "-v", &bind, "--tmpfs", "/forgotten"];
        detached(t, "one", &options, images::busybox(), "echo a >/data/f; echo n >/n/f; echo x >/forgotten/f");
        t.rl(["wait", "one"]).run().ok();
        fs::write(shared.join("f"), "of the host").unwrap();
        let from = |options: &[&str], script: &str| {
            t.rl(["run", "--rm", "--network", "none"]).args(options).args([images::busybox(), "sh", "-c", script]).run()
        };
        // It is at rest, and its tmpfs its own.
        let read = "cat /data/f /n/f /bound/f; ls /forgotten 2>/dev/null; touch /data/g && echo w; touch /bound/g 2>/dev/null || echo r";
        assert_eq!(from(&["--volumes-from", "one"], read).ok().out(), "a\nn\nof the hostw\nr");
        let id = t.rl(["ps", "-aq", "--filter", "name=one"]).run().ok().out();
        assert_eq!(from(&["--volumes-from", &format!("{id}:ro,z")], "ls /data; touch /data/h || echo r").exits(0).out(), "f\ng\nr");
        assert_eq!(from(&["--volumes-from", "one:rw"], "touch /bound/g || touch /data/h && echo w").exits(0).out(), "w");
        // Own ones win, and of several the last.
        let mine = format!("{}:/data", own.display());
        assert_eq!(from(&["--volumes-from", "one", "-v", &mine], "cat /data/f /n/f").ok().out(), "ownn");
        detached(t, "two", &["-v", &mine, "--volumes-from", "one:ro"], images::busybox(), UP);
        assert_eq!(from(&["--volumes-from", "one", "--volumes-from", "two"], "cat /data/f; touch /n/x 2>/dev/null || echo r").ok().out(), "ownr");
        assert_eq!(t.rl(["inspect", "-f", "{{.HostConfig.VolumesFrom}}", "two"]).run().ok().out(), "[one:ro]");
        t.rl(["rm", "-f", "-v", "two"]).run().ok();
        // What nobody named goes with the last that has it.
        let anonymous = volumes(t).into_iter().find(|name| name.len() == 64).unwrap();
        detached(t, "three", &["--rm", "--volumes-from", "one"], images::busybox(), UP);
        t.rl(["rm", "-v", "one"]).run().ok();
        assert!(volumes(t).contains(&anonymous));
        detached(t, "four", &["--volumes-from", "three"], images::busybox(), UP);
        t.rl(["rm", "-f", "three"]).run().ok();
        assert!(volumes(t).contains(&anonymous), "three went with `--rm`");
        t.rl(["restart", "-t", "0", "four"]).run().ok();
        assert_eq!(t.rl(["exec", "four", "cat", "/data/f"]).run().ok().out(), "a");
        t.rl(["rm", "-f", "-v", "four"]).run().ok();
        assert_eq!(volumes(t), ["named"]);
        from(&["--volumes-from", "one"], "true").refuses(125, "`one`").complains("hint: `rl ps -a`");
        from(&["--volumes-from", "one:rx"], "true").refuses(125, "--volumes-from one:rx").complains("hint: such as");
    }

    fn what_could_not_be_made_leaves_no_volume(t: [sub root]) {
        t.run_with(&["-v", "/data"], ["no-such-program"]).run().refuses(127, "no-such-program");
        let plain = ["run", "--network", "none", "-v", "/data"];
        t.rl(plain).arg(images::busybox()).arg("no-such-program").run().refuses(127, "no-such-program");
        detached(t, "taken", &[], images::busybox(), UP);
        t.rl(plain).args(["--name", "taken"]).arg(images::busybox()).run().refuses(125, "in use");
        t.file("id", "");
        t.rl(plain).args(["--cidfile", "id"]).arg(images::busybox()).run().refuses(125, "`id`").complains("hint: `rm id`");
        assert_eq!(volumes(t), [""; 0]);
        // Nor does a monitor that is killed.
        t.rl(["rm", "-f", "taken"]).run().ok();
        detached(t, "killed", &["--rm", "-v", "/data"], images::busybox(), UP);
        assert_eq!(volumes(t).len(), 1);
        for process in t.processes() {
            if process.name.starts_with("rl") {
                kill_process(Pid::from_raw(process.pid).unwrap(), Signal::KILL).unwrap();
            }
        }
        t.quiet();
        assert_eq!(listed(t, &["ps", "-aq"]), [""; 0]);
        assert_eq!(volumes(t), [""; 0]);
    }

    fn an_image_names_its_volumes(t: [sub nosub root]) {
        t.keeps_containers();
        let seed = Layer::new().entry(tar::EntryType::Directory, "seed", 0o750, if t.who.has_many_ids() { 1000 } else { 0 }, "", b"").file("seed/f", 0o644, "of the image");
        let image = Image::busybox().layer(seed).config("Volumes", json!({"/seed": {}, "/empty/": {}})).write_for(t, "image");
        let owner = if t.who.has_many_ids() { "1000" } else { "0" };
        t.rl(["run", "--name", "box", "--network", "none", &image, "sh", "-c", "cat /seed/f; stat -c ' %u %a' /seed; ls /empty; echo w >/seed/w"])
            .run().ok();
        let seen = t.rl(["logs", "box"]).run().ok().out();
        assert_eq!(seen, format!("of the image {owner} 750"));
        assert_eq!(volumes(t).len(), 2);
        let told: Value = serde_json::from_str(&t.rl(["inspect", "box"]).run().ok().out()).unwrap();
        let mounts = told[0]["Mounts"].as_array().unwrap();
        let seed = mounts.iter().find(|mount| mount["Destination"] == "/seed").unwrap();
        assert_eq!((&seed["Type"], seed["Name"].as_str().unwrap().len()), (&json!("volume"), 64));
        // None of it is in the container's own layer.
        assert_eq!(t.rl(["diff", "box"]).run().ok().out().lines().find(|line| line.contains("seed/w")), None);
        t.rl(["rm", "-v", "box"]).run().ok();
        assert_eq!(volumes(t), [""; 0]);
        t.rl(["run", "--rm", "--network", "none", &image, "true"]).run().ok();
        assert_eq!(volumes(t), [""; 0]);
        // Something else is asked for at its place.
        let asked = ["run", "--name", "asked", "--network", "none", "-v", "mine:/seed", "--tmpfs", "/empty", &image, "cat", "/seed/f"];
        assert_eq!(t.rl(asked).run().ok().out(), "of the image");
        assert_eq!(volumes(t), ["mine"]);
        t.rl(["rm", "-v", "asked"]).run().ok();
        assert_eq!(volumes(t), ["mine"]);
    }

    fn an_image_says_how_it_is_checked(t: [sub root]) {
        let check = json!({"Test": ["CMD-SHELL", "test -e /tmp/well"], "Interval": 50_000_000, "Retries": 2});
        let image = Image::busybox().config("Healthcheck", check).write_for(t, "checked");
        let status = |name: &str| listed(t, &["ps", "--format", "{{.Names}} {{.Status}}"]).into_iter().find(|l| l.starts_with(name)).unwrap_or_default();
        detached(t, "box", &[], &image, UP);
        wait_for("the verdict", || status("box").contains("(unhealthy)"));
        assert_eq!(listed(t, &["ps", "--filter", "health=unhealthy", "--format", "{{.Names}}"]), ["box"]);
        t.rl(["exec", "box", "touch", "/tmp/well"]).run().ok();
        wait_for("the verdict", || status("box").contains("(healthy)"));
        assert_eq!(listed(t, &["ps", "--filter", "health=healthy", "--format", "{{.Names}}"]), ["box"]);
        let told = events(t, "event=health_status", "{{.Action}}");
        assert_eq!(told, ["health_status: unhealthy", "health_status: healthy"]);
        detached(t, "none", &["--no-healthcheck"], &image, UP);
        assert!(!status("none").contains("health"), "{}", status("none"));
        assert_eq!(listed(t, &["ps", "--filter", "health=none", "--format", "{{.Names}}"]), ["none"]);
        // The command of the image, at another time.
        detached(t, "rare", &["--health-interval", "1h"], &image, UP);
        wait_for("the first words", || status("rare").contains("(health: starting)"));
        // Of the start there is more to say.
        let check = json!({"Test": ["CMD", "true"], "Interval": 3_600_000_000_000_u64, "StartPeriod": 3_600_000_000_000_u64, "StartInterval": 30_000_000});
        let early = Image::busybox().config("Healthcheck", check).write_for(t, "early");
        detached(t, "early", &[], &early, UP);
        wait_for("the verdict", || status("early").contains("(healthy)"));
        let change = ["--change", "HEALTHCHECK --start-interval=2s CMD true"];
        t.rl(["commit", "-q"]).args(change).args(["early", "my/check"]).run().ok();
        assert_eq!(t.rl(["inspect", "-f", "{{.Config.Healthcheck.StartInterval}}", "my/check"]).run().ok().out(), "2000000000");
        detached(t, "other", &["--health-cmd", "true", "--health-interval", "50ms"], &image, UP);
        wait_for("the verdict", || status("other").contains("(healthy)"));
        t.rl(["rm", "-f", "-a"]).run().ok();
    }

    fn ps_filters_and_sizes(t: [sub root]) {
        t.keeps_containers();
        let names = |filters: &[&str]| {
            let filters = filters.iter().flat_map(|f| ["--filter", f]);
            let words: Vec<&str> = ["ps", "-a", "--format", "{{.Names}}"].into_iter().chain(filters).collect();
            listed(t, &words)
        };
        detached(t, "one", &[], images::busybox(), "head -c 3000000 /dev/zero >/file; echo up; exec sleep 1000");
        wait_for("its file", || t.rl(["logs", "one"]).run().ok().out() == "up");
        // Of nobody else's.
        let port = std::net::TcpListener::bind(("127.0.0.1", 0)).and_then(|l| l.local_addr()).unwrap().port();
        let ports = ["80", "53/udp"].map(|inside| format!("127.0.0.1:{port}:{inside}"));
        t.rl(["create", "--name", "two", "-p", &ports[0], "-p", &ports[1]]).arg(images::busybox()).run().ok();
        detached(t, "three", &[], images::busybox(), UP);
        t.rl(["pause", "three"]).run().ok();
        assert_eq!(names(&["before=two"]), ["one"]);
        assert_eq!(names(&["since=two"]), ["three"]);
        assert_eq!(names(&["since=one", "before=three"]), ["two"]);
        assert_eq!(names(&["publish=80"]), ["two"]);
        assert_eq!(names(&["publish=53/udp"]), ["two"]);
        assert_eq!(names(&["publish=53/tcp"]), [""; 0]);
        let patterns = [
            ("^one$", &["one"][..]), ("^/?one$", &["one"]), ("/t", &["three", "two"]), ("o$", &["two"]), ("ne", &["one"]), ("^ne", &[]),
            ("^(one|two)$", &["one", "two"]), ("t.*e", &["three"]), ("[m-n]e{1}$", &["one"]),
        ];
        for (pattern, fits) in patterns {
            assert_eq!(names(&[&format!("name={pattern}")]), *fits, "{pattern}");
        }
        assert_eq!(listed(t, &["ps", "-n", "2", "--format", "{{.Ports}}"]), ["", &format!("127.0.0.1:{port}->80/tcp, 127.0.0.1:{port}->53/udp")]);
        assert_eq!(listed(t, &["stats", "-a", "--no-stream", "--format", "{{.Name}}"]), ["one", "three", "two"]);
        assert_eq!(names(&["status=paused"]), ["three"]);
        assert_eq!(names(&["status=paused", "status=created"]), ["three", "two"]);
        assert_eq!(names(&["status=dead", "status=removing"]), [""; 0]);
        assert_eq!(names(&["health=none"]), ["one", "three", "two"]);
        t.rl(["ps", "--filter", "name=("]).run().refuses(125, "`(` is no regular expression: found open group");
        assert_eq!(names(&["publish=79-81"]), ["two"]);
        assert_eq!(names(&["expose=80/tcp"]), ["two"]);
        assert_eq!((names(&["is-task=false"]).len(), names(&["is-task=true"]).len()), (3, 0));
        t.rl(["ps", "--filter", "expose=http"]).run().refuses(125, "`expose=http`: expected ports");
        // What an image says that it listens on counts as well.
        t.rl(["commit", "-c", "EXPOSE 9000", "two", "web"]).run().ok();
        t.rl(["create", "--name", "four", "--network", "none", "web"]).run().ok();
        assert_eq!(names(&["expose=9000"]), ["four"]);
        assert_eq!(names(&["expose=8000-9999/tcp"]), ["four"]);
        assert_eq!(names(&["expose=9000/udp"]), [""; 0]);
        assert_eq!(names(&["publish=9000"]), [""; 0]);
        // And still does when that has gone.
        t.rl(["rmi", "-f", "web"]).run().ok();
        assert_eq!(names(&["expose=9000"]), ["four"]);
        t.rl(["rm", "four"]).run().ok();
        t.rl(["ps", "--filter", "since=nobody"]).run().refuses(125, "no such container");
        t.rl(["ps", "--filter", "health=fine"]).run().refuses(125, "health=fine");
        let sorted = |by: &str| t.rl(["ps", "-a", "--format", "{{.Names}}", "--sort", by]).run().ok().out().replace('\n', " ");
        assert_eq!((sorted("names"), sorted("created"), sorted("state")), ("one three two".into(), "one two three".into(), "two three one".into()));
        t.rl(["ps", "--sort", "colour"]).run().refuses(125, "colour");
        assert_eq!(t.rl(["ps", "-a", "--noheading"]).run().ok().out().lines().count(), 3);
        assert_eq!(t.rl(["ps", "-a", "--noheading", "--format", "{{.Names}}"]).run().ok().out().lines().count(), 3);
        let command = t.rl(["ps", "--no-trunc", "--filter", "name=three", "--format", "{{.Command}}"]).run().ok().out();
        assert_eq!(command, format!("\"sh -c '{UP}'\""));
        let table = t.rl(["ps", "-a", "-s"]).run().ok().out();
        assert!(table.lines().next().unwrap().trim_end().ends_with("SIZE"), "{table}");
        let size = t.rl(["ps", "--filter", "name=one", "--format", "{{.Size}}"]).run().ok().out();
        let (written, whole) = size.split_once(" (virtual ").unwrap();
        let (written, whole) = (megabytes(written), megabytes(whole.trim_end_matches(')')));
        assert!((3.0..3.2).contains(&written) && whole > written + 1.0, "{size}");
        let bytes = t.rl(["inspect", "-s", "-f", "{{.SizeRw}} {{.SizeRootFs}}", "one"]).run().ok().out();
        let (rw, all) = bytes.split_once(' ').unwrap();
        let (rw, all): (u64, u64) = (rw.parse().unwrap(), all.parse().unwrap());
        assert!((3_000_000..3_200_000).contains(&rw) && all > rw + 1_000_000, "{bytes}");
        for all in ["-1", "0"] {
            assert_eq!(listed(t, &["ps", "-n", all, "--format", "{{.Names}}"]), ["one", "three"]);
        }
        t.rl(["rm", "-f", "-a"]).run().ok();
    }

    fn what_was_asked_is_shown_as_docker_shows_it(t: [sub]) {
        t.keeps_containers();
        t.rl(["create", "--name", "box", "--network", "none", images::busybox()]).run().ok();
        let shown = |format: &str| t.rl(["inspect", "-f", format, "box"]).run().ok().out();
        assert_eq!(shown("{{.HostConfig.NanoCpus}}/{{.NetworkSettings.IPAddress}}"), "0/");
        let id = shown("{{.Image}}");
        assert_eq!(t.rl(["inspect", "-f", "<{{.Parent}}>", &id]).run().ok().out(), "<>");
        t.rl(["rm", "box"]).run().ok();
        let asked = [
            "-v", "data:/v", "-v", "/tmp:/host:ro", "--tmpfs", "/t", "--cap-add", "NET_ADMIN", "--cap-drop", "KILL", "--ulimit",
            "nofile=100:200", "--dns", "9.9.9.9", "--add-host", "there:1.2.3.4", "--health-cmd", "true", "--health-retries", "7",
        ];
        t.rl(["create", "--name", "box"]).args(asked).arg(images::busybox()).run().ok();
        let mounts = "{{range .Mounts}}{{.Type}} {{.Name}} {{.Driver}} {{.Destination}};{{end}}";
        assert_eq!(shown(mounts), "volume data local /v;bind   /host;tmpfs   /t;");
        assert_eq!(shown("{{with .HostConfig}}{{.CapAdd}} {{.CapDrop}} {{.Privileged}} {{.Dns}} {{.ExtraHosts}}{{end}}"),
            "[CAP_NET_ADMIN] [CAP_KILL] false [9.9.9.9] [there:1.2.3.4]");
        assert_eq!(shown("{{json .HostConfig.Ulimits}}"), r#"[{"Hard":200,"Name":"nofile","Soft":100}]"#);
        assert_eq!(shown("{{.HostConfig.Devices}} {{.HostConfig.SecurityOpt}} {{index .HostConfig.Tmpfs \"/t\" | len}}"), "[] [] 9");
        assert_eq!(shown("{{.Config.Healthcheck.Test}} {{.Config.Healthcheck.Retries}}"), "[CMD /bin/sh -c true] 7");
        t.rl(["rm", "-v", "box"]).run().ok();
        // The beginning of several ids is said to be that.
        let make = || t.rl(["create", "--network", "none", images::busybox()]).run().ok().out();
        let firsts = || (0..17).map(|_| make()).collect::<Vec<_>>();
        let mut firsts: Vec<char> = firsts().iter().filter_map(|id| id.chars().next()).collect();
        firsts.sort_unstable();
        let twice = firsts.windows(2).find(|pair| pair[0] == pair[1]).unwrap()[0].to_string();
        t.rl(["inspect", &twice]).run().refuses(1, "more than one container");
        t.rl(["rm", "-a"]).run().ok();
    }

    fn a_file_for_the_id(t: [sub root]) {
        t.keeps_containers();
        let run = ["run", "-d", "--network", "none", "--cidfile", "id"];
        let id = t.rl(run).arg(images::busybox()).args(["sh", "-c", UP]).run().ok().out();
        assert_eq!(fs::read_to_string(t.path("id")).unwrap(), id);
        t.rl(run).arg(images::busybox()).run().refuses(125, "`id`");
        assert_eq!(listed(t, &["ps", "-aq", "--no-trunc"]), [&*id]);
        assert_eq!(fs::read_to_string(t.path("id")).unwrap(), id, "the other's");
        t.rl(["create", "--cidfile", "made", "--name", "made"]).arg(images::busybox()).run().ok();
        t.rl(["create", "--cidfile", "again", "--name", "made"]).arg(images::busybox()).run().refuses(125, "in use");
        assert!(t.path("made").exists() && !t.path("again").exists());
        t.rl(["rm", "-f", "-a"]).run().ok();
    }

    /// What ends the front end hangs up on the command, as a terminal does that is closed.
    fn signals_are_passed_on_or_not(t: [sub]) {
        t.keeps_containers();
        let script = "trap 'exit 5' TERM; trap 'exit 4' HUP; echo up; while :; do sleep 0.02; done";
        for (option, code) in [("--sig-proxy=true", "5"), ("--sig-proxy=false", "4")] {
            let options = ["run", "--name", "box", "--network", "none", option];
            let mut running = t.rl(options).arg(images::busybox()).args(["sh", "-c", script]).spawn();
            running.expect("up");
            running.signal(Signal::TERM);
            running.wait();
            assert_eq!(t.rl(["wait", "box"]).run().ok().out(), code, "{option}");
            t.rl(["rm", "-f", "box"]).run().ok();
        }
    }

    fn an_image_goes_with_its_container(t: [sub nosub root]) {
        t.keeps_containers();
        let path = Image::busybox().layer(Layer::new().file("own", 0o644, "x")).write_for(t, "image");
        let images = || listed(t, &["images", "--format", "{{.Repository}}"]);
        let id = t.rl(["pull", &path]).run().ok().out();
        t.rl(["tag", &id, "one"]).run().ok();
        t.rl(["tag", &id, "two"]).run().ok();
        let run = |options: &[&str], image: &str| t.rl(["run", "--network", "none"]).args(options).args([image, "sh", "-c", "cat /own; exit 3"]).run();
        // A name first, while there is another, then all of it.
        let before = images();
        assert!(before.contains(&"one".to_owned()), "{before:?}");
        assert_eq!(run(&["--rmi"], "one").exits(3).out(), "x");
        assert!(!images().contains(&"one".to_owned()) && images().contains(&"two".to_owned()), "{:?}", images());
        assert_eq!(listed(t, &["ps", "-aq"]), [""; 0]);
        detached(t, "user", &[], "two", UP);
        for name in images().into_iter().filter(|name| name != "two" && name != "<none>") {
            t.rl(["rmi", &name]).run().ok();
        }
        run(&["--rmi"], "two").exits(3).complains("the image stays");
        assert!(images().contains(&"two".to_owned()));
        t.rl(["rm", "-f", "user"]).run().ok();
        run(&["--rmi"], "two").exits(3);
        assert_eq!(images(), [""; 0]);
        assert_eq!(events(t, "event=delete", "{{.Type}}"), ["image"]);
        // One that has no name.
        run(&["--rmi"], &path).exits(3);
        assert_eq!(images(), [""; 0]);
        run(&["--rmi", "-d"], &path).refuses(125, "`--rmi` with `--detach`");
        t.rl(["run", "--rmi", "host", "true"]).run().refuses(125, "`--rmi` with the image `host`");
        t.rl(["run", "--rmi", "--rootfs", "/", "true"]).run().refuses(125, "`--rmi` with `--rootfs`");
        t.rl(["create", "--rmi", &path]).run().refuses(125, "`--rmi` is for `rl run`");
    }

    fn pruning_spares_what_is_in_use(t: [sub nosub root]) {
        t.keeps_containers();
        let used = Image::busybox().config("Labels", json!({"is": "used"})).write_for(t, "used");
        let free = Image::busybox().layer(Layer::new().file("f", 0o644, vec![b'x'; 2_000_000])).write_for(t, "free");
        for (image, name) in [(&used, "used"), (&free, "free")] {
            let id = t.rl(["pull", image]).run().ok().out();
            t.rl(["tag", &id, name]).run().ok();
        }
        let running = detached(t, "running", &[], "used", UP);
        let paused = detached(t, "paused", &[], "used", UP);
        t.rl(["pause", "paused"]).run().ok();
        let ended = detached(t, "ended", &[], "used", "head -c 2000000 /dev/zero >/file");
        t.rl(["wait", "ended"]).run().ok();
        let made = t.rl(["create", "--name", "made", "used"]).run().ok().out();
        let ids = |mut ids: Vec<&String>| { ids.sort(); ids.into_iter().cloned().collect::<Vec<_>>() };
        // Who does not say yes keeps everything.
        t.rl(["container", "prune"]).stdin("n\n").run().ok().complains("[y/N]");
        assert_eq!(listed(t, &["container", "ls", "-aq", "--no-trunc"]), ids(vec![&running, &paused, &ended, &made]));
        let df = |kind: &str| {
            let format = "{{.Type}}|{{.TotalCount}} {{.Active}}|{{.Size}}|{{.Reclaimable}}";
            let all = listed(t, &["system", "df", "--format", format]);
            let line = all.iter().find(|line| line.starts_with(kind)).unwrap();
            line.split('|').map(str::to_owned).collect::<Vec<_>>()
        };
        let containers = df("Containers");
        assert_eq!(containers[1], "4 2");
        assert!((2.0..2.2).contains(&megabytes(&containers[2])), "{containers:?}");
        let (reclaimable, percent) = containers[3].split_once(" (").unwrap();
        assert!((2.0..2.2).contains(&megabytes(reclaimable)) && percent == "100%)", "{containers:?}");
        assert_eq!(df("Images")[1], "2 1");
        let pruned = t.rl(["container", "prune"]).stdin("y\n").run().ok().out();
        for (id, gone) in [(&running, false), (&paused, false), (&ended, true), (&made, true)] {
            assert_eq!(pruned.contains(&**id), gone, "{pruned}");
        }
        let freed = pruned.lines().last().unwrap().strip_prefix("Total reclaimed space: ").unwrap();
        assert!((2.0..2.2).contains(&megabytes(freed)), "{freed}");
        assert_eq!(listed(t, &["ps", "-aq", "--no-trunc"]), ids(vec![&running, &paused]));
        // An image with a name is spared without -a, one that is used always.
        let names = || listed(t, &["image", "ls", "--format", "{{.Repository}}"]);
        t.rl(["image", "prune", "-f"]).run().ok();
        assert_eq!(names(), ["free", "used"]);
        t.rl(["commit", "running"]).run().ok();
        assert_eq!(names(), ["<none>", "free", "used"]);
        t.rl(["image", "prune", "-f"]).run().ok();
        assert_eq!(names(), ["free", "used"]);
        let pruned = t.rl(["image", "prune", "-f", "-a"]).run().ok().out();
        assert!(pruned.contains("untagged: free") && pruned.contains("deleted: sha256:"), "{pruned}");
        assert!(events(t, "event=untag", "{{.Actor.ID}}").contains(&"free:latest".to_owned()));
        let freed = pruned.lines().last().unwrap().strip_prefix("Total reclaimed space: ").unwrap();
        assert!((2.0..4.5).contains(&megabytes(freed)), "{freed}");
        assert_eq!(names(), ["used"]);
        t.rl(["run", "--rm", "--network", "none", "used", "true"]).run().ok();
        // Everything at once.
        t.rl(["rm", "-f", "running", "paused"]).run().ok();
        t.rl(["volume", "create", "named"]).run().ok();
        t.rl(["create", "--name", "last", "-v", "/x", "used"]).run().ok();
        t.rl(["system", "prune", "-f"]).run().ok();
        assert_eq!((names(), volumes(t).len()), (vec!["used".to_owned()], 2));
        t.rl(["system", "prune", "-f", "-a", "--volumes"]).run().ok();
        assert_eq!((names().len(), volumes(t)), (0, vec!["named".to_owned()]));
    }

    fn filters_limit_what_is_pruned_and_listed(t: [sub root]) {
        t.keeps_containers();
        for (name, label) in [("old", "keep=no"), ("kept", "keep=yes"), ("plain", "other")] {
            t.rl(["create", "--network", "none", "--name", name, "-l", label, "-v", &format!("{name}:/v"), images::busybox(), "true"]).run().ok();
            t.rl(["network", "create", "-l", label, name]).run().ok();
            t.rl(["volume", "create", "-d", "local", "--label", label, &format!("free-{name}")]).run().ok();
        }
        let left = || t.rl(["ps", "-a", "--format", "{{.Names}}"]).run().ok().out();
        let prune = |kind: &str, filters: &[&str]| {
            let filters = filters.iter().map(|filter| format!("--filter={filter}"));
            t.rl([kind, "prune", "-f"]).args(filters).run().ok().out()
        };
        prune("container", &["until=1h"]);
        prune("container", &["label=keep=maybe"]);
        assert_eq!(left(), "plain\nkept\nold");
        prune("container", &["label=keep", "label!=keep=yes"]);
        assert_eq!(left(), "plain\nkept");
        assert_eq!(prune("network", &["label=keep=no"]), "Deleted Networks:\nold");
        assert!(prune("system", &["label!=keep=yes"]).contains("plain"));
        assert_eq!(left(), "kept");
        assert_eq!(t.rl(["network", "ls", "-q"]).run().ok().out(), "kept");
        let volumes = |filters: &[&str]| {
            let filters = filters.iter().flat_map(|filter| ["-f", filter]);
            t.rl(["volume", "ls", "-q"]).args(filters).run().ok().out()
        };
        assert_eq!(volumes(&["dangling=false"]), "kept");
        assert_eq!(volumes(&["name=free", "label=keep=no"]), "free-old");
        assert_eq!(volumes(&["name=^free-(old|plain)$"]), "free-old\nfree-plain");
        assert_eq!(volumes(&["name=^kept$", "name=-old$"]), "free-old\nkept", "one of a kind");
        assert_eq!(t.rl(["network", "ls", "-q", "-f", "name=^k.pt$", "-f", "name=nothing"]).run().ok().out(), "kept");
        t.rl(["network", "ls", "-f", "name=["]).run().refuses(125, "is no regular expression");
        assert_eq!(volumes(&["dangling=true", "label=other"]), "free-plain");
        assert_eq!(t.rl(["volume", "ls", "--format", "{{.Labels}}", "-f", "name=free-old"]).run().ok().out(), "keep=no");
        t.rl(["volume", "prune", "-a", "-f", "--filter", "label!=keep"]).run().ok();
        assert_eq!(volumes(&["dangling=true"]), "free-kept\nfree-old");
        assert_eq!(t.rl(["volume", "rm", "-f", "free-kept", "gone", "free-old"]).run().ok().out(), "free-kept\ngone\nfree-old");
        t.rl(["volume", "ls", "-f", "colour=red"]).run().refuses(125, "`colour=red` is not a filter");
        t.rl(["container", "prune", "-f", "--filter", "name=x"]).run().refuses(125, "`name=x` is not a filter of `prune`");
        t.rl(["image", "prune", "-a", "-f", "--filter", "until=1h"]).run().ok();
        t.rl(["commit", "kept", "made"]).run().ok();
        let history = |words: &[&str]| t.rl(["history"]).args(words).arg("made").run().ok().out();
        let id = t.rl(["inspect", "-f", "{{.Id}}", "made"]).run().ok().out();
        assert_eq!(history(&["-q", "--no-trunc"]).lines().next(), Some(&*id));
        assert!(history(&["-H=false", "--format", "{{.Size}}"]).lines().all(|size| size.parse::<u64>().is_ok()));
        t.rl(["rm", "kept"]).run().ok();
    }

    fn groups_tell_kinds_apart(t: [sub]) {
        t.keeps_containers();
        let id = t.rl(["pull", images::busybox()]).run().ok().out();
        t.rl(["tag", &id, "same"]).run().ok();
        t.rl(["create", "--name", "same", "same"]).run().ok();
        assert_eq!(t.rl(["container", "inspect", "-f", "{{.Name}}", "same"]).run().ok().out(), "/same");
        assert_eq!(t.rl(["image", "inspect", "-f", "{{.Architecture}}", "same"]).run().ok().out().len(), 5);
        // A container is found before an image, and a network before a volume.
        t.rl(["network", "create", "only"]).run().ok();
        t.rl(["volume", "create", "only"]).run().ok();
        t.rl(["volume", "create", "last"]).run().ok();
        let names = t.rl(["inspect", "-f", "{{.Name}} {{.Driver}}", "same", "only", "nothing", "last"]).run();
        assert_eq!(names.exits(1).complains("called `nothing`").out(), "/same overlay\nonly bridge\nlast local");
        let one = |kind: &str| t.rl(["inspect", "--type", kind, "-f", "{{.Driver}}", "only"]).run();
        assert_eq!((one("network").ok().out(), one("volume").ok().out()), ("bridge".into(), "local".into()));
        one("container").exits(1).complains("no such container: `only`");
        t.rl(["network", "rm", "only"]).run().ok();
        let fits = |word: &str| listed(t, &["ps", "-aq", "--filter", &format!("ancestor={word}")]).len();
        assert_eq!(["same", "same:latest", "docker.io/library/same", "same:other", "sam"].map(fits), [1, 1, 1, 0, 0]);
        t.rl(["container", "rm", "same"]).run().ok();
        t.rl(["container", "inspect", "same"]).run().exits(1).complains("same");
        t.rl(["image", "rm", "same"]).run().ok();
        t.rl(["image", "inspect", "same"]).run().exits(1).complains("same");
        let info: Value = serde_json::from_str(&t.rl(["system", "info"]).run().ok().out()).unwrap();
        assert_eq!((&info["Containers"], &info["Rootless"]), (&json!(0), &json!(true)));
        assert_eq!(info["DataRoot"], json!(t.dir().join("data/rl")));
    }

    fn images_are_listed_by_their_age(t: [sub]) {
        t.keeps_containers();
        t.rl(["create", "--name", "box", "--network", "none", images::busybox()]).run().ok();
        for name in ["first", "second", "third"] {
            t.rl(["commit", "box", name]).run().ok();
        }
        let images = |filters: &[&str]| {
            let filters = filters.iter().flat_map(|filter| ["-f", filter]);
            let words = ["images", "--format", "{{.Repository}}"].into_iter().chain(filters);
            listed(t, &words.collect::<Vec<_>>())
        };
        assert_eq!(images(&["since=first"]), ["second", "third"]);
        // The one that does not say when it was made counts as the oldest.
        assert_eq!(images(&["before=second"]), ["<none>", "first"]);
        assert_eq!(images(&["since=first", "before=third"]), ["second"]);
        assert_eq!(images(&["until=1h"]), ["<none>"]);
        wait_for("the next second", || images(&["until=0s", "reference=s*"]) == ["second"]);
        t.rl(["images", "-f", "since=nothing"]).run().refuses(125, "no image `nothing`");
        t.rl(["images", "-f", "until=soon"]).run().refuses(125, "`until=soon` is not a filter");
        t.rl(["rm", "box"]).run().ok();
    }

    fn each_thing_takes_its_room(t: [sub root]) {
        t.keeps_containers();
        t.rl(["volume", "create", "free"]).run().ok();
        let write = "head -c 3000000 /dev/zero >/file; head -c 2000000 /dev/zero >/v/file";
        t.rl(["run", "--name", "box", "--network", "none", "-v", "data:/v"]).arg(images::busybox()).args(["sh", "-c", write]).run().ok();
        t.rl(["commit", "box", "more"]).run().ok();
        let text = t.rl(["system", "df", "-v"]).run().ok().out();
        let heads: Vec<&str> = text.lines().filter(|line| line.ends_with("space usage:")).collect();
        assert_eq!(heads, ["Images space usage:", "Containers space usage:", "Local Volumes space usage:"]);
        for head in ["SHARED SIZE   UNIQUE SIZE   CONTAINERS", "LOCAL VOLUMES   SIZE", "VOLUME NAME   LINKS     SIZE"] {
            assert!(text.contains(head), "{text}");
        }
        let filled = |format: &str| t.rl(["system", "df", "-v", "--format", format]).run().ok().out();
        let images = filled("{{range .Images}}{{.Repository}} {{.Size}} {{.SharedSize}} {{.UniqueSize}} {{.Containers}}\n{{end}}");
        let more: Vec<&str> = images.lines().find(|line| line.starts_with("more ")).unwrap().split(' ').collect();
        let (size, shared, unique) = (megabytes(more[1]), megabytes(more[2]), megabytes(more[3]));
        assert!(shared > 1.0 && unique > 2.9 && (size - shared - unique).abs() < 0.1, "{images}");
        assert_eq!(more[4], "0");
        assert!(images.lines().any(|line| line.ends_with(" 1") && !line.starts_with("more")), "{images}");
        assert_eq!(filled("{{range .Containers}}{{.Names}} {{.LocalVolumes}}{{end}}"), "box 1");
        let written = filled("{{range .Containers}}{{.Size}}{{end}}");
        assert!((2.9..3.2).contains(&megabytes(&written)), "{written}");
        assert_eq!(filled("{{range .Volumes}}{{.Name}}={{.Links}} {{end}}").trim(), "data=1 free=0");
        let all: serde_json::Value = serde_json::from_str(&filled("json")).unwrap();
        assert_eq!(all["Volumes"][1]["Size"], "0B");
        t.rl(["rm", "-f", "-a"]).run().ok();
    }

    fn a_reset_leaves_nothing(t: [sub nosub unshared root]) {
        let chown = if t.who.has_many_ids() { "chown 5 /v/f; mkdir -m 700 /d; chown 6 /d" } else { "true" };
        detached(t, "running", &["-v", "data:/v", "-v", "/w"], images::busybox(), &format!("echo x >/v/f; {chown}; echo up; exec sleep 1000"));
        wait_for("its files", || t.rl(["logs", "running"]).run().ok().out() == "up");
        detached(t, "ended", &[], images::busybox(), "echo x >/f");
        let damaged = detached(t, "damaged", &[], images::busybox(), "mkdir -m 0 /d; echo x >/f");
        t.rl(["wait", "ended", "damaged"]).run().ok();
        let data = t.dir().join("data/rl");
        fs::write(data.join("containers").join(&damaged).join("spec.json"), "{\"version\": nonsense").unwrap();
        // Those that run, of which the one or the other file is lost.
        let [stateless, nameless, removed] = ["stateless", "nameless", "removed"].map(|name| detached(t, name, &[], images::busybox(), UP));
        let file = |id: &str, name: &str| data.join("containers").join(id).join(name);
        for file in [file(&stateless, "state.json"), file(&nameless, "spec.json"), file(&removed, "state.json")] {
            fs::write(file, "{").unwrap();
        }
        t.rl(["rm", "-f", "removed"]).run().ok();
        assert!(!file(&removed, "spec.json").exists());
        t.rl(["system", "reset"]).stdin("no\n").run().ok().complains("[y/N]");
        assert!(listed(t, &["ps", "-a", "--format", "{{.Names}}"]).contains(&"running".to_owned()));
        t.rl(["system", "reset", "-f"]).run().ok();
        t.quiet();
        let left: Vec<_> = fs::read_dir(&data).into_iter().flatten().flatten().map(|entry| entry.path()).collect();
        assert!(left.is_empty(), "{left:?}");
        // And it goes on from there.
        t.run(["true"]).run().ok();
        assert_eq!(volumes(t), [""; 0]);
    }
}
