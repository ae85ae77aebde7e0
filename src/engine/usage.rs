//! What takes how much room on the disk: `rl system df`, `rl ps -s`, `rl system prune`.

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use super::only::Only;
use super::volumes::Volume;
use super::{Context, Error, containers, image_for, images, views, volumes};
use crate::model::Digest;
use crate::model::time::parse_rfc3339;
use crate::state::{Listed, Status};
use crate::store::{Image, Store};
use crate::userns;

/// A kind of thing, and what it takes.
#[derive(Clone, Debug, Default)]
pub struct Usage {
    /// How many there are.
    pub total: usize,
    /// How many are in use.
    pub active: usize,
    /// Bytes of all.
    pub size: u64,
    /// Bytes of those that are not in use.
    pub reclaimable: u64,
}

/// What there is.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// Images: blobs and unpacked layers, shared ones once.
    pub images: Usage,
    /// Containers: what they have written.
    pub containers: Usage,
    /// Volumes.
    pub volumes: Usage,
}

/// What single things take.
#[derive(Clone, Debug, Default)]
pub struct Details {
    /// Images, by their ids.
    pub images: BTreeMap<Digest, ImageUsage>,
    /// Containers with the bytes that they have written.
    pub containers: Vec<(Listed, u64)>,
    /// Volumes, by how many containers each is had, and its bytes.
    pub volumes: Vec<(Volume, usize, u64)>,
}

/// What an image takes: blobs and unpacked layers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ImageUsage {
    /// Bytes of all.
    pub size: u64,
    /// Bytes of what other images have as well.
    pub shared: u64,
    /// How many containers are made of it.
    pub containers: usize,
}

/// Measures everything.
///
/// # Errors
/// The store or the containers cannot be read.
pub fn measure(context: &Context<'_>) -> Result<(Report, Details), Error> {
    let store = Store::open(&context.dirs.data)?;
    let all = containers::listed(context, true)?;
    let images = store.images()?;
    let each: Vec<(Digest, BTreeMap<String, u64>)> = images
        .iter()
        .map(|image| Ok((image.id, parts(&store, std::slice::from_ref(image))?)))
        .collect::<Result<_, Error>>()?;
    let mut details = Details {
        images: image_details(&each, &all),
        ..Details::default()
    };
    let mut report = Report::default();
    let used = |id: &Digest| details.images.get(id).is_some_and(|i| i.containers > 0);
    let sum = |wanted: &dyn Fn(&Digest) -> bool| {
        let wanted = each.iter().filter(|(id, _)| wanted(id));
        let parts: BTreeMap<&String, &u64> = wanted.flat_map(|(_, parts)| parts).collect();
        parts.into_values().sum::<u64>()
    };
    let size = sum(&|_| true);
    report.images = Usage {
        total: images.len(),
        active: images.iter().filter(|image| used(&image.id)).count(),
        size,
        reclaimable: size - sum(&used),
    };
    let written = written(context, &all)?;
    for (container, size) in all.iter().zip(&written) {
        add(&mut report.containers, container.state.is_alive(), *size);
    }
    details.containers = all.into_iter().zip(written).collect();
    let list = volumes::list(context);
    let dirs: Vec<PathBuf> = list.iter().map(|volume| volume.path.clone()).collect();
    for (volume, size) in list.into_iter().zip(sizes(context, &dirs)?) {
        let users = volumes::users(context, &volume.name)?.len();
        add(&mut report.volumes, users > 0, size);
        details.volumes.push((volume, users, size));
    }
    Ok((report, details))
}

/// Of images, each with what it is made of.
fn image_details(
    each: &[(Digest, BTreeMap<String, u64>)],
    all: &[Listed],
) -> BTreeMap<Digest, ImageUsage> {
    let mut owners: BTreeMap<&String, usize> = BTreeMap::new();
    for part in each.iter().flat_map(|(_, parts)| parts.keys()) {
        *owners.entry(part).or_default() += 1;
    }
    let usage = |(id, parts): &(Digest, BTreeMap<String, u64>)| {
        let shared = parts.iter().filter(|(part, _)| owners[part] > 1);
        let users = all.iter().filter(|c| c.spec.image_id == Some(*id));
        let usage = ImageUsage {
            size: parts.values().sum(),
            shared: shared.map(|(_, size)| size).sum(),
            containers: users.count(),
        };
        (*id, usage)
    };
    each.iter().map(usage).collect()
}

