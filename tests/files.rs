//! Containers' files from outside: `rl cp`, `rl export`, `rl commit`, by Docker's rules, and with containers that mean
//! harm.

#[macro_use]
mod support;

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::Path;

use serde_json::json;
use support::images::Layer;
use support::{Env, Identity, Image, images};

/// What is copied: `src` in the table below is this.
const SOURCE: &str = "mkdir -p src/d/sub; cd src; echo f >f; echo a >d/a; echo b >d/sub/b; \
    ln -s f lf; ln -s d ld; ln -s nowhere dangling; echo c >a:b";
/// Where it is copied to.
const TARGET: &str = "mkdir -p dst/dir; cd dst; echo old >file; echo kept >dir/kept; ln -s dir ldir; \
    ln -s file lfile; ln -s later gone";
/// A tree as lines: `path/`, `path -> target`, `path=content`.
const LIST: &str = "find . | sort | while read -r p; do p=${p#./}; if [ -L \"$p\" ]; then echo \"$p -> $(readlink \"$p\")\"; \
    elif [ -d \"$p\" ]; then echo \"$p/\"; elif [ -f \"$p\" ]; then echo \"$p=$(cat \"$p\")\"; else echo \"$p?\"; fi; done";

/// Options, source in `src`, target in `dst`, and what is new there; or the error.
type Case = (
    &'static str,
    &'static str,
    &'static str,
    Result<&'static [&'static str], &'static str>,
);

const TREE: &[&str] = &["new/", "new/a=a", "new/sub/", "new/sub/b=b"];
const BELOW: &[&str] = &["dir/d/", "dir/d/a=a", "dir/d/sub/", "dir/d/sub/b=b"];
const INTO: &[&str] = &["dir/a=a", "dir/sub/", "dir/sub/b=b"];

const CASES: &[Case] = &[
    ("", "f", "new", Ok(&["new=f"])),
    ("", "f", "new/", Err("No such file")),
    ("", "f", "file", Ok(&["file=f"])),
    ("", "f", "dir", Ok(&["dir/f=f"])),
    ("", "f", "dir/", Ok(&["dir/f=f"])),
    ("", "f", "file/", Err("Not a directory")),
    ("", "f", "none/new", Err("No such file")),
    ("", "f/", "new", Err("Not a directory")),
    ("", "nothing", "new", Err("No such file")),
    ("", "d", "new", Ok(TREE)),
    ("", "d", "new/", Ok(TREE)),
    ("", "d/.", "new", Ok(TREE)),
    ("", "d", "file", Err("Not a directory")),
    ("", "d/.", "file", Err("Not a directory")),
    ("", "d", "dir", Ok(BELOW)),
    ("", "d/", "dir", Ok(BELOW)),
    ("", "d", "dir/.", Ok(BELOW)),
    ("", "d/.", "dir", Ok(INTO)),
    ("", "d/.", "dir/", Ok(INTO)),
    ("", "lf", "new", Ok(&["new -> f"])),
    ("", "lf", "dir", Ok(&["dir/lf -> f"])),
    ("-L", "lf", "new", Ok(&["new=f"])),
    ("-L", "lf", "dir", Ok(&["dir/lf=f"])),
    ("", "ld", "new", Ok(&["new -> d"])),
    (
        "",
        "ld/",
        "dir",
        Ok(&["dir/ld/", "dir/ld/a=a", "dir/ld/sub/", "dir/ld/sub/b=b"]),
    ),
    ("", "ld/.", "dir", Ok(INTO)),
    ("-L", "ld", "new", Ok(TREE)),
    ("", "dangling", "new", Ok(&["new -> nowhere"])),
    ("-L", "dangling", "new", Err("No such file")),
    // A link in the target is followed.
    ("", "f", "ldir", Ok(&["dir/f=f"])),
    ("", "f", "ldir/new", Ok(&["dir/new=f"])),
    ("", "f", "lfile", Ok(&["file=f"])),
    ("", "f", "gone", Ok(&["later=f"])),
    ("", "a:b", "dir", Ok(&["dir/a:b=c"])),
    ("-q", "d/../f", "./dir/../new", Ok(&["new=f"])),
];

/// An image with both trees in it, made of the same scripts, in a container that sleeps.
fn sleeping(t: &Env, name: &str, options: &[&str], script: &str) {
    t.rl(["run", "-d", "--name", name, "--network", "none"])
        .args(options)
        .arg(images::busybox())
        .args([
            "sh",
            "-c",
            &format!("{script}\necho ready; exec sleep 1000"),
        ])
        .run()
        .ok();
    support::wait_for("its preparations", || {
        t.rl(["logs", name]).run().ok().out().contains("ready")
    });
}

/// A tree as [`LIST`] tells it, with what it is expected to have become.
fn lines(text: &str) -> BTreeMap<String, String> {
    let key = |line: &str| {
        let end = line.find(" -> ").or(line.find('=')).unwrap_or(line.len());
        line[..end].to_owned()
    };
    text.lines()
        .map(|line| (key(line), line.to_owned()))
        .collect()
}

/// Copies every case; `from` and `to` may name a container.
fn copy_all(t: &Env, from: &str, to: &str) {
    for (i, (options, source, target, wanted)) in CASES.iter().enumerate() {
        let options = Some(*options).filter(|o| !o.is_empty());
        let words = [
            format!("{from}/src/{source}"),
            format!("{to}{}/{target}", i + 1),
        ];
        let done = t.rl(["cp"]).args(options).args(&words).run();
        match wanted {
            Ok(_) => drop(done.ok()),
            Err(text) => drop(done.refuses(125, text)),
        }
    }
}

