//! `rl events`: what happened, and what happens.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead as _, BufReader};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::inotify;
use serde_json::Value;

use super::only::Label;
use super::{Context, Error, output};
use crate::model::Reference;
use crate::model::text::escape;
use crate::model::time::to_rfc3339;
use crate::state::events;

/// How long to wait at most before looking again: for what the kernel does not tell of.
const LOOK: Duration = Duration::from_secs(1);

/// What is to be shown.
#[derive(Clone, Debug, Default)]
pub struct Events {
    /// From this second on; from now on where `None`.
    pub since: Option<i64>,
    /// To this second; without end where `None`.
    pub until: Option<i64>,
    /// By key, such as `container`, `event`, `type`, `label` or `image`: of each key one value has to fit.
    pub filters: BTreeMap<String, Vec<String>>,
}

/// Reads the log, through its turning over: the old file is read to its end, then the new one. A writer may have
/// opened the old one before, and write to it later: so that stays open, and is looked at until the next turn.
struct Log {
    data: PathBuf,
    now: Option<Lines>,
    before: Option<Lines>,
}

/// The whole lines of a file that grows.
struct Lines {
    file: BufReader<File>,
    inode: u64,
    part: String,
}

impl Lines {
    fn open(path: &Path) -> Option<Lines> {
        let file = File::open(path).ok()?;
        let inode = file.metadata().ok()?.ino();
        Some(Lines {
            file: BufReader::new(file),
            inode,
            part: String::new(),
        })
    }

    fn next(&mut self) -> Option<String> {
        loop {
            match self.file.read_line(&mut self.part) {
                Ok(1..) if self.part.ends_with('\n') => {
                    return Some(std::mem::take(&mut self.part));
                }
                Ok(1..) => {}
                // What a power cut has left of a line.
                Err(e) if e.kind() == std::io::ErrorKind::InvalidData => self.part.clear(),
                Ok(0) | Err(_) => return None,
            }
        }
    }
}

impl Log {
    /// The log that is written to, and with `old` the one before it first.
    fn open(data: &Path, old: bool) -> Log {
        // In this order, what turns over in between is found twice, not missed.
        let now = Lines::open(&events::log(data));
        let before = Lines::open(&events::old_log(data)).filter(|_| old);
        let turned = now.as_ref().map(|lines| lines.inode);
        Log {
            data: data.to_owned(),
            before: before.filter(|lines| Some(lines.inode) != turned),
            now,
        }
    }

    /// The next whole line.
    fn line(&mut self) -> Option<String> {
        loop {
            for lines in [&mut self.before, &mut self.now].into_iter().flatten() {
                if let Some(line) = lines.next() {
                    return Some(line);
                }
            }
            let inode = self.now.as_ref().map(|lines| lines.inode);
            let differs = |lines: &Lines| Some(lines.inode) != inode;
            let newest = Lines::open(&events::log(&self.data)).filter(differs)?;
            // Where it has turned over twice since, there is one in between.
            let between = Lines::open(&events::old_log(&self.data));
            let next = match between.filter(|lines| inode.is_some() && differs(lines)) {
                Some(between) if between.inode != newest.inode => between,
                _ => newest,
            };
            self.before = self.now.replace(next);
        }
    }
}

/// Calls `show` with each event, in Docker's form, oldest first, until that returns false or the time is over.
///
/// # Errors
/// The directory of the log cannot be made.
pub fn events(
    context: &Context<'_>,
    options: &Events,
    mut show: impl FnMut(&Value) -> Result<bool, Error>,
) -> Result<(), Error> {
    let data = &context.dirs.data;
    let directory = events::directory(data);
    events::make_directory(data).map_err(|source| Error::Write {
        path: directory.clone(),
        source,
    })?;
    let watch = watch(&directory);
    let since = options.since.unwrap_or_else(crate::model::time::now);
    let mut log = Log::open(data, options.since.is_some());
    if options.since.is_none() {
        // What is there happened before.
        while log.line().is_some() {}
    }
    loop {
        while let Some(line) = log.line() {
            if let Some(event) = wanted(&line, since, options)
                && !show(&event)?
            {
                return Ok(());
            }
        }
        let now = crate::model::time::now();
        if options.until.is_some_and(|until| now > until) {
            return Ok(());
        }
        if !output::wait(watch.as_ref(), LOOK) {
            return Ok(());
        }
    }
}

fn watch(directory: &Path) -> Option<std::os::fd::OwnedFd> {
    let flags = inotify::CreateFlags::CLOEXEC | inotify::CreateFlags::NONBLOCK;
    let fd = inotify::init(flags).ok()?;
    let events = inotify::WatchFlags::MODIFY | inotify::WatchFlags::CREATE;
    inotify::add_watch(&fd, directory, events).ok()?;
    Some(fd)
}

