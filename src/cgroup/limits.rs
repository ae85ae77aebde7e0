//! Limits as the files of a group have them (Documentation/admin-guide/cgroup-v2.rst).

use crate::model::spec::Resources;

/// A value for a file of a group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Write {
    /// The file's name.
    pub file: String,
    /// What is written.
    pub value: String,
    /// The option that it comes from.
    pub option: &'static str,
    /// Somebody asked for it: that it cannot be written is an error.
    pub asked: bool,
}

impl Write {
    fn new(file: &str, value: impl ToString, option: &'static str) -> Write {
        Write {
            file: file.to_owned(),
            value: value.to_string(),
            option,
            asked: true,
        }
    }

    /// Whether a group with these controllers (`cgroup.controllers`) has the file; every group has those of its own.
    pub(super) fn fits(&self, controllers: &str) -> bool {
        let own = self.controller();
        own == "cgroup" || controllers.split_whitespace().any(|word| word == own)
    }

    /// What the group has against those beside it, and would not have in a group further down, as a property of
    /// systemd's (systemd.resource-control(5)).
    pub(super) fn share(&self) -> Option<(&'static str, u64)> {
        let property = match self.file.as_str() {
            "cpu.weight" => "CPUWeight",
            "io.weight" => "IOWeight",
            "memory.low" => "MemoryLow",
            "memory.min" => "MemoryMin",
            _ => return None,
        };
        let value = match self.value.as_str() {
            "max" => u64::MAX,
            value => value.parse().ok()?,
        };
        Some((property, value))
    }

    /// What makes the file what it `was`, as far as this changes it. `None` where there is no such file.
    pub(super) fn undo(&self, was: &str) -> Option<Write> {
        let first = was.lines().next()?;
        let value = match (&*self.file, self.value.split_once(' ')) {
            ("io.max", Some((device, limit))) => {
                let (key, _) = limit.split_once('=')?;
                let line = was.lines().find_map(|line| line.strip_prefix(device));
                let mut words = line.unwrap_or_default().split_whitespace();
                let old = words.find(|word| word.split_once('=').is_some_and(|(k, _)| k == key));
                let none = format!("{key}=max");
                format!("{device} {}", old.unwrap_or(&none))
            }
            _ => format!("{first}\n"),
        };
        Some(Write {
            value,
            ..self.clone()
        })
    }

    /// The controller that has the file.
    pub fn controller(&self) -> &str {
        self.file.split('.').next().unwrap_or_default()
    }
}

/// Tasks of a container for which nothing was said: podman's default, which stops a fork bomb and nothing else.
pub const PIDS: u64 = 2048;

/// What is written for a new container.
pub fn writes(resources: &Resources) -> Vec<Write> {
    let mut out = for_update(resources);
    // Not over what a file of the group was asked to be.
    if resources.pids.is_none() && !resources.conf.contains_key("pids.max") {
        out.push(Write {
            asked: false,
            ..Write::new("pids.max", PIDS, "--pids-limit")
        });
    }
    out
}

