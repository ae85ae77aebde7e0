//! `rl unshare`: a command in the user's id maps, where files of subordinate ids can be looked at and removed.

use std::ffi::OsString;
use std::os::unix::process::CommandExt as _;
use std::process::Command;

use nix::sched::CloneFlags;

use super::{Context, Error};
use crate::sys::{mount, process};
use crate::userns;

/// Runs `command`, the shell of the environment when it is empty, as root of a user namespace with the caller's
/// default maps and in a mount namespace of its own. Returns its exit status.
///
/// # Errors
/// No user namespace. What fails in it is printed there, and its status returned.
pub fn unshare(context: &Context<'_>, command: &[OsString]) -> Result<u8, Error> {
    let plan = userns::plan(&userns::Mode::Default, context.caller()?)?;
    // A terminal's interrupt is for the command: should this process end of it, the command would be killed.
    for signal in [libc::SIGINT, libc::SIGQUIT] {
        process::ignore_signal(signal);
    }
    Ok(userns::run_inside(&plan, || {
        context.ui.fail(&execute(command))
    })?)
}

/// Becomes the command; returns only when that failed.
fn execute(command: &[OsString]) -> Error {
    let shell = || std::env::var_os("SHELL").filter(|shell| !shell.is_empty());
    let (program, args) = match command.split_first() {
        Some((program, args)) => (program.clone(), args),
        None => (shell().unwrap_or_else(|| "/bin/sh".into()), command),
    };
    let failed = |source| Error::Execute {
        program: program.clone(),
        source,
    };
    let separate = nix::sched::unshare(CloneFlags::CLONE_NEWNS)
        .map_err(std::io::Error::from)
        .and_then(|()| Ok(mount::make_private()?));
    if let Err(source) = separate {
        return failed(source);
    }
    let mut command = Command::new(&program);
    command.args(args);
    if !rustix::process::geteuid().is_root() {
        command.uid(0).gid(0);
    }
    process::reset_signals();
    failed(command.exec())
}
