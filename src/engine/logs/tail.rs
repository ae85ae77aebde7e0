//! Where the last lines of a log begin, found from its end.
//!
//! A line is a record and those of its stream that go on with it, to one that ends with a line feed, or to the end of
//! all. Lines count in the order of their beginnings; one stream's may have records of the other between theirs. So a
//! record begins a line if the one before it of the same stream ended one, which a search from the end knows only when
//! it has come to that one.

use std::collections::BTreeSet;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;

use crate::monitor::log::{self, Record};

/// What is read at once.
const BLOCK: usize = 64 << 10;

/// How far before the earliest of the last lines an earlier part of a line is looked for. One whose parts have more
/// of the other stream between them than this counts from its later part: otherwise a stream of a single line would
/// have the whole log of the other read.
const REACH: u64 = 1 << 20;

/// A place in the log: the number of its file, and bytes from the file's beginning.
pub(super) type Place = (u64, u64);

/// Where each stream's part of the last `lines` lines begins, standard output's first. A stream that has none of them
/// begins behind the last whole record. `files` are in the order of their numbers; what is not `wanted` is as if it
/// were not there.
pub(super) fn beginnings(
    files: &[(u64, &File)],
    lines: usize,
    wanted: impl Fn(&Record) -> bool,
) -> io::Result<[Place; 2]> {
    let mut search = Search {
        lines,
        begun: BTreeSet::new(),
        heads: [None; 2],
    };
    let mut end = None;
    let mut left = REACH;
    'search: for (number, file) in files.iter().rev() {
        let mut records = Backwards::new(file)?;
        end.get_or_insert((*number, records.end()));
        while !search.is_done(left) {
            let Some((offset, line)) = records.previous()? else {
                continue 'search;
            };
            if search.is_full() {
                left = left.saturating_sub(line.len() as u64);
            }
            if let Some(record) = log::decode(&line).filter(&wanted) {
                search.add((*number, offset), &record);
            }
        }
        break;
    }
    Ok(search.result(end.unwrap_or_default()))
}

struct Search {
    lines: usize,
    /// Beginnings of lines, with their streams: the last `lines` of those that are known.
    begun: BTreeSet<(Place, usize)>,
    /// The earliest record seen of each stream, not known to begin a line.
    heads: [Option<Place>; 2],
}

impl Search {
    /// A record before all others.
    fn add(&mut self, place: Place, record: &Record) {
        let stream = usize::from(record.stream == 2);
        let head = self.heads[stream].replace(place);
        if let (Some(head), true) = (head, record.bytes.ends_with(b"\n")) {
            self.begin(head, stream);
        }
    }

    fn begin(&mut self, place: Place, stream: usize) {
        self.begun.insert((place, stream));
        if self.begun.len() > self.lines {
            self.begun.pop_first();
        }
    }

    fn is_full(&self) -> bool {
        self.begun.len() == self.lines
    }

    /// Whether nothing that is further to the front changes the last lines, with so many bytes still to be looked at.
    fn is_done(&self, left: u64) -> bool {
        // A head may be the middle of a line that begins before all of these.
        let after = |head: &Place| {
            let first = self.begun.first();
            first.is_some_and(|(first, _)| head > first)
        };
        self.is_full() && (left == 0 || !self.heads.iter().flatten().any(after))
    }

    /// With what is left of heads as beginnings: nothing was found before them.
    fn result(mut self, end: Place) -> [Place; 2] {
        for (stream, head) in self.heads.into_iter().enumerate() {
            if let Some(head) = head {
                self.begin(head, stream);
            }
        }
        [0, 1].map(|stream| {
            let own = self.begun.iter().find(|(_, of)| *of == stream);
            own.map_or(end, |(place, _)| *place)
        })
    }
}

/// The lines of a file, last first. What follows the last line feed is no line: it is still being written, or was
/// when the machine went down.
struct Backwards<'a> {
    file: &'a File,
    /// Where in the file the buffer begins.
    at: u64,
    /// What was read and not returned: empty, or to the end of a line.
    buffer: Vec<u8>,
}

