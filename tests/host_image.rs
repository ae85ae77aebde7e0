//! The built-in image `host`: what it shows, that nothing changes outside, what `diff` and `apply` make of
//! what changed inside.

#[macro_use]
mod support;

#[path = "host_image/faults.rs"]
mod faults;
#[path = "host_image/written_back.rs"]
mod written_back;

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use support::{Env, Identity, Program, identity};

/// `rl run --rm --network none host sh -c SCRIPT` in the working directory, with options before the image.
fn host<'a>(t: &'a Env, options: &[&str], script: &str) -> Program<'a> {
    let program = t.rl(["run", "--rm", "--quiet", "--network", "none"]);
    program.args(options).args(["host", "sh", "-c", script])
}

#[track_caller]
fn inside(t: &Env, options: &[&str], script: &str) -> String {
    host(t, options, script).run().ok().out()
}

fn home(t: &Env) -> PathBuf {
    t.dir().join("home")
}

/// Makes a file of the user's, with the directories above it.
fn put(t: &Env, path: &Path, content: &str) {
    let dir = path.parent().unwrap();
    if !dir.exists() {
        let above: Vec<_> = dir.ancestors().take_while(|p| !p.exists()).collect();
        fs::create_dir_all(dir).unwrap();
        above.iter().for_each(|p| t.own(p));
    }
    fs::write(path, content).unwrap();
    t.own(path);
}

/// A directory of the user's in `/tmp` itself, removed at the end.
fn in_tmp(t: &Env) -> tempfile::TempDir {
    let dir = tempfile::Builder::new()
        .prefix("rl-host-")
        .tempdir_in("/tmp")
        .unwrap();
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
    t.own(dir.path());
    dir
}

/// Everything that an `ls -lR` would tell of a directory, and what the files hold.
fn snapshot(dir: &Path) -> Vec<String> {
    let mut found = Vec::new();
    let mut todo = vec![dir.to_owned()];
    while let Some(path) = todo.pop() {
        let meta = fs::symlink_metadata(&path).unwrap();
        let holds = if meta.is_dir() {
            todo.extend(fs::read_dir(&path).unwrap().map(|e| e.unwrap().path()));
            String::new()
        } else if meta.is_symlink() {
            fs::read_link(&path).unwrap().display().to_string()
        } else if meta.is_file() {
            format!("{:?}", fs::read(&path).unwrap())
        } else {
            String::new()
        };
        let (time, nsec) = (meta.mtime(), meta.mtime_nsec());
        found.push(format!(
            "{} {:o} {}:{} {time}.{nsec} {holds}",
            path.display(),
            meta.mode(),
            meta.uid(),
            meta.gid()
        ));
    }
    found.sort();
    found
}

/// Connects to a socket and says so.
const CONNECT: &str = r#"perl -MSocket -e 'socket(S, AF_UNIX, SOCK_STREAM, 0); connect(S, sockaddr_un($ARGV[0])) or do { print "refused\n"; exit 1 }; print "connected\n"'"#;

