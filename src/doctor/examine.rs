//! Facts into verdicts.

use super::session::session;
use super::{Facts, Finding, NoNetwork, Verdict, ok, works};
use crate::host::{Around, FILES, FileSystem, Fix, Mend, Obstacle, PROCESSES, Refused, UMASK};
use crate::net;
use crate::userns::Rank;

/// Less free than this is worth a word: a few images.
const LITTLE_SPACE: u64 = 1 << 30;
/// A minimal distribution has some 6,000 files.
const FEW_INODES: u64 = 20_000;

/// Descriptors: a start has some 30 open, and one for each layer.
const FEW_FILES: u64 = 256;
const FEW_PROCESSES: u64 = 64;
/// A pull takes up to 64 MiB.
const LITTLE_MEMORY: u64 = 128 << 20;

fn bad(
    id: &'static str,
    verdict: Verdict,
    evidence: impl Into<String>,
    effect: &str,
    fix: Option<Fix>,
) -> Finding {
    Finding {
        verdict,
        effect: Some(effect.to_owned()),
        fix,
        ..ok(id, evidence)
    }
}

/// The findings, in the order of a start.
pub fn examine(facts: &Facts) -> Vec<Finding> {
    let mut found = vec![user_namespace(facts)];
    found.extend(ids(facts));
    found.extend(root_file_system(facts));
    found.extend(network(facts));
    found.push(proc(facts));
    found.extend(calls(facts));
    found.extend(store(facts));
    found.extend(session(facts));
    found.extend(limits(&facts.host.around));
    found
}

/// What this process was started with that is too little; nothing where all is well.
fn limits(around: &Around) -> Vec<Finding> {
    let mut found = Vec::new();
    let mut little = |id, verdict, evidence: String, effect, how| {
        let fix = Fix::own(around.mend(how));
        found.push(bad(id, verdict, evidence, effect, Some(fix)));
    };
    if around.umask & 0o700 != 0 {
        little(
            "umask",
            Verdict::Missing,
            format!("{:04o}", around.umask),
            "what is made cannot be read or entered by its maker",
            UMASK,
        );
    }
    if let Some(n) = around.files.filter(|n| *n < FEW_FILES) {
        little(
            "open-files",
            Verdict::Degraded,
            format!("RLIMIT_NOFILE is {n}"),
            "images of many layers, and many programs, need more",
            FILES,
        );
    }
    if let Some(n) = around.processes.filter(|n| *n < FEW_PROCESSES) {
        little(
            "processes",
            Verdict::Degraded,
            format!("RLIMIT_NPROC is {n}, for all that the user runs"),
            "a container, its monitor and its network may not start",
            PROCESSES,
        );
    }
    if let Some(n) = around.memory.filter(|n| *n < LITTLE_MEMORY) {
        little(
            "memory",
            Verdict::Degraded,
            format!("memory.max of the control group is {} MiB", n >> 20),
            "pulling an image may be ended by the kernel",
            Mend(
                "MemoryMax=infinity",
                "let the outer container, or who made the control group, give more",
            ),
        );
    }
    found
}

fn user_namespace(facts: &Facts) -> Finding {
    let Err(refused) = &facts.host.user_namespace else {
        return ok("user-namespace", "made, with a map of the own id");
    };
    let obstacle = facts.host.switches.explain(refused.errno);
    let (why, fix) = obstacle.map_or((String::new(), None), |o| (format!("; {}", o.why), o.fix));
    let effect = "no container runs: all of them need one";
    bad(
        "user-namespace",
        Verdict::Missing,
        format!("{refused}{why}"),
        effect,
        fix,
    )
}

const ONE_ID: &str =
    "one id is mapped: inside there is nobody but root, and giving files to others is passed over";

