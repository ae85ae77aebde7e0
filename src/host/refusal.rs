//! Why there is no user namespace: the switches of the kernel and of distributions, and what is around us.

use std::path::{Path, PathBuf};

use super::apparmor::{Entered, Profile};
use super::{Around, Mend};

/// A line that mends something.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fix {
    /// Whether it is for root.
    pub root: bool,
    /// A shell command for root; for everybody else a command or what to do, in words.
    pub line: String,
}

impl Fix {
    /// A command for root.
    pub fn root(line: impl Into<String>) -> Fix {
        Fix {
            root: true,
            line: line.into(),
        }
    }

    /// What the caller can do without root, or somebody must decide.
    pub fn own(line: impl Into<String>) -> Fix {
        Fix {
            root: false,
            line: line.into(),
        }
    }

    /// From the text of a hint, which begins with `as root: ` where it is for root.
    pub fn parse(hint: &str) -> Fix {
        match hint.strip_prefix("as root: ") {
            Some(line) => Fix::root(line),
            None => Fix::own(hint),
        }
    }

    /// The text of a hint.
    pub fn hint(&self) -> String {
        match self.root {
            true => format!("as root: {}", self.line),
            false => self.line.clone(),
        }
    }
}

/// What stands in the way, and what mends it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Obstacle {
    /// In words.
    pub why: String,
    /// Where one is known.
    pub fix: Option<Fix>,
}

/// What decides about user namespaces.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Switches {
    /// `user.max_user_namespaces`.
    pub limit: Option<u64>,
    /// `kernel.unprivileged_userns_clone` (Debian's kernels) is 0.
    pub switched_off: bool,
    /// `kernel.apparmor_restrict_unprivileged_userns` (Ubuntu) is 1.
    pub apparmor: bool,
    /// What AppArmor confines this process by.
    pub profile: Option<Profile>,
    /// A seccomp filter is in force for this process: that of an outer container or of a unit.
    pub filtered: bool,
    /// RLIMIT_NPROC and the unit.
    pub around: Around,
    /// The program's file.
    pub program: PathBuf,
}

/// For a container that we are in.
const LET_IN: &str = "let the outer container make user namespaces: `rl run --cap-add SYS_ADMIN IMAGE` (any but `host`), \
                      `podman run --security-opt seccomp=unconfined`";

/// The same, for one that AppArmor confines.
const LET_OUT: &str = "start the outer container with `--security-opt apparmor=unconfined` (Kubernetes: `appArmorProfile` of type `Unconfined`)";

impl Switches {
    /// Reads them.
    pub fn read() -> Switches {
        let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
        let sysctl = |name: &str| read(&format!("/proc/sys/{name}")).trim().to_owned();
        let program = std::fs::read_link("/proc/self/exe").unwrap_or_default();
        Switches {
            limit: sysctl("user/max_user_namespaces").parse().ok(),
            switched_off: sysctl("kernel/unprivileged_userns_clone") == "0",
            apparmor: sysctl("kernel/apparmor_restrict_unprivileged_userns") == "1",
            profile: Profile::find((read(PROFILE) == own_profile(&program)).then_some("rl")),
            around: Around::find(&super::Cgroup::find().own),
            filtered: is_filtered(&read("/proc/self/status")),
            program,
        }
    }

