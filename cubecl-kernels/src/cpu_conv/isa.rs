//! Selection of the instruction set: the best one of the CPU, or the one in
//! `MRCNN_CPU_ISA`.

use super::kernels::{Dots, GROUP, Product, WIDTH, dots, lane_sums, product};
use super::simd::{Simd, plain::Plain};
use std::ffi::OsStr;
use std::fmt;
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
    /// Every operand but `ahead` must have the length documented at [`Product`]; `sums` and `input` must have whole
    /// tiles.
    pub unsafe fn product(&self, args: &Product) {
        // SAFETY: an `Isa` exists only if the CPU supports it; the caller guarantees the operands.
        unsafe { (self.product)(args) }
    }

    /// # Safety
    ///
    /// Every operand but `ahead` must have the length documented at [`Dots`].
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
#[allow(clippy::vec_init_then_push, reason = "some targets have no other set")]
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

/// The instruction set in `MRCNN_CPU_ISA` is not supported by this CPU.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnknownIsa {
    /// The value of the variable.
    pub value: String,
    /// The instruction sets of this CPU.
    pub available: Vec<&'static str>,
}

impl fmt::Display for UnknownIsa {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let available = self.available.join(", ");
        let value = &self.value;
        write!(
            f,
            "{ISA_VARIABLE}={value:?} is not an instruction set of this CPU; set it to one of {available}, or unset it"
        )
    }
}

impl std::error::Error for UnknownIsa {}

/// The instruction set with the name in `MRCNN_CPU_ISA`, or the best one if the variable is not set.
fn named(value: Option<&OsStr>) -> Result<&'static Isa, UnknownIsa> {
    let sets = available();
    let Some(value) = value else {
        return Ok(sets[0]);
    };
    let value = value.to_string_lossy();
    let found = sets.iter().find(|isa| isa.name == value.trim());
    found.copied().ok_or_else(|| UnknownIsa {
        value: value.chars().take(80).collect(),
        available: sets.iter().map(|isa| isa.name).collect(),
    })
}

/// Checks `MRCNN_CPU_ISA`, the name of the instruction set of the CPU kernels. Programs call this before their first
/// kernel, which panics if this CPU does not have the instruction set.
pub fn check_isa() -> Result<(), UnknownIsa> {
    named(std::env::var_os(ISA_VARIABLE).as_deref()).map(drop)
}

/// The instruction set in use, selected once per process.
///
/// # Panics
///
/// If `MRCNN_CPU_ISA` names one that this CPU does not have; see [`check_isa`].
pub fn selected() -> &'static Isa {
    static SELECTED: OnceLock<&'static Isa> = OnceLock::new();
    SELECTED.get_or_init(|| {
        let wanted = std::env::var_os(ISA_VARIABLE);
        named(wanted.as_deref()).unwrap_or_else(|error| panic!("{error}"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_isa_is_named_or_the_best_is_taken() {
        assert_eq!(named(None).unwrap().name, available()[0].name);
        assert_eq!(named(Some(OsStr::new(" plain "))).unwrap().name, "plain");
        let error = named(Some(OsStr::new("sse9"))).err().unwrap();
        let message = error.to_string();
        assert!(
            message.contains("MRCNN_CPU_ISA=\"sse9\"") && message.contains("plain"),
            "{message}"
        );
        assert!(named(Some(OsStr::new(""))).is_err());
    }
}
