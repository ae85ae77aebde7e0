//! The default profile.

use std::collections::BTreeMap;

use super::super::filter::{Action, assemble};
use super::super::policy::{self, ALLOWED, BY_ARGUMENT, DENIED, WITH_CAP};
use super::super::table::{Arch, NUMBERS, TABLE, row};
use super::interpreter::{Call, run};
use super::*;
use crate::security::caps::Cap;

#[test]
fn every_call_is_filed_once() {
    let mut count: BTreeMap<&str, usize> = BTreeMap::new();
    let filed = ALLOWED
        .iter()
        .chain(DENIED)
        .chain(WITH_CAP.iter().flat_map(|(_, names)| *names));
    for name in filed.chain(BY_ARGUMENT) {
        assert!(row(name).is_some(), "{name} is not in the table");
        *count.entry(name).or_default() += 1;
    }
    for (name, ..) in TABLE {
        // What CAP_SYS_ADMIN frees from the look at its arguments.
        let twice = matches!(name, "clone" | "clone3" | "unshare");
        assert_eq!(count.get(name), Some(&if twice { 2 } else { 1 }), "{name}");
    }
}

#[test]
fn the_program_says_what_the_policy_says() {
    let words = [
        0,
        1,
        2,
        9,
        16,
        17,
        38,
        40,
        0x5412,
        0x541c,
        0x1000_0000,
        0x2_0000,
        u64::MAX,
    ];
    for caps in [CapSet::EMPTY, CapSet::DEFAULT, CapSet::ALL] {
        for native in ARCHS {
            let filter = policy::filter(native, caps);
            let program = assemble(&filter).unwrap();
            for section in &filter.sections {
                for nr in (0..NUMBERS as u32 + 600).chain([0x3fff_ffff]) {
                    for arg in words {
                        let args = [arg, words[arg as usize % words.len()], 9, 0, 0, 0];
                        let expected = decide(section.get(nr), &args).ret();
                        let answer = ask(&program, section.arch, nr, &args);
                        assert_eq!(answer, expected, "{:?} {nr} {args:x?}", section.arch);
                    }
                }
            }
        }
    }
}

/// Names, and what becomes of them without capabilities, written down a second time from the requirement.
#[test]
fn the_walls_stand() {
    let denied = [
        "init_module",
        "finit_module",
        "delete_module",
        "kexec_load",
        "kexec_file_load",
        "bpf",
        "perf_event_open",
        "mount",
        "umount2",
        "pivot_root",
        "open_tree",
        "open_tree_attr",
        "move_mount",
        "fsopen",
        "fsconfig",
        "fsmount",
        "fspick",
        "mount_setattr",
        "setns",
        "keyctl",
        "add_key",
        "request_key",
        "userfaultfd",
        "io_uring_setup",
        "io_uring_enter",
        "io_uring_register",
        "kcmp",
        "quotactl",
        "quotactl_fd",
        "swapon",
        "swapoff",
        "reboot",
        "settimeofday",
        "clock_settime",
        "iopl",
        "ioperm",
        "acct",
        "syslog",
        "name_to_handle_at",
        "open_by_handle_at",
        "chroot",
        "pidfd_getfd",
        "move_pages",
        "migrate_pages",
        "mbind",
        "set_mempolicy",
        "vhangup",
        "lookup_dcookie",
        "sethostname",
        "setdomainname",
        "fanotify_init",
        "nfsservctl",
    ];
    let allowed = [
        "read",
        "write",
        "openat",
        "mmap",
        "futex",
        "execve",
        "ptrace",
        "process_vm_readv",
        "setuid",
        "setgroups",
        "capset",
        "prctl",
        "seccomp",
        "landlock_create_ruleset",
        "memfd_create",
        "clock_gettime",
        "rseq",
        "statx",
        "pidfd_open",
        "epoll_pwait2",
        "mknodat",
        "getrandom",
        "mseal",
        "futex_wait",
        "setxattrat",
    ];
    for native in ARCHS {
        let program = default(native, CapSet::EMPTY);
        let check = |name: &str, action: Action| {
            if let Some(nr) = native.number(name) {
                assert_eq!(
                    ask(&program, native, nr, &[]),
                    action.ret(),
                    "{native:?} {name}"
                );
            }
        };
        denied.iter().for_each(|name| check(name, EPERM));
        allowed.iter().for_each(|name| check(name, Action::Allow));
        check("clone3", ENOSYS);
        for nr in [NUMBERS as u32, 500, 1000, 0x3fff_ffff] {
            assert_eq!(ask(&program, native, nr, &[]), ENOSYS.ret());
        }
    }
}

