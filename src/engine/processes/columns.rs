//! `rl top BOX pid comm`: podman's form, in which words name columns. What they show is what the container sees; those
//! with an `h` in front (`hpid`, `huser`) are of this machine.

use std::collections::HashMap;
use std::io::Read as _;
use std::path::Path;

use rustix::fs::{Mode, OFlags};

use crate::model::IdMap;
use crate::model::spec::ContainerSpec;
use crate::model::time::{now, to_rfc3339};
use crate::security::caps::CapSet;
use crate::sys::fs::Root;
use crate::sys::proc::Entry;

/// The name of a column, its head, and what it shows of a process.
pub(super) type Column = (&'static str, &'static str, fn(&Seen<'_>, &Entry) -> String);

/// As podman-top(1) lists them.
const COLUMNS: [Column; 30] = [
    ("args", "COMMAND", |_, p| p.args.clone()),
    ("capamb", "AMBIENT CAPS", |_, p| capabilities(p, "CapAmb")),
    ("capbnd", "BOUNDING CAPS", |_, p| capabilities(p, "CapBnd")),
    ("capeff", "EFFECTIVE CAPS", |_, p| capabilities(p, "CapEff")),
    ("capinh", "INHERITED CAPS", |_, p| capabilities(p, "CapInh")),
    ("capprm", "PERMITTED CAPS", |_, p| capabilities(p, "CapPrm")),
    ("comm", "COMMAND", |_, p| p.comm.clone()),
    ("etime", "ELAPSED", |s, p| time(s.age(p))),
    ("group", "GROUP", |s, p| s.inside.group(p, 1)),
    ("groups", "GROUPS", |s, p| s.inside.more_groups(p)),
    ("hgroup", "HGROUP", |s, p| s.outside.group(p, 1)),
    ("hgroups", "HGROUPS", |s, p| s.outside.more_groups(p)),
    ("hpid", "HPID", |_, p| p.pid.to_string()),
    ("huser", "HUSER", |s, p| s.outside.user(p, 1)),
    ("label", "LABEL", |_, p| p.label()),
    ("nice", "NI", |_, p| p.stat(19).to_owned()),
    ("pcpu", "%CPU", |s, p| s.share(p)),
    ("pgid", "PGID", |_, p| innermost(p, "NSpgid")),
    ("pid", "PID", |_, p| innermost(p, "NSpid")),
    ("ppid", "PPID", |s, p| s.parent(p)),
    ("rgroup", "RGROUP", |s, p| s.inside.group(p, 0)),
    ("rss", "RSS", |_, p| first(p.status("VmRSS")).to_owned()),
    ("ruser", "RUSER", |s, p| s.inside.user(p, 0)),
    ("seccomp", "SECCOMP", |_, p| filter(p).to_owned()),
    ("state", "STATE", |_, p| p.stat(3).to_owned()),
    ("stime", "STIME", |s, p| to_rfc3339(s.now - s.age(p) as i64)),
    ("time", "TIME", |s, p| time(s.used(p))),
    ("tty", "TTY", |_, p| terminal(p)),
    ("user", "USER", |s, p| s.inside.user(p, 1)),
    ("vsz", "VSZ", |_, p| (number(p, 23) / 1024).to_string()),
];

/// A word that names no column.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no column of `rl top`")]
pub struct Unknown(String);

impl Unknown {
    /// What there is.
    pub fn hint(&self) -> String {
        let names: Vec<&str> = COLUMNS.iter().map(|(name, _, _)| *name).collect();
        let names = names.join(", ");
        format!("there are {names}; options of ps(1) begin with `-`, such as `-eo pid,args`")
    }
}

/// The columns that words name, each alone or several with commas between; `None` where they are options of ps(1).
///
/// # Errors
/// [`Unknown`].
pub(super) fn asked(words: &[String]) -> Option<Result<Vec<&'static Column>, Unknown>> {
    let first = words.first()?;
    if first.starts_with('-') || is_bsd(first) {
        return None;
    }
    let names = words.iter().flat_map(|word| word.split([',', ' ']));
    let find = |name: &str| {
        let column = COLUMNS.iter().find(|column| column.0 == name);
        column.ok_or_else(|| Unknown(name.to_owned()))
    };
    Some(names.filter(|name| !name.is_empty()).map(find).collect())
}

/// Options of ps(1) without a dash that ask for everybody's processes, such as `aux`.
fn is_bsd(word: &str) -> bool {
    let all = "acefghjklmnosuvwxHLSTXZ";
    word.contains('a') && word.contains('x') && word.chars().all(|c| all.contains(c))
}

/// The columns of processes as lines, and their head.
pub(super) fn table(spec: &ContainerSpec, pids: &[i32], columns: &[&Column]) -> Vec<Vec<String>> {
    let root = pids.first().map(|pid| format!("/proc/{pid}/root"));
    let root = root.and_then(|path| Root::open(Path::new(&path)).ok());
    let host = Root::open(Path::new("/")).ok();
    let (uid, gid) = (Some(&spec.uid_map), Some(&spec.gid_map));
    let processes: Vec<Entry> = pids.iter().filter_map(|&pid| Entry::of(pid)).collect();
    let seen = Seen {
        inside: Names::read(root.as_ref(), uid, gid),
        outside: Names::read(host.as_ref(), None, None),
        pids: processes
            .iter()
            .map(|p| (p.pid, innermost(p, "NSpid")))
            .collect(),
        now: now(),
        up: uptime(),
        ticks: rustix::param::clock_ticks_per_second().max(1) as f64,
    };
    let head = columns.iter().map(|column| column.1.to_owned()).collect();
    let line = |process: &Entry| {
        let cells = columns.iter().map(|column| column.2(&seen, process));
        cells.collect()
    };
    [head]
        .into_iter()
        .chain(processes.iter().map(line))
        .collect()
}

/// What is known when columns are filled.
pub(super) struct Seen<'a> {
    inside: Names<'a>,
    outside: Names<'a>,
    /// What the container calls its processes.
    pids: HashMap<i32, String>,
    /// Seconds since the epoch.
    now: i64,
    /// Seconds since the machine was started.
    up: f64,
    /// Of the kernel's clock, a second.
    ticks: f64,
}

