//! Shell completion: the scripts are small and ask `rl __complete WORD…`, which knows verbs and options from their
//! one definition, and containers and images from the disk. So all shells offer the same. Exit status 1 says that
//! the word may be the name of a file, which the shell completes better.

use clap::{Arg, Command};

use crate::engine::wait::CONDITIONS;
use crate::engine::{Context, containers, images, networks, volumes};
use crate::state::{State, Status};
use crate::store::Store;

/// bash(1): readline takes `:` and `=` for the ends of words, so what stands before the last of them is taken
/// off again.
pub const BASH: &str = r#"# Completion of rl for bash.
_rl() {
    local line=${COMP_LINE:0:COMP_POINT} words=() last before
    read -ra words <<<"$line"
    [[ $line == *[[:space:]] ]] && words+=("")
    last=${words[-1]}
    local offers
    offers=$("${words[0]}" __complete -- "${words[@]:1}" 2>/dev/null) || compopt -o default 2>/dev/null
    mapfile -t COMPREPLY < <([[ -z $offers ]] || printf '%s\n' "$offers")
    before=${last%"${last##*[:=]}"}
    COMPREPLY=("${COMPREPLY[@]#"$before"}")
    [[ ${#COMPREPLY[@]} == 1 && ${COMPREPLY[0]} == *[=:] ]] && compopt -o nospace 2>/dev/null
    return 0
}
complete -F _rl rl
"#;

/// zsh(1).
pub const ZSH: &str = r#"#compdef rl
# Completion of rl for zsh.
_rl() {
    local -a offers
    local answer
    answer=$(${words[1]} __complete -- "${(@Q)words[2,$CURRENT]}" 2>/dev/null) || { _files; return }
    offers=(${(f)answer})
    compadd -- $offers
}
if [[ ${funcstack[1]} == _rl ]]; then _rl "$@"; else compdef _rl rl; fi
"#;

/// fish(1).
pub const FISH: &str = r#"# Completion of rl for fish.
function __rl_complete
    set -l words (commandline --tokenize --cut-at-cursor --current-process)
    set -l last (commandline --current-token --cut-at-cursor)
    $words[1] __complete -- $words[2..] "$last" 2>/dev/null
    or __fish_complete_path "$last"
end
complete --command rl --no-files --arguments '(__rl_complete)'
"#;

/// What a word may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Containers,
    /// Those that can be stopped, or killed.
    Alive,
    /// Those whose command runs and is not paused.
    Running,
    Paused,
    /// Those that can be started.
    Resting,
    Images,
    /// Containers and images.
    Both,
    Volumes,
    Networks,
    /// Containers, with the `:` before a path in them, and files of this machine.
    Paths,
    Releases,
    Shells,
    /// Files, or what only the person knows: left to the shell.
    Other,
}

/// The offers for the last of `words`; `None` where a file or something that only the person knows is wanted. What
/// cannot be read offers nothing.
pub fn offers(
    command: &Command,
    words: &[String],
    context: Option<&Context<'_>>,
) -> Option<Vec<String>> {
    let (last, before) = match words.split_last() {
        Some((last, before)) => (last.as_str(), before),
        None => ("", words),
    };
    let mut all = match before.split_first() {
        None if last.starts_with('-') => options(command),
        None => verbs(command),
        Some((verb, rest)) => match (command.find_subcommand(verb), rest.split_first()) {
            // A group of verbs.
            (Some(group), None) if group.has_subcommands() && !last.starts_with('-') => {
                verbs(group)
            }
            (Some(group), Some((verb, rest))) if group.has_subcommands() => {
                match group.find_subcommand(verb) {
                    Some(verb) => for_verb((group.get_name(), verb), rest, last, context)?,
                    None => Vec::new(),
                }
            }
            (Some(verb), _) => for_verb(("", verb), rest, last, context)?,
            (None, _) => Vec::new(),
        },
    };
    all.retain(|offer| offer.starts_with(last));
    all.sort();
    all.dedup();
    Some(all)
}

/// The offers for a verb of a group; without a group it is the empty word.
fn for_verb(
    (group, verb): (&str, &Command),
    words: &[String],
    last: &str,
    context: Option<&Context<'_>>,
) -> Option<Vec<String>> {
    let mut positional = 0;
    let mut value_of = None;
    for word in words {
        if value_of.take().is_some() {
            continue;
        }
        match option_named(verb, word) {
            Some(option) => value_of = takes_value(option, word).then_some(option),
            None if word.starts_with('-') && word.len() > 1 => {}
            None => positional += 1,
        }
    }
    // After the image, the command inside has words that nobody here knows.
    let trailing = ["run", "create"].contains(&verb.get_name())
        && !["volume", "network"].contains(&group)
        && positional > 0;
    match value_of {
        Some(option) => Some(values(option, context)).filter(|words| !words.is_empty()),
        None if trailing => None,
        None if last.starts_with('-') => Some(options(verb)),
        None => named(kind(group, verb.get_name(), positional), last, context),
    }
}

fn verbs(command: &Command) -> Vec<String> {
    let shown = command.get_subcommands().filter(|verb| !verb.is_hide_set());
    shown
        .map(|verb| verb.get_name().to_owned())
        .chain(["help".into()])
        .collect()
}

fn options(verb: &Command) -> Vec<String> {
    let longs = verb.get_arguments().filter(|arg| !arg.is_hide_set());
    let mut all: Vec<String> = longs
        .filter_map(|arg| Some(format!("--{}", arg.get_long()?)))
        .collect();
    all.push("--help".to_owned());
    all
}

fn option_named<'a>(verb: &'a Command, word: &str) -> Option<&'a Arg> {
    let name = word.split('=').next()?;
    let mut all = verb.get_arguments();
    if let Some(long) = name.strip_prefix("--") {
        return all.find(|arg| arg.get_long() == Some(long));
    }
    // Of several short options in one word, only the last may want a value.
    let short = name.strip_prefix('-')?.chars().last()?;
    all.find(|arg| arg.get_short() == Some(short))
}

