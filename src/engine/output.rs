//! Where an archive goes, and who reads what is printed bit by bit.

use std::fs::File;
use std::io::BufWriter;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::Error;
use crate::sys::patient::Patient;

const BUFFER: usize = 256 << 10;

/// A file or standard output, as an archive is written to it.
pub type Output = BufWriter<Patient<File>>;

fn buffered(file: File) -> Output {
    BufWriter::with_capacity(BUFFER, Patient(file))
}

/// Runs `write` on a file beside `path`, which is then renamed: what is interrupted leaves what was there. A pipe or
/// device is written as it is.
///
/// # Errors
/// The file cannot be made or renamed, and those of `write`.
pub fn to_file<E: From<Error>>(
    path: &Path,
    write: impl FnOnce(Output) -> Result<(), E>,
) -> Result<(), E> {
    let failed = |source| {
        E::from(Error::Write {
            path: path.to_owned(),
            source,
        })
    };
    if path.exists() && !path.is_file() {
        let file = File::options().write(true).open(path).map_err(failed)?;
        return write(buffered(file));
    }
    let mut part = path.as_os_str().to_owned();
    part.push(".part");
    let part = PathBuf::from(part);
    let file = File::create(&part).map_err(failed)?;
    let result = write(buffered(file)).and_then(|()| std::fs::rename(&part, path).map_err(failed));
    if result.is_err() {
        let _ = std::fs::remove_file(&part);
    }
    result
}

/// Standard output, not as [`std::io::Stdout`], which would look for line ends.
///
/// # Errors
/// It is closed.
pub fn stdout() -> Result<Output, Error> {
    let out = rustix::io::dup(rustix::stdio::stdout()).map_err(|errno| Error::Write {
        path: "standard output".into(),
        source: errno.into(),
    })?;
    Ok(buffered(out.into()))
}

/// Waits until `watch`, of inotify(7), has something to tell, or as long as `limit`. False when nobody reads standard
/// output any more: a write would find that out, but there may be nothing to write for long.
pub fn wait(watch: Option<&OwnedFd>, limit: Duration) -> bool {
    let limit = Timespec::try_from(limit).ok();
    let output = rustix::stdio::stdout();
    // Errors are told unasked (poll(2)).
    let mut fds = vec![PollFd::from_borrowed_fd(output, PollFlags::empty())];
    fds.extend(watch.map(|fd| PollFd::new(fd, PollFlags::IN)));
    let _ = poll(&mut fds, limit.as_ref());
    let mut buffer = [0u8; 4096];
    while watch.is_some_and(|fd| rustix::io::read(fd, &mut buffer).is_ok_and(|n| n > 0)) {}
    !fds[0].revents().intersects(PollFlags::ERR | PollFlags::HUP)
}
