//! The walls of a container, attacked: by hostile root file systems and by a static program inside
//! (`escape/probe.c`).
//!
//! A wall that nobody leans on may be missing without a test noticing. So each attack is made three times: against
//! the program under test, where it must fail; against a build of it from which a test can take guards
//! out (`rl-sabotaged`, feature `sabotage`) with all guards but this one gone that would stop the attack too, where it
//! must fail; and with this one gone as well, where it must work. Where the kernel itself is the wall,
//! the attack is made outside of a container to see that it can work.

#[macro_use]
mod support;

#[path = "escape/lab.rs"]
mod lab;
#[path = "escape/shapes.rs"]
mod shapes;

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::os::unix::net::{SocketAddr, UnixListener};
use std::path::Path;

use lab::{Lab, hash, sabotaged, snapshot};
use support::{Env, Identity, identity, images, skip};

/// What is not confined by Landlock, which forbids every mount.
const MOUNTER: [&str; 4] = ["--cap-add", "SYS_ADMIN", "--cap-add", "SYS_PTRACE"];

/// Runs a program that hands a handle on the program of ours out of the container, to a process that writes
/// to it as soon as nothing executes the file any more. A system call may be `missing`. Returns whether the program was changed.
#[track_caller]
fn replace_the_program(
    lab: &Lab<'_>,
    missing: Option<&str>,
    program: &Path,
    guards: &str,
    options: &[&str],
    command: &[&str],
) -> bool {
    let env = lab.env;
    let own = lab.own_copy(program);
    let before = hash(&own);
    let shared = env.path("shared");
    let _ = fs::remove_dir_all(&shared);
    env.directory("shared");
    fs::set_permissions(&shared, fs::Permissions::from_mode(0o777)).unwrap();
    let volume = format!("{}:/shared", shared.display());
    let mut receiver = env
        .program(&lab.probe)
        .arg("receive")
        .arg(shared.join("s"))
        .stdin_open()
        .spawn();
    receiver.expect("listening");
    let all = [&["-v", &volume], options].concat();
    let mut start = own.clone();
    if let Some(call) = missing {
        let script = format!(
            "#!/bin/sh\nexec strace -f -qq -o /dev/null -e trace={call} -e inject={call}:error=ENOSYS {} \"$@\"\n",
            own.display()
        );
        start = env.file("without", script);
        fs::set_permissions(&start, fs::Permissions::from_mode(0o755)).unwrap();
    }
    let output = lab.run(&start, guards, &all, command);
    assert!(!output.out().contains("reached"), "{output:?}");
    receiver.expect("received");
    // Its standard input ends: rl and everything that it started are gone.
    let told = receiver.wait().out();
    let changed = before != hash(&own);
    assert_eq!(changed, told.contains("reached"), "{told}");
    if !changed {
        assert!(
            told.contains("EROFS") || told.contains("EPERM"),
            "only luck protected it: {told}"
        );
    }
    changed
}

/// CVE-2019-5736: PID 1 of `--init` stays ours, and a process with the capability to look into it takes a
/// handle on its executable.
#[test]
fn the_program_behind_pid_1_cannot_be_written() {
    let Some(env) = Env::new(Identity::Sub) else {
        return;
    };
    let lab = Lab::new(&env);
    let options = [&MOUNTER[..], &["--init"]].concat();
    let attack = ["/bin/probe", "exe", "/proc/1/exe", "/shared/s"];
    let with =
        |program, guards| replace_the_program(&lab, None, program, guards, &options, &attack);
    assert!(!with(support::binary(), "exe"));
    assert!(!with(sabotaged(), ""));
    assert!(with(sabotaged(), "exe"));
}

/// The same where the kernel has no detached mounts: a sealed copy stands in.
#[test]
fn the_sealed_copy_behind_pid_1_cannot_be_written() {
    // No helper with a set-user-id bit takes part: it would not work under strace.
    let Some(env) = Env::new(Identity::NoSub) else {
        return;
    };
    if !support::have("strace") {
        return;
    }
    let lab = Lab::new(&env);
    let options = [&MOUNTER[..], &["--init"]].concat();
    let attack = ["/bin/probe", "exe", "/proc/1/exe", "/shared/s"];
    for call in ["open_tree", "mount_setattr"] {
        let with = |program, guards| {
            replace_the_program(&lab, Some(call), program, guards, &options, &attack)
        };
        assert!(!with(support::binary(), "exe"));
        assert!(with(sabotaged(), "exe"));
    }
}

