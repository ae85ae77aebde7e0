//! The walls around a container that are the kernel's own: which system calls ([`seccomp`]), which
//! capabilities ([`caps`]) and which paths of the kernel's file systems ([`paths`]) it gets, and the
//! `--security-opt` words that change them ([`options`]). All of it is decided here, before anything starts;
//! `sys::{seccomp, caps, landlock}` carry it out.

pub mod caps;
pub mod options;
pub mod paths;
pub mod seccomp;
