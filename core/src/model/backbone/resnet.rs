//! ResNet (He et al., 2015), v1.5: the stride of a bottleneck is in its 3x3 convolution, unless `stride_in_1x1` is
//! set; ResNeXt (Xie et al., 2016) and Wide ResNet (Zagoruyko and Komodakis, 2016).

use crate::config::ModelConfig;
use crate::model::init::Init;
use crate::model::layer::Layer;
use crate::model::layers::{Conv2d, ConvSettings, to};
use crate::model::memory::Activations;
use crate::model::norm::{Norm, NormSettings, conv_norm, conv_norm_add, count_conv_norm};
use burn::module::Module;
use burn::tensor::{DType, Device, FloatDType, Tensor};
use mrcnn_kernels::{Links, bottleneck, has_links, max_pool3x3};

/// A ResNet without its classifier: C2 to C5.
#[derive(Module, Debug)]
pub struct ResNet {
    conv1: Conv2d,
    bn1: Option<Norm>,
    layer1: Vec<Block>,
    layer2: Vec<Block>,
    layer3: Vec<Block>,
    layer4: Vec<Block>,
}

impl ResNet {
    /// A body, frozen up to `config.freeze_at`.
    pub fn new(init: &Init<'_>, config: &ModelConfig) -> Self {
        let norm = NormSettings::of_body(config);
        let stem = init.frozen(config.freeze_at > 0);
        let mut input = config.width;
        let mut stage = |index: usize| -> Vec<Block> {
            let stage = init.child(format_args!("layer{}", index + 1));
            let stage = stage.frozen(config.freeze_at > index + 1);
            let blocks = (0..config.backbone.blocks()[index]).map(|block| {
                let settings = BlockSettings {
                    input,
                    width: config.inner_width(index),
                    output: Self::channels(config)[index],
                    stride: if block == 0 && index > 0 { 2 } else { 1 },
                    stride_in_1x1: config.stride_in_1x1,
                    is_bottleneck: config.backbone.expansion() > 1,
                    groups: config.groups,
                    norm,
                };
                input = settings.output;
                Block::new(&stage.child(block), settings)
            });
            blocks.collect()
        };
        let conv1 = ConvSettings {
            stride: 2,
            ..ConvSettings::new(3, config.width, 7)
        };
        Self {
            conv1: Conv2d::new(&stem.child("conv1"), conv1),
            bn1: Norm::new(&stem.child("bn1"), config.width, norm),
            layer1: stage(0),
            layer2: stage(1),
            layer3: stage(2),
            layer4: stage(3),
        }
    }

    /// Images `[n, 3, h, w]` -> C2, C3, C4, C5 at strides 4, 8, 16, 32, in the dtype of the images.
    pub fn forward(&self, x: Tensor<4>) -> [Tensor<4>; 4] {
        let dtype = x.dtype().into();
        self.forward_in(x, dtype, false)
    }

    /// As [`Self::forward`], in `dtype`; the stem computes in that of the images. If `is_linked`, everything that uses
    /// C2 to C5 must mask the gradients of them; see [`Self::can_be_linked`].
    pub(super) fn forward_in(
        &self,
        x: Tensor<4>,
        dtype: FloatDType,
        is_linked: bool,
    ) -> [Tensor<4>; 4] {
        let x = to(conv_norm(&self.conv1, &self.bn1, x, true), dtype);
        let x = max_pool3x3(x);
        let ends = |masks_input: bool| Links {
            masks_input: is_linked && masks_input,
            output_is_masked: is_linked,
        };
        let c2 = run_stage(&self.layer1, x, ends(false));
        let c3 = run_stage(&self.layer2, c2.clone(), ends(true));
        let c4 = run_stage(&self.layer3, c3.clone(), ends(true));
        let c5 = run_stage(&self.layer4, c4.clone(), ends(true));
        [c2, c3, c4, c5]
    }

    /// Whether all blocks are single operations, which mask the gradients of their inputs.
    pub(super) fn can_be_linked(&self, device: &Device, dtype: DType) -> bool {
        let mut stages = [&self.layer1, &self.layer2, &self.layer3, &self.layer4].into_iter();
        stages.all(|blocks| are_single_operations(blocks, device, dtype))
    }

