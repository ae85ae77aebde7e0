//! `rl export`: a container's root file system as a tar.

use std::io::ErrorKind;
use std::os::fd::AsFd as _;
use std::path::Path;

use super::super::output::{self, Output};
use super::super::{Context, Error, lifecycle};
use super::{View, visit};
use crate::store::pack::{PackError, Packer, Rules};

/// Writes the root file system of a container, without what is mounted in it, to a file, or to standard output. A
/// file is written beside its name and then renamed.
///
/// # Errors
/// No such container; its files cannot be read; the archive cannot be written.
pub fn export(context: &Context<'_>, word: &str, output: Option<&Path>) -> Result<(), Error> {
    let container = lifecycle::find(context, word)?;
    let work = |file: Output| {
        visit(context, &container, View::Bare, |inside| {
            let mut packer = Packer::new(file, Rules::PLAIN);
            told(
                context,
                packer
                    .tree(inside.root.as_fd(), true)
                    .and_then(|()| packer.finish()),
            )
        })
    };
    match output {
        Some(path) => output::to_file(path, work),
        None => work(stdout()?),
    }
}

/// Tells what was left out of an archive. Who reads no more of it has seen enough; there is nobody to tell.
pub(super) fn told<W>(
    context: &Context<'_>,
    packed: Result<(W, Vec<String>), PackError>,
) -> Result<(), Error> {
    match packed {
        Err(PackError::Write(error)) if error.kind() == ErrorKind::BrokenPipe => {
            Err(Error::Reported(1))
        }
        Err(error) => Err(error.into()),
        Ok((_, notes)) => {
            notes.iter().for_each(|note| context.ui.notice(note));
            Ok(())
        }
    }
}

/// Standard output for data that is no text.
pub(super) fn stdout() -> Result<Output, Error> {
    if rustix::termios::isatty(rustix::stdio::stdout()) {
        return Err(Error::TerminalOutput);
    }
    output::stdout()
}
