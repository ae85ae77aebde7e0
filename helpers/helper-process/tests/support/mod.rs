//! What the tests of the drivers have in common: they run the real programs.

// None of them uses all of it.
#![allow(dead_code)]

use std::process::{Child, Command};
use std::time::{Duration, Instant};

/// How long something may take.
pub const LIMIT: Duration = Duration::from_secs(20);

/// Passes the test over, unless the machine is one where everything must work.
pub fn skip(missing: &str) {
    assert!(
        std::env::var_os("RL_MUST_WORK").is_none(),
        "must not be skipped: {missing}"
    );
    // Past what keeps the output of a test that passes.
    let line = format!("skipped: {missing}\n");
    let _ = std::io::Write::write_all(&mut std::io::stderr(), line.as_bytes());
}

/// Waits until something is so.
pub fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + LIMIT;
    while !condition() {
        assert!(Instant::now() < deadline, "no {what} within {LIMIT:?}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// A process in user and network namespaces of its own.
pub struct Namespace(Child);

impl Namespace {
    pub fn new() -> Self {
        let child = Command::new("unshare")
            .args(["--user", "--map-root-user", "--net", "sleep", "1000"])
            .spawn()
            .expect("unshare");
        let pid = child.id();
        let is_sleep =
            || std::fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|c| c == "sleep\n");
        until("namespace", is_sleep);
        Namespace(child)
    }

    pub fn pid(&self) -> u32 {
        self.0.id()
    }

    pub fn interfaces(&self) -> String {
        std::fs::read_to_string(format!("/proc/{}/net/dev", self.pid())).unwrap()
    }

    /// A program in it.
    pub fn inside(&self, words: &[&str]) -> Command {
        let mut command = Command::new("nsenter");
        command.args([
            "-t",
            &self.pid().to_string(),
            "-U",
            "--preserve-credentials",
            "-n",
        ]);
        command.args(words);
        command
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The path of a program that uses a device, where both are there.
pub fn program(name: &str, device: helper_process::Device) -> Option<std::path::PathBuf> {
    let found = helper_process::find(name, std::env::var_os("PATH").as_deref());
    if found.is_none() {
        skip(name);
        return None;
    }
    if device.open().is_err() {
        skip(device.path);
        return None;
    }
    found
}
