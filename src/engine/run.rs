//! `rl run`: image, decisions, files of the container, monitor, exit status.
//!
//! Everything that can be refused is refused before the container's directory is made; a start that
//! fails removes it again, or tries the next rung of the root file system with it.

use std::ffi::CString;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use super::host::{self, Host};
use super::resolve::{self, Decided, ImageDefaults};
use super::run_args::RunArgs;
use super::rungs::{self, Ladder, Rung};
use super::{Context, Error, apply, image_for, mounts, names, network, views, volumes};
use crate::model::spec::{ContainerSpec, Network, RootfsSource, SeccompChoice};
use crate::monitor::client::Attach;
use crate::monitor::wire::Part;
use crate::monitor::{self, Task};
use crate::net;
use crate::runtime::{self, Extras};
use crate::security::caps::{Cap, CapSet};
use crate::security::seccomp;
use crate::sys::process::Ended;
use crate::sys::seccomp::SockFilter;
use crate::{oci, state, userns};

/// Runs a container to its end and returns the exit status of its command.
///
/// # Errors
/// [`Error`], whose status tells a failure of `rl` (125) from a command that cannot be executed.
pub fn run(context: &Context<'_>, args: &RunArgs) -> Result<u8, Error> {
    let (apply, args) = &written_back(args)?;
    let mut prepared = prepare(context, args)?;
    // What is to be carried over must outlive the command.
    prepared.spec.remove &= apply.is_none();
    let Prepared {
        spec,
        plan,
        network,
        attach,
        files,
    } = prepared;
    let containers = state::Containers::new(context.dirs.containers());
    let (spec, locked) = create(&containers, spec, args.name.is_some(), &plan)?;
    let task = Start {
        spec: &spec,
        plan: &plan,
        network,
        attach,
        files,
        container: &locked,
    };
    match start(context, &task) {
        Ok(ended) => match apply {
            Some(yes) => {
                let done = write_back(context, &spec.name, (ended.status(), *yes))?;
                if done && args.rm {
                    monitor::remove(&locked, &plan)?;
                }
                Ok(ended.status())
            }
            None => Ok(ended.status()),
        },
        Err(error) => {
            let _ = monitor::remove(&locked, &plan);
            Err(error)
        }
    }
}

/// Whether changes are to be carried over, and without asking; the arguments without what says so
/// after the image.
fn written_back(args: &RunArgs) -> Result<(Option<bool>, RunArgs), Error> {
    let mut args = args.clone();
    let image = args.words.first().map(String::as_str);
    let is_host = host::is_meant(&args, image);
    if is_host {
        while let Some(word) = args.words.get(1).and_then(|w| w.strip_prefix("--apply")) {
            args.apply = Some(match word {
                "" | "=ask" => "ask".into(),
                "=yes" => "yes".into(),
                _ => break,
            });
            args.words.remove(1);
        }
    }
    let apply = args.apply.as_deref().map(|word| word == "yes");
    match apply {
        Some(_) if !is_host => Err(Error::ApplyImage),
        Some(false) if !apply::can_ask() => Err(Error::ApplyUnasked),
        _ => Ok((apply, args)),
    }
}

/// After the command: carries its changes over. False when the container holds some that nobody was
/// asked about.
fn write_back(context: &Context<'_>, name: &str, (status, yes): (u8, bool)) -> Result<bool, Error> {
    let kept = |why: &str| {
        let text = format!("{why}: kept as `{name}` (`rl diff`, `rl apply`, `rl rm`)");
        context.ui.notice(&text);
    };
    if status != 0 && yes {
        kept(&format!(
            "nothing was carried over, the exit status is {status}"
        ));
        return Ok(false);
    }
    if status != 0 {
        context.ui.notice(&format!("the exit status is {status}"));
    }
    // They were blocked for the command's sake; now Ctrl-C is an answer.
    let _ = nix::sys::signal::SigSet::empty().thread_set_mask();
    let containers = state::Containers::new(context.dirs.containers());
    apply::carry(context, &containers.find(name)?, yes)
        .inspect_err(|_| kept("not everything was carried over"))
        .map(|_| true)
}

