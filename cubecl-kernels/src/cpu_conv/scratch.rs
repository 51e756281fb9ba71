//! Work memory of a thread, kept between calls, so that it stays in the cache and its pages are mapped.

use std::cell::Cell;
use std::thread::LocalKey;

/// A cache line, which is also the size of the widest vector.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
struct Line([f32; 16]);

type Memory = Cell<Vec<Line>>;

thread_local! {
    static SCRATCH: Memory = const { Cell::new(Vec::new()) };
    static WEIGHTS: Memory = const { Cell::new(Vec::new()) };
}

/// Calls `work` with `len` values of this thread's memory, aligned to a cache line, with unspecified
/// contents.
pub fn with_scratch<R>(len: usize, work: impl FnOnce(&mut [f32]) -> R) -> R {
    with(&SCRATCH, len, work)
}

/// The same with other memory: for packed weights, while `work` uses that of [`with_scratch`].
pub fn with_weights<R>(len: usize, work: impl FnOnce(&mut [f32]) -> R) -> R {
    with(&WEIGHTS, len, work)
}

fn with<R>(memory: &'static LocalKey<Memory>, len: usize, work: impl FnOnce(&mut [f32]) -> R) -> R {
    let mut lines = memory.take();
    let needed = len.div_ceil(16);
    if lines.len() < needed {
        lines = vec![Line([0.0; 16]); needed];
    }
    // SAFETY: a line is 16 values without padding, and there are enough of them.
    let values = unsafe { std::slice::from_raw_parts_mut(lines.as_mut_ptr().cast(), len) };
    let result = work(values);
    memory.set(lines);
    result
}
