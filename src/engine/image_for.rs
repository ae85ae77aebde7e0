//! The image of a container to be: found in the store, else fetched; its layers unpacked for the id
//! maps of the container.
//!
//! Fetching and unpacking run in a child process inside a user namespace with these maps, where the
//! image's owners exist. That child is the front end for as long as it runs: it draws the progress
//! and prints what goes wrong.

use std::collections::BTreeMap;
use std::io::Read;
use std::path::Path;

use oci_spec::image::{Descriptor, MediaType};

use super::pull::{self, ImageSink, Policy, Progress, Pulled};
use super::resolve::ImageDefaults;
use super::run_args::RunArgs;
use super::{Context, Error, images};
use crate::model::distribution::{Distribution, Release};
use crate::model::reference::Source;
use crate::model::spec::{ContainerSpec, RootfsSource};
use crate::model::{Platform, Reference};
use crate::registry::{self, Client, Settings};
use crate::store::{self, Image, MapKey, Store, StoreError};
use crate::userns;

/// How an image is fetched.
#[derive(Clone, Debug)]
pub struct Fetch {
    /// When.
    pub policy: Policy,
    /// For which platform.
    pub platform: Platform,
    /// Whether certificates are checked and plain http is refused.
    pub tls_verify: bool,
}

/// The root file system and the defaults of the image that `word` names.
///
/// # Errors
/// No such image, or it cannot be fetched, read or unpacked.
pub fn find(
    context: &Context<'_>,
    args: &RunArgs,
    word: &str,
    plan: &userns::Plan,
) -> Result<(RootfsSource, ImageDefaults), Error> {
    let platform = args.platform.as_deref().map(str::parse).transpose()?;
    let fetch = Fetch {
        policy: args.pull.parse()?,
        platform: platform.clone().unwrap_or_else(Platform::host),
        tls_verify: args.tls_verify,
    };
    let reference = match Source::parse(word)? {
        Source::Registry(reference) => reference,
        Source::Rootfs(path) => {
            return Ok((directory(&path)?, ImageDefaults::default()));
        }
        other => return from_elsewhere(context, &other, word, &fetch.platform, plan),
    };
    let store = Store::open(&context.dirs.data)?;
    let map = MapKey::of(&plan.uid, &plan.gid);
    let image = image(context, &store, &reference, word, &fetch, plan, &map)?;
    if platform.is_none() && !fetch.platform.accepts(&image.platform()) {
        return Err(Error::WrongPlatform {
            name: word.to_owned(),
            image: image.platform().to_string(),
            host: fetch.platform.to_string(),
        });
    }
    let names = store.lower_dirs(&image, &map)?;
    let rootfs = RootfsSource::Layers {
        base: store.layer_path(&map),
        names,
    };
    Ok((rootfs, defaults(word, &image)))
}

/// The root file system of an image that an archive or a layout holds. It stays in the store.
fn from_elsewhere(
    context: &Context<'_>,
    source: &Source,
    word: &str,
    platform: &Platform,
    plan: &userns::Plan,
) -> Result<(RootfsSource, ImageDefaults), Error> {
    let store = Store::open(&context.dirs.data)?;
    let map = MapKey::of(&plan.uid, &plan.gid);
    let image = images::take_in(&store, source)?;
    if !platform.accepts(&image.platform()) {
        return Err(Error::OtherPlatform {
            name: word.to_owned(),
            image: image.platform().to_string(),
            wanted: platform.to_string(),
        });
    }
    unpack(context, &image, plan, &map)?;
    let names = store.lower_dirs(&image, &map)?;
    let base = store.layer_path(&map);
    Ok((RootfsSource::Layers { base, names }, defaults(word, &image)))
}

/// A directory of the user's own as root file system.
///
/// # Errors
/// It is none, or cannot be read.
pub(super) fn directory(path: &Path) -> Result<RootfsSource, Error> {
    let failed = |source| Error::Rootfs {
        path: path.to_owned(),
        source,
    };
    let path = std::fs::canonicalize(path).map_err(failed)?;
    std::fs::read_dir(&path).map_err(failed)?;
    Ok(RootfsSource::Directory(path))
}

