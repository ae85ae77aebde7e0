//! The verbs on containers that exist.

use std::net::SocketAddr;
use std::time::Duration;

use super::which::{self, Which, there};
use super::{print, table};
use crate::engine::containers::Filter;
use crate::engine::exec::Exec;
use crate::engine::lifecycle::{self, AttachOptions};
use crate::engine::limits::LimitArgs;
use crate::engine::logs::{self, Logs};
use crate::engine::processes::{self, Top};
use crate::engine::wait::{self, Condition};
use crate::engine::{Context, Error, containers, exec, units, update};
use crate::model::spec::NetworkMode;
use crate::model::text::escape;
use crate::state::{State, Status};

/// Start containers that do not run
#[derive(Debug, clap::Args)]
pub struct StartArgs {
    /// Stay attached to its output
    #[arg(short, long)]
    attach: bool,
    /// Pass standard input on
    #[arg(short, long)]
    interactive: bool,
    /// Keys that detach from the container
    #[arg(long, value_name = "KEYS")]
    detach_keys: Option<String>,
    /// All that do not run
    #[arg(long, conflicts_with_all = ["containers", "attach", "interactive"])]
    all: bool,
    /// Of these only what fits, such as name=REGEX or label=KEY[=VALUE], as for `rl ps`
    #[arg(short, long, value_name = "FILTER", conflicts_with_all = ["containers", "attach", "interactive"])]
    filter: Vec<Filter>,
    /// Names or ids
    #[arg(required_unless_present_any = ["all", "filter"], value_name = "CONTAINER")]
    containers: Vec<String>,
}

/// End containers: their stop signal, then SIGKILL
#[derive(Debug, clap::Args)]
pub struct StopArgs {
    #[command(flatten)]
    how: How,
    /// Pass over containers that do not exist
    #[arg(short, long)]
    ignore: bool,
    #[command(flatten)]
    which: Which,
}

/// How containers are ended.
#[derive(Debug, clap::Args)]
struct How {
    /// Seconds until SIGKILL; -1: it never comes
    #[arg(short, long, alias = "timeout", value_name = "SECONDS", value_parser = units::patience, allow_negative_numbers = true)]
    time: Option<u32>,
    /// Another signal than its own
    #[arg(short, long)]
    signal: Option<String>,
}

/// Stop containers and start them again
#[derive(Debug, clap::Args)]
#[command(mut_arg("containers", |arg| arg.required_unless_present_any(["all", "filter", "cidfile", "running"])))]
pub struct RestartArgs {
    #[command(flatten)]
    how: How,
    /// All that run
    #[arg(long, conflicts_with_all = ["all", "containers", "cidfile"])]
    running: bool,
    #[command(flatten)]
    which: Which,
}

/// Send a signal to containers
#[derive(Debug, clap::Args)]
pub struct KillArgs {
    /// The signal
    #[arg(short, long, default_value = "KILL")]
    signal: String,
    #[command(flatten)]
    which: Which,
}

/// Stop all processes of containers in the middle of what they do
#[derive(Debug, clap::Args)]
pub struct PauseArgs {
    #[command(flatten)]
    which: Which,
}

/// Let paused containers go on
#[derive(Debug, clap::Args)]
pub struct UnpauseArgs {
    #[command(flatten)]
    which: Which,
}

/// Attach to a running container
#[derive(Debug, clap::Args)]
pub struct AttachArgs {
    /// Pass no standard input on
    #[arg(long)]
    no_stdin: bool,
    /// Pass signals on
    #[arg(long, value_name = "BOOL", default_value_t = true, action = clap::ArgAction::Set, num_args = 0..=1, default_missing_value = "true", require_equals = true)]
    sig_proxy: bool,
    /// Keys that detach from the container
    #[arg(long, value_name = "KEYS")]
    detach_keys: Option<String>,
    /// Name or id
    container: String,
}

/// Wait for the end of containers and print their exit statuses
#[derive(Debug, clap::Args)]
pub struct WaitArgs {
    /// Wait for another point, or one of several (then -1 is printed, but for those that have ended): created, exited,
    /// healthy, initialized, paused, removing, restarting, running, stopped, unhealthy, unknown
    #[arg(long, value_name = "CONDITION")]
    condition: Vec<Condition>,
    /// How often to look for it
    #[arg(short, long, value_name = "TIME", default_value = "250ms")]
    interval: String,
    /// Names or ids
    #[arg(required = true, value_name = "CONTAINER")]
    containers: Vec<String>,
}

