//! Device failures: out of memory is reported as one error, even if the backend panics.

use burn::tensor::ExecutionError;
use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

/// Runs `work` on a device; out of memory on wgpu is an error and not a panic.
///
/// The wgpu runtime of CubeCL (0.11.3) panics if an allocation fails. Other panics are propagated. Tensors that `work`
/// was writing are lost, and every later read of them fails.
pub fn caught<T, E: From<ExecutionError>>(work: impl FnOnce() -> Result<T, E>) -> Result<T, E> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|panic| match message(&*panic) {
        Some(reason) if is_out_of_memory(reason) => Err(ExecutionError::WithContext {
            reason: reason.into(),
        }
        .into()),
        _ => resume_unwind(panic),
    })
}

/// The line of a device error that reports out of memory, if any. The complete error lists all work that was skipped.
pub fn out_of_memory(error: &ExecutionError) -> Option<String> {
    let text = format!("{error}\n{error:?}");
    let line = text.lines().find(|line| is_out_of_memory(line))?;
    Some(line.trim().chars().take(200).collect())
}

/// Whether a message of a backend reports out of memory.
pub fn is_out_of_memory(text: &str) -> bool {
    let text = text.to_lowercase();
    let signs = [
        "out of memory",
        "outofmemory",
        "out_of_memory",
        "buffertoobig",
        "greater than the maximum buffer size",
        "can't allocate buffer",
    ];
    signs.iter().any(|sign| text.contains(sign))
}

/// The message of a panic.
pub fn message(panic: &(dyn Any + Send)) -> Option<&str> {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn out_of_memory_is_distinguished_from_other_failures() {
        let failed = |reason: &str| ExecutionError::WithContext {
            reason: reason.into(),
        };
        for reason in [
            "CUDA_ERROR_OUT_OF_MEMORY, 2",
            "wgpu error: Out of Memory",
            "can't allocate buffer of size: 222822400",
            "Buffer size 5368709120 is greater than the maximum buffer size (4294967296)",
        ] {
            let whole = format!("Several failures at once\n  {reason}\nNo backtrace available");
            let line = out_of_memory(&failed(&whole)).expect("a line about memory");
            assert!(line.ends_with(reason), "{line}");
        }
        for reason in ["the device was lost", "index too large for the axis"] {
            assert_eq!(out_of_memory(&failed(reason)), None);
        }
    }

    #[test]
    fn an_out_of_memory_panic_is_an_error() {
        let result: Result<(), ExecutionError> =
            caught(|| panic!("wgpu error: Out of {}", "Memory"));
        assert!(out_of_memory(&result.unwrap_err()).is_some());
        let other = catch_unwind(|| caught::<(), ExecutionError>(|| panic!("a bug")));
        assert_eq!(message(&*other.unwrap_err()), Some("a bug"));
    }
}
