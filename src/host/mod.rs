//! What this machine offers: read-only facts, each found by trying the real thing in a forked child, with
//! what the kernel answered.

mod apparmor;
mod around;
mod attempt;
mod places;
mod refusal;

use std::ffi::OsStr;
use std::path::Path;

pub use around::{Around, FILES, Mend, PROCESSES, UMASK, Unit, limit_hint, umask_hint};
pub use attempt::{Refused, Tried, attempt};
pub use places::{Cgroup, FileSystem, Session, ends_at_logout, linger_line, lingers, masks};
pub use refusal::{Fix, Obstacle, Switches, restriction_hint, userns_hint};

use crate::sys::mount::{self, Attr};
use crate::sys::probe::Call;
use crate::sys::process::Namespaces;
use rustix::fs::{Mode, OFlags};

/// The line that keeps images and containers on a local disk. It fails where somebody else has made that directory, who could
/// put others in their place.
pub const ELSEWHERE: &str =
    "install -d -m 700 /var/tmp/$(id -u) && export XDG_DATA_HOME=/var/tmp/$(id -u)";

/// What was found.
#[derive(Clone, Debug)]
pub struct HostFacts {
    /// A user namespace with a map of the own id.
    pub user_namespace: Tried,
    /// What decides about user namespaces.
    pub switches: Switches,
    /// The kernel's overlay in a user namespace, on the store's file system, written to.
    pub overlay: Tried,
    /// fuse-overlayfs and its device.
    pub fuse: Result<(), Obstacle>,
    /// A network namespace.
    pub net_namespace: Tried,
    /// A fresh procfs in a new pid namespace.
    pub fresh_proc: Tried,
    /// What is mounted below `/proc`.
    pub proc_masks: Vec<String>,
    /// Each system call with what came of it.
    pub calls: Vec<(Call, Tried)>,
    /// Limits that this process was started with.
    pub around: Around,
    /// Control groups.
    pub cgroup: Cgroup,
    /// The user's session.
    pub session: Session,
    /// The store's file system.
    pub store: FileSystem,
}

impl HostFacts {
    /// Tries everything. `data` is the store's directory, where a directory is made and removed; `path` the
    /// value of PATH; `user` the login name. The calling process must be single-threaded.
    pub fn gather(data: &Path, path: Option<&OsStr>, user: &str) -> HostFacts {
        let in_child = |call: Call| {
            attempt(Namespaces::empty(), move || {
                call.probe().map_err(Refused::at(call.name().0))
            })
        };
        let session = Session::find(user);
        let cgroup = Cgroup::find();
        HostFacts {
            around: Around::find(&cgroup.own),
            user_namespace: attempt(Namespaces::USER, || Ok(())),
            switches: Switches::read(),
            overlay: overlay(data),
            fuse: fuse(path),
            net_namespace: attempt(Namespaces::USER | Namespaces::NET, || Ok(())),
            fresh_proc: attempt(
                Namespaces::USER | Namespaces::PID | Namespaces::MOUNT,
                || {
                    let proc = open_dir(Path::new("/proc"))?;
                    let all = Attr::NOSUID | Attr::NODEV | Attr::NOEXEC;
                    mount::new("proc", "proc", borrow(&proc), all, "")
                        .map_err(Refused::at("mount(proc)"))
                },
            ),
            proc_masks: masks(&std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default()),
            calls: Call::ALL.map(|call| (call, in_child(call))).to_vec(),
            cgroup,
            session,
            store: FileSystem::of(data),
        }
    }
}

fn borrow(fd: &std::os::fd::OwnedFd) -> std::os::fd::BorrowedFd<'_> {
    std::os::fd::AsFd::as_fd(fd)
}

fn open_dir(path: &Path) -> Result<std::os::fd::OwnedFd, Refused> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    rustix::fs::open(path, flags, Mode::empty())
        .map_err(Refused::at(format!("open(`{}`)", path.display())))
}

/// Whether the file system of `path`, which need not be there yet, answers: that of a server that is gone may
/// keep whoever asks waiting for ever, so a child asks. The calling process must be single-threaded.
///
/// # Errors
/// No answer in time.
pub fn answers(path: &Path) -> Tried {
    attempt(Namespaces::empty(), || {
        // The first that is there.
        path.ancestors()
            .find(|place| rustix::fs::statfs(*place).is_ok());
        Ok(())
    })
    .map_err(|refused| Refused {
        call: format!("statfs(`{}`)", path.display()),
        ..refused
    })
}

/// The mount as a container has it, and what layers need of it: a file changed, one removed.
fn overlay(data: &Path) -> Tried {
    let scratch = data.join(format!(".doctor-{}", std::process::id()));
    let at = |call: &str| format!("{call} in `{}`", data.display());
    let made = || -> std::io::Result<()> {
        std::fs::create_dir(&scratch)?;
        for name in ["lower", "upper", "work", "merged"] {
            std::fs::create_dir(scratch.join(name))?;
        }
        std::fs::write(scratch.join("lower/file"), "x")
    };
    let tried = made()
        .map_err(crate::sys::errno::to_errno)
        .map_err(Refused::at(at("mkdir()")))
        .and_then(|()| {
            attempt(Namespaces::USER | Namespaces::MOUNT, || {
                // Relative names: commas and colons of the path would divide the options.
                rustix::process::chdir(&scratch).map_err(Refused::at(at("chdir()")))?;
                let merged = open_dir(Path::new("merged"))?;
                let options = "userxattr,lowerdir=lower,upperdir=upper,workdir=work";
                mount::new("overlay", "overlay", borrow(&merged), Attr::NODEV, options)
                    .map_err(Refused::at(at("mount(overlay)")))?;
                let change = || {
                    std::fs::write("merged/file", "y")?;
                    std::fs::remove_file("merged/file")
                };
                change()
                    .map_err(crate::sys::errno::to_errno)
                    .map_err(Refused::at(at("unlink() on an overlay")))
            })
        });
    remove(&scratch);
    tried
}

/// The kernel leaves a directory of mode 0 in `work`.
fn remove(scratch: &Path) {
    use std::os::unix::fs::PermissionsExt as _;
    let all = std::fs::Permissions::from_mode(0o700);
    let _ = std::fs::set_permissions(scratch.join("work/work"), all);
    let _ = std::fs::remove_dir_all(scratch);
}

/// Whether fuse-overlayfs can be tried, and if not, why, with what would help. `path` is the value of PATH.
///
/// # Errors
/// The program is nowhere, or the device cannot be opened.
pub fn fuse(path: Option<&OsStr>) -> Result<(), Obstacle> {
    let program = fuse_overlayfs::PROGRAM;
    let directories = path.into_iter().flat_map(std::env::split_paths);
    let found = directories.map(|dir| dir.join(program)).any(|file| {
        file.is_file() && rustix::fs::access(&file, rustix::fs::Access::EXEC_OK).is_ok()
    });
    let there = if found {
        fuse_overlayfs::check_device()
    } else {
        Err(fuse_overlayfs::Error::Spawn {
            program: program.into(),
            source: std::io::Error::from_raw_os_error(libc::ENOENT),
        })
    };
    there.map_err(|error| Obstacle {
        why: match &error {
            fuse_overlayfs::Error::Spawn { .. } => format!("`{program}` is not installed"),
            error => crate::model::chain(error),
        },
        fix: error.hint().map(|hint| match &error {
            fuse_overlayfs::Error::Spawn { .. } => Fix::root(hint),
            _ => Fix::parse(&hint),
        }),
    })
}
