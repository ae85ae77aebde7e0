//! From a task to a running command: clone, id maps, network helper, the word to go.

use std::os::fd::OwnedFd;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;

use super::clients::Clients;
use super::streams::Streams;
use super::wire::{self, Part, StartFailure, ToMonitor};
use super::{Task, fuse, pidfile, signals};
use crate::model::chain;
use crate::runtime::proto::{FromInit, ToInit, receive, send};
use crate::runtime::{self, InitError, Launched, Maps, Stage};
use crate::sys::proc;
use crate::sys::process::{Child, die_with_parent};
use crate::{cgroup, net, userns};

/// A container whose command runs.
pub(super) struct Running {
    pub child: Child,
    pub streams: Streams,
    pub network: Option<net::Running>,
    /// What serves the root, or views.
    pub fuse: Vec<fuse::Server>,
}

/// Starts the container, for the `restarts`th time again.
pub(super) fn start(
    task: &Task<'_>,
    clients: &mut Clients,
    restarts: u32,
    group: Option<&cgroup::Group>,
) -> Result<Running, StartFailure> {
    let (streams, stdio) = Streams::new(task.tty, task.input)?;
    let (program, leaf) = (&task.program, group.map(cgroup::Group::root));
    let launched =
        runtime::launch(&task.plan, stdio, program, leaf, task.place).map_err(|e| init(&e))?;
    Steps::new(clients, launched, streams).finish(|steps| steps.run(task, restarts, group))
}

/// Waits until a further command in a container runs.
pub(super) fn join(
    clients: &mut Clients,
    launched: Launched,
    streams: Streams,
) -> Result<Running, StartFailure> {
    Steps::new(clients, launched, streams).finish(|steps| steps.await_exec().map(|()| None))
}

/// What there is to know where `--oom-score-adj` is refused.
pub const OOM_SCORE: &str = "without privileges it can be raised, not lowered";

/// `--oom-score-adj`: who may not lower it below what it has been, is told.
fn set_oom_score(pid: u32, score: i32) -> Result<(), StartFailure> {
    proc::set_oom_score(pid as i32, score).map_err(|source| StartFailure {
        hint: Some(OOM_SCORE.into()),
        ..StartFailure::other(format!(
            "`--oom-score-adj {score}`: write(`/proc/{pid}/oom_score_adj`): {source}"
        ))
    })
}

/// Who the container is on its network with a name, by the name that it has now.
fn named(task: &Task<'_>, network: &super::Network, restarts: u32) -> Option<net::Member> {
    let mut member = network.member.clone()?;
    if restarts > 0
        && let Ok(spec) = task.container.spec()
    {
        member.names = spec.network_names();
    }
    Some(member)
}

struct Steps<'a> {
    clients: &'a mut Clients,
    launched: Launched,
    streams: Streams,
    network: Network,
    fuse: Vec<fuse::Server>,
    /// The front end has said that the user namespace has its maps.
    mapped: bool,
}

enum Network {
    Off,
    Starting(net::Starting),
    Ready(net::Running),
}

