//! Which subordinate ids a user has.
//!
//! The files are read first: /etc/subuid or /etc/subgid, lines `user-or-uid:start:count`. A
//! `subid:` line of nsswitch.conf(5) that names another source than `files` means a directory holds
//! the ranges; its plug-in cannot be loaded into a static program, so getsubids(1) is asked. Without
//! such a line the shadow library itself only reads the files, and asking would find nothing more.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Which of the two ids.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// User ids: /etc/subuid, newuidmap.
    Uid,
    /// Group ids: /etc/subgid, newgidmap.
    Gid,
}

impl Kind {
    /// The program that writes maps of this kind.
    pub fn program(self) -> &'static str {
        match self {
            Kind::Uid => "newuidmap",
            Kind::Gid => "newgidmap",
        }
    }

    /// The file's name below /etc.
    pub fn file(self) -> &'static str {
        match self {
            Kind::Uid => "subuid",
            Kind::Gid => "subgid",
        }
    }
}

/// `length` ids from `start` on, in the namespace that reads the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct SubRange {
    /// The first id.
    pub start: u32,
    /// How many, at least 1.
    pub length: u32,
}

/// Why a line gives no range.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SkipReason {
    /// Not three fields divided by colons.
    Fields,
    /// The start or the count is not a decimal number of 32 bits.
    Number,
    /// The count is 0, or the range runs past the last id.
    Extent,
}

/// A line for this user that was passed over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Skipped {
    /// Its number, from 1.
    pub line: usize,
    /// The line itself.
    pub text: String,
    /// What is wrong with it.
    pub reason: SkipReason,
}

/// Where the ranges come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// /etc/subuid or /etc/subgid.
    File(PathBuf),
    /// getsubids(1), as nsswitch.conf names another source.
    Getsubids(PathBuf),
}

/// The answer to [`lookup`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SubIds {
    /// The user's ranges in the order of the file; empty when there are none.
    pub ranges: Vec<SubRange>,
    /// Where they (or the emptiness) come from.
    pub source: Source,
    /// Malformed lines that were passed over.
    pub skipped: Vec<Skipped>,
}

/// The configuration files, for tests of their own.
#[derive(Clone, Debug)]
pub struct Files {
    /// subuid(5).
    pub subuid: PathBuf,
    /// subgid(5).
    pub subgid: PathBuf,
    /// nsswitch.conf(5).
    pub nsswitch: PathBuf,
    /// passwd(5).
    pub passwd: PathBuf,
    /// group(5).
    pub group: PathBuf,
}

impl Default for Files {
    fn default() -> Self {
        Files::below(Path::new("/etc"))
    }
}

impl Files {
    /// Those in the directory `etc`.
    pub fn below(etc: &Path) -> Self {
        Files {
            subuid: etc.join("subuid"),
            subgid: etc.join("subgid"),
            nsswitch: etc.join("nsswitch.conf"),
            passwd: etc.join("passwd"),
            group: etc.join("group"),
        }
    }

    fn of(&self, kind: Kind) -> &Path {
        match kind {
            Kind::Uid => &self.subuid,
            Kind::Gid => &self.subgid,
        }
    }
}

/// The ranges in `text`, a subuid or subgid file, of the user called `name` or numbered `uid` (group
/// ranges are keyed by user too), and the malformed lines. Comments and empty lines are nothing.
pub fn parse(text: &str, name: Option<&str>, uid: u32) -> (Vec<SubRange>, Vec<Skipped>) {
    let (mut ranges, mut skipped) = (Vec::new(), Vec::new());
    let number = uid.to_string();
    for (index, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let owner = line.split(':').next().unwrap_or_default();
        let unowned = !line.contains(':');
        if !unowned && Some(owner) != name && owner != number {
            continue;
        }
        match range_of(line) {
            Ok(range) => ranges.push(range),
            Err(reason) => {
                skipped.push(Skipped {
                    line: index + 1,
                    text: line.to_owned(),
                    reason,
                });
            }
        }
    }
    (ranges, skipped)
}

