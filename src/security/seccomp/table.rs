//! The numbers of the system calls: one row per name, sorted by name, with the numbers on x86-64, i386 and
//! 64-bit ARM. Source: the kernel's own headers (asm/unistd_64.h, asm/unistd_32.h, asm-generic/unistd.h) up
//! to Linux 6.18, read through the crate linux-raw-sys 0.12 and `arch/x86/entry/syscalls/syscall_64.tbl`.
//!
//! A call that is not here is answered as one that does not exist (`ENOSYS`), so that a C library newer
//! than this table falls back to what it did before. A new row must be filed in
//! [`super::policy`]: a test asks for it.

/// The architectures that a table exists for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Arch {
    /// x86-64.
    X86_64,
    /// 32-bit x86, which 64-bit kernels run too.
    X86,
    /// 64-bit ARM.
    Aarch64,
}

impl Arch {
    /// The architecture this program was built for; `None` where no table exists.
    pub const fn native() -> Option<Arch> {
        if cfg!(target_arch = "x86_64") {
            Some(Arch::X86_64)
        } else if cfg!(target_arch = "aarch64") {
            Some(Arch::Aarch64)
        } else {
            None
        }
    }

    /// The architectures whose calls a filter covers on a machine of this one, the most frequent first.
    pub(super) const fn with_compat(self) -> &'static [Arch] {
        match self {
            Arch::X86_64 => &[Arch::X86_64, Arch::X86],
            Arch::X86 => &[Arch::X86],
            Arch::Aarch64 => &[Arch::Aarch64],
        }
    }

    /// `AUDIT_ARCH_*` of include/uapi/linux/audit.h: machine number, 64-bit and little-endian bits.
    pub const fn audit(self) -> u32 {
        match self {
            Arch::X86_64 => 0xc000_003e,
            Arch::X86 => 0x4000_0003,
            Arch::Aarch64 => 0xc000_00b7,
        }
    }

    /// The number of a call, if the architecture has it.
    pub fn number(self, name: &str) -> Option<u32> {
        self.of(row(name)?)
    }

    /// The number in a row of [`TABLE`].
    pub(super) fn of(self, row: u16) -> Option<u32> {
        let row = &TABLE[row as usize];
        let number = match self {
            Arch::X86_64 => row.1,
            Arch::X86 => row.2,
            Arch::Aarch64 => row.3,
        };
        (number != NO).then_some(u32::from(number))
    }
}

