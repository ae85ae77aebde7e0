//! Helpers that are shells.

use super::*;

const SHELL: Program = Program {
    name: "sh",
    package: "dash",
    noise: &["of no consequence"],
};

fn shell(script: &str) -> Command {
    let mut command = Command::new("/bin/sh");
    command
        .args(["-c", script])
        .stdin(Stdio::null())
        .stdout(Stdio::null());
    command
}

#[test]
fn find_needs_an_executable_file() {
    let dir = std::env::temp_dir();
    assert_eq!(
        find("sh", Some(OsStr::new("/bin"))),
        Some(PathBuf::from("/bin/sh"))
    );
    assert!(find("sh", None).is_some(), "fallback directories");
    assert_eq!(find("no-such-program", Some(dir.as_os_str())), None);
}

#[test]
fn the_log_is_bounded_and_never_blocks() {
    let command = shell("echo why >&2; head -c 1000000 /dev/zero | tr '\\0' x >&2; exit 3");
    let mut helper = Helper::spawn(SHELL, command, None).unwrap();
    let status = helper
        .wait(Duration::from_secs(20))
        .unwrap()
        .expect("it ends");
    assert_eq!(ended(status), "exit status 3");
    let log = helper.log();
    assert!(
        log.starts_with("why") && log.len() as u64 <= LOG_SIZE,
        "{} bytes",
        log.len()
    );
}

#[test]
fn stop_kills_one_that_ignores_sigterm() {
    let (ready, theirs) = pipe().unwrap();
    let mut command = shell("trap '' TERM; echo up; while :; do sleep 1; done");
    command.stdout(Stdio::from(theirs));
    let mut helper = Helper::spawn(SHELL, command, None).unwrap();
    assert!(wait_readable(ready.as_fd(), Duration::from_secs(20)).unwrap());
    assert!(helper.try_wait().unwrap().is_none());
    let status = helper.end(Duration::from_millis(20)).unwrap();
    assert_eq!(ended(status), "killed by signal 9");
    assert!(wait_readable(helper.end_fd(), Duration::ZERO).unwrap());
}

#[test]
fn one_that_dies_early_is_told_with_its_words() {
    let (ready, theirs) = pipe().unwrap();
    let mut command = shell("echo of no consequence >&2; echo one >&2; echo two >&2; exit 1");
    command.stdout(Stdio::from(theirs));
    let helper = Helper::spawn(SHELL, command, None).unwrap();
    let error = Starting::new(helper, ready).finish().unwrap_err();
    let expected = "`sh` ended before the network was ready: exit status 1: one; two";
    assert_eq!(error.to_string(), expected);
    let error = Helper::spawn(SHELL, Command::new("/no/such/sh"), None).unwrap_err();
    assert_eq!(error.hint().as_deref(), Some("apt-get install dash"));
}

#[test]
fn without_a_pidfd() {
    let mut helper = Helper::spawn(SHELL, shell("exec sleep 1000"), None).unwrap();
    helper.end = End::Timer(every_second().unwrap());
    // It says that one should look, and there is nothing.
    assert!(wait_readable(helper.end_fd(), READY).unwrap());
    assert!(!helper.has_ended());
    assert!(!wait_readable(helper.end_fd(), Duration::ZERO).unwrap());
    assert!(helper.wait(Duration::from_millis(1)).unwrap().is_none());
    helper.signal(Signal::TERM);
    assert!(helper.wait(READY).unwrap().is_some());
    assert!(wait_readable(helper.end_fd(), READY).unwrap());
    assert!(helper.has_ended());
    let mut helper = Helper::spawn(SHELL, shell("exec sleep 1000"), None).unwrap();
    helper.end = End::Timer(every_second().unwrap());
    use std::os::unix::process::ExitStatusExt as _;
    assert_eq!(helper.stop().unwrap().signal(), Some(Signal::TERM.as_raw()));
}
