//! The options that limit a container: of `rl run`, `rl create` and `rl update`.

use std::collections::BTreeMap;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};

use super::resolve::Error;
use super::units;
use crate::model::spec::{CgroupMode, IoMax, Resources};

/// What a container may use at most
#[derive(Clone, Debug, Default, PartialEq, Eq, clap::Args)]
#[command(next_help_heading = "Limits")]
pub struct LimitArgs {
    /// Memory
    #[arg(short, long, value_name = "BYTES", allow_hyphen_values = true)]
    pub memory: Option<String>,
    /// Memory that is not taken away while others have more
    #[arg(long, value_name = "BYTES", allow_hyphen_values = true)]
    pub memory_reservation: Option<String>,
    /// Memory and swap together; -1 for unlimited swap
    #[arg(long, value_name = "BYTES", allow_hyphen_values = true)]
    pub memory_swap: Option<String>,
    /// Processors, such as 1.5
    #[arg(long, value_name = "NUMBER")]
    pub cpus: Option<String>,
    /// Microseconds of processor time in each period
    #[arg(
        long,
        value_name = "TIME",
        allow_hyphen_values = true,
        conflicts_with = "cpus"
    )]
    pub cpu_quota: Option<i64>,
    /// The period, in microseconds
    #[arg(long, value_name = "TIME", conflicts_with = "cpus")]
    pub cpu_period: Option<u64>,
    /// Share of the processors where they are short: 2 to 262144, usually 1024
    #[arg(short, long, value_name = "SHARES")]
    pub cpu_shares: Option<u64>,
    /// The same as the kernel counts it: 1 to 10000, usually 100
    #[arg(long, value_name = "WEIGHT", conflicts_with = "cpu_shares")]
    pub cpu_weight: Option<u64>,
    /// Processors that it may use, such as 0-2,4
    #[arg(long, value_name = "LIST")]
    pub cpuset_cpus: Option<String>,
    /// Nodes of memory that it may use
    #[arg(long, value_name = "LIST")]
    pub cpuset_mems: Option<String>,
    /// Processes and threads; -1 for no limit [default: 2048, where it can be set]
    #[arg(long, value_name = "NUMBER", allow_hyphen_values = true)]
    pub pids_limit: Option<i64>,
    /// Share of the disks where they are busy: 10 to 1000
    #[arg(long, value_name = "WEIGHT")]
    pub blkio_weight: Option<u64>,
    /// Bytes a second that it reads from a disk; 0 for no limit
    #[arg(long, value_name = "DEVICE:BYTES")]
    pub device_read_bps: Vec<String>,
    /// Bytes a second that it writes to a disk
    #[arg(long, value_name = "DEVICE:BYTES")]
    pub device_write_bps: Vec<String>,
    /// Reads a second from a disk
    #[arg(long, value_name = "DEVICE:NUMBER")]
    pub device_read_iops: Vec<String>,
    /// Writes a second to a disk
    #[arg(long, value_name = "DEVICE:NUMBER")]
    pub device_write_iops: Vec<String>,
    /// Huge pages, by their size
    #[arg(long, value_name = "SIZE=BYTES")]
    pub hugetlb: Vec<String>,
    /// A file of its control group, and what is in it
    #[arg(long, value_name = "FILE=VALUE")]
    pub cgroup_conf: Vec<String>,
    /// How early the kernel kills it when memory is out: -1000 to 1000
    #[arg(long, value_name = "NUMBER", allow_hyphen_values = true)]
    pub oom_score_adj: Option<i32>,
}

/// Where a container's control group comes from
#[derive(Clone, Debug, Default, clap::Args)]
#[command(next_help_heading = "Limits")]
pub struct GroupArgs {
    /// The slice, or with a `/` in front the control group, that its own lies in
    #[arg(long, value_name = "PARENT")]
    pub cgroup_parent: Option<String>,
    /// A control group of its own (enabled), none (disabled), or one below the caller's (split)
    #[arg(long, value_name = "MODE", value_parser = ["enabled", "disabled", "split"])]
    pub cgroups: Option<String>,
}

/// Docker's period where none is given, in microseconds.
const PERIOD: u64 = 100_000;

fn bad(option: &'static str, value: &str, reason: &str) -> Error {
    Error::Value {
        option,
        value: value.to_owned(),
        reason: reason.to_owned(),
    }
}

