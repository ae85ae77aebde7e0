//! The machines.

use std::path::PathBuf;
use std::process::Command;

use serde_json::json;

use super::support::{self, Env, Identity, Program, images};

/// A machine, and what can be done on it.
pub struct Place {
    /// The test's name.
    pub id: &'static str,
    /// What the README calls it.
    pub name: &'static str,
    pub who: Identity,
    /// Programs that making it takes.
    pub needs: &'static [&'static str],
    /// Makes it around the calling thread; false, with a skip, where that takes root.
    pub prepare: fn(&Env) -> bool,
    /// Runs a shell script there, with `$RL` and TMPDIR.
    pub enter: for<'a> fn(&'a Env, &str) -> Program<'a>,
    /// Takes away what the tools of others left running.
    pub leave: fn(&Env),
    pub outcomes: [Outcome; 7],
}

/// What comes of trying.
#[derive(Clone, Copy)]
pub enum Outcome {
    Works,
    /// It is refused, with this in its hint.
    Says(&'static str),
}

use Outcome::{Says, Works};

const PLAIN: Place = Place {
    id: "",
    name: "",
    who: Identity::Sub,
    needs: &[],
    prepare: |_| true,
    enter: |t, script| t.sh(script),
    leave: |_| {},
    outcomes: [Works; 7],
};

pub const PLACES: &[Place] = &[
    Place {
        id: "prepared",
        name: "subordinate ids, helpers, devices",
        ..PLAIN
    },
    Place {
        id: "one_id",
        name: "no subordinate ids",
        who: Identity::NoSub,
        ..PLAIN
    },
    Place {
        id: "powerless_newuidmap",
        name: "`newuidmap` without its privilege",
        prepare: |_| {
            alone(
                "for p in newuidmap newgidmap; do f=$(readlink -f \"$(command -v $p)\"); cp \"$f\" /run/rl-test-$$; chmod 755 /run/rl-test-$$; mount --bind /run/rl-test-$$ \"$f\"; rm /run/rl-test-$$; done",
            )
        },
        ..PLAIN
    },
    Place {
        id: "no_devices",
        name: "no `/dev/net/tun`, no `/dev/fuse`",
        prepare: |_| {
            alone(
                "for f in /dev/fuse /dev/net/tun; do touch /run/rl-test-$$; chmod 0 /run/rl-test-$$; mount --bind /run/rl-test-$$ $f; rm /run/rl-test-$$; done",
            )
        },
        ..PLAIN
    },
    Place {
        id: "masked_proc",
        name: "parts of `/proc` masked",
        prepare: |_| {
            alone(
                "for f in kcore keys interrupts timer_list; do if [ -e /proc/$f ]; then mount --bind /dev/null /proc/$f; fi; done; mount -t tmpfs -o ro tmpfs /proc/irq; mount --bind /proc/sys /proc/sys; mount -o remount,bind,ro /proc/sys",
            )
        },
        ..PLAIN
    },
    Place {
        id: "masked_sys",
        name: "`/sys` read-only, parts of it masked",
        prepare: |_| {
            alone(
                "mount -o remount,bind,ro /sys; mount -t tmpfs -o ro tmpfs /sys/firmware; ! echo x 2>/dev/null >/sys/kernel/uevent_helper",
            )
        },
        ..PLAIN
    },
    Place {
        id: "no_runtime_dir",
        name: "no session: `XDG_RUNTIME_DIR` not set, no systemd",
        enter: |t, script| t.sh(script).env_remove("XDG_RUNTIME_DIR"),
        ..PLAIN
    },
    Place {
        id: "unshared",
        name: "inside `unshare -r`",
        who: Identity::Unshared,
        ..PLAIN
    },
    Place {
        id: "no_groups",
        name: "inside a user namespace that denies `setgroups`",
        needs: &["setpriv"],
        enter: |t, script| t.sh(NO_GROUPS).env("SCRIPT", script),
        ..PLAIN
    },
    Place {
        id: "root",
        name: "root",
        who: Identity::Root,
        ..PLAIN
    },
    Place {
        id: "in_rl",
        name: "inside `rl run --cap-add SYS_ADMIN`",
        enter: |t, script| in_rl(t, &["--cap-add", "SYS_ADMIN"], script),
        outcomes: NO_HELPER,
        ..PLAIN
    },
    Place {
        id: "in_rl_twice",
        name: "inside that once more",
        enter: |t, script| in_rl(t, &["--cap-add", "SYS_ADMIN"], &once_more(script)),
        outcomes: NO_HELPER,
        ..PLAIN
    },
    Place {
        id: "in_bubblewrap",
        name: "inside bubblewrap",
        needs: &["bwrap"],
        enter: |t, script| {
            t.program("bwrap")
                .args([
                    "--unshare-user",
                    "--unshare-pid",
                    "--unshare-ipc",
                    "--unshare-uts",
                    "--dev-bind",
                    "/",
                    "/",
                    "--proc",
                    "/proc",
                    "sh",
                    "-c",
                    script,
                ])
                .env("RL", support::binary())
        },
        ..PLAIN
    },
    Place {
        id: "in_podman",
        name: "inside rootless podman",
        needs: &["podman"],
        prepare: |_| unified_cgroups(),
        leave: podman_ends,
        enter: |t, script| in_podman(t, &[], script),
        outcomes: NO_HELPER,
        ..PLAIN
    },
    Place {
        id: "in_podman_as_user",
        name: "inside rootless podman, as a user",
        needs: &["podman"],
        prepare: |_| unified_cgroups(),
        leave: podman_ends,
        enter: |t, script| in_podman(t, &["--user", "1000:1000"], script),
        outcomes: NO_HELPER,
        ..PLAIN
    },
    Place {
        id: "in_podman_as_docker",
        name: "inside podman, with the filter of Docker and user namespaces",
        needs: &["podman"],
        prepare: |_| unified_cgroups(),
        leave: podman_ends,
        enter: in_docker,
        outcomes: NO_HELPER,
        ..PLAIN
    },
    Place {
        id: "older_calls",
        name: "newer system calls refused by a filter",
        prepare: |_| support::filter::answer(libc::ENOSYS, &support::filter::NEWER),
        enter: |t, script| t.sh(script),
        ..PLAIN
    },
    Place {
        id: "in_rl_confined",
        name: "inside a container without user namespaces",
        enter: |t, script| in_rl(t, &[], script),
        outcomes: NO_NAMESPACES,
        ..PLAIN
    },
    Place {
        id: "in_host",
        name: "inside `rl run host`",
        enter: |t, script| {
            let rl = format!("RL={}", support::binary().display());
            t.rl([
                "run",
                "--rm",
                "--network",
                "host",
                "-e",
                &rl,
                "-e",
                "TMPDIR=/tmp",
            ])
            .args(["host", "sh", "-c", script])
        },
        outcomes: NO_NAMESPACES,
        ..PLAIN
    },
];

/// Where that is refused, nothing works.
const NO_NAMESPACES: [Outcome; 7] = [Says("--cap-add SYS_ADMIN"); 7];

/// The image has no network helper.
const NO_HELPER: [Outcome; 7] = [
    Works,
    Works,
    Works,
    Works,
    Says("apt-get install passt"),
    Works,
    Works,
];

/// Gives the calling thread mounts of its own, and changes them.
fn alone(script: &str) -> bool {
    if !support::identity::is_root() {
        support::skip("changing what is mounted needs root");
        return false;
    }
    nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNS).unwrap();
    let script = format!("set -e; mount --make-rprivate /; {script}");
    let status = Command::new("/bin/sh").args(["-c", &script]).status();
    assert!(status.unwrap().success(), "{script}");
    true
}

