//! System calls. The only `unsafe` of the program lives below this module; owned and borrowed file
//! descriptors go in and come out, never bare numbers.
#![allow(unsafe_code)]

pub mod caps;
pub mod fs;
pub mod landlock;
pub mod mount;
pub mod process;
pub mod seccomp;
pub mod tty;