    /// The first convolution and its norm.
    pub(super) fn stem(&mut self) -> (&mut Conv2d, &mut Option<Norm>) {
        (&mut self.conv1, &mut self.bn1)
    }

    /// All layers but the stem.
    pub(super) fn layers(&mut self) -> impl Iterator<Item = Layer<'_>> {
        let stages = [
            &mut self.layer1,
            &mut self.layer2,
            &mut self.layer3,
            &mut self.layer4,
        ];
        stages.into_iter().flatten().flat_map(Block::layers)
    }

    /// Channels of C2 to C5.
    pub fn channels(config: &ModelConfig) -> [usize; 4] {
        [0, 1, 2, 3].map(|stage| (config.width << stage) * config.backbone.expansion())
    }

    /// Counts the activations of an image; `cells` are rows times columns at a stride.
    pub(crate) fn count(&self, memory: &mut Activations, cells: &dyn Fn(usize) -> u64) {
        // The stem computes in f32.
        let mut stem = Activations::new(FloatDType::F32);
        count_conv_norm(&mut stem, &self.conv1, &self.bn1, cells(2), true);
        memory.merge(stem);
        let stages = [&self.layer1, &self.layer2, &self.layer3, &self.layer4];
        for (index, blocks) in stages.into_iter().enumerate() {
            for block in blocks {
                block.count(memory, cells, 4 << index);
            }
        }
    }
}

/// The blocks of a stage, one after the other. `ends` are the links of the first block's input and of the last one's
/// output, which need blocks that are single operations.
///
/// Only the next block uses the output of a block that is not the last one. If all are single operations, the next one
/// therefore masks the gradient of that output, together with that of its first convolution.
fn run_stage(blocks: &[Block], x: Tensor<4>, ends: Links) -> Tensor<4> {
    let are_single = are_single_operations(blocks, &x.device(), x.dtype());
    let last = blocks.len().saturating_sub(1);
    blocks.iter().enumerate().fold(x, |x, (index, block)| {
        let links = are_single.then_some(Links {
            masks_input: index > 0 || ends.masks_input,
            output_is_masked: index < last || ends.output_is_masked,
        });
        block.forward(x, links)
    })
}

fn are_single_operations(blocks: &[Block], device: &Device, dtype: DType) -> bool {
    has_links(device, dtype) && blocks.iter().all(Block::is_single_operation)
}

/// Settings of a block.
#[derive(Clone, Copy, Debug)]
struct BlockSettings {
    input: usize,
    /// Channels of all convolutions but the last one of a bottleneck.
    width: usize,
    /// Output channels.
    output: usize,
    /// Whether the block is a bottleneck. The widths do not determine it: those of ResNeXt-101 32x8d equal its outputs.
    is_bottleneck: bool,
    stride: usize,
    /// Whether a bottleneck strides in its first 1x1 convolution.
    stride_in_1x1: bool,
    /// Groups of the 3x3 convolution of a bottleneck.
    groups: usize,
    norm: NormSettings,
}

/// A basic block (two 3x3 convolutions) or, with `conv3`, a bottleneck (1x1, 3x3, 1x1).
#[derive(Module, Debug)]
struct Block {
    conv1: Conv2d,
    bn1: Option<Norm>,
    conv2: Conv2d,
    bn2: Option<Norm>,
    conv3: Option<Conv2d>,
    bn3: Option<Norm>,
    downsample: Option<(Conv2d, Option<Norm>)>,
}

