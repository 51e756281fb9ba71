//! Tensors of a model by name, and the dtypes in which files store them.

use crate::model::{MaskRcnn, ModulePath};
use burn::module::{Module, ModuleVisitor, Param};
use burn::tensor::{Tensor, TensorData, bf16, f16};
use safetensors::tensor::Dtype;
use std::collections::BTreeMap;

/// Tensors by name, f32, on the host.
pub type StateDict = BTreeMap<String, TensorData>;

/// All parameters and statistics of a model, f32.
pub fn state_dict(model: &MaskRcnn) -> StateDict {
    let mut collector = Collector::default();
    // `valid` flushes the running statistics of batch norms.
    model.valid().visit(&mut collector);
    collector.tensors
}

#[derive(Default)]
struct Collector {
    path: ModulePath,
    tensors: StateDict,
}

impl ModuleVisitor for Collector {
    fn enter_module(&mut self, name: &str, container: &str) {
        self.path.enter(name, container);
    }

    fn exit_module(&mut self, _name: &str, container: &str) {
        self.path.exit(container);
    }

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        self.tensors
            .insert(self.path.name(), param.val().into_data().convert::<f32>());
    }
}

/// A stored dtype, little-endian.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FloatType {
    /// IEEE half precision.
    F16,
    /// bfloat16, the upper half of an IEEE single.
    Bf16,
    /// IEEE single precision.
    F32,
    /// IEEE double precision.
    F64,
}

impl FloatType {
    /// Bytes per value.
    pub fn size(self) -> usize {
        match self {
            Self::F16 | Self::Bf16 => 2,
            Self::F32 => 4,
            Self::F64 => 8,
        }
    }

    /// Values rounded to f32; an incomplete value at the end is left out.
    pub fn decode(self, bytes: &[u8]) -> Vec<f32> {
        match self {
            Self::F16 => each::<2>(bytes, |b| f16::from_le_bytes(b).to_f32()),
            Self::Bf16 => each::<2>(bytes, |b| bf16::from_le_bytes(b).to_f32()),
            Self::F32 => each::<4>(bytes, f32::from_le_bytes),
            Self::F64 => each::<8>(bytes, |b| f64::from_le_bytes(b) as f32),
        }
    }

    /// The dtype of a safetensors type, if it is a floating-point type that is supported.
    pub(super) fn from_safetensors(dtype: Dtype) -> Option<Self> {
        match dtype {
            Dtype::F16 => Some(Self::F16),
            Dtype::BF16 => Some(Self::Bf16),
            Dtype::F32 => Some(Self::F32),
            Dtype::F64 => Some(Self::F64),
            _ => None,
        }
    }
}

fn each<const N: usize>(bytes: &[u8], decode: impl Fn([u8; N]) -> f32) -> Vec<f32> {
    bytes
        .as_chunks::<N>()
        .0
        .iter()
        .map(|&b| decode(b))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_format_keeps_what_it_can_hold() {
        assert_eq!(
            FloatType::F16.decode(&[0x00, 0x3c, 0x00, 0xc0]),
            [1.0, -2.0]
        );
        assert_eq!(
            FloatType::Bf16.decode(&[0x80, 0x3f, 0x00, 0xc0]),
            [1.0, -2.0]
        );
        assert_eq!(FloatType::F32.decode(&0.1f32.to_le_bytes()), [0.1]);
        assert_eq!(FloatType::F64.decode(&0.1f64.to_le_bytes()), [0.1]);
        assert_eq!(FloatType::F32.decode(&[0, 0, 128]), [0.0; 0]);
    }
}
