//! What the types of a configuration cannot say.

use super::{Config, ConfigError, LossScale, NormKind};

impl Config {
    /// Refuses values that make no sense, alone or together.
    pub fn check(&self) -> Result<(), ConfigError> {
        let model = &self.model;
        let positive = [
            ("model.width", model.width),
            ("model.fpn_channels", model.fpn_channels),
            ("model.box_head.pool", model.box_head.pool),
            ("model.box_head.hidden", model.box_head.hidden),
            ("model.mask_head.pool", model.mask_head.pool),
            ("model.mask_head.hidden", model.mask_head.hidden),
            ("model.norm_groups", model.norm_groups),
            ("image.size_divisor", self.image.size_divisor as usize),
            ("image.min_size", self.image.min_size as usize),
            ("image.max_size", self.image.max_size as usize),
            ("data.prefetch", self.data.prefetch),
            ("train.batch_size", self.train.batch_size),
            ("train.accumulate", self.train.accumulate),
            ("train.replicas", self.train.replicas),
            ("train.steps", self.train.steps),
            ("train.loss_scale_period", self.train.loss_scale_period),
            ("train.keep_checkpoints", self.train.keep_checkpoints),
        ];
        if let Some((key, _)) = positive.into_iter().find(|(_, value)| *value == 0) {
            return Err(invalid(key, 0, "must be at least 1"));
        }
        if !(0.0..1.0).contains(&self.data.val_fraction) {
            let reason = "must be at least 0 and below 1";
            return Err(invalid("data.val_fraction", self.data.val_fraction, reason));
        }
        let bounded = [
            ("model.num_classes", model.num_classes, 65_536),
            ("model.width", model.width, 4_096),
            ("model.fpn_channels", model.fpn_channels, 16_384),
            ("model.box_head.hidden", model.box_head.hidden, 65_536),
            ("model.box_head.pool", model.box_head.pool, 64),
            ("model.mask_head.hidden", model.mask_head.hidden, 16_384),
            ("model.mask_head.pool", model.mask_head.pool, 64),
            ("data.prefetch", self.data.prefetch, 4_096),
        ];
        if let Some((key, value, most)) = bounded.into_iter().find(|(_, v, most)| v > most) {
            return Err(invalid(key, value, &format!("must be at most {most}")));
        }
        let sides = [
            ("image.min_size", self.image.min_size),
            ("image.max_size", self.image.max_size),
            ("image.size_divisor", self.image.size_divisor),
            ("augment.jitter_size", self.augment.jitter_size),
        ];
        if let Some((key, value)) = sides.into_iter().find(|(_, side)| *side > MOST_PIXELS) {
            let reason = format!("must be at most {MOST_PIXELS} pixels");
            return Err(invalid(key, value, &reason));
        }
        if model.rpn.anchor_sizes.len() != 5 {
            let count = model.rpn.anchor_sizes.len();
            return Err(invalid(
                "model.rpn.anchor_sizes",
                count,
                "needs one size for each of P2-P6",
            ));
        }
        let fractions = [
            ("model.rpn.positive_fraction", model.rpn.positive_fraction),
            ("model.roi.positive_fraction", model.roi.positive_fraction),
        ];
        let is_fraction = |value: f64| (0.0..=1.0).contains(&value);
        if let Some((key, value)) = fractions.into_iter().find(|(_, v)| !is_fraction(*v)) {
            return Err(invalid(key, value, "must be a share from 0 to 1"));
        }
        if model.rpn.anchor_ratios.is_empty() {
            return Err(invalid(
                "model.rpn.anchor_ratios",
                "[]",
                "needs at least one ratio",
            ));
        }
        if model.norm == NormKind::None {
            return Err(invalid(
                "model.norm",
                "none",
                "the backbone needs a normalisation",
            ));
        }
        if model.freeze_at > 5 {
            return Err(invalid(
                "model.freeze_at",
                model.freeze_at,
                "must be 0 to 5",
            ));
        }
        if self.train.replicas > self.train.batch_size {
            return Err(invalid(
                "train.replicas",
                self.train.replicas,
                "must not exceed train.batch_size: each replica needs a picture",
            ));
        }
        let norms = [model.norm, model.head_norm];
        if self.train.replicas > 1 && norms.contains(&NormKind::BatchNorm) {
            return Err(invalid(
                "train.replicas",
                self.train.replicas,
                "batch_norm's running statistics are those of one model: set model.norm to \
                 group_norm, or replicas to 1",
            ));
        }
        if self.train.accumulate > 1 {
            let refused = |reason| Err(invalid("train.accumulate", self.train.accumulate, reason));
            if !self.train.batch_size.is_multiple_of(self.train.accumulate) {
                return refused("must divide train.batch_size: micro-batches are of one size");
            }
            if self.train.replicas > 1 {
                return refused(
                    "replicas divide their losses by their own samples: set train.replicas to 1",
                );
            }
            if norms.contains(&NormKind::BatchNorm) {
                return refused(
                    "batch_norm's statistics would be a micro-batch's: set model.norm to \
                     group_norm or frozen_bn, or accumulate to 1",
                );
            }
        }
        if !(self.train.learning_rate >= 0.0 && self.train.learning_rate.is_finite()) {
            let rate = self.train.learning_rate;
            return Err(invalid(
                "train.learning_rate",
                rate,
                "must be finite and not negative",
            ));
        }
        if !(0.0..1.0).contains(&self.train.momentum) {
            return Err(invalid(
                "train.momentum",
                self.train.momentum,
                "must be at least 0 and below 1",
            ));
        }
        if !(0.0..=1.0).contains(&self.train.flip) {
            return Err(invalid(
                "train.flip",
                self.train.flip,
                "must be a chance from 0 to 1",
            ));
        }
        if let Some((key, value, reason)) = self.augment.fault(&self.image) {
            return Err(invalid(key, value, reason));
        }
        if self.data.buckets > MOST_BUCKETS {
            return Err(invalid(
                "data.buckets",
                self.data.buckets,
                "must be 0 (off) to 64; 3 to 5 are meant",
            ));
        }
        if let LossScale::From(scale) = self.train.loss_scale
            && !(scale == 0.0 || (1.0..f64::from(f32::MAX)).contains(&scale))
        {
            return Err(invalid(
                "train.loss_scale",
                scale,
                "must be auto, 0 (off) or a finite number from 1 on",
            ));
        }
        if !(0.0..1.0).contains(&self.train.ema) {
            return Err(invalid(
                "train.ema",
                self.train.ema,
                "must be at least 0 (off) and below 1",
            ));
        }
        if !(self.train.epochs >= 0.0 && self.train.epochs < 1e6) {
            return Err(invalid(
                "train.epochs",
                self.train.epochs,
                "must be 0 (off) or a number of passes",
            ));
        }
        if !(self.train.bias_gradient > 0.0 && self.train.bias_gradient.is_finite()) {
            return Err(invalid(
                "train.bias_gradient",
                self.train.bias_gradient,
                "must be above 0; 1 leaves the gradients as they are",
            ));
        }
        Ok(())
    }
}

