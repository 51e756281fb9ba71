//! SIMD128 of WebAssembly. It has no fused multiply-add outside the relaxed extension.

use super::Simd;
use std::arch::wasm32::*;

#[derive(Clone, Copy)]
pub struct Simd128;

impl Simd for Simd128 {
    type Vector = v128;
    const LANES: usize = 4;
    // V8 has 15 registers on x86. With four rows it keeps sums in memory, with two in registers, and a multiplication
    // and an addition of six sums each are enough to hide their latency.
    const ROWS: usize = 2;

    #[inline(always)]
    unsafe fn zero() -> v128 {
        f32x4_splat(0.0)
    }

    #[inline(always)]
    unsafe fn load(from: *const f32) -> v128 {
        // SAFETY: guaranteed by the caller, as in every method below.
        unsafe { v128_load(from.cast()) }
    }

    #[inline(always)]
    unsafe fn store(to: *mut f32, value: v128) {
        unsafe { v128_store(to.cast(), value) }
    }

    #[inline(always)]
    unsafe fn splat(from: *const f32) -> v128 {
        unsafe { v128_load32_splat(from.cast()) }
    }

    #[inline(always)]
    unsafe fn mul_add(a: v128, b: v128, c: v128) -> v128 {
        f32x4_add(f32x4_mul(a, b), c)
    }

    #[inline(always)]
    unsafe fn sum(value: v128) -> f32 {
        let swapped = i32x4_shuffle::<1, 0, 3, 2>(value, value);
        let pairs = f32x4_add(value, swapped);
        f32x4_extract_lane::<0>(pairs) + f32x4_extract_lane::<2>(pairs)
    }
}
