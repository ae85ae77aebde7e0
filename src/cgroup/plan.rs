//! Who makes the group of a container: the user's systemd, or we ourselves in a group that is ours.

use std::path::{Path, PathBuf};

use systemd_user::Address;

use super::{CONTROLLERS, Error, ROOT, Write, get, writes};
use crate::host;
use crate::model::spec::{CgroupMode, Resources};

/// Ours, below the user's manager.
pub(super) const SLICE: &str = "rl.slice";

/// Who makes the group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Manager {
    Systemd {
        address: Address,
        uid: u32,
        slice: String,
    },
    Direct {
        /// In this directory.
        parent: PathBuf,
        /// What is in it may be moved to a leaf, to make room for controllers.
        ours_alone: bool,
    },
}

/// A group to be made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    pub(super) manager: Manager,
    pub(super) id: String,
    pub(super) description: String,
    pub(super) writes: Vec<Write>,
}

impl Plan {
    /// Docker's word for who makes groups.
    pub fn driver(&self) -> &'static str {
        match self.manager {
            Manager::Systemd { .. } => "systemd",
            Manager::Direct { .. } => "cgroupfs",
        }
    }

    /// Whether the monitor goes to a group that systemd makes for the container.
    pub fn moves_monitor(&self) -> bool {
        matches!(self.manager, Manager::Systemd { .. })
    }

    /// Whether a limit was asked for.
    pub fn is_asked(&self) -> bool {
        self.writes.iter().any(|write| write.asked)
    }
}

/// Decides who makes the group of a container, before anything is started. `None` where there is none to be had, and
/// nothing was asked for that needs one.
///
/// # Errors
/// [`Error::NoGroup`].
pub fn choose(
    resources: &Resources,
    id: &str,
    name: &str,
    uid: u32,
    env: &dyn Fn(&str) -> Option<std::ffi::OsString>,
) -> Result<Option<Plan>, Error> {
    let writes = writes(resources);
    let plan = |manager| Plan {
        manager,
        id: id.to_owned(),
        description: format!("rl container {name}"),
        writes: writes.clone(),
    };
    let lacks = |why: &str| match writes.iter().find(|write| write.asked) {
        Some(write) => Err(Error::NoGroup {
            option: write.option,
            controller: write.controller().to_owned(),
            why: why.to_owned(),
        }),
        None => Ok(None),
    };
    let unwanted = |why, hint| match writes.iter().find(|write| write.asked) {
        Some(write) => Err(Error::Unwanted {
            option: write.option,
            why,
            hint,
        }),
        None => Ok(None),
    };
    if resources.mode == CgroupMode::Disabled {
        return unwanted(
            "`--cgroups disabled` was given as well",
            "limits are those of a control group: leave one of the two out",
        );
    }
    if !host::Cgroup::is_unified() {
        return lacks("/sys/fs/cgroup is not version 2");
    }
    if resources.mode == CgroupMode::Split {
        return match own_group().filter(|own| is_ours(own)) {
            Some(parent) => Ok(Some(plan(Manager::Direct {
                parent,
                ours_alone: true,
            }))),
            None => unwanted(
                "`--cgroups split` was given, and this process is in no group of yours",
                "`systemd-run --user --scope -p Delegate=yes rl run ...` makes one around it; without `--cgroups split` \
                 your systemd makes one for the container",
            ),
        };
    }
    let parent = resources.parent.as_deref();
    if let Some(path) = parent.filter(|parent| parent.starts_with('/')) {
        return Ok(Some(plan(Manager::Direct {
            parent: Path::new(ROOT).join(path.trim_start_matches('/')),
            ours_alone: false,
        })));
    }
    let direct = delegated();
    let has_more = direct
        .as_ref()
        .is_some_and(|group| has_more(group, &writes));
    if let Some(address) = systemd(uid, env).filter(|_| !has_more) {
        let slice = parent.unwrap_or(SLICE).to_owned();
        return Ok(Some(plan(Manager::Systemd {
            address,
            uid,
            slice,
        })));
    }
    match direct {
        // The root of what we see is that of a container whose processes are all ours to move.
        Some(parent) => Ok(Some(plan(Manager::Direct {
            ours_alone: parent == Path::new(ROOT) && writes.iter().any(|write| write.asked),
            parent,
        }))),
        None => lacks("there is no systemd of yours to ask, and no group of yours to make one in"),
    }
}

