//! What the machine may refuse: whatever the rung, nothing outside changes, and less is said.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use crate::support::{Env, Identity, can_trace, images};
use crate::{CONNECT, home, host, put, snapshot};

fn traced() -> Option<Env> {
    can_trace().then(|| Env::new(Identity::Sub))?
}

/// A script that writes where it can, and tells of a socket that it must not reach.
fn script(t: &Env) -> String {
    let agent = home(t).join("agent");
    format!(
        "echo x >canary; echo x >$HOME/canary; echo x >/etc/x; {CONNECT} {}; exit 0",
        agent.display()
    )
}

#[test]
fn any_mount_may_fail() {
    let Some(t) = traced() else { return };
    t.keeps_containers();
    for place in [home(&t), t.path(".")] {
        put(&t, &place.join("canary"), "as it was");
    }
    let agent = home(&t).join("agent");
    let _listener = UnixListener::bind(&agent).unwrap();
    t.own(&agent);
    let before = [home(&t), t.path(".")].map(|p| snapshot(&p));
    let (mut memory, mut read_only, mut refused, mut turns) = (0, 0, 0, 0);
    for rm in [true, false] {
        for n in 1.. {
            let options: &[&str] = if rm { &["--rm"] } else { &[] };
            let run = t.rl(["run", "--network", "none"]).args(options);
            let run = run.args(["host", "sh", "-c", &script(&t)]);
            // The tracer would stay as long as who keeps a namespace.
            let run = run
                .env("RL_USERNS_WARM", "0")
                .traced([format!("inject=mount:error=EOPNOTSUPP:when={n}")]);
            let output = run.run();
            let err = output.err();
            assert!(!output.out().contains("connected"), "mount {n}: {output:?}");
            assert_eq!(
                before,
                [home(&t), t.path(".")].map(|p| snapshot(&p)),
                "mount {n}"
            );
            match output.code() {
                0 if err.contains("is kept in memory") => memory += 1,
                0 if err.contains("is read-only: there is no copy-on-write view") => {
                    assert!(err.contains("Read-only file system"), "{err}");
                    read_only += 1;
                }
                0 => {}
                125 => {
                    assert!(
                        err.contains("error: ") && err.contains("EOPNOTSUPP"),
                        "mount {n}: {err}"
                    );
                    refused += 1;
                }
                other => panic!("mount {n}: {other}: {err}"),
            }
            turns += 1;
            if output.code() == 0 && !err.contains("rl:") && n > 25 {
                break;
            }
            assert!(n < 80, "it goes on failing: {err}");
        }
    }
    // Three views: of the home directory, of /tmp and of the working directory.
    assert_eq!((memory, read_only), (3, 3), "of {turns}, {refused} refused");
    assert!(refused > 20);
}

#[test]
fn without_mount_setattr() {
    let Some(t) = traced() else { return };
    let run = t.rl([
        "run",
        "--rm",
        "--quiet",
        "--network",
        "none",
        "host",
        "sh",
        "-c",
        "echo x >/var/tmp/x; grep -v ' / / ' /proc/self/mountinfo; echo x >canary",
    ]);
    let output = run.traced(["inject=mount_setattr:error=ENOSYS"]).run().ok();
    assert!(
        output.err().contains("Read-only file system"),
        "{}",
        output.err()
    );
    assert!(!t.path("canary").exists());
    for line in output.out().lines() {
        let fields: Vec<&str> = line.split(' ').collect();
        let own = [
            "/proc",
            "/dev",
            "/run",
            "/tmp",
            "/etc",
            "/sys",
            t.dir().to_str().unwrap(),
        ];
        let hidden = fields[3] == "/null";
        let writable = !hidden && fields[5].split(',').any(|word| word == "rw");
        assert!(
            !writable || own.iter().any(|p| fields[4].starts_with(p)),
            "{line}"
        );
    }
}

/// A directory with this mode and another in it, both of a user's.
fn private(t: &Env, name: &str, owner: u32) -> (PathBuf, PathBuf) {
    let dir = t.path(name);
    let inner = dir.join("inner");
    fs::create_dir_all(&inner).unwrap();
    for path in [&dir, &inner] {
        chown(path, Some(owner), Some(owner)).unwrap();
    }
    fs::set_permissions(&dir, fs::Permissions::from_mode(0o700)).unwrap();
    (dir, inner)
}