fn takes_value(option: &Arg, word: &str) -> bool {
    option.get_action().takes_values() && !option.is_require_equals_set() && !word.contains('=')
}

/// Words that an option is known to take.
fn values(option: &Arg, context: Option<&Context<'_>>) -> Vec<String> {
    let words: &[&str] = match option.get_id().as_str() {
        "network" => &["pasta", "slirp4netns", "none", "host"],
        "restart" => &["no", "on-failure", "always", "unless-stopped"],
        "condition" => &CONDITIONS.map(|(word, _)| word),
        "pull" | "policy" => &["missing", "always", "never", "newer"],
        "userns" => &["keep-id", "nomap", "single"],
        "pid" | "ipc" | "uts" => &["private", "host"],
        "platform" => &["linux/amd64", "linux/arm64"],
        "variant" => crate::build::bootstrap::VARIANTS,
        "security_opt" => &[
            "seccomp=unconfined",
            "seccomp=",
            "no-new-privileges",
            "mask=",
            "unmask=",
        ],
        "cap_add" | "cap_drop" => {
            return crate::security::caps::CapSet::ALL
                .iter()
                .map(|cap| cap.to_string().trim_start_matches("CAP_").to_owned())
                .collect();
        }
        _ => &[],
    };
    let possible = option.get_possible_values();
    let names = match option.get_id().as_str() {
        "network" => network_names(context),
        "volumes_from" => container_names(context, |_| true),
        _ => Vec::new(),
    };
    words
        .iter()
        .map(|&word| word.to_owned())
        .chain(possible.iter().map(|v| v.get_name().to_owned()))
        .chain(names)
        .collect()
}

