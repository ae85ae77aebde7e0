//! What the integration tests stand on: who runs `rl`, in which directories, how it is run and watched,
//! and that nothing is left behind.
//!
//! A test asks for an [`Env`] with an identity. It gets a directory of its own with HOME, XDG_RUNTIME_DIR,
//! XDG_DATA_HOME and TMPDIR in it, starts programs through it, and when the `Env` goes out of scope
//! [`leak`] looks for what the programs left. Every program is started with a resource limit that means
//! nothing by itself (the soft RLIMIT_RTTIME of a process that has no real-time policy) and a value of
//! the test's own: it is inherited through everything, namespaces and daemons included, and tells in
//! `/proc/PID/limits` which test a process belongs to. So tests may run side by side.

// No program of tests uses all of it.
#![allow(dead_code, unused_imports)]

pub mod filter;
pub mod identity;
pub mod images;
pub mod leak;
pub mod run;
pub mod terminal;

use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

pub use identity::Identity;
pub use images::Image;
pub use run::{Output, Program, Running};
pub use terminal::Terminal;

/// How long anything may take before a test gives up. Long, because it is only waited for when a test
/// fails; the machine may be slow and busy.
pub fn deadline() -> Duration {
    seconds(60)
}

/// Seconds of an ordinary machine: more where `RL_TEST_SLOW` says how many times as slow this one is.
pub fn seconds(seconds: u64) -> Duration {
    static SLOW: OnceLock<u64> = OnceLock::new();
    let slow = *SLOW.get_or_init(|| {
        let times =
            std::env::var("RL_TEST_SLOW").map(|v| v.parse().expect("RL_TEST_SLOW is a number"));
        times.unwrap_or(1)
    });
    Duration::from_secs(seconds * slow)
}

/// Leaves out a test, or the rest of it, because the machine lacks something; with RL_MUST_WORK=1
/// that is a failure. The caller returns after it.
#[track_caller]
pub fn skip(reason: &str) {
    assert!(
        std::env::var_os("RL_MUST_WORK").is_none_or(|v| v != "1"),
        "nothing may be skipped here: {reason}"
    );
    // Past what keeps the output of a test that passes.
    let line = format!("skipped: {reason}\n");
    let _ = std::io::Write::write_all(&mut std::io::stderr(), line.as_bytes());
}

/// Whether a program that a test needs is installed; skips by name when not.
#[track_caller]
pub fn have(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path).any(|dir| dir.join(program).is_file());
    if !found {
        skip(&format!("`{program}` is not installed"));
    }
    found
}

/// Whether calls of what is started can be watched and refused ([`Program::traced`]); skips where not.
#[track_caller]
pub fn can_trace() -> bool {
    if !identity::is_root() {
        skip("only root traces setuid programs");
        return false;
    }
    have("strace")
}

