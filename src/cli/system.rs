//! `rl system`, `rl info`, and the `prune` verbs.

use serde_json::{Map, Value, json};

use super::{print, table};
use crate::cgroup;
use crate::engine::images::{self, human_size};
use crate::engine::only::Only;
use crate::engine::usage::{self, Details, Pruned, Usage};
use crate::engine::{Context, Error, containers, networks, volumes};
use crate::model::platform::Platform;
use crate::model::spec::Resources;
use crate::model::text::escape_json;
use crate::state::Status;
use crate::store::Store;

/// Show how much room images, containers and volumes take
#[derive(Debug, clap::Args)]
pub struct DfArgs {
    /// Show each image, container and volume
    #[arg(short, long)]
    verbose: bool,
    /// Print with a template such as `{{.Type}} {{.Size}}`, or `json`; with `--verbose` it is filled once, from the lists
    /// `.Images`, `.Containers` and `.Volumes`
    #[arg(long)]
    format: Option<String>,
}

/// Show what rl is and has on this machine
#[derive(Debug, clap::Args)]
pub struct InfoArgs {
    /// Print with a template such as `{{.Containers}}`, or `json`
    #[arg(short, long)]
    format: Option<String>,
}

/// Show the version of rl
#[derive(Debug, clap::Args)]
pub struct VersionArgs {
    /// Print with a template such as `{{.Client.Version}}`, or `json`
    #[arg(short, long)]
    format: Option<String>,
}

/// See the verbs.
#[derive(Debug, clap::Args)]
pub struct PruneArgs {
    /// Only what fits: until=TIME, label=NAME[=VALUE], label!=NAME[=VALUE]
    #[arg(long, value_name = "FILTER")]
    filter: Vec<String>,
    /// Do not ask
    #[arg(short, long)]
    force: bool,
}

/// See the verbs.
#[derive(Debug, clap::Args)]
pub struct ImagePruneArgs {
    /// Only what fits: until=TIME, label=NAME[=VALUE], label!=NAME[=VALUE]
    #[arg(long, value_name = "FILTER")]
    filter: Vec<String>,
    /// Remove images with a name as well
    #[arg(short, long)]
    all: bool,
    /// Do not ask
    #[arg(short, long)]
    force: bool,
}

/// Remove containers that do not run, networks that none is on, and images that nobody names
#[derive(Debug, clap::Args)]
pub struct SystemPruneArgs {
    /// Remove all images that no container uses
    #[arg(short, long)]
    all: bool,
    /// Remove volumes that nobody named as well
    #[arg(long)]
    volumes: bool,
    /// Only what fits: until=TIME, label=NAME[=VALUE], label!=NAME[=VALUE]
    #[arg(long, value_name = "FILTER")]
    filter: Vec<String>,
    /// Do not ask
    #[arg(short, long)]
    force: bool,
}

/// End and remove all containers, images, volumes and networks
#[derive(Debug, clap::Args)]
pub struct ResetArgs {
    /// Do not ask
    #[arg(short, long)]
    force: bool,
}

/// What is to be thinned out.
#[derive(Debug)]
pub enum Prune {
    /// `rl container prune`.
    Containers(PruneArgs),
    /// `rl image prune`.
    Images(ImagePruneArgs),
    /// `rl system prune`.
    System(SystemPruneArgs),
}

/// `rl system df`.
///
/// # Errors
/// As [`usage::measure`], and a bad template.
pub fn df(context: &Context<'_>, args: &DfArgs) -> Result<u8, Error> {
    let (report, details) = usage::measure(context)?;
    if args.verbose {
        return verbose(context, &details, args.format.as_deref());
    }
    let usual = "table {{.Type}}\t{{.TotalCount}}\t{{.Active}}\t{{.Size}}\t{{.Reclaimable}}";
    let template = table::template(args.format.as_deref(), usual)?;
    let rows = [
        ("Images", report.images),
        ("Containers", report.containers),
        ("Local Volumes", report.volumes),
    ];
    let rows = rows.into_iter().map(|(kind, usage)| table::Row {
        fields: usage_row(kind, &usage),
        methods: Map::new(),
    });
    let title = |field: &str| match field {
        "TotalCount" => "TOTAL".to_owned(),
        other => other.to_uppercase(),
    };
    Ok(print(table::list(&template, &title, rows)?.as_bytes()))
}

fn usage_row(kind: &str, usage: &Usage) -> Value {
    // As docker has it: nothing has no percent of it.
    let percent = (usage.reclaimable * 100).checked_div(usage.size);
    let percent = percent.map_or(String::new(), |percent| format!(" ({percent}%)"));
    let reclaimable = human_size(usage.reclaimable) + &percent;
    json!({
        "Type": kind,
        "TotalCount": usage.total.to_string(),
        "Active": usage.active.to_string(),
        "Size": human_size(usage.size),
        "Reclaimable": reclaimable,
    })
}