impl Seen<'_> {
    /// Seconds since it was started.
    fn age(&self, process: &Entry) -> f64 {
        (self.up - number(process, 22) as f64 / self.ticks).max(0.0)
    }

    /// Seconds of processor time.
    fn used(&self, process: &Entry) -> f64 {
        (number(process, 14) + number(process, 15)) as f64 / self.ticks
    }

    fn share(&self, process: &Entry) -> String {
        format!(
            "{:.3}",
            self.used(process) * 100.0 / self.age(process).max(0.01)
        )
    }

    /// 0 for one outside, as the kernel tells those inside.
    fn parent(&self, process: &Entry) -> String {
        let parent = process.stat(4).parse().ok();
        let parent = parent.and_then(|pid: i32| self.pids.get(&pid));
        parent.map_or("0", |pid| pid).to_owned()
    }
}

/// Who is who, where it is asked.
struct Names<'a> {
    passwd: String,
    group: String,
    uid: Option<&'a IdMap>,
    gid: Option<&'a IdMap>,
}

impl<'a> Names<'a> {
    fn read(root: Option<&Root>, uid: Option<&'a IdMap>, gid: Option<&'a IdMap>) -> Names<'a> {
        let file = |path: &str| root.and_then(|root| accounts(root, path));
        Names {
            passwd: file("etc/passwd").unwrap_or_default(),
            group: file("etc/group").unwrap_or_default(),
            uid,
            gid,
        }
    }

    /// The real (0) or effective (1) one.
    fn user(&self, process: &Entry, which: usize) -> String {
        let id = process.status("Uid").split_whitespace().nth(which);
        named(&self.passwd, self.uid, id.unwrap_or_default())
    }

    /// The same of its groups.
    fn group(&self, process: &Entry, which: usize) -> String {
        let id = process.status("Gid").split_whitespace().nth(which);
        named(&self.group, self.gid, id.unwrap_or_default())
    }

    fn more_groups(&self, process: &Entry) -> String {
        let ids = process.status("Groups").split_whitespace();
        let names: Vec<String> = ids.map(|id| named(&self.group, self.gid, id)).collect();
        names.join(",")
    }
}

/// The name of an id of this machine in lines of passwd(5) or group(5), or its number there.
fn named(accounts: &str, map: Option<&IdMap>, id: &str) -> String {
    /// Of one that does not exist there (user_namespaces(7)).
    const OVERFLOW: u32 = 65_534;
    let Ok(id) = id.parse::<u32>() else {
        return id.to_owned();
    };
    let id = map
        .map_or(id, |map| map.to_container(id).unwrap_or(OVERFLOW))
        .to_string();
    let mut lines = accounts.lines().map(|line| line.split(':'));
    let name = lines.find_map(|mut fields| {
        let name = fields.next()?;
        (fields.nth(1) == Some(&id)).then_some(name)
    });
    name.map_or(id.clone(), str::to_owned)
}

