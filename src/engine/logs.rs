//! `rl logs`: what containers printed, from the files that their monitors write ([`crate::monitor::log`]).
//!
//! A follower reads the files and never talks to the monitor, so however slow it is, nobody waits for it. It
//! holds the file it reads, so it comes to that one's end though the file may be gone by then.

mod tail;

use std::collections::VecDeque;
use std::fs::File;
use std::io::{BufRead as _, BufReader, Seek as _, SeekFrom, Write};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::inotify;

use super::{Context, Error, lifecycle, output, units};
use crate::model::spec::LogDriver;
use crate::model::time;
use crate::monitor::log::{self, Record};
use crate::state::Container;
use crate::sys::patient::Patient;

/// How long nothing is heard before a follower looks whether the container still lives.
const LOOK: Duration = Duration::from_millis(200);

/// What is asked for.
#[derive(Clone, Debug, Default)]
pub struct Logs {
    /// Go on until the container ends.
    pub follow: bool,
    /// A time before each line.
    pub timestamps: bool,
    /// What `--log-opt` asked for beside each line.
    pub details: bool,
    /// The last lines only.
    pub tail: Option<usize>,
    /// What was printed at this time (RFC 3339, UTC) or later.
    pub since: Option<String>,
    /// What was printed before this time.
    pub until: Option<String>,
}

/// `--tail`.
///
/// # Errors
/// Neither a number nor `all`.
pub fn tail(text: &str) -> Result<Option<usize>, Error> {
    match text {
        "all" | "-1" => Ok(None),
        text => match text.parse() {
            Ok(number) => Ok(Some(number)),
            Err(_) => Err(Error::Units(units::Error {
                option: "--tail",
                value: text.to_owned(),
                reason: "expected a number of lines, or `all`".into(),
            })),
        },
    }
}

/// A point in time as RFC 3339 in UTC, without its `Z`: given as such or the beginning of such, by the local clock where it
/// names no zone, as seconds since the epoch, or as a span before now.
///
/// # Errors
/// None of these.
pub fn time(option: &'static str, text: &str) -> Result<String, units::Error> {
    if let Some((seconds, fraction)) = time::parse_date(text, crate::sys::clock::east_of_utc) {
        return Ok(time::to_rfc3339(seconds).replace('Z', fraction));
    }
    // As docker has it: `SECONDS[.NANOSECONDS]`.
    let (whole, fraction) = match text.split_once('.') {
        Some((whole, digits)) if digits.len() <= 9 => (whole, digits),
        _ => (text, ""),
    };
    let digits = fraction.bytes().all(|b| b.is_ascii_digit());
    let seconds = match whole.parse::<i64>() {
        Ok(seconds) if !fraction.is_empty() && digits => {
            return Ok(time::to_rfc3339(seconds).replace('Z', &format!(".{fraction}")));
        }
        Ok(seconds) if whole.len() == text.len() => seconds,
        _ => time::now() - units::duration(option, text)?.div_ceil(1000) as i64,
    };
    Ok(time::to_rfc3339(seconds).trim_end_matches('Z').to_owned())
}

/// Writes the logs of containers to standard output and error. Of several, those that have none to show are told, and
/// the others shown. Returns the exit status.
///
/// # Errors
/// No such container, or it keeps no log here, where it is the only one; a log cannot be read.
pub fn logs(context: &Context<'_>, words: &[String], options: &Logs) -> Result<u8, Error> {
    if let [word] = words {
        let container = lifecycle::find(context, word)?;
        if container.spec.log.driver == LogDriver::Journald && !options.details {
            return journal(&container, options).map(|()| 0);
        }
    }
    let mut status = 0;
    let mut readers = Vec::new();
    for word in words {
        match kept(context, word, options) {
            Ok(container) => readers.push(Reader::new(container, words.len() > 1)),
            Err(error) if words.len() > 1 => status = context.ui.fail(&error).min(1),
            Err(error) => return Err(error),
        }
    }
    show(context, readers, options).map(|()| status)
}

