//! Region proposal network (Ren et al., 2015, section 3.1), shared over the pyramid's levels.

use super::cache::SizeCache;
use super::proposals::AnchorSlots;
#[cfg(feature = "train")]
use super::windows::Windows;
use crate::config::{ModelConfig, RpnConfig};
use crate::model::init::{Fill, Init};
use crate::model::layer::Layer;
use crate::model::layers::{Conv2d, ConvSettings, full};
use crate::model::memory::Activations;
use crate::model::slots::moved;
use burn::module::Module;
#[cfg(feature = "train")]
use burn::tensor::{DType, Int};
use burn::tensor::{Device, ExecutionError, Tensor};
use mrcnn_kernels::{ConvParams, conv2d, flatten_rpn_outputs};

/// The RPN; its parameters are under `rpn.head`.
#[derive(Module, Debug)]
pub struct Rpn {
    pub(super) head: RpnHead,
    #[module(skip)]
    anchors: SizeCache<((usize, usize), Grids, RpnConfig), AnchorSlots>,
    /// The windows of all cells, for [`super::sampled`].
    #[module(skip)]
    #[cfg(feature = "train")]
    pub(super) windows: SizeCache<(Grids, usize, DType), Windows>,
    /// The image of each sample `[n * k, 1]`, for `n` images with `k` samples each. Not in the cache of windows, which
    /// micro-batches of different sizes share.
    #[module(skip)]
    #[cfg(feature = "train")]
    pub(super) images: SizeCache<[usize; 2], Tensor<2>>,
}

#[derive(Module, Debug)]
pub(super) struct RpnHead {
    pub(super) conv: Vec<Vec<Conv2d>>,
    pub(super) cls_logits: Conv2d,
    pub(super) bbox_pred: Conv2d,
}

/// RPN predictions for every anchor, flattened in the order of `boxes::Anchors`; f32.
#[derive(Clone, Debug)]
pub struct RpnOutput {
    /// Logit of being an object, `[n, anchors]`.
    pub objectness: Tensor<2>,
    /// Box deltas `dx, dy, dw, dh`, `[n, anchors, 4]`.
    pub deltas: Tensor<3>,
    /// `(rows, columns)` of each level.
    pub grids: Grids,
}

/// Predictions of the cells of `r` sampled anchors: f32 from whole maps, in the dtype of the features from windows.
#[cfg(feature = "train")]
#[derive(Clone, Debug)]
pub(crate) struct AnchorPredictions {
    /// Logits of `k` anchors per cell, `[r, k, 1]`.
    pub(crate) logits: Tensor<3>,
    /// Their deltas, `[r, k, 4]`.
    pub(crate) deltas: Tensor<3>,
    /// Which of the `k` anchors is the sampled one, `[r]`; `None` if `k` is 1.
    pub(crate) ratio: Option<Tensor<1, Int>>,
}

/// `(rows, columns)` of each level.
type Grids = Vec<(usize, usize)>;

/// Outputs per anchor: a logit and four deltas.
const OUTPUTS: usize = 5;

/// Parameters of one convolution with the outputs of the first, then those of the second. Both must have a bias and no
/// scale.
fn join([first, second]: [ConvParams; 2]) -> ConvParams {
    let bias = first.bias.zip(second.bias);
    ConvParams {
        weight: Tensor::cat(vec![first.weight, second.weight], 0),
        bias: bias.map(|(first, second)| Tensor::cat(vec![first, second], 0)),
        ..first
    }
}

/// Logits `[n, a, h, w]` and deltas `[n, 4a, h, w]` of predictions `[n, 5a, h, w]`.
fn split_outputs(predictions: Tensor<4>) -> (Tensor<4>, Tensor<4>) {
    let outputs = predictions.dims()[1];
    let anchors = outputs / OUTPUTS;
    let logits = predictions.clone().narrow(1, 0, anchors);
    (logits, predictions.narrow(1, anchors, outputs - anchors))
}

impl Rpn {
    /// An RPN for the pyramid's channels and the configured anchors.
    pub fn new(init: &Init<'_>, config: &ModelConfig) -> Self {
        let head = init.child("head");
        let channels = config.fpn_channels;
        let anchors = config.rpn.anchor_ratios.len();
        let conv = |name: &str, output: usize, kernel: usize| {
            let settings = ConvSettings {
                bias: true,
                fill: Fill::Normal(0.01),
                ..ConvSettings::new(channels, output, kernel)
            };
            Conv2d::new(&head.child(name), settings)
        };
        Self {
            head: RpnHead {
                conv: (0..config.rpn.convs)
                    .map(|index| vec![conv(&format!("conv.{index}.0"), channels, 3)])
                    .collect(),
                cls_logits: conv("cls_logits", anchors, 1),
                bbox_pred: conv("bbox_pred", anchors * 4, 1),
            },
            anchors: SizeCache::default(),
            #[cfg(feature = "train")]
            windows: SizeCache::default(),
            #[cfg(feature = "train")]
            images: SizeCache::default(),
        }
    }

