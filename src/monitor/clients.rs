//! Who is connected to a monitor: the front end that started it, and whoever came later through its socket.
//!
//! ```text
//! owner     started the container in the foreground. Its output is a pipe's: while it does not read, the
//!           command waits. When it goes away, the command is hung up on.
//! attached  wants the output from where it came in. One that does not take it as fast as it comes is cut off:
//!           nobody's forgotten terminal stops a server.
//! guest     works on the files of a container that waits to be started again. While there is one, it waits; so does
//!           a second one, since a root file system is not to be mounted twice.
//! checker   waits for the end of a check.
//! others    asked for something, or wait for the end.
//! ```

use std::collections::VecDeque;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::rc::Rc;

use rustix::io::Errno;
use rustix::net::SendFlags;

use super::wire::{self, FromMonitor, Message as _, ToMonitor};
use crate::sys::socket::Channel;

/// The socket in the container's directory, or a link to it.
pub const SOCKET: &str = "socket";

/// Messages waiting for a slow owner before the command's output is left in its pipe.
const OWNER_BACKLOG: usize = 8;

/// The same for who attached, before it is cut off.
const ATTACHED_BACKLOG: usize = 64;

/// What a client is there for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    /// See above.
    Owner,
    /// See above.
    Attached,
    /// See above.
    Guest,
    /// See above.
    Checker,
    /// See above.
    Other,
}

#[derive(Debug)]
struct Client {
    /// No two have the same.
    id: u64,
    channel: Channel,
    role: Role,
    backlog: VecDeque<Rc<Vec<u8>>>,
    /// It sent input and waits to hear that it was taken.
    fed: bool,
    gone: bool,
}

/// All of them.
#[derive(Debug, Default)]
pub(super) struct Clients {
    listener: Option<OwnedFd>,
    /// Where its socket is, if not in the container's directory.
    place: Option<PathBuf>,
    all: Vec<Client>,
    /// How many there have been.
    count: u64,
}

/// What came from one.
pub(super) enum Received {
    Message(ToMonitor),
    Nothing,
    Gone,
}

impl Clients {
    /// The one that started the monitor.
    pub fn new(channel: Channel) -> Clients {
        let mut clients = Clients::default();
        clients.add(channel, Role::Owner);
        clients
    }

    fn add(&mut self, channel: Channel, role: Role) {
        self.count += 1;
        self.all.push(Client {
            id: self.count,
            channel,
            role,
            backlog: VecDeque::new(),
            fed: false,
            gone: false,
        });
    }

    /// Opens the socket for others: as `place`, to which a link in the current directory leads then, or in that directory.
    ///
    /// # Errors
    /// Those of [`Channel::listen`] and symlink(2).
    pub fn listen(&mut self, place: Option<PathBuf>) -> Result<(), Errno> {
        if self.listener.is_some() {
            return Ok(());
        }
        let name = place.as_deref().unwrap_or(Path::new(SOCKET));
        self.listener = match Channel::listen(None, name) {
            // Left by a monitor that was killed; the container's lock is ours.
            Err(Errno::ADDRINUSE) => {
                rustix::fs::unlink(name)?;
                Some(Channel::listen(None, name)?)
            }
            other => Some(other?),
        };
        if let Some(place) = place {
            let _ = rustix::fs::unlink(SOCKET);
            rustix::fs::symlink(&place, SOCKET)?;
            self.place = Some(place);
        }
        Ok(())
    }

