//! The default profile and profiles of the user's own, run on a machine of our own: every number of every
//! architecture, and the arguments that matter.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::filter::{Action, Clause, Cond, Decision, Filter, Op, Section, assemble};
use super::interpreter::{Call, run};
use super::policy::{self, ALLOWED, BY_ARGUMENT, DENIED, WITH_CAP};
use super::table::{Arch, NUMBERS, TABLE, row};
use super::{Error, Profile, compile};
use crate::security::caps::{Cap, CapSet};
use crate::sys::seccomp::SockFilter;

const EPERM: Action = Action::Errno(libc::EPERM as u16);
const ENOSYS: Action = Action::Errno(libc::ENOSYS as u16);
const NO_FAMILY: Action = Action::Errno(libc::EAFNOSUPPORT as u16);
const ARCHS: [Arch; 3] = [Arch::X86_64, Arch::X86, Arch::Aarch64];

fn default(native: Arch, caps: CapSet) -> Vec<SockFilter> {
    assemble(&policy::filter(native, caps)).unwrap()
}

fn ask(program: &[SockFilter], arch: Arch, nr: u32, args: &[u64]) -> u32 {
    let mut call = Call {
        nr,
        arch: arch.audit(),
        ..Call::default()
    };
    call.args[..args.len()].copy_from_slice(args);
    run(program, &call).0
}

fn holds(cond: &Cond, args: &[u64; 6]) -> bool {
    let arg = args[usize::from(cond.arg)];
    match cond.op {
        Op::Eq => arg == cond.value,
        Op::Ne => arg != cond.value,
        Op::Lt => arg < cond.value,
        Op::Le => arg <= cond.value,
        Op::Gt => arg > cond.value,
        Op::Ge => arg >= cond.value,
        Op::MaskedEq(mask) => arg & mask == cond.value & mask,
    }
}

/// What a decision says, without a program.
fn decide(decision: &Decision, args: &[u64; 6]) -> Action {
    let clause = decision
        .clauses
        .iter()
        .find(|clause| clause.all.iter().all(|c| holds(c, args)));
    clause.map_or(decision.otherwise, |clause| clause.then)
}

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
    let arm = Call {
        arch: 0x4000_0028,
        ..Call::default()
    };
    assert_eq!(run(&program, &arm).0, Action::KillProcess.ret());
    assert_eq!(
        ask(&program, Arch::Aarch64, 63, &[]),
        Action::KillProcess.ret()
    );
    let arm64 = default(Arch::Aarch64, CapSet::EMPTY);
    assert_eq!(run(&arm64, &arm).0, Action::KillProcess.ret());
    assert_eq!(ask(&arm64, Arch::Aarch64, 0x4000_003f, &[]), ENOSYS.ret());
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
        println!(
            "{} instructions, at most {most} for one call",
            program.len()
        );
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

fn one_call(decision: Decision) -> Filter {
    let mut section = Section::new(Arch::X86_64, Action::Trap, ENOSYS);
    let index = section.intern(decision);
    section.set(7, index);
    Filter {
        sections: vec![section],
        x32: ENOSYS,
        other_arch: Action::KillProcess,
    }
}

fn cond_strategy() -> impl Strategy<Value = Cond> {
    let word = prop_oneof![0..4_u64, Just(u64::MAX), Just(1 << 32), any::<u64>()];
    (0..6_u8, 0..7_usize, word.clone(), word).prop_map(|(arg, op, value, mask)| {
        let plain = [
            Op::Eq,
            Op::Ne,
            Op::Lt,
            Op::Le,
            Op::Gt,
            Op::Ge,
            Op::MaskedEq(mask),
        ];
        Cond {
            arg,
            op: plain[op],
            value,
        }
    })
}

