//! What a monitor waits for: a set that the kernel keeps (epoll(7)).
//!
//! Each turn says what it wants to hear of. As long as that is what the turn before wanted, it costs one call. Else the
//! set is made anew: an open file goes on reporting to a set until its last descriptor is closed, wherever that is
//! (epoll(7), "Questions and answers", 6), and a child may hold one of what was closed here.

use std::os::fd::{BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::buffer::spare_capacity;
use rustix::event::Timespec;
use rustix::event::epoll::{self, EventData, EventFlags};
use rustix::io::Errno;

/// The longest wait that every kernel can be asked for (`epoll_wait` counts milliseconds in an `int`).
const LONGEST: Duration = Duration::from_secs(86_400);

/// One thing that is wanted: what it is, where it shows, and what of it. What takes another's place, maybe with the
/// same descriptor, must be another `S`.
pub(super) type Wanted<'a, S> = (S, BorrowedFd<'a>, EventFlags);

/// What is waited for.
#[derive(Debug)]
pub(super) struct Waiting<S> {
    set: Option<Set<S>>,
}

/// A set, and what is in it.
#[derive(Debug)]
struct Set<S> {
    epoll: OwnedFd,
    has: Vec<(S, EventFlags)>,
}

impl<S> Default for Waiting<S> {
    fn default() -> Self {
        Waiting { set: None }
    }
}

impl<S: Copy + Eq> Waiting<S> {
    /// Waits until something of `wanted` happens, or until the time `limit`. Returns what happened in the order of
    /// `wanted`: nothing when the time is over, or when a signal came.
    ///
    /// # Errors
    /// Those of epoll_create(2), epoll_ctl(2) and epoll_wait(2).
    pub fn wait(
        &mut self,
        wanted: &[Wanted<'_, S>],
        limit: Option<Instant>,
    ) -> Result<Vec<(S, EventFlags)>, Errno> {
        let set = self.of(wanted)?;
        let left = limit.map(|at| at.saturating_duration_since(Instant::now()).min(LONGEST));
        let left = left.and_then(|left| Timespec::try_from(left).ok());
        // No room at all is refused.
        let mut events = Vec::with_capacity(wanted.len().max(1));
        match epoll::wait(set, spare_capacity(&mut events), left.as_ref()) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(errno) => return Err(errno),
        }
        // The kernel tells them in the order in which they happened.
        events.sort_unstable_by_key(|event| event.data.u64());
        let happened = events.iter().filter_map(|event| {
            let (source, ..) = wanted.get(event.data.u64() as usize)?;
            Some((*source, event.flags))
        });
        Ok(happened.collect())
    }

    /// The set of just these.
    fn of(&mut self, wanted: &[Wanted<'_, S>]) -> Result<&OwnedFd, Errno> {
        let these = || wanted.iter().map(|(source, _, flags)| (*source, *flags));
        // The old one is closed first: the new one cannot want for its place.
        let old = self.set.take();
        let old = old.filter(|set| these().eq(set.has.iter().copied()));
        let set = match old {
            Some(set) => set,
            None => {
                let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
                for (number, (_, fd, flags)) in wanted.iter().enumerate() {
                    epoll::add(&epoll, fd, EventData::new_u64(number as u64), *flags)?;
                }
                let has = these().collect();
                Set { epoll, has }
            }
        };
        Ok(&self.set.insert(set).epoll)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;
    use std::os::fd::{AsFd as _, AsRawFd as _};

    use super::*;

    fn now() -> Option<Instant> {
        Some(Instant::now())
    }

    #[test]
    fn tells_what_is_wanted_in_its_order() {
        let (a, mut into_a) = std::io::pipe().unwrap();
        let (b, mut into_b) = std::io::pipe().unwrap();
        let mut waiting = Waiting::default();
        let both = [
            ('a', a.as_fd(), EventFlags::IN),
            ('b', b.as_fd(), EventFlags::IN),
        ];
        assert!(waiting.wait(&both, now()).unwrap().is_empty());
        into_b.write_all(b"x").unwrap();
        into_a.write_all(b"x").unwrap();
        let names =
            |list: Vec<(char, EventFlags)>| list.into_iter().map(|(s, _)| s).collect::<String>();
        assert_eq!(names(waiting.wait(&both, None).unwrap()), "ab");
        // As long as nobody reads it, and one that is not wanted is not told of.
        assert_eq!(names(waiting.wait(&both[1..], None).unwrap()), "b");
        assert_eq!(names(waiting.wait(&both, None).unwrap()), "ab");
        assert!(waiting.wait(&[], now()).unwrap().is_empty());
        drop(into_a);
        let end = waiting.wait(&both, None).unwrap();
        assert!(end[0].1.contains(EventFlags::HUP));
    }

    #[test]
    fn what_a_child_still_holds_is_not_told_of_once_it_is_closed_here() {
        let (old, mut into) = std::io::pipe().unwrap();
        let mut waiting = Waiting::default();
        assert!(
            waiting
                .wait(&[(1, old.as_fd(), EventFlags::IN)], now())
                .unwrap()
                .is_empty()
        );
        let held = old.try_clone().unwrap();
        let number = old.as_raw_fd();
        drop(old);
        into.write_all(b"x").unwrap();
        // Another in its place, with its number, and with nothing to say.
        let (new, _into_new) = std::io::pipe().unwrap();
        let new = std::os::fd::OwnedFd::from(new);
        assert_eq!(new.as_raw_fd(), number, "the lowest free one");
        assert!(
            waiting
                .wait(&[(2, new.as_fd(), EventFlags::IN)], now())
                .unwrap()
                .is_empty()
        );
        drop(held);
    }
}
