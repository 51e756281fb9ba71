//! The mask head: convolutions, a 2x upsampling, one mask per class.

use crate::config::{ModelConfig, NormKind};
use crate::model::init::{Fill, Init};
use crate::model::layer::Layer;
use crate::model::layers::{Conv2d, ConvSettings, Deconv2x2, full};
use crate::model::memory::{Activations, FLOAT};
use crate::model::norm::{Norm, NormSettings, conv_norm_of_rois, count_conv_norm};
use burn::module::Module;
use burn::tensor::{Int, Tensor, TensorData};
use mrcnn_kernels::{Links, has_links, has_selection_kernels};

/// The convolutions of the head, each followed by a ReLU.
pub type MaskHead = Vec<(Conv2d, Option<Norm>)>;

/// The convolutions of a mask head.
pub(crate) fn new_mask_head(init: &Init<'_>, config: &ModelConfig) -> MaskHead {
    let mut input = config.fpn_channels;
    let convs = config.mask_head.convs.iter().enumerate();
    let block = |(index, &channels): (usize, &usize)| {
        let init = init.child(index);
        let settings = ConvSettings {
            bias: config.head_norm == NormKind::None,
            ..ConvSettings::new(input, channels, 3)
        };
        input = channels;
        let norm = Norm::new(&init.child(1), channels, NormSettings::of_heads(config));
        (Conv2d::new(&init.child(0), settings), norm)
    };
    convs.map(block).collect()
}

/// Pooled RoIs `[r, c, p, p]` -> `[r, convs.last, p, p]`; `valid` is their valid mask `[r]` in training. If
/// `is_linked`, each layer masks the gradient of its input, and the layer that uses the output must do so, too.
pub(crate) fn mask_head_forward(
    head: &MaskHead,
    pooled: Tensor<4>,
    valid: Option<&Tensor<1>>,
    is_linked: bool,
) -> Tensor<4> {
    let layers = head.iter().enumerate();
    layers.fold(pooled, |x, (index, (conv, norm))| match is_linked {
        true => {
            let links = Links {
                masks_input: index > 0,
                output_is_masked: true,
            };
            conv.forward_linked(x, true, links)
        }
        false => conv_norm_of_rois((conv, norm), x, valid),
    })
}

/// Whether each layer of the head and of the predictor can mask the gradient of its input.
pub(crate) fn is_linked(head: &MaskHead, predictor: &MaskPredictor, pooled: &Tensor<4>) -> bool {
    has_links(&pooled.device(), pooled.dtype())
        && head
            .iter()
            .all(|(conv, norm)| norm.is_none() && conv.can_be_linked())
        && predictor.mask_fcn_logits.can_be_linked()
}

/// Counts the activations of both parts of the mask head for `objects` RoIs of `pool x pool` bins.
pub(crate) fn count_mask_head(
    memory: &mut Activations,
    head: &MaskHead,
    predictor: &MaskPredictor,
    [objects, pool]: [usize; 2],
) {
    let mut layers = Activations::of(memory.bytes);
    let cells = (objects * pool * pool) as u64;
    let [input, hidden, ..] = predictor.conv5_mask.weight.dims();
    let input = head
        .first()
        .map_or(input, |(conv, _)| conv.settings().input) as u64;
    // Pooled features and their copy.
    layers.add(cells * input, 2 * layers.bytes, true);
    for (conv, norm) in head {
        count_conv_norm(&mut layers, conv, norm, cells, true);
    }
    // Four times the cells.
    layers.add(4 * cells * hidden as u64, layers.bytes, true);
    // On the CPU the logits in both orders, and their loss in f32; GPUs keep less.
    let classes = predictor.mask_fcn_logits.settings().output as u64;
    layers.add(4 * cells * classes, layers.bytes + 3 * FLOAT, true);
    memory.keep(layers);
}

/// Upsampling and the class-wise masks.
#[derive(Module, Debug)]
pub struct MaskPredictor {
    conv5_mask: Deconv2x2,
    mask_fcn_logits: Conv2d,
}

impl MaskPredictor {
    /// A predictor for the configured classes.
    pub fn new(init: &Init<'_>, config: &ModelConfig) -> Self {
        let head = &config.mask_head;
        let input = head.convs.last().copied().unwrap_or(config.fpn_channels);
        let logits = ConvSettings {
            bias: true,
            // As in Detectron2: with torchvision's Kaiming initializer, narrow heads would start with logits in the
            // tens.
            fill: Fill::Normal(0.001),
            ..ConvSettings::new(head.hidden, config.num_classes, 1)
        };
        Self {
            conv5_mask: Deconv2x2::new(&init.child("conv5_mask"), input, head.hidden),
            mask_fcn_logits: Conv2d::new(&init.child("mask_fcn_logits"), logits),
        }
    }

