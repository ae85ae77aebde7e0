//! The yardstick: what a container start cannot do without, in one file, with nothing decided at run time.
//!
//! 1. Read the options; make every C string.
//! 2. `clone` a child into new user, pid, mount, uts, ipc, cgroup (and network) namespaces.
//! 3. Parent: run newuidmap and newgidmap side by side on the child, then write one byte to it.
//! 4. Child: become id 0, make propagation private, mount the overlay, /proc, /dev (tmpfs, six binds,
//!    devpts), /sys; pivot into it; exec the command.
//! 5. Parent: wait, end with the child's status.
//!
//! What it leaves out is what a container program adds: image look-up, configuration, capabilities,
//! seccomp, masked paths, a monitor, an interface that is up, state on disk.

use std::ffi::{CStr, CString};
use std::fs;
use std::io::{Error, Read, Write};
use std::os::unix::net::UnixStream;
use std::process::{Command, ExitCode};

const USAGE: &str = "usage: floor [--no-net] [--one-id] [--volatile] --lower DIR[:DIR…] --upper DIR --work DIR --merged DIR -- COMMAND [ARG…]
       floor [--no-net] [--one-id] --root DIR -- COMMAND [ARG…]";

const DEVICES: [&str; 6] = ["null", "zero", "full", "random", "urandom", "tty"];

#[derive(Default)]
struct Options {
    no_net: bool,
    one_id: bool,
    volatile: bool,
    lower: Option<String>,
    upper: String,
    work: String,
    /// Where the root file system is, or where the overlay is mounted.
    root: String,
    command: Vec<CString>,
}

/// Everything the child hands to the kernel, made before it exists.
struct Plan {
    root: CString,
    overlay: Option<CString>,
    proc: CString,
    sys: CString,
    dev: CString,
    pts: CString,
    ptmx: CString,
    devices: Vec<(CString, CString)>,
    with_sys: bool,
    argv: Vec<CString>,
    envp: Vec<CString>,
}

fn fail(what: &str) -> ! {
    eprintln!("floor: {what}: {}", Error::last_os_error());
    // SAFETY: no destructor of this program has anything to do that the end of the process does not.
    unsafe { libc::_exit(125) }
}

fn check(result: libc::c_int, what: &str) {
    if result < 0 {
        fail(what);
    }
}

fn c(text: String) -> CString {
    CString::new(text).expect("arguments hold no NUL")
}

fn options() -> Option<Options> {
    let mut options = Options::default();
    let mut args = std::env::args().skip(1);
    while let Some(arg) = args.next() {
        match arg.as_str() {
            "--no-net" => options.no_net = true,
            "--one-id" => options.one_id = true,
            "--volatile" => options.volatile = true,
            "--lower" => options.lower = Some(args.next()?),
            "--upper" => options.upper = args.next()?,
            "--work" => options.work = args.next()?,
            "--merged" | "--root" => options.root = args.next()?,
            "--" => options.command = args.by_ref().map(c).collect(),
            _ => return None,
        }
    }
    (!options.command.is_empty() && !options.root.is_empty()).then_some(options)
}

fn plan(options: &Options) -> Plan {
    let root = &options.root;
    let at = |path: &str| c(format!("{root}/{path}"));
    let volatile = if options.volatile { ",volatile" } else { "" };
    Plan {
        root: c(root.clone()),
        overlay: options.lower.as_ref().map(|lower| {
            c(format!(
                "lowerdir={lower},upperdir={},workdir={},userxattr{volatile}",
                options.upper, options.work
            ))
        }),
        proc: at("proc"),
        sys: at("sys"),
        dev: at("dev"),
        pts: at("dev/pts"),
        ptmx: at("dev/ptmx"),
        devices: DEVICES
            .iter()
            .map(|name| (c(format!("/dev/{name}")), at(&format!("dev/{name}"))))
            .collect(),
        with_sys: !options.no_net,
        argv: options.command.clone(),
        envp: vec![c(
            "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin".into(),
        )],
    }
}

