//! Plain data that every layer above may name: no input, no output, no system calls.

pub mod brief;
mod chain;
pub mod digest;
pub mod distribution;
pub mod idmap;
pub mod mac;
pub mod network;
pub mod platform;
pub mod reference;
pub mod spec;
pub mod subnet;
pub mod template;
pub mod text;
pub mod time;

pub use chain::chain;
pub use digest::Digest;
pub use idmap::{IdMap, IdRange};
pub use platform::Platform;
pub use reference::Reference;
