//! `rl network`.

use std::collections::BTreeMap;

use serde_json::{Map, json};

use super::lifecycle::report;
use super::system::deleted;
use super::{print, table, which};
use crate::engine::networks::{self, Filter, New};
use crate::engine::only::Only;
use crate::engine::{Context, Error, units};
use crate::model::network::NetworkSpec;

/// Make, list, look at and remove networks of containers
#[derive(Debug, clap::Args)]
pub struct NetworkArgs {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, clap::Subcommand)]
enum Verb {
    /// Make a network, whose containers reach each other by name
    Create {
        /// Its addresses; a free subnet of 10.89.0.0/16 where none is given
        #[arg(long, value_name = "ADDRESS/BITS")]
        subnet: Option<String>,
        /// The address that stands for the way out; the first where none is given
        #[arg(long, value_name = "ADDRESS")]
        gateway: Option<String>,
        /// Without a way out
        #[arg(long)]
        internal: bool,
        /// Label
        #[arg(short, long, value_name = "NAME=VALUE")]
        label: Vec<String>,
        /// Kind of network: there is `bridge` alone
        #[arg(short, long, value_name = "NAME")]
        driver: Option<String>,
        /// Leave one that has the name as it is
        #[arg(long)]
        ignore: bool,
        /// Its name
        name: String,
    },
    /// List networks
    #[command(visible_alias = "list")]
    Ls {
        /// Show only names
        #[arg(short, long)]
        quiet: bool,
        /// Only some: name=REGEX, id=PREFIX, label=NAME[=VALUE], driver=NAME, dangling=BOOL
        #[arg(short, long, value_name = "KEY=VALUE")]
        filter: Vec<String>,
        /// Show ids in full
        #[arg(long)]
        no_trunc: bool,
        /// Print with a template such as `{{.Name}}`, or `json`
        #[arg(long)]
        format: Option<String>,
    },
    /// Show all that is known of networks, and which containers are on them
    Inspect {
        /// Print with a template such as `{{.Driver}}`, or `json`
        #[arg(short, long)]
        format: Option<String>,
        /// Names
        #[arg(required = true, value_name = "NETWORK")]
        networks: Vec<String>,
    },
    Exists(which::ExistsArgs),
    /// Remove networks that no container is on
    #[command(visible_alias = "remove")]
    Rm {
        /// One that is not there is no error
        #[arg(short, long)]
        force: bool,
        /// Names
        #[arg(required = true, value_name = "NETWORK")]
        networks: Vec<String>,
    },
    /// Remove all networks that no container is on
    Prune {
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
/// No such network, containers are on it, or a bad template.
pub fn network(context: &Context<'_>, args: &NetworkArgs) -> Result<u8, Error> {
    match &args.verb {
        Verb::Exists(args) => which::exists(context, which::Kind::Network, args),
        Verb::Create {
            subnet,
            gateway,
            internal,
            label,
            driver,
            ignore,
            name,
        } => {
            let pairs = label.iter().map(|label| units::pair("--label", label));
            let new = New {
                name: name.clone(),
                driver: driver.clone(),
                subnet: subnet.clone(),
                gateway: gateway.clone(),
                internal: *internal,
                labels: pairs.collect::<Result<BTreeMap<_, _>, _>>()?,
                ignore: *ignore,
            };
            context.ui.data(&networks::create(context, &new)?);
            Ok(0)
        }
        Verb::Ls {
            quiet,
            filter,
            no_trunc,
            format,
        } => {
            let filters = filter.iter().map(|text| text.parse::<Filter>());
            let filters = filters.collect::<Result<Vec<_>, _>>()?;
            let usual = match quiet {
                true => "{{.Name}}",
                false => "table {{.ID}}\\t{{.Name}}\\t{{.Driver}}\\t{{.Scope}}",
            };
            let template = table::template(format.as_deref(), usual)?;
            let all = networks::list(context, &filters)?;
            let rows = all.iter().map(|network| row(network, *no_trunc));
            let title = |field: &str| match field {
                "ID" => "NETWORK ID".to_owned(),
                other => other.to_uppercase(),
            };
            Ok(print(table::list(&template, &title, rows)?.as_bytes()))
        }
        Verb::Inspect { format, networks } => {
            let found = networks.iter().map(|name| networks::inspect(context, name));
            table::inspect(context, format.as_deref(), found)
        }
        Verb::Rm { force, networks } => {
            let remove = |name: &String| match networks::remove(context, name) {
                Err(Error::State(crate::state::Error::NoNetwork(_))) if *force => Ok(name.clone()),
                other => other.map(|()| name.clone()),
            };
            Ok(report(context, networks.iter().map(remove).collect()))
        }
        Verb::Prune { filter, force } => {
            let only = Only::parse(filter)?;
            if *force
                || context
                    .ui
                    .ask("Remove all networks that no container is on?")
            {
                deleted(context, "Networks", networks::prune(context, &only)?);
            }
            Ok(0)
        }
    }
}

fn row(network: &NetworkSpec, whole: bool) -> table::Row {
    let mut fields = networks::fields(network);
    let id = match whole {
        true => &network.id,
        false => network.id.get(..12).unwrap_or(&network.id),
    };
    fields["ID"] = json!(id);
    let mut methods = Map::new();
    methods.insert("Label".to_owned(), json!(network.labels));
    table::Row { fields, methods }
}
