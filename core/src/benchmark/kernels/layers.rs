//! The convolutions and fully connected layers of a network with their sizes.

use super::scene::Scene;
use crate::config::Config;
use crate::model::ResNet;

/// A convolution with padding of half its kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ConvLayer {
    /// Images, input and output channels, rows and columns of the input.
    pub(super) sizes: [usize; 5],
    /// Side of the kernel.
    pub(super) kernel: usize,
    pub(super) stride: usize,
    pub(super) groups: usize,
}

impl ConvLayer {
    /// Rows and columns of the output.
    pub(super) fn output(&self) -> [usize; 2] {
        let [_, _, _, h, w] = self.sizes;
        [h.div_ceil(self.stride), w.div_ceil(self.stride)]
    }

    /// Elements of the input, the weights and the output.
    pub(super) fn elements(&self) -> [usize; 3] {
        let [n, c, o, h, w] = self.sizes;
        let [rows, columns] = self.output();
        let weights = o * c / self.groups * self.kernel * self.kernel;
        [n * c * h * w, weights, n * o * rows * columns]
    }

    /// Floating-point operations, two per multiply-add.
    pub(super) fn flops(&self) -> usize {
        let [_, c, ..] = self.sizes;
        let [_, _, output] = self.elements();
        2 * output * c / self.groups * self.kernel * self.kernel
    }

    pub(super) fn problem(&self) -> String {
        let [n, c, o, h, w] = self.sizes;
        let stride = if self.stride > 1 {
            format!(", stride {}", self.stride)
        } else {
            String::new()
        };
        let groups = if self.groups > 1 {
            format!(", {} groups", self.groups)
        } else {
            String::new()
        };
        format!("{n}x{c}x{h}x{w} to {o}{stride}{groups}")
    }
}

/// A fully connected layer: rows, inputs, outputs.
pub(super) type LinearLayer = [usize; 3];

/// Number of occurrences of a layer in a training step.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Occurrences {
    /// Outputs that are computed.
    pub(super) outputs: usize,
    /// Outputs whose gradients are computed, too.
    pub(super) gradients: usize,
}

/// The layers of a training step.
#[derive(Default)]
pub(super) struct Layers {
    pub(super) convs: Vec<(ConvLayer, Occurrences)>,
    pub(super) linears: Vec<(LinearLayer, usize)>,
}

impl Layers {
    pub(super) fn of(config: &Config, scene: &Scene) -> Self {
        let mut layers = Self::default();
        layers.add_backbone(config, scene);
        layers.add_fpn_and_rpn(config, scene);
        layers.add_heads(config, scene);
        layers
    }

    fn add(&mut self, layer: ConvLayer) {
        let of_layer = self.occurrences_mut(layer);
        of_layer.outputs += 1;
        of_layer.gradients += 1;
    }

    fn occurrences_mut(&mut self, layer: ConvLayer) -> &mut Occurrences {
        let known = self.convs.iter().position(|(other, _)| *other == layer);
        let index = known.unwrap_or_else(|| {
            self.convs.push((layer, Occurrences::default()));
            self.convs.len() - 1
        });
        &mut self.convs[index].1
    }

    fn conv(&mut self, sizes: [usize; 5], kernel: usize) {
        self.add(plain(sizes, kernel));
    }

    pub(super) fn add_backbone(&mut self, config: &Config, scene: &Scene) {
        let model = &config.model;
        self.add(ConvLayer {
            sizes: [scene.n, 3, model.width, scene.size.0, scene.size.1],
            kernel: 7,
            stride: 2,
            groups: 1,
        });
        let mut input = model.width;
        for stage in 0..4 {
            let output = ResNet::channels(model)[stage];
            for block in 0..model.backbone.blocks()[stage] {
                let stride = if block == 0 && stage > 0 { 2 } else { 1 };
                let level = if stride == 2 { stage + 1 } else { stage + 2 };
                self.add_block(config, scene, [input, output, stage, level], stride);
                input = output;
            }
        }
    }

