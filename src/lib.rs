//! `rl`: containers for people without root.
//!
//! The layers, top to bottom; a module uses what stands below it, never a sibling and never what
//! stands above (`tests/layers.rs` reads the `use crate::` lines):
//!
//! ```text
//! cli                                             words in, words out
//! engine build doctor quadlet                     what a verb means
//! monitor                                         one per container: waits, logs, cleans up
//! runtime                                         OCI spec + rootfs -> running process
//! oci store registry net security userns state
//! host                                            read-only facts about this machine
//! sys                                             system calls; the only `unsafe`
//! model                                           plain data, no I/O
//! ```

pub mod build;
pub mod cgroup;
pub mod cli;
pub mod doctor;
pub mod engine;
pub mod host;
pub mod model;
pub mod monitor;
pub mod net;
pub mod oci;
pub mod quadlet;
pub mod registry;
pub mod runtime;
pub mod security;
pub mod state;
pub mod store;
pub mod sys;
pub mod userns;