    pub(super) fn layers(&mut self) -> impl Iterator<Item = Layer<'_>> {
        let Self {
            conv5_mask,
            mask_fcn_logits,
        } = self;
        [Layer::Deconv(conv5_mask), Layer::Conv(mask_fcn_logits)].into_iter()
    }

    /// `[r, c, p, p]` -> mask logits `[r, k, 2p, 2p]`, f32.
    ///
    /// The four outputs of a cell are put into rows and columns after the last convolution, which is 1x1 and does not
    /// depend on their order: one mask per class is less to copy than the hidden channels.
    pub fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        self.masks(x, Chain::default())
    }

    /// [`Self::forward`] as a part of `chain`.
    pub(crate) fn masks(&self, x: Tensor<4>, chain: Chain) -> Tensor<4> {
        let [r, ..] = x.dims();
        full(cells_together(self.logits(x, chain), r))
    }

    /// The logits `[r, k, cells]` in the dtype of `x`, in an order of cells in which they need not be copied on GPUs,
    /// see [`reorder_targets`].
    #[cfg(feature = "train")]
    pub(crate) fn cells(&self, x: Tensor<4>, chain: Chain) -> Tensor<3> {
        let [r, _, h, w] = x.dims();
        let logits = self.logits(x, chain);
        let [_, classes, ..] = logits.dims();
        if has_selection_kernels(&logits.device()) {
            let last = logits.permute([0, 2, 3, 1]);
            return (last.reshape([r, h * w * 4, classes])).permute([0, 2, 1]);
        }
        cells_together(logits, r).reshape([r, classes, h * w * 4])
    }

    /// Logits as [`cells_apart`] arranges them.
    fn logits(&self, x: Tensor<4>, chain: Chain) -> Tensor<4> {
        let Chain {
            is_linked,
            is_after_relu,
        } = chain;
        let links = Links {
            masks_input: is_linked && is_after_relu,
            output_is_masked: is_linked,
        };
        let hidden = cells_apart(self.conv5_mask.forward_relu(x, links));
        let links = Links {
            masks_input: is_linked,
            output_is_masked: false,
        };
        self.mask_fcn_logits.forward_linked(hidden, false, links)
    }
}

/// The layers before a [`MaskPredictor`].
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Chain {
    /// Whether each layer masks the gradient of its input.
    pub(crate) is_linked: bool,
    /// Whether a ReLU precedes the predictor.
    pub(crate) is_after_relu: bool,
}

/// Mask targets `[r, side * side]`, row by row -> `[r, cells]` in the order of [`MaskPredictor::cells`]: on GPUs the
/// four outputs of an upsampled cell are adjacent.
#[cfg(feature = "train")]
pub(crate) fn reorder_targets(targets: Tensor<2>) -> Tensor<2> {
    let [r, cells] = targets.dims();
    if !has_selection_kernels(&targets.device()) {
        return targets;
    }
    let half = (cells / 4).isqrt();
    let targets = targets.reshape([r, half, 2, half, 2]);
    // Reshaped through one dimension: on CUDA, Burn pads the rows of a two-dimensional copy, and the loss would copy it
    // again.
    let flat: Tensor<1> = (targets.permute([0, 1, 3, 2, 4])).reshape([r * cells]);
    flat.reshape([r, cells])
}

/// `[r, 4 * c, h, w]`, the channels of the upper left outputs of all cells first, as a view in which each output has
/// `c` channels: `[4 * r, c, h, w]` on the CPU, whose tensors are planes, and `[r, c, h, 4 * w]` on GPUs, where they
/// are channels-last.
fn cells_apart(x: Tensor<4>) -> Tensor<4> {
    let [r, channels, h, w] = x.dims();
    let c = channels / 4;
    if has_selection_kernels(&x.device()) {
        let last = x.permute([0, 2, 3, 1]).reshape([r, h, w * 4, c]);
        return last.permute([0, 3, 1, 2]);
    }
    x.reshape([r * 4, c, h, w])
}

/// The outputs of `r` RoIs as [`cells_apart`] arranges them -> `[r, c, 2h, 2w]`.
fn cells_together(x: Tensor<4>, r: usize) -> Tensor<4> {
    let [images, c, h, columns] = x.dims();
    if has_selection_kernels(&x.device()) {
        let w = columns / 4;
        let cells = x.reshape([r, c, h, w, 2, 2]).permute([0, 1, 2, 4, 3, 5]);
        return cells.reshape([r, c, h * 2, w * 2]);
    }
    debug_assert_eq!(images, r * 4);
    let cells = x.reshape([r, 2, 2, c, h, columns]);
    let cells = cells.permute([0, 3, 4, 1, 5, 2]);
    cells.reshape([r, c, h * 2, columns * 2])
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
