//! Command lines that do not parse: what was meant, and what there is.

use clap::CommandFactory as _;
use clap::error::{ContextKind, ContextValue, ErrorKind};

use super::{Cli, complain, not_yet, print};
use crate::engine::run_args;

/// What `rl` alone says.
const SHORT: &str = r#"rl: containers for people without root

  rl run ubuntu sh                            a shell in a container
  rl run --rm -v "$PWD":/src debian ls /src   a command that sees this directory
  rl ps -a                                    containers, ended ones as well

`rl help` lists all verbs, `rl run --help` the options of one.
"#;

/// Help and version are answers; everything else is one error with its hint.
pub fn explain(error: &clap::Error) -> u8 {
    let quote = |kind| match error.get(kind) {
        Some(ContextValue::String(text)) => Some(text.clone()),
        Some(ContextValue::Strings(all)) => all.first().cloned(),
        _ => None,
    };
    let path = path();
    let verb = path.first().cloned();
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
            let below = |group: &str| not_yet::BELOW.iter().find(|(name, _)| *name == group);
            let known = match verb.as_deref().and_then(below) {
                Some((_, verbs)) => verbs,
                None => not_yet::VERBS,
            };
            if known.contains(&word.as_str()) {
                let message = format!("`{word}`: the verb of docker and podman is not there yet");
                complain(&message, Some(&help));
            } else {
                let near = near(&word).or_else(|| quote(ContextKind::SuggestedSubcommand));
                let hint = match (grouped(&word), near) {
                    (groups, _) if verb.is_none() && !groups.is_empty() => {
                        format!("it stands behind a group: {}", groups.join(", "))
                    }
                    (_, Some(near)) => format!("did you mean `rl {near}`?"),
                    (_, None) => help,
                };
                complain(&format!("unknown verb `{word}`"), Some(&hint));
            }
        }
        // Those of docker and podman are known by name.
        ErrorKind::UnknownArgument
            if ["run", "create"].contains(&path.join(" ").trim_start_matches("container ")) =>
        {
            return unknown_option(&quote(ContextKind::InvalidArg).unwrap_or_default());
        }
        ErrorKind::UnknownArgument => {
            let word = quote(ContextKind::InvalidArg).unwrap_or_default();
            if let Some(long) = not_yet::option(&path.join(" "), &word) {
                refuse(&word, long, &help);
                return 125;
            }
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

/// The verb that was given, if it is one, behind its group if it has one.
fn path() -> Vec<String> {
    let mut command = &Cli::command();
    let mut path = Vec::new();
    for word in std::env::args().skip(1) {
        let Some(below) = command.find_subcommand(&word) else {
            break;
        };
        path.push(below.get_name().to_owned());
        command = below;
    }
    path
}

fn refuse(word: &str, long: &str, help: &str) {
    let reason = not_yet::REASONS.iter().find(|(name, ..)| *name == long);
    if let Some((_, reason, hint)) = reason {
        complain(&format!("`{word}`: {reason}"), Some(hint));
        return;
    }
    complain(
        &format!("`{word}`: the option `--{long}` of docker and podman is not there yet"),
        Some(&format!(
            "it is refused so that nothing is left out in silence; {help}"
        )),
    );
}

/// The verbs of groups that are called so, quoted.
fn grouped(word: &str) -> Vec<String> {
    let command = Cli::command();
    let groups = command.get_subcommands();
    let groups = groups.filter(|group| group.find_subcommand(word).is_some() && word != "help");
    let names = groups.map(|group| format!("`rl {} {word}`", group.get_name()));
    names.collect()
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
    let known = run_args::NOT_YET.iter().find(|long| **long == name);
    match known.filter(|_| !short) {
        Some(long) => refuse(word, long, "`rl run --help` lists what there is"),
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
