//! Frames between a container's interface and passt: a process of its own with two descriptors, the packet socket
//! and passt's stream. It ends when either is gone, and with the monitor.
//!
//! A frame on the stream is its length in 32 bits, big endian, and its bytes (passt(1), `--socket`; qemu's stream
//! netdev). What the packet socket does not take is lost, as on any wire. What the stream does not take is kept, and
//! nothing more is taken from the packet socket until it does: that one's own queue is bounded.
//!
//! Nothing here waits in a write. passt does, for the rest of a frame of which a part was taken: were both to wait, each
//! for the other to read, they would for ever.
//!
//! What it reads is hostile. It can do nothing but wait, receive and send on the two, and end: the kernel kills it at any
//! other system call.

use std::ops::Range;
use std::os::fd::OwnedFd;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, recv, send};

use super::Error;
use crate::sys::caps;
use crate::sys::process::{self, Child, Fork, Namespaces, exit_now};
use crate::sys::seccomp::{self, Call};

/// The longest frame: an Ethernet header and the interface's MTU fit.
const FRAME: usize = 65536;
/// What is taken from one side before the other is served.
const BATCH: usize = 512 << 10;

/// The process, once there is something to carry. Dropping it ends it.
#[derive(Debug)]
pub struct Pump {
    stream: Option<OwnedFd>,
    /// The container's hardware address.
    mac: [u8; 6],
    child: Option<Child>,
}

impl Pump {
    pub(super) fn new(stream: OwnedFd, mac: [u8; 6]) -> Self {
        let (stream, child) = (Some(stream), None);
        Pump { stream, mac, child }
    }

    /// Starts it. The caller is single-threaded.
    pub(super) fn start(&mut self, socket: OwnedFd) -> Result<(), Error> {
        let Some(stream) = self.stream.take() else {
            return Ok(());
        };
        match process::fork(Namespaces::empty()).map_err(|e| Error::Pump(e.into()))? {
            Fork::Parent(child) => self.child = Some(child),
            Fork::Child => {
                if let Ok((socket, stream)) = shed(&socket, &stream) {
                    carry_alone(&socket, &stream, self.mac);
                }
                exit_now(0)
            }
        }
        Ok(())
    }
}

impl Drop for Pump {
    fn drop(&mut self) {
        if let Some(child) = self.child.take() {
            let _ = child.signal(libc::SIGKILL);
            let _ = child.wait();
        }
    }
}

/// Sheds all but the two descriptors, every capability and every privilege to come. Returns the two.
fn shed(socket: &OwnedFd, stream: &OwnedFd) -> Result<(OwnedFd, OwnedFd), Errno> {
    use std::os::fd::AsFd as _;
    let kill = Some(rustix::process::Signal::KILL);
    rustix::process::set_parent_process_death_signal(kill)?;
    rustix::thread::set_name(c"wire")?;
    process::reset_signals();
    process::place_fds(&[socket.as_fd(), stream.as_fd()])?;
    process::close_from(5);
    caps::set_no_new_privs()?;
    caps::set(caps::Sets::default())?;
    Ok((process::inherited_fd(3)?, process::inherited_fd(4)?))
}

/// All that [`carry`] calls; restart_syscall(2) is what becomes of a poll(2) that is stopped and continued.
const CALLS: &[Call] = &[
    #[cfg(target_arch = "x86_64")]
    Call::Any(libc::SYS_poll),
    Call::Any(libc::SYS_ppoll),
    Call::Any(libc::SYS_restart_syscall),
    Call::Any(libc::SYS_recvfrom),
    Call::Any(libc::SYS_sendto),
    Call::Any(libc::SYS_exit_group),
];

/// Carries, with no other system call left, and ends: nothing can be freed or closed any more.
fn carry_alone(socket: &OwnedFd, stream: &OwnedFd, mac: [u8; 6]) -> ! {
    let mut out = Outwards {
        buffer: vec![0; BATCH + FRAME + 4],
        waiting: 0..0,
    };
    let mut back = vec![0; BATCH + FRAME + 4];
    out.keep(&announcement(mac));
    if seccomp::install(&seccomp::only(CALLS), seccomp::Flags::empty()).is_ok() {
        let _ = carry(socket, stream, &mut out, &mut back);
    }
    exit_now(0)
}

fn carry(
    socket: &OwnedFd,
    stream: &OwnedFd,
    out: &mut Outwards,
    back: &mut [u8],
) -> Result<(), Errno> {
    let mut held = 0;
    loop {
        let mut both = [
            PollFd::new(stream, PollFlags::IN),
            PollFd::new(socket, PollFlags::IN),
        ];
        let mut full = [PollFd::new(stream, PollFlags::IN | PollFlags::OUT)];
        // The packet socket is left out altogether: an error on it would be told again and again.
        let fds = if out.waiting.is_empty() {
            &mut both[..]
        } else {
            &mut full[..]
        };
        match poll(fds, None) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(errno) => return Err(errno),
        }
        let to = fds[0].revents();
        let from = fds.get(1).is_some_and(|fd| !fd.revents().is_empty());
        if from {
            out.fill(socket)?;
        }
        out.flush(stream)?;
        if to.intersects(PollFlags::IN | PollFlags::HUP | PollFlags::ERR) {
            held = inwards(socket, stream, back, held)?;
        }
    }
}

