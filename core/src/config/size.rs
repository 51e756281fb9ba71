//! Size of a configuration's network, computed from its settings.

use super::{Config, ConfigError, ModelConfig, NormKind};

/// Maximum number of values of all tensors: 8 GB in f32.
const MAX_VALUES: u64 = 1 << 31;

/// Maximum number of pixels of a resized image.
const MAX_PIXELS: u64 = 1 << 26;

/// Maximum number of values of an activation of the second stage, per image: 4 GB in f32.
const MAX_ACTIVATIONS: u64 = 1 << 30;

impl ModelConfig {
    /// Number of values of all tensors of the network, including statistics of norms: the size of its weights file.
    ///
    /// Computed before anything is allocated, so that a configuration from a file cannot request more memory
    /// than exists. Without `num_classes` the network is counted with one class.
    pub fn values(&self) -> u64 {
        let conv =
            |input: usize, output: usize, kernel: usize| product(&[input, output, kernel * kernel]);
        let total = [
            self.backbone_values(),
            self.fpn_values(),
            self.head_values(),
        ];
        let rpn = {
            let (channels, anchors) = (self.fpn_channels, self.rpn.anchor_ratios.len());
            conv(channels, channels, 3)
                .saturating_add(channels as u64)
                .saturating_mul(self.rpn.convs as u64)
                .saturating_add(conv(channels, 5 * anchors, 1))
                .saturating_add(product(&[5 * anchors]))
        };
        total.into_iter().fold(rpn, u64::saturating_add)
    }

    fn backbone_values(&self) -> u64 {
        let expansion = self.backbone.expansion();
        let norm = |channels| norm_values(self.norm, channels);
        let mut values = product(&[3, self.width, 49]).saturating_add(norm(self.width));
        let mut input = self.width;
        let mut add = |shape: &[usize]| values = values.saturating_add(product(shape));
        for (stage, blocks) in self.backbone.blocks().into_iter().enumerate() {
            let width = self.inner_width(stage);
            let output = (self.width << stage) * expansion;
            for block in 0..blocks {
                match expansion {
                    1 => {
                        add(&[input, width, 9]);
                        add(&[width, width, 9]);
                    }
                    _ => {
                        add(&[input, width]);
                        add(&[width, width / self.groups.max(1), 9]);
                        add(&[width, output]);
                        add(&[norm(output) as usize]);
                    }
                }
                add(&[2, norm(width) as usize]);
                if block == 0 && (stage > 0 || input != output) {
                    add(&[input, output]);
                    add(&[norm(output) as usize]);
                }
                input = output;
            }
        }
        values
    }

    fn fpn_values(&self) -> u64 {
        let channels = self.fpn_channels;
        let levels = (0..4).map(|stage| {
            let input = (self.width << stage) * self.backbone.expansion();
            product(&[input, channels])
                .saturating_add(product(&[channels, channels, 9]))
                .saturating_add(2 * self.head_norm_values(channels))
        });
        levels.fold(0, u64::saturating_add)
    }

    fn head_values(&self) -> u64 {
        let classes = self.num_classes.max(2);
        let (hidden, pool) = (self.box_head.hidden, self.box_head.pool);
        let (channels, convs) = (self.fpn_channels, self.box_head.convs);
        let before_predictor = match convs {
            0 => product(&[hidden, hidden + 2]),
            _ => product(&[channels, channels, 9])
                .saturating_add(self.head_norm_values(channels))
                .saturating_mul(convs as u64)
                .saturating_add(hidden as u64),
        };
        let mut values = [
            product(&[channels, pool * pool, hidden]),
            before_predictor,
            product(&[hidden + 1, 5 * classes]),
        ]
        .into_iter()
        .fold(0, u64::saturating_add);
        let mut input = channels;
        for &channels in &self.mask_head.convs {
            values = values
                .saturating_add(product(&[input, channels, 9]))
                .saturating_add(self.head_norm_values(channels));
            input = channels;
        }
        let hidden = self.mask_head.hidden;
        values
            .saturating_add(product(&[input, hidden, 4]))
            .saturating_add(product(&[hidden]))
            .saturating_add(product(&[hidden + 1, classes]))
    }

    /// Number of values of a norm, or of the bias of a convolution without a norm.
    fn head_norm_values(&self, channels: usize) -> u64 {
        match self.head_norm {
            NormKind::None => channels as u64,
            norm => norm_values(norm, channels),
        }
    }
}

fn norm_values(norm: NormKind, channels: usize) -> u64 {
    let per_channel = match norm {
        NormKind::None => 0,
        NormKind::GroupNorm => 2,
        NormKind::FrozenBn | NormKind::BatchNorm => 4,
    };
    per_channel * channels as u64
}

