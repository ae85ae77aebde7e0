//! `rl diff` and `rl apply`.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};

use crate::support::{Env, Identity};
use crate::{home, put, snapshot};

/// Runs a script in a container that stays, in the working directory; its output.
#[track_caller]
fn keep(t: &Env, name: &str, script: &str) -> String {
    t.keeps_containers();
    let run = [
        "run",
        "--quiet",
        "--network",
        "none",
        "--name",
        name,
        "host",
    ];
    t.rl(run).args(["sh", "-c", script]).run().ok().out()
}

#[track_caller]
fn diff(t: &Env, name: &str) -> Vec<String> {
    let output = t.rl(["diff", name]).run().ok().out();
    let work = t.path("");
    let (work, home) = (
        work.to_str().unwrap().trim_end_matches('/'),
        home(t).display().to_string(),
    );
    output
        .lines()
        .map(|line| line.replace(work, ".").replace(&home, "~"))
        .collect()
}

/// What find(1) tells of the working directory, inside as outside.
const LOOK: &str = "find . -type f -printf '%P %m %s %T@\\n' -exec cksum {} + -o -printf '%P %y %m %T@ %l\\n' | sort";

/// Something to change.
fn furnish(t: &Env) {
    for name in [
        "mod",
        "del",
        "d1/sub/f",
        "d2/x",
        "d2/deep/er/y",
        "keep/k",
        "gone/a/b",
        "dir-to-file/x",
        "same/file",
    ] {
        put(t, &t.path(name), name);
    }
    t.directory("empty");
    t.directory("link-to-dir-is");
    t.sh("ln -s mod link").run().ok();
    rustix::fs::setxattr(
        t.path("mod"),
        c"user.rl",
        b"kept",
        rustix::fs::XattrFlags::empty(),
    )
    .unwrap();
}

const CHANGE: &str = "echo more >>mod; rm del; mv d1 d1new; rm -rf d2; mkdir d2; echo z >d2/new; mkdir -p d2/deep
    chmod 600 keep/k; rmdir empty; echo file >empty; ln -sfn /etc/passwd link; ln -s nowhere dangling; mkfifo pipe
    touch -d 2001-01-01 old; mkdir -m 700 private; echo secret >private/s; chmod 0 private/s; touch -d 2002-02-02 private
    rm -r gone; rm -r dir-to-file; echo x >dir-to-file; cp --preserve=xattr mod copy; touch -d 2003-03-03 same; cat same/file >/dev/null";