fn wanted(line: &str, since: i64, options: &Events) -> Option<Value> {
    let event: Value = serde_json::from_str(line).ok()?;
    let at = event["time"].as_i64()?;
    let in_time = at >= since && options.until.is_none_or(|until| at <= until);
    (in_time && passes(&event, &options.filters)).then_some(event)
}

fn passes(event: &Value, filters: &BTreeMap<String, Vec<String>>) -> bool {
    let attributes = &event["Actor"]["Attributes"];
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let (kind, id) = (text(&event["Type"]), text(&event["Actor"]["ID"]));
    filters.iter().all(|(key, values)| {
        values.iter().any(|value| match &**key {
            "type" => kind == *value,
            "event" => text(&event["Action"]).split(':').next() == Some(value),
            "label" => Label::parse(value).fits(|name| attributes.get(name)?.as_str()),
            "image" => {
                let named = match &*kind {
                    "container" => text(&attributes["image"]),
                    "image" if id.starts_with(&**value) => return true,
                    "image" => text(&attributes["name"]),
                    _ => return false,
                };
                // As docker has it, without its tag too.
                let reference = named.parse::<Reference>();
                named == *value || reference.is_ok_and(|r| r.familiar_name() == *value)
            }
            "scope" => value == "local",
            key if key == kind => id.starts_with(&**value) || text(&attributes["name"]) == *value,
            _ => false,
        })
    })
}

/// The keys that there are.
pub const FILTERS: [&str; 14] = [
    "container",
    "event",
    "image",
    "label",
    "network",
    "type",
    "volume",
    "scope",
    // Those of docker's that nothing happens to here.
    "config",
    "daemon",
    "node",
    "plugin",
    "secret",
    "service",
];

/// An event as Docker prints it with a format: with its older names for some of it (docker system events, `--format`).
pub fn fields(event: &Value) -> Value {
    let mut out = event.clone();
    for (name, value) in [
        ("status", &event["Action"]),
        ("id", &event["Actor"]["ID"]),
        ("from", &event["Actor"]["Attributes"]["image"]),
    ] {
        if !value.is_null() {
            out[name] = value.clone();
        }
    }
    out
}

/// The same for templates, where every name begins with a capital.
pub fn template_fields(event: &Value) -> Value {
    let mut out = fields(event);
    for (name, template) in [
        ("status", "Status"),
        ("id", "ID"),
        ("from", "From"),
        ("scope", "Scope"),
        ("time", "Time"),
        ("timeNano", "TimeNano"),
    ] {
        let value = out[name].take();
        out[template] = match value {
            Value::Null => Value::from(""),
            value => value,
        };
    }
    out
}

/// An event on a line, as Docker prints it.
pub fn line(event: &Value) -> String {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let nanoseconds = event["timeNano"].as_u64().unwrap_or(0);
    let seconds = i64::try_from(nanoseconds / 1_000_000_000).unwrap_or(0);
    let time = to_rfc3339(seconds);
    let attributes = event["Actor"]["Attributes"].as_object();
    let attributes: Vec<String> = attributes
        .into_iter()
        .flatten()
        .map(|(key, value)| format!("{key}={}", text(value)))
        .collect();
    escape(&format!(
        "{}.{:09}Z {} {} {} ({})",
        time.trim_end_matches('Z'),
        nanoseconds % 1_000_000_000,
        text(&event["Type"]),
        text(&event["Action"]),
        text(&event["Actor"]["ID"]),
        attributes.join(", ")
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn images_by_their_names() {
        let event = |kind: &str, attributes: Value| {
            serde_json::json!({
                "Type": kind, "Action": "x", "Actor": { "ID": "sha256:12ab", "Attributes": attributes },
            })
        };
        let fits = |event: &Value, value: &str| {
            let filters = [("image".to_owned(), vec![value.to_owned()])];
            passes(event, &filters.into_iter().collect())
        };
        let container = event("container", serde_json::json!({ "image": "app:1" }));
        let image = event("image", serde_json::json!({ "name": "app:1" }));
        for event in [&container, &image] {
            assert!(fits(event, "app:1") && fits(event, "app"));
            assert!(!fits(event, "ap") && !fits(event, "app:2"));
        }
        assert!(fits(&image, "sha256:12") && !fits(&container, "sha256:12"));
        let volume = event("volume", serde_json::json!({ "name": "app" }));
        assert!(!fits(&volume, "app"));
    }
}
