//! The directories in which a container keeps what it writes to its views.
//!
//! ```text
//! containers/ID/views/N/upper   looks like the host's directory at the start: mode and times
//! containers/ID/views/N/work    overlay's own
//! ```

use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use super::{Context, Error, image_for};
use crate::model::spec::ContainerSpec;
use crate::userns;

/// Where they lie, for a container kept in `dir`.
pub fn directory(dir: &Path) -> PathBuf {
    dir.join("views")
}

/// Makes those that are missing. They belong to the caller, or to root inside where the caller is not
/// mapped.
///
/// # Errors
/// [`Error::Write`].
pub fn make(
    context: &Context<'_>,
    plan: &userns::Plan,
    spec: &ContainerSpec,
    dir: &Path,
) -> Result<(), Error> {
    let failed = |path: &Path| {
        let path = path.to_owned();
        move |source| Error::Write { path, source }
    };
    let mut new = Vec::new();
    for (_, host, name) in spec.views() {
        let view = directory(dir).join(name);
        let [upper, work] = ["upper", "work"].map(|name| view.join(name));
        if upper.exists() {
            continue;
        }
        let like = std::fs::metadata(host).map_err(failed(host))?;
        std::fs::create_dir_all(&work).map_err(failed(&work))?;
        std::fs::create_dir(&upper).map_err(failed(&upper))?;
        let mode = std::fs::Permissions::from_mode(like.mode() & 0o7777);
        std::fs::set_permissions(&upper, mode).map_err(failed(&upper))?;
        let times = std::fs::FileTimes::new()
            .set_accessed(like.accessed().map_err(failed(host))?)
            .set_modified(like.modified().map_err(failed(host))?);
        std::fs::File::open(&upper)
            .and_then(|file| file.set_times(times))
            .map_err(failed(&upper))?;
        new.extend([upper, work]);
    }
    let caller = context.caller()?;
    let mapped =
        plan.uid.to_container(caller.uid).is_some() && plan.gid.to_container(caller.gid).is_some();
    if new.is_empty() || mapped || plan.uid.to_host(0).is_none() {
        return Ok(());
    }
    image_for::inside(context, plan, || {
        for path in &new {
            std::os::unix::fs::chown(path, Some(0), Some(0)).map_err(failed(path))?;
        }
        Ok(())
    })
}
