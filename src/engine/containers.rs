//! Containers that exist: found, removed. What killed commands left behind is cleared on the way.

mod filter;
mod inspect;
mod row;

pub use filter::{Filter, FilterError, passes, settle};
pub use inspect::{inspect, published};
pub use row::{field, row};

use std::os::fd::OwnedFd;

use super::{Context, Error};
use crate::model::spec::ContainerSpec;
use crate::monitor;
use crate::monitor::client::Client;
use crate::monitor::wire::ToMonitor;
use crate::state::{self, Container, Containers, Listed, Locked};
use crate::sys::process;
use crate::userns;

/// The containers, newest first; with `all` those that do not run as well.
///
/// # Errors
/// The containers' directory cannot be read.
pub fn list(context: &Context<'_>, all: bool) -> Result<Vec<Container>, Error> {
    let containers = Containers::new(context.dirs.containers());
    let survey = containers.survey()?;
    let mut found = survey.containers;
    let left_over = |spec: Option<&ContainerSpec>, locked: &Locked| {
        let plan = default_plan(context);
        let _ = plan.map(|plan| monitor::remove_left_over(spec, locked, &plan));
    };
    found.retain_mut(|container| {
        if container.is_left_over() {
            if let Ok(locked) = container.lock() {
                left_over(Some(&container.spec), &locked);
            }
            return false;
        }
        end_orphan(container);
        all || container.state.is_alive()
    });
    for locked in &survey.unfinished {
        left_over(None, locked);
    }
    for (spec, gone) in containers.gone() {
        left_over(spec.as_ref(), &gone);
    }
    for error in &survey.damaged {
        let hint = error
            .hint()
            .map_or(String::new(), |hint| format!("; {hint}"));
        context.ui.notice(&format!("{error}{hint}"));
    }
    Ok(found)
}

/// The same for one who looks at no more than lists show.
///
/// # Errors
/// As [`list`].
pub fn listed(context: &Context<'_>, all: bool) -> Result<Vec<Listed>, Error> {
    let look = Containers::new(context.dirs.containers()).look()?;
    let mut found = match look {
        Some(found) => found,
        None => list(context, all)?.into_iter().map(Listed::from).collect(),
    };
    found.retain(|container| all || container.state.is_alive());
    Ok(found)
}

/// Ends what a killed monitor has left running of a container: without its monitor nothing of it is to run. Its state is
/// that which is noted then.
pub(super) fn end_orphan(container: &mut Container) {
    if container.orphan
        && let Ok(locked) = container.lock()
    {
        monitor::end_left(&locked);
        container.state = locked.state();
    }
}

/// A plan in which every id exists that a container of the caller's can have given to a file.
fn default_plan(context: &Context<'_>) -> Result<userns::Plan, Error> {
    Ok(userns::plan(&userns::Mode::Default, context.caller()?)?)
}

/// The bytes that each has written, and these with its image's.
///
/// # Errors
/// As [`super::usage::written`]; the store cannot be read.
pub fn sizes(context: &Context<'_>, all: &[Listed]) -> Result<Vec<(u64, u64)>, Error> {
    let store = crate::store::Store::open(&context.dirs.data)?;
    let written = super::usage::written(context, all)?;
    let images = store.images()?;
    let size = |container: &Listed, written: u64| -> Result<(u64, u64), Error> {
        let image = images
            .iter()
            .find(|i| Some(i.id) == container.spec.image_id);
        let below = image.map(|image| store.unpacked_size(image)).transpose()?;
        Ok((written, written + below.flatten().unwrap_or(0)))
    };
    let pairs = all.iter().zip(written);
    pairs
        .map(|(container, written)| size(container, written))
        .collect()
}

/// Removes the container of this name or id prefix; with `force` a running one is killed first.
/// Returns what it was called by.
///
/// # Errors
/// No such container, or it runs.
pub fn remove(context: &Context<'_>, word: &str, force: bool) -> Result<String, Error> {
    let mut done = remove_all(context, &[word.to_owned()], force, false);
    done.pop().unwrap_or_else(|| Ok(word.to_owned()))
}