/// Bytes, or -1 for no limit.
fn bytes(option: &'static str, value: Option<&String>) -> Result<Option<i64>, Error> {
    let Some(text) = value else { return Ok(None) };
    if text == "-1" {
        return Ok(Some(-1));
    }
    let bytes = units::bytes(option, text)?;
    Ok(Some(i64::try_from(bytes).unwrap_or(i64::MAX)))
}

/// The options as resources.
///
/// # Errors
/// [`Error::Value`].
pub fn resolve(args: &LimitArgs, group: &GroupArgs) -> Result<Resources, Error> {
    let is_group = |parent: &str| parent.starts_with('/') && !parent.split('/').any(|p| p == "..");
    let is_slice = |parent: &str| parent.ends_with(".slice") && !parent.contains('/');
    if let Some(parent) = &group.cgroup_parent
        && !is_group(parent)
        && !is_slice(parent)
    {
        let reason = "expected a slice such as `work.slice`, or a group with a `/` in front";
        return Err(bad("--cgroup-parent", parent, reason));
    }
    let mut resources = over(&Resources::default(), args)?.all;
    resources.parent.clone_from(&group.cgroup_parent);
    resources.mode = match group.cgroups.as_deref() {
        Some("disabled") => CgroupMode::Disabled,
        Some("split") => CgroupMode::Split,
        _ => CgroupMode::Enabled,
    };
    Ok(resources)
}

/// Limits over others.
#[derive(Clone, Debug)]
pub struct Over {
    /// What holds from then on.
    pub all: Resources,
    /// Of that, what was asked for: memory and swap together, as they hang together.
    pub changed: Resources,
}

/// The limits of a container that had the `old` ones, once the options are applied.
///
/// # Errors
/// [`Error::Value`], also where the new ones do not go with the old.
pub fn over(old: &Resources, args: &LimitArgs) -> Result<Over, Error> {
    let mut changed = changes(old, args)?;
    let new = changed.clone();
    let mut both = old.clone();
    // With no limit of memory there is none of both together.
    if new.memory.is_some_and(|bytes| bytes <= 0) {
        both.memory_swap = None;
    }
    both.memory = new.memory.or(both.memory);
    both.memory_swap = new.memory_swap.or(both.memory_swap);
    both.memory_reservation = new.memory_reservation.or(both.memory_reservation);
    both.cpu = new.cpu.or(both.cpu);
    both.cpu_weight = new.cpu_weight.or(both.cpu_weight);
    both.cpuset_cpus = new.cpuset_cpus.or(both.cpuset_cpus);
    both.cpuset_mems = new.cpuset_mems.or(both.cpuset_mems);
    both.pids = new.pids.or(both.pids);
    both.io_weight = new.io_weight.or(both.io_weight);
    both.oom_score_adj = new.oom_score_adj.or(both.oom_score_adj);
    both.io_max
        .retain(|old| !new.io_max.iter().any(|new| new.is_of(old)));
    both.io_max.extend(new.io_max);
    both.hugetlb.extend(new.hugetlb);
    both.conf.extend(new.conf);
    fits(&both, args)?;
    if changed.memory.is_some() || changed.memory_swap.is_some() {
        (changed.memory, changed.memory_swap) = (both.memory, both.memory_swap);
    }
    Ok(Over { all: both, changed })
}

/// Whether the limits of memory go with each other (docker run reference, "User memory constraints").
fn fits(all: &Resources, args: &LimitArgs) -> Result<(), Error> {
    let memory = all.memory.filter(|bytes| *bytes > 0);
    let reserved = all.memory_reservation.unwrap_or(0);
    if memory.is_some_and(|memory| memory < reserved) {
        return Err(match (&args.memory_reservation, &args.memory) {
            (Some(text), _) => bad("--memory-reservation", text, "`--memory` is less"),
            (None, text) => {
                let reason = "the container's `--memory-reservation` is more: less is wanted of that as well";
                bad("--memory", text.as_deref().unwrap_or_default(), reason)
            }
        });
    }
    let Some(total) = all.memory_swap.filter(|total| *total > 0) else {
        return Ok(());
    };
    if memory.is_none_or(|memory| memory > total) {
        return Err(match (&args.memory_swap, &args.memory) {
            (Some(text), _) => {
                let reason =
                    "it is memory and swap together: `--memory` is wanted as well, and less";
                bad("--memory-swap", text, reason)
            }
            (None, text) => {
                let reason = "the container's `--memory-swap` is less, and memory and swap together: more is wanted of that as well";
                bad("--memory", text.as_deref().unwrap_or_default(), reason)
            }
        });
    }
    Ok(())
}

