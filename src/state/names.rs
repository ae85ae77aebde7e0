//! Who has which name: a symbolic link in `by-name/` is the claim, the name in the specification says whether it holds.

use std::fs::File;
use std::io::ErrorKind;
use std::path::Path;

use rustix::fs::FlockOperation;

use super::files::{io, is_locked, lock_file, read_json, sync_dir};
use super::{Container, Containers, Error, Locked, Subject};
use crate::model::spec::ContainerSpec;

impl Containers {
    /// Claims the name. Void claims are taken away by one at a time, so that it is never the next one's claim that goes;
    /// `turn` is held by who has the turn already.
    pub(super) fn claim(
        &self,
        spec: &ContainerSpec,
        link: &Path,
        mut turn: Option<File>,
    ) -> Result<(), Error> {
        loop {
            match std::os::unix::fs::symlink(short(&spec.id), link) {
                Err(e) if e.kind() == ErrorKind::AlreadyExists => {}
                other => return other.map_err(io("symlink", link)),
            }
            let Ok(id) = claimant(link) else {
                continue;
            };
            if id == spec.id {
                return Ok(());
            }
            if !self.is_void(&id, &spec.name) {
                return Err(Error::NameTaken {
                    name: spec.name.clone(),
                    id: id.chars().take(12).collect(),
                });
            }
            if turn.is_some() {
                std::fs::remove_file(link).map_err(io("unlink", link))?;
                continue;
            }
            turn = Some(self.turn()?);
        }
    }

    /// Waits for the turn to change claims of others.
    fn turn(&self) -> Result<File, Error> {
        let names = self.root.join("by-name");
        let dir = File::open(&names).map_err(io("open", &names))?;
        rustix::fs::flock(&dir, FlockOperation::LockExclusive)
            .map_err(|errno| io("flock", &names)(errno.into()))?;
        Ok(dir)
    }

    /// Whether the claim of `id` to a name does not hold: it is gone, was never finished, or has another name, as after
    /// a rename that was cut short.
    fn is_void(&self, id: &str, name: &str) -> bool {
        match self.read(id) {
            Ok(container) => container.spec.name != name,
            Err(error) => error.is_unfinished() && self.abandoned(Path::new(id)),
        }
    }

    /// Gives a container another name. It need not be at rest.
    ///
    /// # Errors
    /// [`Error::NameTaken`], [`Error::Io`].
    pub fn rename(&self, container: &Container, name: &str) -> Result<(), Error> {
        let names = self.root.join("by-name");
        let spec = ContainerSpec {
            name: name.to_owned(),
            ..container.spec.clone()
        };
        // Held to the end: before the specification says so, the claim looks void.
        let turn = self.turn()?;
        let copy = turn.try_clone().map_err(io("dup", &names))?;
        self.claim(&spec, &names.join(name), Some(copy))?;
        if let Err(error) = container.rewrite(&spec) {
            if spec.name != container.spec.name {
                let _ = std::fs::remove_file(names.join(name));
            }
            return Err(error);
        }
        let before = ("oldName", container.spec.name.clone());
        self.event(&spec, "rename", &[before]);
        let before = names.join(&container.spec.name);
        match claimant(&before) {
            Ok(id) if before != names.join(name) && container.dir.ends_with(&id) => {
                std::fs::remove_file(&before).map_err(io("unlink", &before))?;
            }
            _ => {}
        }
        sync_dir(&names)
    }

    /// The container of this name, id or unique id prefix.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::Ambiguous`], [`Error::Io`], [`Error::Damaged`].
    pub fn find(&self, word: &str) -> Result<Container, Error> {
        if let Some(id) = self.claimed(word) {
            match self.read(&id) {
                Ok(container) if container.spec.name != word => {}
                Err(error) if error.is_unfinished() => {}
                other => return other,
            }
        }
        match self.prefixed(word).and_then(|id| self.read(&id)) {
            Err(Error::NotFound(_)) => {}
            Err(error) if error.is_unfinished() => {}
            other => return other,
        }
        // A claim can be lost in a power cut.
        let mut all = self.list()?.into_iter();
        let found = all.rfind(|c| c.spec.name == word);
        let found = found.ok_or_else(|| Error::NotFound(word.to_owned()))?;
        let _ = self.claim(&found.spec, &self.root.join("by-name").join(word), None);
        Ok(found)
    }

