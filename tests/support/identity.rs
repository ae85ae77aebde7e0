//! The four people who run `rl`.

use std::fs;

/// Who runs a program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Identity {
    /// A plain user with subordinate ids.
    Sub,
    /// A plain user without.
    NoSub,
    /// A plain user who is already inside `unshare -r`: id 0 of a user namespace with one id.
    Unshared,
    /// Root of the machine.
    Root,
}

/// A user of the machine.
#[derive(Clone, Debug)]
pub struct User {
    pub uid: u32,
    pub gid: u32,
}

/// Whether the tests themselves run as root, and so can become anybody.
pub fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

impl Identity {
    /// The identity by its name in [`crate::identities`].
    pub fn named(name: &str) -> Identity {
        match name {
            "sub" => Identity::Sub,
            "nosub" => Identity::NoSub,
            "unshared" => Identity::Unshared,
            "root" => Identity::Root,
            _ => panic!("no identity is called `{name}`"),
        }
    }

    /// Whether a container of this identity has more ids than one.
    pub fn has_many_ids(self) -> bool {
        matches!(self, Identity::Sub | Identity::Root)
    }

    /// The user to be, or why that cannot be.
    pub fn user(self) -> Result<User, String> {
        if self == Identity::Root {
            return if is_root() {
                Ok(User { uid: 0, gid: 0 })
            } else {
                Err("this test needs root".into())
            };
        }
        if is_root() {
            let name = if self == Identity::NoSub {
                "rl-ci-nosub"
            } else {
                "rl-ci-sub"
            };
            return by_name(name).ok_or(format!(
                "there is no user `{name}`: `tests/support/users` makes it"
            ));
        }
        let user = User {
            uid: rustix::process::getuid().as_raw(),
            gid: rustix::process::getgid().as_raw(),
        };
        match self {
            Identity::Unshared => Ok(user),
            Identity::Sub if has_subids(user.uid) => Ok(user),
            Identity::NoSub if !has_subids(user.uid) => Ok(user),
            _ => Err(format!(
                "you are not {self:?}: the tests run as every identity when root starts them"
            )),
        }
    }
}

fn passwd() -> Vec<Vec<String>> {
    let text = fs::read_to_string("/etc/passwd").unwrap();
    text.lines()
        .map(|line| line.split(':').map(str::to_owned).collect())
        .collect()
}

fn by_name(name: &str) -> Option<User> {
    let entry = passwd().into_iter().find(|fields| fields[0] == name)?;
    Some(User {
        uid: entry.get(2)?.parse().ok()?,
        gid: entry.get(3)?.parse().ok()?,
    })
}

/// The name of a user.
pub fn name_of(uid: u32) -> String {
    let uid = uid.to_string();
    let entry = passwd()
        .into_iter()
        .find(|fields| fields.get(2) == Some(&uid));
    entry.map_or(uid, |mut fields| fields.remove(0))
}

fn has_subids(uid: u32) -> bool {
    let uid = uid.to_string();
    let name = passwd()
        .into_iter()
        .find(|fields| fields.get(2) == Some(&uid))
        .map(|mut fields| fields.remove(0));
    ["/etc/subuid", "/etc/subgid"].iter().all(|file| {
        let text = fs::read_to_string(file).unwrap_or_default();
        text.lines()
            .filter_map(|line| line.split(':').next())
            .any(|owner| owner == uid || Some(owner) == name.as_deref())
    })
}
