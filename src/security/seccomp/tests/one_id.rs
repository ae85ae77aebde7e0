//! What succeeds without being done where only one id is mapped.

use super::super::{one_id, table::Arch};
use super::*;

const DONE: u32 = Action::Errno(0).ret();
const REAL: u32 = Action::Allow.ret();
const KEEP: u64 = 0xffff_ffff;

fn answer(arch: Arch, name: &str, args: &[u64]) -> Option<u32> {
    let program = assemble(&one_id::filter(arch)).unwrap();
    Some(ask(&program, arch, arch.number(name)?, args))
}

#[test]
fn only_what_cannot_be_is_passed_over() {
    let at = 0xffff_ff9c;
    for arch in ARCHS {
        let check = |name: &str, args: &[u64], expected: u32| {
            // Not every architecture has every call.
            if let Some(got) = answer(arch, name, args) {
                assert_eq!(got, expected, "{arch:?} {name} {args:x?}");
            }
        };
        for (uid, gid, expected) in [
            (0, 0, REAL),
            (KEEP, KEEP, REAL),
            (u64::MAX, u64::MAX, REAL),
            (0, KEEP, REAL),
            (KEEP, 0, REAL),
            (0, 42, DONE),
            (1000, KEEP, DONE),
            (1 << 32 | 7, 0, DONE),
        ] {
            for name in [
                "chown", "lchown", "fchown", "chown32", "lchown32", "fchown32",
            ] {
                check(name, &[3, uid, gid], expected);
            }
            check("fchownat", &[at, 0x1000, uid, gid, 0], expected);
        }
        for name in ["setuid", "setgroups", "setresgid", "setfsuid", "setreuid32"] {
            check(name, &[1000, 1000, 1000], DONE);
        }
        for (mode, device, expected) in [
            (0o020_666, 0x103, DONE),
            (0o060_600, 0x800, DONE),
            (0o020_000, 0, REAL),
            (0o010_644, 0, REAL),
            (0o100_644, 0x103, REAL),
            (0o140_644, 0, REAL),
        ] {
            check("mknod", &[0x1000, mode, device], expected);
            check("mknodat", &[at, 0x1000, mode, device], expected);
        }
        for name in ["capset", "getuid", "chmod", "mount", "execve"] {
            check(name, &[1000, 1000, 1000], REAL);
        }
    }
}
