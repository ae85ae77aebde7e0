//! Id maps of user namespaces (user_namespaces(7), "User and group ID mappings").

use std::fmt::Write as _;

use serde::{Deserialize, Serialize};

/// One line of a `/proc/PID/uid_map` or `gid_map`: `length` ids from `container` inside map to the
/// ids from `host` outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct IdRange {
    /// First id inside the namespace.
    pub container: u32,
    /// First id outside, in the namespace of the process that writes the map.
    pub host: u32,
    /// How many ids, at least 1.
    pub length: u32,
}

/// A validated, ordered list of ranges: not empty, no overlap on either side, no range that runs
/// past the last id, at most 340 ranges (kernel/user_namespace.c, `UID_GID_MAP_MAX_EXTENTS`).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Vec<IdRange>", into = "Vec<IdRange>")]
pub struct IdMap(Vec<IdRange>);

/// Why a list of ranges is not a map.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IdMapError {
    /// No range at all.
    #[error("an id map needs at least one range")]
    Empty,
    /// The kernel takes 340 ranges.
    #[error("an id map of {0} ranges is longer than the kernel's 340")]
    TooLong(usize),
    /// A range of length 0, or past 4294967294 (4294967295 means "no id").
    #[error("the id range {container}:{host}:{length} is empty or runs past the last id")]
    BadRange {
        /// First id inside.
        container: u32,
        /// First id outside.
        host: u32,
        /// Length.
        length: u32,
    },
    /// Two ranges share an id inside or outside.
    #[error("two id ranges overlap at {side} id {id}")]
    Overlap {
        /// `container` or `host`.
        side: &'static str,
        /// The first shared id.
        id: u32,
    },
}

impl IdMap {
    /// The map with all other ids of the host behind its last id inside, as far as there is room: for root, who may
    /// map them.
    pub fn with_the_rest(&self) -> IdMap {
        let mut taken = self.0.clone();
        taken.sort_by_key(|r| r.host);
        let mut ranges = self.0.clone();
        let last = ranges.iter().map(|r| r.container + r.length).max();
        let (mut container, mut host) = (last.unwrap_or(0), 0);
        let ends = taken.iter().map(|r| (r.host, r.host + r.length));
        for (begin, end) in ends.chain([(u32::MAX, u32::MAX)]) {
            let length = (begin - host).min(u32::MAX - container);
            if length > 0 {
                ranges.push(IdRange {
                    container,
                    host,
                    length,
                });
                container += length;
            }
            host = end;
        }
        IdMap::new(ranges).unwrap_or_else(|_| self.clone())
    }

    /// Checks and sorts (by container id) the ranges.
    ///
    /// # Errors
    /// [`IdMapError`] for an empty list, one that is too long, an impossible range or an overlap.
    pub fn new(mut ranges: Vec<IdRange>) -> Result<Self, IdMapError> {
        if ranges.is_empty() {
            return Err(IdMapError::Empty);
        }
        if ranges.len() > 340 {
            return Err(IdMapError::TooLong(ranges.len()));
        }
        for r in &ranges {
            let end = u64::from(u32::MAX);
            if r.length == 0
                || u64::from(r.container) + u64::from(r.length) > end
                || u64::from(r.host) + u64::from(r.length) > end
            {
                let IdRange {
                    container,
                    host,
                    length,
                } = *r;
                return Err(IdMapError::BadRange {
                    container,
                    host,
                    length,
                });
            }
        }
        ranges.sort_by_key(|r| r.host);
        overlap(&ranges, "host", |r| r.host)?;
        ranges.sort_by_key(|r| r.container);
        overlap(&ranges, "container", |r| r.container)?;
        Ok(IdMap(ranges))
    }

    /// The map of a single id.
    pub fn single(container: u32, host: u32) -> Self {
        IdMap(vec![IdRange {
            container,
            host,
            length: 1,
        }])
    }

    /// The ranges, ascending by container id.
    pub fn ranges(&self) -> &[IdRange] {
        &self.0
    }

    /// How many ids the map covers.
    pub fn len(&self) -> u64 {
        self.0.iter().map(|r| u64::from(r.length)).sum()
    }

    /// Never true: a map covers at least one id.
    pub fn is_empty(&self) -> bool {
        false
    }

