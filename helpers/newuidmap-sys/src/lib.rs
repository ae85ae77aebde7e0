//! Subordinate id ranges and the newuidmap/newgidmap programs.
//!
//! [`lookup`] tells which ids a user may hand out (subuid(5), subgid(5), getsubids(1));
//! [`spawn_maps`] has newuidmap(1) and newgidmap(1) write the two maps of a process, side by side;
//! [`Error`] says which of the usual obstacles stood in the way and [`Error::hint`] how to remove it.
//! [`user_name`] belongs here because the range files are keyed by it.

mod error;
mod names;
mod programs;
mod ranges;

pub use error::{Cause, Error, grant};
pub use names::user_name;
pub use programs::{Map, Pending, Programs, spawn_maps};
pub use ranges::{
    Files, Kind, SkipReason, Skipped, Source, SubIds, SubRange, free_range, lookup, parse,
};
