//! `rl ps`, `rl rm`.

use crate::engine::{Context, Error, containers};
use crate::model::text::escape;
use crate::state::{Container, Status};

/// List containers
#[derive(Debug, clap::Args)]
pub struct PsArgs {
    /// Show those that do not run as well
    #[arg(short, long)]
    all: bool,
    /// Show only ids
    #[arg(short, long)]
    quiet: bool,
    /// Show ids and commands in full
    #[arg(long)]
    no_trunc: bool,
}

/// Remove containers
#[derive(Debug, clap::Args)]
pub struct RmArgs {
    /// Kill them first if they run
    #[arg(short, long)]
    force: bool,
    /// Names or ids
    #[arg(required = true, value_name = "CONTAINER")]
    containers: Vec<String>,
}

/// The table of containers, as text for standard output.
///
/// # Errors
/// The containers cannot be read.
pub fn ps(context: &Context<'_>, args: &PsArgs) -> Result<String, Error> {
    let found = containers::list(context, args.all)?;
    if args.quiet {
        return Ok(found
            .iter()
            .map(|c| format!("{}\n", id(c, args.no_trunc)))
            .collect());
    }
    let head = [
        "CONTAINER ID",
        "IMAGE",
        "COMMAND",
        "CREATED",
        "STATUS",
        "PORTS",
        "NAMES",
    ];
    let mut rows = vec![head.map(str::to_owned)];
    rows.extend(found.iter().map(|c| row(c, args.no_trunc)));
    Ok(table(&rows))
}

/// Removes each; prints what it was called by. Every failure is returned, the rest is done.
pub fn rm(context: &Context<'_>, args: &RmArgs) -> (String, Vec<Error>) {
    let (mut done, mut failed) = (String::new(), Vec::new());
    for word in &args.containers {
        match containers::remove(context, word, args.force) {
            Ok(word) => done.push_str(&format!("{word}\n")),
            Err(error) => failed.push(error),
        }
    }
    (done, failed)
}

fn id(container: &Container, full: bool) -> &str {
    let id = &container.spec.id;
    if full { id } else { &id[..12] }
}

fn row(container: &Container, full: bool) -> [String; 7] {
    let spec = &container.spec;
    let mut command = spec.args.join(" ");
    if !full && command.chars().count() > 20 {
        command = command.chars().take(19).chain(['…']).collect();
    }
    let image = if spec.image.is_empty() {
        "(directory)"
    } else {
        &spec.image
    };
    [
        id(container, full).to_owned(),
        escape(image),
        format!("\"{}\"", escape(&command)),
        format!("{} ago", age(spec.created)),
        status(container),
        escape(&spec.network.publish.join(", ")),
        escape(&spec.name),
    ]
}

fn status(container: &Container) -> String {
    let state = &container.state;
    match state.status {
        Status::Created => "Created".into(),
        Status::Running => {
            let up = format!("Up {}", age(state.started.unwrap_or_default()));
            match &state.health {
                Some(health) => format!("{up} ({})", health.verdict.word()),
                None => up,
            }
        }
        Status::Paused => format!("Up {} (Paused)", age(state.started.unwrap_or_default())),
        Status::Restarting => {
            let code = state.ended.map_or(0, |ended| ended.status());
            format!("Restarting ({code})")
        }
        Status::Exited => {
            let code = state.ended.map_or(0, |ended| ended.status());
            match state.finished {
                Some(at) => format!("Exited ({code}) {} ago", age(at)),
                None => format!("Exited ({code})"),
            }
        }
    }
}

/// The time since, in the largest unit that gives a number.
fn age(since: u64) -> String {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    let seconds = now.map_or(0, |n| n.as_secs()).saturating_sub(since);
    let (number, unit) = match seconds {
        0..60 => (seconds, "second"),
        60..3600 => (seconds / 60, "minute"),
        3600..86400 => (seconds / 3600, "hour"),
        _ => (seconds / 86400, "day"),
    };
    format!("{number} {unit}{}", if number == 1 { "" } else { "s" })
}

/// Columns as wide as their longest cell, three spaces between them.
fn table<const N: usize>(rows: &[[String; N]]) -> String {
    let mut width = [0; N];
    for row in rows {
        for (w, cell) in width.iter_mut().zip(row) {
            *w = (*w).max(cell.chars().count());
        }
    }
    let mut out = String::new();
    for row in rows {
        let mut line = String::new();
        for (w, cell) in width.iter().zip(row) {
            line.push_str(&format!("{cell:w$}   "));
        }
        out.push_str(line.trim_end());
        out.push('\n');
    }
    out
}
