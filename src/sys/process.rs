//! Processes: clone3 with namespaces, pidfds, execveat, and what a new process must shed.

use std::ffi::{CStr, CString};
use std::io::{Read as _, Seek as _, Write as _};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::fs::MetadataExt as _;

use rustix::io::{Errno, Result};
use rustix::process::{Pid, WaitIdOptions, WaitIdStatus};

pub use super::clone::{fork, fork_into, spawn_program, spawn_within};
use super::{cvt, sabotage};

bitflags::bitflags! {
    /// The namespaces a clone makes (clone(2), namespaces(7)).
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct Namespaces: u64 {
        /// User and group ids; made first, owns the others made in the same call.
        const USER = libc::CLONE_NEWUSER as u64;
        /// Process ids: the child is PID 1.
        const PID = libc::CLONE_NEWPID as u64;
        /// Mounts.
        const MOUNT = libc::CLONE_NEWNS as u64;
        /// Host name.
        const UTS = libc::CLONE_NEWUTS as u64;
        /// System V IPC and POSIX message queues.
        const IPC = libc::CLONE_NEWIPC as u64;
        /// Network stack.
        const NET = libc::CLONE_NEWNET as u64;
        /// View of the cgroup tree.
        const CGROUP = libc::CLONE_NEWCGROUP as u64;
    }
}

/// Where a fork continues.
pub enum Fork {
    /// In the caller: the new process.
    Parent(Child),
    /// In the new process.
    Child,
}

/// A child process held by a pidfd, so that a recycled pid is never signalled.
#[derive(Debug)]
pub struct Child {
    pub(super) pid: Pid,
    pub(super) pidfd: OwnedFd,
    /// Whether `pid` is known to be of the caller's pid namespace.
    pub(super) here: bool,
}

impl Child {
    /// The process id in the caller's pid namespace.
    pub fn pid(&self) -> Pid {
        self.pid
    }

    /// The process id by which `/proc` knows it, which differs where that is the one of an outer pid namespace
    /// (proc_pid_fdinfo(5), Pid).
    pub fn proc_pid(&self) -> Pid {
        proc_pid_of(self.pidfd.as_fd()).unwrap_or(self.pid)
    }

    /// Sends a signal by number (pidfd_send_signal(2); kill(2) where a seccomp filter refuses that).
    ///
    /// # Errors
    /// `ESRCH` once the child was reaped, `EINVAL` for a number that is no signal.
    pub fn signal(&self, signal: i32) -> Result<()> {
        match signal_pidfd(self.pidfd.as_fd(), signal) {
            Err(Errno::NOSYS | Errno::PERM) if self.here => {
                self.kill(self.pid.as_raw_nonzero().get(), signal)
            }
            other => other,
        }
    }

    /// Sends a signal by number to the process group that the child leads (kill(2)).
    ///
    /// # Errors
    /// `ESRCH` once the child was reaped, or where it leads none; `EINVAL` for a number that is no signal.
    pub fn signal_group(&self, signal: i32) -> Result<()> {
        self.kill(-self.pid.as_raw_nonzero().get(), signal)
    }

    fn kill(&self, target: i32, signal: i32) -> Result<()> {
        // As long as it is ours to be waited for, nobody else gets its number.
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
        rustix::process::waitid(rustix::process::WaitId::PidFd(self.as_fd()), options)
            .map_err(|_| Errno::SRCH)?;
        // SAFETY: plain integers.
        cvt(i64::from(unsafe { libc::kill(target, signal) })).map(drop)
    }

    /// Reaps the child: waits for its end, returns how it ended.
    ///
    /// # Errors
    /// `ECHILD` if it was reaped already.
    pub fn wait(&self) -> Result<Ended> {
        loop {
            let options = WaitIdOptions::EXITED;
            match rustix::process::waitid(rustix::process::WaitId::PidFd(self.as_fd()), options) {
                Ok(Some(status)) => return Ok(Ended::from(&status)),
                Ok(None) | Err(Errno::INTR) => {}
                Err(errno) => return Err(errno),
            }
        }
    }
}

/// The number by which `/proc` knows the process behind a pidfd, see [`Child::proc_pid`]; `None` once it has ended.
pub fn proc_pid_of(pidfd: BorrowedFd<'_>) -> Option<Pid> {
    let path = format!("/proc/self/fdinfo/{}", pidfd.as_raw_fd());
    let info = std::fs::read_to_string(path).unwrap_or_default();
    let number = info.lines().find_map(|line| line.strip_prefix("Pid:"))?;
    // -1 once it was reaped, 0 where it is in no namespace that is seen from here.
    let number = number.trim().parse().ok().filter(|number| *number > 0);
    Pid::from_raw(number?)
}