/// Everything decided, nothing done.
struct Prepared {
    spec: ContainerSpec,
    plan: userns::Plan,
    network: network::Decision,
    attach: Attach,
    files: EtcText,
}

/// The texts of the files in `/etc`.
struct EtcText {
    hosts: String,
    resolv_conf: String,
}

fn prepare(context: &Context<'_>, args: &RunArgs) -> Result<Prepared, Error> {
    let (image, command) = words(args)?;
    if let Some(name) = &args.name
        && !mounts::is_name(name)
    {
        return Err(Error::Name(name.clone()));
    }
    let attach = terminal(args)?;
    let is_host = host::is_meant(args, image);
    let mode = match host::mode(context, args).filter(|_| is_host) {
        Some(mode) => mode,
        None => userns_mode(args)?,
    };
    let plan = userns::plan(&mode, &context.caller)?;
    if let Some(notice) = &plan.notice {
        tell_once(context, notice);
    }
    let network = network::decide(args, &context.caller)?;
    for line in &network.choice.evidence {
        context
            .ui
            .detail(&format!("network {}: {line}", network.mode()));
    }
    let mut built_in = Host::default();
    let (rootfs, defaults) = match (&args.rootfs, image) {
        (None, Some(_)) if is_host => {
            built_in = host::find(context, args, &plan)?;
            (RootfsSource::Host, std::mem::take(&mut built_in.defaults))
        }
        (Some(path), _) => (image_for::directory(path)?, ImageDefaults::default()),
        (None, Some(image)) => image_for::find(context, args, image, &plan)?,
        (None, None) => return Err(Error::NoImage),
    };
    let id = names::random_id();
    let name = args.name.clone().unwrap_or_else(|| names::name_for(&id, 0));
    let decided = Decided {
        keep_id: matches!(mode, userns::Mode::KeepId { .. })
            .then(|| {
                plan.uid
                    .to_container(context.caller.uid)
                    .zip(plan.gid.to_container(context.caller.gid))
            })
            .flatten(),
        id,
        name,
        rootfs,
        uid_map: plan.uid.clone(),
        gid_map: plan.gid.clone(),
        network: Network {
            mode: network.mode(),
            publish: network.published(),
        },
        tty: attach.tty,
        volumes: context.dirs.volumes(),
        mounts: built_in.mounts,
        hidden: built_in.hidden,
    };
    let spec = resolve::resolve(args, command, &defaults, decided)?;
    let files = EtcText {
        hosts: network.hosts(&spec.hostname)?,
        resolv_conf: network.resolver.text.clone(),
    };
    Ok(Prepared {
        spec,
        plan,
        network,
        attach,
        files,
    })
}

/// A notice the first time, a detail after that: what the machine lacks does not change from run to run.
fn tell_once(context: &Context<'_>, notice: &str) {
    let path = context.dirs.data.join("told");
    if std::fs::read_to_string(&path).is_ok_and(|told| told == notice) {
        return context.ui.detail(notice);
    }
    context.ui.notice(notice);
    // Where it cannot be noted, it is said again.
    let _ = std::fs::write(&path, notice);
}

/// The image and the command; with `--rootfs` every word is the command's.
fn words(args: &RunArgs) -> Result<(Option<&str>, &[String]), Error> {
    match (&args.rootfs, args.words.split_first()) {
        (Some(_), _) => Ok((None, &args.words)),
        (None, Some((image, command))) => Ok((Some(image), command)),
        (None, None) => Err(Error::NoImage),
    }
}

