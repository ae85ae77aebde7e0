//! (to be written)

pub mod pull;