/// The container's hardware address, in an ARP request of no consequence (RFC 826; sender 0.0.0.0 as in RFC 5227):
/// until passt has seen it, passt sends to everybody, and TCP hears nothing of that.
fn announcement(mac: [u8; 6]) -> Vec<u8> {
    let mut frame = vec![0xff; 6];
    frame.extend(mac);
    frame.extend([8, 6, 0, 1, 8, 0, 6, 4, 0, 1]);
    frame.extend(mac);
    frame.extend([0; 10]);
    frame.extend([10, 0, 2, 2]);
    frame.resize(60, 0);
    let mut message = (frame.len() as u32).to_be_bytes().to_vec();
    message.extend(frame);
    message
}

/// Frames on their way to passt.
struct Outwards {
    buffer: Vec<u8>,
    /// The part of the buffer that the stream has not taken yet.
    waiting: Range<usize>,
}

impl Outwards {
    /// Keeps these bytes, where nothing waits.
    fn keep(&mut self, bytes: &[u8]) {
        self.buffer[..bytes.len()].copy_from_slice(bytes);
        self.waiting = 0..bytes.len();
    }

    /// Takes what the packet socket has, where nothing waits.
    fn fill(&mut self, socket: &OwnedFd) -> Result<(), Errno> {
        let mut filled = 0;
        while filled < BATCH {
            let space = &mut self.buffer[filled + 4..filled + 4 + FRAME];
            match recv(socket, space, RecvFlags::DONTWAIT | RecvFlags::TRUNC) {
                // Longer than any frame of the interface can be.
                Ok((_, n)) if n > FRAME => {}
                Ok((n, _)) => {
                    self.buffer[filled..filled + 4].copy_from_slice(&(n as u32).to_be_bytes());
                    filled += 4 + n;
                }
                Err(Errno::AGAIN) => break,
                // The interface was set down: root inside may do so, and set it up again.
                Err(Errno::INTR | Errno::NETDOWN) => {}
                Err(errno) => return Err(errno),
            }
        }
        self.waiting = 0..filled;
        Ok(())
    }

    /// Gives the stream what it takes now.
    fn flush(&mut self, stream: &OwnedFd) -> Result<(), Errno> {
        while !self.waiting.is_empty() {
            let bytes = &self.buffer[self.waiting.clone()];
            match send(stream, bytes, SendFlags::NOSIGNAL | SendFlags::DONTWAIT) {
                Ok(n) => self.waiting.start += n,
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => break,
                Err(errno) => return Err(errno),
            }
        }
        Ok(())
    }
}

/// Takes what the stream has; `held` bytes of `buffer` are the beginning of a frame. Returns as many again.
fn inwards(
    socket: &OwnedFd,
    stream: &OwnedFd,
    buffer: &mut [u8],
    held: usize,
) -> Result<usize, Errno> {
    let filled = match recv(stream, &mut buffer[held..], RecvFlags::DONTWAIT) {
        Ok((0, _)) => return Err(Errno::PIPE),
        Ok((n, _)) => held + n,
        Err(Errno::AGAIN | Errno::INTR) => return Ok(held),
        Err(errno) => return Err(errno),
    };
    let mut at = 0;
    while let Some(frame) = frame(&buffer[at..filled])? {
        // Any other refusal loses this one frame.
        if let Err(Errno::NXIO) = send(socket, frame, SendFlags::DONTWAIT) {
            return Err(Errno::NXIO);
        }
        at += 4 + frame.len();
    }
    buffer.copy_within(at..filled, 0);
    Ok(filled - at)
}

/// The first frame of these bytes, if it is complete.
fn frame(bytes: &[u8]) -> Result<Option<&[u8]>, Errno> {
    let Some((length, rest)) = bytes.split_first_chunk::<4>() else {
        return Ok(None);
    };
    let length = u32::from_be_bytes(*length) as usize;
    if length > FRAME {
        return Err(Errno::BADMSG);
    }
    Ok(rest.get(..length))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_cut_at_their_length() {
        assert_eq!(frame(&[0, 0, 0]), Ok(None));
        assert_eq!(frame(&[0, 0, 0, 2, 7]), Ok(None));
        assert_eq!(frame(&[0, 0, 0, 2, 7, 8, 9]), Ok(Some(&[7, 8][..])));
        assert_eq!(frame(&[0, 1, 0, 1]), Err(Errno::BADMSG));
    }
}