/// The image, complete and unpacked.
fn image(
    context: &Context<'_>,
    store: &Store,
    reference: &Reference,
    word: &str,
    fetch: &Fetch,
    plan: &userns::Plan,
    map: &MapKey,
) -> Result<Image, Error> {
    let local = lookup(store, reference, word)?;
    let have = |image: &Image| -> Result<bool, Error> {
        for diff_id in &image.diff_ids {
            if !store.has_layer(map, diff_id)? {
                return Ok(false);
            }
        }
        Ok(true)
    };
    match local {
        Some(image)
            if matches!(fetch.policy, Policy::Missing | Policy::Never)
                && fetch.platform.accepts(&image.platform()) =>
        {
            if !have(&image)? {
                unpack(context, &image, plan, map)?;
            }
            return Ok(image);
        }
        _ => {}
    }
    inside(context, plan, || {
        let store = Store::open(&context.dirs.data)?;
        fetch_image(&store, reference, fetch, map, &*context.ui.progress()).map(drop)
    })?;
    settle(context);
    let image = store
        .image(reference)?
        .ok_or_else(|| Error::Vanished(word.to_owned()))?;
    if !have(&image)? {
        unpack(context, &image, plan, map)?;
    }
    Ok(image)
}

/// Fetches an image as `rl pull` does, unpacked for the caller's default id maps.
///
/// # Errors
/// `word` is no registry's image, or it cannot be had.
pub fn pull(context: &Context<'_>, word: &str, fetch: &Fetch) -> Result<Image, Error> {
    let plan = userns::plan(&userns::Mode::Default, context.caller()?)?;
    let map = MapKey::of(&plan.uid, &plan.gid);
    let store = Store::open(&context.dirs.data)?;
    let reference = match Source::parse(word)? {
        Source::Registry(reference) => reference,
        other => {
            let image = images::take_in(&store, &other)?;
            unpack(context, &image, &plan, &map)?;
            return Ok(image);
        }
    };
    image(context, &store, &reference, word, fetch, &plan, &map)
}

/// An image by name; a word that is no name in the store may be the beginning of an id.
fn lookup(store: &Store, reference: &Reference, word: &str) -> Result<Option<Image>, Error> {
    if let Some(image) = store.image(reference)? {
        return Ok(Some(image));
    }
    let id = word.strip_prefix("sha256:").unwrap_or(word);
    let hex = id.len() >= 4 && id.bytes().all(|b| b.is_ascii_hexdigit());
    Ok(if hex { store.image_by_id(id)? } else { None })
}

/// Unpacks what is missing of an image that is in the store. The child opens the store anew, so that
/// what it needs for its work goes away with it.
fn unpack(
    context: &Context<'_>,
    image: &Image,
    plan: &userns::Plan,
    map: &MapKey,
) -> Result<(), Error> {
    context
        .ui
        .detail("unpacking the image's layers for these id maps");
    inside(context, plan, || {
        let store = Store::open(&context.dirs.data)?;
        Ok(store.ensure_layers(image, map)?)
    })?;
    settle(context);
    Ok(())
}

/// Has what was fetched and unpacked brought to the disk, in the background: waiting for it may take
/// longer than the pull. If it does not come about, the work is done again after a reboot, no more.
fn settle(context: &Context<'_>) {
    let data = &context.dirs.data;
    let _ = crate::sys::process::in_background(|| {
        if let Ok(store) = Store::open(data) {
            let _ = store.settle();
        }
    });
}

/// Runs `work` in a child inside the maps; its error is printed there.
///
/// # Errors
/// [`Error::Reported`], or the user namespace's.
pub fn inside(
    context: &Context<'_>,
    plan: &userns::Plan,
    work: impl FnOnce() -> Result<(), Error>,
) -> Result<(), Error> {
    let status = userns::run_inside(plan, || match work() {
        Ok(()) => 0,
        Err(error) => context.ui.fail(&error),
    })?;
    if status == 0 {
        Ok(())
    } else {
        Err(Error::Reported(status))
    }
}

