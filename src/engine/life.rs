//! The options about what happens while and after a command runs.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde_json::{Map, json};

use super::only::Pattern;
use super::run_args::Life;
use super::{resolve, units};
use crate::model::spec::{ContainerSpec, Health, Log, LogDriver, Remedy, RestartPolicy};
use crate::model::template::Template;

/// `--log-driver`, `--log-opt`. Without options a log is three files of 10 MiB at most: nobody's disk
/// fills because a container talks.
///
/// # Errors
/// A driver or option that is not there.
pub(super) fn log(args: &Life) -> Result<Log, resolve::Error> {
    let driver = match args.log_driver.as_deref() {
        None | Some("json-file" | "local") => LogDriver::JsonFile,
        Some("journald") => LogDriver::Journald,
        Some("none") => LogDriver::None,
        Some("passthrough") => LogDriver::Passthrough,
        Some(other) => {
            return Err(resolve::Error::Value {
                option: "--log-driver",
                value: other.to_owned(),
                reason: "expected `json-file`, `journald`, `none` or `passthrough`".into(),
            });
        }
    };
    let mut log = Log {
        driver,
        max_size: 10 << 20,
        max_files: 3,
        options: BTreeMap::new(),
        attributes: BTreeMap::new(),
    };
    for option in &args.log_opt {
        let (name, value) = units::pair("--log-opt", option)?;
        let bad = |reason: &str| resolve::Error::Value {
            option: "--log-opt",
            value: option.clone(),
            reason: reason.to_owned(),
        };
        match name.as_str() {
            "max-size" => {
                let size = units::bytes("--log-opt", &value)?;
                log.max_size = size.max(4096);
            }
            "max-file" => {
                let number = value.parse().ok().filter(|n| *n > 0);
                log.max_files = number.ok_or_else(|| bad("expected a number of files"))?;
            }
            "labels" | "labels-regex" | "env" | "env-regex" | "tag" => match log.driver {
                LogDriver::JsonFile | LogDriver::Journald => {
                    log.options.insert(name, value);
                }
                LogDriver::None | LogDriver::Passthrough => {
                    return Err(bad(
                        "with this `--log-driver` no log is kept that it could be in",
                    ));
                }
            },
            _ => {
                return Err(bad(
                    "expected `max-size=BYTES`, `max-file=NUMBER`, `labels=NAME,…`, `labels-regex=REGEX`, `env=NAME,…`, `env-regex=REGEX` or `tag=TEMPLATE`",
                ));
            }
        }
    }
    Ok(log)
}

/// What is to stand beside each line of a container's log, by its options (docker's "Customize log driver output").
///
/// # Errors
/// A regular expression or template that is none.
pub(super) fn attributes(spec: &ContainerSpec) -> Result<BTreeMap<String, String>, resolve::Error> {
    let mut out = BTreeMap::new();
    let env = spec.env.iter().filter_map(|pair| pair.split_once('='));
    let env: BTreeMap<String, String> = env.map(|(k, v)| (k.to_owned(), v.to_owned())).collect();
    for (name, value) in &spec.log.options {
        let bad = |reason: String| resolve::Error::Value {
            option: "--log-opt",
            value: format!("{name}={value}"),
            reason,
        };
        let all = match name.starts_with("labels") {
            true => &spec.labels,
            false => &env,
        };
        let mut add = |wanted: &dyn Fn(&str) -> bool| {
            let wanted = all.iter().filter(|(name, _)| wanted(name));
            out.extend(wanted.map(|(name, value)| (name.clone(), value.clone())));
        };
        match name.as_str() {
            "labels" | "env" => add(&|name| value.split(',').any(|word| word.trim() == name)),
            "labels-regex" | "env-regex" => {
                let pattern = Pattern::parse(value).map_err(|e| bad(e.to_string()))?;
                add(&|name| pattern.fits(name));
            }
            _ => {
                let tag = tag(spec, value).map_err(|e| bad(e.to_string()))?;
                out.insert("tag".to_owned(), tag);
            }
        }
    }
    Ok(out)
}

fn tag(
    spec: &ContainerSpec,
    template: &str,
) -> Result<String, crate::model::template::TemplateError> {
    let image = spec.image_id.as_ref();
    let short = |id: String| id.trim_start_matches("sha256:").chars().take(12).collect();
    let short: &dyn Fn(String) -> String = &short;
    let value = json!({
        "ID": short(spec.id.clone()),
        "FullID": spec.id,
        "Name": spec.name,
        "ImageName": spec.image,
        "ImageID": image.map(|id| short(id.to_string())).unwrap_or_default(),
        "ImageFullID": image.map(ToString::to_string).unwrap_or_default(),
        "DaemonName": "rl",
    });
    Template::parse(template)?.fill(&value, &Map::new())
}