/// What became of every case, by its number; `before` is the target as it was.
fn check_all(before: &str, what: &str, listed: impl Fn(usize) -> String) {
    for (i, (options, source, target, wanted)) in CASES.iter().enumerate() {
        let mut expected = lines(before);
        expected.extend(lines(&wanted.unwrap_or_default().join("\n")));
        assert_eq!(
            lines(&listed(i + 1)),
            expected,
            "{what}: cp {options} {source} {target}"
        );
    }
}

/// Does something while `box` runs, and again when it is stopped; what it is told is which of the two.
fn running_and_stopped(t: &Env, work: impl Fn(&str)) {
    work("running");
    t.rl(["stop", "-t", "0", "box"]).run().ok();
    work("stopped");
}

fn inside(t: &Env, name: &str, script: &str) -> String {
    t.rl(["exec", name, "sh", "-c", script]).run().ok().out()
}

/// Entries of a tar, as GNU tar tells them.
fn listed(t: &Env, archive: &[u8]) -> String {
    t.program("tar")
        .args(["-tvf", "-", "--numeric-owner"])
        .stdin(archive)
        .run()
        .ok()
        .out()
}

fn xattr(path: &Path, name: &str) -> Vec<u8> {
    let mut value = [0; 256];
    let length =
        rustix::fs::lgetxattr(path, name, &mut value).unwrap_or_else(|e| panic!("{name}: {e}"));
    value[..length].to_vec()
}

