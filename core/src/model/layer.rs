//! The layers of the model by kind, for operations on the parameters of all layers.

use super::layers::{Conv2d, Deconv2x2, Linear};
use super::norm::Norm;
use burn::module::Param;
use burn::tensor::{FloatDType, Tensor};

/// A layer whose input has the dtype of the activations: all but the stem.
pub(crate) enum Layer<'a> {
    /// A convolution.
    Conv(&'a mut Conv2d),
    /// A convolution and its norm.
    ConvNorm(&'a mut Conv2d, &'a mut Option<Norm>),
    /// A transposed convolution.
    Deconv(&'a mut Deconv2x2),
    /// A fully connected layer.
    Linear(&'a mut Linear),
}

/// An operation on the parameters of a layer.
pub(crate) trait ParamVisitor {
    fn visit<const D: usize>(&mut self, param: &mut Param<Tensor<D>>);

    /// Visits the weights of a layer whose inputs are flattened maps.
    fn visit_flattened_weight(&mut self, linear: &mut Linear);
}

impl Layer<'_> {
    /// Visits the parameters that are read as `dtype`.
    pub(crate) fn params(self, dtype: FloatDType, visitor: &mut impl ParamVisitor) {
        match self {
            Self::Conv(conv) | Self::ConvNorm(conv, _) => {
                if conv.dtype(dtype) == dtype {
                    visitor.visit(&mut conv.weight);
                    if let Some(bias) = &mut conv.bias {
                        visitor.visit(bias);
                    }
                }
            }
            Self::Deconv(deconv) => {
                visitor.visit(&mut deconv.weight);
                visitor.visit(&mut deconv.bias);
            }
            Self::Linear(linear) => {
                match linear.channels > 1 {
                    true => visitor.visit_flattened_weight(linear),
                    false => visitor.visit(&mut linear.weight),
                }
                visitor.visit(&mut linear.bias);
            }
        }
    }
}
