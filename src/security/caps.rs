//! Which capabilities a container's processes get.
//!
//! Names become a [`CapSet`]; [`resolve`] applies `--cap-add` and `--cap-drop` to the default set; and
//! [`Grant::sets`] tells what that means for the user the command runs as. All of these are capabilities
//! over the container's own user namespace: they never reach what belongs to the host.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Names in the order of their numbers (capabilities(7), include/uapi/linux/capability.h).
const NAMES: [&str; 41] = [
    "CHOWN",
    "DAC_OVERRIDE",
    "DAC_READ_SEARCH",
    "FOWNER",
    "FSETID",
    "KILL",
    "SETGID",
    "SETUID",
    "SETPCAP",
    "LINUX_IMMUTABLE",
    "NET_BIND_SERVICE",
    "NET_BROADCAST",
    "NET_ADMIN",
    "NET_RAW",
    "IPC_LOCK",
    "IPC_OWNER",
    "SYS_MODULE",
    "SYS_RAWIO",
    "SYS_CHROOT",
    "SYS_PTRACE",
    "SYS_PACCT",
    "SYS_ADMIN",
    "SYS_BOOT",
    "SYS_NICE",
    "SYS_RESOURCE",
    "SYS_TIME",
    "SYS_TTY_CONFIG",
    "MKNOD",
    "LEASE",
    "AUDIT_WRITE",
    "AUDIT_CONTROL",
    "SETFCAP",
    "MAC_OVERRIDE",
    "MAC_ADMIN",
    "SYSLOG",
    "WAKE_ALARM",
    "BLOCK_SUSPEND",
    "AUDIT_READ",
    "PERFMON",
    "BPF",
    "CHECKPOINT_RESTORE",
];

/// A set of capabilities: bit n is capability n of capabilities(7).
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct CapSet(u64);

impl CapSet {
    /// No capability.
    pub const EMPTY: CapSet = CapSet(0);
    /// Every capability that has a name here.
    pub const ALL: CapSet = CapSet((1 << NAMES.len()) - 1);
    /// What root inside keeps unless told otherwise. Docker's customary set has MKNOD, NET_RAW and
    /// AUDIT_WRITE besides; podman has given them up, and inside a user namespace they buy little: the
    /// kernel refuses device nodes and audit records there anyway, ping works through ICMP sockets
    /// (`net.ipv4.ping_group_range`), and raw sockets are a tool for spoofing on a shared network.
    pub const DEFAULT: CapSet = CapSet(
        1 << Cap::CHOWN.0
            | 1 << Cap::DAC_OVERRIDE.0
            | 1 << Cap::FOWNER.0
            | 1 << Cap::FSETID.0
            | 1 << Cap::KILL.0
            | 1 << Cap::NET_BIND_SERVICE.0
            | 1 << Cap::SETFCAP.0
            | 1 << Cap::SETGID.0
            | 1 << Cap::SETPCAP.0
            | 1 << Cap::SETUID.0
            | 1 << Cap::SYS_CHROOT.0,
    );

    /// From a mask as capget(2) and `/proc/PID/status` show it.
    pub const fn from_bits(bits: u64) -> CapSet {
        CapSet(bits)
    }

    /// The mask.
    pub const fn bits(self) -> u64 {
        self.0
    }

    /// Whether the set has the capability.
    pub const fn has(self, cap: Cap) -> bool {
        self.0 & 1 << cap.0 != 0
    }

    /// With one more.
    #[must_use]
    pub const fn with(self, cap: Cap) -> CapSet {
        CapSet(self.0 | 1 << cap.0)
    }

    /// What is in either.
    #[must_use]
    pub const fn union(self, other: CapSet) -> CapSet {
        CapSet(self.0 | other.0)
    }

    /// What is in this one only.
    #[must_use]
    pub const fn without(self, other: CapSet) -> CapSet {
        CapSet(self.0 & !other.0)
    }

    /// What is in both; with [`crate::sys::caps::bounding`], what this process can hand on at all.
    #[must_use]
    pub const fn and(self, other: CapSet) -> CapSet {
        CapSet(self.0 & other.0)
    }

    /// The capabilities, lowest number first.
    pub fn iter(self) -> impl Iterator<Item = Cap> {
        (0..64).filter(move |n| self.0 & 1 << n != 0).map(Cap)
    }
}

impl FromIterator<Cap> for CapSet {
    fn from_iter<I: IntoIterator<Item = Cap>>(caps: I) -> CapSet {
        caps.into_iter().fold(CapSet::EMPTY, CapSet::with)
    }
}

impl fmt::Debug for CapSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.iter()).finish()
    }
}

/// One capability, by its number.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Cap(u8);

