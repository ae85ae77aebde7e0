//! The default profile: what a container may ask of the kernel when nothing else was said.
//!
//! It denies by default. What ordinary programs need is named in [`ALLOWED`]; what belongs to a capability
//! is allowed with it ([`WITH_CAP`]); a few calls are allowed by their arguments ([`by_argument`]); and
//! [`DENIED`] names the rest, each with its reason, so that no call is forgotten in silence. A denied call fails
//! with `EPERM`, one that is not in the table with `ENOSYS`.
//!
//! Two rules stand above custom. First, what the kernel grants to the first user namespace alone (loading
//! modules, kexec, swap, the system clock, I/O ports, accounting) is denied whatever capabilities the container
//! has: its capabilities are those of its own user namespace, so these calls could only ever probe for a bug.
//! Second, where the kernel reads 32 bits of an argument the profile compares 32 bits, not 64: otherwise a set
//! bit above them would slip by.
//!
//! On x86-64 the filter covers 32-bit x86 programs, on 64-bit ARM 32-bit ARM programs, with that architecture's own
//! numbers; x32 does not exist (`ENOSYS`).

use crate::security::caps::{Cap, CapSet};

use super::filter::{Action, Clause, Cond, Decision, Filter, Op, Section};
use super::table::{Arch, TABLE, row};

const EPERM: Action = Action::Errno(libc::EPERM as u16);
const ENOSYS: Action = Action::Errno(libc::ENOSYS as u16);

