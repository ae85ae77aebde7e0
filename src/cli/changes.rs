//! `rl diff`, `rl apply`.

use std::collections::BTreeMap;
use std::io::IsTerminal as _;

use crate::engine::changes::{self, Change, Kind};
use crate::engine::{Context, Error};
use crate::model::text::{escape_bytes, escape_json};

/// List what a container changed: A added, C changed, D deleted
#[derive(Debug, clap::Args)]
pub struct DiffArgs {
    /// Print it as `json`
    #[arg(long, value_name = "FORMAT", value_parser = ["json"], hide_possible_values = true)]
    format: Option<String>,
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
    let found = changes::diff(context, &args.container)?;
    if args.format.is_some() {
        return Ok(json(&found).into_bytes());
    }
    let terminal = std::io::stdout().is_terminal();
    let mut out = Vec::new();
    for change in found {
        out.extend([change.kind.letter() as u8, b' ']);
        match terminal {
            true => out.extend(escape_bytes(&change.path).into_bytes()),
            false => out.extend(&change.path),
        }
        out.push(b'\n');
    }
    Ok(out)
}

/// The paths of each kind, as podman has them.
fn json(found: &[Change]) -> String {
    let mut kinds = BTreeMap::<&str, Vec<_>>::new();
    for change in found {
        let kind = match change.kind {
            Kind::Added => "added",
            Kind::Changed => "changed",
            Kind::Deleted => "deleted",
        };
        let path = String::from_utf8_lossy(&change.path);
        kinds.entry(kind).or_default().push(path);
    }
    let text = serde_json::to_string_pretty(&kinds).unwrap_or_default();
    format!("{}\n", escape_json(&text))
}
