//! `rl run`: image, decisions, files of the container, monitor, exit status.
//!
//! Everything that can be refused is refused before the container's directory is made; a start that
//! fails removes it again, or tries the next rung of the root file system with it.

use std::io::Write as _;
use std::path::Path;

use super::host::{self, Host};
use super::reach;
use super::resolve::{self, Decided, ImageDefaults};
use super::run_args::RunArgs;
use super::start::{Start, start};
use super::{
    Context, Error, apply, containers, image_for, keys, limits, mounts, names, network, ports, rmi,
    told, volumes, volumes_from,
};
use crate::cgroup;
use crate::model::spec::{ContainerSpec, Network, NetworkRequest, RootfsSource};
use crate::monitor;
use crate::monitor::client::{Attach, Outcome};
use crate::{state, userns};

/// Runs a container to its end and returns the exit status of its command; with `--detach` shows its id once it
/// runs.
///
/// # Errors
/// [`Error`], whose status tells a failure of `rl` (125) from a command that cannot be executed.
pub fn run(context: &Context<'_>, args: &RunArgs) -> Result<u8, Error> {
    let (apply, args) = &written_back(args)?;
    if args.life.rmi {
        with_image(args)?;
    }
    let (mut prepared, user) = prepare(context, args, |plan| context.begin(plan))?;
    // What is to be carried over must outlive the command.
    prepared.spec.remove &= apply.is_none();
    let attach = prepared.attach.take().filter(|_| !args.detach);
    let made = make(context, args, &prepared)?;
    let (spec, locked) = &made;
    let Prepared { plan, network, .. } = prepared;
    let task = Start {
        spec,
        plan: &plan,
        user,
        network,
        attach,
        container: locked,
        before: None,
    };
    match start(context, task) {
        Ok(None) => {
            context.ui.data(&spec.id);
            told::of_logout(context, spec);
            Ok(0)
        }
        // What goes on without us is not written back.
        Ok(Some(Outcome::Detached)) => {
            if args.life.rmi {
                let text = format!("`--rmi`: the image stays: `rl rmi {}`", spec.image);
                context.ui.notice(&text);
            }
            Ok(0)
        }
        Ok(Some(Outcome::Ended(ended))) => match apply {
            Some(yes) => {
                let done = write_back(context, &spec.name, (ended.status(), *yes))?;
                if done && args.rm {
                    monitor::remove(locked, &plan)?;
                    volumes::remove_anonymous(context, spec);
                }
                Ok(ended.status())
            }
            None => {
                if args.life.rmi {
                    rmi::with(context, spec)?;
                }
                Ok(ended.status())
            }
        },
        Err(error) => {
            discard(context, &made, &plan);
            Err(error)
        }
    }
}

/// Makes a container without starting it; returns its id.
///
/// # Errors
/// As [`run`].
pub fn create(context: &Context<'_>, args: &RunArgs) -> Result<String, Error> {
    if args.life.rmi {
        return Err(Error::Rmi(
            "is for `rl run`, which sees the container's end",
        ));
    }
    let (prepared, ()) = prepare(context, args, |_| Ok(()))?;
    let (spec, locked) = make(context, args, &prepared)?;
    locked.sync()?;
    Ok(spec.id)
}

/// Whether there is an image that can go with the container, which is removed itself (`--rmi`).
fn with_image(args: &RunArgs) -> Result<(), Error> {
    let image = args.words.first().map(String::as_str);
    match (args.detach, &args.rootfs) {
        (true, _) => Err(Error::Rmi(
            "with `--detach`: nobody is there who could remove the image when the container has ended",
        )),
        (_, Some(_)) => Err(Error::Rmi("with `--rootfs`: there is no image")),
        _ if host::is_meant(args, image) => {
            Err(Error::Rmi("with the image `host`: it is built in"))
        }
        _ => Ok(()),
    }
}

/// The container of what was prepared, on disk.
fn make(
    context: &Context<'_>,
    args: &RunArgs,
    prepared: &Prepared,
) -> Result<(ContainerSpec, state::Locked), Error> {
    let containers = state::Containers::new(context.dirs.containers());
    let named = args.name.as_ref();
    if let Some(name) = named.filter(|_| args.life.replace)
        && containers.find(name).is_ok()
    {
        containers::remove(context, name, true)?;
    }
    let spec = prepared.spec.clone();
    let file = args.cidfile.as_deref().map(id_file).transpose()?;
    let made = claim(&containers, spec, named.is_some(), &prepared.plan).and_then(|made| {
        volumes::make(context, &made.0)
            .and_then(|()| match (file, &args.cidfile) {
                (Some(mut file), Some(path)) => file
                    .write_all(made.0.id.as_bytes())
                    .map_err(unwritten(path)),
                _ => Ok(()),
            })
            .inspect_err(|_| discard(context, &made, &prepared.plan))?;
        Ok(made)
    });
    if let (Err(_), Some(path)) = (&made, &args.cidfile) {
        let _ = std::fs::remove_file(path);
    }
    made
}

/// The file for a container's id, which must not be there: its maker wants to know which container is his.
fn id_file(path: &Path) -> Result<std::fs::File, Error> {
    let mut options = std::fs::File::options();
    let file = options.write(true).create_new(true).open(path);
    file.map_err(unwritten(path))
}

fn unwritten(path: &Path) -> impl FnOnce(std::io::Error) -> Error {
    let path = path.to_owned();
    move |source| Error::Write { path, source }
}

