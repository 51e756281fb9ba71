//! Norms that are folded into convolutions, and the result.

use crate::tensor_list::TensorList;
use burn::backend::Dispatch;

/// Batch norms with fixed statistics, one per convolution: lists of `[o]` tensors, f32.
#[derive(Debug)]
pub struct FrozenNorms {
    /// Weights (gamma).
    pub weights: TensorList<Dispatch>,
    /// Biases (beta).
    pub biases: TensorList<Dispatch>,
    /// Running means.
    pub means: TensorList<Dispatch>,
    /// Running variances.
    pub vars: TensorList<Dispatch>,
    /// Epsilons, added to the variances.
    pub epsilons: Vec<f64>,
}

/// Convolutions with their norms folded, in the order of the convolutions.
#[derive(Debug)]
pub struct Folded {
    /// `weight * scale`, channels-last, in `dtype`.
    pub weights: TensorList<Dispatch>,
    /// `bias - mean * scale`, in `dtype`.
    pub shifts: TensorList<Dispatch>,
    /// `norm weight / sqrt(var + epsilon)`, f32.
    pub scales: TensorList<Dispatch>,
}
