//! Containers that exist: found, removed. What killed commands left behind is cleared on the way.

mod filter;
mod inspect;
mod row;

pub use filter::{Filter, FilterError, passes};
pub use inspect::{inspect, published};
pub use row::{Row, row};

use super::{Context, Error};
use crate::model::spec::ContainerSpec;
use crate::monitor;
use crate::monitor::client::Client;
use crate::monitor::wire::ToMonitor;
use crate::state::{Container, Containers};
use crate::sys::process;
use crate::userns;

/// The containers, newest first; with `all` those that do not run as well.
///
/// # Errors
/// The containers' directory cannot be read.
pub fn list(context: &Context<'_>, all: bool) -> Result<Vec<Container>, Error> {
    let containers = Containers::new(context.dirs.containers());
    let mut found = containers.list()?;
    found.retain(|container| {
        let left_over = container.is_left_over();
        if left_over && let Ok(locked) = container.lock() {
            let _ = plan_for(context, &container.spec).map(|plan| monitor::remove(&locked, &plan));
        }
        !left_over && (all || container.state.is_alive())
    });
    for (spec, gone) in containers.gone() {
        let _ = plan_for(context, &spec).map(|plan| monitor::remove(&gone, &plan));
    }
    Ok(found)
}

/// Removes the container of this name or id prefix; with `force` a running one is killed first.
/// Returns what it was called by.
///
/// # Errors
/// No such container, or it runs.
pub fn remove(context: &Context<'_>, word: &str, force: bool) -> Result<String, Error> {
    let mut done = remove_all(context, &[word.to_owned()], force);
    done.pop().unwrap_or_else(|| Ok(word.to_owned()))
}

/// Removes several: those that run are all killed before the first is waited for.
pub fn remove_all(
    context: &Context<'_>,
    words: &[String],
    force: bool,
) -> Vec<Result<String, Error>> {
    let containers = Containers::new(context.dirs.containers());
    let begin = |word: &String| {
        let container = containers.find(word)?;
        let client = (force && container.state.is_alive()).then(|| end(&container));
        Ok((container, client.flatten()))
    };
    let begun: Vec<Result<_, Error>> = words.iter().map(begin).collect();
    let finish = |word: &String, (container, client): (Container, Option<Client>)| {
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
    let pairs = words.iter().zip(begun);
    pairs.map(|(word, begun)| finish(word, begun?)).collect()
}

/// Has the monitor kill the first process, and with it all, and remove the container. Where the monitor does not
/// answer, the process is killed from here.
fn end(container: &Container) -> Option<Client> {
    let asked = Client::connect(container.dir())
        .and_then(|client| client.tell(&ToMonitor::Remove).map(|()| client));
    if let Ok(client) = asked {
        return Some(client);
    }
    if let Some(held) = container.hold() {
        let _ = process::signal_pidfd(std::os::fd::AsFd::as_fd(&held), libc::SIGKILL);
    }
    None
}

/// Waits until the monitor has let go of the container (or 10 seconds).
pub(super) fn await_release(container: &Container) {
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(10);
    while container.is_held() && std::time::Instant::now() < deadline {
        std::thread::sleep(std::time::Duration::from_micros(500));
    }
}

/// A plan with the maps that the container was made with.
pub(super) fn plan_for(context: &Context<'_>, spec: &ContainerSpec) -> Result<userns::Plan, Error> {
    let (uid, gid) = (spec.uid_map.clone(), spec.gid_map.clone());
    Ok(userns::plan_again(uid, gid, &context.caller)?)
}
