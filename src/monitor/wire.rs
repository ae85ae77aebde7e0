//! What a front end and a monitor say to each other: one message a packet, a tag byte and its bytes.
//!
//! Bytes for the command's input are only sent after the monitor said it took the last ones, so a
//! command that does not read cannot hold up a signal behind its input.

use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags};
use serde::{Deserialize, Serialize};

use crate::sys::process::Ended;
use crate::sys::socket::Channel;

/// The most bytes of a stream in one message.
pub const CHUNK: usize = 32 << 10;

/// To the monitor.
#[derive(Debug, PartialEq, Eq)]
pub enum ToMonitor {
    /// Bytes for standard input; empty is its end.
    Input(Vec<u8>),
    /// Rows and columns of the terminal.
    Resize(u16, u16),
    /// A signal for the command.
    Signal(i32),
    /// What a key at the sender's terminal stands for: a signal for the command and its process group.
    Key(i32),
    /// Nobody reads standard output (1) or error (2) any more.
    Close(u8),
    /// The sender wants the command's output from now on, and to send input.
    Attach,
    /// The sender leaves; the command goes on.
    Detach,
    /// A person's wish: this signal, and SIGKILL after so many seconds; the command is not started again.
    Stop(i32, u32),
    /// A person's wish: this signal now.
    Kill(i32),
    /// A person's wish: SIGKILL, and nothing of the container is to stay.
    Remove,
    /// Stop in the middle of things, or go on.
    Pause(bool),
    /// The sender wants a pidfd of the command, which comes with the answer.
    Hold,
    /// The sender works on the files of a container that waits to be started again: it goes on waiting until the sender
    /// has gone.
    Rest,
    /// A check is to be run now; the answer comes when it has ended.
    Check,
    /// The specification on disk has changed.
    Reread,
    /// The user namespace of the start has its maps, or will not get them.
    Mapped(bool),
}

/// From the monitor.
#[derive(Debug, PartialEq, Eq)]
pub enum FromMonitor {
    /// The command runs, with this process id on the host.
    Started(i32),
    /// The last input was taken.
    InputTaken,
    /// What was asked for is done.
    Done,
    /// What was asked for cannot be done, and why.
    Refused(String),
    /// The sender is rid of a client that did not take the output as fast as it came.
    Cut,
    /// Bytes from standard output (1) or error (2).
    Output(u8, Vec<u8>),
    /// A line for the user, about something that happened while the command runs.
    Notice(String),
    /// A line for a user who asked to be told more.
    Detail(String),
    /// The command ended, having taken so many bytes of its input; nothing follows.
    Exited(Ended, u64),
    /// It could not be started; nothing follows.
    Failed(StartFailure),
}

/// Why a container did not start.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StartFailure {
    /// Which part, for the caller that has another rung to try.
    pub part: Part,
    /// What happened, one line.
    pub message: String,
    /// The line that fixes it.
    pub hint: Option<String>,
    /// Exit status for `rl`.
    pub status: u8,
}

impl StartFailure {
    /// A system call of the monitor's own that failed while it started the container.
    pub fn failed(call: &'static str) -> impl Fn(Errno) -> StartFailure {
        move |errno| {
            let errno = crate::sys::errno::errno_text(errno.raw_os_error());
            StartFailure::other(format!("monitor: {call}: {errno}"))
        }
    }

    /// A failure of no particular part, without a known fix.
    pub fn other(message: String) -> StartFailure {
        StartFailure {
            part: Part::Other,
            message,
            hint: None,
            status: 125,
        }
    }
}

/// The part of a start that failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Part {
    /// The id maps.
    UserNamespace,
    /// The root file system: another kind may do.
    Rootfs,
    /// The network helper.
    Network,
    /// Anything else.
    Other,
}

impl std::fmt::Display for StartFailure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.message)
    }
}

