//! Named volumes of a container about to start.

use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;

use super::{Context, Error, image_for};
use crate::model::spec::{ContainerSpec, MountSource};
use crate::userns;

/// Gives new volumes to root inside where the caller, who made their directories, is not mapped:
/// nobody inside could write to them.
///
/// # Errors
/// chown(2) said no.
pub fn own(context: &Context<'_>, plan: &userns::Plan, spec: &ContainerSpec) -> Result<(), Error> {
    let caller = &context.caller;
    let mapped =
        plan.uid.to_container(caller.uid).is_some() && plan.gid.to_container(caller.gid).is_some();
    if mapped || plan.uid.to_host(0).is_none() || plan.gid.to_host(0).is_none() {
        return Ok(());
    }
    let new: Vec<&PathBuf> = spec
        .mounts
        .iter()
        .filter_map(|mount| match &mount.source {
            MountSource::Volume { path, .. } => Some(path),
            _ => None,
        })
        .filter(|path| {
            let own = std::fs::metadata(path).is_ok_and(|m| m.uid() == caller.uid);
            own && std::fs::read_dir(path).is_ok_and(|mut entries| entries.next().is_none())
        })
        .collect();
    if new.is_empty() {
        return Ok(());
    }
    image_for::inside(context, plan, || {
        for path in new {
            std::os::unix::fs::chown(path, Some(0), Some(0)).map_err(|source| Error::Write {
                path: path.clone(),
                source,
            })?;
        }
        Ok(())
    })
}
