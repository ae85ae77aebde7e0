//! New processes: clone3(2), with clone(2) where that is not to be had.

use std::os::fd::{AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd};

use rustix::io::{Errno, Result};
use rustix::process::Pid;

use super::cvt;
use super::process::{Child, Fork, Namespaces, exit_now, join};

#[repr(C)]
#[derive(Default)]
struct CloneArgs {
    flags: u64,
    pidfd: u64,
    child_tid: u64,
    parent_tid: u64,
    exit_signal: u64,
    stack: u64,
    stack_size: u64,
    tls: u64,
    set_tid: u64,
    set_tid_size: u64,
    cgroup: u64,
}

/// Forks with new namespaces (clone3(2), clone(2) where clone3 answers `ENOSYS` or `EPERM` because
/// of a seccomp filter). The calling process must be single-threaded: the child has only the
/// calling thread, and a lock held by another would stay locked.
///
/// # Errors
/// Those of clone(2): `EPERM` or `ENOSPC` when user namespaces are refused or used up.
pub fn fork(namespaces: Namespaces) -> Result<Fork> {
    fork_into(namespaces, None)
}

/// The same, with the child born in a control group (an open directory of a cgroup2 file system), which costs nothing
/// where moving it would.
///
/// # Errors
/// As [`fork`]; `EACCES` where processes may not be moved there from here (cgroup-v2.rst, "Delegation Containment").
pub fn fork_into(namespaces: Namespaces, group: Option<BorrowedFd<'_>>) -> Result<Fork> {
    match clone(namespaces.bits(), libc::SIGCHLD, group)? {
        None => Ok(Fork::Child),
        Some((pid, pidfd)) => Ok(Fork::Parent(Child {
            pid,
            pidfd,
            here: true,
        })),
    }
}

/// clone3(2), or clone(2), with `CLONE_PIDFD` and these flags: the new process's number here and a pidfd, or
/// `None` in the new process.
fn clone(
    flags: u64,
    exit_signal: i32,
    group: Option<BorrowedFd<'_>>,
) -> Result<Option<(Pid, OwnedFd)>> {
    let mut pidfd: libc::c_int = -1;
    let flags = flags | libc::CLONE_PIDFD as u64;
    let into = if group.is_some() {
        CLONE_INTO_CGROUP
    } else {
        0
    };
    let mut args = CloneArgs {
        flags: flags | into,
        cgroup: group.map_or(0, |fd| fd.as_raw_fd() as u64),
        pidfd: std::ptr::from_mut(&mut pidfd) as u64,
        exit_signal: exit_signal as u64,
        ..CloneArgs::default()
    };
    // SAFETY: `args` has the layout of `struct clone_args` (include/uapi/linux/sched.h) and outlives
    // the call; no stack is given, so the child goes on on a copy of ours, as after fork(2); the
    // pidfd pointer is to a live c_int, written before the parent returns.
    let first = cvt(unsafe {
        libc::syscall(
            libc::SYS_clone3,
            &raw mut args,
            std::mem::size_of::<CloneArgs>(),
        )
    });
    // Linux before 5.7 knows the call, and no groups.
    let no_groups = matches!(first, Err(Errno::TOOBIG | Errno::INVAL)) && group.is_some();
    let mut moved = true;
    let pid = match first {
        Err(_) if no_groups || matches!(first, Err(Errno::NOSYS | Errno::PERM)) => {
            moved = group.is_none();
            let flags = flags | exit_signal as u64;
            // SAFETY: as above; clone(2) takes (flags, stack, parent_tid = pidfd, child_tid, tls),
            // the first three in this order on x86-64 and arm64, and the last two are unused.
            cvt(unsafe {
                libc::syscall(
                    libc::SYS_clone,
                    flags,
                    0usize,
                    &raw mut pidfd,
                    0usize,
                    0usize,
                )
            })?
        }
        other => other?,
    };
    if pid == 0 {
        if let Some(group) = group.filter(|_| !moved)
            && enter_group(group).is_err()
        {
            // Nobody may believe that it is limited.
            exit_now(125);
        }
        return Ok(None);
    }
    let pid = Pid::from_raw(pid as i32).ok_or(Errno::CHILD)?;
    // SAFETY: the kernel stored a new descriptor, owned by nobody else, for CLONE_PIDFD.
    Ok(Some((pid, unsafe { OwnedFd::from_raw_fd(pidfd) })))
}

/// include/uapi/linux/sched.h, `CLONE_INTO_CGROUP`.
const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;

fn enter_group(group: BorrowedFd<'_>) -> Result<()> {
    use rustix::fs::{Mode, OFlags, openat};
    let flags = OFlags::WRONLY | OFlags::CLOEXEC;
    let procs = openat(group, c"cgroup.procs", flags, Mode::empty())?;
    rustix::io::write(procs, b"0").map(drop)
}

/// Forks into the pid namespace that was joined (setns(2)): the new process is a sibling of this one, so whoever
/// started this one can wait for it. Returns a pidfd of it, or `None` in the new process.
///
/// # Errors
/// Those of clone(2).
pub fn fork_sibling() -> Result<Option<OwnedFd>> {
    // No exit signal is given: it is the one that this process itself has (clone(2), CLONE_PARENT).
    let made = clone(libc::CLONE_PARENT as u64, 0, None)?;
    Ok(made.map(|(_, pidfd)| pidfd))
}

