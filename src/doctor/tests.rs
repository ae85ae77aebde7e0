//! Facts as data, and what is made of them.

use super::*;
use crate::host::{Around, Cgroup, FileSystem, Refused, Session, Switches, Unit};
use crate::sys::probe::Call;

/// A machine that has everything.
fn good() -> Facts {
    Facts {
        host: HostFacts {
            user_namespace: Ok(()),
            switches: Switches::default(),
            overlay: Ok(()),
            fuse: Ok(()),
            net_namespace: Ok(()),
            fresh_proc: Ok(()),
            proc_masks: Vec::new(),
            calls: Call::ALL.map(|call| (call, Ok(()))).to_vec(),
            around: Around::default(),
            cgroup: Cgroup::default(),
            session: Session::default(),
            store: FileSystem {
                path: "/store".into(),
                kind: "ext4".into(),
                remote: false,
                writable: true,
                flags: Vec::new(),
                free: 1 << 40,
                inodes: Some(1 << 30),
            },
        },
        ids: Ids {
            user: "ann".into(),
            rank: Rank::Ordinary,
            uids: 65_536,
            gids: 65_536,
            grant: Fix::root("usermod … ann"),
            outside: false,
            programs: Ok("/usr/bin/newuidmap".into()),
            tried: Ok(65_537),
        },
        network: Ok((net::Mode::Pasta, "pasta: `/usr/bin/pasta`".into())),
        named: Ok("slirp4netns: `/usr/bin/slirp4netns`".into()),
        tun: Ok(()),
        store: Ok(()),
    }
}

fn refused(errno: i32) -> Refused {
    Refused {
        call: "call()".into(),
        errno,
    }
}

fn lacks(why: &str, fix: Fix) -> Obstacle {
    Obstacle {
        why: why.into(),
        fix: Some(fix),
    }
}

/// The findings that are not well, by id, verdict and fix.
fn ill(facts: &Facts) -> Vec<(&'static str, Verdict, String)> {
    let found = examine(facts).into_iter();
    found
        .filter(|f| matches!(f.verdict, Verdict::Degraded | Verdict::Missing))
        .map(|f| {
            assert!(f.effect.is_some(), "{f:?}");
            (
                f.id,
                f.verdict,
                f.fix.map_or(String::new(), |fix| fix.hint()),
            )
        })
        .collect()
}

fn rung(facts: &Facts, resource: &str) -> String {
    let all = rungs(facts);
    all.into_iter().find(|r| r.0 == resource).unwrap().1
}

#[test]
fn a_good_machine_has_nothing_to_mend() {
    let mut facts = good();
    assert_eq!(ill(&facts), []);
    // Neither what is only noted, nor a stand-in that nobody needs.
    facts.host.fuse = Err(lacks("gone", Fix::root("apt-get install fuse-overlayfs")));
    facts.network = Ok((net::Mode::Slirp4netns, String::new()));
    assert_eq!(ill(&facts), []);
    let script = admin_script(&examine(&facts));
    assert!(
        script.contains("nothing to do") && !script.contains("apt-get"),
        "{script}"
    );
}

#[test]
fn a_refused_user_namespace_is_one_finding() {
    let mut facts = good();
    let no = refused(libc::EPERM);
    facts.host.user_namespace = Err(no.clone());
    facts.host.overlay = Err(no.clone());
    facts.host.net_namespace = Err(no.clone());
    facts.host.fresh_proc = Err(no);
    facts.host.fuse = Err(lacks("gone", Fix::root("x")));
    facts.ids.tried = Err(lacks("call(): EPERM", Fix::own("x")));
    facts.host.switches.filtered = true;
    let found = ill(&facts);
    assert_eq!(found.len(), 1, "{found:?}");
    assert_eq!(
        (found[0].0, found[0].1),
        ("user-namespace", Verdict::Missing)
    );
    assert!(found[0].2.contains("--cap-add SYS_ADMIN"));
    assert!(rung(&facts, "containers").contains("none"));
}

