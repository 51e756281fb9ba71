//! The vector operations of the CPU kernels, one implementation per instruction set.

#[cfg(target_arch = "aarch64")]
pub mod neon;
pub mod plain;
#[cfg(all(target_arch = "wasm32", target_feature = "simd128"))]
pub mod wasm;
#[cfg(target_arch = "x86_64")]
pub mod x86;

/// Vectors of f32.
///
/// Each method is unsafe for two reasons: the instruction set must be present, and pointers must be
/// valid for `LANES` values (one value for `splat`). No alignment is needed.
pub trait Simd: Copy {
    /// One vector.
    type Vector: Copy;
    /// Values per vector.
    const LANES: usize;
    /// Rows of [`GROUP`](super::GROUP) that are kept in registers at a time: 2, 4 or 8.
    const ROWS: usize;

    unsafe fn zero() -> Self::Vector;
    unsafe fn load(from: *const f32) -> Self::Vector;
    unsafe fn store(to: *mut f32, value: Self::Vector);
    /// `*from` in every lane.
    unsafe fn splat(from: *const f32) -> Self::Vector;
    /// `a * b + c`, rounded once where the instruction set has such an operation.
    unsafe fn mul_add(a: Self::Vector, b: Self::Vector, c: Self::Vector) -> Self::Vector;
    /// The sum of the lanes, in a fixed order.
    unsafe fn sum(value: Self::Vector) -> f32;
    /// Starts to load the cache line of `from` into the second-level cache, where there is an instruction for it. The
    /// pointer may be invalid.
    unsafe fn prefetch(_from: *const f32) {}
}