/// `rl system df --verbose`, in docker's columns.
fn verbose(context: &Context<'_>, details: &Details, format: Option<&str>) -> Result<u8, Error> {
    let store = Store::open(&context.dirs.data)?;
    let images = images::rows(&store, None, &[])?.into_iter().map(|row| {
        let mut fields = row.fields(false);
        let usage = details.images.get(&row.id).copied().unwrap_or_default();
        fields["Size"] = human_size(usage.size).into();
        fields["SharedSize"] = human_size(usage.shared).into();
        fields["UniqueSize"] = human_size(usage.size - usage.shared).into();
        fields["Containers"] = usage.containers.to_string().into();
        fields
    });
    let containers = details.containers.iter().map(|(container, size)| {
        let (mut fields, _) = containers::row(container, false);
        fields.insert("Size".to_owned(), human_size(*size).into());
        fields.into()
    });
    let volumes = details.volumes.iter().map(|(volume, users, size)| {
        json!({ "Name": volume.name, "Links": users.to_string(), "Size": human_size(*size) })
    });
    let all = [
        (
            "Images",
            "table {{.Repository}}\t{{.Tag}}\t{{.ID}}\t{{.CreatedSince}}\t{{.Size}}\t{{.SharedSize}}\t{{.UniqueSize}}\t{{.Containers}}",
            images.collect::<Vec<Value>>(),
        ),
        (
            "Containers",
            "table {{.ID}}\t{{.Image}}\t{{.Command}}\t{{.LocalVolumes}}\t{{.Size}}\t{{.RunningFor}}\t{{.Status}}\t{{.Names}}",
            containers.collect(),
        ),
        (
            "Volumes",
            "table {{.Name}}\t{{.Links}}\t{{.Size}}",
            volumes.collect(),
        ),
    ];
    if let Some(format) = format.filter(|&format| format != "table") {
        let template = table::template(Some(format), format)?;
        let lists = all.map(|(kind, _, rows)| (kind.to_owned(), Value::Array(rows)));
        let value = Value::Object(lists.into_iter().collect());
        let text = template.fill(&value, &Map::new())?;
        return Ok(print(format!("{text}\n").as_bytes()));
    }
    let mut parts = Vec::new();
    for (kind, columns, rows) in all {
        let title = |field: &str| match (kind, field) {
            ("Images", "ID") => "IMAGE ID".to_owned(),
            (_, "ID") => "CONTAINER ID".to_owned(),
            (_, "CreatedSince" | "RunningFor") => "CREATED".to_owned(),
            (_, "SharedSize") => "SHARED SIZE".to_owned(),
            (_, "UniqueSize") => "UNIQUE SIZE".to_owned(),
            (_, "LocalVolumes") => "LOCAL VOLUMES".to_owned(),
            (_, "Name") => "VOLUME NAME".to_owned(),
            (_, other) => other.to_uppercase(),
        };
        let rows = rows.into_iter().map(|fields| table::Row {
            fields,
            methods: Map::new(),
        });
        let local = if kind == "Volumes" { "Local " } else { "" };
        let text = table::list(&table::template(None, columns)?, &title, rows)?;
        parts.push(format!("{local}{kind} space usage:\n\n{text}"));
    }
    Ok(print(parts.join("\n").as_bytes()))
}

/// The `prune` verbs.
///
/// # Errors
/// As those of [`usage`].
pub fn prune(context: &Context<'_>, prune: &Prune) -> Result<u8, Error> {
    let (force, question) = match prune {
        Prune::Containers(args) => (args.force, "Remove all containers that do not run?"),
        Prune::Images(args) if args.all => {
            (args.force, "Remove all images that no container uses?")
        }
        Prune::Images(args) => (args.force, "Remove all images without a name?"),
        Prune::System(args) => (
            args.force,
            match (args.all, args.volumes) {
                (false, false) => {
                    "Remove containers that do not run, networks that none is on, and images without a \
                     name?"
                }
                (true, false) => {
                    "Remove containers that do not run, networks that none is on, and images that none \
                     uses?"
                }
                (false, true) => {
                    "Remove containers that do not run, networks that none is on, images without a \
                     name and volumes that nobody named?"
                }
                (true, true) => {
                    "Remove containers that do not run, networks that none is on, images that none \
                     uses and volumes that nobody named?"
                }
            },
        ),
    };
    let only = Only::parse(match prune {
        Prune::Containers(args) => &args.filter,
        Prune::Images(args) => &args.filter,
        Prune::System(args) => &args.filter,
    })?;
    if !force && !context.ui.ask(question) {
        return Ok(0);
    }
    let mut bytes = 0;
    let mut show = |title: &str, pruned: Pruned| {
        bytes += pruned.bytes;
        deleted(context, title, pruned.removed);
    };
    match prune {
        Prune::Containers(_) => show("Containers", usage::prune_containers(context, &only)?),
        Prune::Images(args) => show("Images", usage::prune_images(context, args.all, &only)?),
        Prune::System(args) => {
            show("Containers", usage::prune_containers(context, &only)?);
            let removed = networks::prune(context, &only)?;
            show("Networks", Pruned { removed, bytes: 0 });
            if args.volumes {
                show("Volumes", usage::prune_volumes(context, false, &only)?);
            }
            show("Images", usage::prune_images(context, args.all, &only)?);
        }
    }
    reclaimed(context, bytes);
    Ok(0)
}

