//! Which paths of `/proc` and `/sys` a container does not see, and which it may only read.
//!
//! A masked path is hidden under an empty file or directory: it tells about the host as a whole, or is a side
//! channel to what others do on it. A read-only path steers the kernel; ownership guards most of it too, and
//! the mount does so whoever owns it. Both come from the customary defaults of container engines (OCI
//! runtime specification, `linux.maskedPaths` and `linux.readonlyPaths`).

use std::path::Path;

/// Hidden. The name with a `*` stands for one directory per processor: see [`expand`].
pub const MASKED: &[&str] = &[
    "/proc/acpi",
    "/proc/asound",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/sys/devices/system/cpu/*/thermal_throttle",
    "/sys/devices/virtual/powercap",
    "/sys/firmware",
];

/// Read-only.
pub const READ_ONLY: &[&str] = &[
    "/proc/bus",
    "/proc/fs",
    "/proc/irq",
    "/proc/sys",
    "/proc/sysrq-trigger",
];

/// Why a list of paths was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Not an absolute path without `..`.
    #[error("not an absolute path without `..`: `{0}`")]
    Path(String),
}

/// The masked and read-only paths of one container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Paths {
    /// Hidden; may hold a `*`.
    pub masked: Vec<String>,
    /// Read-only.
    pub read_only: Vec<String>,
}

impl Default for Paths {
    fn default() -> Paths {
        let owned = |list: &[&str]| list.iter().map(|path| (*path).to_owned()).collect();
        Paths {
            masked: owned(MASKED),
            read_only: owned(READ_ONLY),
        }
    }
}

impl Paths {
    /// `mask=`: hides further paths, a list with `:` between them.
    ///
    /// # Errors
    /// [`Error::Path`].
    pub fn mask(&mut self, list: &str) -> Result<(), Error> {
        for path in list.split(':') {
            let path = checked(path)?;
            if !self.masked.contains(&path) {
                self.masked.push(path);
            }
        }
        Ok(())
    }

    /// `unmask=`: takes paths off both lists, or everything with `ALL`. `*` and `?` stand for any characters of
    /// one name (podman-run(1)).
    ///
    /// # Errors
    /// [`Error::Path`].
    pub fn unmask(&mut self, list: &str) -> Result<(), Error> {
        if list.eq_ignore_ascii_case("ALL") {
            self.masked.clear();
            self.read_only.clear();
            return Ok(());
        }
        for pattern in list.split(':') {
            let pattern = checked(pattern)?;
            let stays = |path: &String| *path != pattern && !matches(&pattern, path);
            self.masked.retain(stays);
            self.read_only.retain(stays);
        }
        Ok(())
    }
}

/// An absolute path without `..`, and without empty or `.` parts.
fn checked(path: &str) -> Result<String, Error> {
    let refused = || Error::Path(path.to_owned());
    if !path.starts_with('/') || path.contains('\0') {
        return Err(refused());
    }
    let mut clean = String::with_capacity(path.len());
    for part in path.split('/').filter(|part| !matches!(*part, "" | ".")) {
        if part == ".." {
            return Err(refused());
        }
        clean.push('/');
        clean.push_str(part);
    }
    // The root itself cannot be hidden.
    (!clean.is_empty()).then_some(clean).ok_or_else(refused)
}

/// Whether a path matches a pattern, part by part.
fn matches(pattern: &str, path: &str) -> bool {
    let (mut patterns, mut parts) = (pattern.split('/'), path.split('/'));
    loop {
        match (patterns.next(), parts.next()) {
            (None, None) => return true,
            (Some(pattern), Some(part)) if matches_part(pattern.as_bytes(), part.as_bytes()) => {}
            _ => return false,
        }
    }
}

fn matches_part(pattern: &[u8], part: &[u8]) -> bool {
    match (pattern.split_first(), part.split_first()) {
        (None, None) => true,
        (Some((b'*', rest)), _) => (0..=part.len()).any(|skip| matches_part(rest, &part[skip..])),
        (Some((b'?', rest)), Some((_, tail))) => matches_part(rest, tail),
        (Some((a, rest)), Some((b, tail))) if a == b => matches_part(rest, tail),
        _ => false,
    }
}

/// The paths that a list means on this machine: a name with one `*` part is replaced by the names that exist
/// below `root` (the host's `/`), in order; all others stay as they are.
pub fn expand(list: &[String], root: &Path) -> Vec<String> {
    let mut out = Vec::with_capacity(list.len());
    for path in list {
        match path.split_once("/*/") {
            None => out.push(path.clone()),
            Some((dir, rest)) => out.extend(below(root, dir, rest)),
        }
    }
    out
}

