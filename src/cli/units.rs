//! `rl generate`, `rl enable`, `rl disable`, and `rl` as a generator of systemd's.

use std::io::Write as _;
use std::path::{Path, PathBuf};

use clap::Args as _;
use clap::parser::ValueSource;

use super::{complain, flags, print};
use crate::engine::run_args::RunArgs;
use crate::engine::{Context, Error, lifecycle};
use crate::model::chain;
use crate::model::spec::{ContainerSpec, Typed};
use crate::model::text::escape;
use crate::quadlet::existing::{self, Options};
use crate::quadlet::generator::{self, Generated, Scope};
use crate::quadlet::manager::{self, Manager, Places};
use crate::quadlet::{self, Host, container, network, volume};

/// Write units of systemd for containers
#[derive(Debug, clap::Args)]
pub struct GenerateArgs {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, clap::Subcommand)]
enum What {
    /// A unit that starts a container
    Systemd(SystemdArgs),
    /// Units of the Quadlet files in the directories of podman-systemd.unit(5)
    #[command(long_about = about_quadlet())]
    Quadlet(QuadletArgs),
}

fn about_quadlet() -> String {
    format!(
        "Units of the Quadlet files in the directories of podman-systemd.unit(5). The exit status is 1 where a file cannot \
         be used; the others become units all the same.\n\nKeys of `[Container]`: {}.\n\nKeys of `[Volume]`: {}.\n\nKeys of `[Network]`: {}.",
        container::keys().join(", "),
        volume::KEYS.join(", "),
        network::KEYS.join(", ")
    )
}

/// What units for existing containers are made of.
#[derive(Debug, clap::Args)]
struct SystemdArgs {
    #[command(flatten)]
    unit: UnitArgs,
    /// Call the container by its name, not by its id
    #[arg(short, long)]
    name: bool,
    /// Write container-NAME.service here and print its path
    #[arg(short, long)]
    files: bool,
    /// Name or id
    container: String,
}

#[derive(Debug, clap::Args)]
struct UnitArgs {
    /// Make the container anew at every start, and remove it at every end
    #[arg(long)]
    new: bool,
    /// When systemd starts it again: no, always, on-success, on-failure, …
    #[arg(long, value_name = "POLICY", default_value = "on-failure", value_parser = existing::RESTART.to_vec())]
    restart_policy: String,
    /// Seconds from the stop signal to SIGKILL, where not the container's own; -1: it never comes
    #[arg(short, long, alias = "stop-timeout", value_name = "SECONDS", value_parser = crate::engine::units::patience, allow_negative_numbers = true)]
    time: Option<u32>,
}

/// The words of a generator (systemd.generator(7)).
#[derive(Debug, clap::Args)]
pub struct QuadletArgs {
    /// Units of the user (the default, but for root)
    #[arg(long)]
    user: bool,
    /// Print the units instead of writing them
    #[arg(long, alias = "dryrun")]
    dry_run: bool,
    /// Where to write; as systemd calls it, two further directories, which stay empty
    #[arg(value_name = "DIR", num_args = 0..=3, required_unless_present = "dry_run")]
    directories: Vec<PathBuf>,
}

/// Have the user's systemd start a container, now and at every log-in
///
/// Writes a unit as `rl generate systemd --name` prints it to ~/.config/systemd/user/rl-NAME.service. A user who lingers
/// (loginctl(1)) has a systemd from boot on, others from the first log-in to the last log-out.
#[derive(Debug, clap::Args)]
pub struct EnableArgs {
    #[command(flatten)]
    unit: UnitArgs,
    /// Start it at once as well
    #[arg(long)]
    now: bool,
    /// Name or id
    container: String,
}

/// Have the user's systemd no longer start a container
#[derive(Debug, clap::Args)]
pub struct DisableArgs {
    /// Stop it as well
    #[arg(long)]
    now: bool,
    /// The name it was enabled under
    container: String,
}

/// The command line of `rl run` or `rl create`; none where it is not text.
pub fn typed() -> Option<Typed> {
    let mut words = std::env::args_os().skip(1);
    // `rl run …`, or `rl container run …`.
    if words.next()? == "container" {
        words.next()?;
    }
    Some(Typed {
        words: words
            .map(|word| word.into_string().ok())
            .collect::<Option<_>>()?,
        directory: std::env::current_dir().ok()?,
    })
}

