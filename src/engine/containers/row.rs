//! A line of `rl ps`: the fields of `--format`, named as Docker names them.

use std::borrow::Cow;
use std::net::IpAddr;

use serde_json::{Map, Value, json};

use crate::engine::ports::unpublished;
use crate::model::spec::{MountSource, NetworkMode, VolumeMount};
use crate::model::time::{ago, in_lists, now};
use crate::net::{Ports, Publish, anywhere};
use crate::state::{Listed, Status, Verdict};

/// The names of [`field`].
const FIELDS: [&str; 13] = [
    "ID",
    "Image",
    "Command",
    "CreatedAt",
    "RunningFor",
    "Ports",
    "State",
    "Status",
    "Names",
    "Labels",
    "Mounts",
    "LocalVolumes",
    "Networks",
];

/// What a container has under a name of docker's; `whole` ids and commands are not cut short.
pub fn field<'a>(container: &'a Listed, name: &str, whole: bool) -> Option<Cow<'a, str>> {
    let spec = &container.spec;
    let created = seconds(spec.created);
    Some(match name {
        "ID" => match whole {
            true => (&*spec.id).into(),
            false => spec.id[..12].into(),
        },
        "Image" => match &*spec.image {
            "" => "(directory)".into(),
            name => name.into(),
        },
        "Command" => command(&spec.args, whole).into(),
        "CreatedAt" => in_lists(created).into(),
        "RunningFor" => ago(created, now()).into(),
        "Ports" => {
            let ports = spec.network.publish.iter();
            let ports = ports.map(|text| published(text, spec.network.mode));
            let exposed = unpublished(&spec.exposed, &spec.network.publish);
            ports.chain(exposed).collect::<Vec<_>>().join(", ").into()
        }
        "State" => state(container.state.status).into(),
        "Status" => status(container).into(),
        "Names" => (&*spec.name).into(),
        "Labels" => {
            let labels = spec.labels.iter();
            let labels = labels.map(|(key, value)| format!("{key}={value}"));
            labels.collect::<Vec<_>>().join(",").into()
        }
        "Mounts" => {
            let mounts = spec.mounts.iter().filter_map(|mount| match &mount.source {
                MountSource::Volume { name, .. } => Some(name.clone()),
                MountSource::Bind { path, .. } | MountSource::Overlay { path } => {
                    Some(path.to_string_lossy().into_owned())
                }
                MountSource::Tmpfs { .. } => None,
            });
            mounts.collect::<Vec<_>>().join(",").into()
        }
        "LocalVolumes" => {
            let named = |mount: &&VolumeMount| matches!(mount.source, MountSource::Volume { .. });
            spec.mounts.iter().filter(named).count().to_string().into()
        }
        "Networks" => network(spec.network.mode, &spec.network.request.mode).into(),
        _ => return None,
    })
}

/// All [fields](field), and those that want an argument: `.Label "key"`.
pub fn row(container: &Listed, whole: bool) -> (Map<String, Value>, Map<String, Value>) {
    let with = |&name: &&str| Some((name.to_owned(), field(container, name, whole)?.into()));
    let mut methods = Map::new();
    methods.insert("Label".to_owned(), json!(container.spec.labels));
    (FIELDS.iter().filter_map(with).collect(), methods)
}

/// `0.0.0.0:8080->80/tcp`, as docker has it.
fn published(text: &str, mode: NetworkMode) -> String {
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
        None => anywhere(mode).iter().map(on).collect::<Vec<_>>().join(", "),
    }
}

fn command(args: &[String], whole: bool) -> String {
    // As docker has it: words with blanks in them stand apart, but for the program's name.
    let words = args.iter().enumerate();
    let words = words.map(|(n, word)| match n > 0 && word.contains(' ') {
        true => format!("'{word}'"),
        false => word.clone(),
    });
    let mut command = words.collect::<Vec<_>>().join(" ");
    if !whole && command.chars().count() > 20 {
        command = command.chars().take(19).chain(['…']).collect();
    }
    format!("\"{command}\"")
}

/// The word for `--network`, of which this was asked.
pub(super) fn network(mode: NetworkMode, asked: &str) -> &str {
    match mode {
        NetworkMode::Pasta => "pasta",
        NetworkMode::Slirp4netns => "slirp4netns",
        NetworkMode::Passt => "passt",
        NetworkMode::Named => asked,
        NetworkMode::None => "none",
        NetworkMode::Host => "host",
    }
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
        let up = format!("Up {}", since.trim_end_matches(" ago"));
        match &state.lost {
            Some(lost) => format!("{up} ({lost})"),
            None => up,
        }
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