identities! {
    fn every_case_in_and_out(t: [sub nosub root]) {
        t.keeps_containers();
        let copies = format!("for i in $(seq 1 {}); do cp -a dst r$i; cp -a dst s$i; done", CASES.len());
        let trees = format!("({SOURCE}); ({TARGET}); {copies}");
        sleeping(t, "box", &[], &format!("mkdir /w && cd /w && {trees}"));
        t.sh(&trees).run().ok();
        let before = t.sh(&format!("cd dst; {LIST}")).run().ok().out();
        copy_all(t, "box:/w", "r");
        // A path inside begins at the root, whatever the working directory.
        copy_all(t, ".", "box:w/r");
        t.rl(["stop", "-t", "0", "box"]).run().ok();
        copy_all(t, "box:/w", "./s");
        copy_all(t, ".", "box:/w/s");
        t.rl(["start", "box"]).run().ok();
        for (kind, what) in [("r", "running"), ("s", "stopped")] {
            check_all(&before, &format!("{what}, out"), |i| t.sh(&format!("cd {kind}{i}; {LIST}")).run().ok().out());
            check_all(&before, &format!("{what}, in"), |i| inside(t, "box", &format!("cd /w/{kind}{i}; {LIST}")));
        }
        t.rl(["rm", "-f", "box"]).run().ok();
    }

    /// Each command is in a user namespace of its own there, so nobody joins a container that runs.
    fn while_it_waits_to_be_started_again(t: [sub nosub root]) {
        let count = "echo x >>/starts; test -e /in && exec sleep 1000; exit 3";
        t.rl(["run", "-d", "--name", "box", "--restart", "always", "--network", "none", "-v", "data:/data"])
            .args([images::busybox(), "sh", "-c", count]).run().ok();
        let told = |field: &str| t.rl(["inspect", "-f", field, "box"]).run().ok().out();
        let (is, starts) = (|| told("{{.State.Status}}"), || told("{{.RestartCount}}").parse::<usize>().unwrap());
        // Waits become long.
        support::wait_for("some starts", || starts() > 2);
        support::wait_for("the wait", || is() == "restarting");
        t.rl(["cp", "box:/starts", "out"]).run().ok();
        assert!(fs::read_to_string(t.path("out")).unwrap().lines().count() > 3);
        assert!(!t.rl(["export", "box"]).run().ok().stdout.is_empty());
        // It does not start while somebody is at it, which may take long.
        let mut copy = t.rl(["cp", "/dev/stdin", "box:/in"]).stdin_open().spawn();
        support::wait_for("who copies", || t.processes().iter().filter(|p| p.command.ends_with("cp /dev/stdin box:/in")).count() > 1);
        let before = starts();
        std::thread::sleep(std::time::Duration::from_millis(3500));
        assert_eq!((is(), starts()), ("restarting".into(), before));
        // Another one comes when that is done.
        let other = t.rl(["cp", "box:/starts", "later"]).spawn();
        copy.close_stdin();
        copy.wait().ok();
        support::wait_for("its start", || is() == "running");
        other.wait().ok();
        assert_eq!(inside(t, "box", "wc -l </starts").parse::<usize>().unwrap(), starts() + 1);
        t.rl(["rm", "-f", "box"]).run().ok();
        t.rl(["volume", "rm", "data"]).run().ok();
    }

    fn at_rest_in_a_nested_namespace(t: [unshared]) {
        t.keeps_containers();
        t.sh(&format!("({SOURCE})")).run().ok();
        t.rl(["create", "--name", "box", "--network", "none"]).arg(images::busybox()).args(["cat", "/tmp/d/sub/b"]).run().ok();
        t.rl(["cp", "src/d", "box:/tmp"]).run().ok();
        t.rl(["cp", "box:/tmp/d", "back"]).run().ok();
        assert_eq!(t.sh(&format!("cd back; {LIST}")).run().ok().out(), "./\na=a\nsub/\nsub/b=b");
        assert_eq!(t.rl(["start", "-a", "box"]).run().ok().out(), "b");
        t.rl(["rm", "box"]).run().ok();
    }

    fn what_it_belongs_to(t: [sub nosub root]) {
        t.keeps_containers();
        let many = t.who.has_many_ids();
        // Nobody but the caller may read it.
        let secret = t.file("secret", "s");
        fs::set_permissions(&secret, fs::Permissions::from_mode(0o600)).unwrap();
        let owned = "cd /home; echo x >x; chmod 751 x; mkdir -m 700 dir; echo y >dir/y; chmod 640 dir/y";
        let chown = if many { "chown -R 1000:1001 x dir" } else { "true" };
        let (id, group) = if many { (1000, 1001) } else { (0, 0) };
        sleeping(t, "box", &[], &format!("{owned}; {chown}"));
        running_and_stopped(t, |state| {
            let name = |word: &str| format!("{state}-{word}");
            t.rl(["cp", "box:/home/x"]).arg(name("x")).run().ok();
            t.rl(["cp", "-a", "box:/home/dir"]).arg(name("dir")).run().ok();
            t.rl(["cp", "secret"]).arg(format!("box:/home/{state}-secret")).run().ok();
            // There and back again.
            t.rl(["cp", "-a", &name("dir")]).arg("box:/home").run().ok();
            let copied = fs::metadata(t.path(name("x"))).unwrap();
            assert_eq!((copied.uid(), copied.mode() & 0o7777), (t.uid(), 0o751), "{state}");
            let owners = t.rl(["unshare", "stat", "-c", "%u:%g %a"]).args([name("dir"), name("dir/y")]).run().ok().out();
            // The ids inside are those of `rl unshare`, or for root those of the host.
            if t.who != Identity::Root {
                assert_eq!(owners, format!("{id}:{group} 700\n{id}:{group} 640"), "{state}");
            }
        });
        t.rl(["start", "box"]).run().ok();
        let script = "cd /home; stat -c '%n %u:%g %a' *-*; stat -c '%n %u:%g %a' *-dir/y; cat stopped-secret";
        let wanted = format!(
            "running-dir {id}:{group} 700\nrunning-secret 0:0 600\nstopped-dir {id}:{group} 700\nstopped-secret 0:0 600\n\
             running-dir/y {id}:{group} 640\nstopped-dir/y {id}:{group} 640\ns"
        );
        assert_eq!(inside(t, "box", script), wanted);
        t.rl(["rm", "-f", "box"]).run().ok();
    }

    /// Root copies files of people who keep them to themselves.
    fn root_reaches_what_is_others(t: [root]) {
        t.keeps_containers();
        let dir = t.directory("theirs");
        fs::write(dir.join("file"), "theirs").unwrap();
        for (path, mode) in [(dir.join("file"), 0o600), (dir.clone(), 0o700)] {
            std::os::unix::fs::chown(&path, Some(12345), Some(12345)).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        }
        sleeping(t, "box", &[], "true");
        running_and_stopped(t, |state| {
            t.rl(["cp", "theirs/file"]).arg(format!("box:/tmp/{state}")).run().ok();
            t.rl(["cp", "box:/etc/passwd"]).arg(format!("theirs/{state}")).run().ok();
            assert_eq!(fs::metadata(dir.join(state)).unwrap().uid(), 0);
        });
        t.rl(["start", "box"]).run().ok();
        assert_eq!(inside(t, "box", "cd /tmp; cat running stopped; stat -c %u:%g running stopped"), "theirstheirs0:0\n0:0");
        t.rl(["rm", "-f", "box"]).run().ok();
    }

    fn without_the_callers_id_inside(t: [sub]) {
        t.keeps_containers();
        let secret = t.file("secret", "s");
        fs::set_permissions(&secret, fs::Permissions::from_mode(0o600)).unwrap();
        sleeping(t, "box", &["--userns", "nomap"], "true");
        running_and_stopped(t, |state| {
            t.rl(["cp", "secret"]).arg(format!("box:/tmp/{state}")).run().ok();
            t.rl(["cp"]).args([format!("box:/tmp/{state}"), state.to_owned()]).run().ok();
            let back = fs::metadata(t.path(state)).unwrap();
            assert_eq!((back.uid(), back.mode() & 0o777), (t.uid(), 0o600));
        });
        t.rl(["start", "box"]).run().ok();
        assert_eq!(inside(t, "box", "cd /tmp; cat running stopped; stat -c %u:%g running stopped"), "ss0:0\n0:0");
        t.rl(["rm", "-f", "box"]).run().ok();
    }

    fn what_a_file_is_besides_its_content(t: [sub nosub root]) {
        t.keeps_containers();
        let dir = t.directory("src");
        t.sh("cd src; echo x >one; ln one two; truncate -s 8M hole; echo end >>hole; cp /bin/true cap; mkfifo pipe").run().ok();
        rustix::fs::setxattr(dir.join("one"), "user.colour", b"green", rustix::fs::XattrFlags::empty()).unwrap();
        // Those of a user namespace, which has the same root as the container's; or those of the host.
        let capable = t.who != Identity::NoSub && support::have("setcap");
        let around = |words: [&str; 2]| match t.who {
            Identity::Root => t.sh(&words.join(" ")).run().ok().out(),
            _ => t.rl(["unshare", "sh", "-c", &words.join(" ")]).run().ok().out(),
        };
        if capable {
            around(["setcap cap_net_raw+ep", "src/cap"]);
        }
        sleeping(t, "box", &[], "true");
        running_and_stopped(t, |state| {
            let inside = format!("box:/home/{state}");
            t.rl(["cp", "-a", "src", &inside]).run().ok();
            t.rl(["cp", "-a", &inside, state]).run().ok();
            let back = t.path(state);
            let inode = |name: &str| fs::metadata(back.join(name)).unwrap().ino();
            assert_eq!(inode("one"), inode("two"), "{state}");
            assert_eq!(xattr(&back.join("one"), "user.colour"), b"green");
            let hole = fs::metadata(back.join("hole")).unwrap();
            assert!(hole.size() > 8 << 20 && hole.blocks() * 512 < 1 << 20, "{} blocks", hole.blocks());
            assert!(fs::symlink_metadata(back.join("pipe")).unwrap().file_type().is_fifo());
            if capable {
                let cap = back.join("cap");
                let seen = around(["getcap", cap.to_str().unwrap()]);
                assert!(seen.ends_with("cap_net_raw=ep"), "{seen}");
            }
        });
        t.rl(["start", "box"]).run().ok();
        let links = "cd /home; for d in running stopped; do stat -c %h $d/one; test $d/one -ef $d/two && echo same; done";
        assert_eq!(inside(t, "box", links), "2\nsame\n2\nsame");
        t.rl(["rm", "-f", "box"]).run().ok();
    }

    fn tars_both_ways(t: [sub nosub root]) {
        t.keeps_containers();
        let (id, chown) = if t.who.has_many_ids() { (1000, "chown -R 1000 d") } else { (0, "true") };
        sleeping(t, "box", &[], &format!("cd /home; mkdir -p d/sub; echo f >d/f; chmod 640 d/f; ln -s f d/l; {chown}"));
        running_and_stopped(t, |state| {
            let archive = t.rl(["cp", "box:/home/d", "-"]).run().ok().stdout;
            let table = listed(t, &archive);
            let mut entries: Vec<(&str, &str)> = table.lines().map(|line| (line.split_whitespace().nth(1).unwrap(), line.split_once(':').unwrap().1[3..].trim())).collect();
            entries.sort_unstable();
            let owner = format!("{id}/0");
            assert_eq!(entries, [(&*owner, "d/"), (&*owner, "d/f"), (&*owner, "d/l -> f"), (&*owner, "d/sub/")], "{table}");
            t.rl(["exec", "box", "mkdir", "/srv"]).run();
            t.rl(["cp", "box:/home", "-"]).run().ok();
            t.rl(["cp", "-", "box:/tmp"]).stdin(archive).run().ok();
            t.rl(["cp", "-", "box:/none"]).stdin("").run().refuses(125, "`/none`");
            if state == "running" {
                assert_eq!(inside(t, "box", "cd /tmp/d; stat -c '%n %u %a' . f sub; readlink l; cat f"), format!(". {id} 755\nf {id} 640\nsub {id} 755\nf\nf"));
                inside(t, "box", "rm -r /tmp/d");
            }
        });
        t.rl(["start", "box"]).run().ok();
        assert_eq!(inside(t, "box", "cd /tmp/d; stat -c '%n %u %a' . f sub; readlink l; cat f"), format!(". {id} 755\nf {id} 640\nsub {id} 755\nf\nf"));
        t.rl(["rm", "-f", "box"]).run().ok();
        for words in [["-", "-"], ["x", "y"], ["box:/x", "box:/y"]] {
            t.rl(["cp"]).args(words).run().refuses(125, "one of the two");
        }
        t.rl(["cp", "gone:/x", "."]).run().refuses(125, "no such container");
    }

    fn streams_and_devices_are_no_files(t: [sub nosub root]) {
        t.keeps_containers();
        sleeping(t, "box", &[], "mkdir /tmp/d; echo inside >/tmp/f; ln -s f /tmp/l");
        t.file("f", "f");
        running_and_stopped(t, |state| {
            t.sh("rm -rf out pipe; echo old >out; mkfifo pipe; rm -f got").run().ok();
            // What is behind a descriptor is written to, not replaced.
            for line in [
                "rl cp box:/tmp/f /dev/stdout >>out", "rl cp box:/tmp/l /dev/fd/4 4>got", "cat pipe >piped & rl cp box:/tmp/f pipe; wait",
                "rl cp box:/tmp/f /dev/null", "echo data | rl cp /dev/stdin box:/tmp/in", "rl cp /proc/self/fd/5 box:/tmp/in2 5<f",
                "echo more | rl cp /dev/stdin box:/tmp/d", "echo other | rl cp /dev/stdin box:/tmp/in",
                "echo z >packed; tar -czf - packed | rl cp - box:/tmp",
            ] {
                let program = support::binary();
                t.sh(&format!("rl() {{ {} \"$@\"; }}; {line}", program.display())).run().ok();
            }
            let read = |name: &str| fs::read_to_string(t.path(name)).unwrap();
            assert_eq!([read("out"), read("got"), read("piped")], ["old\ninside\n", "inside\n", "inside\n"], "{state}");
            assert!(fs::metadata(t.path("pipe")).unwrap().file_type().is_fifo());
            assert!(fs::metadata("/dev/null").unwrap().file_type().is_char_device());
            t.rl(["cp", "box:/tmp/d", "/dev/stdout"]).run().refuses(125, "`/tmp/d`: EISDIR");
            t.rl(["cp", "/dev/stdin", "box:/tmp/none/"]).run().refuses(125, "`/tmp/none/`: ENOENT");
            t.rl(["cp", "-", "box:/tmp"]).stdin("no tar").run().refuses(125, "tar header").complains("hint: the input is to be a tar");
            if state == "running" {
                t.rl(["cp", "f", "box:/dev/null"]).run().refuses(125, "`/dev/null` is a device");
                let script = "cd /tmp; cat in in2 d/stdin packed; stat -c '%u:%g %a' in in2; rm in in2 d/stdin packed";
                assert_eq!(inside(t, "box", script), "other\nfmore\nz\n0:0 644\n0:0 644");
            }
        });
        t.rl(["start", "box"]).run().ok();
        assert_eq!(inside(t, "box", "cd /tmp; cat in in2 d/stdin packed"), "other\nfmore\nz");
        t.rl(["rm", "-f", "box"]).run().ok();
    }

    fn what_was_not_changed_is_no_change(t: [sub nosub root]) {
        t.keeps_containers();
        // With a directory where one whose root is alone gets a file mounted.
        let apt = Layer::new().dir("etc/apt", 0o755).dir("etc/apt/apt.conf.d", 0o755);
        let image = Image::busybox().layer(apt).write_for(t, "image");
        t.rl(["run", "--name", "box", "--network", "none", "-v", "data:/srv/data", &image, "true"]).run().ok();
        assert_eq!(t.rl(["diff", "box"]).run().ok().out(), "");
        t.rl(["rm", "box"]).run().ok();
        sleeping(t, "box", &[], "echo x >/etc/new; chmod 700 /home; rm /bin/true");
        assert_eq!(t.rl(["diff", "box"]).run().ok().out(), "C /bin\nD /bin/true\nC /etc\nA /etc/new\nC /home");
        t.rl(["rm", "-f", "box"]).run().ok();
    }

    fn volumes_and_binds_are_seen(t: [sub nosub root]) {
        t.keeps_containers();
        t.directory("bound");
        let bound = format!("{}:/bound", t.path("bound").display());
        sleeping(t, "box", &["-v", "data:/data", "-v", &bound], "echo v >/data/v");
        t.file("f", "f");
        running_and_stopped(t, |state| {
            t.rl(["cp", "f"]).arg(format!("box:/data/{state}")).run().ok();
            t.rl(["cp", "f"]).arg(format!("box:/bound/{state}")).run().ok();
            t.rl(["cp", "box:/data/v"]).arg(format!("v-{state}")).run().ok();
            assert_eq!(fs::read(t.path(format!("v-{state}"))).unwrap(), b"v\n");
            assert_eq!(fs::read(t.path("bound").join(state)).unwrap(), b"f");
        });
        // What is mounted does not belong to the container's root file system.
        let table = listed(t, &t.rl(["export", "box"]).run().ok().stdout);
        assert!(!table.contains("data/v") && !table.contains("bound/running"), "{table}");
        let seen = t.run_with(&["-v", "data:/d"], ["ls", "/d"]).run().ok().out();
        assert_eq!(seen, "running\nstopped\nv");
        t.rl(["rm", "-f", "box"]).run().ok();
        // One that never ran has no places for its mounts yet.
        t.rl(["create", "--name", "new", "--network", "none", "-v", "data:/some/where"]).arg(images::busybox()).args(["ls", "/some/where"]).run().ok();
        t.rl(["cp", "f", "new:/some/where/early"]).run().ok();
        assert_eq!(t.rl(["start", "-a", "new"]).run().ok().out(), "early\nrunning\nstopped\nv");
        t.rl(["rm", "new"]).run().ok();
    }

    /// Where only one id exists, other owners are remembered beside the files.
    fn an_owner_that_could_not_be_given(t: [nosub]) {
        t.keeps_containers();
        let image = Image::busybox().layer(Layer::new().owned("srv/f", 0o644, 1000, "f")).write_for(t, "image");
        t.rl(["create", "--name", "box", "--network", "none", &image]).run().ok();
        let noted = |name: &str| rustix::fs::lgetxattr(t.path(name), "user.rl.owner", &mut [0; 64]).is_ok();
        t.rl(["cp", "box:/srv/f", "plain"]).run().ok();
        t.rl(["cp", "-a", "box:/srv/f", "kept"]).run().ok();
        assert_eq!((noted("plain"), noted("kept")), (false, true));
        t.rl(["cp", "-a", "kept", "box:/srv/back"]).run().ok();
        t.rl(["cp", "kept", "box:/srv/root"]).run().ok();
        let table = listed(t, &t.rl(["cp", "box:/srv", "-"]).run().ok().stdout);
        let owner = |name: &str| table.lines().find(|l| l.ends_with(name)).unwrap_or_else(|| panic!("{table}")).split_whitespace().nth(1).unwrap().to_owned();
        assert_eq!([owner("srv/back"), owner("srv/f"), owner("srv/root")], ["1000/1000", "1000/1000", "0/0"]);
        t.rl(["rm", "box"]).run().ok();
    }

    fn what_is_read_only_stays_so(t: [sub nosub root]) {
        t.keeps_containers();
        t.directory("bound");
        t.file("f", "f");
        let bound = format!("{}:/bound:ro", t.path("bound").display());
        sleeping(t, "box", &["--read-only", "-v", "data:/data:ro", "-v", &bound, "-v", "free:/free"], "true");
        running_and_stopped(t, |state| {
            for target in ["/bound/f", "/data/f", "/home/f"] {
                t.rl(["cp", "f", &format!("box:{target}")]).run().refuses(125, "EROFS");
            }
            t.rl(["cp", "f", "box:/free"]).run().ok();
            t.rl(["cp", "box:/etc/passwd"]).arg(state).run().ok();
        });
        assert_eq!(fs::read_dir(t.path("bound")).unwrap().count(), 0);
        t.rl(["rm", "-f", "box"]).run().ok();
    }

    fn nothing_outside_is_read_or_written(t: [sub nosub root]) {
        t.keeps_containers();
        let canary = t.file("canary", "a secret of the host");
        let dir = t.path(".");
        let dir = dir.display();
        // In each name the path leads out, or would if it were followed by somebody outside.
        let up = format!("/../../../../../../../..{dir}");
        let proc = format!("/proc/self/root{dir}");
        let first = format!("/proc/1/root{dir}");
        let cwd = "/proc/self/cwd".to_owned();
        let outs = [format!("{dir}"), up, proc, first, cwd];
        let mut script = "mkdir /evil; cd /evil\n".to_owned();
        for (i, out) in outs.iter().enumerate() {
            script += &format!("ln -s {out} dir{i}; ln -s {out}/canary file{i}; mkdir d{i}; ln -s {out}/canary d{i}/canary\n");
        }
        let plain = script.clone();
        for made in [false, true] {
            // With the same path made inside, what is written lands there.
            let script = if made { format!("mkdir -p {dir}; {plain}") } else { plain.clone() };
            sleeping(t, "box", &[], &script);
            for state in ["running", "stopped"] {
                t.directory(&format!("got-{state}-{made}"));
            }
            let before = t.sh("ls -A; stat -c '%n %s %a %y' canary").run().ok().out();
            for state in ["running", "stopped"] {
                let got = t.path(format!("got-{state}-{made}"));
                for i in 0..outs.len() {
                    for source in [format!("dir{i}/canary"), format!("file{i}"), format!("file{i}/"), format!("dir{i}/."), format!("dir{i}/")] {
                        let source = format!("box:/evil/{source}");
                        t.rl(["cp", "-L", &source]).arg(&got).run();
                        let archive = t.rl(["cp", "-L", &source, "-"]).run().stdout;
                        assert!(!String::from_utf8_lossy(&archive).contains("secret"), "{source}");
                    }
                    t.rl(["cp", "-L", &format!("box:/evil/d{i}")]).arg(&got).run();
                    t.file("own", "written");
                    for target in [format!("dir{i}/canary"), format!("dir{i}/new-{i}"), format!("file{i}"), format!("dir{i}"), format!("d{i}/canary")] {
                        t.rl(["cp", "own", &format!("box:/evil/{target}")]).run();
                    }
                    t.directory("tree");
                    t.sh("echo written >tree/canary; tar -c -C tree . >tree.tar").run().ok();
                    t.rl(["cp", "tree/.", &format!("box:/evil/dir{i}")]).run();
                    t.rl(["cp", "-", &format!("box:/evil/dir{i}")]).stdin(fs::read(t.path("tree.tar")).unwrap()).run();
                    t.sh("rm -r tree tree.tar own").run().ok();
                }
                let found = t.sh(&format!("grep -rl secret {} || true", got.display())).run().ok().out();
                assert_eq!(found, "", "{state}");
                assert_eq!(fs::read(&canary).unwrap(), b"a secret of the host");
                assert_eq!(t.sh("ls -A; stat -c '%n %s %a %y' canary").run().ok().out(), before, "{state}");
                if state == "running" {
                    // The same path inside is what was meant.
                    let there = inside(t, "box", &format!("cat {dir}/canary || true"));
                    assert_eq!(there, if made { "written" } else { "" });
                    t.rl(["stop", "-t", "0", "box"]).run().ok();
                }
            }
            t.rl(["rm", "-f", "box"]).run().ok();
        }
    }

    fn a_link_that_changes_while_it_is_followed(t: [sub root]) {
        t.keeps_containers();
        t.file("canary", "a secret of the host");
        t.file("own", "written");
        let dir = t.path(".");
        let flip = format!("mkdir -p /evil/real; echo i >/evil/real/canary; cd /evil; (while :; do ln -sfn {} way; rm -f way; mkdir way; echo i >way/canary; rm -r way; done) 2>/dev/null &", dir.display());
        sleeping(t, "box", &[], &flip);
        for _ in 0..30 {
            let archive = t.rl(["cp", "-L", "box:/evil/way", "-"]).run().stdout;
            assert!(!String::from_utf8_lossy(&archive).contains("secret"));
            t.rl(["cp", "own", "box:/evil/way/canary"]).run();
        }
        assert_eq!(fs::read(t.path("canary")).unwrap(), b"a secret of the host");
        t.rl(["rm", "-f", "box"]).run().ok();
    }

    fn what_is_no_file_holds_nobody_up(t: [sub root]) {
        t.keeps_containers();
        sleeping(t, "box", &[], "mkdir /w; cd /w; mkfifo pipe; echo f >f");
        t.file("f", "new");
        t.sh("mkfifo pipe").run().ok();
        t.rl(["cp", "box:/w", "got"]).run().ok();
        assert!(fs::symlink_metadata(t.path("got/pipe")).unwrap().file_type().is_fifo());
        t.rl(["cp", "box:/dev/null", "null"]).run().ok().complains("device nodes are not copied");
        assert!(!t.path("null").exists());
        let archive = t.rl(["cp", "box:/dev/zero", "-"]).run().ok().stdout;
        assert!(listed(t, &archive).starts_with("crw"), "{}", listed(t, &archive));
        // A FIFO is replaced, not written to.
        t.rl(["cp", "f", "box:/w/pipe"]).run().ok();
        t.rl(["cp", "pipe", "box:/w/f"]).run().ok();
        assert_eq!(inside(t, "box", "cat /w/pipe; test -p /w/f && echo pipe"), "newpipe");
        t.rl(["rm", "-f", "box"]).run().ok();
    }

    fn nobody_else_runs_what_was_copied_out_as_the_caller(t: [sub nosub root]) {
        t.keeps_containers();
        sleeping(t, "box", &[], "mkdir -p /w/dir; cp /bin/busybox /w/program; chmod 6755 /w/program; chmod 2775 /w/dir");
        let mode = |name: &str| fs::metadata(t.path(name)).unwrap().permissions().mode() & 0o7777;
        t.rl(["cp", "box:/w", "plain"]).run().ok();
        t.rl(["cp", "box:/w/program", "single"]).run().ok();
        assert_eq!([mode("plain/program"), mode("single"), mode("plain/dir")], [0o755, 0o755, 0o2775]);
        t.rl(["cp", "-a", "box:/w", "kept"]).run().ok();
        assert_eq!(mode("kept/program"), 0o6755);
        // The way in is none to another user.
        t.rl(["cp", "kept/program", "box:/w/again"]).run().ok();
        assert_eq!(inside(t, "box", "stat -c %a /w/program"), "6755");
        t.rl(["rm", "-f", "box"]).run().ok();
    }

    fn exported_and_imported_it_is_the_same(t: [sub nosub root]) {
        t.keeps_containers();
        let owned = if t.who.has_many_ids() { "chown -hR 1000:1001 d l; chown 7 s" } else { "true" };
        let long = "n".repeat(180);
        sleeping(t, "box", &[], &format!("cd /home; mkdir -p d/{long}; echo x >d/{long}/{long}; ln -s {long}{long} l; echo u >'\u{fc}mlaut x'; \
            mkfifo p; ln d/{long}/{long} hard; echo s >s; chmod 4755 s; chmod 1777 d; touch -d '1999-12-31 23:59:58' s hard; {owned}; chmod 4755 s; rm -r /usr"));
        t.file("marked", "m");
        rustix::fs::setxattr(t.path("marked"), "user.colour", b"blue", rustix::fs::XattrFlags::empty()).unwrap();
        t.rl(["cp", "marked", "box:/home"]).run().ok();
        let see = "find / -xdev ! -path '/proc*' ! -path '/sys*' ! -path '/dev*' ! -path '/etc/host*' ! -path /etc/resolv.conf | sort | while read -r p; do stat -c '%N %f %u %g %s %h' \"$p\"; test -d \"$p\" || stat -c %Y \"$p\"; done | sed 's/^\\(.*\\) 41ed 0 0 [0-9]* [0-9]*$/\\1 directory/; s/\\(4[0-9a-f]* [0-9]* [0-9]*\\) [0-9]* [0-9]*$/\\1/'";
        let before = inside(t, "box", see);
        assert!(before.contains("/home/s 89ed"), "{before}");
        t.rl(["export", "-o", "one.tar", "box"]).run().ok();
        // Some give a file what is said beside each of its names.
        let names = "tar --full-time --numeric-owner -tvf one.tar | grep -E ' home/(hard link|d/n+/n+$)' | cut -c 2- | awk '{print $1, $2, $4, $5}' | uniq -c";
        let names = t.sh(names).run().ok().out();
        assert!(names.trim_start().starts_with("2 rw-") && names.ends_with(" 1999-12-31 23:59:58"), "{names}");
        t.rl(["stop", "-t", "0", "box"]).run().ok();
        t.sh("$RL export box >two.tar").run().ok();
        for name in ["one", "two"] {
            t.rl(["import", "-c", "CMD [\"sleep\",\"1000\"]"]).arg(format!("{name}.tar")).arg(format!("my/{name}")).run().ok();
            let options = ["run", "-d", "--name", name, "--network", "none"];
            t.rl(options).arg(format!("my/{name}")).run().ok();
            assert_eq!(inside(t, name, see), before, "{name}");
            t.rl(["cp"]).args([format!("{name}:/home/marked"), format!("from-{name}")]).run().ok();
            assert_eq!(xattr(&t.path(format!("from-{name}")), "user.colour"), b"blue");
        }
        // What is not finished takes no name.
        t.rl(["export", "-o", "none/x.tar", "box"]).run().refuses(125, "none/x.tar");
        assert!(!t.path("two.tar.part").exists());
        t.rl(["rm", "-f", "-a"]).run().ok();
    }

    fn a_commit_keeps_what_changed(t: [sub nosub root]) {
        t.keeps_containers();
        let tree = Layer::new().dir("t", 0o755).file("t/gone", 0o644, "g").dir("t/again", 0o755).file("t/again/old", 0o644, "o")
            .dir("t/kept", 0o755).file("t/kept/old", 0o644, "o");
        let image = Image::busybox().layer(tree).config("Labels", json!({"a": "b"})).write_for(t, "image");
        let change = "cd /t; rm gone; rm -r again; mkdir again; echo n >again/new; echo n >kept/new; chmod 600 kept/old";
        t.rl(["run", "-d", "--name", "box", "--network", "none", "-e", "X=y", "-w", "/t"]).arg(&image)
            .args(["sh", "-c", &format!("{change}; echo ready; exec sleep 1000")]).run().ok();
        support::wait_for("its changes", || t.rl(["logs", "box"]).run().ok().out() == "ready");
        let see = "find /t | sort; stat -c %a /t/kept/old; cat /t/kept/old; echo $X; pwd";
        let wanted = "/t\n/t/again\n/t/again/new\n/t/kept\n/t/kept/new\n/t/kept/old\n600\noy\n/t";
        let run = |name: &str| t.rl(["run", "--rm", "--network", "none", name, "sh", "-c", see]).run().ok().out();
        let words = ["-m", "a comment", "-a", "Ada <ada@example.org>", "-c", "ENTRYPOINT [\"env\"]", "-c", "LABEL c=d"];
        let id = t.rl(["commit"]).args(words).args(["box", "my/one"]).run().ok().out();
        assert!(id.starts_with("sha256:") && id.len() == 71, "{id}");
        assert_eq!(run("my/one"), wanted);
        // It was paused for that, and goes on.
        assert_eq!(t.rl(["inspect", "-f", "{{.State.Status}}", "box"]).run().ok().out(), "running");
        t.rl(["commit", "--pause=false", "box", "my/two"]).run().ok();
        t.rl(["commit", "--no-pause", "box", "my/on"]).run().ok();
        // Only the first one has stopped it meanwhile.
        let told = t.rl(["events", "--since", "1h", "--until", "0s", "--filter", "event=pause", "--format", "{{.Action}}"]).run().ok().out();
        assert_eq!(told, "pause");
        t.rl(["stop", "-t", "0", "box"]).run().ok();
        t.rl(["commit", "box", "my/three:tag"]).run().ok();
        let nameless = t.rl(["commit", "box"]).run().ok().out();
        for name in ["my/two", "my/on", "my/three:tag", &nameless] {
            assert_eq!(run(name), wanted, "{name}");
        }
        let inspected = |format: &str| t.rl(["inspect", "-f", format, "my/one"]).run().ok().out();
        assert_eq!(inspected("{{.Config.Entrypoint}} {{.Config.Labels}} {{.Author}}"), "[env] map[a:b c:d] Ada <ada@example.org>");
        let steps = t.rl(["history", "--no-trunc", "--format", "{{.CreatedBy}}|{{.Comment}}", "my/one"]).run().ok().out();
        let newest = steps.lines().next().unwrap();
        assert!(newest.starts_with("sh -c cd /t; rm gone") && newest.ends_with("|a comment"), "{steps}");
        // What it was made of, as long as that is there.
        let id_of = |name: &str| t.rl(["inspect", "-f", "{{.Id}} of {{.Parent}}", name]).run().ok().out();
        let (base, two) = (t.rl(["inspect", "-f", "{{.Image}}", "box"]).run().ok().out(), id_of("my/two"));
        assert_eq!(two.split_once(" of ").unwrap().1, base);
        t.rl(["tag", "my/two", "my/other"]).run().ok();
        assert_eq!((id_of("my/other"), id_of(&base)), (two.clone(), format!("{base} of")));
        // One on top of another.
        t.rl(["run", "--name", "more", "--network", "none", "my/two", "sh", "-c", "rm /t/kept/new"]).run().ok();
        t.rl(["commit", "more", "my/four"]).run().ok();
        assert_eq!(run("my/four"), wanted.replace("/t/kept/new\n", ""));
        assert!(id_of("my/four").ends_with(two.split_once(' ').unwrap().0));
        t.rl(["rm", "more"]).run().ok();
        t.rl(["rmi", "-f", "my/two", "my/other"]).run().ok();
        assert!(id_of("my/four").ends_with(" of"), "{}", id_of("my/four"));
        t.rl(["commit", "-c", "RUN x", "box"]).run().refuses(125, "RUN x");
        t.rl(["commit", "nobody"]).run().refuses(125, "no such container");
        t.rl(["rm", "-f", "-a"]).run().ok();
    }

    fn who_reads_no_more_of_an_archive_is_told_nothing(t: [sub]) {
        t.rl(["run", "-d", "--name", "box", "--network", "none"]).arg(images::busybox()).args(["sleep", "1000"]).run().ok();
        for verb in ["export box", "cp box:/bin -"] {
            let read = t.sh(&format!("$RL {verb} | head -c 10 | wc -c")).run().ok();
            assert_eq!((read.out().as_str(), read.err().as_str()), ("10", ""), "{verb}");
        }
        t.rl(["exec", "box", "sh", "-c", "echo x >/new; rm /etc/group"]).run().ok();
        let changes: serde_json::Value = serde_json::from_str(&t.rl(["diff", "--format", "json", "box"]).run().ok().out()).unwrap();
        assert_eq!(changes, json!({"added": ["/new"], "changed": ["/etc"], "deleted": ["/etc/group"]}));
        t.rl(["rm", "-f", "box"]).run().ok();
    }

    fn an_image_comes_into_the_index_at_once(t: [sub root]) {
        if !support::can_trace() {
            return;
        }
        t.keeps_containers();
        t.rl(["run", "--name", "box", "--network", "none"]).arg(images::busybox()).arg("true").run().ok();
        t.rl(["export", "-o", "box.tar", "box"]).run().ok();
        let index: String = "index.json".bytes().map(|byte| format!("\\x{byte:02x}")).collect();
        for words in [&["import", "box.tar", "my/import"][..], &["import", "box.tar"], &["commit", "box", "my/commit"], &["commit", "box"]] {
            let record = t.path("record");
            t.rl(words).recorded_calls(&record, "trace=rename,renameat,renameat2").run().ok();
            let record = fs::read_to_string(record).unwrap();
            let times = record.lines().filter(|line| line.contains(&index)).count();
            assert_eq!(times, 1, "{words:?}: {record}");
        }
        // What cannot be unpacked is no image, and takes nobody's name.
        let tar = fs::read(t.path("box.tar")).unwrap();
        t.file("cut.tar", &tar[..tar.len() / 2]);
        let images = || t.rl(["images", "-a", "--no-trunc", "--format", "{{.ID}} {{.Repository}}:{{.Tag}}"]).run().ok().out();
        let before = images();
        t.rl(["import", "cut.tar", "my/import"]).run().refuses(125, "");
        t.rl(["import", "cut.tar"]).run().refuses(125, "");
        assert_eq!(images(), before);
        t.rl(["rm", "box"]).run().ok();
    }

    fn others_read_a_commit(t: [sub root]) {
        if !support::have("skopeo") {
            return;
        }
        t.keeps_containers();
        t.rl(["run", "--name", "box", "--network", "none"]).arg(images::busybox())
            .args(["sh", "-c", "rm /etc/group; rm -r /home; mkdir /home; echo n >/home/new"]).run().ok();
        t.rl(["commit", "-m", "c", "box", "my/one"]).run().ok();
        let store = t.dir().join("data/rl/images");
        let ours = format!("oci:{}:docker.io/my/one:latest", store.display());
        let told = t.program("skopeo").args(["inspect", "--config", &ours]).run().ok().out();
        let config: serde_json::Value = serde_json::from_str(&told).unwrap();
        assert_eq!(config["history"].as_array().unwrap().last().unwrap()["comment"], "c");
        let policy = t.file("policy.json", r#"{"default":[{"type":"insecureAcceptAnything"}]}"#);
        let copied = t.path("copied");
        t.program("skopeo").arg("--policy").arg(policy).args(["copy", "-q", &ours]).arg(format!("dir:{}", copied.display())).run().ok();
        let manifest: serde_json::Value = serde_json::from_slice(&fs::read(copied.join("manifest.json")).unwrap()).unwrap();
        let layers = manifest["layers"].as_array().unwrap();
        assert_eq!((layers.len(), config["rootfs"]["diff_ids"].as_array().unwrap().len()), (2, 2));
        let top = layers[1]["digest"].as_str().unwrap().trim_start_matches("sha256:");
        let mut names: Vec<String> = t.program("tar").args(["-tzf"]).arg(copied.join(top)).run().ok().out().lines().map(str::to_owned).collect();
        names.sort();
        assert_eq!(names, ["etc/", "etc/.wh.group", "home/", "home/.wh..wh..opq", "home/new"]);
        t.rl(["rm", "box"]).run().ok();
    }
}