/// What stands at a place of a verb.
fn kind(group: &str, verb: &str, positional: usize) -> Kind {
    match (group, verb, positional) {
        ("volume", "rm" | "inspect" | "exists", _) => Kind::Volumes,
        ("network", "rm" | "inspect" | "exists", _) => Kind::Networks,
        ("healthcheck", _, 0) => Kind::Running,
        ("volume" | "network" | "system" | "healthcheck", ..) => Kind::Other,
        ("image", "rm" | "inspect" | "exists", _) | ("image", "ls", 0) => Kind::Images,
        ("container", "inspect" | "exists", _) => Kind::Containers,
        (_, "stop" | "kill", _) | (_, "attach" | "top", 0) => Kind::Alive,
        (_, "pause", _) | (_, "exec", 0) => Kind::Running,
        (_, "unpause", _) => Kind::Paused,
        (_, "start", _) => Kind::Resting,
        (_, "cp", 0 | 1) => Kind::Paths,
        (_, "run" | "create" | "tag" | "images" | "history", 0)
        | (_, "rmi" | "save" | "pull", _) => Kind::Images,
        (_, "wait" | "restart" | "logs" | "rm" | "update" | "stats", _)
        | ("generate", "systemd", 0)
        | (_, "enable" | "disable", 0)
        | (_, "port" | "diff" | "apply" | "rename" | "export" | "commit", 0) => Kind::Containers,
        (_, "inspect", _) => Kind::Both,
        (_, "bootstrap", 0) => Kind::Releases,
        (_, "completion", 0) => Kind::Shells,
        _ => Kind::Other,
    }
}

fn named(kind: Kind, last: &str, context: Option<&Context<'_>>) -> Option<Vec<String>> {
    let words = |all: &[&str]| all.iter().map(|&word| word.to_owned()).collect();
    Some(match kind {
        Kind::Other => return None,
        Kind::Shells => words(&["bash", "zsh", "fish", "elvish", "powershell"]),
        Kind::Releases => words(&[
            "debian:bookworm",
            "debian:bookworm-slim",
            "debian:sid",
            "debian:stable",
            "debian:trixie",
            "debian:trixie-slim",
            "ubuntu:22.04",
            "ubuntu:24.04",
        ]),
        Kind::Images => context.and_then(image_names).unwrap_or_default(),
        Kind::Containers => container_names(context, |_| true),
        Kind::Alive => container_names(context, |state| state.is_alive()),
        Kind::Running => container_names(context, |state| state.status == Status::Running),
        Kind::Paused => container_names(context, |state| state.status == Status::Paused),
        Kind::Resting => container_names(context, |state| !state.is_alive()),
        Kind::Volumes => {
            let all = context.map(volumes::list).unwrap_or_default();
            all.into_iter().map(|volume| volume.name).collect()
        }
        Kind::Networks => network_names(context),
        Kind::Paths => {
            let names = container_names(context, |_| true).into_iter();
            let names: Vec<String> = names.map(|name| name + ":").collect();
            let fits = |name: &String| name.starts_with(last) && name != last;
            // Any other word is a file's name, or one inside, which nobody here knows.
            if last.is_empty() || !names.iter().any(fits) {
                return None;
            }
            names
        }
        Kind::Both => {
            let mut names = context.and_then(image_names).unwrap_or_default();
            names.extend(container_names(context, |_| true));
            names
        }
    })
}

fn network_names(context: Option<&Context<'_>>) -> Vec<String> {
    let all = context.and_then(|context| networks::list(context, &[]).ok());
    let all = all.unwrap_or_default().into_iter();
    all.map(|network| network.name).collect()
}

fn container_names(context: Option<&Context<'_>>, fits: impl Fn(&State) -> bool) -> Vec<String> {
    let found = context.and_then(|context| containers::listed(context, true).ok());
    let found = found.unwrap_or_default().into_iter();
    let fitting = found.filter(|container| fits(&container.state));
    fitting.map(|container| container.spec.name).collect()
}

/// `debian:bookworm`, and `debian` for `debian:latest`.
fn image_names(context: &Context<'_>) -> Option<Vec<String>> {
    let store = Store::open(&context.dirs.data).ok()?;
    let rows = images::rows(&store, None, &[]).ok()?;
    let mut names = Vec::new();
    for row in rows.iter().filter(|row| row.repository != "<none>") {
        names.push(format!("{}:{}", row.repository, row.tag));
        if row.tag == "latest" {
            names.push(row.repository.clone());
        }
    }
    // A name with something in it that a shell or a terminal would obey is not worth the risk.
    names.retain(|name| {
        name.bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"._-/:@".contains(&b))
    });
    Some(names)
}
