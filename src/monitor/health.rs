//! Checks: a command run in the container from time to time, which tells by its exit status whether it is well
//! (docker run reference, `--health-cmd`).

use std::borrow::Cow;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::io::Errno;

use super::exec::{self, ExecTask};
use super::wire::{self, FromMonitor, ToMonitor};
use super::{Input, Task};
use crate::model::spec;
use crate::model::time::now_rfc3339_nanos;
use crate::runtime::{ExecPlan, Program};
use crate::state::{Check, Health, Verdict};
use crate::sys::process::Child;
use crate::sys::socket::Channel;

/// How many checks are remembered, as in Docker.
const REMEMBERED: usize = 5;

/// Bytes of output that are remembered of one.
const OUTPUT: usize = 4096;

/// The exit status of a check that took too long, as in Docker.
const TOO_LONG: i32 = -1;

/// What a check needs, decided by the engine.
#[derive(Debug)]
pub struct HealthTask {
    /// The command.
    pub plan: ExecPlan,
    /// How its stage is run.
    pub program: Program,
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
    /// Somebody wants one now.
    asked: bool,
    /// How many were started.
    count: u32,
    health: Health,
}

/// What a turn has led to.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Turn {
    /// A check has ended for which somebody has asked.
    pub asked: bool,
    /// The container has become unhealthy.
    pub unhealthy: bool,
}

/// One that runs.
#[derive(Debug)]
struct Current {
    /// To its monitor.
    channel: Channel,
    monitor: Child,
    /// Something is to be read from the channel.
    ready: bool,
    output: Vec<u8>,
    start: String,
    limit: Instant,
    /// Somebody has asked for it.
    asked: bool,
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
        let mut checks = Checks {
            next: None,
            config,
            began: Some(began),
            current: None,
            asked: false,
            count: 0,
            health,
        };
        checks.await_next();
        checks
    }

    /// The next one follows after its time from now: in the start period, until one has told of a success, that is
    /// another than later.
    fn await_next(&mut self) {
        let starts = self.health.verdict == Verdict::Starting && self.is_early();
        let wait = self.config.as_ref().map(|config| match starts {
            true => config.start_interval(),
            false => config.interval,
        });
        self.next = wait.map(|wait| Instant::now() + Duration::from_millis(wait));
    }

    /// Whether it is within the start period.
    fn is_early(&self) -> bool {
        let period = self.config.as_ref().map_or(0, |c| c.start_period);
        let ran = self.began.map_or(Duration::MAX, |began| began.elapsed());
        ran < Duration::from_millis(period)
    }

    /// When [`Checks::turn`] has something to do at the latest.
    pub fn next(&self) -> Option<Instant> {
        match &self.current {
            Some(current) => Some(current.limit),
            None if self.asked => Some(Instant::now()),
            None => self.next,
        }
    }

    /// Somebody wants one now, or after the one that runs, which may have seen how it was before; false where there is
    /// none.
    pub fn ask(&mut self) -> bool {
        self.asked = self.config.is_some();
        self.asked
    }

    /// The number of the check that runs, and what is readable when there is something to do for it.
    pub fn running(&self) -> Option<(u32, BorrowedFd<'_>)> {
        let current = self.current.as_ref().filter(|current| !current.ready)?;
        Some((self.count, current.channel.as_fd()))
    }

    /// What [`Checks::running`] gave is readable.
    pub fn ready(&mut self) {
        if let Some(current) = &mut self.current {
            current.ready = true;
        }
    }

    /// Starts, goes on with or ends a check, as it is time.
    pub fn turn(&mut self, task: &Task<'_>, container: &Child, group: Option<&Path>) -> Turn {
        let now = Instant::now();
        if let Some(current) = &mut self.current {
            if std::mem::take(&mut current.ready) {
                if let Some(status) = current.advance() {
                    return self.finish(task, status);
                }
            } else if current.limit <= now {
                return self.finish(task, TOO_LONG);
            }
        } else if (self.asked || self.next.is_some_and(|at| at <= now))
            && let Some(health) = &task.health
        {
            let asked = std::mem::take(&mut self.asked);
            match start(health, container, group) {
                Ok(current) => {
                    self.count = self.count.wrapping_add(1);
                    self.current = Some(Current { asked, ..current });
                }
                Err(_) => {
                    self.await_next();
                    return Turn {
                        asked,
                        ..Turn::default()
                    };
                }
            }
        }
        Turn::default()
    }

    fn finish(&mut self, task: &Task<'_>, status: i32) -> Turn {
        let early = self.is_early();
        let (Some(current), Some(config)) = (self.current.take(), &self.config) else {
            return Turn::default();
        };
        // Who has asked since is told of the next.
        let asked = current.asked && !self.asked;
        let (output, start) = current.stop();
        let health = &mut self.health;
        let before = health.verdict;
        if status == 0 {
            (health.verdict, health.failing) = (Verdict::Healthy, 0);
        } else if !(early && health.verdict == Verdict::Starting) {
            health.failing += 1;
            if health.failing >= config.retries {
                health.verdict = Verdict::Unhealthy;
            }
        }
        let mut output = String::from_utf8_lossy(&output).into_owned();
        if status == TOO_LONG && output.is_empty() {
            output = format!("it took longer than {} ms", config.timeout);
        }
        let cut = output.floor_char_boundary(OUTPUT);
        output.truncate(cut);
        health.checks.push(Check {
            start,
            end: now_rfc3339_nanos(),
            status,
            output,
        });
        let old = health.checks.len().saturating_sub(REMEMBERED);
        health.checks.drain(..old);
        let told = Some(health.clone());
        let _ = task.container.change(false, |state| state.health = told);
        let unhealthy = health.verdict == Verdict::Unhealthy && before != Verdict::Unhealthy;
        self.await_next();
        Turn { asked, unhealthy }
    }

    /// The container has ended, and with it the check.
    pub fn end(&mut self) {
        if let Some(current) = self.current.take() {
            current.stop();
        }
    }
}