/// What the options say, and nothing else, of a container that has the `old` limits.
fn changes(old: &Resources, args: &LimitArgs) -> Result<Resources, Error> {
    let mut io_max = Vec::new();
    let lists = [
        ("--device-read-bps", "rbps", &args.device_read_bps),
        ("--device-write-bps", "wbps", &args.device_write_bps),
        ("--device-read-iops", "riops", &args.device_read_iops),
        ("--device-write-iops", "wiops", &args.device_write_iops),
    ];
    for (option, key, list) in lists {
        for value in list {
            io_max.push(device(option, key, value)?);
        }
    }
    if let Some(score) = args.oom_score_adj.filter(|n| !(-1000..=1000).contains(n)) {
        let reason = "expected a number from -1000 to 1000";
        return Err(bad("--oom-score-adj", &score.to_string(), reason));
    }
    Ok(Resources {
        memory: bytes("--memory", args.memory.as_ref())?,
        memory_reservation: bytes("--memory-reservation", args.memory_reservation.as_ref())?,
        memory_swap: bytes("--memory-swap", args.memory_swap.as_ref())?,
        cpu: cpu(args, old.cpu)?,
        cpu_weight: cpu_weight(args)?,
        cpuset_cpus: list("--cpuset-cpus", args.cpuset_cpus.as_ref())?,
        cpuset_mems: list("--cpuset-mems", args.cpuset_mems.as_ref())?,
        pids: args.pids_limit,
        io_weight: args.blkio_weight.map(io_weight).transpose()?,
        io_max,
        hugetlb: pages(&args.hugetlb)?,
        conf: files(&args.cgroup_conf)?,
        oom_score_adj: args.oom_score_adj,
        ..Resources::default()
    })
}

fn pages(words: &[String]) -> Result<BTreeMap<String, u64>, Error> {
    let mut out = BTreeMap::new();
    for word in words {
        let (size, value) = units::pair("--hugetlb", word)?;
        // As the kernel names its files, and the OCI runtime spec (config-linux.md, "Huge page limits") the sizes.
        let number = ["KB", "MB", "GB"]
            .iter()
            .find_map(|unit| size.strip_suffix(unit));
        if number.is_none_or(|n| n.parse::<u32>().is_err() || n.starts_with(['0', '+'])) {
            let reason =
                "expected the size of a page, such as `2MB` or `1GB`, and bytes, as in `2MB=64m`";
            return Err(bad("--hugetlb", word, reason));
        }
        let bytes = units::bytes("--hugetlb", &value)?;
        out.insert(size, bytes);
    }
    Ok(out)
}

fn files(words: &[String]) -> Result<BTreeMap<String, String>, Error> {
    let mut out = BTreeMap::new();
    for word in words {
        let (file, value) = units::pair("--cgroup-conf", word)?;
        let plain = file
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b));
        if !plain || !file.contains('.') || value.is_empty() {
            let reason = "expected a file of a control group, such as `memory.high=1073741824`";
            return Err(bad("--cgroup-conf", word, reason));
        }
        out.insert(file, value);
    }
    Ok(out)
}

/// The quota and the period. Who says one of them keeps the other that there is.
fn cpu(args: &LimitArgs, old: Option<(i64, u64)>) -> Result<Option<(i64, u64)>, Error> {
    let (old_quota, old_period) = old.unwrap_or((-1, PERIOD));
    let period = args.cpu_period.unwrap_or(old_period);
    if !(1_000..=1_000_000).contains(&period) {
        let reason = "expected 1000 to 1000000 microseconds";
        return Err(bad("--cpu-period", &period.to_string(), reason));
    }
    if let Some(text) = &args.cpus {
        let number = text.parse::<f64>().ok();
        let number = number.filter(|n| n.is_finite() && *n >= 0.0 && *n < 1e6);
        let number = number.ok_or_else(|| bad("--cpus", text, "expected a number such as 1.5"))?;
        if number == 0.0 {
            return Ok(Some((-1, PERIOD)));
        }
        let quota = (number * PERIOD as f64).round() as i64;
        if quota < 1_000 {
            return Err(bad("--cpus", text, "the least is 0.01"));
        }
        return Ok(Some((quota, PERIOD)));
    }
    match (args.cpu_quota, args.cpu_period) {
        (None, None) => Ok(None),
        (Some(quota), _) if (1..1_000).contains(&quota) => {
            let reason = "expected 1000 microseconds or more, or -1";
            Err(bad("--cpu-quota", &quota.to_string(), reason))
        }
        (quota, _) => Ok(Some((quota.unwrap_or(old_quota), period))),
    }
}

