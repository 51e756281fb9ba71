//! The box head: two fully connected layers, class scores and class-wise box deltas.

use crate::config::ModelConfig;
use crate::model::init::{Fill, Init};
use crate::model::layers::{Linear, full};
use crate::model::memory::Activations;
use burn::module::Module;
use burn::tensor::{Tensor, activation::relu};

/// Two fully connected layers over pooled RoIs.
#[derive(Module, Debug)]
pub struct BoxHead {
    fc6: Linear,
    fc7: Linear,
}

impl BoxHead {
    /// A box head for the configured pyramid.
    pub fn new(init: &Init<'_>, config: &ModelConfig) -> Self {
        let pool = config.box_head.pool;
        let hidden = config.box_head.hidden;
        let linear = |name: &str, input: usize| {
            Linear::new(&init.child(name), input, hidden, Fill::KaimingUniform)
        };
        Self {
            fc6: linear("fc6", config.fpn_channels * pool * pool),
            fc7: linear("fc7", hidden),
        }
    }

    /// Pooled RoIs `[r, c, p, p]` -> `[r, hidden]`.
    pub fn forward(&self, pooled: Tensor<4>) -> Tensor<2> {
        let [r, c, h, w] = pooled.dims();
        let x = relu(self.fc6.forward(pooled.reshape([r, c * h * w])));
        relu(self.fc7.forward(x))
    }

    /// Counts the activations of `rois` RoIs.
    pub(crate) fn count(&self, memory: &mut Activations, rois: u64) {
        let [hidden, pooled] = self.fc6.weight.dims().map(|length| length as u64);
        // Pooled features and their copy; both layers and their ReLUs.
        memory.add(rois * pooled, 2 * memory.bytes, true);
        memory.add(rois * hidden, 4 * memory.bytes, true);
    }
}

/// Class scores and box deltas.
#[derive(Module, Debug)]
pub struct BoxPredictor {
    cls_score: Linear,
    bbox_pred: Linear,
}

impl BoxPredictor {
    /// A predictor for the configured classes.
    pub fn new(init: &Init<'_>, config: &ModelConfig) -> Self {
        let hidden = config.box_head.hidden;
        let linear = |name: &str, output: usize, deviation: f64| {
            Linear::new(&init.child(name), hidden, output, Fill::Normal(deviation))
        };
        Self {
            cls_score: linear("cls_score", config.num_classes, 0.01),
            bbox_pred: linear("bbox_pred", config.num_classes * 4, 0.001),
        }
    }

    /// `[r, hidden]` -> class logits `[r, k]` and box deltas `[r, 4k]`, the background first; f32.
    pub fn forward(&self, x: Tensor<2>) -> (Tensor<2>, Tensor<2>) {
        let logits = self.cls_score.forward(x.clone());
        (full(logits), full(self.bbox_pred.forward(x)))
    }
}