/// The same through the program itself: it is executed again as `/proc/self/exe`, and told to start a
/// container with a helper of the image's, whose parent it then is.
#[test]
fn the_program_run_from_the_inside_cannot_be_written() {
    let Some(env) = Env::new(Identity::Sub) else {
        return;
    };
    let lab = Lab::new(&env);
    lab.file("etc/passwd", "evil:x:1000:1000::/tmp:/bin/sh\n");
    lab.file("etc/nsswitch.conf", "subid: directory\n");
    fs::copy(&lab.probe, lab.root.join("bin/getsubids")).unwrap();
    let options = [&MOUNTER[..2], &["--user", "evil", "-e", "HOME=/tmp"]].concat();
    // By its name, and as what a script in the image names as its interpreter.
    lab.script("bin/again", "#!/proc/self/exe run\n");
    let named = ["run", "--network", "none", "--rootfs", "/", "true"];
    for attack in [
        &[&["/proc/self/exe"], &named[..]].concat(),
        &vec!["/bin/again"],
    ] {
        let with = |program, guards| {
            lab.own_everything();
            let changed = replace_the_program(&lab, None, program, guards, &options, attack);
            lab.empty_tmp();
            changed
        };
        assert!(!with(support::binary(), "exe"));
        assert!(!with(sabotaged(), ""));
        assert!(with(sabotaged(), "exe"));
    }
    // With Landlock it is not even executed: it lies outside of the root.
    let landlocked = lab.run(support::binary(), "", &[], &["/proc/self/exe", "--version"]);
    landlocked.refuses(126, "EACCES");
}