    /// Why clone(2) with CLONE_NEWUSER, or the first thing done with its capabilities, was refused with `errno`.
    pub fn explain(&self, errno: i32) -> Option<Obstacle> {
        let obstacle = |why: &str, fix| {
            Some(Obstacle {
                why: why.to_owned(),
                fix: Some(fix),
            })
        };
        // RestrictNamespaces= answers clone3(2) with ENOSYS, clone(2) with EPERM.
        if let (true, Some(unit)) = (self.filtered, &self.around.unit)
            && [libc::EPERM, libc::ENOSYS].contains(&errno)
            && !self.switched_off
        {
            let settings = "RestrictNamespaces=no` and `SystemCallFilter=";
            return obstacle(
                &format!("a seccomp filter is in force, that of `{}`", unit.name),
                Fix::own(unit.edit(settings)),
            );
        }
        // AppArmor answers with EACCES, whatever else refuses with EPERM (security/apparmor/lib.c, aa_check_perms).
        if let (Some(profile), libc::EACCES) = (&self.profile, errno) {
            let name = &profile.name;
            return obstacle(
                &format!("AppArmor's profile `{name}` is in force, without a rule `userns,`"),
                match profile.entered {
                    Entered::Path => Fix::root(self.apparmor_profile()),
                    Entered::Name => Fix::own(format!(
                        "give the profile `{name}` the rule `userns,`, or start `rl` from outside it"
                    )),
                    Entered::Container => Fix::own(LET_OUT),
                },
            );
        }
        let limit = self.limit.unwrap_or(1);
        match errno {
            // user_namespaces(7): the limit, or 32 namespaces one in the other.
            libc::ENOSPC => {
                let why = match limit {
                    0 => "user.max_user_namespaces is 0".to_owned(),
                    n => format!(
                        "the limit of {n} (user.max_user_namespaces), or one outside, is used up"
                    ),
                };
                let enough = limit.saturating_mul(2).max(15_000);
                obstacle(
                    &why,
                    Fix::root(format!("sysctl -w user.max_user_namespaces={enough}")),
                )
            }
            libc::EPERM if self.switched_off => obstacle(
                "kernel.unprivileged_userns_clone is 0",
                Fix::root("sysctl -w kernel.unprivileged_userns_clone=1"),
            ),
            libc::EAGAIN => obstacle(
                &match self.around.processes {
                    Some(n) => format!("RLIMIT_NPROC is {n}, or a control group's pids.max is reached"),
                    None => "a control group's pids.max is reached".to_owned(),
                },
                Fix::own(self.around.mend(Mend(
                    "LimitNPROC=infinity` and `TasksMax=infinity",
                    "`ulimit -u` shows the limit of processes, and the hard one that it may be raised to",
                ))),
            ),
            libc::EPERM if self.filtered => obstacle(
                "a seccomp filter is in force, that of an outer container",
                self.let_in(),
            ),
            libc::EPERM | libc::EACCES if self.apparmor => obstacle(
                "kernel.apparmor_restrict_unprivileged_userns is 1",
                Fix::root(self.apparmor_profile()),
            ),
            libc::EPERM | libc::EACCES | libc::ENOSYS => obstacle(
                "something around this process refuses it: an outer container, a chroot",
                self.let_in(),
            ),
            _ => None,
        }
    }

    /// For an outer container; when its filter lets go, it is the turn of its profile.
    fn let_in(&self) -> Fix {
        let profile = self.profile.as_ref();
        match profile.is_some_and(|p| p.entered == Entered::Container) {
            true => Fix::own(format!("{LET_IN}, and {LET_OUT}")),
            false => Fix::own(LET_IN),
        }
    }

    /// The commands that give this program the right which Ubuntu, or a policy for all, keeps from programs without a
    /// profile of their own.
    fn apparmor_profile(&self) -> String {
        let text = own_profile(&self.program);
        format!("cat >{PROFILE} <<'END'\n{text}END\napparmor_parser -r {PROFILE}")
    }
}

/// Where [`own_profile`] is kept.
const PROFILE: &str = "/etc/apparmor.d/rl";

/// A profile for the program's path, which may make user namespaces (apparmor.d(5), "userns rule"), and all else.
fn own_profile(program: &Path) -> String {
    let mut path = String::new();
    for c in program.to_string_lossy().chars() {
        // Wildcards of apparmor.d(5), and the quotes around.
        if "*?[]{}^\\\"".contains(c) {
            path.push('\\');
        }
        path.push(c);
    }
    format!(
        "abi <abi/4.0>,\ninclude <tunables/global>\n\
         profile rl \"{path}\" flags=(unconfined) {{\n  userns,\n}}\n"
    )
}

/// The field of proc_pid_status(5): 2 is a filter.
fn is_filtered(status: &str) -> bool {
    status
        .lines()
        .filter_map(|line| line.strip_prefix("Seccomp:"))
        .any(|mode| mode.trim() == "2")
}

/// The hint under a refused user namespace: what [`Switches::explain`] says of this machine, on one line.
pub fn userns_hint(errno: i32) -> Option<String> {
    let switches = Switches::read();
    let fix = switches.explain(errno)?.fix?;
    if !fix.line.contains('\n') {
        return Some(fix.hint());
    }
    let script = "what `rl doctor --admin-script` prints";
    // As in `explain`.
    let profile = switches.profile.filter(|_| errno == libc::EACCES);
    Some(match profile {
        Some(profile) => format!(
            "AppArmor's profile `{}` refuses it; as root: {script} lets this program out of it",
            profile.name
        ),
        None => {
            let or = "sysctl -w kernel.apparmor_restrict_unprivileged_userns=0";
            format!("as root: `{or}`, or for this program alone {script}")
        }
    })
}

