//! Memory pool of the results of CPU operators, for reuse by results of similar size.
//!
//! Activations and gradients are tens of MiB each. An allocator gets blocks of that size from the
//! system and returns them, and the first access to every page of a new block costs more than
//! many operators compute. Unused blocks are therefore kept in a pool. Memory in use and
//! in the pool together is limited to the peak of the memory in use, plus one eighth of it or
//! `LARGEST_RESERVE`, whichever is less.

use burn::tensor::{DType, Shape};
use burn_flex::{FlexTensor, Layout};
use burn_std::{AccessError, AccessPolicy, AllocationController, AllocationProperty, Bytes};
use std::alloc::{Layout as AllocationLayout, alloc, dealloc, handle_alloc_error};
use std::collections::BTreeMap;
use std::mem::MaybeUninit;
use std::ptr::NonNull;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::cpu_conv::Output;

/// Alignment of blocks in bytes: a cache line.
const ALIGNMENT: usize = 64;
/// Smaller blocks, in bytes, are left to the allocator, which pools them itself.
const SMALLEST: usize = 256 << 10;

/// Limit of the unused bytes at the peak of the memory in use. A training step of R50-FPN takes the same CPU time with
/// 64 MiB as with one eighth of 2 GB.
const LARGEST_RESERVE: usize = 64 << 20;

/// Returns the memory in the pool to the allocator.
///
/// Tensors that are still in use keep their memory. Call this function in a program that continues after inference
/// or training.
pub fn release_cpu_memory() {
    let waiting = std::mem::take(&mut pool().waiting);
    pool().waiting_bytes = 0;
    drop(waiting);
}

/// A tensor of `shape`; `compute` must write all of its values.
pub(crate) fn write<const D: usize>(shape: [usize; D], compute: impl FnOnce(Output)) -> FlexTensor {
    // On 32 bits a product that wraps around would give a block that is too small.
    let len = shape
        .iter()
        .try_fold(1, |len: usize, &side| len.checked_mul(side));
    let shape = Shape::new(shape);
    let mut values = Uninit::new(len.unwrap_or_else(|| too_large(&shape)));
    compute(values.output());
    // SAFETY: CPU operators write every value of their results.
    unsafe { values.into_tensor(shape) }
}

/// The tensor, contiguous over its whole storage; copied only if it is not. If nothing else refers to the tensor, the
/// result can be written in place.
pub(crate) fn contiguous(tensor: FlexTensor) -> FlexTensor {
    let whole = tensor.is_contiguous()
        && tensor.layout().start_offset() == 0
        && tensor.bytes().len() == tensor.layout().num_elements() * size_of::<f32>();
    if whole {
        tensor
    } else {
        tensor.to_contiguous()
    }
}

/// Uninitialized f32 values, which must be written before they are read.
pub(crate) struct Uninit {
    block: Block,
    len: usize,
}

impl Uninit {
    pub fn new(len: usize) -> Self {
        let bytes = len.checked_mul(size_of::<f32>());
        let bytes = bytes.unwrap_or_else(|| too_large(&len)).max(1);
        let block = match bytes {
            0..SMALLEST => Block::new(bytes),
            _ => pool().take(bytes),
        };
        Self { block, len }
    }

    /// Access for threads that write.
    pub fn output(&mut self) -> Output {
        // SAFETY: the block has room for `len` values and outlives the writing: it is borrowed from
        // `self`, of which nothing but `into_tensor` can be called.
        unsafe { Output::from_raw(self.block.start.as_ptr().cast(), self.len) }
    }

    /// # Safety
    ///
    /// Every value must have been written.
    pub unsafe fn into_tensor(self, shape: Shape) -> FlexTensor {
        assert_eq!(shape.num_elements(), self.len);
        let controller = Box::new(Controller(Some(self.block)));
        // SAFETY: the caller guarantees that the values are initialized.
        let bytes = unsafe { Bytes::from_controller(controller, self.len * size_of::<f32>()) };
        FlexTensor::new(bytes, Layout::contiguous(shape), DType::F32)
    }
}

/// Panics with the message of a failed allocation: the browser demo reports `capacity overflow` as out of memory.
fn too_large(size: &dyn std::fmt::Debug) -> ! {
    panic!("capacity overflow: a tensor of {size:?} does not fit into the address space")
}

/// Allocated memory.
struct Block {
    start: NonNull<u8>,
    bytes: usize,
}

// SAFETY: a block owns its memory.
unsafe impl Send for Block {}
// SAFETY: shared blocks are only read.
unsafe impl Sync for Block {}

impl Block {
    fn new(bytes: usize) -> Self {
        let layout = Self::layout(bytes);
        // SAFETY: the size is not zero.
        let start = unsafe { alloc(layout) };
        let Some(start) = NonNull::new(start) else {
            handle_alloc_error(layout)
        };
        Self { start, bytes }
    }

    fn layout(bytes: usize) -> AllocationLayout {
        let layout = AllocationLayout::from_size_align(bytes, ALIGNMENT);
        layout.unwrap_or_else(|_| too_large(&bytes))
    }
}

impl Drop for Block {
    fn drop(&mut self) {
        // SAFETY: allocated with this layout.
        unsafe { dealloc(self.start.as_ptr(), Self::layout(self.bytes)) }
    }
}

/// Owner of a tensor's block, which returns it to the pool when dropped.
struct Controller(Option<Block>);

impl Controller {
    fn block(&self) -> &Block {
        self.0.as_ref().expect("taken by drop only")
    }
}

impl AllocationController for Controller {
    /// The alignment of the values, with which copies of the tensor are allocated.
    fn alloc_align(&self) -> usize {
        align_of::<f32>()
    }

