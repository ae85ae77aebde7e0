//! A user namespace that is made ahead of what will live in it, so that newuidmap and newgidmap, the dearest steps of
//! a start, work while the rest is prepared.

use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::sys::signal::SigSet;

use super::{Error, Plan, Writing, start};
use crate::sys::process::{Child, Fork, Namespaces, exit_now, fork};

/// A user namespace whose maps are being written.
#[derive(Debug)]
pub struct Begun {
    file: Option<OwnedFd>,
    writing: Option<Writing>,
    holder: Option<Holder>,
}

/// Makes a user namespace and starts to have its maps written as `plan` says. The caller must be single-threaded; the
/// process which holds the namespace meanwhile ends with it.
///
/// # Errors
/// [`Error::Clone`], and those of [`start`].
pub fn begin(plan: &Plan) -> Result<Begun, Error> {
    let parent = rustix::process::getpid();
    let holder = match fork(Namespaces::USER) {
        Ok(Fork::Parent(child)) => Holder(child),
        Ok(Fork::Child) => hold(parent),
        Err(errno) => {
            return Err(Error::Clone {
                call: "clone3(CLONE_NEWUSER)",
                source: errno.into(),
            });
        }
    };
    let number = holder.0.proc_pid().as_raw_nonzero().get() as u32;
    let writing = start(plan, number)?;
    let file = File::open(format!("/proc/{number}/ns/user"));
    Ok(Begun {
        file: file.ok().map(OwnedFd::from),
        writing: Some(writing),
        holder: Some(holder),
    })
}

/// Waits for the end of `parent`. What a terminal or a user sends to the whole group does not end or stop it before.
fn hold(parent: rustix::process::Pid) -> ! {
    let _ = SigSet::all().thread_set_mask();
    let kill = Some(rustix::process::Signal::KILL);
    let _ = rustix::process::set_parent_process_death_signal(kill);
    // It may have ended before that was set.
    while rustix::process::getppid() == Some(parent) {
        nix::unistd::pause();
    }
    exit_now(0)
}

impl Begun {
    /// The namespace's file (namespaces(7), "The /proc/pid/ns/ directory"), where `/proc` lets it be opened; whoever
    /// holds it has the namespace, which may be joined before it has its maps.
    pub fn file(&self) -> Option<BorrowedFd<'_>> {
        self.file.as_ref().map(AsFd::as_fd)
    }

    /// Returns when the maps are written, at once the next time.
    ///
    /// # Errors
    /// [`Error::Helpers`].
    pub fn wait(&mut self) -> Result<(), Error> {
        self.writing.take().map_or(Ok(()), Writing::wait)
    }

    /// Ends the process that holds the namespace: others live in it by now.
    pub fn let_go(&mut self) {
        self.holder = None;
    }
}

/// The process in the new namespace; it is ended and reaped when this is dropped.
#[derive(Debug)]
struct Holder(Child);

impl Drop for Holder {
    fn drop(&mut self) {
        let _ = self.0.signal(libc::SIGKILL);
        let _ = self.0.wait();
    }
}
