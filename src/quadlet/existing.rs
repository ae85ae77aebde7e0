//! A service for a container that is there (`rl generate systemd`).
//!
//! `rl start --attach` in the foreground is followed as `rl run` is ([`super::service`]). With `--new` the service
//! makes the container anew at every start, out of the words that made it.

use super::service::{self, TERMINATED, Text};
use super::{Error, Host, words};
use crate::model::spec::{ContainerSpec, FOREVER};

/// `Restart=` of systemd.service(5).
pub const RESTART: &[&str] = &[
    "no",
    "on-success",
    "on-failure",
    "on-abnormal",
    "on-watchdog",
    "on-abort",
    "always",
];

/// What is asked for.
#[derive(Clone, Debug)]
pub struct Options {
    /// Call the container by its name, not by its id.
    pub by_name: bool,
    /// Words of `rl run` that make it anew, without those about its name, its end and its terminal; where they were
    /// typed comes first.
    pub new: Option<(std::path::PathBuf, Vec<String>)>,
    /// One of [`RESTART`].
    pub restart: String,
    /// Seconds from the stop signal to SIGKILL, where not the container's own.
    pub time: Option<u32>,
}

/// The text of the service.
///
/// # Errors
/// [`Error::Unfit`]: the container goes away when it ends.
pub fn text(spec: &ContainerSpec, options: &Options, host: &Host<'_>) -> Result<String, Error> {
    if spec.remove && options.new.is_none() {
        return Err(Error::Unfit {
            name: spec.name.clone(),
            why: "is removed when it ends (`--rm`), so it cannot be started again",
        });
    }
    let called = match options.by_name || options.new.is_some() {
        true => &spec.name,
        false => &spec.id,
    };
    let called = words::literal(called);
    let seconds = options.time.unwrap_or(spec.stop_timeout);
    let mut text = Text::new(&format!("container {}", spec.name));
    text.section("Unit");
    text.set("Description", &format!("Container {}", spec.name));
    text.set("Documentation", "man:rl(1)");
    text.section("Service");
    text.environment(host);
    text.set("Type", "notify");
    text.set("TimeoutStartSec", "infinity");
    text.set("KillMode", "mixed");
    text.set("Delegate", "yes");
    text.set("Restart", &options.restart);
    let ended = 128 + spec.stop_signal;
    match ended {
        TERMINATED => text.set("SuccessExitStatus", &TERMINATED.to_string()),
        _ => text.set("SuccessExitStatus", &format!("{TERMINATED} {ended}")),
    }
    // systemd shall not lose patience before `rl stop` does.
    let (limit, seconds) = match seconds {
        FOREVER => ("infinity".to_owned(), "-1".to_owned()),
        _ => (seconds.saturating_add(30).to_string(), seconds.to_string()),
    };
    text.set("TimeoutStopSec", &limit);
    let mut start = match &options.new {
        Some((directory, typed)) => {
            // Paths among the words may be relative.
            let directory = directory.to_string_lossy().replace('%', "%%");
            text.set("WorkingDirectory", &directory);
            let mut start = service::rl(host, &["run", "--rm", "--replace"]);
            start.push(words::literal(&format!("--name={}", spec.name)));
            let options = typed.iter().take_while(|word| word.starts_with('-'));
            if !service::wants_own_group(options) {
                start.push(service::SPLIT.to_owned());
            }
            start
        }
        None => service::rl(host, &["start", "--attach"]),
    };
    match &options.new {
        Some((_, typed)) => start.extend(typed.iter().map(|word| words::literal(word))),
        None => start.push(called.clone()),
    }
    text.set("ExecStart", &words::line(start));
    let mut stop = service::rl(host, &["stop", "--ignore"]);
    if options.new.is_none() || options.time.is_some() {
        stop.push(format!("--time={seconds}"));
    }
    stop.push(called.clone());
    text.set("ExecStop", &words::line(&stop));
    // After what was no stop as well, such as a SIGKILL: a container in a group of its own would go on.
    if options.new.is_none() {
        text.set("ExecStopPost", &format!("-{}", words::line(&stop)));
    } else {
        let mut remove = service::rl(host, &["rm", "--force", "--ignore", "--volumes"]);
        remove.push(called);
        text.set("ExecStopPost", &format!("-{}", words::line(remove)));
    }
    text.section("Install");
    text.set("WantedBy", "default.target");
    Ok(text.finish())
}
