//! Named volumes: their verbs, and what a container about to start needs of them.

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use super::mounts::{self, DATA};
use super::only::{self, Label, Pattern, truth};
use super::volume_options::{self, Options};
use super::{Context, Error, containers, image_for, names, resolve};
use crate::model::spec::{ContainerSpec, MountSource};
use crate::{state, userns};

/// Gives new volumes to root inside where the caller, who made their directories, is not mapped:
/// nobody inside could write to them.
///
/// # Errors
/// chown(2) said no.
pub fn own(context: &Context<'_>, plan: &userns::Plan, spec: &ContainerSpec) -> Result<(), Error> {
    let caller = context.caller()?;
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
        // Not what belongs to the machine.
        .filter(|path| path.starts_with(context.dirs.volumes()))
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

/// Tells of volumes in memory that a running container has as well: each has one of its own.
///
/// # Errors
/// The containers cannot be read.
pub fn tell_apart(context: &Context<'_>, spec: &ContainerSpec) -> Result<(), Error> {
    let in_memory = spec.mounts.iter().filter_map(|mount| match &mount.source {
        MountSource::Volume {
            name,
            memory: Some(_),
            ..
        } => Some(name),
        _ => None,
    });
    let mut in_memory = in_memory.peekable();
    if in_memory.peek().is_none() {
        return Ok(());
    }
    let running = containers::list(context, false)?;
    for name in in_memory {
        let mut others = running.iter().filter(|c| c.spec.id != spec.id);
        if let Some(other) = others.find(|c| c.spec.has_volume(name)) {
            context.ui.notice(&format!(
                "volume `{name}` is in memory, of each container by itself: what `{}` has there is not seen here",
                other.spec.name
            ));
        }
    }
    Ok(())
}

/// A named volume.
#[derive(Clone, Debug)]
pub struct Volume {
    /// Its name.
    pub name: String,
    /// Its data directory.
    pub path: PathBuf,
    /// Seconds since the epoch.
    pub created: i64,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// What it is, where it is not a directory of ours.
    pub options: Options,
    /// Nobody has named it.
    pub anonymous: bool,
}

/// The labels of a volume, in its directory.
const LABELS: &str = "labels.json";

/// Makes a volume, named by chance where no name is given; returns the name. One that is there stays as it is.
///
/// # Errors
/// A name that is none; one that is there and has other options; [`Error::Write`].
pub fn create(
    context: &Context<'_>,
    name: Option<&str>,
    labels: &BTreeMap<String, String>,
    options: &Options,
) -> Result<String, Error> {
    let anonymous = name.is_none();
    let name = name.map_or_else(names::random_id, str::to_owned);
    if !mounts::is_name(&name) {
        return Err(Error::VolumeName(name));
    }
    let dir = context.dirs.volumes().join(&name);
    let data = dir.join(DATA);
    let failed = |path: &Path| {
        let path = path.to_owned();
        move |source| Error::Write { path, source }
    };
    if data.is_dir() {
        return match options.is_empty() || volume_options::of(&dir)? == *options {
            true => Ok(name),
            false => Err(volume_options::Error::Other(name).into()),
        };
    }
    state::private(&dir).map_err(failed(&dir))?;
    for (file, map) in [(LABELS, labels), (volume_options::FILE, options)] {
        if map.is_empty() {
            continue;
        }
        let path = dir.join(file);
        let text = serde_json::to_vec(map).unwrap_or_default();
        let written = std::fs::write(&path, text);
        let synced = written.and_then(|()| std::fs::File::open(&path)?.sync_data());
        synced.map_err(failed(&path))?;
    }
    if anonymous {
        let mark = dir.join(mounts::ANONYMOUS);
        std::fs::write(&mark, "").map_err(failed(&mark))?;
    }
    // Last, since with it there is a volume.
    if !make_data(&data).map_err(failed(&data))? {
        return Ok(name);
    }
    state::sync_dir(&dir)?;
    state::sync_dir(&context.dirs.volumes())?;
    context.event("volume", &name, &name, "create");
    Ok(name)
}

/// Makes the data directory of a volume, with which there is one; false where somebody else has been faster.
fn make_data(path: &Path) -> std::io::Result<bool> {
    match std::fs::create_dir(path) {
        Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists && path.is_dir() => Ok(false),
        made => made.map(|()| true),
    }
}

/// Makes the volumes of a container that are not there yet.
///
/// # Errors
/// [`mounts::Error::Volume`].
pub fn make(context: &Context<'_>, spec: &ContainerSpec) -> Result<(), Error> {
    for mount in &spec.mounts {
        let MountSource::Volume {
            name,
            path,
            anonymous,
            ..
        } = &mount.source
        else {
            continue;
        };
        if path.is_dir() || !path.starts_with(context.dirs.volumes()) {
            continue;
        }
        let mark = || match anonymous {
            true => std::fs::write(path.with_file_name(mounts::ANONYMOUS), ""),
            false => Ok(()),
        };
        // The mark first: with its data directory there is a volume.
        let made = state::private(path.parent().unwrap_or(path))
            .and_then(|()| mark())
            .and_then(|()| make_data(path))
            .map_err(|source| {
                resolve::Error::Mount(mounts::Error::Volume {
                    name: name.clone(),
                    path: path.clone(),
                    source,
                })
            })?;
        if made {
            context.event("volume", name, name, "create");
        }
    }
    Ok(())
}

/// All volumes, by name.
pub fn list(context: &Context<'_>) -> Vec<Volume> {
    let entries = std::fs::read_dir(context.dirs.volumes());
    let names = entries.into_iter().flatten().flatten();
    let mut all: Vec<Volume> = names
        .filter_map(|entry| find(context, entry.file_name().to_str()?).ok())
        .collect();
    all.sort_by(|a, b| a.name.cmp(&b.name));
    all
}

/// A condition of `rl volume ls --filter`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Filter {
    /// The name contains something like this.
    Name(Pattern),
    /// A label, perhaps with a value.
    Label(Label),
    /// The driver.
    Driver(String),
    /// Whether no container has it.
    Dangling(bool),
}

