//! The command's standard streams as the monitor holds them: three pipes or the master of its
//! terminal, none of which ever blocks the monitor.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::buffer::spare_capacity;
use rustix::io::Errno;
use rustix::pipe::PipeFlags;

use super::wire::StartFailure;
use crate::runtime::Stdio;
use crate::sys::tty;

/// Our ends.
#[derive(Debug, Default)]
pub(super) struct Streams {
    /// Where the command's input is written.
    input: Option<OwnedFd>,
    /// Bytes taken from the client that the command has not read yet.
    pending: Vec<u8>,
    /// End the input when `pending` is written.
    end: bool,
    /// How many bytes came from the client.
    given: u64,
    /// The command's end of its input, where it counts what the command leaves in it.
    left: Option<OwnedFd>,
    /// Standard output and error; with a terminal the first is the master.
    output: [Option<OwnedFd>; 2],
    terminal: bool,
}

/// What reading an output gave.
pub(super) enum Read {
    /// Nothing now.
    Nothing,
    /// These bytes.
    Bytes(Vec<u8>),
    /// Closed by every writer.
    End,
}

/// What the command's input is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum Input {
    /// What clients send.
    Clients,
    /// The same, and it is counted exactly how much of it the command takes.
    Counted,
    /// Nothing: `/dev/null`.
    Nothing,
}

impl Streams {
    /// Ours, and the command's.
    pub fn new(tty: bool, input: Input) -> Result<(Streams, Stdio), StartFailure> {
        if tty {
            Streams::terminal()
        } else {
            Streams::pipes(input)
        }
        .map_err(StartFailure::failed("pipe2()"))
    }

    /// Pipes for a command without a terminal. Where input is counted, whoever writes it does not learn that nobody
    /// reads it any more.
    fn pipes(kind: Input) -> Result<(Streams, Stdio), Errno> {
        let pipe = || rustix::pipe::pipe_with(PipeFlags::CLOEXEC);
        let (stdin, input) = pipe()?;
        let (out, stdout) = pipe()?;
        let (err, stderr) = pipe()?;
        for ours in [&input, &out, &err] {
            rustix::io::ioctl_fionbio(ours, true)?;
        }
        let measure = kind == Input::Counted;
        let left = measure.then(|| stdin.try_clone()).transpose().map_err(io)?;
        let (stdin, input) = match kind {
            Input::Nothing => (nothing()?, None),
            _ => (stdin, Some(input)),
        };
        let streams = Streams {
            input,
            left,
            output: [Some(out), Some(err)],
            ..Streams::default()
        };
        Ok((
            streams,
            Stdio {
                stdin,
                stdout,
                stderr,
            },
        ))
    }

    /// Nothing yet: the container makes the terminal and sends its master.
    fn terminal() -> Result<(Streams, Stdio), Errno> {
        let null = nothing()?;
        let stdio = Stdio {
            stdin: null.try_clone().map_err(io)?,
            stdout: null.try_clone().map_err(io)?,
            stderr: null,
        };
        Ok((
            Streams {
                terminal: true,
                ..Streams::default()
            },
            stdio,
        ))
    }

    /// Takes the terminal's master.
    pub fn set_master(&mut self, master: OwnedFd) -> Result<(), Errno> {
        rustix::io::ioctl_fionbio(&master, true)?;
        self.input = Some(master.try_clone().map_err(io)?);
        self.output[0] = Some(master);
        Ok(())
    }

    /// The terminal's master, if there is one.
    pub fn master(&self) -> Option<BorrowedFd<'_>> {
        self.output[0]
            .as_ref()
            .filter(|_| self.terminal)
            .map(AsFd::as_fd)
    }

    /// Changes the terminal's size.
    pub fn resize(&self, size: (u16, u16)) {
        if let Some(master) = self.master() {
            let _ = tty::set_size(master, size);
        }
    }

    /// An output that is still open: `0` standard output, `1` error.
    pub fn output(&self, which: usize) -> Option<BorrowedFd<'_>> {
        self.output[which].as_ref().map(AsFd::as_fd)
    }

    /// Reads what there is, `most` bytes of it.
    pub fn read(&mut self, which: usize, most: usize) -> Read {
        let Some(fd) = &self.output[which] else {
            return Read::End;
        };
        let mut bytes = Vec::with_capacity(most);
        match rustix::io::read(fd, spare_capacity(&mut bytes)) {
            Ok(0) => {}
            Ok(_) => return Read::Bytes(bytes),
            Err(Errno::AGAIN | Errno::INTR) => return Read::Nothing,
            // A master whose slaves are all closed answers EIO.
            Err(_) => {}
        }
        self.close(which);
        Read::End
    }

    /// Closes an output; its writers get SIGPIPE.
    pub fn close(&mut self, which: usize) {
        self.output[which] = None;
    }

    /// Takes bytes for the command; empty ends its input (with a terminal there is no end but the
    /// one the user types).
    pub fn feed(&mut self, bytes: Vec<u8>) {
        if bytes.is_empty() {
            self.end = !self.terminal;
        } else {
            self.given += bytes.len() as u64;
            self.pending.extend_from_slice(&bytes);
        }
        self.flush();
    }

    /// The input, when there is something to write to it.
    pub fn wants_to_write(&self) -> Option<BorrowedFd<'_>> {
        self.input
            .as_ref()
            .filter(|_| !self.pending.is_empty())
            .map(AsFd::as_fd)
    }

    /// Whether every byte taken was handed to the command.
    pub fn drained(&self) -> bool {
        self.pending.is_empty()
    }

    /// How many bytes of its input the command took.
    pub fn taken(&self) -> u64 {
        let in_pipe = self.left.as_ref().map(rustix::io::ioctl_fionread);
        let left = in_pipe.and_then(Result::ok).unwrap_or(0) + self.pending.len() as u64;
        self.given.saturating_sub(left)
    }

    /// Writes what the command will take now.
    pub fn flush(&mut self) {
        while let (Some(input), false) = (&self.input, self.pending.is_empty()) {
            match rustix::io::write(input, &self.pending) {
                Ok(n) => drop(self.pending.drain(..n)),
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => return,
                Err(_) => {
                    // Nobody reads any more: as for a plain program, the rest is not wanted.
                    self.input = None;
                    self.pending.clear();
                }
            }
        }
        // What is typed before there is a terminal waits for it.
        let later = self.terminal && self.output[0].is_none();
        if self.input.is_none() && !later {
            self.pending.clear();
        }
        if self.end {
            self.input = None;
        }
    }
}

/// What the monitor itself reads: `/dev/null`, since before it could be in the container.
fn nothing() -> Result<OwnedFd, Errno> {
    rustix::io::fcntl_dupfd_cloexec(rustix::stdio::stdin(), 3)
}

fn io(error: std::io::Error) -> Errno {
    crate::sys::errno::to_errno(error)
}
