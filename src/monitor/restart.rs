//! Whether and when a command is started again.

use std::time::{Duration, Instant};

use rustix::event::epoll::EventFlags;

use super::clients::{Clients, Received, Role};
use super::waiting::Waiting;
use super::wire::{FromMonitor, ToMonitor};
use crate::model::spec::RestartPolicy;
use crate::sys::process::Ended;

/// The first wait; it doubles with every try (docker run reference, "Restart policies").
const FIRST: Duration = Duration::from_millis(100);

/// The longest wait.
const LONGEST: Duration = Duration::from_secs(60);

/// A command that ran for so long did start: its next failure is a first one.
const WELL: Duration = Duration::from_secs(10);

/// What happened so far.
#[derive(Debug, Default)]
pub(super) struct History {
    /// Failures in a row.
    failures: u32,
    wait: Option<Duration>,
}

impl History {
    /// How long to wait before a command that ended like this, having run for `ran`, is started again; `None`
    /// if it is not.
    pub fn next(&mut self, policy: RestartPolicy, ended: Ended, ran: Duration) -> Option<Duration> {
        if ran >= WELL {
            *self = History::default();
        }
        let failed = ended.status() != 0;
        let again = match policy {
            RestartPolicy::No => false,
            RestartPolicy::OnFailure(times) => failed && (times == 0 || self.failures < times),
            RestartPolicy::Always | RestartPolicy::UnlessStopped => true,
        };
        self.failures += u32::from(failed);
        let wait = self.wait.map_or(FIRST, |wait| (wait * 2).min(LONGEST));
        self.wait = Some(wait);
        again.then_some(wait)
    }
}

/// Waits, at least until nobody works on the files any more, and serves who comes meanwhile. False when somebody asked
/// that it be stopped, or changed the specification so that it is not to be started again: `wanted` looks.
pub(super) fn wait(clients: &mut Clients, time: Duration, wanted: &dyn Fn() -> bool) -> bool {
    let end = Instant::now() + time;
    let mut waiting = Waiting::default();
    let mut goes_on = true;
    loop {
        // Without that time left it waits for guests alone.
        let until = (goes_on && Instant::now() < end).then_some(end);
        if until.is_none() && !clients.has_guests() {
            return goes_on;
        }
        let sources: Vec<_> = {
            let all = clients.fds();
            let all = all.map(|(number, id, fd, _)| (Some((number, id)), fd, EventFlags::IN));
            let listener = clients.listener().map(|fd| (None, fd, EventFlags::IN));
            all.chain(listener).collect()
        };
        let Ok(happened) = waiting.wait(&sources, until) else {
            return false;
        };
        for (who, _) in happened {
            let Some((number, _)) = who else {
                clients.accept();
                continue;
            };
            match clients.receive(number) {
                Received::Message(ToMonitor::Stop(..) | ToMonitor::Kill(_) | ToMonitor::Remove) => {
                    clients.tell(number, &FromMonitor::Done);
                    goes_on = false;
                }
                Received::Message(ToMonitor::Attach) => clients.become_role(number, Role::Attached),
                Received::Message(ToMonitor::Pause(_)) => {
                    clients.refuse(number, "it is about to be started again");
                }
                Received::Message(ToMonitor::Reread) => {
                    clients.tell(number, &FromMonitor::Done);
                    goes_on &= wanted();
                }
                Received::Message(ToMonitor::Rest) if clients.has_guests() => {
                    clients.refuse(number, "somebody else works on its files");
                }
                Received::Message(ToMonitor::Rest) => {
                    clients.become_role(number, Role::Guest);
                    clients.tell(number, &FromMonitor::Done);
                }
                Received::Message(_) => clients.tell(number, &FromMonitor::Done),
                Received::Nothing => {}
                Received::Gone => clients.leave(number),
            }
        }
        clients.sweep();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn policies() {
        let short = Duration::from_millis(5);
        let (good, bad) = (Ended::Exited(0), Ended::Exited(1));
        let mut history = History::default();
        let policy = RestartPolicy::OnFailure(2);
        assert_eq!(history.next(policy, bad, short), Some(FIRST));
        assert_eq!(history.next(policy, bad, short), Some(FIRST * 2));
        assert_eq!(history.next(policy, bad, short), None);
        assert_eq!(History::default().next(policy, good, short), None);
        let mut history = History::default();
        for _ in 0..20 {
            assert!(history.next(RestartPolicy::Always, good, short) <= Some(LONGEST));
        }
        assert_eq!(
            history.next(RestartPolicy::Always, good, short),
            Some(LONGEST)
        );
        assert_eq!(history.next(RestartPolicy::Always, good, WELL), Some(FIRST));
        assert_eq!(History::default().next(RestartPolicy::No, bad, short), None);
    }
}
