//! What a machine may find on its disk after a power cut, from the system calls of what ran before.
//!
//! The model is as strict as POSIX allows: the names in a directory are on disk when that directory was synced, what is
//! in a file when the file was; everything else may be there or not, each directory by itself. Of one directory the
//! changes come to the disk in their order. A file that was not synced keeps its name and is empty, cut off, full of
//! zeros, or whole.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};

/// The directory that everything is in.
const ROOT: usize = 0;

/// What a file that was not synced may hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Content {
    Whole,
    Empty,
    Half,
    Zeros,
}

#[derive(Clone, Debug)]
enum Kind {
    Dir,
    File,
    Link(PathBuf),
}

#[derive(Clone, Debug)]
enum Change {
    /// A name of a directory stands for something, or for nothing any more.
    Name(usize, String, Option<usize>),
    Data(usize, Vec<u8>),
    Mode(usize, u32),
    Sync(usize),
}

/// A tree, as it was and with all that was done to it. Each step is one system call.
pub struct Disk {
    place: PathBuf,
    kinds: Vec<Kind>,
    steps: Vec<Vec<Change>>,
}

/// One that may be found.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Found(BTreeMap<PathBuf, Entry>);

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Entry {
    Dir(u32),
    File(Vec<u8>),
    Link(PathBuf),
}

impl Disk {
    /// The tree at `place` as it is now, all of it on disk.
    pub fn new(place: &Path) -> Disk {
        let mut disk = Disk {
            place: place.to_owned(),
            kinds: vec![Kind::Dir],
            steps: vec![vec![Change::Mode(ROOT, 0o711)]],
        };
        disk.read(place, ROOT);
        let all = 0..disk.kinds.len();
        disk.steps.push(all.map(Change::Sync).collect());
        disk
    }

    fn read(&mut self, dir: &Path, number: usize) {
        for entry in fs::read_dir(dir).unwrap().flatten() {
            let (path, kind) = (entry.path(), entry.file_type().unwrap());
            let new = self.kinds.len();
            let name = entry.file_name().into_string().unwrap();
            self.steps[0].push(Change::Name(number, name, Some(new)));
            if kind.is_dir() {
                let mode = entry.metadata().unwrap().permissions().mode();
                self.kinds.push(Kind::Dir);
                self.steps[0].push(Change::Mode(new, mode & 0o7777));
                self.read(&path, new);
            } else if kind.is_symlink() {
                self.kinds.push(Kind::Link(fs::read_link(&path).unwrap()));
            } else {
                self.kinds.push(Kind::File);
                let data = fs::read(&path).unwrap_or_default();
                self.steps[0].push(Change::Data(new, data));
            }
        }
    }

    /// The number of what has this path after all steps.
    fn number(&self, path: &Path) -> Option<usize> {
        let mut at = ROOT;
        for name in path.strip_prefix(&self.place).ok()? {
            let changes = self.steps.iter().flatten().rev();
            at = changes
                .filter_map(|change| match change {
                    Change::Name(dir, n, to) if *dir == at && **n == *name => Some(*to),
                    _ => None,
                })
                .next()??;
        }
        Some(at)
    }

    /// Adds the calls that strace(1) has noted in its lines (`-f -y -xx`).
    pub fn replay(&mut self, record: &str) {
        let mut halves: BTreeMap<&str, String> = BTreeMap::new();
        for line in record.lines() {
            let (pid, call) = line.split_once(' ').unwrap();
            let call = call.trim_start();
            if let Some(half) = call.strip_suffix("<unfinished ...>") {
                halves.insert(pid, half.to_owned());
            } else if let Some((_, rest)) = call.split_once(" resumed>") {
                let whole = halves.remove(pid).unwrap_or_default() + rest;
                self.call(&whole);
            } else {
                self.call(call);
            }
        }
    }