identities! {
    fn it_is_me_in_my_place(t: [sub nosub unshared root]) {
        let (uid, gid) = match t.who {
            Identity::Sub | Identity::NoSub => (t.uid(), t.uid()),
            Identity::Unshared | Identity::Root => (0, 0),
        };
        let script = "id -u; id -g; pwd; echo $HOME; echo $$; echo ${SECRET-none} ${TMPDIR-none}; echo $LANG $container";
        let output = host(t, &[], script).env("SECRET", "x").env("LANG", "C.UTF-8").run().ok().out();
        let (work, home) = (t.path(""), home(t));
        let work = work.to_str().unwrap().trim_end_matches('/');
        assert_eq!(output, format!("{uid}\n{gid}\n{work}\n{}\n1\nnone none\nC.UTF-8 rl", home.display()));
        // Without a command it is the caller's shell.
        let shell = t.rl(["run", "--rm", "--quiet", "--network", "none", "host"]).env("SHELL", "/bin/sh").stdin("echo $0 $$\n");
        assert_eq!(shell.run().ok().out(), "/bin/sh 1");
        // The usual way with a network; the notice about ids is all that it says.
        let output = t.rl(["run", "--rm", "host", "sh", "-c", "grep -c . /etc/resolv.conf"]).run().ok();
        assert!(output.out().parse::<u32>().unwrap() > 0);
        assert!(!output.err().contains("error"), "{}", output.err());
    }

    fn nothing_changes_outside(t: [sub nosub unshared root]) {
        let tmp = in_tmp(t);
        let places = [home(t), t.path("."), tmp.path().to_owned()];
        for place in &places {
            for name in ["canary", "tree/a", "tree/b/c", ".hidden"] {
                put(t, &place.join(name), "as it was");
            }
            std::os::unix::fs::symlink("canary", place.join("link")).unwrap();
        }
        let before = places.each_ref().map(|p| snapshot(p));
        let script = format!(
            r#"for d in "$HOME" "$PWD" {}; do
                cd $d || exit 1
                echo changed >canary; chmod 0 .hidden; mv tree moved; touch -d 2001-01-01 link new; mkdir sub; ln canary hard
                test "$(cat canary)" = changed && echo "$d: written"
                rm -rf ./* ./.hidden; echo "$d: $(ls -A | wc -l)"
            done"#,
            tmp.path().display()
        );
        let output = host(t, &[], &script).run().ok().out();
        // Root of the machine is nobody's owner inside: it can read, and make files of its own.
        if t.who != Identity::Root {
            for place in &places {
                let place = place.display().to_string();
                let place = place.trim_end_matches("/.");
                assert!(output.contains(&format!("{place}: written")), "{output}");
                assert!(output.contains(&format!("{place}: 0")), "{output}");
            }
        }
        assert_eq!(before, places.each_ref().map(|p| snapshot(p)));
        inside(t, &[], "echo x >$HOME/new && echo x >$PWD/new && echo x >/tmp/new-by-rl && cat $HOME/new $PWD/new /tmp/new-by-rl");
        assert!(!Path::new("/tmp/new-by-rl").exists() && !home(t).join("new").exists() && !t.path("new").exists());
    }

    fn the_rest_is_read_only(t: [sub nosub unshared root]) {
        // Outside the user can write there, so what refuses inside is the container.
        put(t, &t.dir().join("probe"), "");
        t.sh("echo >>../probe").run().ok();
        for place in ["/var/tmp/probe-by-rl", "/etc/x", "/usr/x", "/x", &t.dir().join("probe").display().to_string()] {
            host(t, &[], &format!("echo x >{place}")).run().exits(2).complains("Read-only file system");
        }
        // Every mount of the machine's is read-only, also those that something else is mounted on.
        let table = inside(t, &[], "cat /proc/self/mountinfo");
        let own = ["/proc", "/dev", "/run", "/tmp", "/etc/hosts", "/etc/hostname", "/etc/resolv.conf", "/sys"];
        let mine = [home(t).display().to_string(), t.path("").display().to_string().trim_end_matches('/').to_owned()];
        let mut read_only = 0;
        for line in table.lines() {
            let fields: Vec<&str> = line.split(' ').collect();
            let below = |place: &str| Path::new(fields[4]).starts_with(place);
            match fields[5].split(',').any(|word| word == "ro") {
                true => read_only += 1,
                // A hidden file.
                false if fields[3] == "/null" => {}
                false => assert!(own.iter().any(|p| below(p)) || mine.iter().any(|p| below(p)), "{line}"),
            }
        }
        assert!(read_only > 3, "{table}");
    }

    fn read_only_views(t: [sub root]) {
        host(t, &["--read-only"], "echo x >$HOME/x").run().exits(2).complains("Read-only");
        host(t, &["--read-only"], "echo x >$PWD/x").run().exits(2).complains("Read-only");
        inside(t, &["--read-only"], "echo x >/tmp/x");
    }

    fn sessions_and_secrets_are_hidden(t: [sub nosub unshared root]) {
        let listen = |path: &Path| {
            let listener = UnixListener::bind(path).unwrap();
            fs::set_permissions(path, fs::Permissions::from_mode(0o777)).unwrap();
            t.own(path);
            listener
        };
        let tmp = in_tmp(t);
        let paths = [t.dir().join("run/agent"), t.dir().join("service"), home(t).join("agent"), t.path("agent"), tmp.path().join("agent")];
        let _listeners = paths.each_ref().map(|path| listen(path));
        for path in &paths {
            let path = path.display();
            assert_eq!(t.sh(&format!("{CONNECT} {path}")).run().ok().out(), "connected");
            assert_eq!(host(t, &[], &format!("{CONNECT} {path}")).run().exits(1).out(), "refused", "{path}");
        }
        assert_eq!(inside(t, &[], "find /run -mindepth 1"), "");
        put(t, &home(t).join(".ssh/id"), "key");
        put(t, &home(t).join(".netrc"), "password");
        assert_eq!(inside(t, &[], "ls -A ~/.ssh; cat ~/.netrc"), "");
        host(t, &[], "echo x >~/.ssh/config").run().exits(2);
        let shown = format!("{0}/.ssh:{0}/.ssh:ro", home(t).display());
        assert_eq!(inside(t, &["-v", &shown], "cat ~/.ssh/id; cat ~/.netrc"), "key");
        paths.iter().for_each(|path| fs::remove_file(path).unwrap());
        // What rl keeps itself is out of reach.
        assert_eq!(inside(t, &[], &format!("ls -A {}", t.dir().join("data/rl").display())), "");
    }

    fn walls_stand(t: [sub nosub unshared root]) {
        let status = inside(t, &[], "cat /proc/self/status; ls /proc | grep -c '^[0-9]'");
        let field = |name: &str| status.lines().find_map(|l| l.strip_prefix(name)).unwrap().trim().to_owned();
        assert_eq!((field("Seccomp:"), field("NoNewPrivs:")), ("2".into(), "1".into()));
        let capabilities = u64::from_str_radix(&field("CapBnd:"), 16).unwrap();
        // CAP_SYS_ADMIN (linux/capability.h)
        assert_eq!(capabilities & 1 << 21, 0);
        let probe = t.dir().join("probe");
        put(t, &probe, "as it was");
        let to = probe.display();
        for try_it in [
            "mount -o remount,rw,bind /",
            "unshare -Urm mount -o remount,rw,bind /",
            &format!("echo x >/proc/1/root{to}"),
            &format!("echo x >/proc/self/root{to}"),
            "echo x >/proc/self/cwd/../probe",
            "echo core >/proc/sys/kernel/core_pattern",
        ] {
            let output = host(t, &[], try_it).run();
            assert_ne!(output.code(), 0, "{try_it}");
        }
        // A namespace of one's own cannot take off what its maker put on.
        let nested = format!("unshare -Urm --propagation unchanged sh -c 'mount -o remount,rw,bind /; umount -l /run; echo x >{to}'");
        let output = host(t, &["--security-opt", "seccomp=unconfined"], &nested).run();
        assert_ne!(output.code(), 0);
        assert_eq!(fs::read_to_string(&probe).unwrap(), "as it was");
        host(t, &["--pid", "host"], &format!("echo x >/proc/{}/root{to}", std::process::id())).run().exits(2).complains("denied");
        t.rl(["run", "--rm", "--cap-add", "SYS_ADMIN", "host", "true"]).run().refuses(125, "SYS_ADMIN");
        t.rl(["run", "--rm", "--cap-add", "ALL", "host", "true"]).run().refuses(125, "SYS_ADMIN");
        t.rl(["run", "--rm", "--platform", "linux/arm64", "host", "true"]).run().refuses(125, "--platform");
        t.rl(["run", "--rm", "--pull", "always", "host", "true"]).run().refuses(125, "docker.io/library/host");
        t.rl(["run", "--rm", "--pull", "never", "docker.io/library/host", "true"]).run().refuses(125, "`host:latest` is not in the store");
    }

    fn a_volume_wins_over_a_view(t: [sub nosub unshared]) {
        let dir = t.directory("through");
        let volume = format!("{0}:{0}", dir.display());
        inside(t, &["-v", &volume], "echo kept >through/file; echo lost >file");
        assert_eq!(fs::read_to_string(dir.join("file")).unwrap(), "kept\n");
        assert!(!t.path("file").exists());
        let volume = format!("{0}:{0}", home(t).display());
        inside(t, &["-v", &volume], "echo kept >~/file");
        assert_eq!(fs::read_to_string(home(t).join("file")).unwrap(), "kept\n");
        let volume = format!("{}:/tmp", dir.display());
        assert_eq!(inside(t, &["-v", &volume], "cat /tmp/file"), "kept");
        assert_eq!(inside(t, &["--tmpfs", &home(t).display().to_string()], "ls -A ~"), "");
        // Where there is no place for it none can be made, but in a view.
        host(t, &["-v", "box:/no/such/place"], "true").run().refuses(125, "/no/such/place").complains("read-only");
        inside(t, &["-v", &format!("box:{}/new/place", home(t).display())], "touch ~/new/place/x");
        assert!(!home(t).join("new").exists());
    }

    fn views_for_any_image(t: [sub nosub root]) {
        let dir = t.directory("seen");
        put(t, &dir.join("file"), "as it was");
        let volume = format!("{}:/seen:O", dir.display());
        let mount = format!("type=overlay,source={},target=/seen", dir.display());
        for options in [["-v", &volume], ["--mount", &mount]] {
            let output = t.run_with(&options, ["sh", "-c", "cat /seen/file; echo new >/seen/new; cat /seen/new"]).run().ok().out();
            assert_eq!(output, "as it wasnew");
            assert!(!dir.join("new").exists());
        }
        t.run_with(&["-v", "box:/x:O"], ["true"]).run().refuses(125, "`O`");
    }

    fn its_own_files_below_the_home_directory(t: [sub nosub unshared root]) {
        // Where it is without XDG_DATA_HOME: the upper directory lies in the lower one.
        put(t, &home(t).join("file"), "as it was");
        let run = |name: &str, script: &str| {
            t.rl(["run", "--name", name, "--quiet", "--network", "none", "host", "sh", "-c", script]).env_remove("XDG_DATA_HOME").run().ok().out()
        };
        if t.who == Identity::Root {
            return; // Root's files are in /var/lib/rl then.
        }
        assert_eq!(run("one", "echo x >~/file; cat ~/file; ls -A ~/.local/share/rl"), "x");
        assert_eq!(run("two", "rm -r ~/.local 2>/dev/null; cat ~/file"), "as it was");
        let diff = |name: &str| t.rl(["diff", name]).env_remove("XDG_DATA_HOME").run().ok().out();
        let home = home(t).display().to_string();
        assert_eq!(diff("one"), format!("C {home}\nC {home}/file"));
        t.rl(["rm", "one", "two"]).env_remove("XDG_DATA_HOME").run().ok();
        assert_eq!(fs::read_to_string(format!("{home}/file")).unwrap(), "as it was");
    }

    fn etc_files_that_are_links_into_run(t: [root]) {
        // As on a machine with systemd-resolved, in a mount namespace of the test's own.
        let etc = t.directory("etc");
        let script = format!(
            "cp -a /etc/. {0} && rm -f {0}/resolv.conf && ln -s ../run/systemd/resolve/stub-resolv.conf {0}/resolv.conf
            mount --bind {0} /etc && mount -t tmpfs run /run && mkdir -p /run/systemd/resolve || exit 1
            \"$RL\" run --rm --quiet --network none host cat /etc/resolv.conf >../dangling || exit 1
            echo nameserver 192.0.2.1 >/run/systemd/resolve/stub-resolv.conf; touch /run/secret
            \"$RL\" run --rm --quiet --network none host sh -c 'cat /etc/resolv.conf; ls /run'",
            etc.display()
        );
        let output = t.program("unshare").args(["-m", "sh", "-c", &script]).env("RL", support::binary()).run().ok().out();
        assert!(output.ends_with("\nsystemd") || output == "systemd", "{output}");
        assert!(!output.contains("secret"), "{output}");
    }

    fn a_view_of_what_something_is_mounted_below(t: [sub nosub]) {
        if !identity::is_root() {
            return support::skip("mounting below a user's directory needs root");
        }
        if !support::have("fuse-overlayfs") {
            return;
        }
        nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNS).unwrap();
        let sh = |line: &str| {
            let status = std::process::Command::new("/bin/sh").args(["-ec", line]).status();
            assert!(status.unwrap().success(), "{line}");
        };
        let (home, disk) = (home(t), home(t).join("disk"));
        for name in ["file", "tree/a", "kept/b"] {
            put(t, &home.join(name), "as it was");
        }
        let shown = disk.display();
        sh(&format!("mount --make-rprivate /; mkdir {shown}; mount -t tmpfs disk {shown}; chmod 755 {shown}; echo seen >{shown}/inner"));
        let before = snapshot(&home);
        let script = "cat ~/file ~/disk/inner; echo new >~/file; rm -r ~/tree; mv ~/kept ~/moved; \
            echo x >~/disk/x; cat ~/file; ls ~";
        let run = |options: &[&str]| {
            let program = t.rl(["run", "--network", "none"]).args(options);
            program.args(["host", "sh", "-c", script]).run()
        };
        for options in [&["--rm"][..], &["--name", "try"]] {
            let output = run(options);
            assert_eq!(output.out(), "as it wasseen\nnew\ndisk\nfile\nmoved", "{}", output.err());
            assert!(output.err().contains("disk/x: Read-only file system"), "{}", output.err());
            assert_eq!(before, snapshot(&home));
        }
        let home = home.display();
        let changes = ["C {}", "C {}/file", "D {}/kept", "A {}/moved", "A {}/moved/b", "D {}/tree"];
        let changes = changes.map(|line| line.replace("{}", &home.to_string())).join("\n");
        assert_eq!(t.rl(["diff", "try"]).run().ok().out(), changes);
        // It goes on from there.
        let again = t.rl(["start", "-a", "try"]).run();
        assert!(again.out().starts_with("new\nseen\nnew\n"), "{again:?}");
        t.rl(["apply", "--yes", "try"]).run().ok();
        assert_eq!(fs::read_to_string(format!("{home}/file")).unwrap(), "new\n");
        t.rl(["rm", "try"]).run().ok();
        // The next rung.
        sh("mount --bind /dev/null /dev/fuse");
        let output = run(&["--rm"]);
        assert!(output.out().starts_with("new\nseen\nnew\n"), "{output:?}");
        let notice = format!("`{home}` is read-only: there is no copy-on-write view of it (overlay: EINVAL");
        assert!(output.err().contains(&notice), "{}", output.err());
    }

    fn what_is_mounted_below_a_view(t: [root]) {
        // An overlay does not see it: it is shown read-only, and is a view of its own when one stands in it.
        let script = "mkdir -p $HOME/disk && mount -t tmpfs disk $HOME/disk && chmod 755 $HOME/disk && echo seen >$HOME/disk/file && mkdir $HOME/disk/here || exit 1
            \"$RL\" run --rm --quiet --network none host sh -c 'cat ~/disk/file; echo x >~/disk/x'
            cd $HOME/disk/here && \"$RL\" run --rm --quiet --network none host sh -c 'echo x >x && cat x; echo x >../y; ls ..'
            ls $HOME/disk/here
            mkdir $HOME/beside && cd $HOME/beside && \"$RL\" run --rm --network none host sh -c 'echo view >x && cat x'
            ls -A $HOME/beside";
        let output = t.program("unshare").args(["-m", "sh", "-c", script]).env("RL", support::binary()).run().ok();
        assert_eq!(output.out(), "seen\nx\nfile\nhere\nview");
        assert_eq!(output.err().matches("Read-only file system").count(), 2, "{}", output.err());
        let notice = format!("`{}` is read-only: there is no copy-on-write view of it (overlay: EINVAL, as where something", home(t).display());
        assert!(output.err().contains(&notice), "{}", output.err());
    }
}
