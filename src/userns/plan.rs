//! The decision: both maps, and who writes them. Pure: no system call but the search for the two
//! helper programs.

use newuidmap_sys::{Files, Kind, Programs, SubRange, grant};

use super::caller::without;
use super::{Caller, Error, Mode, Rank};
use crate::model::{IdMap, IdRange};

/// The ids that containers of host root get where /etc/subuid and /etc/subgid name none for `root`
/// or `containers`: 65,536 of the range above 1879048191 that systemd's UIDS-GIDS.md leaves to
/// nobody.
pub const ROOT_DEFAULT: SubRange = SubRange {
    start: 0x7100_0000,
    length: 65_536,
};

/// Who writes the maps.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Writer {
    /// This process, into /proc/PID/uid_map and gid_map.
    Direct,
    /// newuidmap and newgidmap.
    Helpers(Programs),
}

/// All that [`super::start`] needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// User ids.
    pub uid: IdMap,
    /// Group ids.
    pub gid: IdMap,
    /// Who writes them.
    pub writer: Writer,
    /// Whether setgroups(2) will work inside. Where not, supplementary groups must be left alone.
    pub setgroups: bool,
    /// One line for the user, when less was possible than is usual.
    pub notice: Option<String>,
    /// Whose ids these are, for hints.
    pub user: String,
}

/// Decides on the maps for `mode`.
///
/// # Errors
/// Those of [`Error`] that speak of modes, ranges and missing subordinate ids. Without subordinate
/// ids (or the helper programs), [`Mode::Default`] and [`Mode::KeepId`] fall back to a single id and
/// say so in [`Plan::notice`].
pub fn plan(mode: &Mode, caller: &Caller) -> Result<Plan, Error> {
    let uid = Row::new("uid", caller, caller.uid, &caller.sub_uid);
    let gid = Row::new("gid", caller, caller.gid, &caller.sub_gid);
    let helpers = helpers(caller);
    let lacking = helpers.as_ref().err();
    if let (Mode::NoMap, Some(lack)) = (mode, lacking) {
        return Err(lack.refuse("--userns nomap"));
    }
    if matches!(mode, Mode::KeepId { .. }) && caller.rank == Rank::HostRoot {
        return Err(Error::KeepRoot);
    }
    // Without one of the two kinds, the other is of no use.
    let (uid, gid) = if lacking.is_some() {
        (uid.alone(), gid.alone())
    } else {
        (uid, gid)
    };
    let (uids, gids) = match mode {
        Mode::Default => (uid.straight(0), gid.straight(0)),
        Mode::Single => (vec![uid.first()], vec![gid.first()]),
        Mode::NoMap => (uid.straight(1), gid.straight(1)),
        Mode::KeepId { uid: u, gid: g } => (
            uid.around(u.unwrap_or(caller.uid)),
            gid.around(g.unwrap_or(caller.gid)),
        ),
        Mode::Explicit { uid: u, gid: g } => {
            let (u, g) = (
                if u.is_empty() { g } else { u },
                if g.is_empty() { u } else { g },
            );
            // The row is one id long where the others are lacking: that is the reason to give.
            let reason = |error| match (error, lacking) {
                (Error::NotInDefaultMap { .. }, Some(lack)) => lack.refuse("--uidmap"),
                (error, _) => error,
            };
            (
                uid.explicit(u, caller).map_err(reason)?,
                gid.explicit(g, caller).map_err(reason)?,
            )
        }
    };
    let map = |kind, ranges| IdMap::new(ranges).map_err(|source| Error::Map { kind, source });
    let (uids, gids) = (map("uid", uids)?, map("gid", gids)?);
    finish(mode, caller, uids, gids, helpers)
}

/// A plan for maps that were decided before, such as those of a container that exists.
///
/// # Errors
/// [`Error::Helpers`] where newuidmap and newgidmap are missing meanwhile.
pub fn plan_again(uid: IdMap, gid: IdMap, caller: &Caller) -> Result<Plan, Error> {
    finish(&Mode::Single, caller, uid, gid, Ok(None))
}