impl AsFd for Child {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.pidfd.as_fd()
    }
}

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum Ended {
    /// By exit(2), with this status.
    Exited(u8),
    /// By this signal.
    Signaled(i32),
}

impl Ended {
    /// The shell's exit status: the command's own, or 128 + signal number.
    pub fn status(self) -> u8 {
        match self {
            Ended::Exited(status) => status,
            Ended::Signaled(signal) => 128u8.wrapping_add(signal as u8),
        }
    }
}

impl From<&WaitIdStatus> for Ended {
    fn from(status: &WaitIdStatus) -> Self {
        match (status.exit_status(), status.terminating_signal()) {
            (Some(code), _) => Ended::Exited(code as u8),
            (None, signal) => Ended::Signaled(signal.unwrap_or(libc::SIGKILL)),
        }
    }
}

/// Runs `work` in a process of its own, as the last thing of importance to anybody: in a session of its
/// own, with no descriptor of ours, without input and output, and nobody's child. The calling process
/// must be single-threaded. `work` must not use a descriptor that was opened before.
///
/// # Errors
/// Those of clone(2).
pub fn in_background(work: impl FnOnce()) -> Result<()> {
    let child = match fork(Namespaces::empty())? {
        Fork::Parent(child) => child,
        Fork::Child => {
            let Ok(Fork::Child) = fork(Namespaces::empty()) else {
                exit_now(0)
            };
            // Fails for no session leader, and this is none.
            let _ = rustix::process::setsid();
            close_from(0);
            for _ in 0..3 {
                let flags = rustix::fs::OFlags::RDWR;
                match rustix::fs::open(c"/dev/null", flags, rustix::fs::Mode::empty()) {
                    Ok(fd) => std::mem::forget(fd),
                    Err(_) => exit_now(1),
                }
            }
            let _ = rustix::process::nice(19);
            work();
            exit_now(0)
        }
    };
    child.wait().map(drop)
}

/// Gives memory that is free back to the kernel (malloc_trim(3)): for a process that has done most of its work
/// and stays.
pub fn give_back_memory() {
    #[cfg(target_env = "gnu")]
    // SAFETY: touches the allocator's own free memory only.
    unsafe {
        libc::malloc_trim(0);
    }
}

/// Lets go of the pages of this program's code and constants, as the kernel does when memory is short: those that are
/// needed again come back from its file. For a process that has done most of its work and stays.
pub fn give_back_program() {
    unsafe extern "C" fn drop_clean(
        info: *mut libc::dl_phdr_info,
        _: libc::size_t,
        _: *mut libc::c_void,
    ) -> libc::c_int {
        // SAFETY: dl_iterate_phdr(3) passes a valid description, whose headers live as long as the program.
        let (base, headers) = unsafe {
            let info = &*info;
            let count = usize::from(info.dlpi_phnum);
            (
                info.dlpi_addr,
                std::slice::from_raw_parts(info.dlpi_phdr, count),
            )
        };
        let page = rustix::param::page_size();
        let constant =
            |h: &&libc::Elf64_Phdr| h.p_type == libc::PT_LOAD && h.p_flags & libc::PF_W == 0;
        for header in headers.iter().filter(constant) {
            let start = (base + header.p_vaddr) as usize;
            let (first, end) = (start & !(page - 1), start + header.p_memsz as usize);
            // SAFETY: nothing can have written to what is mapped without PROT_WRITE from the file, so what is read
            // there later is what has been there before (madvise(2), MADV_DONTNEED on a private file mapping).
            unsafe {
                libc::madvise(
                    std::ptr::with_exposed_provenance_mut(first),
                    end - first,
                    libc::MADV_DONTNEED,
                );
            }
        }
        // The program itself comes first; its libraries, where it has any, are shared with others.
        1
    }
    // SAFETY: the function above keeps nothing that it is given.
    unsafe {
        libc::dl_iterate_phdr(Some(drop_clean), std::ptr::null_mut());
    }
}

/// Ends this process at once: no destructors, no flushing of what a parent will flush too.
pub fn exit_now(status: u8) -> ! {
    // SAFETY: _exit(2) touches no memory of ours.
    unsafe { libc::_exit(i32::from(status)) }
}

