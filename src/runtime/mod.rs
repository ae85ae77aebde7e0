//! An OCI configuration and a root file system become a running process.
//!
//! ```text
//! plan::plan      Spec + Rootfs + Extras -> InitPlan: everything decided, nothing looked up later
//! launch::launch  clone with all namespaces; the child waits for its id maps, then goes on as the init stage,
//!                 or executes a protected copy of this program as that
//! init            the init stage: rootfs, mounts, console, masks, pivot_root, wait for the word to go
//! process::become the last steps: ids, no_new_privs, Landlock, capabilities, seccomp, execve
//! join            a further command in a container that runs
//! ```
//!
//! This layer knows no image and no command line; whoever launches (the monitor) answers its
//! messages ([`proto`]).

pub mod error;
mod fill;
pub mod init;
mod inside;
pub mod join;
pub mod launch;
mod mounts;
pub mod plan;
mod process;
pub mod proto;
mod reaper;
mod rootfs;
mod users;
mod view;

pub use error::{InitError, Stage};
pub use join::ExecPlan;
pub use launch::{Launched, Maps, Program, Stdio, launch};
pub use mounts::bind_at;
pub use plan::{Extras, InitPlan, Rootfs, plan};
pub use rootfs::visit;
