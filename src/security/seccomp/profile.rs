//! Profiles of the user's own, in the JSON form that Docker, podman and the OCI runtime specification
//! (config-linux.md, `seccomp`) share.
//!
//! The text is read strictly: a field that is not known is an error, since a misspelt one would open a wall in
//! silence. [`Profile`] is what it says; [`Profile::filter`] picks the rules that apply to the
//! capabilities, the architecture and the running kernel, and decides per system call:
//!
//! 1. A rule whose action is the default action is passed over.
//! 2. The first rule without arguments decides the call, whatever rules with arguments there are: that is how
//!    libseccomp adds them up.
//! 3. Otherwise the first rule whose arguments all match decides. A rule that names one argument twice is a
//!    rule for each of its comparisons, as in runc and crun.
//! 4. Numbers above the highest one that the profile names fail with `ENOSYS` where the default action would be an
//!    error or a kill, so that a newer C library falls back instead of giving up (runc does the same).

use std::collections::BTreeSet;
use std::str::FromStr;

use serde::Deserialize;
use serde::de::IgnoredAny;

use crate::security::caps::{Cap, CapSet};
use crate::sys::seccomp::Flags;

use super::Error;
use super::filter::{Action, Clause, Cond, Decision, Filter, Op, Section};
use super::table::{self, Arch, NUMBERS};

const ENOSYS: Action = Action::Errno(libc::ENOSYS as u16);

/// A profile as it was read: nothing about the container that it will be used for is in it yet.
#[derive(Clone, Debug)]
pub struct Profile {
    default: Action,
    /// Architectures besides the native one.
    archs: Vec<Arch>,
    flags: Flags,
    rules: Vec<Rule>,
}

#[derive(Clone, Debug)]
struct Rule {
    /// Rows of the table.
    calls: Vec<u16>,
    /// Names that are not in it.
    unknown: Vec<String>,
    action: Action,
    /// Any of these; one that is empty always holds.
    any: Vec<Vec<Cond>>,
    includes: When,
    excludes: When,
}

impl Profile {
    /// Flags the profile asks for, of those that mean something to a single-threaded start.
    pub fn flags(&self) -> Flags {
        self.flags
    }

    /// Names of calls that no architecture here has. They are without effect: on calls of other
    /// architectures rightly so, on a misspelt one not, so a front end should name them.
    pub fn unknown_names(&self) -> Vec<&str> {
        let unknown = self.rules.iter().flat_map(|rule| &rule.unknown);
        let unknown: BTreeSet<&str> = unknown.map(String::as_str).collect();
        unknown.into_iter().collect()
    }

    /// Reads the `linux.seccomp` part of an OCI configuration.
    ///
    /// # Errors
    /// Those of reading a profile.
    pub fn from_oci(seccomp: &oci_spec::runtime::LinuxSeccomp) -> Result<Profile, Error> {
        serde_json::from_value::<Raw>(serde_json::to_value(seccomp)?)?.try_into()
    }

    pub(super) fn filter(&self, native: Arch, caps: CapSet) -> Filter {
        let facts = Facts {
            caps,
            native,
            kernel: running_kernel(),
        };
        let rules: Vec<&Rule> = self
            .rules
            .iter()
            .filter(|rule| rule.action != self.default)
            .filter(|rule| rule.includes.all(&facts) && !rule.excludes.any(&facts))
            .collect();
        let others = self.archs.iter().copied().filter(|arch| *arch != native);
        let others = others.filter(|arch| native.with_compat().contains(arch));
        Filter {
            sections: std::iter::once(native)
                .chain(others)
                .map(|arch| self.section(arch, &rules))
                .collect(),
            x32: ENOSYS,
            other_arch: Action::KillProcess,
        }
    }

