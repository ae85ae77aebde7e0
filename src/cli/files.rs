//! The verbs on containers' files: `rl cp`, `export`, `commit`, `unshare`.

use std::ffi::OsString;
use std::path::PathBuf;

use crate::engine::files::{self, Commit, Copy};
use crate::engine::{Context, Error};
use crate::model::Reference;

/// Copy files between a container and this machine
#[derive(Debug, clap::Args)]
#[command(override_usage = "rl cp [OPTIONS] CONTAINER:PATH PATH|-
       rl cp [OPTIONS] PATH|- CONTAINER:PATH")]
pub struct CpArgs {
    /// Keep owners
    #[arg(short, long)]
    archive: bool,
    /// Follow a link in the source
    #[arg(short = 'L', long)]
    follow_link: bool,
    /// Say nothing (it says nothing anyway; for Docker's sake)
    #[arg(short, long)]
    quiet: bool,
    /// CONTAINER:PATH, a path, or `-` for a tar on standard input
    source: String,
    /// CONTAINER:PATH, a path, or `-` for a tar on standard output
    target: String,
}

/// Write a container's root file system as a tar
#[derive(Debug, clap::Args)]
pub struct ExportArgs {
    /// The file; standard output without it
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Name or id
    container: String,
}

/// Make an image of what a container has become
#[derive(Debug, clap::Args)]
pub struct CommitArgs {
    /// Who made it, such as `Ada <ada@example.org>`
    #[arg(short, long)]
    author: Option<String>,
    /// Set the configuration with a Dockerfile instruction such as `CMD ["sh"]`
    #[arg(short, long, value_name = "INSTRUCTION")]
    change: Vec<String>,
    /// A comment for the image's history
    #[arg(short, long)]
    message: Option<String>,
    /// Pause the container meanwhile
    #[arg(short, long, value_name = "BOOL", default_value_t = true, action = clap::ArgAction::Set, num_args = 0..=1, default_missing_value = "true", require_equals = true)]
    pause: bool,
    /// Print nothing but the image's id (it does anyway; for podman's sake)
    #[arg(short, long)]
    quiet: bool,
    /// Let the container go on meanwhile, which is `--pause=false`
    #[arg(long)]
    no_pause: bool,
    /// Name or id
    container: String,
    /// The image's name
    #[arg(value_name = "REPOSITORY[:TAG]")]
    reference: Option<Reference>,
}

/// `rl cp`.
///
/// # Errors
/// As [`files::copy`].
pub fn cp(context: &Context<'_>, args: &CpArgs) -> Result<u8, Error> {
    let request = Copy {
        source: args.source.clone(),
        target: args.target.clone(),
        archive: args.archive,
        follow: args.follow_link,
    };
    files::copy(context, &request)?;
    Ok(0)
}

/// `rl export`.
///
/// # Errors
/// As [`files::export`].
pub fn export(context: &Context<'_>, args: &ExportArgs) -> Result<u8, Error> {
    files::export(context, &args.container, args.output.as_deref())?;
    Ok(0)
}

/// `rl commit`.
///
/// # Errors
/// As [`files::commit`].
pub fn commit(context: &Context<'_>, args: &CommitArgs) -> Result<u8, Error> {
    let request = Commit {
        reference: args.reference.clone(),
        changes: args.change.clone(),
        author: args.author.clone(),
        message: args.message.clone(),
        pause: args.pause && !args.no_pause,
    };
    files::commit(context, &args.container, &request)?;
    Ok(0)
}

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