/// A terminal where a person sits, pipes elsewhere. In the background of a shell the terminal's
/// settings and input belong to others.
fn terminal(args: &RunArgs) -> Result<Attach, Error> {
    use rustix::fs::FileType;
    use rustix::termios::isatty;
    let (stdin, stdout) = (rustix::stdio::stdin(), rustix::stdio::stdout());
    let background = isatty(stdin) && !crate::sys::tty::in_foreground(stdin);
    if args.tty && !isatty(stdin) {
        return Err(Error::NoTerminal);
    }
    let both = isatty(stdin) && isatty(stdout);
    let tty = !args.no_tty && !background && (args.tty || both);
    let stdin_is_file = rustix::fs::fstat(stdin)
        .is_ok_and(|s| FileType::from_raw_mode(s.st_mode) == FileType::RegularFile);
    Ok(Attach {
        tty,
        stdin: !background,
        rewind: stdin_is_file && !background,
    })
}

fn userns_mode(args: &RunArgs) -> Result<userns::Mode, Error> {
    if args.uidmap.is_empty() && args.gidmap.is_empty() {
        return Ok(args.userns.as_deref().unwrap_or_default().parse()?);
    }
    let ranges = |texts: &[String]| {
        texts
            .iter()
            .map(|t| userns::parse_id_range(t))
            .collect::<Result<Vec<_>, _>>()
    };
    Ok(userns::Mode::Explicit {
        uid: ranges(&args.uidmap)?,
        gid: ranges(&args.gidmap)?,
    })
}

/// Makes the container's directory; a made-up name that is taken is replaced by another, a given one
/// is taken from a container that its killed monitor should have removed.
fn create(
    containers: &state::Containers,
    mut spec: ContainerSpec,
    named: bool,
    plan: &userns::Plan,
) -> Result<(ContainerSpec, state::Locked), Error> {
    for turn in 1.. {
        match containers.create(&spec) {
            Err(state::Error::NameTaken { .. })
                if named && turn == 1 && remove_left_over(containers, &spec.name, plan) => {}
            Err(state::Error::NameTaken { .. }) if !named && turn < 16 => {
                spec.name = names::name_for(&spec.id, turn);
            }
            other => return Ok((spec, other?)),
        }
    }
    unreachable!("the loop returns at the latest in its sixteenth turn")
}

/// Whether a container of this name was left over, and is removed now.
fn remove_left_over(containers: &state::Containers, name: &str, plan: &userns::Plan) -> bool {
    let Ok(container) = containers.find(name) else {
        return false;
    };
    container.is_left_over()
        && container
            .lock()
            .is_ok_and(|locked| monitor::remove_left_over(&container.spec, &locked, plan).is_ok())
}

struct Start<'a> {
    spec: &'a ContainerSpec,
    plan: &'a userns::Plan,
    network: network::Decision,
    attach: Attach,
    files: EtcText,
    container: &'a state::Locked,
}