/// The row of a call, if any architecture has it. At compile time too, so that the default profile costs no
/// search at each start.
pub(super) const fn row(name: &str) -> Option<u16> {
    let (mut low, mut high) = (0, TABLE.len());
    while low < high {
        let middle = (low + high) / 2;
        if less(TABLE[middle].0.as_bytes(), name.as_bytes()) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    let found = low < TABLE.len() && !less(name.as_bytes(), TABLE[low].0.as_bytes());
    if found { Some(low as u16) } else { None }
}

/// `a < b`, which a constant function cannot ask of strings.
const fn less(a: &[u8], b: &[u8]) -> bool {
    let mut i = 0;
    while i < a.len() && i < b.len() {
        if a[i] != b[i] {
            return a[i] < b[i];
        }
        i += 1;
    }
    a.len() < b.len()
}

/// Name, then the numbers on x86-64, i386 and aarch64.
pub(super) type Row = (&'static str, u16, u16, u16);

/// The architecture does not have the call.
const NO: u16 = u16::MAX;

/// One more than the highest number of any architecture.
pub(super) const NUMBERS: usize = 470;

#[rustfmt::skip]
pub(super) static TABLE: [Row; 470] = [
    ("_llseek", NO, 140, NO), ("_newselect", NO, 142, NO), ("_sysctl", 156, 149, NO), ("accept", 43, NO, 202),
    ("accept4", 288, 364, 242), ("access", 21, 33, NO), ("acct", 163, 51, 89), ("add_key", 248, 286, 217),
    ("adjtimex", 159, 124, 171), ("afs_syscall", 183, 137, NO), ("alarm", 37, 27, NO), ("arch_prctl", 158, 384, NO),
    ("bdflush", NO, 134, NO), ("bind", 49, 361, 200), ("bpf", 321, 357, 280), ("break", NO, 17, NO),
    ("brk", 12, 45, 214), ("cachestat", 451, 451, 451), ("capget", 125, 184, 90), ("capset", 126, 185, 91),
    ("chdir", 80, 12, 49), ("chmod", 90, 15, NO), ("chown", 92, 182, NO), ("chown32", NO, 212, NO),
    ("chroot", 161, 61, 51), ("clock_adjtime", 305, 343, 266), ("clock_adjtime64", NO, 405, NO),
    ("clock_getres", 229, 266, 114), ("clock_getres_time64", NO, 406, NO), ("clock_gettime", 228, 265, 113),
    ("clock_gettime64", NO, 403, NO), ("clock_nanosleep", 230, 267, 115), ("clock_nanosleep_time64", NO, 407, NO),
    ("clock_settime", 227, 264, 112), ("clock_settime64", NO, 404, NO), ("clone", 56, 120, 220),
    ("clone3", 435, 435, 435), ("close", 3, 6, 57), ("close_range", 436, 436, 436), ("connect", 42, 362, 203),
    ("copy_file_range", 326, 377, 285), ("creat", 85, 8, NO), ("create_module", 174, 127, NO),
    ("delete_module", 176, 129, 106), ("dup", 32, 41, 23), ("dup2", 33, 63, NO), ("dup3", 292, 330, 24),
    ("epoll_create", 213, 254, NO), ("epoll_create1", 291, 329, 20), ("epoll_ctl", 233, 255, 21),
    ("epoll_ctl_old", 214, NO, NO), ("epoll_pwait", 281, 319, 22), ("epoll_pwait2", 441, 441, 441),
    ("epoll_wait", 232, 256, NO), ("epoll_wait_old", 215, NO, NO), ("eventfd", 284, 323, NO),
    ("eventfd2", 290, 328, 19), ("execve", 59, 11, 221), ("execveat", 322, 358, 281), ("exit", 60, 1, 93),
    ("exit_group", 231, 252, 94), ("faccessat", 269, 307, 48), ("faccessat2", 439, 439, 439),
    ("fadvise64", 221, 250, 223), ("fadvise64_64", NO, 272, NO), ("fallocate", 285, 324, 47),
    ("fanotify_init", 300, 338, 262), ("fanotify_mark", 301, 339, 263), ("fchdir", 81, 133, 50),
    ("fchmod", 91, 94, 52), ("fchmodat", 268, 306, 53), ("fchmodat2", 452, 452, 452), ("fchown", 93, 95, 55),
    ("fchown32", NO, 207, NO), ("fchownat", 260, 298, 54), ("fcntl", 72, 55, 25), ("fcntl64", NO, 221, NO),
    ("fdatasync", 75, 148, 83), ("fgetxattr", 193, 231, 10), ("file_getattr", 468, 468, 468),
    ("file_setattr", 469, 469, 469), ("finit_module", 313, 350, 273), ("flistxattr", 196, 234, 13),
    ("flock", 73, 143, 32), ("fork", 57, 2, NO), ("fremovexattr", 199, 237, 16), ("fsconfig", 431, 431, 431),
    ("fsetxattr", 190, 228, 7), ("fsmount", 432, 432, 432), ("fsopen", 430, 430, 430), ("fspick", 433, 433, 433),
    ("fstat", 5, 108, 80), ("fstat64", NO, 197, NO), ("fstatat64", NO, 300, NO), ("fstatfs", 138, 100, 44),
    ("fstatfs64", NO, 269, NO), ("fsync", 74, 118, 82), ("ftime", NO, 35, NO), ("ftruncate", 77, 93, 46),
    ("ftruncate64", NO, 194, NO), ("futex", 202, 240, 98), ("futex_requeue", 456, 456, 456),
    ("futex_time64", NO, 422, NO), ("futex_wait", 455, 455, 455), ("futex_waitv", 449, 449, 449),
    ("futex_wake", 454, 454, 454), ("futimesat", 261, 299, NO), ("get_kernel_syms", 177, 130, NO),
    ("get_mempolicy", 239, 275, 236), ("get_robust_list", 274, 312, 100), ("get_thread_area", 211, 244, NO),
    ("getcpu", 309, 318, 168), ("getcwd", 79, 183, 17), ("getdents", 78, 141, NO), ("getdents64", 217, 220, 61),
    ("getegid", 108, 50, 177), ("getegid32", NO, 202, NO), ("geteuid", 107, 49, 175), ("geteuid32", NO, 201, NO),
    ("getgid", 104, 47, 176), ("getgid32", NO, 200, NO), ("getgroups", 115, 80, 158), ("getgroups32", NO, 205, NO),
    ("getitimer", 36, 105, 102), ("getpeername", 52, 368, 205), ("getpgid", 121, 132, 155), ("getpgrp", 111, 65, NO),
    ("getpid", 39, 20, 172), ("getpmsg", 181, 188, NO), ("getppid", 110, 64, 173), ("getpriority", 140, 96, 141),
    ("getrandom", 318, 355, 278), ("getresgid", 120, 171, 150), ("getresgid32", NO, 211, NO),
    ("getresuid", 118, 165, 148), ("getresuid32", NO, 209, NO), ("getrlimit", 97, 76, 163),
    ("getrusage", 98, 77, 165), ("getsid", 124, 147, 156), ("getsockname", 51, 367, 204),
    ("getsockopt", 55, 365, 209), ("gettid", 186, 224, 178), ("gettimeofday", 96, 78, 169), ("getuid", 102, 24, 174),
    ("getuid32", NO, 199, NO), ("getxattr", 191, 229, 8), ("getxattrat", 464, 464, 464), ("gtty", NO, 32, NO),
    ("idle", NO, 112, NO), ("init_module", 175, 128, 105), ("inotify_add_watch", 254, 292, 27),
    ("inotify_init", 253, 291, NO), ("inotify_init1", 294, 332, 26), ("inotify_rm_watch", 255, 293, 28),
    ("io_cancel", 210, 249, 3), ("io_destroy", 207, 246, 1), ("io_getevents", 208, 247, 4),
    ("io_pgetevents", 333, 385, 292), ("io_pgetevents_time64", NO, 416, NO), ("io_setup", 206, 245, 0),
    ("io_submit", 209, 248, 2), ("io_uring_enter", 426, 426, 426), ("io_uring_register", 427, 427, 427),
    ("io_uring_setup", 425, 425, 425), ("ioctl", 16, 54, 29), ("ioperm", 173, 101, NO), ("iopl", 172, 110, NO),
    ("ioprio_get", 252, 290, 31), ("ioprio_set", 251, 289, 30), ("ipc", NO, 117, NO), ("kcmp", 312, 349, 272),
    ("kexec_file_load", 320, NO, 294), ("kexec_load", 246, 283, 104), ("keyctl", 250, 288, 219),
    ("kill", 62, 37, 129), ("landlock_add_rule", 445, 445, 445), ("landlock_create_ruleset", 444, 444, 444),
    ("landlock_restrict_self", 446, 446, 446), ("lchown", 94, 16, NO), ("lchown32", NO, 198, NO),
    ("lgetxattr", 192, 230, 9), ("link", 86, 9, NO), ("linkat", 265, 303, 37), ("listen", 50, 363, 201),
    ("listmount", 458, 458, 458), ("listxattr", 194, 232, 11), ("listxattrat", 465, 465, 465),
    ("llistxattr", 195, 233, 12), ("lock", NO, 53, NO), ("lookup_dcookie", 212, 253, 18),
    ("lremovexattr", 198, 236, 15), ("lseek", 8, 19, 62), ("lsetxattr", 189, 227, 6),
    ("lsm_get_self_attr", 459, 459, 459), ("lsm_list_modules", 461, 461, 461), ("lsm_set_self_attr", 460, 460, 460),
    ("lstat", 6, 107, NO), ("lstat64", NO, 196, NO), ("madvise", 28, 219, 233), ("map_shadow_stack", 453, 453, 453),
    ("mbind", 237, 274, 235), ("membarrier", 324, 375, 283), ("memfd_create", 319, 356, 279),
    ("memfd_secret", 447, 447, 447), ("migrate_pages", 256, 294, 238), ("mincore", 27, 218, 232),
    ("mkdir", 83, 39, NO), ("mkdirat", 258, 296, 34), ("mknod", 133, 14, NO), ("mknodat", 259, 297, 33),
    ("mlock", 149, 150, 228), ("mlock2", 325, 376, 284), ("mlockall", 151, 152, 230), ("mmap", 9, 90, 222),
    ("mmap2", NO, 192, NO), ("modify_ldt", 154, 123, NO), ("mount", 165, 21, 40), ("mount_setattr", 442, 442, 442),
    ("move_mount", 429, 429, 429), ("move_pages", 279, 317, 239), ("mprotect", 10, 125, 226), ("mpx", NO, 56, NO),
    ("mq_getsetattr", 245, 282, 185), ("mq_notify", 244, 281, 184), ("mq_open", 240, 277, 180),
    ("mq_timedreceive", 243, 280, 183), ("mq_timedreceive_time64", NO, 419, NO), ("mq_timedsend", 242, 279, 182),
    ("mq_timedsend_time64", NO, 418, NO), ("mq_unlink", 241, 278, 181), ("mremap", 25, 163, 216),
    ("mseal", 462, 462, 462), ("msgctl", 71, 402, 187), ("msgget", 68, 399, 186), ("msgrcv", 70, 401, 188),
    ("msgsnd", 69, 400, 189), ("msync", 26, 144, 227), ("munlock", 150, 151, 229), ("munlockall", 152, 153, 231),
    ("munmap", 11, 91, 215), ("name_to_handle_at", 303, 341, 264), ("nanosleep", 35, 162, 101),
    ("newfstatat", 262, NO, 79), ("nfsservctl", 180, 169, 42), ("nice", NO, 34, NO), ("oldfstat", NO, 28, NO),
    ("oldlstat", NO, 84, NO), ("oldolduname", NO, 59, NO), ("oldstat", NO, 18, NO), ("olduname", NO, 109, NO),
    ("open", 2, 5, NO), ("open_by_handle_at", 304, 342, 265), ("open_tree", 428, 428, 428),
    ("open_tree_attr", 467, 467, 467), ("openat", 257, 295, 56), ("openat2", 437, 437, 437), ("pause", 34, 29, NO),
    ("perf_event_open", 298, 336, 241), ("personality", 135, 136, 92), ("pidfd_getfd", 438, 438, 438),
    ("pidfd_open", 434, 434, 434), ("pidfd_send_signal", 424, 424, 424), ("pipe", 22, 42, NO),
    ("pipe2", 293, 331, 59), ("pivot_root", 155, 217, 41), ("pkey_alloc", 330, 381, 289),
    ("pkey_free", 331, 382, 290), ("pkey_mprotect", 329, 380, 288), ("poll", 7, 168, NO), ("ppoll", 271, 309, 73),
    ("ppoll_time64", NO, 414, NO), ("prctl", 157, 172, 167), ("pread64", 17, 180, 67), ("preadv", 295, 333, 69),
    ("preadv2", 327, 378, 286), ("prlimit64", 302, 340, 261), ("process_madvise", 440, 440, 440),
    ("process_mrelease", 448, 448, 448), ("process_vm_readv", 310, 347, 270), ("process_vm_writev", 311, 348, 271),
    ("prof", NO, 44, NO), ("profil", NO, 98, NO), ("pselect6", 270, 308, 72), ("pselect6_time64", NO, 413, NO),
    ("ptrace", 101, 26, 117), ("putpmsg", 182, 189, NO), ("pwrite64", 18, 181, 68), ("pwritev", 296, 334, 70),
    ("pwritev2", 328, 379, 287), ("query_module", 178, 167, NO), ("quotactl", 179, 131, 60),
    ("quotactl_fd", 443, 443, 443), ("read", 0, 3, 63), ("readahead", 187, 225, 213), ("readdir", NO, 89, NO),
    ("readlink", 89, 85, NO), ("readlinkat", 267, 305, 78), ("readv", 19, 145, 65), ("reboot", 169, 88, 142),
    ("recvfrom", 45, 371, 207), ("recvmmsg", 299, 337, 243), ("recvmmsg_time64", NO, 417, NO),
    ("recvmsg", 47, 372, 212), ("remap_file_pages", 216, 257, 234), ("removexattr", 197, 235, 14),
    ("removexattrat", 466, 466, 466), ("rename", 82, 38, NO), ("renameat", 264, 302, 38),
    ("renameat2", 316, 353, 276), ("request_key", 249, 287, 218), ("restart_syscall", 219, 0, 128),
    ("rmdir", 84, 40, NO), ("rseq", 334, 386, 293), ("rt_sigaction", 13, 174, 134), ("rt_sigpending", 127, 176, 136),
    ("rt_sigprocmask", 14, 175, 135), ("rt_sigqueueinfo", 129, 178, 138), ("rt_sigreturn", 15, 173, 139),
    ("rt_sigsuspend", 130, 179, 133), ("rt_sigtimedwait", 128, 177, 137), ("rt_sigtimedwait_time64", NO, 421, NO),
    ("rt_tgsigqueueinfo", 297, 335, 240), ("sched_get_priority_max", 146, 159, 125),
    ("sched_get_priority_min", 147, 160, 126), ("sched_getaffinity", 204, 242, 123), ("sched_getattr", 315, 352, 275),
    ("sched_getparam", 143, 155, 121), ("sched_getscheduler", 145, 157, 120),
    ("sched_rr_get_interval", 148, 161, 127), ("sched_rr_get_interval_time64", NO, 423, NO),
    ("sched_setaffinity", 203, 241, 122), ("sched_setattr", 314, 351, 274), ("sched_setparam", 142, 154, 118),
    ("sched_setscheduler", 144, 156, 119), ("sched_yield", 24, 158, 124), ("seccomp", 317, 354, 277),
    ("security", 185, NO, NO), ("select", 23, 82, NO), ("semctl", 66, 394, 191), ("semget", 64, 393, 190),
    ("semop", 65, NO, 193), ("semtimedop", 220, NO, 192), ("semtimedop_time64", NO, 420, NO),
    ("sendfile", 40, 187, 71), ("sendfile64", NO, 239, NO), ("sendmmsg", 307, 345, 269), ("sendmsg", 46, 370, 211),
    ("sendto", 44, 369, 206), ("set_mempolicy", 238, 276, 237), ("set_mempolicy_home_node", 450, 450, 450),
    ("set_robust_list", 273, 311, 99), ("set_thread_area", 205, 243, NO), ("set_tid_address", 218, 258, 96),
    ("setdomainname", 171, 121, 162), ("setfsgid", 123, 139, 152), ("setfsgid32", NO, 216, NO),
    ("setfsuid", 122, 138, 151), ("setfsuid32", NO, 215, NO), ("setgid", 106, 46, 144), ("setgid32", NO, 214, NO),
    ("setgroups", 116, 81, 159), ("setgroups32", NO, 206, NO), ("sethostname", 170, 74, 161),
    ("setitimer", 38, 104, 103), ("setns", 308, 346, 268), ("setpgid", 109, 57, 154), ("setpriority", 141, 97, 140),
    ("setregid", 114, 71, 143), ("setregid32", NO, 204, NO), ("setresgid", 119, 170, 149),
    ("setresgid32", NO, 210, NO), ("setresuid", 117, 164, 147), ("setresuid32", NO, 208, NO),
    ("setreuid", 113, 70, 145), ("setreuid32", NO, 203, NO), ("setrlimit", 160, 75, 164), ("setsid", 112, 66, 157),
    ("setsockopt", 54, 366, 208), ("settimeofday", 164, 79, 170), ("setuid", 105, 23, 146), ("setuid32", NO, 213, NO),
    ("setxattr", 188, 226, 5), ("setxattrat", 463, 463, 463), ("sgetmask", NO, 68, NO), ("shmat", 30, 397, 196),
    ("shmctl", 31, 396, 195), ("shmdt", 67, 398, 197), ("shmget", 29, 395, 194), ("shutdown", 48, 373, 210),
    ("sigaction", NO, 67, NO), ("sigaltstack", 131, 186, 132), ("signal", NO, 48, NO), ("signalfd", 282, 321, NO),
    ("signalfd4", 289, 327, 74), ("sigpending", NO, 73, NO), ("sigprocmask", NO, 126, NO), ("sigreturn", NO, 119, NO),
    ("sigsuspend", NO, 72, NO), ("socket", 41, 359, 198), ("socketcall", NO, 102, NO), ("socketpair", 53, 360, 199),
    ("splice", 275, 313, 76), ("ssetmask", NO, 69, NO), ("stat", 4, 106, NO), ("stat64", NO, 195, NO),
    ("statfs", 137, 99, 43), ("statfs64", NO, 268, NO), ("statmount", 457, 457, 457), ("statx", 332, 383, 291),
    ("stime", NO, 25, NO), ("stty", NO, 31, NO), ("swapoff", 168, 115, 225), ("swapon", 167, 87, 224),
    ("symlink", 88, 83, NO), ("symlinkat", 266, 304, 36), ("sync", 162, 36, 81), ("sync_file_range", 277, 314, 84),
    ("syncfs", 306, 344, 267), ("sysfs", 139, 135, NO), ("sysinfo", 99, 116, 179), ("syslog", 103, 103, 116),
    ("tee", 276, 315, 77), ("tgkill", 234, 270, 131), ("time", 201, 13, NO), ("timer_create", 222, 259, 107),
    ("timer_delete", 226, 263, 111), ("timer_getoverrun", 225, 262, 109), ("timer_gettime", 224, 261, 108),
    ("timer_gettime64", NO, 408, NO), ("timer_settime", 223, 260, 110), ("timer_settime64", NO, 409, NO),
    ("timerfd_create", 283, 322, 85), ("timerfd_gettime", 287, 326, 87), ("timerfd_gettime64", NO, 410, NO),
    ("timerfd_settime", 286, 325, 86), ("timerfd_settime64", NO, 411, NO), ("times", 100, 43, 153),
    ("tkill", 200, 238, 130), ("truncate", 76, 92, 45), ("truncate64", NO, 193, NO), ("tuxcall", 184, NO, NO),
    ("ugetrlimit", NO, 191, NO), ("ulimit", NO, 58, NO), ("umask", 95, 60, 166), ("umount", NO, 22, NO),
    ("umount2", 166, 52, 39), ("uname", 63, 122, 160), ("unlink", 87, 10, NO), ("unlinkat", 263, 301, 35),
    ("unshare", 272, 310, 97), ("uprobe", 336, NO, NO), ("uretprobe", 335, NO, NO), ("uselib", 134, 86, NO),
    ("userfaultfd", 323, 374, 282), ("ustat", 136, 62, NO), ("utime", 132, 30, NO), ("utimensat", 280, 320, 88),
    ("utimensat_time64", NO, 412, NO), ("utimes", 235, 271, NO), ("vfork", 58, 190, NO), ("vhangup", 153, 111, 58),
    ("vm86", NO, 166, NO), ("vm86old", NO, 113, NO), ("vmsplice", 278, 316, 75), ("vserver", 236, 273, NO),
    ("wait4", 61, 114, 260), ("waitid", 247, 284, 95), ("waitpid", NO, 7, NO), ("write", 1, 4, 64),
    ("writev", 20, 146, 66),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_sorted_and_numbers_are_unique() {
        assert!(TABLE.is_sorted_by(|a, b| a.0 < b.0));
        for arch in [Arch::X86_64, Arch::X86, Arch::Aarch64] {
            let mut numbers: Vec<_> = (0..TABLE.len() as u16)
                .filter_map(|row| arch.of(row))
                .collect();
            let count = numbers.len();
            numbers.sort_unstable();
            numbers.dedup();
            assert_eq!(numbers.len(), count, "{arch:?}");
            assert_eq!(
                numbers.last().copied(),
                Some(NUMBERS as u32 - 1),
                "{arch:?}"
            );
        }
    }

    #[test]
    fn the_native_column_agrees_with_the_c_library() {
        let Some(arch) = Arch::native() else { return };
        for (name, number) in [
            ("read", libc::SYS_read),
            ("mount", libc::SYS_mount),
            ("openat2", libc::SYS_openat2),
            ("clone3", libc::SYS_clone3),
            ("seccomp", libc::SYS_seccomp),
            ("process_vm_readv", libc::SYS_process_vm_readv),
            ("landlock_restrict_self", libc::SYS_landlock_restrict_self),
        ] {
            assert_eq!(arch.number(name).map(i64::from), Some(number), "{name}");
        }
        assert_eq!(arch.number("no_such_call"), None);
        for (at, (name, ..)) in TABLE.iter().enumerate() {
            assert_eq!(row(name), Some(at as u16));
        }
        for name in ["", "~", "umount3", "rea", "reads"] {
            assert_eq!(row(name), None, "{name}");
        }
    }
}
