//! System call filters: the default profile ([`compile_default`]) and profiles of the user's own
//! ([`load_profile`], [`compile`]), both made into a program for [`crate::sys::seccomp::install`].
//!
//! [`table`] knows the numbers, `policy` holds the default profile as data, `profile` reads the JSON form of
//! Docker, podman and the OCI, and [`filter`] makes the program from either. `one_id` is a small program
//! beside them.

pub mod filter;
mod one_id;
mod policy;
mod profile;
pub mod table;

use std::path::{Path, PathBuf};

use crate::sys::seccomp::{MAX_LEN, SockFilter};

use super::caps::CapSet;

pub use profile::Profile;
use table::Arch;

/// Why there is no filter.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file cannot be read.
    #[error("read(`{}`): {source}", path.display())]
    Read {
        /// The profile.
        path: PathBuf,
        /// What the kernel said.
        source: std::io::Error,
    },
    /// Not JSON, or not a profile.
    #[error("not a seccomp profile: {0}")]
    Json(#[from] serde_json::Error),
    /// A word or number that has no meaning there.
    #[error("seccomp profile: {field} has no value `{value}`")]
    Value {
        /// The field of the profile.
        field: &'static str,
        /// What it holds.
        value: String,
    },
    /// `archMap` and `architectures`, or `name` and `names`, at once.
    #[error("seccomp profile: `{0}` and `{1}` exclude each other")]
    Both(&'static str, &'static str),
    /// `SCMP_ACT_NOTIFY`: there is nobody to notify.
    #[error("seccomp profile: action `SCMP_ACT_NOTIFY` is not there yet")]
    Notify,
    /// The rules need a longer program than the kernel takes.
    #[error("seccomp profile: needs {0} instructions, the kernel takes {MAX_LEN}")]
    TooLong(usize),
}

impl From<filter::TooLong> for Error {
    fn from(filter::TooLong(len): filter::TooLong) -> Error {
        Error::TooLong(len)
    }
}

/// The program of the default profile for a container that is granted `caps` (its bounding set).
///
/// # Errors
/// [`Error::TooLong`].
pub fn compile_default(caps: CapSet) -> Result<Vec<SockFilter>, Error> {
    let native = Arch::native();
    Ok(filter::assemble(&policy::filter(native, caps))?)
}

/// The program that lets package managers work where only one id is mapped: chown and its kin, set*id,
/// setgroups and mknod of devices succeed and do nothing. To be installed beside a profile.
///
/// # Errors
/// [`Error::TooLong`].
pub fn compile_one_id() -> Result<Vec<SockFilter>, Error> {
    let native = Arch::native();
    Ok(filter::assemble(&one_id::filter(native))?)
}

/// The program for more ids where setgroups(2) is refused: it succeeds and does nothing, so that su(1), apt and their like
/// go on. To be installed beside a profile.
///
/// # Errors
/// [`Error::TooLong`].
pub fn compile_no_groups() -> Result<Vec<SockFilter>, Error> {
    let native = Arch::native();
    Ok(filter::assemble(&one_id::no_groups(native))?)
}

/// Reads a profile in the JSON form of Docker, podman or the OCI runtime specification.
///
/// # Errors
/// [`Error`] when the file cannot be read or is not such a profile.
pub fn load_profile(path: &Path) -> Result<Profile, Error> {
    let text = std::fs::read_to_string(path).map_err(|source| Error::Read {
        path: path.to_owned(),
        source,
    })?;
    text.parse()
}

/// The program of a profile for a container that is granted `caps` (its bounding set).
///
/// # Errors
/// [`Error::TooLong`].
pub fn compile(profile: &Profile, caps: CapSet) -> Result<Vec<SockFilter>, Error> {
    let native = Arch::native();
    Ok(filter::assemble(&profile.filter(native, caps))?)
}

#[cfg(test)]
mod tests;