/// The first subordinate range of the user in /etc/subuid or /etc/subgid.
fn range(file: &str, user: &str, id: u32) -> Option<(String, String)> {
    let text = fs::read_to_string(file).ok()?;
    let id = id.to_string();
    text.lines().find_map(|line| {
        let mut fields = line.split(':');
        let owner = fields.next()?;
        (owner == user || owner == id)
            .then_some((fields.next()?.to_owned(), fields.next()?.to_owned()))
    })
}

fn user_name(uid: u32) -> String {
    let text = fs::read_to_string("/etc/passwd").unwrap_or_default();
    let uid = uid.to_string();
    let found = text
        .lines()
        .find(|line| line.split(':').nth(2) == Some(&uid));
    found
        .and_then(|line| line.split(':').next())
        .unwrap_or_default()
        .to_owned()
}

/// The two helper calls, ready to be started.
fn map_commands(pid: libc::pid_t, uid: u32, gid: u32) -> [Command; 2] {
    let user = user_name(uid);
    [
        ("newuidmap", "/etc/subuid", uid),
        ("newgidmap", "/etc/subgid", gid),
    ]
    .map(|(program, file, id)| {
        let Some((first, count)) = range(file, &user, uid) else {
            eprintln!("floor: `{user}` has no range in {file}");
            std::process::exit(125);
        };
        let mut command = Command::new(program);
        command
            .arg(pid.to_string())
            .args(["0", &id.to_string(), "1", "1", &first, &count]);
        command
    })
}

fn map_ids(pid: libc::pid_t, uid: u32, gid: u32) {
    let running = map_commands(pid, uid, gid)
        .map(|mut command| command.spawn().expect("newuidmap and newgidmap start"));
    for mut child in running {
        if !child.wait().is_ok_and(|status| status.success()) {
            eprintln!("floor: an id map was refused");
            std::process::exit(125);
        }
    }
}

fn map_one(pid: libc::pid_t, uid: u32, gid: u32) {
    let write = |file: &str, text: String| {
        if let Err(error) = fs::write(format!("/proc/{pid}/{file}"), text) {
            eprintln!("floor: {file}: {error}");
            std::process::exit(125);
        }
    };
    write("setgroups", "deny".into());
    write("uid_map", format!("0 {uid} 1"));
    write("gid_map", format!("0 {gid} 1"));
}

fn mount(
    source: &CStr,
    target: &CStr,
    kind: &CStr,
    flags: libc::c_ulong,
    data: Option<&CStr>,
    what: &str,
) {
    let data = data.map_or(std::ptr::null(), CStr::as_ptr).cast();
    // SAFETY: all pointers are C strings that outlive the call; null data is allowed.
    check(
        unsafe { libc::mount(source.as_ptr(), target.as_ptr(), kind.as_ptr(), flags, data) },
        what,
    );
}