#[allow(missing_docs)]
impl Cap {
    pub const CHOWN: Cap = Cap(0);
    pub const DAC_OVERRIDE: Cap = Cap(1);
    pub const DAC_READ_SEARCH: Cap = Cap(2);
    pub const FOWNER: Cap = Cap(3);
    pub const FSETID: Cap = Cap(4);
    pub const KILL: Cap = Cap(5);
    pub const SETGID: Cap = Cap(6);
    pub const SETUID: Cap = Cap(7);
    pub const SETPCAP: Cap = Cap(8);
    pub const NET_BIND_SERVICE: Cap = Cap(10);
    pub const NET_ADMIN: Cap = Cap(12);
    pub const NET_RAW: Cap = Cap(13);
    pub const SYS_CHROOT: Cap = Cap(18);
    pub const SYS_PTRACE: Cap = Cap(19);
    pub const SYS_ADMIN: Cap = Cap(21);
    pub const SYS_BOOT: Cap = Cap(22);
    pub const SYS_NICE: Cap = Cap(23);
    pub const SETFCAP: Cap = Cap(31);
    pub const SYSLOG: Cap = Cap(34);
    pub const PERFMON: Cap = Cap(38);
    pub const BPF: Cap = Cap(39);

    /// By name: `CAP_CHOWN` or `chown`, in any case.
    pub fn parse(name: &str) -> Option<Cap> {
        let upper = name.to_ascii_uppercase();
        let bare = upper.strip_prefix("CAP_").unwrap_or(&upper);
        let number = NAMES.iter().position(|known| *known == bare)?;
        Some(Cap(number as u8))
    }

    /// The number.
    pub const fn number(self) -> u8 {
        self.0
    }
}

impl fmt::Display for Cap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match NAMES.get(usize::from(self.0)) {
            Some(name) => write!(f, "CAP_{name}"),
            None => write!(f, "{}", self.0),
        }
    }
}

impl fmt::Debug for Cap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Why a list of capabilities was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// No such name.
    #[error("no such capability: `{0}`")]
    Unknown(String),
    /// Asked for and refused at once.
    #[error("capability `{0}` is both added and dropped")]
    Contradiction(String),
}

impl Error {
    /// What to do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Error::Unknown(_) => Some("`man 7 capabilities` lists the names".to_owned()),
            Error::Contradiction(name) => Some(format!(
                "give one of `--cap-add {name}` and `--cap-drop {name}`"
            )),
        }
    }
}

/// What `--cap-add` and `--cap-drop` come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Grant {
    /// What root inside holds, and what nobody inside can exceed.
    pub held: CapSet,
    /// What was added by name: a user other than root holds these, as ambient capabilities. Inheritable
    /// are the same and no more: with more, file capabilities of a program in the image would add up to more than the user
    /// meant to give (CVE-2022-24769).
    pub added: CapSet,
    /// What was dropped, by name or with all.
    pub dropped: CapSet,
}

impl Grant {
    /// What the bounding set is limited to. An executed file that asks for a capability outside of it fails
    /// with `EPERM` (capabilities(7), "Safety checking for capability-dumb binaries"), as Debian's `ping`
    /// would, which can do without. Under no_new_privs a file gains nothing that its caller does not
    /// hold, so `NET_RAW` may stand in the bounding set there without anybody getting it, unless it was dropped.
    pub fn bounding(&self, no_new_privs: bool) -> CapSet {
        if no_new_privs && !self.dropped.has(Cap::NET_RAW) {
            self.held.with(Cap::NET_RAW)
        } else {
            self.held
        }
    }
}

/// Applies `--cap-add` and `--cap-drop` to the default set. `ALL` stands for all: `--cap-drop ALL` leaves what
/// is added by name, `--cap-add ALL` all that is not dropped by name (docker-run(1)). One and the same
/// name in both lists is an error, as with podman; Docker would let the addition win.
///
/// # Errors
/// [`Error`], with the name as it was given.
pub fn resolve<S: AsRef<str>>(add: &[S], drop: &[S]) -> Result<Grant, Error> {
    let (added, add_all) = list(add)?;
    let (dropped, drop_all) = list(drop)?;
    if add_all && drop_all {
        return Err(Error::Contradiction("ALL".to_owned()));
    }
    if let Some(both) = added.and(dropped).iter().next() {
        return Err(Error::Contradiction(both.to_string()));
    }
    let added = if add_all {
        CapSet::ALL.without(dropped)
    } else {
        added
    };
    let base = if drop_all {
        CapSet::EMPTY
    } else {
        CapSet::DEFAULT.without(dropped)
    };
    Ok(Grant {
        held: base.union(added),
        added,
        dropped: if drop_all {
            CapSet::ALL.without(added)
        } else {
            dropped
        },
    })
}

/// The capabilities named, and whether `ALL` was among the names. One word may hold several, with commas.
fn list<S: AsRef<str>>(names: &[S]) -> Result<(CapSet, bool), Error> {
    let mut set = CapSet::EMPTY;
    let mut all = false;
    for name in names.iter().flat_map(|word| word.as_ref().split(',')) {
        if name.eq_ignore_ascii_case("ALL") || name.eq_ignore_ascii_case("CAP_ALL") {
            all = true;
        } else {
            set = set.with(Cap::parse(name).ok_or_else(|| Error::Unknown(name.to_owned()))?);
        }
    }
    Ok((set, all))
}

