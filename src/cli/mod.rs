//! Words in, words out: the command line, what is printed, the exit status.

mod bootstrap;
mod containers;
mod images;
pub mod progress;
mod pull;

use std::io::{IsTerminal as _, Write as _};

use clap::{CommandFactory as _, Parser as _};

use crate::engine::{self, Context, Error, Ui, run_args};
use crate::model::text::escape;

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
    #[command(override_usage = "rl run [OPTIONS] IMAGE [COMMAND [ARG…]]")]
    Run(Box<run_args::RunArgs>),
    Pull(pull::PullArgs),
    Bootstrap(bootstrap::BootstrapArgs),
    Ps(containers::PsArgs),
    Rm(containers::RmArgs),
    Images(images::ImagesArgs),
    Rmi(images::RmiArgs),
    Load(images::LoadArgs),
    Save(images::SaveArgs),
    Import(images::ImportArgs),
    Tag(images::TagArgs),
    Inspect(images::InspectArgs),
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
}

/// Runs the program and returns its exit status.
pub fn main() -> u8 {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return usage(error),
    };
    match cli.verb {
        Verb::Run(args) => run(&args),
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
        Verb::Rm(args) => with_context(&Terminal::default(), |context| {
            let (done, failed) = containers::rm(context, &args);
            let status = print(done.as_bytes());
            Ok(failed
                .iter()
                .map(|error| context.ui.fail(error))
                .fold(status, u8::max)
                .min(1))
        }),
        Verb::Completion { shell } => {
            let mut out = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "rl", &mut out);
            print(&out)
        }
        Verb::Man { directory } => match clap_mangen::generate_to(Cli::command(), &directory) {
            Ok(()) => 0,
            Err(error) => {
                complain(&format!("`{}`: {error}", directory.display()), None);
                125
            }
        },
    }
}

fn run(args: &run_args::RunArgs) -> u8 {
    let ui = Terminal {
        quiet: args.quiet,
        verbose: args.verbose,
    };
    with_context(&ui, |context| engine::run::run(context, args))
}

/// Runs a verb that needs to know where things are.
fn with_context(ui: &Terminal, verb: impl FnOnce(&Context<'_>) -> Result<u8, Error>) -> u8 {
    let result = Context::find(ui).and_then(|context| verb(&context));
    result.unwrap_or_else(|error| ui.fail(&error))
}

/// The person at the other end of standard error.
#[derive(Debug, Default)]
struct Terminal {
    quiet: bool,
    verbose: bool,
}

impl Ui for Terminal {
    fn notice(&self, text: &str) {
        if !self.quiet {
            let _ = writeln!(std::io::stderr(), "rl: {text}");
        }
    }

    fn detail(&self, text: &str) {
        if self.verbose {
            let _ = writeln!(std::io::stderr(), "rl: {text}");
        }
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
    let mut err = std::io::stderr().lock();
    let color = err.is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|v| v.is_empty());
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
    let mut out = std::io::stdout().lock();
    match out.write_all(bytes).and_then(|()| out.flush()) {
        Err(e) if e.kind() != std::io::ErrorKind::BrokenPipe => {
            complain(&format!("write(stdout): {e}"), None);
            125
        }
        _ => 0,
    }
}

/// A command line that does not parse: help and version are answers, the rest is an error.
fn usage(error: clap::Error) -> u8 {
    use clap::error::{ContextKind, ContextValue, ErrorKind};
    let run = std::env::args_os().nth(1).is_some_and(|verb| verb == "run");
    match error.kind() {
        ErrorKind::UnknownArgument if run => match error.get(ContextKind::InvalidArg) {
            Some(ContextValue::String(word)) => unknown_option(word),
            _ => unknown_option(""),
        },
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => {
            print(error.render().to_string().as_bytes())
        }
        _ => {
            let _ = error.print();
            125
        }
    }
}

/// An option before the image that `rl run` does not know. Docker's and podman's are named as such.
fn unknown_option(word: &str) -> u8 {
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