fn add(usage: &mut Usage, active: bool, size: u64) {
    usage.total += 1;
    usage.active += usize::from(active);
    usage.size += size;
    usage.reclaimable += if active { 0 } else { size };
}

/// What images are made of, each part once, with its bytes.
fn parts(store: &Store, images: &[Image]) -> Result<BTreeMap<String, u64>, Error> {
    let mut parts = BTreeMap::new();
    for image in images {
        for layer in &image.layers {
            parts.insert(layer.digest().to_string(), layer.size());
        }
        for (diff_id, bytes) in store.unpacked_layers(image)? {
            parts.insert(format!("unpacked {diff_id}"), bytes);
        }
    }
    Ok(parts)
}

/// Bytes that each container has written, its views of this machine included.
///
/// # Errors
/// No user namespace to look at files of other ids from.
pub fn written(context: &Context<'_>, all: &[Listed]) -> Result<Vec<u64>, Error> {
    let containers = context.dirs.containers();
    let written = |container: &Listed| {
        let dir = containers.join(&container.spec.id);
        vec![dir.join("upper"), views::directory(&dir)]
    };
    let dirs: Vec<Vec<PathBuf>> = all.iter().map(written).collect();
    sizes_of(context, &dirs)
}

fn sizes(context: &Context<'_>, dirs: &[PathBuf]) -> Result<Vec<u64>, Error> {
    let each: Vec<Vec<PathBuf>> = dirs.iter().map(|dir| vec![dir.clone()]).collect();
    sizes_of(context, &each)
}

/// Bytes on disk below each group of directories, seen by root of the caller's id maps.
fn sizes_of(context: &Context<'_>, groups: &[Vec<PathBuf>]) -> Result<Vec<u64>, Error> {
    if groups.is_empty() {
        return Ok(Vec::new());
    }
    let plan = userns::plan(&userns::Mode::Default, context.caller()?)?;
    image_for::found_inside(context, &plan, || {
        let size = |group: &Vec<PathBuf>| group.iter().map(|dir| below(dir)).sum();
        Ok(groups.iter().map(size).collect())
    })
}

/// Blocks count in 512 bytes (stat(3type)); a file with several names counts once.
fn below(top: &Path) -> u64 {
    let mut seen = BTreeSet::new();
    let mut total = 0;
    let mut stack = vec![top.to_owned()];
    while let Some(dir) = stack.pop() {
        for entry in std::fs::read_dir(&dir).into_iter().flatten().flatten() {
            let Ok(data) = entry.metadata() else { continue };
            if data.nlink() > 1 && !data.is_dir() && !seen.insert((data.dev(), data.ino())) {
                continue;
            }
            if data.is_dir() {
                stack.push(entry.path());
            } else {
                total += data.blocks() * 512;
            }
        }
    }
    total
}

/// What `rl system prune` and its like removed.
#[derive(Clone, Debug, Default)]
pub struct Pruned {
    /// Ids of containers, names of images and volumes.
    pub removed: Vec<String>,
    /// Bytes that were freed.
    pub bytes: u64,
}

/// Removes the containers that do not run and fit `only`.
///
/// # Errors
/// The containers cannot be read. What cannot be removed is told and left.
pub fn prune_containers(context: &Context<'_>, only: &Only) -> Result<Pruned, Error> {
    let mut all = containers::listed(context, true)?;
    all.retain(|c| {
        let rests = matches!(c.state.status, Status::Created | Status::Exited);
        let made = i64::try_from(c.spec.created).unwrap_or(i64::MAX);
        rests && only.fits(made, &c.spec.labels)
    });
    let sizes = written(context, &all)?;
    let ids: Vec<String> = all.into_iter().map(|container| container.spec.id).collect();
    let done = containers::remove_all(context, &ids, false, false);
    let mut pruned = Pruned::default();
    for (result, size) in done.into_iter().zip(sizes) {
        match result {
            Ok(id) => {
                pruned.removed.push(id);
                pruned.bytes += size;
            }
            Err(error) => drop(context.ui.fail(&error)),
        }
    }
    Ok(pruned)
}