/// The same for work that finds something out, which is brought back.
///
/// # Errors
/// As [`inside`].
pub fn found_inside<T: serde::Serialize + serde::de::DeserializeOwned + Default>(
    context: &Context<'_>,
    plan: &userns::Plan,
    work: impl FnOnce() -> Result<T, Error>,
) -> Result<T, Error> {
    use std::io::{Read as _, Seek as _, Write as _};
    let failed = |source| Error::Write {
        path: "memfd".into(),
        source,
    };
    let file = rustix::fs::memfd_create(c"found", rustix::fs::MemfdFlags::CLOEXEC);
    let mut file = std::fs::File::from(file.map_err(|e| failed(e.into()))?);
    let mut copy = file.try_clone().map_err(failed)?;
    inside(context, plan, || {
        let bytes = postcard::to_stdvec(&work()?).unwrap_or_default();
        copy.write_all(&bytes).map_err(failed)
    })?;
    let mut bytes = Vec::new();
    file.rewind().map_err(failed)?;
    file.read_to_end(&mut bytes).map_err(failed)?;
    Ok(postcard::from_bytes(&bytes).unwrap_or_default())
}

/// A file by its address, on its way.
///
/// # Errors
/// No answer, or one of failure.
pub fn file(address: &registry::Address) -> Result<registry::Download, Error> {
    let settings = Settings::from_env(&|name| std::env::var(name).ok());
    let file = Client::new(settings).file(address);
    Ok(file.map_err(pull::PullError::Registry)?)
}

/// The error of an import, in words of the network where it comes from there.
pub fn broken_off(error: images::ImageError) -> Error {
    match error {
        images::ImageError::Io { call, source } => match registry::Error::from_io(source) {
            Ok(error) => pull::PullError::Registry(error).into(),
            Err(source) => images::ImageError::Io { call, source }.into(),
        },
        other => other.into(),
    }
}

/// Fetches an image into the store. To be called inside the user namespace of `map`.
///
/// # Errors
/// The registry's, the store's.
pub fn fetch_image(
    store: &Store,
    reference: &Reference,
    fetch: &Fetch,
    map: &MapKey,
    progress: &dyn Progress,
) -> Result<Pulled, Error> {
    let mut settings = Settings::from_env(&|name| std::env::var(name).ok());
    settings.tls_verify = fetch.tls_verify;
    let client = Client::new(settings);
    let sink = Sink { store, map };
    let _lock = store.lock_shared()?;
    let pulled = pull::pull(
        &client,
        &sink,
        reference,
        &fetch.platform,
        fetch.policy,
        progress,
    );
    pulled.map_err(|error| match error {
        pull::PullError::Registry(source) if source.is_no_answer() => {
            match from_packages(reference) {
                Some(name) => Error::NoRegistry {
                    reason: Box::new(source),
                    name,
                },
                None => pull::PullError::Registry(source).into(),
            }
        }
        error => error.into(),
    })
}

/// The name under which `rl bootstrap` would make this image, where it can.
fn from_packages(reference: &Reference) -> Option<String> {
    let distribution = Distribution::of(reference)?;
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).find(|dir| dir.join("mmdebstrap").is_file())?;
    Some(match (Release::of(reference), distribution) {
        (Some(_), _) => reference.familiar(),
        (None, Distribution::Debian) => "debian:stable".to_owned(),
        (None, Distribution::Ubuntu) => "ubuntu:24.04".to_owned(),
    })
}

/// The store as a pull sees it.
struct Sink<'a> {
    store: &'a Store,
    map: &'a MapKey,
}

