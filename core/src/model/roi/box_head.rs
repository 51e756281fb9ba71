//! The box head: fully connected layers, after convolutions if configured, class scores and class-wise box deltas.

use crate::config::{ModelConfig, NormKind};
use crate::model::init::{Fill, Init};
use crate::model::layer::Layer;
use crate::model::layers::{Conv2d, ConvSettings, Linear, LinearSettings};
use crate::model::memory::Activations;
use crate::model::norm::{Norm, NormSettings, conv_norm_of_rois, count_conv_norm};
use burn::module::Module;
use burn::tensor::Tensor;
use mrcnn_kernels::{Links, linear_layers};

/// Layers over pooled RoIs; the parameters are under `roi_heads.box_head` for both variants.
#[allow(
    clippy::large_enum_variant,
    reason = "a model has a handful, and Burn has no modules in a Box"
)]
#[derive(Module, Debug)]
pub enum BoxHead {
    /// Two fully connected layers.
    Linear(LinearBoxHead),
    /// Convolutions, flattening, one fully connected layer: `roi_heads.box_head.{0, 1, ...}`.
    Convs(Vec<BoxHeadLayer>),
}

/// Two fully connected layers.
#[derive(Module, Debug)]
pub struct LinearBoxHead {
    fc6: Linear,
    fc7: Linear,
}

/// A layer of torchvision's `FastRCNNConvFCHead`.
#[allow(
    clippy::large_enum_variant,
    reason = "a model has a handful, and Burn has no modules in a Box"
)]
#[derive(Module, Debug)]
pub enum BoxHeadLayer {
    /// A 3x3 convolution, followed by a ReLU.
    Conv((Conv2d, Option<Norm>)),
    /// `[r, c, p, p]` -> `[r, c * p * p]`. It has no parameters, but counts in the indices of the layers.
    Flatten(Flatten),
    /// A fully connected layer, followed by a ReLU.
    Linear(Linear),
}

/// A layer without parameters.
#[derive(Module, Debug)]
pub struct Flatten {}

impl BoxHead {
    /// A box head for the configured pyramid.
    pub fn new(init: &Init<'_>, config: &ModelConfig) -> Self {
        let (pool, hidden) = (config.box_head.pool, config.box_head.hidden);
        let linear = |name: &str, input: usize, channels: usize| {
            let settings = LinearSettings {
                input,
                output: hidden,
                channels,
                fill: Fill::KaimingUniform,
            };
            Linear::new(&init.child(name), settings)
        };
        let (channels, convs) = (config.fpn_channels, config.box_head.convs);
        let flat = channels * pool * pool;
        if convs == 0 {
            return Self::Linear(LinearBoxHead {
                fc6: linear("fc6", flat, channels),
                fc7: linear("fc7", hidden, 1),
            });
        }
        let conv = |index: usize| {
            let init = init.child(index);
            let settings = ConvSettings {
                bias: config.head_norm == NormKind::None,
                ..ConvSettings::new(channels, channels, 3)
            };
            let norm = Norm::new(&init.child(1), channels, NormSettings::of_heads(config));
            BoxHeadLayer::Conv((Conv2d::new(&init.child(0), settings), norm))
        };
        let mut layers: Vec<BoxHeadLayer> = (0..convs).map(conv).collect();
        layers.push(BoxHeadLayer::Flatten(Flatten {}));
        let name = (convs + 1).to_string();
        layers.push(BoxHeadLayer::Linear(linear(&name, flat, channels)));
        Self::Convs(layers)
    }

    /// Pooled RoIs `[r, c, p, p]` -> `[r, hidden]`; `valid` is their valid mask `[r]` in training.
    pub fn forward(&self, pooled: Tensor<4>, valid: Option<&Tensor<1>>) -> Tensor<2> {
        self.forward_linked(pooled, valid, false)
    }

