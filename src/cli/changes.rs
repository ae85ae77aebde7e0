//! `rl diff`, `rl apply`.

use std::io::IsTerminal as _;

use crate::engine::{Context, Error, changes};
use crate::model::text::escape_bytes;

/// List what a container changed: A added, C changed, D deleted
#[derive(Debug, clap::Args)]
pub struct DiffArgs {
    /// Name or id
    #[arg(value_name = "CONTAINER")]
    container: String,
}

/// Carry what a container changed in its views over to this machine
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  rl run --name try host ./install.sh
  rl diff try    what it would have changed
  rl apply try   show it, ask, and do it")]
pub struct ApplyArgs {
    /// Do not ask
    #[arg(short, long)]
    pub yes: bool,
    /// Name or id
    #[arg(value_name = "CONTAINER")]
    pub container: String,
}

/// The changes, as bytes for standard output: names as they are, but for a terminal, where they are
/// escaped.
///
/// # Errors
/// As [`changes::diff`].
pub fn diff(context: &Context<'_>, args: &DiffArgs) -> Result<Vec<u8>, Error> {
    let terminal = std::io::stdout().is_terminal();
    let mut out = Vec::new();
    for change in changes::diff(context, &args.container)? {
        out.extend([change.kind.letter() as u8, b' ']);
        match terminal {
            true => out.extend(escape_bytes(&change.path).into_bytes()),
            false => out.extend(&change.path),
        }
        out.push(b'\n');
    }
    Ok(out)
}
