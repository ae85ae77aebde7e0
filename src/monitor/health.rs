//! Checks: a command run in the container from time to time, which tells by its exit status whether it is well
//! (docker run reference, `--health-cmd`).

use std::ffi::CString;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;
use std::time::{Duration, Instant};

use super::Task;
use super::null;
use crate::cgroup;
use crate::model::spec;
use crate::model::time::now_rfc3339_nanos;
use crate::runtime::proto::{FromInit, receive};
use crate::runtime::{self, ExecPlan, Launched, Stdio};
use crate::state::{Check, Health, Verdict};
use crate::sys::process::Child;

/// How many checks are remembered, as in Docker.
const REMEMBERED: usize = 5;

/// Bytes of output that are remembered of one.
const OUTPUT: usize = 4096;

/// What a check needs, decided by the engine.
#[derive(Debug)]
pub struct HealthTask {
    /// The command.
    pub plan: ExecPlan,
    /// When and how long.
    pub config: spec::Health,
}

/// The checks of a running container.
#[derive(Debug, Default)]
pub(super) struct Checks {
    config: Option<spec::Health>,
    began: Option<Instant>,
    next: Option<Instant>,
    current: Option<Current>,
    health: Health,
}

/// One that runs.
#[derive(Debug)]
struct Current {
    launched: Launched,
    /// Whether the child is the command itself.
    joined: bool,
    /// Something is to be read from the channel, or the child ended.
    ready: bool,
    output: helper_process::Log,
    start: String,
    limit: Instant,
}

impl Checks {
    pub fn new(task: &Task<'_>) -> Checks {
        let config = task.health.as_ref().map(|health| health.config.clone());
        let health = Health::default();
        let began = Instant::now();
        if config.is_some() {
            let first = Some(health.clone());
            let _ = task.container.change(false, |state| state.health = first);
        }
        Checks {
            next: config
                .as_ref()
                .map(|c| began + Duration::from_millis(c.interval)),
            config,
            began: Some(began),
            current: None,
            health,
        }
    }

    /// When [`Checks::turn`] has something to do at the latest.
    pub fn next(&self) -> Option<Instant> {
        match &self.current {
            Some(current) => Some(current.limit),
            None => self.next,
        }
    }

    /// Readable when it has.
    pub fn poll_fd(&self) -> Option<BorrowedFd<'_>> {
        let current = self.current.as_ref().filter(|current| !current.ready)?;
        Some(match current.joined {
            true => current.launched.child.as_fd(),
            false => current.launched.channel.as_fd(),
        })
    }

    /// [`Checks::poll_fd`] is readable.
    pub fn ready(&mut self) {
        if let Some(current) = &mut self.current {
            current.ready = true;
        }
    }

    /// Starts, goes on with or ends a check, as it is time.
    pub fn turn(&mut self, task: &Task<'_>, container: &Child, group: Option<&Path>) {
        let now = Instant::now();
        if let Some(current) = &mut self.current {
            if std::mem::take(&mut current.ready) {
                if let Some(status) = current.advance() {
                    self.finish(task, status);
                }
            } else if current.limit <= now {
                let _ = current.launched.child.signal(libc::SIGKILL);
                let _ = current.launched.child.wait();
                self.finish(task, -1);
            }
        } else if self.next.is_some_and(|at| at <= now)
            && let Some(health) = &task.health
        {
            match start(health, task, container, group) {
                Ok(current) => self.current = Some(current),
                Err(_) => self.next = Some(now + Duration::from_millis(health.config.interval)),
            }
        }
    }

    fn finish(&mut self, task: &Task<'_>, status: i32) {
        let (Some(current), Some(config)) = (self.current.take(), &self.config) else {
            return;
        };
        let ran = self.began.map_or(Duration::MAX, |began| began.elapsed());
        let early = ran < Duration::from_millis(config.start_period);
        let health = &mut self.health;
        if status == 0 {
            (health.verdict, health.failing) = (Verdict::Healthy, 0);
        } else if !(early && health.verdict == Verdict::Starting) {
            health.failing += 1;
            if health.failing >= config.retries {
                health.verdict = Verdict::Unhealthy;
            }
        }
        let mut output = current.output.text();
        let cut = output.floor_char_boundary(OUTPUT);
        output.truncate(cut);
        health.checks.push(Check {
            start: current.start,
            end: now_rfc3339_nanos(),
            status,
            output,
        });
        let old = health.checks.len().saturating_sub(REMEMBERED);
        health.checks.drain(..old);
        let told = Some(health.clone());
        let _ = task.container.change(false, |state| state.health = told);
        self.next = Some(Instant::now() + Duration::from_millis(config.interval));
    }

    /// The container has ended, and with it the check.
    pub fn end(&mut self) {
        if let Some(current) = self.current.take() {
            super::start::end(&current.launched.child);
        }
    }
}

impl Current {
    /// What came; the exit status when it has ended.
    fn advance(&mut self) -> Option<i32> {
        if self.joined {
            return Some(self.reap());
        }
        match receive::<FromInit>(&self.launched.channel) {
            Ok(Some((FromInit::Joined, Some(pidfd)))) => {
                if let Ok(command) = Child::from_pidfd(pidfd) {
                    let joiner = std::mem::replace(&mut self.launched.child, command);
                    let _ = joiner.wait();
                    self.joined = true;
                }
                None
            }
            Ok(Some((FromInit::Failed(error), _))) => {
                let _ = self.launched.child.wait();
                Some(i32::from(error.status()))
            }
            Ok(Some(_)) => None,
            Ok(None) | Err(_) => Some(self.reap()),
        }
    }

    fn reap(&self) -> i32 {
        let ended = self.launched.child.wait();
        ended.map_or(125, |ended| i32::from(ended.status()))
    }
}

fn start(
    health: &HealthTask,
    task: &Task<'_>,
    container: &Child,
    group: Option<&Path>,
) -> Result<Current, ()> {
    let output = helper_process::Log::new().map_err(drop)?;
    let stdio = Stdio {
        stdin: null().map_err(drop)?,
        stdout: output.file().map_err(drop)?,
        stderr: output.file().map_err(drop)?,
    };
    let program: Option<CString> = task.program.clone();
    let leaf = group.map(|dir| cgroup::leaf_beside(dir, container.proc_pid()));
    let leaf = leaf.transpose().map_err(drop)?;
    let leaf = leaf.as_ref().map(AsFd::as_fd);
    let (program, target) = (program.as_deref(), container.as_fd());
    let launched = runtime::join(&health.plan, &stdio, program, target, leaf);
    Ok(Current {
        launched: launched.map_err(drop)?,
        joined: false,
        ready: false,
        output,
        start: now_rfc3339_nanos(),
        limit: Instant::now() + Duration::from_millis(health.config.timeout),
    })
}
