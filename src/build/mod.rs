//! Images that are made here instead of fetched.
//!
//! [`bootstrap`] has a program of the distribution make a root file system from packages, as the user,
//! inside a user namespace; the tar that comes of it is for `engine::images::import`.

pub mod bootstrap;
pub mod mmdebstrap;
pub mod sources;