fn ids(facts: &Facts) -> Vec<Finding> {
    let ids = &facts.ids;
    let mut found = Vec::new();
    let few = ids.uids == 0 || ids.gids == 0;
    let count = format!("{} user ids and {} group ids", ids.uids, ids.gids);
    found.push(match ids.rank {
        Rank::HostRoot => ok("subordinate-ids", "root of the machine may map any"),
        _ if few && (ids.rank == Rank::NestedRoot || ids.outside) => bad(
            "subordinate-ids",
            Verdict::Degraded,
            "the user namespace around this process has no ids to hand out",
            ONE_ID,
            Some(Fix::own(facts.host.around.mend(Mend(
                "PrivateUsers=no",
                "make the outer namespace with more: `unshare --map-root-user --map-auto`, or an outer \
                 container with subordinate ids",
            )))),
        ),
        Rank::NestedRoot => ok(
            "subordinate-ids",
            format!("{count} of the user namespace around"),
        ),
        Rank::Ordinary if few => {
            let files = match (ids.uids, ids.gids) {
                (0, 0) => "/etc/subuid and /etc/subgid",
                (0, _) => "/etc/subuid",
                _ => "/etc/subgid",
            };
            let evidence = format!("`{}` has none in {files}", ids.user);
            let fix = Some(ids.grant.clone());
            bad("subordinate-ids", Verdict::Degraded, evidence, ONE_ID, fix)
        }
        Rank::Ordinary => ok("subordinate-ids", format!("{count} of `{}`", ids.user)),
    });
    if ids.rank == Rank::Ordinary {
        found.push(match &ids.programs {
            Ok(path) => ok(
                "newuidmap",
                format!("`{path}` and newgidmap, both privileged"),
            ),
            Err(o) => bad(
                "newuidmap",
                Verdict::Degraded,
                &o.why,
                ONE_ID,
                o.fix.clone(),
            ),
        });
    }
    // A refused user namespace, or missing parts, have their own lines.
    let told = !works(&facts.host.user_namespace);
    match &ids.tried {
        Ok(1) => {}
        Ok(n) => found.push(ok("id-maps", format!("made, with {n} ids"))),
        Err(_) if told => {}
        Err(o) => {
            let effect = "no container runs with the usual map";
            found.push(bad(
                "id-maps",
                Verdict::Missing,
                &o.why,
                effect,
                o.fix.clone(),
            ));
        }
    }
    found
}

fn root_file_system(facts: &Facts) -> Vec<Finding> {
    let host = &facts.host;
    let mut found = Vec::new();
    match &host.overlay {
        Ok(()) => found.push(ok(
            "overlay",
            format!("mounted and written to on the store's {}", host.store.kind),
        )),
        Err(_) if !works(&host.user_namespace) => {}
        Err(refused) => found.push(bad(
            "overlay",
            Verdict::Degraded,
            refused.to_string(),
            if host.fuse.is_ok() {
                "fuse-overlayfs makes the root file system: slower with many small files"
            } else {
                "every container gets a copy of its image: time and space"
            },
            Some(overlay_fix(refused, &host.store)),
        )),
    }
    found.push(match &host.fuse {
        Ok(()) => ok("fuse-overlayfs", "installed, and /dev/fuse opens"),
        Err(o) if works(&host.overlay) => Finding {
            verdict: Verdict::Note,
            ..ok("fuse-overlayfs", format!("{}; not needed here", o.why))
        },
        Err(o) if !works(&host.user_namespace) => Finding {
            verdict: Verdict::Note,
            ..ok("fuse-overlayfs", o.why.as_str())
        },
        Err(o) => bad(
            "fuse-overlayfs",
            Verdict::Degraded,
            &o.why,
            "not there to stand in for the kernel's overlay",
            device(facts, o),
        ),
    });
    found
}

/// What mends a lack; a device that root of a container cannot make comes from around it.
fn device(facts: &Facts, o: &Obstacle) -> Option<Fix> {
    let device = [helper_process::TUN, helper_process::FUSE]
        .map(|device| device.path)
        .into_iter()
        .find(|path| o.fix.as_ref().is_some_and(|fix| fix.line.contains(path)));
    match device {
        Some(path) if facts.ids.rank == Rank::NestedRoot => Some(Fix::own(format!(
            "start the outer container with `--device {path}`, or open it to all on the machine around"
        ))),
        _ => o.fix.clone(),
    }
}

fn overlay_fix(refused: &Refused, store: &FileSystem) -> Fix {
    let elsewhere = crate::host::ELSEWHERE;
    match refused.errno {
        libc::ENODEV => Fix::root("modprobe overlay"),
        libc::EPERM => Fix::own("Linux 5.11 or later, where no container around refuses the mount"),
        _ if store.kind == "overlay" => Fix::own(
            "keep the store on a volume of the outer container: `-v DIRECTORY:/store -e XDG_DATA_HOME=/store`",
        ),
        _ if store.remote => Fix::own(format!("keep the store on a local disk: `{elsewhere}`")),
        _ => Fix::own(format!(
            "keep the store on ext4, xfs, btrfs or tmpfs: `{elsewhere}`"
        )),
    }
}

