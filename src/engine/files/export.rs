//! `rl export`: a container's root file system as a tar.

use std::io::BufWriter;
use std::os::fd::AsFd as _;
use std::path::Path;

use super::super::{Context, Error, lifecycle};
use super::{View, visit};
use crate::store::pack::{Packer, Rules};

/// Writes the root file system of a container, without what is mounted in it, to a file, or to standard output. A
/// file is written beside its name and then renamed.
///
/// # Errors
/// No such container; its files cannot be read; the archive cannot be written.
pub fn export(context: &Context<'_>, word: &str, output: Option<&Path>) -> Result<(), Error> {
    let container = lifecycle::find(context, word)?;
    let work = |file: BufWriter<std::fs::File>| {
        visit(context, &container, View::Bare, |inside| {
            let mut packer = Packer::new(file, Rules::PLAIN);
            packer.tree(inside.root.as_fd(), true)?;
            for note in packer.finish()?.1 {
                context.ui.notice(&note);
            }
            Ok(())
        })
    };
    match output {
        Some(path) => super::super::output::to_file(path, work),
        None => work(stdout()?),
    }
}

/// Standard output for data that is no text.
pub(super) fn stdout() -> Result<BufWriter<std::fs::File>, Error> {
    if rustix::termios::isatty(rustix::stdio::stdout()) {
        return Err(Error::TerminalOutput);
    }
    super::super::output::stdout()
}
