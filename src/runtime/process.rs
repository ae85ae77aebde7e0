//! The last steps, in the container's root: who the command is, where it stands, what it may do.
//!
//! The order matters. Limits and groups first, while everything is allowed; the bounding set before
//! the ids change (it needs CAP_SETPCAP); Landlock and seccomp need no_new_privs or CAP_SYS_ADMIN, so
//! where setuid programs stay allowed the filter goes in before the capabilities go; ids; capabilities;
//! and with no_new_privs the filter comes last, so that it need not allow what led up to it.

use std::ffi::CString;
use std::os::fd::AsFd;

use rustix::fs::{FileType, OFlags};
use rustix::io::Errno;

use super::error::{At, CHDIR, InitError, Stage};
use super::inside::Root;
use super::plan::ProcessPlan;
use super::{init, reaper, users};
use crate::sys::sabotage::dropped;
use crate::sys::{caps, landlock, process, seccomp};

/// Becomes the command. Returns only on failure.
pub(super) fn become_command(plan: &ProcessPlan, root: &Root, tty: bool) -> InitError {
    match prepare(plan, root, tty) {
        Ok(env) => execute(&plan.args, &env),
        Err(error) => error,
    }
}

fn prepare(plan: &ProcessPlan, root: &Root, tty: bool) -> Result<Vec<CString>, InitError> {
    let who = users::resolve(root, &plan.user, &plan.groups)?;
    for &(resource, soft, hard) in &plan.rlimits {
        set_limit(resource, soft, hard).at(Stage::User, || {
            format!("setrlimit({}, {soft}, {hard})", limit_name(resource))
        })?;
    }
    let cwd = match plan.make_cwd {
        true => {
            let made = root.directory(&plan.cwd);
            made.at(Stage::User, || format!("mkdirat(root, `{}`)", plan.cwd))?
        }
        false => {
            let found = root.open(&plan.cwd, OFlags::PATH | OFlags::DIRECTORY);
            found.at(Stage::User, || format!("{CHDIR}(`{}`)", plan.cwd))?
        }
    };
    // By the descriptor: chdir(2) by name would follow a link of /proc to wherever one of our own
    // descriptors leads.
    rustix::process::fchdir(&cwd).at(Stage::User, || format!("fchdir(`{}`)", plan.cwd))?;
    own_stdio(&who, tty);
    rustix::process::umask(rustix::fs::Mode::from(plan.umask));
    confine(plan, &who, tty)?;
    let mut env = plan.env.clone();
    if plan.home && !env.iter().any(|v| v.starts_with("HOME=")) {
        env.push(format!("HOME={}", who.home));
    }
    c_strings(&env)
}

fn confine(plan: &ProcessPlan, who: &users::Identity, tty: bool) -> Result<(), InitError> {
    let confine = Stage::Confine;
    if !dropped("caps") {
        caps::limit_bounding(plan.bounding).at(confine, || "prctl(PR_CAPBSET_DROP)".into())?;
    }
    if plan.no_new_privs {
        caps::set_no_new_privs().at(confine, || "prctl(PR_SET_NO_NEW_PRIVS)".into())?;
    }
    if let Some(scopes) = plan.landlock.filter(|_| !dropped("landlock")) {
        let slash = rustix::fs::openat(
            rustix::fs::CWD,
            c"/",
            rustix::fs::OFlags::PATH | rustix::fs::OFlags::CLOEXEC,
            rustix::fs::Mode::empty(),
        )
        .at(confine, || "openat(`/`)".into())?;
        let walls = landlock::Options {
            reopen: &[],
            abstract_sockets: scopes.abstract_sockets,
            signals: scopes.signals,
        };
        landlock::restrict_to_root(slash.as_fd(), walls)
            .at(confine, || "landlock_restrict_self()".into())?;
    }
    let filter = |install: bool| {
        let mut programs = plan
            .seccomp
            .iter()
            .filter(|_| install && !dropped("seccomp"));
        programs
            .try_for_each(|program| seccomp::install(program, seccomp::Flags::empty()))
            .at(confine, || "seccomp(SET_MODE_FILTER)".into())
    };
    filter(!plan.no_new_privs)?;
    change_ids(plan, who)?;
    let (effective, ambient) = if who.uid == 0 {
        (plan.effective, 0)
    } else {
        (plan.ambient, plan.ambient)
    };
    let sets = caps::Sets {
        effective,
        permitted: effective,
        inheritable: ambient,
    };
    if !dropped("caps") {
        caps::set(sets).at(confine, || "capset()".into())?;
        caps::set_ambient(ambient).at(confine, || "prctl(PR_CAP_AMBIENT)".into())?;
    }
    // Cleared by the change of ids (prctl(2), PR_SET_PDEATHSIG): set for the command itself.
    init::die_with_parent(confine)?;
    // From here on PID 1 of `--init` and the command are two; one is as confined as the other.
    let command = match plan.init {
        true => reaper::split().at(confine, || "clone(init)".into())?,
        false => None,
    };
    if command.is_none() {
        if tty {
            let stdin = rustix::stdio::stdin();
            process::take_terminal(stdin).at(Stage::Console, || "ioctl(TIOCSCTTY)".into())?;
        } else if !dropped("session") {
            // The monitor's process group is no concern of the command's, which leads one of its own.
            let _ = rustix::process::setsid();
        }
        process::cloexec_from(3);
        process::reset_signals();
    }
    filter(plan.no_new_privs)?;
    match command {
        Some(command) => reaper::reap(command),
        None => Ok(()),
    }
}

