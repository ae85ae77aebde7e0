//! The power goes while a verb works on a container: whatever of it came to the disk, the next commands go on from there
//! by themselves.
//!
//! The system calls of a verb are recorded, and every tree that a machine may find afterwards ([`disk`]) is made and
//! tried.

mod disk;
#[path = "../support/mod.rs"]
mod support;

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;

use rustix::process::{Pid, Signal, kill_process};

use disk::Disk;
use support::{Env, Identity, can_trace, images, wait_for};

/// What was promised, once a verb has returned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Promise {
    /// A container of this name, whatever has become of it.
    Named(&'static str),
    /// Nothing.
    Nothing,
}

fn surroundings() -> Option<Env> {
    if !can_trace() {
        return None;
    }
    let t = Env::new(Identity::Sub)?;
    // What every container shares is there.
    t.rl(["create", "--name", "first", "--network", "none"])
        .arg(images::busybox())
        .arg("true")
        .run()
        .ok();
    t.rl(["rm", "first"]).run().ok();
    Some(t)
}

fn containers(t: &Env) -> PathBuf {
    t.dir().join("data/rl/containers")
}

fn create(t: &Env, name: &str) {
    t.rl(["create", "--name", name, "--network", "none"])
        .arg(images::busybox())
        .arg("true")
        .run()
        .ok();
}

/// Records a verb, then cuts the power after each of its steps. `before` is what stands while it works, `after` what it
/// promises.
fn cut(t: &Env, verb: &[&str], before: Promise, after: Promise) {
    let place = containers(t);
    let mut disk = Disk::new(&place);
    let record = t.dir().join("record");
    t.rl(verb).recorded(&record).run().ok();
    t.quiet();
    disk.replay(&fs::read_to_string(&record).unwrap());
    let last = *disk.steps().end();
    assert!(last > 4, "{verb:?}: nothing was recorded");
    let mut tried = BTreeSet::new();
    for steps in disk.steps() {
        let promise = match steps == last {
            true => after,
            false => before,
        };
        for found in disk.after(steps) {
            if tried.insert((found.clone(), promise == after)) {
                found.make(&place, |path| t.own(path));
                converges(
                    t,
                    promise,
                    &format!("{verb:?} cut after {steps}: {found:#?}"),
                );
            }
        }
    }
    eprintln!("{verb:?}: {} trees", tried.len());
    assert!(tried.len() > 8, "{verb:?}: {} trees", tried.len());
}

