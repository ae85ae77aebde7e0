//! The processes of a container, seen from outside.

mod columns;

pub use columns::Unknown;

use std::process::Command;

use super::{Context, Error, containers, lifecycle};
use crate::state::{Container, Status};
use crate::sys::proc;

/// The numbers on this machine of the processes in the pid namespace of a running container.
///
/// # Errors
/// It does not run.
pub fn of(context: &Context<'_>, word: &str) -> Result<Vec<i32>, Error> {
    of_container(&lifecycle::find(context, word)?, word)
}

fn of_container(container: &Container, word: &str) -> Result<Vec<i32>, Error> {
    if container.state.status == Status::Restarting {
        return Err(Error::Restarting(word.to_owned()));
    }
    let held = containers::hold(container);
    let _held = held.ok_or_else(|| Error::NotRunning(word.to_owned()))?;
    let first = container.state.pid.unwrap_or_default();
    proc::beside(first).ok_or_else(|| Error::Unfit {
        name: word.to_owned(),
        why: "shares the process ids of this machine: its processes cannot be told from others",
    })
}

/// What is known of the processes of a container.
#[derive(Clone, Debug)]
pub enum Top {
    /// Lines of ps(1), with its head.
    Lines(Vec<String>),
    /// The cells of lines, with their heads.
    Cells(Vec<Vec<String>>),
}

/// The processes of a container: the columns that `words` name, or the lines of ps(1) with these options (`-ef` where
/// there are none).
///
/// # Errors
/// It does not run; no such column; ps fails, or prints no process ids.
pub fn top(context: &Context<'_>, word: &str, words: &[String]) -> Result<Top, Error> {
    let columns = columns::asked(words).transpose()?;
    let container = lifecycle::find(context, word)?;
    let pids = of_container(&container, word)?;
    Ok(match columns {
        Some(columns) => Top::Cells(columns::table(&container.spec, &pids, &columns)),
        None => Top::Lines(ps(&pids, words)?),
    })
}

fn ps(pids: &[i32], options: &[String]) -> Result<Vec<String>, Error> {
    let standard = ["-ef".to_owned()];
    let options = if options.is_empty() {
        &standard
    } else {
        options
    };
    let run = |more: &[String]| {
        let out = Command::new("ps").args(options).args(more).output();
        out.map_err(|source| Error::Ps(source.to_string()))
    };
    // As docker does: `-o pid,cmd` alone would show what is on this terminal. Not every option goes with it, and not every
    // ps has it.
    let pids_only = pids.iter().map(i32::to_string).collect::<Vec<_>>();
    let chosen = run(&["-q".to_owned(), pids_only.join(",")])?;
    if chosen.status.success() {
        let text = String::from_utf8_lossy(&chosen.stdout);
        return Ok(text.lines().map(str::to_owned).collect());
    }
    let out = run(&[])?;
    if !out.status.success() {
        let words = String::from_utf8_lossy(&out.stderr);
        return Err(Error::Ps(
            words.lines().next().unwrap_or_default().to_owned(),
        ));
    }
    let text = String::from_utf8_lossy(&out.stdout).into_owned();
    let mut lines = text.lines();
    let head = lines.next().unwrap_or_default();
    let column = head.split_whitespace().position(|name| name == "PID");
    let column = column.ok_or_else(|| Error::Ps("it prints no column `PID`".into()))?;
    let is_ours = |line: &&str| {
        let pid = line.split_whitespace().nth(column);
        pid.and_then(|pid| pid.parse().ok())
            .is_some_and(|pid| pids.contains(&pid))
    };
    let ours = lines.filter(is_ours).map(str::to_owned);
    Ok([head.to_owned()].into_iter().chain(ours).collect())
}
