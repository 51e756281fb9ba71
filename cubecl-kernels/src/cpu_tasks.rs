//! Loops over independent tasks of CPU operators.

use rayon::prelude::*;

/// Number of multiply-adds, or of values read and written, that take less time than waking another thread.
const SMALL: usize = 128 << 10;

/// Calls `work` with every index below `tasks`; on several threads if the total work is worth it.
///
/// * `operations` - multiply-adds of all tasks, or values that they read or write.
pub(crate) fn for_each_task(tasks: usize, operations: usize, work: impl Fn(usize) + Sync + Send) {
    if tasks <= 1 || operations < SMALL {
        (0..tasks).for_each(work);
    } else {
        (0..tasks).into_par_iter().for_each(work);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};

    #[test]
    fn every_task_is_done_once() {
        for (tasks, operations) in [(0, 0), (1, usize::MAX), (7, 10), (1000, usize::MAX)] {
            let done: Vec<_> = (0..tasks).map(|_| AtomicUsize::new(0)).collect();
            for_each_task(tasks, operations, |task| {
                done[task].fetch_add(1, Ordering::Relaxed);
            });
            assert!(done.iter().all(|count| count.load(Ordering::Relaxed) == 1));
        }
    }
}
