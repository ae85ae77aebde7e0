//! `--rm=false`: a flag that is or is not takes the word for it, as docker's do, and where its words are those of Go's
//! `strconv.ParseBool`. Help and completion do not speak of it, so it is only looked for when a command line does not
//! parse without.

use clap::builder::{PossibleValuesParser, TypedValueParser as _};
use clap::error::ErrorKind;
use clap::{Arg, ArgAction, Command, CommandFactory as _, FromArgMatches as _, Parser as _};

use super::Cli;

/// The words for no, and after them those for yes.
const WORDS: [&str; 12] = [
    "0", "f", "F", "false", "False", "FALSE", "1", "t", "T", "true", "True", "TRUE",
];

/// Reads the command line.
///
/// # Errors
/// It does not parse, or help is asked for.
pub fn parse() -> Result<Cli, clap::Error> {
    let error = match Cli::try_parse_from(std::env::args_os()) {
        Err(error) if error.kind() == ErrorKind::TooManyValues => error,
        other => return other,
    };
    let again = with_words(Cli::command()).try_get_matches_from(std::env::args_os());
    match again.and_then(|mut matches| Cli::from_arg_matches_mut(&mut matches)) {
        // Of what else is wrong the definition that is documented speaks.
        Err(other) if other.kind() == ErrorKind::TooManyValues => Err(error),
        other => other,
    }
}

/// The definition with a word at every flag.
pub(super) fn with_words(command: Command) -> Command {
    command.mut_args(with_word).mut_subcommands(with_words)
}

fn with_word(arg: Arg) -> Arg {
    if !matches!(arg.get_action(), ArgAction::SetTrue) {
        return arg;
    }
    let yes = |word: String| WORDS.iter().position(|w| *w == word) >= Some(WORDS.len() / 2);
    arg.action(ArgAction::Set)
        .num_args(0..=1)
        .require_equals(true)
        .default_value("false")
        .default_missing_value("true")
        .value_parser(PossibleValuesParser::new(WORDS).map(yes))
}