    fn section(&self, arch: Arch, rules: &[&Rule]) -> Section {
        let mut calls: Vec<Option<Decision>> = vec![None; NUMBERS];
        for rule in rules {
            for number in rule.calls.iter().filter_map(|&row| arch.of(row)) {
                let call = calls[number as usize].get_or_insert_with(|| self.default.into());
                add(call, rule, self.default);
            }
        }
        // Rules that were passed over name calls too: it is the age of the profile that counts.
        let all = self.rules.iter().flat_map(|rule| &rule.calls);
        let newest = all.filter_map(|&row| arch.of(row)).max();
        let beyond = match self.default {
            Action::Allow | Action::Log | Action::Trace(_) => self.default,
            _ => ENOSYS,
        };
        let mut section = Section::new(arch, self.default, beyond);
        let newer = section.intern(beyond.into());
        for (number, call) in calls.into_iter().enumerate() {
            if let Some(call) = call {
                let decision = section.intern(call);
                section.set(number as u32, decision);
            } else if newest.is_none_or(|newest| number as u32 > newest) {
                section.set(number as u32, newer);
            }
        }
        section
    }
}

/// Adds a rule to what was decided about a call. An unconditional decision shows as one that differs from the
/// default, as rules with the default action do not come here.
fn add(call: &mut Decision, rule: &Rule, default: Action) {
    if call.otherwise != default {
        return;
    }
    if rule.any.iter().any(Vec::is_empty) {
        *call = rule.action.into();
        return;
    }
    call.clauses.extend(rule.any.iter().map(|all| Clause {
        all: all.clone(),
        then: rule.action,
    }));
}

/// What conditions of rules are held against.
struct Facts {
    caps: CapSet,
    native: Arch,
    kernel: (u32, u32),
}

fn running_kernel() -> (u32, u32) {
    let uname = rustix::system::uname();
    let release = uname.release().to_string_lossy();
    // A release that does not start with two numbers is taken for a new one.
    version(release.split(['-', '+']).next().unwrap_or_default()).unwrap_or((u32::MAX, 0))
}

/// The first two numbers of `6.1.0`.
fn version(text: &str) -> Option<(u32, u32)> {
    let mut parts = text.split('.');
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}

/// `includes` or `excludes` of a rule.
#[derive(Clone, Debug, Default)]
struct When {
    /// `None` is a capability that has no name here: nobody holds it.
    caps: Vec<Option<Cap>>,
    arches: Vec<String>,
    kernel: Option<(u32, u32)>,
}

impl When {
    fn has_arch(&self, facts: &Facts) -> bool {
        let names: &[&str] = match facts.native {
            Arch::X86_64 => &["amd64", "x86_64"],
            Arch::X86 => &["386", "x86"],
            Arch::Aarch64 => &["arm64", "aarch64"],
            Arch::Arm => &["arm"],
        };
        self.arches
            .iter()
            .any(|arch| names.contains(&arch.as_str()))
    }

    /// Each condition that is given holds.
    fn all(&self, facts: &Facts) -> bool {
        let caps = |cap: &Option<Cap>| cap.is_some_and(|cap| facts.caps.has(cap));
        self.caps.iter().all(caps)
            && (self.arches.is_empty() || self.has_arch(facts))
            && self.kernel.is_none_or(|least| facts.kernel >= least)
    }

    /// One of those given holds.
    fn any(&self, facts: &Facts) -> bool {
        let caps = |cap: &Option<Cap>| cap.is_some_and(|cap| facts.caps.has(cap));
        self.caps.iter().any(caps)
            || self.has_arch(facts)
            || self.kernel.is_some_and(|least| facts.kernel >= least)
    }
}

impl FromStr for Profile {
    type Err = Error;

