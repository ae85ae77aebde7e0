//! (to be written)

pub mod progress;
