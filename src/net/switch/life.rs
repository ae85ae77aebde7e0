//! How the process begins and ends.

use std::fs::File;
use std::os::fd::{AsFd as _, OwnedFd};

use rustix::io::Errno;
use rustix::process::{Resource, Rlimit};

use super::message::FromSwitch;
use super::uplink::Uplink;
use super::{Done, LOCK, SOCKET, Setup, Switch, calls, say};
use crate::sys::fs::CallError;
use crate::sys::process::{self, exit_now};
use crate::sys::socket::Channel;
use crate::sys::{alone, caps, seccomp};

/// The life of the process: in the network's directory `dir`, listening on `listener`, with a first monitor, which is told
/// what keeps it from its work.
pub fn run(dir: &OwnedFd, listener: &OwnedFd, first: &Channel, setup: &Setup) -> ! {
    let _ = live(dir, listener, first, setup);
    exit_now(0)
}

fn live(dir: &OwnedFd, listener: &OwnedFd, first: &Channel, setup: &Setup) -> Done {
    let (listener, first) = part(dir, listener, first)?;
    (setup.apart)(&setup.name);
    let (mut switch, lock) = match confined(setup, listener) {
        Ok(both) => both,
        Err(error) => {
            let message = format!("the network's switch does not start: {error}");
            let hint = None;
            say(&first, &FromSwitch::Refused { message, hint })?;
            return Err(error.errno);
        }
    };
    switch.add_client(first)?;
    let mut events = Vec::with_capacity(64);
    loop {
        switch.turn(&mut events)?;
        if switch.clients.is_empty() && switch.last_look(&lock)? {
            let _ = std::fs::remove_file(SOCKET);
            drop(switch);
            // The lock is released with this process, when whatever follows may use the same names.
            return Ok(());
        }
    }
}

/// Gives up all that it has of the monitor, but for the two descriptors, and comes to the network's directory.
fn part(dir: &OwnedFd, listener: &OwnedFd, first: &Channel) -> Result<(OwnedFd, Channel), Errno> {
    rustix::process::setsid()?;
    rustix::thread::set_name(c"rl-switch")?;
    process::reset_signals();
    // Words to an uplink that is gone are an error, not the end.
    process::ignore_signal(libc::SIGPIPE);
    rustix::process::fchdir(dir)?;
    let flags = rustix::fs::OFlags::RDWR | rustix::fs::OFlags::CLOEXEC;
    let null = rustix::fs::open(c"/dev/null", flags, rustix::fs::Mode::empty())?;
    for number in 0..3 {
        process::replace_stdio(null.as_fd(), number)?;
    }
    drop(null);
    process::place_fds(&[listener.as_fd(), first.as_fd()])?;
    process::close_from(5);
    let first = Channel::from_fd(process::inherited_fd(4)?);
    Ok((process::inherited_fd(3)?, first))
}

/// The switch with its lock, after which this process can do no more than what that needs.
fn confined(setup: &Setup, listener: OwnedFd) -> Result<(Switch, File), CallError> {
    let call = |call: &'static str| CallError::of(move || call.to_owned());
    // Each member is two descriptors.
    let limit = rustix::process::getrlimit(Resource::Nofile);
    let current = limit.maximum;
    let _ = rustix::process::setrlimit(Resource::Nofile, Rlimit { current, ..limit });
    let uplink = setup.uplink.as_deref();
    let uplink = uplink.map(|program| Uplink::start(program, setup.mtu));
    let uplink = uplink.transpose();
    let lock = File::open(LOCK).map_err(crate::sys::errno::to_errno);
    let lock = lock.map_err(call("open(`switch.lock`)"))?;
    alone::stay_in_working_directory()?;
    caps::set_no_new_privs().map_err(call("prctl(PR_SET_NO_NEW_PRIVS)"))?;
    caps::set(caps::Sets::default()).map_err(call("capset(none)"))?;
    let (uplink, failure) = match uplink {
        Ok(uplink) => (uplink, None),
        Err(failure) => (None, Some(failure)),
    };
    let switch = Switch::new(setup, listener, uplink, failure).map_err(call("epoll"))?;
    let filter = seccomp::only(&calls::all());
    seccomp::install(&filter, seccomp::Flags::empty()).map_err(call("seccomp(filter)"))?;
    Ok((switch, lock))
}
