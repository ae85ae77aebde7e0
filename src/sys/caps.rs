//! Capabilities of the calling thread. A set is a `u64`: bit n is capability n of capabilities(7).
//!
//! The order that a starting container follows: [`limit_bounding`] while CAP_SETPCAP is still held,
//! [`set_keep_caps`] before the change of user when something must survive it, [`set`] after it, then
//! [`set_ambient`] (a capability must be permitted and inheritable before it can be ambient).

use rustix::io::{Errno, Result};
use rustix::thread::{self, CapabilitySet, CapabilitySets};

/// The three sets of capget(2).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sets {
    /// What the kernel checks.
    pub effective: u64,
    /// What may be made effective.
    pub permitted: u64,
    /// What survives execve(2) of a file that has it as inheritable.
    pub inheritable: u64,
}

/// The sets of the calling thread (capget(2)).
///
/// # Errors
/// None are known for the own thread.
pub fn get() -> Result<Sets> {
    let sets = thread::capabilities(None)?;
    Ok(Sets {
        effective: sets.effective.bits(),
        permitted: sets.permitted.bits(),
        inheritable: sets.inheritable.bits(),
    })
}

/// Replaces the sets of the calling thread (capset(2)).
///
/// # Errors
/// `EPERM` when something not yet permitted is asked for.
pub fn set(sets: Sets) -> Result<()> {
    thread::set_capabilities(
        None,
        CapabilitySets {
            effective: CapabilitySet::from_bits_retain(sets.effective),
            permitted: CapabilitySet::from_bits_retain(sets.permitted),
            inheritable: CapabilitySet::from_bits_retain(sets.inheritable),
        },
    )
}

/// Does something while files are made and opened as these ids, with the capabilities that are in
/// force (setfsuid(2) takes those over files away: they are set again). An id that is not mapped
/// changes nothing.
pub fn with_fs_ids<T>(uid: u32, gid: u32, work: impl FnOnce() -> T) -> T {
    let before = get();
    let change = |uid: u32, gid: u32| {
        // SAFETY: two numbers, no memory; for this thread only.
        unsafe {
            libc::syscall(libc::SYS_setfsgid, gid);
            libc::syscall(libc::SYS_setfsuid, uid);
        }
        if let Ok(sets) = before {
            let _ = set(sets);
        }
    };
    change(uid, gid);
    let result = work();
    change(
        rustix::process::geteuid().as_raw(),
        rustix::process::getegid().as_raw(),
    );
    result
}

/// The highest capability this kernel knows. Asks `prctl(PR_CAPBSET_READ, n)` rather than reading
/// `/proc/sys/kernel/cap_last_cap`: it works where no `/proc` is mounted.
///
/// # Errors
/// Those of prctl(2), such as `ENOSYS` from a filter.
pub fn last_cap() -> Result<u32> {
    // 40 (CAP_CHECKPOINT_RESTORE) has been the last one since Linux 5.9: three calls, usually.
    const USUAL: u32 = 40;
    let mut last = USUAL;
    if known(last)? {
        while last < 63 && known(last + 1)? {
            last += 1;
        }
        return Ok(last);
    }
    while last > 0 {
        last -= 1;
        if known(last)? {
            return Ok(last);
        }
    }
    Err(Errno::INVAL)
}

fn known(cap: u32) -> Result<bool> {
    match thread::capability_is_in_bounding_set(one(cap)) {
        Ok(_) => Ok(true),
        Err(Errno::INVAL) => Ok(false),
        Err(errno) => Err(errno),
    }
}

/// The bounding set of the calling thread.
///
/// # Errors
/// Those of `prctl(PR_CAPBSET_READ)`.
pub fn bounding() -> Result<u64> {
    let mut set = 0;
    for cap in 0..=last_cap()? {
        if thread::capability_is_in_bounding_set(one(cap))? {
            set |= 1 << cap;
        }
    }
    Ok(set)
}

/// Drops every capability outside of `keep` from the bounding set (`prctl(PR_CAPBSET_DROP)`).
///
/// # Errors
/// `EPERM` without CAP_SETPCAP when there is something to drop.
pub fn limit_bounding(keep: u64) -> Result<()> {
    for cap in 0..=last_cap()? {
        if keep & (1 << cap) == 0 && thread::capability_is_in_bounding_set(one(cap))? {
            thread::remove_capability_from_bounding_set(one(cap))?;
        }
    }
    Ok(())
}

