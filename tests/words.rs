//! What people read: help, suggestions, completion, manual pages, and the examples in all of these and in
//! the README, which are executed.

#[macro_use]
mod support;

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use clap::CommandFactory as _;
use rl::cli::{Cli, manual};
use rustix::process::Signal;
use serde_json::json;
use support::images::Layer;
use support::{Env, Identity, Image, images, wait_for};

/// The verbs that help shows.
fn verbs() -> Vec<clap::Command> {
    let command = Cli::command();
    command
        .get_subcommands()
        .filter(|verb| !verb.is_hide_set())
        .cloned()
        .collect()
}

/// A directory for PATH with the program under test as `rl` in it.
fn path_with_rl(t: &Env) -> String {
    let dir = t.path("bin");
    if !dir.exists() {
        fs::create_dir(&dir).unwrap();
        std::os::unix::fs::symlink(support::binary(), dir.join("rl")).unwrap();
    }
    format!("{}:{}", dir.display(), std::env::var("PATH").unwrap())
}

/// `RL_UPDATE=1 cargo test --test words` writes them anew.
#[test]
fn help_is_a_snapshot() {
    let Some(t) = Env::new(Identity::Sub) else {
        return;
    };
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/help");
    let update = std::env::var_os("RL_UPDATE").is_some();
    let mut wanted = vec![
        ("rl".to_owned(), vec!["--help".to_owned()]),
        ("alone".to_owned(), Vec::new()),
    ];
    wanted.extend(verbs().iter().map(|v| {
        (
            v.get_name().to_owned(),
            vec![v.get_name().to_owned(), "--help".to_owned()],
        )
    }));
    let mut names: Vec<String> = wanted
        .iter()
        .map(|(name, _)| format!("{name}.txt"))
        .collect();
    for (name, words) in wanted {
        let output = t.rl(&words).run().ok();
        assert_eq!(output.err(), "", "{name}");
        let path = dir.join(format!("{name}.txt"));
        if update {
            fs::create_dir_all(&dir).unwrap();
            fs::write(&path, &output.stdout).unwrap();
        }
        let before = fs::read_to_string(&path).unwrap_or_default();
        assert_eq!(
            String::from_utf8_lossy(&output.stdout),
            before,
            "{}: RL_UPDATE=1 writes it anew",
            path.display()
        );
    }
    let mut there: Vec<String> = fs::read_dir(&dir)
        .unwrap()
        .map(|e| e.unwrap().file_name().into_string().unwrap())
        .collect();
    there.sort();
    names.sort();
    assert_eq!(there, names, "stale files in {}", dir.display());
}

#[test]
fn everything_is_described() {
    for verb in verbs() {
        assert!(verb.get_about().is_some(), "{}", verb.get_name());
        for arg in verb.get_arguments().filter(|arg| !arg.is_hide_set()) {
            assert!(
                arg.get_help().is_some(),
                "{} {}",
                verb.get_name(),
                arg.get_id()
            );
        }
        let examples = manual::EXAMPLES
            .iter()
            .find(|(name, _)| *name == verb.get_name());
        assert!(
            examples.is_some_and(|(_, list)| !list.is_empty()),
            "no example of `{}`",
            verb.get_name()
        );
    }
}

#[test]
fn manual_pages_render_without_a_warning() {
    let Some(t) = Env::new(Identity::Sub) else {
        return;
    };
    if !support::have("man") {
        return;
    }
    let dir = t.directory("man");
    t.rl(["man"]).arg(&dir).run().ok();
    let mut names = vec!["rl".to_owned()];
    names.extend(verbs().iter().map(|verb| format!("rl-{}", verb.get_name())));
    for name in &names {
        let page = dir.join(format!("{name}.1"));
        let output = Command::new("man")
            .args(["--warnings", "-l"])
            .arg(&page)
            .env("LC_ALL", "C.UTF-8")
            .env("MANWIDTH", "80")
            .output()
            .unwrap();
        assert!(
            output.status.success() && output.stderr.is_empty(),
            "{name}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        for head in [
            "NAME",
            "SYNOPSIS",
            "DESCRIPTION",
            "OPTIONS",
            "EXIT STATUS",
            "EXAMPLES",
            "FILES",
            "ENVIRONMENT",
        ] {
            assert!(
                text.lines().any(|line| line == head),
                "{name}: no {head}\n{text}"
            );
        }
    }
    assert_eq!(fs::read_dir(&dir).unwrap().count(), names.len());
    t.rl(["man", "/no/such"])
        .run()
        .refuses(125, "`/no/such`")
        .complains("hint: mkdir -p /no/such");
}

