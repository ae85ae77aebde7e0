//! What was set for this process by whoever started it: limits, and the unit of systemd that it belongs to.

use rustix::process::{Resource, getrlimit};

/// A service that this process belongs to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unit {
    /// `backup.service`.
    pub name: String,
    /// It is one of a user's manager.
    pub of_user: bool,
}

impl Unit {
    /// The service of this process, by its control group (systemd.exec(5): a service's processes are in its
    /// group). What a login or a container started is in none.
    pub fn find() -> Option<Unit> {
        let table = std::fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
        Unit::in_table(&table)
    }

    /// From a table of cgroups(7), `/proc/PID/cgroup`: the group of version 2, or the hierarchy of systemd.
    fn in_table(table: &str) -> Option<Unit> {
        let path = table.lines().find_map(|line| {
            let place = line.split_once(':')?.1;
            let of_systemd = place.strip_prefix("name=systemd:");
            of_systemd.or(place.strip_prefix(':')).filter(|p| *p != "/")
        })?;
        let parts: Vec<&str> = path.split('/').collect();
        let last = parts.iter().rev().find(|part| {
            let kinds = [".service", ".scope"];
            kinds.iter().any(|kind| part.ends_with(kind))
        })?;
        let manager = |part: &&str| part.starts_with("user@") && part.ends_with(".service");
        (last.ends_with(".service") && !manager(last)).then(|| Unit {
            name: (*last).to_owned(),
            of_user: parts.iter().any(manager),
        })
    }

    /// How its `settings` are changed, in words with the command.
    pub fn edit(&self, settings: &str) -> String {
        let user = if self.of_user { "--user " } else { "" };
        let name = &self.name;
        format!("in the unit: `{settings}` (`systemctl {user}edit {name}`)")
    }
}

/// Limits of this process.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Around {
    /// The service that it belongs to.
    pub unit: Option<Unit>,
    /// umask(2).
    pub umask: u32,
    /// RLIMIT_NOFILE; `None` where there is none.
    pub files: Option<u64>,
    /// RLIMIT_NPROC; `None` where there is none.
    pub processes: Option<u64>,
    /// Bytes: the smallest `memory.max` of the control group and those above it.
    pub memory: Option<u64>,
}

impl Around {
    /// Looks. `group` is the own control group below `/sys/fs/cgroup`.
    pub fn find(group: &std::path::Path) -> Around {
        let group = std::path::Path::new("/sys/fs/cgroup").join(group);
        let max = |group: &std::path::Path| {
            let text = std::fs::read_to_string(group.join("memory.max")).ok()?;
            text.trim().parse().ok()
        };
        Around {
            unit: Unit::find(),
            umask: umask(),
            files: getrlimit(Resource::Nofile).current,
            processes: getrlimit(Resource::Nproc).current,
            memory: group.ancestors().filter_map(max).min(),
        }
    }

    /// What to do about a limit: in the unit, or otherwise.
    pub fn mend(&self, how: Mend) -> String {
        how.line(self.unit.as_ref())
    }
}

/// umask(2), by proc_pid_status(5), as the call itself would change it; 0 where it cannot be read.
fn umask() -> u32 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let text = status.lines().find_map(|line| line.strip_prefix("Umask:"));
    text.and_then(|text| u32::from_str_radix(text.trim(), 8).ok())
        .unwrap_or(0)
}

/// The hint under a refusal that comes of a umask which keeps the maker out of what is made.
pub fn umask_hint() -> Option<String> {
    let keeps_out = umask() & 0o700 != 0;
    keeps_out.then(|| UMASK.line(Unit::find().as_ref()))
}

/// The hint under an error that comes of a limit of this process (getrlimit(2)). What reports it may be another process,
/// so it is known by its words.
pub fn limit_hint(words: &str) -> Option<String> {
    let words = words.to_lowercase();
    let set = |limit: &Resource| getrlimit(*limit).current.is_some();
    let (_, _, mend) = LIMITS
        .iter()
        .find(|(limit, said, _)| said.iter().all(|said| words.contains(said)) && set(limit))?;
    Some(mend.line(Unit::find().as_ref()))
}

/// Which limit, what is said where it is reached, what mends it.
const LIMITS: [(Resource, &[&str], Mend); 6] = [
    (Resource::Nofile, &["too many open files"], FILES),
    // pthread_create(3) says the same of a stack that finds no room.
    (Resource::As, &["spawn(thread)", TRY_AGAIN], MEMORY),
    (Resource::As, &["cannot allocate memory"], MEMORY),
    (Resource::Nproc, &["clone", TRY_AGAIN], PROCESSES),
    (Resource::Nproc, &["spawn", TRY_AGAIN], PROCESSES),
    (
        Resource::Fsize,
        &["file too large"],
        Mend("LimitFSIZE=infinity", "`ulimit -f unlimited`, then again"),
    ),
];
const TRY_AGAIN: &str = "resource temporarily unavailable";
const MEMORY: Mend = Mend("LimitAS=infinity", "`ulimit -v unlimited`, then again");

/// What mends a limit: a unit's setting, and what to do without a unit.
#[derive(Clone, Copy, Debug)]
pub struct Mend(pub &'static str, pub &'static str);

impl Mend {
    fn line(self, unit: Option<&Unit>) -> String {
        unit.map_or_else(|| self.1.to_owned(), |unit| unit.edit(self.0))
    }
}

/// For too small an RLIMIT_NOFILE.
pub const FILES: Mend = Mend("LimitNOFILE=1024:524288", "`ulimit -n 1024`, then again");
/// For too small an RLIMIT_NPROC.
pub const PROCESSES: Mend = Mend(
    "LimitNPROC=infinity",
    "`ulimit -u` shows the limit, and the hard one that it may be raised to",
);
/// For a umask.
pub const UMASK: Mend = Mend("UMask=0022", "`umask 022`, then again");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_known_by_what_is_said_where_they_are_reached() {
        // No limit that would be reached, but one that is set.
        let mut room = getrlimit(Resource::As);
        room.current = room.current.or(Some(1 << 46));
        rustix::process::setrlimit(Resource::As, room).unwrap();
        for (words, hint) in [
            (
                "socketpair(): EMFILE (too many open files)",
                "ulimit -n 1024",
            ),
            (
                "spawn(thread): Resource temporarily unavailable",
                "ulimit -v",
            ),
            ("clone3(): ENOMEM (cannot allocate memory)", "ulimit -v"),
        ] {
            assert!(limit_hint(words).unwrap().contains(hint), "{words}");
        }
        assert_eq!(limit_hint("recv(): Resource temporarily unavailable"), None);
    }

    #[test]
    fn a_service_is_found_by_its_group() {
        let found = |table: &str| Unit::in_table(table).map(|unit| (unit.name, unit.of_user));
        let service = Some(("backup.service".to_owned(), false));
        assert_eq!(found("0::/system.slice/backup.service\n"), service);
        let old = "4:memory:/x\n1:name=systemd:/system.slice/backup.service\n0::/\n";
        assert_eq!(found(old), service);
        let user =
            "0::/user.slice/user-1000.slice/user@1000.service/app.slice/run-u5.service/sub\n";
        assert_eq!(found(user), Some(("run-u5.service".to_owned(), true)));
        for none in [
            "0::/\n",
            "0::/user.slice/user-1000.slice/session-4.scope\n",
            "0::/user.slice/user-1000.slice/user@1000.service/rl.slice/rl-x.scope\n",
            "0::/user.slice/user-1000.slice/user@1000.service/init.scope\n",
        ] {
            assert_eq!(found(none), None, "{none}");
        }
    }
}
