//! `rl healthcheck run`: a check out of turn. The monitor runs it as it runs the others, and notes what came of it.

use super::{Context, Error, lifecycle};
use crate::monitor;
use crate::monitor::wire::ToMonitor;
use crate::state::{Container, Status, Verdict};

/// Runs the check of a container once: whether it succeeded, and what is thought of the container then.
///
/// # Errors
/// It does not run, has no check, or the check cannot be started.
pub fn run(context: &Context<'_>, word: &str) -> Result<(bool, Verdict), Error> {
    let container = lifecycle::find(context, word)?;
    let unfit = |why| Error::Unfit {
        name: word.to_owned(),
        why,
    };
    if container.spec.health.is_none() {
        return Err(unfit("has no check of its health (`--health-cmd`)"));
    }
    match container.state.status {
        Status::Paused => return Err(Error::Paused(word.to_owned())),
        Status::Restarting => return Err(Error::Restarting(word.to_owned())),
        _ => {}
    }
    let last = |container: &Container| {
        let health = container.state.health.as_ref();
        health.and_then(|health| Some((health.checks.last()?.clone(), health.verdict)))
    };
    let before = last(&container).map(|(check, _)| check);
    match lifecycle::connect(&container, word)?.ask(&ToMonitor::Check) {
        Err(monitor::Error::Gone) => return Err(Error::NotRunning(word.to_owned())),
        other => other?,
    }
    let container = lifecycle::find(context, &container.spec.id)?;
    match last(&container) {
        Some((check, verdict)) if Some(&check) != before.as_ref() => {
            Ok((check.status == 0, verdict))
        }
        _ if container.state.is_alive() => Err(unfit("does not start its check")),
        _ => Err(Error::NotRunning(word.to_owned())),
    }
}
