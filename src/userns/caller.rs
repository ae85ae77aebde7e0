//! Who asks for a user namespace, and which ids they have to give.

use std::ffi::{OsStr, OsString};

use newuidmap_sys::{Files, Kind, SubRange, lookup, user_name};

use super::Error;

/// What the caller may do about maps, found in /proc/self/uid_map and the effective uid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rank {
    /// Not root of the current user namespace: own id, and what newuidmap grants.
    Ordinary,
    /// Root of a nested user namespace (`unshare -r`, a rootless container): the ids mapped there.
    NestedRoot,
    /// Root of the initial user namespace: any id.
    HostRoot,
}

/// The caller, as [`super::plan`] needs to know them.
#[derive(Clone, Debug)]
pub struct Caller {
    /// Effective uid, in the current user namespace.
    pub uid: u32,
    /// Effective gid.
    pub gid: u32,
    /// Login name, or the uid in digits where it has none.
    pub name: String,
    /// What they may do.
    pub rank: Rank,
    /// Ids they may hand out besides their own: subordinate ones of an ordinary user and of host
    /// root, the other mapped ones of nested root.
    pub sub_uid: Vec<SubRange>,
    /// The same for groups.
    pub sub_gid: Vec<SubRange>,
    /// The files grant ids of a kind of which the current user namespace has none to hand out.
    pub outside: bool,
    /// Whether setgroups(2) is allowed in the current user namespace; a nested one inherits a
    /// refusal (user_namespaces(7), "/proc/pid/setgroups").
    pub setgroups: bool,
    /// The value of PATH, to find newuidmap and newgidmap.
    pub path: Option<OsString>,
}

impl Caller {
    /// The kinds of ids of which they have none to hand out.
    pub fn lacking_kinds(&self) -> Vec<Kind> {
        let both = [(Kind::Uid, &self.sub_uid), (Kind::Gid, &self.sub_gid)];
        let lacking = both.into_iter().filter(|(_, ranges)| ranges.is_empty());
        lacking.map(|(kind, _)| kind).collect()
    }

    /// Reads it from the running process and from /etc. `path` is the value of PATH.
    ///
    /// # Errors
    /// [`Error::Read`] for /proc/self/uid_map and gid_map: without /proc nothing else would work.
    pub fn current(path: Option<&OsStr>) -> Result<Self, Error> {
        let read = |path: &'static str| {
            std::fs::read_to_string(path).map_err(|source| Error::Read { path, source })
        };
        let uid_map = mapped(&read("/proc/self/uid_map")?);
        let gid_map = || read("/proc/self/gid_map").map(|text| mapped(&text));
        let uid = rustix::process::geteuid().as_raw();
        let gid = rustix::process::getegid().as_raw();
        let rank = rank(uid, &uid_map);
        let name = user_name(uid, path).unwrap_or_else(|| uid.to_string());
        let mut outside = false;
        let (sub_uid, sub_gid) = match rank {
            Rank::NestedRoot => (without(uid_map, uid), without(gid_map()?, gid)),
            Rank::Ordinary => {
                let mut usable = |kind, map: &[SubRange]| {
                    let granted = lookup(&Files::default(), kind, Some(&name), uid, path).ranges;
                    let none = granted.is_empty();
                    let usable = within(granted, map);
                    outside |= !none && usable.is_empty();
                    usable
                };
                (usable(Kind::Uid, &uid_map), usable(Kind::Gid, &gid_map()?))
            }
            Rank::HostRoot => root_ranges(path),
        };
        // A kernel without the file (before 3.19) has no refusal either.
        let setgroups = setgroups("self").unwrap_or(true);
        let path = path.map(OsStr::to_owned);
        Ok(Caller {
            uid,
            gid,
            name,
            rank,
            sub_uid,
            sub_gid,
            outside,
            setgroups,
            path,
        })
    }
}

/// Whether setgroups(2) is allowed in the user namespace of a process, by its name in /proc (user_namespaces(7),
/// "/proc/pid/setgroups"); `None` where that is not shown.
pub fn setgroups(process: &str) -> Option<bool> {
    let text = std::fs::read_to_string(format!("/proc/{process}/setgroups")).ok()?;
    Some(text.trim() != "deny")
}

