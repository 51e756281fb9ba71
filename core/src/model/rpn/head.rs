//! Region proposal network (Ren et al., 2015, section 3.1), shared over the pyramid's levels.

use crate::config::ModelConfig;
use crate::model::layers::{Conv2d, full};
use burn::module::Module;
use burn::tensor::{Device, Tensor};

/// The network; its parameters are under `rpn.head`.
#[derive(Module, Debug)]
pub struct Rpn {
    head: RpnHead,
}

#[derive(Module, Debug)]
struct RpnHead {
    conv: Vec<Vec<Conv2d>>,
    cls_logits: Conv2d,
    bbox_pred: Conv2d,
}

/// What the network says of every anchor, flattened in the order of `boxes::Anchors`; f32.
#[derive(Clone, Debug)]
pub struct RpnOutput {
    /// Logit of being an object, `[n, anchors]`.
    pub objectness: Tensor<2>,
    /// Box deltas `dx, dy, dw, dh`, `[n, anchors, 4]`.
    pub deltas: Tensor<3>,
    /// `(rows, columns)` of each level.
    pub grids: Vec<(usize, usize)>,
}

impl Rpn {
    /// A network with zero weights.
    pub fn new(config: &ModelConfig, device: &Device) -> Self {
        let channels = config.fpn_channels;
        let anchors = config.rpn.anchor_ratios.len();
        let conv = |output, kernel| Conv2d::new([channels, output], kernel, 1, true, device);
        Self {
            head: RpnHead {
                conv: vec![vec![conv(channels, 3)]],
                cls_logits: conv(anchors, 1),
                bbox_pred: conv(anchors * 4, 1),
            },
        }
    }

    /// One level `[n, c, h, w]` -> logits `[n, a, h, w]` and deltas `[n, 4a, h, w]`, both f32.
    pub fn level(&self, feature: Tensor<4>) -> (Tensor<4>, Tensor<4>) {
        let hidden = self
            .head
            .conv
            .iter()
            .flatten()
            .fold(feature, |x, conv| conv.rectified(x));
        (
            full(self.head.cls_logits.forward(hidden.clone())),
            full(self.head.bbox_pred.forward(hidden)),
        )
    }

    /// The pyramid P2-P6 -> one logit and four deltas an anchor.
    pub fn forward(&self, pyramid: &[Tensor<4>]) -> RpnOutput {
        let mut objectness = Vec::with_capacity(pyramid.len());
        let mut deltas = Vec::with_capacity(pyramid.len());
        let mut grids = Vec::with_capacity(pyramid.len());
        for feature in pyramid {
            let [n, _, h, w] = feature.dims();
            let (logits, level_deltas) = self.level(feature.clone());
            let anchors = logits.dims()[1];
            objectness.push(logits.permute([0, 2, 3, 1]).reshape([n, h * w * anchors]));
            // [n, a * 4, h, w] -> [n, h, w, a, 4]: the four deltas of an anchor lie side by side.
            let level_deltas = level_deltas.reshape([n, anchors, 4, h, w]);
            let level_deltas = level_deltas.permute([0, 3, 4, 1, 2]);
            deltas.push(level_deltas.reshape([n, h * w * anchors, 4]));
            grids.push((h, w));
        }
        RpnOutput {
            objectness: Tensor::cat(objectness, 1),
            deltas: Tensor::cat(deltas, 1),
            grids,
        }
    }
}
