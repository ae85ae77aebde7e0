//! Guards that a test takes out, to show that without them the attack works.
//!
//! Only with the feature `sabotage`, which a release build refuses: then the variable `RL_SABOTAGE`
//! of the front end names the guards to drop, with commas between them. Without the feature the
//! answer is a constant, and no trace of this is in the program.

#[cfg(all(feature = "sabotage", not(debug_assertions)))]
compile_error!("the feature `sabotage` takes guards out for tests and must not be in a release");

/// Whether a guard is taken out. Guards are named where they are dropped:
///
/// - `exe`: the protected copy of the program
/// - `dumpable`: what keeps others from looking into our stages
/// - `fds`: close-on-exec for everything that was inherited
/// - `links`: look-ups that cannot leave the root file system
/// - `kernel`: `/proc` and `/sys` are what they claim to be
/// - `attributes`: those of a bind mount go to that mount
/// - `dev`: a fresh `/dev`
/// - `masks`, `readonly`: hidden and write-protected kernel paths
/// - `pivot`: the old root goes away (chroot(2) in its place)
/// - `groups`: the caller's supplementary groups are given up
/// - `session`: a session without the caller's terminal
/// - `view`: no guard, but the kernel's consent to an upper directory below the lower one
/// - `caps`, `landlock`, `seccomp`: the confinement of that name
#[cfg(not(feature = "sabotage"))]
pub const fn dropped(_guard: &str) -> bool {
    false
}

/// As above, by the environment.
#[cfg(feature = "sabotage")]
pub fn dropped(guard: &str) -> bool {
    std::env::var(VARIABLE).is_ok_and(|list| list.split(',').any(|name| name == guard))
}

#[cfg(feature = "sabotage")]
const VARIABLE: &str = "RL_SABOTAGE";

/// What the init stage has to be told: it starts with this environment, which is empty.
#[cfg(not(feature = "sabotage"))]
pub(super) const fn environment() -> [std::ffi::CString; 0] {
    []
}

/// As above, with the variable.
#[cfg(feature = "sabotage")]
pub(super) fn environment() -> Vec<std::ffi::CString> {
    let list = std::env::var(VARIABLE).unwrap_or_default();
    std::ffi::CString::new(format!("{VARIABLE}={list}"))
        .into_iter()
        .collect()
}