/// Chooses the writer and words the notice. `helpers` are those that were found already.
fn finish(
    mode: &Mode,
    caller: &Caller,
    uid: IdMap,
    gid: IdMap,
    helpers: Result<Option<Programs>, Lacking>,
) -> Result<Plan, Error> {
    let user = caller.name.clone();
    let only = |map: &IdMap, id| matches!(map.ranges(), [r] if r.length == 1 && r.host == id);
    let own_only = only(&uid, caller.uid) && only(&gid, caller.gid);
    let (found, lacking) = match helpers {
        Ok(found) => (found, None),
        Err(lacking) => (None, Some(lacking)),
    };
    let (writer, setgroups) = match caller.rank {
        // The kernel takes these two lines from anyone, against setgroups (user_namespaces(7),
        // "Defining user and group ID mappings").
        Rank::Ordinary if own_only => (Writer::Direct, false),
        Rank::Ordinary => {
            let programs = match found {
                Some(programs) => programs,
                None => {
                    Programs::find(caller.path.as_deref()).map_err(|source| Error::Helpers {
                        source: Box::new(source),
                        user: user.clone(),
                    })?
                }
            };
            // newgidmap shuts setgroups off when it grants nothing but the own group.
            (
                Writer::Helpers(programs),
                caller.setgroups && !only(&gid, caller.gid),
            )
        }
        Rank::NestedRoot | Rank::HostRoot => (Writer::Direct, caller.setgroups),
    };
    let notice = lacking
        .filter(|_| matches!(mode, Mode::Default | Mode::KeepId { .. }))
        .map(|Lacking { why, fix }| {
            format!(
                "{why}: only one id is mapped, and giving files to others is passed over (fix, {})",
                for_whom(&fix)
            )
        });
    let denied = !setgroups && uid.len() > 1 && caller.rank != Rank::Ordinary;
    let notice = notice.or_else(|| {
        let said = format!(
            "the user namespace around this process denies setgroups(2): setting groups is passed over ({MORE_OUTSIDE})"
        );
        denied.then_some(said)
    });
    Ok(Plan {
        uid,
        gid,
        writer,
        setgroups,
        notice,
        user,
    })
}

/// Refuses groups where they could not be given.
///
/// # Errors
/// [`Error::NeedsSubIds`], [`Error::NoGroups`].
pub fn need_groups(plan: &Plan, caller: &Caller) -> Result<(), Error> {
    match helpers(caller) {
        _ if plan.setgroups => Ok(()),
        Err(lacking) => Err(lacking.refuse("--group-add")),
        Ok(_) => Err(Error::NoGroups),
    }
}

/// Why an ordinary user has a single id only.
struct Lacking {
    why: String,
    fix: String,
}

impl Lacking {
    fn refuse(&self, option: &'static str) -> Error {
        let (why, fix) = (self.why.clone(), self.fix.clone());
        Error::NeedsSubIds { option, why, fix }
    }
}

/// A fix with who has to make it: root, but for what is no command.
pub(super) fn for_whom(fix: &str) -> String {
    match fix.starts_with("start it outside") {
        true => fix.to_owned(),
        false => format!("as root: {fix}"),
    }
}

/// What gives the current user namespace ids, where it is that of a sandbox or a unit.
pub(super) const MORE_OUTSIDE: &str =
    "start it outside of the sandbox, or of the unit with PrivateUsers=yes";

/// What an ordinary user has more ids than one by, or why there is only one; nobody else needs them.
fn helpers(caller: &Caller) -> Result<Option<Programs>, Lacking> {
    if caller.rank != Rank::Ordinary {
        return Ok(None);
    }
    let name = &caller.name;
    let files = match (caller.sub_uid.is_empty(), caller.sub_gid.is_empty()) {
        (true, true) => Some("/etc/subuid and /etc/subgid"),
        (true, false) => Some("/etc/subuid"),
        (false, true) => Some("/etc/subgid"),
        (false, false) => None,
    };
    if files.is_some() && caller.outside {
        return Err(Lacking {
            why: "the user namespace around this process has no ids to hand out".to_owned(),
            fix: MORE_OUTSIDE.to_owned(),
        });
    }
    if let Some(files) = files {
        let why = format!("`{name}` has no subordinate ids in {files}");
        return Err(Lacking {
            why,
            fix: grant(&Files::default(), &caller.lacking_kinds(), name),
        });
    }
    let found = Programs::find(caller.path.as_deref());
    let able = found.and_then(|programs| programs.check().map(|()| programs));
    able.map(Some).map_err(|error| Lacking {
        why: error.to_string(),
        fix: error.hint(name).unwrap_or_default(),
    })
}