/// What is written for what was asked, and nothing else.
pub fn for_update(resources: &Resources) -> Vec<Write> {
    let mut out = Vec::new();
    let limit = |value: i64| match value {
        ..=0 => "max".to_owned(),
        value => value.to_string(),
    };
    if let Some(bytes) = resources.memory {
        out.push(Write::new("memory.max", limit(bytes), "--memory"));
    }
    match (resources.memory, resources.memory_swap) {
        // Docker counts both together (docker run reference, `--memory-swap`), the kernel swap alone.
        (_, Some(..=-1)) => out.push(Write::new("memory.swap.max", "max", "--memory-swap")),
        (Some(memory), Some(total)) if total > 0 => {
            let swap = (total - memory).max(0);
            out.push(Write::new("memory.swap.max", swap, "--memory-swap"));
        }
        // As much swap as memory. A kernel without accounting of swap has no such file.
        (Some(memory), _) if memory > 0 => out.push(Write {
            asked: false,
            ..Write::new("memory.swap.max", memory, "--memory")
        }),
        // It may have been limited before.
        (Some(_), _) => out.push(Write {
            asked: false,
            ..Write::new("memory.swap.max", "max", "--memory")
        }),
        _ => {}
    }
    if let Some(bytes) = resources.memory_reservation {
        let value = limit(bytes).replace("max", "0");
        out.push(Write::new("memory.low", value, "--memory-reservation"));
    }
    if let Some((quota, period)) = resources.cpu {
        let value = format!("{} {period}", limit(quota));
        out.push(Write::new("cpu.max", value, "--cpus"));
    }
    if let Some(weight) = resources.cpu_weight {
        out.push(Write::new("cpu.weight", weight, "--cpu-weight"));
    }
    if let Some(list) = &resources.cpuset_cpus {
        out.push(Write::new("cpuset.cpus", list, "--cpuset-cpus"));
    }
    if let Some(list) = &resources.cpuset_mems {
        out.push(Write::new("cpuset.mems", list, "--cpuset-mems"));
    }
    if let Some(number) = resources.pids {
        out.push(Write::new("pids.max", limit(number), "--pids-limit"));
    }
    if let Some(weight) = resources.io_weight {
        out.push(Write::new("io.weight", weight, "--blkio-weight"));
    }
    for io in &resources.io_max {
        // Docker's 0 is for none (docker update of a disk's limit); the kernel has a word for that.
        let rate = match io.value {
            0 => "max".to_owned(),
            rate => rate.to_string(),
        };
        let value = format!("{} {}={rate}", io.device, io.key);
        out.push(Write::new(
            "io.max",
            value,
            "--device-read-bps and its like",
        ));
    }
    for (size, bytes) in &resources.hugetlb {
        // Where reservations count, mmap(2) fails; otherwise who touches a page too many gets SIGBUS. Since Linux 5.7
        // (cgroup-v1/hugetlb.rst, "Reservation limits").
        out.push(Write {
            asked: false,
            ..Write::new(&format!("hugetlb.{size}.rsvd.max"), bytes, "--hugetlb")
        });
        out.push(Write::new(
            &format!("hugetlb.{size}.max"),
            bytes,
            "--hugetlb",
        ));
    }
    for (file, value) in &resources.conf {
        out.push(Write::new(file, value, "--cgroup-conf"));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(resources: &Resources) -> Vec<(String, String)> {
        let all = for_update(resources).into_iter();
        all.map(|w| (w.file, w.value)).collect()
    }

    fn pair(file: &str, value: &str) -> (String, String) {
        (file.to_owned(), value.to_owned())
    }

    #[test]
    fn swap_is_what_is_left_of_the_sum() {
        let mut resources = Resources {
            memory: Some(100),
            ..Resources::default()
        };
        let max = pair("memory.max", "100");
        assert_eq!(
            of(&resources),
            [max.clone(), pair("memory.swap.max", "100")]
        );
        for (total, swap) in [(100, "0"), (150, "50"), (-1, "max")] {
            resources.memory_swap = Some(total);
            assert_eq!(of(&resources), [max.clone(), pair("memory.swap.max", swap)]);
        }
        resources.memory = Some(-1);
        resources.memory_swap = None;
        let none = ["memory.max", "memory.swap.max"].map(|file| pair(file, "max"));
        assert_eq!(of(&resources), none);
    }

    #[test]
    fn what_was_written_is_taken_back() {
        let back = |file: &str, value: &str, was: &str| {
            let write = Write::new(file, value, "--option");
            write.undo(was).map(|undo| (undo.file, undo.value))
        };
        let old = "8:0 rbps=5 wbps=max riops=max wiops=max\n8:16 rbps=7 wbps=max\n";
        for (value, was) in [
            ("8:16 rbps=9", "8:16 rbps=7"),
            ("8:0 wbps=9", "8:0 wbps=max"),
            ("8:32 rbps=9", "8:32 rbps=max"),
        ] {
            let expected = Some(pair("io.max", was));
            assert_eq!(back("io.max", value, old), expected);
        }
        assert_eq!(back("io.max", "8:0 rbps=9", ""), None);
        assert_eq!(
            back("memory.max", "9", "max\n"),
            Some(pair("memory.max", "max\n"))
        );
        // No processors of its own.
        assert_eq!(
            back("cpuset.cpus", "0", "\n"),
            Some(pair("cpuset.cpus", "\n"))
        );
    }

    #[test]
    fn huge_pages_are_limited_where_they_are_reserved_too() {
        let resources = Resources {
            hugetlb: [("2MB".to_owned(), 4 << 20)].into(),
            ..Resources::default()
        };
        let pairs = ["hugetlb.2MB.rsvd.max", "hugetlb.2MB.max"].map(|file| pair(file, "4194304"));
        assert_eq!(of(&resources), pairs);
    }

    #[test]
    fn only_the_number_of_tasks_is_limited_unasked() {
        let all = writes(&Resources::default());
        assert_eq!(all.len(), 1);
        assert!(all[0].file == "pids.max" && all[0].value == "2048" && !all[0].asked);
        let none = writes(&Resources {
            pids: Some(-1),
            ..Resources::default()
        });
        assert!(none[0].value == "max" && none[0].asked);
        assert_eq!(none[0].controller(), "pids");
        let conf = writes(&Resources {
            conf: [("pids.max".to_owned(), "9".to_owned())].into(),
            ..Resources::default()
        });
        assert_eq!((conf.len(), &*conf[0].value), (1, "9"));
    }
}