/// Removes several, with `volumes` also the volumes that were made for them: those that run are all killed before the
/// first is waited for.
pub fn remove_all(
    context: &Context<'_>,
    words: &[String],
    force: bool,
    volumes: bool,
) -> Vec<Result<String, Error>> {
    let containers = Containers::new(context.dirs.containers());
    let begin = |word: &String| {
        let container = match containers.find(word) {
            Err(error)
                if matches!(error, state::Error::Damaged { .. }) || containers.is_torn(word) =>
            {
                if force && let Ok(client) = ask_to_remove(&containers.dir_of(word)?) {
                    let _ = client.await_end();
                    if containers.dir_of(word).is_err() {
                        return Ok(None);
                    }
                }
                let locked = containers.lock_damaged(word).map_err(|error| match error {
                    state::Error::Running(_) => state::Error::Running(word.clone()),
                    other => other,
                })?;
                monitor::remove(&locked, &default_plan(context)?)?;
                return Ok(None);
            }
            other => other?,
        };
        // What is noted of it may be lost, while its monitor goes on.
        let runs = container.state.is_alive() || container.is_held();
        let client = (force && runs).then(|| end(&container));
        Ok(Some((container, client.flatten())))
    };
    let begun: Vec<Result<_, Error>> = words.iter().map(begin).collect();
    let finish = |word: &String,
                  (container, client): (Container, Option<Client>)|
     -> Result<String, Error> {
        // Its monitor removes it, before it says how the command ended.
        let ended = client.is_some_and(|client| client.await_end().is_ok());
        if ended && containers.find(&container.spec.id).is_err() {
            return Ok(word.clone());
        }
        if force {
            await_release(&container);
        }
        match container.lock_at_rest() {
            Ok(locked) => {
                let plan = plan_for(context, &container.spec)?;
                monitor::remove(&locked, &plan)?;
            }
            // Its own monitor removed it (`--rm`).
            Err(_) if containers.find(word).is_err() => {}
            Err(error) => return Err(error.into()),
        }
        Ok(word.clone())
    };
    let finish = |word: &String, begun: Option<(Container, _)>| -> Result<String, Error> {
        let Some(begun) = begun else {
            return Ok(word.clone());
        };
        let spec = begun.0.spec.clone();
        let done = finish(word, begun)?;
        if volumes {
            super::volumes::remove_anonymous(context, &spec);
        }
        Ok(done)
    };
    let pairs = words.iter().zip(begun);
    pairs.map(|(word, begun)| finish(word, begun?)).collect()
}

/// A hold on the first process, as [`Container::hold`]; the monitor has one where nobody can take one any more.
pub(super) fn hold(container: &Container) -> Option<OwnedFd> {
    let held = container.hold();
    held.unwrap_or_else(|_| Client::connect(container.dir()).ok()?.hold().ok())
}

/// Has the monitor kill the first process, and with it all, and remove the container. Where the monitor does not
/// answer, the process is killed from here.
fn end(container: &Container) -> Option<Client> {
    if let Ok(client) = ask_to_remove(container.dir()) {
        return Some(client);
    }
    if let Some(held) = hold(container) {
        let _ = process::signal_pidfd(std::os::fd::AsFd::as_fd(&held), libc::SIGKILL);
    }
    None
}

/// Ends those that run though what is noted of them cannot be read.
pub(super) fn end_unreadable(context: &Context<'_>) {
    let root = context.dirs.containers();
    let ids = Containers::new(root.clone()).ids().unwrap_or_default();
    let asked = ids
        .iter()
        .filter_map(|id| ask_to_remove(&root.join(id)).ok());
    for client in asked.collect::<Vec<_>>() {
        let _ = client.await_end();
    }
}

fn ask_to_remove(dir: &std::path::Path) -> Result<Client, monitor::Error> {
    let client = Client::connect(dir)?;
    client.tell(&ToMonitor::Remove).map(|()| client)
}

/// Waits until the monitor has let go of the container (or 10 seconds), or it runs anew: then another monitor has it.
pub(super) fn await_release(container: &Container) {
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(10);
    while container.is_held() && !container.runs_anew() && std::time::Instant::now() < deadline {
        std::thread::sleep(std::time::Duration::from_micros(500));
    }
}

/// A plan with the maps that the container was made with.
pub(super) fn plan_for(context: &Context<'_>, spec: &ContainerSpec) -> Result<userns::Plan, Error> {
    let (uid, gid) = (spec.uid_map.clone(), spec.gid_map.clone());
    Ok(userns::plan_again(uid, gid, context.caller()?)?)
}