/// A default map: ids of the current namespace in the order in which the container sees them.
struct Row {
    kind: &'static str,
    /// Disjoint, none empty.
    ranges: Vec<SubRange>,
}

impl Row {
    fn new(kind: &'static str, caller: &Caller, own: u32, subordinate: &[SubRange]) -> Self {
        let mut ranges = match caller.rank {
            Rank::HostRoot if subordinate.is_empty() => vec![ROOT_DEFAULT],
            Rank::HostRoot => Vec::new(),
            Rank::Ordinary | Rank::NestedRoot => vec![SubRange {
                start: own,
                length: 1,
            }],
        };
        for range in subordinate {
            // What an earlier line (or the own id) already gives is cut out: files may overlap.
            let fresh = ranges
                .iter()
                .fold(vec![*range], |rest, taken| cut(rest, *taken));
            ranges.extend(fresh);
        }
        if caller.rank == Rank::HostRoot {
            ranges = without(ranges, 0);
            if ranges.is_empty() {
                ranges.push(ROOT_DEFAULT);
            }
        }
        Row { kind, ranges }
    }

    /// The first id only.
    fn alone(mut self) -> Self {
        self.ranges.truncate(1);
        if let Some(first) = self.ranges.first_mut() {
            first.length = 1;
        }
        self
    }

    fn len(&self) -> u64 {
        self.ranges.iter().map(|r| u64::from(r.length)).sum()
    }

    /// Container root is the first id.
    fn first(&self) -> IdRange {
        let host = self.ranges.first().map_or(ROOT_DEFAULT.start, |r| r.start);
        IdRange {
            container: 0,
            host,
            length: 1,
        }
    }

    /// `length` ids of the row from its `from`th on, mapped from `container` on; fewer when the row
    /// or the ids end.
    fn slice(&self, from: u64, length: u64, container: u32) -> Vec<IdRange> {
        let (mut skip, mut left, mut container) = (from, length, u64::from(container));
        let mut out = Vec::new();
        for range in &self.ranges {
            let size = u64::from(range.length);
            if skip >= size {
                skip -= size;
                continue;
            }
            let ids = (size - skip)
                .min(left)
                .min(u64::from(u32::MAX).saturating_sub(container));
            if ids == 0 {
                break;
            }
            // All three are below 2^32: the row holds 32-bit ids only.
            out.push(IdRange {
                container: container as u32,
                host: range.start + skip as u32,
                length: ids as u32,
            });
            container += ids;
            left -= ids;
            skip = 0;
        }
        out
    }

    /// The row from its `from`th id on, mapped from 0.
    fn straight(&self, from: u64) -> Vec<IdRange> {
        self.slice(from, u64::MAX, 0)
    }

    /// The first id at `own`, the others below and above it in order; where there are too few, the
    /// ids right below `own` stay without.
    fn around(&self, own: u32) -> Vec<IdRange> {
        let below = u64::from(own).min(self.len() - 1);
        let mut out = self.slice(1, below, 0);
        out.extend(self.slice(0, 1, own));
        out.extend(self.slice(1 + below, u64::MAX, own.saturating_add(1)));
        out
    }

    /// `--uidmap`: the middle number counts along the row; for host root it is the id itself.
    fn explicit(&self, ranges: &[IdRange], caller: &Caller) -> Result<Vec<IdRange>, Error> {
        if caller.rank == Rank::HostRoot {
            return match ranges.iter().any(|r| r.host == 0) {
                true => Err(Error::HostRoot(self.kind)),
                false => Ok(ranges.to_vec()),
            };
        }
        let mut out = Vec::new();
        for range in ranges {
            let found = self.slice(u64::from(range.host), range.length.into(), range.container);
            let covered: u32 = found.iter().map(|r| r.length).sum();
            if covered < range.length {
                return Err(Error::NotInDefaultMap {
                    kind: self.kind,
                    id: range.host.saturating_add(covered),
                    len: self.len(),
                    user: caller.name.clone(),
                });
            }
            out.extend(found);
        }
        Ok(out)
    }
}