fn network(facts: &Facts) -> Vec<Finding> {
    let effect = "no network but `--network none` and `--network host`";
    let helper = |o: &Obstacle| {
        bad(
            "network-helper",
            Verdict::Missing,
            &o.why,
            effect,
            o.fix.clone(),
        )
    };
    let mut found = match &facts.network {
        Ok((_, evidence)) => vec![ok("network-helper", evidence.as_str())],
        Err(NoNetwork::Program(o)) => vec![helper(o)],
        Err(NoNetwork::Device) => Vec::new(),
    };
    found.push(match (&facts.tun, &facts.network) {
        (Ok(()), _) => ok("tun", "/dev/net/tun opens"),
        (Err(o), Ok(_)) => bad(
            "tun",
            Verdict::Degraded,
            &o.why,
            "passt carries the network over a veth pair: slower",
            device(facts, o),
        ),
        (Err(o), Err(_)) => bad("tun", Verdict::Missing, &o.why, effect, device(facts, o)),
    });
    found.push(match &facts.named {
        Ok(evidence) => ok("named-networks", evidence.as_str()),
        Err(o) => bad(
            "named-networks",
            Verdict::Note,
            &o.why,
            "only `rl network create --internal` makes one that works",
            o.fix.clone(),
        ),
    });
    match &facts.host.net_namespace {
        Ok(()) => found.push(ok("network-namespace", "made")),
        Err(_) if !works(&facts.host.user_namespace) => {}
        Err(refused) => {
            let fix = match refused.errno {
                libc::ENOSPC => Fix::root("sysctl -w user.max_net_namespaces=15000"),
                _ => Fix::own("let what is around this process make network namespaces"),
            };
            let effect = "only `--network host` works";
            let evidence = refused.to_string();
            let missing = Verdict::Missing;
            found.push(bad(
                "network-namespace",
                missing,
                evidence,
                effect,
                Some(fix),
            ));
        }
    }
    found
}

fn proc(facts: &Facts) -> Finding {
    let host = &facts.host;
    let masks = match host.proc_masks.as_slice() {
        [] => String::new(),
        all if all.len() <= 4 => format!("; mounted below it: {}", all.join(" ")),
        all => format!(
            "; mounted below it: {} and {} more",
            all[..3].join(" "),
            all.len() - 3
        ),
    };
    match &host.fresh_proc {
        Ok(()) => ok("proc", "a fresh one can be mounted"),
        Err(refused) if !works(&host.user_namespace) => Finding {
            verdict: Verdict::Note,
            ..ok("proc", format!("not tried: {refused}"))
        },
        Err(refused) => bad(
            "proc",
            Verdict::Degraded,
            format!("{refused}{masks}"),
            "the outer /proc is shown, with its masks: processes around have numbers there",
            Some(Fix::own(
                "start the outer container without masks: `podman run --security-opt unmask=ALL`, \
                 `rl run --security-opt unmask=ALL`",
            )),
        ),
    }
}

/// One line for all that are there, and one for each that is not.
fn calls(facts: &Facts) -> Vec<Finding> {
    let calls = &facts.host.calls;
    let there = calls.iter().filter(|(_, tried)| works(tried));
    let there: Vec<&str> = there.map(|(call, _)| call.name().0).collect();
    let mut found = vec![ok("system-calls", format!("{} work", there.join(" ")))];
    for (call, tried) in calls {
        let Err(refused) = tried else { continue };
        let (name, since) = call.name();
        let (why, fix) = match refused.errno {
            libc::ENOSYS => (
                "this kernel, or a filter, does not have it",
                format!("Linux {since} or later, and no filter around this process"),
            ),
            libc::EOPNOTSUPP => (
                "built into the kernel, not started",
                "start the kernel with `landlock` in its parameter `lsm=`".to_owned(),
            ),
            _ => (
                "a filter around this process refuses it",
                "start the outer container with `--security-opt seccomp=unconfined`".to_owned(),
            ),
        };
        let effect = match name {
            "landlock" => "one wall less: files are kept from containers by mounts and ids alone",
            "seccomp" => "no container runs with a filter of system calls",
            _ => "a slower or older way is taken",
        };
        let evidence = format!("{refused}: {why}");
        found.push(bad(
            name,
            Verdict::Degraded,
            evidence,
            effect,
            Some(Fix::own(fix)),
        ));
    }
    found
}

