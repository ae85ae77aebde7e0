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
    let flags = namespaces.bits() | libc::CLONE_PARENT as u64;
    let mut acts = Some((life, born));
    let (mut made, mut done) = (Err(Errno::CHILD), Ok(()));
    let helper = suspend(libc::CLONE_FILES, &mut || {
        let Some((life, born)) = acts.take() else {
            return;
        };
        let joined = join(user, Namespaces::USER);
        match joined.and_then(|()| clone(flags, 0, group)) {
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
                done = born(&child);
                made = Ok(child);
            }
            Err(errno) => made = Err(errno),
        }
    })?;
    let _ = helper.wait();
    let child = made?;
    if let Err(errno) = done {
        let _ = child.signal(libc::SIGKILL);
        let _ = child.wait();
        return Err(errno);
    }
    Ok(child)
}

/// Starts a process that is to execute another program, and shares the caller's memory until then: nothing is copied for
/// it. It does `life`, which returns only when it could not, with the reason. The calling process must be single-threaded,
/// and is suspended meanwhile; `life` may open and close descriptors, which are its own, and change nothing else that the
/// caller counts on.
///
/// # Errors
/// Those of clone(2); within, what `life` returned.
pub fn spawn_program<E>(life: impl FnOnce() -> E) -> Result<std::result::Result<Child, E>> {
    let mut life = Some(life);
    let mut failed = None;
    let child = suspend(0, &mut || {
        failed = life.take().map(|life| life());
    })?;
    Ok(match failed {
        None => Ok(child),
        Some(error) => {
            let _ = child.wait();
            Err(error)
        }
    })
}

/// A process that shares our memory and does `work`, on a stack of its own, while this one is suspended until it has
/// ended or executes a program (clone(2), `CLONE_VM`, `CLONE_VFORK`).
fn suspend(flags: libc::c_int, mut work: &mut dyn FnMut()) -> Result<Child> {
    extern "C" fn run(work: *mut libc::c_void) -> libc::c_int {
        // SAFETY: the reference below, whose owner is suspended until this process is done with it.
        let work = unsafe { &mut *work.cast::<&mut dyn FnMut()>() };
        work();
        // Nothing that a parent will do too: its exit handlers and buffers are these.
        exit_now(0)
    }

    let stack = Stack::new()?;
    let flags = flags | libc::CLONE_VM | libc::CLONE_VFORK | libc::CLONE_PIDFD | libc::SIGCHLD;
    let mut pidfd: libc::c_int = -1;
    let dumpable = rustix::process::dumpable_behavior();
    // SAFETY: the stack is used by nobody else, and like `work` it outlives the new process's use of it, for which this
    // one waits. That one runs nothing but `run`. The kernel stores the pidfd before it goes on.
    let pid = cvt(i64::from(unsafe {
        libc::clone(
            run,
            stack.top(),
            flags,
            std::ptr::from_mut(&mut work).cast(),
            &raw mut pidfd,
        )
    }))?;
    if let Ok(dumpable) = dumpable {
        // One that joins a user namespace takes that from all who share its memory, and with it their files in /proc
        // (proc(5)), which those look at who write our children's id maps.
        let _ = rustix::process::set_dumpable_behavior(dumpable);
    }
    let pid = Pid::from_raw(pid as i32).ok_or(Errno::CHILD)?;
    // SAFETY: the kernel stored a new descriptor, owned by nobody else, for CLONE_PIDFD.
    let pidfd = unsafe { OwnedFd::from_raw_fd(pidfd) };
    Ok(Child {
        pid,
        pidfd,
        here: true,
    })
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
