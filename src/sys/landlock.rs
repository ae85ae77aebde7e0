//! Landlock: a wall around the files below one directory (landlock(7),
//! Documentation/userspace-api/landlock.rst).
//!
//! A thread that is restricted to a container's root opens, creates, links, renames and executes below it, the
//! mounts in it included, as before. A file that lies elsewhere can neither be opened nor executed, whatever
//! way led to it: a magic link of `/proc`, a descriptor of another process, a mount namespace that
//! was entered. Descriptors that are open already keep working. Files without a place in any tree (pipes,
//! sockets, memfds, namespaces) are not covered.
//!
//! The order: ask for the version, create a rule set that handles every right this version has, allow
//! them all below the root, restrict the thread. It cannot be undone, and all that is started later is under it.
//!
//! Three things end for a restricted process besides: it cannot mount or unmount anything, whatever its
//! capabilities; it cannot trace a process outside of its domain, nor read what `/proc/PID` guards by
//! the same check; and with [`Options::signals`] it cannot signal one. A command that joins the container later gets
//! a domain of its own, so for the two of them the others are outside.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use rustix::fs::{FileType, OFlags};
use rustix::io::{Errno, Result};

use super::cvt;

// include/uapi/linux/landlock.h
const CREATE_RULESET_VERSION: u32 = 1;
const RULE_PATH_BENEATH: u32 = 1;
const WRITE_FILE: u64 = 1 << 1;
const READ_FILE: u64 = 1 << 2;
const TRUNCATE: u64 = 1 << 14;
const IOCTL_DEV: u64 = 1 << 15;
const SCOPE_ABSTRACT_UNIX_SOCKET: u64 = 1;
const SCOPE_SIGNAL: u64 = 1 << 1;

/// The first version that can allow a file to be linked or renamed into another directory (`REFER`, Linux 5.19);
/// under the one before it, no program that moves files would work.
const LEAST: u32 = 2;

#[repr(C)]
struct RulesetAttr {
    handled_access_fs: u64,
    handled_access_net: u64,
    scoped: u64,
}

#[repr(C, packed)]
struct PathBeneathAttr {
    allowed_access: u64,
    parent_fd: i32,
}

/// What is asked for beyond the wall around files.
#[derive(Clone, Copy, Debug, Default)]
pub struct Options<'a> {
    /// Open files from outside that may be opened again as they are open now (through `/dev/stdout`, which is a
    /// link to the descriptor). Of these, only regular files and devices need to be named.
    pub reopen: &'a [BorrowedFd<'a>],
    /// Abstract unix sockets bound outside of the domain cannot be connected to (version 6): for a
    /// container that shares the host's network namespace.
    pub abstract_sockets: bool,
    /// Processes outside of the domain cannot be signalled (version 6): for a container that shares the
    /// host's pid namespace.
    pub signals: bool,
}

/// What came of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Applied {
    /// The thread is restricted.
    Restricted {
        /// The version of the kernel's interface.
        abi: u32,
        /// Whether the scopes that were asked for are in force: not below version 6.
        scoped: bool,
    },
    /// It is not.
    Unavailable(Reason),
}

/// Why there is no Landlock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// The kernel was built without it or is older than 5.13, or a filter denies it.
    NotBuilt,
    /// It is built in, but not among the security modules the kernel was started with (`lsm=`).
    Disabled,
    /// The version cannot allow renames (5.13 to 5.18).
    TooOld {
        /// The version.
        abi: u32,
    },
}

/// The version of the kernel's interface, or why there is none.
///
/// # Errors
/// Whatever else the kernel answers.
pub fn abi() -> Result<std::result::Result<u32, Reason>> {
    // SAFETY: asked for the version, the call reads no memory.
    let version = cvt(unsafe {
        libc::syscall(
            libc::SYS_landlock_create_ruleset,
            std::ptr::null::<RulesetAttr>(),
            0_usize,
            CREATE_RULESET_VERSION,
        )
    });
    match version {
        Ok(abi) => Ok(Ok(abi as u32)),
        Err(Errno::NOSYS | Errno::PERM) => Ok(Err(Reason::NotBuilt)),
        Err(Errno::OPNOTSUPP) => Ok(Err(Reason::Disabled)),
        Err(errno) => Err(errno),
    }
}

/// Restricts the calling thread, and all that it will start, to the files below `root`.
///
/// # Errors
/// `EPERM` with neither no_new_privs nor CAP_SYS_ADMIN; `E2BIG` under 16 domains already; those of fstat(2).
pub fn restrict_to_root(root: BorrowedFd<'_>, options: Options<'_>) -> Result<Applied> {
    let abi = match abi()? {
        Ok(abi) if abi < LEAST => return Ok(Applied::Unavailable(Reason::TooOld { abi })),
        Ok(abi) => abi,
        Err(reason) => return Ok(Applied::Unavailable(reason)),
    };
    let rights = rights(abi);
    let wanted = scopes(options);
    let scoped = if abi >= 6 { wanted } else { 0 };
    let ruleset = create(&RulesetAttr {
        handled_access_fs: rights,
        handled_access_net: 0,
        scoped,
    })?;
    allow(ruleset.as_fd(), root, rights)?;
    for file in options.reopen {
        let again = again(*file)? & rights;
        if again != 0 {
            match allow(ruleset.as_fd(), *file, again) {
                // A file without a place in any tree: not covered, so there is nothing to allow.
                Ok(()) | Err(Errno::BADFD) => {}
                Err(errno) => return Err(errno),
            }
        }
    }
    // SAFETY: two numbers, no memory.
    cvt(unsafe { libc::syscall(libc::SYS_landlock_restrict_self, ruleset.as_raw_fd(), 0) })?;
    Ok(Applied::Restricted {
        abi,
        scoped: scoped == wanted,
    })
}

