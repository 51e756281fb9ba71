//! Work memory of a thread, kept between calls, so that it stays in the cache and its pages are mapped.

use std::cell::Cell;

/// A cache line, which is also the size of the widest vector.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
struct Line([f32; 16]);

thread_local! {
    static SCRATCH: Cell<Vec<Line>> = const { Cell::new(Vec::new()) };
}

/// Calls `work` with `len` values of this thread's memory, aligned to a cache line, with unspecified
/// contents.
pub fn with_scratch<R>(len: usize, work: impl FnOnce(&mut [f32]) -> R) -> R {
    let mut memory = SCRATCH.take();
    let lines = len.div_ceil(16);
    if memory.len() < lines {
        memory = vec![Line([0.0; 16]); lines];
    }
    // SAFETY: a line is 16 values without padding, and there are enough of them.
    let values = unsafe { std::slice::from_raw_parts_mut(memory.as_mut_ptr().cast(), len) };
    let result = work(values);
    SCRATCH.set(memory);
    result
}
