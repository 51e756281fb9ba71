//! Precision policy: the requested precision, and the one that a device computes in.

use burn::tensor::{DType, Device, FloatDType};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;
use thiserror::Error;

/// Dtype of activations and matrix products. Weights, statistics, losses and the optimizer are f32 in every precision.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Precision {
    /// The best precision of the device: TF32 on CUDA GPUs from sm80 on, f16 on sm70 and sm75, otherwise f32.
    #[default]
    Auto,
    /// 24 bits of significand.
    F32,
    /// f32 in memory, 11 bits of significand in matrix products.
    Tf32,
    /// 11 bits of significand, up to 65504; training scales its losses.
    F16,
    /// 8 bits of significand, with the range of f32.
    Bf16,
}

impl Precision {
    /// All names, in the order of the help text.
    pub const NAMES: [(&str, Self); 5] = [
        ("auto", Self::Auto),
        ("f32", Self::F32),
        ("tf32", Self::Tf32),
        ("f16", Self::F16),
        ("bf16", Self::Bf16),
    ];

    /// The precision that `device` computes in. Fails if the device does not support the requested one. Opens the
    /// device.
    pub fn resolve(self, device: &Device) -> Result<Resolved, PrecisionError> {
        Capabilities::of(device).choose(self)
    }

    /// The precisions that `device` supports.
    pub fn of(device: &Device) -> Vec<Self> {
        let abilities = Capabilities::of(device);
        let all = Self::NAMES.into_iter().map(|(_, precision)| precision);
        all.filter(|&precision| precision != Self::Auto && abilities.choose(precision).is_ok())
            .collect()
    }
}

impl fmt::Display for Precision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let named = Self::NAMES
            .into_iter()
            .find(|(_, precision)| precision == self);
        f.write_str(named.map_or("auto", |(name, _)| name))
    }
}

impl FromStr for Precision {
    type Err = PrecisionError;

    fn from_str(text: &str) -> Result<Self, PrecisionError> {
        let named = Self::NAMES.into_iter().find(|(name, _)| *name == text);
        named
            .map(|(_, precision)| precision)
            .ok_or_else(|| PrecisionError::Unknown(text.into()))
    }
}

/// A selected precision that the device supports, and the reason.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Resolved {
    precision: Precision,
    reason: &'static str,
}

impl Resolved {
    /// f32, which every device supports, though matrix products may be rounded to TF32.
    pub const F32: Self = Self {
        precision: Precision::F32,
        reason: "the default",
    };

    /// The precision, never [`Precision::Auto`].
    pub fn precision(self) -> Precision {
        self.precision
    }

    /// The reason, as text.
    pub fn reason(self) -> &'static str {
        self.reason
    }

    /// Dtype of activations.
    pub fn dtype(self) -> FloatDType {
        match self.precision {
            Precision::F16 => FloatDType::F16,
            Precision::Bf16 => FloatDType::BF16,
            Precision::Auto | Precision::F32 | Precision::Tf32 => FloatDType::F32,
        }
    }
}

/// Errors of precisions.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum PrecisionError {
    /// The name does not exist.
    #[error("precision `{0}` does not exist; use auto, f32, tf32, f16 or bf16")]
    Unknown(String),
    /// The device does not support it.
    #[error("precision {requested} on {device}: {reason}")]
    Refused {
        /// The requested precision.
        requested: Precision,
        /// Kind of the device.
        device: String,
        /// The reason, and what to use.
        reason: &'static str,
    },
}

/// Units for matrix products.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
// A build without GPUs has no other variants.
#[cfg_attr(not(any(feature = "wgpu", feature = "cuda")), allow(dead_code))]
enum Units {
    Cpu,
    WebGpu,
    /// A CUDA GPU, with 10 times its compute capability.
    Cuda(u32),
}

/// Capabilities of a device.
#[derive(Clone, Copy, Debug)]
struct Capabilities {
    units: Units,
    f16: bool,
    bf16: bool,
}

impl Capabilities {
    fn of(device: &Device) -> Self {
        let device = device.clone().inner();
        Self {
            units: units(&device),
            f16: device.supports_dtype(DType::F16),
            bf16: device.supports_dtype(DType::BF16),
        }
    }

    fn choose(self, requested: Precision) -> Result<Resolved, PrecisionError> {
        let selected = |precision, reason| Ok(Resolved { precision, reason });
        let refused = |reason| {
            Err(PrecisionError::Refused {
                requested,
                device: self.units.to_string(),
                reason,
            })
        };
        match (requested, self.units) {
            (Precision::Auto, Units::Cuda(80..)) => selected(
                Precision::Tf32,
                "its matrix units take f32 rounded to TF32, without loss scaling",
            ),
            (Precision::Auto, Units::Cuda(70..)) if self.f16 => {
                selected(Precision::F16, "its matrix units take f16 only")
            }
            (Precision::Auto, Units::WebGpu) => selected(
                Precision::F32,
                "every GPU supports f32; f16 is used where it is requested",
            ),
            (Precision::Auto, _) => selected(
                Precision::F32,
                "it has no matrix units that are used, so f16 would only lose accuracy",
            ),
            (Precision::F32, Units::Cuda(80..)) => refused(
                "Burn computes f32 products as TF32 on GPUs from sm80 on and has no switch for it; use \
                 tf32, or another --backend (wgpu, cpu) for full f32",
            ),
            (Precision::Tf32, Units::Cuda(80..)) => selected(requested, "requested"),
            (Precision::Tf32, _) => refused("only CUDA GPUs from sm80 on have TF32; use f32"),
            (Precision::F16, Units::WebGpu) if !self.f16 => refused(
                "its driver has no f16 (`shader-f16`); use f32, or install a newer GPU driver",
            ),
            (Precision::F16, _) if !self.f16 => refused("it has no f16 arithmetic; use f32"),
            (Precision::Bf16, Units::Cuda(..80)) => {
                refused("bf16 is emulated on GPUs before sm80, without matrix units; use f16")
            }
            (Precision::Bf16, Units::WebGpu) if !self.bf16 => refused(
                "WebGPU has no bf16, and builds with the feature `vulkan` or `metal` have it only if the driver does; \
                 use f16 if the adapter supports it, or f32",
            ),
            (Precision::Bf16, _) if !self.bf16 => refused("it has no bf16 arithmetic; use f32"),
            (Precision::F32 | Precision::F16 | Precision::Bf16, _) => {
                selected(requested, "requested")
            }
        }
    }
}