    fn call(&mut self, text: &str) {
        let Some((name, rest)) = text.split_once('(') else {
            return;
        };
        // A call that was interrupted in the record has its result in a column of its own.
        let Some((arguments, result)) = rest.rsplit_once(" = ") else {
            return;
        };
        let Some(arguments) = arguments.trim_end().strip_suffix(')') else {
            return;
        };
        if result.starts_with('-') {
            return;
        }
        let words: Vec<&str> = arguments.trim_end().split(", ").collect();
        let strings: Vec<Vec<u8>> = words.iter().map(|word| unhex(word)).collect();
        let path = |n: usize| PathBuf::from(String::from_utf8_lossy(&strings[n]).into_owned());
        let at = |n: usize| path(n).join(path(n + 1));
        let step = match name {
            "mkdir" => self.add(&path(0), Kind::Dir),
            "mkdirat" => self.add(&at(0), Kind::Dir),
            "symlink" => self.add(&path(1), Kind::Link(path(0))),
            "openat" if words[2].contains("O_CREAT") && self.number(&at(0)).is_none() => {
                self.add(&at(0), Kind::File)
            }
            "openat" if words[2].contains("O_TRUNC") => self.write(&at(0), Some(&[])),
            "write" => self.write(&path(0), Some(&strings[1])),
            "rename" => self.rename(&path(0), &path(1)),
            "unlink" | "rmdir" => self.name(&path(0), None),
            "unlinkat" => self.name(&at(0), None),
            "chmod" => {
                let mode = u32::from_str_radix(words[1], 8).unwrap();
                self.number(&path(0)).map(|n| vec![Change::Mode(n, mode)])
            }
            "fsync" | "fdatasync" => self.number(&path(0)).map(|n| vec![Change::Sync(n)]),
            _ => None,
        };
        self.steps.extend(step);
    }

    fn add(&mut self, path: &Path, kind: Kind) -> Option<Vec<Change>> {
        let new = self.kinds.len();
        let named = self.name(path, Some(new))?;
        self.kinds.push(kind);
        Some(named)
    }

    fn name(&self, path: &Path, to: Option<usize>) -> Option<Vec<Change>> {
        let dir = self.number(path.parent()?)?;
        let name = path.file_name()?.to_str()?.to_owned();
        Some(vec![Change::Name(dir, name, to)])
    }

    fn rename(&self, from: &Path, to: &Path) -> Option<Vec<Change>> {
        let moved = self.number(from)?;
        let mut changes = self.name(from, None)?;
        changes.extend(self.name(to, Some(moved))?);
        Some(changes)
    }

    /// Files are only written to their end; without bytes they become empty.
    fn write(&self, path: &Path, bytes: Option<&[u8]>) -> Option<Vec<Change>> {
        let number = self.number(path)?;
        let bytes = bytes.unwrap_or_default();
        let mut data = match bytes.is_empty() {
            true => Vec::new(),
            false => self.data(number, self.steps.len()).0,
        };
        data.extend(bytes);
        Some(vec![Change::Data(number, data)])
    }

    /// What is in a file after so many steps, and what of that is on disk.
    fn data(&self, number: usize, steps: usize) -> (Vec<u8>, Option<Vec<u8>>) {
        let (mut now, mut synced) = (Vec::new(), None);
        for change in self.steps[..steps].iter().flatten() {
            match change {
                Change::Data(n, data) if *n == number => now.clone_from(data),
                Change::Sync(n) if *n == number => synced = Some(now.clone()),
                _ => {}
            }
        }
        (now, synced)
    }

    /// How many steps there are beyond what was there at first.
    pub fn steps(&self) -> std::ops::RangeInclusive<usize> {
        2..=self.steps.len()
    }

