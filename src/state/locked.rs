//! A container that this process may change.

use std::cell::RefCell;
use std::fs::File;
use std::io::ErrorKind;
use std::net::Ipv4Addr;
use std::os::fd::AsFd as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use rustix::io::Errno;

use super::events::{self, Subject};
use super::files::{
    boot_id, io, is_full, now, overwrite, read_json, remove_tree, replace, start_time, sync_dir,
    try_lock,
};
use super::names::claimant;
use super::status::{Shown, Stamp};
use super::{Error, State, Status};
use crate::model::spec::ContainerSpec;
use crate::sys::process::Ended;

/// What holds files of other ids than the caller's.
const WRITABLE: [&str; 2] = ["upper", "work"];

/// What the name of a directory ends in that is no container any more.
pub(super) const GONE: &str = ".gone";

/// The files of a container that [vanished](Locked::vanish).
#[derive(Debug)]
pub struct Gone(PathBuf);

impl Gone {
    /// Removes them.
    ///
    /// # Errors
    /// [`Error::Io`]: files of other ids can only be removed inside the user namespace.
    pub fn remove(&self) -> Result<(), Error> {
        // The lock goes last: who finds the rest without it would begin to remove the same.
        let entries = std::fs::read_dir(&self.0).into_iter().flatten().flatten();
        for entry in entries.filter(|entry| entry.file_name() != "lock") {
            super::remove_all(&entry.path())?;
        }
        remove_tree(&self.0)
    }
}

/// A container that this process may change. The lock is of the open file, so it passes to a forked
/// monitor and ends with the last copy.
#[derive(Debug)]
pub struct Locked {
    dir: PathBuf,
    /// Changes with the name.
    subject: RefCell<Subject>,
    /// The state as this process has written it, while the container lives: locked as well, so that who reads it in a
    /// list sees in the same file that somebody takes care of the container.
    state: RefCell<Option<File>>,
    /// Held, never read.
    _lock: File,
}

impl Locked {
    pub(super) fn open(dir: PathBuf, subject: Subject) -> Result<Locked, Error> {
        let path = dir.join("lock");
        let file = File::options()
            .create(true)
            .truncate(false)
            .read(true)
            .write(true)
            .open(&path);
        let name = || {
            let name = subject.attributes.get("name").cloned();
            name.unwrap_or_default()
        };
        let file = match file {
            // Somebody has removed it since it was found.
            Err(error) if error.kind() == ErrorKind::NotFound => {
                return Err(Error::NotFound(name()));
            }
            other => other.map_err(io("open", &path))?,
        };
        if !try_lock(&file) {
            return Err(Error::Running(name()));
        }
        Ok(Locked {
            dir,
            subject: RefCell::new(subject),
            state: RefCell::default(),
            _lock: file,
        })
    }