/// Forks with new namespaces that belong to the user namespace `user` (an open file of /proc/PID/ns), into which the
/// calling process does not go; the child, which may be born in a control group as with [`fork_into`], does
/// `life` and exits with 125 should that return. What is to be done for it from inside the user namespace, `born` does,
/// which is given the child and may change nothing that lasts. The calling process must be single-threaded.
///
/// A process that shares the caller's memory and descriptors joins the user namespace and makes the child as the
/// caller's own (clone(2), `CLONE_PARENT`), while the caller is suspended (`CLONE_VFORK`): nothing is copied for it.
///
/// # Errors
/// Those of clone(2) and setns(2); `EPERM` and `ENOSYS` also of a seccomp filter that refuses the latter; that of `born`,
/// after which there is no child.
pub fn spawn_within(
    user: BorrowedFd<'_>,
    namespaces: Namespaces,
    group: Option<BorrowedFd<'_>>,
    life: impl FnOnce(),
    born: impl FnOnce(&Child) -> Result<()>,
) -> Result<Child> {
    struct Birth<'a, F, G> {
        user: BorrowedFd<'a>,
        flags: u64,
        group: Option<BorrowedFd<'a>>,
        acts: Option<(F, G)>,
        made: Result<Child>,
        done: Result<()>,
    }

    extern "C" fn bear<F: FnOnce(), G: FnOnce(&Child) -> Result<()>>(
        birth: *mut libc::c_void,
    ) -> libc::c_int {
        // SAFETY: the `Birth` below, whose owner is suspended until this process has ended.
        let birth = unsafe { &mut *birth.cast::<Birth<'_, F, G>>() };
        let Some((life, born)) = birth.acts.take() else {
            return 0;
        };
        let joined = join(birth.user, Namespaces::USER);
        match joined.and_then(|()| clone(birth.flags, 0, birth.group)) {
            Ok(None) => {
                life();
                exit_now(125);
            }
            Ok(Some((pid, pidfd))) => {
                let child = Child {
                    pid,
                    pidfd,
                    here: true,
                };
                birth.done = born(&child);
                birth.made = Ok(child);
            }
            Err(errno) => birth.made = Err(errno),
        }
        0
    }

    fn function<F: FnOnce(), G: FnOnce(&Child) -> Result<()>>(
        _: &Birth<'_, F, G>,
    ) -> extern "C" fn(*mut libc::c_void) -> libc::c_int {
        bear::<F, G>
    }

    let mut birth = Birth {
        user,
        flags: namespaces.bits() | libc::CLONE_PARENT as u64,
        group,
        acts: Some((life, born)),
        made: Err(Errno::CHILD),
        done: Ok(()),
    };
    let stack = Stack::new()?;
    let flags = libc::CLONE_VM | libc::CLONE_VFORK | libc::CLONE_FILES | libc::SIGCHLD;
    let function = function(&birth);
    // SAFETY: the stack is used by nobody else, and like `birth` it outlives the new process, which this one waits
    // for. That one shares our memory and runs nothing but `bear`; the child has a copy of it.
    let helper = cvt(i64::from(unsafe {
        libc::clone(
            function,
            stack.top(),
            flags,
            std::ptr::from_mut(&mut birth).cast(),
        )
    }))?;
    // SAFETY: no status is asked for.
    while unsafe { libc::waitpid(helper as i32, std::ptr::null_mut(), 0) } < 0
        && std::io::Error::last_os_error().kind() == std::io::ErrorKind::Interrupted
    {}
    let child = birth.made?;
    if let Err(errno) = birth.done {
        let _ = child.signal(libc::SIGKILL);
        let _ = child.wait();
        return Err(errno);
    }
    Ok(child)
}

/// Memory for a stack, with a page below it that cannot be touched.
struct Stack(*mut libc::c_void);

impl Stack {
    const SIZE: usize = 1 << 20;
    const GUARD: usize = 1 << 16;

    fn new() -> Result<Stack> {
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE | libc::MAP_STACK;
        let rights = libc::PROT_READ | libc::PROT_WRITE;
        // SAFETY: fresh memory at a place of the kernel's choice.
        let start = unsafe { libc::mmap(std::ptr::null_mut(), Stack::SIZE, rights, flags, -1, 0) };
        if start == libc::MAP_FAILED {
            return Err(Errno::NOMEM);
        }
        let stack = Stack(start);
        // SAFETY: the lower end of what was just mapped.
        cvt(i64::from(unsafe {
            libc::mprotect(start, Stack::GUARD, libc::PROT_NONE)
        }))?;
        Ok(stack)
    }

    fn top(&self) -> *mut libc::c_void {
        self.0.wrapping_byte_add(Stack::SIZE)
    }
}

impl Drop for Stack {
    fn drop(&mut self) {
        // SAFETY: mapped by `new`, and whoever ran on it has ended.
        unsafe { libc::munmap(self.0, Stack::SIZE) };
    }
}
