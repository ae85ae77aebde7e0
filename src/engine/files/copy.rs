//! `rl cp`, by Docker's rules (docker cp, "Description").
//!
//! | source | target | becomes |
//! | --- | --- | --- |
//! | no directory | nothing there | the file of that name; with `/` at the end an error |
//! | no directory | no directory | replaced |
//! | no directory | a directory | a file of its own name in it |
//! | a directory | nothing there | the directory of that name |
//! | a directory | no directory | an error |
//! | a directory | a directory | one of its own name in it; with `/.` at the end its contents in it |
//!
//! A link is copied as a link, unless `-L` is given or a `/` is at its end, and then what it leads to gets its name; a link in the target is followed. Inside,
//! links never lead out of the container's root. What is copied in belongs to root, what is copied out to the caller and
//! without set-user-id bits, unless `-a` is given. What the host has that is no file with a name, such as `/dev/stdout`, is read or written ([`stream`]); a
//! device is never replaced.

use std::cell::Cell;
use std::io::{BufRead, BufReader};
use std::os::fd::AsFd as _;
use std::path::Path;

use rustix::io::Errno;

use super::super::{Context, Error, lifecycle};
use super::place::{Place, place, source_place};
use super::{View, stream, visit};
use crate::store::decoder;
use crate::store::pack::{Packer, Rules as PackRules};
use crate::store::unpack::{Owners, unpack_over};
use crate::sys::copy::{self as tree, Rules};
use crate::sys::fs::{CallError, Root};
use crate::sys::patient::Patient;

/// What is to be copied.
#[derive(Clone, Debug)]
pub struct Copy {
    /// `CONTAINER:PATH`, a path of this machine, or `-` for a tar from standard input.
    pub source: String,
    /// The same; `-` for a tar on standard output.
    pub target: String,
    /// Owners are kept.
    pub archive: bool,
    /// A link in the source is followed.
    pub follow: bool,
}

/// One of the two.
enum Side<'a> {
    Container(&'a str, &'a str),
    Host(&'a str),
    Stream,
}

/// Copies between a container and this machine.
///
/// # Errors
/// No such container or file, or what the rules above call an error.
pub fn copy(context: &Context<'_>, request: &Copy) -> Result<(), Error> {
    let (source, target) = (side(&request.source), side(&request.target));
    match (source, target) {
        (Side::Container(word, path), Side::Stream) => {
            let container = lifecycle::find(context, word)?;
            visit(context, &container, View::Whole, |inside| {
                let from = source_place(&inside.root, path, request.follow)?;
                pack(context, &from)
            })
        }
        (Side::Stream, Side::Container(word, path)) => {
            let container = lifecycle::find(context, word)?;
            let (uid, gid) = (&container.spec.uid_map, &container.spec.gid_map);
            let owners = match crate::userns::is_root_alone(uid) {
                true => Owners::Remembered,
                false => Owners::Kept {
                    uid: uid.clone(),
                    gid: gid.clone(),
                },
            };
            visit(context, &container, View::Whole, |inside| {
                let to = place(&inside.root, path, true)?;
                if to.stat.is_none() {
                    return Err(to.fail(Errno::NOENT));
                }
                let root = Root::from_fd(to.open()?);
                let report = unpack_over(archive()?, root, &owners).map_err(Error::Unpack)?;
                for note in report.notes {
                    context.ui.notice(&note);
                }
                Ok(())
            })
        }
        (Side::Container(word, path), Side::Host(host)) => {
            let container = lifecycle::find(context, word)?;
            if let Some(out) = stream::target(host)? {
                return visit(context, &container, View::Whole, |inside| {
                    stream::write(&source_place(&inside.root, path, true)?, out)
                });
            }
            let to = place(&host_root()?, &absolute(host)?, true)?;
            visit(context, &container, View::Whole, |inside| {
                let from = source_place(&inside.root, path, request.follow)?;
                carry(
                    context,
                    (request.archive, false),
                    (&from, path),
                    &to,
                    |(uid, gid)| match request.archive {
                        true => (uid, gid),
                        false => inside.own,
                    },
                )
            })
        }
        (Side::Host(host), Side::Container(word, path)) => {
            let container = lifecycle::find(context, word)?;
            if let Some(input) = stream::source(host)? {
                return visit(context, &container, View::Whole, |inside| {
                    stream::read(input, host, &place(&inside.root, path, true)?)
                });
            }
            let from = source_place(&host_root()?, &absolute(host)?, request.follow)?;
            visit(context, &container, View::Whole, |inside| {
                let to = place(&inside.root, path, true)?;
                let lost = Cell::new(false);
                let (uids, gids) = (&container.spec.uid_map, &container.spec.gid_map);
                carry(
                    context,
                    (request.archive, true),
                    (&from, host),
                    &to,
                    |(uid, gid)| {
                        let known = uids.to_host(uid).is_some() && gids.to_host(gid).is_some();
                        lost.set(lost.get() || (request.archive && !known));
                        match request.archive && known {
                            true => (uid, gid),
                            false => (0, 0),
                        }
                    },
                )?;
                if lost.get() {
                    let text = "owners that do not exist in the container became its root";
                    context.ui.notice(text);
                }
                Ok(())
            })
        }
        _ => Err(Error::CopySides),
    }
}