/// Shares of cgroup v1 as the weight of v2, by the linear rule of crun and runc (OCI runtime spec, config-linux.md, "CPU":
/// `shares`; Kubernetes KEP 2254): 2 becomes 1, 262,144 becomes 10,000.
fn cpu_weight(args: &LimitArgs) -> Result<Option<u64>, Error> {
    if let Some(weight) = args.cpu_weight {
        return match weight {
            1..=10_000 => Ok(Some(weight)),
            _ => Err(bad(
                "--cpu-weight",
                &weight.to_string(),
                "expected 1 to 10000",
            )),
        };
    }
    Ok(match args.cpu_shares {
        None | Some(0) => None,
        Some(shares) => Some(1 + (shares.clamp(2, 262_144) - 2) * 9_999 / 262_142),
    })
}

/// The weight of v1's blkio as that of v2's io, by the same rule: 10 becomes 1, 1,000 becomes 10,000.
fn io_weight(weight: u64) -> Result<u64, Error> {
    match weight {
        10..=1_000 => Ok(1 + (weight - 10) * 9_999 / 990),
        _ => Err(bad(
            "--blkio-weight",
            &weight.to_string(),
            "expected 10 to 1000",
        )),
    }
}

/// The weight that [`io_weight`] made another of.
pub fn blkio_weight(weight: u64) -> u64 {
    10 + (weight.saturating_sub(1) * 990).div_ceil(9_999)
}

/// A list of numbers and ranges (cpuset(7), "List format").
fn list(option: &'static str, value: Option<&String>) -> Result<Option<String>, Error> {
    let Some(text) = value else { return Ok(None) };
    let range = |part: &str| {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        match (first.parse::<u32>(), last.parse::<u32>()) {
            (Ok(first), Ok(last)) => first <= last,
            _ => false,
        }
    };
    match text.split(',').all(range) {
        true => Ok(Some(text.clone())),
        false => Err(bad(option, text, "expected a list such as `0-2,4`")),
    }
}