impl<'a> Steps<'a> {
    fn new(clients: &'a mut Clients, launched: Launched, streams: Streams) -> Steps<'a> {
        Steps {
            clients,
            launched,
            streams,
            network: Network::Off,
            fuse: Vec::new(),
            mapped: false,
        }
    }

    /// Takes the steps; what was begun is undone when one fails.
    fn finish(
        mut self,
        steps: impl FnOnce(&mut Self) -> Result<Option<net::Running>, StartFailure>,
    ) -> Result<Running, StartFailure> {
        match steps(&mut self) {
            Ok(network) => Ok(Running {
                child: self.launched.child,
                streams: self.streams,
                network,
                fuse: self.fuse,
            }),
            Err(failure) => {
                self.abandon();
                Err(failure)
            }
        }
    }

    fn console(&mut self, master: OwnedFd) -> Result<(), StartFailure> {
        let done = self.streams.set_master(master);
        done.map_err(StartFailure::failed("ioctl(pty)"))
    }

    fn tell_owner(&self, message: &wire::FromMonitor) {
        if let Some(owner) = self.clients.owner() {
            let _ = wire::send(owner, message);
        }
    }

    /// The launcher's column of the diagram in [`runtime::proto`].
    fn run(
        &mut self,
        task: &Task<'_>,
        restarts: u32,
        group: Option<&cgroup::Group>,
    ) -> Result<Option<net::Running>, StartFailure> {
        let number = self.launched.child.pid().as_raw_nonzero().get();
        let proc_pid = self.launched.child.proc_pid().as_raw_nonzero().get() as u32;
        if let Some(score) = task.resources(restarts).oom_score_adj {
            set_oom_score(proc_pid, score)?;
        }
        pidfile::write(task.spec, number)?;
        let listening = self.clients.listen(task.socket.clone());
        listening.map_err(StartFailure::failed("bind(`socket`)"))?;
        match self.launched.maps {
            Maps::Launcher => userns::write(&task.userns, proc_pid).map_err(|e| maps(&e))?,
            Maps::Maker if restarts == 0 => self.await_maps()?,
            Maps::Maker | Maps::Done => {}
        }
        self.tell(ToInit::Mapped)?;
        // Told ahead, the child need not be waited for before it may execute.
        let waits = task.network.is_some() || task.fuse.is_some() || task.plan.wants_views();
        if !waits {
            self.tell(ToInit::Continue)?;
        }
        if let Some(wanted) = &task.network {
            let member = named(task, wanted, restarts);
            let request = net::Request {
                pid: proc_pid,
                ports: &wanted.ports,
                forward_dns: wanted.forward_dns,
                host_gateway: wanted.host_gateway,
                // Below the working directory: the full path can exceed what unix(7) allows.
                api_socket: "slirp.sock".into(),
                as_root: wanted.as_root,
                other_root: task.userns.uid.to_host(0) != Some(rustix::process::geteuid().as_raw()),
                mac: wanted.mac,
                member: member.as_ref(),
                apart: |network| drop(cgroup::apart(network)),
            };
            let starting = net::start(&wanted.choice, &request, &mut die_with_parent);
            if let Some(starting) = starting.map_err(network)? {
                self.network = Network::Starting(starting);
            }
        }
        let mut prepared = false;
        loop {
            if prepared && !matches!(self.network, Network::Starting(_)) {
                break;
            }
            match self.wait()? {
                Event::Init(FromInit::NeedRootfs, _) => {
                    self.start_fuse(task)?;
                    self.tell(ToInit::Continue)?;
                }
                Event::Init(FromInit::NeedView { lower, point }, _) => {
                    let options = fuse_overlayfs::Options {
                        lower: vec![lower.clone()],
                        ..Default::default()
                    };
                    let what = fuse::Serves::View(lower);
                    match fuse::start(&options, &self.launched.child, &point, what) {
                        Ok(server) => {
                            self.fuse.push(server);
                            self.tell(ToInit::Continue)?;
                        }
                        Err(failure) => self.no_view(&failure)?,
                    }
                }
                Event::Init(FromInit::Wire, socket) => self.attach(socket)?,
                Event::Init(FromInit::Console, Some(master)) => {
                    self.console(master)?;
                }
                Event::Init(FromInit::Notice(text), _) => {
                    self.tell_owner(&wire::FromMonitor::Notice(text));
                }
                Event::Init(FromInit::Prepared(without), _) => {
                    prepared = true;
                    for error in without {
                        let text = format!("going on without: {error}");
                        self.tell_owner(&wire::FromMonitor::Detail(text));
                    }
                }
                Event::Init(FromInit::Failed(error), _) => return Err(init(&error)),
                Event::Init(FromInit::Console, _) => {
                    return Err(StartFailure::other(
                        "a message came without its descriptor".into(),
                    ));
                }
                Event::InitGone => return Err(self.died()),
                Event::NetworkReady => self.finish_network()?,
                Event::FuseGone(which) => self.fuse_died(which)?,
                Event::Owner => {}
            }
        }
        if waits {
            self.tell(ToInit::Continue)?;
        }
        // Noted while it executes: until then the kernel ends it with us.
        let group = group.map(cgroup::Group::dir);
        let member = task.network.as_ref().and_then(|n| n.member.as_ref());
        let address = member.map(|member| member.address);
        let _ = task.container.running(number, restarts, group, address);
        self.await_exec()?;
        task.container.event("start", &[]);
        self.fuse.iter().for_each(fuse::Server::stands);
        Ok(match std::mem::replace(&mut self.network, Network::Off) {
            Network::Ready(running) => Some(running),
            _ => None,
        })
    }

    /// Waits for the front end's word that the maps are written.
    fn await_maps(&mut self) -> Result<(), StartFailure> {
        while !self.mapped {
            match self.wait()? {
                Event::Init(FromInit::Failed(error), _) => return Err(init(&error)),
                Event::InitGone => return Err(self.died()),
                _ => {}
            }
        }
        Ok(())
    }

    fn tell(&self, message: ToInit) -> Result<(), StartFailure> {
        match send(&self.launched.channel, &message, None) {
            // Why it went away is in the messages that it sent before.
            Ok(()) | Err(Errno::PIPE) => Ok(()),
            Err(errno) => Err(StartFailure::failed("sendmsg(init)")(errno)),
        }
    }

    /// Waits for the channel's end of file, execve succeeded, and tells. A further command's terminal comes before that
    /// (the diagram in [`runtime::join`]).
    fn await_exec(&mut self) -> Result<(), StartFailure> {
        loop {
            match self.wait()? {
                Event::InitGone => break,
                Event::Init(FromInit::Console, Some(master)) => self.console(master)?,
                Event::Init(FromInit::Failed(error), _) => return Err(init(&error)),
                _ => {}
            }
        }
        let number = self.launched.child.pid().as_raw_nonzero().get();
        self.tell_owner(&wire::FromMonitor::Started(number));
        Ok(())
    }

    /// The next thing that happens.
    fn wait(&mut self) -> Result<Event, StartFailure> {
        let mut fds = vec![PollFd::new(&self.launched.channel, PollFlags::IN)];
        let owner = self.clients.owner();
        fds.extend(owner.map(|owner| PollFd::new(owner, PollFlags::IN)));
        let network = fds.len();
        if let Network::Starting(starting) = &self.network {
            fds.push(PollFd::from_borrowed_fd(starting.poll_fd(), PollFlags::IN));
        }
        let fuse = fds.len();
        fds.extend(
            self.fuse
                .iter()
                .map(|server| PollFd::new(&server.child, PollFlags::IN)),
        );
        match poll(&mut fds, None) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(errno) => return Err(StartFailure::failed("poll()")(errno)),
        }
        let ready: Vec<bool> = fds.iter().map(|fd| !fd.revents().is_empty()).collect();
        if ready[0] {
            return match receive::<FromInit>(&self.launched.channel) {
                Ok(Some((message, fd))) => Ok(Event::Init(message, fd)),
                Ok(None) => Ok(Event::InitGone),
                Err(errno) => Err(StartFailure::failed("recvmsg(init)")(errno)),
            };
        }
        if fuse > network && ready[network] {
            return Ok(Event::NetworkReady);
        }
        if let Some(which) = ready[fuse..].iter().position(|gone| *gone) {
            return Ok(Event::FuseGone(which));
        }
        if network > 1 && ready[1] {
            self.owner_message()?;
        }
        Ok(Event::Owner)
    }