const INPUT: u8 = b'i';
const RESIZE: u8 = b'r';
const SIGNAL: u8 = b's';
const KEY: u8 = b't';
const CLOSE: u8 = b'c';
const ATTACH: u8 = b'a';
const DETACH: u8 = b'd';
const STOP: u8 = b'e';
const KILL: u8 = b'k';
const REMOVE: u8 = b'x';
const PAUSE: u8 = b'p';
const HOLD: u8 = b'h';
const REST: u8 = b'w';
const CHECK: u8 = b'y';
const REREAD: u8 = b'u';
const MAPPED: u8 = b'm';
const DONE: u8 = b'Y';
const REFUSED: u8 = b'R';
const CUT: u8 = b'Q';
const STARTED: u8 = b'S';
const TAKEN: u8 = b'T';
const OUTPUT: u8 = b'O';
const NOTICE: u8 = b'N';
const DETAIL: u8 = b'D';
const EXITED: u8 = b'X';
const FAILED: u8 = b'F';

/// A message that has a form as bytes.
pub trait Message: Sized {
    /// The bytes of one packet.
    fn encode(&self) -> Vec<u8>;
    /// The inverse; `None` for bytes that are no message.
    fn decode(bytes: &[u8]) -> Option<Self>;
}

impl Message for ToMonitor {
    fn encode(&self) -> Vec<u8> {
        match self {
            ToMonitor::Input(bytes) => tagged(INPUT, bytes),
            ToMonitor::Resize(rows, columns) => tagged(
                RESIZE,
                &[rows.to_le_bytes(), columns.to_le_bytes()].concat(),
            ),
            ToMonitor::Signal(signal) => tagged(SIGNAL, &signal.to_le_bytes()),
            ToMonitor::Key(signal) => tagged(KEY, &signal.to_le_bytes()),
            ToMonitor::Close(stream) => vec![CLOSE, *stream],
            ToMonitor::Attach => vec![ATTACH],
            ToMonitor::Detach => vec![DETACH],
            ToMonitor::Stop(signal, seconds) => tagged(
                STOP,
                &[signal.to_le_bytes(), seconds.to_le_bytes()].concat(),
            ),
            ToMonitor::Kill(signal) => tagged(KILL, &signal.to_le_bytes()),
            ToMonitor::Remove => vec![REMOVE],
            ToMonitor::Pause(on) => vec![PAUSE, u8::from(*on)],
            ToMonitor::Hold => vec![HOLD],
            ToMonitor::Rest => vec![REST],
            ToMonitor::Check => vec![CHECK],
            ToMonitor::Reread => vec![REREAD],
            ToMonitor::Mapped(done) => vec![MAPPED, u8::from(*done)],
        }
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let (&tag, rest) = bytes.split_first()?;
        Some(match tag {
            INPUT => ToMonitor::Input(rest.to_vec()),
            RESIZE => ToMonitor::Resize(
                u16::from_le_bytes(rest.get(..2)?.try_into().ok()?),
                u16::from_le_bytes(rest.get(2..4)?.try_into().ok()?),
            ),
            SIGNAL => ToMonitor::Signal(i32::from_le_bytes(rest.try_into().ok()?)),
            KEY => ToMonitor::Key(i32::from_le_bytes(rest.try_into().ok()?)),
            CLOSE => ToMonitor::Close(*rest.first()?),
            ATTACH => ToMonitor::Attach,
            DETACH => ToMonitor::Detach,
            STOP => ToMonitor::Stop(
                i32::from_le_bytes(rest.get(..4)?.try_into().ok()?),
                u32::from_le_bytes(rest.get(4..8)?.try_into().ok()?),
            ),
            KILL => ToMonitor::Kill(i32::from_le_bytes(rest.try_into().ok()?)),
            REMOVE => ToMonitor::Remove,
            PAUSE => ToMonitor::Pause(*rest.first()? != 0),
            HOLD => ToMonitor::Hold,
            REST => ToMonitor::Rest,
            CHECK => ToMonitor::Check,
            REREAD => ToMonitor::Reread,
            MAPPED => ToMonitor::Mapped(*rest.first()? != 0),
            _ => return None,
        })
    }
}