impl ImageSink for Sink<'_> {
    type Error = StoreError;

    fn local(
        &self,
        reference: &Reference,
        platform: &Platform,
    ) -> Result<Option<Pulled>, StoreError> {
        let image = self
            .store
            .image(reference)?
            .filter(|i| platform.accepts(&i.platform()));
        let Some(image) = image else { return Ok(None) };
        // Layers that are not unpacked for these maps are unpacked from their blobs afterwards.
        for blob in &image.layers {
            let digest = Image::layer_digest(blob)?;
            if !self.store.has_blob(&digest, blob.size())? {
                return Ok(None);
            }
        }
        Ok(Some(Pulled {
            digest: image.origin.unwrap_or(image.target),
            manifest: image.manifest,
            id: image.id,
            changed: false,
        }))
    }

    fn has_layer(&self, layer: &registry::Layer) -> Result<bool, StoreError> {
        let blob = &layer.descriptor;
        Ok(self.store.has_blob(&blob.digest, blob.size)?
            && self.store.has_layer(self.map, &layer.diff_id)?)
    }

    fn put_layer(
        &self,
        layer: &registry::Layer,
        blob: &mut (dyn Read + Send),
    ) -> Result<(), StoreError> {
        let descriptor = descriptor(&layer.descriptor);
        let digest = &layer.descriptor.digest;
        if self.store.has_blob(digest, layer.descriptor.size)? {
            // Unpacked for other maps only: nothing to fetch.
            let blob = self.store.open_blob(digest)?;
            return self
                .store
                .ingest_layer(blob, &descriptor, &layer.diff_id, self.map, &|_| {});
        }
        self.store
            .ingest_layer(blob, &descriptor, &layer.diff_id, self.map, &|_| {})
    }

    fn finish(&self, reference: &Reference, image: &registry::Image) -> Result<(), StoreError> {
        self.store.put_blob(&image.config.bytes)?;
        self.store.put_blob(&image.manifest.bytes)?;
        // The manifest of this platform stands for the name: of an index, only one image is here.
        let mut target = descriptor(&image.manifest.descriptor);
        if let Some(index) = &image.index {
            store::set_origin(&mut target, &index.descriptor.digest);
        }
        self.store.tag(reference, &target)
    }
}

fn descriptor(from: &registry::Descriptor) -> Descriptor {
    let media_type = MediaType::from(from.media_type.as_str());
    let digest: oci_spec::image::Digest = from
        .digest
        .to_string()
        .parse()
        .unwrap_or_else(|_| unreachable!("a digest of ours is one of theirs"));
    Descriptor::new(media_type, from.size, digest)
}

fn defaults(word: &str, image: &Image) -> ImageDefaults {
    let config = image.config.config().clone().unwrap_or_default();
    ImageDefaults {
        name: word.to_owned(),
        id: Some(image.id),
        entrypoint: config.entrypoint().clone().unwrap_or_default(),
        cmd: config.cmd().clone().unwrap_or_default(),
        env: config.env().clone().unwrap_or_default(),
        workdir: config.working_dir().clone(),
        user: config.user().clone(),
        stop_signal: config.stop_signal().clone(),
        labels: config
            .labels()
            .clone()
            .unwrap_or_default()
            .into_iter()
            .collect::<BTreeMap<_, _>>(),
        exposed: config.exposed_ports().clone().unwrap_or_default(),
        volumes: config.volumes().clone().unwrap_or_default(),
        health: image.extended.as_ref().and_then(super::life::image_health),
    }
}

/// Gives the writable layer, whose root directory is the container's `/`, and its work directory to
/// root inside, where the caller is somebody else.
///
/// # Errors
/// chown(2) said no.
pub fn own_root(
    context: &Context<'_>,
    plan: &userns::Plan,
    spec: &ContainerSpec,
    dir: &Path,
) -> Result<(), Error> {
    let own = plan.uid.to_host(0) == Some(context.caller()?.uid);
    if own || plan.uid.to_host(0).is_none() || spec.rootfs == RootfsSource::Host {
        return Ok(());
    }
    inside(context, plan, || {
        for sub in ["upper", "work"] {
            let path = dir.join(sub);
            std::os::unix::fs::chown(&path, Some(0), Some(0))
                .map_err(|source| Error::Write { path, source })?;
        }
        Ok(())
    })
}

/// The last rung: all layers laid over each other in the container's own directory, which must be
/// empty.
///
/// # Errors
/// No space, or whatever else a copy runs into.
pub fn copy(
    context: &Context<'_>,
    spec: &ContainerSpec,
    plan: &userns::Plan,
    dir: &Path,
) -> Result<(), Error> {
    let RootfsSource::Layers { base, names } = &spec.rootfs else {
        return Ok(());
    };
    let target = dir.join("upper");
    inside(context, plan, || {
        for name in names.iter().rev() {
            for note in store::lay_over(&base.join(name), &target)? {
                context.ui.detail(&format!("layer {name}: {note}"));
            }
        }
        Ok(())
    })
}