impl Backwards<'_> {
    fn new(file: &File) -> io::Result<Backwards<'_>> {
        let mut lines = Backwards {
            file,
            at: file.metadata()?.len(),
            buffer: Vec::new(),
        };
        while !lines.buffer.contains(&b'\n') && lines.at > 0 {
            lines.fill()?;
        }
        let last = lines.buffer.iter().rposition(|b| *b == b'\n');
        lines.buffer.truncate(last.map_or(0, |last| last + 1));
        Ok(lines)
    }

    /// The end of the lines that are left.
    fn end(&self) -> u64 {
        self.at + self.buffer.len() as u64
    }

    /// The line before, without its line feed, and where it begins.
    fn previous(&mut self) -> io::Result<Option<(u64, Vec<u8>)>> {
        if self.end() == 0 {
            return Ok(None);
        }
        if self.buffer.is_empty() {
            self.fill()?;
        }
        let start = loop {
            let (_, before) = self.buffer.split_last().unwrap_or((&0, &[]));
            match before.iter().rposition(|b| *b == b'\n') {
                Some(feed) => break feed + 1,
                None if self.at == 0 => break 0,
                None => self.fill()?,
            }
        };
        let mut line = self.buffer.split_off(start);
        line.pop();
        Ok(Some((self.end(), line)))
    }

    /// Reads the block before the buffer; as much again as is there already, so that a long line is looked through
    /// few times.
    fn fill(&mut self) -> io::Result<()> {
        let size = self.at.min(BLOCK.max(self.buffer.len()) as u64);
        let mut buffer = vec![0; size as usize];
        self.file.read_exact_at(&mut buffer, self.at - size)?;
        buffer.append(&mut self.buffer);
        self.buffer = buffer;
        self.at -= size;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    fn file(content: &[u8]) -> File {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(content).unwrap();
        file
    }

    fn record(stream: u8, text: &str) -> String {
        let name = ["stdout", "stderr"][usize::from(stream == 2)];
        let text = text.replace('\n', "\\n");
        format!("{{\"log\":\"{text}\",\"stream\":\"{name}\",\"time\":\"2026-01-01T00:00:00Z\"}}\n")
    }

    /// What is shown of files when these lines are asked for.
    fn shown(files: &[String], lines: usize) -> Vec<(u8, Vec<u8>)> {
        let open: Vec<File> = files.iter().map(|text| file(text.as_bytes())).collect();
        let numbered: Vec<_> = (7..).zip(&open).collect();
        let from = beginnings(&numbered, lines, |_| true).unwrap();
        let mut shown = Vec::new();
        for (number, text) in (7..).zip(files) {
            let mut offset = 0;
            for line in text.split_inclusive('\n') {
                let whole = line.strip_suffix('\n').map(str::as_bytes);
                if let Some(record) = whole.and_then(log::decode)
                    && (number, offset) >= from[usize::from(record.stream == 2)]
                {
                    shown.push((record.stream, record.bytes));
                }
                offset += line.len() as u64;
            }
        }
        shown
    }

    /// The same, found from the beginning.
    fn expected(files: &[String], lines: usize) -> Vec<(u8, Vec<u8>)> {
        let whole = files.iter().flat_map(|text| text.split_inclusive('\n'));
        let records = whole.filter_map(|line| log::decode(line.strip_suffix('\n')?.as_bytes()));
        let (mut all, mut count, mut open) = (Vec::new(), 0, [None; 2]);
        for record in records {
            let open = &mut open[usize::from(record.stream == 2)];
            let line = open.unwrap_or_else(|| {
                count += 1;
                count
            });
            *open = (!record.bytes.ends_with(b"\n")).then_some(line);
            all.push((line, (record.stream, record.bytes)));
        }
        let last = all.into_iter().filter(|(line, _)| line + lines > count);
        last.map(|(_, record)| record).collect()
    }

    #[test]
    fn lines_come_back_last_first_whatever_the_borders_of_blocks() {
        // The line feed before the last line is around the border of the first block from the end.
        for (length, before) in (BLOCK - 3..BLOCK + 3).flat_map(|l| [(l, 5), (l, 2 * BLOCK)]) {
            let lines = [vec![b'a'; before], vec![b'b'; length]];
            let mut text = [&lines[0][..], b"\n", &lines[1], b"\n"].concat();
            for rest in [&b""[..], b"half"] {
                text.extend(rest);
                let file = file(&text);
                let mut found = Backwards::new(&file).unwrap();
                assert_eq!(found.end() as usize, before + length + 2);
                let second = found.previous().unwrap();
                assert!(second == Some((before as u64 + 1, lines[1].clone())));
                assert!(found.previous().unwrap() == Some((0, lines[0].clone())));
                assert!(found.previous().unwrap().is_none());
            }
        }
        for nothing in [&b""[..], b"half", &[b'x'; 2 * BLOCK]] {
            let file = file(nothing);
            let mut found = Backwards::new(&file).unwrap();
            assert!(found.previous().unwrap().is_none() && found.end() == 0);
        }
    }

    proptest::proptest! {
        /// Lines in parts, of two streams, over rotated files, with halves of records between them.
        #[test]
        fn found_from_the_end_as_from_the_beginning(
            parts in proptest::collection::vec((1..=2u8, 0..4u8), 0..24),
            lines in 0..8usize,
        ) {
            let mut files = vec![String::new()];
            for (number, (stream, kind)) in parts.into_iter().enumerate() {
                if number % 7 == 6 {
                    files.push(String::new());
                }
                let text = format!("{number}{}", ["", "\n", "\n", ""][usize::from(kind)]);
                let mut line = record(stream, &text);
                if kind == 3 {
                    // Half a record.
                    line.truncate(line.len() / 2);
                    line.push('\n');
                }
                files.last_mut().unwrap().push_str(&line);
            }
            files.last_mut().unwrap().push_str("{\"log\":\"bein");
            proptest::prop_assert_eq!(shown(&files, lines), expected(&files, lines));
        }
    }

    #[test]
    fn a_line_is_not_looked_for_over_the_whole_log_of_the_other_stream() {
        let other = record(2, &format!("{}\n", "e".repeat(1000)));
        let far = other.repeat(REACH as usize / other.len() + 4);
        let log = [record(1, "o"), far, record(1, "ld\n")].concat();
        // As a line of its own, though its first half is a megabyte before it.
        assert_eq!(shown(&[log], 1), [(1, b"ld\n".to_vec())]);
        let near = [[record(1, "o"), other, record(1, "ld\n")].concat()];
        assert_eq!(shown(&near, 2), expected(&near, 2));
    }

    #[test]
    fn only_the_end_is_read() {
        let ending = [record(1, "a\n"), record(2, "b\n"), record(1, "c\n")].concat();
        let mut file = tempfile::tempfile().unwrap();
        let hole = 500 << 20;
        file.set_len(hole).unwrap();
        std::io::Seek::seek(&mut file, std::io::SeekFrom::End(0)).unwrap();
        file.write_all(format!("\n{ending}").as_bytes()).unwrap();
        let read = || {
            let io = std::fs::read_to_string("/proc/thread-self/io").unwrap();
            let bytes = io.lines().find_map(|line| line.strip_prefix("rchar: "));
            bytes.unwrap().parse::<u64>().unwrap()
        };
        let before = read();
        let from = beginnings(&[(1, &file)], 1, |_| true).unwrap();
        assert!(
            read() - before < 3 * BLOCK as u64,
            "{} bytes",
            read() - before
        );
        let last = ending.len() - record(1, "c\n").len();
        assert_eq!(from[0], (1, hole + 1 + last as u64));
    }
}