fn below(root: &Path, dir: &str, rest: &str) -> Vec<String> {
    let host = |path: &str| root.join(path.trim_start_matches('/'));
    // A directory that cannot be read has nothing to show inside either.
    let Ok(entries) = std::fs::read_dir(host(dir)) else {
        return Vec::new();
    };
    let mut found: Vec<String> = entries
        .flatten()
        .filter_map(|entry| entry.file_name().into_string().ok())
        .map(|name| format!("{dir}/{name}/{rest}"))
        .filter(|path| host(path).exists())
        .collect();
    found.sort_unstable();
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn masks_are_added_once_and_cleaned() {
        let mut paths = Paths::default();
        let before = paths.masked.len();
        paths.mask("/proc/kcore:/proc//meminfo/").unwrap();
        assert_eq!(paths.masked.len(), before + 1);
        assert_eq!(paths.masked.last().unwrap(), "/proc/meminfo");
        for bad in [
            "",
            "proc/x",
            "/proc/../etc",
            "/",
            "/./",
            "/a:",
            "/a\0b",
            "ALL",
        ] {
            assert!(Paths::default().mask(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn unmask_takes_from_both_lists() {
        let mut paths = Paths::default();
        paths.unmask("/proc/kcore:/proc/sys").unwrap();
        assert!(!paths.masked.contains(&"/proc/kcore".to_owned()));
        assert!(!paths.read_only.contains(&"/proc/sys".to_owned()));
        assert!(paths.read_only.contains(&"/proc/bus".to_owned()));

        paths.unmask("/proc/*").unwrap();
        assert!(paths.read_only.is_empty());
        assert!(paths.masked.iter().all(|path| path.starts_with("/sys/")));
        paths.unmask(MASKED[10]).unwrap();
        assert!(!paths.masked.contains(&MASKED[10].to_owned()));

        paths.unmask("ALL").unwrap();
        assert!(paths.masked.is_empty());
        assert!(Paths::default().unmask("proc").is_err());
    }

    #[test]
    fn a_star_stays_within_one_name() {
        assert!(matches("/proc/*", "/proc/kcore"));
        assert!(matches("/proc/k*r?", "/proc/kcore"));
        assert!(!matches("/proc/*", "/proc/sys/kernel"));
        assert!(!matches("/proc/*", "/sys/firmware"));
        assert!(!matches("/proc/k?", "/proc/kcore"));
    }

    #[test]
    fn processors_are_found_below_the_given_root() {
        let root = tempfile::tempdir().unwrap();
        for cpu in ["cpu1/thermal_throttle", "cpu0/thermal_throttle", "cpufreq"] {
            let dir = root.path().join("sys/devices/system/cpu").join(cpu);
            std::fs::create_dir_all(dir).unwrap();
        }
        let list = expand(&Paths::default().masked, root.path());
        assert_eq!(list.len(), MASKED.len() + 1);
        assert_eq!(list[10], "/sys/devices/system/cpu/cpu0/thermal_throttle");
        assert_eq!(list[11], "/sys/devices/system/cpu/cpu1/thermal_throttle");
        let nothing = tempfile::tempdir().unwrap();
        assert_eq!(
            expand(&Paths::default().masked, nothing.path()).len(),
            MASKED.len() - 1
        );
    }
}
