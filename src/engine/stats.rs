//! `rl stats`: what running containers use.

use std::time::Instant;

use super::{Context, Error, containers, lifecycle};
use crate::cgroup::{Pressure, Usage};
use crate::state::Container;
use crate::sys::proc;

/// What a container has used at a point in time.
#[derive(Clone, Debug)]
pub struct Sample {
    at: Instant,
    usage: Usage,
    net: (u64, u64),
}

/// What a container uses.
#[derive(Clone, Debug)]
pub struct Figures {
    /// Its id.
    pub id: String,
    /// Its name.
    pub name: String,
    /// Percent of one processor, since the sample before.
    pub cpu: f64,
    /// Bytes of memory.
    pub memory: u64,
    /// Bytes at most: its limit, or what the machine has.
    pub limit: u64,
    /// Bytes received and sent.
    pub net: (u64, u64),
    /// Bytes read from and written to disks.
    pub io: (u64, u64),
    /// Processes and threads.
    pub pids: u64,
    /// See [`Pressure`].
    pub pressure: Option<Pressure>,
}

/// The containers that are meant: where `words` is empty those that run, or with `all` every one.
///
/// # Errors
/// No such container.
pub fn chosen(
    context: &Context<'_>,
    words: &[String],
    all: bool,
) -> Result<Vec<Result<Container, Error>>, Error> {
    Ok(match words {
        [] => containers::list(context, all)?
            .into_iter()
            .map(Ok)
            .collect(),
        words => words
            .iter()
            .map(|word| lifecycle::find(context, word))
            .collect(),
    })
}

/// What a container has used until now: by its control group, else by its processes. `None` where it does not run.
pub fn sample(container: &Container) -> Option<Sample> {
    let _held = containers::hold(container)?;
    let pid = container.state.pid?;
    let group = container.state.group.as_deref();
    let usage = group.and_then(Usage::of).or_else(|| by_processes(pid))?;
    Some(Sample {
        at: Instant::now(),
        usage,
        net: network(pid),
    })
}

/// The figures between two samples.
pub fn figures(container: &Container, before: Option<&Sample>, now: &Sample) -> Figures {
    let cpu = before.map_or(0.0, |before| {
        let time = now.at.duration_since(before.at).as_micros() as f64;
        let used = now.usage.cpu.saturating_sub(before.usage.cpu) as f64;
        if time > 0.0 { used / time * 100.0 } else { 0.0 }
    });
    let machine = machine_memory();
    Figures {
        id: container.spec.id.clone(),
        name: container.spec.name.clone(),
        cpu,
        memory: now.usage.memory,
        limit: now.usage.limit.unwrap_or(machine).min(machine),
        net: now.net,
        io: now.usage.io,
        pids: now.usage.pids,
        pressure: now.usage.pressure,
    }
}

/// Without a control group nobody adds up; what has ended is lost, and shared memory counts for each.
fn by_processes(first: i32) -> Option<Usage> {
    let mut usage = Usage::default();
    for pid in proc::beside(first)? {
        if let Some(one) = proc::usage(pid) {
            usage.cpu += one.cpu;
            usage.memory += one.memory;
            usage.pids += one.threads;
            usage.io.0 += one.io.0;
            usage.io.1 += one.io.1;
        }
    }
    Some(usage)
}

/// Bytes over all interfaces but the loopback (proc_pid_net(5), `dev`).
fn network(pid: i32) -> (u64, u64) {
    let text = std::fs::read_to_string(format!("/proc/{pid}/net/dev")).unwrap_or_default();
    let own = std::fs::read_link("/proc/self/ns/net").ok();
    // That of the machine is not the container's.
    if own == std::fs::read_link(format!("/proc/{pid}/ns/net")).ok() {
        return (0, 0);
    }
    let mut sums = (0, 0);
    for line in text.lines().skip(2) {
        let Some((name, rest)) = line.split_once(':') else {
            continue;
        };
        let numbers: Vec<u64> = rest
            .split_whitespace()
            .filter_map(|n| n.parse().ok())
            .collect();
        if name.trim() != "lo" && numbers.len() > 8 {
            sums.0 += numbers[0];
            sums.1 += numbers[8];
        }
    }
    sums
}

fn machine_memory() -> u64 {
    let info = rustix::system::sysinfo();
    info.totalram as u64 * u64::from(info.mem_unit)
}