impl Message for FromMonitor {
    fn encode(&self) -> Vec<u8> {
        match self {
            FromMonitor::Started(pid) => tagged(STARTED, &pid.to_le_bytes()),
            FromMonitor::InputTaken => vec![TAKEN],
            FromMonitor::Done => vec![DONE],
            FromMonitor::Refused(why) => tagged(REFUSED, why.as_bytes()),
            FromMonitor::Cut => vec![CUT],
            FromMonitor::Output(stream, bytes) => {
                let mut out = Vec::with_capacity(bytes.len() + 2);
                out.extend([OUTPUT, *stream]);
                out.extend_from_slice(bytes);
                out
            }
            FromMonitor::Notice(text) => tagged(NOTICE, text.as_bytes()),
            FromMonitor::Detail(text) => tagged(DETAIL, text.as_bytes()),
            FromMonitor::Exited(ended, taken) => tagged(
                EXITED,
                &postcard::to_stdvec(&(ended, taken)).unwrap_or_default(),
            ),
            FromMonitor::Failed(failure) => {
                tagged(FAILED, &postcard::to_stdvec(failure).unwrap_or_default())
            }
        }
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let (&tag, rest) = bytes.split_first()?;
        Some(match tag {
            STARTED => FromMonitor::Started(i32::from_le_bytes(rest.try_into().ok()?)),
            TAKEN => FromMonitor::InputTaken,
            DONE => FromMonitor::Done,
            REFUSED => FromMonitor::Refused(String::from_utf8(rest.to_vec()).ok()?),
            CUT => FromMonitor::Cut,
            OUTPUT => FromMonitor::Output(*rest.first()?, rest.get(1..)?.to_vec()),
            DETAIL => FromMonitor::Detail(String::from_utf8(rest.to_vec()).ok()?),
            NOTICE => FromMonitor::Notice(String::from_utf8(rest.to_vec()).ok()?),
            EXITED => {
                let (ended, taken) = postcard::from_bytes(rest).ok()?;
                FromMonitor::Exited(ended, taken)
            }
            FAILED => FromMonitor::Failed(postcard::from_bytes(rest).ok()?),
            _ => return None,
        })
    }
}

fn tagged(tag: u8, bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(bytes.len() + 1);
    out.push(tag);
    out.extend_from_slice(bytes);
    out
}

/// Sends a message, waiting for room.
///
/// # Errors
/// `EPIPE` when the other side is gone.
pub fn send(channel: &Channel, message: &impl Message) -> Result<(), Errno> {
    channel.send(&message.encode(), None, SendFlags::empty())
}

/// Receives a message if there is one: `Ok(None)` at the end of file.
///
/// # Errors
/// `EAGAIN` when there is none yet; `EBADMSG` for bytes that are no message.
pub fn receive<M: Message>(channel: &Channel) -> Result<Option<M>, Errno> {
    let Some((bytes, _)) = channel.receive(RecvFlags::DONTWAIT)? else {
        return Ok(None);
    };
    M::decode(&bytes).map(Some).ok_or(Errno::BADMSG)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_round_trip() {
        for m in [
            ToMonitor::Input(vec![]),
            ToMonitor::Input(b"abc".to_vec()),
            ToMonitor::Resize(24, 300),
            ToMonitor::Signal(15),
            ToMonitor::Key(2),
            ToMonitor::Close(1),
            ToMonitor::Attach,
            ToMonitor::Detach,
            ToMonitor::Stop(15, 10),
            ToMonitor::Kill(9),
            ToMonitor::Remove,
            ToMonitor::Pause(true),
            ToMonitor::Hold,
            ToMonitor::Rest,
            ToMonitor::Check,
            ToMonitor::Reread,
            ToMonitor::Mapped(false),
        ] {
            assert_eq!(ToMonitor::decode(&m.encode()), Some(m));
        }
        let failure = StartFailure {
            part: Part::Rootfs,
            message: "no".into(),
            hint: Some("yes".into()),
            status: 125,
        };
        for m in [
            FromMonitor::Started(77),
            FromMonitor::InputTaken,
            FromMonitor::Done,
            FromMonitor::Refused("why".into()),
            FromMonitor::Cut,
            FromMonitor::Output(2, b"x".to_vec()),
            FromMonitor::Notice("gone".into()),
            FromMonitor::Detail("without".into()),
            FromMonitor::Exited(Ended::Signaled(9), 1 << 40),
            FromMonitor::Failed(failure),
        ] {
            assert_eq!(FromMonitor::decode(&m.encode()), Some(m));
        }
        assert_eq!(ToMonitor::decode(b""), None);
        assert_eq!(ToMonitor::decode(b"s1"), None);
    }
}
