//! A line of `rl ps`: the fields of `--format`, named as Docker names them.

use std::cell::OnceCell;
use std::net::IpAddr;

use serde_json::{Map, Value, json};

use crate::model::spec::{MountSource, VolumeMount};
use crate::model::time::{ago, now, to_rfc3339};
use crate::net::{Ports, Publish, anywhere};
use crate::state::{Listed, Status, Verdict};

/// What is shown of a container.
pub struct Row {
    /// The fields.
    pub fields: Value,
    /// `.Label "key"`.
    pub methods: Map<String, Value>,
}

/// The row of a container, with the fields that are `wanted`, or with all; `whole` ids and commands are not cut short.
pub fn row(container: &Listed, whole: bool, wanted: Option<&[&str]>) -> Row {
    let spec = &container.spec;
    let created = seconds(spec.created);
    let volumes = || {
        let named = |mount: &&VolumeMount| matches!(mount.source, MountSource::Volume { .. });
        spec.mounts.iter().filter(named).count()
    };
    let mut fields = Map::new();
    let mut put = |name: &str, value: &dyn Fn() -> String| {
        if wanted.is_none_or(|wanted| wanted.contains(&name)) {
            fields.insert(name.to_owned(), value().into());
        }
    };
    put("ID", &|| match whole {
        true => spec.id.clone(),
        false => spec.id[..12].to_owned(),
    });
    put("Image", &|| match &*spec.image {
        "" => "(directory)".to_owned(),
        name => name.to_owned(),
    });
    put("Command", &|| command(&spec.args, whole));
    put("CreatedAt", &|| to_rfc3339(created));
    put("RunningFor", &|| ago(created, now()));
    put("Ports", &|| {
        let everywhere = OnceCell::new();
        let everywhere = || &**everywhere.get_or_init(|| anywhere(spec.network.mode));
        let ports = spec.network.publish.iter();
        let ports = ports.map(|text| published(text, &everywhere));
        ports.collect::<Vec<_>>().join(", ")
    });
    put("State", &|| state(container.state.status).to_owned());
    put("Status", &|| status(container));
    put("Names", &|| spec.name.clone());
    put("Labels", &|| {
        let labels = spec.labels.iter();
        let labels = labels.map(|(key, value)| format!("{key}={value}"));
        labels.collect::<Vec<_>>().join(",")
    });
    put("Mounts", &|| {
        let mounts = spec.mounts.iter().filter_map(|mount| match &mount.source {
            MountSource::Volume { name, .. } => Some(name.clone()),
            MountSource::Bind { path, .. } | MountSource::Overlay { path } => {
                Some(path.to_string_lossy().into_owned())
            }
            MountSource::Tmpfs { .. } => None,
        });
        mounts.collect::<Vec<_>>().join(",")
    });
    put("LocalVolumes", &|| volumes().to_string());
    put("Networks", &|| {
        super::filter::network(spec.network.mode, &spec.network.request.mode).to_owned()
    });
    let mut methods = Map::new();
    if wanted.is_none() {
        methods.insert("Label".to_owned(), json!(spec.labels));
    }
    Row {
        fields: fields.into(),
        methods,
    }
}

/// `0.0.0.0:8080->80/tcp`, as docker has it.
fn published<'a>(text: &str, everywhere: &dyn Fn() -> &'a [IpAddr]) -> String {
    let Ok(publish) = text.parse::<Publish>() else {
        return text.to_owned();
    };
    let range = |ports: Ports| match ports.count {
        1 => ports.first.to_string(),
        count => format!("{}-{}", ports.first, ports.first + (count - 1)),
    };
    let inside = format!("{}/{}", range(publish.container), publish.proto);
    let Some(host) = publish.host else {
        return inside;
    };
    let on = |ip: &IpAddr| match ip {
        IpAddr::V4(ip) => format!("{ip}:{}->{inside}", range(host)),
        IpAddr::V6(ip) => format!("[{ip}]:{}->{inside}", range(host)),
    };
    match &publish.host_ip {
        Some(ip) => on(ip),
        None => everywhere().iter().map(on).collect::<Vec<_>>().join(", "),
    }
}

fn command(args: &[String], whole: bool) -> String {
    let mut command = args.join(" ");
    if !whole && command.chars().count() > 20 {
        command = command.chars().take(19).chain(['…']).collect();
    }
    format!("\"{command}\"")
}

/// The word for `.State` and `--filter status=`.
pub(super) fn state(status: Status) -> &'static str {
    match status {
        Status::Created => "created",
        Status::Running => "running",
        Status::Paused => "paused",
        Status::Restarting => "restarting",
        Status::Exited => "exited",
    }
}

fn status(container: &Listed) -> String {
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
        Status::Restarting => match state.finished {
            Some(at) => format!("Restarting ({code}) {}", ago(seconds(at), now())),
            None => format!("Restarting ({code})"),
        },
        Status::Exited => match state.finished {
            Some(at) => format!("Exited ({code}) {}", ago(seconds(at), now())),
            None => format!("Exited ({code})"),
        },
    }
}

fn seconds(since: u64) -> i64 {
    i64::try_from(since).unwrap_or(i64::MAX)
}
