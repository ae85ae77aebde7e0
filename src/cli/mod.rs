//! Words in, words out: the command line, what is printed, the exit status.

mod bootstrap;
mod changes;
mod complete;
mod containers;
mod doctor;
mod events;
mod files;
mod flags;
mod groups;
mod healthcheck;
mod images;
mod lifecycle;
pub mod manual;
mod networks;
mod not_yet;
pub mod progress;
mod pull;
mod stats;
mod system;
mod table;
mod units;
mod usage;
mod volumes;
mod which;

use std::io::{IsTerminal as _, Write as _};

use clap::CommandFactory as _;

use crate::engine::{self, Context, Error, Ui, run_args};
use crate::model::text::escape;
use crate::sys::patient::Patient;

/// Containers for people without root.
#[derive(Debug, clap::Parser)]
#[command(
    name = "rl",
    version,
    about,
    subcommand_required = true,
    arg_required_else_help = true
)]
#[command(after_help = "Examples:
  rl run ubuntu sh          a shell in a container of the image `ubuntu`
  rl pull debian:bookworm   fetch an image
  rl images                 what is there")]
pub struct Cli {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, clap::Subcommand)]
enum Verb {
    #[command(
        override_usage = "rl run [OPTIONS] IMAGE [COMMAND [ARG…]]",
        disable_help_flag = true
    )]
    Run(Box<run_args::RunArgs>),
    Pull(pull::PullArgs),
    Bootstrap(bootstrap::BootstrapArgs),
    #[command(
        override_usage = "rl create [OPTIONS] IMAGE [COMMAND [ARG…]]",
        disable_help_flag = true
    )]
    Create(Box<CreateArgs>),
    Start(lifecycle::StartArgs),
    Stop(lifecycle::StopArgs),
    Restart(lifecycle::RestartArgs),
    Kill(lifecycle::KillArgs),
    Pause(lifecycle::PauseArgs),
    Unpause(lifecycle::UnpauseArgs),
    Exec(lifecycle::ExecArgs),
    Attach(lifecycle::AttachArgs),
    Logs(lifecycle::LogsArgs),
    Top(lifecycle::TopArgs),
    Stats(stats::StatsArgs),
    Wait(lifecycle::WaitArgs),
    Rename(lifecycle::RenameArgs),
    Volume(volumes::VolumeArgs),
    Network(networks::NetworkArgs),
    Update(lifecycle::UpdateArgs),
    Port(lifecycle::PortArgs),
    Ps(containers::PsArgs),
    Rm(containers::RmArgs),
    Cp(files::CpArgs),
    Export(files::ExportArgs),
    Commit(files::CommitArgs),
    Events(events::EventsArgs),
    Container(groups::ContainerArgs),
    Image(groups::ImageArgs),
    System(groups::SystemArgs),
    Info(system::InfoArgs),
    Version(system::VersionArgs),
    Healthcheck(healthcheck::HealthcheckArgs),
    History(images::HistoryArgs),
    #[command(skip)]
    Exists(which::Kind, which::ExistsArgs),
    #[command(skip)]
    Df(system::DfArgs),
    #[command(skip)]
    Prune(system::Prune),
    #[command(skip)]
    Reset(system::ResetArgs),
    Diff(changes::DiffArgs),
    Apply(changes::ApplyArgs),
    Images(images::ImagesArgs),
    Rmi(images::RmiArgs),
    Load(images::LoadArgs),
    Save(images::SaveArgs),
    Import(images::ImportArgs),
    Tag(images::TagArgs),
    Inspect(images::InspectArgs),
    Unshare(files::UnshareArgs),
    Doctor(doctor::DoctorArgs),
    Generate(units::GenerateArgs),
    Enable(units::EnableArgs),
    Disable(units::DisableArgs),
    /// Print a completion script for a shell
    Completion {
        /// bash, zsh, fish, elvish or powershell
        shell: clap_complete::Shell,
    },
    /// Write the manual pages into a directory
    Man {
        /// The directory
        directory: std::path::PathBuf,
    },
    /// What completion scripts ask
    #[command(name = "__complete", hide = true)]
    Complete {
        /// The words after `rl`, as far as they are typed
        #[arg(last = true)]
        words: Vec<String>,
    },
}

