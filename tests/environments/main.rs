//! Machines that lack something, made for real, and what can be done on each: every cell of the table in the
//! README works as it says there, or fails with the hint that it has there.
//!
//! A thread has a mount namespace of its own where something has to be hidden; containers to be
//! nested in are those of rl itself, bubblewrap and podman.

#[macro_use]
#[path = "../support/mod.rs"]
mod support;
mod places;

use places::{Outcome, PLACES, Place};
use support::{Env, images};

/// What is tried, in the order of the table's columns: a name, and a script that prints `done`. `$RL`,
/// `$BUSYBOX` and `$DEBIAN` are given.
const TRIED: [(&str, &str); 7] = [
    ("run", "$RL run --rm --network none $BUSYBOX echo done"),
    (
        "second run",
        "$RL run --rm --network none --pull never $BUSYBOX echo done",
    ),
    (
        "volume",
        "mkdir -pm 777 $TMPDIR/v; $RL run --rm --network none -v $TMPDIR/v:/v $BUSYBOX sh -c 'echo done >/v/file' && cat $TMPDIR/v/file; rm -rf $TMPDIR/v",
    ),
    (
        "`host`",
        "mkdir -p $HOME/here; cd $HOME/here; echo true >file; $RL run --rm --network none host sh -ec 'cat file; echo false >new; cat new' >seen && test $(tr -d '\\n' <seen) = truefalse && ! test -e new && echo done; cd ..; rm -rf here",
    ),
    (
        "network",
        "$RL run --rm $BUSYBOX sh -c 'ip route | grep -q ^default && echo done'",
    ),
    ("pull", "$RL pull --quiet $DEBIAN >/dev/null && echo done"),
    (
        "install packages",
        "$RL run --rm --network host $DEBIAN sh -ec 'apt-get update -qq; apt-get install -y -qq --no-install-recommends openssh-client >/dev/null 2>&1; command -v ssh >/dev/null; su app -c true; setpriv --reuid app --regid app --init-groups true; echo done'",
    ),
];

fn visit(place: &Place) {
    let Some(t) = Env::new(place.who) else { return };
    let Some(host) = images::registry() else {
        return;
    };
    if !place.needs.iter().all(|program| support::have(program)) {
        return;
    }
    let mut script = format!(
        "export BUSYBOX={} DEBIAN={host}/debian:gzip; exec 2>&1",
        images::busybox()
    );
    for (what, tried) in TRIED {
        script += &format!("\necho '== {what}'\n( {tried} )");
    }
    // A thread of its own, since the one that looks for what is left behind must not lack anything; what is found out
    // once for all, before.
    support::binary();
    let there = || {
        (place.prepare)(&t).then(|| {
            let program = (place.enter)(&t, &script);
            let output = program.patient(support::seconds(400)).run();
            (place.leave)(&t);
            output
        })
    };
    let output = std::thread::scope(|scope| scope.spawn(there).join());
    let Some(output) = output.unwrap_or_else(|panic| std::panic::resume_unwind(panic)) else {
        return;
    };
    let (out, name) = (output.out(), place.name);
    let sections: Vec<&str> = out.split("== ").skip(1).collect();
    assert_eq!(sections.len(), TRIED.len(), "{name}: {out}{}", output.err());
    for ((section, (what, _)), outcome) in sections.iter().zip(TRIED).zip(place.outcomes) {
        let lines: Vec<&str> = section.lines().skip(1).collect();
        match outcome {
            Outcome::Works => {
                assert_eq!(lines.last(), Some(&"done"), "{name}: {section}");
                // What is done without is said once; what has no view, every time.
                let notices = lines.iter().filter(|l| l.starts_with("rl: ")).count();
                let said = what == "run" || what == "`host`";
                assert!(notices <= usize::from(said), "{name}: {section}");
            }
            Outcome::Says(hint) => {
                let last = lines.last().copied().unwrap_or_default();
                assert!(section.contains("error: "), "{name}: {section}");
                assert!(
                    last.starts_with("hint: ") && last.contains(hint),
                    "{name}: {section}"
                );
            }
        }
    }
    println!("{}", row(place));
}

/// A row of the table.
fn row(place: &Place) -> String {
    let cells = place.outcomes.iter().map(|outcome| match outcome {
        Outcome::Works => "yes".to_owned(),
        Outcome::Says(hint) => format!("no: `{hint}`"),
    });
    let cells: Vec<String> = cells.collect();
    format!("| {} | {} |", place.name, cells.join(" | "))
}

macro_rules! visits {
    ($($name:ident)+) => {
        $(#[test]
        fn $name() {
            visit(PLACES.iter().find(|p| p.id == stringify!($name)).unwrap());
        })+

        #[test]
        fn every_place_is_visited_and_in_the_readme() {
            let names = [$(stringify!($name)),+];
            assert!(PLACES.iter().map(|p| p.id).eq(names));
            let head: Vec<&str> = TRIED.iter().map(|t| t.0).collect();
            let mut table = format!("| machine | {} |\n|{}\n", head.join(" | "), " --- |".repeat(1 + TRIED.len()));
            table.extend(PLACES.iter().map(|p| row(p) + "\n"));
            let readme = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/README.md")).unwrap();
            assert!(readme.contains(&table), "the README lacks this table:\n\n{table}");
        }
    };
}

visits! {
    prepared one_id powerless_newuidmap no_devices masked_proc masked_sys no_runtime_dir unshared no_groups root
    in_rl in_rl_twice in_bubblewrap in_podman in_podman_as_user in_podman_as_docker older_calls in_rl_confined in_host
}