/// podman and crun refuse a machine with both versions of cgroups.
fn unified_cgroups() -> bool {
    alone(
        "if [ \"$(stat -f -c %T /sys/fs/cgroup)\" != cgroup2fs ]; then umount -R /sys/fs/cgroup; mount -t cgroup2 none /sys/fs/cgroup; fi; mount --make-rshared /",
    )
}

/// Where the program and the images are on the machine, they are in the container.
fn mounts() -> Vec<String> {
    let binary = support::binary().parent().unwrap().display().to_string();
    let cache = images::cache().display().to_string();
    vec![
        format!("-v={binary}:{binary}:ro"),
        format!("-v={cache}:{cache}:ro"),
    ]
}

fn in_rl<'a>(t: &'a Env, options: &[&str], script: &str) -> Program<'a> {
    let volume = format!("-v={0}:/var/lib/work", t.path("nested").display());
    let _ = std::fs::create_dir(t.path("nested"));
    t.own(&t.path("nested"));
    let rl = format!("RL={}", support::binary().display());
    t.rl(["run", "--rm", "--network", "host"])
        .args(mounts())
        .arg(volume)
        .args([
            "-e",
            &rl,
            "-e",
            "TMPDIR=/tmp",
            "-e",
            "XDG_DATA_HOME=/var/lib/work",
        ])
        .args(options)
        .args([&debian_image(), "sh", "-c", script])
}

/// Runs a script in a user namespace with all subordinate ids, where setgroups(2) is denied: which the one who makes it
/// can say as long as no group is mapped.
const NO_GROUPS: &str = r#"
    set -e; mkfifo go pid
    unshare --user sh -c 'echo $$ >pid; read go <go; exec setpriv --reuid 0 --regid 0 --keep-groups sh -c "$SCRIPT"' &
    read pid <pid
    first() { grep "^$(id -un):" $1 | cut -d: -f2; }
    echo deny >/proc/$pid/setgroups
    newuidmap $pid 0 $(id -u) 1 1 $(first /etc/subuid) 65536
    newgidmap $pid 0 $(id -g) 1 1 $(first /etc/subgid) 65536
    echo >go; wait $!; rm go pid"#;