impl Block {
    fn new(init: &Init<'_>, settings: BlockSettings) -> Self {
        let BlockSettings {
            input,
            width,
            output,
            stride,
            is_bottleneck,
            groups,
            ..
        } = settings;
        // v1.5: a bottleneck strides in its 3x3 convolution; a basic block in its first one.
        let first_strides = !is_bottleneck || settings.stride_in_1x1;
        let [stride1, stride2] = if first_strides {
            [stride, 1]
        } else {
            [1, stride]
        };
        let conv = |name: &str, settings| Conv2d::new(&init.child(name), settings);
        let norm = |name: &str, channels| Norm::new(&init.child(name), channels, settings.norm);
        let first = ConvSettings {
            stride: stride1,
            ..ConvSettings::new(input, width, if is_bottleneck { 1 } else { 3 })
        };
        let second = ConvSettings {
            stride: stride2,
            groups: if is_bottleneck { groups } else { 1 },
            ..ConvSettings::new(width, width, 3)
        };
        let shortcut = ConvSettings {
            stride,
            ..ConvSettings::new(input, output, 1)
        };
        Self {
            conv1: conv("conv1", first),
            bn1: norm("bn1", width),
            conv2: conv("conv2", second),
            bn2: norm("bn2", width),
            conv3: is_bottleneck.then(|| conv("conv3", ConvSettings::new(width, output, 1))),
            bn3: if is_bottleneck {
                norm("bn3", output)
            } else {
                None
            },
            downsample: (stride != 1 || input != output)
                .then(|| (conv("downsample.0", shortcut), norm("downsample.1", output))),
        }
    }

    /// Whether [`bottleneck`] computes the block on devices with links: it has three convolutions, into which their
    /// norms are folded.
    fn is_single_operation(&self) -> bool {
        let Some(conv3) = &self.conv3 else {
            return false;
        };
        let convs = [&self.conv1, &self.conv2, conv3];
        let norms = [&self.bn1, &self.bn2, &self.bn3];
        let is_projection =
            |(conv, norm): &(Conv2d, Option<Norm>)| conv.is_projection() && norm.is_none();
        convs.iter().all(|conv| conv.can_be_linked())
            && norms.iter().all(|norm| norm.is_none())
            && self.downsample.iter().all(is_projection)
    }

    /// With `links`, [`bottleneck`] computes the block as a single operation; see [`Self::is_single_operation`].
    fn forward(&self, x: Tensor<4>, links: Option<Links>) -> Tensor<4> {
        if let (Some(links), Some(conv3)) = (links, &self.conv3) {
            let convs = [&self.conv1, &self.conv2, conv3].map(Conv2d::params);
            let projection = self.downsample.as_ref().map(|(conv, _)| conv.params());
            return bottleneck(x, convs, projection, links);
        }
        let shortcut = match &self.downsample {
            Some((conv, norm)) => conv_norm(conv, norm, x.clone(), false),
            None => x.clone(),
        };
        let x = conv_norm(&self.conv1, &self.bn1, x, true);
        match &self.conv3 {
            Some(conv3) => {
                let x = conv_norm(&self.conv2, &self.bn2, x, true);
                conv_norm_add(conv3, &self.bn3, x, shortcut)
            }
            None => conv_norm_add(&self.conv2, &self.bn2, x, shortcut),
        }
    }

    fn layers(&mut self) -> impl Iterator<Item = Layer<'_>> {
        let first = [
            Layer::ConvNorm(&mut self.conv1, &mut self.bn1),
            Layer::ConvNorm(&mut self.conv2, &mut self.bn2),
        ];
        let third = self.conv3.as_mut();
        let third = third.map(|conv| Layer::ConvNorm(conv, &mut self.bn3));
        let shortcut = self.downsample.as_mut();
        let shortcut = shortcut.map(|(conv, norm)| Layer::ConvNorm(conv, norm));
        first.into_iter().chain(third).chain(shortcut)
    }

    /// Counts the activations of the block, whose output has `stride`.
    fn count(&self, memory: &mut Activations, cells: &dyn Fn(usize) -> u64, stride: usize) {
        let strides = self.conv1.settings().stride * self.conv2.settings().stride;
        let after_first = cells(stride / strides * self.conv1.settings().stride);
        count_conv_norm(memory, &self.conv1, &self.bn1, after_first, true);
        count_conv_norm(memory, &self.conv2, &self.bn2, cells(stride), true);
        if let Some(conv3) = &self.conv3 {
            count_conv_norm(memory, conv3, &self.bn3, cells(stride), true);
        }
        if let Some((conv, norm)) = &self.downsample {
            count_conv_norm(memory, conv, norm, cells(stride), false);
        }
    }
}
