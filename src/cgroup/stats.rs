//! What a group has used, as the kernel counts it (Documentation/admin-guide/cgroup-v2.rst; psi.rst).

use std::path::Path;

/// How much of the time processes were held up by something that was short, in percent, over ten seconds.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Pressure {
    /// Processors.
    pub cpu: f64,
    /// Memory.
    pub memory: f64,
    /// Disks.
    pub io: f64,
}

/// What a group uses, and has used.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Usage {
    /// Microseconds of processor time.
    pub cpu: u64,
    /// Bytes of memory, without the page cache that can go at once, as Docker counts it.
    pub memory: u64,
    /// Bytes at most; `None` without a limit.
    pub limit: Option<u64>,
    /// Tasks.
    pub pids: u64,
    /// Bytes read from and written to disks.
    pub io: (u64, u64),
    /// Where the kernel counts it.
    pub pressure: Option<Pressure>,
}

/// The number after a word at the start of a line.
pub(super) fn field(text: &str, name: &str) -> Option<u64> {
    let mut lines = text.lines().filter_map(|line| line.split_once(' '));
    let (_, value) = lines.find(|(key, _)| *key == name)?;
    value.trim().parse().ok()
}

/// `avg10=` of the line `some`.
fn pressure(text: &str) -> Option<f64> {
    let line = text.lines().find(|line| line.starts_with("some "))?;
    let value = line
        .split(' ')
        .find_map(|word| word.strip_prefix("avg10="))?;
    value.parse().ok()
}

impl Usage {
    /// Reads the files of a group; what its controllers do not count is 0. `None` where the group is gone.
    pub fn of(dir: &Path) -> Option<Usage> {
        let read = |name: &str| std::fs::read_to_string(dir.join(name)).unwrap_or_default();
        let number = |name: &str| read(name).trim().parse::<u64>().ok();
        if !dir.join("cgroup.procs").exists() {
            return None;
        }
        let cache = field(&read("memory.stat"), "inactive_file").unwrap_or(0);
        let used = number("memory.current").unwrap_or(0);
        let each = [
            pressure(&read("cpu.pressure")),
            pressure(&read("memory.pressure")),
            pressure(&read("io.pressure")),
        ];
        let pressure = match each {
            [Some(cpu), Some(memory), Some(io)] => Some(Pressure { cpu, memory, io }),
            _ => None,
        };
        Some(Usage {
            cpu: field(&read("cpu.stat"), "usage_usec").unwrap_or(0),
            memory: used.saturating_sub(cache),
            limit: number("memory.max"),
            pids: number("pids.current").unwrap_or(0),
            io: disks(&read("io.stat")),
            pressure,
        })
    }
}

/// The sums over all disks.
fn disks(text: &str) -> (u64, u64) {
    let sum = |key: &str| {
        let words = text.split_whitespace();
        let values = words.filter_map(|word| word.strip_prefix(key)?.parse::<u64>().ok());
        values.sum()
    };
    (sum("rbytes="), sum("wbytes="))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_read() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(Usage::of(dir.path()), None);
        let files = [
            ("cgroup.procs", ""),
            ("cpu.stat", "usage_usec 1500\nuser_usec 1000\n"),
            ("memory.current", "5000\n"),
            ("memory.max", "max\n"),
            ("memory.stat", "anon 10\ninactive_file 1000\n"),
            ("pids.current", "3\n"),
            (
                "io.stat",
                "8:0 rbytes=10 wbytes=20 rios=1 wios=1 dbytes=0 dios=0\n8:16 rbytes=1 wbytes=2\n",
            ),
            (
                "cpu.pressure",
                "some avg10=1.50 avg60=0.00 avg300=0.00 total=1\n",
            ),
            (
                "memory.pressure",
                "some avg10=0.00 avg60=0.00 avg300=0.00 total=0\nfull avg10=9.00\n",
            ),
            (
                "io.pressure",
                "some avg10=2.00 avg60=0.00 avg300=0.00 total=0\n",
            ),
        ];
        for (name, text) in files {
            std::fs::write(dir.path().join(name), text).unwrap();
        }
        let found = Usage::of(dir.path()).unwrap();
        let pressure = Pressure {
            cpu: 1.5,
            memory: 0.0,
            io: 2.0,
        };
        let wanted = Usage {
            cpu: 1500,
            memory: 4000,
            limit: None,
            pids: 3,
            io: (11, 22),
            pressure: Some(pressure),
        };
        assert_eq!(found, wanted);
    }
}