/// A script that runs another in a container like the one that it runs in.
fn once_more(script: &str) -> String {
    let [image, mounts] = [debian_image(), mounts().join(" ")];
    let quoted = script.replace('\'', r"'\''");
    format!(
        "mkdir /var/lib/work/inner; exec $RL run --rm --network host --cap-add SYS_ADMIN {mounts} \
         -v /var/lib/work/inner:/var/lib/work -e RL -e TMPDIR -e XDG_DATA_HOME {image} sh -c '{quoted}'"
    )
}

fn debian_image() -> String {
    format!("oci:{}:gzip", images::debian().unwrap().display())
}

/// podman keeps a process of its own that holds its namespaces.
fn podman_ends(t: &Env) {
    podman(t).args(["rmi", "--all", "--force"]).run().ok();
    podman(t).args(["system", "migrate"]).run().ok();
    for place in ["run/containers", "run/libpod"] {
        let _ = std::fs::remove_dir_all(t.dir().join(place));
    }
}

fn podman(t: &Env) -> Program<'_> {
    t.program("podman")
        .arg("--cgroup-manager=cgroupfs")
        .env("STORAGE_DRIVER", "overlay")
}

fn in_podman<'a>(t: &'a Env, options: &[&str], script: &str) -> Program<'a> {
    let nested = t.path("nested");
    let _ = std::fs::create_dir(&nested);
    std::fs::set_permissions(&nested, std::os::unix::fs::PermissionsExt::from_mode(0o777)).unwrap();
    t.own(&nested);
    let rl = format!("RL={}", support::binary().display());
    podman(t)
        .args(["run", "--rm", "--cgroups=disabled", "--network", "host"])
        .args(mounts())
        .arg(format!("-v={}:/var/lib/work", nested.display()))
        .args([
            "-e",
            &rl,
            "-e",
            "TMPDIR=/tmp",
            "-e",
            "HOME=/tmp",
            "-e",
            "XDG_DATA_HOME=/var/lib/work",
        ])
        .args(options)
        .args([&debian_image(), "sh", "-c", script])
}

/// What Docker's filter refuses a container without CAP_SYS_ADMIN (its default profile, moby's
/// profiles/seccomp), and podman's does not.
const DOCKER_REFUSES: [&str; 17] = [
    "clone3",
    "fsconfig",
    "fsmount",
    "fsopen",
    "fspick",
    "get_mempolicy",
    "keyctl",
    "mbind",
    "mount_setattr",
    "move_mount",
    "open_tree",
    "pidfd_getfd",
    "pivot_root",
    "process_madvise",
    "reboot",
    "set_mempolicy",
    "syslog",
];

/// What it takes to make a container, which who wants to nest adds to it.
const NESTING: [&str; 10] = [
    "chroot",
    "clone",
    "mount",
    "pivot_root",
    "setdomainname",
    "sethostname",
    "setns",
    "umount",
    "umount2",
    "unshare",
];

/// Looks whether the filter is the one that was meant: clone3(2), open_tree(2) and keyctl(2) are refused, openat2(2) and
/// pidfd_open(2) are not. The numbers are those of every 64-bit architecture here, but keyctl's.
const IS_DOCKERS: &str = r#"python3 -c '
import ctypes, errno, platform, sys
def answer(number):
    ctypes.set_errno(0)
    ctypes.CDLL(None, use_errno=True).syscall(number, -1, -1, -1, -1, -1)
    return errno.errorcode[ctypes.get_errno()]
keyctl = 250 if platform.machine() == "x86_64" else 219
seen = [answer(n) for n in (435, 428, keyctl, 437, 434)]
sys.exit(0 if seen == ["ENOSYS", "EPERM", "EPERM", "E2BIG", "EINVAL"] else f"the filter is another: {seen}")
' || exit
"#;

/// podman's own filter, made to answer as Docker's.
fn docker_filter(t: &Env) -> PathBuf {
    let text = std::fs::read_to_string("/usr/share/containers/seccomp.json").unwrap();
    let mut profile: serde_json::Value = serde_json::from_str(&text).unwrap();
    // Of one that is not listed podman says that the kernel does not know it, Docker that it is forbidden.
    profile["defaultErrnoRet"] = libc::EPERM.into();
    profile["defaultErrno"] = "EPERM".into();
    let rules = profile["syscalls"].as_array_mut().unwrap();
    for rule in rules.iter_mut() {
        let names = rule["names"].as_array_mut().unwrap();
        let other = |name: &&str| !DOCKER_REFUSES.contains(name) && !NESTING.contains(name);
        names.retain(|name| name.as_str().as_ref().is_some_and(other));
    }
    rules.retain(|rule| rule["names"] != json!([]));
    rules.push(json!({"names": NESTING, "action": "SCMP_ACT_ALLOW"}));
    rules.push(json!({"names": ["clone3"], "action": "SCMP_ACT_ERRNO", "errnoRet": libc::ENOSYS, "errno": "ENOSYS"}));
    t.file("seccomp.json", profile.to_string())
}

fn in_docker<'a>(t: &'a Env, script: &str) -> Program<'a> {
    let filter = format!("--security-opt=seccomp={}", docker_filter(t).display());
    in_podman(t, &[&filter], &format!("{IS_DOCKERS}{script}"))
}