/// The verbs that are run by the hundred, without building the definition of all others, which takes longer than
/// to do what they do. What is not understood is left to that one.
fn quick() -> Option<Verb> {
    let mut words = std::env::args_os().skip(1);
    let verb = words.next()?;
    let words = words.collect();
    match verb.to_str()? {
        "run" => only(words).map(|args| Verb::Run(Box::new(args))),
        "exec" => only(words).map(Verb::Exec),
        "ps" => only(words).map(Verb::Ps),
        _ => None,
    }
}

fn only<A: clap::Args>(words: Vec<std::ffi::OsString>) -> Option<A> {
    let command = clap::Command::new("rl").disable_help_flag(true);
    let command = A::augment_args(command).no_binary_name(true);
    let matches = command.try_get_matches_from(words).ok()?;
    A::from_arg_matches(&matches).ok()
}

/// Make a container without starting it
#[derive(Debug, clap::Args)]
struct CreateArgs {
    #[command(flatten)]
    run: run_args::RunArgs,
}

/// Runs the program and returns its exit status.
pub fn main() -> u8 {
    crate::sys::process::settle_signals();
    let verb = match quick() {
        Some(verb) => verb,
        None => match flags::parse() {
            Ok(cli) => cli.verb,
            Err(error) => return usage::explain(&error),
        },
    };
    perform(verb)
}