/// More shapes than that are what having none is.
const MOST_BUCKETS: usize = 64;

/// Longest side of a resized picture: what is larger overflows memory, if not integers.
const MOST_PIXELS: u32 = 32768;

fn invalid(key: &'static str, value: impl ToString, reason: &str) -> ConfigError {
    ConfigError::Value {
        key,
        value: value.to_string(),
        reason: reason.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_without_sense_is_named_with_its_reason() {
        let cases: [(&[&str], &str); 31] = [
            (
                &["model.width=100000"],
                "model.width = 100000: must be at most 4096",
            ),
            (
                &[
                    "augment.scale_jitter=[0.1, 2]",
                    "augment.jitter_size=4000000000",
                ],
                "augment.jitter_size = 4000000000",
            ),
            (&["model.rpn.positive_fraction=1.5"], "a share from 0 to 1"),
            (
                &["model.roi.positive_fraction=nan"],
                "model.roi.positive_fraction = NaN",
            ),
            (&["train.momentum=1"], "train.momentum = 1"),
            (
                &["image.max_size=4000000000"],
                "image.max_size = 4000000000: must be at most 32768 pixels",
            ),
            (&["image.size_divisor=32769"], "image.size_divisor = 32769"),
            (&["train.epochs=-1"], "train.epochs = -1"),
            (&["train.loss_scale=0.5"], "train.loss_scale = 0.5"),
            (&["train.bias_gradient=0"], "train.bias_gradient = 0"),
            (&["train.steps=0"], "train.steps = 0: must be at least 1"),
            (&["model.norm=none"], "model.norm"),
            (&["model.freeze_at=6"], "must be 0 to 5"),
            (&["train.learning_rate=-1"], "train.learning_rate = -1"),
            (&["train.flip=1.5"], "train.flip = 1.5"),
            (
                &["data.prefetch=0"],
                "data.prefetch = 0: must be at least 1",
            ),
            (&["data.buckets=65"], "data.buckets = 65"),
            (
                &["augment.min_sizes=[640, 0]"],
                "augment.min_sizes = [640, 0]",
            ),
            (
                &["augment.min_sizes=[640]", "image.fit=box"],
                "use augment.scale_jitter",
            ),
            (
                &["augment.min_sizes=[640]", "augment.scale_jitter=[0.5, 2]"],
                "leave one of them out",
            ),
            (&["augment.scale_jitter=[0.5]"], "a smallest and a largest"),
            (
                &["augment.scale_jitter=[2, 1]"],
                "augment.scale_jitter = [2.0, 1.0]",
            ),
            (&["augment.jitter_size=512"], "does nothing without"),
            (&["augment.copy_paste=2"], "augment.copy_paste = 2"),
            (&["augment.contrast=nan"], "augment.contrast = NaN"),
            (&["augment.hue=0.6"], "half a turn"),
            (
                &["train.batch_size=1", "train.replicas=2"],
                "must not exceed train.batch_size",
            ),
            (
                &["train.batch_size=4", "train.accumulate=3"],
                "train.accumulate = 3: must divide train.batch_size",
            ),
            (
                &["train.accumulate=2", "train.replicas=2"],
                "set train.replicas to 1",
            ),
            (
                &["train.accumulate=2", "model.norm=batch_norm"],
                "or accumulate to 1",
            ),
            (
                &["model.norm=batch_norm", "train.replicas=2"],
                "group_norm, or replicas to 1",
            ),
        ];
        for (overrides, wanted) in cases {
            let overrides: Vec<String> = overrides.iter().map(ToString::to_string).collect();
            let config = Config::default().with(&overrides).unwrap();
            let message = config.check().unwrap_err().to_string();
            assert!(message.contains(wanted), "{message}, wanted {wanted}");
        }
    }
}
