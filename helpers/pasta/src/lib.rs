//! Drive pasta of passt.