#[test]
fn ids_and_their_lines() {
    let mut facts = good();
    (facts.ids.gids, facts.ids.tried) = (0, Ok(1));
    assert_eq!(
        ill(&facts),
        [(
            "subordinate-ids",
            Verdict::Degraded,
            "as root: usermod … ann".into()
        )]
    );
    assert_eq!(rung(&facts, "ids"), "one id");
    facts.ids.rank = Rank::HostRoot;
    assert_eq!(ill(&facts), []);
    facts.ids.rank = Rank::NestedRoot;
    assert!(ill(&facts)[0].2.contains("--map-auto"));
    // The files have some, the namespace that a unit made has not.
    (facts.ids.rank, facts.ids.outside) = (Rank::Ordinary, true);
    facts.host.around.unit = Some(Unit {
        name: "backup.service".into(),
        of_user: false,
    });
    let fix = "in the unit: `PrivateUsers=no` (`systemctl edit backup.service`)";
    assert_eq!(ill(&facts)[0].2, fix);

    let mut facts = good();
    facts.ids.programs = Err(lacks(
        "no privilege",
        Fix::root("chmod u+s /usr/bin/newuidmap"),
    ));
    let (id, verdict, fix) = ill(&facts).remove(0);
    assert_eq!((id, verdict), ("newuidmap", Verdict::Degraded));
    assert_eq!(fix, "as root: chmod u+s /usr/bin/newuidmap");
    facts.ids.rank = Rank::NestedRoot;
    assert_eq!(ill(&facts), [], "nested root needs no newuidmap");

    let mut facts = good();
    facts.ids.tried = Err(lacks("`newuidmap …`: exit status 1", Fix::root("x")));
    assert_eq!(ill(&facts)[0].1, Verdict::Missing);
}

#[test]
fn root_file_system_goes_down_its_ladder() {
    let mut facts = good();
    facts.host.overlay = Err(refused(libc::ENODEV));
    assert_eq!(
        ill(&facts),
        [(
            "overlay",
            Verdict::Degraded,
            "as root: modprobe overlay".into()
        )]
    );
    assert_eq!(rung(&facts, "root file system"), "fuse-overlayfs");
    facts.host.overlay = Err(refused(libc::EINVAL));
    facts.host.fuse = Err(lacks("gone", Fix::root("apt-get install fuse-overlayfs")));
    let found = ill(&facts);
    assert!(found[0].2.contains("XDG_DATA_HOME"), "{found:?}");
    assert_eq!(found[1].2, "as root: apt-get install fuse-overlayfs");
    assert_eq!(rung(&facts, "root file system"), "copy of the layers");
}

#[test]
fn networks_with_a_name_are_told_of_and_not_judged() {
    let mut facts = good();
    let fix = Fix::root("apt-get install slirp4netns");
    facts.named = Err(lacks("not installed", fix.clone()));
    assert!(ill(&facts).is_empty());
    let found = examine(&facts);
    let found = found.iter().find(|f| f.id == "named-networks").unwrap();
    assert_eq!((found.verdict, &found.fix), (Verdict::Note, &Some(fix)));
}

#[test]
fn network_and_its_device() {
    let mut facts = good();
    facts.tun = Err(lacks(
        "open(`/dev/net/tun`)",
        Fix::root("chmod 0666 /dev/net/tun"),
    ));
    facts.network = Ok((net::Mode::Passt, String::new()));
    assert_eq!(ill(&facts)[0].1, Verdict::Degraded);
    facts.network = Err(NoNetwork::Device);
    assert_eq!(
        ill(&facts),
        [(
            "tun",
            Verdict::Missing,
            "as root: chmod 0666 /dev/net/tun".into()
        )]
    );
    // Root of a container cannot make one.
    facts.ids.rank = Rank::NestedRoot;
    let fix = ill(&facts).remove(0).2;
    assert!(fix.contains("`--device /dev/net/tun`"), "{fix}");
    facts = good();
    facts.network = Err(NoNetwork::Program(lacks(
        "none",
        Fix::root("apt-get install passt"),
    )));
    facts.host.net_namespace = Err(refused(libc::ENOSPC));
    let found = ill(&facts);
    assert_eq!(found[0].2, "as root: apt-get install passt");
    assert_eq!(
        found[1].2,
        "as root: sysctl -w user.max_net_namespaces=15000"
    );
    assert_eq!(rung(&facts, "network"), "only `--network host`");
}

