//! A device without memory: told by an error, whatever the backend does.

use burn::tensor::ExecutionError;
use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

/// Does `work` on a device; where wgpu has no memory for it, that is an error and not a panic.
///
/// CubeCL's wgpu runtime (0.11.3) panics where an allocation fails. Any other panic goes on. Tensors that
/// `work` was writing are lost, and every later read of them fails.
pub fn caught<T, E: From<ExecutionError>>(work: impl FnOnce() -> Result<T, E>) -> Result<T, E> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|panic| match message(&*panic) {
        Some(reason) if wants_memory(reason) => Err(ExecutionError::WithContext {
            reason: reason.into(),
        }
        .into()),
        _ => resume_unwind(panic),
    })
}

/// The line of a device's failure that tells of memory, where it is about memory. The whole is a list of all
/// work that was skipped.
pub fn out_of_memory(error: &ExecutionError) -> Option<String> {
    let text = format!("{error}\n{error:?}");
    let line = text.lines().find(|line| wants_memory(line))?;
    Some(line.trim().chars().take(200).collect())
}

/// Whether a message of a backend is about want of memory.
pub fn wants_memory(text: &str) -> bool {
    let text = text.to_lowercase();
    let signs = [
        "out of memory",
        "outofmemory",
        "out_of_memory",
        "buffertoobig",
        "too large",
        "can't allocate buffer",
    ];
    signs.iter().any(|sign| text.contains(sign))
}

/// What a panic said.
pub fn message(panic: &(dyn Any + Send)) -> Option<&str> {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn want_of_memory_is_told_from_other_failures() {
        let failed = |reason: &str| ExecutionError::WithContext {
            reason: reason.into(),
        };
        for reason in [
            "CUDA_ERROR_OUT_OF_MEMORY, 2",
            "wgpu error: Out of Memory",
            "can't allocate buffer of size: 222822400",
        ] {
            let whole = format!("Several failures at once\n  {reason}\nNo backtrace available");
            let said = out_of_memory(&failed(&whole)).expect("a sign of it");
            assert!(said.ends_with(reason), "{said}");
        }
        assert_eq!(out_of_memory(&failed("the device was lost")), None);
    }

    #[test]
    fn a_panic_for_want_of_memory_is_an_error() {
        let result: Result<(), ExecutionError> =
            caught(|| panic!("wgpu error: Out of {}", "Memory"));
        assert!(out_of_memory(&result.unwrap_err()).is_some());
        let other = catch_unwind(|| caught::<(), ExecutionError>(|| panic!("a bug")));
        assert_eq!(message(&*other.unwrap_err()), Some("a bug"));
    }
}