#[test]
fn capabilities_open_their_calls_and_no_others() {
    let gained = |cap: Cap| {
        let (none, with) = (
            default(Arch::X86_64, CapSet::EMPTY),
            default(Arch::X86_64, CapSet::EMPTY.with(cap)),
        );
        let names = TABLE.iter().filter(|row| {
            Arch::X86_64.number(row.0).is_some_and(|nr| {
                // The first argument asks clone and unshare for a namespace and socket for a packet socket.
                [[0; 1], [0x1000_0000], [17]].iter().any(|args| {
                    let of = |program| ask(program, Arch::X86_64, nr, args);
                    of(&none) != Action::Allow.ret() && of(&with) == Action::Allow.ret()
                })
            })
        });
        names.map(|row| row.0).collect::<Vec<_>>()
    };
    assert_eq!(gained(Cap::SYS_CHROOT), ["chroot"]);
    assert_eq!(
        gained(Cap::DAC_READ_SEARCH),
        ["name_to_handle_at", "open_by_handle_at"]
    );
    assert_eq!(gained(Cap::SYSLOG), ["syslog"]);
    assert_eq!(gained(Cap::BPF), ["bpf"]);
    assert_eq!(gained(Cap::PERFMON), ["perf_event_open"]);
    assert_eq!(gained(Cap::NET_RAW), ["socket"]);
    assert_eq!(gained(Cap::CHOWN), [""; 0]);
    let admin = gained(Cap::SYS_ADMIN);
    for name in [
        "mount",
        "umount2",
        "unshare",
        "setns",
        "clone",
        "clone3",
        "pivot_root",
        "bpf",
        "fsopen",
    ] {
        assert!(admin.contains(&name), "{name}");
    }
    // Nothing opens what belongs to the first user namespace.
    let all = default(Arch::X86_64, CapSet::ALL);
    for name in DENIED {
        if let Some(nr) = Arch::X86_64.number(name) {
            assert_eq!(ask(&all, Arch::X86_64, nr, &[]), EPERM.ret(), "{name}");
        }
    }
}

#[test]
fn arguments_decide_as_the_kernel_reads_them() {
    const HIGH: u64 = 0xdead_beef_0000_0000;
    for native in ARCHS {
        let program = default(native, CapSet::EMPTY);
        let is = |name: &str, args: &[u64], action: Action| {
            let Some(nr) = native.number(name) else {
                return;
            };
            assert_eq!(
                ask(&program, native, nr, args),
                action.ret(),
                "{native:?} {name} {args:x?}"
            );
        };
        for family in 0..64 {
            let usual = matches!(family, 1 | 2 | 10 | 16);
            let answer = if usual { Action::Allow } else { NO_FAMILY };
            is("socket", &[family, 1], answer);
            // The kernel takes an int: what stands above it must not matter.
            is("socket", &[family | HIGH, 1], answer);
        }
        is(
            "socket",
            &[16, 3, 9],
            Action::Errno(libc::EPROTONOSUPPORT as u16),
        );
        is("socket", &[16, 3, 0], Action::Allow);
        is("socket", &[2, 3, 9], Action::Allow);
        is("socketpair", &[1, 1], Action::Allow);
        is("socketpair", &[30, 1], NO_FAMILY);
        for request in [0x5412, 0x541c] {
            is("ioctl", &[0, request], EPERM);
            is("ioctl", &[0, request | HIGH], EPERM);
        }
        is("ioctl", &[0x5412, 0x5401], Action::Allow);
        is("clone", &[0x11], Action::Allow);
        is("clone", &[0x3d_0f00], Action::Allow);
        for bit in [
            0x2_0000,
            0x200_0000,
            0x400_0000,
            0x800_0000,
            0x1000_0000,
            0x2000_0000,
            0x4000_0000,
        ] {
            is("clone", &[bit | 0x11], EPERM);
            is("unshare", &[bit], EPERM);
        }
        is("unshare", &[0x80], EPERM);
        is("unshare", &[0x600], Action::Allow);
        for (persona, fine) in [
            (0, true),
            (8, true),
            (0x2_0000, true),
            (0xffff_ffff, true),
            (0x4_0000, false),
        ] {
            let answer = if fine { Action::Allow } else { EPERM };
            is("personality", &[persona], answer);
            is("personality", &[persona | HIGH], answer);
        }
    }
    let program = default(Arch::X86_64, CapSet::EMPTY.with(Cap::NET_RAW));
    let socket = Arch::X86_64.number("socket").unwrap();
    assert_eq!(
        ask(&program, Arch::X86_64, socket, &[17]),
        Action::Allow.ret()
    );
    assert_eq!(ask(&program, Arch::X86_64, socket, &[38]), NO_FAMILY.ret());
}