fn change_ids(plan: &ProcessPlan, who: &users::Identity) -> Result<(), InitError> {
    let gid = nix::unistd::Gid::from_raw(who.gid);
    let uid = nix::unistd::Uid::from_raw(who.uid);
    let errno = |e: nix::errno::Errno| Errno::from_raw_os_error(e as i32);
    if plan.setgroups && !dropped("groups") {
        let groups: Vec<_> = who
            .groups
            .iter()
            .map(|g| nix::unistd::Gid::from_raw(*g))
            .collect();
        nix::unistd::setgroups(&groups)
            .map_err(errno)
            .at(Stage::User, || format!("setgroups({:?})", who.groups))?;
    }
    caps::set_keep_caps(true).at(Stage::User, || "prctl(PR_SET_KEEPCAPS)".into())?;
    nix::unistd::setresgid(gid, gid, gid)
        .map_err(errno)
        .at(Stage::User, || format!("setresgid({gid})"))?;
    nix::unistd::setresuid(uid, uid, uid)
        .map_err(errno)
        .at(Stage::User, || format!("setresuid({uid})"))
}

/// The command's user owns the pipes or the terminal it was given, so that it can open
/// `/dev/stdout` again. A file that the user redirected to is not touched.
fn own_stdio(who: &users::Identity, tty: bool) {
    let fds = [
        rustix::stdio::stdin(),
        rustix::stdio::stdout(),
        rustix::stdio::stderr(),
    ];
    for fd in fds {
        let pipe = rustix::fs::fstat(fd)
            .is_ok_and(|s| FileType::from_raw_mode(s.st_mode) == FileType::Fifo);
        if tty || pipe {
            let uid = Some(rustix::fs::Uid::from_raw(who.uid));
            let gid = (!tty).then(|| rustix::fs::Gid::from_raw(who.gid));
            let _ = rustix::fs::fchown(fd, uid, gid);
        }
    }
}

/// The name that `--ulimit` has for a limit, in the order of the numbers below.
fn limit_name(resource: u32) -> &'static str {
    const NAMES: [&str; 16] = [
        "cpu",
        "fsize",
        "data",
        "stack",
        "core",
        "rss",
        "nproc",
        "nofile",
        "memlock",
        "as",
        "locks",
        "sigpending",
        "msgqueue",
        "nice",
        "rtprio",
        "rttime",
    ];
    NAMES.get(resource as usize).copied().unwrap_or("unknown")
}

fn set_limit(resource: u32, soft: u64, hard: u64) -> Result<(), Errno> {
    use rustix::process::Resource;
    // The numbers of getrlimit(2) on every architecture but mips and sparc, in order.
    const BY_NUMBER: [Resource; 16] = [
        Resource::Cpu,
        Resource::Fsize,
        Resource::Data,
        Resource::Stack,
        Resource::Core,
        Resource::Rss,
        Resource::Nproc,
        Resource::Nofile,
        Resource::Memlock,
        Resource::As,
        Resource::Locks,
        Resource::Sigpending,
        Resource::Msgqueue,
        Resource::Nice,
        Resource::Rtprio,
        Resource::Rttime,
    ];
    let resource = *BY_NUMBER.get(resource as usize).ok_or(Errno::INVAL)?;
    let finite = |n: u64| (n != u64::MAX).then_some(n);
    let limit = rustix::process::Rlimit {
        current: finite(soft),
        maximum: finite(hard),
    };
    rustix::process::setrlimit(resource, limit)
}

/// Looks the command up in PATH as execvp(3) does, and executes it.
fn execute(args: &[String], env: &[CString]) -> InitError {
    let argv = match c_strings(args) {
        Ok(argv) => argv,
        Err(error) => return error,
    };
    let failed = |errno: Errno| InitError {
        stage: Stage::Exec,
        call: format!("`{}`", args[0]),
        errno: errno.raw_os_error(),
    };
    let name = argv[0].to_bytes();
    if name.contains(&b'/') {
        return failed(process::exec_path(&argv[0], &argv, env));
    }
    let path = env
        .iter()
        .find_map(|v| v.to_bytes().strip_prefix(b"PATH="))
        .unwrap_or(b"/usr/bin:/bin");
    let mut worst = Errno::NOENT;
    for dir in path.split(|b| *b == b':') {
        let dir = if dir.is_empty() { b".".as_slice() } else { dir };
        let full = [dir, b"/", name].concat();
        let Ok(full) = CString::new(full) else {
            continue;
        };
        // An execve(2) that finds nothing has cost a new address space.
        if rustix::fs::access(&full, rustix::fs::Access::EXISTS) == Err(Errno::NOENT) {
            continue;
        }
        match process::exec_path(&full, &argv, env) {
            Errno::NOENT | Errno::NOTDIR => {}
            // Found, but not for this user: another entry may do (execvp(3)).
            Errno::ACCESS => worst = Errno::ACCESS,
            other => return failed(other),
        }
    }
    failed(worst)
}

fn c_strings(strings: &[String]) -> Result<Vec<CString>, InitError> {
    let convert = |s: &String| CString::new(s.as_str());
    strings
        .iter()
        .map(convert)
        .collect::<Result<_, _>>()
        .map_err(|_| InitError {
            stage: Stage::Exec,
            call: "an argument or variable holds a NUL byte".into(),
            errno: 0,
        })
}