#[test]
fn missing_calls_are_told_from_refused_ones() {
    let mut facts = good();
    for (call, tried) in &mut facts.host.calls {
        match call {
            Call::Openat2 => *tried = Err(refused(libc::ENOSYS)),
            Call::OpenTree => *tried = Err(refused(libc::EPERM)),
            Call::Landlock => *tried = Err(refused(libc::EOPNOTSUPP)),
            _ => {}
        }
    }
    let found = ill(&facts);
    assert!(
        found[0].0 == "openat2" && found[0].2.contains("Linux 5.6"),
        "{found:?}"
    );
    assert!(found[1].0 == "open_tree" && found[1].2.contains("seccomp=unconfined"));
    assert!(found[2].0 == "landlock" && found[2].2.contains("lsm="));
    assert_eq!(found.len(), 3);
}

#[test]
fn masks_store_and_room() {
    let mut facts = good();
    facts.host.fresh_proc = Err(refused(libc::EPERM));
    facts.host.proc_masks = ["a", "b", "c", "d", "e"]
        .map(|m| format!("/proc/{m}"))
        .to_vec();
    let finding = examine(&facts)
        .into_iter()
        .find(|f| f.id == "proc")
        .unwrap();
    assert!(
        finding
            .evidence
            .ends_with("/proc/a /proc/b /proc/c and 2 more"),
        "{finding:?}"
    );
    assert!(finding.effect.unwrap().contains("outer /proc is shown"));
    assert_eq!(rung(&facts, "/proc"), "the outer one");

    let mut facts = good();
    facts.host.store.remote = true;
    facts.host.store.inodes = Some(10);
    let found = ill(&facts);
    assert_eq!((found[0].0, found[1].0), ("store", "room"));
    // btrfs does not count.
    facts = good();
    facts.host.store.inodes = None;
    facts.host.store.flags = vec!["noexec"];
    assert_eq!(ill(&facts), [], "an overlay has flags of its own");
    facts.store = Err(lacks("HOME is not set", Fix::own("set it")));
    assert_eq!(ill(&facts)[0].1, Verdict::Missing);
}

#[test]
fn session_and_cgroups_are_notes_with_lines() {
    let mut facts = good();
    // Where systemd is not there at all, nobody can be told to linger.
    let of_manager = |facts: &Facts| {
        let found = examine(facts);
        found.into_iter().find(|f| f.id == "systemd").unwrap().fix
    };
    assert_eq!(of_manager(&facts), None);
    facts.host.session.booted = true;
    let line = Fix::root("loginctl enable-linger ann");
    assert_eq!(of_manager(&facts), Some(line));
    facts.host.session.systemd = true;
    facts.host.cgroup.unified = true;
    facts.host.cgroup.delegated = Some(vec!["memory".into(), "pids".into()]);
    assert_eq!(ill(&facts), []);
    let found = examine(&facts);
    let of = |id| found.iter().find(|f| f.id == id).unwrap();
    assert_eq!(
        of("linger").fix,
        Some(Fix::root("loginctl enable-linger ann"))
    );
    assert!(of("cgroup").evidence.contains("without cpu, cpuset, io"));
    assert!(
        of("cgroup")
            .fix
            .as_ref()
            .unwrap()
            .line
            .contains("delegate.conf")
    );
}

