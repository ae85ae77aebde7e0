//! A user namespace that is made ahead of what will live in it, so that newuidmap and newgidmap work while the rest is
//! prepared; or one that is kept, which needs neither.

use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::sys::signal::SigSet;

use super::{Error, Keep, Plan, Writing, start};
use crate::sys::process::{Child, Fork, Namespaces, exit_now, fork};

/// What a container's user namespace will come of.
#[derive(Debug)]
pub struct Begun {
    file: Option<OwnedFd>,
    /// The file is a keeper's, and theirs is within.
    kept: bool,
    writing: Option<Writing>,
    holder: Option<Holder>,
    /// The keeper to be left for the next.
    keep: Option<Keep>,
}

/// Where the first process of a container is to be made.
#[derive(Clone, Copy, Debug)]
pub enum Place<'a> {
    /// In a new user namespace, whose maps are to be written.
    New,
    /// In the user namespace of this file (namespaces(7), "The /proc/pid/ns/ directory"), which may be joined before it
    /// has its maps.
    In(BorrowedFd<'a>),
    /// In a new one within that of this file, which has these maps: [`super::write_within`].
    Within(BorrowedFd<'a>, &'a Plan),
}

/// Takes the user namespace that is kept, or makes one and starts to have its maps written as `plan` says. The caller
/// must be single-threaded; the process which holds the namespace until the maps are written ends with it.
///
/// # Errors
/// [`Error::Clone`], and those of [`start`].
pub fn begin(plan: &Plan, keep: Option<Keep>) -> Result<Begun, Error> {
    if let Some(file) = keep.as_ref().and_then(Keep::find) {
        return Ok(Begun {
            file: Some(file),
            kept: true,
            writing: None,
            holder: None,
            keep: None,
        });
    }
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
        kept: false,
        writing: Some(writing),
        holder: Some(holder),
        keep,
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
    /// Where the container with the maps of `plan` is to be made; in a namespace of its own where `/proc` lets this one's
    /// file not be opened.
    pub fn place<'a>(&'a self, plan: &'a Plan) -> Place<'a> {
        match &self.file {
            None => Place::New,
            Some(file) if self.kept => Place::Within(file.as_fd(), plan),
            Some(file) => Place::In(file.as_fd()),
        }
    }

    /// Returns when the maps are written, at once the next time. The file holds the namespace from then on. The process that
    /// did so is gone before anything of a container's can look into it: it belongs to the same namespace, and sees the host.
    ///
    /// # Errors
    /// [`Error::Helpers`].
    pub fn wait(&mut self) -> Result<(), Error> {
        let written = self.writing.take().map_or(Ok(()), Writing::wait);
        self.holder = None;
        written
    }

    /// Others live in the namespace by now: a keeper is left for the next.
    pub fn settle(&mut self, plan: &Plan) {
        if let Some(keep) = self.keep.take() {
            keep.leave(plan);
        }
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
