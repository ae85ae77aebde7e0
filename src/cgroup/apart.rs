//! Processes that are not to lie where they were started: in the group of a container that is not theirs, or in that of a
//! login session.

use systemd_user::{Connection, Scope};

use super::plan::{is_session, own_group};
use super::{Error, PATIENCE, SLICE, missing_slices, systemd};
use crate::host;

/// Moves the calling process out of the group of the container whose monitor has started it: into a scope of its own,
/// which systemd removes when the process ends. `name` is that of the network which it serves. Where the user has no
/// systemd, no monitor is in the group of its container, and the process stays where it is.
///
/// # Errors
/// [`Error::Systemd`].
pub fn apart(name: &str) -> Result<(), Error> {
    // The name of a unit has at most 255 bytes (systemd.unit(5)).
    let short = name.get(..200).unwrap_or(name);
    scope(
        &format!("rl-network-{short}"),
        &format!("rl network {name}"),
    )
}

/// Moves the calling process, which is to outlive the login that started it, out of the session's group, whose processes
/// logind ends with the session where `KillUserProcesses=` says so (logind.conf(5)): into a scope of the user's manager.
/// It stays where it is in any other group. `what` describes it, for people.
///
/// # Errors
/// [`Error::Systemd`].
pub fn leave_session(what: &str) -> Result<(), Error> {
    match own_group() {
        Some(group) if is_session(&group) => scope("rl-apart", what),
        _ => Ok(()),
    }
}

/// Makes a scope with this process in it, where the user has a systemd.
fn scope(prefix: &str, description: &str) -> Result<(), Error> {
    let uid = rustix::process::geteuid().as_raw();
    let address = systemd(uid, &|name| std::env::var_os(name));
    let Some(address) = address.filter(|_| host::Cgroup::is_unified()) else {
        return Ok(());
    };
    let pid = std::process::id();
    // Nobody asked for it, so nobody waits long.
    Connection::open(&address, uid, PATIENCE / 6)?.start_scope(&Scope {
        name: &format!("{prefix}-{pid}.scope"),
        description,
        slice: SLICE,
        new_slices: &missing_slices(uid, SLICE),
        pids: &[pid],
        shares: &[],
    })?;
    Ok(())
}
