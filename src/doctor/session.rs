//! What a login and the machine's systemd give.

use std::path::Path;

use super::{Facts, Finding, Verdict, ok};
use crate::cgroup;
use crate::host::{self, Fix};

/// Of use for limits and for containers in the background: told, not judged.
pub fn session(facts: &Facts) -> Vec<Finding> {
    let note = |id, evidence: String, fix: Option<Fix>| Finding {
        verdict: Verdict::Note,
        fix,
        ..ok(id, evidence)
    };
    let (session, groups) = (&facts.host.session, &facts.host.cgroup);
    let set = |dir: &Path| format!("export XDG_RUNTIME_DIR={}", dir.display());
    let mut found = Vec::new();
    found.push(match &session.runtime_dir {
        Some((dir, true)) => ok(
            "runtime-dir",
            format!("XDG_RUNTIME_DIR is `{}`", dir.display()),
        ),
        Some((dir, false)) => note(
            "runtime-dir",
            format!(
                "XDG_RUNTIME_DIR: `{}` is not a directory of yours alone",
                dir.display()
            ),
            Some(Fix::own(match &session.usual_dir {
                Some(usual) => set(usual),
                None => "unset XDG_RUNTIME_DIR".to_owned(),
            })),
        ),
        None => note(
            "runtime-dir",
            "XDG_RUNTIME_DIR is not set; it is found without, where there is one".into(),
            session
                .usual_dir
                .as_deref()
                .map(|usual| Fix::own(set(usual))),
        ),
    });
    let linger = || Fix::root(host::linger_line(&facts.ids.user));
    found.push(if session.systemd {
        ok("systemd", "the user's manager answers")
    } else {
        // Who lingers has one already, unless it has failed. Only where systemd is there to be told.
        let can_have = session.booted && !session.linger;
        note(
            "systemd",
            "no manager of the user's answers: nothing ends with the login, and limits need a group of ours".into(),
            can_have.then(linger),
        )
    });
    if session.linger {
        found.push(ok("linger", "the user's manager stays after a logout"));
    } else if session.systemd {
        let text = "what runs in the background may end with the login".to_owned();
        found.push(note("linger", text, Some(linger())));
    }
    let delegate = || Fix::root(cgroup::delegate(""));
    found.push(match &groups.delegated {
        _ if !groups.unified => note(
            "cgroup",
            "/sys/fs/cgroup is not version 2: no limits".into(),
            session
                .booted
                .then(|| Fix::own("start the kernel with `systemd.unified_cgroup_hierarchy=1`")),
        ),
        None => {
            let text = format!(
                "no group above `/{}` is ours, and no manager makes us one: no limits",
                groups.own.display()
            );
            note("cgroup", text, session.systemd.then(delegate))
        }
        Some(controllers) => {
            let lacks: Vec<&str> = cgroup::CONTROLLERS
                .into_iter()
                .filter(|w| !controllers.iter().any(|c| c == w))
                .collect();
            match lacks.as_slice() {
                [] => ok("cgroup", format!("delegated: {}", controllers.join(" "))),
                lacks => note(
                    "cgroup",
                    format!(
                        "delegated: {}; without {1} there are no limits of {1}",
                        controllers.join(" "),
                        lacks.join(", ")
                    ),
                    session.systemd.then(delegate),
                ),
            }
        }
    });
    found
}