identities! {
    fn suggestions(t: [sub]) {
        let says = |words: &[&str], error: &str, hint: &str| {
            let err = t.rl(words).run().refuses(125, error).err();
            assert!(err.lines().count() == 2 && err.contains(&format!("hint: {hint}")), "{err}");
        };
        says(&["runn", "x"], "unknown verb `runn`", "did you mean `rl run`?");
        says(&["imgaes"], "unknown verb `imgaes`", "did you mean `rl images`?");
        says(&["prune"], "unknown verb `prune`", "it stands behind a group: `rl volume prune`, ");
        says(&["kill", "-s", "NONE", "box"], "`--signal NONE`: no such signal", "such as `--signal TERM`");
        says(&["frobnicate"], "unknown verb `frobnicate`", "`rl help` lists the verbs");
        says(&["swarm"], "`swarm`: the verb of docker and podman is not there yet", "`rl help`");
        says(&["images", "--quite"], "unknown option `--quite`", "did you mean `--quiet`?");
        says(&["ps", "--xyzzy"], "unknown option `--xyzzy`", "`rl ps --help`");
        says(&["run", "--nmae", "x", "y"], "unknown option `--nmae`", "did you mean `--name`?");
        says(&["tag", "a", "b", "c"], "one word too many: `c`", "`rl tag --help`");
        says(&["rmi"], "required arguments were not provided", "`rl rmi --help`");
    }

    fn the_version_is_told(t: [sub]) {
        let (number, arch) = (env!("CARGO_PKG_VERSION"), match std::env::consts::ARCH { "x86_64" => "amd64", "aarch64" => "arm64", other => other });
        let told = |words: &[&str]| t.rl(["version"]).args(words).run().ok().out();
        assert_eq!(told(&[]), format!("Client:\n Version:  {number}\n OS/Arch:  linux/{arch}"));
        assert_eq!(told(&["--format", "{{.Client.Version}} {{.Client.Os}}"]), format!("{number} linux"));
        let json: serde_json::Value = serde_json::from_str(&told(&["-f", "json"])).unwrap();
        assert_eq!(json, json!({"Client": {"Version": number, "Os": "linux", "Arch": arch, "OsArch": format!("linux/{arch}")}}));
        t.rl(["version", "-f", "{{.Server.Version}}"]).run().refuses(125, "Server");
    }

    fn colours_only_where_they_are_wanted(t: [sub]) {
        let shown = |no_color: &str| {
            let mut terminal = t.rl(["frobnicate"]).env("NO_COLOR", no_color).terminal();
            terminal.wait();
            terminal.shown()
        };
        assert!(shown("").contains("\u{1b}[31merror:\u{1b}[m unknown verb"));
        assert!(!shown("1").contains('\u{1b}'), "{:?}", shown("1"));
        assert!(!t.rl(["frobnicate"]).run().exits(125).err().contains('\u{1b}'));
        // Whoever asks for silence gets data alone.
        let id = t.rl(["pull", "--quiet", images::busybox()]).run().ok();
        assert_eq!((id.err().as_str(), id.out().len()), ("", 64));
        let output = t.rl(["run", "--rm", "--quiet", "--network", "none", images::busybox(), "true"]).run().ok();
        assert_eq!((output.out().as_str(), output.err().as_str()), ("", ""));
    }

    fn completion_in_bash(t: [sub nosub]) {
        t.keeps_containers();
        let id = t.rl(["pull", images::busybox()]).run().ok().out();
        for name in ["debian:bookworm", "debian", "quay.io/a/app:1"] {
            t.rl(["tag", &id, name]).run().ok();
        }
        t.rl(["run", "--quiet", "--network", "none", "--name", "web-1", "debian", "true"]).run().ok();
        let offers = |line: &str| {
            let script = "eval \"$(rl completion bash)\"; COMP_LINE=$1; COMP_POINT=${#COMP_LINE}; _rl; printf '%s\\n' \"${COMPREPLY[@]}\"";
            let output = t.program("bash").args(["-c", script, "bash", line]).env("PATH", path_with_rl(t)).run().ok();
            assert_eq!(output.err(), "");
            output.out().lines().map(str::to_owned).collect::<Vec<_>>()
        };
        assert_eq!(offers("rl run deb"), ["debian", "debian:bookworm", "debian:latest"]);
        // Readline has taken what is before the colon for a word of its own.
        assert_eq!(offers("rl run --rm debian:b"), ["bookworm"]);
        assert_eq!(offers("rl rmi q"), ["quay.io/a/app:1"]);
        assert_eq!(offers("rl rm "), ["web-1"]);
        assert_eq!(offers("rl rm -f w"), ["web-1"]);
        assert_eq!(offers("rl run --network p"), ["pasta"]);
        assert_eq!(offers("rl run --cap-add SYS_TI"), ["SYS_TIME"]);
        assert_eq!(offers("rl run --name x --rootf"), ["--rootfs"]);
        assert_eq!(offers("rl enable w"), ["web-1"]);
        assert_eq!(offers("rl generate s"), ["systemd"]);
        assert_eq!(offers("rl generate systemd --res"), ["--restart-policy"]);
        assert_eq!(offers("rl generate systemd --new w"), ["web-1"]);
        assert_eq!(offers("rl ima"), ["image", "images"]);
        // Below a group, what is of its kind.
        assert_eq!(offers("rl container st"), ["start", "stats", "stop"]);
        assert_eq!(offers("rl container inspect "), ["web-1"]);
        // Only those that the verb can do something with.
        assert!(offers("rl container stop w").is_empty() && offers("rl kill w").is_empty());
        assert_eq!(offers("rl start "), ["web-1"]);
        t.rl(["run", "-d", "--quiet", "--network", "none", "--name", "up", "debian", "sleep", "1000"]).run().ok();
        t.rl(["run", "-d", "--quiet", "--network", "none", "--name", "held", "debian", "sleep", "1000"]).run().ok();
        t.rl(["pause", "held"]).run().ok();
        for (verb, names) in [("stop", &["held", "up"][..]), ("kill", &["held", "up"]), ("pause", &["up"]), ("unpause", &["held"]), ("start", &["web-1"]), ("exec", &["up"]), ("top", &["held", "up"])] {
            assert_eq!(offers(&format!("rl {verb} ")), *names, "{verb}");
        }
        t.rl(["rm", "-f", "up", "held"]).run().ok();
        assert_eq!(offers("rl run --restart "), ["always", "no", "on-failure", "unless-stopped"]);
        assert_eq!(offers("rl update --restart u"), ["unless-stopped"]);
        assert_eq!(offers("rl wait --condition h"), ["healthy"]);
        assert_eq!(offers("rl run --volumes-from s"), offers("rl rm s"));
        assert_eq!(offers("rl image rm q"), ["quay.io/a/app:1"]);
        assert_eq!(offers("rl history debian:b"), ["bookworm"]);
        assert_eq!(offers("rl system "), ["df", "events", "help", "info", "prune", "reset"]);
        t.rl(["volume", "create", "data"]).run().ok();
        assert_eq!(offers("rl volume rm "), ["data"]);
        t.rl(["network", "create", "backend"]).run().ok();
        assert_eq!(offers("rl network rm "), ["backend"]);
        assert_eq!(offers("rl run --network b"), ["backend"]);
        // A container with a path in it, or a file, which is left to the shell.
        assert_eq!(offers("rl cp file w"), ["web-1:"]);
        assert!(offers("rl cp ").is_empty() && offers("rl cp web-1:").is_empty());
        assert_eq!(offers("rl commit w"), ["web-1"]);
        assert!(offers("rl ").contains(&"bootstrap".to_owned()) && !offers("rl ").contains(&"__complete".to_owned()));
        // The command inside is nobody's business here, nor is a name for something new.
        assert!(offers("rl run debian deb").is_empty());
        assert!(offers("rl run --name deb").is_empty());

        // As a person presses the key.
        let rc = t.file("rc", "PS1='ready> '; bind 'set enable-bracketed-paste off'; eval \"$(rl completion bash)\"\n");
        let mut terminal = t.program("bash").args(["--rcfile"]).arg(&rc).arg("-i").env("PATH", path_with_rl(t)).terminal();
        terminal.expect("ready> ");
        terminal.send("rl rm web\t");
        terminal.expect("web-1 ");
        terminal.send("\u{15}rl run debian:b\t");
        terminal.expect("debian:bookworm ");
        // What is no word of ours is a file.
        t.file("base.tar", "");
        terminal.send("\u{15}rl load -i ba\t");
        terminal.expect("base.tar ");
        terminal.send("\u{15}exit\n");
        terminal.exits(0);
    }
}

