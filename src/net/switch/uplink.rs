//! The switch's way out: slirp4netns, and the ports that it is asked to publish, one after the other.

use std::collections::{BTreeMap, VecDeque};
use std::net::Ipv4Addr;
use std::os::fd::{AsFd as _, BorrowedFd};
use std::path::Path;

use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, recv, send};
use rustix::thread::CapabilitySet;
use slirp4netns_rs::{Call, Request, bess};

use super::message::{FromSwitch, Join};
use super::way;
use crate::model::chain;
use crate::net::Error;
use crate::sys::process::die_with_parent;
use crate::sys::wire::enlarge_queues;
use crate::sys::{alone, caps};

/// The uplink's own network: reserved since ever (RFC 1112, class E), so that nobody out there has one of its addresses.
const NETWORK: Ipv4Addr = Ipv4Addr::new(240, 0, 0, 0);

/// Something to be done, in the order in which it was asked for.
#[derive(Debug)]
pub enum Step {
    /// A port is to lead to this client's member.
    Publish(u32, Request),
    /// The port of this number is to be closed.
    Withdraw(u64),
    /// All that this client's member wants is done.
    Joined(u32),
    /// It cannot be done.
    Refused(u32, FromSwitch),
    /// This client is to be told something.
    Tell(u32, FromSwitch),
}

/// The uplink at work.
pub struct Uplink {
    running: bess::Running,
    steps: VecDeque<Step>,
    call: Option<(Step, Call)>,
    /// The numbers of the ports that lead to the member of a client.
    open: BTreeMap<u32, Vec<u64>>,
}

impl Uplink {
    /// Starts it, and waits until it is ready. Its frames hold at most `mtu` bytes.
    pub fn start(program: &Path, mtu: u32) -> Result<Uplink, FromSwitch> {
        let options = bess::Options {
            network: NETWORK,
            mtu,
            sandbox: true,
            socket: "uplink".into(),
            api_socket: "uplink-api".into(),
        };
        let mut command = options.command(program);
        // Its sandbox takes a privilege that root has, and everybody in a user namespace of his own.
        let sets = caps::get().unwrap_or_default();
        if sets.effective & CapabilitySet::SYS_ADMIN.bits() == 0 {
            alone::in_own_user_namespace(&mut command);
        }
        die_with_parent(&mut command);
        let started = bess::spawn(command, &options).and_then(bess::Starting::finish);
        let running = started.map_err(|error| refusal(Box::new(error)))?;
        enlarge_queues(running.frames());
        Ok(Uplink {
            running,
            steps: VecDeque::new(),
            call: None,
            open: BTreeMap::new(),
        })
    }

    /// Its addresses.
    pub fn addresses(&self) -> way::Uplink {
        let options = self.running.options();
        way::Uplink {
            host: options.host(),
            dns: options.dns(),
        }
    }

    /// Readable when there are frames.
    pub fn frames(&self) -> BorrowedFd<'_> {
        self.running.frames()
    }

    /// Readable when it may be dead.
    pub fn end_fd(&self) -> BorrowedFd<'_> {
        self.running.end_fd()
    }

    /// Whether it is.
    pub fn has_ended(&mut self) -> bool {
        self.running.has_ended()
    }

    /// Gives it a frame; false where it has no room.
    ///
    /// # Errors
    /// Those of send(2) that say that it is gone.
    pub fn put(&self, bytes: &[u8]) -> Result<bool, Errno> {
        loop {
            let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
            match send(self.running.frames(), bytes, flags) {
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN | Errno::NOBUFS) => return Ok(false),
                // One that no socket would take is lost.
                Ok(_) | Err(Errno::MSGSIZE) => return Ok(true),
                Err(errno) => return Err(errno),
            }
        }
    }

    /// The length of the next frame, which is put into `buffer`, if there is one.
    ///
    /// # Errors
    /// `EPIPE` when it is gone, and those of recv(2).
    pub fn take(&self, buffer: &mut [u8]) -> Result<Option<usize>, Errno> {
        loop {
            match recv(self.running.frames(), &mut *buffer, RecvFlags::DONTWAIT) {
                Ok((0, _)) => return Err(Errno::PIPE),
                Ok((length, _)) => return Ok(Some(length)),
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => return Ok(None),
                Err(errno) => return Err(errno),
            }
        }
    }

    /// Puts steps behind those that wait.
    pub fn enqueue(&mut self, steps: Vec<Step>) {
        self.steps.extend(steps);
    }

    /// The next step, unless an answer is waited for.
    pub fn next(&mut self) -> Option<Step> {
        match self.call {
            Some(_) => None,
            None => self.steps.pop_front(),
        }
    }

    /// What closes the ports that lead to the member of a client.
    pub fn withdraw(&mut self, number: u32) -> Vec<Step> {
        let open = self.open.remove(&number).unwrap_or_default();
        open.into_iter().map(Step::Withdraw).collect()
    }

    /// Asks for a port to be published or closed; the call is readable when there is an answer.
    ///
    /// # Errors
    /// The API socket does not answer.
    pub fn call(&mut self, step: Step) -> std::io::Result<BorrowedFd<'_>> {
        let api = &self.running.options().api_socket;
        let call = match &step {
            Step::Withdraw(id) => Call::withdraw(api, *id)?,
            Step::Publish(_, request) => Call::publish(api, request)?,
            Step::Joined(_) | Step::Refused(..) | Step::Tell(..) => {
                return Err(std::io::ErrorKind::InvalidInput.into());
            }
        };
        Ok(self.call.insert((step, call)).1.as_fd())
    }

    /// What follows from the answer, if all of it is there.
    ///
    /// # Errors
    /// Those of read(2).
    pub fn answered(&mut self) -> Result<Vec<Step>, Errno> {
        let Some((_, call)) = &mut self.call else {
            return Ok(Vec::new());
        };
        let Some(answer) = call.answer().map_err(crate::sys::errno::to_errno)? else {
            return Ok(Vec::new());
        };
        let step = self.call.take().map(|(step, _)| step);
        Ok(match (step, answer) {
            (Some(Step::Publish(number, _)), Ok(id)) => {
                self.open.entry(number).or_default().push(id);
                Vec::new()
            }
            (Some(Step::Publish(number, request)), Err(reason)) => {
                let error = slirp4netns_rs::Error::Refused {
                    address: request.address,
                    port: request.port,
                    reason,
                };
                vec![Step::Refused(number, refusal(Box::new(error)))]
            }
            _ => Vec::new(),
        })
    }
}

/// The steps after which a member has its ports.
///
/// # Errors
/// An address that slirp4netns publishes nothing on.
pub fn publish(number: u32, join: &Join) -> Result<Vec<Step>, FromSwitch> {
    let forwards: Vec<_> = join.ports.iter().map(crate::net::start::forward).collect();
    let requests = slirp4netns_rs::requests(&forwards, Some(join.address));
    let requests = requests.map_err(|error| refusal(Box::new(error)))?;
    let publish = requests.into_iter().map(|r| Step::Publish(number, r));
    Ok(publish.chain([Step::Joined(number)]).collect())
}

fn refusal(error: Box<slirp4netns_rs::Error>) -> FromSwitch {
    let error = Error::Slirp(error);
    FromSwitch::Refused {
        message: chain(&error),
        hint: error.hint(),
    }
}