#[test]
fn other_conventions_do_not_slip_by() {
    let program = default(Arch::X86_64, CapSet::EMPTY);
    for nr in [0, 1, 165, 41, 0x3fff_ffff] {
        assert_eq!(
            ask(&program, Arch::X86_64, nr | 0x4000_0000, &[]),
            ENOSYS.ret()
        );
    }
    assert_eq!(ask(&program, Arch::X86_64, u32::MAX, &[]), ENOSYS.ret());
    // The same numbers mean something else on i386: 21 is mount there, access here.
    assert_eq!(ask(&program, Arch::X86, 21, &[]), EPERM.ret());
    assert_eq!(ask(&program, Arch::X86_64, 21, &[]), Action::Allow.ret());
    // Its socketcall hides the family from us.
    assert_eq!(ask(&program, Arch::X86, 102, &[1]), ENOSYS.ret());
    let killed = Action::KillProcess.ret();
    assert_eq!(ask(&program, Arch::Arm, 3, &[]), killed);
    assert_eq!(ask(&program, Arch::Aarch64, 63, &[]), killed);
    let arm64 = default(Arch::Aarch64, CapSet::EMPTY);
    assert_eq!(ask(&arm64, Arch::X86, 3, &[]), killed);
    assert_eq!(ask(&arm64, Arch::X86_64, 0, &[]), killed);
    assert_eq!(ask(&arm64, Arch::Aarch64, 0x4000_003f, &[]), ENOSYS.ret());
}

#[test]
fn programs_for_32_bit_arm_have_their_own_numbers() {
    let arm64 = default(Arch::Aarch64, CapSet::EMPTY);
    // Mount there, setpgid here; read there, removexattr here.
    assert_eq!(ask(&arm64, Arch::Arm, 21, &[]), EPERM.ret());
    assert_eq!(ask(&arm64, Arch::Arm, 3, &[]), Action::Allow.ret());
    // Under an audit architecture of its own (include/uapi/linux/audit.h): machine 40, little-endian, not 64 bits.
    let read = Call {
        nr: 3,
        arch: 40 | 0x4000_0000,
        ..Call::default()
    };
    assert_eq!(run(&arm64, &read).0, Action::Allow.ret());
    // What flushes the cache and sets the thread pointer, and no number beside them.
    for (nr, expected) in [
        (0xf_0001, ENOSYS),
        (0xf_0002, Action::Allow),
        (0xf_0003, ENOSYS),
        (0xf_0005, Action::Allow),
        (0xf_0006, ENOSYS),
    ] {
        assert_eq!(ask(&arm64, Arch::Arm, nr, &[]), expected.ret(), "{nr:x}");
        assert_eq!(ask(&arm64, Arch::Aarch64, nr, &[]), ENOSYS.ret(), "{nr:x}");
    }
}

#[test]
fn the_program_is_short() {
    for caps in [CapSet::DEFAULT, CapSet::ALL] {
        let program = default(Arch::X86_64, caps);
        let steps = |nr| {
            run(
                &program,
                &Call {
                    nr,
                    arch: Arch::X86_64.audit(),
                    ..Call::default()
                },
            )
            .1
        };
        let most = (0..NUMBERS as u32).map(steps).max().unwrap();
        assert!(program.len() < 600 && most < 32);
    }
}

/// The kernel foresees an always allowed call only when the way to it uses these (kernel/seccomp.c,
/// `seccomp_is_const_allow`).
#[test]
fn the_way_to_allow_can_be_foreseen() {
    let program = default(Arch::X86_64, CapSet::EMPTY);
    for nr in
        ["read", "futex", "openat", "epoll_wait"].map(|name| Arch::X86_64.number(name).unwrap())
    {
        let mut pc = 0;
        let mut accu = 0;
        loop {
            let SockFilter { code, jt, jf, k } = program[pc];
            pc += 1;
            match (code, k) {
                (0x20, 0) => accu = nr,
                (0x20, 4) => accu = Arch::X86_64.audit(),
                (0x05, _) => pc += k as usize,
                (0x15, _) => pc += usize::from(if accu == k { jt } else { jf }),
                (0x35, _) => pc += usize::from(if accu >= k { jt } else { jf }),
                (0x06, _) => break assert_eq!(k, Action::Allow.ret()),
                other => panic!("{other:x?} on the way to {nr}"),
            }
        }
    }
}