/// Sends a signal by number through a pidfd. 0 only checks that the process is there.
///
/// # Errors
/// Those of pidfd_send_signal(2).
pub fn signal_pidfd(pidfd: BorrowedFd<'_>, signal: i32) -> Result<()> {
    // SAFETY: plain integers and a null siginfo, which asks for the kernel's default.
    cvt(unsafe {
        libc::syscall(
            libc::SYS_pidfd_send_signal,
            pidfd.as_raw_fd(),
            signal,
            std::ptr::null::<libc::siginfo_t>(),
            0u32,
        )
    })?;
    Ok(())
}

/// Keeps others from looking into this process, unless they hold CAP_SYS_PTRACE over the user namespace in which it has
/// executed its program (prctl(2), PR_SET_DUMPABLE; kernel/ptrace.c, `__ptrace_may_access`). Undone by execve.
///
/// # Errors
/// Those of prctl(2).
pub fn hide() -> Result<()> {
    use rustix::process::{DumpableBehavior, set_dumpable_behavior};
    if sabotage::dropped("dumpable") {
        return Ok(());
    }
    set_dumpable_behavior(DumpableBehavior::NotDumpable)
}

/// Joins namespaces of the process behind a pidfd, all in one call (setns(2), since Linux 5.8).
///
/// # Errors
/// Those of setns(2).
pub fn join(pidfd: BorrowedFd<'_>, namespaces: Namespaces) -> Result<()> {
    // SAFETY: an owned descriptor and a bit mask.
    cvt(unsafe {
        libc::syscall(
            libc::SYS_setns,
            pidfd.as_raw_fd(),
            namespaces.bits() as libc::c_int,
        )
    })?;
    Ok(())
}

/// Marks every descriptor from `first` on close-on-exec (close_range(2); one by one where that is
/// missing).
pub fn cloexec_from(first: u32) {
    if sabotage::dropped("fds") {
        return;
    }
    // SAFETY: sets a flag only.
    let done = cvt(unsafe {
        libc::syscall(
            libc::SYS_close_range,
            first,
            u32::MAX,
            libc::CLOSE_RANGE_CLOEXEC,
        )
    });
    if done.is_err() {
        for fd in open_fds().into_iter().filter(|fd| *fd >= first) {
            // SAFETY: sets a flag only; a number that is not open answers EBADF.
            unsafe { libc::fcntl(fd as i32, libc::F_SETFD, libc::FD_CLOEXEC) };
        }
    }
}

/// Closes every descriptor from `first` on. For a process that goes on without any of them: nothing
/// that owns one may be used or dropped afterwards.
pub fn close_from(first: u32) {
    // SAFETY: the caller ends this process without touching an owner of a descriptor again.
    let done = cvt(unsafe { libc::syscall(libc::SYS_close_range, first, u32::MAX, 0) });
    if done.is_err() {
        for fd in open_fds().into_iter().filter(|fd| *fd >= first) {
            // SAFETY: as above; a number that is not open answers EBADF.
            unsafe { libc::close(fd as i32) };
        }
    }
}

fn open_fds() -> Vec<u32> {
    let Ok(dir) = std::fs::read_dir("/proc/self/fd") else {
        return (0..1024).collect();
    };
    dir.filter_map(|e| e.ok()?.file_name().to_str()?.parse().ok())
        .collect()
}

