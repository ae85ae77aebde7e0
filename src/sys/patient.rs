//! Reading and writing what somebody else may have set to not block.

use std::io::{ErrorKind, Read, Result, Write};
use std::os::fd::AsFd;

use rustix::event::{PollFd, PollFlags, poll};

/// A stream that waits where it would not have to. O_NONBLOCK is of the open file, which standard input and output share
/// with whoever started this program (open(2)): some runners of jobs leave it set, and then a pipe that is full, or empty
/// for now, looks like an error.
#[derive(Debug)]
pub struct Patient<T>(pub T);

impl<T: AsFd> Patient<T> {
    fn until_ready<R>(
        &mut self,
        what: PollFlags,
        mut work: impl FnMut(&mut T) -> Result<R>,
    ) -> Result<R> {
        loop {
            match work(&mut self.0) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    // Interrupted, it is tried once more than needed.
                    let _ = poll(&mut [PollFd::new(&self.0, what)], None);
                }
                done => return done,
            }
        }
    }
}

impl<T: Read + AsFd> Read for Patient<T> {
    fn read(&mut self, buffer: &mut [u8]) -> Result<usize> {
        self.until_ready(PollFlags::IN, |stream| stream.read(buffer))
    }
}

impl<T: Write + AsFd> Write for Patient<T> {
    fn write(&mut self, bytes: &[u8]) -> Result<usize> {
        self.until_ready(PollFlags::OUT, |stream| stream.write(bytes))
    }

    fn flush(&mut self) -> Result<()> {
        self.until_ready(PollFlags::OUT, T::flush)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_lost_where_nothing_blocks() {
        let (reader, writer) = std::io::pipe().unwrap();
        for fd in [reader.as_fd(), writer.as_fd()] {
            rustix::io::ioctl_fionbio(fd, true).unwrap();
        }
        let (mut reader, mut writer) = (Patient(reader), Patient(writer));
        let sent: Vec<u8> = (0..300_000u32).map(|n| n as u8).collect();
        let all = sent.clone();
        let sender = std::thread::spawn(move || writer.write_all(&all));
        let mut came = Vec::new();
        reader.read_to_end(&mut came).unwrap();
        sender.join().unwrap().unwrap();
        assert!(came == sent);
    }
}
