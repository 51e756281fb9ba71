//! The mask head: convolutions, a 2x up-sampling, one mask a class.

use crate::config::{ModelConfig, NormKind};
use crate::model::layers::{Conv2d, full, zeros};
use crate::model::norm::{Norm, conv_norm};
use burn::module::{Module, Param};
use burn::tensor::{Device, Int, Tensor, TensorData};
use mrcnn_kernels::{ConvParams, conv2d};

/// The convolutions of the head, each followed by a ReLU.
pub type MaskHead = Vec<(Conv2d, Option<Norm>)>;

/// A mask head with zero weights.
pub(crate) fn new_mask_head(config: &ModelConfig, device: &Device) -> MaskHead {
    let mut input = config.fpn_channels;
    let block = |&channels: &usize| {
        let bias = config.head_norm == NormKind::None;
        let conv = Conv2d::new([input, channels], 3, 1, bias, device);
        input = channels;
        (
            conv,
            Norm::new(config.head_norm, channels, false, config, device),
        )
    };
    config.mask_head.convs.iter().map(block).collect()
}

/// Pooled regions `[r, c, p, p]` -> `[r, convs.last, p, p]`.
pub(crate) fn mask_head_forward(head: &MaskHead, pooled: Tensor<4>) -> Tensor<4> {
    head.iter()
        .fold(pooled, |x, (conv, norm)| conv_norm(conv, norm, x, true))
}

/// Up-sampling and the class-wise masks.
#[derive(Module, Debug)]
pub struct MaskPredictor {
    conv5_mask: Deconv2x2,
    mask_fcn_logits: Conv2d,
}

impl MaskPredictor {
    /// A predictor with zero weights.
    pub fn new(config: &ModelConfig, device: &Device) -> Self {
        let head = &config.mask_head;
        let input = head.convs.last().copied().unwrap_or(config.fpn_channels);
        let classes = [head.hidden, config.num_classes];
        Self {
            conv5_mask: Deconv2x2 {
                weight: zeros([input, head.hidden, 2, 2], device),
                bias: zeros([head.hidden], device),
            },
            mask_fcn_logits: Conv2d::new(classes, 1, 1, true, device),
        }
    }

    /// `[r, c, p, p]` -> mask logits `[r, k, 2p, 2p]`, f32.
    pub fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        let hidden = self.conv5_mask.rectified(x);
        full(self.mask_fcn_logits.forward(hidden))
    }
}

/// A 2x2 transposed convolution with stride 2.
#[derive(Module, Debug)]
struct Deconv2x2 {
    /// `[in, out, 2, 2]`.
    weight: Param<Tensor<4>>,
    bias: Param<Tensor<1>>,
}

impl Deconv2x2 {
    /// `[r, in, h, w]` -> `[r, out, 2h, 2w]`, and a ReLU: with stride 2 no outputs overlap, so it is a
    /// 1x1 convolution to four times the channels and a pixel shuffle, which every backend has fast.
    fn rectified(&self, x: Tensor<4>) -> Tensor<4> {
        let [r, _, h, w] = x.dims();
        let [input, output, _, _] = self.weight.dims();
        let weight = self
            .weight
            .val()
            .permute([1, 2, 3, 0])
            .reshape([output * 4, input, 1, 1]);
        let bias = self
            .bias
            .val()
            .reshape([output, 1])
            .expand([output, 4])
            .reshape([output * 4]);
        let params = ConvParams {
            weight,
            scale: None,
            bias: Some(bias),
            stride: 1,
        };
        let x = conv2d(x, params, None, true);
        x.reshape([r, output, 2, 2, h, w])
            .permute([0, 1, 4, 2, 5, 3])
            .reshape([r, output, h * 2, w * 2])
    }
}

/// The masks of the detected classes, on the device: logits `[r, k, s, s]` and `r` labels ->
/// probabilities `[r, s, s]`, f32.
pub fn mask_probabilities(logits: Tensor<4>, labels: &[usize]) -> Tensor<3> {
    let [r, _, s, _] = logits.dims();
    let labels: Vec<i32> = labels.iter().map(|&label| label as i32).collect();
    let labels = TensorData::new(labels, [r, 1, 1, 1]);
    let labels = Tensor::<4, Int>::from_data(labels, &logits.device());
    let masks = logits.gather(1, labels.expand([r, 1, s, s]));
    let masks = full(masks.reshape([r, s, s]));
    (masks.neg().exp() + 1.0).recip()
}
