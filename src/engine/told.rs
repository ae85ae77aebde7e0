//! What is said once.

use std::path::Path;

use super::Context;
use crate::model::spec::ContainerSpec;
use crate::{cgroup, host};

/// A notice the first time, a detail after that: what the machine lacks does not change from run to run. `path` is the
/// file that remembers it.
pub(super) fn once(context: &Context<'_>, path: &Path, notice: &str) {
    if std::fs::read_to_string(path).is_ok_and(|told| told == notice) {
        return context.ui.detail(notice);
    }
    context.ui.notice(notice);
    // Where it cannot be noted, it is said again.
    let _ = std::fs::write(path, notice);
}

/// That containers in the background end with the user's last log-out, where the one just started does: once from the
/// user's first log-in to that, which is how long the user's runtime directory is there.
pub(super) fn of_logout(context: &Context<'_>, spec: &ContainerSpec) {
    let Ok(caller) = context.caller() else {
        return;
    };
    let (uid, user) = (caller.uid, &caller.name);
    if !host::ends_at_logout(uid, user) {
        return;
    }
    let env = |name: &str| std::env::var_os(name);
    let group = cgroup::choose(&spec.resources, &spec.id, &spec.name, uid, &env);
    if group.is_ok_and(|group| cgroup::is_managers(group.as_ref(), uid)) {
        let told = format!("/run/user/{uid}/rl-told");
        let line = host::linger_line(user);
        let notice = format!(
            "containers in the background end with your last log-out; `{line}` has them go on"
        );
        once(context, Path::new(&told), &notice);
    }
}
