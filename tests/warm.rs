//! The user namespace that keeps its maps between starts: it is used, it goes, and nobody else's is taken for it.

#[macro_use]
mod support;

use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::os::unix::net::{SocketAddr, UnixListener};

use rustix::process::{Pid, Signal, kill_process};
use support::{Env, images, wait_for};

/// Runs something once, after which a keeper listens; its number.
#[track_caller]
fn warmed(t: &Env) -> i32 {
    t.run(["true"]).run().ok();
    wait_for("a keeper", || {
        t.keepers().len() == 1 && sockets(t).len() == 1
    });
    t.keepers()[0].pid
}

/// The names of the keepers' sockets of this test's user and directory, and of a removed one that had its number
/// (proc_net_unix(5)).
fn sockets(t: &Env) -> Vec<String> {
    let data = std::fs::metadata(t.dir().join("data/rl")).unwrap();
    let prefix = format!("@rl-userns/{}/{}-{}/", t.uid(), data.dev(), data.ino());
    let table = std::fs::read_to_string("/proc/net/unix").unwrap();
    let names = table
        .lines()
        .filter_map(|line| line.split_whitespace().nth(7));
    names
        .filter(|name| name.starts_with(&prefix))
        .map(|name| name[1..].to_owned())
        .collect()
}

/// The number of a process's user namespace.
fn namespace(pid: i32) -> String {
    std::fs::metadata(format!("/proc/{pid}/ns/user"))
        .unwrap()
        .ino()
        .to_string()
}

/// The first process of a container that runs.
fn first(t: &Env, name: &str) -> i32 {
    t.rl(["inspect", "--format", "{{.State.Pid}}", name])
        .run()
        .ok()
        .out()
        .parse()
        .unwrap()
}

/// The number of the user namespace around that of a process.
fn around(t: &Env, pid: i32) -> String {
    let table = t
        .program("lsns")
        .args([
            "--noheadings",
            "--raw",
            "--type",
            "user",
            "--output",
            "NS,PNS",
            "--task",
        ])
        .arg(pid.to_string());
    let table = table.run().ok().out();
    let own = namespace(pid);
    let line = table
        .lines()
        .find(|line| line.starts_with(&own))
        .unwrap_or_else(|| panic!("{own} in {table}"));
    line.split_whitespace().nth(1).unwrap().to_owned()
}

fn detached(t: &Env, name: &str) -> i32 {
    t.rl(["run", "-d", "--name", name, "--network", "none"])
        .arg(images::busybox())
        .args(["sleep", "1000"])
        .run()
        .ok();
    first(t, name)
}

fn kill(pid: i32) {
    kill_process(Pid::from_raw(pid).unwrap(), Signal::KILL).unwrap();
}

identities! {
    fn containers_are_made_within_it_side_by_side(t: [sub]) {
        let cold = detached(t, "cold");
        let keeper = warmed(t);
        let (one, two) = (detached(t, "one"), detached(t, "two"));
        assert_eq!(around(t, one), namespace(keeper));
        assert_eq!(around(t, two), namespace(keeper));
        assert_ne!(namespace(one), namespace(two));
        assert_ne!(around(t, cold), namespace(keeper), "the first one needs no other");
        let map = |pid: i32, file: &str| std::fs::read_to_string(format!("/proc/{pid}/{file}")).unwrap();
        for file in ["uid_map", "gid_map", "setgroups"] {
            assert_eq!(map(cold, file), map(one, file), "{file}, in the machine's ids");
        }
        // Of two modes each has its own.
        let ids = t.run_with(&["--userns", "keep-id"], ["id", "-u"]).run().ok().out();
        assert_eq!(ids, t.uid().to_string());
        wait_for("another", || t.keepers().len() == 2);
        assert_eq!(t.run_with(&["--userns", "keep-id"], ["id", "-u"]).run().ok().out(), ids);
        t.rl(["restart", "-t", "0", "one"]).run().ok();
        assert_eq!(around(t, first(t, "one")), namespace(keeper));
        t.rl(["rm", "-fa"]).run().ok();
    }

    fn it_goes_when_it_is_not_used(t: [sub]) {
        t.run(["true"]).env("RL_USERNS_WARM", "1").run().ok();
        wait_for("a keeper", || !t.keepers().is_empty());
        wait_for("its end", || t.keepers().is_empty() && sockets(t).is_empty());
        t.run(["true"]).run().ok();
    }

    fn it_can_be_left_out(t: [sub]) {
        t.run(["true"]).env("RL_USERNS_WARM", "0").run().ok();
        assert!(t.keepers().is_empty());
        for value in ["soon", "-1", "65536"] {
            t.run(["true"]).env("RL_USERNS_WARM", value).run().refuses(125, &format!("`RL_USERNS_WARM` is `{value}`"));
        }
    }

    /// Who needs no helper for the maps leaves nothing.
    fn it_is_only_for_who_needs_newuidmap(t: [nosub root]) {
        t.run(["true"]).run().ok();
        assert!(t.keepers().is_empty());
    }

    fn a_killed_one_is_replaced(t: [sub]) {
        let keeper = warmed(t);
        kill(keeper);
        wait_for("its end", || sockets(t).is_empty());
        assert_ne!(warmed(t), keeper);
    }

    /// Where the way into it is shut, containers are made as if there were none.
    fn it_can_be_done_without(t: [sub]) {
        if !support::can_trace() {
            return;
        }
        for refused in ["setns:error=EPERM", "setns:error=ENOSYS", "connect:error=EACCES"] {
            warmed(t);
            let run = t.run(["id", "-u"]).traced([format!("inject={refused}")]);
            assert_eq!(run.run().ok().out(), "0", "{refused}");
        }
    }

    /// A container on the host's network can listen at the name. It is in another mount namespace.
    fn nobody_else_is_taken_for_it(t: [sub]) {
        let keeper = warmed(t);
        let name = sockets(t).remove(0);
        kill(keeper);
        wait_for("its end", || sockets(t).is_empty());
        let program = support::reachable(&std::env::current_exe().unwrap());
        // With the very ids that are looked for.
        let mut squatter = t
            .rl(["unshare", "unshare", "--mount"])
            .arg(program)
            .args(["--exact", "listens", "--ignored", "--nocapture"])
            .env("RL_TEST_NAME", &name)
            .spawn();
        squatter.expect("listening");
        let one = detached(t, "one");
        let own = std::fs::metadata("/proc/self/ns/user").unwrap().ino().to_string();
        assert_eq!(around(t, one), own);
        assert!(t.keepers().is_empty(), "the name is taken");
        t.rl(["rm", "-f", "one"]).run().ok();
        squatter.signal(Signal::KILL);
        drop(squatter);
    }
}

/// Listens at a name, when the test above runs it.
#[test]
#[ignore = "a part of `nobody_else_is_taken_for_it`"]
fn listens() {
    let name = std::env::var("RL_TEST_NAME").unwrap();
    let address = SocketAddr::from_abstract_name(name).unwrap();
    let _listener = UnixListener::bind_addr(&address).unwrap();
    println!("listening");
    std::thread::sleep(support::seconds(60));
}
