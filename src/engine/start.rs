//! From a container on disk to a running one: the root file system's ladder, the files of `/etc`, the plan of
//! the first process, the monitor.

use std::path::Path;

use super::rungs::{self, Ladder, Rung};
use super::{Context, Error, host, image_for, mounts, network, ready, views, volumes};
use crate::model::spec::{ContainerSpec, SeccompChoice};
use crate::monitor::client::{Attach, Outcome};
use crate::monitor::wire::Part;
use crate::monitor::{self, HealthTask, Input, Task};
use crate::runtime::{self, ExecPlan, Extras, Program};
use crate::security::caps::{Cap, CapSet};
use crate::security::seccomp;
use crate::sys::seccomp::SockFilter;
use crate::{cgroup, oci, state, userns};

/// What is to be started, and how.
pub(super) struct Start<'a> {
    pub spec: &'a ContainerSpec,
    pub plan: &'a userns::Plan,
    /// Its user namespace, in the making.
    pub user: userns::Begun,
    pub network: network::Decision,
    /// How to stay attached; not at all where `None`.
    pub attach: Option<Attach>,
    pub container: &'a state::Locked,
    /// How it was, if it is not new.
    pub before: Option<&'a state::State>,
}

/// Starts on the first rung that holds. Attached it stays to the end, else it returns when the command runs.
pub(super) fn start(context: &Context<'_>, start: Start<'_>) -> Result<Option<Outcome>, Error> {
    let Start { spec, plan, .. } = start;
    let dir = start.container.dir();
    image_for::own_root(context, plan, spec, dir)?;
    volumes::own(context, plan, spec)?;
    volumes::tell_apart(context, spec)?;
    views::make(context, plan, spec, dir)?;
    let etc = write_files(&start, dir)?;
    let mut ladder = Ladder::new(spec, context.caller()?, &context.dirs.data, dir);
    let uid = context.caller()?.uid;
    let env = |name: &str| std::env::var_os(name);
    let group = cgroup::choose(&spec.resources, &spec.id, &spec.name, uid, &env)?;
    if group.is_none() {
        let text =
            "control group: none: no limits, and it is paused and counted process by process";
        context.ui.detail(text);
    }
    let mut user = start.user;
    loop {
        let rung = ladder.rung();
        context.ui.detail(&ladder.told());
        rungs::prepare(context, &ladder, spec, plan, dir)?;
        let task = Task {
            plan: init_plan(
                spec,
                plan.setgroups,
                rung,
                dir,
                &etc,
                Own {
                    group: group.is_some(),
                    interface: start.network.interface(spec),
                    serves_views: ladder.serves(spec),
                },
            )?,
            group: group.clone(),
            userns: plan.clone(),
            place: user.place(plan),
            network: start.network.task(spec),
            fuse: rungs::fuse(spec, dir).filter(|_| rung == Rung::Fuse),
            spec,
            tty: spec.tty,
            input: input(spec, start.attach.as_ref()),
            detached: start.attach.is_none(),
            health: health(spec, plan, dir)?,
            container: start.container,
            socket: context.dirs.socket(&spec.id),
            program: stages(spec, uid),
        };
        let notice = |text: &str| context.ui.notice(text);
        let detail = |text: &str| context.ui.detail(text);
        let client = monitor::spawn(&task)?;
        let mapped = user.wait();
        client.mapped(mapped.is_ok())?;
        mapped?;
        let done = match &start.attach {
            Some(attach) => {
                let attach = attach.clone();
                let outcome = client.attach(attach, &notice, &detail, &mut || {
                    user.settle(plan);
                    ready::tell(&notice);
                });
                outcome.map(Some)
            }
            None => client.await_start(&notice, &detail).map(|()| {
                user.settle(plan);
                None
            }),
        };
        match done {
            Ok(outcome) => return Ok(outcome),
            Err(monitor::Error::Start(failure))
                if failure.part == Part::Rootfs && ladder.descend(&failure) => {}
            Err(error) => {
                if let monitor::Error::Start(failure) = &error {
                    let (why, status) = (failure.message.clone(), failure.status);
                    let _ = start.container.not_started(start.before, why, status);
                }
                return Err(error.into());
            }
        }
    }
}

/// How the first process's stages are run. Its ids change where the caller is not root inside, and while views are made.
fn stages(spec: &ContainerSpec, caller: u32) -> Program {
    let is_root = spec.uid_map.to_container(caller) == Some(0);
    match is_root && !spec.init && spec.views().next().is_none() {
        true => Program::find(&spec.uid_map),
        false => Program::executed(),
    }
}

/// What the command reads where it has no terminal.
fn input(spec: &ContainerSpec, attach: Option<&Attach>) -> Input {
    match attach {
        Some(attach) if attach.rewind => Input::Counted,
        // Nobody will write, so nobody shall wait for it.
        Some(attach) if !attach.stdin && !spec.open_stdin => Input::Nothing,
        Some(_) => Input::Clients,
        None if spec.open_stdin => Input::Clients,
        None => Input::Nothing,
    }
}

/// The checks, which run as the container's user.
fn health(
    spec: &ContainerSpec,
    plan: &userns::Plan,
    dir: &Path,
) -> Result<Option<HealthTask>, Error> {
    let Some(config) = spec.health.clone() else {
        return Ok(None);
    };
    let check = ContainerSpec {
        args: config.args.clone(),
        tty: false,
        ..spec.clone()
    };
    let plan = exec_plan(&check, plan.setgroups, dir)?;
    Ok(Some(HealthTask {
        plan,
        program: to_join(spec),
        config,
    }))
}