    /// As [`Self::forward`]. If `is_linked`, everything that uses the output must mask its gradient.
    pub(super) fn forward_linked(
        &self,
        pooled: Tensor<4>,
        valid: Option<&Tensor<1>>,
        is_linked: bool,
    ) -> Tensor<2> {
        let links = |is_after_relu: bool| Links {
            masks_input: is_linked && is_after_relu,
            output_is_masked: is_linked,
        };
        match self {
            Self::Linear(LinearBoxHead { fc6, fc7 }) => {
                let fc6_output = fc6.forward_relu(fc6.flatten(pooled), links(false));
                fc7.forward_relu(fc6_output, links(true))
            }
            Self::Convs(layers) => {
                let x = layers.iter().fold(pooled, |x, layer| match layer {
                    BoxHeadLayer::Conv((conv, norm)) => conv_norm_of_rois((conv, norm), x, valid),
                    BoxHeadLayer::Flatten(_) | BoxHeadLayer::Linear(_) => x,
                });
                let Some(BoxHeadLayer::Linear(last)) = layers.last() else {
                    unreachable!("the last layer is fully connected");
                };
                last.forward_relu(last.flatten(x), links(false))
            }
        }
    }

    pub(super) fn layers(&mut self) -> Box<dyn Iterator<Item = Layer<'_>> + '_> {
        match self {
            Self::Linear(LinearBoxHead { fc6, fc7 }) => {
                Box::new([fc6, fc7].into_iter().map(Layer::Linear))
            }
            Self::Convs(layers) => Box::new(layers.iter_mut().filter_map(|layer| match layer {
                BoxHeadLayer::Conv((conv, norm)) => Some(Layer::ConvNorm(conv, norm)),
                BoxHeadLayer::Linear(linear) => Some(Layer::Linear(linear)),
                BoxHeadLayer::Flatten(_) => None,
            })),
        }
    }

    /// Counts the activations of `rois` RoIs.
    pub(crate) fn count(&self, memory: &mut Activations, rois: u64, config: &ModelConfig) {
        let cells = rois * (config.box_head.pool * config.box_head.pool) as u64;
        // Pooled features, and their copy in the order of the weights, which f16 and bf16 on GPUs do not need.
        memory.add(cells * config.fpn_channels as u64, 2 * memory.bytes, true);
        let outputs = rois * config.box_head.hidden as u64;
        match self {
            // Both layers and their ReLUs.
            Self::Linear(_) => memory.add(outputs, 4 * memory.bytes, true),
            Self::Convs(layers) => {
                for layer in layers {
                    match layer {
                        BoxHeadLayer::Conv((conv, norm)) => {
                            count_conv_norm(memory, conv, norm, cells, true);
                        }
                        BoxHeadLayer::Flatten(_) => {}
                        BoxHeadLayer::Linear(_) => memory.add(outputs, 2 * memory.bytes, true),
                    }
                }
            }
        }
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
        let linear = |name: &str, output: usize, deviation: f64| {
            let settings = LinearSettings {
                input: config.box_head.hidden,
                output,
                channels: 1,
                fill: Fill::Normal(deviation),
            };
            Linear::new(&init.child(name), settings)
        };
        Self {
            cls_score: linear("cls_score", config.num_classes, 0.01),
            bbox_pred: linear("bbox_pred", config.num_classes * 4, 0.001),
        }
    }

    pub(super) fn layers(&mut self) -> impl Iterator<Item = Layer<'_>> {
        let layers = [&mut self.cls_score, &mut self.bbox_pred];
        layers.into_iter().map(Layer::Linear)
    }

    /// `[r, hidden]` -> class logits `[r, k]` and box deltas `[r, 4k]`, the background first, in the dtype of `x`.
    pub fn forward(&self, x: Tensor<2>) -> (Tensor<2>, Tensor<2>) {
        self.predictions(x, false)
    }

    /// As [`Self::forward`]. If `masks_input`, `x` is the output of a ReLU, and the gradient of it is masked.
    pub(super) fn predictions(&self, x: Tensor<2>, masks_input: bool) -> (Tensor<2>, Tensor<2>) {
        let links = Links {
            masks_input,
            output_is_masked: false,
        };
        let layers = [&self.cls_score, &self.bbox_pred].map(Linear::params);
        let [logits, deltas] = linear_layers(x, layers, false, links);
        (logits, deltas)
    }
}
