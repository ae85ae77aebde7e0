//! `rl unshare`.

use std::ffi::OsString;

/// Run a command in your id maps, to look at or remove files of subordinate ids
#[derive(Debug, clap::Args)]
pub struct UnshareArgs {
    /// The command and its arguments; $SHELL without them
    #[arg(
        trailing_var_arg = true,
        allow_hyphen_values = true,
        value_name = "COMMAND"
    )]
    pub command: Vec<OsString>,
}
