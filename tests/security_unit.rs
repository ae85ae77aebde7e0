//! The default system call filter on the running kernel. A filter belongs to a thread, so each test puts it
//! on a thread that ends; the same calls are made outside of it, with arguments that can do no harm.
#![allow(unsafe_code)]

use std::io::ErrorKind;
use std::process::Command;

use rl::security::caps::{Cap, CapSet};
use rl::security::seccomp::{compile, compile_default, load_profile};
use rl::sys::caps::set_no_new_privs;
use rl::sys::seccomp::{Flags, SockFilter, install};

/// An errno that no kernel gives: it proves that the filter answered, and not the kernel behind it.
const OURS: i32 = 1023;

/// The default program, with the answer `EPERM` replaced by [`OURS`].
fn marked(caps: CapSet) -> Vec<SockFilter> {
    const RET: u16 = 0x06;
    let mut program = compile_default(caps).unwrap();
    for instruction in &mut program {
        if instruction.code == RET && instruction.k == 0x0005_0000 | libc::EPERM as u32 {
            instruction.k = 0x0005_0000 | OURS as u32;
        }
    }
    program
}

fn inside<T: Send>(program: &[SockFilter], test: impl FnOnce() -> T + Send) -> T {
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            set_no_new_privs().unwrap();
            install(program, Flags::empty()).unwrap();
            test()
        });
        thread.join().unwrap()
    })
}

/// The errno of a call, 0 if it worked.
fn call(number: i64, args: [i64; 4]) -> i32 {
    // SAFETY: the callers below pass numbers that no call takes for memory of ours.
    let ret = unsafe { libc::syscall(number, args[0], args[1], args[2], args[3]) };
    if ret >= 0 {
        return 0;
    }
    std::io::Error::last_os_error().raw_os_error().unwrap()
}

/// Fails with every argument -1, whoever makes it: the pointer is bad, the descriptor closed, the flag unknown.
const DENIED: &[i64] = &[
    libc::SYS_acct,
    libc::SYS_add_key,
    libc::SYS_bpf,
    libc::SYS_clock_settime,
    libc::SYS_delete_module,
    libc::SYS_fanotify_init,
    libc::SYS_finit_module,
    libc::SYS_fsconfig,
    libc::SYS_fsmount,
    libc::SYS_fsopen,
    libc::SYS_fspick,
    libc::SYS_get_mempolicy,
    libc::SYS_init_module,
    libc::SYS_io_uring_enter,
    libc::SYS_io_uring_register,
    libc::SYS_io_uring_setup,
    libc::SYS_kcmp,
    libc::SYS_kexec_load,
    libc::SYS_keyctl,
    libc::SYS_mbind,
    libc::SYS_migrate_pages,
    libc::SYS_mount,
    libc::SYS_mount_setattr,
    libc::SYS_move_mount,
    libc::SYS_move_pages,
    libc::SYS_name_to_handle_at,
    libc::SYS_open_by_handle_at,
    libc::SYS_open_tree,
    libc::SYS_perf_event_open,
    libc::SYS_pidfd_getfd,
    libc::SYS_pivot_root,
    libc::SYS_process_madvise,
    libc::SYS_quotactl,
    libc::SYS_reboot,
    libc::SYS_request_key,
    libc::SYS_set_mempolicy,
    libc::SYS_setdomainname,
    libc::SYS_sethostname,
    libc::SYS_setns,
    libc::SYS_settimeofday,
    libc::SYS_swapoff,
    libc::SYS_swapon,
    libc::SYS_syslog,
    libc::SYS_umount2,
    libc::SYS_unshare,
    libc::SYS_userfaultfd,
];

#[test]
fn denied_calls_do_not_reach_the_kernel() {
    for number in DENIED {
        let errno = call(*number, [-1; 4]);
        assert!(
            errno != 0 && errno != OURS,
            "call {number} outside: {errno}"
        );
    }
    inside(&marked(CapSet::DEFAULT), || {
        for number in DENIED {
            assert_eq!(call(*number, [-1; 4]), OURS, "call {number}");
        }
    });
    // And with the program as it is.
    inside(&compile_default(CapSet::DEFAULT).unwrap(), || {
        assert_eq!(call(libc::SYS_mount, [-1; 4]), libc::EPERM);
    });
}

#[test]
fn calls_that_do_not_exist_are_missing_not_denied() {
    inside(&marked(CapSet::DEFAULT), || {
        assert_eq!(call(libc::SYS_clone3, [-1; 4]), libc::ENOSYS);
        assert_eq!(call(1000, [-1; 4]), libc::ENOSYS);
        #[cfg(target_arch = "x86_64")]
        assert_eq!(call(libc::SYS_getpid | 0x4000_0000, [0; 4]), libc::ENOSYS);
    });
}

#[test]
fn capabilities_open_their_calls() {
    let caps = CapSet::DEFAULT.with(Cap::SYS_ADMIN);
    inside(&marked(caps), || {
        assert_ne!(call(libc::SYS_mount, [-1; 4]), OURS);
        assert_ne!(call(libc::SYS_setns, [-1; 4]), OURS);
        assert_ne!(call(libc::SYS_clone3, [-1; 4]), libc::ENOSYS);
        assert_eq!(call(libc::SYS_keyctl, [-1; 4]), OURS);
        assert_eq!(call(libc::SYS_init_module, [-1; 4]), OURS);
    });
}