    /// Fills a fresh directory.
    pub(super) fn furnish(&self, spec: &ContainerSpec) -> Result<(), Error> {
        for sub in WRITABLE {
            let path = self.dir.join(sub);
            std::fs::create_dir(&path).map_err(io("mkdir", &path))?;
        }
        // Root inside, who need not be the caller, passes through the container's directory; nobody
        // else can, because the directory above is closed.
        let mode = |path: &Path, mode| {
            std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode))
                .map_err(io("chmod", path))
        };
        mode(&self.dir, 0o711)?;
        // What `/` of the container shows, whatever the caller's umask.
        mode(&self.dir.join("upper"), 0o755)?;
        replace(&self.dir, "spec.json", spec, false)?;
        self.event("create", &[]);
        Ok(())
    }

    /// Notes what was done to the container, for `rl events`.
    pub fn event(&self, action: &str, more: &[(&str, String)]) {
        let all = self.dir.parent().unwrap_or(&self.dir);
        events::record(
            all.parent().unwrap_or(all),
            &self.subject.borrow(),
            action,
            more,
        );
    }

    /// Waits until the container is on disk, with its name and its state, whatever happens to the machine.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn sync(&self) -> Result<(), Error> {
        for name in ["spec.json", "state.json"] {
            let path = self.dir.join(name);
            match File::open(&path) {
                // One that was never started has none.
                Err(e) if name == "state.json" && e.kind() == ErrorKind::NotFound => {}
                file => file
                    .and_then(|file| file.sync_data())
                    .map_err(io("fdatasync", &path))?,
            }
        }
        sync_dir(&self.dir)?;
        sync_dir(&self.names())?;
        self.dir.parent().map_or(Ok(()), sync_dir)
    }

    /// The state as it is on disk.
    pub fn state(&self) -> State {
        State::of(&self.dir)
    }

    /// The specification as it is on disk.
    ///
    /// # Errors
    /// [`Error::Io`], [`Error::Damaged`].
    pub fn spec(&self) -> Result<ContainerSpec, Error> {
        read_json(&self.dir.join("spec.json"))
    }

    /// The same of a container that may have another name by now, by which it is told of from here on.
    ///
    /// # Errors
    /// As [`Locked::spec`].
    pub fn reread(&self) -> Result<ContainerSpec, Error> {
        let spec = self.spec()?;
        *self.subject.borrow_mut() = Subject::container(&spec);
        Ok(spec)
    }

    /// The container's directory.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Notes that the command runs, or does in a moment, as `pid`, in the control group `group`, with an address on a
    /// network with a name, started again so many times.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn running(
        &self,
        pid: i32,
        restarts: u32,
        group: Option<&Path>,
        address: Option<Ipv4Addr>,
    ) -> Result<(), Error> {
        let state = State {
            restarts,
            group: group.map(Path::to_owned),
            address,
            status: Status::Running,
            pid: Some(pid),
            start_time: start_time(pid),
            boot_id: boot_id(),
            started: Some(now()),
            shown: self.shown(),
            ..State::created()
        };
        self.write(&state, false)
    }

    /// Notes why the command could not be executed, with the exit status that stands for that. Else all is as it was
    /// `before`, if it has been started before.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn not_started(
        &self,
        before: Option<&State>,
        why: String,
        status: u8,
    ) -> Result<(), Error> {
        let state = State {
            ended: Some(Ended::Exited(status)),
            error: Some(why),
            ..before.cloned().unwrap_or_else(State::created)
        };
        self.write(&state, false)
    }

    /// What lists show of the specification, which can be replaced at any time.
    fn shown(&self) -> Option<Shown> {
        let dir = File::open(&self.dir).ok()?;
        let stamp = || Stamp::at(dir.as_fd(), "spec.json");
        let of = stamp()?;
        let brief = Box::new(self.spec().ok()?.into());
        (stamp() == Some(of)).then_some(Shown { of, brief })
    }

    /// Notes how the command ended, and whether it is to be started again (`next`). That is not yet [on the
    /// disk](Locked::sync).
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn ended(&self, ended: Ended, stopped: bool, next: bool) -> Result<(), Error> {
        self.change(false, |state| {
            state.status = if next {
                Status::Restarting
            } else {
                Status::Exited
            };
            state.pid = None;
            state.address = None;
            state.start_time = None;
            state.ended = Some(ended);
            state.finished = Some(now());
            state.stopped = stopped;
        })
    }

    /// Changes the state as it is on disk. With `sync` a power cut leaves it as it was or as it is now; without, it can
    /// be [lost](State::lost), and so it can where the disk is full: then it is written over the old one.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn change(&self, sync: bool, edit: impl FnOnce(&mut State)) -> Result<(), Error> {
        let mut state = State::of(&self.dir);
        let before = state.clone();
        edit(&mut state);
        self.write(&state, sync)?;
        self.tell(&before, &state);
        Ok(())
    }

    /// Notes what the container goes on without, in a few words and in full.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn lost(&self, what: &str, text: &str) -> Result<(), Error> {
        self.change(false, |state| {
            state.lost = Some(what.to_owned());
            state.error = Some(text.to_owned());
        })
    }

    /// Notes that the command ended. [`Locked::ended`] does it by itself.
    pub fn died(&self, ended: Ended) {
        let code = ("exitCode", ended.status().to_string());
        self.event("die", &[code]);
    }

    /// Notes what a change of the state means.
    fn tell(&self, before: &State, now: &State) {
        match (before.status, now.status) {
            (Status::Paused, Status::Running) => self.event("unpause", &[]),
            (Status::Running, Status::Paused) => self.event("pause", &[]),
            // One that waits to be started again has ended already.
            (old, Status::Exited | Status::Restarting)
                if old != now.status && old != Status::Restarting =>
            {
                if let Some(ended) = now.ended {
                    self.died(ended);
                }
            }
            _ => {}
        }
        let verdict = |state: &State| state.health.as_ref().map(|health| health.verdict);
        if let Some(word) = verdict(now)
            && verdict(before) != Some(word)
            && word != super::Verdict::Starting
        {
            self.event(&format!("health_status: {}", word.word()), &[]);
        }
    }

    /// Ends the first process of a container whose monitor was killed, if it still runs: the signal
    /// that was to end it is taken back when a process changes its ids (prctl(2), PR_SET_PDEATHSIG),
    /// as entry points do that step down from root. Returns the directory of its control group, if it has been started
    /// since the machine was.
    pub fn end_orphan(&self) -> Option<PathBuf> {
        use rustix::process::{PidfdFlags, Signal, kill_process, pidfd_open, pidfd_send_signal};
        let state = State::of(&self.dir);
        let group = state.group.clone().filter(|_| state.boot_id == boot_id());
        let pid = state
            .pid
            .filter(|_| state.is_alive() && state.boot_id == boot_id());
        let Some(pid) = pid else {
            return group;
        };
        let Some(number) = rustix::process::Pid::from_raw(pid) else {
            return group;
        };
        // Opened before it is compared, so that it stays the process that was compared.
        let pidfd = pidfd_open(number, PidfdFlags::empty());
        let is_same = state.start_time.is_some() && start_time(pid) == state.start_time;
        if let (Err(Errno::NOSYS | Errno::PERM), true) = (&pidfd, is_same) {
            // Nobody else has held it, and it must not stay: the number was compared a moment ago.
            let _ = kill_process(number, Signal::KILL);
            let deadline = std::time::Instant::now() + std::time::Duration::from_secs(10);
            while start_time(pid) == state.start_time && std::time::Instant::now() < deadline {
                std::thread::sleep(std::time::Duration::from_millis(1));
            }
        }
        if let (Ok(pidfd), true) = (pidfd, is_same)
            && pidfd_send_signal(&pidfd, Signal::KILL).is_ok()
        {
            let limit = rustix::event::Timespec {
                tv_sec: 10,
                tv_nsec: 0,
            };
            let mut end = [rustix::event::PollFd::new(
                &pidfd,
                rustix::event::PollFlags::IN,
            )];
            let _ = rustix::event::poll(&mut end, Some(&limit));
        }
        group
    }

    /// Notes that the command ended with the monitor, or by a reboot, unless its end is noted already.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn orphan_ended(&self) -> Result<(), Error> {
        if !State::of(&self.dir).is_alive() {
            return Ok(());
        }
        self.change(false, |state| {
            state.orphaned();
            state.finished = Some(now());
        })
    }

    fn destroyed(&self) {
        // Without an id it was debris.
        if !self.subject.borrow().id.is_empty() {
            self.event("destroy", &[]);
        }
    }

    /// Makes it no container any more, at once: its name is free and nobody finds it. Its files are left for
    /// [`Gone::remove`], which can take long; should that never come, they are found among those
    /// [left over](super::Containers::left_over).
    ///
    /// # Errors
    /// [`Error::Io`]; it then still is a container.
    pub fn vanish(&self) -> Result<Gone, Error> {
        if self.dir.to_string_lossy().ends_with(GONE) {
            return Ok(Gone(self.dir.clone()));
        }
        self.unname()?;
        let mut gone = self.dir.clone().into_os_string();
        gone.push(GONE);
        let gone = PathBuf::from(gone);
        std::fs::rename(&self.dir, &gone).map_err(io("rename", &self.dir))?;
        self.destroyed();
        Ok(Gone(gone))
    }

    /// The name goes first: a directory without its name is found by id, a name without its directory is
    /// void.
    fn unname(&self) -> Result<(), Error> {
        let names = self.names();
        if self.release(&names.join(self.name()))? {
            return Ok(());
        }
        // It may have another name by now, or nobody knows which one it has.
        match self.spec() {
            Ok(spec) => self.release(&names.join(&spec.name)).map(drop),
            Err(_) => {
                let all = std::fs::read_dir(&names).into_iter().flatten().flatten();
                all.map(|claim| claim.path())
                    .try_for_each(|claim| self.release(&claim).map(drop))
            }
        }
    }

    /// Where the claims to names are.
    fn names(&self) -> PathBuf {
        self.dir.with_file_name("by-name")
    }

    /// Removes a claim to a name if it is ours, and says whether it was.
    fn release(&self, claim: &Path) -> Result<bool, Error> {
        let ours = claimant(claim).is_ok_and(|id| self.dir.ends_with(id));
        if ours {
            std::fs::remove_file(claim).map_err(io("unlink", claim))?;
        }
        Ok(ours)
    }

    /// The container's name.
    fn name(&self) -> String {
        let subject = self.subject.borrow();
        subject.attributes.get("name").cloned().unwrap_or_default()
    }

    fn write(&self, state: &State, sync: bool) -> Result<(), Error> {
        let mut kept = self.state.borrow_mut();
        let file = match replace(&self.dir, "state.json", state, sync) {
            Err(Error::Io { source, .. }) if is_full(&source) => {
                let file = overwrite(&self.dir, "state.json", state, sync)?;
                kept.take().unwrap_or(file)
            }
            other => other?,
        };
        *kept = state.is_alive().then_some(file);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_that_was_removed_meanwhile_is_not_found() {
        let dir = tempfile::tempdir().unwrap();
        let gone = Locked::open(dir.path().join("gone"), Subject::default());
        assert!(matches!(gone, Err(Error::NotFound(_))));
        let there = Locked::open(dir.path().to_owned(), Subject::default()).unwrap();
        let again = Locked::open(dir.path().to_owned(), Subject::default());
        assert!(matches!(again, Err(Error::Running(_))));
        drop(there);
    }
}
