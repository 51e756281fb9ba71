//! Memory of activations in training, counted layer by layer.

use burn::tensor::FloatDType;

/// Bytes of an f32.
pub(crate) const FLOAT: u64 = 4;

/// Copies of the largest layer that exist during the backward pass, as measured on the CPU in f32. In f16 and bf16, which
/// are for tests there, the CPU also holds f32 copies of a layer.
const WORK: u64 = 4;

/// Activations of one image: what the forward pass keeps for the backward pass, and the largest layer.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Activations {
    /// Bytes of an activation.
    pub(crate) bytes: u64,
    kept: u64,
    largest: u64,
}

impl Activations {
    /// No activations yet, of a model that computes in `dtype`.
    pub(crate) fn new(dtype: FloatDType) -> Self {
        Self::of(bytes_of(dtype))
    }

    /// No activations yet, of `bytes` each.
    pub(crate) fn of(bytes: u64) -> Self {
        Self {
            bytes,
            kept: 0,
            largest: 0,
        }
    }

    /// Adds a layer with `size` outputs that keeps `kept` bytes per output if something is trained in it or before it.
    pub(crate) fn add(&mut self, size: u64, kept: u64, is_trained: bool) {
        self.largest = self.largest.max(size * self.bytes);
        if is_trained {
            self.kept += size * kept;
        }
    }

    /// Adds layers that were counted separately, of which only the kept activations matter.
    pub(crate) fn keep(&mut self, other: Self) {
        self.kept += other.kept;
    }

    /// Adds layers that were counted in another dtype.
    pub(crate) fn merge(&mut self, other: Self) {
        self.kept += other.kept;
        self.largest = self.largest.max(other.largest);
    }

    /// Total bytes, with the work space of the largest layer.
    pub(crate) fn total(&self) -> u64 {
        self.kept + WORK * self.largest
    }
}

/// Bytes of an activation.
pub(crate) fn bytes_of(dtype: FloatDType) -> u64 {
    match dtype {
        FloatDType::F16 | FloatDType::BF16 => 2,
        _ => FLOAT,
    }
}
