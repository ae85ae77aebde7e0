//! A process that several containers share lies in the group of none.

use systemd_user::{Connection, Scope};

use super::{Error, PATIENCE, SLICE, slice_exists, systemd};
use crate::host;

/// Moves the calling process out of the group of the container whose monitor has started it: into a scope of its own,
/// which systemd removes when the process ends. `name` is that of the network which it serves. Where the user has no
/// systemd, no monitor is in the group of its container, and the process stays where it is.
///
/// # Errors
/// [`Error::Systemd`].
pub fn apart(name: &str) -> Result<(), Error> {
    let uid = rustix::process::geteuid().as_raw();
    let address = systemd(uid, &|name| std::env::var_os(name));
    let Some(address) = address.filter(|_| host::Cgroup::is_unified()) else {
        return Ok(());
    };
    let pid = std::process::id();
    // The name of a unit has at most 255 bytes (systemd.unit(5)).
    let short = name.get(..200).unwrap_or(name);
    // Nobody asked for it, so nobody waits long.
    Connection::open(&address, uid, PATIENCE / 6)?.start_scope(&Scope {
        name: &format!("rl-network-{short}-{pid}.scope"),
        description: &format!("rl network {name}"),
        slice: SLICE,
        new_slice: !slice_exists(uid),
        pids: &[pid],
        shares: &[],
    })?;
    Ok(())
}