/// What a user does next works, and then nothing is left.
fn converges(t: &Env, promise: Promise, what: &str) {
    let promised = match promise {
        Promise::Named(name) => {
            format!("$RL inspect {name} >/dev/null || exit 11; $RL diff {name} || exit 12;")
        }
        Promise::Nothing => String::new(),
    };
    let script = format!(
        "$RL ps -a >/dev/null || exit 10; {promised}
         $RL rm -f same 2>/dev/null
         for name in same other; do
             $RL ps -a --format '{{{{.Names}}}}' | grep -qx $name && continue
             $RL create --name $name --network none $IMAGE true >/dev/null || exit 13
         done
         $RL ps -a --format '{{{{.Names}}}}' | sort | uniq -d | grep . && exit 14
         $RL rm -f $($RL ps -aq) >/dev/null || exit 15
         [ -z \"$($RL ps -aq)\" ] || exit 16
         [ \"$(echo $(ls $PLACE))\" = 'by-name mnt' ] || {{ ls -l $PLACE; exit 17; }}
         [ -z \"$(ls $PLACE/by-name)\" ] || {{ ls -l $PLACE/by-name; exit 18; }}"
    );
    let done = t
        .sh(&script)
        .env("IMAGE", images::busybox())
        .env("PLACE", containers(t))
        .run();
    assert_eq!(
        (done.code(), done.err().as_str()),
        (0, ""),
        "{}\n{what}",
        done.out()
    );
}

#[test]
fn while_it_is_made() {
    let Some(t) = surroundings() else { return };
    let image = images::busybox();
    let create = [
        "create",
        "--name",
        "same",
        "--network",
        "none",
        image,
        "true",
    ];
    cut(&t, &create, Promise::Nothing, Promise::Named("same"));
}

#[test]
fn while_it_runs() {
    let Some(t) = surroundings() else { return };
    let image = images::busybox();
    let run = ["run", "-d", "--name", "same", "--network", "none"];
    let kinds = [
        (&[image, "true"][..], Promise::Named("same")),
        (&["--rm", image, "true"], Promise::Nothing),
    ];
    for (rest, after) in kinds {
        cut(&t, &[&run, rest].concat(), Promise::Nothing, after);
    }
}

/// Who waits for a command does not wait for the disk: its container comes there when the end has been told.
#[test]
fn nobody_waits_for_the_disk() {
    let Some(t) = surroundings() else { return };
    let record = t.dir().join("record");
    t.rl(["run", "--name", "same", "--network", "none"])
        .args([images::busybox(), "true"])
        .recorded_calls(&record, "trace=sendmsg,fdatasync")
        .run()
        .ok();
    t.quiet();
    let record = fs::read_to_string(&record).unwrap();
    let who = |line: &str| line.split_whitespace().next().unwrap().to_owned();
    let first = record.lines().position(|line| line.contains("fdatasync("));
    let first = first.unwrap_or_else(|| panic!("nothing came to the disk: {record}"));
    let lines: Vec<&str> = record.lines().collect();
    let monitor = who(lines[first]);
    let tells = |line: &&str| who(line) == monitor && line.contains("sendmsg(");
    assert!(lines[..first].iter().any(tells), "{record}");
    assert!(!lines[first..].iter().any(tells), "{record}");
    t.rl(["rm", "same"]).run().ok();
}

#[test]
fn while_it_is_started_again() {
    let Some(t) = surroundings() else { return };
    create(&t, "same");
    t.rl(["start", "-a", "same"]).run().ok();
    let same = Promise::Named("same");
    cut(&t, &["start", "-a", "same"], same, same);
}

#[test]
fn while_it_is_renamed_and_removed() {
    let Some(t) = surroundings() else { return };
    create(&t, "same");
    cut(
        &t,
        &["rename", "same", "other"],
        Promise::Nothing,
        Promise::Named("other"),
    );
    create(&t, "same");
    cut(&t, &["rm", "same"], Promise::Nothing, Promise::Nothing);
}

/// The specification of a container that was to be removed at its end is never synced; its files can be of ids that only
/// its maps would tell.
#[test]
fn files_of_other_ids_without_a_specification() {
    let Some(t) = surroundings() else { return };
    let id = t
        .rl(["run", "-d", "--rm", "--name", "same", "--network", "none"])
        .arg(images::busybox())
        .args(["sh", "-c", "mkdir /mine; echo x >/mine/file; chown -R 5:5 /mine; chmod 700 /mine; echo up; exec sleep 1000"])
        .run()
        .ok()
        .out();
    wait_for("its file", || {
        t.rl(["logs", "same"]).run().ok().out() == "up"
    });
    for process in t.processes() {
        if process.name.starts_with("rl") {
            kill_process(Pid::from_raw(process.pid).unwrap(), Signal::KILL).unwrap();
        }
    }
    t.quiet();
    let spec = containers(&t).join(&id).join("spec.json");
    fs::File::options()
        .write(true)
        .open(&spec)
        .unwrap()
        .set_len(100)
        .unwrap();
    assert_eq!(t.rl(["ps", "-aq"]).run().ok().out(), "");
    assert!(!containers(&t).join(&id).exists());
}

/// What no power cut does: the file is there, and it is wrong. It is told, and can be removed.
#[test]
fn a_broken_specification_is_told() {
    let Some(t) = surroundings() else { return };
    create(&t, "same");
    create(&t, "whole");
    let id = t.rl(["inspect", "-f", "{{.Id}}", "same"]).run().ok().out();
    let spec = containers(&t).join(&id).join("spec.json");
    fs::write(&spec, "{\"version\": what}").unwrap();
    let listed = t.rl(["ps", "-a"]).run().ok().complains("is damaged");
    assert!(
        listed.out().contains("whole") && !listed.out().contains("same"),
        "{}",
        listed.out()
    );
    t.rl(["inspect", "same"])
        .run()
        .complains("spec.json` is damaged")
        .complains("hint: ");
    t.rl(["start", "same"]).run().refuses(1, "is damaged");
    t.rl(["rm", "-f", "same"]).run().ok();
    assert_eq!(t.rl(["ps", "-a"]).run().ok().err(), "");
    create(&t, "same");
    t.rl(["rm", "same", "whole"]).run().ok();
}

/// A state that is not whole is of a command that ran: it is not running, and can be started again.
#[test]
fn a_broken_state_is_an_end() {
    let Some(t) = surroundings() else { return };
    for broken in ["", "{\"version\":", "nonsense"] {
        create(&t, "same");
        t.rl(["start", "-a", "same"]).run().ok();
        let id = t.rl(["inspect", "-f", "{{.Id}}", "same"]).run().ok().out();
        fs::write(containers(&t).join(&id).join("state.json"), broken).unwrap();
        assert!(t.rl(["ps", "-a"]).run().ok().out().contains("Exited (137)"));
        let why = t
            .rl(["inspect", "-f", "{{.State.Error}}", "same"])
            .run()
            .ok();
        assert!(why.out().contains("state.json"), "{}", why.out());
        t.rl(["start", "-a", "same"]).run().ok();
        assert!(t.rl(["ps", "-a"]).run().ok().out().contains("Exited (0)"));
        t.rl(["rm", "same"]).run().ok();
    }
}