    /// The outside id of an inside id, if it is mapped.
    pub fn to_host(&self, container: u32) -> Option<u32> {
        self.0.iter().find_map(|r| {
            let offset = container.checked_sub(r.container)?;
            (offset < r.length).then(|| r.host + offset)
        })
    }

    /// The inside id of an outside id, if it is mapped.
    pub fn to_container(&self, host: u32) -> Option<u32> {
        self.0.iter().find_map(|r| {
            let offset = host.checked_sub(r.host)?;
            (offset < r.length).then(|| r.container + offset)
        })
    }

    /// The map that leaves each id of the container what it is: for a user namespace within one that has this map.
    pub fn inner(&self) -> IdMap {
        let same = |r: &IdRange| IdRange {
            host: r.container,
            ..*r
        };
        IdMap(self.0.iter().map(same).collect())
    }

    /// The text that goes into `/proc/PID/uid_map`: one `container host length` line a range.
    pub fn to_proc(&self) -> String {
        let mut out = String::new();
        for r in &self.0 {
            let _ = writeln!(out, "{} {} {}", r.container, r.host, r.length);
        }
        out
    }
}

/// Refuses neighbours (sorted by `key`) of which the first reaches into the second.
fn overlap(
    sorted: &[IdRange],
    side: &'static str,
    key: impl Fn(&IdRange) -> u32,
) -> Result<(), IdMapError> {
    for pair in sorted.windows(2) {
        if key(&pair[0]) + pair[0].length > key(&pair[1]) {
            return Err(IdMapError::Overlap {
                side,
                id: key(&pair[1]),
            });
        }
    }
    Ok(())
}

impl TryFrom<Vec<IdRange>> for IdMap {
    type Error = IdMapError;
    fn try_from(ranges: Vec<IdRange>) -> Result<Self, IdMapError> {
        IdMap::new(ranges)
    }
}

impl From<IdMap> for Vec<IdRange> {
    fn from(map: IdMap) -> Self {
        map.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn r(container: u32, host: u32, length: u32) -> IdRange {
        IdRange {
            container,
            host,
            length,
        }
    }

    #[test]
    fn refuses_impossible_maps() {
        assert_eq!(IdMap::new(vec![]), Err(IdMapError::Empty));
        assert!(matches!(
            IdMap::new(vec![r(0, 0, 0)]),
            Err(IdMapError::BadRange { .. })
        ));
        assert!(matches!(
            IdMap::new(vec![r(0, u32::MAX, 1)]),
            Err(IdMapError::BadRange { .. })
        ));
        assert_eq!(
            IdMap::new(vec![r(0, 100, 10), r(9, 500, 1)]),
            Err(IdMapError::Overlap {
                side: "container",
                id: 9
            })
        );
        assert_eq!(
            IdMap::new(vec![r(0, 100, 10), r(10, 105, 1)]),
            Err(IdMapError::Overlap {
                side: "host",
                id: 105
            })
        );
    }

    #[test]
    fn the_rest_of_the_host_comes_last() {
        let map = IdMap::new(vec![r(0, 1000, 10), r(10, 5, 1)]).unwrap();
        let all = map.with_the_rest();
        let behind = [r(11, 0, 5), r(16, 6, 994), r(1010, 1010, u32::MAX - 1010)];
        assert_eq!(all.ranges(), [map.ranges(), &behind].concat());
        // What is free inside is used up before the host's ids are.
        let far = IdMap::new(vec![r(u32::MAX - 3, 0, 1)]).unwrap();
        let behind = [r(u32::MAX - 2, 1, 2)];
        assert_eq!(
            far.with_the_rest().ranges(),
            [far.ranges(), &behind].concat()
        );
    }

    proptest! {
        #[test]
        fn round_trip(ids in proptest::collection::vec((0u32..1000, 0u32..1000, 1u32..50), 1..6),
                      probe in 0u32..1100) {
            if let Ok(map) = IdMap::new(ids.iter().map(|&(c, h, l)| r(c, h, l)).collect()) {
                if let Some(host) = map.to_host(probe) {
                    prop_assert_eq!(map.to_container(host), Some(probe));
                }
                let json = serde_json::to_string(&map).unwrap();
                prop_assert_eq!(serde_json::from_str::<IdMap>(&json).unwrap(), map);
            }
        }
    }
}