/// `rl generate`: prints or writes; returns the exit status.
pub fn generate(args: &GenerateArgs) -> u8 {
    match &args.what {
        What::Systemd(args) => super::with_plain(|context| systemd(context, args)),
        What::Quadlet(args) => {
            let scope = match rustix::process::getuid().is_root() && !args.user {
                true => Scope::System,
                false => Scope::User,
            };
            quadlet(args, scope, &|error| {
                fail(error);
            })
        }
    }
}

/// The same, started by systemd.
pub fn as_generator(args: &QuadletArgs) -> u8 {
    // systemd.generator(7), "Environment".
    let scope = match std::env::var("SYSTEMD_SCOPE").as_deref() {
        Ok("system") if !args.user => Scope::System,
        _ => Scope::User,
    };
    match scope {
        Scope::System => quadlet(args, scope, &log),
        Scope::User => quadlet(args, scope, &|error| {
            fail(error);
        }),
    }
}

/// A line in the kernel's log: journald may not run yet. Where that cannot be written, on standard error, which for a
/// user's generator is the journal's.
fn log(error: &quadlet::Error) {
    let line = escape(&chain(error));
    let (name, pid) = (generator::NAME, std::process::id());
    let kernel = std::fs::OpenOptions::new().write(true).open("/dev/kmsg");
    // The level of errors (syslog(3)), and the whole in one write(2).
    let entry = format!("<3>{name}[{pid}]: {line}\n");
    if kernel
        .and_then(|mut log| log.write_all(entry.as_bytes()))
        .is_err()
    {
        fail(error);
    }
}

fn fail(error: &quadlet::Error) -> u8 {
    complain(&chain(error), error.hint().as_deref());
    125
}