/// Allowed to everybody. What is dangerous among these is guarded by the kernel's own checks of ownership and of
/// capabilities over the container's user namespace.
#[rustfmt::skip]
pub(super) const ALLOWED: &[&str] = &[
    // Files and directories.
    "access", "arm_fadvise64_64", "chdir", "chmod", "chown", "chown32", "close", "close_range", "copy_file_range",
    "creat", "dup", "dup2", "dup3", "faccessat", "faccessat2", "fadvise64", "fadvise64_64", "fallocate", "fchdir",
    "fchmod", "fchmodat", "fchmodat2", "fchown", "fchown32", "fchownat", "fcntl", "fcntl64", "fdatasync", "fgetxattr",
    "file_getattr", "file_setattr", "flistxattr", "flock", "fremovexattr", "fsetxattr", "fstat", "fstat64", "fstatat64",
    "fstatfs", "fstatfs64", "fsync", "ftruncate", "ftruncate64", "futimesat", "getcwd", "getdents", "getdents64",
    "getxattr", "getxattrat", "inotify_add_watch", "inotify_init", "inotify_init1", "inotify_rm_watch", "lchown",
    "lchown32", "lgetxattr", "link", "linkat", "listxattr", "listxattrat", "llistxattr", "lremovexattr", "lseek",
    "_llseek", "lsetxattr", "lstat", "lstat64", "mkdir", "mkdirat", "mknod", "mknodat", "newfstatat", "oldfstat",
    "oldlstat", "oldstat", "open", "openat", "openat2", "pread64", "preadv", "preadv2", "pwrite64", "pwritev",
    "pwritev2", "read", "readahead", "readdir", "readlink", "readlinkat", "readv", "removexattr", "removexattrat",
    "rename", "renameat", "renameat2", "rmdir", "sendfile", "sendfile64", "setxattr", "setxattrat", "splice", "stat",
    "stat64", "statfs", "statfs64", "statx", "symlink", "symlinkat", "sync", "sync_file_range", "sync_file_range2",
    "syncfs", "tee", "truncate", "truncate64", "umask", "unlink", "unlinkat", "utime", "utimensat", "utimensat_time64",
    "utimes", "vmsplice", "write", "writev",
    // fanotify_init is guarded by its capability; without a descriptor from it this one does nothing.
    "fanotify_mark",
    // Reading the own mount table.
    "listmount", "statmount",
    // Waiting.
    "_newselect", "epoll_create", "epoll_create1", "epoll_ctl", "epoll_ctl_old", "epoll_pwait", "epoll_pwait2",
    "epoll_wait", "epoll_wait_old", "eventfd", "eventfd2", "pause", "poll", "ppoll", "ppoll_time64", "pselect6",
    "pselect6_time64", "select",
    // Asynchronous I/O of the older kind.
    "io_cancel", "io_destroy", "io_getevents", "io_pgetevents", "io_pgetevents_time64", "io_setup", "io_submit",
    // Memory.
    "brk", "cachestat", "madvise", "map_shadow_stack", "membarrier", "memfd_create", "memfd_secret", "mincore", "mlock",
    "mlock2", "mlockall", "mmap", "mmap2", "mprotect", "mremap", "mseal", "msync", "munlock", "munlockall", "munmap",
    "pkey_alloc", "pkey_free", "pkey_mprotect", "process_mrelease", "remap_file_pages",
    // Processes and threads. ptrace and process_vm_* obey the kernel's access checks; since Linux 4.8 a tracer
    // cannot change a call after the filter has seen it.
    "arch_prctl", "capget", "capset", "execve", "execveat", "exit", "exit_group", "fork", "get_robust_list",
    "get_thread_area", "getcpu", "getegid", "getegid32", "geteuid", "geteuid32", "getgid", "getgid32", "getgroups",
    "getgroups32", "getpgid", "getpgrp", "getpid", "getppid", "getpriority", "getresgid", "getresgid32", "getresuid",
    "getresuid32", "getrlimit", "getrusage", "getsid", "gettid", "getuid", "getuid32", "ioprio_get", "ioprio_set",
    "modify_ldt", "nice", "pidfd_open", "pidfd_send_signal", "prctl", "prlimit64", "process_vm_readv",
    "process_vm_writev", "ptrace", "restart_syscall", "rseq", "sched_get_priority_max", "sched_get_priority_min",
    "sched_getaffinity", "sched_getattr", "sched_getparam", "sched_getscheduler", "sched_rr_get_interval",
    "sched_rr_get_interval_time64", "sched_setaffinity", "sched_setattr", "sched_setparam", "sched_setscheduler",
    "sched_yield", "set_robust_list", "set_thread_area", "set_tid_address", "setfsgid", "setfsgid32", "setfsuid",
    "setfsuid32", "setgid", "setgid32", "setgroups", "setgroups32", "setpgid", "setpriority", "setregid", "setregid32",
    "setresgid", "setresgid32", "setresuid", "setresuid32", "setreuid", "setreuid32", "setrlimit", "setsid", "setuid",
    "setuid32", "ugetrlimit", "ulimit", "vfork", "wait4", "waitid", "waitpid",
    // The trampolines of user-space probes: the kernel itself puts these calls into a traced program.
    "uprobe", "uretprobe",
    // Locks.
    "futex", "futex_requeue", "futex_time64", "futex_wait", "futex_waitv", "futex_wake",
    // Signals.
    "kill", "rt_sigaction", "rt_sigpending", "rt_sigprocmask", "rt_sigqueueinfo", "rt_sigreturn", "rt_sigsuspend",
    "rt_sigtimedwait", "rt_sigtimedwait_time64", "rt_tgsigqueueinfo", "sgetmask", "sigaction", "sigaltstack", "signal",
    "signalfd", "signalfd4", "sigpending", "sigprocmask", "sigreturn", "sigsuspend", "ssetmask", "tgkill", "tkill",
    // Clocks and timers. The adjtimex calls also read; writing asks for CAP_SYS_TIME over the host.
    "adjtimex", "alarm", "clock_adjtime", "clock_adjtime64", "clock_getres", "clock_getres_time64", "clock_gettime",
    "clock_gettime64", "clock_nanosleep", "clock_nanosleep_time64", "getitimer", "gettimeofday", "nanosleep",
    "setitimer", "time", "timer_create", "timer_delete", "timer_getoverrun", "timer_gettime", "timer_gettime64",
    "timer_settime", "timer_settime64", "timerfd_create", "timerfd_gettime", "timerfd_gettime64", "timerfd_settime",
    "timerfd_settime64", "times",
    // Sockets; socket and socketpair go by their arguments.
    "accept", "accept4", "bind", "connect", "getpeername", "getsockname", "getsockopt", "listen", "recv", "recvfrom",
    "recvmmsg", "recvmmsg_time64", "recvmsg", "send", "sendmmsg", "sendmsg", "sendto", "setsockopt", "shutdown",
    // Pipes, System V IPC, message queues.
    "ipc", "mq_getsetattr", "mq_notify", "mq_open", "mq_timedreceive", "mq_timedreceive_time64", "mq_timedsend",
    "mq_timedsend_time64", "mq_unlink", "msgctl", "msgget", "msgrcv", "msgsnd", "pipe", "pipe2", "semctl", "semget",
    "semop", "semtimedop", "semtimedop_time64", "shmat", "shmctl", "shmdt", "shmget",
    // Further confinement of oneself.
    "landlock_add_rule", "landlock_create_ruleset", "landlock_restrict_self", "lsm_get_self_attr", "lsm_list_modules",
    "seccomp",
    // About the system.
    "getrandom", "oldolduname", "olduname", "sysinfo", "uname",
];

