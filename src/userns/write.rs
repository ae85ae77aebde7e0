//! Writing the maps of a process that waits in its fresh user namespace.
//!
//! The process must still be dumpable: the kernel gives the files of /proc/PID to root otherwise,
//! and newuidmap refuses a process directory that is not its caller's.

use std::io::Write as _;

use newuidmap_sys::{Map, Pending, spawn_maps};

use super::{Error, Plan, Writer};
use crate::model::IdMap;

/// Maps in the making.
#[derive(Debug)]
#[must_use = "the maps are written once `wait` has returned"]
pub struct Writing {
    pending: Option<Pending>,
    user: String,
}

/// Starts to write the maps of process `pid` (as seen from here). A direct writer is done on
/// return; newuidmap and newgidmap run until [`Writing::wait`].
///
/// # Errors
/// [`Error::Write`], [`Error::Helpers`].
pub fn start(plan: &Plan, pid: u32) -> Result<Writing, Error> {
    let user = plan.user.clone();
    let Writer::Helpers(programs) = &plan.writer else {
        direct(plan, pid)?;
        return Ok(Writing {
            pending: None,
            user,
        });
    };
    let lines = |map: &IdMap| -> Vec<Map> {
        map.ranges()
            .iter()
            .map(|r| (r.container, r.host, r.length))
            .collect()
    };
    match spawn_maps(programs, pid, &lines(&plan.uid), &lines(&plan.gid)) {
        Ok(pending) => Ok(Writing {
            pending: Some(pending),
            user,
        }),
        Err(source) => Err(Error::Helpers {
            source: Box::new(source),
            user,
        }),
    }
}

impl Writing {
    /// Returns when both maps are written.
    ///
    /// # Errors
    /// [`Error::Helpers`].
    pub fn wait(self) -> Result<(), Error> {
        let Writing { pending, user } = self;
        match pending {
            None => Ok(()),
            Some(pending) => pending.wait().map_err(|source| Error::Helpers {
                source: Box::new(source),
                user,
            }),
        }
    }
}

/// [`start`] and [`Writing::wait`] in one.
///
/// # Errors
/// Those of both.
pub fn write(plan: &Plan, pid: u32) -> Result<(), Error> {
    start(plan, pid)?.wait()
}

/// Writes the maps of a process whose user namespace is within one that has those of `plan` already, by whom that one is
/// and who is in it: each id is mapped to itself.
///
/// # Errors
/// [`Error::Write`].
pub fn write_within(plan: &Plan, pid: u32) -> Result<(), Error> {
    let same = |map: &IdMap| map.inner().to_proc();
    put_maps(pid, &same(&plan.uid), plan.setgroups, &same(&plan.gid))
}

fn direct(plan: &Plan, pid: u32) -> Result<(), Error> {
    let (uid, gid) = (plan.uid.to_proc(), plan.gid.to_proc());
    put_maps(pid, &uid, plan.setgroups, &gid)
}

/// The kernel takes a map in one write(2), and an unprivileged gid_map only after setgroups has been
/// given up (user_namespaces(7)).
fn put_maps(pid: u32, uid: &str, setgroups: bool, gid: &str) -> Result<(), Error> {
    put(pid, "uid_map", uid)?;
    if !setgroups {
        put(pid, "setgroups", "deny")?;
    }
    put(pid, "gid_map", gid)
}

fn put(pid: u32, file: &str, text: &str) -> Result<(), Error> {
    let path = format!("/proc/{pid}/{file}");
    std::fs::OpenOptions::new()
        .write(true)
        .open(&path)
        .and_then(|mut file| file.write_all(text.as_bytes()))
        .map_err(|source| Error::Write {
            path,
            text: text.trim().replace('\n', ", "),
            source,
        })
}

#[cfg(test)]
mod tests {
    use std::process::{Child, Command, Stdio};
    use std::time::{Duration, Instant};

    use super::*;
    use crate::userns::{Caller, Mode, plan};

    /// A process in a user namespace without maps.
    struct Unmapped(Child);

    impl Unmapped {
        fn new() -> Self {
            let child = Command::new("unshare")
                .args(["--user", "sleep", "1000"])
                .stdout(Stdio::null())
                .spawn()
                .unwrap();
            let comm = format!("/proc/{}/comm", child.id());
            let deadline = Instant::now() + Duration::from_secs(20);
            while !std::fs::read_to_string(&comm).is_ok_and(|name| name == "sleep\n") {
                assert!(Instant::now() < deadline, "unshare did not get there");
                std::thread::sleep(Duration::from_millis(2));
            }
            Unmapped(child)
        }

        fn read(&self, file: &str) -> Vec<Vec<String>> {
            let text = std::fs::read_to_string(format!("/proc/{}/{file}", self.0.id())).unwrap();
            text.lines()
                .map(|l| l.split_whitespace().map(str::to_owned).collect())
                .collect()
        }
    }

    impl Drop for Unmapped {
        fn drop(&mut self) {
            let _ = self.0.kill();
            let _ = self.0.wait();
        }
    }

    fn lines(map: &IdMap) -> Vec<Vec<String>> {
        map.ranges()
            .iter()
            .map(|r| {
                [r.container, r.host, r.length]
                    .iter()
                    .map(u32::to_string)
                    .collect()
            })
            .collect()
    }

    #[test]
    fn what_is_planned_is_what_the_kernel_has() {
        let caller = Caller::current(std::env::var_os("PATH").as_deref()).unwrap();
        for mode in [
            Mode::Default,
            Mode::Single,
            Mode::KeepId {
                uid: None,
                gid: None,
            },
            Mode::NoMap,
        ] {
            let Ok(plan) = plan(&mode, &caller) else {
                continue;
            };
            let child = Unmapped::new();
            write(&plan, child.0.id()).unwrap_or_else(|e| panic!("{mode:?}: {e} {:?}", e.hint()));
            assert_eq!(child.read("uid_map"), lines(&plan.uid), "{mode:?}");
            assert_eq!(child.read("gid_map"), lines(&plan.gid), "{mode:?}");
            let setgroups = child.read("setgroups");
            assert_eq!(
                setgroups[0][0] == "allow",
                plan.setgroups,
                "{mode:?} {setgroups:?}"
            );
        }
    }

    #[test]
    fn the_call_is_named_in_the_error() {
        let caller = Caller::current(None).unwrap();
        let mut plan = plan(&Mode::Single, &caller).unwrap();
        plan.writer = Writer::Direct;
        // A process that is no child of ours and has its maps already: 1 cannot be written by anyone.
        let error = write(&plan, 1).unwrap_err().to_string();
        assert!(error.starts_with("write(`/proc/1/uid_map`, `0 "), "{error}");
    }
}