/// Runs `with` with what units have to know of this machine.
fn with_host<T>(with: impl FnOnce(&Host<'_>) -> T) -> T {
    let program = std::env::current_exe().unwrap_or_else(|_| PathBuf::from("/usr/bin/rl"));
    let data_home = std::env::var_os("XDG_DATA_HOME").map(PathBuf::from);
    with(&Host {
        program: &program,
        data_home: data_home.as_deref().filter(|path| path.is_absolute()),
        exists: &|path: &Path| path.exists(),
    })
}

fn quadlet(args: &QuadletArgs, scope: Scope, tell: &dyn Fn(&quadlet::Error)) -> u8 {
    // Only this, as podman's generator takes it, for who tries files out.
    let directories = match std::env::var_os("QUADLET_UNIT_DIRS").filter(|dirs| !dirs.is_empty()) {
        Some(dirs) => std::env::split_paths(&dirs).collect(),
        None => match Places::find() {
            Ok(places) => generator::search_path(
                scope,
                rustix::process::getuid().as_raw(),
                Some(&places.config_home),
                places.runtime_dir.as_deref(),
            ),
            // Those of all users are left.
            Err(_) => generator::search_path(scope, rustix::process::getuid().as_raw(), None, None),
        },
    };
    let (found, mut errors) = generator::read(&directories);
    let generated = with_host(|host| generator::generate(found, host));
    let mut status = 0;
    if args.dry_run {
        status = print(shown(&generated).as_bytes());
    } else if let Some(directory) = args.directories.first() {
        errors.extend(generator::write(&generated, directory));
    }
    errors.extend(generated.errors);
    errors.iter().for_each(tell);
    match errors.is_empty() {
        true => status,
        false => 1,
    }
}

fn shown(generated: &Generated) -> String {
    let mut out = String::new();
    for (name, text) in &generated.units {
        out.push_str(&format!("---{name}---\n{text}\n"));
    }
    for (link, target) in &generated.links {
        out.push_str(&format!(
            "---{}--- -> {}\n",
            link.display(),
            target.display()
        ));
    }
    out
}

/// # Errors
/// No such container.
fn systemd(context: &Context<'_>, args: &SystemdArgs) -> Result<u8, Error> {
    let spec = lifecycle::find(context, &args.container)?.spec;
    let text = match unit(&spec, &args.unit, args.name) {
        Ok(text) => text,
        Err(error) => return Ok(fail(&error)),
    };
    if !args.files {
        return Ok(print(text.as_bytes()));
    }
    let path = PathBuf::from(format!("container-{}.service", spec.name));
    if let Err(error) = manager::replace(&path, &text) {
        return Ok(fail(&error));
    }
    let path = std::path::absolute(&path).unwrap_or(path);
    context.ui.data(&escape(&path.to_string_lossy()));
    Ok(0)
}

/// The text of a container's unit.
fn unit(spec: &ContainerSpec, args: &UnitArgs, by_name: bool) -> Result<String, quadlet::Error> {
    let unknown = quadlet::Error::Unfit {
        name: spec.name.clone(),
        why: "cannot be made anew: the words that made it are not known",
    };
    let new = match (args.new, &spec.typed) {
        (false, _) => None,
        (true, Some(typed)) => Some((typed.directory.clone(), again(&typed.words).ok_or(unknown)?)),
        (true, None) => return Err(unknown),
    };
    let options = Options {
        by_name,
        new,
        restart: args.restart_policy.clone(),
        time: args.time,
    };
    with_host(|host| existing::text(spec, &options, host))
}

/// Options that are the unit's business.
const DROPPED: &[&str] = &[
    "detach",
    "detach_keys",
    "interactive",
    "name",
    "no_tty",
    "replace",
    "restart",
    "rm",
    "tty",
];

/// The words of a command line in one form, without what is [`DROPPED`]; `None` where they are no longer understood.
fn again(words: &[String]) -> Option<Vec<String>> {
    let plain = || clap::Command::new("rl").disable_help_flag(true);
    let definition = || RunArgs::augment_args(plain()).no_binary_name(true);
    let mut command = definition();
    let mut matches = command.try_get_matches_from_mut(words);
    if matches.is_err() {
        command = flags::with_words(definition());
        matches = command.try_get_matches_from_mut(words);
    }
    let matches = matches.ok()?;
    let mut options = Vec::new();
    let mut rest = Vec::new();
    for arg in command.get_arguments() {
        let id = arg.get_id().as_str();
        let given = matches.try_contains_id(id).unwrap_or(false)
            && matches.value_source(id) == Some(ValueSource::CommandLine);
        if !given || DROPPED.contains(&id) {
            continue;
        }
        let values = matches.get_raw(id).into_iter().flatten();
        let values: Option<Vec<&str>> = values.map(|value| value.to_str()).collect();
        match arg.get_long() {
            None => rest.extend(values?.into_iter().map(str::to_owned)),
            Some(long) if arg.get_action().takes_values() => {
                options.extend(values?.iter().map(|value| format!("--{long}={value}")));
            }
            Some(long) => options.push(format!("--{long}")),
        }
    }
    if rest.first().is_some_and(|word| word.starts_with('-')) {
        options.push("--".to_owned());
    }
    options.extend(rest);
    Some(options)
}

/// `rl enable`.
///
/// # Errors
/// No such container.
pub fn enable(context: &Context<'_>, args: &EnableArgs) -> Result<u8, Error> {
    let spec = lifecycle::find(context, &args.container)?.spec;
    let enabled = || {
        let manager = Manager::find(&Places::find()?)?;
        let text = unit(&spec, &args.unit, true)?;
        let path = manager.enable(&spec.name, &text, args.now)?;
        Ok((manager, path))
    };
    match enabled() {
        Err(error) => Ok(fail(&error)),
        Ok((manager, path)) => {
            context.ui.data(&escape(&path.to_string_lossy()));
            if !manager.lingers() {
                let line = manager.linger_line();
                context.ui.notice(&format!(
                    "it starts at the first log-in and stops at the last log-out; `{line}` has it run from boot on"
                ));
            }
            Ok(0)
        }
    }
}

/// `rl disable`: returns the exit status.
pub fn disable(args: &DisableArgs) -> u8 {
    let done = Places::find()
        .and_then(|places| Manager::find(&places))
        .and_then(|manager| manager.disable(&args.container, args.now));
    match done {
        Ok(()) => 0,
        Err(error) => fail(&error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_that_make_a_container_anew() {
        let again = |line: &str| {
            let words: Vec<String> = line.split(' ').map(str::to_owned).collect();
            again(&words).map(|words| words.join(" "))
        };
        let same = |line: &str| assert_eq!(again(line).as_deref(), Some(line));
        same("--env=A=1 --env=B --tls-verify=false debian sh -c true");
        same("--rootfs=/x -- -c");
        let line = "-dit --name x --rm -e A=1 --restart always -p 80:80 --detach-keys=ctrl-x,x --read-only a b --rm";
        assert_eq!(
            again(line).as_deref(),
            Some("--env=A=1 --read-only --publish=80:80 a b --rm")
        );
        let line = "-it=false --rm=true --init=false --read-only a";
        assert_eq!(
            again(line).as_deref(),
            Some("--read-only=true --init=false a")
        );
        assert_eq!(again("--no-such-option debian"), None);
    }
}
