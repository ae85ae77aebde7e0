//! Where things are kept: file systems, the session's directory, control groups.

use std::path::{Path, PathBuf};

use rustix::fs::StatVfsMountFlags;

/// A directory's file system.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileSystem {
    /// The directory.
    pub path: PathBuf,
    /// What kind it is: `ext4`, or the number of an unknown one (statfs(2), `f_type`).
    pub kind: String,
    /// It lies on another machine, with locks, owners and attributes that may not be what a local one has.
    pub remote: bool,
    /// It can be written.
    pub writable: bool,
    /// Of the mount: `ro`, `nosuid`, `nodev`, `noexec`.
    pub flags: Vec<&'static str>,
    /// Bytes that the user may still take.
    pub free: u64,
    /// Files that the user may still make; `None` where the file system does not count them.
    pub inodes: Option<u64>,
}

/// `f_type`, name, remote (linux/magic.h and the sources of those that are not in it).
const KINDS: &[(u64, &str, bool)] = &[
    (0xef53, "ext4", false),
    (0x5846_5342, "xfs", false),
    (0x9123_683e, "btrfs", false),
    (0x0102_1994, "tmpfs", false),
    (0x794c_7630, "overlay", false),
    (0x2fc1_2fc1, "zfs", false),
    (0xf2f5_2010, "f2fs", false),
    (0xca45_1a4e, "bcachefs", false),
    (0xf15f, "ecryptfs", false),
    (0x4d44, "vfat", false),
    (0x6573_5546, "fuse", true),
    (0x6969, "nfs", true),
    (0xff53_4d42, "cifs", true),
    (0xfe53_4d42, "smb2", true),
    (0x0102_1997, "9p", true),
    (0x00c3_6400, "ceph", true),
    (0x5346_414f, "afs", true),
    (0x0bd0_0bd0, "lustre", true),
    (0x4750_4653, "gpfs", true),
    (0x1983_0326, "beegfs", true),
];

/// Name and remoteness of an `f_type`, of which 32 bits mean something.
fn kind_of(number: u64) -> (String, bool) {
    let number = number & 0xffff_ffff;
    let known = KINDS.iter().find(|(n, ..)| *n == number);
    known.map_or_else(
        || (format!("file system {number:#x}"), false),
        |(_, name, remote)| ((*name).to_owned(), *remote),
    )
}

impl FileSystem {
    /// Looks at the one of `path`.
    pub fn of(path: &Path) -> FileSystem {
        let (kind, remote) = rustix::fs::statfs(path)
            .map_or(("unknown file system".to_owned(), false), |s| {
                kind_of(s.f_type as u64)
            });
        let vfs = rustix::fs::statvfs(path).ok();
        let flag = |flag, name| {
            vfs.as_ref()
                .is_some_and(|v| v.f_flag.contains(flag))
                .then_some(name)
        };
        FileSystem {
            path: path.to_owned(),
            kind,
            remote,
            writable: rustix::fs::access(path, rustix::fs::Access::WRITE_OK).is_ok(),
            flags: [
                flag(StatVfsMountFlags::RDONLY, "ro"),
                flag(StatVfsMountFlags::NOSUID, "nosuid"),
                flag(StatVfsMountFlags::NODEV, "nodev"),
                flag(StatVfsMountFlags::NOEXEC, "noexec"),
            ]
            .into_iter()
            .flatten()
            .collect(),
            free: vfs
                .as_ref()
                .map_or(0, |v| v.f_bavail.saturating_mul(v.f_frsize)),
            inodes: vfs.filter(|v| v.f_files > 0).map(|v| v.f_favail),
        }
    }
}

/// The mount points below `/proc` in a table of proc_pid_mountinfo(5): what hides parts of it.
pub fn masks(mountinfo: &str) -> Vec<String> {
    let points = mountinfo
        .lines()
        .filter_map(|line| line.split(' ').nth(4))
        .filter(|point| point.starts_with("/proc/"));
    let mut points: Vec<String> = points.map(str::to_owned).collect();
    points.sort();
    points.dedup();
    points
}

/// Control groups, version 2.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Cgroup {
    /// `/sys/fs/cgroup` is version 2.
    pub unified: bool,
    /// Our own group, below `/sys/fs/cgroup`.
    pub own: PathBuf,
    /// Controllers that a group which we may write has; `None` where there is none.
    pub delegated: Option<Vec<String>>,
}

const CGROUP2_SUPER_MAGIC: u64 = 0x6367_7270;

impl Cgroup {
    /// Whether `/sys/fs/cgroup` is version 2.
    pub fn is_unified() -> bool {
        rustix::fs::statfs("/sys/fs/cgroup")
            .is_ok_and(|s| s.f_type as u64 & 0xffff_ffff == CGROUP2_SUPER_MAGIC)
    }

