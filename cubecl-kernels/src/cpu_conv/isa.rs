//! Selection of the instruction set: the best one of the CPU, or the one in
//! `MRCNN_CPU_ISA`.

use super::kernels::{Dots, GROUP, Product, WIDTH, dots, lane_sums, product};
use super::simd::{Simd, plain::Plain};
use std::sync::OnceLock;

/// The environment variable with the name of an instruction set.
pub const ISA_VARIABLE: &str = "MRCNN_CPU_ISA";

/// The kernels of one instruction set.
pub struct Isa {
    /// `avx512`, `avx2`, `neon`, `simd128` or `plain`.
    pub name: &'static str,
    /// Values per vector.
    pub lanes: usize,
    product: unsafe fn(&Product),
    dots: unsafe fn(&Dots),
    lane_sums: unsafe fn(*const f32, &mut [f32; GROUP * WIDTH]),
}

impl Isa {
    /// Number of pixels per pass of [`Self::product`].
    pub fn tile(&self) -> usize {
        WIDTH * self.lanes
    }

    /// Number of sums per pass of [`Self::dots`].
    pub fn dot_sums(&self) -> usize {
        GROUP * WIDTH * self.lanes
    }

    /// # Safety
    ///
    /// Every operand must have the length documented at [`Product`]; `sums` and `input` must have whole tiles.
    pub unsafe fn product(&self, args: &Product) {
        // SAFETY: an `Isa` exists only if the CPU supports it; the caller guarantees the operands.
        unsafe { (self.product)(args) }
    }

    /// # Safety
    ///
    /// Every operand must have the length documented at [`Dots`].
    pub unsafe fn dots(&self, args: &Dots) {
        // SAFETY: an `Isa` exists only if the CPU supports it; the caller guarantees the operands.
        unsafe { (self.dots)(args) }
    }

    /// The sums of the lanes of each of `sums [GROUP, WIDTH, lanes]`.
    pub fn lane_sums(&self, sums: &[f32]) -> [f32; GROUP * WIDTH] {
        assert_eq!(sums.len(), self.dot_sums());
        let mut results = [0.0; GROUP * WIDTH];
        // SAFETY: an `Isa` exists only if the CPU supports it; the length was checked.
        unsafe { (self.lane_sums)(sums.as_ptr(), &mut results) }
        results
    }
}

/// Kernels compiled for an instruction set: the generic loops, inlined into functions with that target feature.
macro_rules! isa {
    ($constant:ident, $name:literal, $simd:ty $(, $feature:literal)?) => {
        static $constant: Isa = {
            $(#[target_feature(enable = $feature)])?
            unsafe fn product_kernel(args: &Product) {
                // SAFETY: guaranteed by the caller.
                unsafe { product::<$simd, { <$simd as Simd>::ROWS }>(args) }
            }
            $(#[target_feature(enable = $feature)])?
            unsafe fn dots_kernel(args: &Dots) {
                // SAFETY: guaranteed by the caller.
                unsafe { dots::<$simd, { <$simd as Simd>::ROWS }>(args) }
            }
            $(#[target_feature(enable = $feature)])?
            unsafe fn lane_sums_kernel(sums: *const f32, results: &mut [f32; GROUP * WIDTH]) {
                // SAFETY: guaranteed by the caller.
                unsafe { lane_sums::<$simd>(sums, results) }
            }
            Isa {
                name: $name,
                lanes: <$simd as Simd>::LANES,
                product: product_kernel,
                dots: dots_kernel,
                lane_sums: lane_sums_kernel,
            }
        };
    };
}

isa!(PLAIN, "plain", Plain);
#[cfg(target_arch = "x86_64")]
isa!(AVX512, "avx512", super::simd::x86::Avx512, "avx512f");
#[cfg(target_arch = "x86_64")]
isa!(AVX2, "avx2", super::simd::x86::Avx2, "avx2,fma");
#[cfg(target_arch = "aarch64")]
isa!(NEON, "neon", super::simd::neon::Neon, "neon");
#[cfg(all(target_arch = "wasm32", target_feature = "simd128"))]
isa!(SIMD128, "simd128", super::simd::wasm::Simd128);

/// The instruction sets of this CPU, the best first; `plain` is the last of them.
pub fn available() -> Vec<&'static Isa> {
    let mut sets: Vec<&'static Isa> = Vec::new();
    #[cfg(target_arch = "x86_64")]
    {
        if std::arch::is_x86_feature_detected!("avx512f") {
            sets.push(&AVX512);
        }
        if std::arch::is_x86_feature_detected!("avx2") && std::arch::is_x86_feature_detected!("fma")
        {
            sets.push(&AVX2);
        }
    }
    #[cfg(target_arch = "aarch64")]
    sets.push(&NEON);
    #[cfg(all(target_arch = "wasm32", target_feature = "simd128"))]
    sets.push(&SIMD128);
    sets.push(&PLAIN);
    sets
}

/// The instruction set in use, selected once per process.
///
/// # Panics
///
/// If `MRCNN_CPU_ISA` names one that this CPU does not have.
pub fn selected() -> &'static Isa {
    static SELECTED: OnceLock<&'static Isa> = OnceLock::new();
    SELECTED.get_or_init(|| {
        let sets = available();
        let Ok(wanted) = std::env::var(ISA_VARIABLE) else {
            return sets[0];
        };
        let names: Vec<_> = sets.iter().map(|isa| isa.name).collect();
        let found = sets.iter().find(|isa| isa.name == wanted.trim());
        found
            .copied()
            .unwrap_or_else(|| panic!("{ISA_VARIABLE}={wanted}: this CPU has {}", names.join(", ")))
    })
}