/// How a further command's stage is run.
pub(super) fn to_join(spec: &ContainerSpec) -> Program {
    Program::to_join(&spec.uid_map, CapSet::from_bits(spec.capabilities))
}

/// The plan of a further command: `spec` has its words, user and environment in the place of the first one's.
pub(super) fn exec_plan(
    spec: &ContainerSpec,
    setgroups: bool,
    dir: &Path,
) -> Result<ExecPlan, Error> {
    let etc = etc_files(spec, dir);
    let own = Own::default();
    Ok(init_plan(spec, setgroups, Rung::Directory, dir, &etc, own)?.into())
}

/// What only the container's first process has.
#[derive(Default)]
struct Own {
    /// A control group.
    group: bool,
    /// An interface to be made.
    interface: Option<crate::sys::wire::Interface>,
    /// fuse-overlayfs can be had for its views.
    serves_views: bool,
}

fn init_plan(
    spec: &ContainerSpec,
    setgroups: bool,
    rung: Rung,
    dir: &Path,
    etc: &oci::EtcFiles,
    own: Own,
) -> Result<runtime::InitPlan, Error> {
    let mount_point = mount_point(dir);
    let config = oci::generate(spec, &mount_point, etc, own.group)?;
    let capabilities = CapSet::from_bits(spec.capabilities);
    let extras = Extras {
        user: spec.user.clone(),
        groups: spec.groups.clone(),
        home: !spec.no_home,
        customary: spec.customary.clone(),
        setgroups,
        wire: own.interface,
        init: spec.init,
        console_size: crate::sys::tty::size(rustix::stdio::stdin()).filter(|_| spec.tty),
        seccomp: filters(spec, setgroups, capabilities)?,
        // A Landlock domain forbids every mount (landlock(7)), which CAP_SYS_ADMIN is asked for.
        landlock: !capabilities.has(Cap::SYS_ADMIN),
        mount_point,
        fill: mounts::to_fill(&spec.mounts),
        optional: vec![oci::APT_CONF.to_owned()],
        throw_away: spec.remove,
        serves_views: own.serves_views,
        sockets: host::sockets(spec),
    };
    Ok(runtime::plan(
        &config,
        rungs::rootfs(rung, spec, dir),
        extras,
    )?)
}

/// The profile, and what package managers need when root inside is alone, or may not set groups. It comes first: a
/// program that is in force could deny the call that installs another.
fn filters(
    spec: &ContainerSpec,
    setgroups: bool,
    caps: CapSet,
) -> Result<Vec<Vec<SockFilter>>, Error> {
    let mut programs = Vec::new();
    if userns::is_root_alone(&spec.uid_map) {
        programs.push(seccomp::compile_one_id()?);
    } else if !setgroups {
        programs.push(seccomp::compile_no_groups()?);
    }
    match &spec.confinement.seccomp {
        SeccompChoice::Unconfined => {}
        SeccompChoice::Default => programs.push(seccomp::compile_default(caps)?),
        SeccompChoice::File(path) => {
            programs.push(seccomp::compile(&seccomp::load_profile(path)?, caps)?);
        }
    }
    Ok(programs)
}

/// The files of `/etc` that a container kept in `dir` is shown.
fn etc_files(spec: &ContainerSpec, dir: &Path) -> oci::EtcFiles {
    let file = |name: &str, target: &str| oci::EtcFile {
        file: dir.join(name),
        target: host::etc_target(spec, target),
    };
    let unless = |unwanted: bool, file: oci::EtcFile| oci::EtcFile {
        target: file.target.filter(|_| !unwanted),
        ..file
    };
    oci::EtcFiles {
        hosts: unless(spec.no_hosts, file("hosts", "/etc/hosts")),
        resolv_conf: file("resolv.conf", "/etc/resolv.conf"),
        hostname: unless(spec.no_hostname, file("hostname", "/etc/hostname")),
        apt_conf: userns::is_root_alone(&spec.uid_map).then(|| file("apt.conf", oci::APT_CONF)),
        views: views::directory(dir),
    }
}

fn write_files(start: &Start<'_>, dir: &Path) -> Result<oci::EtcFiles, Error> {
    let (spec, network) = (start.spec, &start.network);
    let files = etc_files(spec, dir);
    let put = |file: &oci::EtcFile, text: &str| {
        std::fs::write(&file.file, text).map_err(|source| Error::Write {
            path: file.file.clone(),
            source,
        })
    };
    put(&files.hosts, &network.hosts(&spec.hostname)?)?;
    put(&files.resolv_conf, &network.resolver.text)?;
    put(&files.hostname, &format!("{}\n", spec.hostname))?;
    if let Some(file) = &files.apt_conf {
        let text = "// No other user exists here.\nAPT::Sandbox::User \"root\";\n";
        put(file, text)?;
    }
    Ok(files)
}

/// Where a container kept in `dir` mounts its root.
pub(super) fn mount_point(dir: &Path) -> std::path::PathBuf {
    let all = dir.parent().unwrap_or(dir).to_owned();
    state::Containers::new(all).mount_point()
}
