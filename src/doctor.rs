//! `rl doctor`: what this machine offers, what comes of what it lacks, and the line that mends it.
//!
//! [`Facts::gather`] tries everything once; [`examine`] turns facts into [`Finding`]s and [`rungs`] into what
//! `rl run` will do, both without another look at the machine; [`admin_script`] collects what is for root.

use std::ffi::OsStr;
use std::path::Path;

use serde::Serialize;

use crate::host::{Fix, HostFacts, Obstacle, Tried};
use crate::model::chain;
use crate::net;
use crate::userns::{self, Caller, Mode, Rank};

mod examine;
mod script;
mod session;
#[cfg(test)]
mod tests;

pub use examine::{examine, rungs};
pub use script::admin_script;

/// How a fact turned out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// As it should be.
    Ok,
    /// Something of another use, or of none so far: told, not judged.
    Note,
    /// Containers run with less.
    Degraded,
    /// What needs it does not run.
    Missing,
}

impl Verdict {
    /// The word.
    pub fn word(self) -> &'static str {
        match self {
            Verdict::Ok => "ok",
            Verdict::Note => "note",
            Verdict::Degraded => "degraded",
            Verdict::Missing => "missing",
        }
    }
}

/// A fact, judged.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// A name that stays the same.
    pub id: &'static str,
    /// How it turned out.
    pub verdict: Verdict,
    /// What was seen.
    pub evidence: String,
    /// What comes of it, where it is not as it should be.
    pub effect: Option<String>,
    /// What mends it. In JSON two fields: the line as `fix`, and `as_root`.
    #[serde(flatten, serialize_with = "fix_fields")]
    pub fix: Option<Fix>,
}

fn ok(id: &'static str, evidence: impl Into<String>) -> Finding {
    Finding {
        id,
        verdict: Verdict::Ok,
        evidence: evidence.into(),
        effect: None,
        fix: None,
    }
}

fn fix_fields<S: serde::Serializer>(fix: &Option<Fix>, to: S) -> Result<S::Ok, S::Error> {
    #[derive(Serialize)]
    struct Fields<'a> {
        fix: Option<&'a str>,
        as_root: bool,
    }
    Fields {
        fix: fix.as_ref().map(|fix| fix.line.as_str()),
        as_root: fix.as_ref().is_some_and(|fix| fix.root),
    }
    .serialize(to)
}

/// Ids that a container may have.
#[derive(Clone, Debug)]
pub struct Ids {
    /// Login name.
    pub user: String,
    /// Whether newuidmap is needed.
    pub rank: Rank,
    /// Subordinate user ids, or those of the namespace we are in besides the own one.
    pub uids: u64,
    /// The same for groups.
    pub gids: u64,
    /// What gives the user some.
    pub grant: Fix,
    /// The files grant some, which the user namespace around does not have.
    pub outside: bool,
    /// newuidmap and newgidmap: where the first is.
    pub programs: Result<String, Obstacle>,
    /// A user namespace with the usual map, made: how many ids it has.
    pub tried: Result<u64, Obstacle>,
}

/// All that is known.
#[derive(Clone, Debug)]
pub struct Facts {
    /// Of the machine.
    pub host: HostFacts,
    /// Of the user.
    pub ids: Ids,
    /// What carries the network, with the evidence.
    pub network: Result<(net::Mode, String), NoNetwork>,
    /// What is the way out of networks with a name.
    pub named: Result<String, Obstacle>,
    /// /dev/net/tun opens.
    pub tun: Result<(), Obstacle>,
    /// There is a directory for images and containers.
    pub store: Result<(), Obstacle>,
}

/// Why there is no network.
#[derive(Clone, Debug)]
pub enum NoNetwork {
    /// No program.
    Program(Obstacle),
    /// Programs, but none for a machine without /dev/net/tun.
    Device,
}

impl Facts {
    /// Tries everything. `data` is the store's directory, or why there is none; `path` the value of PATH. The
    /// calling process must be single-threaded.
    ///
    /// # Errors
    /// No /proc.
    pub fn gather(
        data: Result<&Path, Obstacle>,
        path: Option<&OsStr>,
    ) -> Result<Facts, userns::Error> {
        let caller = Caller::current(path)?;
        let temporary = std::env::temp_dir();
        let (place, store) = match data {
            Ok(data) => (data, Ok(())),
            Err(obstacle) => (&*temporary, Err(obstacle)),
        };
        Ok(Facts {
            host: HostFacts::gather(place, path, &caller.name),
            ids: ids(&caller, path),
            network: network(path),
            named: net::choose_named(false, path)
                .map(|choice| choice.evidence.join("; "))
                .map_err(|error| obstacle(&error)),
            tun: helper_process::TUN
                .open()
                .map_err(|refused| obstacle(&net::Error::NoTun(refused))),
            store,
        })
    }
}

fn ids(caller: &Caller, path: Option<&OsStr>) -> Ids {
    use newuidmap_sys::{Files, Kind, Programs, SubRange, grant};
    let sum = |ranges: &[SubRange]| ranges.iter().map(|r| u64::from(r.length)).sum();
    let programs = Programs::find(path).and_then(|programs| {
        programs.check()?;
        Ok(programs.path(Kind::Uid).display().to_string())
    });
    let tried = userns::plan(&Mode::Default, caller).and_then(|plan| {
        userns::run_inside(&plan, || 0)?;
        Ok(plan.uid.len())
    });
    Ids {
        outside: caller.outside,
        user: caller.name.clone(),
        rank: caller.rank,
        uids: sum(&caller.sub_uid),
        gids: sum(&caller.sub_gid),
        grant: Fix::root(grant(
            &Files::default(),
            &caller.lacking_kinds(),
            &caller.name,
        )),
        programs: programs.map_err(|error| Obstacle {
            why: chain(&error),
            fix: error.hint(&caller.name).map(|hint| {
                // Not every hint is a command.
                if hint.starts_with("start it outside") {
                    Fix::own(hint)
                } else {
                    Fix::root(hint)
                }
            }),
        }),
        tried: tried.map_err(|error| Obstacle {
            why: chain(&error),
            fix: error.hint().as_deref().map(Fix::parse),
        }),
    }
}

fn network(path: Option<&OsStr>) -> Result<(net::Mode, String), NoNetwork> {
    net::choose(None, path)
        .map(|choice| (choice.mode(), choice.evidence.join("; ")))
        .map_err(|error| match error {
            net::Error::NoTun(_) => NoNetwork::Device,
            error => NoNetwork::Program(obstacle(&error)),
        })
}

fn obstacle(error: &net::Error) -> Obstacle {
    let hint = error.hint().unwrap_or_default();
    // What follows is for `rl run`, or another way.
    let line = hint.split("; or ").next().unwrap_or_default();
    let line = line.split(" (or ").next().unwrap_or_default();
    Obstacle {
        why: chain(error),
        fix: (!line.is_empty()).then(|| Fix::parse(line)),
    }
}

/// Whether a try went well.
fn works(tried: &Tried) -> bool {
    tried.is_ok()
}