/// The container `word`, which keeps its log in files.
fn kept(context: &Context<'_>, word: &str, options: &Logs) -> Result<Container, Error> {
    let container = lifecycle::find(context, word)?;
    let why = match container.spec.log.driver {
        LogDriver::JsonFile => return Ok(container),
        LogDriver::Journald if options.details => {
            "has its log in the journal: `journalctl --output verbose` shows details"
        }
        LogDriver::Journald => "has its log in the journal, which is shown by itself",
        LogDriver::None | LogDriver::Passthrough => "keeps no log (`--log-driver`)",
    };
    Err(Error::Unfit {
        name: word.to_owned(),
        why,
    })
}

/// What is in the logs, and with `--follow` what comes into them.
fn show(context: &Context<'_>, mut readers: Vec<Reader>, options: &Logs) -> Result<(), Error> {
    let watch = options.follow.then(|| Watch::new(&readers));
    for reader in &mut readers {
        if !reader.show_kept(options)? {
            return Ok(());
        }
    }
    let Some(watch) = watch else { return Ok(()) };
    while !readers.is_empty() {
        // Looked at before it is read on: what it printed until its end is there then.
        let alive: Vec<bool> = readers.iter().map(|r| r.container.is_held()).collect();
        for reader in &mut readers {
            if !reader.show_new(options)? {
                return Ok(());
            }
            if let Some(missed) = reader.missed() {
                context.ui.notice(&missed);
            }
        }
        let mut alive = alive.into_iter();
        readers.retain(|_| alive.next() == Some(true));
        if !readers.is_empty() && !output::wait(watch.0.as_ref(), LOOK) {
            return Ok(());
        }
    }
    Ok(())
}

/// Has journalctl(1) show the log of a container that is kept there.
fn journal(container: &Container, options: &Logs) -> Result<(), Error> {
    let program = "journalctl";
    let failed = |source| Error::Execute {
        program: program.into(),
        source,
    };
    // `2026-01-31T10:00:00` as systemd.time(7) has it.
    let time = |text: &String| {
        let whole = text.split('.').next().unwrap_or_default();
        format!("{} UTC", whole.replace('T', " "))
    };
    let form = if options.timestamps {
        "short-iso-precise"
    } else {
        "cat"
    };
    let mut command = std::process::Command::new(program);
    command.args(["--quiet", "--no-pager", "--output", form]);
    command.arg(format!("CONTAINER_ID_FULL={}", container.spec.id));
    let lines = options.tail.map_or("all".to_owned(), |n| n.to_string());
    command.args(["--lines", &lines]);
    for (option, value) in [("--since", &options.since), ("--until", &options.until)] {
        if let Some(text) = value {
            command.arg(option).arg(time(text));
        }
    }
    if options.follow {
        command.arg("--follow");
    }
    crate::sys::process::die_with_parent(&mut command);
    let mut child = command.spawn().map_err(failed)?;
    while options.follow && container.is_held() {
        if child.try_wait().map_err(failed)?.is_some() {
            return Ok(());
        }
        std::thread::sleep(LOOK);
    }
    if options.follow {
        // What was printed last is on its way.
        std::thread::sleep(LOOK * 5);
        let _ = child.kill();
    }
    child.wait().map_err(failed)?;
    Ok(())
}

/// Wakes when something is written.
struct Watch(Option<std::os::fd::OwnedFd>);

impl Watch {
    fn new(readers: &[Reader]) -> Watch {
        let flags = inotify::CreateFlags::CLOEXEC | inotify::CreateFlags::NONBLOCK;
        let fd = inotify::init(flags).ok();
        for reader in readers {
            let dir = reader.container.dir();
            for path in [dir.to_owned(), dir.join(log::DIRECTORY)] {
                if let Some(fd) = &fd {
                    let events = inotify::WatchFlags::MODIFY
                        | inotify::WatchFlags::CREATE
                        | inotify::WatchFlags::DELETE_SELF;
                    // A log that is not there yet is looked for from time to time.
                    let _ = inotify::add_watch(fd, path, events);
                }
            }
        }
        Watch(fd)
    }
}