/// A product that saturates instead of overflowing.
fn product(factors: &[usize]) -> u64 {
    let factors = factors.iter().map(|&factor| factor as u64);
    factors.fold(1, u64::saturating_mul)
}

impl Config {
    /// Rejects settings whose product would need implausibly much memory, although each of them is
    /// within its bounds.
    pub(super) fn check_size(&self) -> Result<(), ConfigError> {
        let (model, image) = (&self.model, &self.image);
        let side = 2 * model.mask_head.pool;
        let masks = [model.roi.max_detections, model.num_classes, side * side];
        let pool = model.box_head.pool;
        let rois = [model.rpn.post_nms_test, model.fpn_channels, pool * pool];
        let checks = [
            (
                "model.width",
                model.width.to_string(),
                "values in the network (width, fpn_channels, hidden, convs, num_classes)",
                model.values(),
                MAX_VALUES,
            ),
            (
                "image.max_size",
                image.max_size.to_string(),
                "pixels in image.min_size x image.max_size",
                product(&[image.min_size as usize, image.max_size as usize]),
                MAX_PIXELS,
            ),
            (
                "model.roi.max_detections",
                model.roi.max_detections.to_string(),
                "mask values per image (x num_classes x (2 mask_head.pool)^2)",
                product(&masks),
                MAX_ACTIVATIONS,
            ),
            (
                "model.rpn.post_nms_test",
                model.rpn.post_nms_test.to_string(),
                "pooled values per image (x fpn_channels x box_head.pool^2)",
                product(&rois),
                MAX_ACTIVATIONS,
            ),
        ];
        for (key, value, what, found, most) in checks {
            if found > most {
                let reason = format!("makes {found} {what}; at most {most} are possible");
                return Err(ConfigError::Value { key, value, reason });
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::MaskRcnn;
    use crate::weights::state_dict;

    /// The count equals that of a real network, for every kind of block and norm.
    #[test]
    #[cfg(feature = "flex")]
    fn values_are_those_of_the_network() {
        let device = burn::tensor::Device::flex();
        for settings in [
            &["model.backbone=resnet18", "model.width=4"][..],
            &[
                "model.backbone=resnet50",
                "model.width=4",
                "model.stride_in_1x1=true",
            ],
            &[
                "model.backbone=resnet34",
                "model.width=8",
                "model.norm=group_norm",
                "model.norm_groups=2",
                "model.head_norm=group_norm",
            ],
            &[
                "model.backbone=resnet18",
                "model.width=4",
                "model.head_norm=batch_norm",
                "model.mask_head.convs=[]",
                "model.num_classes=7",
                "model.rpn.anchor_ratios=[1.0]",
            ],
            &[
                "model.backbone=resnet50",
                "model.width=16",
                "model.groups=4",
                "model.width_per_group=8",
                "model.head_norm=batch_norm",
                "model.rpn.convs=2",
                "model.box_head.convs=4",
            ],
            &[
                "model.backbone=resnet50",
                "model.width=4",
                "model.width_per_group=128",
                "model.box_head.convs=1",
            ],
        ] {
            let small = [
                "model.fpn_channels=8",
                "model.box_head.hidden=16",
                "model.box_head.pool=3",
                "model.mask_head.hidden=8",
                "model.num_classes=3",
                "model.mask_head.convs=[8, 12]",
            ];
            let config = Config::default()
                .with(&small)
                .unwrap()
                .with(settings)
                .unwrap();
            let model = MaskRcnn::new(&config.model, 0, &device);
            let values: usize = state_dict(&model).values().map(|t| t.num_elements()).sum();
            assert_eq!(config.model.values(), values as u64, "{settings:?}");
        }
    }

    /// Each setting is within its bounds; files with these combinations crashed the process.
    #[test]
    fn products_of_settings_are_bounded() {
        for (settings, wanted) in [
            (&["model.width=4096"][..], "model.width = 4096: makes"),
            (&["model.fpn_channels=16384"], "values in the network"),
            (
                &["model.mask_head.convs=[16384, 16384, 16384]"],
                "values in the network",
            ),
            (
                &["image.min_size=32768", "image.max_size=32768"],
                "image.max_size = 32768",
            ),
            (
                &["model.num_classes=65536", "model.roi.max_detections=100000"],
                "model.roi.max_detections",
            ),
            (
                &["model.rpn.post_nms_test=100000"],
                "model.rpn.post_nms_test = 100000",
            ),
        ] {
            let config = Config::default().with(settings).unwrap();
            let message = config.check().unwrap_err().to_string();
            assert!(message.contains(wanted), "{message}");
        }
    }
}