/// Removes a container that could not be made or started, with the volumes that were made for it.
fn discard(
    context: &Context<'_>,
    (spec, locked): &(ContainerSpec, state::Locked),
    plan: &userns::Plan,
) {
    let _ = monitor::remove(locked, plan);
    volumes::remove_anonymous(context, spec);
}

/// Whether changes are to be carried over, and without asking; the arguments without what says so
/// after the image.
fn written_back(args: &RunArgs) -> Result<(Option<bool>, RunArgs), Error> {
    let mut args = args.clone();
    args.rm |= args.life.rmi;
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
    attach: Option<Attach>,
}

/// What the options ask of the network.
fn request(args: &RunArgs) -> NetworkRequest {
    NetworkRequest {
        mode: args.network.clone().unwrap_or_default(),
        publish: args.publish.clone(),
        publish_all: args.publish_all,
        dns: args.dns.clone(),
        dns_search: args.dns_search.clone(),
        dns_option: args.dns_option.clone(),
        add_host: args.add_host.clone(),
        ip: args.ip.clone(),
        mac: args.mac_address.clone(),
        aliases: args.network_alias.clone(),
    }
}

/// `user` makes the user namespace as soon as it is known which: there is much to do while its maps are written.
fn prepare<U>(
    context: &Context<'_>,
    args: &RunArgs,
    user: impl FnOnce(&userns::Plan) -> Result<U, Error>,
) -> Result<(Prepared, U), Error> {
    let (image, command) = words(args)?;
    if let Some(name) = &args.name
        && !mounts::is_name(name)
    {
        return Err(Error::Name(name.clone()));
    }
    let attach = terminal(args)?;
    // What cannot be limited is not fetched first.
    let limits = limits::resolve(&args.limits, &args.group)?;
    let env = |name: &str| std::env::var_os(name);
    let caller = context.caller()?;
    cgroup::choose(&limits, "", "", caller.uid, &env)?;
    let is_host = host::is_meant(args, image);
    let mode = match host::mode(caller, args).filter(|_| is_host) {
        Some(mode) => mode,
        None => userns_mode(args)?,
    };
    let plan = userns::plan(&mode, caller)?;
    if let Some(notice) = &plan.notice {
        told::once(context, &context.dirs.data.join("told"), notice);
    }
    if !args.group_add.is_empty() {
        userns::need_groups(&plan, caller)?;
    }
    let user = user(&plan)?;
    ports::check(&args.expose)?;
    let mut request = request(args);
    // What else is to be published only the image knows.
    let early = (!args.publish_all).then(|| network::decide(context, &request));
    let early = early.transpose()?;
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
    let network = match early {
        Some(network) => network,
        None => {
            let exposed = ports::exposed(&defaults.exposed, &args.expose, &[]);
            let more = ports::unpublished(&exposed, &request.publish);
            request.publish.extend(more);
            network::decide(context, &request)?
        }
    };
    request.publish = network.published();
    for line in &network.choice.evidence {
        let line = format!("network {}: {line}", network.mode());
        context.ui.detail(&line);
    }
    let id = names::random_id();
    let name = args.name.clone().unwrap_or_else(|| names::name_for(&id, 0));
    let unasked = built_in.mounts.clone();
    let decided = Decided {
        keep_id: matches!(mode, userns::Mode::KeepId { .. })
            .then(|| {
                let uid = plan.uid.to_container(caller.uid);
                uid.zip(plan.gid.to_container(caller.gid))
            })
            .flatten(),
        id,
        name,
        rootfs,
        uid_map: plan.uid.clone(),
        gid_map: plan.gid.clone(),
        network: Network {
            mode: network.mode(),
            publish: request.publish.clone(),
            request,
        },
        tty: attach.tty,
        volumes: context.dirs.volumes(),
        others: volumes_from::mounts(context, &args.volumes_from)?,
        mounts: built_in.mounts,
        hidden: built_in.hidden,
    };
    let mut spec = resolve::resolve(args, command, &defaults, decided)?;
    let chosen = args.workdir.is_some();
    reach::need(context, &plan, &mut spec, &unasked, chosen)?;
    let prepared = Prepared {
        spec,
        plan,
        network,
        attach: Some(attach),
    };
    Ok((prepared, user))
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
    // Without `-i` a terminal inside needs none outside: nothing is typed then.
    let deaf = args.tty && !args.detach && !isatty(stdin);
    if deaf && args.interactive {
        return Err(Error::NoTerminal);
    }
    let both = isatty(stdin) && isatty(stdout) && !args.detach;
    let tty = !args.no_tty && (args.detach || !background) && (args.tty || both);
    let stdin_is_file = rustix::fs::fstat(stdin)
        .is_ok_and(|s| FileType::from_raw_mode(s.st_mode) == FileType::RegularFile);
    let attached = |stream: &str| {
        let mut streams = args.attach.iter();
        args.attach.is_empty() || streams.any(|word| word.eq_ignore_ascii_case(stream))
    };
    Ok(Attach {
        tty,
        stdin: !background && !deaf && attached("stdin"),
        rewind: stdin_is_file && !background && !deaf && attached("stdin"),
        detach_keys: keys::parse(args.detach_keys.as_deref())?,
        own: true,
        signals: args.sig_proxy.unwrap_or(true),
        muted: [!attached("stdout"), !attached("stderr")],
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
fn claim(
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
        && container.lock().is_ok_and(|locked| {
            monitor::remove_left_over(Some(&container.spec), &locked, plan).is_ok()
        })
}