    /// Where others knock.
    pub fn listener(&self) -> Option<BorrowedFd<'_>> {
        self.listener.as_ref().map(|fd| fd.as_fd())
    }

    /// Lets the next one in.
    pub fn accept(&mut self) {
        if let Some(Ok(channel)) = self.listener.as_ref().map(Channel::accept) {
            self.add(channel, Role::Other);
        }
    }

    /// Every client's number until the next [`Clients::sweep`], its id, its descriptor, and whether something waits for it.
    pub fn fds(&self) -> impl Iterator<Item = (usize, u64, BorrowedFd<'_>, bool)> {
        let all = self.all.iter().enumerate();
        all.map(|(number, client)| {
            let behind = !client.backlog.is_empty();
            (number, client.id, client.channel.as_fd(), behind)
        })
    }

    /// The owner, while there is one.
    pub fn owner(&self) -> Option<&Channel> {
        let owner = self.all.iter().find(|c| c.role == Role::Owner && !c.gone);
        owner.map(|client| &client.channel)
    }

    /// Whether somebody works on the files.
    pub fn has_guests(&self) -> bool {
        self.all.iter().any(|c| c.role == Role::Guest && !c.gone)
    }

    /// Nobody stays attached.
    pub fn release_owner(&mut self) {
        self.all.retain(|client| client.role != Role::Owner);
    }

    /// Takes a message, if there is one.
    pub fn receive(&self, number: usize) -> Received {
        match wire::receive(&self.all[number].channel) {
            Ok(Some(message)) => Received::Message(message),
            Err(Errno::AGAIN) => Received::Nothing,
            Ok(None) | Err(_) => Received::Gone,
        }
    }

    /// What a client is there for.
    pub fn role(&self, number: usize) -> Role {
        self.all[number].role
    }

    /// Makes it another thing.
    pub fn become_role(&mut self, number: usize, role: Role) {
        self.all[number].role = role;
    }

    /// Notes that one left, or is to be rid of; it is dropped by [`Clients::sweep`].
    pub fn leave(&mut self, number: usize) {
        self.all[number].gone = true;
        self.all[number].backlog.clear();
    }

    /// Drops those that are gone. Their numbers change.
    pub fn sweep(&mut self) {
        self.all.retain(|client| !client.gone);
    }

    /// Notes that one sent input.
    pub fn fed(&mut self, number: usize) {
        self.all[number].fed = true;
    }

    /// All input was taken: tells those who wait for that.
    pub fn input_taken(&mut self) {
        for number in 0..self.all.len() {
            if std::mem::take(&mut self.all[number].fed) {
                self.tell(number, &FromMonitor::InputTaken);
            }
        }
    }

    /// Notes that the owner sent input.
    pub fn owner_fed(&mut self) {
        if let Some(owner) = self.all.iter_mut().find(|c| c.role == Role::Owner) {
            owner.fed = true;
        }
    }

    /// Whether somebody waits to hear that input was taken.
    pub fn is_fed(&self) -> bool {
        self.all.iter().any(|client| client.fed)
    }

    /// Tells one.
    pub fn tell(&mut self, number: usize, message: &FromMonitor) {
        self.push(number, Rc::new(message.encode()));
    }

    /// Tells one that what it asked for cannot be done.
    pub fn refuse(&mut self, number: usize, why: &str) {
        self.tell(number, &FromMonitor::Refused(why.to_owned()));
    }

    /// A check that was asked for has ended.
    pub fn checked(&mut self) {
        for number in 0..self.all.len() {
            if self.all[number].role == Role::Checker {
                self.all[number].role = Role::Other;
                self.tell(number, &FromMonitor::Done);
            }
        }
    }

    /// Gives one a descriptor, if it takes it now.
    pub fn give(&self, number: usize, fd: BorrowedFd<'_>) {
        let channel = &self.all[number].channel;
        let _ = channel.send(&FromMonitor::Done.encode(), Some(fd), SendFlags::DONTWAIT);
    }

    /// Tells the owner and all who attached.
    pub fn tell_attached(&mut self, message: &FromMonitor) {
        let bytes = Rc::new(message.encode());
        for number in 0..self.all.len() {
            if [Role::Owner, Role::Attached].contains(&self.all[number].role) {
                self.push(number, Rc::clone(&bytes));
            }
        }
    }

    fn push(&mut self, number: usize, bytes: Rc<Vec<u8>>) {
        let client = &mut self.all[number];
        if client.gone {
            return;
        }
        if client.role == Role::Attached && client.backlog.len() >= ATTACHED_BACKLOG {
            client.backlog.clear();
            client.backlog.push_back(Rc::new(FromMonitor::Cut.encode()));
            client.role = Role::Other;
        } else {
            client.backlog.push_back(bytes);
        }
        self.flush(number);
    }

    /// Sends what one takes now.
    pub fn flush(&mut self, number: usize) {
        let client = &mut self.all[number];
        while let Some(message) = client.backlog.front() {
            match client.channel.send(message, None, SendFlags::DONTWAIT) {
                Ok(()) => drop(client.backlog.pop_front()),
                Err(Errno::AGAIN | Errno::NOBUFS) => return,
                // That it is gone shows when it is read from.
                Err(_) => client.backlog.clear(),
            }
        }
    }

    /// Whether the owner must take something before more output is read.
    pub fn hold_up(&self) -> bool {
        let waits = |c: &Client| c.role == Role::Owner && c.backlog.len() >= OWNER_BACKLOG;
        self.all.iter().any(waits)
    }

    /// Whether something waits for anybody.
    pub fn is_behind(&self) -> bool {
        self.all.iter().any(|client| !client.backlog.is_empty())
    }

    /// The last words to everybody, to those as well who are about to come in; who comes later finds nobody.
    pub fn close(&mut self, last: &FromMonitor) {
        if let Some(listener) = self.listener.take() {
            // From now on connect(2) is refused; what has been connected already can be accepted.
            let _ = rustix::net::shutdown(listener.as_fd(), rustix::net::Shutdown::Both);
            while let Ok(channel) = Channel::accept(&listener) {
                self.add(channel, Role::Other);
            }
        }
        if let Some(place) = self.place.take() {
            let _ = rustix::fs::unlink(place);
        }
        self.part(last);
    }

    /// The last words to everybody; then nobody is connected any more.
    pub fn part(&mut self, last: &FromMonitor) {
        for client in std::mem::take(&mut self.all) {
            if client.gone {
                continue;
            }
            // The owner hears them whatever it takes; nobody else may keep a monitor from its end.
            let flags = match client.role {
                Role::Owner => SendFlags::empty(),
                _ => SendFlags::DONTWAIT,
            };
            let _ = client.channel.send(&last.encode(), None, flags);
        }
    }
}
