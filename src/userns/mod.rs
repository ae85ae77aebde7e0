//! User namespaces: which ids are mapped, and the writing of the maps.
//!
//! In order: [`Mode`] is what was asked for (`--userns`, `--uidmap`, `--gidmap`); [`Caller::current`]
//! reads who asks and which ids they may hand out; [`plan`] decides on both maps and on who writes
//! them, or refuses; after the clone, [`write`] (or [`start`] and [`Writing::wait`], with other work
//! in between) carries the plan out. The clone itself is made here only by [`begin`], for what is cloned into the
//! namespace later; or, where a [keeper](Keep) has the maps already, within that one's.
//!
//! Every map is drawn from the caller's *default map*, a row of ids:
//!
//! | caller | 0 | 1, 2, … |
//! | --- | --- | --- |
//! | ordinary user | own id | subordinate ids, range after range |
//! | root of a nested user namespace | 0 of that namespace | the other ids mapped there |
//! | root of the host | subordinate ids of `root`, else of `containers`, else [`ROOT_DEFAULT`] | |
//!
//! so that root of the host never stands inside, and an ordinary user's root is that user.

mod ahead;
mod caller;
mod inside;
mod kept;
mod mode;
mod plan;
mod write;

pub use ahead::{Begun, Place, begin};
pub use caller::{Caller, Rank, setgroups};
pub use inside::{run_inside, run_inside_passing_signals, run_joined};
pub use kept::Keep;
pub use mode::{Mode, parse_id_range};
pub use plan::{Plan, ROOT_DEFAULT, Writer, need_groups, plan, plan_again};
pub use write::{Writing, start, write, write_within};

use crate::model::IdMap;
use crate::model::idmap::IdMapError;

/// Whether root is the only user of a map. Package managers want more: `security::seccomp::compile_one_id`.
pub fn is_root_alone(map: &IdMap) -> bool {
    map.len() == 1 && map.to_host(0).is_some()
}

/// Why there is no user namespace as asked for.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// `--userns` names a mode that exists elsewhere but not here.
    #[error("`--userns {0}` is not supported yet")]
    NotYet(String),
    /// `--userns host`.
    #[error("`--userns host` is not possible: a container always has a user namespace of its own")]
    Host,
    /// `--userns` with anything else.
    #[error(
        "`{0}` is no user namespace mode: `keep-id[:uid=N,gid=N]`, `nomap`, `single`, or nothing"
    )]
    UnknownMode(String),
    /// `--uidmap` or `--gidmap` that is not `container:host[:length]`.
    #[error("`{0}` is not an id range of the form `container:host[:length]`")]
    BadRange(String),
    /// The ranges do not make a map.
    #[error("{kind} map")]
    Map {
        /// `uid` or `gid`.
        kind: &'static str,
        /// What is wrong with it.
        source: IdMapError,
    },
    /// `--uidmap` or `--gidmap` names an id that the default map does not have.
    #[error("{kind} {id} is not in the default map of `{user}`, which has {len} ids from 0 on")]
    NotInDefaultMap {
        /// `uid` or `gid`.
        kind: &'static str,
        /// The id in the middle field.
        id: u32,
        /// How long the default map is.
        len: u64,
        /// Whose it is.
        user: String,
    },
    /// The mode cannot do without subordinate ids.
    #[error("`{option}` needs subordinate ids, and {why}")]
    NeedsSubIds {
        /// The option that asks for them.
        option: &'static str,
        /// What is missing.
        why: String,
        /// How to get it.
        fix: String,
    },
    /// Groups are asked for where setgroups(2) is refused.
    #[error(
        "`--group-add`: groups cannot be set in this user namespace (/proc/self/setgroups says `deny`)"
    )]
    NoGroups,
    /// The mode keeps the caller's id, which is root's.
    #[error("`--userns keep-id` is not for root: root of the host never stands inside a container")]
    KeepRoot,
    /// `--uidmap` by root that reaches id 0 of the host.
    #[error(
        "a {0} map may not contain 0 of the host: root of the host never stands inside a container"
    )]
    HostRoot(&'static str),
    /// newuidmap or newgidmap.
    #[error("user namespace maps")]
    Helpers {
        /// What it said.
        source: Box<newuidmap_sys::Error>,
        /// Whose ids these are, for the hint.
        user: String,
    },
    /// No user namespace could be made, or the process in it was lost.
    #[error("{call}")]
    Clone {
        /// The call.
        call: &'static str,
        /// What it said.
        source: std::io::Error,
    },
    /// A file of /proc could not be written.
    #[error("write(`{path}`, `{text}`)")]
    Write {
        /// The file.
        path: String,
        /// What was to be written, lines joined by commas.
        text: String,
        /// What open(2) or write(2) said.
        source: std::io::Error,
    },
    /// A file of /proc could not be read.
    #[error("read(`{path}`)")]
    Read {
        /// The file.
        path: &'static str,
        /// What open(2) or read(2) said.
        source: std::io::Error,
    },
}

impl Error {
    /// The line that mends it, where one is known.
    pub fn hint(&self) -> Option<String> {
        match self {
            Error::NeedsSubIds { fix, .. } => Some(plan::for_whom(fix)),
            Error::Helpers { source, user } => source.hint(user).as_deref().map(plan::for_whom),
            Error::Clone { source, .. } => crate::host::userns_hint(source.raw_os_error()?),
            Error::Write { source, .. } if source.raw_os_error() == Some(libc::EPERM) => {
                crate::host::restriction_hint()
            }
            Error::Host => Some("leave `--userns` out".to_owned()),
            Error::NoGroups => Some(format!("leave it out, or {}", plan::MORE_OUTSIDE)),
            _ => None,
        }
    }
}