identities! {
    /// Entry points that lead back to the program: nothing of it changes, and nothing hangs.
    fn an_entry_point_that_is_the_program_itself(t: [sub nosub unshared]) {
        let lab = Lab::new(t);
        let own = lab.own_copy(support::binary());
        let before = hash(&own);
        lab.script("bin/self", "#!/proc/self/exe\n");
        lab.script("bin/run", "#!/proc/self/exe run\n");
        lab.script("bin/one", "#!/proc/1/exe\n");
        lab.script("bin/descriptor", "#!/proc/self/fd/5\n");
        symlink("/proc/self/exe", lab.root.join("bin/link")).unwrap();
        symlink("/proc/self/exe", lab.root.join("bin/rl-init")).unwrap();
        lab.interpreted_by("/proc/self/exe", "bin/interpreted");
        for options in [&[][..], &["--init"], &MOUNTER, &["-e", "LD_PRELOAD=/bin/probe"]] {
            for name in ["self", "run", "one", "descriptor", "link", "rl-init", "interpreted", "/proc/1/exe", "/proc/self/exe"] {
                // Whether the program then runs as an ordinary one of the container, or not at all, is one.
                // `rl` alone shows its help and is content.
                for program in [&own, support::binary()] {
                    let output = lab.run(program, "", options, &[name, "--no-such-option"]);
                    assert_ne!(output.code(), 0, "{name} {options:?}");
                    assert_eq!(before, hash(program), "{name} {options:?}");
                }
            }
        }
    }

    /// What is ours inside is not to be looked into.
    fn pid_1_of_init_is_closed(t: [sub]) {
        let lab = Lab::new(t);
        lab.contrast("dumpable", "", &["--init"], &["/bin/probe", "look-into", "1"]);
        lab.refuses(&["--init"], &["/bin/probe", "ptrace", "1"]);
        let status = lab.run(support::binary(), "", &["--init"], &["sh", "-c", "cat /proc/1/status; cat /proc/self/status"]).ok().out();
        for field in ["CapEff:", "CapBnd:", "Seccomp:", "NoNewPrivs:", "Groups:"] {
            let values: Vec<&str> = status.lines().filter(|line| line.starts_with(field)).collect();
            assert_eq!(values.len(), 2);
            assert_eq!(values[0], values[1], "PID 1 is confined like the command");
        }
    }

    /// CVE-2024-21626: whatever the caller has open, the command has three descriptors.
    fn no_descriptor_is_inherited(t: [sub nosub]) {
        let lab = Lab::new(t);
        let canary = t.path("canary");
        let script = format!("for i in $(seq 3 20); do eval \"exec $i<{}\"; done; exec 7</ 8<{} ; exec \"$@\"", canary.join("file").display(), canary.display());
        let with = |program: &Path, guards: &str, options: &[&str], command: &[&str]| {
            let mut all = vec!["-c", &script, "bash", program.to_str().unwrap()];
            let root = lab.root.to_str().unwrap();
            all.extend(["run", "--rm", "--network", "none", "--rootfs", root]);
            all.extend(options);
            t.program("/bin/bash").args(all).args(command).env("RL_SABOTAGE", guards).run()
        };
        let probe = ["/bin/probe", "fds"];
        for options in [&[][..], &["--init"]] {
            lab::refused(with(support::binary(), "fds", options, &probe));
            lab::refused(with(sabotaged(), "", options, &probe));
            let leaked = lab::reached(with(sabotaged(), "fds", options, &probe));
            assert!(leaked.out().lines().any(|line| line.starts_with("7 ")), "{leaked:?}");
        }
        // A working directory that is one of them.
        for fd in ["7", "8"] {
            let cwd = format!("/proc/self/fd/{fd}");
            let file = if fd == "8" { "file".to_owned() } else { canary.join("file").display().to_string()[1..].to_owned() };
            for options in [["--workdir", &cwd], ["--workdir", "/link"]] {
                let _ = fs::remove_file(lab.root.join("link"));
                symlink(&cwd, lab.root.join("link")).unwrap();
                let probe = ["/bin/probe", "read", &file];
                with(support::binary(), "", &options, &probe).refuses(125, "mkdirat(root");
                with(sabotaged(), "fds,landlock", &options, &probe).refuses(125, "mkdirat(root");
                lab::reached(with(sabotaged(), "fds,landlock,links", &options, &probe));
            }
        }
    }

    /// Masked and write-protected files of the kernel.
    fn kernel_paths_are_hidden_and_fixed(t: [sub]) {
        let lab = Lab::new(t);
        lab.contrast("masks", "", &[], &["/bin/probe", "hidden", "/no/such/file"]);
        for path in ["/proc/interrupts", "/proc/self/attr/../../interrupts", "/sys/firmware"] {
            lab.contrast("masks", "", &[], &["/bin/probe", "read", path]);
        }
        // Not every kernel has it. Written to, a mask swallows everything.
        lab.refuses(&[], &["/bin/probe", "read", "/proc/kcore"]);
        let forward = "/proc/sys/net/ipv4/ip_forward";
        lab.contrast("readonly", "", &["--cap-add", "NET_ADMIN"], &["/bin/probe", "write", forward, "1"]);
        // With the host's network /sys is the host's, and what is mounted in it comes along.
        let writable = |program: &Path, guards: &str| {
            let command = ["cat", "/proc/self/mountinfo"];
            let table = lab.run(program, guards, &["--network", "host"], &command).ok().out();
            let mounts = table.lines().filter(|line| line.contains(" /sys"));
            assert!(mounts.clone().count() > 1);
            mounts.filter(|line| line.split(' ').nth(5).unwrap().starts_with("rw")).count()
        };
        assert_eq!(writable(support::binary(), "readonly"), 0);
        assert_eq!(writable(sabotaged(), ""), 0);
        assert_ne!(writable(sabotaged(), "readonly"), 0);
        for path in ["/proc/sysrq-trigger", "/proc/sys/kernel/core_pattern", "/sys/kernel/uevent_helper"] {
            lab.refuses(&[], &["/bin/probe", "write", path, "h"]);
        }
    }

    /// Out of the root by the ways that lead up.
    fn the_root_has_no_way_out(t: [sub nosub]) {
        let lab = Lab::new(t);
        let file = t.path("canary/file").display().to_string();
        lab::reached(t.program(&lab.probe).args(["read", &file]).run());
        lab.contrast("pivot", "landlock", &[], &["/bin/probe", "chroot", &file]);
        lab.refuses(&[], &["/bin/probe", "hidden", &file]);
        lab.refuses(&MOUNTER, &["/bin/probe", "hidden", &file]);
    }

    /// Mounts, namespaces, devices.
    fn nothing_is_mounted_or_made(t: [sub]) {
        let lab = Lab::new(t);
        lab.contrast("seccomp", "", &[], &["/bin/probe", "userns"]);
        lab::reached(t.program(&lab.probe).arg("userns").run());
        lab.contrast("caps", "seccomp,landlock", &[], &["/bin/probe", "mount"]);
        lab.contrast("seccomp", "caps,landlock", &[], &["/bin/probe", "mount"]);
        lab.contrast("landlock", "caps,seccomp", &[], &["/bin/probe", "mount"]);
        for options in [&[][..], &MOUNTER, &["--cap-add", "ALL", "--security-opt", "seccomp=unconfined"]] {
            lab.refuses(options, &["/bin/probe", "mknod", "/tmp/device"]);
        }
        if identity::is_root() {
            let made = t.path("device");
            let output = std::process::Command::new(&lab.probe).arg("mknod").arg(made).output().unwrap();
            assert!(output.status.success(), "root of the machine makes devices: {output:?}");
        }
    }

    /// Processes of the same user, outside.
    fn processes_outside_are_out_of_reach(t: [sub nosub]) {
        let lab = Lab::new(t);
        let mut outside = t.sh("echo up; exec sleep 1000").spawn();
        outside.expect("up");
        let pid = outside.pid().to_string();
        for attack in ["kill", "look-into", "ptrace"] {
            lab::reached(t.program(&lab.probe).args([attack, &pid]).run());
            let probe = ["/bin/probe", attack, &pid];
            lab.refuses(&[], &probe);
            if attack != "kill" {
                lab.refuses(&["--pid", "host"], &probe);
            }
        }
        // The pids are the host's and the user is the same: only Landlock stands between.
        lab.contrast_of_scopes(&["--pid", "host"], &["/bin/probe", "kill", &pid]);
        // The monitor and the front end, which run from the program's own file: the user namespace is the wall.
        let script = format!("for p in /proc/[0-9]*; do [ $p = /proc/$$ ] && continue; case $(tr '\\0' ' ' <$p/cmdline) in *--workdir*{pid}*) /bin/probe look-into ${{p#/proc/}};; esac; done");
        let everything = ["--pid", "host", "--cap-add", "ALL", "--security-opt", "seccomp=unconfined", "--workdir", &format!("/{pid}")];
        let output = lab.run(support::binary(), "", &everything, &["sh", "-c", &script]);
        let lines: Vec<String> = output.out().lines().map(str::to_owned).collect();
        let tries = lines.iter().filter(|line| line.contains("/exe")).count();
        assert!(tries >= 2, "front end and monitor were seen: {lines:#?}");
        assert!(lines.iter().filter(|line| line.contains("/exe") || line.contains("/root")).all(|line| line.starts_with("refused")), "{lines:#?}");
        outside.signal(rustix::process::Signal::KILL);
    }

    /// What joins a container is closed to it, also to one that may look into whatever is in its user namespace, and sees
    /// the processes of this machine.
    fn who_joins_is_not_looked_into(t: [sub nosub root]) {
        let lab = Lab::new(t);
        let probe = format!("{}:/probe:ro", lab.probe.display());
        let options = ["--pid", "host", "--cap-add", "ALL", "--security-opt", "seccomp=unconfined", "--network", "none", "-v", &probe];
        for program in [support::binary(), &lab.own_copy(support::binary())] {
            let rl = |args: &[&str]| t.program(program).args(args);
            rl(&["run", "-d", "--name", "watch"]).args(options).arg(images::busybox()).args(["/probe", "watch"]).run().ok();
            let told = || rl(&["logs", "watch"]).run().ok().out();
            support::wait_for("its eyes", || told().contains("watching"));
            let mut copy = rl(&["cp", "-", "watch:/tmp"]).stdin_open().spawn();
            for _ in 0..30 {
                rl(&["exec", "watch", "true"]).run().ok();
            }
            copy.close_stdin();
            copy.wait();
            assert_eq!(told(), "watching", "{}", program.display());
            rl(&["rm", "-f", "watch"]).run().ok();
        }
    }

    /// The copy in memory that joins is executed where such files are not by default (`vm.memfd_noexec`, of a pid namespace).
    fn what_joins_is_executed_from_memory(t: [root]) {
        if !Path::new("/proc/sys/vm/memfd_noexec").exists() {
            return;
        }
        let own = t.own_binary();
        // Somebody inside could write to it.
        fs::set_permissions(&own, fs::Permissions::from_mode(0o777)).unwrap();
        let script = "echo 1 >/proc/sys/vm/memfd_noexec && $RL run -d --name box --network none --cap-add SYS_PTRACE $IMAGE sleep 1000 && $RL exec box echo done && $RL rm -f box;
            while ls -d $XDG_DATA_HOME/rl/containers/*.gone; do sleep 0.02; done >/dev/null 2>&1";
        let output = t.program("unshare").args(["-pf", "--mount-proc", "sh", "-c", script]).env("RL", &own).env("IMAGE", images::busybox()).run().ok();
        assert!(output.out().contains("done\nbox"), "{output:?}");
    }

    /// Sockets without a file, in a network that is shared.
    fn abstract_sockets_of_the_host_are_closed(t: [sub]) {
        use std::os::linux::net::SocketAddrExt as _;
        let lab = Lab::new(t);
        let name = format!("rl-escape-{}", std::process::id());
        let _listener = UnixListener::bind_addr(&SocketAddr::from_abstract_name(&name).unwrap()).unwrap();
        lab::reached(t.program(&lab.probe).args(["abstract", &name]).run());
        lab.refuses(&[], &["/bin/probe", "abstract", &name]);
        lab.contrast_of_scopes(&["--network", "host"], &["/bin/probe", "abstract", &name]);
    }

    /// The terminal of who started it, from a command that was given pipes.
    fn the_callers_terminal_is_out_of_reach(t: [sub]) {
        let lab = Lab::new(t);
        let try_it = |program: &Path, guards: &str| {
            let mut terminal = lab.program(program, guards, &["--no-tty"], &["/bin/probe", "terminal"]).terminal();
            terminal.wait();
            terminal.shown()
        };
        for (program, guards) in [(support::binary(), "session"), (sabotaged(), "")] {
            let shown = try_it(program, guards);
            assert!(shown.contains("refused") && !shown.contains("inside"), "{shown}");
        }
        let shown = try_it(sabotaged(), "session");
        assert!(shown.contains("reached") && shown.contains("inside"), "{shown}");
    }

    /// Groups of the caller that give rights on the host.
    fn the_callers_groups_are_given_up(t: [sub]) {
        let lab = Lab::new(t);
        if !identity::is_root() {
            skip("only root gives a process another group");
            return;
        }
        let (uid, group) = (t.uid().to_string(), "54321");
        let file = t.file("canary/group", "for the group\n");
        std::os::unix::fs::chown(&file, Some(0), Some(54321)).unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o640)).unwrap();
        let volume = format!("{}:/vol", t.path("canary").display());
        let as_member = |program: &Path, guards: &str, command: &[&str]| {
            let home = t.dir().join("home");
            let mut line = std::process::Command::new("timeout");
            line.args(["60", "setpriv", "--reuid", &uid, "--regid", &uid, "--groups", &format!("{uid},{group}")]);
            line.arg(program).args(["run", "--rm", "--network", "none", "-v", &volume, "--rootfs"]).arg(&lab.root).args(command);
            line.env("HOME", home).env("XDG_RUNTIME_DIR", t.dir().join("run")).env("XDG_DATA_HOME", t.dir().join("data"));
            let output = line.env("RL_SABOTAGE", guards).output().unwrap();
            String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned()
        };
        for attack in [&["/bin/probe", "read", "/vol/group"][..], &["/bin/probe", "groups"]] {
            let bad = |text: &str| text.contains("reached") || text.contains("65534");
            let told = as_member(support::binary(), "groups", attack);
            assert!(!bad(&told) && (told.contains("refused") || told.contains("groups")), "{told}");
            assert!(!bad(&as_member(sabotaged(), "", attack)));
            let told = as_member(sabotaged(), "groups", attack);
            assert!(bad(&told), "{told}");
        }
    }

    /// Programs that run as their owner.
    fn set_user_id_programs_gain_nothing(t: [sub]) {
        let lab = Lab::new(t);
        let probe = lab.root.join("bin/probe");
        fs::set_permissions(&probe, fs::Permissions::from_mode(0o4755)).unwrap();
        let id = |options: &[&str]| lab.run(support::binary(), "", &[&["--user", "1000:1000"], options].concat(), &["/bin/probe", "id"]).ok().out();
        assert_eq!(id(&[]), "1000");
        assert_eq!(id(&["--security-opt", "no-new-privileges=false"]), "0");
    }
}

/// CVE-2025-31133, -52565, -52881: whatever an image has in these places, the container either does not
/// start, with one error, or starts with everything hidden; nothing beside the root is touched.
fn hostile_places(env: &Env, places: &[&str], terminal: bool) {
    let lab = Lab::new(env);
    let canary = env.path("canary");
    let before = snapshot(&canary);
    let volume = format!("{}:/mnt/target:ro", env.path("volume").display());
    let attack = [
        "/bin/probe",
        "hidden",
        canary.join("file").to_str().unwrap(),
    ]
    .map(str::to_owned);
    let attack: Vec<&str> = attack.iter().map(String::as_str).collect();
    for place in places {
        for (name, make) in shapes::shapes(&canary) {
            lab.renew();
            fs::create_dir(lab.root.join("elsewhere")).unwrap();
            let at = lab.root.join(&place[1..]);
            fs::create_dir_all(at.parent().unwrap()).unwrap();
            make(&at);
            symlink("loop", lab.root.join("loop")).unwrap();
            lab.own_everything();
            let options = ["-v", &volume];
            let (code, out) = if terminal {
                let mut terminal = lab
                    .program(
                        support::binary(),
                        "",
                        &[&options[..], &["-t"]].concat(),
                        &attack,
                    )
                    .terminal();
                (terminal.wait().code(), terminal.shown())
            } else {
                let output = lab.run(support::binary(), "", &options, &attack);
                (output.status.code(), output.out() + &output.err())
            };
            let refused = code == Some(125)
                && out.lines().filter(|line| line.contains("error:")).count() == 1;
            let hidden = code == Some(1) && out.contains("all hidden");
            assert!(refused || hidden, "{place} is {name}: {code:?} {out}");
            assert_eq!(before, snapshot(&canary), "{place} is {name}: {out}");
        }
    }
}

identities! {
    fn hostile_kernel_file_systems(t: [sub]) {
        hostile_places(t, &["/proc", "/sys"], false);
    }

    fn hostile_devices(t: [sub]) {
        hostile_places(t, &["/dev", "/dev/null", "/dev/pts", "/dev/shm", "/dev/console"], false);
    }

    fn hostile_consoles(t: [sub]) {
        hostile_places(t, &["/dev", "/dev/console", "/dev/pts", "/dev/ptmx", "/dev/tty"], true);
    }

    fn hostile_files(t: [sub nosub]) {
        hostile_places(t, &["/etc", "/etc/passwd", "/etc/group", "/etc/hosts", "/etc/resolv.conf"], false);
    }

    fn hostile_targets(t: [sub]) {
        hostile_places(t, &["/mnt", "/mnt/target", "/etc/hostname"], false);
    }

    /// The guards behind that: without them the same images reach out.
    fn hostile_images_without_the_guards(t: [sub]) {
        let canary = t.path("canary");
        // A directory of the host in the place of /etc: files are made there.
        let lab = Lab::new(t);
        let run = |program: &Path, guards: &str, options: &[&str], command: &[&str]| {
            lab.own_everything();
            lab.run(program, guards, options, command)
        };
        let made_outside = |guards_out: &str, besides: &str, options: &[&str]| {
            lab.canary();
            let before = snapshot(&canary);
            for (program, guards) in [(support::binary(), guards_out), (sabotaged(), besides)] {
                run(program, guards, options, &["/bin/probe", "id"]);
                assert_eq!(before, snapshot(&canary));
            }
            run(sabotaged(), &format!("{besides},{guards_out}"), options, &["/bin/probe", "id"]);
            let changed = before != snapshot(&canary);
            lab.renew();
            changed
        };
        symlink(&canary, lab.root.join("etc")).unwrap();
        assert!(made_outside("links", "", &[]), "files were made in the directory of the host");
        // The same by way of the device directory, which is fresh.
        symlink(&canary, lab.root.join("dev")).unwrap();
        assert!(made_outside("dev", "links", &[]), "a device file was made in the directory of the host");
        // Accounts from a file of the host: read when the old root is gone.
        fs::create_dir(lab.root.join("etc")).unwrap();
        symlink(canary.join("accounts"), lab.root.join("etc/passwd")).unwrap();
        let options = ["--user", "hidden"];
        run(support::binary(), "", &options, &["/bin/probe", "id"]).refuses(125, "hidden");
        // A /proc that is somewhere else.
        lab.renew();
        fs::create_dir(lab.root.join("elsewhere")).unwrap();
        symlink("elsewhere", lab.root.join("proc")).unwrap();
        let command = ["/bin/probe", "read", "/elsewhere/self/stat"];
        run(support::binary(), "kernel", &[], &command).refuses(125, "/proc");
        run(sabotaged(), "", &[], &command).refuses(125, "/proc");
        lab::reached(run(sabotaged(), "kernel", &[], &command));
    }

    /// A mount whose own content changes where its name leads: the write protection goes to it or nowhere.
    fn what_host_shows_stays_closed_to_who_may_mount(t: [sub nosub unshared]) {
        // Landlock, which forbids every mount, is taken out, and the filter: a namespace made inside may mount.
        let (probe, home) = (t.dir().join("probe"), t.dir().join("home"));
        for path in [&probe, &home.join("file")] {
            fs::write(path, "as it was").unwrap();
            t.own(path);
        }
        t.sh("printf 'as it was' >../probe").run().ok();
        let attack = format!(
            "mount -t tmpfs t /mnt && echo mounts
            for m in / {home} /tmp /run /proc; do mount -o remount,rw,bind $m && echo remounted $m; umount -l $m && echo uncovered $m; done
            mount --bind / /mnt && echo bound; mount --rbind / /mnt && mount -o remount,rw,bind /mnt && echo remounted
            echo x >{probe}; echo x >/mnt{probe}; exit 0",
            home = home.display(),
            probe = probe.display()
        );
        let attack = ["unshare", "--user", "--map-root-user", "--mount", "--propagation", "unchanged", "sh", "-c", &attack];
        let run = ["run", "--rm", "--network", "none", "--security-opt", "seccomp=unconfined", "host"];
        let output = t.program(sabotaged()).args(run).args(attack).env("RL_SABOTAGE", "landlock").run().ok();
        assert!(output.out().starts_with("mounts"), "{output:?}");
        for word in ["uncovered", "remounted /\n", "bound"] {
            assert!(!output.out().contains(word), "{output:?}");
        }
        assert_eq!(fs::read_to_string(&probe).unwrap(), "as it was");
        assert_eq!(fs::read_to_string(home.join("file")).unwrap(), "as it was");
    }

    fn views_where_the_kernel_wants_two_file_systems(t: [sub nosub unshared]) {
        // Kernels before this one refuse an upper directory below the lower one (ELOOP).
        let home = t.dir().join("home");
        fs::write(home.join("file"), "as it was").unwrap();
        t.own(&home.join("file"));
        let script = "cat ~/file; rm ~/file; mkdir ~/dir; echo new >~/dir/new; cat ~/dir/new; grep -c '^overlay .*/below ' /proc/mounts";
        let rl = |words: &[&str]| {
            let program = t.program(sabotaged()).args(words).env_remove("XDG_DATA_HOME");
            program.env("RL_SABOTAGE", "view").run().ok().out()
        };
        let output = rl(&["run", "--name", "x", "--quiet", "--network", "none", "host", "sh", "-c", script]);
        assert_eq!(output, "as it wasnew\n3");
        let shown = home.display();
        assert_eq!(rl(&["diff", "x"]), format!("C {shown}\nA {shown}/dir\nA {shown}/dir/new\nD {shown}/file"));
        assert!(home.join("file").exists() && !home.join("dir").exists());
        rl(&["apply", "-y", "x"]);
        assert!(!home.join("file").exists() && home.join("dir/new").exists());
        rl(&["rm", "x"]);
    }

    fn write_protection_is_not_led_away(t: [sub]) {
        let lab = Lab::new(t);
        let (safe, decoy) = (t.directory("safe"), t.directory("decoy"));
        // /data -> /m/l, and /m/l -> /m, so the mount goes to /m; then /m/l is the one in `safe`.
        fs::create_dir(lab.root.join("m")).unwrap();
        symlink("/m", lab.root.join("m/l")).unwrap();
        symlink("/m/l", lab.root.join("data")).unwrap();
        symlink("/a", safe.join("l")).unwrap();
        lab.own_everything();
        let (safe, decoy) = (format!("{}:/data:ro", safe.display()), format!("{}:/a", decoy.display()));
        let (options, command) = (["-v", &decoy, "-v", &safe], ["sh", "-c", "echo x >/m/written"]);
        for (program, guards) in [(support::binary(), "attributes"), (sabotaged(), "")] {
            lab.run(program, guards, &options, &command).refuses(125, "leads elsewhere");
            assert!(!t.path("safe/written").exists());
        }
        lab.run(sabotaged(), "attributes", &options, &command).ok();
        assert!(t.path("safe/written").exists());
    }
}
