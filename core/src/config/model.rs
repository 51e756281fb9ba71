//! Settings of the network.

use serde::{Deserialize, Serialize};

/// ResNet depth.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Backbone {
    /// 2-2-2-2 basic blocks.
    Resnet18,
    /// 3-4-6-3 basic blocks.
    Resnet34,
    /// 3-4-6-3 bottlenecks.
    Resnet50,
    /// 3-4-23-3 bottlenecks.
    Resnet101,
    /// 3-8-36-3 bottlenecks.
    Resnet152,
}

impl Backbone {
    /// Blocks of the four stages.
    pub fn blocks(self) -> [usize; 4] {
        match self {
            Self::Resnet18 => [2, 2, 2, 2],
            Self::Resnet34 | Self::Resnet50 => [3, 4, 6, 3],
            Self::Resnet101 => [3, 4, 23, 3],
            Self::Resnet152 => [3, 8, 36, 3],
        }
    }

    /// Ratio of a block's output channels to its width: 4 for bottlenecks.
    pub fn expansion(self) -> usize {
        match self {
            Self::Resnet18 | Self::Resnet34 => 1,
            _ => 4,
        }
    }
}

/// Normalization layers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NormKind {
    /// No normalization; the convolution has a bias.
    None,
    /// Batch norm with fixed statistics, folded into the convolution: for fine-tuning.
    FrozenBn,
    /// Batch norm with the statistics of the batch in training: for training from scratch.
    BatchNorm,
    /// Group norm: for training from scratch with few images per device.
    GroupNorm,
}

/// The network.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ModelConfig {
    /// ResNet depth.
    pub backbone: Backbone,
    /// Channels of the stem; the stages have 1, 2, 4 and 8 times as many (times the expansion).
    pub width: usize,
    /// Groups of the 3x3 convolutions of bottlenecks: 32 for ResNeXt 32x4d and 32x8d, 64 for ResNeXt 64x4d.
    pub groups: usize,
    /// Channels per group of the 3x3 convolutions in the first stage if model.width is 64, otherwise in proportion: 4
    /// or 8 for ResNeXt, 128 for Wide ResNet.
    pub width_per_group: usize,
    /// Normalization of the backbone.
    pub norm: NormKind,
    /// Normalization of the FPN, the mask head and the convolutions of the box head.
    pub head_norm: NormKind,
    /// Epsilon that is added to the variance: 0 for torchvision's COCO weights, otherwise 1e-5.
    pub norm_eps: f64,
    /// Weight of the new batch in the running statistics of batch norm.
    pub norm_momentum: f64,
    /// Groups of group norm.
    pub norm_groups: usize,
    /// Whether a bottleneck has its stride in the first 1x1 convolution (Detectron2's MSRA backbones) instead of the
    /// 3x3 convolution (v1.5, torchvision).
    pub stride_in_1x1: bool,
    /// Number of frozen parts: 0 none, 1 the stem, 2 the stem and the first stage, up to 5.
    pub freeze_at: usize,
    /// Channels of every FPN level.
    pub fpn_channels: usize,
    /// Number of classes, including the background; 0 takes it from the data.
    pub num_classes: usize,
    /// Region proposal network.
    pub rpn: RpnConfig,
    /// Sampling and post-processing of RoIs.
    pub roi: RoiConfig,
    /// Box head.
    pub box_head: BoxHeadConfig,
    /// Mask head.
    pub mask_head: MaskHeadConfig,
}

impl Default for ModelConfig {
    fn default() -> Self {
        Self {
            backbone: Backbone::Resnet50,
            width: 64,
            groups: 1,
            width_per_group: 64,
            norm: NormKind::FrozenBn,
            head_norm: NormKind::None,
            norm_eps: 1e-5,
            norm_momentum: 0.1,
            norm_groups: 32,
            stride_in_1x1: false,
            freeze_at: 2,
            fpn_channels: 256,
            num_classes: 0,
            rpn: RpnConfig::default(),
            roi: RoiConfig::default(),
            box_head: BoxHeadConfig::default(),
            mask_head: MaskHeadConfig::default(),
        }
    }
}

impl ModelConfig {
    /// Channels of the 3x3 convolutions of the blocks of stage `index`, from 0.
    pub fn inner_width(&self, index: usize) -> usize {
        let planes = self.width << index;
        match self.backbone.expansion() {
            1 => planes,
            _ => planes * self.width_per_group / 64 * self.groups,
        }
    }

    /// The keys of the norms that are batch norms with statistics of the batch, as errors name them.
    pub(crate) fn batch_norm_keys(&self) -> Option<&'static str> {
        let is_batch_norm = |norm: NormKind| norm == NormKind::BatchNorm;
        match (is_batch_norm(self.norm), is_batch_norm(self.head_norm)) {
            (true, true) => Some("model.norm and model.head_norm"),
            (true, false) => Some("model.norm"),
            (false, true) => Some("model.head_norm"),
            (false, false) => None,
        }
    }
}

