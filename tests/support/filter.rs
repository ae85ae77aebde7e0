//! System call filters of others: of sandboxes that `rl` finds itself in, and for kernels that are older than this one.

use rl::security::caps::CapSet;
use rl::security::seccomp::{Profile, compile};
use rl::sys::seccomp::{Flags, install};
use serde_json::json;

/// Calls that older kernels do not know, and for which `rl` has another way; also what nobody may need, such as the
/// making of mounts by descriptors.
pub const NEWER: [&str; 21] = [
    "clone3",
    "close_range",
    "open_tree",
    "move_mount",
    "fsopen",
    "fsconfig",
    "fsmount",
    "fspick",
    "mount_setattr",
    "landlock_create_ruleset",
    "landlock_add_rule",
    "landlock_restrict_self",
    "openat2",
    "statx",
    "faccessat2",
    "pidfd_open",
    "pidfd_getfd",
    "pidfd_send_signal",
    "epoll_pwait2",
    "io_uring_setup",
    "seccomp",
];

/// The calling thread, and what it starts, gets this errno for these calls, for good. Others' programs with the set-user-id
/// bit keep it: root needs no no_new_privs for a filter. False, with a skip, for anybody else.
#[track_caller]
pub fn answer(errno: i32, calls: &[&str]) -> bool {
    if !super::identity::is_root() {
        super::skip("a filter without no_new_privs needs root");
        return false;
    }
    let profile = json!({
        "defaultAction": "SCMP_ACT_ALLOW",
        "syscalls": [{"names": calls, "action": "SCMP_ACT_ERRNO", "errnoRet": errno}],
    });
    let profile: Profile = profile.to_string().parse().unwrap();
    assert!(profile.unknown_names().is_empty(), "{calls:?}");
    let program = compile(&profile, CapSet::ALL).unwrap();
    install(&program, Flags::empty()).unwrap();
    true
}
