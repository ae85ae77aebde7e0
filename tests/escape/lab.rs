//! A hostile root file system beside a tree that must not change, and the two programs to compare.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use sha2::{Digest as _, Sha256};

use crate::support::{self, Env, Output, Program, images};

const PROBE: &str = include_str!("probe.c");

/// One test's root file system and what lies beside it.
pub struct Lab<'a> {
    pub env: &'a Env,
    pub root: PathBuf,
    pub probe: PathBuf,
}

impl<'a> Lab<'a> {
    pub fn new(env: &'a Env) -> Self {
        let lab = Lab {
            env,
            root: env.path("rootfs"),
            probe: probe().to_owned(),
        };
        lab.canary();
        fs::create_dir_all(env.path("volume")).unwrap();
        lab.renew();
        lab
    }

    /// The root as it was at first: a shell and the probe, and directories to mount on.
    pub fn renew(&self) {
        if self.root.exists() {
            fs::remove_dir_all(&self.root).unwrap();
        }
        fs::create_dir_all(self.root.join("bin")).unwrap();
        fs::create_dir(self.root.join("tmp")).unwrap();
        fs::set_permissions(self.root.join("tmp"), fs::Permissions::from_mode(0o1777)).unwrap();
        fs::copy("/bin/busybox", self.root.join("bin/busybox")).unwrap();
        fs::copy(&self.probe, self.root.join("bin/probe")).unwrap();
        for applet in ["sh", "cat", "tr", "true"] {
            symlink("busybox", self.root.join("bin").join(applet)).unwrap();
        }
        self.own_everything();
    }

    /// The tree beside the root, as it was at first.
    pub fn canary(&self) {
        let canary = self.env.path("canary");
        if canary.exists() {
            fs::remove_dir_all(&canary).unwrap();
        }
        fs::create_dir(&canary).unwrap();
        fs::create_dir(canary.join("below")).unwrap();
        fs::write(canary.join("file"), "a file of the host\n").unwrap();
        fs::write(canary.join("accounts"), "hidden:x:4321:4321::/:/bin/sh\n").unwrap();
        own_all(self.env, &canary);
    }

    /// Gives all of the root to the user, who may have unpacked it.
    pub fn own_everything(&self) {
        own_all(self.env, &self.root);
    }

    /// Removes what containers have left there, as the root of their ids: some of it belongs to subordinate ones.
    pub fn empty_tmp(&self) {
        for entry in fs::read_dir(self.root.join("tmp")).unwrap().flatten() {
            let remove = self.env.rl(["unshare", "rm", "-rf", "--"]);
            remove.arg(entry.path()).run().ok();
        }
    }

    /// Writes a file of the image.
    pub fn file(&self, path: &str, text: &str) {
        let path = self.root.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    /// Writes an executable file of the image.
    pub fn script(&self, path: &str, text: &str) {
        self.file(path, text);
        fs::set_permissions(self.root.join(path), fs::Permissions::from_mode(0o755)).unwrap();
    }

    /// Writes a program of this machine's into the image that asks for another dynamic linker (elf(5), `PT_INTERP`).
    pub fn interpreted_by(&self, linker: &str, path: &str) {
        let mut program = fs::read("/bin/true").unwrap();
        let at = program.windows(4).position(|bytes| bytes == b"/lib");
        let place = &mut program[at.expect("a dynamic program")..];
        let end = place.iter().position(|byte| *byte == 0).unwrap();
        assert!(place[..end].windows(4).any(|bytes| bytes == b"/ld-"));
        place[..end].fill(0);
        place[..linker.len()].copy_from_slice(linker.as_bytes());
        let path = self.root.join(path);
        fs::write(&path, program).unwrap();
        fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
    }

    /// A program in a file that the user owns and may write; always a new one.
    pub fn own_copy(&self, program: &Path) -> PathBuf {
        let path = self.env.path("own-rl");
        let _ = fs::remove_file(&path);
        fs::copy(program, &path).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        self.env.own(&path);
        path
    }

    /// A command in this root, by a given program with the guards named taken out (which only the
    /// sabotaged one listens to).
    pub fn program(
        &self,
        program: &Path,
        guards: &str,
        options: &[&str],
        command: &[&str],
    ) -> Program<'a> {
        let network = if options.contains(&"--network") {
            &[][..]
        } else {
            &["--network", "none"]
        };
        self.env
            .program(program)
            .args(["run", "--rm"])
            .args(network)
            .args(options)
            .arg("--rootfs")
            .arg(&self.root)
            .args(command)
            .env("RL_SABOTAGE", guards)
    }

    #[track_caller]
    pub fn run(&self, program: &Path, guards: &str, options: &[&str], command: &[&str]) -> Output {
        self.program(program, guards, options, command).run()
    }

    /// An attack that fails.
    #[track_caller]
    pub fn refuses(&self, options: &[&str], attack: &[&str]) {
        refused(self.run(support::binary(), "", options, attack));
    }

    /// An attack that fails, fails too when only the guards `besides` are gone, and works when `guard` is gone
    /// as well.
    #[track_caller]
    pub fn contrast(&self, guard: &str, besides: &str, options: &[&str], attack: &[&str]) {
        let both = format!("{besides},{guard}");
        refused(self.run(support::binary(), &both, options, attack));
        refused(self.run(sabotaged(), besides, options, attack));
        reached(self.run(sabotaged(), &both, options, attack));
    }

