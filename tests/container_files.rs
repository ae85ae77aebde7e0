//! Files that belong to other ids than the caller's, from outside.

#[macro_use]
mod support;

identities! {
    fn unshare_is_root_of_the_same_ids(t: [sub nosub unshared root]) {
        let outside = std::fs::read_link("/proc/self/ns/mnt").unwrap();
        let inside = t.rl(["unshare", "sh", "-c", "id -u; id -g; readlink /proc/self/ns/mnt"]).run().ok().out();
        let lines: Vec<&str> = inside.lines().collect();
        assert_eq!(lines[..2], ["0", "0"]);
        assert_ne!(lines[2], outside.to_str().unwrap());
        assert_eq!(t.rl(["unshare", "sh", "-c", "exit 7"]).run().code(), 7);
        let shell = t.rl(["unshare"]).env("SHELL", "/bin/sh").stdin("echo $0; exit 3\n").run();
        assert_eq!((shell.code(), shell.out()), (3, "/bin/sh".to_owned()));
        assert_eq!(t.rl(["unshare", "/etc/passwd"]).run().code(), 126);
        let missing = t.rl(["unshare", "no-such-program"]).env("PATH", "/usr/bin:/bin").run();
        assert_eq!(missing.code(), 127);
        assert!(missing.err().starts_with("error: cannot execute `no-such-program`"), "{}", missing.err());
    }

    fn unshare_removes_what_the_caller_cannot(t: [sub]) {
        let script = "mkdir kept && touch kept/x && chown -R 5:5 kept && chmod 700 kept && stat -c %u:%g kept";
        assert_eq!(t.rl(["unshare", "sh", "-c", script]).run().ok().out(), "5:5");
        assert!(!t.program("rm").args(["-r", "kept"]).run().status.success());
        t.rl(["unshare", "rm", "-r", "kept"]).run().ok();
        assert!(!t.path("kept").exists());
    }
}
