//! Trying the real thing: a forked child, in namespaces of its own where asked, makes the calls.

use std::io::{Read as _, Write as _};

use rustix::io::Errno;

use crate::sys::errno::errno_name;
use crate::sys::process::{Ended, Fork, Namespaces, exit_now, fork};

/// What a try was refused with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// The call with its arguments.
    pub call: String,
    /// The error number; 0 where a signal ended the child.
    pub errno: i32,
}

impl Refused {
    /// For `map_err`.
    pub fn at(call: impl Into<String>) -> impl FnOnce(Errno) -> Refused {
        move |errno| Refused {
            call: call.into(),
            errno: errno.raw_os_error(),
        }
    }
}

impl std::fmt::Display for Refused {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.errno {
            0 => f.write_str(&self.call),
            errno => write!(f, "{}: {}", self.call, errno_name(errno)),
        }
    }
}

/// The outcome of a try.
pub type Tried = Result<(), Refused>;

/// How long a try may take, in seconds. All of them take milliseconds, but where a file system does not answer.
const PATIENCE: i64 = 5;

/// Runs `work` in a child with these namespaces, as root with the caller's own id where a user namespace is one
/// of them. The calling process must be single-threaded.
///
/// # Errors
/// The call that was refused, that of the clone and of the maps included; `ETIMEDOUT` where the child did not
/// end in time.
pub fn attempt(namespaces: Namespaces, work: impl FnOnce() -> Tried) -> Tried {
    let own = (
        rustix::process::geteuid().as_raw(),
        rustix::process::getegid().as_raw(),
    );
    let (read, write) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)
        .map_err(Refused::at("pipe2()"))?;
    match fork(namespaces).map_err(Refused::at(format!("clone3({})", names(namespaces))))? {
        Fork::Child => {
            drop(read);
            let mapped = if namespaces.contains(Namespaces::USER) {
                map(own)
            } else {
                Ok(())
            };
            let Err(refused) = mapped.and_then(|()| work()) else {
                exit_now(0)
            };
            let text = format!("{} {}", refused.errno, refused.call);
            let _ = std::fs::File::from(write).write_all(text.as_bytes());
            exit_now(1)
        }
        Fork::Parent(child) => {
            drop(write);
            if !ends_in_time(&read) {
                let _ = child.signal(libc::SIGKILL);
                // It may be beyond that signal, so it is left to whoever reaps orphans.
                return Err(Refused::at("the try")(Errno::TIMEDOUT));
            }
            let mut text = String::new();
            let _ = std::fs::File::from(read).read_to_string(&mut text);
            match child.wait().map_err(Refused::at("waitid()"))? {
                Ended::Exited(0) => Ok(()),
                Ended::Signaled(signal) => Err(Refused {
                    call: format!("the try was ended by signal {signal}"),
                    errno: 0,
                }),
                Ended::Exited(_) => {
                    let (errno, call) = text.split_once(' ').unwrap_or(("0", "the try was lost"));
                    Err(Refused {
                        call: call.to_owned(),
                        errno: errno.parse().unwrap_or(0),
                    })
                }
            }
        }
    }
}

/// Waits until there is something to read, or the other end is closed.
fn ends_in_time(read: &std::os::fd::OwnedFd) -> bool {
    let limit = rustix::event::Timespec {
        tv_sec: PATIENCE,
        tv_nsec: 0,
    };
    let mut end = [rustix::event::PollFd::new(
        read,
        rustix::event::PollFlags::IN,
    )];
    loop {
        match rustix::event::poll(&mut end, Some(&limit)) {
            Err(Errno::INTR) => {}
            ready => return ready != Ok(0),
        }
    }
}

/// One id of each kind, which the kernel lets everyone map (user_namespaces(7)).
fn map((uid, gid): (u32, u32)) -> Tried {
    let put = |file: &str, text: String| {
        std::fs::OpenOptions::new()
            .write(true)
            .open(format!("/proc/self/{file}"))
            .and_then(|mut file| file.write_all(text.as_bytes()))
            .map_err(crate::sys::errno::to_errno)
            .map_err(Refused::at(format!("write(`/proc/self/{file}`)")))
    };
    put("uid_map", format!("0 {uid} 1"))?;
    put("setgroups", "deny".into())?;
    put("gid_map", format!("0 {gid} 1"))
}

fn names(namespaces: Namespaces) -> String {
    let flag = |name: &str| match name {
        "MOUNT" => "CLONE_NEWNS".to_owned(),
        name => format!("CLONE_NEW{name}"),
    };
    let flags: Vec<String> = namespaces
        .iter_names()
        .map(|(name, _)| flag(name))
        .collect();
    flags.join(" | ")
}