/// A container `web-1` and images to be offered.
fn something_to_offer(t: &Env) {
    t.keeps_containers();
    let id = t.rl(["pull", images::busybox()]).run().ok().out();
    for name in ["debian:bookworm", "debian"] {
        t.rl(["tag", &id, name]).run().ok();
    }
    let run = ["run", "--quiet", "--network", "none", "--name", "web-1"];
    t.rl(run).args(["debian", "true"]).run().ok();
    t.file("base.tar", "");
}

#[test]
fn completion_in_fish() {
    let Some(t) = Env::new(Identity::Sub) else {
        return;
    };
    if !support::have("fish") {
        return;
    }
    something_to_offer(&t);
    let offers = |line: &str| {
        let script = "rl completion fish | source; complete --do-complete $argv[1]";
        let fish = t.program("fish").args(["--no-config", "-c", script, line]);
        let output = fish.env("PATH", path_with_rl(&t)).run().ok();
        assert_eq!(output.err(), "");
        output.out().lines().map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(
        offers("rl run deb"),
        ["debian", "debian:bookworm", "debian:latest"]
    );
    assert_eq!(offers("rl run --rm debian:b"), ["debian:bookworm"]);
    assert_eq!(offers("rl rm -f w"), ["web-1"]);
    assert_eq!(offers("rl run --name x --rootf"), ["--rootfs"]);
    assert_eq!(offers("rl container st"), ["start", "stats", "stop"]);
    assert_eq!(offers("rl load -i ba"), ["base.tar"]);
    assert!(offers("rl run debian deb").is_empty());
}

#[test]
fn completion_in_zsh() {
    let Some(t) = Env::new(Identity::Sub) else {
        return;
    };
    if !support::have("zsh") {
        return;
    }
    something_to_offer(&t);
    // As one would have it in an own set-up, and as `contrib/install` does.
    let own = "source <(rl completion zsh)";
    let functions = t.directory("functions");
    let script = t.rl(["completion", "zsh"]).run().ok();
    fs::write(functions.join("_rl"), script.stdout).unwrap();
    let installed = format!("fpath=({} $fpath)", functions.display());
    let load = "autoload -U compinit; compinit -D -u";
    for rc in [format!("{load}; {own}"), format!("{installed}; {load}")] {
        t.file(
            ".zshrc",
            format!("unsetopt zle_bracketed_paste prompt_sp; PS1='ready> '; {rc}\n"),
        );
        let zsh = t.program("zsh").arg("-i");
        let zsh = zsh
            .env("PATH", path_with_rl(&t))
            .env("ZDOTDIR", t.path("."));
        let mut terminal = zsh.env("TERM", "dumb").terminal();
        terminal.expect("ready> ");
        for (typed, completed) in [
            ("rl rm web\t", "web-1 "),
            ("rl run debian:b\t", "debian:bookworm "),
            ("rl run --rootf\t", "--rootfs "),
            ("rl load -i ba\t", "base.tar "),
        ] {
            terminal.send(typed);
            terminal.expect(completed);
            terminal.send("\u{15}");
        }
        terminal.send("exit\n");
        terminal.exits(0);
    }
}

/// The other shells read their scripts; where one is installed, that is checked.
#[test]
fn completion_scripts_of_other_shells() {
    let Some(t) = Env::new(Identity::Sub) else {
        return;
    };
    for (shell, sign) in [
        ("zsh", "#compdef rl"),
        ("fish", "complete --command rl"),
        ("elvish", "edit:completion"),
        ("powershell", "Register-ArgumentCompleter"),
    ] {
        let script = t.rl(["completion", shell]).run().ok();
        assert!(script.out().contains(sign), "{shell}: {}", script.out());
        let installed = std::env::split_paths(&std::env::var_os("PATH").unwrap())
            .any(|dir| dir.join(shell).exists());
        if installed && ["zsh", "fish"].contains(&shell) {
            let path = t.file(shell, &script.stdout);
            let output = t.program(shell).arg("-n").arg(path).run().ok();
            assert_eq!(output.err(), "");
        }
    }
}

/// The surroundings in which the examples make sense: images of the names they use, each of them the small one.
fn prepare(t: &Env) -> Tour<'_> {
    t.keeps_containers();
    let make = Layer::new().file("bin/make", 0o755, "#!/bin/sh\nls Makefile\n");
    let web = json!([
        "sh",
        "-c",
        "echo hello >/tmp/index.html; exec httpd -f -p 80 -h /tmp"
    ]);
    let release = Layer::new().file("etc/os-release", 0o644, "ID=tour\n");
    for (names, image) in [
        (
            vec!["debian", "debian:bookworm", "ubuntu"],
            Image::busybox()
                .layer(release)
                .layer(make.clone())
                .config("Cmd", json!(["sh"])),
        ),
        (vec!["gcc"], Image::busybox().layer(make)),
        (vec!["nginx"], Image::busybox().config("Cmd", web)),
    ] {
        let id = t
            .rl(["pull", &image.write_for(t, names[0])])
            .run()
            .ok()
            .out();
        for name in names {
            t.rl(["tag", &id, name]).run().ok();
        }
    }
    t.file("Makefile", "all:\n");
    let install = t.file("install.sh", "#!/bin/sh\necho new >\"$HOME\"/installed\n");
    fs::set_permissions(&install, fs::Permissions::from_mode(0o755)).unwrap();
    let port = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port();
    let tour = Tour { t, port };
    tour.sh("rl save --format oci-archive -o image.tar debian; mkdir tree; rl run --rm debian sh -c 'tar -c bin etc' | tar -x -C tree; tar -cf tree.tar -C tree .");
    tour.sh("rl run --name NAME debian true; rl run --name web debian true");
    tour.sh("rl run --name try host true");
    tour
}