/// Give a container another name
#[derive(Debug, clap::Args)]
pub struct RenameArgs {
    /// Name or id
    container: String,
    /// The new name
    name: String,
}

/// Change the limits and the restart policy of containers
#[derive(Debug, clap::Args)]
pub struct UpdateArgs {
    /// When to start the command again: no, on-failure[:TIMES], always, unless-stopped
    #[arg(long, value_name = "POLICY")]
    restart: Option<String>,
    #[command(flatten)]
    // Large, beside what other verbs take.
    limits: Box<LimitArgs>,
    /// Names or ids
    #[arg(required = true, value_name = "CONTAINER")]
    containers: Vec<String>,
}

/// Show the published ports of a container
#[derive(Debug, clap::Args)]
pub struct PortArgs {
    /// Those of all containers that run
    #[arg(short, long, conflicts_with = "container")]
    all: bool,
    /// Name or id
    #[arg(required_unless_present = "all")]
    container: Option<String>,
    /// Only this port
    #[arg(value_name = "PORT[/PROTO]")]
    port: Option<String>,
}

/// Execute a command in a running container
#[derive(Debug, clap::Args)]
pub struct ExecArgs {
    /// Do not wait for it
    #[arg(short, long)]
    detach: bool,
    /// Keys that detach from it
    #[arg(long, value_name = "KEYS")]
    detach_keys: Option<String>,
    /// Set an environment variable; without `=`, pass on the one of this name
    #[arg(short, long, value_name = "NAME[=VALUE]")]
    env: Vec<String>,
    /// Read environment variables from a file
    #[arg(long, value_name = "FILE")]
    env_file: Vec<std::path::PathBuf>,
    /// Pass standard input on
    #[arg(short, long)]
    interactive: bool,
    /// Give it a terminal
    #[arg(short, long)]
    tty: bool,
    /// User (and group), by name or number
    #[arg(short, long, value_name = "USER[:GROUP]")]
    user: Option<String>,
    /// Working directory inside
    #[arg(short, long, value_name = "DIR")]
    workdir: Option<String>,
    /// Name or id
    container: String,
    /// Command and arguments
    #[arg(
        required = true,
        trailing_var_arg = true,
        allow_hyphen_values = true,
        value_name = "COMMAND [ARG…]"
    )]
    command: Vec<String>,
}

/// Show what containers printed
#[derive(Debug, clap::Args)]
pub struct LogsArgs {
    /// Go on until the container ends
    #[arg(short, long)]
    follow: bool,
    /// Show when each line was printed
    #[arg(short, long)]
    timestamps: bool,
    /// Show what `--log-opt labels=…`, `env=…` and `tag=…` asked for beside each line
    #[arg(long)]
    details: bool,
    /// Show the last lines only
    #[arg(
        short = 'n',
        long,
        value_name = "NUMBER|all",
        default_value = "all",
        allow_negative_numbers = true
    )]
    tail: String,
    /// Show what was printed after this time (2026-01-31, 2026-01-31T10:00:00Z, seconds since 1970, or 10m ago)
    #[arg(long, value_name = "TIME")]
    since: Option<String>,
    /// Show what was printed before this time
    #[arg(long, value_name = "TIME")]
    until: Option<String>,
    /// Names or ids
    #[arg(required = true, value_name = "CONTAINER")]
    containers: Vec<String>,
}

/// Show the processes of a container
#[derive(Debug, clap::Args)]
pub struct TopArgs {
    /// Name or id
    container: String,
    /// Columns, such as `pid,user,args` (an unknown one lists them all), or options of ps(1)
    #[arg(
        trailing_var_arg = true,
        allow_hyphen_values = true,
        value_name = "COLUMNS|PS OPTIONS"
    )]
    words: Vec<String>,
}

/// Every success on a line of its own, every failure named; the exit status.
pub fn report(context: &Context<'_>, results: Vec<Result<String, Error>>) -> u8 {
    let mut status = 0;
    for result in results {
        match result {
            Ok(word) => context.ui.data(&word),
            Err(error) => {
                context.ui.fail(&error);
                status = 1;
            }
        }
    }
    status
}