impl std::str::FromStr for Filter {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let bad = || Error::VolumeFilter(text.to_owned());
        let (key, value) = text.split_once('=').ok_or_else(bad)?;
        let owned = value.to_owned();
        Ok(match key {
            "name" => Filter::Name(Pattern::parse(value)?),
            "label" => Filter::Label(Label::parse(value)),
            "driver" => Filter::Driver(owned),
            "dangling" => Filter::Dangling(truth(value).ok_or_else(bad)?),
            _ => return Err(bad()),
        })
    }
}

/// The volumes that fit all filters, by name.
///
/// # Errors
/// The containers cannot be read.
pub fn filtered(context: &Context<'_>, filters: &[Filter]) -> Result<Vec<Volume>, Error> {
    let used = match filters.iter().any(|f| matches!(f, Filter::Dangling(_))) {
        true => containers::list(context, true)?,
        false => Vec::new(),
    };
    let mut all = list(context);
    all.retain(|volume| {
        let fits = |filter: &Filter| match filter {
            Filter::Name(pattern) => pattern.fits(&volume.name),
            Filter::Label(label) => label.is_among(&volume.labels),
            Filter::Driver(word) => word == "local",
            Filter::Dangling(wanted) => {
                used.iter().any(|c| c.spec.has_volume(&volume.name)) != *wanted
            }
        };
        only::passes(filters, |f| matches!(f, Filter::Label(_)), fits)
    });
    Ok(all)
}

/// The volume of this name.
///
/// # Errors
/// There is none.
pub fn find(context: &Context<'_>, name: &str) -> Result<Volume, Error> {
    let missing = || Error::NoVolume(name.to_owned());
    if !mounts::is_name(name) {
        return Err(missing());
    }
    let dir = context.dirs.volumes().join(name);
    let path = dir.join(DATA);
    let made = std::fs::metadata(&path).map_err(|_| missing())?;
    let labels = std::fs::read(dir.join(LABELS)).ok();
    let labels = labels.and_then(|text| serde_json::from_slice(&text).ok());
    let created = made.created().ok().and_then(|at| {
        let since = at.duration_since(std::time::UNIX_EPOCH).ok()?;
        i64::try_from(since.as_secs()).ok()
    });
    Ok(Volume {
        name: name.to_owned(),
        path,
        created: created.unwrap_or_else(|| made.mtime()),
        labels: labels.unwrap_or_default(),
        options: volume_options::of(&dir).unwrap_or_default(),
        anonymous: dir.join(mounts::ANONYMOUS).exists(),
    })
}

/// The names of the containers that have it.
///
/// # Errors
/// The containers cannot be read.
pub fn users(context: &Context<'_>, name: &str) -> Result<Vec<String>, Error> {
    let all = containers::list(context, true)?.into_iter();
    Ok(all
        .filter(|container| container.spec.has_volume(name))
        .map(|container| container.spec.name)
        .collect())
}

/// Removes a volume with what is in it.
///
/// # Errors
/// There is none, a container has it, or it cannot be removed.
pub fn remove(context: &Context<'_>, name: &str) -> Result<(), Error> {
    find(context, name)?;
    if let Some(container) = users(context, name)?.into_iter().next() {
        return Err(Error::VolumeInUse {
            name: name.to_owned(),
            container,
        });
    }
    let dir = context.dirs.volumes().join(name);
    let removed = remove_files(context, &dir);
    if removed.is_ok() {
        context.event("volume", name, name, "destroy");
    }
    removed
}

fn remove_files(context: &Context<'_>, dir: &Path) -> Result<(), Error> {
    if state::remove_all(dir).is_ok() {
        return Ok(());
    }
    // Files of other ids can only be removed where these ids exist.
    let plan = userns::plan(&userns::Mode::Default, context.caller()?)?;
    image_for::inside(context, &plan, || Ok(state::remove_all(dir)?))
}

/// Removes the volumes that were made for a container that is gone, unless another one has got hold of them.
pub fn remove_anonymous(context: &Context<'_>, spec: &ContainerSpec) {
    for (name, _) in spec.anonymous_volumes() {
        if let Err(error) = remove(context, name)
            && !matches!(error, Error::VolumeInUse { .. } | Error::NoVolume(_))
        {
            context.ui.fail(&error);
        }
    }
}
