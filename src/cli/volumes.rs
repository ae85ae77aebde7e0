//! `rl volume`.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::lifecycle::report;
use super::system::{deleted, reclaimed};
use super::{print, table, which};
use crate::engine::only::Only;
use crate::engine::volumes::{self, Filter, Volume};
use crate::engine::{Context, Error, units, usage, volume_options};
use crate::model::time::to_rfc3339;

/// Make, list, look at and remove named volumes
#[derive(Debug, clap::Args)]
pub struct VolumeArgs {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, clap::Subcommand)]
enum Verb {
    /// Make a volume
    Create {
        /// Label
        #[arg(short, long, value_name = "NAME=VALUE")]
        label: Vec<String>,
        /// Kind of volume: there is `local` alone
        #[arg(short, long, value_name = "NAME", value_parser = ["local"], default_value = "local", hide_default_value = true)]
        driver: String,
        /// What it is, where it is no directory of rl's: `type=tmpfs` with `o=size=…,mode=…,uid=…` (memory, of each container
        /// by itself), or `type=none` with `o=bind` and `device=/PATH` (that directory)
        #[arg(short, long, value_name = "NAME=VALUE")]
        opt: Vec<String>,
        /// Its name; one is made up where none is given
        name: Option<String>,
    },
    /// List volumes
    #[command(visible_alias = "list")]
    Ls {
        /// Show only names
        #[arg(short, long)]
        quiet: bool,
        /// Only some: name=REGEX, label=NAME[=VALUE], driver=NAME, dangling=BOOL
        #[arg(short, long, value_name = "FILTER")]
        filter: Vec<Filter>,
        /// Print with a template such as `{{.Name}}`, or `json`
        #[arg(long)]
        format: Option<String>,
    },
    /// Show all that is known of volumes
    Inspect {
        /// Print with a template such as `{{.Mountpoint}}`, or `json`
        #[arg(short, long)]
        format: Option<String>,
        /// Names
        #[arg(required = true, value_name = "VOLUME")]
        volumes: Vec<String>,
    },
    Exists(which::ExistsArgs),
    /// Remove volumes with what is in them
    #[command(visible_alias = "remove")]
    Rm {
        /// One that is not there is no error
        #[arg(short, long)]
        force: bool,
        /// Names
        #[arg(required = true, value_name = "VOLUME")]
        volumes: Vec<String>,
    },
    /// Remove the volumes that no container has and nobody named
    Prune {
        /// Remove those with a name as well
        #[arg(short, long)]
        all: bool,
        /// Only what fits: until=TIME, label=NAME[=VALUE], label!=NAME[=VALUE]
        #[arg(long, value_name = "FILTER")]
        filter: Vec<String>,
        /// Do not ask
        #[arg(short, long)]
        force: bool,
    },
}

/// Does what the words say.
///
/// # Errors
/// No such volume, a container has it, or a bad template.
pub fn volume(context: &Context<'_>, args: &VolumeArgs) -> Result<u8, Error> {
    match &args.verb {
        Verb::Exists(args) => which::exists(context, which::Kind::Volume, args),
        Verb::Create {
            label, name, opt, ..
        } => {
            let pairs = label.iter().map(|label| units::pair("--label", label));
            let labels: BTreeMap<_, _> = pairs.collect::<Result<_, _>>()?;
            let options = volume_options::parse(opt)?;
            let name = volumes::create(context, name.as_deref(), &labels, &options)?;
            context.ui.data(&name);
            Ok(0)
        }
        Verb::Ls {
            quiet,
            filter,
            format,
        } => {
            let usual = match quiet {
                true => "{{.Name}}",
                false => "table {{.Driver}}\\t{{.Name}}",
            };
            let template = table::template(format.as_deref(), usual)?;
            let rows = volumes::filtered(context, filter)?
                .into_iter()
                .map(|volume| {
                    let mut methods = Map::new();
                    methods.insert("Label".to_owned(), json!(volume.labels));
                    let mut fields = fields(&volume);
                    // A list has them as one word, as docker's has.
                    let labels = volume.labels.iter().map(|(k, v)| format!("{k}={v}"));
                    fields["Labels"] = labels.collect::<Vec<_>>().join(",").into();
                    table::Row { fields, methods }
                });
            let title = |field: &str| match field {
                "Name" => "VOLUME NAME".to_owned(),
                other => other.to_uppercase(),
            };
            Ok(print(table::list(&template, &title, rows)?.as_bytes()))
        }
        Verb::Inspect { format, volumes } => inspect(context, format.as_deref(), volumes),
        Verb::Rm { force, volumes } => {
            let remove = |name: &String| match volumes::remove(context, name) {
                Err(Error::NoVolume(_)) if *force => Ok(name.clone()),
                other => other.map(|()| name.clone()),
            };
            Ok(report(context, volumes.iter().map(remove).collect()))
        }
        Verb::Prune { all, filter, force } => {
            let only = Only::parse(filter)?;
            let question = match all {
                true => "Remove all volumes that no container has?",
                false => "Remove all volumes that no container has and nobody named?",
            };
            if *force || context.ui.ask(question) {
                let pruned = usage::prune_volumes(context, *all, &only)?;
                let bytes = pruned.bytes;
                deleted(context, "Volumes", pruned.removed);
                reclaimed(context, bytes);
            }
            Ok(0)
        }
    }
}

fn inspect(context: &Context<'_>, format: Option<&str>, names: &[String]) -> Result<u8, Error> {
    let find = |name: &String| volumes::find(context, name).map(|volume| fields(&volume));
    table::inspect(context, format, names.iter().map(find))
}

/// What `inspect` shows of a volume.
pub(super) fn fields(volume: &Volume) -> Value {
    let device = volume_options::device(&volume.options);
    let place = device.as_ref().unwrap_or(&volume.path);
    json!({
        "Name": volume.name,
        "Driver": "local",
        "Mountpoint": place.to_string_lossy(),
        "Options": volume.options,
        "CreatedAt": to_rfc3339(volume.created),
        "Labels": volume.labels,
        "Scope": "local",
    })
}