/// Waits until a condition holds; fails naming it when it does not in time.
#[track_caller]
pub fn wait_for(what: &str, mut condition: impl FnMut() -> bool) {
    let end = Instant::now() + deadline();
    while !condition() {
        assert!(
            Instant::now() < end,
            "waited {} s in vain for: {what}",
            deadline().as_secs()
        );
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Where tests have their directories: `$RL_TEST_DIR`, or /var/tmp. Not /tmp, which may be a tmpfs, on which some kernels
/// have no overlay.
pub fn place() -> PathBuf {
    std::env::var_os("RL_TEST_DIR").map_or_else(|| "/var/tmp".into(), PathBuf::from)
}

/// One test's surroundings.
pub struct Env {
    /// Who runs the programs.
    pub who: Identity,
    user: identity::User,
    tag: u64,
    dir: tempfile::TempDir,
    keeps_containers: AtomicBool,
}

impl Env {
    /// Surroundings for an identity; `None`, with a skip, when this machine or user cannot be it.
    #[track_caller]
    pub fn new(who: Identity) -> Option<Env> {
        let user = match who.user() {
            Ok(user) => user,
            Err(reason) => {
                skip(&reason);
                return None;
            }
        };
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let tag = 1_000_000_000_000
            + u64::from(std::process::id()) * 100_000
            + COUNT.fetch_add(1, Ordering::Relaxed);
        let dir = tempfile::Builder::new()
            .prefix("rl-test-")
            .tempdir_in(place())
            .unwrap();
        let env = Env {
            who,
            user,
            tag,
            dir,
            keeps_containers: AtomicBool::new(false),
        };
        // Container root is another id than the user's in some modes and must reach what is below.
        fs::set_permissions(env.dir.path(), fs::Permissions::from_mode(0o711)).unwrap();
        env.own(env.dir.path());
        for (name, mode) in [
            ("home", 0o755),
            ("run", 0o700),
            ("data", 0o711),
            ("tmp", 0o700),
            ("work", 0o755),
        ] {
            let path = env.dir.path().join(name);
            fs::create_dir(&path).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            env.own(&path);
        }
        Some(env)
    }

    /// Gives a path to the identity's user.
    pub fn own(&self, path: &Path) {
        if identity::is_root() {
            chown(path, Some(self.user.uid), Some(self.user.gid)).unwrap();
        }
    }

    /// The user id outside of every namespace.
    pub fn uid(&self) -> u32 {
        self.user.uid
    }

    /// The test's directory; HOME and the like are in it.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// A path in the working directory of the test's programs.
    pub fn path(&self, name: impl AsRef<Path>) -> PathBuf {
        self.dir.path().join("work").join(name)
    }

    /// Writes a file of the user's into the working directory.
    pub fn file(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path(name);
        fs::write(&path, content).unwrap();
        self.own(&path);
        path
    }

    /// Makes a directory of the user's in the working directory.
    pub fn directory(&self, name: &str) -> PathBuf {
        let path = self.path(name);
        fs::create_dir(&path).unwrap();
        self.own(&path);
        path
    }

    /// `rl` with arguments, run by the identity.
    pub fn rl<S: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = S>) -> Program<'_> {
        self.program(self.installed()).args(args)
    }

    /// The program under test as the identity has it installed: the user without subordinate ids has built it and owns
    /// it, the others have it from root.
    pub fn installed(&self) -> PathBuf {
        match self.who {
            Identity::NoSub if identity::is_root() => reachable_copy(binary(), Some(self.uid())),
            _ => binary().to_owned(),
        }
    }

    /// `rl run --rm --network none IMAGE ARG…` with the small image.
    pub fn run<S: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = S>) -> Program<'_> {
        self.run_with(&[], args)
    }

    /// The same with options before the image.
    pub fn run_with<S: AsRef<OsStr>>(
        &self,
        options: &[&str],
        args: impl IntoIterator<Item = S>,
    ) -> Program<'_> {
        let program = self.rl(["run", "--rm", "--network", "none"]).args(options);
        program.arg(images::busybox()).args(args)
    }

    /// Any program, run by the identity in the same surroundings.
    pub fn program(&self, path: impl AsRef<OsStr>) -> Program<'_> {
        Program::new(self, path.as_ref())
    }

    /// A shell command, run by the identity in the same surroundings, with `$RL` for the program under test.
    pub fn sh(&self, script: &str) -> Program<'_> {
        self.program("/bin/sh")
            .arg("-c")
            .arg(script)
            .env("RL", self.installed())
    }

    /// The program under test in a file that the identity owns and may write.
    pub fn own_binary(&self) -> PathBuf {
        let path = self.dir.path().join("work/own-rl");
        fs::copy(binary(), &path).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        self.own(&path);
        path
    }

    /// Containers without `--rm` stay on purpose: the leak guard does not mind them.
    pub fn keeps_containers(&self) {
        self.keeps_containers.store(true, Ordering::Relaxed);
    }

    /// Waits until no process of this test is left, and fails when one stays.
    #[track_caller]
    pub fn quiet(&self) {
        leak::wait_for_end(self.tag, leak::patience());
    }

    /// The leak guard, now, and with less patience than at the end.
    #[track_caller]
    pub fn check(&self, patience: Duration) {
        leak::check(self, patience);
    }

    /// The living processes of this test, without the [keepers](Env::keepers).
    pub fn processes(&self) -> Vec<leak::Process> {
        let mut all = leak::processes(self.tag);
        all.retain(|process| !process.is_keeper());
        all
    }

    /// The processes of this test which keep a user namespace for the next start. They end by themselves, some seconds
    /// later than anything is waited for.
    pub fn keepers(&self) -> Vec<leak::Process> {
        let mut all = leak::processes(self.tag);
        all.retain(|process| process.is_keeper() && process.state != 'Z');
        all
    }
}