    /// A signal while the container starts ends the start; so does a front end that goes away.
    fn owner_message(&mut self) -> Result<(), StartFailure> {
        let Some(owner) = self.clients.owner() else {
            return Ok(());
        };
        match wire::receive::<ToMonitor>(owner) {
            Ok(Some(ToMonitor::Input(bytes))) => {
                self.streams.feed(bytes);
                self.clients.owner_fed();
            }
            Ok(Some(ToMonitor::Resize(rows, columns))) => self.streams.resize((rows, columns)),
            Ok(Some(ToMonitor::Close(stream))) => self.streams.close(usize::from(stream == 2)),
            Ok(Some(ToMonitor::Mapped(true))) => self.mapped = true,
            Ok(Some(ToMonitor::Mapped(false))) => {
                return Err(StartFailure::other("no id maps".into()));
            }
            Ok(Some(ToMonitor::Signal(signal) | ToMonitor::Key(signal))) => {
                if signals::ends_by_default(signal) {
                    return Err(StartFailure {
                        part: Part::Other,
                        message: "interrupted while the container started".into(),
                        hint: None,
                        status: 128u8.wrapping_add(signal as u8),
                    });
                }
            }
            Ok(Some(_)) | Err(Errno::AGAIN) => {}
            Ok(None) | Err(_) => return Err(StartFailure::other("the front end went away".into())),
        }
        Ok(())
    }

