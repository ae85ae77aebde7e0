//! Who lives in a pid namespace, as `/proc` shows it.

use std::collections::HashMap;
use std::path::PathBuf;

/// The pid namespace of a process (proc_pid_ns(5)); `None` where it is gone or closed to us.
fn namespace(pid: i32) -> Option<PathBuf> {
    std::fs::read_link(format!("/proc/{pid}/ns/pid")).ok()
}

/// Whether two processes live in the same pid namespace.
pub fn is_beside(pid: i32, other: i32) -> bool {
    namespace(pid).is_some_and(|own| namespace(other) == Some(own))
}

/// The processes of the pid namespace in which `first` lives, ascending, numbered as here. `None` where that is
/// our own, so that nobody tells them from others, or `first` is gone.
pub fn beside(first: i32) -> Option<Vec<i32>> {
    let theirs = namespace(first)?;
    if namespace(std::process::id() as i32).as_ref() == Some(&theirs) {
        return None;
    }
    let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let mut pids: Vec<i32> = entries
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter(|pid| namespace(*pid).as_ref() == Some(&theirs))
        .collect();
    pids.sort_unstable();
    Some(pids)
}

/// Gives a process another score by which the kernel chooses whom to kill when memory is out (proc_pid_oom_score_adj(5)).
///
/// # Errors
/// That of opening or writing the file: EACCES below what the process once had, without privileges.
pub fn set_oom_score(pid: i32, score: i32) -> std::io::Result<()> {
    // Not `fs::write`, which would make one where the process is gone.
    let mut file = std::fs::File::options();
    let mut file = file
        .write(true)
        .open(format!("/proc/{pid}/oom_score_adj"))?;
    std::io::Write::write_all(&mut file, score.to_string().as_bytes())
}

/// The score of a process; `None` where it is gone.
pub fn oom_score(pid: i32) -> Option<i32> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/oom_score_adj"));
    text.ok()?.trim().parse().ok()
}

/// What one process has used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Microseconds of processor time.
    pub cpu: u64,
    /// Bytes of memory that are resident.
    pub memory: u64,
    /// Threads.
    pub threads: u64,
    /// Bytes read from and written to disks.
    pub io: (u64, u64),
}

/// What a process has used (proc_pid_stat(5), fields 14, 15, 20 and 24; proc_pid_io(5)); `None` where it is gone.
pub fn usage(pid: i32) -> Option<Usage> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let rest = stat.rsplit_once(')')?.1;
    let fields: Vec<&str> = rest.split_whitespace().collect();
    // Field 3 is the first after the name.
    let number = |field: usize| fields.get(field - 3)?.parse::<u64>().ok();
    let io = std::fs::read_to_string(format!("/proc/{pid}/io")).unwrap_or_default();
    let bytes = |name: &str| {
        let mut lines = io.lines().filter_map(|line| line.split_once(": "));
        let found = lines.find(|(key, _)| *key == name);
        found.and_then(|(_, value)| value.parse().ok()).unwrap_or(0)
    };
    let ticks = rustix::param::clock_ticks_per_second().max(1);
    Some(Usage {
        cpu: (number(14)? + number(15)?) * 1_000_000 / ticks,
        memory: number(24)? * rustix::param::page_size() as u64,
        threads: number(20)?,
        io: (bytes("read_bytes"), bytes("write_bytes")),
    })
}

/// A process as proc_pid_stat(5), proc_pid_status(5) and proc_pid_cmdline(5) show it.
#[derive(Clone, Debug)]
pub struct Entry {
    /// Its number here.
    pub pid: i32,
    /// The name of its program.
    pub comm: String,
    /// Its words, or the name in brackets where it has none.
    pub args: String,
    stat: Vec<String>,
    status: HashMap<String, String>,
}

impl Entry {
    /// The process `pid`; `None` where it is gone.
    pub fn of(pid: i32) -> Option<Entry> {
        let read = |name: &str| std::fs::read(format!("/proc/{pid}/{name}")).ok();
        let text = |name: &str| Some(String::from_utf8_lossy(&read(name)?).into_owned());
        let stat = text("stat")?;
        let (name, rest) = stat.rsplit_once(')')?;
        let comm = name.split_once('(')?.1.to_owned();
        let status = text("status")?;
        let fields = status.lines().filter_map(|line| line.split_once(':'));
        let words = read("cmdline").unwrap_or_default();
        let words = String::from_utf8_lossy(&words).replace('\0', " ");
        Some(Entry {
            pid,
            args: match words.trim_end() {
                "" => format!("[{comm}]"),
                words => words.to_owned(),
            },
            comm,
            stat: rest.split_whitespace().map(str::to_owned).collect(),
            status: fields
                .map(|(key, value)| (key.to_owned(), value.trim().to_owned()))
                .collect(),
        })
    }

    /// A field of its `stat` from the third on, as they are numbered there; empty where there is none.
    pub fn stat(&self, field: usize) -> &str {
        let found = field.checked_sub(3).and_then(|field| self.stat.get(field));
        found.map_or("", |text| text)
    }

    /// A field of its `status`; empty where there is none.
    pub fn status(&self, name: &str) -> &str {
        self.status.get(name).map_or("", |text| text)
    }

    /// What a security module calls it; `?` where none does (proc_pid_attr(5)).
    pub fn label(&self) -> String {
        let label = std::fs::read_to_string(format!("/proc/{}/attr/current", self.pid));
        let label = label.unwrap_or_default();
        match label.trim_end_matches(['\0', '\n']) {
            "" => "?".to_owned(),
            label => label.to_owned(),
        }
    }
}