fn store(facts: &Facts) -> Vec<Finding> {
    if let Err(o) = &facts.store {
        let effect = "no place for images and containers";
        return vec![bad(
            "store",
            Verdict::Missing,
            &o.why,
            effect,
            o.fix.clone(),
        )];
    }
    let store = &facts.host.store;
    let elsewhere = || Some(Fix::own(crate::host::ELSEWHERE));
    let flags = match store.flags.join(",") {
        none if none.is_empty() => none,
        flags => format!(", mounted {flags}"),
    };
    let evidence = format!("`{}` on {}{flags}", store.path.display(), store.kind);
    let mut found = Vec::new();
    if !store.writable {
        let effect = "no place for images and containers";
        found.push(bad(
            "store",
            Verdict::Missing,
            evidence,
            effect,
            elsewhere(),
        ));
    } else if store.remote {
        let effect = "owners, locks and overlays may not work there as on a local disk";
        found.push(bad(
            "store",
            Verdict::Degraded,
            evidence,
            effect,
            elsewhere(),
        ));
    } else if !works(&facts.host.overlay)
        && store.flags.iter().any(|f| ["noexec", "nosuid"].contains(f))
    {
        let effect = "copies of images lie there: what the mount forbids, containers cannot";
        found.push(bad(
            "store",
            Verdict::Degraded,
            evidence,
            effect,
            elsewhere(),
        ));
    } else {
        found.push(ok("store", evidence));
    }
    let gib = |bytes: u64| format!("{:.1} GiB free", bytes as f64 / (1u64 << 30) as f64);
    let files = |n: u64| format!("{n} more files can be made");
    let room = match store.inodes {
        Some(n) => format!("{}, {}", gib(store.free), files(n)),
        None => gib(store.free),
    };
    if store.free < LITTLE_SPACE || store.inodes.is_some_and(|n| n < FEW_INODES) {
        let effect = "images may not fit";
        let fix = Some(Fix::own(
            "remove what is not needed: `rl images`, `rl rmi`, `rl ps -a`, `rl rm`",
        ));
        found.push(bad("room", Verdict::Degraded, room, effect, fix));
    } else {
        found.push(ok("room", room));
    }
    found
}

/// What `rl run` will stand on: (resource, rung).
pub fn rungs(facts: &Facts) -> Vec<(&'static str, String)> {
    let host = &facts.host;
    if !works(&host.user_namespace) {
        return vec![("containers", "none: no user namespace".to_owned())];
    }
    let ids = match &facts.ids.tried {
        Ok(1) => "one id".to_owned(),
        Ok(n) => format!("{n} ids"),
        Err(o) => format!("none: {}", o.why),
    };
    let root = match (&host.overlay, &host.fuse) {
        (Ok(()), _) => "overlay of the kernel",
        (Err(_), Ok(())) => "fuse-overlayfs",
        (Err(_), Err(_)) => "copy of the layers",
    };
    let network = match &facts.network {
        _ if !works(&host.net_namespace) => "only `--network host`",
        Ok((net::Mode::Slirp4netns, _)) => "slirp4netns",
        Ok((net::Mode::Passt, _)) => "passt over a veth pair",
        Ok(_) => "pasta",
        Err(_) => "only `--network none` or `host`",
    };
    let proc = match &host.fresh_proc {
        Ok(()) => "fresh",
        Err(_) => "the outer one",
    };
    let groups = match (&host.cgroup.delegated, host.session.systemd) {
        _ if !host.cgroup.unified => "none: not version 2",
        (Some(_), true) => "a scope of the user's systemd",
        (Some(_), false) => "below our own",
        (None, _) => "none",
    };
    vec![
        ("ids", ids),
        ("root file system", root.to_owned()),
        ("network", network.to_owned()),
        ("/proc", proc.to_owned()),
        ("control groups", groups.to_owned()),
    ]
}
