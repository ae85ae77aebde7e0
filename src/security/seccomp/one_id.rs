//! What package managers need where only one id is mapped: giving a file to somebody else, becoming somebody
//! else and making a device cannot work, since nobody else exists, and unpacking a package must not fail of
//! it. These calls succeed and do nothing. A program of its own, beside whichever profile is in force: of
//! two answers the kernel takes the stricter, and a call that the profile denies stays denied.
//!
//! What can be carried out still is: owner 0 or "as it was" goes to the kernel, and so do FIFOs, sockets
//! and the device 0:0, overlay's whiteout.

use super::filter::{Action, Clause, Cond, Decision, Filter, Op, Section};
use super::policy::INT;
use super::table::{Arch, row};

const DONE: Action = Action::Errno(0);

/// The position of the owner among the arguments; the group follows it.
const CHOWN: &[(&str, u8)] = &[
    ("chown", 1),
    ("chown32", 1),
    ("fchown", 1),
    ("fchown32", 1),
    ("fchownat", 2),
    ("lchown", 1),
    ("lchown32", 1),
];

/// With one id there is nothing that these could change.
#[rustfmt::skip]
const SET_ID: &[&str] = &[
    "setfsgid", "setfsgid32", "setfsuid", "setfsuid32", "setgid", "setgid32", "setgroups", "setgroups32", "setregid",
    "setregid32", "setresgid", "setresgid32", "setresuid", "setresuid32", "setreuid", "setreuid32", "setuid", "setuid32",
];

/// The position of the mode; the device follows it.
const MKNOD: &[(&str, u8)] = &[("mknod", 1), ("mknodat", 2)];

fn is(arg: u8, op: Op, value: u64) -> Cond {
    Cond { arg, op, value }
}

/// Owner and group each 0 or -1 is real; anything else is done with.
fn chown(owner: u8) -> Decision {
    const KEEP: u64 = 0xffff_ffff;
    let real = |uid, gid| Clause {
        all: vec![is(owner, INT, uid), is(owner + 1, INT, gid)],
        then: Action::Allow,
    };
    Decision {
        clauses: vec![real(0, 0), real(KEEP, KEEP), real(0, KEEP), real(KEEP, 0)],
        otherwise: DONE,
    }
}

/// Character and block devices, except for 0:0.
fn mknod(mode: u8) -> Decision {
    const FORMAT: Op = Op::MaskedEq(libc::S_IFMT as u64);
    let when = |cond, then| Clause {
        all: vec![cond],
        then,
    };
    Decision {
        clauses: vec![
            when(is(mode + 1, INT, 0), Action::Allow),
            when(is(mode, FORMAT, u64::from(libc::S_IFCHR)), DONE),
            when(is(mode, FORMAT, u64::from(libc::S_IFBLK)), DONE),
        ],
        otherwise: Action::Allow,
    }
}

/// The emulation on the architecture `native`.
pub(super) fn filter(native: Arch) -> Filter {
    let chowns = || CHOWN.iter().map(|&(name, at)| (name, chown(at)));
    let ids = || SET_ID.iter().map(|&name| (name, Decision::from(DONE)));
    let nodes = || MKNOD.iter().map(|&(name, at)| (name, mknod(at)));
    emulation(native, || chowns().chain(ids()).chain(nodes()).collect())
}

/// That of setgroups(2) alone, for a user namespace with other ids that may not set groups (user_namespaces(7),
/// "The /proc/pid/setgroups file").
pub(super) fn no_groups(native: Arch) -> Filter {
    let calls = ["setgroups", "setgroups32"];
    emulation(native, || calls.map(|name| (name, DONE.into())).into())
}

fn emulation(native: Arch, decisions: impl Fn() -> Vec<(&'static str, Decision)>) -> Filter {
    let section = |&arch: &Arch| {
        let mut section = Section::new(arch, Action::Allow, Action::Allow);
        for (name, decision) in decisions() {
            let decision = section.intern(decision);
            if let Some(row) = row(name) {
                section.decide(row, decision);
            }
        }
        section
    };
    Filter {
        sections: native.with_compat().iter().map(section).collect(),
        x32: Action::Allow,
        other_arch: Action::Allow,
    }
}
