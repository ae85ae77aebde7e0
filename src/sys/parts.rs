//! Work on many things, on all processors.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};

use rustix::process::Pid;
use rustix::thread::{CpuSet, gettid, sched_getaffinity, sched_getcpu, sched_setaffinity};

/// How many things are taken at a time.
const PART: usize = 20;

/// How many things are worth a thread more.
const WORTH: usize = 100;

/// What `work` makes of the parts of `all`, in order; of many, side by side. Each thread takes what is left instead of
/// having a share, so that one which begins late is not waited for. Each has a table of descriptors of its own
/// (unshare(2), CLONE_FILES), as all of them would wait for that one: what `work` holds open may stay so until the
/// process ends.
pub fn in_parts<T, R>(all: Vec<T>, work: impl Fn(&[T]) -> R + Send + Sync + 'static) -> Vec<R>
where
    T: Send + Sync + 'static,
    R: Send + 'static,
{
    let worth = all.len() / WORTH;
    let todo = Arc::new(Todo {
        all,
        work,
        next: AtomicUsize::new(0),
    });
    let (tell, told) = mpsc::channel();
    begin_beside(worth, || {
        let (todo, tell) = (Arc::clone(&todo), tell.clone());
        move || {
            if todo.next.load(Ordering::Relaxed) < todo.count() {
                // Refused, it is only slower.
                let _ = nix::sched::unshare(nix::sched::CloneFlags::CLONE_FILES);
                std::iter::from_fn(|| todo.take()).for_each(|done| drop(tell.send(done)));
            }
        }
    });
    drop(tell);
    let mut done: Vec<(usize, R)> = std::iter::from_fn(|| todo.take()).collect();
    done.extend(told.iter().take(todo.count() - done.len()));
    assert_eq!(done.len(), todo.count(), "a thread has ended early");
    done.sort_unstable_by_key(|(at, _)| *at);
    done.into_iter().map(|(_, part)| part).collect()
}

struct Todo<T, F> {
    all: Vec<T>,
    work: F,
    /// The number of the part that nobody has taken yet.
    next: AtomicUsize,
}

impl<T, R, F: Fn(&[T]) -> R> Todo<T, F> {
    fn count(&self) -> usize {
        self.all.len().div_ceil(PART)
    }

    fn take(&self) -> Option<(usize, R)> {
        let at = self.next.fetch_add(1, Ordering::Relaxed);
        let part = self.all.chunks(PART).nth(at)?;
        Some((at, (self.work)(part)))
    }
}

/// Begins a thread on each processor but this, or as many as are worth it. The kernel would often let a new one wait for
/// this to rest (seen in sched(7) events: of two processors, one of which slept, it took the other), which lasts as long
/// as the work.
fn begin_beside<F: FnOnce() + Send + 'static>(worth: usize, work: impl Fn() -> F) {
    let Ok(mut others) = sched_getaffinity(None) else {
        return;
    };
    others.unset(sched_getcpu());
    let more = worth.min(others.count() as usize);
    if more == 0 {
        return;
    }
    for _ in 0..more {
        // Refused, it is only slower.
        let _ = std::thread::Builder::new().spawn(work());
    }
    move_to(&others);
}

/// Moves all threads but this to some processors. Where /proc does not show them they stay where they are.
fn move_to(processors: &CpuSet) {
    let tasks = std::fs::read_dir("/proc/self/task").into_iter().flatten();
    let number = |task: std::fs::DirEntry| Pid::from_raw(task.file_name().to_str()?.parse().ok()?);
    let others = tasks.flatten().filter_map(number);
    for task in others.filter(|&task| task != gettid()) {
        let _ = sched_setaffinity(Some(task), processors);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_come_in_order() {
        for count in [0, 1, PART, 5 * WORTH + 7] {
            let parts = in_parts((0..count).collect(), |part: &[usize]| part.to_vec());
            assert_eq!(parts.concat(), (0..count).collect::<Vec<_>>());
        }
    }
}