/// The range of one `owner:start:count` line.
fn range_of(line: &str) -> Result<SubRange, SkipReason> {
    let fields: Vec<&str> = line.split(':').collect();
    let [_, start, count] = fields.as_slice() else {
        return Err(SkipReason::Fields);
    };
    let start: u32 = start.trim().parse().map_err(|_| SkipReason::Number)?;
    let length: u32 = count.trim().parse().map_err(|_| SkipReason::Number)?;
    if length == 0 || start.checked_add(length).is_none() {
        return Err(SkipReason::Extent);
    }
    Ok(SubRange { start, length })
}

/// The subordinate ids of a user: `name` where it is known, else by number only. `path` is the value
/// of PATH, to find getsubids. A file that cannot be read counts as empty, as the shadow library has
/// it.
pub fn lookup(
    files: &Files,
    kind: Kind,
    name: Option<&str>,
    uid: u32,
    path: Option<&OsStr>,
) -> SubIds {
    let elsewhere = std::fs::read_to_string(&files.nsswitch).is_ok_and(|t| names_other_source(&t));
    if elsewhere
        && let Some(name) = name
        && let Some(program) = helper_process::find("getsubids", path)
    {
        let ranges = ask(&program, kind, name);
        return SubIds {
            ranges,
            source: Source::Getsubids(program),
            skipped: Vec::new(),
        };
    }
    let file = files.of(kind);
    let text = std::fs::read(file).unwrap_or_default();
    let (ranges, skipped) = parse(&String::from_utf8_lossy(&text), name, uid);
    SubIds {
        ranges,
        source: Source::File(file.to_owned()),
        skipped,
    }
}

/// Whether a `subid:` line names something besides `files`.
fn names_other_source(nsswitch: &str) -> bool {
    nsswitch
        .lines()
        .filter_map(|line| line.trim().strip_prefix("subid:"))
        .filter_map(|rest| rest.split('#').next())
        .flat_map(str::split_whitespace)
        .any(|source| source != "files" && !source.starts_with('['))
}

/// Runs `getsubids [-g] NAME`; its lines read `0: NAME 100000 65536`. It exits with 1 and prints
/// nothing when there are no ranges.
fn ask(program: &Path, kind: Kind, name: &str) -> Vec<SubRange> {
    let mut command = Command::new(program);
    if kind == Kind::Gid {
        command.arg("-g");
    }
    let output = command
        .arg(name)
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .output();
    output.map_or_else(
        |_| Vec::new(),
        |output| answer(&String::from_utf8_lossy(&output.stdout)),
    )
}

/// The ranges in getsubids' output.
fn answer(text: &str) -> Vec<SubRange> {
    text.lines()
        .filter_map(|line| {
            let mut fields = line.rsplitn(3, char::is_whitespace);
            let length: u32 = fields.next()?.parse().ok()?;
            let start: u32 = fields.next()?.parse().ok()?;
            (length > 0 && start.checked_add(length).is_some())
                .then_some(SubRange { start, length })
        })
        .collect()
}

/// The first 65,536 ids from 100,000 on that neither file gives to anyone, and no user or group has for its
/// own: (first, last), for `usermod --add-subuids FIRST-LAST`.
pub fn free_range(files: &Files) -> (u32, u32) {
    const LENGTH: u32 = 65_536;
    let granted = [&files.subuid, &files.subgid].map(|file| each_line(file, |l| range_of(l).ok()));
    // The id is the third field of both.
    let own = |line: &str| {
        let start = line.split(':').nth(2)?.parse().ok()?;
        Some(SubRange { start, length: 1 })
    };
    let owned = [&files.passwd, &files.group].map(|file| each_line(file, own));
    let mut taken: Vec<SubRange> = granted.into_iter().chain(owned).flatten().collect();
    taken.sort_unstable();
    let mut first = 100_000u32;
    for range in taken {
        let end = range.start.saturating_add(range.length);
        if range.start < first.saturating_add(LENGTH) && end > first {
            first = end;
        }
    }
    (first, first.saturating_add(LENGTH - 1))
}