/// Allowed when any of the capabilities is granted.
pub(super) const WITH_CAP: &[(&[Cap], &[&str])] = &[
    (
        // Mounts and namespaces of one's own, which root of a nested container needs.
        &[Cap::SYS_ADMIN],
        &[
            "clone",
            "clone3",
            "fanotify_init",
            "fsconfig",
            "fsmount",
            "fsopen",
            "fspick",
            "mount",
            "mount_setattr",
            "move_mount",
            "open_tree",
            "open_tree_attr",
            "pivot_root",
            "quotactl",
            "quotactl_fd",
            "setdomainname",
            "sethostname",
            "setns",
            "umount",
            "umount2",
            "unshare",
        ],
    ),
    (&[Cap::SYS_ADMIN, Cap::BPF], &["bpf"]),
    (&[Cap::SYS_ADMIN, Cap::PERFMON], &["perf_event_open"]),
    (&[Cap::SYS_CHROOT], &["chroot"]),
    // The handle of a file opens it wherever it lies (CVE-2014-9357).
    (
        &[Cap::DAC_READ_SEARCH],
        &["name_to_handle_at", "open_by_handle_at"],
    ),
    (
        &[Cap::SYS_PTRACE],
        &["kcmp", "pidfd_getfd", "process_madvise"],
    ),
    // Placing memory on the nodes of the machine.
    (
        &[Cap::SYS_NICE],
        &[
            "get_mempolicy",
            "mbind",
            "set_mempolicy",
            "set_mempolicy_home_node",
        ],
    ),
    // Ends the container's own pid namespace.
    (&[Cap::SYS_BOOT], &["reboot"]),
    (&[Cap::SYSLOG], &["syslog"]),
];

/// Denied always. The list has no effect; it is the proof, which a test asks for, that each was thought of.
#[cfg(test)]
#[rustfmt::skip]
pub(super) const DENIED: &[&str] = &[
    // The first user namespace's own: the kernel as a whole, its clock, its ports.
    "acct", "clock_settime", "clock_settime64", "create_module", "delete_module", "finit_module", "init_module",
    "ioperm", "iopl", "kexec_file_load", "kexec_load", "query_module", "settimeofday", "stime", "swapoff", "swapon",
    "vhangup",
    // Keys belong to users, not to containers.
    "add_key", "keyctl", "request_key",
    // A second way to most system calls, which this filter cannot see; and a rich source of kernel bugs.
    "io_uring_enter", "io_uring_register", "io_uring_setup",
    // Holds the kernel in the middle of a copy: the tool that makes races winnable.
    "userfaultfd",
    // Moves other processes' memory.
    "migrate_pages", "move_pages",
    // Sets the labels of security modules.
    "lsm_set_self_attr",
    // The 16-bit machine of old.
    "vm86", "vm86old",
    // Gone, or never there: nothing that runs needs them.
    "_sysctl", "afs_syscall", "bdflush", "break", "ftime", "get_kernel_syms", "getpmsg", "gtty", "idle", "lock",
    "lookup_dcookie", "mpx", "nfsservctl", "pciconfig_iobase", "pciconfig_read", "pciconfig_write", "prof", "profil",
    "putpmsg", "security", "stty", "sysfs", "tuxcall", "uselib", "ustat", "vserver",
];

/// The names [`by_argument`] decides. `clone`, `clone3` and `unshare` only while CAP_SYS_ADMIN is not granted.
pub(super) const BY_ARGUMENT: &[&str] = &[
    "clone",
    "clone3",
    "ioctl",
    "personality",
    "socket",
    "socketcall",
    "socketpair",
    "unshare",
];

/// Every `CLONE_NEW*` bit of clone(2): user, pid, network, mount, UTS, IPC, cgroup.
const CLONE_NEW: u64 = 0x7e02_0000;
/// unshare(2) can make a time namespace too; clone(2) has the exit signal in that bit.
const CLONE_NEWTIME: u64 = 0x80;

pub(super) const INT: Op = Op::MaskedEq(0xffff_ffff);

const fn arg(arg: u8, op: Op, value: u64) -> Cond {
    Cond { arg, op, value }
}

fn when(all: &[Cond], then: Action) -> Clause {
    Clause {
        all: all.to_vec(),
        then,
    }
}

