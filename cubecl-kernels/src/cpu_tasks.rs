//! Loops over independent tasks of CPU operators.

use pulp::Arch;
use rayon::prelude::*;

/// Number of multiply-adds, or of values read and written, that take less time than waking another thread.
const SMALL: usize = 128 << 10;

/// Calls `work` with every index below `tasks`; on several threads if the total work is worth it.
///
/// * `operations` - multiply-adds of all tasks, or values that they read or write.
///
/// The loops of `work` are compiled for the vector instructions of the CPU that runs them, not only for those that
/// every CPU has. Their results are bit-equal with all of them.
pub(crate) fn for_each_task(tasks: usize, operations: usize, work: impl Fn(usize) + Sync + Send) {
    let work = |task| Arch::new().dispatch(|| work(task));
    if tasks <= 1 || operations < SMALL {
        (0..tasks).for_each(work);
    } else {
        (0..tasks).into_par_iter().for_each(work);
    }
}

/// The results of `work` for every index below `tasks`; see [`for_each_task`].
pub(crate) fn map_tasks<T: Send>(
    tasks: usize,
    operations: usize,
    work: impl Fn(usize) -> T + Sync + Send,
) -> Vec<T> {
    let work = |task| Arch::new().dispatch(|| work(task));
    if tasks <= 1 || operations < SMALL {
        (0..tasks).map(work).collect()
    } else {
        (0..tasks).into_par_iter().map(work).collect()
    }
}

/// Calls `work` with every item; see [`for_each_task`].
pub(crate) fn for_each_item<T: Send>(
    items: Vec<T>,
    operations: usize,
    work: impl Fn(T) + Sync + Send,
) {
    let work = |item| Arch::new().dispatch(|| work(item));
    if items.len() <= 1 || operations < SMALL {
        items.into_iter().for_each(work);
    } else {
        items.into_par_iter().for_each(work);
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
            let indices: Vec<_> = (0..tasks).collect();
            assert_eq!(map_tasks(tasks, operations, |task| task), indices);
            for_each_item(indices, operations, |task| {
                done[task].fetch_add(1, Ordering::Relaxed);
            });
            assert!(done.iter().all(|count| count.load(Ordering::Relaxed) == 2));
        }
    }
}