/// What was thinned out, below a title; nothing where there was nothing.
pub fn deleted(context: &Context<'_>, title: &str, removed: Vec<String>) {
    if removed.is_empty() {
        return;
    }
    context.ui.data(&format!("Deleted {title}:"));
    for word in removed {
        context.ui.data(&word);
    }
    context.ui.data("");
}

/// The last line of what thins out.
pub fn reclaimed(context: &Context<'_>, bytes: u64) {
    context
        .ui
        .data(&format!("Total reclaimed space: {}", human_size(bytes)));
}

/// `rl system reset`.
///
/// # Errors
/// As [`usage::reset`].
pub fn reset(context: &Context<'_>, args: &ResetArgs) -> Result<u8, Error> {
    let question = format!(
        "End and remove all containers, images, volumes and networks in `{}`?",
        context.dirs.data.display()
    );
    if args.force || context.ui.ask(&question) {
        usage::reset(context)?;
    }
    Ok(0)
}

/// `rl info`.
///
/// # Errors
/// The containers or the store cannot be read, a bad template.
pub fn info(context: &Context<'_>, args: &InfoArgs) -> Result<u8, Error> {
    let all = containers::list(context, true)?;
    let count = |status: &[Status]| {
        let fits = all.iter().filter(|c| status.contains(&c.state.status));
        fits.count()
    };
    let kernel = rustix::system::uname();
    let text = |text: &std::ffi::CStr| text.to_string_lossy().into_owned();
    let processors = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let uid = rustix::process::geteuid().as_raw();
    let env = |name: &str| std::env::var_os(name);
    let group = cgroup::choose(&Resources::default(), "", "", uid, &env);
    let group = group.ok().flatten();
    let value = json!({
        "CgroupDriver": group.map_or("none", |plan| plan.driver()),
        "Version": env!("CARGO_PKG_VERSION"),
        "KernelVersion": text(kernel.release()),
        "Architecture": text(kernel.machine()),
        "NCPU": processors,
        "Rootless": !rustix::process::geteuid().is_root(),
        "DataRoot": context.dirs.data.to_string_lossy(),
        "Containers": all.len(),
        "ContainersRunning": count(&[Status::Running, Status::Restarting]),
        "ContainersPaused": count(&[Status::Paused]),
        "ContainersStopped": count(&[Status::Created, Status::Exited]),
        "Images": Store::open(&context.dirs.data)?.images()?.len(),
        "Volumes": volumes::list(context).len(),
    });
    let out = match args.format.as_deref() {
        Some(format) => {
            let template = table::template(Some(format), format)?;
            format!("{}\n", template.fill(&value, &Map::new())?)
        }
        None => {
            let text = serde_json::to_string_pretty(&value).unwrap_or_default();
            format!("{}\n", escape_json(&text))
        }
    };
    Ok(print(out.as_bytes()))
}

/// `rl version`: there is a client alone.
///
/// # Errors
/// A template that cannot be read.
pub fn version(args: &VersionArgs) -> Result<u8, Error> {
    let Platform {
        os,
        architecture: arch,
        ..
    } = Platform::host();
    let number = env!("CARGO_PKG_VERSION");
    let both = format!("{os}/{arch}");
    let out = match args.format.as_deref() {
        Some(format) => {
            let client = json!({ "Version": number, "Os": os, "Arch": arch, "OsArch": both });
            let template = table::template(Some(format), format)?;
            format!(
                "{}\n",
                template.fill(&json!({ "Client": client }), &Map::new())?
            )
        }
        None => format!("Client:\n Version:  {number}\n OS/Arch:  {both}\n"),
    };
    Ok(print(out.as_bytes()))
}