    /// An attack on what is outside of a Landlock domain, sockets without a file or processes: it fails with scopes alone,
    /// which are there since Linux 6.12 (landlock(7)).
    #[track_caller]
    pub fn contrast_of_scopes(&self, options: &[&str], attack: &[&str]) {
        if rl::sys::landlock::abi().unwrap().is_ok_and(|abi| abi >= 6) {
            self.contrast("landlock", "", options, attack);
        } else {
            reached(self.run(support::binary(), "", options, attack));
        }
    }
}

/// The probe ran, and nothing that it tried worked.
#[track_caller]
pub fn refused(output: Output) -> Output {
    let output = output.exits(1);
    let out = output.out();
    assert!(
        out.contains("refused") || out.contains("all hidden"),
        "{output:?}"
    );
    output
}

/// Something that the probe tried worked.
#[track_caller]
pub fn reached(output: Output) -> Output {
    let output = output.ok();
    assert!(output.out().contains("reached"), "{output:?}");
    output
}

fn own_all(env: &Env, path: &Path) {
    let Ok(meta) = fs::symlink_metadata(path) else {
        return;
    };
    if support::identity::is_root() {
        let uid = env.uid();
        let set_id = meta.permissions();
        std::os::unix::fs::lchown(path, Some(uid), Some(uid)).unwrap();
        // A change of owner takes the set-user-id bit away.
        if meta.is_file() && meta.mode() & 0o6000 != 0 {
            fs::set_permissions(path, set_id).unwrap();
        }
    }
    if meta.is_dir() {
        for entry in fs::read_dir(path).unwrap().flatten() {
            own_all(env, &entry.path());
        }
    }
}

/// A file's SHA-256.
pub fn hash(path: &Path) -> Vec<u8> {
    Sha256::digest(fs::read(path).unwrap()).to_vec()
}

/// Everything below a directory: name, type, mode, owner, time of change and content.
pub fn snapshot(dir: &Path) -> Vec<String> {
    let mut lines = Vec::new();
    let mut entries: Vec<_> = fs::read_dir(dir).unwrap().flatten().collect();
    entries.sort_by_key(|entry| entry.file_name());
    for entry in entries {
        let (path, meta) = (entry.path(), entry.metadata().unwrap());
        let content = if meta.is_file() {
            hash(&path)
        } else {
            Vec::new()
        };
        lines.push(format!(
            "{} {:o} {}:{} {}.{} {content:x?}",
            path.display(),
            meta.mode(),
            meta.uid(),
            meta.gid(),
            meta.ctime(),
            meta.ctime_nsec(),
        ));
        if meta.is_dir() {
            lines.extend(snapshot(&path));
        }
    }
    lines
}

/// The compiled probe: one for each version of its source, made once.
fn probe() -> &'static Path {
    static PROBE_FILE: OnceLock<PathBuf> = OnceLock::new();
    PROBE_FILE.get_or_init(|| {
        let dir = images::cache().join("bin");
        fs::create_dir_all(&dir).unwrap();
        let name: String = Sha256::digest(PROBE)[..8]
            .iter()
            .map(|b| format!("{b:02x}"))
            .collect();
        let file = dir.join(format!("probe-{name}"));
        if !file.exists() {
            let temporary = tempfile::NamedTempFile::new_in(&dir)
                .unwrap()
                .into_temp_path();
            let mut gcc = Command::new("gcc");
            gcc.args(["-O1", "-Wall", "-static", "-x", "c", "-o"]);
            let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/escape/probe.c");
            let done = gcc.arg(&temporary).arg(source).status();
            assert!(done.expect("gcc is installed").success());
            fs::set_permissions(&temporary, fs::Permissions::from_mode(0o755)).unwrap();
            temporary.persist(&file).unwrap();
        }
        file
    })
}

/// The program that drops the guards `RL_SABOTAGE` names, built by the first test that asks.
pub fn sabotaged() -> &'static Path {
    static BINARY: OnceLock<PathBuf> = OnceLock::new();
    BINARY.get_or_init(|| {
        let built = match std::env::var_os("RL_SABOTAGED_BIN") {
            Some(path) => path.into(),
            None => build(),
        };
        support::reachable(&built)
    })
}

/// The dependencies are there already, so this compiles one crate. A binary of another name, so that the
/// program under test stays as it is.
fn build() -> PathBuf {
    let target = Path::new(env!("CARGO_BIN_EXE_rl"))
        .ancestors()
        .filter(|dir| dir.join("CACHEDIR.TAG").exists())
        .last()
        .expect("the program lies in cargo's target directory");
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new("timeout");
    // What cargo tells a test about itself makes build scripts run again that look at it.
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy();
        if ["CARGO_PKG_", "CARGO_MANIFEST_", "CARGO_BIN_"]
            .iter()
            .any(|prefix| text.starts_with(prefix))
        {
            command.env_remove(&name);
        }
    }
    let output = command
        .arg("1800")
        .arg(cargo)
        .args([
            "build",
            "--quiet",
            "--offline",
            "--features",
            "sabotage",
            "--bin",
            "rl-sabotaged",
        ])
        .args(["--message-format", "json", "--target-dir"])
        .arg(target)
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success(),
        "{text}{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let executable = text
        .lines()
        .filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok())
        .filter_map(|message| Some(message["executable"].as_str()?.to_owned()))
        .next_back();
    executable.expect("cargo names what it built").into()
}