#[test]
fn arguments_decide() {
    const HIGH: i64 = 0x7_0000_0000;
    let socket = |family: i32, high: i64| {
        let args = [i64::from(family) | high, i64::from(libc::SOCK_STREAM), 0, 0];
        call(libc::SYS_socket, args)
    };
    assert_eq!(socket(libc::AF_UNIX, 0), 0);
    inside(&marked(CapSet::DEFAULT), || {
        for high in [0, HIGH] {
            assert_eq!(socket(libc::AF_VSOCK, high), libc::EAFNOSUPPORT);
            assert_eq!(socket(libc::AF_ALG, high), libc::EAFNOSUPPORT);
            assert_eq!(socket(libc::AF_UNIX, high), 0);
            let sti = [-1, libc::TIOCSTI as i64 | high, 0, 0];
            assert_eq!(call(libc::SYS_ioctl, sti), OURS);
            let linux = [-1, libc::TIOCLINUX as i64 | high, 0, 0];
            assert_eq!(call(libc::SYS_ioctl, linux), OURS);
        }
        let get = [-1, libc::TCGETS as i64, 0, 0];
        assert_eq!(call(libc::SYS_ioctl, get), libc::EBADF);
        let personality = |value: i64| call(libc::SYS_personality, [value, 0, 0, 0]);
        assert_eq!(personality(0xffff_ffff), 0);
        assert_eq!(personality(0x4_0000), OURS);
        let user = i64::from(libc::CLONE_NEWUSER);
        // The signal that belongs to no process of ours would be seen; the namespace flag must not get there.
        assert_eq!(call(libc::SYS_clone, [user, 0, 0, 0]), OURS);
        assert_eq!(call(libc::SYS_unshare, [user, 0, 0, 0]), OURS);
        assert_eq!(call(libc::SYS_unshare, [0, 0, 0, 0]), 0);
    });
}

#[test]
fn ordinary_programs_notice_nothing() {
    let script = "set -e; d=$(mktemp -d); cd $d; echo text > a; ln -s a b; cp b c; chmod 600 c; mv c d; \
                  cat d | tr a-z A-Z; (sleep 0 & wait); rm -r $d";
    inside(&compile_default(CapSet::EMPTY).unwrap(), || {
        let out = Command::new("/bin/sh")
            .args(["-c", script])
            .output()
            .unwrap();
        assert!(out.status.success(), "{out:?}");
        assert_eq!(out.stdout, b"TEXT\n");
        // Threads: clone3 is missing, so the C library takes clone.
        assert_eq!(std::thread::spawn(|| 7).join().unwrap(), 7);
        let listener = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let address = listener.local_addr().unwrap();
        assert!(std::net::TcpStream::connect(address).is_ok());
    });
}

#[test]
fn a_profile_of_the_users_own_is_installed() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("profile.json");
    let text = format!(
        r#"{{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [
            {{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": {OURS}}}]}}"#
    );
    std::fs::write(&path, text).unwrap();
    let profile = load_profile(&path).unwrap();
    let program = compile(&profile, CapSet::DEFAULT).unwrap();
    let new = dir.path().join("new");
    inside(&program, || {
        let error = std::fs::create_dir(&new).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(OURS));
    });
    std::fs::create_dir(&new).unwrap();
    let missing = load_profile(&dir.path().join("none.json")).unwrap_err();
    let kind = match missing {
        rl::security::seccomp::Error::Read { source, .. } => source.kind(),
        other => panic!("{other}"),
    };
    assert_eq!(kind, ErrorKind::NotFound);
}

/// A 64-bit program can make 32-bit calls, whose numbers mean something else.
#[cfg(target_arch = "x86_64")]
#[test]
fn calls_of_the_32_bit_convention_are_filtered_too() {
    const GETPID: i32 = 20;
    const MOUNT: i32 = 21;
    const SOCKETCALL: i32 = 102;
    // The answer as the exit status of a child, which a kernel without that convention ends with a signal.
    let ask = |number: i32| -> Option<i32> {
        // SAFETY: the child makes three system calls and ends.
        match unsafe { libc::fork() } {
            0 => {
                let ret = call_32(number);
                // SAFETY: ends the child without running anything of the test's.
                unsafe { libc::_exit(if ret > 0 { 0 } else { -ret & 0xff }) }
            }
            child => {
                let mut status = 0;
                // SAFETY: waits for the child just made.
                assert_eq!(unsafe { libc::waitpid(child, &raw mut status, 0) }, child);
                libc::WIFEXITED(status).then(|| libc::WEXITSTATUS(status))
            }
        }
    };
    let Some(answer) = ask(GETPID) else {
        // Then there is nothing that could slip by.
        return;
    };
    assert_eq!(answer, 0);
    inside(&marked(CapSet::DEFAULT), || {
        assert_eq!(ask(GETPID), Some(0));
        assert_eq!(ask(MOUNT), Some(OURS & 0xff));
        assert_eq!(ask(SOCKETCALL), Some(libc::ENOSYS));
    });
}

#[cfg(target_arch = "x86_64")]
fn call_32(number: i32) -> i32 {
    let mut ret = number;
    // SAFETY: the arguments are -1, which none of the numbers above takes for memory of ours; the convention
    // changes rax and, on some kernels, r8 to r11.
    unsafe {
        std::arch::asm!(
            "push rbx", "mov ebx, -1", "int 0x80", "pop rbx",
            inout("eax") ret,
            in("ecx") -1, in("edx") -1, in("esi") -1, in("edi") -1,
            out("r8") _, out("r9") _, out("r10") _, out("r11") _,
        );
    }
    ret
}
