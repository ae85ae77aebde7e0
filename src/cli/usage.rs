//! Command lines that do not parse: what was meant, and what there is.

use clap::CommandFactory as _;
use clap::error::{ContextKind, ContextValue, ErrorKind};

use super::{Cli, complain, print};
use crate::engine::run_args;

/// What `rl` alone says.
const SHORT: &str = r#"rl: containers for people without root

  rl run ubuntu sh                            a shell in a container
  rl run --rm -v "$PWD":/src debian ls /src   a command that sees this directory
  rl ps -a                                    containers, ended ones as well

`rl help` lists all verbs, `rl run --help` the options of one.
"#;

/// Verbs of docker and podman that are not there yet.
const NOT_YET: &[&str] = &[
    "auto-update",
    "build",
    "buildx",
    "checkpoint",
    "compose",
    "context",
    "farm",
    "generate",
    "healthcheck",
    "init",
    "kube",
    "login",
    "logout",
    "machine",
    "manifest",
    "mount",
    "play",
    "plugin",
    "pod",
    "push",
    "search",
    "secret",
    "swarm",
    "trust",
    "unmount",
    "untag",
    "version",
];

/// Those below `network`.
const NETWORK_NOT_YET: &[&str] = &["connect", "disconnect", "exists", "reload", "update"];

/// Help and version are answers; everything else is one error with its hint.
pub fn explain(error: &clap::Error) -> u8 {
    let quote = |kind| match error.get(kind) {
        Some(ContextValue::String(text)) => Some(text.clone()),
        Some(ContextValue::Strings(all)) => all.first().cloned(),
        _ => None,
    };
    let verb = verb();
    let help = match &verb {
        Some(verb) => format!("`rl {verb} --help` lists what there is"),
        None => "`rl help` lists the verbs".to_owned(),
    };
    match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => {
            return print(error.render().to_string().as_bytes());
        }
        // A group of verbs says what is in it.
        ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand if verb.is_some() => {
            return print(error.render().to_string().as_bytes());
        }
        ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => return print(SHORT.as_bytes()),
        ErrorKind::InvalidSubcommand => {
            let word = quote(ContextKind::InvalidSubcommand).unwrap_or_default();
            let known = match verb.as_deref() {
                Some("network") => NETWORK_NOT_YET,
                _ => NOT_YET,
            };
            if known.contains(&word.as_str()) {
                let message = format!("`{word}`: the verb of docker and podman is not there yet");
                complain(&message, Some(&help));
            } else {
                let near = near(&word).or_else(|| quote(ContextKind::SuggestedSubcommand));
                let hint = near.map_or(help, |near| format!("did you mean `rl {near}`?"));
                complain(&format!("unknown verb `{word}`"), Some(&hint));
            }
        }
        // Those of docker and podman are known by name.
        ErrorKind::UnknownArgument if verb.as_deref() == Some("run") => {
            return unknown_option(&quote(ContextKind::InvalidArg).unwrap_or_default());
        }
        ErrorKind::UnknownArgument => {
            let word = quote(ContextKind::InvalidArg).unwrap_or_default();
            let near = quote(ContextKind::SuggestedArg);
            let hint = near.map_or(help, |near| {
                format!(
                    "did you mean `{}`?",
                    near.split(['=', ' ']).next().unwrap_or(&near)
                )
            });
            let what = if word.starts_with('-') {
                "unknown option"
            } else {
                "one word too many:"
            };
            complain(&format!("{what} `{word}`"), Some(&hint));
        }
        _ => {
            let text = error.render().to_string();
            let message: Vec<&str> = text
                .lines()
                .take_while(|line| !line.trim().is_empty())
                .map(str::trim)
                .collect();
            let message = message.join(" ").replace('\'', "`");
            complain(
                message.strip_prefix("error: ").unwrap_or(&message),
                Some(&help),
            );
        }
    }
    125
}

/// The verb that was given, if it is one.
fn verb() -> Option<String> {
    let word = std::env::args().nth(1)?;
    let command = Cli::command();
    command
        .find_subcommand(&word)
        .map(|verb| verb.get_name().to_owned())
}

fn near(word: &str) -> Option<String> {
    let command = Cli::command();
    let shown = command.get_subcommands().filter(|verb| !verb.is_hide_set());
    let names = shown.map(clap::Command::get_name);
    let near = names
        .filter(|name| distance(name, word) <= 2)
        .min_by_key(|name| distance(name, word));
    near.map(str::to_owned)
}

/// An option before the image that `rl run` does not know. Docker's and podman's are named as such.
pub fn unknown_option(word: &str) -> u8 {
    let name = word
        .trim_start_matches('-')
        .split('=')
        .next()
        .unwrap_or_default();
    let short = !word.starts_with("--");
    let known = if short {
        let first = name.chars().next().unwrap_or_default();
        run_args::NOT_YET_SHORT
            .iter()
            .find(|(c, _)| *c == first)
            .map(|(_, long)| *long)
    } else {
        run_args::NOT_YET
            .iter()
            .find(|long| **long == name)
            .copied()
    };
    match known {
        Some(long) => complain(
            &format!("`{word}`: the option `--{long}` of docker and podman is not there yet"),
            Some(
                "it is refused so that nothing is left out in silence; `rl run --help` lists what is there",
            ),
        ),
        None => {
            let command = Cli::command();
            let run = command.find_subcommand("run");
            let longs = run.into_iter().flat_map(clap::Command::get_arguments);
            let near = longs
                .filter(|_| !short)
                .filter_map(clap::Arg::get_long)
                .filter(|long| distance(long, name) <= 2)
                .min_by_key(|long| distance(long, name));
            let hint = near.map_or("see `rl run --help`".into(), |n| {
                format!("did you mean `--{n}`?")
            });
            complain(&format!("unknown option `{word}`"), Some(&hint));
        }
    }
    125
}

/// Edits between two words (Levenshtein).
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut last = i;
        row[0] = i + 1;
        for (j, y) in b.iter().enumerate() {
            let change = last + usize::from(x != *y);
            last = row[j + 1];
            row[j + 1] = change.min(last + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}