#[test]
fn a_session_that_is_not_there_has_its_lines() {
    let mut facts = good();
    let fix = |facts: &Facts, id| {
        let found = examine(facts).into_iter().find(|f| f.id == id).unwrap();
        assert_eq!(found.verdict, Verdict::Note);
        found.fix.map(|fix| fix.hint())
    };
    // Without systemd nothing is there to be told.
    for id in ["runtime-dir", "systemd", "cgroup"] {
        assert_eq!(fix(&facts, id), None, "{id}");
    }
    facts.host.session.runtime_dir = Some(("/tmp".into(), false));
    let unset = Some("unset XDG_RUNTIME_DIR".to_owned());
    assert_eq!(fix(&facts, "runtime-dir"), unset);
    facts.host.session.booted = true;
    facts.host.session.usual_dir = Some("/run/user/7".into());
    let set = Some("export XDG_RUNTIME_DIR=/run/user/7".to_owned());
    assert_eq!(fix(&facts, "runtime-dir"), set);
    facts.host.session.runtime_dir = None;
    assert_eq!(fix(&facts, "runtime-dir"), set);
    let linger = Some("as root: loginctl enable-linger ann".to_owned());
    assert_eq!(fix(&facts, "systemd"), linger);
    assert!(
        fix(&facts, "cgroup")
            .unwrap()
            .contains("unified_cgroup_hierarchy=1")
    );
    facts.host.session.linger = true;
    assert_eq!(fix(&facts, "systemd"), None);
}

#[test]
fn the_script_has_each_line_once_and_text_stays_in_comments() {
    let mut facts = good();
    facts.ids.programs = Err(lacks("odd\nrm -rf /", Fix::root("apt-get install uidmap")));
    facts.ids.tried = Err(lacks("same", Fix::root("apt-get install uidmap")));
    facts.host.overlay = Err(refused(libc::ENODEV));
    let script = admin_script(&examine(&facts));
    assert!(script.starts_with("#!/bin/sh\n") && script.contains("\nset -u\n"));
    // Nobody is asked, and nothing that asks reads the script when it comes by a pipe.
    let install = "\napt-get install -y uidmap </dev/null\n";
    assert_eq!(script.matches(install).count(), 1, "{script}");
    assert_eq!(script.matches("\napt-get update </dev/null\n").count(), 1);
    assert!(!script.contains("\nrm"), "{script}");
    assert!(script.contains("\nmodprobe overlay\n"));
}

#[test]
fn the_script_goes_on_after_what_fails_and_names_it() {
    let mut facts = good();
    facts.ids.grant = Fix::root("false");
    facts.ids.uids = 0;
    facts.tun = Err(lacks("gone", Fix::root("echo mended")));
    facts.host.session.systemd = true;
    let script = admin_script(&examine(&facts));
    let output = std::process::Command::new("/bin/sh")
        .args(["-c", &script])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1), "{script}");
    assert_eq!(output.stdout, b"mended\n");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(said, "rl doctor: not mended: subordinate-ids\n");
    // What is only noted is root's to choose.
    let linger = "\n#loginctl enable-linger ann\n";
    assert!(script.contains(linger), "{script}");
}

#[test]
fn limits_of_this_process_are_told_with_their_settings() {
    let mut facts = good();
    facts.host.around = Around {
        unit: None,
        umask: 0o777,
        files: Some(64),
        processes: Some(8),
        memory: Some(32 << 20),
    };
    let ids = |facts: &Facts| ill(facts).into_iter().map(|f| f.0).collect::<Vec<_>>();
    assert_eq!(ids(&facts), ["umask", "open-files", "processes", "memory"]);
    assert_eq!(ill(&facts)[0].2, "`umask 022`, then again");
    facts.host.around.unit = Some(Unit {
        name: "backup.service".into(),
        of_user: false,
    });
    for ((.., fix), setting) in
        ill(&facts)
            .iter()
            .zip(["UMask=", "LimitNOFILE=", "LimitNPROC=", "MemoryMax="])
    {
        assert!(
            fix.starts_with(&format!("in the unit: `{setting}")),
            "{fix}"
        );
    }
}