    /// A block of `stage` from `input` to `output` channels, whose input has a stride of `2^level`.
    fn add_block(
        &mut self,
        config: &Config,
        scene: &Scene,
        [input, output, stage, level]: [usize; 4],
        stride: usize,
    ) {
        let model = &config.model;
        let width = model.inner_width(stage);
        let is_bottleneck = model.backbone.expansion() > 1;
        let strides = match is_bottleneck && !model.stride_in_1x1 {
            true => [1, stride],
            false => [stride, 1],
        };
        let mut at = |channels: [usize; 2], kernel: usize, strides: [usize; 2], groups: usize| {
            // `strides` are the stride of the block before this layer, and that of the layer.
            let (rows, columns) = scene.grid(level + strides[0] / 2);
            self.add(ConvLayer {
                sizes: [scene.n, channels[0], channels[1], rows, columns],
                kernel,
                stride: strides[1],
                groups,
            });
        };
        let first = if is_bottleneck { 1 } else { 3 };
        let groups = if is_bottleneck { model.groups } else { 1 };
        at([input, width], first, [1, strides[0]], 1);
        at([width, width], 3, strides, groups);
        if is_bottleneck {
            at([width, output], 1, [stride, 1], 1);
        }
        if stride != 1 || input != output {
            at([input, output], 1, [1, stride], 1);
        }
    }

    fn add_fpn_and_rpn(&mut self, config: &Config, scene: &Scene) {
        let (model, n) = (&config.model, scene.n);
        let fpn = model.fpn_channels;
        for (&(rows, columns), channels) in scene.grids.iter().zip(ResNet::channels(model)) {
            self.conv([n, channels, fpn, rows, columns], 1);
            self.conv([n, fpn, fpn, rows, columns], 3);
        }
        // Logits and deltas of the anchors.
        let (convs, outputs) = (model.rpn.convs, 5 * model.rpn.anchor_ratios.len());
        let by_windows = scene.prefers_windows(config);
        for &(rows, columns) in &scene.grids {
            let mut add = |channels: usize, kernel: usize| {
                let layer = plain([n, fpn, channels, rows, columns], kernel);
                let occurrences = self.occurrences_mut(layer);
                occurrences.outputs += 1;
                occurrences.gradients += usize::from(!by_windows);
            };
            (0..convs).for_each(|_| add(fpn, 3));
            add(outputs, 1);
        }
        if by_windows {
            self.add_windows(config, n, outputs);
        }
    }

    /// Adds the layers of the RPN over the windows of the sampled anchors, whose gradients are computed.
    fn add_windows(&mut self, config: &Config, n: usize, outputs: usize) {
        let model = &config.model;
        let (fpn, convs) = (model.fpn_channels, model.rpn.convs);
        let windows = n * model.rpn.batch_per_image;
        for index in 1..convs {
            let side = 2 * (convs - index) + 3;
            self.conv([windows, fpn, fpn, side, side], 3);
        }
        if convs > 0 {
            self.linears.push(([windows, 9 * fpn, fpn], 1));
        }
        self.linears.push(([windows, fpn, outputs], 1));
    }

    fn add_heads(&mut self, config: &Config, scene: &Scene) {
        let model = &config.model;
        let (fpn, head, mask) = (model.fpn_channels, &model.box_head, &model.mask_head);
        let rois = scene.n * model.roi.batch_per_image;
        for _ in 0..head.convs {
            self.conv([rois, fpn, fpn, head.pool, head.pool], 3);
        }
        let flat = fpn * head.pool * head.pool;
        self.linears.push(([rois, flat, head.hidden], 1));
        if head.convs == 0 {
            self.linears.push(([rois, head.hidden, head.hidden], 1));
        }
        self.linears
            .push(([rois, head.hidden, model.num_classes], 1));
        self.linears
            .push(([rois, head.hidden, 4 * model.num_classes], 1));
        let rois = scene.n * masks_per_image(config);
        let mut input = fpn;
        for &channels in &mask.convs {
            self.conv([rois, input, channels, mask.pool, mask.pool], 3);
            input = channels;
        }
        // The 2x2 transposed convolution is a 1x1 convolution with four outputs per cell.
        self.conv([rois, input, 4 * mask.hidden, mask.pool, mask.pool], 1);
        self.conv(
            [
                rois,
                mask.hidden,
                model.num_classes,
                mask.pool,
                4 * mask.pool,
            ],
            1,
        );
    }
}

/// A convolution with stride 1 and one group.
fn plain(sizes: [usize; 5], kernel: usize) -> ConvLayer {
    ConvLayer {
        sizes,
        kernel,
        stride: 1,
        groups: 1,
    }
}

/// Maximum number of RoIs per image that the mask head processes in training.
pub(super) fn masks_per_image(config: &Config) -> usize {
    let roi = &config.model.roi;
    ((roi.batch_per_image as f64 * roi.positive_fraction) as usize).max(1)
}