/// Copies descriptors to the numbers 3, 4, … in order, open across exec; everything above becomes
/// close-on-exec. For handing a known set to a program about to be executed.
///
/// # Errors
/// Those of fcntl(2) and dup2(2).
pub fn place_fds(fds: &[BorrowedFd<'_>]) -> Result<()> {
    let base = 3 + fds.len() as i32;
    let mut high = Vec::with_capacity(fds.len());
    for fd in fds {
        // SAFETY: duplicates a live descriptor above the numbers in use below.
        let n = cvt(i64::from(unsafe {
            libc::fcntl(fd.as_raw_fd(), libc::F_DUPFD_CLOEXEC, base)
        }))?;
        high.push(n as i32);
    }
    for (i, fd) in high.iter().enumerate() {
        // SAFETY: both numbers are ours: the source was made above, the target is replaced by
        // design, and the caller executes a new image next.
        cvt(i64::from(unsafe { libc::dup2(*fd, 3 + i as i32) }))?;
    }
    cloexec_from(base as u32);
    Ok(())
}

/// Takes over descriptor `number`, which the program was started with (see [`place_fds`]).
///
/// # Errors
/// `EBADF` if it is not open.
pub fn inherited_fd(number: i32) -> Result<OwnedFd> {
    // SAFETY: F_SETFD on a number; EBADF if it is not open.
    cvt(i64::from(unsafe {
        libc::fcntl(number, libc::F_SETFD, libc::FD_CLOEXEC)
    }))?;
    // SAFETY: open, as just seen, and by the start protocol nobody else's.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}

/// Makes `fd` also standard input, output or error (`number` 0 to 2).
///
/// # Errors
/// Those of dup2(2).
pub fn replace_stdio(fd: BorrowedFd<'_>, number: i32) -> Result<()> {
    match number {
        0 => rustix::stdio::dup2_stdin(fd),
        1 => rustix::stdio::dup2_stdout(fd),
        _ => rustix::stdio::dup2_stderr(fd),
    }
}

/// execveat(2), `AT_EMPTY_PATH`, of the file that [`place_fds`] put at `number`, with an empty
/// environment. Returns only on failure.
pub fn exec_placed(number: i32, argv: &[CString]) -> Errno {
    let argv = pointers(argv);
    let environment = sabotage::environment();
    let envp = pointers(&environment);
    // SAFETY: both arrays are null-terminated and point to live C strings; a number that is not
    // open answers EBADF.
    let ret = unsafe {
        libc::syscall(
            libc::SYS_execveat,
            number,
            c"".as_ptr(),
            argv.as_ptr(),
            envp.as_ptr(),
            libc::AT_EMPTY_PATH,
        )
    };
    cvt(ret).err().unwrap_or(Errno::NOEXEC)
}

/// execve(2). Returns only on failure.
pub fn exec_path(path: &CStr, argv: &[CString], envp: &[CString]) -> Errno {
    let argv = pointers(argv);
    let envp = pointers(envp);
    // SAFETY: as in `exec_placed`.
    let ret = unsafe { libc::execve(path.as_ptr(), argv.as_ptr(), envp.as_ptr()) };
    cvt(i64::from(ret)).err().unwrap_or(Errno::NOEXEC)
}

fn pointers(strings: &[CString]) -> Vec<*const libc::c_char> {
    strings
        .iter()
        .map(|s| s.as_ptr())
        .chain([std::ptr::null()])
        .collect()
}

/// Puts every signal back to its default action and empties the mask, as a program expects to be
/// started (a Rust program ignores SIGPIPE, and a shell may have ignored others).
pub fn reset_signals() {
    // The kernel's own structure, all zero: SIG_DFL, no flags, no mask (include/linux/signal_types.h).
    // The C library's call would leave out the two signals that it keeps for itself.
    let default = [0u64; 4];
    for signal in 1..=64 {
        // SAFETY: `default` is at least as large as the kernel's `struct sigaction` with its mask of
        // 8 bytes; SIGKILL and SIGSTOP answer EINVAL, which is harmless.
        unsafe {
            libc::syscall(
                libc::SYS_rt_sigaction,
                signal,
                default.as_ptr(),
                std::ptr::null_mut::<u64>(),
                8usize,
            )
        };
    }
    // SAFETY: an empty, initialised set.
    unsafe {
        let mut set = std::mem::zeroed::<libc::sigset_t>();
        libc::sigemptyset(&raw mut set);
        libc::sigprocmask(libc::SIG_SETMASK, &raw const set, std::ptr::null_mut());
    }
}

/// Has the program that `command` starts killed when this process ends (PR_SET_PDEATHSIG).
pub fn die_with_parent(command: &mut std::process::Command) {
    use std::os::unix::process::CommandExt as _;
    // SAFETY: prctl(2) is async-signal-safe and touches no memory.
    unsafe {
        command.pre_exec(|| {
            let kill = Some(rustix::process::Signal::KILL);
            Ok(rustix::process::set_parent_process_death_signal(kill)?)
        });
    }
}

/// Ignores a signal. Exec keeps that, so a program to be started wants [`reset_signals`] first.
pub fn ignore_signal(signal: i32) {
    // SAFETY: SIG_IGN runs no code of ours.
    unsafe { libc::signal(signal, libc::SIG_IGN) };
}

/// Puts two signals right which execve(2) keeps as whoever started this program left them. With SIGCHLD ignored nobody
/// could wait for a child (wait(2), ECHILD). A file that grows past RLIMIT_FSIZE is an error to be told (EFBIG), not the
/// end of this program by SIGXFSZ.
pub fn settle_signals() {
    // SAFETY: SIG_DFL runs no code of ours.
    unsafe { libc::signal(libc::SIGCHLD, libc::SIG_DFL) };
    ignore_signal(libc::SIGXFSZ);
}

/// Makes this process controlled by the terminal `tty`: a session of its own with that terminal.
///
/// # Errors
/// Those of setsid(2) (unless already leader) and `TIOCSCTTY`.
pub fn take_terminal(tty: BorrowedFd<'_>) -> Result<()> {
    let _ = rustix::process::setsid();
    rustix::process::ioctl_tiocsctty(tty)
}

/// An executable descriptor of this very program that nobody can write through: its `/proc/PID/exe`
/// leads to a read-only mount or a sealed memory file. Container root is the user, who may own the
/// program's file: without this, `/proc/1/exe` inside would be a way to replace `rl`.
///
/// A read-only detached mount of the file (open_tree(2), mount_setattr(2); needs a mount namespace
/// in which we hold CAP_SYS_ADMIN) costs nothing; the copy in a sealed memfd is for kernels and
/// filters without these calls, or a file that was replaced since the program started.
///
/// # Errors
/// Those of the memfd copy, where the mount failed too.
pub fn protected_self(path: Option<&CStr>) -> Result<OwnedFd> {
    if sabotage::dropped("exe") {
        let plain = std::fs::File::open("/proc/self/exe");
        return plain.map(OwnedFd::from).map_err(super::errno::to_errno);
    }
    match path.map(detached_self) {
        Some(Ok(fd)) => Ok(fd),
        _ => sealed_self(),
    }
}

fn detached_self(path: &CStr) -> Result<OwnedFd> {
    use rustix::mount::OpenTreeFlags;
    let tree = rustix::mount::open_tree(
        rustix::fs::CWD,
        path,
        OpenTreeFlags::OPEN_TREE_CLONE
            | OpenTreeFlags::OPEN_TREE_CLOEXEC
            | OpenTreeFlags::AT_SYMLINK_NOFOLLOW,
    )?;
    super::mount::set_attr(tree.as_fd(), super::mount::Attr::RDONLY, false)?;
    let (there, running) = (
        rustix::fs::fstat(&tree)?,
        std::fs::metadata("/proc/self/exe").map_err(super::errno::to_errno)?,
    );
    if (there.st_dev, there.st_ino) != (running.dev(), running.ino()) {
        return Err(Errno::STALE);
    }
    Ok(tree)
}

fn sealed_self() -> Result<OwnedFd> {
    use rustix::fs::{MemfdFlags, SealFlags};
    let mut program = std::fs::File::open("/proc/self/exe").map_err(super::errno::to_errno)?;
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    // Where the default is a file that cannot be executed (proc_sys_vm(5), `memfd_noexec`), that has to be asked for; Linux
    // before 6.3 does not know the word.
    let copy = match rustix::fs::memfd_create(c"rl", flags | MemfdFlags::EXEC) {
        Err(Errno::INVAL) => rustix::fs::memfd_create(c"rl", flags)?,
        other => other?,
    };
    let mut copy = std::fs::File::from(copy);
    let mut buffer = vec![0u8; 256 << 10];
    loop {
        match program.read(&mut buffer).map_err(super::errno::to_errno)? {
            0 => break,
            n => copy
                .write_all(&buffer[..n])
                .map_err(super::errno::to_errno)?,
        }
    }
    copy.rewind().map_err(super::errno::to_errno)?;
    let seals = SealFlags::SEAL | SealFlags::SHRINK | SealFlags::GROW | SealFlags::WRITE;
    rustix::fs::fcntl_add_seals(&copy, seals)?;
    Ok(copy.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fork_exit_and_signal_are_told_apart() {
        for (how, want) in [(7u8, Ended::Exited(7)), (0, Ended::Signaled(libc::SIGTERM))] {
            match fork(Namespaces::empty()).unwrap() {
                Fork::Child if how > 0 => exit_now(how),
                Fork::Child => loop {
                    rustix::event::pause();
                },
                Fork::Parent(child) => {
                    if how == 0 {
                        child.signal(libc::SIGTERM).unwrap();
                    }
                    assert_eq!(child.wait().unwrap(), want);
                    assert_eq!(child.signal(0), Err(Errno::SRCH));
                }
            }
        }
    }

    #[test]
    fn the_sealed_copy_cannot_be_written() {
        let copy = sealed_self().unwrap();
        let name = format!("/proc/self/fd/{}", copy.as_raw_fd());
        let mut file = std::fs::OpenOptions::new().write(true).open(name).unwrap();
        assert_eq!(
            file.write(b"x").unwrap_err().raw_os_error(),
            Some(libc::EPERM)
        );
    }
}