struct Tour<'a> {
    t: &'a Env,
    port: u16,
}

impl Tour<'_> {
    fn sh(&self, line: &str) {
        let path = path_with_rl(self.t);
        let output = self
            .t
            .sh(&format!("set -e; {line}"))
            .env("PATH", path)
            .run();
        let (out, err) = (output.out(), output.err());
        assert!(output.status.success(), "{line}\n{out}\n{err}");
    }

    /// Executes an example as it stands, but for what the table in here says.
    fn example(&self, line: &str) {
        // Not here: tests/bootstrap.rs makes images from packages.
        // And tests/failing_well.rs is a server that has trees.
        if line.starts_with("rl bootstrap") || line.starts_with("rl import https:") {
            return;
        }
        let line = line
            // No registry is asked: the image comes from a directory.
            .replace(
                "rl pull debian:bookworm",
                &format!("rl pull {}", images::busybox()),
            )
            // Nobody is asked.
            .replace("rl apply ", "rl apply --yes ")
            .replace("--apply ", "--apply=yes ")
            // It has to end.
            .replace(
                "rl attach db",
                "(sleep 0.5; rl stop -t 0 db) & rl attach --no-stdin db || [ $? = 143 ]; wait; rl start db",
            )
            // It was removed further up.
            .replace(
                "rl update --memory 1g db",
                "rl run -d --name db debian sleep 1000; rl update --memory 1g db || no=$?; rl rm -f db; exit $no",
            )
            // One that has a check.
            .replace(
                "rl healthcheck run db",
                "rl run -d --name well --health-cmd true debian sleep 1000; rl healthcheck run well; rl rm -f well",
            )
            // The one that is there for `rl apply` alone.
            .replace("--name try ", "--name tried ")
            // A port that nobody has.
            .replace("-p 8080:", &format!("-p 127.0.0.1:{}:", self.port));
        if line.ends_with(" nginx") {
            return self.served(&line);
        }
        if let Some(lack) = lack_of(&line) {
            return self.done_or_lacking(&line, lack);
        }
        self.sh(&line);
    }

    /// What takes control groups, or a systemd of the user's (tests/vm has both, and tests/quadlet.rs one of the latter):
    /// it is done, or says that the machine lacks them and what helps.
    fn done_or_lacking(&self, line: &str, lack: &str) {
        let program = self.t.sh(line).env("PATH", path_with_rl(self.t));
        let output = program.run();
        if !output.status.success() {
            // 125 where a container was to be started.
            let status = output.code();
            assert!([1, 125].contains(&status), "{line}: {status}");
            let err = output.refuses(status, lack).err();
            assert!(err.contains("\nhint: "), "{line}: {err}");
        }
    }

    /// A server: it answers, and ends when it is interrupted.
    fn served(&self, line: &str) {
        let running = self
            .t
            .sh(&format!("exec {line}"))
            .env("PATH", path_with_rl(self.t))
            .spawn();
        wait_for("the server's answer", || {
            let Ok(mut stream) = TcpStream::connect(("127.0.0.1", self.port)) else {
                return false;
            };
            let mut answer = String::new();
            let asked = stream.write_all(b"GET /index.html HTTP/1.0\r\n\r\n");
            asked
                .and_then(|()| stream.read_to_string(&mut answer))
                .is_ok()
                && answer.ends_with("hello\n")
        });
        running.signal(Signal::INT);
        running.wait().exits(130);
    }
}

