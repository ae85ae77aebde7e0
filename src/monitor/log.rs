//! What a command prints, kept: the log of a container.
//!
//! ```text
//! log/1, log/2, …   JSON lines, the highest number is being written; no more than `max_files` of them
//! {"log":"text\n","stream":"stdout","time":"2024-05-20T10:00:00.123456789Z"}
//! ```
//!
//! Where `--log-opt` asks for them, `"attrs":{"name":"value",…}` stands before the time.
//!
//! A record is what one read gave of one line; a line that did not end yet is a record without `\n`, and the
//! next one goes on with it. So everything read is in the file at once, and nothing is held back. A byte that
//! is no UTF-8 is written as the lone surrogate `\udcXX`: JSON has no other place for it, and [`decode`] gives
//! it back.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{ErrorKind, Write as _};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use crate::model::spec::{self, LogDriver};
use crate::model::time::now_rfc3339_nanos;
use crate::sys::patient::Patient;

/// The directory of the files, in the container's.
pub const DIRECTORY: &str = "log";

/// The numbers of the files in a container's directory, ascending.
pub fn files(container: &Path) -> Vec<u64> {
    let entries = std::fs::read_dir(container.join(DIRECTORY));
    let names = entries.into_iter().flatten().flatten();
    let mut numbers: Vec<u64> = names
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .collect();
    numbers.sort_unstable();
    numbers
}

/// The path of one.
pub fn path(container: &Path, number: u64) -> PathBuf {
    container.join(DIRECTORY).join(number.to_string())
}

/// One record.
#[derive(Debug)]
pub struct Record {
    /// 1 or 2.
    pub stream: u8,
    /// The bytes.
    pub bytes: Vec<u8>,
    /// What stands beside it.
    pub attributes: BTreeMap<String, String>,
    /// RFC 3339.
    pub time: String,
}

/// Reads a line of a file; `None` for one that is none, such as the last one of a crash.
pub fn decode(line: &[u8]) -> Option<Record> {
    let rest = line.strip_prefix(b"{\"log\":\"")?;
    let (bytes, rest) = unescape(rest)?;
    let (stream, rest) = match rest.strip_prefix(b",\"stream\":\"stdout\",") {
        Some(rest) => (1, rest),
        None => (2, rest.strip_prefix(b",\"stream\":\"stderr\",")?),
    };
    let (attributes, rest) = match rest.strip_prefix(b"\"attrs\":") {
        Some(rest) => object(rest)?,
        None => (BTreeMap::new(), rest),
    };
    let time = rest.strip_prefix(b"\"time\":\"")?.strip_suffix(b"\"}")?;
    Some(Record {
        stream,
        bytes,
        attributes,
        time: String::from_utf8(time.to_vec()).ok()?,
    })
}

/// An object of words and what follows its comma.
fn object(text: &[u8]) -> Option<(BTreeMap<String, String>, &[u8])> {
    let mut values = serde_json::Deserializer::from_slice(text).into_iter();
    let object = values.next()?.ok()?;
    Some((object, text[values.byte_offset()..].strip_prefix(b",")?))
}

/// The bytes of a string up to its closing quote, and what follows that.
fn unescape(mut text: &[u8]) -> Option<(Vec<u8>, &[u8])> {
    let mut out = Vec::with_capacity(text.len());
    loop {
        let special = text.iter().position(|b| matches!(b, b'"' | b'\\'))?;
        out.extend_from_slice(&text[..special]);
        if text[special] == b'"' {
            return Some((out, &text[special + 1..]));
        }
        let (&letter, after) = text[special + 1..].split_first()?;
        text = after;
        match letter {
            b'n' => out.push(b'\n'),
            b'r' => out.push(b'\r'),
            b't' => out.push(b'\t'),
            b'u' => {
                let digits = std::str::from_utf8(text.get(..4)?).ok()?;
                let number = u32::from_str_radix(digits, 16).ok()?;
                text = &text[4..];
                match number {
                    0xdc80..=0xdcff => out.push((number - 0xdc00) as u8),
                    _ => out.extend(char::from_u32(number)?.to_string().bytes()),
                }
            }
            other => out.push(other),
        }
    }
}

/// Appends a string without its quotes.
fn escape(out: &mut Vec<u8>, bytes: &[u8]) {
    let hex =
        |byte: u8| [byte >> 4, byte & 15].map(|digit| b"0123456789abcdef"[usize::from(digit)]);
    for chunk in bytes.utf8_chunks() {
        for &byte in chunk.valid().as_bytes() {
            match byte {
                b'"' | b'\\' => out.extend_from_slice(&[b'\\', byte]),
                b'\n' => out.extend_from_slice(b"\\n"),
                b'\r' => out.extend_from_slice(b"\\r"),
                b'\t' => out.extend_from_slice(b"\\t"),
                0..0x20 => {
                    out.extend_from_slice(b"\\u00");
                    out.extend_from_slice(&hex(byte));
                }
                _ => out.push(byte),
            }
        }
        for &byte in chunk.invalid() {
            out.extend_from_slice(b"\\udc");
            out.extend_from_slice(&hex(byte));
        }
    }
}

/// The log being written, in the current directory, which is the container's.
#[derive(Debug)]
pub(super) struct Writer {
    config: spec::Log,
    /// The attributes as they stand in each record, with the comma behind.
    attributes: String,
    file: Option<File>,
    number: u64,
    size: u64,
    broken: bool,
    journal: Option<super::journal::Journal>,
}

