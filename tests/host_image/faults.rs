//! What the machine may refuse: whatever the rung, nothing outside changes, and less is said.

use std::os::unix::net::UnixListener;

use crate::support::{Env, Identity, can_trace};
use crate::{CONNECT, home, put, snapshot};

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
            let run = run.traced([format!("inject=mount:error=EOPNOTSUPP:when={n}")]);
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
