//! Work on many things, on all processors.

/// How many things are worth a thread.
const PART: usize = 50;

/// What `work` makes of the parts of `all`, in order; of many, side by side. Of the descriptors that it opens none
/// outlives it: each thread has a table of its own (unshare(2), CLONE_FILES), as all of them would wait for that one.
pub fn in_parts<T: Sync, R: Send>(all: &[T], work: impl Fn(&[T]) -> R + Sync) -> Vec<R> {
    let most = all.len() / PART;
    let threads = if most > 1 { most.min(processors()) } else { 1 };
    let mut parts = all.chunks(all.len().div_ceil(threads).max(1));
    let own = parts.next().unwrap_or_default();
    std::thread::scope(|scope| {
        let work = &work;
        let apart = |part| {
            // Refused, it is only slower.
            let _ = nix::sched::unshare(nix::sched::CloneFlags::CLONE_FILES);
            work(part)
        };
        let others: Vec<_> = parts.map(|part| scope.spawn(move || apart(part))).collect();
        let mut done = vec![work(own)];
        for other in others {
            match other.join() {
                Ok(part) => done.push(part),
                Err(panic) => std::panic::resume_unwind(panic),
            }
        }
        done
    })
}

/// How many processors this process may use (sched_getaffinity(2)).
fn processors() -> usize {
    let set = rustix::thread::sched_getaffinity(None);
    set.map_or(1, |set| set.count() as usize)
}
