//! What a sequence of archive entries must become, worked out in memory: the rules of
//! `store::unpack` written a second time, without descriptors, caches or system calls.
#![allow(dead_code)]

use std::collections::BTreeMap;

use super::layerkit::Tar;

/// What an entry asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum What {
    File,
    Dir,
    Symlink(String),
    HardLink(String),
    Fifo,
    Device,
}

/// One entry. Files hold their number in the archive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    pub name: String,
    pub what: What,
}

const NAME_PARTS: [&str; 10] = [
    "a",
    "b",
    "a",
    "b",
    "..",
    ".",
    ".wh.a",
    ".wh.b",
    ".wh..wh..opq",
    ".wh..wh.aufs",
];
const TARGET_PARTS: [&str; 5] = ["a", "b", "..", ".", "a"];

/// Makes entries of any bytes: four for each. The rare parts of names stay rare.
pub fn entries(bytes: &[u8]) -> Vec<Wanted> {
    let path = |parts: &[&str], seed: usize, count: usize, absolute: bool| {
        let mut rest = seed;
        let mut out = if absolute {
            "/".to_owned()
        } else {
            String::new()
        };
        for i in 0..count {
            if i > 0 {
                out.push('/');
            }
            // `..` in a name ends the archive, so only one seed in a few leads there.
            out += parts[rest % parts.len()];
            rest /= parts.len();
        }
        out
    };
    bytes
        .chunks_exact(4)
        .map(|c| {
            let common = if c[0] & 0x80 == 0 {
                &NAME_PARTS[..4]
            } else {
                &NAME_PARTS[..]
            };
            let seed = usize::from(c[1]) | usize::from(c[0] & 0x40) << 2;
            let name = path(
                common,
                seed,
                usize::from(c[0] >> 3 & 3) + 1,
                c[0] & 0x20 != 0,
            );
            let target = || {
                path(
                    &TARGET_PARTS,
                    usize::from(c[2]),
                    usize::from(c[3] & 3) + 1,
                    c[3] & 4 != 0,
                )
            };
            let what = match c[0] & 7 {
                0 | 1 => What::File,
                2 => What::Dir,
                3 | 4 => What::Symlink(target()),
                5 => What::HardLink(target()),
                6 => What::Fifo,
                _ => What::Device,
            };
            Wanted { name, what }
        })
        .collect()
}

/// The archive of these entries.
pub fn archive(entries: &[Wanted]) -> Vec<u8> {
    let mut tar = Tar::new();
    for (i, Wanted { name, what }) in entries.iter().enumerate() {
        tar = match what {
            What::File => tar.file(name, i.to_string()),
            What::Dir => tar.dir(name, 0o755),
            What::Symlink(target) => tar.symlink(name, target),
            What::HardLink(target) => tar.hard(name, target),
            What::Fifo => tar.raw(b'6', name.as_bytes(), b"", 0o644, (0, 0), b""),
            What::Device => tar.device(b'3', name, 0, 0),
        };
    }
    tar.end()
}

#[derive(Clone, Debug)]
enum Node {
    Dir {
        children: BTreeMap<String, usize>,
        opaque: bool,
        parent: usize,
    },
    File(String),
    Symlink(String),
    Fifo,
    Whiteout,
}

/// The file system; node 0 is the root.
struct World(Vec<Node>);

/// The archive is refused.
pub struct Refused;
type Answer<T> = Result<T, Refused>;

#[derive(PartialEq)]
enum Miss {
    Absent,
    Loop,
}

enum Name<'a> {
    Root,
    Skipped,
    Plain(Vec<&'a str>, &'a str),
    Whiteout(Vec<&'a str>, &'a str),
    Opaque(Vec<&'a str>),
}