    fn from_str(text: &str) -> Result<Profile, Error> {
        serde_json::from_str::<Raw>(text)?.try_into()
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Raw {
    default_action: String,
    default_errno_ret: Option<u32>,
    /// The name of the number in `defaultErrnoRet`, as podman writes it.
    #[serde(rename = "defaultErrno")]
    _default_errno: Option<IgnoredAny>,
    #[serde(default)]
    arch_map: Option<Vec<RawArch>>,
    #[serde(default)]
    architectures: Option<Vec<String>>,
    #[serde(default)]
    flags: Option<Vec<String>>,
    #[serde(default)]
    syscalls: Option<Vec<RawRule>>,
    /// Without `SCMP_ACT_NOTIFY` these two mean nothing.
    #[serde(rename = "listenerPath")]
    _listener_path: Option<IgnoredAny>,
    #[serde(rename = "listenerMetadata")]
    _listener_metadata: Option<IgnoredAny>,
    #[serde(rename = "comment", alias = "_comment", alias = "$schema")]
    _comment: Option<IgnoredAny>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct RawArch {
    architecture: String,
    #[serde(default)]
    sub_architectures: Option<Vec<String>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct RawRule {
    name: Option<String>,
    #[serde(default)]
    names: Option<Vec<String>>,
    action: String,
    errno_ret: Option<u32>,
    /// The name of the number in `errnoRet`, as podman writes it.
    #[serde(rename = "errno")]
    _errno: Option<IgnoredAny>,
    #[serde(default)]
    args: Option<Vec<RawArg>>,
    #[serde(default)]
    includes: Option<RawWhen>,
    #[serde(default)]
    excludes: Option<RawWhen>,
    #[serde(rename = "comment", alias = "_comment")]
    _comment: Option<IgnoredAny>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct RawArg {
    index: u32,
    value: u64,
    #[serde(default)]
    value_two: Option<u64>,
    op: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct RawWhen {
    #[serde(default)]
    caps: Option<Vec<String>>,
    #[serde(default)]
    arches: Option<Vec<String>>,
    #[serde(default)]
    min_kernel: Option<String>,
}

impl TryFrom<Raw> for Profile {
    type Error = Error;

    fn try_from(raw: Raw) -> Result<Profile, Error> {
        let listed = raw.architectures.unwrap_or_default();
        let map = raw.arch_map.unwrap_or_default();
        if !listed.is_empty() && !map.is_empty() {
            return Err(Error::Both("architectures", "archMap"));
        }
        let native = Arch::native();
        let mapped = map
            .into_iter()
            .filter(|entry| arch(&entry.architecture) == Some(native))
            .flat_map(|entry| entry.sub_architectures.unwrap_or_default());
        let archs = listed.into_iter().chain(mapped);
        let rules = raw.syscalls.unwrap_or_default();
        Ok(Profile {
            default: action(&raw.default_action, raw.default_errno_ret)?,
            archs: archs.filter_map(|name| arch(&name)).collect(),
            flags: flags(&raw.flags.unwrap_or_default())?,
            rules: rules
                .into_iter()
                .map(Rule::try_from)
                .collect::<Result<_, _>>()?,
        })
    }
}

impl TryFrom<RawRule> for Rule {
    type Error = Error;

    fn try_from(raw: RawRule) -> Result<Rule, Error> {
        let mut names = raw.names.unwrap_or_default();
        match raw.name.filter(|name| !name.is_empty()) {
            Some(_) if !names.is_empty() => return Err(Error::Both("name", "names")),
            Some(name) => names.push(name),
            None => {}
        }
        let conds: Vec<Cond> = raw
            .args
            .unwrap_or_default()
            .iter()
            .map(cond)
            .collect::<Result<_, _>>()?;
        let twice = |arg: u8| conds.iter().filter(|cond| cond.arg == arg).count() > 1;
        let any = if conds.iter().any(|cond| twice(cond.arg)) {
            conds.into_iter().map(|cond| vec![cond]).collect()
        } else {
            vec![conds]
        };
        let (calls, unknown): (Vec<_>, Vec<_>) = names
            .into_iter()
            .map(|name| table::row(&name).ok_or(name))
            .partition(Result::is_ok);
        Ok(Rule {
            calls: calls.into_iter().flatten().collect(),
            unknown: unknown.into_iter().filter_map(Result::err).collect(),
            action: action(&raw.action, raw.errno_ret)?,
            any,
            includes: raw
                .includes
                .map(When::try_from)
                .transpose()?
                .unwrap_or_default(),
            excludes: raw
                .excludes
                .map(When::try_from)
                .transpose()?
                .unwrap_or_default(),
        })
    }
}

impl TryFrom<RawWhen> for When {
    type Error = Error;

    fn try_from(raw: RawWhen) -> Result<When, Error> {
        let kernel = raw.min_kernel.filter(|text| !text.is_empty());
        let caps = raw.caps.unwrap_or_default();
        Ok(When {
            caps: caps.iter().map(|name| Cap::parse(name)).collect(),
            arches: raw.arches.unwrap_or_default(),
            kernel: kernel
                .map(|text| version(&text).ok_or_else(|| value("minKernel", &text)))
                .transpose()?,
        })
    }
}

fn value(field: &'static str, value: &str) -> Error {
    Error::Value {
        field,
        value: value.to_owned(),
    }
}

fn cond(raw: &RawArg) -> Result<Cond, Error> {
    let op = match raw.op.as_str() {
        "SCMP_CMP_NE" => Op::Ne,
        "SCMP_CMP_LT" => Op::Lt,
        "SCMP_CMP_LE" => Op::Le,
        "SCMP_CMP_EQ" => Op::Eq,
        "SCMP_CMP_GE" => Op::Ge,
        "SCMP_CMP_GT" => Op::Gt,
        "SCMP_CMP_MASKED_EQ" => Op::MaskedEq(raw.value),
        other => return Err(value("op", other)),
    };
    if raw.index > 5 {
        return Err(value("index", &raw.index.to_string()));
    }
    Ok(Cond {
        arg: raw.index as u8,
        // MASKED_EQ has its mask in `value` (config-linux.md).
        value: match op {
            Op::MaskedEq(_) => raw.value_two.unwrap_or_default(),
            _ => raw.value,
        },
        op,
    })
}

fn action(name: &str, errno: Option<u32>) -> Result<Action, Error> {
    let number = errno.unwrap_or(libc::EPERM as u32);
    let data = u16::try_from(number).map_err(|_| value("errnoRet", &number.to_string()));
    Ok(match name {
        "SCMP_ACT_ALLOW" => Action::Allow,
        "SCMP_ACT_LOG" => Action::Log,
        "SCMP_ACT_TRACE" => Action::Trace(data?),
        // The kernel cuts larger ones down to this (MAX_ERRNO).
        "SCMP_ACT_ERRNO" if number > 4095 => return Err(value("errnoRet", &number.to_string())),
        "SCMP_ACT_ERRNO" => Action::Errno(data?),
        "SCMP_ACT_TRAP" => Action::Trap,
        "SCMP_ACT_KILL" | "SCMP_ACT_KILL_THREAD" => Action::KillThread,
        "SCMP_ACT_KILL_PROCESS" => Action::KillProcess,
        "SCMP_ACT_NOTIFY" => return Err(Error::Notify),
        other => return Err(value("action", other)),
    })
}

/// Other architectures than those of the table cannot run here, and x32 is not offered.
fn arch(name: &str) -> Option<Arch> {
    match name {
        "SCMP_ARCH_X86_64" => Some(Arch::X86_64),
        "SCMP_ARCH_X86" => Some(Arch::X86),
        "SCMP_ARCH_AARCH64" => Some(Arch::Aarch64),
        "SCMP_ARCH_ARM" => Some(Arch::Arm),
        _ => None,
    }
}

fn flags(names: &[String]) -> Result<Flags, Error> {
    names.iter().try_fold(Flags::empty(), |flags, name| {
        Ok(flags
            | match name.as_str() {
                "SECCOMP_FILTER_FLAG_LOG" => Flags::LOG,
                "SECCOMP_FILTER_FLAG_SPEC_ALLOW" => Flags::SPEC_ALLOW,
                // There is one thread, and nobody who would be waited for.
                "SECCOMP_FILTER_FLAG_TSYNC" | "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV" => {
                    Flags::empty()
                }
                other => return Err(value("flags", other)),
            })
    })
}
