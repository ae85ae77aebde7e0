//! The leak guard: after a test no process, mount, namespace or file of ours is left.
//!
//! Processes are found by the resource limit that tags a test (see the parent module), zombies and
//! daemons included. A namespace lives as long as a process in it or a mount of it, so both are
//! covered by those two. Teardown may go on for a moment after a program has ended: the guard waits
//! for a deadline before it complains.

use std::fs;
use std::path::Path;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

/// How long teardown may go on after the last program has ended.
pub fn patience() -> Duration {
    super::seconds(15)
}

/// A living process, or a zombie, of a test.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Process {
    pub pid: i32,
    pub name: String,
    /// One letter of proc_pid_stat(5); `Z` for a zombie.
    pub state: char,
    pub command: String,
}

impl Process {
    /// Whether it keeps a user namespace for the next start, which it does for some seconds and then ends.
    pub fn is_keeper(&self) -> bool {
        self.name == "rl-userns"
    }
}

/// The processes that carry a tag. Who has ended and waits for the machine's init is gone: some look after the dead
/// once in a second only.
pub fn processes(tag: u64) -> Vec<Process> {
    let tag = tag.to_string();
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc").unwrap().flatten() {
        let Some(pid) = entry
            .file_name()
            .to_str()
            .and_then(|name| name.parse().ok())
        else {
            continue;
        };
        let read = |name: &str| fs::read_to_string(entry.path().join(name)).unwrap_or_default();
        let limits = read("limits");
        let line = limits
            .lines()
            .find(|line| line.starts_with("Max realtime timeout"));
        if line.is_none_or(|line| !line.split_whitespace().any(|word| word == tag)) {
            continue;
        }
        let stat = read("stat");
        let Some((head, tail)) = stat.rsplit_once(") ") else {
            continue;
        };
        let mut fields = tail.split(' ');
        let state = fields.next().and_then(|state| state.chars().next());
        if (state, fields.next()) == (Some('Z'), Some("1")) {
            continue;
        }
        found.push(Process {
            pid,
            name: head.split_once('(').map_or("", |(_, name)| name).to_owned(),
            state: state.unwrap_or('?'),
            command: read("cmdline").replace('\0', " ").trim_end().to_owned(),
        });
    }
    found
}

/// Kills every process that carries a tag.
pub fn kill(tag: u64) {
    for process in processes(tag) {
        if let Some(pid) = Pid::from_raw(process.pid) {
            let _ = kill_process(pid, Signal::KILL);
        }
    }
}

/// The lines of our own mount table that name a path below `dir`.
pub fn mounts(dir: &Path) -> Vec<String> {
    let table = fs::read_to_string("/proc/self/mountinfo").unwrap();
    let dir = dir.to_str().unwrap();
    table
        .lines()
        .filter(|line| line.contains(dir))
        .map(str::to_owned)
        .collect()
}

/// Everything below `dir`, by path, up to a depth.
fn files(dir: &Path, depth: usize) -> Vec<String> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        let path = entry.path();
        let inner = if path.is_dir() && !path.is_symlink() && depth > 1 {
            files(&path, depth - 1)
        } else {
            Vec::new()
        };
        found.push(path.display().to_string());
        found.extend(inner);
    }
    found
}

#[track_caller]
pub fn wait_for_end(tag: u64, patience: Duration) {
    let end = Instant::now() + patience;
    loop {
        let mut left = processes(tag);
        left.retain(|process| !process.is_keeper());
        if left.is_empty() {
            return;
        }
        if Instant::now() > end {
            kill(tag);
            panic!("processes are left behind: {left:#?}");
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Fails when the test left something.
pub fn check(env: &super::Env, patience: Duration) {
    wait_for_end(env.tag, patience);
    let end = Instant::now() + patience;
    loop {
        let found = leftovers(env);
        if found.is_empty() {
            return;
        }
        assert!(Instant::now() < end, "left behind:\n{}", found.join("\n"));
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn leftovers(env: &super::Env) -> Vec<String> {
    let mut found = mounts(env.dir());
    found.extend(files(&env.dir().join("tmp"), 1));
    // What is kept for the next command (locks, an empty directory) may stay; a socket or a pid may not.
    let lasting = |path: &String| path.ends_with("lock") || Path::new(path).is_dir();
    found.extend(
        files(&env.dir().join("run"), 4)
            .into_iter()
            .filter(|path| !lasting(path)),
    );
    let data = env.dir().join("data/rl");
    if !env.keeps_containers.load(Ordering::Relaxed) {
        let containers = files(&data.join("containers"), 1);
        found.extend(
            containers
                .into_iter()
                .filter(|path| !path.ends_with("/by-name") && !path.ends_with("/mnt")),
        );
        found.extend(files(&data.join("containers/by-name"), 1));
    }
    found.extend(
        files(&data.join("tmp"), 1)
            .into_iter()
            .filter(|path| !path.ends_with("/locks")),
    );
    found
}
