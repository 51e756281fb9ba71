//! Number formats: what was asked for, what a device computes in.

use burn::tensor::{DType, Device, FloatDType};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;
use thiserror::Error;

/// What activations are kept in and multiplied in. Weights, statistics, losses and the optimizer are f32
/// in all of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Precision {
    /// What the device does best: TF32 on CUDA cards from sm80 on, f16 on sm70 and sm75, else f32.
    #[default]
    Auto,
    /// 24 bits of significand.
    F32,
    /// f32 in memory, 11 bits where matrices are multiplied.
    Tf32,
    /// 11 bits, up to 65504; training scales its losses.
    F16,
    /// 8 bits, as far as f32.
    Bf16,
}

impl Precision {
    /// All by name, in the order of the help.
    pub const NAMES: [(&str, Self); 5] = [
        ("auto", Self::Auto),
        ("f32", Self::F32),
        ("tf32", Self::Tf32),
        ("f16", Self::F16),
        ("bf16", Self::Bf16),
    ];

    /// What `device` computes in; errs where it cannot do what was asked for. Opens the device.
    pub fn resolve(self, device: &Device) -> Result<Resolved, PrecisionError> {
        Abilities::of(device).choose(self)
    }

    /// What `device` can be asked for.
    pub fn of(device: &Device) -> Vec<Self> {
        let abilities = Abilities::of(device);
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

/// A precision that a device has, and why it was taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Resolved {
    precision: Precision,
    reason: &'static str,
}

impl Resolved {
    /// Every device has it, if only rounded to TF32 in matrix products.
    pub const F32: Self = Self {
        precision: Precision::F32,
        reason: "nothing else was asked for",
    };

    /// Never [`Precision::Auto`].
    pub fn precision(self) -> Precision {
        self.precision
    }

    /// Why, for a person.
    pub fn reason(self) -> &'static str {
        self.reason
    }

    /// The format of activations.
    pub fn format(self) -> FloatDType {
        match self.precision {
            Precision::F16 => FloatDType::F16,
            Precision::Bf16 => FloatDType::BF16,
            Precision::Auto | Precision::F32 | Precision::Tf32 => FloatDType::F32,
        }
    }
}

/// Why a precision cannot be used.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum PrecisionError {
    /// No such name.
    #[error("`{0}` is no precision; there are auto, f32, tf32, f16 and bf16")]
    Unknown(String),
    /// The device does not have it.
    #[error("precision {asked} on {device}: {reason}")]
    Refused {
        /// What was asked for.
        asked: Precision,
        /// Which kind of device.
        device: String,
        /// Why, and what to take.
        reason: &'static str,
    },
}

/// What multiplies matrices.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
// What a build without GPUs cannot have.
#[cfg_attr(not(any(feature = "wgpu", feature = "cuda")), allow(dead_code))]
enum Units {
    Processor,
    WebGpu,
    /// A CUDA card: 10 times its compute capability.
    Cuda(u32),
}

/// What decides.
#[derive(Clone, Copy, Debug)]
struct Abilities {
    units: Units,
    f16: bool,
    bf16: bool,
}

impl Abilities {
    fn of(device: &Device) -> Self {
        let device = device.clone().inner();
        Self {
            units: units(&device),
            f16: device.supports_dtype(DType::F16),
            bf16: device.supports_dtype(DType::BF16),
        }
    }