/// The ranges less those ids that `taken` holds.
fn cut(ranges: Vec<SubRange>, taken: SubRange) -> Vec<SubRange> {
    let end = |r: SubRange| u64::from(r.start) + u64::from(r.length);
    let mut out = Vec::new();
    for range in ranges {
        let (from, to) = (range.start.max(taken.start), end(range).min(end(taken)));
        if u64::from(from) >= to {
            out.push(range);
            continue;
        }
        out.push(SubRange {
            start: range.start,
            length: from - range.start,
        });
        // `to` is at most the end of a range of 32-bit ids; an end of 2^32 leaves nothing.
        let length = (end(range) - to) as u32;
        out.push(SubRange {
            start: to as u32,
            length,
        });
    }
    out.retain(|range| range.length > 0);
    out
}

/// Which program writes a map of `kind`; for messages of `rl doctor`.
impl Plan {
    /// The path of newuidmap or newgidmap, when they are used.
    pub fn program(&self, kind: Kind) -> Option<&std::path::Path> {
        match &self.writer {
            Writer::Direct => None,
            Writer::Helpers(programs) => Some(programs.path(kind)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn r(start: u32, length: u32) -> SubRange {
        SubRange { start, length }
    }

    fn caller(rank: Rank, id: u32, sub: &[SubRange]) -> Caller {
        Caller {
            uid: id,
            gid: id + 1,
            name: "ann".into(),
            rank,
            sub_uid: sub.to_vec(),
            sub_gid: sub.to_vec(),
            outside: false,
            setgroups: true,
            path: None,
        }
    }

    fn uids(mode: &Mode, caller: &Caller) -> Vec<(u32, u32, u32)> {
        let plan = plan(mode, caller).unwrap();
        plan.uid
            .ranges()
            .iter()
            .map(|r| (r.container, r.host, r.length))
            .collect()
    }

    const KEEP: Mode = Mode::KeepId {
        uid: None,
        gid: None,
    };

    #[test]
    fn default_maps_root_to_the_caller() {
        let ann = caller(Rank::Ordinary, 1000, &[r(100_000, 65_536), r(300_000, 10)]);
        let expected = [(0, 1000, 1), (1, 100_000, 65_536), (65_537, 300_000, 10)];
        assert_eq!(uids(&Mode::Default, &ann), expected);
        let plan = plan(&Mode::Default, &ann).unwrap();
        assert_eq!(plan.gid.to_host(0), Some(1001));
        assert!(matches!(plan.writer, Writer::Helpers(_)) && plan.setgroups);
        assert_eq!(plan.notice, None);
    }

    #[test]
    fn overlapping_lines_are_cut() {
        let ann = caller(
            Rank::Ordinary,
            1000,
            &[r(990, 20), r(1005, 10), r(900, 200)],
        );
        let expected = [
            (0, 1000, 1),
            (1, 990, 10),
            (11, 1001, 9),
            (20, 1010, 5),
            (25, 900, 90),
            (115, 1015, 85),
        ];
        assert_eq!(uids(&Mode::Default, &ann), expected);
    }

    #[test]
    fn without_subordinate_ids_one_is_mapped_and_said() {
        let eve = caller(Rank::Ordinary, 2002, &[]);
        assert_eq!(uids(&Mode::Default, &eve), [(0, 2002, 1)]);
        let plan_ = plan(&Mode::Default, &eve).unwrap();
        assert_eq!((&plan_.writer, plan_.setgroups), (&Writer::Direct, false));
        let notice = plan_.notice.unwrap();
        assert!(
            notice.contains("usermod --add-subuids") && notice.ends_with("ann)"),
            "{notice}"
        );
        assert_eq!(uids(&KEEP, &eve), [(2002, 2002, 1)]);
        assert!(matches!(
            plan(&Mode::NoMap, &eve),
            Err(Error::NeedsSubIds { .. })
        ));
        let single = plan(&Mode::Single, &eve).unwrap();
        assert_eq!(single.notice, None, "asked for, so nothing to say");
        // Those of the files do not help in a sandbox that maps one id.
        let inside = Caller {
            outside: true,
            ..eve.clone()
        };
        let notice = plan(&Mode::Default, &inside).unwrap().notice.unwrap();
        assert!(
            notice.contains("(fix, start it outside of the sandbox"),
            "{notice}"
        );
        // One kind is not enough.
        let half = Caller {
            sub_uid: vec![r(100_000, 5)],
            ..eve
        };
        assert_eq!(uids(&Mode::Default, &half), [(0, 2002, 1)]);
    }

    #[test]
    fn keep_id_puts_the_caller_in_their_place() {
        let ann = caller(Rank::Ordinary, 1000, &[r(100_000, 65_536)]);
        let expected = [(0, 100_000, 1000), (1000, 1000, 1), (1001, 101_000, 64_536)];
        assert_eq!(uids(&KEEP, &ann), expected);
        let zero = Mode::KeepId {
            uid: Some(0),
            gid: Some(0),
        };
        assert_eq!(uids(&zero, &ann), uids(&Mode::Default, &ann));
        let few = caller(Rank::Ordinary, 1000, &[r(100_000, 10)]);
        assert_eq!(uids(&KEEP, &few), [(0, 100_000, 10), (1000, 1000, 1)]);
    }

    #[test]
    fn nomap_leaves_the_caller_out() {
        let ann = caller(Rank::Ordinary, 1000, &[r(100_000, 5), r(200_000, 5)]);
        assert_eq!(uids(&Mode::NoMap, &ann), [(0, 100_000, 5), (5, 200_000, 5)]);
        assert!(matches!(
            plan(&Mode::NoMap, &ann).unwrap().writer,
            Writer::Helpers(_)
        ));
    }

    #[test]
    fn explicit_ranges_count_along_the_default_map() {
        let ann = caller(Rank::Ordinary, 1000, &[r(100_000, 10), r(200_000, 10)]);
        let range = |container, host, length| IdRange {
            container,
            host,
            length,
        };
        let explicit = |uid: Vec<IdRange>| Mode::Explicit {
            uid,
            gid: Vec::new(),
        };
        assert_eq!(
            uids(&explicit(vec![range(0, 1, 15), range(100, 0, 1)]), &ann),
            [(0, 100_000, 10), (10, 200_000, 5), (100, 1000, 1)]
        );
        match plan(&explicit(vec![range(0, 15, 10)]), &ann) {
            Err(Error::NotInDefaultMap {
                id: 21, len: 21, ..
            }) => {}
            other => panic!("{other:?}"),
        }
        let twice = explicit(vec![range(0, 0, 2), range(5, 1, 1)]);
        assert!(matches!(
            plan(&twice, &ann),
            Err(Error::Map { kind: "uid", .. })
        ));
    }

    #[test]
    fn nested_root_hands_on_what_it_has() {
        let bare = caller(Rank::NestedRoot, 0, &[]);
        assert_eq!(uids(&Mode::Default, &bare), [(0, 0, 1)]);
        let plan_ = plan(&Mode::Default, &bare).unwrap();
        assert_eq!((plan_.writer, plan_.notice), (Writer::Direct, None));
        let wide = caller(Rank::NestedRoot, 0, &[r(1, 65_536)]);
        assert_eq!(uids(&Mode::Default, &wide), [(0, 0, 1), (1, 1, 65_536)]);
    }

    #[test]
    fn host_root_never_stands_inside() {
        let root = caller(Rank::HostRoot, 0, &[]);
        assert_eq!(
            uids(&Mode::Default, &root),
            [(0, ROOT_DEFAULT.start, 65_536)]
        );
        assert_eq!(uids(&Mode::Single, &root), [(0, ROOT_DEFAULT.start, 1)]);
        let given = caller(Rank::HostRoot, 0, &[r(0, 10), r(500_000, 5)]);
        assert_eq!(uids(&Mode::Default, &given), [(0, 1, 9), (9, 500_000, 5)]);
        assert!(matches!(plan(&KEEP, &root), Err(Error::KeepRoot)));
        let range = IdRange {
            container: 0,
            host: 0,
            length: 1,
        };
        let real = Mode::Explicit {
            uid: vec![range],
            gid: vec![range],
        };
        assert!(matches!(plan(&real, &root), Err(Error::HostRoot("uid"))));
    }

    #[test]
    fn a_missing_helper_is_a_notice_too() {
        // The programs are on this machine or not; either way the plan stands.
        let ann = caller(Rank::Ordinary, 1000, &[r(100_000, 10)]);
        let plan = plan(&Mode::Default, &ann).unwrap();
        let helpers = Programs::find(None).is_ok();
        assert_eq!(helpers, plan.notice.is_none());
        assert_eq!(helpers, plan.program(Kind::Uid).is_some());
    }
}
