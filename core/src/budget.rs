//! Limits on the memory and time that a parser may use for an untrusted file.
//!
//! Every parser of such files charges what it copies and allocates beyond the file itself to a [`Budget`], and
//! rejects the file when the budget is spent. Otherwise a small file could exhaust the memory with many copies of one
//! long text, with nesting, or with declared sizes.

use std::borrow::Cow;
use std::sync::atomic::{AtomicU64, Ordering};
use thiserror::Error;

/// Maximum nesting depth of values.
pub const DEEPEST: usize = 64;

/// Number of characters of a file's own text that an error message shows.
const SHOWN: usize = 200;

/// Remaining bytes and elementary steps. It may be shared between threads.
#[derive(Debug)]
pub struct Budget {
    bytes: AtomicU64,
    work: AtomicU64,
    limits: (u64, u64),
}

/// A file needs more memory or time than its size justifies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum OverBudget {
    /// Memory, in bytes.
    #[error("reading it takes more than {0} bytes of memory, which its size does not justify")]
    Bytes(u64),
    /// Time, in elementary steps.
    #[error("reading it takes more than {0} steps, which its size does not justify")]
    Work(u64),
    /// Nesting depth.
    #[error("it is nested more than {DEEPEST} levels deep")]
    Depth,
}

impl Budget {
    /// A budget of `bytes` and `work` elementary steps.
    pub fn new(bytes: u64, work: u64) -> Self {
        Self {
            bytes: bytes.into(),
            work: work.into(),
            limits: (bytes, work),
        }
    }

    /// The budget of a file of `length` bytes: 8 times its size and 32 MB in memory, and 64 steps per byte with
    /// 64 million more. Files of all known programs use a small fraction of it.
    pub fn for_file(length: u64) -> Self {
        let bytes = length.saturating_mul(8).saturating_add(32 << 20);
        let work = length.saturating_mul(64).saturating_add(64_000_000);
        Self::new(bytes, work)
    }

    /// The budget of the masks of an annotation file of `length` bytes: 64 times its size and 256 MB in memory, because
    /// run lengths are longer than polygons, and outlines of 256 pixels per byte with 256 million more.
    pub fn for_masks(length: u64) -> Self {
        let bytes = length.saturating_mul(64).saturating_add(256 << 20);
        let work = length.saturating_mul(256).saturating_add(256_000_000);
        Self::new(bytes, work)
    }

    /// Charges `count` bytes of memory.
    pub fn bytes(&self, count: usize) -> Result<(), OverBudget> {
        spend(&self.bytes, count).ok_or(OverBudget::Bytes(self.limits.0))
    }

    /// Charges memory for `count` values of type `T`.
    pub fn values<T>(&self, count: usize) -> Result<(), OverBudget> {
        self.bytes(count.saturating_mul(size_of::<T>()))
    }

    /// Charges `count` elementary steps.
    pub fn work(&self, count: usize) -> Result<(), OverBudget> {
        spend(&self.work, count).ok_or(OverBudget::Work(self.limits.1))
    }

    /// Adds charged memory that has been freed back to the budget.
    pub fn release(&self, count: usize) {
        self.bytes.fetch_add(count as u64, Ordering::Relaxed);
    }
}

fn spend(left: &AtomicU64, count: usize) -> Option<()> {
    let rest = |left: u64| left.checked_sub(count as u64);
    left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, rest)
        .ok()
        .map(drop)
}

/// Refuses a level of nesting beyond [`DEEPEST`].
pub fn check_depth(depth: usize) -> Result<(), OverBudget> {
    match depth <= DEEPEST {
        true => Ok(()),
        false => Err(OverBudget::Depth),
    }
}

/// Excerpt of a file's text for an error message: truncated to 200 characters, control characters escaped.
pub fn excerpt(text: &str) -> Cow<'_, str> {
    let is_plain = text.len() <= SHOWN && !text.chars().any(char::is_control);
    if is_plain {
        return Cow::Borrowed(text);
    }
    let mut shown = String::new();
    for c in text.chars().take(SHOWN) {
        match c.is_control() {
            true => shown.extend(c.escape_default()),
            false => shown.push(c),
        }
    }
    let left = text.chars().count().saturating_sub(SHOWN);
    if left > 0 {
        shown.push_str(&format!("... ({left} more characters)"));
    }
    Cow::Owned(shown)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_is_spent_once() {
        let budget = Budget::new(100, 10);
        budget.bytes(60).unwrap();
        assert_eq!(budget.bytes(41), Err(OverBudget::Bytes(100)));
        budget.bytes(40).unwrap();
        assert_eq!(budget.bytes(1), Err(OverBudget::Bytes(100)));
        budget.release(8);
        budget.values::<u32>(2).unwrap();
        budget.work(10).unwrap();
        let message = budget.work(1).unwrap_err().to_string();
        assert!(message.contains("10 steps"), "{message}");
        assert_eq!(
            budget.values::<u64>(usize::MAX),
            Err(OverBudget::Bytes(100))
        );
    }

    #[test]
    fn excerpts_are_short_and_plain() {
        assert_eq!(excerpt("builtins.eval"), "builtins.eval");
        assert_eq!(excerpt("a\u{1b}[2J\n"), "a\\u{1b}[2J\\n");
        let long = excerpt(&"x".repeat(1000)).into_owned();
        assert!(long.len() < 250 && long.contains("800 more"), "{long}");
    }
}
