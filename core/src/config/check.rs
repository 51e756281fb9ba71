//! Checks of a configuration that its types cannot express.

use super::{Config, ConfigError, ModelConfig, NormKind};

impl Config {
    /// Rejects invalid values and invalid combinations.
    pub fn check(&self) -> Result<(), ConfigError> {
        self.check_bounds()?;
        self.check_size()?;
        let model = &self.model;
        if model.norm == NormKind::None {
            return Err(invalid(
                "model.norm",
                "none",
                "the backbone needs a normalization",
            ));
        }
        check_groups(model)?;
        if self.train.replicas > self.train.batch_size {
            return Err(invalid(
                "train.replicas",
                self.train.replicas,
                "must not exceed train.batch_size: each replica needs an image",
            ));
        }
        let batch_norms = model.batch_norm_keys();
        if self.train.replicas > 1
            && let Some(keys) = batch_norms
        {
            let reason = format!(
                "batch_norm's running statistics belong to one model: set {keys} to group_norm, or replicas to 1"
            );
            return Err(invalid("train.replicas", self.train.replicas, &reason));
        }
        if self.train.accumulate > 1 {
            let refused =
                |reason: &str| Err(invalid("train.accumulate", self.train.accumulate, reason));
            if !self.train.batch_size.is_multiple_of(self.train.accumulate) {
                return refused(
                    "must divide train.batch_size: all micro-batches have the same size",
                );
            }
            if self.train.replicas > 1 {
                return refused(
                    "replicas divide their losses by their own samples: set train.replicas to 1",
                );
            }
            if let Some(keys) = batch_norms {
                return refused(&format!(
                    "batch_norm's statistics would be those of a micro-batch: set {keys} to group_norm or frozen_bn, \
                     or accumulate to 1"
                ));
            }
        }
        let is_divided = self.train.accumulate > 1 || self.train.replicas > 1;
        if self.train.graph && (is_divided || batch_norms.is_some()) {
            return Err(invalid(
                "train.graph",
                self.train.graph,
                "a graph is a whole step without batch_norm: set train.accumulate and train.replicas to 1, model.norm \
                 and model.head_norm to other norms such as group_norm, or train.graph to false",
            ));
        }
        if let Some((key, value, reason)) = self.augment.fault(&self.image) {
            return Err(invalid(key, value, reason));
        }
        Ok(())
    }
}

/// Rejects groups that the blocks of the backbone cannot have.
fn check_groups(model: &ModelConfig) -> Result<(), ConfigError> {
    if model.backbone.expansion() == 1 {
        let basic = |key, value| {
            let reason =
                "resnet18 and resnet34 have no bottlenecks: use resnet50, resnet101 or resnet152";
            Err(invalid(key, value, reason))
        };
        return match (model.groups, model.width_per_group) {
            (1, 64) => Ok(()),
            (1, width) => basic("model.width_per_group", width),
            (groups, _) => basic("model.groups", groups),
        };
    }
    if !(model.width * model.width_per_group).is_multiple_of(64) {
        return Err(invalid(
            "model.width_per_group",
            model.width_per_group,
            "its product with model.width must be a multiple of 64",
        ));
    }
    Ok(())
}

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
        let cases: [(&[&str], &str); 38] = [
            (
                &["model.width=100000"],
                "model.width = 100000: must be from 1 to 4096",
            ),
            (
                &[
                    "augment.scale_jitter=[0.1, 2]",
                    "augment.jitter_size=4000000000",
                ],
                "augment.jitter_size = 4000000000",
            ),
            (&["model.rpn.positive_fraction=1.5"], "must be from 0 to 1"),
            (
                &["model.roi.positive_fraction=nan"],
                "model.roi.positive_fraction = nan",
            ),
            (&["train.momentum=1"], "train.momentum = 1.0"),
            (
                &["image.max_size=4000000000"],
                "image.max_size = 4000000000: must be from 1 to 32768",
            ),
            (&["image.size_divisor=32769"], "image.size_divisor = 32769"),
            (&["train.epochs=-1"], "train.epochs = -1.0"),
            (&["train.loss_scale=0.5"], "train.loss_scale = 0.5"),
            (&["train.bias_gradient=0"], "train.bias_gradient = 0.0"),
            (&["train.steps=0"], "train.steps = 0: must be from 1"),
            (&["model.norm=none"], "model.norm"),
            (&["model.rpn.convs=0"], "model.rpn.convs = 0"),
            (
                &["model.backbone=resnet34", "model.groups=32"],
                "model.groups = 32: resnet18 and resnet34",
            ),
            (
                &["model.backbone=resnet18", "model.width_per_group=128"],
                "model.width_per_group = 128: resnet18",
            ),
            (
                &["model.width=8", "model.width_per_group=4"],
                "must be a multiple of 64",
            ),
            (&["model.freeze_at=6"], "must be from 0 to 5"),
            (&["train.learning_rate=-1"], "train.learning_rate = -1.0"),
            (&["train.flip=1.5"], "train.flip = 1.5: must be from 0 to 1"),
            (&["data.prefetch=0"], "data.prefetch = 0: must be from 1"),
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
            (&["augment.copy_paste=2"], "augment.copy_paste = 2.0"),
            (&["augment.contrast=nan"], "augment.contrast = nan"),
            (&["augment.hue=0.6"], "must be from 0 to 0.5"),
            (
                &["train.batch_size=1", "train.replicas=2"],
                "must not exceed train.batch_size",
            ),
            (
                &["train.batch_size=4", "train.accumulate=3"],
                "train.accumulate = 3: must divide train.batch_size",
            ),
            (
                &["train.graph=true", "train.replicas=2"],
                "train.graph = true: a graph is a whole step",
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
                "set model.norm to group_norm, or replicas to 1",
            ),
            (
                &["model.head_norm=batch_norm", "train.replicas=2"],
                "set model.head_norm to group_norm, or replicas to 1",
            ),
            (
                &[
                    "train.accumulate=2",
                    "model.norm=batch_norm",
                    "model.head_norm=batch_norm",
                ],
                "set model.norm and model.head_norm to group_norm",
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