    fn property(&self) -> AllocationProperty {
        AllocationProperty::Other
    }

    unsafe fn memory_mut(
        &mut self,
        _policy: AccessPolicy,
    ) -> Result<&mut [MaybeUninit<u8>], AccessError> {
        let block = self.block();
        // SAFETY: the block's own memory, exclusive because `self` is.
        Ok(unsafe { std::slice::from_raw_parts_mut(block.start.as_ptr().cast(), block.bytes) })
    }

    fn memory(&self, _policy: AccessPolicy) -> Result<&[MaybeUninit<u8>], AccessError> {
        let block = self.block();
        // SAFETY: the block's own memory.
        Ok(unsafe { std::slice::from_raw_parts(block.start.as_ptr().cast(), block.bytes) })
    }
}

impl Drop for Controller {
    fn drop(&mut self) {
        if let Some(block) = self.0.take()
            && block.bytes >= SMALLEST
        {
            pool().give(block);
        }
    }
}

/// Unused blocks, by their size in bytes.
struct Pool {
    waiting: BTreeMap<usize, Vec<Block>>,
    waiting_bytes: usize,
    used_bytes: usize,
    /// The peak of `used_bytes`.
    peak_bytes: usize,
}

static POOL: Mutex<Pool> = Mutex::new(Pool {
    waiting: BTreeMap::new(),
    waiting_bytes: 0,
    used_bytes: 0,
    peak_bytes: 0,
});

fn pool() -> MutexGuard<'static, Pool> {
    // A panic in a method cannot leave the pool inconsistent.
    POOL.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Pool {
    fn take(&mut self, bytes: usize) -> Block {
        let fitting = self.waiting.range(bytes..=bytes + bytes / 8).next();
        let block = match fitting.map(|(&size, _)| size) {
            Some(size) => self.remove(size),
            None => {
                let used = self.used_bytes + bytes;
                let peak = self.peak_bytes.max(used);
                self.shrink(peak - used + (peak / 8).min(LARGEST_RESERVE));
                Block::new(bytes)
            }
        };
        self.used_bytes += block.bytes;
        self.peak_bytes = self.peak_bytes.max(self.used_bytes);
        block
    }

    fn give(&mut self, block: Block) {
        self.used_bytes -= block.bytes;
        self.waiting_bytes += block.bytes;
        self.waiting.entry(block.bytes).or_default().push(block);
    }

    fn remove(&mut self, size: usize) -> Block {
        let blocks = self.waiting.get_mut(&size).expect("a size of the pool");
        let block = blocks.pop().expect("sizes without blocks are removed");
        if blocks.is_empty() {
            self.waiting.remove(&size);
        }
        self.waiting_bytes -= block.bytes;
        block
    }

    /// Frees the largest blocks until at most `bytes` are unused.
    fn shrink(&mut self, bytes: usize) {
        while self.waiting_bytes > bytes {
            let Some((&size, _)) = self.waiting.last_key_value() else {
                break;
            };
            drop(self.remove(size));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn empty() -> Pool {
        Pool {
            waiting: BTreeMap::new(),
            waiting_bytes: 0,
            used_bytes: 0,
            peak_bytes: 0,
        }
    }

    #[test]
    fn a_block_is_taken_again_by_what_fits_it() {
        let mut pool = empty();
        // One eighth of it is left for unused blocks.
        let large = pool.take(100_000);
        let block = pool.take(1000);
        let start = block.start;
        pool.give(block);
        let larger = pool.take(1001);
        let smaller = pool.take(800);
        let same = pool.take(900);
        drop(large);
        assert_eq!(same.start, start);
        assert_ne!(larger.start, start);
        assert_ne!(smaller.start, start);
    }

    #[test]
    fn memory_stays_near_the_peak_of_what_was_in_use() {
        let mut pool = empty();
        for size in [1000, 2000, 4000, 1500, 3000, 700, 5000, 100] {
            let blocks = [pool.take(size), pool.take(size / 2)];
            let all = pool.used_bytes + pool.waiting_bytes;
            assert!(
                all <= pool.peak_bytes + pool.peak_bytes / 8,
                "{size}: {all}"
            );
            blocks.into_iter().for_each(|block| pool.give(block));
            assert_eq!(pool.used_bytes, 0);
        }
        assert_eq!(pool.peak_bytes, 7500);
    }

    #[test]
    fn a_size_that_wraps_around_is_no_small_block() {
        let wraps = [1 << (usize::BITS / 2), 1 << (usize::BITS / 2), 3];
        let written = std::panic::catch_unwind(|| write(wraps, |_| panic!("is written")));
        let message = written.unwrap_err().downcast::<String>().expect("a text");
        assert!(message.starts_with("capacity overflow"), "{message}");
        assert!(std::panic::catch_unwind(|| Uninit::new(usize::MAX / 2)).is_err());
        assert!(std::panic::catch_unwind(|| Block::new(isize::MAX as usize)).is_err());
    }

    #[test]
    fn a_tensor_reads_what_was_written() {
        let len = SMALLEST / 4;
        for _ in 0..2 {
            let mut values = Uninit::new(len);
            let output = values.output();
            // SAFETY: the only slice.
            unsafe { output.slice(0, len) }.fill(2.5);
            // SAFETY: written above.
            let tensor = unsafe { values.into_tensor(Shape::new([len])) };
            let mut copy = tensor.clone();
            copy.storage_mut::<f32>()[0] = 1.0;
            assert_eq!(tensor.storage::<f32>()[0], 2.5);
            assert_eq!(
                copy.into_data().as_slice::<f32>().expect("f32")[..2],
                [1.0, 2.5]
            );
        }
    }
}