/// A file of accounts, which can be anything where it is the container's.
fn accounts(root: &Root, path: &str) -> Option<String> {
    const MAX: u64 = 16 << 20;
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY;
    let file = root
        .open_in_root(path.as_bytes(), flags, Mode::empty())
        .ok()?;
    let file = std::fs::File::from(file);
    if !file.metadata().ok()?.is_file() {
        return None;
    }
    let mut bytes = Vec::new();
    file.take(MAX).read_to_end(&mut bytes).ok()?;
    Some(String::from_utf8_lossy(&bytes).into_owned())
}

fn uptime() -> f64 {
    let text = std::fs::read_to_string("/proc/uptime").unwrap_or_default();
    first(&text).parse().unwrap_or_default()
}

fn first(text: &str) -> &str {
    text.split_whitespace().next().unwrap_or("0")
}

fn number(process: &Entry, field: usize) -> u64 {
    process.stat(field).parse().unwrap_or_default()
}

/// The last of the numbers that a process has in nested pid namespaces.
fn innermost(process: &Entry, field: &str) -> String {
    let numbers = process.status(field).split_whitespace();
    numbers.last().unwrap_or("?").to_owned()
}

fn capabilities(process: &Entry, field: &str) -> String {
    let bits = u64::from_str_radix(process.status(field), 16).unwrap_or_default();
    match CapSet::from_bits(bits) {
        CapSet::EMPTY => "none".to_owned(),
        CapSet::ALL => "full".to_owned(),
        some => {
            let names = some.iter().map(|cap| cap.to_string());
            let names: Vec<String> = names.map(|name| name.replacen("CAP_", "", 1)).collect();
            names.join(",")
        }
    }
}

/// proc_pid_status(5), Seccomp.
fn filter(process: &Entry) -> &'static str {
    match process.status("Seccomp") {
        "0" => "disabled",
        "1" => "strict",
        "2" => "filter",
        _ => "?",
    }
}

/// The terminal behind a device number as proc_pid_stat(5) has it.
fn terminal(process: &Entry) -> String {
    let device = number(process, 7);
    let (major, minor) = (device >> 8 & 0xfff, device & 0xff | device >> 12 & 0xfff00);
    match (major, minor) {
        (0, 0) => "?".to_owned(),
        (4, minor) => format!("tty{minor}"),
        (5, 1) => "console".to_owned(),
        (136..144, minor) => format!("pts/{}", ((major - 136) << 20) + minor),
        _ => format!("{major}:{minor}"),
    }
}

/// Seconds as Go writes them: `1h2m3s`.
fn time(seconds: f64) -> String {
    let seconds = seconds as u64;
    let (hours, minutes, rest) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    match (hours, minutes) {
        (0, 0) => format!("{rest}s"),
        (0, _) => format!("{minutes}m{rest}s"),
        _ => format!("{hours}h{minutes}m{rest}s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(words: &[&str]) -> Option<Result<Vec<&'static str>, Unknown>> {
        let words: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
        let asked = asked(&words)?;
        Some(asked.map(|columns| columns.iter().map(|column| column.0).collect()))
    }

    #[test]
    fn words_are_columns_and_options_are_options() {
        for words in [
            &["pid", "comm", "huser"][..],
            &["pid,comm", "huser"],
            &["pid comm,", "huser"],
        ] {
            assert_eq!(
                names(words),
                Some(Ok(vec!["pid", "comm", "huser"])),
                "{words:?}"
            );
        }
        for words in [
            &[][..],
            &["-eo", "pid,comm"],
            &["aux"],
            &["axo", "pid,comm"],
        ] {
            assert_eq!(names(words), None, "{words:?}");
        }
        assert_eq!(
            names(&["pid", "colour"]),
            Some(Err(Unknown("colour".into())))
        );
        assert!(Unknown("x".into()).hint().contains("capamb, capbnd"));
    }

    #[test]
    fn ids_have_the_names_of_their_place() {
        let passwd = "root:x:0:0::/:/bin/sh\nwww:x:33:33::/:/bin/sh\n";
        let map = IdMap::single(33, 1000);
        assert_eq!(named(passwd, Some(&map), "1000"), "www");
        assert_eq!(named(passwd, Some(&map), "0"), "65534");
        assert_eq!(named(passwd, None, "0"), "root");
        assert_eq!(named(passwd, None, "7"), "7");
    }

    #[test]
    fn times() {
        for (seconds, text) in [(0.9, "0s"), (61.0, "1m1s"), (36_000.0, "10h0m0s")] {
            assert_eq!(time(seconds), text);
        }
    }
}