fn perform(verb: Verb) -> u8 {
    match verb {
        Verb::Container(args) => perform(args.into()),
        Verb::Image(args) => perform(args.into()),
        Verb::System(args) => perform(args.into()),
        Verb::Exists(kind, args) => with_plain(|context| which::exists(context, kind, &args)),
        Verb::Df(args) => with_plain(|context| system::df(context, &args)),
        Verb::Prune(what) => with_plain(|context| system::prune(context, &what)),
        Verb::Reset(args) => with_plain(|context| system::reset(context, &args)),
        Verb::Info(args) => with_plain(|context| system::info(context, &args)),
        Verb::Version(args) => match system::version(&args) {
            Ok(status) => status,
            Err(error) => Terminal::default().fail(&error),
        },
        Verb::Healthcheck(args) => with_plain(|context| healthcheck::healthcheck(context, &args)),
        Verb::History(args) => with_plain(|context| images::history(context, &args)),
        Verb::Run(mut args) => {
            args.typed = units::typed();
            run(&args)
        }
        Verb::Create(mut args) => with_context(&run_ui(&args.run), |context| {
            args.run.typed = units::typed();
            let id = engine::run::create(context, &args.run)?;
            Ok(print(format!("{id}\n").as_bytes()))
        }),
        Verb::Start(args) => with_plain(|context| lifecycle::start(context, &args)),
        Verb::Stop(args) => with_plain(|context| lifecycle::stop(context, &args)),
        Verb::Restart(args) => with_plain(|context| lifecycle::restart(context, &args)),
        Verb::Kill(args) => with_plain(|context| lifecycle::kill(context, &args)),
        Verb::Pause(args) => with_plain(|context| lifecycle::pause(context, &args)),
        Verb::Unpause(args) => with_plain(|context| lifecycle::unpause(context, &args)),
        Verb::Exec(args) => with_plain(|context| lifecycle::execute(context, &args)),
        Verb::Attach(args) => with_plain(|context| lifecycle::attach(context, &args)),
        Verb::Logs(args) => with_plain(|context| lifecycle::logs(context, &args)),
        Verb::Top(args) => with_plain(|context| lifecycle::top(context, &args)),
        Verb::Stats(args) => with_plain(|context| stats::stats(context, &args)),
        Verb::Wait(args) => with_plain(|context| lifecycle::wait(context, &args)),
        Verb::Volume(args) => with_plain(|context| volumes::volume(context, &args)),
        Verb::Network(args) => with_plain(|context| networks::network(context, &args)),
        Verb::Rename(args) => with_plain(|context| lifecycle::rename(context, &args)),
        Verb::Update(args) => with_plain(|context| lifecycle::update(context, &args)),
        Verb::Port(args) => with_plain(|context| lifecycle::port(context, &args)),
        Verb::Pull(args) => {
            let ui = Terminal {
                quiet: args.quiet,
                verbose: false,
            };
            with_context(&ui, |context| {
                Ok(print(pull::pull(context, &args)?.as_bytes()))
            })
        }
        Verb::Bootstrap(args) => {
            let ui = Terminal {
                quiet: args.quiet,
                verbose: args.verbose,
            };
            with_context(&ui, |context| bootstrap::bootstrap(context, &ui, &args))
        }
        Verb::Images(args) => with_context(&Terminal::default(), |context| {
            images::images(context, &args)
        }),
        Verb::Rmi(args) => {
            with_context(&Terminal::default(), |context| images::rmi(context, &args))
        }
        Verb::Load(args) => {
            with_context(&Terminal::default(), |context| images::load(context, &args))
        }
        Verb::Save(args) => {
            with_context(&Terminal::default(), |context| images::save(context, &args))
        }
        Verb::Import(args) => with_context(&Terminal::default(), |context| {
            images::import(context, &args)
        }),
        Verb::Tag(args) => {
            with_context(&Terminal::default(), |context| images::tag(context, &args))
        }
        Verb::Inspect(args) => with_context(&Terminal::default(), |context| {
            images::inspect(context, &args)
        }),
        Verb::Ps(args) => with_context(&Terminal::default(), |context| {
            Ok(print(containers::ps(context, &args)?.as_bytes()))
        }),
        Verb::Rm(args) => with_plain(|context| {
            let done = containers::rm(context, &args)?;
            Ok(lifecycle::report(context, done))
        }),
        Verb::Cp(args) => with_plain(|context| files::cp(context, &args)),
        Verb::Export(args) => with_plain(|context| files::export(context, &args)),
        Verb::Commit(args) => with_plain(|context| files::commit(context, &args)),
        Verb::Events(args) => with_plain(|context| events::events(context, &args)),
        Verb::Diff(args) => with_context(&Terminal::default(), |context| {
            Ok(print(&changes::diff(context, &args)?))
        }),
        Verb::Apply(args) => with_context(&Terminal::default(), |context| {
            engine::apply::apply(context, &args.container, args.yes)?;
            Ok(0)
        }),
        Verb::Unshare(args) => with_context(&Terminal::default(), |context| {
            engine::unshare::unshare(context, &args.command)
        }),
        Verb::Doctor(args) => match doctor::doctor(&args) {
            Ok((text, status)) => print(text.as_bytes()).max(status),
            Err(error) => Terminal::default().fail(&error),
        },
        Verb::Generate(args) => units::generate(&args),
        Verb::Enable(args) => with_plain(|context| units::enable(context, &args)),
        Verb::Disable(args) => units::disable(&args),
        Verb::Completion { shell } => completion(shell),
        Verb::Man { directory } => match manual::write(&Cli::command(), &directory) {
            Ok(()) => 0,
            Err(error) => {
                let hint = format!("mkdir -p {}", directory.display());
                complain(&format!("`{}`: {error}", directory.display()), Some(&hint));
                125
            }
        },
        Verb::Complete { words } => {
            let ui = Terminal {
                quiet: true,
                verbose: false,
            };
            let context = Context::find(&ui).ok();
            let mut command = Cli::command();
            command.build();
            match complete::offers(&command, &words, context.as_ref()) {
                Some(offers) => print(
                    offers
                        .iter()
                        .map(|o| format!("{o}\n"))
                        .collect::<String>()
                        .as_bytes(),
                ),
                None => 1,
            }
        }
    }
}

