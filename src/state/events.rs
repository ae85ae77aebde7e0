//! What happened, for `rl events`: one line of JSON each, in Docker's form, at the end of `events/log`.
//!
//! Nobody waits for it and nothing depends on it: each process that does something appends what it did, in one
//! write(2) to a file opened with `O_APPEND`, so lines of several writers do not mix. A log that has grown to
//! [`LIMIT`] bytes becomes `events/log.1`, and the one before that is gone.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use rustix::fs::FlockOperation;
use serde_json::json;

use super::files::private;
use crate::model::spec::ContainerSpec;

/// Bytes of a log, about.
const LIMIT: u64 = 1 << 20;

/// What something happened to.
#[derive(Clone, Debug, Default)]
pub struct Subject {
    /// `container`, `image` or `volume`.
    pub kind: &'static str,
    /// Its id or name.
    pub id: String,
    /// What else is told of it.
    pub attributes: BTreeMap<String, String>,
}

impl Subject {
    /// A container, with its labels.
    pub fn container(spec: &ContainerSpec) -> Subject {
        let mut attributes = spec.labels.clone();
        attributes.insert("image".into(), spec.image.clone());
        attributes.insert("name".into(), spec.name.clone());
        Subject {
            kind: "container",
            id: spec.id.clone(),
            attributes,
        }
    }

    /// An image or a volume.
    pub fn named(kind: &'static str, id: &str, name: &str) -> Subject {
        Subject {
            kind,
            id: id.to_owned(),
            attributes: BTreeMap::from([("name".to_owned(), name.to_owned())]),
        }
    }
}

/// The directory of the logs, below the directory `data` of everything.
pub fn directory(data: &Path) -> PathBuf {
    data.join("events")
}

/// Makes it, closed to other users: a command that `rl exec` ran may hold a password.
///
/// # Errors
/// Those of mkdir(2).
pub fn make_directory(data: &Path) -> std::io::Result<()> {
    private(&directory(data))
}

/// The log that is written to.
pub fn log(data: &Path) -> PathBuf {
    directory(data).join("log")
}

/// The one before it.
pub fn old_log(data: &Path) -> PathBuf {
    directory(data).join("log.1")
}

/// Notes that `action` was done to `subject`. What cannot be noted is not: no verb fails of it.
pub fn record(data: &Path, subject: &Subject, action: &str, more: &[(&str, String)]) {
    let mut attributes = subject.attributes.clone();
    let more = more
        .iter()
        .map(|(key, value)| ((*key).to_owned(), value.clone()));
    attributes.extend(more);
    let since = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap_or_default();
    let event = json!({
        "Type": subject.kind,
        "Action": action,
        "Actor": {"ID": subject.id, "Attributes": attributes},
        "scope": "local",
        "time": since.as_secs(),
        "timeNano": u64::try_from(since.as_nanos()).unwrap_or(u64::MAX),
    });
    let _ = append(data, format!("{event}\n").as_bytes());
}

fn append(data: &Path, line: &[u8]) -> std::io::Result<()> {
    let path = log(data);
    let open = || File::options().append(true).create(true).open(&path);
    let mut file = match open() {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
            make_directory(data)?;
            open()?
        }
        other => other?,
    };
    file.write_all(line)?;
    if file.metadata()?.len() > LIMIT
        // One of several writers does it; the others go on.
        && rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive).is_ok()
        && std::fs::metadata(&path).is_ok_and(|now| now.len() > LIMIT)
    {
        std::fs::rename(&path, old_log(data))?;
    }
    Ok(())
}
