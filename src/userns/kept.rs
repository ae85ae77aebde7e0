//! A user namespace that keeps its maps between starts.
//!
//! newuidmap and newgidmap are the dearest steps of a start. They are needed for a namespace below the caller's own;
//! below one that has the maps already, a process in that one writes those of a new namespace itself
//! (user_namespaces(7)). So the first start leaves a process in a namespace of its own, the *keeper*, which does
//! nothing and ends when no start has asked for it for some seconds. What starts meanwhile gets a namespace within
//! that namespace. Nothing else is ever done there: each container still has a namespace of its own, and those of two
//! containers are siblings.
//!
//! The keeper is found by an abstract socket (unix(7)), which lives and dies with it, whose name tells whose maps it
//! has; connecting is a use. The socket can be had by whoever shares the network namespace, so who listens must be of
//! the caller's user and in the caller's mount namespace, which no container is.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::io::{Read as _, Write as _};
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::time::Duration;

use nix::sys::socket::{getsockopt, sockopt::PeerCredentials};
use rustix::net::{
    AddressFamily, SocketAddrUnix, SocketFlags, SocketType, accept_with, bind, connect, listen,
    socket_with,
};

use super::{Error, Plan, Writer, start};
use crate::sys::process::{self, Fork, Namespaces, exit_now, fork};

/// Where the keeper of some maps is to be found, and how long it stays.
#[derive(Clone, Debug)]
pub struct Keep {
    address: SocketAddrUnix,
    time: Duration,
}

impl Keep {
    /// The keeper for the maps of `plan`, among the containers kept in the directory `data`, which is to stay for `time`
    /// after the last start. `None` where maps cost nothing, or are not to be kept.
    pub fn new(plan: &Plan, data: &Path, time: Duration) -> Option<Keep> {
        if !matches!(plan.writer, Writer::Helpers(_)) || time.is_zero() {
            return None;
        }
        let meta = std::fs::metadata(data).ok()?;
        let mut maps = DefaultHasher::new();
        (plan.uid.to_proc(), plan.gid.to_proc(), plan.setgroups).hash(&mut maps);
        // The number of a directory that was removed is soon another one's.
        data.hash(&mut maps);
        let uid = rustix::process::geteuid().as_raw();
        let (device, number, maps) = (meta.dev(), meta.ino(), maps.finish());
        let name = format!("rl-userns/{uid}/{device}-{number}/{maps:x}");
        let address = SocketAddrUnix::new_abstract_name(name.as_bytes()).ok()?;
        Some(Keep { address, time })
    }

    /// The namespace's file, where a keeper runs.
    pub(super) fn find(&self) -> Option<OwnedFd> {
        let socket = self.socket(SocketFlags::NONBLOCK).ok()?;
        connect(&socket, &self.address).ok()?;
        // Its number is 0 where it is in none of this pid namespace's.
        let keeper = getsockopt(&socket, PeerCredentials).ok()?;
        if keeper.uid() != rustix::process::geteuid().as_raw() || keeper.pid() == 0 {
            return None;
        }
        let dir = format!("/proc/{}/ns", keeper.pid());
        let mounts = |path: &str| std::fs::metadata(path).map(|meta| (meta.dev(), meta.ino()));
        let same = mounts(&format!("{dir}/mnt")).ok()? == mounts("/proc/self/ns/mnt").ok()?;
        let file = std::fs::File::open(format!("{dir}/user")).ok()?;
        same.then(|| file.into())
    }

    /// Leaves a keeper, unless there is one. It is made in the background: nothing is lost when it fails.
    pub(super) fn leave(&self, plan: &Plan) {
        let _ = process::in_background(|| {
            // No monitor of a container, which is what else stays.
            let _ = rustix::thread::set_name(c"rl-userns");
            let _ = self.make(plan);
        });
    }

    /// Makes the keeper, and its maps.
    fn make(&self, plan: &Plan) -> Result<(), Error> {
        let failed = |call| {
            move |errno: rustix::io::Errno| Error::Clone {
                call,
                source: errno.into(),
            }
        };
        let socket = self
            .socket(SocketFlags::NONBLOCK)
            .map_err(failed("socket()"))?;
        // Refused where somebody has come first.
        bind(&socket, &self.address).map_err(failed("bind()"))?;
        let (word, teller) = std::io::pipe().map_err(|source| Error::Clone {
            call: "pipe2()",
            source,
        })?;
        match fork(Namespaces::USER).map_err(failed("clone3(CLONE_NEWUSER)"))? {
            Fork::Parent(keeper) => {
                drop(word);
                let number = keeper.proc_pid().as_raw_nonzero().get() as u32;
                start(plan, number)?.wait()?;
                let _ = (&teller).write_all(b"m");
                Ok(())
            }
            Fork::Child => {
                drop(teller);
                // The end of file without a word means that there are no maps.
                if { word }.read_exact(&mut [0]).is_ok() {
                    self.stay(&socket);
                }
                exit_now(0)
            }
        }
    }

    /// The keeper's life.
    fn stay(&self, socket: &OwnedFd) {
        // By it the others know this process: it is the one that they see as their peer.
        if listen(socket, i32::from(u16::MAX)).is_err() {
            return;
        }
        process::give_back_memory();
        process::give_back_program();
        let mut used = true;
        while std::mem::take(&mut used) {
            std::thread::sleep(self.time);
            while accept_with(socket, SocketFlags::CLOEXEC).is_ok() {
                used = true;
            }
        }
    }

    fn socket(&self, flags: SocketFlags) -> rustix::io::Result<OwnedFd> {
        let flags = flags | SocketFlags::CLOEXEC;
        socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)
    }
}