/// The child, from its first instruction to execve.
fn child(plan: &Plan, mut go: UnixStream, one_id: bool) -> ! {
    let mut byte = [0];
    if go.read_exact(&mut byte).is_err() {
        fail("the parent is gone");
    }
    // SAFETY: these calls take plain numbers, and one null pointer with length 0.
    unsafe {
        check(libc::setresgid(0, 0, 0), "setresgid");
        if !one_id {
            check(libc::setgroups(0, std::ptr::null()), "setgroups");
        }
        check(libc::setresuid(0, 0, 0), "setresuid");
    }

    let (nosuid, noexec, nodev) = (libc::MS_NOSUID, libc::MS_NOEXEC, libc::MS_NODEV);
    mount(
        c"none",
        c"/",
        c"",
        libc::MS_REC | libc::MS_PRIVATE,
        None,
        "make / private",
    );
    match &plan.overlay {
        Some(data) => mount(
            c"overlay",
            &plan.root,
            c"overlay",
            nodev,
            Some(data),
            "mount overlay",
        ),
        None => mount(
            &plan.root,
            &plan.root,
            c"",
            libc::MS_BIND | libc::MS_REC,
            None,
            "bind the root",
        ),
    }
    mount(
        c"proc",
        &plan.proc,
        c"proc",
        nosuid | noexec | nodev,
        None,
        "mount proc",
    );
    mount(
        c"tmpfs",
        &plan.dev,
        c"tmpfs",
        nosuid,
        Some(c"mode=755,size=65536k"),
        "mount /dev",
    );
    for (source, target) in &plan.devices {
        // SAFETY: the path is a C string; the new file is closed at once.
        unsafe {
            libc::close(libc::open(
                target.as_ptr(),
                libc::O_CREAT | libc::O_RDONLY | libc::O_CLOEXEC,
                0o666,
            ))
        };
        mount(source, target, c"", libc::MS_BIND, None, "bind a device");
    }
    // SAFETY: both paths are C strings.
    unsafe {
        check(libc::mkdir(plan.pts.as_ptr(), 0o755), "mkdir dev/pts");
        check(
            libc::symlink(c"pts/ptmx".as_ptr(), plan.ptmx.as_ptr()),
            "symlink dev/ptmx",
        );
    }
    mount(
        c"devpts",
        &plan.pts,
        c"devpts",
        nosuid | noexec,
        Some(c"newinstance,ptmxmode=0666,mode=620"),
        "mount devpts",
    );
    if plan.with_sys {
        // Only the owner of a network namespace may mount its sysfs.
        mount(
            c"sysfs",
            &plan.sys,
            c"sysfs",
            nosuid | noexec | nodev | libc::MS_RDONLY,
            None,
            "mount sysfs",
        );
    }

    let pointers = |list: &[CString]| -> Vec<*const libc::c_char> {
        list.iter()
            .map(|s| s.as_ptr())
            .chain([std::ptr::null()])
            .collect()
    };
    let (argv, envp) = (pointers(&plan.argv), pointers(&plan.envp));
    // SAFETY: all strings are C strings, and both arrays end with null and outlive the call.
    unsafe {
        check(libc::sethostname(c"floor".as_ptr(), 5), "sethostname");
        check(libc::chdir(plan.root.as_ptr()), "chdir to the root");
        check(
            libc::syscall(libc::SYS_pivot_root, c".".as_ptr(), c".".as_ptr()) as libc::c_int,
            "pivot_root",
        );
        check(
            libc::umount2(c".".as_ptr(), libc::MNT_DETACH),
            "umount the old root",
        );
        check(libc::chdir(c"/".as_ptr()), "chdir");
        libc::execvpe(argv[0], argv.as_ptr(), envp.as_ptr());
    }
    fail("execve")
}

fn main() -> ExitCode {
    let Some(options) = options() else {
        eprintln!("{USAGE}");
        return ExitCode::from(125);
    };
    let plan = plan(&options);
    let (reader, mut writer) = UnixStream::pair().expect("socketpair");

    let net = if options.no_net {
        0
    } else {
        libc::CLONE_NEWNET
    };
    let flags = libc::CLONE_NEWUSER
        | libc::CLONE_NEWPID
        | libc::CLONE_NEWNS
        | libc::CLONE_NEWUTS
        | libc::CLONE_NEWIPC
        | libc::CLONE_NEWCGROUP
        | net
        | libc::SIGCHLD;
    // SAFETY: without CLONE_VM and with a null stack this is fork(2) with other flags; the process has one
    // thread, so the child may go on in Rust.
    let pid = unsafe { libc::syscall(libc::SYS_clone, flags as libc::c_ulong, 0, 0, 0, 0) }
        as libc::pid_t;
    check(pid, "clone");
    if pid == 0 {
        drop(writer);
        child(&plan, reader, options.one_id);
    }
    drop(reader);

    // SAFETY: these calls cannot fail and take nothing.
    let (uid, gid) = unsafe { (libc::getuid(), libc::getgid()) };
    if options.one_id {
        map_one(pid, uid, gid);
    } else {
        map_ids(pid, uid, gid);
    }
    writer.write_all(b"x").expect("the child reads");

    let mut status = 0;
    // SAFETY: the status is a valid place to write to.
    check(unsafe { libc::waitpid(pid, &mut status, 0) }, "waitpid");
    if libc::WIFEXITED(status) {
        ExitCode::from(libc::WEXITSTATUS(status) as u8)
    } else {
        ExitCode::from((128 + libc::WTERMSIG(status)) as u8)
    }
}
