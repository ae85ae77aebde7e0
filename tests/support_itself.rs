//! The test support on itself: the guards find what they should, so that a test which passes means
//! something.

#[macro_use]
mod support;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use support::{Env, Identity, Image, images};

/// What is left for good is there at once.
const BRIEFLY: Duration = Duration::from_millis(200);

identities! {
    fn a_program_runs_as_its_identity(t: [sub nosub unshared root]) {
        let inside = if t.who == Identity::Unshared { 0 } else { t.uid() };
        assert_eq!(t.sh("id -u").run().ok().out(), inside.to_string());
        assert_eq!(t.sh("echo $HOME; echo problem >&2; exit 3").run().exits(3).complains("problem").out(), format!("{}/home", t.dir().display()));
        t.sh("touch $XDG_DATA_HOME/a $XDG_RUNTIME_DIR/lock ./b; rm $XDG_DATA_HOME/a").run().ok();
    }

    fn a_process_left_behind_is_found(t: [sub root]) {
        let mut running = t.sh("setsid sh -c 'echo up; exec sleep 1000' & wait").spawn();
        running.expect("up");
        assert!(t.processes().iter().any(|process| process.name == "sleep" || process.name == "sh"));
        running.signal(rustix::process::Signal::KILL);
        let left = catch_unwind(AssertUnwindSafe(|| t.check(BRIEFLY)));
        assert!(left.is_err(), "the guard did not see it");
        drop(running);
    }

    fn a_terminal_is_one(t: [sub root]) {
        let mut terminal = t.sh("tty; stty size; read line; echo got $line; exit 4").terminal();
        terminal.expect("/dev/pts/");
        terminal.expect("24 80");
        terminal.send("words\n");
        terminal.expect("got words");
        terminal.exits(4);
    }
}

#[test]
fn a_file_left_behind_is_found() {
    let Some(env) = Env::new(Identity::Sub) else {
        return;
    };
    let kept = env.dir().join("tmp/kept");
    env.sh("touch $TMPDIR/kept").run().ok();
    let found = catch_unwind(AssertUnwindSafe(|| env.check(BRIEFLY)));
    assert!(found.is_err(), "the guard did not see {}", kept.display());
    std::fs::remove_file(kept).unwrap();
}

#[test]
fn skopeo_reads_the_images_made_here() {
    if !support::have("skopeo") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let image = Image::busybox()
        .config("Entrypoint", serde_json::json!(["/x"]))
        .write(dir.path());
    for image in [&image, images::busybox()] {
        let output = std::process::Command::new("skopeo")
            .args(["inspect", "--config", image])
            .output()
            .unwrap();
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
    }
}