/// The subordinate ranges of `root`, else those of `containers` (the name podman reserves for
/// root's containers). Both kinds come from one name.
fn root_ranges(path: Option<&OsStr>) -> (Vec<SubRange>, Vec<SubRange>) {
    // No numeric owner is meant for `containers`: u32::MAX is nobody's id.
    for (name, uid) in [("root", 0), ("containers", u32::MAX)] {
        let of = |kind| lookup(&Files::default(), kind, Some(name), uid, path).ranges;
        let (uids, gids) = (of(Kind::Uid), of(Kind::Gid));
        if !uids.is_empty() && !gids.is_empty() {
            return (uids, gids);
        }
    }
    (Vec::new(), Vec::new())
}

/// The ids that exist in the current namespace, from the first column of its map.
fn mapped(map: &str) -> Vec<SubRange> {
    map.lines()
        .filter_map(|line| {
            let mut fields = line.split_whitespace();
            let start = fields.next()?.parse().ok()?;
            let length = fields.nth(1)?.parse().ok()?;
            Some(SubRange { start, length })
        })
        .collect()
}

/// Only the initial namespace maps every id.
fn rank(uid: u32, uid_map: &[SubRange]) -> Rank {
    match (uid, uid_map) {
        (
            0,
            [
                SubRange {
                    start: 0,
                    length: u32::MAX,
                },
            ],
        ) => Rank::HostRoot,
        (0, _) => Rank::NestedRoot,
        _ => Rank::Ordinary,
    }
}

/// What of the ranges exists in the current namespace: inside a container /etc/subuid may promise more.
fn within(ranges: Vec<SubRange>, exist: &[SubRange]) -> Vec<SubRange> {
    let end = |r: &SubRange| u64::from(r.start) + u64::from(r.length);
    let common = |a: &SubRange, b: &SubRange| {
        let start = a.start.max(b.start);
        let length = end(a).min(end(b)).saturating_sub(u64::from(start));
        // At most the shorter of the two.
        (length > 0).then_some(SubRange {
            start,
            length: length as u32,
        })
    };
    let each = ranges
        .iter()
        .flat_map(|range| exist.iter().filter_map(move |e| common(range, e)));
    each.collect()
}

/// The ranges less one id.
pub(super) fn without(ranges: Vec<SubRange>, id: u32) -> Vec<SubRange> {
    let mut out = Vec::with_capacity(ranges.len() + 1);
    for SubRange { start, length } in ranges {
        match id.checked_sub(start).filter(|&offset| offset < length) {
            None => out.push(SubRange { start, length }),
            Some(offset) => {
                out.push(SubRange {
                    start,
                    length: offset,
                });
                out.push(SubRange {
                    start: id.saturating_add(1),
                    length: length - offset - 1,
                });
            }
        }
    }
    out.retain(|range| range.length > 0);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rank_from_the_map() {
        assert_eq!(
            rank(0, &mapped("         0          0 4294967295\n")),
            Rank::HostRoot
        );
        assert_eq!(rank(0, &mapped("0 1000 1\n")), Rank::NestedRoot);
        assert_eq!(
            rank(0, &mapped("0 1000 1\n1 100000 65536\n")),
            Rank::NestedRoot
        );
        assert_eq!(rank(1000, &mapped("0 0 4294967295\n")), Rank::Ordinary);
    }

    #[test]
    fn one_id_less() {
        let r = |start, length| SubRange { start, length };
        assert_eq!(without(vec![r(0, 1), r(1, 9)], 0), [r(1, 9)]);
        assert_eq!(without(vec![r(0, 10)], 4), [r(0, 4), r(5, 5)]);
        assert_eq!(without(vec![r(5, 10)], 4), [r(5, 10)]);
    }

    #[test]
    fn ids_that_exist() {
        let r = |start, length| SubRange { start, length };
        let all = [r(0, u32::MAX)];
        assert_eq!(within(vec![r(100_000, 65_536)], &all), [r(100_000, 65_536)]);
        assert_eq!(within(vec![r(100_000, 65_536)], &[r(0, 65_537)]), []);
        let nested = [r(0, 1), r(1, 65_536)];
        assert_eq!(within(vec![r(60_000, 65_536)], &nested), [r(60_000, 5_537)]);
        assert_eq!(within(vec![r(0, 10)], &nested), [r(0, 1), r(1, 9)]);
    }

    #[test]
    fn the_running_process_is_somebody() {
        let caller = Caller::current(None).unwrap();
        assert_eq!(caller.rank == Rank::Ordinary, caller.uid != 0);
        assert!(!caller.name.is_empty());
    }
}
