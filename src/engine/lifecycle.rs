//! Verbs on containers that exist: start, stop, kill, restart, pause, attach, rename, update.
//!
//! What concerns a running container is asked of its monitor, which is the parent of the command and holds its
//! lock; so no verb signals a number that it read somewhere. Where several are named, all are asked before any is
//! waited for.

use std::time::{Duration, Instant};

use super::keys;
use super::start::{Start, start as start_on};
use super::{Context, Error, containers, mounts, network, ready, told};
use crate::model::spec::ContainerSpec;
use crate::monitor;
use crate::monitor::client::{Attach, Client, Outcome};
use crate::monitor::wire::ToMonitor;
use crate::state::{self, Container, Containers, Locked, Status};

/// How to attach to a container.
#[derive(Clone, Debug, Default)]
pub struct AttachOptions {
    /// Standard input is passed on.
    pub input: bool,
    /// Signals are passed on.
    pub signals: bool,
    /// As typed.
    pub detach_keys: Option<String>,
}

/// The container of this name, id or unique id prefix.
///
/// # Errors
/// There is none, or several.
pub fn find(context: &Context<'_>, word: &str) -> Result<Container, Error> {
    let mut container = Containers::new(context.dirs.containers()).find(word)?;
    containers::end_orphan(&mut container);
    Ok(container)
}

/// Starts a container that does not run. Without `attach` it returns `None` when the command runs.
///
/// # Errors
/// It cannot be started; one that runs already is no error, unless it is to be attached to.
pub fn start(
    context: &Context<'_>,
    word: &str,
    attach: Option<&AttachOptions>,
) -> Result<Option<u8>, Error> {
    let mut container = find(context, word)?;
    if container.state.status == Status::Running && containers::hold(&container).is_none() {
        // It has just ended, which its monitor is about to note.
        containers::await_release(&container);
        container = find(context, word)?;
    }
    if container.state.is_alive() {
        return match attach {
            Some(options) => self::attach(context, word, options).map(Some),
            None => Ok(None),
        };
    }
    let locked = match at_rest(context, word, &mut container)? {
        Some(locked) => locked,
        // Another command has started it meanwhile.
        None => {
            let attached = attach.map(|options| self::attach(context, word, options));
            return attached.transpose();
        }
    };
    monitor::end_left(&locked);
    let spec = &container.spec;
    let plan = containers::plan_for(context, spec)?;
    let user = context.begin(&plan)?;
    let network = network::decide(context, &spec.network.request)?;
    let attach = attach
        .map(|options| client_options(spec, options))
        .transpose()?;
    let task = Start {
        spec,
        plan: &plan,
        user,
        network,
        attach: attach.map(|attach| Attach {
            own: true,
            ..attach
        }),
        container: &locked,
        before: Some(&container.state),
    };
    let outcome = start_on(context, task)?;
    if outcome.is_none() {
        told::of_logout(context, spec);
    }
    Ok(outcome.map(status))
}

/// Locks a container that does not run; `None` when it runs by then. While another command has it, which may be about to
/// start it, that is waited for.
fn at_rest(
    context: &Context<'_>,
    word: &str,
    container: &mut Container,
) -> Result<Option<Locked>, Error> {
    let deadline = Instant::now() + Duration::from_secs(10);
    loop {
        match container.lock() {
            Ok(locked) => return Ok(Some(locked)),
            Err(state::Error::Running(_)) if Instant::now() < deadline => {}
            Err(error) => return Err(error.into()),
        }
        std::thread::sleep(Duration::from_millis(1));
        *container = find(context, word)?;
        let ends =
            || container.state.status == Status::Running && containers::hold(container).is_none();
        if container.state.is_alive() && !ends() {
            return Ok(None);
        }
    }
}

/// Attaches to a running container until it ends or the keys are typed; returns the exit status.
///
/// # Errors
/// It does not run.
pub fn attach(context: &Context<'_>, word: &str, options: &AttachOptions) -> Result<u8, Error> {
    let container = find(context, word)?;
    if container.state.status == Status::Paused {
        return Err(Error::Paused(word.to_owned()));
    }
    let client = connect(&container, word)?;
    let how = client_options(&container.spec, options)?;
    let notice = |text: &str| context.ui.notice(text);
    let detail = |text: &str| context.ui.detail(text);
    Ok(status(client.attach(how, &notice, &detail, &mut || {
        ready::tell(&notice)
    })?))
}

fn client_options(spec: &ContainerSpec, options: &AttachOptions) -> Result<Attach, Error> {
    let terminal = rustix::termios::isatty(rustix::stdio::stdin());
    // A command that has a terminal is interrupted by what is typed there. Where nothing is passed on, who looks on
    // interrupts that alone, as for docker.
    let looks_on = spec.tty && !options.input;
    Ok(Attach {
        tty: spec.tty && terminal && options.input,
        stdin: options.input,
        rewind: false,
        detach_keys: keys::parse(options.detach_keys.as_deref())?,
        own: false,
        signals: options.signals && !looks_on,
        muted: [false; 2],
    })
}

fn status(outcome: Outcome) -> u8 {
    match outcome {
        Outcome::Ended(ended) => ended.status(),
        Outcome::Detached => 0,
    }
}

