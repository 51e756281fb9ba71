//! Parameters of convolutions.

use burn::tensor::Tensor;

/// Parameters of a convolution, in f32 for every dtype of the input.
#[derive(Clone, Debug)]
pub struct ConvParams {
    /// `[o, c, k, k]`, `k` odd.
    pub weight: Tensor<4>,
    /// Factor per output channel of the weights, from a folded norm, `[o]`.
    pub scale: Option<Tensor<1>>,
    /// `[o]`.
    pub bias: Option<Tensor<1>>,
    /// 1 or more; 1 or 2 for 3x3.
    pub stride: usize,
}

impl ConvParams {
    /// The same convolution with the scale as a factor of the weights.
    pub(crate) fn fold_scale(self) -> Self {
        let weight = match self.scale {
            Some(scale) => self.weight * scale.reshape([-1, 1, 1, 1]),
            None => self.weight,
        };
        Self {
            weight,
            scale: None,
            ..self
        }
    }
}