/// Whether something is asked for that no systemd hands on, and the group has it.
fn has_more(group: &Path, writes: &[Write]) -> bool {
    let has = get(&group.join("cgroup.controllers")).unwrap_or_default();
    let beyond = |write: &&Write| write.asked && !write.fits(&CONTROLLERS.join(" "));
    let mut beyond = writes.iter().filter(beyond).peekable();
    beyond.peek().is_some() && beyond.all(|write| write.fits(&has))
}

/// Which are not there of a slice and those around it, the outermost first, as far as can be seen: where the managers
/// have their groups. `a-b.slice` lies in `a.slice` (systemd.slice(5)).
pub(super) fn missing_slices(uid: u32, slice: &str) -> Vec<String> {
    let mut group = manager_group(uid);
    let mut out = Vec::new();
    for name in slices(slice) {
        group.push(&name);
        if !group.exists() {
            out.push(name);
        }
    }
    out
}

fn slices(slice: &str) -> Vec<String> {
    let stem = slice.strip_suffix(".slice").unwrap_or(slice);
    let ends = stem.match_indices('-').map(|(at, _)| at);
    let all = ends.chain([stem.len()]).map(|end| &stem[..end]);
    // The outermost of all is called `-.slice`, and is always there.
    all.filter(|stem| !stem.is_empty())
        .map(|stem| format!("{stem}.slice"))
        .collect()
}

/// The group of the manager of this user: root's is the system's.
fn manager_group(uid: u32) -> PathBuf {
    let group = match uid {
        0 => return ROOT.into(),
        uid => format!("user.slice/user-{uid}.slice/user@{uid}.service"),
    };
    Path::new(ROOT).join(group)
}

/// Whether a container started from here, in the background, ends with the manager of this user, who is not root: its group
/// lies below that, or, where systemd does not make it, that of its monitor, which leaves a login session for the manager.
pub fn is_managers(plan: Option<&Plan>, uid: u32) -> bool {
    let parent = match plan.map(|plan| &plan.manager) {
        _ if uid == 0 => return false,
        Some(Manager::Systemd { .. }) => return true,
        Some(Manager::Direct { parent, .. }) => Some(parent.clone()),
        None => None,
    };
    let manager = manager_group(uid);
    let own = own_group();
    own.as_deref().is_some_and(is_session)
        || parent
            .or(own)
            .is_some_and(|group| group.starts_with(manager))
}

/// The group of this process.
pub(super) fn own_group() -> Option<PathBuf> {
    group_of("self")
}

/// The group of a process that /proc knows by this name.
pub(super) fn group_of(process: &str) -> Option<PathBuf> {
    let table = std::fs::read_to_string(format!("/proc/{process}/cgroup")).ok()?;
    let group = table.lines().find_map(|line| line.strip_prefix("0::/"))?;
    Some(Path::new(ROOT).join(group))
}

/// Whether a group is that of a login session: `session-ID.scope`, where pam_systemd(8) puts who logs in.
pub(super) fn is_session(group: &Path) -> bool {
    let names = group.iter().filter_map(|name| name.to_str());
    let mut scopes = names.filter(|name| name.starts_with("session-"));
    scopes.any(|name| name.ends_with(".scope"))
}

/// The topmost of the groups around this process that are ours.
fn delegated() -> Option<PathBuf> {
    let own = own_group()?;
    let around = own.ancestors().take_while(|group| group.starts_with(ROOT));
    let ours = around.take_while(|group| is_ours(group)).last()?;
    Some(ours.to_owned())
}

fn is_ours(group: &Path) -> bool {
    let write = |path: &Path| rustix::fs::access(path, rustix::fs::Access::WRITE_OK).is_ok();
    write(group)
        && write(&group.join("cgroup.procs"))
        && write(&group.join("cgroup.subtree_control"))
}

/// Where the user's systemd listens.
pub(super) fn systemd(
    uid: u32,
    env: &dyn Fn(&str) -> Option<std::ffi::OsString>,
) -> Option<Address> {
    let (runtime, bus) = (env("XDG_RUNTIME_DIR"), env("DBUS_SESSION_BUS_ADDRESS"));
    Address::find(uid, runtime.as_deref(), bus.as_deref())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slices_lie_in_slices() {
        assert_eq!(slices(SLICE), [SLICE]);
        let all = ["a.slice", "a-b.slice", "a-b-c.slice"];
        assert_eq!(slices("a-b-c.slice"), all);
        assert!(slices("-.slice").iter().all(|name| name == "-.slice"));
    }
}
