//! `rl wait`: for the end of containers, or for another point in their lives.
//!
//! The end is told by the monitor. Other points are looked for in what is noted of the container, from time to time;
//! the connection to the monitor is held meanwhile, so that the exit status of one that is removed at its end is not missed.

use std::str::FromStr;
use std::time::Duration;

use super::lifecycle::{connect, find};
use super::{Context, Error, containers};
use crate::monitor::client::Client;
use crate::state::{self, Container, Containers, Status, Verdict};
use crate::sys::process::Ended;

/// A point in a container's life, in podman's words (podman-wait(1), `--condition`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Condition {
    /// It stands there.
    Is(Status),
    /// Its checks say so.
    Health(Verdict),
    /// It is not there any more.
    Removed,
    /// What is noted of it cannot be read.
    Unknown,
}

/// The words.
pub const CONDITIONS: [(&str, Condition); 11] = [
    ("created", Condition::Is(Status::Created)),
    ("exited", Condition::Is(Status::Exited)),
    ("healthy", Condition::Health(Verdict::Healthy)),
    // There is nothing between a container that is made and one whose command runs.
    ("initialized", Condition::Is(Status::Created)),
    ("paused", Condition::Is(Status::Paused)),
    ("removing", Condition::Removed),
    ("restarting", Condition::Is(Status::Restarting)),
    ("running", Condition::Is(Status::Running)),
    ("stopped", Condition::Is(Status::Exited)),
    ("unhealthy", Condition::Health(Verdict::Unhealthy)),
    ("unknown", Condition::Unknown),
];

/// A word that is no condition.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a condition: {words} or {last}", words = CONDITIONS.map(|(word, _)| word)[..10].join(", "), last = CONDITIONS[10].0)]
pub struct ConditionError(String);

impl FromStr for Condition {
    type Err = ConditionError;

    fn from_str(text: &str) -> Result<Self, ConditionError> {
        // Podman has another word for one that is made.
        let word = if text == "configured" {
            "created"
        } else {
            text
        };
        let found = CONDITIONS.iter().find(|(known, _)| *known == word);
        let found = found.map(|(_, condition)| *condition);
        found.ok_or_else(|| ConditionError(text.to_owned()))
    }
}

/// Waits for the end of containers; the exit status of each.
pub fn wait(context: &Context<'_>, words: &[String]) -> Vec<Result<u8, Error>> {
    let ask = |word: &String| {
        let mut container = find(context, word)?;
        let mut client = connect(&container, word);
        if matches!(client, Err(Error::NotRunning(_))) {
            // It may be about to end, or to start.
            containers::await_release(&container);
            container = find(context, word)?;
            client = connect(&container, word);
        }
        match client {
            Ok(client) => Ok(Waited::For(client, Box::new(container))),
            Err(Error::NotRunning(_)) => Ok(Waited::Since(container.state.ended)),
            Err(error) => Err(error),
        }
    };
    let asked: Vec<Result<Waited, Error>> = words.iter().map(ask).collect();
    let wait = |waited: Waited| match waited {
        Waited::For(client, container) => match client.await_end() {
            Ok(ended) => Ok(ended.status()),
            Err(error) => {
                // Its monitor was killed: whoever looks for it then ends it.
                containers::await_release(&container);
                match find(context, &container.spec.id).map(|found| found.state) {
                    Ok(state) if !state.is_alive() => Ok(state.ended.map_or(0, Ended::status)),
                    _ => Err(error.into()),
                }
            }
        },
        Waited::Since(ended) => Ok(ended.map_or(0, Ended::status)),
    };
    asked
        .into_iter()
        .map(|asked| asked.and_then(wait))
        .collect()
}

/// What is waited for.
enum Waited {
    /// The end of a command that runs, in this container.
    For(Client, Box<Container>),
    /// It has ended, if ever it was started.
    Since(Option<Ended>),
}

