//! `rl update`: what is changed of a container while it runs, and holds for every later start.

use super::limits::{self, LimitArgs, Over};
use super::{Context, Error, containers, lifecycle};
use crate::cgroup;
use crate::model::spec::{ContainerSpec, RestartPolicy};
use crate::state::Container;
use crate::sys::proc;
use crate::userns;

/// Changes the restart policy, where one is given, and the limits that `args` say.
pub fn update(
    context: &Context<'_>,
    words: &[String],
    restart: Option<RestartPolicy>,
    args: &LimitArgs,
) -> Vec<Result<String, Error>> {
    let change = |word: &String| {
        let container = lifecycle::find(context, word)?;
        if container.spec.remove && restart.is_some_and(|r| r != RestartPolicy::No) {
            return Err(Error::Unfit {
                name: word.clone(),
                why: "is removed when it ends (`--rm`), so it is not started again",
            });
        }
        let spec = &container.spec;
        let limits = limits::over(&spec.resources, args)?;
        // First where it holds: what the kernel refuses is not kept for the next start either.
        if container.state.is_alive() {
            apply(context, &container, &limits)?;
        }
        container.rewrite(&ContainerSpec {
            restart: restart.unwrap_or(spec.restart),
            resources: limits.all,
            ..spec.clone()
        })?;
        lifecycle::tell_change(&container, word)?;
        Ok(word.clone())
    };
    words.iter().map(change).collect()
}

/// Changes the limits of a container that runs.
fn apply(context: &Context<'_>, container: &Container, limits: &Over) -> Result<(), Error> {
    let writes = cgroup::for_update(&limits.changed);
    if let Some(write) = writes.first() {
        let none = || cgroup::Error::Unwanted {
            option: write.option,
            why: "the container runs without a control group",
            hint: "it is given one, where there can be one, at its next start: `rl inspect` shows under `Cgroups` whether \
                   it is to have none, and `rl doctor` looks at what there is",
        };
        let group = container.state.group.as_ref().ok_or_else(none)?;
        let env = |name: &str| std::env::var_os(name);
        cgroup::update(group, &writes, context.caller()?.uid, &env)?;
    }
    match limits.changed.oom_score_adj {
        Some(score) => set_oom_score(context, container, score),
        None => Ok(()),
    }
}

/// Gives all processes of a container a score (proc_pid_oom_score_adj(5)); what they start inherits it. Its files belong
/// to the users inside, so it may take root of the container's ids to write them.
fn set_oom_score(context: &Context<'_>, container: &Container, score: i32) -> Result<(), Error> {
    let Some(_held) = containers::hold(container) else {
        return Ok(());
    };
    let first = container.state.pid.unwrap_or_default();
    let group = container.state.group.as_deref();
    let pids = match group.map(cgroup::processes) {
        Some(pids) if !pids.is_empty() => pids,
        _ => proc::beside(first).unwrap_or_else(|| vec![first]),
    };
    let set = || {
        let mut all = pids.iter();
        all.try_for_each(|pid| match proc::set_oom_score(*pid, score) {
            // It has ended meanwhile.
            Err(e) if [libc::ENOENT, libc::ESRCH].contains(&e.raw_os_error().unwrap_or(0)) => {
                Ok(())
            }
            other => other,
        })
    };
    if set().is_ok() {
        return Ok(());
    }
    let plan = containers::plan_for(context, &container.spec)?;
    match userns::run_inside(&plan, || u8::from(set().is_err()))? {
        0 => Ok(()),
        _ => Err(Error::OomScore(score)),
    }
}
