//! The options about what happens while and after a command runs.

use super::run_args::Life;
use super::{resolve, units};
use crate::model::spec::{Health, Log, LogDriver};

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
            _ => return Err(bad("expected `max-size=BYTES` or `max-file=NUMBER`")),
        }
    }
    Ok(log)
}

/// `--health-cmd` and what goes with it, with Docker's defaults. `none` is no command.
///
/// # Errors
/// A time that is none.
pub(super) fn health(args: &Life) -> Result<Option<Health>, resolve::Error> {
    let command = args.health_cmd.as_deref().filter(|c| *c != "none");
    let Some(command) = command.filter(|_| !args.no_healthcheck) else {
        return Ok(None);
    };
    let time = |option, value: &Option<String>, default| match value {
        Some(value) => units::duration(option, value),
        None => Ok(default),
    };
    Ok(Some(Health {
        args: vec!["/bin/sh".into(), "-c".into(), command.to_owned()],
        interval: time("--health-interval", &args.health_interval, 30_000)?.max(1),
        timeout: time("--health-timeout", &args.health_timeout, 30_000)?.max(1),
        start_period: time("--health-start-period", &args.health_start_period, 0)?,
        retries: args.health_retries.filter(|n| *n > 0).unwrap_or(3),
    }))
}
