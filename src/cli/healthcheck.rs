//! `rl healthcheck`.

use crate::engine::{Context, Error, healthcheck};
use crate::state::Verdict;

/// Check whether a container is well
#[derive(Debug, clap::Args)]
pub struct HealthcheckArgs {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, clap::Subcommand)]
enum Verb {
    /// Run the check of a container now: exit status 0 where it succeeds, 1 where it fails
    Run {
        /// Name or id
        container: String,
    },
}

/// `rl healthcheck run`.
///
/// # Errors
/// As [`healthcheck::run`].
pub fn healthcheck(context: &Context<'_>, args: &HealthcheckArgs) -> Result<u8, Error> {
    let Verb::Run { container } = &args.verb;
    let (succeeded, verdict) = healthcheck::run(context, container)?;
    if verdict == Verdict::Unhealthy {
        context.ui.data(verdict.word());
    }
    Ok(u8::from(!succeeded))
}
