//! Sequenced-packet socket pairs that carry one message with at most one descriptor at a time.

use std::io::{IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::io::{Errno, Result};
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketAddrUnix, SocketFlags, SocketType,
};

/// One end of a pair (unix(7), `SOCK_SEQPACKET`): message borders are kept, end-of-file is seen.
#[derive(Debug)]
pub struct Channel(OwnedFd);

/// The longest message.
const MAX_MESSAGE: usize = 64 << 10;

impl Channel {
    /// A connected pair, both ends close-on-exec.
    ///
    /// # Errors
    /// Those of socketpair(2).
    pub fn pair() -> Result<(Channel, Channel)> {
        let (a, b) = rustix::net::socketpair(
            AddressFamily::UNIX,
            SocketType::SEQPACKET,
            SocketFlags::CLOEXEC,
            None,
        )?;
        Ok((Channel(a), Channel(b)))
    }

    /// Listens on the socket `path`, relative to the directory `dir` (or the current one), for others of the same user.
    ///
    /// # Errors
    /// Those of socket(2), bind(2) and listen(2).
    pub fn listen(dir: Option<BorrowedFd<'_>>, path: impl AsRef<Path>) -> Result<OwnedFd> {
        let socket = new_socket(SocketFlags::CLOEXEC | SocketFlags::NONBLOCK)?;
        let address = match dir {
            Some(dir) => SocketAddrUnix::new(path_in(dir, path.as_ref()))?,
            None => SocketAddrUnix::new(path.as_ref())?,
        };
        rustix::net::bind(&socket, &address)?;
        rustix::net::listen(&socket, 128)?;
        Ok(socket)
    }

    /// The next one that connected; `EAGAIN` where there is none.
    ///
    /// # Errors
    /// Those of accept4(2).
    pub fn accept(listener: impl AsFd) -> Result<Channel> {
        rustix::net::accept_with(listener, SocketFlags::CLOEXEC).map(Channel)
    }

    /// Connects to the socket `name` in the directory `dir`, however long its path is (unix(7) takes 108
    /// bytes).
    ///
    /// # Errors
    /// `ENOENT` and `ECONNREFUSED` where nobody listens.
    pub fn connect(dir: BorrowedFd<'_>, name: &str) -> Result<Channel> {
        let socket = new_socket(SocketFlags::CLOEXEC)?;
        rustix::net::connect(
            &socket,
            &SocketAddrUnix::new(path_in(dir, Path::new(name)))?,
        )?;
        Ok(Channel(socket))
    }

    /// The user who connected, or made the pair (unix(7), `SO_PEERCRED`).
    ///
    /// # Errors
    /// Those of getsockopt(2).
    pub fn peer(&self) -> Result<u32> {
        let peer = rustix::net::sockopt::socket_peercred(&self.0)?;
        Ok(peer.uid.as_raw())
    }

    /// The descriptor of one end made by [`Channel::pair`] in another process image.
    pub fn from_fd(fd: OwnedFd) -> Channel {
        Channel(fd)
    }

    /// Sends one message, with a descriptor if given. Waits for room unless `flags` has `DONTWAIT`.
    ///
    /// # Errors
    /// `EMSGSIZE` for one longer than 64 KiB, and those of sendmsg(2): `EPIPE` when the other end is gone, `EAGAIN` with `DONTWAIT`.
    pub fn send(&self, bytes: &[u8], fd: Option<BorrowedFd<'_>>, flags: SendFlags) -> Result<()> {
        if bytes.len() > MAX_MESSAGE {
            return Err(Errno::MSGSIZE);
        }
        let fds: Vec<BorrowedFd<'_>> = fd.into_iter().collect();
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        if !fds.is_empty() {
            control.push(SendAncillaryMessage::ScmRights(&fds));
        }
        loop {
            let flags = flags | SendFlags::NOSIGNAL;
            match rustix::net::sendmsg(&self.0, &[IoSlice::new(bytes)], &mut control, flags) {
                Ok(_) => return Ok(()),
                Err(Errno::INTR) => {}
                Err(errno) => return Err(errno),
            }
        }
    }

