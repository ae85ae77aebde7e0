//! `rl events`.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::{print, table};
use crate::engine::events::{self, Events, FILTERS};
use crate::engine::{Context, Error, logs, units};
use crate::model::time::{now, parse_rfc3339};

/// Show what happens: containers made, started, ended, removed, images and volumes
#[derive(Debug, clap::Args)]
pub struct EventsArgs {
    /// Show what happened after this time (2026-01-31, 2026-01-31T10:00:00Z, seconds since 1970, or 10m ago)
    #[arg(long, value_name = "TIME")]
    since: Option<String>,
    /// Stop at this time
    #[arg(long, value_name = "TIME")]
    until: Option<String>,
    /// Show only what fits: container=, image=, volume=, type=, event=, label=
    #[arg(short, long, value_name = "FILTER")]
    filter: Vec<String>,
    /// Go on with what comes; `--stream=false`: tell what has happened, from the first that is known where nothing else is
    /// said, and end
    #[arg(long, value_name = "BOOL", default_value_t = true, action = clap::ArgAction::Set, num_args = 0..=1, default_missing_value = "true", require_equals = true)]
    stream: bool,
    /// Show ids in full (they are; for podman's sake)
    #[arg(long)]
    no_trunc: bool,
    /// Print with a template such as `{{.Action}}`, or `json`
    #[arg(long)]
    format: Option<String>,
}

/// Prints events as they come.
///
/// # Errors
/// A bad time, filter or template.
pub fn events(context: &Context<'_>, args: &EventsArgs) -> Result<u8, Error> {
    let time = |option, text: &Option<String>| -> Result<Option<i64>, Error> {
        let text = text.as_deref().map(|text| logs::time(option, text));
        Ok(text
            .transpose()?
            .and_then(|t| parse_rfc3339(&format!("{t}Z"))))
    };
    let mut filters: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for filter in &args.filter {
        let (key, value) = units::pair("--filter", filter)?;
        if !FILTERS.contains(&&*key) {
            return Err(Error::EventFilter(filter.clone()));
        }
        filters.entry(key).or_default().push(value);
    }
    let mut options = Events {
        since: time("--since", &args.since)?,
        until: time("--until", &args.until)?,
        filters,
    };
    if !args.stream {
        options.since = options.since.or(Some(0));
        options.until = options.until.or(Some(now()));
    }
    let template = match args.format.as_deref() {
        None | Some("json") => None,
        Some(format) => Some(table::template(Some(format), format)?),
    };
    events::events(context, &options, |event: &Value| {
        let line = match &template {
            Some(template) => template.fill(&events::template_fields(event), &Map::new())?,
            None if args.format.is_some() => events::fields(event).to_string(),
            None => events::line(event),
        };
        Ok(print(format!("{line}\n").as_bytes()) == 0)
    })?;
    Ok(0)
}