/// Every right over files that the version has.
fn rights(abi: u32) -> u64 {
    match abi {
        // EXECUTE up to MAKE_SYM
        0 | 1 => 0x1fff,
        // REFER
        2 => 0x3fff,
        // TRUNCATE
        3 | 4 => 0x7fff,
        // IOCTL_DEV
        _ => 0xffff,
    }
}

fn scopes(options: Options<'_>) -> u64 {
    let sockets = if options.abstract_sockets {
        SCOPE_ABSTRACT_UNIX_SOCKET
    } else {
        0
    };
    let signals = if options.signals { SCOPE_SIGNAL } else { 0 };
    sockets | signals
}

/// The rights that opening a file as it is open now takes.
fn again(file: BorrowedFd<'_>) -> Result<u64> {
    let kind = FileType::from_raw_mode(rustix::fs::fstat(file)?.st_mode);
    if !matches!(kind, FileType::RegularFile | FileType::CharacterDevice) {
        return Ok(0);
    }
    let mode = rustix::fs::fcntl_getfl(file)?;
    if mode.contains(OFlags::PATH) {
        return Ok(0);
    }
    let ioctl = if kind == FileType::CharacterDevice {
        IOCTL_DEV
    } else {
        0
    };
    Ok(ioctl
        | match mode & OFlags::RWMODE {
            OFlags::WRONLY => WRITE_FILE | TRUNCATE,
            OFlags::RDWR => READ_FILE | WRITE_FILE | TRUNCATE,
            _ => READ_FILE,
        })
}

fn create(attr: &RulesetAttr) -> Result<OwnedFd> {
    // SAFETY: `attr` has the layout of `struct landlock_ruleset_attr` and its size is given. A kernel with a
    // shorter structure accepts zeros in what it does not know.
    let fd = cvt(unsafe {
        libc::syscall(
            libc::SYS_landlock_create_ruleset,
            &raw const *attr,
            std::mem::size_of::<RulesetAttr>(),
            0,
        )
    })?;
    // SAFETY: the kernel has just opened this descriptor (close-on-exec) for nobody else.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as i32) })
}