    /// Receives one message, with the descriptor that came with it; `None` at the end. The memory is for what came, not
    /// for what could come: to clear the longest would cost a start more than the look ahead.
    ///
    /// # Errors
    /// As [`Channel::recv`].
    pub fn receive(&self, flags: RecvFlags) -> Result<Option<(Vec<u8>, Option<OwnedFd>)>> {
        let ahead = RecvFlags::PEEK | RecvFlags::TRUNC;
        let (length, _) = self.recv(&mut [], flags | ahead)?;
        let mut message = vec![0; length.min(MAX_MESSAGE)];
        let (length, fd) = self.recv(&mut message, flags)?;
        message.truncate(length);
        Ok((length > 0).then_some((message, fd)))
    }

    /// Receives one message into `buffer`: its length and the descriptor that came with it. Length
    /// 0 is the end: the other side is gone (no message of ours is empty).
    ///
    /// # Errors
    /// Those of recvmsg(2); `EAGAIN` with `DONTWAIT` when there is none.
    pub fn recv(&self, buffer: &mut [u8], flags: RecvFlags) -> Result<(usize, Option<OwnedFd>)> {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let got = loop {
            let flags = flags | RecvFlags::CMSG_CLOEXEC;
            let parts = &mut [IoSliceMut::new(buffer)];
            match rustix::net::recvmsg(&self.0, parts, &mut control, flags) {
                // CONNRESET: the other side ended with a message of ours unread (net/unix/af_unix.c,
                // unix_release_sock). It is told once, before the last words that still lie here.
                Err(Errno::INTR | Errno::CONNRESET) => {}
                other => break other?,
            }
        };
        let mut fd = None;
        for message in control.drain() {
            if let RecvAncillaryMessage::ScmRights(fds) = message {
                fd = fds.into_iter().next().or(fd);
            }
        }
        Ok((got.bytes, fd))
    }
}

fn path_in(dir: BorrowedFd<'_>, path: &Path) -> PathBuf {
    Path::new(&format!("/proc/self/fd/{}", dir.as_raw_fd())).join(path)
}

fn new_socket(flags: SocketFlags) -> Result<OwnedFd> {
    rustix::net::socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)
}

impl AsFd for Channel {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn last_words_are_heard_by_who_was_not_listened_to() {
        let (a, b) = Channel::pair().unwrap();
        b.send(b"unread", None, SendFlags::empty()).unwrap();
        a.send(b"last", None, SendFlags::empty()).unwrap();
        drop(a);
        let mut buffer = [0; 16];
        let (n, _) = b.recv(&mut buffer, RecvFlags::DONTWAIT).unwrap();
        assert_eq!(&buffer[..n], b"last");
        assert!(matches!(
            b.recv(&mut buffer, RecvFlags::DONTWAIT),
            Ok((0, None))
        ));
    }

    #[test]
    fn messages_keep_their_borders_and_carry_a_descriptor() {
        let (a, b) = Channel::pair().unwrap();
        let (read, write) = rustix::pipe::pipe().unwrap();
        a.send(b"one", None, SendFlags::empty()).unwrap();
        a.send(b"two", Some(write.as_fd()), SendFlags::empty())
            .unwrap();
        drop((a, write));
        let mut buffer = [0; 16];
        assert!(matches!(
            b.recv(&mut buffer, RecvFlags::empty()),
            Ok((3, None))
        ));
        let (n, fd) = b.recv(&mut buffer, RecvFlags::empty()).unwrap();
        assert_eq!(&buffer[..n], b"two");
        rustix::io::write(fd.unwrap(), b"x").unwrap();
        assert_eq!(rustix::io::read(&read, &mut buffer).unwrap(), 1);
        assert!(matches!(
            b.recv(&mut buffer, RecvFlags::empty()),
            Ok((0, None))
        ));
    }
}