/// The hint under a capability that a new user namespace should give and does not, where this machine has the
/// switch for it.
pub fn restriction_hint() -> Option<String> {
    let switches = Switches::read();
    (switches.apparmor && !switches.filtered).then(|| userns_hint(libc::EPERM))?
}

#[cfg(test)]
mod tests {
    use super::super::Unit;
    use super::*;

    fn line(switches: &Switches, errno: i32) -> String {
        switches.explain(errno).unwrap().fix.unwrap().hint()
    }

    #[test]
    fn each_switch_has_its_line() {
        let mut switches = Switches {
            limit: Some(0),
            program: "/opt/r[l]".into(),
            ..Switches::default()
        };
        assert_eq!(
            line(&switches, libc::ENOSPC),
            "as root: sysctl -w user.max_user_namespaces=15000"
        );
        switches.limit = Some(40_000);
        assert!(line(&switches, libc::ENOSPC).ends_with("=80000"));
        switches.apparmor = true;
        let profile = line(&switches, libc::EPERM);
        assert!(
            profile
                .contains("profile rl \"/opt/r\\[l\\]\" flags=(unconfined) {\n  userns,\n}\nEND\n")
        );
        switches.filtered = true;
        assert!(line(&switches, libc::EPERM).contains("--cap-add SYS_ADMIN"));
        switches.around.unit = Some(Unit {
            name: "backup.service".into(),
            of_user: true,
        });
        for errno in [libc::EPERM, libc::ENOSYS] {
            let line = line(&switches, errno);
            assert!(
                line.starts_with("in the unit: `RestrictNamespaces=no` "),
                "{line}"
            );
            assert!(
                line.ends_with("(`systemctl --user edit backup.service`)"),
                "{line}"
            );
        }
        assert!(line(&switches, libc::EAGAIN).contains("`LimitNPROC=infinity`"));
        switches.switched_off = true;
        assert_eq!(
            line(&switches, libc::EPERM),
            "as root: sysctl -w kernel.unprivileged_userns_clone=1"
        );
        assert_eq!(switches.explain(libc::EIO), None);
    }

    #[test]
    fn a_profile_is_blamed_for_what_it_refuses() {
        let of = |entered| Switches {
            profile: Some(Profile {
                name: "everyone".into(),
                entered,
            }),
            program: "/opt/rl".into(),
            ..Switches::default()
        };
        let mut switches = of(Entered::Path);
        let obstacle = switches.explain(libc::EACCES).unwrap();
        assert!(obstacle.why.contains("`everyone`"), "{}", obstacle.why);
        let fix = obstacle.fix.unwrap();
        assert!(fix.root && fix.line.contains("profile rl \"/opt/rl\""));
        assert!(line(&of(Entered::Name), libc::EACCES).starts_with("give the profile `everyone` "));
        let container = line(&of(Entered::Container), libc::EACCES);
        assert!(container.contains("apparmor=unconfined"), "{container}");

        // Whatever else refuses it keeps its own line.
        let others = |switches: &mut Switches| {
            let mut lines = vec![line(switches, libc::EPERM), line(switches, libc::ENOSPC)];
            lines.push(line(switches, libc::EAGAIN));
            switches.filtered = true;
            lines.push(line(switches, libc::EPERM));
            switches.switched_off = true;
            lines.push(line(switches, libc::EPERM));
            lines
        };
        assert_eq!(others(&mut switches), others(&mut Switches::default()));
        // An outer container's filter and profile go together.
        let mut both = of(Entered::Container);
        both.filtered = true;
        let both = line(&both, libc::EPERM);
        assert!(
            both.contains("seccomp=unconfined") && both.contains(LET_OUT),
            "{both}"
        );
    }

    #[test]
    fn a_filter_is_seen() {
        assert!(is_filtered("Seccomp:\t2\nSeccomp_filters:\t1\n"));
        assert!(!is_filtered("Seccomp:\t0\nSeccomp_filters:\t2\n"));
    }
}