fn device(option: &'static str, key: &str, value: &str) -> Result<IoMax, Error> {
    let form = "expected a device and a number, such as `/dev/sda:10mb`";
    let (path, rate) = value
        .rsplit_once(':')
        .ok_or_else(|| bad(option, value, form))?;
    let rate = match key {
        "rbps" | "wbps" => units::bytes(option, rate)?,
        _ => rate.parse().map_err(|_| bad(option, value, form))?,
    };
    let data = std::fs::metadata(path).map_err(|source| Error::File {
        option,
        path: path.into(),
        source,
    })?;
    if !data.file_type().is_block_device() {
        return Err(bad(option, value, "that is no disk"));
    }
    let (major, minor) = (
        rustix::fs::major(data.rdev()),
        rustix::fs::minor(data.rdev()),
    );
    Ok(IoMax {
        device: format!("{major}:{minor}"),
        key: key.to_owned(),
        value: rate,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(args: LimitArgs) -> Result<Resources, Error> {
        resolve(&args, &GroupArgs::default())
    }

    #[test]
    fn processors() {
        let cpus = |text: &str| {
            of(LimitArgs {
                cpus: Some(text.into()),
                ..LimitArgs::default()
            })
        };
        assert_eq!(cpus("0.5").unwrap().cpu, Some((50_000, PERIOD)));
        assert_eq!(cpus("2").unwrap().cpu, Some((200_000, PERIOD)));
        assert_eq!(cpus("0").unwrap().cpu, Some((-1, PERIOD)));
        for text in ["", "-1", "x", "nan", "inf", "0.001"] {
            assert!(cpus(text).is_err(), "{text}");
        }
        let weight = |shares| {
            let args = LimitArgs {
                cpu_shares: Some(shares),
                ..LimitArgs::default()
            };
            of(args).unwrap().cpu_weight
        };
        assert_eq!(weight(2), Some(1));
        assert_eq!(weight(1024), Some(39));
        assert_eq!(weight(262_144), Some(10_000));
        assert_eq!(
            (io_weight(10).unwrap(), io_weight(1000).unwrap()),
            (1, 10_000)
        );
        assert!((10..=1000).all(|weight| blkio_weight(io_weight(weight).unwrap()) == weight));
    }

    #[test]
    fn memory_and_swap() {
        let both = |memory: Option<&str>, swap: &str| {
            of(LimitArgs {
                memory: memory.map(str::to_owned),
                memory_swap: Some(swap.into()),
                ..LimitArgs::default()
            })
        };
        assert_eq!(
            both(Some("64m"), "128m").unwrap().memory_swap,
            Some(128 << 20)
        );
        assert_eq!(both(None, "-1").unwrap().memory_swap, Some(-1));
        assert!(both(None, "64m").is_err());
        assert!(both(Some("64m"), "32m").is_err());
    }

    #[test]
    fn lists_and_files() {
        let cpus = |text: &str| list("--cpuset-cpus", Some(&text.to_owned()));
        assert!(cpus("0-2,4").is_ok() && cpus("0").is_ok());
        for text in ["", "a", "2-1", "1,", "0 1"] {
            assert!(cpus(text).is_err(), "{text}");
        }
        let conf = |word: &str| {
            of(LimitArgs {
                cgroup_conf: vec![word.to_owned()],
                ..LimitArgs::default()
            })
        };
        let pages = |word: &str| {
            let pages = of(LimitArgs {
                hugetlb: vec![word.to_owned()],
                ..LimitArgs::default()
            });
            pages.map(|r| r.hugetlb)
        };
        assert_eq!(
            pages("1GB=2g").unwrap(),
            [("1GB".to_owned(), 2 << 30)].into()
        );
        for word in [
            "2=64m", "MB=64m", "2mb=64m", "02MB=64m", "+2MB=64m", "../MB=1", "2MB", "2MB=x",
        ] {
            assert!(pages(word).is_err(), "{word}");
        }
        assert!(conf("memory.high=1").is_ok());
        for word in ["../x.y=1", "memory=1", "a/b.c=1", "memory.high"] {
            assert!(conf(word).is_err(), "{word}");
        }
        assert!(device("--device-read-bps", "rbps", "/dev/null:1mb").is_err());
    }

    #[test]
    fn new_limits_go_over_old_ones() {
        let old = of(LimitArgs {
            memory: Some("20m".into()),
            memory_swap: Some("60m".into()),
            pids_limit: Some(5),
            cpu_quota: Some(20_000),
            cpu_period: Some(50_000),
            hugetlb: vec!["2MB=4m".into()],
            ..LimitArgs::default()
        });
        let old = old.unwrap();
        let swap = |memory: Option<&str>, swap: Option<&str>| {
            let args = LimitArgs {
                memory: memory.map(str::to_owned),
                memory_swap: swap.map(str::to_owned),
                ..LimitArgs::default()
            };
            over(&old, &args).map(|over| (over.all.memory.unwrap(), over.all.memory_swap))
        };
        assert_eq!(swap(Some("40m"), None).unwrap(), (40 << 20, Some(60 << 20)));
        assert_eq!(swap(None, Some("80m")).unwrap(), (20 << 20, Some(80 << 20)));
        assert_eq!(swap(Some("-1"), None).unwrap(), (-1, None));
        for (memory, total) in [
            (Some("70m"), None),
            (None, Some("10m")),
            (Some("-1"), Some("60m")),
        ] {
            assert!(swap(memory, total).is_err(), "{memory:?} {total:?}");
        }
        let args = LimitArgs {
            cpu_quota: Some(30_000),
            hugetlb: vec!["1GB=1g".into()],
            ..LimitArgs::default()
        };
        let Over { all: both, changed } = over(&old, &args).unwrap();
        assert_eq!((changed.memory, changed.hugetlb.len()), (None, 1));
        assert_eq!((both.cpu, both.pids), (Some((30_000, 50_000)), Some(5)));
        assert_eq!(both.hugetlb.len(), 2);
        let reserved = LimitArgs {
            memory_reservation: Some("30m".into()),
            ..LimitArgs::default()
        };
        assert!(over(&old, &reserved).is_err());
    }
}
