//! ResNet (He et al., 2015), v1.5: the stride of a bottleneck is in its 3x3 convolution, unless the
//! configuration says otherwise.

use crate::config::ModelConfig;
use crate::model::layers::{Conv2d, to};
use crate::model::norm::{Norm, conv_norm, conv_norm_add};
use burn::module::Module;
use burn::tensor::{Device, FloatDType, Tensor};
use mrcnn_kernels::max_pool3x3;

/// The backbone's body: C2 to C5.
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
    /// A body with zero weights, frozen up to `config.freeze_at`.
    pub fn new(config: &ModelConfig, device: &Device) -> Self {
        let stem_frozen = config.freeze_at > 0;
        let mut input = config.width;
        let mut stage = |index: usize| {
            let build = BlockBuilder {
                config,
                device,
                frozen: config.freeze_at > index + 1,
            };
            let width = config.width << index;
            let blocks = (0..config.backbone.blocks()[index]).map(|block| {
                let stride = if block == 0 && index > 0 { 2 } else { 1 };
                let block = build.block(input, width, stride);
                input = width * config.backbone.expansion();
                block
            });
            blocks.collect()
        };
        Self {
            conv1: Conv2d::new([3, config.width], 7, 2, false, device),
            bn1: Norm::new(config.norm, config.width, stem_frozen, config, device),
            layer1: stage(0),
            layer2: stage(1),
            layer3: stage(2),
            layer4: stage(3),
        }
    }

    /// Picture `[n, 3, h, w]` -> C2, C3, C4, C5 at strides 4, 8, 16, 32, in the format of the picture.
    pub fn forward(&self, x: Tensor<4>) -> [Tensor<4>; 4] {
        let format = x.dtype().into();
        self.forward_in(x, format)
    }

    /// As [`Self::forward`], in `format`; the stem computes in that of the picture.
    pub fn forward_in(&self, x: Tensor<4>, format: FloatDType) -> [Tensor<4>; 4] {
        let x = to(conv_norm(&self.conv1, &self.bn1, x, true), format);
        let x = max_pool3x3(x);
        let stage = |blocks: &[Block], x| blocks.iter().fold(x, |x, block| block.forward(x));
        let c2 = stage(&self.layer1, x);
        let c3 = stage(&self.layer2, c2.clone());
        let c4 = stage(&self.layer3, c3.clone());
        let c5 = stage(&self.layer4, c4.clone());
        [c2, c3, c4, c5]
    }

    /// Channels of C2 to C5.
    pub fn channels(config: &ModelConfig) -> [usize; 4] {
        [0, 1, 2, 3].map(|stage| (config.width << stage) * config.backbone.expansion())
    }
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
    fn forward(&self, x: Tensor<4>) -> Tensor<4> {
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
}

struct BlockBuilder<'a> {
    config: &'a ModelConfig,
    device: &'a Device,
    frozen: bool,
}

impl BlockBuilder<'_> {
    fn block(&self, input: usize, width: usize, stride: usize) -> Block {
        let output = width * self.config.backbone.expansion();
        let bottleneck = output != width;
        let (first, second) = if bottleneck { (1, 3) } else { (3, 3) };
        // v1.5: a bottleneck strides in its 3x3 convolution; a basic block has no other than its first.
        let first_strides = !bottleneck || self.config.stride_in_1x1;
        let (stride1, stride2) = if first_strides {
            (stride, 1)
        } else {
            (1, stride)
        };
        Block {
            conv1: self.conv([input, width], first, stride1),
            bn1: self.norm(width),
            conv2: self.conv([width, width], second, stride2),
            bn2: self.norm(width),
            conv3: bottleneck.then(|| self.conv([width, output], 1, 1)),
            bn3: if bottleneck { self.norm(output) } else { None },
            downsample: (stride != 1 || input != output)
                .then(|| (self.conv([input, output], 1, stride), self.norm(output))),
        }
    }

    fn conv(&self, channels: [usize; 2], kernel: usize, stride: usize) -> Conv2d {
        Conv2d::new(channels, kernel, stride, false, self.device)
    }

    fn norm(&self, channels: usize) -> Option<Norm> {
        Norm::new(
            self.config.norm,
            channels,
            self.frozen,
            self.config,
            self.device,
        )
    }
}