/// Lets another user pass a directory that is closed to others (acl(5); include/uapi/linux/posix_acl_xattr.h).
fn let_pass(dir: &Path, uid: u32) {
    const NOBODY: u32 = u32::MAX;
    let mut list = 2u32.to_le_bytes().to_vec();
    // Owner, the user, group, mask, others: what, permissions, whose.
    for (tag, permissions, id) in [
        (0x01u16, 7u16, NOBODY),
        (0x02, 1, uid),
        (0x04, 0, NOBODY),
        (0x10, 1, NOBODY),
        (0x20, 0, NOBODY),
    ] {
        list.extend(tag.to_le_bytes());
        list.extend(permissions.to_le_bytes());
        list.extend(id.to_le_bytes());
    }
    let flags = rustix::fs::XattrFlags::empty();
    rustix::fs::setxattr(dir, "system.posix_acl_access", &list, flags).unwrap();
}

/// Root of a container is not the machine's: what it cannot come to is named, with what to do, or not needed.
#[test]
fn what_is_closed_to_root_of_a_container() {
    let Some(t) = Env::new(Identity::Root) else {
        return;
    };
    let Ok(other) = Identity::NoSub.user() else {
        return crate::support::skip("there is no other user");
    };
    let (theirs, below) = private(&t, "theirs", other.uid);
    let (roots, below_roots) = private(&t, "roots", 0);
    let here = |dir: &Path, options: &[&str]| host(&t, options, "pwd").current_dir(dir).run();
    let closed = |options: &[&str], dir: &Path, path: &Path, hint: &str| {
        let output = here(dir, options);
        let (path, shut) = (path.display(), path.parent().unwrap().display());
        let said = format!(
            "error: `{path}` cannot be reached: `{shut}` is closed to root of the container, who is user "
        );
        let err = output.refuses(125, &said).err();
        assert!(err.ends_with(&format!("\nhint: {hint}\n")), "{err}");
        let number = err.split("who is user ").nth(1).unwrap();
        number.split(' ').next().unwrap().parse::<u32>().unwrap()
    };
    let there = "`cd` to another directory, or `-w /`";
    for (dir, shut) in [(&below, &theirs), (&below_roots, &roots)] {
        assert_eq!(dir.parent(), Some(&**shut));
        closed(&[], dir, dir, there);
        closed(&["--read-only"], dir, dir, there);
        assert_eq!(here(dir, &["-w", "/"]).ok().out(), "/");
        // What lies below something else is no matter; nor is the directory itself, for which there is another.
        let over = format!("--tmpfs={}", shut.display());
        assert_eq!(here(dir, &[&over]).ok().out(), dir.display().to_string());
        assert_eq!(here(shut, &[]).ok().out(), shut.display().to_string());
    }
    let text = below.display().to_string();
    closed(
        &["-w", &text],
        Path::new("/"),
        &below,
        "`-w` with another directory, such as `-w /`",
    );
    let target = format!("{}:{text}", home(&t).display());
    let elsewhere =
        "mount it on another directory, such as `/mnt`, or let others pass this one: `chmod o+x`";
    closed(
        &["-w", "/", "-v", &target],
        Path::new("/"),
        &below,
        elsewhere,
    );
    // What is mounted is opened by the machine's root, in any image.
    let run = |source: &Path| {
        let volume = format!("{}:/mnt", source.display());
        let run = t.rl(["run", "--rm", "--network", "none", "-v", &volume]);
        run.args([images::busybox(), "ls", "-d", "/mnt"]).run()
    };
    assert_eq!(run(&below_roots).ok().out(), "/mnt");
    let refused = run(&below).refuses(125, "is closed to root of the container");
    refused.complains("hint: mount another directory, or let others pass that one");
    // A list may let the machine's root pass to what is mounted; a directory further down may be shut still.
    let (deeper, last) = private(&t, "theirs/inner/deeper", other.uid);
    let_pass(&theirs, 0);
    assert_eq!(run(&below).ok().out(), "/mnt");
    let said = format!("`{}` is closed to root", deeper.display());
    run(&last).refuses(125, &said);
    let_pass(&deeper, 0);
    assert_eq!(run(&last).ok().out(), "/mnt");
    // A list may let it pass.
    let root = closed(&[], &below_roots, &below_roots, there);
    let_pass(&roots, root);
    assert_eq!(
        here(&below_roots, &[]).ok().out(),
        below_roots.display().to_string()
    );
}
