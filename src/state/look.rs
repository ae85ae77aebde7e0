//! All containers at a glance, for lists: a few system calls for each, by names relative to their directory, and of its
//! specification no more than is shown.

use std::fs::File;
use std::io::ErrorKind;
use std::os::fd::AsFd as _;

use rustix::fs::{Mode, OFlags, openat};
use rustix::io::Errno;
use serde::Deserialize;

use super::files::{io, is_locked, read_small};
use super::status::{Shown, Stamp};
use super::{Container, Containers, Error, State, is_gone, is_id};
use crate::model::brief::Brief;
use crate::model::spec::VERSION;
use crate::sys::parts::in_parts;

/// A container in a list.
#[derive(Clone, Debug)]
pub struct Listed {
    /// What is shown of its specification.
    pub spec: Box<Brief>,
    /// Its state.
    pub state: State,
}

impl From<Container> for Listed {
    fn from(container: Container) -> Listed {
        Listed {
            spec: Box::new(container.spec.into()),
            state: container.state,
        }
    }
}

impl Containers {
    /// The containers, the newest first; nothing when there is anything among them that is not as a living or a past
    /// container is, for a [survey](Containers::survey) to find out what.
    ///
    /// # Errors
    /// [`Error::Io`] when the directory cannot be read.
    pub fn look(&self) -> Result<Option<Vec<Listed>>, Error> {
        let root = match File::open(&self.root) {
            Err(e) if e.kind() == ErrorKind::NotFound => return Ok(Some(Vec::new())),
            other => other.map_err(io("open", &self.root))?,
        };
        let entries = self.entries(|name| is_id(name) || is_gone(name))?;
        if entries.iter().any(|name| is_gone(name)) {
            return Ok(None);
        }
        let found = in_parts(entries, move |part| {
            let mut buffer = Vec::new();
            let look = |id: &String| look_at(&root, id, &mut buffer);
            part.iter().map(look).collect::<Option<Vec<Listed>>>()
        });
        let parts: Option<Vec<Vec<Listed>>> = found.into_iter().collect();
        Ok(parts.map(|parts| {
            let mut all = parts.into_iter().flatten().collect::<Vec<Listed>>();
            all.sort_unstable_by_key(|listed| std::cmp::Reverse(listed.spec.made()));
            all
        }))
    }
}

fn look_at(root: &File, id: &str, buffer: &mut Vec<u8>) -> Option<Listed> {
    let (file, mut state) = match open(root, id, "state.json") {
        Err(Errno::NOENT) => (None, State::created()),
        file => {
            let file = file.ok()?;
            let state: State = parse(&file, buffer)?;
            (Some(file), state)
        }
    };
    let shown = state.shown.take();
    let is_of = |shown: &Shown| Stamp::at(root.as_fd(), &below(id, SPEC)) == Some(shown.of);
    let spec: Box<Brief> = match shown.filter(is_of) {
        Some(shown) => shown.brief,
        None => parse(&open(root, id, SPEC).ok()?, buffer)?,
    };
    let in_order = match state.is_alive() {
        // One that was replaced meanwhile is not locked any more.
        true => {
            file.is_some_and(|file| is_locked(&file))
                || open(root, id, "lock").is_ok_and(|lock| is_locked(&lock))
        }
        false => !spec.remove,
    };
    (spec.version <= VERSION && in_order).then_some(Listed { spec, state })
}

const SPEC: &str = "spec.json";

fn below(id: &str, name: &str) -> String {
    [id, "/", name].concat()
}

fn open(root: &File, id: &str, name: &str) -> Result<File, Errno> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC;
    openat(root.as_fd(), below(id, name), flags, Mode::empty()).map(File::from)
}

fn parse<T: for<'a> Deserialize<'a>>(file: &File, buffer: &mut Vec<u8>) -> Option<T> {
    serde_json::from_slice(read_small(file, buffer).ok()?).ok()
}
