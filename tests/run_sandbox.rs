//! What is inside, what is not, and what cannot be done from there. Where something must fail inside, the
//! same is tried outside, where it must work: a probe that cannot work anywhere proves nothing.

#[macro_use]
mod support;

use std::fs;

use support::{Env, images, wait_for};

#[track_caller]
fn inside(t: &Env, script: &str) -> String {
    t.run(["sh", "-c", script]).run().ok().out()
}

identities! {
    fn only_our_processes_are_there(t: [sub nosub unshared root]) {
        assert_eq!(inside(t, "echo /proc/[0-9]*; echo $$"), "/proc/1\n1");
        let output = t.run(["ps", "-o", "pid,comm"]).run().ok().out();
        assert_eq!(output.split_whitespace().collect::<Vec<_>>(), ["PID", "COMMAND", "1", "ps"]);
    }

    /// Descriptors that the caller holds open stay outside.
    fn only_three_descriptors_are_there(t: [sub nosub unshared root]) {
        let script = format!("exec 7</etc/passwd 8>/dev/null 9</; $RL run --rm --network none {} ls /proc/self/fd", images::busybox());
        // The fourth is the directory that ls reads.
        assert_eq!(t.sh(&script).run().ok().out(), "0\n1\n2\n3");
        let mut terminal = t.run(["sh", "-c", "echo fds: $(ls /proc/1/fd)"]).terminal();
        // The fifth column is busybox's own copy of the terminal, if it makes one.
        terminal.expect("fds: 0 1 2");
        terminal.exits(0);
    }

    fn nothing_is_inherited(t: [sub nosub root]) {
        let script = format!("umask 077; trap '' USR1; cd /; A_SECRET=1 $RL run --rm --network none {} sh -c 'env; umask; pwd; exec grep SigIgn /proc/self/status'", images::busybox());
        let output = t.sh(&script).run().ok().out();
        assert!(!output.contains("SECRET"), "{output}");
        assert!(output.contains("\n0022\n/\n"), "{output}");
        let ignored = output.lines().find_map(|line| line.strip_prefix("SigIgn:")).unwrap();
        let ignored = u64::from_str_radix(ignored.trim(), 16).unwrap();
        // 32 and 33 are the C library's own, which it ignores in whatever it starts (posix_spawn).
        assert_eq!(ignored & 0x7fff_ffff, 0, "{output}");
    }

    fn root_inside_is_nobody_special_outside(t: [sub nosub]) {
        assert_eq!(inside(t, "id -u"), "0");
        let mut running = t.run(["sh", "-c", "echo ready; sleep 1000"]).spawn();
        running.expect("ready");
        let sleep = || t.processes().into_iter().find(|p| p.command == "sleep 1000").map(|p| p.pid);
        wait_for("the sleep", || sleep().is_some());
        let status = fs::read_to_string(format!("/proc/{}/status", sleep().unwrap())).unwrap();
        let uid = t.uid();
        assert!(status.contains(&format!("Uid:\t{uid}\t{uid}\t{uid}\t{uid}\n")), "{status}");
        running.signal(rustix::process::Signal::KILL);
        drop(running);
    }

    fn even_for_root_the_ids_are_mapped(t: [root]) {
        let map = inside(t, "cat /proc/self/uid_map");
        let fields: Vec<&str> = map.split_whitespace().collect();
        assert_eq!(fields[0], "0");
        assert_ne!(fields[1], "0", "root inside is root outside");
    }

    fn confinement_is_on(t: [sub nosub unshared root]) {
        let status = inside(t, "cat /proc/self/status");
        for line in ["NoNewPrivs:\t1", "Seccomp:\t2", "CapInh:\t0000000000000000", "CapAmb:\t0000000000000000"] {
            assert!(status.lines().any(|l| l == line), "no `{line}` in:\n{status}");
        }
        let set = |name: &str| status.lines().find_map(|l| l.strip_prefix(name)).unwrap().trim().to_owned();
        // Docker's customary fourteen: CHOWN DAC_OVERRIDE FSETID FOWNER MKNOD NET_RAW SETGID SETUID SETFCAP SETPCAP
        // NET_BIND_SERVICE SYS_CHROOT KILL AUDIT_WRITE, or fewer.
        let bounding = u64::from_str_radix(&set("CapBnd:"), 16).unwrap();
        assert_eq!(bounding & !0x0000_0000_a804_25fb, 0, "{bounding:x}");
        // A file may ask for NET_RAW and gets nothing (no_new_privs); nobody holds it.
        let effective = u64::from_str_radix(&set("CapEff:"), 16).unwrap();
        assert_eq!((effective & 1 << 13, bounding), (0, effective | 1 << 13), "{effective:x} {bounding:x}");
    }

    fn dangerous_paths_are_closed(t: [sub nosub root]) {
        for path in ["/proc/kcore", "/proc/keys", "/proc/timer_list", "/proc/sched_debug", "/proc/latency_stats"] {
            let output = inside(t, &format!("cat {path} 2>/dev/null | head -c 10; true"));
            assert_eq!(output, "", "{path}");
        }
        for path in ["/proc/acpi", "/proc/scsi", "/sys/firmware"] {
            assert_eq!(inside(t, &format!("ls {path} 2>/dev/null; true")), "", "{path}");
        }
        for path in ["/proc/sys/kernel/hostname", "/proc/sysrq-trigger", "/proc/irq/default_smp_affinity", "/sys/kernel/mm/ksm/run"] {
            let output = t.run(["sh", "-c", &format!("echo x >{path}")]).run();
            assert_ne!(output.code(), 0, "{path} can be written");
        }
    }

    fn system_calls_are_refused(t: [sub root]) {
        for command in ["unshare -U true", "unshare -m true", "mount -t tmpfs none /tmp", "umount /proc", "chroot / mount -t proc p /tmp", "hostname other", "swapon /x", "insmod /x"] {
            let output = t.run(["sh", "-c", &format!("{command} 2>&1")]).run();
            assert_ne!(output.code(), 0, "`{command}` works inside");
        }
        // Outside a namespace of a user's own is an ordinary thing.
        t.sh("unshare -U true").run().ok();
    }

    fn devices_are_the_few(t: [sub nosub root]) {
        let output = inside(t, "cd /dev; for f in *; do echo $f; done");
        let found: Vec<&str> = output.lines().collect();
        for name in ["null", "zero", "full", "random", "urandom", "tty", "pts", "shm", "mqueue", "ptmx", "fd", "stdin", "stdout", "stderr"] {
            assert!(found.contains(&name), "no /dev/{name} in {found:?}");
        }
        let more: Vec<_> = found.iter().filter(|n| !["null", "zero", "full", "random", "urandom", "tty", "pts", "shm", "mqueue", "ptmx", "fd", "stdin", "stdout", "stderr", "console", "core"].contains(n)).collect();
        assert!(more.is_empty(), "also there: {more:?}");
        assert_eq!(inside(t, "head -c 4 /dev/zero | wc -c; echo x >/dev/null; head -c 1 /dev/urandom | wc -c; echo x >/dev/full || echo full"), "4\n1\nfull");
        // Refused, or with one id passed over: there is no device either way.
        let made = t.run(["sh", "-c", "mknod /tmp/sda b 8 0; status=$?; test -e /tmp/sda && echo made; exit $status"]).run();
        assert_eq!((made.out().as_str(), made.code()), ("", i32::from(t.who.has_many_ids())));
    }

    fn no_path_of_the_host_is_there(t: [sub nosub root]) {
        let here = t.dir().file_name().unwrap().to_str().unwrap().to_owned();
        let mounts = inside(t, "cat /proc/self/mountinfo");
        for line in mounts.lines() {
            let point = line.split(' ').nth(4).unwrap();
            assert!(!point.contains(&here), "{line}");
        }
        assert_eq!(inside(t, "ls /var/tmp /home/rl-ci-sub 2>/dev/null; true"), "");
        // Nothing mounted inside reaches back, nothing mounted outside comes in.
        for line in mounts.lines() {
            assert!(!line.contains(" shared:") && !line.contains(" master:"), "{line}");
        }
    }

    fn destruction_stays_inside(t: [sub nosub root]) {
        let canary = t.file("canary", "alive");
        let volume = format!("{}:/mnt", t.directory("shared").display());
        fs::write(t.path("shared/kept"), "kept").unwrap();
        let output = t.run_with(&["-v", &format!("{volume}:ro")], ["sh", "-c", "rm -rf --no-preserve-root / 2>/dev/null; echo done"]).run();
        assert_eq!(output.out(), "done");
        assert_eq!(fs::read_to_string(canary).unwrap(), "alive");
        assert_eq!(fs::read_to_string(t.path("shared/kept")).unwrap(), "kept");
        // The image is whole.
        assert_eq!(inside(t, "cat /etc/group | head -n 1"), "root:x:0:");
        // Every process that can be seen is ours to kill.
        let output = t.run(["sh", "-c", "kill -9 -1; echo still here"]).run().ok();
        assert_eq!(output.out(), "still here");
    }

    fn containers_of_one_image_do_not_see_each_other(t: [sub nosub root]) {
        inside(t, "echo mine >/etc/motd; rm /etc/group");
        assert_eq!(inside(t, "test -e /etc/motd || echo absent; test -e /etc/group && echo present"), "absent\npresent");
    }

    fn without_a_network_there_is_loopback_only(t: [sub nosub root]) {
        assert_eq!(inside(t, "ls /sys/class/net; ip -o addr show lo | grep -c 127.0.0.1; cat /proc/net/route | wc -l"), "lo\n1\n1");
        assert_eq!(inside(t, "nc -ll -p 8080 -e cat & until [ \"$(echo x | nc 127.0.0.1 8080 2>/dev/null)\" = x ]; do sleep 0.05; done; echo x"), "x");
    }

    fn writes_survive_on_disk_as_the_right_owner(t: [sub root]) {
        assert_eq!(inside(t, "touch /x; chown 1000:1001 /x; chmod 4755 /x; stat -c '%u:%g %a' /x"), "1000:1001 4755");
        assert_eq!(inside(t, "stat -c '%u:%g' /home/app /etc/passwd"), "1000:1000\n0:0");
    }

    fn many_at_once(t: [sub root]) {
        // The image is taken in by the first.
        t.run(["true"]).run().ok();
        let running: Vec<_> = (0..20).map(|n| t.run(["sh", "-c", &format!("echo {n}; exit {n}")]).spawn()).collect();
        for (n, running) in running.into_iter().enumerate() {
            assert_eq!(running.wait().exits(n as i32).out(), n.to_string());
        }
    }
}

/// The same when twenty start on an empty store.
#[test]
fn many_at_once_from_nothing() {
    let Some(t) = Env::new(support::Identity::Sub) else {
        return;
    };
    let running: Vec<_> = (0..8)
        .map(|n| t.run(["sh", "-c", &format!("exit {n}")]).spawn())
        .collect();
    for (n, running) in running.into_iter().enumerate() {
        running.wait().exits(n as i32);
    }
}