/// One container's log, as far as it was read.
struct Reader {
    container: Container,
    /// Its name stands before each line.
    named: bool,
    /// The newest file that was opened.
    number: u64,
    /// How many were gone before they could be.
    missed: u64,
    /// The open ones, the one being read first.
    files: VecDeque<(u64, BufReader<File>)>,
    /// Where in that one the next record begins.
    offset: u64,
    /// The beginning of a record that is not written to its end.
    rest: Vec<u8>,
    /// What each stream has before this is not shown.
    from: [tail::Place; 2],
    /// Where the log ended when it was asked for, if it is not followed: one that grows faster than it is read would have
    /// no end.
    until: Option<tail::Place>,
    /// Whether the last line shown did not end, on standard output and error.
    open: [bool; 2],
}

impl Reader {
    fn new(container: Container, named: bool) -> Reader {
        Reader {
            container,
            named,
            number: 0,
            missed: 0,
            files: VecDeque::new(),
            offset: 0,
            rest: Vec::new(),
            from: [(0, 0); 2],
            until: None,
            open: [false; 2],
        }
    }

    /// Shows what is there. False when nobody reads it any more.
    fn show_kept(&mut self, options: &Logs) -> Result<bool, Error> {
        self.look()?;
        if !options.follow {
            self.until = Some(match self.files.back() {
                Some((number, file)) => {
                    let data = file.get_ref().metadata();
                    let path = log::path(self.container.dir(), *number);
                    (*number, data.map_err(failed(&path))?.len())
                }
                None => (0, 0),
            });
        }
        if let Some(lines) = options.tail {
            self.skip_to_last(lines, options)?;
        }
        self.show_new(options)
    }

    /// Begins where the last lines do.
    fn skip_to_last(&mut self, lines: usize, options: &Logs) -> Result<(), Error> {
        let files: Vec<_> = self.files.iter().map(|(n, f)| (*n, f.get_ref())).collect();
        let dir = self.container.dir().join(log::DIRECTORY);
        self.from = tail::beginnings(&files, lines, |record| wanted(record, options))
            .map_err(failed(&dir))?;
        let (number, offset) = self.from[0].min(self.from[1]);
        self.files.retain(|(n, _)| *n >= number);
        if let Some((_, file)) = self.files.front_mut() {
            file.seek(SeekFrom::Start(offset)).map_err(failed(&dir))?;
            self.offset = offset;
        }
        Ok(())
    }