/// What `read` makes of the lines of a file; one that cannot be read has none.
fn each_line(file: &Path, read: impl Fn(&str) -> Option<SubRange>) -> Vec<SubRange> {
    let text = std::fs::read(file).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    text.lines().filter_map(|line| read(line.trim())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn r(start: u32, length: u32) -> SubRange {
        SubRange { start, length }
    }

    #[test]
    fn lines_by_name_and_by_number() {
        let text =
            "# comment\n\nann:100000:65536\nbob:165536:65536\n1000:300000:1000\n ann:400000:1 \n";
        let (ranges, skipped) = parse(text, Some("ann"), 1000);
        assert_eq!(
            ranges,
            [r(100_000, 65_536), r(300_000, 1000), r(400_000, 1)]
        );
        assert!(skipped.is_empty());
        assert_eq!(parse(text, None, 1000).0, [r(300_000, 1000)]);
        assert!(parse(text, Some("eve"), 7).0.is_empty());
    }

    #[test]
    fn malformed_lines_are_kept_with_their_reason() {
        let text = "ann:1\nann:x:1\nann:5:0\nann:4294967295:5\nann:1:2:3\nbob:bad:line\nann:100000:10\nsolo";
        let (ranges, skipped) = parse(text, Some("ann"), 1000);
        assert_eq!(ranges, [r(100_000, 10)]);
        let reasons: Vec<_> = skipped.iter().map(|s| (s.line, s.reason)).collect();
        use SkipReason::*;
        let expected = [
            (1, Fields),
            (2, Number),
            (3, Extent),
            (4, Extent),
            (5, Fields),
            (8, Fields),
        ];
        assert_eq!(reasons, expected);
    }

    #[test]
    fn getsubids_lines() {
        assert_eq!(
            answer("0: ann 100000 65536\n1: ann 300000 5\n"),
            [r(100_000, 65_536), r(300_000, 5)]
        );
        assert!(answer("Error fetching ranges\n").is_empty());
    }

    #[test]
    fn nsswitch_decides_who_is_asked() {
        assert!(!names_other_source("passwd: files sss\n"));
        assert!(!names_other_source("subid: files\n"));
        assert!(names_other_source("subid:\tsss # directory\n"));
        assert!(names_other_source("subid: files [NOTFOUND=continue] sss\n"));
        assert!(!names_other_source("#subid: sss\n"));
    }

    #[test]
    fn a_free_range_is_free_in_both_files() {
        let dir = tempfile::tempdir().unwrap();
        let files = Files::below(dir.path());
        assert_eq!(free_range(&files), (100_000, 165_535));
        std::fs::write(&files.subuid, "a:100000:65536\nb:300000:65536\n").unwrap();
        std::fs::write(&files.subgid, "a:150000:65536\n").unwrap();
        assert_eq!(free_range(&files), (215_536, 281_071));
        // Nor is it somebody's own id.
        std::fs::write(
            &files.passwd,
            "far:x:220000:1::/:\nnone:x:4294967295:1::/:\n",
        )
        .unwrap();
        std::fs::write(&files.group, "far:x:220001:\n").unwrap();
        assert_eq!(free_range(&files), (220_002, 285_537));
    }

    #[test]
    fn getsubids_is_asked_when_nsswitch_says_so() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().unwrap();
        let files = Files::below(dir.path());
        std::fs::write(&files.subuid, "ann:1000000:5\n").unwrap();
        let program = dir.path().join("getsubids");
        std::fs::write(&program, "#!/bin/sh\necho \"0: $1 777000 65536\"\n").unwrap();
        std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
        let path = Some(dir.path().as_os_str());
        let found = lookup(&files, Kind::Uid, Some("ann"), 1000, path);
        assert_eq!(found.ranges, [r(1_000_000, 5)]);
        std::fs::write(&files.nsswitch, "subid: sss\n").unwrap();
        let found = lookup(&files, Kind::Uid, Some("ann"), 1000, path);
        assert_eq!(found.ranges, [r(777_000, 65_536)]);
        assert_eq!(found.source, Source::Getsubids(program));
    }
}
