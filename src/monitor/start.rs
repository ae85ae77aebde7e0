//! From a task to a running command: clone, id maps, network helper, the word to go.

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;

use super::streams::Streams;
use super::wire::{self, Part, StartFailure, ToMonitor};
use super::{Task, signals};
use crate::runtime::proto::{FromInit, ToInit, receive, send};
use crate::runtime::{self, InitError, Launched, Stage};
use crate::sys::process::Child;
use crate::sys::socket::{Channel, MAX_MESSAGE};
use crate::{net, userns};

/// A container whose command runs.
pub(super) struct Running {
    pub child: Child,
    pub streams: Streams,
    pub network: Option<net::Running>,
}

/// Starts the container.
pub(super) fn start(task: &Task, client: &Channel) -> Result<Running, StartFailure> {
    let (streams, stdio) = if task.tty { Streams::terminal() } else { Streams::pipes() }
        .map_err(|errno| other(format!("pipe2(): {errno}")))?;
    let launched = runtime::launch(&task.plan, stdio, task.program.clone()).map_err(|e| init(&e))?;
    let mut steps = Steps { task, client, launched, streams, network: Network::Off };
    match steps.run() {
        Ok(network) => {
            Ok(Running { child: steps.launched.child, streams: steps.streams, network })
        }
        Err(failure) => {
            steps.abandon();
            Err(failure)
        }
    }
}

struct Steps<'a> {
    task: &'a Task,
    client: &'a Channel,
    launched: Launched,
    streams: Streams,
    network: Network,
}

enum Network {
    Off,
    Starting(net::Starting),
    Ready(net::Running),
}

