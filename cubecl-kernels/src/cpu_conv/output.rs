//! Memory that several threads write at once, each its own part.

/// Where the values of a result lie.
#[derive(Clone, Copy)]
pub struct Output {
    start: *mut f32,
    len: usize,
}

// SAFETY: `slice` leaves it to the caller that no two threads write the same part.
unsafe impl Send for Output {}
// SAFETY: as above.
unsafe impl Sync for Output {}

impl Output {
    /// # Safety
    ///
    /// `start` is valid for writing `len` values for as long as the result is used.
    pub unsafe fn from_raw(start: *mut f32, len: usize) -> Self {
        Self { start, len }
    }

    /// Values that are initialized already, for as long as they are borrowed.
    pub fn of(values: &mut [f32]) -> Self {
        Self {
            start: values.as_mut_ptr(),
            len: values.len(),
        }
    }

    /// Values of the result.
    pub fn len(&self) -> usize {
        self.len
    }

    /// `len` values from `at` on.
    ///
    /// # Safety
    ///
    /// No other slice of the same values is alive. They may be uninitialized: they are to be written
    /// before they are read.
    #[allow(clippy::mut_from_ref)]
    pub unsafe fn slice(&self, at: usize, len: usize) -> &mut [f32] {
        assert!(at + len <= self.len, "within the result");
        // SAFETY: in bounds; otherwise the caller's.
        unsafe { std::slice::from_raw_parts_mut(self.start.add(at), len) }
    }
}
