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
        if model.rpn.anchor_sizes.len() != 5 {
            let count = model.rpn.anchor_sizes.len();
            return Err(invalid(
                "model.rpn.anchor_sizes",
                count,
                "needs one size for each of P2-P6",
            ));
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

fn invalid(key: &'static str, value: impl ToString, reason: &'static str) -> ConfigError {
    ConfigError::Value {
        key,
        value: value.to_string(),
        reason,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_without_sense_is_named_with_its_reason() {
        let cases: [(&[&str], &str); 12] = [
            (&["train.epochs=-1"], "train.epochs = -1"),
            (&["train.loss_scale=0.5"], "train.loss_scale = 0.5"),
            (&["train.bias_gradient=0"], "train.bias_gradient = 0"),
            (&["train.steps=0"], "train.steps = 0: must be at least 1"),
            (&["model.norm=none"], "model.norm"),
            (&["model.freeze_at=6"], "must be 0 to 5"),
            (&["train.learning_rate=-1"], "train.learning_rate = -1"),
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
