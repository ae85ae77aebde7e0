//! `--pidfile`: the number of the container's first process, for who watches it from outside.

use super::wire::StartFailure;
use crate::model::spec::ContainerSpec;

/// Writes it, if it is wanted.
pub(super) fn write(spec: &ContainerSpec, number: i32) -> Result<(), StartFailure> {
    let Some(path) = &spec.pidfile else {
        return Ok(());
    };
    std::fs::write(path, number.to_string()).map_err(|source| StartFailure {
        hint: Some("the file is made at every start, in a directory that has to be there".into()),
        ..StartFailure::other(format!("`--pidfile {}`: {source}", path.display()))
    })
}

/// Nobody shall take the number of another process for it.
pub(super) fn remove(spec: &ContainerSpec) {
    if let Some(path) = &spec.pidfile {
        let _ = std::fs::remove_file(path);
    }
}