impl fmt::Display for Units {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cpu => f.write_str("the CPU"),
            Self::WebGpu => f.write_str("a wgpu device"),
            Self::Cuda(architecture) => write!(f, "a CUDA GPU with sm{architecture}"),
        }
    }
}

#[cfg(any(feature = "wgpu", feature = "cuda"))]
fn units(device: &Device) -> Units {
    match device.as_dispatch() {
        burn::backend::DispatchDevice::Cube(_) => {
            let target = device.identity().map(|identity| identity.fingerprint);
            match target.as_deref().and_then(architecture) {
                Some(number) => Units::Cuda(number),
                None => Units::WebGpu,
            }
        }
        _ => Units::Cpu,
    }
}

#[cfg(not(any(feature = "wgpu", feature = "cuda")))]
fn units(_device: &Device) -> Units {
    Units::Cpu
}

/// 90 for `ptx_sm90`; `None` for targets other than CUDA.
pub(crate) fn architecture(target: &str) -> Option<u32> {
    let rest = target.split("sm").nth(1)?.trim_start_matches('_');
    let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
    digits.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const WITH_F16_AND_BF16: [bool; 2] = [true, true];

    fn choose(
        requested: Precision,
        units: Units,
        [f16, bf16]: [bool; 2],
    ) -> Result<Precision, String> {
        let resolved = Capabilities { units, f16, bf16 }.choose(requested);
        resolved
            .map(Resolved::precision)
            .map_err(|error| error.to_string())
    }

    #[test]
    fn names_read_back() {
        for (name, precision) in Precision::NAMES {
            assert_eq!(name.parse(), Ok(precision));
            assert_eq!(precision.to_string(), name);
        }
        let error = "fp16".parse::<Precision>().unwrap_err().to_string();
        assert!(error.contains("f16"), "{error}");
    }

    #[test]
    fn auto_follows_the_device() {
        for (units, expected) in [
            (Units::Cuda(61), Precision::F32),
            (Units::Cuda(70), Precision::F16),
            (Units::Cuda(75), Precision::F16),
            (Units::Cuda(80), Precision::Tf32),
            (Units::Cuda(90), Precision::Tf32),
            (Units::WebGpu, Precision::F32),
            (Units::Cpu, Precision::F32),
        ] {
            assert_eq!(
                choose(Precision::Auto, units, WITH_F16_AND_BF16),
                Ok(expected)
            );
        }
    }

    #[test]
    fn unsupported_precisions_are_refused_with_alternatives() {
        use Precision::{Bf16, F16, F32, Tf32};
        for (requested, units, dtypes, expected) in [
            (F32, Units::Cuda(90), WITH_F16_AND_BF16, "use tf32"),
            (Tf32, Units::Cuda(75), WITH_F16_AND_BF16, "use f32"),
            (
                Tf32,
                Units::Cpu,
                WITH_F16_AND_BF16,
                "precision tf32 on the CPU",
            ),
            (Bf16, Units::Cuda(75), WITH_F16_AND_BF16, "use f16"),
            (F16, Units::WebGpu, [false, false], "shader-f16"),
            (Bf16, Units::WebGpu, [true, false], "WebGPU has no bf16"),
            (F16, Units::Cuda(52), [false, false], "use f32"),
        ] {
            let error = choose(requested, units, dtypes).unwrap_err();
            assert!(error.contains(expected), "{error}, expected {expected}");
        }
        for (requested, units) in [
            (Bf16, Units::Cuda(80)),
            (F16, Units::Cuda(90)),
            (F16, Units::WebGpu),
            (F32, Units::Cuda(75)),
            (Bf16, Units::Cpu),
        ] {
            assert_eq!(choose(requested, units, WITH_F16_AND_BF16), Ok(requested));
        }
    }

    #[test]
    fn architectures_are_read_off_the_target() {
        let targets = ["ptx_sm90", "cuda_sm_75", "ptx_sm120"];
        assert_eq!(targets.map(architecture), [Some(90), Some(75), Some(120)]);
        assert_eq!(architecture("spirv_65541_0"), None);
    }

    #[cfg(feature = "flex")]
    #[test]
    fn the_cpu_supports_f16_and_bf16() {
        let device = Device::flex();
        let auto = Precision::Auto.resolve(&device).unwrap();
        assert_eq!(auto.precision(), Precision::F32);
        let expected = [Precision::F32, Precision::F16, Precision::Bf16];
        assert_eq!(Precision::of(&device), expected);
        let half = Precision::Bf16.resolve(&device.autodiff()).unwrap();
        assert_eq!(half.dtype(), FloatDType::BF16);
    }
}