/// Removes the images without a name that no container uses and that fit `only`, with `all` those with a name as well.
///
/// # Errors
/// The store cannot be read or changed.
pub fn prune_images(context: &Context<'_>, all: bool, only: &Only) -> Result<Pruned, Error> {
    let store = Store::open(&context.dirs.data)?;
    let used: BTreeSet<Digest> = containers::listed(context, true)?
        .iter()
        .filter_map(|container| container.spec.image_id)
        .collect();
    let images = store.images()?;
    let before: u64 = parts(&store, &images)?.values().sum();
    let mut pruned = Pruned::default();
    for image in images {
        let labels = image.config.labels_of_config();
        let labels = labels.map(|labels| labels.clone().into_iter().collect());
        let made = image.config.created().as_deref().and_then(parse_rfc3339);
        let fits = only.fits(made.unwrap_or(0), &labels.unwrap_or_default());
        if used.contains(&image.id) || !fits || !(all || image.references.is_empty()) {
            continue;
        }
        for removed in images::remove(&store, &image.id.to_string(), true)? {
            context.image_removed(&removed);
            let word = match removed {
                images::Removed::Untagged(name) => format!("untagged: {}", name.familiar()),
                images::Removed::Deleted(id) => format!("deleted: {id}"),
            };
            pruned.removed.push(word);
        }
    }
    let plan = userns::plan(&userns::Mode::Default, context.caller()?)?;
    image_for::inside(context, &plan, || {
        Store::open(&context.dirs.data)?.gc(false)?;
        Ok(())
    })?;
    let after: u64 = parts(&store, &store.images()?)?.values().sum();
    pruned.bytes = before.saturating_sub(after);
    Ok(pruned)
}

/// Removes the volumes that no container has and that fit `only`: those that nobody named, with `all` the others as well.
///
/// # Errors
/// The containers cannot be read. What cannot be removed is told and left.
pub fn prune_volumes(context: &Context<'_>, all: bool, only: &Only) -> Result<Pruned, Error> {
    let mut free = Vec::new();
    for volume in volumes::list(context) {
        let fits = only.fits(volume.created, &volume.labels);
        if fits && (all || volume.anonymous) && volumes::users(context, &volume.name)?.is_empty() {
            free.push(volume);
        }
    }
    let dirs: Vec<PathBuf> = free.iter().map(|volume| volume.path.clone()).collect();
    let sizes = sizes(context, &dirs)?;
    let mut pruned = Pruned::default();
    for (volume, size) in free.into_iter().zip(sizes) {
        match volumes::remove(context, &volume.name) {
            Ok(()) => {
                pruned.removed.push(volume.name);
                pruned.bytes += size;
            }
            Err(error) => drop(context.ui.fail(&error)),
        }
    }
    Ok(pruned)
}

/// Ends and removes every container, image and volume, damaged ones too, and everything else that rl keeps.
///
/// # Errors
/// The first thing that could not be removed.
pub fn reset(context: &Context<'_>) -> Result<(), Error> {
    let ids: Vec<String> = containers::listed(context, true)
        .unwrap_or_default()
        .into_iter()
        .map(|container| container.spec.id)
        .collect();
    for result in containers::remove_all(context, &ids, true, false) {
        if let Err(error) = result {
            context.ui.fail(&error);
        }
    }
    containers::end_unreadable(context);
    let data = &context.dirs.data;
    let remove = || {
        for entry in std::fs::read_dir(data).into_iter().flatten().flatten() {
            crate::state::remove_all(&entry.path())?;
        }
        Ok(())
    };
    if remove().is_ok() {
        return Ok(());
    }
    // Files of other ids can only be removed where these ids exist.
    let plan = userns::plan(&userns::Mode::Default, context.caller()?)?;
    let inside = image_for::inside(context, &plan, remove);
    remove().or(inside)
}
