//! `rl exec`: a further command in a running container.

use std::borrow::Cow;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::time::Duration;

use helper_process::wait_readable;

use super::environment::merge_env;
use super::start::{exec_plan, to_join};
use super::{Context, Error, containers, keys, lifecycle};
use crate::model::spec::ContainerSpec;
use crate::monitor::client::{Attach, Outcome};
use crate::monitor::{self, ExecTask, Input};
use crate::state::{Container, Containers, Status};
use crate::sys::process;
use crate::{cgroup, userns};

/// What is asked for.
#[derive(Clone, Debug, Default)]
pub struct Exec {
    /// The command and its arguments.
    pub args: Vec<String>,
    /// `NAME=VALUE`, or `NAME` for the caller's own.
    pub env: Vec<String>,
    /// Files of such.
    pub env_file: Vec<std::path::PathBuf>,
    /// `user[:group]`; the container's own where `None`.
    pub user: Option<String>,
    /// Working directory; the container's own where `None`.
    pub workdir: Option<String>,
    /// Give it a terminal.
    pub tty: bool,
    /// Pass standard input on.
    pub input: bool,
    /// Do not wait for it.
    pub detach: bool,
    /// As typed.
    pub detach_keys: Option<String>,
}

/// Executes a command in a running container and returns its exit status.
///
/// # Errors
/// The container does not run, or the command cannot be executed.
pub fn exec(context: &Context<'_>, word: &str, exec: &Exec) -> Result<u8, Error> {
    let container = lifecycle::find(context, word)?;
    let first = first_process(&container, word)?;
    enter(context, &container, first.as_fd(), exec).map_err(|error| {
        let ended = match &error {
            Error::Monitor(monitor::Error::Absent) => true,
            // What failed because the container ended meanwhile says nothing of the command.
            error => error.status() == 125 && has_ended(first.as_fd()),
        };
        match ended {
            true => Error::NotRunning(word.to_owned()),
            false => error,
        }
    })
}

/// Its namespaces are gone a moment before its end can be seen.
fn has_ended(pidfd: BorrowedFd<'_>) -> bool {
    const MOMENT: Duration = Duration::from_millis(100);
    wait_readable(pidfd, MOMENT).is_ok_and(|ended| ended)
}

/// The same, in the container whose first process is `first`.
fn enter(
    context: &Context<'_>,
    container: &Container,
    first: BorrowedFd<'_>,
    exec: &Exec,
) -> Result<u8, Error> {
    let group = container.state.group.as_deref();
    if exec.detach && group.is_none() {
        // Its monitor is born where this process is.
        let _ = cgroup::leave_session(&format!("rl exec {}", container.spec.name));
    }
    let program = to_join(&container.spec);
    let monitor = monitor::exec::enter(first, group, &program)?;
    let spec = specification(&container.spec, exec)?;
    let setgroups = setgroups(context, &spec, first)?;
    let task = ExecTask {
        plan: Cow::Owned(exec_plan(&spec, setgroups, container.dir())?),
        input: match (exec.input, exec.detach) {
            (true, false) => Input::Clients,
            _ => Input::Nothing,
        },
        detached: exec.detach,
    };
    let notice = |text: &str| context.ui.notice(text);
    let detail = |text: &str| context.ui.detail(text);
    let attach = Attach {
        tty: spec.tty && rustix::termios::isatty(rustix::stdio::stdin()),
        stdin: exec.input || spec.tty,
        rewind: false,
        detach_keys: keys::parse(exec.detach_keys.as_deref())?,
        own: true,
        signals: true,
        muted: [false; 2],
    };
    let client = monitor.execute(&task)?;
    let containers = Containers::new(context.dirs.containers());
    let event = |action: &str, more: &[(&str, String)]| {
        containers.event(&container.spec, action, more);
    };
    event(&format!("exec_start: {}", exec.args.join(" ")), &[]);
    let failed = |error| not_found(error, &container.spec.name);
    if exec.detach {
        client.await_start(&notice, &detail).map_err(failed)?;
        return Ok(0);
    }
    let outcome = client.attach(attach, &notice, &detail, &mut || {});
    match outcome.map_err(failed)? {
        Outcome::Ended(ended) => {
            event("exec_die", &[("exitCode", ended.status().to_string())]);
            Ok(ended.status())
        }
        Outcome::Detached => Ok(0),
    }
}

/// What is not in this container is looked for there.
fn not_found(mut error: monitor::Error, name: &str) -> monitor::Error {
    if let monitor::Error::Start(failure) = &mut error
        && failure.status == 127
    {
        let look = format!("`rl exec {name} sh` is a shell to look around in, if there is one");
        failure.hint.get_or_insert(look);
    }
    error
}

/// A hold on the first process.
///
/// # Errors
/// The container does not run now, or is paused.
fn first_process(container: &Container, word: &str) -> Result<OwnedFd, Error> {
    match container.state.status {
        Status::Paused => return Err(Error::Paused(word.to_owned())),
        Status::Restarting => return Err(Error::Restarting(word.to_owned())),
        _ => {}
    }
    containers::hold(container).ok_or_else(|| Error::NotRunning(word.to_owned()))
}

/// Whether setgroups(2) is allowed in the container's user namespace: what its first process has, or where that is not
/// shown, what it must have been given.
fn setgroups(
    context: &Context<'_>,
    spec: &ContainerSpec,
    first: BorrowedFd<'_>,
) -> Result<bool, Error> {
    let number = process::proc_pid_of(first).map(|pid| pid.as_raw_nonzero().to_string());
    let shown = number.as_deref().and_then(userns::setgroups);
    shown.map_or_else(|| Ok(containers::plan_for(context, spec)?.setgroups), Ok)
}

/// The container's own words with the command's in their place.
fn specification(spec: &ContainerSpec, exec: &Exec) -> Result<ContainerSpec, Error> {
    Ok(ContainerSpec {
        args: exec.args.clone(),
        env: merge_env(&spec.env, &exec.env_file, &exec.env, exec.tty)?,
        user: exec.user.clone().unwrap_or_else(|| spec.user.clone()),
        cwd: exec.workdir.clone().unwrap_or_else(|| spec.cwd.clone()),
        tty: exec.tty,
        ..spec.clone()
    })
}