/// Starts on the first rung that holds, and stays attached to the end.
fn start(context: &Context<'_>, start: &Start<'_>) -> Result<Ended, Error> {
    let Start { spec, plan, .. } = start;
    let dir = start.container.dir();
    let own = plan.uid.to_host(0) == Some(context.caller.uid);
    if !own && spec.uid_map.to_host(0).is_some() && spec.rootfs != RootfsSource::Host {
        image_for::own_root(context, plan, dir)?;
    }
    volumes::own(context, plan, spec)?;
    views::make(context, plan, spec, dir)?;
    let etc = write_files(start, dir)?;
    let mut ladder = Ladder::new(spec, &context.caller, &context.dirs.data);
    loop {
        let rung = ladder.rung();
        context.ui.detail(&ladder.told());
        rungs::prepare(context, &ladder, spec, plan, dir)?;
        let task = Task {
            plan: init_plan(spec, plan, rung, dir, &etc)?,
            userns: (*plan).clone(),
            network: start.network.task(),
            fuse: rungs::fuse(spec, dir).filter(|_| rung == Rung::Fuse),
            tty: spec.tty,
            measure_input: start.attach.rewind,
            remove: spec.remove,
            container: start.container,
            program: program(),
        };
        let notice = |text: &str| context.ui.notice(text);
        let detail = |text: &str| context.ui.detail(text);
        let client = monitor::spawn(&task);
        match client.and_then(|client| client.attach(start.attach, &notice, &detail)) {
            Ok(ended) => return Ok(ended),
            Err(monitor::Error::Start(failure))
                if failure.part == Part::Rootfs && ladder.descend(&failure) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

fn init_plan(
    spec: &ContainerSpec,
    userns: &userns::Plan,
    rung: Rung,
    dir: &Path,
    etc: &oci::EtcFiles,
) -> Result<runtime::InitPlan, Error> {
    let mount_point = mount_point(dir);
    let config = oci::generate(spec, &mount_point, etc)?;
    let capabilities = CapSet::from_bits(spec.capabilities);
    let extras = Extras {
        user: spec.user.clone(),
        groups: spec.groups.clone(),
        customary: spec.customary.clone(),
        setgroups: userns.setgroups,
        wire: match spec.network.mode {
            net::Mode::Passt => net::wire(),
            _ => Vec::new(),
        },
        init: spec.init,
        console_size: crate::sys::tty::size(rustix::stdio::stdin()).filter(|_| spec.tty),
        seccomp: filters(spec, capabilities)?,
        // A Landlock domain forbids every mount (landlock(7)), which CAP_SYS_ADMIN is asked for.
        landlock: !capabilities.has(Cap::SYS_ADMIN),
        mount_point,
        fill: mounts::to_fill(&spec.mounts),
        optional: vec![oci::APT_CONF.to_owned()],
        throw_away: spec.remove,
        sockets: host::sockets(spec),
    };
    Ok(runtime::plan(
        &config,
        rungs::rootfs(rung, spec, dir),
        extras,
    )?)
}

/// The profile, and what package managers need when root inside is alone. It comes first: a program that is
/// in force could deny the call that installs another.
fn filters(spec: &ContainerSpec, caps: CapSet) -> Result<Vec<Vec<SockFilter>>, Error> {
    let mut programs = Vec::new();
    if userns::is_root_alone(&spec.uid_map) {
        programs.push(seccomp::compile_one_id()?);
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

fn write_files(start: &Start<'_>, dir: &Path) -> Result<oci::EtcFiles, Error> {
    let put_at = |name: &str, target: &str, text: &str| -> Result<oci::EtcFile, Error> {
        let path = dir.join(name);
        std::fs::write(&path, text).map_err(|source| Error::Write {
            path: path.clone(),
            source,
        })?;
        Ok(oci::EtcFile {
            file: path,
            target: host::etc_target(start.spec, target),
        })
    };
    let put = |name: &str, text: &str| put_at(name, &format!("/etc/{name}"), text);
    Ok(oci::EtcFiles {
        hosts: put("hosts", &start.files.hosts)?,
        resolv_conf: put("resolv.conf", &start.files.resolv_conf)?,
        hostname: put("hostname", &format!("{}\n", start.spec.hostname))?,
        apt_conf: userns::is_root_alone(&start.spec.uid_map)
            .then(|| {
                put_at(
                    "apt.conf",
                    oci::APT_CONF,
                    "// No other user exists here.\nAPT::Sandbox::User \"root\";\n",
                )
            })
            .transpose()?,
        views: views::directory(dir),
    })
}

/// Where a container kept in `dir` mounts its root.
fn mount_point(dir: &Path) -> std::path::PathBuf {
    let all = dir.parent().unwrap_or(dir).to_owned();
    state::Containers::new(all).mount_point()
}

/// Our own program by path, for the protected copy.
fn program() -> Option<CString> {
    let path = std::fs::read_link("/proc/self/exe").ok()?;
    CString::new(path.as_os_str().as_bytes()).ok()
}