/// Runs the program as a generator of systemd's and returns its exit status.
pub fn generator() -> u8 {
    match only(std::env::args_os().skip(1).collect()) {
        Some(args) => units::as_generator(&args),
        None => {
            complain("a generator takes three directories", None);
            125
        }
    }
}

/// A script of ours, or where we have none that of the definition, which offers verbs and options only.
fn completion(shell: clap_complete::Shell) -> u8 {
    use clap_complete::Shell;
    match shell {
        Shell::Bash => print(complete::BASH.as_bytes()),
        Shell::Zsh => print(complete::ZSH.as_bytes()),
        Shell::Fish => print(complete::FISH.as_bytes()),
        other => {
            let mut out = Vec::new();
            clap_complete::generate(other, &mut Cli::command(), "rl", &mut out);
            print(&out)
        }
    }
}

fn run(args: &run_args::RunArgs) -> u8 {
    with_context(&run_ui(args), |context| engine::run::run(context, args))
}

fn run_ui(args: &run_args::RunArgs) -> Terminal {
    Terminal {
        quiet: args.quiet,
        verbose: args.verbose,
    }
}

fn with_plain(verb: impl FnOnce(&Context<'_>) -> Result<u8, Error>) -> u8 {
    with_context(&Terminal::default(), verb)
}

/// Runs a verb that needs to know where things are.
fn with_context(ui: &Terminal, verb: impl FnOnce(&Context<'_>) -> Result<u8, Error>) -> u8 {
    let result = Context::find(ui).and_then(|context| verb(&context));
    result.unwrap_or_else(|error| ui.fail(&error))
}

/// The person at the other end of standard error. What is told may name what a container or an image has named: it is
/// escaped here, whoever tells it.
#[derive(Debug, Default)]
struct Terminal {
    quiet: bool,
    verbose: bool,
}

impl Ui for Terminal {
    fn notice(&self, text: &str) {
        if !self.quiet {
            let _ = writeln!(Patient(std::io::stderr()), "rl: {}", escape(text));
        }
    }

    fn detail(&self, text: &str) {
        if self.verbose {
            let _ = writeln!(Patient(std::io::stderr()), "rl: {}", escape(text));
        }
    }

    fn show(&self, text: &str) {
        let _ = writeln!(Patient(std::io::stderr()), "{}", escape(text));
    }

    fn data(&self, text: &str) {
        print(format!("{text}\n").as_bytes());
    }

    fn ask(&self, question: &str) -> bool {
        let _ = write!(Patient(std::io::stderr()), "{} [y/N] ", escape(question));
        let mut answer = String::new();
        let read = std::io::stdin().read_line(&mut answer);
        read.is_ok() && matches!(answer.trim().to_ascii_lowercase().as_str(), "y" | "yes")
    }

    fn progress(&self) -> Box<dyn engine::pull::Progress> {
        progress::for_stderr(self.quiet)
    }

    fn fail(&self, error: &Error) -> u8 {
        if !matches!(error, Error::Reported(_)) {
            complain(&error.line(), error.hint().as_deref());
        }
        error.status()
    }
}

/// One error, and below it what to do about it.
fn complain(message: &str, hint: Option<&str>) {
    let mut err = Patient(std::io::stderr().lock());
    let color = err.0.is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|v| v.is_empty());
    let (red, cyan, off) = if color {
        ("\x1b[31m", "\x1b[36m", "\x1b[m")
    } else {
        ("", "", "")
    };
    let _ = writeln!(err, "{red}error:{off} {}", escape(message));
    if let Some(hint) = hint {
        let _ = writeln!(err, "{cyan}hint:{off} {}", escape(hint));
    }
}

/// Data for standard output; a reader that has gone is no error.
fn print(bytes: &[u8]) -> u8 {
    let mut out = Patient(std::io::stdout().lock());
    match out.write_all(bytes).and_then(|()| out.flush()) {
        Err(e) if e.kind() != std::io::ErrorKind::BrokenPipe => {
            complain(&format!("write(stdout): {e}"), None);
            125
        }
        _ => 0,
    }
}
