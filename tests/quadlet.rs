//! Quadlet files, units of existing containers, `rl enable`: held against systemd itself, which reads what is written
//! here (systemd-analyze(1)) and runs it (a user manager in a mount namespace of its own).

#[macro_use]
mod support;

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use clap::{Args as _, CommandFactory as _};
use rl::engine::run_args::RunArgs;
use rl::quadlet::parse::Unit;
use rl::quadlet::{container, words};
use support::{Env, Identity, images, skip};

/// Writes Quadlet files where `rl` looks for those of the user.
fn quadlet(t: &Env, files: &[(&str, String)]) -> PathBuf {
    let dir = t.dir().join("home/.config/containers/systemd");
    for (name, text) in files {
        let path = dir.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    dir
}

fn container(exec: &str, more: &str) -> String {
    let image = images::busybox();
    format!("[Container]\nImage={image}\nNetwork=none\nExec={exec}\n{more}\n")
}

/// The same on the network of another file.
fn on_network(network: &str, exec: &str, more: &str) -> String {
    let network = format!("Network={network}");
    container(exec, more).replacen("Network=none", &network, 1)
}

/// The values of a key in a unit's text.
fn values(text: &str, key: &str) -> Vec<String> {
    let unit = Unit::parse(Path::new("/unit"), text).unwrap();
    let all = unit
        .sections
        .into_iter()
        .flat_map(|section| section.entries);
    all.filter(|entry| entry.key == key)
        .map(|entry| entry.value)
        .collect()
}

/// The words of a command line, specifiers and variables of one that shall have none undone.
fn literal(line: &str) -> Vec<String> {
    let words = words::split(line).unwrap();
    words
        .into_iter()
        .map(|word| word.replace("%%", "%").replace("$$", "$"))
        .collect()
}

/// Options that keys become are options there are.
#[test]
fn every_key_is_an_option_of_run() {
    let command = RunArgs::augment_args(clap::Command::new("run"));
    let longs: Vec<_> = command
        .get_arguments()
        .filter_map(|arg| arg.get_long())
        .collect();
    for option in container::options() {
        assert!(longs.contains(&option.trim_start_matches('-')), "{option}");
    }
    // Those of the other lines.
    let rl = rl::cli::Cli::command();
    for (verb, option) in [
        ("stop", "ignore"),
        ("rm", "ignore"),
        ("rm", "force"),
        ("rm", "volumes"),
        ("kill", "signal"),
    ] {
        let verb = rl.find_subcommand(verb).unwrap();
        assert!(
            verb.get_arguments()
                .any(|arg| arg.get_long() == Some(option)),
            "{option}"
        );
    }
}

identities! {
    fn a_manager_that_hears_nothing_is_told_of(t: [nosub]) {
        let run = t.run(["echo", "done"]).env("NOTIFY_SOCKET", "/no/such/socket").run().ok();
        assert_eq!(run.complains("does not hear that the command runs: sendto(`/no/such/socket`)").out(), "done");
    }

    fn files_become_services(t: [sub root]) {
        let dir = quadlet(t, &[
            ("web.container", container("sh -c 'echo \"%%\"'", "Volume=data.volume:/d\n[Install]\nWantedBy=default.target")),
            ("data.volume", "[Volume]\nLabel=\"a=b c\"\n".to_owned()),
            ("each@.container", container("sleep %i", "[Install]\nWantedBy=default.target\nDefaultInstance=9")),
            ("bad.container", container("x", "Secret=x")),
            ("net.network", "[Network]\nGateway=10.7.0.9\nSubnet=10.7.0.0/24".to_owned()),
            ("odd.network", "[Network]\nOptions=x\n".to_owned()),
            ("on.container", on_network("net.network", "x", "")),
        ]);
        let output = t.rl(["generate", "quadlet", "--user", "--dry-run"]).run().exits(1);
        let (out, err) = (output.out(), output.err());
        for name in ["web.service", "data-volume.service", "net-network.service", "each@.service"] {
            assert!(out.contains(&format!("---{name}---\n")), "{out}");
        }
        for line in [
            format!("error: {}/bad.container:5: `Secret=` of podman is not there yet", dir.display()),
            format!("error: {}/odd.network:2: `Options=` of podman is not there yet", dir.display()),
        ] {
            assert!(err.contains(&line), "{err}");
        }
        assert_eq!(err.matches("hint: ").count(), 2, "{err}");

        let units = t.path("units");
        t.rl(["generate", "quadlet", "--user"]).arg(&units).arg(t.path("early")).arg(t.path("late")).run().exits(1);
        assert!(units.join("default.target.wants/each@9.service").exists());
        assert!(!t.path("early").exists());
        verified(t, &units, &["web.service", "data-volume.service", "on.service", "net-network.service", "each@9.service"]);

        // The same under the name of a generator, called by systemd itself.
        for bad in ["bad.container", "odd.network"] {
            fs::remove_file(dir.join(bad)).unwrap();
        }
        let generators = t.directory("generators");
        symlink(support::binary(), generators.join("rl-generator")).unwrap();
        if support::have("systemd-analyze") {
            let verify = ["--user", "--man=no", "--generators=yes", "verify", "web.service", "each@1.service"];
            let output = t.program("systemd-analyze").args(verify).env("SYSTEMD_GENERATOR_PATH", &generators).run().ok();
            assert_eq!(output.err(), "");
        }
    }

    fn a_container_gets_a_unit(t: [sub nosub root]) {
        t.keeps_containers();
        // What systemd, a shell or a terminal could take for its own.
        let odd = ["a b", "50% $HOME ${A} $$", "\"'\\", "", ";", "-n", "tab\there", "line\nbreak", "ä"];
        let made = ["create", "--name", "odd", "--network", "none", "-e", "A=x y", "--stop-signal", "INT", "--stop-timeout", "7"];
        let run = t.rl(made).args(["-i", "--restart", "always", "--label", "a=b"]).arg(images::busybox());
        let id = run.args(["printf", "%s\\n"]).args(odd).run().ok().out();

        let text = t.rl(["generate", "systemd", "odd"]).run().ok().out();
        let rl = t.installed().display().to_string();
        assert_eq!(literal(&values(&text, "ExecStart")[0]), [rl.as_str(), "start", "--attach", &id]);
        assert_eq!(literal(&values(&text, "ExecStop")[0]), [rl.as_str(), "stop", "--ignore", "--time=7", &id]);
        assert_eq!(values(&text, "SuccessExitStatus"), ["143 130"]);
        assert_eq!(values(&text, "Restart"), ["on-failure"]);

        let named = ["generate", "systemd", "--name", "--restart-policy", "always", "--time", "3", "odd"];
        let text = t.rl(named).run().ok().out();
        assert_eq!(literal(&values(&text, "ExecStart")[0])[3], "odd");
        assert_eq!(values(&text, "Restart"), ["always"]);
        assert_eq!(values(&text, "TimeoutStopSec"), ["33"]);

        let path = t.rl(["generate", "systemd", "--new", "--files", "odd"]).run().ok().out();
        assert_eq!(path, t.path("container-odd.service").canonicalize().unwrap().display().to_string());
        let text = fs::read_to_string(&path).unwrap();
        let start = literal(&values(&text, "ExecStart")[0]);
        assert_eq!(start[..6], [rl.as_str(), "run", "--rm", "--replace", "--name=odd", "--cgroups=split"]);
        let at = start.iter().position(|word| word == images::busybox()).unwrap();
        let mut options = start[6..at].to_vec();
        options.sort();
        assert_eq!(options, ["--env=A=x y", "--label=a=b", "--network=none", "--stop-signal=INT", "--stop-timeout=7"]);
        assert_eq!(start[at + 1..at + 3], ["printf", "%s\\n"]);
        assert_eq!(start[at + 3..], odd);
        assert_eq!(values(&text, "WorkingDirectory"), [t.path(".").canonicalize().unwrap().display().to_string()]);
        verified(t, &t.path("."), &["container-odd.service"]);
        // Those words make the same container, and `--replace` takes the place of the old one.
        let output = t.program(&start[0]).args(&start[1..]).run().ok();
        let shown: String = odd.iter().map(|word| format!("{word}\n")).collect();
        assert_eq!(String::from_utf8_lossy(&output.stdout), shown);

        t.rl(["create", "--rm", "--name", "gone", images::busybox(), "true"]).run().ok();
        t.rl(["generate", "systemd", "gone"]).run().refuses(125, "container `gone` is removed when it ends")
            .complains("hint: `rl generate systemd --new gone`");
        t.rl(["generate", "systemd", "nobody"]).run().refuses(125, "no such container: `nobody`");
    }

    fn enabling_wants_a_manager(t: [sub]) {
        t.keeps_containers();
        t.rl(["create", "--name", "db", images::busybox(), "true"]).run().ok();
        let none = t.rl(["enable", "db"]).run().refuses(125, "no systemd runs for user `");
        none.complains("hint: log in as ").complains("loginctl enable-linger ");
        let units = t.dir().join("home/.config/systemd/user");
        assert!(!units.exists());
        t.rl(["enable", "nobody"]).run().refuses(125, "no such container: `nobody`");

        // One that only notes what it is asked.
        let bin = t.directory("bin");
        let systemctl = bin.join("systemctl");
        fs::write(&systemctl, "#!/bin/sh\necho \"$@\" >>\"$HOME\"/asked\n").unwrap();
        fs::set_permissions(&systemctl, fs::Permissions::from_mode(0o755)).unwrap();
        let path = format!("{}:{}", bin.display(), std::env::var("PATH").unwrap());
        fs::create_dir(t.dir().join("run/systemd")).unwrap();
        let socket = UnixListener::bind(t.dir().join("run/systemd/private")).unwrap();
        t.own(&t.dir().join("run/systemd"));
        let rl = |words: &[&str]| t.rl(words).env("PATH", &path).run();
        let asked = || {
            let text = fs::read_to_string(t.dir().join("home/asked")).unwrap();
            fs::remove_file(t.dir().join("home/asked")).unwrap();
            text
        };
        let output = rl(&["enable", "--now", "db"]).ok();
        let unit = units.join("rl-db.service");
        assert_eq!(output.out(), unit.display().to_string());
        let lingers = Path::new("/var/lib/systemd/linger").join(support::identity::name_of(t.uid())).exists();
        assert_eq!(output.err().contains("`loginctl enable-linger "), !lingers, "{}", output.err());
        assert_eq!(asked(), "--user daemon-reload\n--user enable --now rl-db.service\n");
        assert!(fs::read_to_string(&unit).unwrap().contains("start --attach db\n"));
        assert_eq!(fs::read_dir(&units).unwrap().count(), 1);
        // Again is no error; a file of somebody else's is.
        rl(&["enable", "db"]).ok();
        assert_eq!(asked(), "--user daemon-reload\n--user enable rl-db.service\n");
        rl(&["disable", "--now", "db"]).ok();
        assert_eq!(asked(), "--user disable --now rl-db.service\n--user daemon-reload\n");
        assert!(!unit.exists());
        rl(&["disable", "db"]).refuses(125, "`rl-db.service` is not enabled");
        fs::write(&unit, "[Service]\nExecStart=/bin/true\n").unwrap();
        rl(&["enable", "db"]).refuses(125, "is there and was not written by rl");
        rl(&["disable", "db"]).refuses(125, "is there and was not written by rl");
        fs::remove_file(&unit).unwrap();
        fs::write(&systemctl, "#!/bin/sh\necho no bus >&2; exit 1\n").unwrap();
        rl(&["enable", "db"]).refuses(125, "`systemctl --user daemon-reload`: no bus").complains("hint: ");
        drop(socket);
        fs::remove_dir_all(t.dir().join("run/systemd")).unwrap();
    }

    fn what_does_not_exist_is_stopped_and_removed(t: [sub]) {
        t.rl(["stop", "nobody"]).run().exits(1);
        t.rl(["rm", "nobody"]).run().exits(1);
        assert_eq!(t.rl(["stop", "--ignore", "nobody"]).run().ok().err(), "");
        assert_eq!(t.rl(["rm", "-f", "--ignore", "nobody"]).run().ok().err(), "");
    }
}

/// systemd reads units in a directory without a word.
fn verified(t: &Env, dir: &Path, units: &[&str]) {
    if !support::have("systemd-analyze") {
        return;
    }
    for unit in units {
        let output = t
            .program("systemd-analyze")
            .args(["--user", "--man=no", "verify"])
            .arg(dir.join(unit))
            .env("SYSTEMD_UNIT_PATH", format!("{}:", dir.display()))
            .run()
            .ok();
        assert_eq!(output.err(), "", "{unit}");
    }
}

/// A user manager that believes that systemd booted this machine (sd_booted(3)): with a `/run` and a cgroup tree of its
/// own, in a mount namespace. What is asked of it comes on standard input.
const MANAGER: &str = r#"
set -e
mount --make-rprivate /
mount -t cgroup2 none /sys/fs/cgroup
mount -t tmpfs none /run
mkdir -p /run/systemd/system "/sys/fs/cgroup/$GROUP"
echo $$ >"/sys/fs/cgroup/$GROUP/cgroup.procs"
"$MANAGER" --user --unit=default.target --log-target=null &
manager=$!
finish() {
    status=$?
    systemctl --user exit || kill -9 $manager
    wait $manager || true
    echo $$ >/sys/fs/cgroup/cgroup.procs
    until find "/sys/fs/cgroup/$GROUP" -depth -type d -exec rmdir {} + 2>/dev/null; do sleep 0.05; done
    find "$XDG_RUNTIME_DIR" -mindepth 1 -maxdepth 1 ! -name rl -exec rm -rf {} +
    exit $status
}
trap finish EXIT
until [ -S "$XDG_RUNTIME_DIR/systemd/private" ] && systemctl --user is-active default.target >/dev/null 2>&1; do
    kill -0 $manager; sleep 0.05
done
set +e
. /dev/stdin
"#;

/// Runs a script in which `systemctl --user` works; what it printed, or `None` where this machine has no systemd.
fn with_manager(t: &Env, script: &str) -> Option<String> {
    let manager = ["/usr/lib/systemd/systemd", "/lib/systemd/systemd"];
    let Some(manager) = manager.into_iter().find(|path| Path::new(path).exists()) else {
        skip("systemd is not installed");
        return None;
    };
    let probe = "mount --make-rprivate / && mount -t cgroup2 none /sys/fs/cgroup && mkdir /sys/fs/cgroup/rl-probe-$$ \
                 && rmdir /sys/fs/cgroup/rl-probe-$$";
    if !t
        .program("unshare")
        .args(["-m", "sh", "-c", probe])
        .run()
        .status
        .success()
    {
        skip("no cgroups (version 2) can be made here");
        return None;
    }
    let units = t.dir().join("home/.config/systemd/user");
    fs::create_dir_all(&units).unwrap();
    // Nothing of this machine's own is to be started.
    let target = "[Unit]\nDescription=Nothing\nDefaultDependencies=no\n";
    fs::write(units.join("default.target"), target).unwrap();
    let generators = t.directory("generators");
    symlink(support::binary(), generators.join("rl-generator")).unwrap();
    let bin = t.directory("manager-bin");
    symlink(support::binary(), bin.join("rl")).unwrap();
    let output = t
        .program("unshare")
        .args(["-m", "sh", "-c", MANAGER])
        .env(
            "PATH",
            format!("{}:{}", bin.display(), std::env::var("PATH").unwrap()),
        )
        .env("MANAGER", manager)
        .env("GROUP", t.dir().file_name().unwrap())
        .env("SYSTEMD_GENERATOR_PATH", generators)
        .env("SYSTEMD_PAGER", "")
        .stdin(script)
        .run()
        .ok();
    Some(output.out())
}

/// Lines `NAME VALUE` of what a script printed.
fn told(out: &str) -> BTreeMap<&str, &str> {
    out.lines()
        .filter_map(|line| line.split_once(' '))
        .collect()
}

#[test]
fn systemd_runs_what_was_generated() {
    let Some(t) = Env::new(Identity::Root) else {
        return;
    };
    t.keeps_containers();
    let listens = "sh -c 'trap \"echo ended >/d/end; exit 0\" TERM; echo \"$1 %N\" >/d/start; while :; do sleep 0.05; done' x \"a  b\"";
    quadlet(
        &t,
        &[
            (
                "web.container",
                container(
                    listens,
                    "Volume=data.volume:/d\n[Install]\nWantedBy=default.target",
                ),
            ),
            ("data.volume", "[Volume]\n".to_owned()),
            ("plain.container", container("sleep 1000", "RunInit=yes")),
            ("fails.container", container("sh -c 'exit 3'", "")),
            ("missing.container", container("no-such-program", "")),
            (
                "each@.container",
                container(
                    "sh -c 'echo %i >/d/each; exec sleep 1000'",
                    "RunInit=yes\nVolume=data.volume:/d",
                ),
            ),
            ("back.network", "[Network]\nNetworkName=back\n".to_owned()),
            (
                "db.container",
                on_network(
                    "back.network",
                    "sh -c 'echo from db >/index.html; exec httpd -f -p 80 -h /'",
                    "RunInit=yes\nNetworkAlias=store",
                ),
            ),
            (
                "app.container",
                on_network("back.network", "sleep 1000", "RunInit=yes"),
            ),
        ],
    );
    let script = r#"
show() { systemctl --user show -p "$2" --value "$1"; }
until_is() { for turn in $(seq 400); do [ "$(show "$1" "$2")" = "$3" ] && return; sleep 0.05; done; }
until data=$(rl volume inspect -f '{{.Mountpoint}}' systemd-data 2>/dev/null); do sleep 0.05; done
until [ -s "$data/start" ]; do sleep 0.05; done
echo "web $(show web SubState)"
echo "data $(show data-volume ActiveState)"
grep -q "0::.*/web.service/rl-" "/proc/$(rl inspect -f '{{.State.Pid}}' systemd-web)/cgroup" && echo "group below"
echo "start $(cat "$data/start")"
echo "ps $(rl ps --format '{{.Names}}')"
systemctl --user stop web
echo "end $(cat "$data/end")"
echo "stopped $(show web Result) $(show web ActiveState) $(rl ps -aq | wc -l)"
systemctl --user start plain
echo "ready $(rl inspect -f '{{.State.Status}}' systemd-plain)"
systemctl --user start missing 2>/dev/null || echo "missing $(show missing ExecMainStatus)"
systemctl --user stop plain
echo "plain $(show plain Result) $(show plain ActiveState) $(rl ps -aq | wc -l)"
systemctl --user start plain
until rl ps --format '{{.Names}}' | grep -q systemd-plain; do sleep 0.05; done
kill -9 "$(show plain MainPID)"
until_is plain ActiveState failed
echo "killed $(show plain Result) $(rl ps -aq | wc -l)"
systemctl --user start fails || true
until_is fails ActiveState failed
echo "fails $(show fails ExecMainStatus)"
systemctl --user start each@one
until [ -s "$data/each" ]; do sleep 0.05; done
echo "each $(cat "$data/each") $(rl ps --format '{{.Names}}')"
systemctl --user start db app
ask() { for turn in $(seq 400); do rl exec systemd-app wget -qO- http://store/ 2>/dev/null && return; sleep 0.05; done; }
echo "asked $(ask)"
echo "network $(show back-network ActiveState) $(rl network ls -q)"
switch() { systemctl --user list-units --plain --no-legend 'rl-network-back-*.scope' | cut -d' ' -f1; }
before=$(switch)
systemctl --user restart db
echo "again $(ask)"
[ -n "$before" ] && [ "$(switch)" = "$before" ] && echo "switch stays"
"#;
    let Some(out) = with_manager(&t, script) else {
        return;
    };
    let told = told(&out);
    for (name, value) in [
        ("web", "running"),
        ("data", "active"),
        ("group", "below"),
        ("start", "a  b web"),
        ("ps", "systemd-web"),
        ("end", "ended"),
        ("stopped", "success inactive 0"),
        ("ready", "running"),
        ("missing", "127"),
        ("plain", "success inactive 0"),
        ("killed", "signal 0"),
        ("fails", "3"),
        ("each", "one systemd-each_one"),
        ("asked", "from db"),
        ("network", "active back"),
        ("again", "from db"),
        // What carries the frames is in no service's group.
        ("switch", "stays"),
    ] {
        assert_eq!(told.get(name), Some(&value), "{name}: {out}");
    }
    // When the manager ended, it ended them.
    assert_eq!(t.rl(["ps", "-aq"]).run().ok().out(), "");
}

#[test]
fn systemd_runs_what_was_enabled() {
    let Some(t) = Env::new(Identity::Root) else {
        return;
    };
    t.keeps_containers();
    for name in ["db", "anew"] {
        let create = ["create", "--init", "--network", "none", "--name", name];
        t.rl(create)
            .args(["-e", "A=x  y", images::busybox(), "sleep", "1000"])
            .run()
            .ok();
    }
    let script = r#"
show() { systemctl --user show -p "$2" --value "$1"; }
rl enable --now db
until [ "$(rl inspect -f '{{.State.Status}}' db)" = running ]; do sleep 0.05; done
echo "db $(show rl-db SubState) $(systemctl --user is-enabled rl-db)"
rl stop -t 5 db
until [ "$(show rl-db ActiveState)" = inactive ]; do sleep 0.05; done
echo "stopped $(show rl-db Result)"
systemctl --user start rl-db
echo "ready $(rl inspect -f '{{.State.Status}}' db)"
rl disable --now db
echo "disabled $(rl inspect -f '{{.State.Status}}' db)"
before=$(rl inspect -f '{{.Id}}' anew)
rl enable --new --now anew
until [ "$(rl inspect -f '{{.State.Status}}' anew)" = running ]; do sleep 0.05; done
[ "$(rl inspect -f '{{.Id}}' anew)" = "$before" ] || echo "another one"
echo "env $(rl exec anew sh -c 'echo "$A"')"
rl disable --now anew
echo "left $(rl ps -a --format '{{.Names}}')"
"#;
    let Some(out) = with_manager(&t, script) else {
        return;
    };
    let told = told(&out);
    for (name, value) in [
        ("db", "running enabled"),
        ("stopped", "success"),
        ("ready", "running"),
        ("disabled", "exited"),
        ("another", "one"),
        ("env", "x  y"),
        ("left", "db"),
    ] {
        assert_eq!(told.get(name), Some(&value), "{name}: {out}");
    }
}
