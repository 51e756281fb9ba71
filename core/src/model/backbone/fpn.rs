//! Feature pyramid network (Lin et al., 2016).

use crate::config::{ModelConfig, NormKind};
use crate::model::init::{Fill, Init};
use crate::model::layer::Layer;
use crate::model::layers::{Conv2d, ConvSettings};
use crate::model::memory::Activations;
use crate::model::norm::{Norm, NormSettings, conv_norm, count_conv_norm};
use burn::module::Module;
use burn::tensor::ops::MaxPoolOptions;
use burn::tensor::{Tensor, module};
use mrcnn_kernels::{Links, upsample_add};

/// Lateral 1x1 and output 3x3 convolutions of P2 to P5; P6 is every second cell of P5.
#[derive(Module, Debug)]
pub struct Fpn {
    inner_blocks: Vec<(Conv2d, Option<Norm>)>,
    layer_blocks: Vec<(Conv2d, Option<Norm>)>,
}

impl Fpn {
    /// A feature pyramid for C2 to C5 with `channels`.
    pub fn new(init: &Init<'_>, channels: [usize; 4], config: &ModelConfig) -> Self {
        let output = config.fpn_channels;
        let block = |init: Init<'_>, input: usize, kernel: usize| {
            let settings = ConvSettings {
                bias: config.head_norm == NormKind::None,
                fill: Fill::KaimingUniform,
                ..ConvSettings::new(input, output, kernel)
            };
            let conv = Conv2d::new(&init.child(0), settings);
            let norm = Norm::new(&init.child(1), output, NormSettings::of_heads(config));
            (conv, norm)
        };
        let inner = init.child("inner_blocks");
        let layer = init.child("layer_blocks");
        let inner_blocks = channels.into_iter().enumerate();
        Self {
            inner_blocks: inner_blocks
                .map(|(level, input)| block(inner.child(level), input, 1))
                .collect(),
            layer_blocks: (0..channels.len())
                .map(|level| block(layer.child(level), output, 3))
                .collect(),
        }
    }

    /// Whether the lateral convolutions can mask the gradients of C2 to C5, see [`Links`].
    pub(super) fn can_be_linked(&self) -> bool {
        let can_be_linked =
            |(conv, norm): &(Conv2d, Option<Norm>)| norm.is_none() && conv.can_be_linked();
        self.inner_blocks.iter().all(can_be_linked)
    }

    /// C2 to C5 -> P2 to P6, all `[n, fpn_channels, h, w]` at strides 4, 8, 16, 32, 64.
    pub fn forward(&self, features: [Tensor<4>; 4]) -> Vec<Tensor<4>> {
        self.pyramid(features, false)
    }

    /// As [`Self::forward`]. If `is_linked`, the gradients of C2 to C5, which are outputs of ReLUs, are masked.
    pub(super) fn pyramid(&self, features: [Tensor<4>; 4], is_linked: bool) -> Vec<Tensor<4>> {
        let links = Links {
            masks_input: true,
            output_is_masked: false,
        };
        let mut laterals = features
            .into_iter()
            .zip(&self.inner_blocks)
            .map(|(c, (conv, norm))| match is_linked {
                true => conv.forward_linked(c, false, links),
                false => conv_norm(conv, norm, c, false),
            })
            .collect::<Vec<_>>();
        for level in (0..3).rev() {
            let top = laterals[level + 1].clone();
            // Moved out, so that the sum can reuse its memory.
            let lateral = std::mem::replace(&mut laterals[level], top.clone());
            laterals[level] = upsample_add(lateral, top);
        }
        let mut pyramid: Vec<_> = laterals
            .into_iter()
            .zip(&self.layer_blocks)
            .map(|(inner, (conv, norm))| conv_norm(conv, norm, inner, false))
            .collect();
        pyramid.push(subsample_by_two(pyramid[3].clone()));
        pyramid
    }

    pub(super) fn layers(&mut self) -> impl Iterator<Item = Layer<'_>> {
        let blocks = self.inner_blocks.iter_mut().chain(&mut self.layer_blocks);
        blocks.map(|(conv, norm)| Layer::ConvNorm(conv, norm))
    }

    /// Counts the activations of an image. The sums of laterals are inputs of layers with trained parameters. The
    /// outputs are packed, and `MaskRcnn::activation_bytes` counts the packed ones; they are kept themselves for the
    /// RPN if `keeps_outputs`.
    pub(crate) fn count(
        &self,
        memory: &mut Activations,
        cells: &dyn Fn(usize) -> u64,
        keeps_outputs: bool,
    ) {
        for (blocks, is_kept) in [
            (&self.inner_blocks, true),
            (&self.layer_blocks, keeps_outputs),
        ] {
            for (level, (conv, norm)) in blocks.iter().enumerate() {
                count_conv_norm(memory, conv, norm, cells(4 << level), is_kept);
            }
        }
    }
}

/// Every second row and column: a max pool of one cell with stride 2, as in torchvision.
fn subsample_by_two(x: Tensor<4>) -> Tensor<4> {
    module::max_pool2d(x, MaxPoolOptions::new([1, 1]).with_stride([2, 2]))
}