/// What a line needs that not every machine has.
fn lack_of(line: &str) -> Option<&'static str> {
    if line.contains(" --memory ") {
        return Some("--memory");
    }
    let units = line.starts_with("rl enable") || line.starts_with("rl disable");
    units.then_some("systemd")
}

/// The command lines of the README's tour: comments off, several in a line apart.
fn tour_of_the_readme() -> Vec<String> {
    let path: PathBuf = [env!("CARGO_MANIFEST_DIR"), "README.md"].iter().collect();
    let text = fs::read_to_string(path).unwrap();
    let (_, tour) = text
        .split_once("\n## A tour\n")
        .expect("a tour in the README");
    let tour = tour.split("\n## ").next().unwrap();
    let is_code = |line: &&str| line.starts_with("    ");
    // What else stands there is what `tests/quickstart.rs` runs, and this.
    let others = text
        .lines()
        .filter(is_code)
        .filter(|line| !tour.contains(*line));
    let others: Vec<_> = others
        .filter_map(|line| line.split_whitespace().next())
        .collect();
    assert_eq!(others, ["contrib/quickstart", "contrib/test"]);
    let code = tour
        .lines()
        .filter(is_code)
        .filter_map(|line| line.split(" #").next());
    code.flat_map(|line| {
        line.split("  rl ")
            .map(str::trim)
            .filter(|part| !part.is_empty())
            .map(|part| format!("rl {}", part.trim_start_matches("rl ")))
            .collect::<Vec<_>>()
    })
    .collect()
}

#[test]
fn the_readme_is_true() {
    let Some(t) = Env::new(Identity::Sub) else {
        return;
    };
    let lines = tour_of_the_readme();
    assert!(lines.len() >= 15, "{lines:#?}");
    let tour = prepare(&t);
    for line in &lines {
        tour.example(line);
    }
}

#[test]
fn the_manual_is_true() {
    let Some(t) = Env::new(Identity::Sub) else {
        return;
    };
    let tour = prepare(&t);
    tour.sh("rl tag debian my/base; rl save -o base.tar debian");
    for (_, examples) in manual::EXAMPLES {
        for (line, _) in *examples {
            tour.example(line);
        }
    }
}
