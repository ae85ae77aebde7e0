//! A line of `rl ps`: the fields of `--format`, named as Docker names them.

use serde_json::{Map, Value, json};

use crate::model::spec::MountSource;
use crate::model::time::{ago, now, to_rfc3339};
use crate::state::{Container, Status, Verdict};

/// What is shown of a container.
pub struct Row {
    /// The fields.
    pub fields: Value,
    /// `.Label "key"`.
    pub methods: Map<String, Value>,
}

/// The row of a container; `whole` ids and commands are not cut short.
pub fn row(container: &Container, whole: bool) -> Row {
    let spec = &container.spec;
    let mut command = spec.args.join(" ");
    if !whole && command.chars().count() > 20 {
        command = command.chars().take(19).chain(['…']).collect();
    }
    let image = match &*spec.image {
        "" => "(directory)",
        name => name,
    };
    let labels = spec
        .labels
        .iter()
        .map(|(key, value)| format!("{key}={value}"));
    let volumes = || {
        spec.mounts.iter().filter_map(|mount| match &mount.source {
            MountSource::Volume { name, .. } => Some(name.clone()),
            _ => None,
        })
    };
    let mounts = spec.mounts.iter().filter_map(|mount| match &mount.source {
        MountSource::Volume { name, .. } => Some(name.clone()),
        MountSource::Bind { path, .. } | MountSource::Overlay { path } => {
            Some(path.to_string_lossy().into_owned())
        }
        MountSource::Tmpfs { .. } => None,
    });
    let created = seconds(spec.created);
    let fields = json!({
        "ID": if whole { &*spec.id } else { &spec.id[..12] },
        "Image": image,
        "Command": format!("\"{command}\""),
        "CreatedAt": to_rfc3339(created),
        "RunningFor": ago(created, now()),
        "Ports": spec.network.publish.join(", "),
        "State": state(container),
        "Status": status(container),
        "Names": spec.name,
        "Labels": labels.collect::<Vec<_>>().join(","),
        "Mounts": mounts.collect::<Vec<_>>().join(","),
        "LocalVolumes": volumes().count().to_string(),
        "Networks": super::filter::network(&spec.network),
    });
    let mut methods = Map::new();
    methods.insert("Label".to_owned(), json!(spec.labels));
    Row { fields, methods }
}

/// The word for `.State` and `--filter status=`.
pub(super) fn state(container: &Container) -> &'static str {
    match container.state.status {
        Status::Created => "created",
        Status::Running => "running",
        Status::Paused => "paused",
        Status::Restarting => "restarting",
        Status::Exited => "exited",
    }
}

fn status(container: &Container) -> String {
    let state = &container.state;
    let up = || {
        let since = ago(seconds(state.started.unwrap_or_default()), now());
        format!("Up {}", since.trim_end_matches(" ago"))
    };
    let code = state.ended.map_or(0, |ended| ended.status());
    match state.status {
        Status::Created => "Created".to_owned(),
        Status::Running => match &state.health {
            Some(health) => match health.verdict {
                // As docker has it.
                Verdict::Starting => format!("{} (health: starting)", up()),
                verdict => format!("{} ({})", up(), verdict.word()),
            },
            None => up(),
        },
        Status::Paused => format!("{} (Paused)", up()),
        Status::Restarting => format!("Restarting ({code})"),
        Status::Exited => match state.finished {
            Some(at) => format!("Exited ({code}) {}", ago(seconds(at), now())),
            None => format!("Exited ({code})"),
        },
    }
}

fn seconds(since: u64) -> i64 {
    i64::try_from(since).unwrap_or(i64::MAX)
}