proptest! {
    #[test]
    fn comparisons_are_those_of_64_bit_numbers(
        cond in cond_strategy(),
        offset in prop_oneof![Just(0_u64), Just(1), Just(u64::MAX), Just(1 << 32), any::<u64>()],
    ) {
        let decision = Decision {
            clauses: vec![Clause { all: vec![cond], then: Action::Allow }],
            otherwise: EPERM,
        };
        let program = assemble(&one_call(decision.clone())).unwrap();
        let mut args = [0x5555; 6];
        args[usize::from(cond.arg)] = cond.value.wrapping_add(offset);
        prop_assert_eq!(ask(&program, Arch::X86_64, 7, &args), decide(&decision, &args).ret());
    }

    /// Programs long enough to need jumps over jumps.
    #[test]
    fn long_programs_jump_right(
        all in prop::collection::vec((prop::collection::vec(cond_strategy(), 1..4), 0..4_u16), 60..200),
        args in prop::array::uniform6(prop_oneof![0..4_u64, any::<u64>()]),
    ) {
        let clauses: Vec<Clause> = all
            .into_iter()
            .map(|(all, errno)| Clause { all, then: Action::Errno(errno) })
            .collect();
        let decision = Decision { clauses, otherwise: Action::Allow };
        let mut filter = one_call(decision.clone());
        for nr in 0..NUMBERS as u32 {
            let index = filter.sections[0].intern(Action::Errno(nr as u16).into());
            if nr != 7 {
                filter.sections[0].set(nr, index);
            }
        }
        let program = assemble(&filter).unwrap();
        prop_assert!(program.len() > 512);
        prop_assert_eq!(ask(&program, Arch::X86_64, 7, &args), decide(&decision, &args).ret());
        for nr in (0..NUMBERS as u32).filter(|nr| *nr != 7) {
            prop_assert_eq!(ask(&program, Arch::X86_64, nr, &args), Action::Errno(nr as u16).ret());
        }
    }
}

#[test]
fn a_program_that_is_too_long_is_refused() {
    let clause = |value| Clause {
        all: vec![Cond {
            arg: 0,
            op: Op::Eq,
            value,
        }],
        then: Action::Errno(value as u16),
    };
    let decision = Decision {
        clauses: (0..2000).map(clause).collect(),
        otherwise: Action::Allow,
    };
    assert!(assemble(&one_call(decision)).is_err());
}

const DOCKER: &str = r#"{
    "defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": 1,
    "archMap": [
        {"architecture": "SCMP_ARCH_X86_64", "subArchitectures": ["SCMP_ARCH_X86", "SCMP_ARCH_X32"]},
        {"architecture": "SCMP_ARCH_AARCH64", "subArchitectures": ["SCMP_ARCH_ARM"]}
    ],
    "syscalls": [
        {"names": ["read", "write", "cacheflush"], "action": "SCMP_ACT_ALLOW", "args": [], "comment": "",
         "includes": {}, "excludes": {}},
        {"names": ["ptrace"], "action": "SCMP_ACT_ALLOW", "args": null, "includes": {"minKernel": "4.8"}},
        {"names": ["fork"], "action": "SCMP_ACT_ALLOW", "includes": {"minKernel": "99.0"}},
        {"name": "personality", "action": "SCMP_ACT_ALLOW",
         "args": [{"index": 0, "value": 8, "valueTwo": 0, "op": "SCMP_CMP_EQ"}]},
        {"names": ["clone"], "action": "SCMP_ACT_ALLOW", "excludes": {"caps": ["CAP_SYS_ADMIN"]},
         "args": [{"index": 0, "value": 2114060288, "valueTwo": 0, "op": "SCMP_CMP_MASKED_EQ"}]},
        {"names": ["clone", "mount"], "action": "SCMP_ACT_ALLOW", "includes": {"caps": ["CAP_SYS_ADMIN"]}},
        {"names": ["clone3"], "action": "SCMP_ACT_ERRNO", "errnoRet": 38, "excludes": {"caps": ["CAP_SYS_ADMIN"]}},
        {"names": ["socket"], "action": "SCMP_ACT_ALLOW",
         "args": [{"index": 0, "value": 1, "op": "SCMP_CMP_EQ"}, {"index": 0, "value": 2, "op": "SCMP_CMP_EQ"}]},
        {"names": ["arch_prctl"], "action": "SCMP_ACT_ALLOW", "includes": {"arches": ["s390x"]}}
    ]
}"#;