    fn choose(self, asked: Precision) -> Result<Resolved, PrecisionError> {
        let taken = |precision, reason| Ok(Resolved { precision, reason });
        let refused = |reason| {
            Err(PrecisionError::Refused {
                asked,
                device: self.units.to_string(),
                reason,
            })
        };
        match (asked, self.units) {
            (Precision::Auto, Units::Cuda(80..)) => taken(
                Precision::Tf32,
                "its matrix units take f32 rounded to TF32, and no loss has to be scaled",
            ),
            (Precision::Auto, Units::Cuda(70..)) if self.f16 => {
                taken(Precision::F16, "its matrix units take f16 only")
            }
            (Precision::Auto, _) => taken(
                Precision::F32,
                "it has no matrix units that are used, and halves would only cost precision",
            ),
            (Precision::F32, Units::Cuda(80..)) => refused(
                "Burn multiplies f32 as TF32 on cards from sm80 on and cannot be told not to: take \
                 tf32, which is that, or another --backend (wgpu, cpu) for all of f32's bits",
            ),
            (Precision::Tf32, Units::Cuda(80..)) => taken(asked, "it was asked for"),
            (Precision::Tf32, _) => {
                refused("TF32 is what CUDA cards from sm80 on compute in: take f32")
            }
            (Precision::F16, Units::WebGpu) if !self.f16 => refused(
                "the adapter has no `shader-f16`: take f32, or install a newer driver of the card",
            ),
            (Precision::F16, _) if !self.f16 => refused("it has no f16 arithmetic: take f32"),
            (Precision::Bf16, Units::Cuda(..80)) => {
                refused("bf16 is emulated on cards before sm80, without matrix units: take f16")
            }
            (Precision::Bf16, Units::WebGpu) if !self.bf16 => {
                refused("WebGPU has no bf16: take f16 where the adapter has it, else f32")
            }
            (Precision::Bf16, _) if !self.bf16 => refused("it has no bf16 arithmetic: take f32"),
            (Precision::F32 | Precision::F16 | Precision::Bf16, _) => {
                taken(asked, "it was asked for")
            }
        }
    }
}

impl fmt::Display for Units {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Processor => f.write_str("the processor"),
            Self::WebGpu => f.write_str("a wgpu device"),
            Self::Cuda(architecture) => write!(f, "a CUDA card of sm{architecture}"),
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
        _ => Units::Processor,
    }
}

#[cfg(not(any(feature = "wgpu", feature = "cuda")))]
fn units(_device: &Device) -> Units {
    Units::Processor
}

/// 90 of `ptx_sm90`; none for what is no CUDA target.
pub(crate) fn architecture(target: &str) -> Option<u32> {
    let rest = target.split("sm").nth(1)?.trim_start_matches('_');
    let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
    digits.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const WITH_HALVES: [bool; 2] = [true, true];

    fn choose(asked: Precision, units: Units, [f16, bf16]: [bool; 2]) -> Result<Precision, String> {
        let found = Abilities { units, f16, bf16 }.choose(asked);
        found
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
        for (units, wanted) in [
            (Units::Cuda(61), Precision::F32),
            (Units::Cuda(70), Precision::F16),
            (Units::Cuda(75), Precision::F16),
            (Units::Cuda(80), Precision::Tf32),
            (Units::Cuda(90), Precision::Tf32),
            (Units::WebGpu, Precision::F32),
            (Units::Processor, Precision::F32),
        ] {
            assert_eq!(choose(Precision::Auto, units, WITH_HALVES), Ok(wanted));
        }
    }

    #[test]
    fn what_a_device_cannot_do_is_refused_with_what_to_take() {
        use Precision::{Bf16, F16, F32, Tf32};
        for (asked, units, halves, wanted) in [
            (F32, Units::Cuda(90), WITH_HALVES, "take tf32"),
            (Tf32, Units::Cuda(75), WITH_HALVES, "take f32"),
            (
                Tf32,
                Units::Processor,
                WITH_HALVES,
                "precision tf32 on the processor",
            ),
            (Bf16, Units::Cuda(75), WITH_HALVES, "take f16"),
            (F16, Units::WebGpu, [false, false], "shader-f16"),
            (Bf16, Units::WebGpu, [true, false], "WebGPU has no bf16"),
            (F16, Units::Cuda(52), [false, false], "take f32"),
        ] {
            let error = choose(asked, units, halves).unwrap_err();
            assert!(error.contains(wanted), "{error}, wanted {wanted}");
        }
        for (asked, units) in [
            (Bf16, Units::Cuda(80)),
            (F16, Units::Cuda(90)),
            (F16, Units::WebGpu),
            (F32, Units::Cuda(75)),
            (Bf16, Units::Processor),
        ] {
            assert_eq!(choose(asked, units, WITH_HALVES), Ok(asked));
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
    fn the_processor_takes_halves() {
        let device = Device::flex();
        let auto = Precision::Auto.resolve(&device).unwrap();
        assert_eq!(auto.precision(), Precision::F32);
        let wanted = [Precision::F32, Precision::F16, Precision::Bf16];
        assert_eq!(Precision::of(&device), wanted);
        let half = Precision::Bf16.resolve(&device.autodiff()).unwrap();
        assert_eq!(half.format(), FloatDType::BF16);
    }
}