    fn finish_network(&mut self) -> Result<(), StartFailure> {
        if let Network::Starting(starting) = std::mem::replace(&mut self.network, Network::Off) {
            self.network = Network::Ready(starting.finish().map_err(network)?);
        }
        Ok(())
    }

    fn attach(&mut self, socket: Option<OwnedFd>) -> Result<(), StartFailure> {
        let missing = || StartFailure::other("the network message came without a socket".into());
        let socket = socket.ok_or_else(missing)?;
        match &mut self.network {
            Network::Starting(starting) => starting.attach(socket).map_err(network),
            Network::Ready(running) => running.attach(socket).map_err(network),
            Network::Off => Ok(()),
        }
    }

    /// The child ended without a message.
    fn died(&self) -> StartFailure {
        let _ = self.launched.child.signal(libc::SIGKILL);
        let how = match self.launched.child.wait() {
            Ok(ended) => format!("with status {}", ended.status()),
            Err(errno) => format!("({errno})"),
        };
        StartFailure::other(format!(
            "the container's first process ended {how} before it ran the command"
        ))
    }

    fn start_fuse(&mut self, task: &Task<'_>) -> Result<(), StartFailure> {
        let options = task
            .fuse
            .as_ref()
            .ok_or_else(|| StartFailure::other("no rootfs helper".into()))?;
        let (child, point) = (&self.launched.child, task.plan.mount_point());
        let server = fuse::start(options, child, point, fuse::Serves::Root)?;
        self.fuse.push(server);
        Ok(())
    }

    fn fuse_died(&mut self, which: usize) -> Result<(), StartFailure> {
        let server = self.fuse.remove(which);
        let _ = server.child.wait();
        let failure = fuse::died(server.words);
        match server.serves {
            fuse::Serves::Root => Err(failure),
            fuse::Serves::View(_) => self.no_view(&failure),
        }
    }

    /// There is no server for a view, for which there are other ways.
    fn no_view(&self, failure: &StartFailure) -> Result<(), StartFailure> {
        self.tell_owner(&wire::FromMonitor::Detail(failure.to_string()));
        self.tell(ToInit::Refused)
    }

    /// Undoes a start that failed: nothing of it stays.
    fn abandon(&mut self) {
        let _ = self.launched.child.signal(libc::SIGKILL);
        let _ = self.launched.child.wait();
        self.fuse.iter().for_each(|server| end(&server.child));
        match std::mem::replace(&mut self.network, Network::Off) {
            Network::Ready(running) => drop(running.stop()),
            // Dropping it ends it.
            Network::Starting(starting) => drop(starting),
            Network::Off => {}
        }
    }
}

/// Ends a helper and reaps it.
pub(super) fn end(helper: &Child) {
    let _ = helper.signal(libc::SIGKILL);
    let _ = helper.wait();
}

enum Event {
    Init(FromInit, Option<OwnedFd>),
    InitGone,
    NetworkReady,
    FuseGone(usize),
    Owner,
}

fn maps(error: &userns::Error) -> StartFailure {
    StartFailure {
        part: Part::UserNamespace,
        message: chain(error),
        hint: error.hint(),
        status: 125,
    }
}

/// What a stage of the runtime told, for the user.
pub(super) fn init(error: &InitError) -> StartFailure {
    // Another way to make the root helps against a refusal, not against a full disk or a lost layer.
    let refused = [
        Errno::PERM,
        Errno::ACCESS,
        Errno::NODEV,
        Errno::INVAL,
        Errno::NOSYS,
        Errno::OPNOTSUPP,
        Errno::TIMEDOUT,
        Errno::NOTCONN,
    ]
    .map(Errno::raw_os_error)
    .contains(&error.errno);
    let part = match error.stage {
        Stage::Rootfs if refused => Part::Rootfs,
        _ => Part::Other,
    };
    StartFailure {
        part,
        message: error.to_string(),
        hint: error.hint(),
        status: error.status(),
    }
}

fn network(error: net::Error) -> StartFailure {
    let (message, hint) = (chain(&error), error.hint());
    StartFailure {
        part: Part::Network,
        message,
        hint,
        status: 125,
    }
}