fn of_profile(text: &str, caps: CapSet, arch: Arch, name: &str, args: &[u64]) -> u32 {
    let profile: Profile = text.parse().unwrap();
    let program = assemble(&profile.filter(Arch::X86_64, caps)).unwrap();
    ask(&program, arch, arch.number(name).unwrap(), args)
}

// `archMap` is looked up for the machine this runs on.
#[cfg(target_arch = "x86_64")]
#[test]
fn a_profile_in_dockers_form_is_followed() {
    let is = |caps, name: &str, args: &[u64], action: Action| {
        let answer = of_profile(DOCKER, caps, Arch::X86_64, name, args);
        assert_eq!(answer, action.ret(), "{name} {args:x?}");
    };
    let (none, admin) = (CapSet::EMPTY, CapSet::EMPTY.with(Cap::SYS_ADMIN));
    is(none, "read", &[], Action::Allow);
    is(none, "open", &[], EPERM);
    is(none, "ptrace", &[], Action::Allow);
    is(none, "fork", &[], EPERM);
    is(none, "arch_prctl", &[], EPERM);
    is(none, "personality", &[8], Action::Allow);
    is(none, "personality", &[0], EPERM);
    is(none, "clone", &[0x11], Action::Allow);
    is(none, "clone", &[0x1000_0011], EPERM);
    is(admin, "clone", &[0x1000_0011], Action::Allow);
    is(none, "mount", &[], EPERM);
    is(admin, "mount", &[], Action::Allow);
    is(none, "clone3", &[], ENOSYS);
    is(admin, "clone3", &[], EPERM);
    is(none, "socket", &[1], Action::Allow);
    is(none, "socket", &[2], Action::Allow);
    is(none, "socket", &[38], EPERM);
    // Newer than anything the profile names.
    is(none, "mseal", &[], ENOSYS);
    assert_eq!(
        of_profile(DOCKER, none, Arch::X86, "read", &[]),
        Action::Allow.ret()
    );
    assert_eq!(
        of_profile(DOCKER, none, Arch::X86, "open", &[]),
        EPERM.ret()
    );
    let profile: Profile = DOCKER.parse().unwrap();
    assert_eq!(profile.unknown_names(), ["cacheflush"]);
    assert!(compile(&profile, none).unwrap().len() < 120);
}

#[test]
fn a_list_of_what_is_denied_is_followed_too() {
    let text = r#"{"defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_X86_64"], "syscalls": [
        {"names": ["mkdir"], "action": "SCMP_ACT_ERRNO", "errnoRet": 95, "args": [
            {"index": 1, "value": 448, "op": "SCMP_CMP_GT"}]},
        {"names": ["mkdir"], "action": "SCMP_ACT_KILL_PROCESS", "args": [
            {"index": 1, "value": 0, "op": "SCMP_CMP_EQ"}, {"index": 0, "value": 5, "op": "SCMP_CMP_NE"}]},
        {"names": ["rmdir"], "action": "SCMP_ACT_TRACE", "errnoRet": 7},
        {"names": ["rmdir"], "action": "SCMP_ACT_LOG"},
        {"names": ["kill"], "action": "SCMP_ACT_TRAP", "args": [{"index": 1, "value": 9, "op": "SCMP_CMP_EQ"}]},
        {"names": ["kill"], "action": "SCMP_ACT_KILL"}]}"#;
    let is = |arch, name: &str, args: &[u64], action: Action| {
        assert_eq!(
            of_profile(text, CapSet::EMPTY, arch, name, args),
            action.ret(),
            "{name} {args:x?}"
        );
    };
    is(Arch::X86_64, "mkdir", &[0, 449], Action::Errno(95));
    is(Arch::X86_64, "mkdir", &[0, 448], Action::Allow);
    is(Arch::X86_64, "mkdir", &[4, 0], Action::KillProcess);
    is(Arch::X86_64, "mkdir", &[5, 0], Action::Allow);
    is(Arch::X86_64, "rmdir", &[], Action::Trace(7));
    // One rule without arguments counts for more than all with.
    is(Arch::X86_64, "kill", &[1, 9], Action::KillThread);
    is(Arch::X86_64, "mseal", &[], Action::Allow);
    // Not listed: not allowed, though everything is.
    is(Arch::X86, "read", &[], Action::KillProcess);
}