#[cfg(test)]
mod tests {
    use super::*;

    const NONE: &[&str] = &[];

    #[test]
    fn names_are_those_of_the_kernel_header() {
        assert_eq!(Cap::parse("CAP_CHOWN"), Some(Cap::CHOWN));
        assert_eq!(Cap::parse("cap_sys_admin"), Some(Cap::SYS_ADMIN));
        assert_eq!(Cap::parse("Sys_Admin"), Some(Cap::SYS_ADMIN));
        assert_eq!(Cap::parse("CAP_CAP_CHOWN"), None);
        assert_eq!(Cap::parse(""), None);
        for cap in CapSet::ALL.iter() {
            assert_eq!(Cap::parse(&cap.to_string()), Some(cap));
        }
        for (cap, name) in [
            (Cap::DAC_OVERRIDE, "CAP_DAC_OVERRIDE"),
            (Cap::DAC_READ_SEARCH, "CAP_DAC_READ_SEARCH"),
            (Cap::FOWNER, "CAP_FOWNER"),
            (Cap::FSETID, "CAP_FSETID"),
            (Cap::KILL, "CAP_KILL"),
            (Cap::SETGID, "CAP_SETGID"),
            (Cap::SETUID, "CAP_SETUID"),
            (Cap::SETPCAP, "CAP_SETPCAP"),
            (Cap::NET_BIND_SERVICE, "CAP_NET_BIND_SERVICE"),
            (Cap::NET_ADMIN, "CAP_NET_ADMIN"),
            (Cap::NET_RAW, "CAP_NET_RAW"),
            (Cap::SYS_CHROOT, "CAP_SYS_CHROOT"),
            (Cap::SYS_PTRACE, "CAP_SYS_PTRACE"),
            (Cap::SYS_BOOT, "CAP_SYS_BOOT"),
            (Cap::SYS_NICE, "CAP_SYS_NICE"),
            (Cap::SETFCAP, "CAP_SETFCAP"),
            (Cap::SYSLOG, "CAP_SYSLOG"),
            (Cap::PERFMON, "CAP_PERFMON"),
            (Cap::BPF, "CAP_BPF"),
        ] {
            assert_eq!(cap.to_string(), name);
        }
        assert_eq!(CapSet::DEFAULT.iter().count(), 11);
        assert_eq!(CapSet::DEFAULT.bits(), 0x8004_05fb);
    }

    #[test]
    fn additions_and_drops() {
        let plain = resolve(NONE, NONE).unwrap();
        assert_eq!(plain.held, CapSet::DEFAULT);
        assert_eq!(plain.added, CapSet::EMPTY);

        let some = resolve(&["net_raw,CAP_SYS_PTRACE"], &["chown"]).unwrap();
        assert_eq!(
            some.added,
            [Cap::NET_RAW, Cap::SYS_PTRACE].into_iter().collect()
        );
        assert!(some.held.has(Cap::NET_RAW) && !some.held.has(Cap::CHOWN));

        assert_eq!(resolve(NONE, &["all"]).unwrap().held, CapSet::EMPTY);
        let few = resolve(&["kill"], &["ALL"]).unwrap();
        assert_eq!(few.held, CapSet::EMPTY.with(Cap::KILL));
        let most = resolve(&["ALL"], &["sys_admin"]).unwrap();
        assert_eq!(
            most.held,
            CapSet::ALL.without(CapSet::EMPTY.with(Cap::SYS_ADMIN))
        );
    }

    #[test]
    fn nonsense_is_refused() {
        assert_eq!(
            resolve(&["root"], NONE),
            Err(Error::Unknown("root".to_owned()))
        );
        assert_eq!(resolve(&[""], NONE), Err(Error::Unknown(String::new())));
        assert_eq!(
            resolve(&["kill"], &["CAP_KILL"]),
            Err(Error::Contradiction("CAP_KILL".to_owned()))
        );
        assert!(resolve(&["ALL"], &["ALL"]).is_err());
    }

    #[test]
    fn a_file_that_asks_for_raw_sockets_can_be_executed_and_gains_nothing() {
        let plain = resolve(NONE, NONE).unwrap();
        assert_eq!(plain.bounding(true), CapSet::DEFAULT.with(Cap::NET_RAW));
        assert_eq!(plain.bounding(false), CapSet::DEFAULT);
        for drop in ["ALL", "NET_RAW"] {
            let without = resolve(NONE, &[drop]).unwrap();
            assert_eq!(without.bounding(true), without.held);
        }
        assert!(!plain.held.has(Cap::NET_RAW) && !plain.added.has(Cap::NET_RAW));
        let named = resolve(&["net_raw"], NONE).unwrap();
        assert_eq!(named.added, CapSet::EMPTY.with(Cap::NET_RAW));
        assert_eq!(named.held, CapSet::DEFAULT.with(Cap::NET_RAW));
    }
}