fn allow(ruleset: BorrowedFd<'_>, file: BorrowedFd<'_>, rights: u64) -> Result<()> {
    let attr = PathBeneathAttr {
        allowed_access: rights,
        parent_fd: file.as_raw_fd(),
    };
    // SAFETY: `attr` has the packed layout of `struct landlock_path_beneath_attr`; both descriptors are open.
    cvt(unsafe {
        libc::syscall(
            libc::SYS_landlock_add_rule,
            ruleset.as_raw_fd(),
            RULE_PATH_BENEATH,
            &raw const attr,
            0,
        )
    })?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::fs::{File, OpenOptions};
    use std::io::ErrorKind;
    use std::os::linux::net::SocketAddrExt as _;
    use std::os::unix::net::{SocketAddr, UnixListener, UnixStream};
    use std::path::PathBuf;
    use std::process::Command;

    use super::*;

    fn available() -> bool {
        let abi = abi().unwrap();
        let enough = abi.is_ok_and(|abi| abi >= LEAST);
        if !enough {
            crate::sys::tests::skip(&format!("landlock: {abi:?}"));
        }
        enough
    }

    /// A domain belongs to a thread: one that ends is all the isolation that is needed.
    fn restricted<T: Send>(
        root: &std::path::Path,
        options: Options<'_>,
        test: impl FnOnce(Applied) -> T + Send,
    ) -> T {
        let root = File::open(root).unwrap();
        std::thread::scope(|scope| {
            let thread = scope.spawn(|| {
                super::super::caps::set_no_new_privs().unwrap();
                test(restrict_to_root(root.as_fd(), options).unwrap())
            });
            thread.join().unwrap()
        })
    }

    struct Trees {
        _dir: tempfile::TempDir,
        root: PathBuf,
        outside: PathBuf,
    }

    fn trees() -> Trees {
        let dir = tempfile::tempdir().unwrap();
        let (root, outside) = (dir.path().join("root"), dir.path().join("outside"));
        for tree in [&root, &outside] {
            std::fs::create_dir(tree).unwrap();
            std::fs::copy("/bin/true", tree.join("true")).unwrap();
            std::fs::write(tree.join("file"), "text").unwrap();
        }
        Trees {
            _dir: dir,
            root,
            outside,
        }
    }

    fn write_to(path: &std::path::Path) -> std::io::Result<File> {
        OpenOptions::new().write(true).open(path)
    }

    fn link_of(file: &File) -> PathBuf {
        format!("/proc/self/fd/{}", file.as_raw_fd()).into()
    }

    fn denied<T>(result: std::io::Result<T>) -> bool {
        result.is_err_and(|error| error.kind() == ErrorKind::PermissionDenied)
    }

    #[test]
    fn below_the_root_everything_works() {
        if !available() {
            return;
        }
        let Trees { _dir, root, .. } = trees();
        restricted(&root, Options::default(), |applied| {
            assert!(matches!(applied, Applied::Restricted { scoped: true, .. }));
            std::fs::create_dir(root.join("dir")).unwrap();
            std::fs::write(root.join("new"), "text").unwrap();
            std::fs::rename(root.join("new"), root.join("dir/new")).unwrap();
            std::fs::hard_link(root.join("file"), root.join("dir/link")).unwrap();
            File::create(root.join("file")).unwrap().set_len(7).unwrap();
            std::fs::remove_dir_all(root.join("dir")).unwrap();
        });
    }

    #[test]
    fn outside_nothing_opens_or_runs() {
        if !available() {
            return;
        }
        let Trees {
            _dir,
            root,
            outside,
        } = trees();
        let leaked = File::open(outside.join("file")).unwrap();
        let program = File::open(outside.join("true")).unwrap();
        // The walls must be what makes the difference.
        assert!(write_to(&link_of(&leaked)).is_ok());
        assert!(Command::new(link_of(&program)).status().unwrap().success());
        restricted(&root, Options::default(), |_| {
            assert!(denied(File::open(outside.join("file"))));
            assert!(denied(File::create(outside.join("new"))));
            assert!(denied(std::fs::remove_file(outside.join("file"))));
            assert!(denied(std::fs::read_dir(&outside)));
            assert!(denied(write_to(&link_of(&leaked))));
            assert!(denied(File::open(link_of(&leaked))));
            assert!(denied(Command::new(link_of(&program)).status()));
            // What is open stays open.
            assert_eq!(std::io::read_to_string(&leaked).unwrap(), "text");
        });
        assert!(write_to(&link_of(&leaked)).is_ok());
    }

    #[test]
    fn a_named_file_opens_again_as_it_is_open() {
        if !available() {
            return;
        }
        let Trees {
            _dir,
            root,
            outside,
        } = trees();
        let read = File::open(outside.join("file")).unwrap();
        let write = File::create(outside.join("log")).unwrap();
        let null = OpenOptions::new()
            .read(true)
            .write(true)
            .open("/dev/null")
            .unwrap();
        let (pipe, _other) = rustix::pipe::pipe().unwrap();
        let reopen = [read.as_fd(), write.as_fd(), null.as_fd(), pipe.as_fd()];
        let options = Options {
            reopen: &reopen,
            ..Options::default()
        };
        restricted(&root, options, |_| {
            assert!(File::open(link_of(&read)).is_ok());
            assert!(denied(write_to(&link_of(&read))));
            assert!(File::create(link_of(&write)).is_ok());
            assert!(denied(File::open(link_of(&write))));
            assert!(
                OpenOptions::new()
                    .read(true)
                    .write(true)
                    .open(link_of(&null))
                    .is_ok()
            );
            assert!(denied(File::open("/dev/zero")));
        });
    }

    #[test]
    fn scopes_cut_off_sockets_and_signals() {
        if !available() || abi().unwrap().is_ok_and(|abi| abi < 6) {
            return;
        }
        let Trees { _dir, root, .. } = trees();
        let name = format!("rl-test-{}", std::process::id());
        let address = SocketAddr::from_abstract_name(&name).unwrap();
        let _listener = UnixListener::bind_addr(&address).unwrap();
        let mut other = Command::new("/bin/cat")
            .stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::null())
            .spawn()
            .unwrap();
        let pid = rustix::process::Pid::from_raw(other.id() as i32).unwrap();
        let signal = || rustix::process::test_kill_process(pid);
        restricted(&root, Options::default(), |_| {
            assert!(UnixStream::connect_addr(&address).is_ok());
            assert_eq!(signal(), Ok(()));
        });
        let options = Options {
            abstract_sockets: true,
            ..Options::default()
        };
        restricted(&root, options, |_| {
            assert!(denied(UnixStream::connect_addr(&address)));
            assert_eq!(signal(), Ok(()));
        });
        let options = Options {
            signals: true,
            ..Options::default()
        };
        restricted(&root, options, |_| {
            assert!(UnixStream::connect_addr(&address).is_ok());
            assert_eq!(signal(), Err(Errno::PERM));
        });
        drop(other.stdin.take());
        assert!(other.wait().unwrap().success());
    }

    #[test]
    fn every_version_adds_rights() {
        let all: Vec<u64> = (1..=8).map(rights).collect();
        assert!(all.is_sorted());
        assert_eq!(rights(4) & IOCTL_DEV, 0);
        assert_ne!(rights(5) & IOCTL_DEV, 0);
        assert_ne!(rights(3) & TRUNCATE, 0);
    }
}