impl Writer {
    /// Nothing is made before something is written.
    pub fn new(config: spec::Log, name: &str, id: &str) -> Writer {
        let journal = (config.driver == LogDriver::Journald)
            .then(|| super::journal::Journal::new(name, id, &config.attributes));
        let attributes = match config.attributes.is_empty() {
            true => String::new(),
            false => {
                let object = serde_json::to_string(&config.attributes).unwrap_or_default();
                format!("\"attrs\":{object},")
            }
        };
        Writer {
            config,
            attributes,
            file: None,
            number: 0,
            size: 0,
            broken: false,
            journal,
        }
    }

    /// Keeps nothing.
    pub fn none() -> Writer {
        let driver = LogDriver::None;
        let config = spec::Log {
            driver,
            max_size: 0,
            max_files: 0,
            options: BTreeMap::new(),
            attributes: BTreeMap::new(),
        };
        Writer::new(config, "", "")
    }

    /// Writes what came from standard output (1) or error (2). An error is returned once; what follows is
    /// lost in silence until there is room again.
    pub fn write(&mut self, stream: u8, bytes: &[u8]) -> Result<(), std::io::Error> {
        let done = match self.config.driver {
            LogDriver::None => Ok(()),
            LogDriver::JsonFile => self.append(stream, bytes),
            LogDriver::Journald => match &self.journal {
                Some(journal) => journal.write(stream, bytes),
                None => Ok(()),
            },
            LogDriver::Passthrough if stream == 1 => Patient(std::io::stdout()).write_all(bytes),
            LogDriver::Passthrough => Patient(std::io::stderr()).write_all(bytes),
        };
        match done {
            Ok(()) => self.broken = false,
            Err(_) if self.broken => {}
            Err(error) => {
                self.broken = true;
                return Err(error);
            }
        }
        Ok(())
    }

    fn append(&mut self, stream: u8, bytes: &[u8]) -> Result<(), std::io::Error> {
        let tail = format!(
            "\",\"stream\":\"{}\",{}\"time\":\"{}\"}}\n",
            ["stdout", "stderr"][usize::from(stream == 2)],
            self.attributes,
            now_rfc3339_nanos()
        );
        let mut out = Vec::with_capacity(bytes.len() * 2 + 128);
        for line in bytes.split_inclusive(|b| *b == b'\n') {
            out.extend(b"{\"log\":\"");
            escape(&mut out, line);
            out.extend(tail.bytes());
            // A file ends with a record, so that readers never look for the other half.
            if self.size + out.len() as u64 > self.config.max_size && self.size > 0 {
                self.next_file()?;
            }
            if out.len() as u64 >= self.config.max_size.min(64 << 10) {
                self.put(&out)?;
                out.clear();
            }
        }
        self.put(&out)
    }

    fn put(&mut self, bytes: &[u8]) -> Result<(), std::io::Error> {
        if bytes.is_empty() {
            return Ok(());
        }
        if self.file.is_none() {
            self.open()?;
        }
        if let Some(file) = &mut self.file {
            if let Err(error) = file.write_all(bytes) {
                // No half of a record, which the next one would be taken for the rest of.
                let _ = file.set_len(self.size);
                return Err(error);
            }
            self.size += bytes.len() as u64;
        }
        Ok(())
    }

    /// Goes on with the newest file.
    fn open(&mut self) -> Result<(), std::io::Error> {
        let here = Path::new(".");
        match std::fs::create_dir(DIRECTORY) {
            Err(e) if e.kind() != ErrorKind::AlreadyExists => return Err(e),
            _ => {}
        }
        self.number = self.number.max(files(here).last().copied().unwrap_or(1));
        let mut options = File::options();
        let mut file = options
            .create(true)
            .read(true)
            .append(true)
            .open(path(here, self.number))?;
        self.size = file.metadata()?.len();
        let mut last = *b"\n";
        if self.size > 0 {
            file.read_exact_at(&mut last, self.size - 1)?;
        }
        if last != *b"\n" {
            // A power cut has left a part of a record.
            file.write_all(b"\n")?;
            self.size += 1;
        }
        self.file = Some(file);
        Ok(())
    }

    fn next_file(&mut self) -> Result<(), std::io::Error> {
        let here = Path::new(".");
        self.number += 1;
        let mut options = File::options();
        let file = options
            .create(true)
            .append(true)
            .open(path(here, self.number))?;
        (self.file, self.size) = (Some(file), 0);
        let numbers = files(here);
        let keep = self.config.max_files.max(1) as usize;
        for old in &numbers[..numbers.len().saturating_sub(keep)] {
            std::fs::remove_file(path(here, *old))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_comes_back() {
        let all: Vec<u8> = (0..=255).collect();
        for bytes in [&all[..], b"", "\u{1f980}\"\\\u{7f}".as_bytes(), b"\xf0\x9f"] {
            let mut line = b"{\"log\":\"".to_vec();
            escape(&mut line, bytes);
            line.extend(b"\",\"stream\":\"stderr\",\"time\":\"t\"}");
            let record = decode(&line).unwrap();
            assert_eq!(
                (record.bytes.as_slice(), record.stream, record.time.as_str()),
                (bytes, 2, "t")
            );
            assert!(std::str::from_utf8(&line).is_ok());
        }
        assert!(decode(b"{\"log\":\"half").is_none());
        let beside = br#"{"log":"x","stream":"stdout","attrs":{"a":"1, \"}","b":""},"time":"t"}"#;
        let record = decode(beside).unwrap();
        let attributes = [("a", "1, \"}"), ("b", "")].map(|(k, v)| (k.to_owned(), v.to_owned()));
        assert_eq!(record.attributes, attributes.into());
        assert_eq!(
            (record.bytes.as_slice(), record.time.as_str()),
            (&b"x"[..], "t")
        );
    }
}
