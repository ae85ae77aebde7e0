//! What is refused, killed, full or missing: each time the error says where, nothing is left behind, no
//! wall is missing from a container that runs, and the next command works.
//!
//! System calls are refused, and processes killed at them, by strace(1), whose counts are each process's
//! own: `when=3` is the third such call of every process of the start.

#[path = "../support/registry.rs"]
#[allow(dead_code)]
mod registry;
#[path = "../support/mod.rs"]
mod support;

mod disk;
mod killed;
mod refused;
mod verbs;

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use registry::{Access, Registry};
use support::{Env, Identity, Program, can_trace, have, images};

/// A user with subordinate ids, and the small image in their store.
fn with_image() -> Option<(Env, String)> {
    if !can_trace() {
        return None;
    }
    let env = Env::new(Identity::Sub)?;
    let id = env
        .rl(["pull", "--quiet", images::busybox()])
        .run()
        .ok()
        .out();
    let image = "localhost/small".to_owned();
    env.rl(["tag", &id, &image]).run().ok();
    Some((env, image))
}

/// A registry with the small image.
fn with_registry() -> Option<Registry> {
    if !have("docker-registry") || !have("skopeo") {
        return None;
    }
    let registry = Registry::start(&Access::Open);
    registry.push(images::busybox(), "busybox", &[]);
    Some(registry)
}

fn run<'a>(t: &'a Env, image: &str, options: &[&str], command: &[&str]) -> Program<'a> {
    run_by(support::binary(), t, image, options, command)
}

fn run_by<'a>(
    program: &Path,
    t: &'a Env,
    image: &str,
    options: &[&str],
    command: &[&str],
) -> Program<'a> {
    let network = match options.contains(&"--network") {
        true => &[][..],
        false => &["--network", "none"],
    };
    // The same calls each time, and the same numbers in the id maps.
    t.program(program)
        .args(["run", "--rm", "--quiet"])
        .env("RL_USERNS_WARM", "0")
        .args(network)
        .args(options)
        .arg(image)
        .args(command)
}

/// Makes and starts `same`, which stays, with this command. No namespace is kept, for as long as a tracer would stay.
fn stays<'a>(t: &'a Env, image: &str, command: &[&str]) -> Program<'a> {
    let words = [
        "run",
        "-d",
        "--quiet",
        "--network",
        "none",
        "--name",
        "same",
    ];
    let program = t.rl(words).arg(image).args(command);
    program.env("RL_USERNS_WARM", "0")
}

/// What is left in the user's directories, and the processes that still run; whoever has ended and waits
/// for the machine's init is gone as far as this is concerned.
fn left(t: &Env) -> Vec<String> {
    let running = t.processes().into_iter().filter(|p| p.state != 'Z');
    running
        .map(|p| format!("{p:?}"))
        .chain(left_on_disk(t))
        .collect()
}

fn left_on_disk(t: &Env) -> Vec<String> {
    let data = t.dir().join("data/rl");
    let list = |dir: &str| fs::read_dir(data.join(dir)).into_iter().flatten().flatten();
    let found = ["containers", "containers/by-name", "tmp"]
        .into_iter()
        .flat_map(list);
    found
        .map(|entry| entry.path().display().to_string())
        .filter(|path| {
            !["/by-name", "/locks", "/mnt"]
                .iter()
                .any(|kept| path.ends_with(kept))
        })
        .collect()
}

#[track_caller]
fn nothing_left(t: &Env, after: &str) {
    let end = Instant::now() + support::seconds(20);
    loop {
        let left = left(t);
        if left.is_empty() {
            return;
        }
        assert!(Instant::now() < end, "after {after}: {left:#?}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

#[track_caller]
fn no_processes(t: &Env, after: &str) {
    let end = Instant::now() + support::seconds(20);
    loop {
        let running: Vec<_> = t
            .processes()
            .into_iter()
            .filter(|p| p.state != 'Z')
            .collect();
        if running.is_empty() {
            return;
        }
        assert!(Instant::now() < end, "after {after}: {running:#?}");
        std::thread::sleep(Duration::from_millis(2));
    }
}
