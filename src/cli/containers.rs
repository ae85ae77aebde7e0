//! `rl ps`, `rl rm`.

use std::path::PathBuf;

use super::table;
use super::which::{self, there};
use crate::engine::containers::Filter;
use crate::engine::images::human_size;
use crate::engine::{Context, Error, containers, lifecycle, units};
use crate::state::{self, Listed};

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
    /// Show the N newest, also those that do not run
    #[arg(short = 'n', long, value_name = "N", allow_negative_numbers = true)]
    last: Option<i64>,
    /// Show the newest, also if it does not run
    #[arg(short, long, conflicts_with = "last")]
    latest: bool,
    /// Show how much they have written
    #[arg(short, long)]
    size: bool,
    /// In this order: command, created, id, image, names, runningfor, state or status
    #[arg(long, value_name = "FIELD", value_parser = ["command", "created", "id", "image", "names", "runningfor", "state", "status"], hide_possible_values = true)]
    sort: Option<String>,
    /// Print no head above a table
    #[arg(long)]
    noheading: bool,
    /// Print with a template such as `{{.Names}}`, or `json`
    #[arg(long)]
    format: Option<String>,
    /// Show only what fits, such as name=REGEX, status=exited, label=KEY[=VALUE], ancestor=IMAGE, expose=PORT[/PROTO]
    #[arg(short, long, value_name = "FILTER")]
    filter: Vec<Filter>,
}

/// Remove containers
#[derive(Debug, clap::Args)]
pub struct RmArgs {
    /// Kill them first if they run; one that does not exist is no failure
    #[arg(short, long)]
    force: bool,
    /// All of them
    #[arg(short, long, conflicts_with_all = ["containers", "cidfile"])]
    all: bool,
    /// All that fit, such as name=REGEX or label=KEY[=VALUE], as for `rl ps`
    #[arg(long, value_name = "FILTER", conflicts_with_all = ["containers", "cidfile"])]
    filter: Vec<Filter>,
    /// Read the id from a file, as `rl run --cidfile` writes it
    #[arg(long, value_name = "FILE")]
    cidfile: Vec<PathBuf>,
    /// Remove the volumes that were made for them as well
    #[arg(short, long)]
    volumes: bool,
    /// Pass over containers that do not exist
    #[arg(short, long)]
    ignore: bool,
    /// With --force: end them as `rl stop` does first, with so many seconds until SIGKILL; -1: it never comes
    #[arg(short, long, value_name = "SECONDS", value_parser = units::patience, allow_negative_numbers = true, requires = "force")]
    time: Option<u32>,
    /// Names or ids
    #[arg(required_unless_present_any = ["all", "filter", "cidfile"], value_name = "CONTAINER")]
    containers: Vec<String>,
}

/// The table of containers, as text for standard output.
///
/// # Errors
/// The containers cannot be read.
pub fn ps(context: &Context<'_>, args: &PsArgs) -> Result<String, Error> {
    // Docker's default, -1, and 0 are the same as without it.
    let last = args.last.and_then(|last| usize::try_from(last).ok());
    let last = last.filter(|&last| last > 0);
    let newest = last.or(args.latest.then_some(1));
    let all = args.all || newest.is_some() || args.filter.iter().any(Filter::wants_all);
    let mut found = containers::listed(context, all)?;
    let filters = containers::settle(context, &found, &args.filter)?;
    found.retain(|container| containers::passes(container, &filters));
    found.truncate(newest.unwrap_or(usize::MAX));
    if let Some(by) = &args.sort {
        sort(&mut found, by);
    }
    let usual = match args.quiet {
        true => "{{.ID}}",
        false => {
            "table {{.ID}}\t{{.Image}}\t{{.Command}}\t{{.RunningFor}}\t{{.Status}}\t{{.Ports}}\t{{.Names}}"
        }
    };
    let with_size = format!("{usual}\t{{{{.Size}}}}");
    let usual = if args.size && !args.quiet {
        &with_size
    } else {
        usual
    };
    let template = table::template(args.format.as_deref(), usual)?;
    let sizes = match args.size || args.format.as_deref().is_some_and(|f| f.contains(".Size")) {
        true => containers::sizes(context, &found)?
            .into_iter()
            .map(|(written, whole)| {
                format!("{} (virtual {})", human_size(written), human_size(whole))
            })
            .collect(),
        false => Vec::new(),
    };
    let plain = template.plain();
    let line = |(container, size): (&Listed, Option<&String>)| match &plain {
        Some(plain) => plain.fill(|name| match (name, size) {
            ("Size", size) => Some(size.map_or("", |size| size).into()),
            _ => containers::field(container, name, args.no_trunc),
        }),
        None => {
            let (mut fields, methods) = containers::row(container, args.no_trunc);
            fields.insert("Size".to_owned(), size.map_or("", |size| size).into());
            template.fill(&fields.into(), &methods)
        }
    };
    let sizes = sizes.iter().map(Some).chain(std::iter::repeat(None));
    let lines: Result<_, _> = found.iter().zip(sizes).map(line).collect();
    let page = table::page(&template, &title, lines?)?;
    Ok(match page.split_once('\n') {
        Some((_, rest)) if args.noheading && template.table => rest.to_owned(),
        _ => page,
    })
}

/// As podman has it: times from the oldest on, what is text by its letters.
fn sort(found: &mut [Listed], by: &str) {
    let text = |container: &Listed, name: &str| {
        let field = containers::field(container, name, true);
        field.unwrap_or_default().into_owned()
    };
    match by {
        "command" => found.sort_by_cached_key(|c| c.spec.args.join(" ")),
        "id" => found.sort_by_cached_key(|c| c.spec.id.clone()),
        "image" => found.sort_by_cached_key(|c| c.spec.image.clone()),
        "names" => found.sort_by_cached_key(|c| c.spec.name.clone()),
        "state" => found.sort_by_cached_key(|c| text(c, "State")),
        "status" => found.sort_by_cached_key(|c| text(c, "Status")),
        _ => found.sort_by_key(|c| c.spec.made()),
    }
}

/// The head of a template's column.
fn title(field: &str) -> String {
    match field {
        "ID" => "CONTAINER ID".to_owned(),
        "RunningFor" => "CREATED".to_owned(),
        "CreatedAt" => "CREATED AT".to_owned(),
        "LocalVolumes" => "LOCAL VOLUMES".to_owned(),
        other => other.to_uppercase(),
    }
}

/// Removes each; what it was called by, or why not.
///
/// # Errors
/// The containers cannot be read.
pub fn rm(context: &Context<'_>, args: &RmArgs) -> Result<Vec<Result<String, Error>>, Error> {
    let words = match args.all || !args.filter.is_empty() {
        true => which::all(context, &args.filter, |_| true)?,
        false => {
            let ids = which::from_files(&args.cidfile, args.ignore)?;
            let words = [&args.containers[..], &ids].concat();
            there(context, &words, args.ignore)
        }
    };
    if args.time.is_some() {
        // Who is not there is told below.
        let _ = lifecycle::stop(context, &words, args.time, None);
    }
    let done = containers::remove_all(context, &words, args.force, args.volumes).into_iter();
    // As for docker: with force it is told that there is none, and that is no failure.
    let done = done.filter_map(|result| match result {
        Err(error @ Error::State(state::Error::NotFound(_))) if args.force => {
            context.ui.fail(&error);
            None
        }
        other => Some(other),
    });
    Ok(done.collect())
}
