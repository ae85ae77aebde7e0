//! Which containers, images, volumes or networks are meant, and whether they are there.

use std::path::{Path, PathBuf};

use crate::engine::containers::Filter;
use crate::engine::images::{self, ImageError};
use crate::engine::{Context, Error, containers, lifecycle, resolve, volumes};
use crate::state::{self, Networks, State};
use crate::store::Store;

/// Containers by name, those that fit, or all that something can be done to.
#[derive(Debug, clap::Args)]
pub struct Which {
    /// All that this can be done to
    #[arg(short, long, conflicts_with_all = ["containers", "cidfile"])]
    all: bool,
    /// Of these only what fits, such as name=REGEX or label=KEY[=VALUE], as for `rl ps`
    #[arg(short, long, value_name = "FILTER", conflicts_with_all = ["containers", "cidfile"])]
    filter: Vec<Filter>,
    /// Read the id from a file, as `rl run --cidfile` writes it
    #[arg(long, value_name = "FILE")]
    cidfile: Vec<PathBuf>,
    /// Names or ids
    #[arg(required_unless_present_any = ["all", "filter", "cidfile"], value_name = "CONTAINER")]
    containers: Vec<String>,
}

impl Which {
    /// Their names or ids; of all, those whose state fits. With `ignore` a file that is not there names none.
    ///
    /// # Errors
    /// The containers or a file cannot be read.
    pub fn words(
        &self,
        context: &Context<'_>,
        ignore: bool,
        fits: impl Fn(&State) -> bool,
    ) -> Result<Vec<String>, Error> {
        match self.all || !self.filter.is_empty() {
            true => self.fitting(context, fits),
            false => Ok([&self.containers[..], &from_files(&self.cidfile, ignore)?].concat()),
        }
    }

    /// Of all, those that pass the filters and whose state fits.
    ///
    /// # Errors
    /// The containers cannot be read.
    pub fn fitting(
        &self,
        context: &Context<'_>,
        fits: impl Fn(&State) -> bool,
    ) -> Result<Vec<String>, Error> {
        all(context, &self.filter, fits)
    }
}

/// The ids in files; with `ignore` of those that are there.
///
/// # Errors
/// A file cannot be read.
pub fn from_files(files: &[PathBuf], ignore: bool) -> Result<Vec<String>, Error> {
    let missing = |path: &&PathBuf| ignore && !Path::exists(path);
    let read = |path: &PathBuf| {
        let text = std::fs::read_to_string(path).map_err(|source| resolve::Error::File {
            option: "--cidfile",
            path: path.clone(),
            source,
        })?;
        Ok(text.trim().to_owned())
    };
    files
        .iter()
        .filter(|path| !missing(path))
        .map(read)
        .collect()
}

/// The ids of all containers that pass the filters and whose state fits.
///
/// # Errors
/// The containers cannot be read.
pub fn all(
    context: &Context<'_>,
    filters: &[Filter],
    fits: impl Fn(&State) -> bool,
) -> Result<Vec<String>, Error> {
    let found = containers::listed(context, true)?;
    let filters = containers::settle(context, &found, filters)?;
    let fitting = found
        .into_iter()
        .filter(|container| fits(&container.state) && containers::passes(container, &filters));
    Ok(fitting.map(|container| container.spec.id).collect())
}

/// The words, with `ignore` only those that name a container.
pub fn there(context: &Context<'_>, words: &[String], ignore: bool) -> Vec<String> {
    let is_there = |word: &&String| {
        let found = lifecycle::find(context, word);
        !ignore || !matches!(found, Err(Error::State(state::Error::NotFound(_))))
    };
    words.iter().filter(is_there).cloned().collect()
}

/// Tell by the exit status whether there is one of this name: 0, or 1
#[derive(Debug, clap::Args)]
pub struct ExistsArgs {
    /// Name, or id where it has one
    name: String,
}

/// What is looked for.
#[derive(Clone, Copy, Debug)]
pub enum Kind {
    /// `rl container exists`.
    Container,
    /// `rl image exists`.
    Image,
    /// `rl network exists`.
    Network,
    /// `rl volume exists`.
    Volume,
}

/// `rl KIND exists`.
///
/// # Errors
/// It cannot be found out.
pub fn exists(context: &Context<'_>, kind: Kind, args: &ExistsArgs) -> Result<u8, Error> {
    let word = &args.name;
    let found = match kind {
        Kind::Container => lifecycle::find(context, word).map(drop),
        Kind::Image => {
            let store = Store::open(&context.dirs.data)?;
            images::find(&store, word).map(drop).map_err(Error::from)
        }
        Kind::Network => {
            let networks = Networks::new(context.dirs.networks());
            networks.find(word).map(drop).map_err(Error::from)
        }
        Kind::Volume => volumes::find(context, word).map(drop),
    };
    match found {
        Ok(()) => Ok(0),
        Err(
            Error::State(state::Error::NotFound(_) | state::Error::NoNetwork(_))
            | Error::Images(ImageError::NotFound(_))
            | Error::NoVolume(_),
        ) => Ok(1),
        Err(error) => Err(error),
    }
}