#[test]
fn what_is_not_a_profile_is_refused() {
    let parse = |text: &str| text.parse::<Profile>().map(|_| ());
    let rule = |rule: &str| {
        let text = format!(r#"{{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{rule}]}}"#);
        parse(&text)
    };
    assert!(matches!(parse(""), Err(Error::Json(_))));
    assert!(matches!(parse(r#"{"syscalls": []}"#), Err(Error::Json(_))));
    assert!(matches!(
        parse(r#"{"defaultAction": "ALLOW"}"#),
        Err(Error::Value {
            field: "action",
            ..
        })
    ));
    assert!(matches!(
        parse(r#"{"defaultAction": "SCMP_ACT_NOTIFY"}"#),
        Err(Error::Notify)
    ));
    let flags = r#"{"defaultAction": "SCMP_ACT_ALLOW", "flags": ["X"]}"#;
    assert!(matches!(
        parse(flags),
        Err(Error::Value { field: "flags", .. })
    ));
    let both = r#"{"defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_X86"],
        "archMap": [{"architecture": "SCMP_ARCH_X86_64"}]}"#;
    assert!(matches!(parse(both), Err(Error::Both(..))));
    assert!(rule(r#"{"name": "read", "action": "SCMP_ACT_ERRNO"}"#).is_ok());
    assert!(matches!(
        rule(r#"{"name": "a", "names": ["b"], "action": "SCMP_ACT_ERRNO"}"#),
        Err(Error::Both(..))
    ));
    assert!(matches!(
        rule(r#"{"name": "read", "action": "SCMP_ACT_ERRNO", "errnoRet": 5000}"#),
        Err(Error::Value {
            field: "errnoRet",
            ..
        })
    ));
    // Misspelt: read past, it would allow every read.
    let error = rule(r#"{"name": "read", "action": "SCMP_ACT_ALLOW", "arg": []}"#).unwrap_err();
    assert!(error.to_string().contains("`arg`"), "{error}");
    for arg in [
        r#"{"index": 6, "value": 0, "op": "SCMP_CMP_EQ"}"#,
        r#"{"index": 0, "value": 0, "op": "EQ"}"#,
    ] {
        let text = format!(r#"{{"name": "read", "action": "SCMP_ACT_ERRNO", "args": [{arg}]}}"#);
        assert!(matches!(rule(&text), Err(Error::Value { .. })), "{arg}");
    }
}

#[test]
fn the_oci_form_is_the_same() {
    let seccomp: oci_spec::runtime::LinuxSeccomp = serde_json::from_str(
        r#"{"defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_X86_64"],
            "flags": ["SECCOMP_FILTER_FLAG_LOG"], "syscalls": [
            {"names": ["swapon"], "action": "SCMP_ACT_ERRNO", "errnoRet": 19,
             "args": [{"index": 1, "value": 255, "valueTwo": 3, "op": "SCMP_CMP_MASKED_EQ"}]}]}"#,
    )
    .unwrap();
    let profile = Profile::from_oci(&seccomp).unwrap();
    assert_eq!(profile.flags(), crate::sys::seccomp::Flags::LOG);
    let program = assemble(&profile.filter(Arch::X86_64, CapSet::EMPTY)).unwrap();
    let swapon = Arch::X86_64.number("swapon").unwrap();
    assert_eq!(
        ask(&program, Arch::X86_64, swapon, &[0, 0xff03]),
        Action::Errno(19).ret()
    );
    assert_eq!(
        ask(&program, Arch::X86_64, swapon, &[0, 0xff04]),
        Action::Allow.ret()
    );
}