/// `rl start`.
///
/// # Errors
/// As [`lifecycle::start`].
pub fn start(context: &Context<'_>, args: &StartArgs) -> Result<u8, Error> {
    if !args.attach && !args.interactive {
        let words = match args.all || !args.filter.is_empty() {
            true => which::all(context, &args.filter, |state| !state.is_alive())?,
            false => args.containers.clone(),
        };
        let start = |word: &String| lifecycle::start(context, word, None).map(|_| word.clone());
        return Ok(report(context, words.iter().map(start).collect()));
    }
    if args.containers.len() > 1 {
        return Err(Error::OnlyOne);
    }
    let options = AttachOptions {
        input: args.interactive,
        signals: true,
        detach_keys: args.detach_keys.clone(),
    };
    let status = lifecycle::start(context, &args.containers[0], Some(&options))?;
    Ok(status.unwrap_or(0))
}

fn signal(word: &Option<String>) -> Result<Option<i32>, Error> {
    let signal = word.as_deref().map(|word| units::signal("--signal", word));
    Ok(signal.transpose()?)
}

/// `rl stop`.
///
/// # Errors
/// No such signal; the containers cannot be read.
pub fn stop(context: &Context<'_>, args: &StopArgs) -> Result<u8, Error> {
    let signal = signal(&args.how.signal)?;
    let words = args.which.words(context, args.ignore, State::is_alive)?;
    let words = there(context, &words, args.ignore);
    let done = lifecycle::stop(context, &words, args.how.time, signal);
    Ok(report(context, done))
}

/// `rl restart`.
///
/// # Errors
/// No such signal; the containers cannot be read.
pub fn restart(context: &Context<'_>, args: &RestartArgs) -> Result<u8, Error> {
    let signal = signal(&args.how.signal)?;
    let words = match args.running {
        true => args.which.fitting(context, State::is_alive)?,
        false => args.which.words(context, false, |_| true)?,
    };
    let done = lifecycle::restart(context, &words, args.how.time, signal);
    Ok(report(context, done))
}

/// `rl kill`.
///
/// # Errors
/// No such signal; the containers cannot be read.
pub fn kill(context: &Context<'_>, args: &KillArgs) -> Result<u8, Error> {
    let signal = units::signal("--signal", &args.signal)?;
    let words = args.which.words(context, false, State::is_alive)?;
    Ok(report(context, lifecycle::kill(context, &words, signal)))
}

/// `rl pause`.
///
/// # Errors
/// The containers cannot be read.
pub fn pause(context: &Context<'_>, args: &PauseArgs) -> Result<u8, Error> {
    let runs = |state: &State| state.status == Status::Running;
    let words = args.which.words(context, false, runs)?;
    Ok(report(context, lifecycle::pause(context, &words, true)))
}

/// `rl unpause`.
///
/// # Errors
/// The containers cannot be read.
pub fn unpause(context: &Context<'_>, args: &UnpauseArgs) -> Result<u8, Error> {
    let rests = |state: &State| state.status == Status::Paused;
    let words = args.which.words(context, false, rests)?;
    Ok(report(context, lifecycle::pause(context, &words, false)))
}

/// `rl attach`.
///
/// # Errors
/// As [`lifecycle::attach`].
pub fn attach(context: &Context<'_>, args: &AttachArgs) -> Result<u8, Error> {
    let options = AttachOptions {
        input: !args.no_stdin,
        signals: args.sig_proxy,
        detach_keys: args.detach_keys.clone(),
    };
    lifecycle::attach(context, &args.container, &options)
}

/// `rl wait`.
///
/// # Errors
/// An interval that is none.
pub fn wait(context: &Context<'_>, args: &WaitArgs) -> Result<u8, Error> {
    // As podman has it, a bare number is of milliseconds.
    let interval = match args.interval.parse() {
        Ok(milliseconds) => milliseconds,
        Err(_) => units::duration("--interval", &args.interval)?,
    };
    let words = &args.containers;
    let lines = match &*args.condition {
        [] => {
            let statuses = wait::wait(context, words).into_iter();
            let lines = statuses.map(|status| status.map(|status| status.to_string()));
            lines.collect()
        }
        conditions => {
            let interval = Duration::from_millis(interval.max(1));
            let codes = wait::wait_for(context, words, conditions, interval).into_iter();
            let lines = codes.map(|code| code.map(|code| code.to_string()));
            lines.collect()
        }
    };
    Ok(report(context, lines))
}

