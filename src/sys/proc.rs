//! Who lives in a pid namespace, as `/proc` shows it.

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
