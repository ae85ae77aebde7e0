//! Helpers that end before the container does: another in their place, or a word of what is lost.

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::Pid;

use super::{Watch, fuse};
use crate::sys::process::Ended;

impl Watch<'_> {
    /// The network helper ended. Where the container ends too, that is why: the helper follows its
    /// network namespace. Else there may be another in its place, or the user should know; the command goes on, without
    /// a network.
    pub(super) fn network_gone(&mut self) {
        let Some(mut network) = self.running.network.take() else {
            return;
        };
        if !network.has_ended() {
            self.running.network = Some(network);
            return;
        }
        if self.is_ending() {
            return;
        }
        let how = match (network.revive(), network.ended()) {
            (Ok(true), _) => {
                self.revived += 1;
                self.running.network = Some(network);
                return;
            }
            (Err(error), _) => format!(
                "`{}` ended, and cannot be started again ({})",
                network.program(),
                crate::model::chain(&error)
            ),
            (Ok(false), Ok(Some(ended))) => ended.to_string(),
            (Ok(false), _) => format!("`{}` ended", network.program()),
        };
        let text = format!("{how}: the container has no network from here on");
        self.notice(&text);
        if let Some(task) = self.job.container {
            let _ = task.container.lost("network gone", &text);
        }
    }

    pub(super) fn fuse_gone(&mut self, pid: Pid) {
        let servers = &mut self.running.fuse;
        let Some(which) = servers.iter().position(|server| server.child.pid() == pid) else {
            return;
        };
        let server = servers.remove(which);
        let (mut how, fell) = match server.child.wait() {
            Ok(Ended::Signaled(signal)) => (format!("killed by signal {signal}"), true),
            Ok(ended) => (
                format!("exit status {}", ended.status()),
                ended.status() != 0,
            ),
            Err(errno) => (errno.to_string(), false),
        };
        // What is mapped from the root of one that falls ends with it (SIGBUS).
        if fell || !self.is_ending() {
            match &*fuse::last_words(server.words) {
                "" => {}
                words => how = format!("{how}: {words}"),
            }
            let (lost, what) = server.serves.lost();
            let text = format!("`fuse-overlayfs` ended ({how}): {what}");
            self.notice(&text);
            if let Some(task) = self.job.container {
                let _ = task.container.lost(lost, &text);
            }
        }
    }

    /// Whether the command has ended, or does within a moment: what it held goes a little earlier.
    fn is_ending(&self) -> bool {
        const MOMENT: Timespec = Timespec {
            tv_sec: 0,
            tv_nsec: 50_000_000,
        };
        let mut fds = [PollFd::new(&self.running.child, PollFlags::IN)];
        self.ended.is_some() || poll(&mut fds, Some(&MOMENT)).is_ok_and(|n| n > 0)
    }
}