    /// Looks at our own group and those above it, and at that of the user's manager, who makes groups for us.
    pub fn find() -> Cgroup {
        let root = Path::new("/sys/fs/cgroup");
        let unified = Cgroup::is_unified();
        let table = std::fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
        let own = table.lines().find_map(|line| line.strip_prefix("0::/"));
        let own = PathBuf::from(own.unwrap_or_default());
        let writable = |group: &Path| {
            rustix::fs::access(group.join("cgroup.procs"), rustix::fs::Access::WRITE_OK).is_ok()
                && rustix::fs::access(group, rustix::fs::Access::WRITE_OK).is_ok()
        };
        let delegated = unified
            .then(|| {
                let full = root.join(&own);
                let uid = rustix::process::geteuid().as_raw();
                let manager = format!("user.slice/user-{uid}.slice/user@{uid}.service");
                let manager = Some(root.join(manager)).filter(|group| writable(group));
                let above = full.ancestors().take_while(|group| group.starts_with(root));
                let group = above.filter(|group| writable(group)).last();
                let group = manager.or(group.map(Path::to_owned))?;
                let text = std::fs::read_to_string(group.join("cgroup.controllers")).ok()?;
                Some(text.split_whitespace().map(str::to_owned).collect())
            })
            .flatten();
        Cgroup {
            unified,
            own,
            delegated,
        }
    }
}

/// How long a manager may take to answer.
const PATIENCE: std::time::Duration = std::time::Duration::from_secs(5);

/// What a login gives.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Session {
    /// XDG_RUNTIME_DIR, and whether it is a directory of the user's that nobody else can enter.
    pub runtime_dir: Option<(PathBuf, bool)>,
    /// `/run/user/UID`, where it is such a directory: what logind makes for a login (pam_systemd(8)).
    pub usual_dir: Option<PathBuf>,
    /// systemd runs this machine (sd_booted(3)).
    pub booted: bool,
    /// The user's systemd answers a connection.
    pub systemd: bool,
    /// It stays when the user logs out.
    pub linger: bool,
}

impl Session {
    /// Looks at the one of this process. `user` is the login name.
    pub fn find(user: &str) -> Session {
        let dir = std::env::var_os("XDG_RUNTIME_DIR");
        let bus = std::env::var_os("DBUS_SESSION_BUS_ADDRESS");
        let uid = rustix::process::geteuid().as_raw();
        let address = systemd_user::Address::find(uid, dir.as_deref(), bus.as_deref());
        let systemd = address
            .is_some_and(|address| systemd_user::Connection::open(&address, uid, PATIENCE).is_ok());
        let dir = dir.map(PathBuf::from);
        let usual = PathBuf::from(format!("/run/user/{uid}"));
        Session {
            usual_dir: is_private(&usual).then_some(usual),
            runtime_dir: dir.map(|dir| {
                let private = is_private(&dir);
                (dir, private)
            }),
            booted: Path::new("/run/systemd/system").is_dir(),
            systemd,
            linger: lingers(user),
        }
    }
}

/// Whether the user's manager runs without a session of the user: logind keeps a file for each such (loginctl(1),
/// `enable-linger`).
pub fn lingers(user: &str) -> bool {
    Path::new("/var/lib/systemd/linger").join(user).exists()
}

/// Whether the user's manager ends at the user's last log-out: logind looks after the user (sd_uid_get_state(3) reads
/// the same file), who does not linger.
pub fn ends_at_logout(uid: u32, user: &str) -> bool {
    !lingers(user) && Path::new(&format!("/run/systemd/users/{uid}")).exists()
}

/// What has a user linger.
pub fn linger_line(user: &str) -> String {
    format!("loginctl enable-linger {user}")
}

fn is_private(dir: &Path) -> bool {
    use std::os::unix::fs::MetadataExt as _;
    std::fs::metadata(dir).is_ok_and(|meta| {
        meta.is_dir()
            && meta.uid() == rustix::process::geteuid().as_raw()
            && meta.mode() & 0o077 == 0
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_and_masks() {
        assert_eq!(kind_of(0x6969), ("nfs".into(), true));
        // `f_type` is signed on some architectures.
        assert_eq!(
            kind_of(0xff53_4d42_u32 as i32 as u64),
            ("cifs".into(), true)
        );
        assert_eq!(kind_of(7), ("file system 0x7".into(), false));
        let table = "21 1 0:20 / /proc rw - proc proc rw\n\
                     22 21 0:5 /null /proc/kcore rw - devtmpfs dev rw\n\
                     23 21 0:20 /sys /proc/sys ro - proc proc rw\n";
        assert_eq!(masks(table), ["/proc/kcore", "/proc/sys"]);
    }
}