    /// Everything that may be found when the power goes after so many steps.
    pub fn after(&self, steps: usize) -> BTreeSet<Found> {
        let dirs: Vec<usize> = (0..self.kinds.len())
            .filter(|n| matches!(self.kinds[*n], Kind::Dir))
            .filter(|n| self.names(*n, steps, true) != self.names(*n, steps, false))
            .collect();
        // All directories are late, or none is; and each one alone in both.
        let mut late: BTreeSet<Vec<usize>> = BTreeSet::from([Vec::new(), dirs.clone()]);
        for dir in &dirs {
            late.insert(vec![*dir]);
            late.insert(dirs.iter().copied().filter(|n| n != dir).collect());
        }
        let contents = [
            Content::Whole,
            Content::Empty,
            Content::Half,
            Content::Zeros,
        ];
        let mut found = BTreeSet::new();
        for late in &late {
            for content in contents {
                let mut tree = Found::default();
                self.build(ROOT, Path::new(""), steps, late, content, &mut tree);
                found.insert(tree);
            }
        }
        found
    }

    /// The names in a directory; those that are on disk, if it is late.
    fn names(&self, dir: usize, steps: usize, late: bool) -> BTreeMap<&str, usize> {
        let synced = |step: &Vec<Change>| {
            let mut changes = step.iter();
            changes.any(|change| matches!(change, Change::Sync(n) if *n == dir))
        };
        let last = self.steps[..steps].iter().rposition(synced).unwrap_or(0);
        let until = if late { last } else { steps };
        let mut names = BTreeMap::new();
        for change in self.steps[..until].iter().flatten() {
            match change {
                Change::Name(d, name, Some(to)) if *d == dir => drop(names.insert(&**name, *to)),
                Change::Name(d, name, None) if *d == dir => drop(names.remove(&**name)),
                _ => {}
            }
        }
        names
    }

    fn build(
        &self,
        dir: usize,
        path: &Path,
        steps: usize,
        late: &[usize],
        content: Content,
        out: &mut Found,
    ) {
        for (name, number) in self.names(dir, steps, late.contains(&dir)) {
            let path = path.join(name);
            let entry = match &self.kinds[number] {
                Kind::Dir => Entry::Dir(self.mode(number, steps)),
                Kind::Link(to) => Entry::Link(to.clone()),
                Kind::File => Entry::File(self.content(number, steps, content)),
            };
            let is_dir = matches!(entry, Entry::Dir(_));
            out.0.insert(path.clone(), entry);
            if is_dir {
                self.build(number, &path, steps, late, content, out);
            }
        }
    }

    fn mode(&self, number: usize, steps: usize) -> u32 {
        let mut changes = self.steps[..steps].iter().flatten().rev();
        let mode = changes.find_map(|change| match change {
            Change::Mode(n, mode) if *n == number => Some(*mode),
            _ => None,
        });
        mode.unwrap_or(0o700)
    }

    fn content(&self, number: usize, steps: usize, content: Content) -> Vec<u8> {
        let (now, synced) = self.data(number, steps);
        match content {
            _ if synced.as_ref() == Some(&now) => now,
            Content::Whole => now,
            Content::Empty => synced.unwrap_or_default(),
            Content::Half => now[..now.len() / 2].to_owned(),
            Content::Zeros => vec![0; now.len()],
        }
    }
}

impl Found {
    /// Makes the directory `place` hold it.
    pub fn make(&self, place: &Path, own: impl Fn(&Path)) {
        let _ = fs::remove_dir_all(place);
        fs::create_dir(place).unwrap();
        fs::set_permissions(place, fs::Permissions::from_mode(0o711)).unwrap();
        own(place);
        for (path, entry) in &self.0 {
            let path = place.join(path);
            match entry {
                Entry::Dir(mode) => {
                    fs::create_dir(&path).unwrap();
                    fs::set_permissions(&path, fs::Permissions::from_mode(*mode)).unwrap();
                }
                Entry::File(data) => fs::write(&path, data).unwrap(),
                Entry::Link(to) => {
                    symlink(to, &path).unwrap();
                    continue;
                }
            }
            own(&path);
        }
    }
}

/// The bytes of a string, or of the path of a descriptor, as strace(1) writes them with `-xx` and `-y`.
fn unhex(word: &str) -> Vec<u8> {
    let digits = word.split("\\x").skip(1);
    digits
        .map(|two| u8::from_str_radix(&two[..2], 16).unwrap())
        .collect()
}
