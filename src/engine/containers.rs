//! Containers that exist: found, removed. What killed commands left behind is cleared on the way.

mod filter;
mod row;

pub use filter::{Filter, FilterError, passes};
pub use row::{Row, row};

use super::{Context, Error};
use crate::model::spec::ContainerSpec;
use crate::monitor;
use crate::state::{Container, Containers, Status};
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
        !left_over && (all || container.state.status == Status::Running)
    });
    Ok(found)
}

/// Removes the container of this name or id prefix; with `force` a running one is killed first.
/// Returns what it was called by.
///
/// # Errors
/// No such container, or it runs.
pub fn remove(context: &Context<'_>, word: &str, force: bool) -> Result<String, Error> {
    let containers = Containers::new(context.dirs.containers());
    let container = containers.find(word)?;
    if force && container.state.status == Status::Running {
        kill(&container);
    }
    match container.lock() {
        Ok(locked) => {
            let plan = plan_for(context, &container.spec)?;
            monitor::remove(&locked, &plan)?;
        }
        // Its own monitor removed it (`--rm`).
        Err(_) if containers.find(word).is_err() => {}
        Err(error) => return Err(error.into()),
    }
    Ok(word.to_owned())
}

/// Kills the first process, and with it all, and waits until the monitor has let go (or 10 seconds).
/// The process is held by a pidfd before its start time is compared, so a recycled number is never
/// signalled.
fn kill(container: &Container) {
    let Some(pid) = container.state.pid.and_then(rustix::process::Pid::from_raw) else {
        return;
    };
    let flags = rustix::process::PidfdFlags::empty();
    if let Ok(pidfd) = rustix::process::pidfd_open(pid, flags)
        && container.is_still(pid)
    {
        let _ = process::signal_pidfd(std::os::fd::AsFd::as_fd(&pidfd), libc::SIGKILL);
    }
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(10);
    while container.is_held() && std::time::Instant::now() < deadline {
        std::thread::sleep(std::time::Duration::from_millis(2));
    }
}

/// A plan with the maps that the container was made with.
pub(super) fn plan_for(context: &Context<'_>, spec: &ContainerSpec) -> Result<userns::Plan, Error> {
    let plan = userns::plan(&userns::Mode::Default, &context.caller)?;
    Ok(userns::Plan {
        uid: spec.uid_map.clone(),
        gid: spec.gid_map.clone(),
        ..plan
    })
}