/// `rl rename`.
///
/// # Errors
/// As [`lifecycle::rename`].
pub fn rename(context: &Context<'_>, args: &RenameArgs) -> Result<u8, Error> {
    lifecycle::rename(context, &args.container, &args.name)?;
    Ok(0)
}

/// `rl update`.
///
/// # Errors
/// No such policy.
pub fn update(context: &Context<'_>, args: &UpdateArgs) -> Result<u8, Error> {
    let policy = args.restart.as_deref().map(units::restart).transpose()?;
    if policy.is_none() && *args.limits == LimitArgs::default() {
        return Err(Error::NothingToUpdate);
    }
    let done = update::update(context, &args.containers, policy, &args.limits);
    Ok(report(context, done))
}

/// `rl port`.
///
/// # Errors
/// No such container, or the port is not published.
pub fn port(context: &Context<'_>, args: &PortArgs) -> Result<u8, Error> {
    let Some(word) = &args.container else {
        for container in containers::listed(context, false)? {
            // As podman has it.
            let id: String = container.spec.id.chars().take(12).collect();
            for (inside, outside) in
                published(&container.spec.network.publish, container.spec.network.mode)
            {
                context.ui.data(&format!("{id}\t{inside} -> {outside}"));
            }
        }
        return Ok(0);
    };
    let network = lifecycle::find(context, word)?.spec.network;
    let ports = published(&network.publish, network.mode);
    let Some(wanted) = &args.port else {
        for (inside, outside) in ports {
            context.ui.data(&format!("{inside} -> {outside}"));
        }
        return Ok(0);
    };
    let full = match wanted.contains('/') {
        true => wanted.clone(),
        false => format!("{wanted}/tcp"),
    };
    let found: Vec<_> = ports.iter().filter(|(inside, _)| *inside == full).collect();
    if found.is_empty() {
        return Err(Error::NoPort {
            name: word.clone(),
            port: full,
        });
    }
    for (_, outside) in found {
        context.ui.data(outside);
    }
    Ok(0)
}

/// What is published: where inside, and where on this machine.
fn published(publish: &[String], mode: NetworkMode) -> Vec<(String, String)> {
    let ports = containers::published(publish, mode).into_iter();
    let ports = ports.map(|(inside, ip, port)| (inside, SocketAddr::new(ip, port).to_string()));
    ports.collect()
}

/// `rl exec`.
///
/// # Errors
/// As [`exec::exec`].
pub fn execute(context: &Context<'_>, args: &ExecArgs) -> Result<u8, Error> {
    if args.tty
        && args.interactive
        && !args.detach
        && !rustix::termios::isatty(rustix::stdio::stdin())
    {
        return Err(Error::NoTerminal);
    }
    let command = Exec {
        args: args.command.clone(),
        env: args.env.clone(),
        env_file: args.env_file.clone(),
        user: args.user.clone(),
        workdir: args.workdir.clone(),
        tty: args.tty,
        input: args.interactive,
        detach: args.detach,
        detach_keys: args.detach_keys.clone(),
    };
    exec::exec(context, &args.container, &command)
}

/// `rl logs`.
///
/// # Errors
/// As [`logs::logs`].
pub fn logs(context: &Context<'_>, args: &LogsArgs) -> Result<u8, Error> {
    let options = Logs {
        follow: args.follow,
        timestamps: args.timestamps,
        details: args.details,
        tail: logs::tail(&args.tail)?,
        since: args
            .since
            .as_deref()
            .map(|t| logs::time("--since", t))
            .transpose()?,
        until: args
            .until
            .as_deref()
            .map(|t| logs::time("--until", t))
            .transpose()?,
    };
    logs::logs(context, &args.containers, &options)
}

/// `rl top`.
///
/// # Errors
/// As [`processes::top`].
pub fn top(context: &Context<'_>, args: &TopArgs) -> Result<u8, Error> {
    let cells = |line: Vec<String>| {
        let cells: Vec<String> = line.iter().map(|cell| escape(cell)).collect();
        cells.join("\t")
    };
    let text = match processes::top(context, &args.container, &args.words)? {
        Top::Lines(lines) => lines.iter().map(|line| escape(line) + "\n").collect(),
        Top::Cells(lines) => table::columns(&lines.into_iter().map(cells).collect::<Vec<_>>()),
    };
    Ok(print(text.as_bytes()))
}
