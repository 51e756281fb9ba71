//! Feature pyramid network (Lin et al., 2016).

use super::resnet::ResNet;
use crate::config::{ModelConfig, NormKind};
use crate::model::layers::Conv2d;
use crate::model::norm::{Norm, conv_norm};
use burn::module::Module;
use burn::tensor::ops::MaxPoolOptions;
use burn::tensor::{Device, Tensor, module};
use mrcnn_kernels::upsample_add;

/// Lateral 1x1 and output 3x3 convolutions of P2 to P5; P6 is every second cell of P5.
#[derive(Module, Debug)]
pub struct Fpn {
    inner_blocks: Vec<(Conv2d, Option<Norm>)>,
    layer_blocks: Vec<(Conv2d, Option<Norm>)>,
}

impl Fpn {
    /// A pyramid with zero weights.
    pub fn new(config: &ModelConfig, device: &Device) -> Self {
        let channels = config.fpn_channels;
        let block = |input: usize, kernel: usize| {
            let bias = config.head_norm == NormKind::None;
            let conv = Conv2d::new([input, channels], kernel, 1, bias, device);
            (
                conv,
                Norm::new(config.head_norm, channels, false, config, device),
            )
        };
        Self {
            inner_blocks: ResNet::channels(config).map(|input| block(input, 1)).into(),
            layer_blocks: (0..4).map(|_| block(channels, 3)).collect(),
        }
    }

    /// C2 to C5 -> P2 to P6, all `[n, fpn_channels, h, w]` at strides 4, 8, 16, 32, 64.
    pub fn forward(&self, features: [Tensor<4>; 4]) -> Vec<Tensor<4>> {
        let mut laterals = features
            .into_iter()
            .zip(&self.inner_blocks)
            .map(|(c, (conv, norm))| conv_norm(conv, norm, c, false))
            .collect::<Vec<_>>();
        for level in (0..3).rev() {
            let top = laterals[level + 1].clone();
            // Moved out, so that the sum may take its place in memory.
            let lateral = std::mem::replace(&mut laterals[level], top.clone());
            laterals[level] = upsample_add(lateral, top);
        }
        let mut pyramid: Vec<_> = laterals
            .into_iter()
            .zip(&self.layer_blocks)
            .map(|(inner, (conv, norm))| conv_norm(conv, norm, inner, false))
            .collect();
        pyramid.push(every_second(pyramid[3].clone()));
        pyramid
    }
}

/// Every second row and column: a max pool of one cell with stride 2, as in torchvision.
fn every_second(x: Tensor<4>) -> Tensor<4> {
    module::max_pool2d(x, MaxPoolOptions::new([1, 1]).with_stride([2, 2]))
}
