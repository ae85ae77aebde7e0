//! `--volumes-from`: what other containers have mounted.

use super::{Context, Error, lifecycle, resolve};
use crate::model::spec::{MountSource, VolumeMount};

const OPTION: &str = "--volumes-from";

/// The volumes and host paths of the containers that `values` name, each `CONTAINER[:ro|rw|z]` (docker run reference,
/// "Mount volumes from container"). Of several at one place the last one counts.
///
/// # Errors
/// No such container; an option that is none.
pub(super) fn mounts(context: &Context<'_>, values: &[String]) -> Result<Vec<VolumeMount>, Error> {
    let mut all: Vec<VolumeMount> = Vec::new();
    for value in values {
        let (word, options) = value.split_once(':').unwrap_or((value, ""));
        let read_only = read_only(value, options)?;
        let other = lifecycle::find(context, word)?.spec;
        for mut mount in other.mounts {
            match &mount.source {
                MountSource::Bind { .. } | MountSource::Volume { .. } => {}
                // It is the other one's own.
                MountSource::Tmpfs { .. } => continue,
                MountSource::Overlay { path } => {
                    context.ui.notice(&format!(
                        "`{}` has a view of `{}`, which stays its own",
                        other.name,
                        path.display()
                    ));
                    continue;
                }
            }
            mount.read_only |= read_only;
            all.retain(|earlier| earlier.target != mount.target);
            all.push(mount);
        }
    }
    Ok(all)
}

/// Whether nothing may be written. What is read-only in the other container stays so.
fn read_only(value: &str, options: &str) -> Result<bool, resolve::Error> {
    let mut read_only = false;
    for option in options.split(',').filter(|option| !option.is_empty()) {
        match option {
            "ro" => read_only = true,
            // Labels of SELinux are not set here.
            "rw" | "z" => {}
            other => {
                return Err(resolve::Error::Value {
                    option: OPTION,
                    value: value.to_owned(),
                    reason: format!("`{other}` is none of `ro`, `rw` and `z`"),
                });
            }
        }
    }
    Ok(read_only)
}