/// `--pidfile`, wherever its monitor is.
///
/// # Errors
/// There is no current directory.
pub(super) fn pidfile(args: &Life) -> Result<Option<PathBuf>, resolve::Error> {
    let absolute = |path: &PathBuf| {
        std::path::absolute(path).map_err(|source| resolve::Error::File {
            option: "--pidfile",
            path: path.clone(),
            source,
        })
    };
    args.pidfile.as_ref().map(absolute).transpose()
}

/// `--health-cmd` and what goes with it, over what the image asks for, with Docker's defaults. `none` is no command.
///
/// # Errors
/// A time that is none.
pub(super) fn health(args: &Life, image: Option<Health>) -> Result<Option<Health>, resolve::Error> {
    let on_failure = match args.health_on_failure.as_deref() {
        Some("kill") => Remedy::Kill,
        Some("restart") => Remedy::Restart,
        Some("stop") => Remedy::Stop,
        _ => Remedy::None,
    };
    let none = || match on_failure {
        Remedy::None => Ok(None),
        remedy => Err(refused(remedy, "there is no check of its health")),
    };
    if args.no_healthcheck || args.health_cmd.as_deref() == Some("none") {
        return none();
    }
    let base = match (&args.health_cmd, image) {
        (Some(command), _) => Health {
            args: shell(command),
            interval: 30_000,
            timeout: 30_000,
            start_period: 0,
            start_interval: None,
            retries: 3,
            on_failure: Remedy::None,
        },
        (None, Some(image)) => image,
        (None, None) => return none(),
    };
    let time = |option, value: &Option<String>, default| match value {
        Some(value) => units::duration(option, value),
        None => Ok(default),
    };
    let start = &args.health_start_interval;
    let start = start
        .as_deref()
        .map(|value| units::duration("--health-start-interval", value));
    // As for Docker 0 is as if nothing were said.
    let start = start.transpose()?.filter(|time| *time > 0);
    Ok(Some(Health {
        interval: time("--health-interval", &args.health_interval, base.interval)?.max(1),
        timeout: time("--health-timeout", &args.health_timeout, base.timeout)?.max(1),
        start_period: time(
            "--health-start-period",
            &args.health_start_period,
            base.start_period,
        )?,
        start_interval: start.or(base.start_interval),
        retries: args
            .health_retries
            .filter(|n| *n > 0)
            .unwrap_or(base.retries),
        on_failure,
        args: base.args,
    }))
}

fn refused(remedy: Remedy, why: &str) -> resolve::Error {
    resolve::Error::Value {
        option: "--health-on-failure",
        value: remedy.word().to_owned(),
        reason: why.to_owned(),
    }
}

/// What does not go with being started again because it is unhealthy.
///
/// # Errors
/// `--rm`, and another reason to be started again.
pub(super) fn check_remedy(spec: &ContainerSpec) -> Result<(), resolve::Error> {
    let remedy = spec.health.as_ref().map(|health| health.on_failure);
    let why = match (remedy, spec.restart) {
        (Some(Remedy::Restart), _) if spec.remove => {
            "with `--rm` nothing is left that could be started again"
        }
        (Some(Remedy::Restart), policy) if policy != RestartPolicy::No => {
            "with `--restart` it is started again whenever it ends; `kill` and `stop` go with that"
        }
        _ => return Ok(()),
    };
    Err(refused(Remedy::Restart, why))
}

fn shell(command: &str) -> Vec<String> {
    vec!["/bin/sh".into(), "-c".into(), command.to_owned()]
}

/// The check that an image asks for, in Docker's extension of its configuration (moby, image spec v1.2,
/// "Healthcheck"): `CMD` with arguments, `CMD-SHELL` with a line, `NONE`; times in nanoseconds.
pub(super) fn image_health(config: &serde_json::Value) -> Option<Health> {
    let check = config.pointer("/config/Healthcheck")?;
    let test: Vec<String> = serde_json::from_value(check.get("Test")?.clone()).ok()?;
    let (kind, words) = test.split_first()?;
    let args = match &**kind {
        "CMD" if !words.is_empty() => words.to_vec(),
        "CMD-SHELL" => shell(words.first()?),
        _ => return None,
    };
    let number = |name: &str| check.get(name).and_then(serde_json::Value::as_u64);
    let set = |name: &str| {
        let set = number(name).filter(|n| *n > 0);
        set.map(|n| (n / 1_000_000).max(1))
    };
    let time = |name: &str, default| set(name).unwrap_or(default);
    let retries = number("Retries").and_then(|n| u32::try_from(n).ok());
    Some(Health {
        args,
        interval: time("Interval", 30_000),
        timeout: time("Timeout", 30_000),
        start_period: time("StartPeriod", 0),
        start_interval: set("StartInterval"),
        retries: retries.filter(|n| *n > 0).unwrap_or(3),
        on_failure: Remedy::None,
    })
}