    fn show_new(&mut self, options: &Logs) -> Result<bool, Error> {
        while let Some((place, record)) = self.next()? {
            if self.until.is_some_and(|until| place >= until) {
                break;
            }
            let kept = place >= self.from[usize::from(record.stream == 2)];
            if kept && wanted(&record, options) && !self.show(&record, options)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// The next record, if it is there, and where it begins.
    fn next(&mut self) -> Result<Option<(tail::Place, Record)>, Error> {
        loop {
            let empty = |(_, file): &(u64, BufReader<File>)| file.buffer().is_empty();
            if self.files.front().is_none_or(empty) {
                // Newer files are held from now on: they can be rotated away before they are read.
                self.look()?;
            }
            let Some((number, file)) = self.files.front_mut() else {
                return Ok(None);
            };
            let path = log::path(self.container.dir(), *number);
            let read = file
                .read_until(b'\n', &mut self.rest)
                .map_err(failed(&path))?;
            if self.rest.ends_with(b"\n") {
                let place = (*number, self.offset);
                self.offset += self.rest.len() as u64;
                self.rest.pop();
                let record = log::decode(&self.rest);
                self.rest.clear();
                match record {
                    Some(record) => return Ok(Some((place, record))),
                    // Half a record, of a machine that went down.
                    None => continue,
                }
            }
            // At the end of this file: it is the last word of it if there is a newer one.
            if read > 0 || self.files.len() < 2 {
                return Ok(None);
            }
            self.files.pop_front();
            self.offset = 0;
            self.rest.clear();
        }
    }

    /// Opens the files that are new.
    fn look(&mut self) -> Result<(), Error> {
        let dir = self.container.dir();
        let before = self.number;
        for number in log::files(dir).into_iter().filter(|n| *n > before) {
            let path: PathBuf = log::path(dir, number);
            // Those before the first one were gone when it began to read.
            if self.number > 0 {
                self.missed += number - self.number - 1;
            }
            self.number = number;
            match File::open(&path) {
                Ok(file) => self.files.push_back((number, BufReader::new(file))),
                // Rotated away meanwhile.
                Err(e) if e.kind() == std::io::ErrorKind::NotFound => self.missed += 1,
                Err(e) => return Err(failed(&path)(e)),
            }
        }
        Ok(())
    }

    /// What a follower has to be told of that it will not see.
    fn missed(&mut self) -> Option<String> {
        let missed = std::mem::take(&mut self.missed);
        (missed > 0).then(|| {
            format!(
                "{missed} files of the log of `{}` were rotated away before they could be read: larger ones, or more of them, last longer (`--log-opt max-size=…`, `max-file=…`)",
                self.container.spec.name
            )
        })
    }

    fn show(&mut self, record: &Record, options: &Logs) -> Result<bool, Error> {
        let open = &mut self.open[usize::from(record.stream == 2)];
        let mut out = Vec::with_capacity(record.bytes.len() + 48);
        if !*open {
            if self.named {
                out.extend(format!("{} | ", self.container.spec.name).bytes());
            }
            if options.timestamps {
                out.extend(format!("{} ", record.time).bytes());
            }
            if options.details {
                out.extend(details(record).bytes());
            }
        }
        out.extend_from_slice(&record.bytes);
        *open = !record.bytes.ends_with(b"\n");
        let (path, written) = match record.stream {
            1 => ("standard output", flush(std::io::stdout().lock(), &out)),
            _ => ("standard error", flush(std::io::stderr().lock(), &out)),
        };
        match written {
            Ok(()) => Ok(true),
            Err(e) if e.kind() == std::io::ErrorKind::BrokenPipe => Ok(false),
            Err(e) => Err(failed(Path::new(path))(e)),
        }
    }
}

/// The attributes of a record, as docker shows them: in the form of a query (application/x-www-form-urlencoded), with commas
/// between them and a blank behind.
fn details(record: &Record) -> String {
    let pairs = record.attributes.iter();
    let pairs = pairs.map(|(name, value)| format!("{}={}", encoded(name), encoded(value)));
    format!("{} ", pairs.collect::<Vec<_>>().join(","))
}

fn encoded(text: &str) -> String {
    let byte = |byte: u8| match byte {
        b' ' => "+".to_owned(),
        b'-' | b'_' | b'.' | b'~' => char::from(byte).to_string(),
        _ if byte.is_ascii_alphanumeric() => char::from(byte).to_string(),
        _ => format!("%{byte:02X}"),
    };
    text.bytes().map(byte).collect()
}

fn flush(to: impl Write + AsFd, bytes: &[u8]) -> std::io::Result<()> {
    let mut to = Patient(to);
    to.write_all(bytes)?;
    to.flush()
}

fn failed(path: &Path) -> impl Fn(std::io::Error) -> Error + '_ {
    move |source| Error::Log {
        path: path.to_owned(),
        source,
    }
}

/// Whether a record is of the time that is asked for. RFC 3339 times in UTC sort as text.
fn wanted(record: &Record, options: &Logs) -> bool {
    let at = record.time.trim_end_matches('Z');
    options.since.as_deref().is_none_or(|since| at >= since)
        && options.until.as_deref().is_none_or(|until| at < until)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seconds_and_their_parts() {
        let at = |text| time("--since", text).ok();
        let some = |text: &str| Some(text.to_owned());
        assert_eq!(at("946684800"), some("2000-01-01T00:00:00"));
        assert_eq!(at("946684800.5"), some("2000-01-01T00:00:00.5"));
        assert_eq!(
            at("946684800.123456789"),
            some("2000-01-01T00:00:00.123456789")
        );
        for bad in ["946684800.", "946684800.x", "946684800.1234567890", "."] {
            assert_eq!(at(bad), None, "{bad}");
        }
    }
}
