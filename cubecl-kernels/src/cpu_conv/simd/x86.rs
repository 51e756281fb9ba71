//! AVX-512 and AVX2 with FMA.

use super::Simd;
use std::arch::{asm, x86_64::*};

#[derive(Clone, Copy)]
pub struct Avx512;

impl Simd for Avx512 {
    type Vector = __m512;
    const LANES: usize = 16;
    const ROWS: usize = 8;

    #[inline(always)]
    unsafe fn zero() -> __m512 {
        // SAFETY: guaranteed by the caller, as in every method below.
        unsafe { _mm512_setzero_ps() }
    }

    #[inline(always)]
    unsafe fn load(from: *const f32) -> __m512 {
        unsafe { _mm512_loadu_ps(from) }
    }

    #[inline(always)]
    unsafe fn store(to: *mut f32, value: __m512) {
        unsafe { _mm512_storeu_ps(to, value) }
    }

    #[inline(always)]
    unsafe fn splat(from: *const f32) -> __m512 {
        unsafe { _mm512_set1_ps(*from) }
    }

    #[inline(always)]
    unsafe fn mul_add(a: __m512, b: __m512, c: __m512) -> __m512 {
        unsafe { _mm512_fmadd_ps(a, b, c) }
    }

    #[inline(always)]
    unsafe fn prefetch(from: *const f32) {
        unsafe { _mm_prefetch::<_MM_HINT_T1>(from.cast()) }
    }

    #[inline(always)]
    unsafe fn sum(value: __m512) -> f32 {
        unsafe {
            let low = _mm512_castps512_ps256(value);
            let high = _mm512_extractf64x4_pd::<1>(_mm512_castps_pd(value));
            Avx2::sum(_mm256_add_ps(low, _mm256_castpd_ps(high)))
        }
    }
}

#[derive(Clone, Copy)]
pub struct Avx2;

impl Simd for Avx2 {
    type Vector = __m256;
    const LANES: usize = 8;
    const ROWS: usize = 4;

    #[inline(always)]
    unsafe fn zero() -> __m256 {
        // SAFETY: guaranteed by the caller, as in every method below.
        unsafe { _mm256_setzero_ps() }
    }

    #[inline(always)]
    unsafe fn load(from: *const f32) -> __m256 {
        unsafe { _mm256_loadu_ps(from) }
    }

    #[inline(always)]
    unsafe fn store(to: *mut f32, value: __m256) {
        unsafe { _mm256_storeu_ps(to, value) }
    }

    #[allow(
        clippy::pointers_in_nomem_asm_block,
        reason = "the block only names the register"
    )]
    #[inline(always)]
    unsafe fn splat(from: *const f32) -> __m256 {
        // The products need all 16 registers. If the compiler can prove that the loads of a row's weights are
        // independent, it moves them up and runs out of registers, and convolutions take 1.8 to 2.2 times as long
        // (benches/RESULTS.md, 2026-11-30), so the pointer is hidden from it.
        let hidden: *const f32;
        unsafe {
            asm!("/* {0} */", inout(reg) from => hidden, options(pure, nomem, nostack, preserves_flags));
            _mm256_broadcast_ss(&*hidden)
        }
    }

    #[inline(always)]
    unsafe fn mul_add(a: __m256, b: __m256, c: __m256) -> __m256 {
        unsafe { _mm256_fmadd_ps(a, b, c) }
    }

    #[inline(always)]
    unsafe fn prefetch(from: *const f32) {
        unsafe { _mm_prefetch::<_MM_HINT_T1>(from.cast()) }
    }

    #[inline(always)]
    unsafe fn sum(value: __m256) -> f32 {
        unsafe {
            let low = _mm256_castps256_ps128(value);
            let four = _mm_add_ps(low, _mm256_extractf128_ps::<1>(value));
            let two = _mm_add_ps(four, _mm_movehl_ps(four, four));
            _mm_cvtss_f32(_mm_add_ss(two, _mm_shuffle_ps::<1>(two, two)))
        }
    }
}
