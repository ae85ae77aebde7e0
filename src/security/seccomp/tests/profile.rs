//! Profiles in the JSON form.

use super::super::{Error, Profile, compile};
use super::*;
use crate::security::caps::Cap;

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

/// What a profile on a machine answers to a call of `arch`, if that has it.
fn of_profile(
    (text, native): (&str, Arch),
    caps: CapSet,
    arch: Arch,
    name: &str,
    args: &[u64],
) -> Option<u32> {
    let profile: Profile = text.parse().unwrap();
    let program = assemble(&profile.filter(native, caps)).unwrap();
    Some(ask(&program, arch, arch.number(name)?, args))
}

// `archMap` is looked up for the machine this runs on.
#[test]
fn a_profile_in_dockers_form_is_followed() {
    let [native, compat] = Arch::native().with_compat() else {
        panic!("every machine here runs 32-bit programs too");
    };
    let docker = (DOCKER, Arch::native());
    let is = |caps, name: &str, args: &[u64], action: Action| {
        if let Some(answer) = of_profile(docker, caps, *native, name, args) {
            assert_eq!(answer, action.ret(), "{name} {args:x?}");
        }
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
    for (name, action) in [("read", Action::Allow), ("open", EPERM)] {
        let answer = of_profile(docker, none, *compat, name, &[]);
        assert_eq!(answer, Some(action.ret()), "{name} of {compat:?}");
    }
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
            of_profile((text, Arch::X86_64), CapSet::EMPTY, arch, name, args),
            Some(action.ret()),
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
