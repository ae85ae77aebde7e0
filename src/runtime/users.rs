//! Users and groups by the container's own `/etc/passwd` and `/etc/group` (passwd(5), group(5)).

use std::io::Read as _;

use rustix::fs::{FileType, OFlags};

use super::error::{At, InitError, Stage};
use super::inside::Root;

/// Files beyond this are not account files.
const MAX: u64 = 16 << 20;

/// Who the command runs as.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Identity {
    pub uid: u32,
    pub gid: u32,
    pub groups: Vec<u32>,
    pub home: String,
}

/// Resolves `user[:group]` and the additional groups as Docker does: a user given without a group
/// gets the groups of its `/etc/group` memberships; a number needs no entry.
pub(super) fn resolve(root: &Root, user: &str, more: &[String]) -> Result<Identity, InitError> {
    let passwd = read(root, "etc/passwd")?;
    let group = read(root, "etc/group")?;
    identify(&passwd, &group, user, more).map_err(|call| InitError {
        stage: Stage::User,
        call,
        errno: 0,
    })
}

fn identify(passwd: &str, group: &str, spec: &str, more: &[String]) -> Result<Identity, String> {
    let (user, given_group) = match spec.split_once(':') {
        Some((user, group)) => (user, Some(group).filter(|g| !g.is_empty())),
        None => (spec, None),
    };
    let user = if user.is_empty() { "0" } else { user };
    let entry = fields(passwd).find(|f| f[0] == user).or_else(|| {
        user.parse::<u32>()
            .ok()
            .and_then(|uid| fields(passwd).find(|f| number(f, 2) == Some(uid)))
    });
    let uid = match (&entry, user.parse::<u32>()) {
        (Some(f), _) => {
            number(f, 2).ok_or(format!("user `{user}` has no number in `/etc/passwd`"))?
        }
        (None, Ok(uid)) => uid,
        (None, Err(_)) => return Err(format!("no user `{user}` in the image's `/etc/passwd`")),
    };
    let mut gid = entry.as_ref().and_then(|f| number(f, 3)).unwrap_or(0);
    let mut groups = Vec::new();
    match given_group {
        Some(name) => gid = group_id(group, name)?,
        None => {
            if let Some(f) = &entry {
                groups.extend(
                    fields(group)
                        .filter(|g| g.get(3).is_some_and(|m| m.split(',').any(|n| n == f[0])))
                        .filter_map(|g| number(&g, 2)),
                );
            }
        }
    }
    for name in more {
        groups.push(group_id(group, name)?);
    }
    groups.sort_unstable();
    groups.dedup();
    let home = entry
        .and_then(|f| f.get(5).copied())
        .filter(|h| !h.is_empty())
        .unwrap_or("/");
    Ok(Identity {
        uid,
        gid,
        groups,
        home: home.to_owned(),
    })
}

fn group_id(group: &str, name: &str) -> Result<u32, String> {
    match fields(group)
        .find(|g| g[0] == name)
        .and_then(|g| number(&g, 2))
    {
        Some(gid) => Ok(gid),
        None => name
            .parse()
            .map_err(|_| format!("no group `{name}` in the image's `/etc/group`")),
    }
}

fn fields(file: &str) -> impl Iterator<Item = Vec<&str>> {
    file.lines()
        .filter(|l| !l.starts_with('#') && !l.is_empty())
        .map(|l| l.split(':').collect())
}

fn number(fields: &[&str], index: usize) -> Option<u32> {
    fields.get(index)?.parse().ok()
}

/// A file of the image: only if it is a regular file of bounded size; a missing one is empty.
fn read(root: &Root, path: &str) -> Result<String, InitError> {
    let call = || format!("openat2(root, `{path}`)");
    let fd = match root.open(path, OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY) {
        Ok(fd) => fd,
        Err(rustix::io::Errno::NOENT | rustix::io::Errno::NOTDIR) => return Ok(String::new()),
        Err(errno) => return Err(errno).at(Stage::User, call),
    };
    let stat = rustix::fs::fstat(&fd).at(Stage::User, call)?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
        return Ok(String::new());
    }
    let mut bytes = Vec::new();
    std::fs::File::from(fd)
        .take(MAX)
        .read_to_end(&mut bytes)
        .at(Stage::User, call)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh\nwww:x:33:33::/var/www:/bin/sh\n";
    const GROUP: &str = "root:x:0:\nwww:x:33:\naudio:x:29:www,x\nstaff:x:50:\n";

    fn who(spec: &str, more: &[&str]) -> Result<Identity, String> {
        let more: Vec<String> = more.iter().map(|s| (*s).to_owned()).collect();
        identify(PASSWD, GROUP, spec, &more)
    }

    #[test]
    fn names_numbers_and_groups() {
        let www = who("www", &[]).unwrap();
        assert_eq!(
            (www.uid, www.gid, www.groups, www.home.as_str()),
            (33, 33, vec![29], "/var/www")
        );
        assert_eq!(who("33", &[]).unwrap().groups, vec![29]);
        let with_group = who("www:staff", &["29", "audio"]).unwrap();
        assert_eq!((with_group.gid, with_group.groups), (50, vec![29]));
        let unknown = who("1234", &[]).unwrap();
        assert_eq!(
            (unknown.uid, unknown.gid, unknown.home.as_str()),
            (1234, 0, "/")
        );
        assert_eq!(who("", &[]).unwrap().home, "/root");
        assert!(who("nobody", &[]).unwrap_err().contains("nobody"));
        assert!(who("www:nogroup", &[]).is_err());
    }
}