    /// Whether the container of this name or id has a monitor though its specification is not whole.
    pub fn is_torn(&self, word: &str) -> bool {
        let torn = |dir: std::path::PathBuf| {
            let spec = read_json::<ContainerSpec>(&dir.join("spec.json"));
            let held = lock_file(&dir).is_some_and(|file| is_locked(&file));
            held && matches!(spec, Err(Error::Torn(_)))
        };
        self.dir_of(word).is_ok_and(torn)
    }

    /// Locks the container of this name or id, whose specification cannot be read.
    ///
    /// # Errors
    /// As [`Containers::find`], [`Error::Running`].
    pub fn lock_damaged(&self, word: &str) -> Result<Locked, Error> {
        Locked::open(self.dir_of(word)?, Subject::default())
    }

    /// The directory of the container of this name or id, which need not be readable.
    ///
    /// # Errors
    /// As [`Containers::find`].
    pub fn dir_of(&self, word: &str) -> Result<std::path::PathBuf, Error> {
        let id = self.claimed(word).map_or_else(|| self.prefixed(word), Ok)?;
        Ok(self.root.join(id))
    }

    /// The id whose claim to a name is there.
    fn claimed(&self, name: &str) -> Option<String> {
        if name.contains('/') || name.starts_with('.') {
            return None;
        }
        let link = self.root.join("by-name").join(name);
        claimant(&link).ok()
    }

    /// The id that begins like this.
    fn prefixed(&self, word: &str) -> Result<String, Error> {
        let missing = || Error::NotFound(word.to_owned());
        if word.is_empty() {
            return Err(missing());
        }
        let mut found = None;
        for id in self.ids()? {
            if id.starts_with(word) {
                if found.is_some() {
                    return Err(Error::Ambiguous(word.to_owned()));
                }
                found = Some(id);
            }
        }
        found.ok_or_else(missing)
    }
}

/// The id of the container that a claim is of.
pub(super) fn claimant(claim: &Path) -> std::io::Result<String> {
    let target = std::fs::read_link(claim)?;
    Ok(long(&target.to_string_lossy()))
}

/// An id of 64 hexadecimal digits in 52 of base 32: the target of a symbolic link of up to 59 bytes lies in its inode
/// (ext4), which makes and removes it at a tenth of the cost.
fn short(id: &str) -> String {
    regroup(id, 4, 5).unwrap_or_else(|| id.to_owned())
}

/// The inverse, which leaves an id as it is.
fn long(target: &str) -> String {
    let id = match target.len() {
        52 => regroup(target, 5, 4),
        _ => None,
    };
    id.map_or_else(
        || target.to_owned(),
        |mut id| {
            // The last digit of base 32 has more bits than there were.
            id.truncate(64);
            id
        },
    )
}

/// Digits of so many bits as digits of so many others, filled up with zeros.
fn regroup(digits: &str, from: u32, to: u32) -> Option<String> {
    let mut out = String::with_capacity(digits.len() * 5 / 4);
    let (mut bits, mut held) = (0, 0);
    for digit in digits.chars() {
        bits = bits << from | digit.to_digit(1 << from)?;
        held += from;
        while held >= to {
            held -= to;
            out.push(char::from_digit(bits >> held, 1 << to)?);
            bits &= (1 << held) - 1;
        }
    }
    if held > 0 {
        out.push(char::from_digit(bits << (to - held), 1 << to)?);
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::{long, short};

    #[test]
    fn ids_and_the_targets_of_claims() {
        let mixed: String = (0..64)
            .map(|n| char::from_digit(n * 7 % 16, 16).unwrap())
            .collect();
        for id in ["0".repeat(64), "f".repeat(64), mixed] {
            assert_eq!(short(&id).len(), 52);
            assert_eq!(long(&short(&id)), id);
            assert_eq!(long(&id), id);
        }
        assert_eq!(short("no id"), "no id");
    }
}