/// The calls whose arguments decide.
fn by_argument(name: &str, caps: CapSet) -> Decision {
    match name {
        // New namespaces open the parts of the kernel that only root could reach before.
        "clone" => Decision {
            clauses: vec![when(&[arg(0, Op::MaskedEq(CLONE_NEW), 0)], Action::Allow)],
            otherwise: EPERM,
        },
        "unshare" => Decision {
            clauses: vec![when(
                &[arg(0, Op::MaskedEq(CLONE_NEW | CLONE_NEWTIME), 0)],
                Action::Allow,
            )],
            otherwise: EPERM,
        },
        // Its flags lie in memory, out of a filter's sight; C libraries fall back to clone.
        "clone3" => ENOSYS.into(),
        // The arguments lie in memory: an AF_ALG or AF_VSOCK socket could be had through it. musl falls back
        // to the single calls; 32-bit glibc programs go without network.
        "socketcall" => ENOSYS.into(),
        "socket" => socket(caps),
        "socketpair" => Decision {
            clauses: vec![when(&[arg(0, INT, AF_UNIX)], Action::Allow)],
            otherwise: NO_FAMILY,
        },
        // Both push characters into a terminal's input, which may be the user's own.
        "ioctl" => Decision {
            clauses: vec![
                when(&[arg(1, INT, libc::TIOCSTI)], EPERM),
                when(&[arg(1, INT, libc::TIOCLINUX)], EPERM),
            ],
            otherwise: Action::Allow,
        },
        // The query, Linux, 32-bit Linux, each also with a 2.6 version number. Others switch off address
        // randomisation and the like.
        "personality" => Decision {
            clauses: [0xffff_ffff, 0, 0x8, 0x2_0000, 0x2_0008]
                .map(|value| when(&[arg(0, INT, value)], Action::Allow))
                .to_vec(),
            otherwise: EPERM,
        },
        _ => EPERM.into(),
    }
}

// include/linux/socket.h, include/uapi/linux/netlink.h
const AF_UNIX: u64 = 1;
const AF_INET: u64 = 2;
const AF_INET6: u64 = 10;
const AF_KEY: u64 = 15;
const AF_NETLINK: u64 = 16;
const AF_PACKET: u64 = 17;
const AF_XDP: u64 = 44;
const NETLINK_AUDIT: u64 = 9;

const NO_FAMILY: Action = Action::Errno(libc::EAFNOSUPPORT as u16);

/// Local, IPv4, IPv6 and netlink sockets for everybody. The other families (AF_ALG, AF_VSOCK, AF_BLUETOOTH
/// and forty more) are seldom used, load kernel modules on demand, and not all of them respect the
/// network namespace.
fn socket(caps: CapSet) -> Decision {
    // There is no auditing inside a user namespace: programs understand this answer as `no audit here`.
    let audit = when(
        &[arg(0, INT, AF_NETLINK), arg(2, INT, NETLINK_AUDIT)],
        Action::Errno(libc::EPROTONOSUPPORT as u16),
    );
    let mut families = vec![AF_INET, AF_UNIX, AF_INET6, AF_NETLINK];
    if caps.has(Cap::NET_RAW) {
        families.extend([AF_PACKET, AF_XDP]);
    }
    if caps.has(Cap::NET_ADMIN) {
        families.push(AF_KEY);
    }
    let mut clauses = vec![audit];
    clauses.extend(
        families
            .into_iter()
            .map(|family| when(&[arg(0, INT, family)], Action::Allow)),
    );
    Decision {
        clauses,
        otherwise: NO_FAMILY,
    }
}

/// The default profile for a container that is granted `caps`, on the architecture `native`.
pub(super) fn filter(native: Arch, caps: CapSet) -> Filter {
    Filter {
        sections: native
            .with_compat()
            .iter()
            .map(|&arch| section(arch, caps))
            .collect(),
        x32: ENOSYS,
        other_arch: Action::KillProcess,
    }
}

fn section(arch: Arch, caps: CapSet) -> Section {
    let mut section = Section::new(arch, ENOSYS, ENOSYS);
    let denied = section.intern(EPERM.into());
    let allowed = section.intern(Action::Allow.into());
    for row in 0..TABLE.len() as u16 {
        section.decide(row, denied);
    }
    for (row, name) in BY_ARGUMENT_ROWS.iter().zip(BY_ARGUMENT) {
        let decision = section.intern(by_argument(name, caps));
        section.decide(*row, decision);
    }
    for row in ALLOWED_ROWS {
        section.decide(row, allowed);
    }
    let granted = WITH_CAP
        .iter()
        .filter(|(any, _)| any.iter().any(|&cap| caps.has(cap)));
    for row in granted
        .flat_map(|(_, names)| *names)
        .filter_map(|name| row(name))
    {
        section.decide(row, allowed);
    }
    section
}

const ALLOWED_ROWS: [u16; ALLOWED.len()] = rows(ALLOWED);
const BY_ARGUMENT_ROWS: [u16; BY_ARGUMENT.len()] = rows(BY_ARGUMENT);

/// Looked up by the compiler; a name that is not in the table does not compile.
const fn rows<const N: usize>(names: &[&str]) -> [u16; N] {
    let mut rows = [0; N];
    let mut i = 0;
    while i < N {
        rows[i] = match row(names[i]) {
            Some(row) => row,
            None => panic!("a name is not in the table"),
        };
        i += 1;
    }
    rows
}