/// `CONTAINER:PATH`, unless it looks like a path of this machine: with a `/` or `.` at the start.
fn side(word: &str) -> Side<'_> {
    match word.split_once(':') {
        _ if word == "-" => Side::Stream,
        Some((name, path)) if !name.is_empty() && !name.starts_with(['/', '.']) => {
            Side::Container(name, path)
        }
        _ => Side::Host(word),
    }
}

fn host_root() -> Result<Root, Error> {
    Ok(Root::open(Path::new("/"))?)
}

/// With the current directory before it.
fn absolute(path: &str) -> Result<String, Error> {
    if path.starts_with('/') {
        return Ok(path.to_owned());
    }
    let here = std::env::current_dir().map_err(Error::CurrentDirectory)?;
    // A root of its own has no `..` above it, which is as the host's.
    Ok(format!("{}/{path}", here.display()))
}

/// A word that stands for what is in a directory.
fn is_contents(path: &str) -> bool {
    path == "." || path.ends_with("/.")
}

fn carry(
    context: &Context<'_>,
    (archive, inwards): (bool, bool),
    (from, from_word): (&Place, &str),
    to: &Place,
    owner: impl Fn((u32, u32)) -> (u32, u32),
) -> Result<(), Error> {
    let rules = Rules {
        owner: &owner,
        remembered: archive,
        spare_directories: true,
        // Root inside is the caller outside, as whom nobody else is to run what an image holds.
        set_ids: inwards || archive,
        own_capabilities: inwards,
        ..Rules::PLAIN
    };
    let report = match (from.is_directory(), to.is_directory()) {
        (true, true) => {
            let target = to.open()?;
            let own_name = from.called.to_bytes() != b"." && !is_contents(from_word);
            match own_name {
                true => {
                    let (dir, name) = (from.dir.as_fd(), &*from.name);
                    tree::entry(dir, name, target.as_fd(), &from.called, &rules)
                }
                false => tree::contents(from.open()?.as_fd(), target.as_fd(), &rules),
            }
        }
        (true, false) if to.stat.is_some() => return Err(to.fail(Errno::NOTDIR)),
        (false, true) => {
            let (dir, name) = (from.dir.as_fd(), &*from.name);
            tree::entry(dir, name, to.open()?.as_fd(), &from.called, &rules)
        }
        (false, false) if to.word.ends_with('/') => {
            let missing = to.stat.map_or(Errno::NOENT, |_| Errno::NOTDIR);
            return Err(to.fail(missing));
        }
        _ if to.is_device() => return Err(Error::CopyDevice(to.word.clone())),
        _ => tree::entry(
            from.dir.as_fd(),
            &from.name,
            to.dir.as_fd(),
            &to.name,
            &rules,
        ),
    };
    for note in report?.notes {
        context.ui.notice(&note);
    }
    Ok(())
}

/// The tar on standard input, compressed or not.
fn archive() -> Result<impl BufRead, Error> {
    let stdin = BufReader::with_capacity(128 << 10, Patient(std::io::stdin().lock()));
    let failed = CallError::of(|| "read(standard input)".to_owned());
    let tar = decoder(stdin).map_err(|e| failed(crate::sys::errno::to_errno(e)))?;
    Ok(BufReader::with_capacity(128 << 10, tar))
}

/// A tar of one file or directory on standard output.
fn pack(context: &Context<'_>, from: &Place) -> Result<(), Error> {
    let mut packer = Packer::new(super::export::stdout()?, PackRules::PLAIN);
    let packed = match from.called.to_bytes() {
        b"." => packer.tree(from.open()?.as_fd(), true),
        called => packer.entry(from.dir.as_fd(), &from.name, called),
    };
    super::export::told(context, packed.and_then(|()| packer.finish()))
}