impl Current {
    /// What came; the exit status when it has ended.
    fn advance(&mut self) -> Option<i32> {
        match wire::receive(&self.channel) {
            Ok(Some(FromMonitor::Output(_, bytes))) => {
                let room = OUTPUT.saturating_sub(self.output.len());
                self.output.extend(bytes.iter().take(room));
                None
            }
            Ok(Some(FromMonitor::Exited(ended, _))) => Some(i32::from(ended.status())),
            Ok(Some(FromMonitor::Failed(failure))) => Some(i32::from(failure.status)),
            Ok(Some(_)) | Err(Errno::AGAIN) => None,
            Ok(None) | Err(_) => Some(125),
        }
    }

    /// Has the command killed, if it still runs, and waits for its monitor. Returns what it printed, and when it began.
    fn stop(self) -> (Vec<u8>, String) {
        // With what a shell has started for it, or that would pile up.
        let _ = wire::send(&self.channel, &ToMonitor::Key(libc::SIGKILL));
        // Nobody takes more of its output, for which the monitor would wait.
        drop(self.channel);
        let _ = self.monitor.wait();
        (self.output, self.start)
    }
}

fn start(
    health: &HealthTask,
    container: &Child,
    group: Option<&Path>,
) -> Result<Current, super::Error> {
    let monitor = exec::enter(container.as_fd(), group, &health.program)?;
    let (channel, monitor) = monitor.order(&ExecTask {
        plan: Cow::Borrowed(&health.plan),
        input: Input::Nothing,
        detached: false,
    })?;
    Ok(Current {
        channel,
        monitor,
        ready: false,
        output: Vec::new(),
        asked: false,
        start: now_rfc3339_nanos(),
        limit: Instant::now() + Duration::from_millis(health.config.timeout),
    })
}