fn parse(name: &str) -> Answer<Name<'_>> {
    let mut parts: Vec<&str> = name
        .split('/')
        .filter(|p| !matches!(*p, "" | "."))
        .collect();
    if parts.contains(&"..") {
        return Err(Refused);
    }
    let Some(last) = parts.pop() else {
        return Ok(Name::Root);
    };
    match parts.iter().find(|p| p.starts_with(".wh.")) {
        Some(p) if p.starts_with(".wh..wh.") => return Ok(Name::Skipped),
        Some(_) => return Err(Refused),
        None => {}
    }
    Ok(match last.strip_prefix(".wh.") {
        None => Name::Plain(parts, last),
        Some(".wh..opq") => Name::Opaque(parts),
        Some(hidden) if hidden.starts_with(".wh.") => Name::Skipped,
        Some("" | "." | "..") => return Err(Refused),
        Some(hidden) => Name::Whiteout(parts, hidden),
    })
}

/// What the oracle says of a sequence of entries.
pub struct Verdict {
    /// Those that can follow each other; the others are left out one by one.
    pub accepted: Vec<Wanted>,
    /// The accepted ones before the first that must be refused, and that one.
    pub refused: Option<(Vec<Wanted>, Wanted)>,
    /// The tree that the accepted ones become.
    pub tree: BTreeMap<String, String>,
    /// Whether the root itself hides what is below.
    pub opaque_root: bool,
}

/// Sorts the entries into those that must be taken and those that must be refused.
pub fn judge(entries: &[Wanted]) -> Verdict {
    let root = Node::Dir {
        children: BTreeMap::new(),
        opaque: false,
        parent: 0,
    };
    let mut world = World(vec![root]);
    let mut verdict = Verdict {
        accepted: Vec::new(),
        refused: None,
        tree: BTreeMap::new(),
        opaque_root: false,
    };
    for entry in entries {
        let before = world.0.clone();
        match world.apply(verdict.accepted.len(), entry, &mut verdict.opaque_root) {
            Ok(()) => verdict.accepted.push(entry.clone()),
            Err(Refused) => {
                world.0 = before;
                if verdict.refused.is_none() {
                    verdict.refused = Some((verdict.accepted.clone(), entry.clone()));
                }
            }
        }
    }
    world.print(0, "", &mut verdict.tree);
    verdict
}

impl World {
    fn children(&mut self, dir: usize) -> &mut BTreeMap<String, usize> {
        match &mut self.0[dir] {
            Node::Dir { children, .. } => children,
            _ => unreachable!("not a directory"),
        }
    }

    fn child(&mut self, dir: usize, name: &str) -> Option<usize> {
        self.children(dir).get(name).copied()
    }

    fn add(&mut self, dir: usize, name: &str, node: Node) -> usize {
        self.0.push(node);
        let id = self.0.len() - 1;
        self.children(dir).insert(name.to_owned(), id);
        id
    }

    fn mkdir(&mut self, dir: usize, name: &str, opaque: bool) -> usize {
        self.add(
            dir,
            name,
            Node::Dir {
                children: BTreeMap::new(),
                opaque,
                parent: dir,
            },
        )
    }

    fn set_opaque(&mut self, dir: usize) {
        if let Node::Dir { opaque, .. } = &mut self.0[dir] {
            *opaque = true;
        }
    }

    /// The directory that these parts lead to, links followed inside the root.
    fn walk(&mut self, parts: &[&str]) -> Result<usize, Miss> {
        let mut todo: Vec<String> = parts.iter().rev().map(|p| (*p).to_owned()).collect();
        let (mut here, mut links) = (0, 0);
        while let Some(part) = todo.pop() {
            match &part[..] {
                "" | "." => continue,
                ".." => {
                    if let Node::Dir { parent, .. } = self.0[here] {
                        here = parent;
                    }
                    continue;
                }
                _ => {}
            }
            let next = self.child(here, &part).ok_or(Miss::Absent)?;
            match self.0[next].clone() {
                Node::Dir { .. } => here = next,
                Node::Symlink(target) => {
                    links += 1;
                    if links > 40 {
                        return Err(Miss::Loop);
                    }
                    if target.starts_with('/') {
                        here = 0;
                    }
                    todo.extend(target.split('/').rev().map(str::to_owned));
                }
                _ => return Err(Miss::Absent),
            }
        }
        Ok(here)
    }