/// Region proposal network (Faster R-CNN, section 3.1).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RpnConfig {
    /// Number of 3x3 convolutions before the predictors: 1, or 2 for torchvision's v2.
    pub convs: usize,
    /// Anchor side of each level P2-P6, in pixels.
    pub anchor_sizes: Vec<f32>,
    /// Ratios of height to width of the anchors of each cell.
    pub anchor_ratios: Vec<f32>,
    /// Whether anchors are rounded to whole pixels, and their distance is the padded side over the number of cells in
    /// whole pixels (torchvision: true), instead of the level's stride (Detectron2: false).
    pub round_anchors: bool,
    /// Distance of an anchor's center from the upper left corner of its cell, as a fraction of the stride: 0 in
    /// torchvision and Detectron2, 0.5 in the reference system.
    pub anchor_offset: f32,
    /// Minimum IoU of an object anchor.
    pub fg_iou: f32,
    /// Anchors with a smaller IoU are background.
    pub bg_iou: f32,
    /// Number of sampled anchors per image.
    pub batch_per_image: usize,
    /// Maximum fraction of object anchors among the sampled anchors.
    pub positive_fraction: f64,
    /// Proposals per level before NMS, training.
    pub pre_nms_train: usize,
    /// Proposals per level before NMS, inference.
    pub pre_nms_test: usize,
    /// Proposals per image after NMS, training.
    pub post_nms_train: usize,
    /// Proposals per image after NMS, inference.
    pub post_nms_test: usize,
    /// IoU threshold of NMS of proposals.
    pub nms_iou: f64,
    /// Minimum side of a proposal in pixels.
    pub min_size: f32,
}

impl Default for RpnConfig {
    fn default() -> Self {
        Self {
            convs: 1,
            anchor_sizes: vec![32.0, 64.0, 128.0, 256.0, 512.0],
            anchor_ratios: vec![0.5, 1.0, 2.0],
            round_anchors: true,
            anchor_offset: 0.0,
            fg_iou: 0.7,
            bg_iou: 0.3,
            batch_per_image: 256,
            positive_fraction: 0.5,
            pre_nms_train: 2000,
            pre_nms_test: 1000,
            post_nms_train: 2000,
            post_nms_test: 1000,
            nms_iou: 0.7,
            min_size: 1e-3,
        }
    }
}

/// Sampling of RoIs in training and post-processing in inference.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RoiConfig {
    /// Minimum IoU of an object proposal.
    pub fg_iou: f32,
    /// Proposals with a smaller IoU are background.
    pub bg_iou: f32,
    /// Number of sampled RoIs per image.
    pub batch_per_image: usize,
    /// Maximum fraction of object RoIs among the sampled RoIs.
    pub positive_fraction: f64,
    /// Weights of the box deltas x, y, w, h.
    pub box_weights: [f32; 4],
    /// Score threshold: detections need a higher score.
    pub score_threshold: f32,
    /// IoU threshold of NMS per class.
    pub nms_iou: f64,
    /// Maximum number of detections per image.
    pub max_detections: usize,
    /// Half-cell shift in RoIAlign (Detectron2: true, torchvision: false).
    pub aligned: bool,
    /// Samples per bin and axis in RoIAlign; 0 adapts to the box.
    pub sampling_ratio: usize,
}

impl Default for RoiConfig {
    fn default() -> Self {
        Self {
            fg_iou: 0.5,
            bg_iou: 0.5,
            batch_per_image: 512,
            positive_fraction: 0.25,
            box_weights: [10.0, 10.0, 5.0, 5.0],
            score_threshold: 0.05,
            nms_iou: 0.5,
            max_detections: 100,
            aligned: false,
            sampling_ratio: 2,
        }
    }
}

/// Box head: two fully connected layers, or convolutions and one fully connected layer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct BoxHeadConfig {
    /// Side of the pooled RoI in bins.
    pub pool: usize,
    /// Number of 3x3 convolutions with as many channels as the FPN, before one fully connected layer: 4 for
    /// torchvision's v2. 0 for two fully connected layers without convolutions.
    pub convs: usize,
    /// Width of the fully connected layers.
    pub hidden: usize,
}

impl Default for BoxHeadConfig {
    fn default() -> Self {
        Self {
            pool: 7,
            convs: 0,
            hidden: 1024,
        }
    }
}

/// Mask head: convolutions, 2x upsampling, one mask per class.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct MaskHeadConfig {
    /// Side of the pooled RoI in bins; masks are twice as large.
    pub pool: usize,
    /// Channels of each 3x3 convolution.
    pub convs: Vec<usize>,
    /// Channels of the upsampling layer.
    pub hidden: usize,
}

impl Default for MaskHeadConfig {
    fn default() -> Self {
        Self {
            pool: 14,
            convs: vec![256; 4],
            hidden: 256,
        }
    }
}
