//! The report as text.

use super::facts::Diagnosis;
use crate::precision::architecture;
use crate::{BackendKind, Precision};
use std::fmt;

impl fmt::Display for Diagnosis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for backend in &self.backends {
            if let Some(missing) = &backend.missing {
                writeln!(f, "{:<8} {missing}", backend.kind.to_string())?;
            }
            for device in &backend.devices {
                let dtypes = device.dtypes.join(", ");
                let api = device.api.map_or(String::new(), |api| format!(" ({api})"));
                writeln!(
                    f,
                    "{:<8} {}{api}: {dtypes}",
                    backend.kind.to_string(),
                    device.name
                )?;
                let precisions: Vec<String> =
                    device.precisions.iter().map(Precision::to_string).collect();
                let precisions = format!(
                    "--precision {}; auto is {}",
                    precisions.join(", "),
                    device.auto_precision
                );
                let driver = device.driver.as_ref().map(|d| format!("driver: {d}"));
                let target = device.target.as_ref().map(|t| format!("kernels for: {t}"));
                let is_cuda = backend.kind == BackendKind::Cuda;
                let units = device
                    .target
                    .as_deref()
                    .filter(|_| is_cuda)
                    .map(matrix_units);
                for line in [Some(precisions), driver, target, units.map(String::from)]
                    .into_iter()
                    .flatten()
                {
                    writeln!(f, "         {line}")?;
                }
            }
            for adapter in &backend.skipped {
                writeln!(
                    f,
                    "{:<8} not used: {} ({}): {}",
                    backend.kind.to_string(),
                    adapter.name,
                    adapter.api,
                    adapter.reason
                )?;
            }
        }
        for gpu in &self.nvidia {
            writeln!(f, "NVIDIA   {gpu}")?;
        }
        let selected = self.selected.map_or("none".into(), |kind| kind.to_string());
        writeln!(f, "selected {selected}: {}", self.reason)?;
        for line in &self.advice {
            writeln!(f, "advice   {line}")?;
        }
        Ok(())
    }
}

/// Dtypes of the matrix units of an NVIDIA GPU, by the architecture in `ptx_sm90`.
pub(super) fn matrix_units(target: &str) -> &'static str {
    match architecture(target) {
        Some(80..) => "matrix units for f16, bf16 and TF32 (f32 rounded to 11 bits)",
        Some(70..) => "matrix units for f16 only",
        _ => "no matrix units",
    }
}