    fn dir(&mut self, parts: &[&str]) -> Answer<usize> {
        match self.walk(parts) {
            Ok(dir) => return Ok(dir),
            Err(Miss::Loop) => return Err(Refused),
            Err(Miss::Absent) => {}
        }
        let there = (0..parts.len())
            .rev()
            .find(|&n| self.walk(&parts[..n]).is_ok())
            .unwrap_or(0);
        let Ok(mut here) = self.walk(&parts[..there]) else {
            return Err(Refused);
        };
        for part in &parts[there..] {
            here = match self.child(here, part) {
                None => self.mkdir(here, part, false),
                Some(id) if matches!(self.0[id], Node::Whiteout) => self.mkdir(here, part, true),
                Some(_) => return Err(Refused),
            };
        }
        Ok(here)
    }

    /// Empties a tree, as unlinking does for whoever still holds a directory of it.
    fn remove(&mut self, dir: usize, name: &str) {
        let Some(id) = self.children(dir).remove(name) else {
            return;
        };
        if let Node::Dir { children, .. } = &self.0[id] {
            let names: Vec<String> = children.keys().cloned().collect();
            for name in names {
                self.remove(id, &name);
            }
        }
    }

    fn apply(&mut self, number: usize, entry: &Wanted, opaque_root: &mut bool) -> Answer<()> {
        match parse(&entry.name)? {
            Name::Root if entry.what == What::Dir => {}
            Name::Root => return Err(Refused),
            Name::Skipped => {}
            Name::Opaque(parts) if parts.is_empty() => *opaque_root = true,
            Name::Opaque(parts) => {
                let dir = self.dir(&parts)?;
                self.set_opaque(dir);
            }
            Name::Whiteout(parts, name) => {
                let dir = self.dir(&parts)?;
                match self.child(dir, name) {
                    None => drop(self.add(dir, name, Node::Whiteout)),
                    Some(id) => self.set_opaque(id),
                }
            }
            Name::Plain(parts, name) => {
                let dir = self.dir(&parts)?;
                self.plain(number, &entry.what, dir, name)?;
            }
        }
        Ok(())
    }

    fn plain(&mut self, number: usize, what: &What, dir: usize, name: &str) -> Answer<()> {
        let node = match what {
            What::Dir => {
                match self.child(dir, name).map(|id| self.0[id].clone()) {
                    Some(Node::Dir { .. }) => {}
                    old => {
                        self.remove(dir, name);
                        self.mkdir(dir, name, matches!(old, Some(Node::Whiteout)));
                    }
                }
                return Ok(());
            }
            What::HardLink(target) => {
                let Name::Plain(parts, last) = parse(target)? else {
                    return Err(Refused);
                };
                let from = self.walk(&parts).map_err(|_| Refused)?;
                let id = self.child(from, last).ok_or(Refused)?;
                if matches!(self.0[id], Node::Dir { .. } | Node::Whiteout) {
                    return Err(Refused);
                }
                if self.child(dir, name) != Some(id) {
                    self.remove(dir, name);
                    // The target may have been in what was removed.
                    self.child(from, last).ok_or(Refused)?;
                    self.children(dir).insert(name.to_owned(), id);
                }
                return Ok(());
            }
            What::Symlink(target) if target.is_empty() => return Err(Refused),
            What::Symlink(target) => Node::Symlink(target.clone()),
            What::File => Node::File(number.to_string()),
            What::Device => Node::File(String::new()),
            What::Fifo => Node::Fifo,
        };
        self.remove(dir, name);
        self.add(dir, name, node);
        Ok(())
    }

    fn print(&self, id: usize, path: &str, tree: &mut BTreeMap<String, String>) {
        let text = match &self.0[id] {
            Node::Dir {
                children, opaque, ..
            } => {
                for (name, child) in children {
                    let path = if path.is_empty() {
                        name.clone()
                    } else {
                        format!("{path}/{name}")
                    };
                    self.print(*child, &path, tree);
                }
                (if *opaque { "opaque" } else { "dir" }).to_owned()
            }
            Node::File(content) => format!("file {content}"),
            Node::Symlink(target) => format!("-> {target}"),
            Node::Fifo => "fifo".to_owned(),
            Node::Whiteout => "whiteout".to_owned(),
        };
        tree.insert(path.to_owned(), text);
    }
}