/// Waits until one of the conditions holds for each container, looking every `interval`: the exit status where it has
/// ended, else -1, as podman has it.
pub fn wait_for(
    context: &Context<'_>,
    words: &[String],
    conditions: &[Condition],
    interval: Duration,
) -> Vec<Result<i32, Error>> {
    let begin = |word: &String| Pending::new(context, word, conditions);
    let mut all: Vec<(&String, Pending)> = words.iter().map(|w| (w, begin(w))).collect();
    loop {
        let mut open = false;
        for (word, pending) in &mut all {
            pending.look(context, word, conditions);
            open |= pending.result.is_none();
        }
        if !open {
            let results = all.into_iter().filter_map(|(_, pending)| pending.result);
            return results.collect();
        }
        std::thread::sleep(interval);
    }
}

/// What is waited for of one container.
struct Pending {
    /// Its id, by which it is found whatever it is called by then.
    id: String,
    /// To its monitor, while there is one.
    client: Option<Client>,
    result: Option<Result<i32, Error>>,
}

impl Pending {
    fn new(context: &Context<'_>, word: &str, conditions: &[Condition]) -> Pending {
        let found = find(context, word);
        let health = |c: &Condition| matches!(c, Condition::Health(_));
        let result = match &found {
            Ok(container) if container.spec.health.is_none() && conditions.iter().all(health) => {
                Some(Err(Error::Unfit {
                    name: word.to_owned(),
                    why: "has no check of its health (`--health-cmd`)",
                }))
            }
            _ => None,
        };
        Pending {
            id: found.map_or_else(|_| word.to_owned(), |container| container.spec.id),
            client: None,
            result,
        }
    }

    fn look(&mut self, context: &Context<'_>, word: &str, conditions: &[Condition]) {
        if self.result.is_some() {
            return;
        }
        let ends = conditions.contains(&Condition::Is(Status::Exited));
        let found = find(context, &self.id);
        let unreadable = || {
            let containers = Containers::new(context.dirs.containers());
            let damaged = matches!(found, Err(Error::State(state::Error::Damaged { .. })));
            damaged || containers.is_torn(&self.id)
        };
        if conditions.contains(&Condition::Unknown) && found.is_err() && unreadable() {
            self.result = Some(Ok(-1));
            return;
        }
        self.result = match found {
            Ok(container) => self.judge(&container, word, conditions),
            Err(Error::State(state::Error::NotFound(_)))
                if conditions.contains(&Condition::Removed) =>
            {
                Some(Ok(-1))
            }
            Err(Error::State(state::Error::NotFound(_))) if ends && self.client.is_some() => {
                let client = self.client.take();
                client.map(|client| Ok(client.await_end()?.status().into()))
            }
            Err(Error::State(state::Error::NotFound(_))) => {
                Some(Err(state::Error::NotFound(word.to_owned()).into()))
            }
            Err(error) => Some(Err(error)),
        };
    }

    fn judge(
        &mut self,
        container: &Container,
        word: &str,
        conditions: &[Condition],
    ) -> Option<Result<i32, Error>> {
        let state = &container.state;
        if !state.is_alive() {
            self.client = None;
        } else if self.client.is_none() {
            self.client = connect(container, word).ok();
        }
        let verdict = state.health.as_ref().map(|health| health.verdict);
        let holds = |condition: &Condition| match condition {
            Condition::Is(status) => *status == state.status,
            Condition::Health(wanted) => state.is_alive() && verdict == Some(*wanted),
            Condition::Removed | Condition::Unknown => false,
        };
        if conditions.iter().any(holds) {
            let code = match state.status {
                Status::Exited => state.ended.map_or(0, Ended::status).into(),
                _ => -1,
            };
            return Some(Ok(code));
        }
        let health = |c: &Condition| matches!(c, Condition::Health(_));
        let over = state.status == Status::Exited && conditions.iter().all(health);
        over.then(|| {
            Err(Error::Unfit {
                name: word.to_owned(),
                why: "has ended, so that nobody looks after its health any more",
            })
        })
    }
}