identities! {
    fn a_round_trip(t: [sub nosub unshared]) {
        furnish(t);
        let before = snapshot(&t.path(""));
        let seen = keep(t, "x", &format!("{CHANGE}\n chmod 400 private/s; {LOOK}; chmod 0 private/s; touch -d 2002-02-02 private"));
        assert_eq!(before, snapshot(&t.path("")), "nothing is written before it is asked for");
        assert_eq!(diff(t, "x"), [
            "C .", "A ./copy", "D ./d1", "A ./d1new", "A ./d1new/sub", "A ./d1new/sub/f", "C ./d2", "C ./d2/deep", "D ./d2/deep/er", "A ./d2/new", "D ./d2/x",
            "A ./dangling", "D ./del", "C ./dir-to-file", "C ./empty", "D ./gone", "C ./keep", "C ./keep/k", "C ./link", "C ./mod", "A ./old", "A ./pipe",
            "A ./private", "A ./private/s", "C ./same",
        ]);
        t.rl(["apply", "x"]).run().refuses(125, "no terminal");
        assert_eq!(before, snapshot(&t.path("")));
        t.rl(["apply", "--yes", "x"]).run().ok().complains("carried over 25 changes");
        let applied = t.sh(&format!("chmod 400 private/s; {LOOK}; chmod 0 private/s")).run().ok().out();
        let plain = |text: &str| text.lines().filter(|l| !l.starts_with("private ")).map(str::to_owned).collect::<Vec<_>>();
        assert_eq!(plain(&applied), plain(&seen));
        let xattr = |name: &str| {
            let mut value = [0u8; 16];
            let length = rustix::fs::getxattr(t.path(name), c"user.rl", &mut value[..]).unwrap();
            value[..length].to_vec()
        };
        assert_eq!((xattr("mod"), xattr("copy")), (b"kept".to_vec(), b"kept".to_vec()));
        assert_eq!(fs::metadata(t.path("private/s")).unwrap().permissions().mode() & 0o7777, 0);
        t.rl(["rm", "x"]).run().ok();
    }

    fn asked_at_the_terminal(t: [sub nosub root]) {
        put(t, &t.path("file"), "old");
        // Root's own files are nobody's inside: it can add some.
        let script = if t.who == Identity::Root { "echo new >added" } else { "echo new >added; rm file" };
        let run = |words: &[&str]| t.rl(["run", "--rm", "--network", "none"]).args(words).args(["sh", "-c", script]).terminal();
        let mut terminal = run(&["--apply", "host"]);
        terminal.expect("added");
        terminal.expect("[y/N]");
        assert!(!t.path("added").exists());
        terminal.send("\r");
        terminal.exits(0);
        assert!(!t.path("added").exists() && t.path("file").exists());
        if t.who == Identity::Root {
            return;
        }
        let mut terminal = run(&["host", "--apply"]);
        terminal.expect("1 deleted");
        terminal.expect("[y/N]");
        terminal.send("y\r");
        terminal.expect("carried over");
        terminal.exits(0);
        assert_eq!(fs::read_to_string(t.path("added")).unwrap(), "new\n");
        assert!(!t.path("file").exists());
    }

    fn ctrl_c_at_the_question_keeps_the_container(t: [sub]) {
        t.keeps_containers();
        let mut terminal = t.rl(["run", "--rm", "--name", "x", "--apply", "--network", "none", "host", "sh", "-c", "echo new >added"]).terminal();
        terminal.expect("[y/N]");
        terminal.send("\x03");
        terminal.wait();
        t.quiet();
        assert!(!t.path("added").exists());
        t.rl(["apply", "-y", "x"]).run().ok();
        assert!(t.path("added").exists());
    }

    fn without_being_asked(t: [sub nosub unshared]) {
        let run = |words: &[&str], script: &str| t.rl(["run", "--network", "none"]).args(words).args(["sh", "-c", script]).run();
        run(&["--rm", "--apply", "host"], "touch ran; touch /tmp/ran").refuses(125, "no terminal");
        run(&["--rm", "host", "--apply"], "true").refuses(125, "no terminal");
        run(&["--rm", "--apply=yes", "oci:nowhere"], "true").refuses(125, "host");
        run(&["--rm", "--apply=yes", "host"], "echo one >one").ok().complains("carried over");
        run(&["--rm", "host", "--apply=yes"], "echo two >two").ok();
        run(&["--rm", "host", "--apply=yes"], "true").ok().complains("nothing has changed");
        assert_eq!(fs::read_to_string(t.path("one")).unwrap() + &fs::read_to_string(t.path("two")).unwrap(), "one\ntwo\n");
        t.keeps_containers();
        // A command that failed half way is not carried over behind one's back, and not lost either.
        run(&["--rm", "--name", "half", "--apply=yes", "host"], "echo x >three; exit 7").exits(7).complains("kept as `half`");
        assert!(!t.path("three").exists());
        t.rl(["apply", "-y", "half"]).run().ok();
        assert!(t.path("three").exists());
        t.rl(["rm", "half"]).run().ok();
    }

    fn what_was_written_inside_does_no_harm(t: [sub nosub unshared]) {
        keep(t, "x", "cp /bin/true program; chmod 6755 program; mkdir dir; chmod 2775 dir; truncate -s 3G large; printf end >>large");
        let output = t.rl(["apply", "--yes", "x"]).run().ok();
        assert!(output.err().contains("program` is without its set-user-id"), "{}", output.err());
        let meta = |name: &str| fs::metadata(t.path(name)).unwrap();
        assert_eq!(meta("program").permissions().mode() & 0o7777, 0o755);
        assert_eq!(meta("dir").permissions().mode() & 0o7777, 0o2775);
        // Holes stay holes: one could fill the disk.
        assert!(meta("large").blocks() < 1000, "{}", meta("large").blocks());
        assert_eq!(t.sh("tail -c 4 large | od -An -c; stat -c %s large").run().ok().out().trim(), "\\0   e   n   d\n3221225475");
    }

    fn what_a_terminal_would_obey_is_told_as_text(t: [sub nosub]) {
        t.directory("closed");
        fs::set_permissions(t.path("closed"), fs::Permissions::from_mode(0o555)).unwrap();
        keep(t, "x", "chmod 755 closed; mkdir \"closed/$(printf '\\033[31m')\"");
        let told = t.rl(["apply", "--yes", "x"]).run().complains("mkdirat");
        assert!(!told.err().contains('\u{1b}') && told.err().contains("\\x1b[31m"), "{}", told.err());
    }

    /// Deeper than any path can say, and than a process has descriptors.
    fn what_has_no_bottom(t: [sub nosub unshared]) {
        const DIG: &str = "perl -e 'for (1..3000) { mkdir \"d\" or die; chdir \"d\" or die }'";
        keep(t, "x", DIG);
        for verb in [&["diff"][..], &["apply", "--yes"]] {
            t.rl(verb).arg("x").run().refuses(125, "more than 2048 directories in one another");
        }
        assert!(!t.path("d").exists());
        t.sh("ulimit -n 200; $RL rm x").run().ok();
        assert_eq!(fs::read_dir(t.dir().join("data/rl/containers")).unwrap().filter(|e| e.as_ref().unwrap().file_name().len() >= 64).count(), 0);
        t.sh(&format!("$RL volume create v; cd $($RL volume inspect -f {{{{.Mountpoint}}}} v) && {DIG} && cd / && ulimit -n 200 && $RL volume rm v")).run().ok();
    }

    fn what_is_not_ones_own_stays(t: [sub nosub]) {
        if !crate::support::identity::is_root() {
            return crate::support::skip("only root makes files of others");
        }
        let outside = t.dir().join("outside");
        fs::create_dir(&outside).unwrap();
        fs::write(outside.join("canary"), "as it was").unwrap();
        for name in ["theirs", "tree/theirs", "swapped/file", "mine"] {
            put(t, &t.path(name), "old");
        }
        for name in ["theirs", "tree/theirs"] {
            std::os::unix::fs::chown(t.path(name), Some(0), Some(0)).unwrap();
        }
        keep(t, "x", "rm -f theirs; rm -rf tree; echo new >swapped/file; echo new >swapped/canary; echo new >mine; echo new >fresh");
        // Somebody puts a link to another place where a directory was.
        fs::rename(t.path("swapped"), t.path("aside")).unwrap();
        std::os::unix::fs::symlink(&outside, t.path("swapped")).unwrap();
        std::os::unix::fs::lchown(t.path("swapped"), Some(t.uid()), Some(t.uid())).unwrap();
        let output = t.rl(["apply", "-y", "x"]).run().refuses(125, "2 of");
        for text in ["theirs`: on this machine it belongs to uid 0", "tree`: `theirs` in it: on this machine it belongs to uid 0"] {
            assert!(output.err().contains(text), "{}", output.err());
        }
        assert!(t.path("theirs").exists() && t.path("tree/theirs").exists());
        assert_eq!(fs::read_to_string(t.path("mine")).unwrap(), "new\n");
        assert_eq!(fs::read_to_string(t.path("fresh")).unwrap(), "new\n");
        assert_eq!(fs::read_dir(&outside).unwrap().count(), 1);
        assert_eq!(fs::read_to_string(outside.join("canary")).unwrap(), "as it was");
        assert!(fs::symlink_metadata(t.path("swapped")).unwrap().is_dir());
        let left = fs::read_dir(t.path("")).unwrap().map(|e| e.unwrap().file_name());
        assert!(left.into_iter().all(|name| !name.to_string_lossy().starts_with(".rl-apply")));
    }

    fn changes_of_an_image(t: [sub nosub root]) {
        t.keeps_containers();
        let image = crate::support::images::busybox();
        let script = "echo x >/etc/motd; rm /etc/group; mkdir /new; touch /new/file; rm -rf /home; mkdir /home; touch /home/mine; mkdir -m 700 /root/closed; touch /root/closed/x";
        let options = ["run", "--name", "x", "--quiet", "--network", "none", "-v", "box:/some/where"];
        t.rl(options).args([image, "sh", "-c", script]).run().ok();
        let before = t.rl(["run", "--rm", "--network", "none", image, "sh", "-c", "test -e /etc/motd && echo C || echo A; ls -d /root /home/* 2>/dev/null"]).run().ok().out();
        let mut lines = before.lines();
        let motd = lines.next().unwrap().to_owned();
        let mut expected = vec!["C /etc".into(), "D /etc/group".into(), format!("{motd} /etc/motd"), "C /home".into(), "A /home/mine".into(), "A /new".into(), "A /new/file".into()];
        let root = if lines.clone().any(|l| l == "/root") { "C" } else { "A" };
        expected.extend(lines.filter(|l| *l != "/root").map(|l| format!("D {l}")));
        expected.extend([format!("{root} /root"), "A /root/closed".into(), "A /root/closed/x".into()]);
        expected.sort_by(|a, b| a[2..].cmp(&b[2..]));
        assert_eq!(t.rl(["diff", "x"]).run().ok().out().lines().collect::<Vec<_>>(), expected);
        t.rl(["apply", "-y", "x"]).run().refuses(125, "no view");
        t.rl(["diff", "nobody"]).run().refuses(125, "no such container");
        t.rl(["rm", "x"]).run().ok();
    }
}