impl Drop for Env {
    fn drop(&mut self) {
        if std::thread::panicking() {
            leak::kill(self.tag);
        } else {
            leak::check(self, leak::patience());
        }
        // Whoever is not root cannot remove files of subordinate ids: that is left to `unshare`.
        if fs::remove_dir_all(self.dir.path()).is_err() {
            let mut command = std::process::Command::new("unshare");
            let _ = command
                .args(["--map-root-user", "--map-auto", "rm", "-rf"])
                .arg(self.dir.path())
                .status();
        }
    }
}

/// The program under test: `$RL_BIN`, or what cargo built, where every user may run it.
pub fn binary() -> &'static Path {
    static BINARY: OnceLock<PathBuf> = OnceLock::new();
    BINARY.get_or_init(|| {
        let path = std::env::var_os("RL_BIN")
            .map_or_else(|| PathBuf::from(env!("CARGO_BIN_EXE_rl")), PathBuf::from);
        reachable(&path)
    })
}

/// A program where every user may run it: itself, or a copy.
pub fn reachable(path: &Path) -> PathBuf {
    let path = fs::canonicalize(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let open = |p: &Path| fs::metadata(p).is_ok_and(|m| m.permissions().mode() & 0o5 == 0o5);
    if !identity::is_root() || path.ancestors().all(open) {
        return path;
    }
    reachable_copy(&path, None)
}

/// A copy of the program in a directory that everybody may pass, of this owner's; one for each version, made once.
fn reachable_copy(path: &Path, owner: Option<u32>) -> PathBuf {
    use std::os::unix::fs::MetadataExt as _;
    let meta = fs::metadata(path).unwrap();
    let dir = images::cache().join("bin");
    fs::create_dir_all(&dir).unwrap();
    let owners = owner.map_or(String::new(), |uid| format!("-of-{uid}"));
    let copy = dir.join(format!(
        "rl-{}-{}-{}{owners}",
        meta.mtime(),
        meta.mtime_nsec(),
        meta.size()
    ));
    if !copy.exists() {
        let temporary = tempfile::tempdir_in(&dir).unwrap();
        let new = temporary.path().join("rl");
        // Not by this process: what another thread of it starts meanwhile would for a moment hold the file open as it is
        // written, and nobody can execute such a one (execve(2), ETXTBSY).
        let cp = std::process::Command::new("cp").args([path, &new]).status();
        assert!(cp.unwrap().success());
        fs::set_permissions(&new, fs::Permissions::from_mode(0o755)).unwrap();
        std::os::unix::fs::chown(&new, owner, owner).unwrap();
        fs::rename(&new, &copy).unwrap();
    }
    copy
}

/// Makes a test for each identity named: `identities! { fn works(t: [sub nosub unshared root]) { … } }`.
#[macro_export]
macro_rules! identities {
    ($($(#[$meta:meta])* fn $name:ident($env:ident: [$($who:ident)+]) $body:block)*) => {$(
        mod $name {
            #[allow(unused_imports)]
            use super::*;

            $(#[$meta])*
            fn body($env: &$crate::support::Env) $body

            $(#[test]
            fn $who() {
                let who = $crate::support::Identity::named(stringify!($who));
                if let Some(env) = $crate::support::Env::new(who) {
                    body(&env);
                }
            })+
        }
    )*};
}
