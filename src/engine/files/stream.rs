//! What `rl cp` reads or writes as it is, instead of a file that has a name: a descriptor of ours, such as `/dev/stdout` or what
//! a shell makes of `<(…)`, a FIFO, and a device that takes characters.

use std::fs::{File, Metadata};
use std::io::copy;
use std::os::fd::AsFd as _;
use std::os::unix::fs::FileTypeExt as _;

use rustix::fs::{FileType, Gid, Mode, OFlags, Uid};
use rustix::io::Errno;

use super::super::Error;
use super::place::Place;
use crate::sys::fs::{CallError, remove_tree};
use crate::sys::patient::Patient;

/// What is to be read, if this word of the host's names a descriptor of ours. A FIFO or device that has a name of its own
/// is copied as what it is.
///
/// # Errors
/// It is not open.
pub fn source(word: &str) -> Result<Option<File>, Error> {
    match number(word) {
        Some(number) => descriptor(number, word, File::options().read(true)).map(Some),
        None => Ok(None),
    }
}

/// What is to be written to, if this word of the host's names anything of the kind.
///
/// # Errors
/// It cannot be opened.
pub fn target(word: &str) -> Result<Option<File>, Error> {
    let mut options = File::options();
    options.write(true);
    if let Some(number) = number(word) {
        return descriptor(number, word, &options).map(Some);
    }
    let takes = |meta: Metadata| {
        let kind = meta.file_type();
        kind.is_fifo() || kind.is_char_device()
    };
    match std::fs::metadata(word).is_ok_and(takes) {
        true => opened(word, &options).map(Some),
        false => Ok(None),
    }
}

/// The number of a descriptor that a path names (proc_pid_fd(5)).
fn number(word: &str) -> Option<u32> {
    let own = |word: &str| {
        let dirs = ["/dev/fd/", "/proc/self/fd/"].into_iter();
        let mut numbers = dirs.filter_map(|dir| word.strip_prefix(dir)?.parse().ok());
        numbers.next()
    };
    match word {
        "/dev/stdin" => Some(0),
        "/dev/stdout" => Some(1),
        "/dev/stderr" => Some(2),
        word => own(word),
    }
}

/// The first three as they are; opened anew, a file would be written to from its start.
fn descriptor(number: u32, word: &str, options: &std::fs::OpenOptions) -> Result<File, Error> {
    let fd = match number {
        0 => rustix::stdio::stdin(),
        1 => rustix::stdio::stdout(),
        2 => rustix::stdio::stderr(),
        _ => return opened(word, options),
    };
    let copy = rustix::io::dup(fd).map_err(CallError::of(|| format!("dup({number})")))?;
    Ok(copy.into())
}

fn opened(word: &str, options: &std::fs::OpenOptions) -> Result<File, Error> {
    let failed = CallError::of(|| format!("open(`{word}`)"));
    options
        .open(word)
        .map_err(|e| failed(crate::sys::errno::to_errno(e)).into())
}

/// Writes the content of a file to `out`.
///
/// # Errors
/// It is no regular file, or cannot be read; `out` cannot be written.
pub fn write(from: &Place, mut out: File) -> Result<(), Error> {
    if from.is_directory() {
        return Err(from.fail(Errno::ISDIR));
    }
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = rustix::fs::openat(&from.dir, &*from.name, flags, Mode::empty())
        .map_err(|errno| from.fail(errno))?;
    let stat = rustix::fs::fstat(&file).map_err(|errno| from.fail(errno))?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
        return Err(from.fail(Errno::INVAL));
    }
    carry(&mut File::from(file), &mut out, &from.word)
}

/// Makes a file of what comes from `input`, which the host knows as `word`; it belongs to root, and replaces what is no
/// directory.
///
/// # Errors
/// `input` cannot be read; the file cannot be made.
pub fn read(mut input: File, word: &str, to: &Place) -> Result<(), Error> {
    let failed = |errno| to.fail(errno);
    let (dir, name) = match to.is_directory() {
        true => (
            to.open()?,
            word.rsplit('/').next().unwrap_or(word).as_bytes(),
        ),
        false if to.word.ends_with('/') => {
            let missing = to.stat.map_or(Errno::NOENT, |_| Errno::NOTDIR);
            return Err(to.fail(missing));
        }
        false => (
            rustix::io::dup(&to.dir).map_err(failed)?,
            to.name.to_bytes(),
        ),
    };
    remove_tree(dir.as_fd(), name)?;
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mode = Mode::from_raw_mode(0o644);
    let file = rustix::fs::openat(&dir, name, flags, mode).map_err(failed)?;
    rustix::fs::fchown(&file, Some(Uid::ROOT), Some(Gid::ROOT)).map_err(failed)?;
    rustix::fs::fchmod(&file, mode).map_err(failed)?;
    carry(&mut input, &mut File::from(file), &to.word)
}

fn carry(from: &mut File, to: &mut File, word: &str) -> Result<(), Error> {
    let failed = CallError::of(|| format!("copy(`{word}`)"));
    copy(&mut Patient(from), &mut Patient(to))
        .map(drop)
        .map_err(|e| failed(crate::sys::errno::to_errno(e)).into())
}