impl Steps<'_> {
    /// The launcher's column of the diagram in [`runtime::proto`].
    fn run(&mut self) -> Result<Option<net::Running>, StartFailure> {
        let pid = self.launched.child.pid();
        userns::write(&self.task.userns, pid).map_err(|e| StartFailure {
            part: Part::UserNamespace,
            message: e.to_string(),
            hint: e.hint(),
            status: 125,
        })?;
        self.tell(ToInit::Mapped)?;
        if let Some(request) = &self.task.network {
            let starting = net::start(request, pid).map_err(network)?;
            self.network = Network::Starting(starting);
        }
        let mut prepared = false;
        loop {
            if prepared && !matches!(self.network, Network::Starting(_)) {
                break;
            }
            match self.wait()? {
                Event::Init(FromInit::NeedRootfs, _) => {
                    self.mount_fuse()?;
                    self.tell(ToInit::Continue)?;
                }
                Event::Init(FromInit::Console, Some(master)) => {
                    self.streams
                        .set_master(master)
                        .map_err(|errno| other(format!("ioctl(pty): {errno}")))?;
                }
                Event::Init(FromInit::Prepared, _) => prepared = true,
                Event::Init(FromInit::Failed(error), _) => return Err(init(&error)),
                Event::Init(FromInit::Console, None) => {
                    return Err(other("the console message came without a terminal".into()));
                }
                Event::InitGone => return Err(self.died()),
                Event::NetworkReady => self.finish_network()?,
                Event::Client => {}
            }
        }
        let _ = self.task.container.running(pid.as_raw_nonzero().get());
        self.tell(ToInit::Continue)?;
        self.await_exec()?;
        let _ = wire::send(self.client, &wire::FromMonitor::Started(pid.as_raw_nonzero().get()));
        Ok(match std::mem::replace(&mut self.network, Network::Off) {
            Network::Ready(running) => Some(running),
            _ => None,
        })
    }

    fn tell(&self, message: ToInit) -> Result<(), StartFailure> {
        match send(&self.launched.channel, &message, None) {
            // Why it went away is in the messages that it sent before.
            Ok(()) | Err(Errno::PIPE) => Ok(()),
            Err(errno) => Err(other(format!("sendmsg(init): {errno}"))),
        }
    }

    /// Waits for the channel's end of file: execve succeeded.
    fn await_exec(&mut self) -> Result<(), StartFailure> {
        loop {
            match self.wait()? {
                Event::InitGone => return Ok(()),
                Event::Init(FromInit::Failed(error), _) => return Err(init(&error)),
                _ => {}
            }
        }
    }

    /// The next thing that happens.
    fn wait(&mut self) -> Result<Event, StartFailure> {
        let mut fds = vec![
            PollFd::new(&self.launched.channel, PollFlags::IN),
            PollFd::new(self.client, PollFlags::IN),
        ];
        if let Network::Starting(starting) = &self.network {
            fds.push(PollFd::from_borrowed_fd(starting.poll_fd(), PollFlags::IN));
        }
        match poll(&mut fds, None) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(errno) => return Err(other(format!("poll(): {errno}"))),
        }
        let ready: Vec<bool> = fds.iter().map(|fd| !fd.revents().is_empty()).collect();
        if ready[0] {
            return match receive::<FromInit>(&self.launched.channel) {
                Ok(Some((message, fd))) => Ok(Event::Init(message, fd)),
                Ok(None) => Ok(Event::InitGone),
                Err(errno) => Err(other(format!("recvmsg(init): {errno}"))),
            };
        }
        if ready.get(2) == Some(&true) {
            return Ok(Event::NetworkReady);
        }
        if ready[1] {
            self.client_message()?;
        }
        Ok(Event::Client)
    }

    /// A signal while the container starts ends the start; so does a front end that goes away.
    fn client_message(&mut self) -> Result<(), StartFailure> {
        let mut buffer = vec![0; MAX_MESSAGE];
        match wire::receive::<ToMonitor>(self.client, &mut buffer) {
            Ok(Some(ToMonitor::Input(bytes))) => self.streams.feed(bytes),
            Ok(Some(ToMonitor::Resize(rows, columns))) => self.streams.resize((rows, columns)),
            Ok(Some(ToMonitor::Close(stream))) => self.streams.close(usize::from(stream == 2)),
            Ok(Some(ToMonitor::Signal(signal))) => {
                if signals::ends_by_default(signal) {
                    return Err(StartFailure {
                        part: Part::Other,
                        message: "interrupted while the container started".into(),
                        hint: None,
                        status: 128u8.wrapping_add(signal as u8),
                    });
                }
            }
            Err(Errno::AGAIN) => {}
            Ok(None) | Err(_) => return Err(other("the front end went away".into())),
        }
        Ok(())
    }

    fn finish_network(&mut self) -> Result<(), StartFailure> {
        if let Network::Starting(starting) = std::mem::replace(&mut self.network, Network::Off) {
            self.network = Network::Ready(starting.finish().map_err(network)?);
        }
        Ok(())
    }

    /// The child ended without a message.
    fn died(&self) -> StartFailure {
        let _ = self.launched.child.signal(libc::SIGKILL);
        let how = match self.launched.child.wait() {
            Ok(ended) => format!("with status {}", ended.status()),
            Err(errno) => format!("({errno})"),
        };
        other(format!("the container's first process ended {how} before it ran the command"))
    }

    fn mount_fuse(&mut self) -> Result<(), StartFailure> {
        let options = self.task.fuse.as_ref().ok_or_else(|| other("no rootfs helper".into()))?;
        super::fuse::mount(options, &self.launched.child, self.task.plan.mount_point())
    }

    /// Undoes a start that failed: nothing of it stays.
    fn abandon(&mut self) {
        let _ = self.launched.child.signal(libc::SIGKILL);
        let _ = self.launched.child.wait();
        match std::mem::replace(&mut self.network, Network::Off) {
            Network::Ready(running) => running.stop(),
            Network::Starting(starting) => starting.abandon(),
            Network::Off => {}
        }
    }
}

enum Event {
    Init(FromInit, Option<std::os::fd::OwnedFd>),
    InitGone,
    NetworkReady,
    Client,
}

fn init(error: &InitError) -> StartFailure {
    let part = match error.stage {
        Stage::Rootfs => Part::Rootfs,
        _ => Part::Other,
    };
    StartFailure { part, message: error.to_string(), hint: error.hint(), status: error.status() }
}

fn network(error: net::Error) -> StartFailure {
    let (message, hint) = (error.to_string(), error.hint());
    StartFailure { part: Part::Network, message, hint, status: 125 }
}

pub(super) fn other(message: String) -> StartFailure {
    StartFailure { part: Part::Other, message, hint: None, status: 125 }
}
