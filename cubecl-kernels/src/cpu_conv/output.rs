//! Memory that several threads write concurrently, each its own part.

/// Memory of the values of a result.
#[derive(Clone, Copy)]
pub struct Output {
    start: *mut f32,
    len: usize,
}

// SAFETY: the caller of `slice` guarantees that no two threads write the same part.
unsafe impl Send for Output {}
// SAFETY: as above.
unsafe impl Sync for Output {}

impl Output {
    /// # Safety
    ///
    /// `start` must be valid for writing `len` values while the result is used.
    pub unsafe fn from_raw(start: *mut f32, len: usize) -> Self {
        Self { start, len }
    }

    /// Wraps initialized values while they are borrowed.
    pub fn of(values: &mut [f32]) -> Self {
        Self {
            start: values.as_mut_ptr(),
            len: values.len(),
        }
    }

    /// Number of values of the result.
    pub fn len(&self) -> usize {
        self.len
    }

    /// The `len` values from `at` on, as a result of their own.
    pub fn part(&self, at: usize, len: usize) -> Self {
        assert!(at + len <= self.len, "the part must be within the result");
        Self {
            // SAFETY: in bounds.
            start: unsafe { self.start.add(at) },
            len,
        }
    }

    /// The first value.
    pub fn as_mut_ptr(&self) -> *mut f32 {
        self.start
    }

    /// `len` values, starting at `at`.
    ///
    /// # Safety
    ///
    /// No other slice of the same values may exist. The values may be uninitialized and must be written
    /// before they are read.
    #[allow(clippy::mut_from_ref)]
    pub unsafe fn slice(&self, at: usize, len: usize) -> &mut [f32] {
        assert!(at + len <= self.len, "the slice must be within the result");
        // SAFETY: in bounds; the caller guarantees the rest.
        unsafe { std::slice::from_raw_parts_mut(self.start.add(at), len) }
    }
}
