//! `rl stats`.

use std::collections::BTreeMap;
use std::io::IsTerminal as _;
use std::time::Duration;

use serde_json::{Map, json};

use super::{print, table};
use crate::cgroup::Pressure;
use crate::engine::images::human_size;
use crate::engine::stats::{self, Figures, Sample};
use crate::engine::{Context, Error};

/// Show what running containers use
#[derive(Debug, clap::Args)]
pub struct StatsArgs {
    /// Show containers that do not run as well
    #[arg(short, long)]
    all: bool,
    /// Show it once
    #[arg(long)]
    no_stream: bool,
    /// Do not clear the screen
    #[arg(long)]
    no_reset: bool,
    /// Seconds between two tables
    #[arg(short, long, value_name = "SECONDS", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    interval: u32,
    /// Show ids in full
    #[arg(long)]
    no_trunc: bool,
    /// Print with a template such as `{{.Name}} {{.CPUPerc}}`, or `json`
    #[arg(long)]
    format: Option<String>,
    /// Names or ids; all that run without them
    #[arg(value_name = "CONTAINER")]
    containers: Vec<String>,
}

/// How long what is shown first is looked at.
const GLANCE: Duration = Duration::from_millis(500);

/// Prints the table, again and again until interrupted, or once.
///
/// # Errors
/// No such container, or a bad template.
pub fn stats(context: &Context<'_>, args: &StatsArgs) -> Result<u8, Error> {
    let usual = "table {{.ID}}\t{{.Name}}\t{{.CPUPerc}}\t{{.MemUsage}}\t{{.MemPerc}}\t{{.NetIO}}\t\
                 {{.BlockIO}}\t{{.PIDs}}\t{{.Pressure}}";
    let template = table::template(args.format.as_deref(), usual)?;
    let mut before: BTreeMap<String, Sample> = BTreeMap::new();
    // The first look tells nothing of the present; a short while later the second one does.
    let mut failed = 0;
    let mut words = Vec::new();
    for (n, container) in stats::chosen(context, &args.containers, args.all)?
        .into_iter()
        .enumerate()
    {
        let container = match container {
            Ok(container) => container,
            // Named once; the others are shown.
            Err(error) if args.containers.len() > 1 => {
                failed = context.ui.fail(&error).min(1);
                continue;
            }
            Err(error) => return Err(error),
        };
        words.extend(args.containers.get(n).cloned());
        if let Some(sample) = stats::sample(&container) {
            before.insert(container.spec.id, sample);
        }
    }
    if words.is_empty() && !args.containers.is_empty() {
        return Ok(failed);
    }
    std::thread::sleep(GLANCE);
    let clear = std::io::stdout().is_terminal() && !args.no_stream && !args.no_reset;
    loop {
        let mut rows = Vec::new();
        let mut now = BTreeMap::new();
        let named = !args.containers.is_empty() || args.all;
        for container in stats::chosen(context, &words, args.all)? {
            let container = container?;
            match stats::sample(&container) {
                Some(sample) => {
                    let old = before.get(&container.spec.id);
                    rows.push(row(
                        &stats::figures(&container, old, &sample),
                        args.no_trunc,
                    ));
                    now.insert(container.spec.id, sample);
                }
                None if named => rows.push(resting(&container.spec, args.no_trunc)),
                None => {}
            }
        }
        before = now;
        let text = table::list(&template, &title, rows)?;
        let text = match clear {
            true => format!("\x1b[H\x1b[J{text}"),
            false => text,
        };
        let status = print(text.as_bytes());
        if args.no_stream || status != 0 {
            return Ok(status.max(failed));
        }
        std::thread::sleep(Duration::from_secs(args.interval.into()));
    }
}

fn title(field: &str) -> String {
    match field {
        "ID" => "CONTAINER ID",
        "CPUPerc" => "CPU %",
        "MemUsage" => "MEM USAGE / LIMIT",
        "MemPerc" => "MEM %",
        "NetIO" => "NET I/O",
        "BlockIO" => "BLOCK I/O",
        "Name" => "NAME",
        "PIDs" => "PIDS",
        "Pressure" => "PRESSURE CPU / MEM / I/O",
        other => other,
    }
    .to_owned()
}

fn row(figures: &Figures, whole: bool) -> table::Row {
    let pair = |(a, b): (u64, u64)| format!("{} / {}", human_size(a), human_size(b));
    let percent = figures.memory as f64 / figures.limit.max(1) as f64 * 100.0;
    let id = if whole {
        &*figures.id
    } else {
        &figures.id[..12]
    };
    let mut fields = json!({
        "ID": id,
        "Container": figures.name,
        "Name": figures.name,
        "CPUPerc": format!("{:.2}%", figures.cpu),
        "MemUsage": format!("{} / {}", binary(figures.memory), binary(figures.limit)),
        "MemPerc": format!("{percent:.2}%"),
        "NetIO": pair(figures.net),
        "BlockIO": pair(figures.io),
        "PIDs": figures.pids.to_string(),
    });
    // A kernel may not count it, and nobody does without a group.
    fields["Pressure"] = match figures.pressure {
        Some(Pressure { cpu, memory, io }) => json!(format!("{cpu:.2}% / {memory:.2}% / {io:.2}%")),
        None => json!("--"),
    };
    table::Row {
        fields,
        methods: Map::new(),
    }
}

fn resting(spec: &crate::model::spec::ContainerSpec, whole: bool) -> table::Row {
    let id = if whole { &*spec.id } else { &spec.id[..12] };
    let mut fields = json!({"ID": id, "Container": spec.name, "Name": spec.name});
    for name in [
        "CPUPerc", "MemUsage", "MemPerc", "NetIO", "BlockIO", "PIDs", "Pressure",
    ] {
        fields[name] = json!("--");
    }
    table::Row {
        fields,
        methods: Map::new(),
    }
}

/// Memory in powers of 1,024, as Docker shows it.
fn binary(bytes: u64) -> String {
    let mut value = bytes as f64;
    let mut units = ["B", "KiB", "MiB", "GiB", "TiB"].into_iter();
    let mut unit = units.next().unwrap_or_default();
    for next in units {
        if value < 1024.0 {
            break;
        }
        value /= 1024.0;
        unit = next;
    }
    // Four digits, without zeros at the end.
    let digits = 3usize.saturating_sub((value.max(1.0).log10()) as usize);
    let text = format!("{value:.digits$}");
    let text = match text.contains('.') {
        true => text.trim_end_matches('0').trim_end_matches('.'),
        false => &text,
    };
    format!("{text}{unit}")
}

#[cfg(test)]
mod tests {
    use super::binary;

    #[test]
    fn memory_as_docker_shows_it() {
        for (bytes, text) in [
            (0, "0B"),
            (512, "512B"),
            (1536, "1.5KiB"),
            (2 << 20, "2MiB"),
            (1_288_490_189, "1.2GiB"),
            (10_066_329_600, "9.375GiB"),
        ] {
            assert_eq!(binary(bytes), text);
        }
    }
}