    pub(crate) fn layers(&mut self) -> impl Iterator<Item = Layer<'_>> {
        let RpnHead {
            conv,
            cls_logits,
            bbox_pred,
        } = &mut self.head;
        let convs = conv.iter_mut().flatten();
        convs.chain([cls_logits, bbox_pred]).map(Layer::Conv)
    }

    /// Each level `[n, c, h, w]` -> logits `[n, a, h, w]` and deltas `[n, 4a, h, w]`, both f32.
    pub fn levels(&self, pyramid: &[Tensor<4>]) -> Vec<(Tensor<4>, Tensor<4>)> {
        let levels = self.predictions(pyramid).into_iter();
        levels.map(|level| split_outputs(full(level))).collect()
    }

    /// Each level `[n, c, h, w]` -> `[n, 5a, h, w]` of its dtype: the logits of a cell's anchors, then their deltas.
    /// One convolution computes both, because reading the hidden layer takes longer than either product.
    fn predictions(&self, pyramid: &[Tensor<4>]) -> Vec<Tensor<4>> {
        let Some(first) = pyramid.first() else {
            return Vec::new();
        };
        let RpnHead {
            conv,
            cls_logits,
            bbox_pred,
        } = &self.head;
        let convs = conv.iter().flatten();
        let convs: Vec<_> = convs.map(|conv| (conv, conv.params_like(first))).collect();
        let both = join([cls_logits, bbox_pred].map(|conv| conv.params_like(first)));
        let level = |feature: &Tensor<4>| {
            let hidden = convs.iter().fold(feature.clone(), |x, (conv, params)| {
                conv.forward_with(x, params.clone(), None, true)
            });
            conv2d(hidden, both.clone(), None, false)
        };
        pyramid.iter().map(level).collect()
    }

    /// The pyramid P2-P6 -> one logit and four deltas per anchor.
    pub fn forward(&self, pyramid: &[Tensor<4>]) -> RpnOutput {
        let levels = self.predictions(pyramid);
        let grids = levels
            .iter()
            .map(|level| (level.dims()[2], level.dims()[3]));
        let grids = grids.collect();
        let (objectness, deltas) = flatten_rpn_outputs(levels);
        RpnOutput {
            objectness,
            deltas,
            grids,
        }
    }

    /// The anchors of images padded to `(height, width)` pixels, with levels of `grids` `(rows, columns)`.
    pub(crate) fn anchors(
        &self,
        padded: (usize, usize),
        grids: &[(usize, usize)],
        config: &RpnConfig,
        device: &Device,
    ) -> AnchorSlots {
        let key = (padded, grids.to_vec(), config.clone());
        self.anchors.get(device, key, || {
            AnchorSlots::new(padded, grids, config, device)
        })
    }

    /// Counts the activations of an image: the hidden layers of each level or, if the losses use windows of cells, the
    /// windows that each convolution reads, and its outputs. The last one has a single output per window and channel.
    pub(crate) fn count(
        &self,
        memory: &mut Activations,
        config: &RpnConfig,
        cells: &dyn Fn(usize) -> u64,
    ) {
        let by_windows = prefers_windows(config, pyramid_cells(cells));
        let mut side = window_side(config) as u64;
        let mut convs = self.head.conv.iter().flatten().peekable();
        while let Some(conv) = convs.next() {
            let is_trained = conv.weight.val().is_require_grad();
            let (input, output) = (conv.settings().input as u64, conv.settings().output as u64);
            for level in 0..5 {
                let size = output * cells(4 << level);
                memory.add(size, memory.bytes, is_trained && !by_windows);
            }
            if by_windows {
                let windows = config.batch_per_image as u64;
                let outputs = match convs.peek() {
                    Some(_) => side * side * output,
                    None => output,
                };
                memory.add(windows * side * side * input, memory.bytes, is_trained);
                memory.add(windows * outputs, memory.bytes, is_trained);
            }
            side -= 2;
        }
    }
}

/// Cells of P2 to P6 of an image; `cells` are rows times columns at a stride.
pub(crate) fn pyramid_cells(cells: &dyn Fn(usize) -> u64) -> u64 {
    (0..5).map(|level| cells(4 << level)).sum()
}

/// Side in cells of the window that the predictions of a cell depend on.
pub(crate) fn window_side(config: &RpnConfig) -> usize {
    2 * config.convs + 1
}

/// Whether the windows of an image's sampled anchors have fewer cells than its pyramid of `cells` cells, so that the
/// losses use windows, see [`super::sampled`].
pub(crate) fn prefers_windows(config: &RpnConfig, cells: u64) -> bool {
    let side = window_side(config) as u64;
    config.batch_per_image as u64 * side * side < cells
}

impl RpnOutput {
    /// The same predictions on `device`.
    pub(crate) async fn moved(self, device: &Device) -> Result<Self, ExecutionError> {
        Ok(Self {
            objectness: moved(self.objectness, device).await?,
            deltas: moved(self.deltas, device).await?,
            grids: self.grids,
        })
    }

    /// The same predictions, detached from their autodiff graph.
    #[cfg(feature = "train")]
    pub(crate) fn untracked(self) -> Self {
        if !self.objectness.device().is_autodiff() {
            return self;
        }
        Self {
            objectness: self.objectness.inner(),
            deltas: self.deltas.inner(),
            grids: self.grids,
        }
    }

    /// The predictions of the anchors `index [n, k]`.
    #[cfg(feature = "train")]
    pub(crate) fn at(self, index: Tensor<2, Int>) -> AnchorPredictions {
        let [n, k] = index.dims();
        let logits = self.objectness.gather(1, index.clone());
        let corners = index.unsqueeze_dim::<3>(2).expand([n, k, 4]);
        AnchorPredictions {
            logits: logits.reshape([n * k, 1, 1]),
            deltas: self.deltas.gather(1, corners).reshape([n * k, 1, 4]),
            ratio: None,
        }
    }
}