/// A connection to the monitor.
///
/// # Errors
/// The container does not run.
pub(super) fn connect(container: &Container, word: &str) -> Result<Client, Error> {
    if !container.state.is_alive() {
        return Err(Error::NotRunning(word.to_owned()));
    }
    match Client::connect(container.dir()) {
        Err(monitor::Error::Absent) => Err(Error::NotRunning(word.to_owned())),
        other => Ok(other?),
    }
}

/// Asks the monitor for something that only a running container can do: one whose monitor goes away meanwhile runs no more.
fn ask_running(client: &Client, word: &str, message: &ToMonitor) -> Result<(), Error> {
    match client.ask(message) {
        Err(monitor::Error::Gone) => Err(Error::NotRunning(word.to_owned())),
        other => Ok(other?),
    }
}

/// One result for each word, in their order: all are asked first, then each is waited for.
fn each<T>(
    words: &[String],
    ask: impl Fn(&str) -> Result<T, Error>,
    finish: impl Fn(&str, T) -> Result<(), Error>,
) -> Vec<Result<String, Error>> {
    let asked: Vec<_> = words.iter().map(|word| ask(word)).collect();
    let words = words.iter().zip(asked);
    words
        .map(|(word, asked)| finish(word, asked?).map(|()| word.clone()))
        .collect()
}

/// Ends containers: their stop signal, and after `seconds` (or their own number) SIGKILL. One that does not run
/// is stopped already.
pub fn stop(
    context: &Context<'_>,
    words: &[String],
    seconds: Option<u32>,
    signal: Option<i32>,
) -> Vec<Result<String, Error>> {
    let ask = |word: &str| {
        let container = find(context, word)?;
        if !container.state.is_alive() {
            return Ok(None);
        }
        let client = match connect(&container, word) {
            // It has ended meanwhile.
            Err(Error::NotRunning(_)) => return Ok(None),
            other => other?,
        };
        let signal = signal.unwrap_or(container.spec.stop_signal);
        let seconds = seconds.unwrap_or(container.spec.stop_timeout);
        match client.tell(&ToMonitor::Stop(signal, seconds)) {
            Ok(()) | Err(monitor::Error::Gone) => Ok(Some((client, container))),
            Err(error) => Err(error.into()),
        }
    };
    each(words, ask, |_, asked| {
        if let Some((client, container)) = asked {
            let _ = client.await_end();
            containers::await_release(&container);
        }
        Ok(())
    })
}

/// Stops and starts again.
pub fn restart(
    context: &Context<'_>,
    words: &[String],
    seconds: Option<u32>,
    signal: Option<i32>,
) -> Vec<Result<String, Error>> {
    let stopped = stop(context, words, seconds, signal);
    let start = |word: String| start(context, &word, None).map(|_| word);
    stopped
        .into_iter()
        .map(|done| done.and_then(start))
        .collect()
}

/// Sends a signal. After one that nobody survives the containers have ended.
pub fn kill(context: &Context<'_>, words: &[String], signal: i32) -> Vec<Result<String, Error>> {
    let ask = |word: &str| {
        let container = find(context, word)?;
        Ok((connect(&container, word)?, container))
    };
    each(words, ask, |word, (client, container)| {
        ask_running(&client, word, &ToMonitor::Kill(signal))?;
        if signal == libc::SIGKILL {
            let _ = client.await_end();
            containers::await_release(&container);
        }
        Ok(())
    })
}

/// Stops everything in a container in the middle of what it does, or lets it go on.
pub fn pause(context: &Context<'_>, words: &[String], on: bool) -> Vec<Result<String, Error>> {
    let wrong = |status: Status| match (on, status) {
        (true, Status::Paused) => Some("is paused already"),
        (false, Status::Running) => Some("is not paused"),
        _ => None,
    };
    let ask = |word: &str| {
        let container = find(context, word)?;
        if container.state.status == Status::Restarting {
            return Err(Error::Restarting(word.to_owned()));
        }
        match wrong(container.state.status) {
            Some(why) => Err(Error::Unfit {
                name: word.to_owned(),
                why,
            }),
            None => connect(&container, word),
        }
    };
    let finish = |word: &str, client: Client| ask_running(&client, word, &ToMonitor::Pause(on));
    each(words, ask, finish)
}

/// Gives a container another name.
///
/// # Errors
/// The name is taken, or no name.
pub fn rename(context: &Context<'_>, word: &str, name: &str) -> Result<(), Error> {
    if !mounts::is_name(name) {
        return Err(Error::Name(name.to_owned()));
    }
    let containers = Containers::new(context.dirs.containers());
    let container = containers.find(word)?;
    if container.spec.name == name {
        return Err(Error::Unfit {
            name: word.to_owned(),
            why: "has this name already",
        });
    }
    containers.rename(&container, name)?;
    tell_change(&container, name)
}

/// Has the monitor, if there is one, look at the specification again.
pub(super) fn tell_change(container: &Container, word: &str) -> Result<(), Error> {
    match connect(container, word) {
        Ok(client) => Ok(client.ask(&ToMonitor::Reread)?),
        Err(Error::NotRunning(_)) => Ok(()),
        Err(error) => Err(error),
    }
}