/// Makes exactly `set` ambient: these survive execve(2) for a user who is not root.
///
/// # Errors
/// `EPERM` for a capability that is not both permitted and inheritable; `EINVAL` before Linux 4.3.
pub fn set_ambient(set: u64) -> Result<()> {
    thread::clear_ambient_capability_set()?;
    for cap in (0..64).filter(|cap| set & (1 << cap) != 0) {
        thread::configure_capability_in_ambient_set(one(cap), true)?;
    }
    Ok(())
}

/// Lets a process that is not root of its user namespace keep what is permitted across execve(2):
/// all of it becomes inheritable and ambient.
///
/// # Errors
/// Those of capget(2), capset(2) and [`set_ambient`].
pub fn keep_across_exec() -> Result<()> {
    let all = get()?.permitted;
    set(Sets {
        effective: all,
        permitted: all,
        inheritable: all,
    })?;
    set_ambient(all)
}

/// The ambient set of the calling thread.
///
/// # Errors
/// `EINVAL` before Linux 4.3.
pub fn ambient() -> Result<u64> {
    let mut set = 0;
    for cap in 0..=last_cap()? {
        if thread::capability_is_in_ambient_set(one(cap))? {
            set |= 1 << cap;
        }
    }
    Ok(set)
}

/// Whether the permitted set survives a change from root to another user (`PR_SET_KEEPCAPS`). The
/// effective set is cleared all the same, and execve(2) resets the flag.
///
/// # Errors
/// `EPERM` when the securebits lock the flag.
pub fn set_keep_caps(keep: bool) -> Result<()> {
    thread::set_keep_capabilities(keep)
}

/// From now on execve(2) grants nothing: no set-user-id bit, no file capability (`PR_SET_NO_NEW_PRIVS`).
/// It cannot be taken back, and a filter or a Landlock domain needs it unless CAP_SYS_ADMIN is held.
///
/// # Errors
/// None are known.
pub fn set_no_new_privs() -> Result<()> {
    thread::set_no_new_privs(true)
}

/// Whether [`set_no_new_privs`] is in force.
///
/// # Errors
/// None are known.
pub fn no_new_privs() -> Result<bool> {
    thread::no_new_privs()
}

fn one(cap: u32) -> CapabilitySet {
    CapabilitySet::from_bits_retain(1 << cap)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Capabilities belong to a thread, so a thread that ends is all the isolation that is needed.
    fn in_thread(test: impl FnOnce() + Send + 'static) {
        std::thread::spawn(test).join().unwrap();
    }

    #[test]
    fn last_cap_is_what_the_kernel_says() {
        let said = std::fs::read_to_string("/proc/sys/kernel/cap_last_cap").unwrap();
        assert_eq!(said.trim().parse(), Ok(last_cap().unwrap()));
    }

    #[test]
    fn the_bounding_set_is_the_one_proc_shows() {
        let status = std::fs::read_to_string("/proc/thread-self/status").unwrap();
        let shown = status
            .lines()
            .find_map(|line| line.strip_prefix("CapBnd:"))
            .unwrap();
        assert_eq!(
            u64::from_str_radix(shown.trim(), 16),
            Ok(bounding().unwrap())
        );
    }

    #[test]
    fn dropped_capabilities_stay_dropped() {
        in_thread(|| {
            set_ambient(0).unwrap();
            set(Sets::default()).unwrap();
            assert_eq!(get().unwrap(), Sets::default());
            let one = Sets {
                permitted: 1,
                ..Sets::default()
            };
            assert_eq!(set(one), Err(Errno::PERM));
            assert_eq!(set_ambient(1), Err(Errno::PERM));
        });
    }

    #[test]
    fn sets_shrink_in_the_documented_order() {
        const KEEP: u64 = 0b1011;
        if get().unwrap().effective & (1 << 8) == 0 {
            // Without CAP_SETPCAP there is nothing to shrink, and the kernel says so.
            if bounding().unwrap() & !KEEP != 0 {
                assert_eq!(limit_bounding(KEEP), Err(Errno::PERM));
            }
            return;
        }
        in_thread(|| {
            limit_bounding(KEEP).unwrap();
            assert_eq!(bounding().unwrap() & !KEEP, 0);
            let kept = KEEP & get().unwrap().permitted;
            let sets = Sets {
                effective: kept,
                permitted: kept,
                inheritable: kept,
            };
            set(sets).unwrap();
            assert_eq!(get().unwrap(), sets);
            set_ambient(kept & 0b10).unwrap();
            assert_eq!(ambient().unwrap(), kept & 0b10);
        });
    }

    #[test]
    fn no_new_privs_is_reported() {
        in_thread(|| {
            set_no_new_privs().unwrap();
            assert!(no_new_privs().unwrap());
        });
    }
}
