//! `--backend` and `--precision`: selection of the device and the dtype.

use crate::terminal::note;
use crate::{profile, stall};
use anyhow::Result;
use clap::{Args, ValueEnum};
use mrcnn_backends::{BackendKind, Precision, Resolved, Selected};
use mrcnn_core::select_device;

#[derive(Debug, Args)]
pub struct BackendArgs {
    /// Backend, which selects the device
    #[arg(long, value_enum, default_value = "auto")]
    backend: BackendName,
    /// Dtype of activations and matrix products; `doctor` lists those that a device supports
    #[arg(long, value_enum)]
    precision: Option<PrecisionName>,
}

/// A [`BackendKind`] with help.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum BackendName {
    /// CUDA, then a GPU through wgpu, then the CPU: the first that this machine has
    Auto,
    /// The cores of the CPU
    Cpu,
    /// A GPU through Vulkan, Metal or DirectX 12
    Wgpu,
    /// A GPU through OpenGL, which is slow and can stall
    WgpuGl,
    /// An NVIDIA GPU through CUDA
    Cuda,
}

impl From<BackendName> for BackendKind {
    fn from(name: BackendName) -> Self {
        match name {
            BackendName::Auto => Self::Auto,
            BackendName::Cpu => Self::Cpu,
            BackendName::Wgpu => Self::Wgpu,
            BackendName::WgpuGl => Self::WgpuGl,
            BackendName::Cuda => Self::Cuda,
        }
    }
}

/// A [`Precision`] with help.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum PrecisionName {
    /// tf32 on CUDA GPUs from sm80 on, f16 on sm70 and sm75, otherwise f32
    Auto,
    /// 24 bits of significand
    F32,
    /// f32 in memory, 11 bits of significand in matrix products
    Tf32,
    /// 11 bits of significand, values up to 65504; training scales its losses
    F16,
    /// 8 bits of significand, with the range of f32
    Bf16,
}

impl From<PrecisionName> for Precision {
    fn from(name: PrecisionName) -> Self {
        match name {
            PrecisionName::Auto => Self::Auto,
            PrecisionName::F32 => Self::F32,
            PrecisionName::Tf32 => Self::Tf32,
            PrecisionName::F16 => Self::F16,
            PrecisionName::Bf16 => Self::Bf16,
        }
    }
}

impl BackendArgs {
    /// Selects the device and prints it.
    pub fn select(&self) -> Result<Selected> {
        self.select_as(self.kind(), 0, true)
    }

    /// The precision on a device, auto by default; printed if `print`.
    pub fn precision(&self, backend: &Selected, print: bool) -> Result<Resolved> {
        let requested = self.precision.map_or(Precision::Auto, Precision::from);
        let precision = requested.resolve(&backend.device)?;
        if print {
            print_precision(precision);
        }
        Ok(precision)
    }

    /// The requested precision as an override of the configuration.
    pub fn precision_override(&self) -> Option<String> {
        let requested = Precision::from(self.precision?);
        Some(format!("train.precision={requested}"))
    }

    /// The requested backend.
    pub fn kind(&self) -> BackendKind {
        self.backend.into()
    }

    /// Selects the device for the process `local_rank` of this machine; printed if `print`.
    pub fn select_as(&self, kind: BackendKind, local_rank: usize, print: bool) -> Result<Selected> {
        let selected = select_device(kind, local_rank)?;
        if print {
            note!("backend: {selected}");
            if let Some(warning) = &selected.warning {
                note!("warning: {warning}");
            }
            if let Some(advice) = profile::advice(&selected) {
                note!("note: {advice}");
            }
        }
        stall::watch(&selected)?;
        Ok(selected)
    }
}

/// Prints the selected precision and the reason.
pub fn print_precision(precision: Resolved) {
    note!(
        "precision: {} ({})",
        precision.precision(),
        precision.reason()
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The values of the options are the names that the configuration and the log use.
    #[test]
    fn backends_and_precisions_have_one_name() {
        fn named<N: ValueEnum, V: From<N>>() -> Vec<(String, V)> {
            let values = N::value_variants().iter().cloned();
            let named = values.filter_map(|value| {
                let name = value.to_possible_value()?.get_name().to_owned();
                Some((name, V::from(value)))
            });
            named.collect()
        }
        let backends = BackendKind::NAMES.map(|(name, kind)| (name.to_owned(), kind));
        assert_eq!(named::<BackendName, BackendKind>(), backends);
        let precisions = Precision::NAMES.map(|(name, precision)| (name.to_owned(), precision));
        assert_eq!(named::<PrecisionName, Precision>(), precisions);
    }
}
