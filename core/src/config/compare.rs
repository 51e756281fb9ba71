//! Comparison with the settings that weights were trained with.

use super::Config;
use toml::Value;

/// Settings that the weights depend on; with other values, results are wrong without an error.
const BOUND_TO_WEIGHTS: [&str; 14] = [
    "image.channels",
    "image.mean",
    "image.std",
    "model.norm",
    "model.head_norm",
    "model.norm_eps",
    "model.stride_in_1x1",
    "model.rpn.anchor_sizes",
    "model.rpn.anchor_ratios",
    "model.rpn.round_anchors",
    "model.rpn.anchor_offset",
    "model.roi.aligned",
    "model.roi.sampling_ratio",
    "model.roi.box_weights",
];

impl Config {
    /// Differences from the configuration of the weights in settings that the weights depend on; one line each, for a
    /// warning.
    pub fn differences(&self, made_with: &Self) -> Vec<String> {
        let values = [self, made_with].map(Value::try_from);
        let [Ok(ours), Ok(theirs)] = values else {
            return Vec::new();
        };
        // Weights without detection heads depend on no setting of them.
        let is_backbone = made_with.model.num_classes == 0;
        let is_bound = |key: &&&str| {
            let of_heads = key.starts_with("model.rpn.") || key.starts_with("model.roi.");
            !(is_backbone && of_heads)
        };
        let differing = BOUND_TO_WEIGHTS.iter().filter(is_bound).filter_map(|key| {
            let (ours, theirs) = (at(&ours, key)?, at(&theirs, key)?);
            (ours != theirs && !both_batch_norm(ours, theirs))
                .then(|| format!("{key} = {ours}, but the weights were trained with {theirs}"))
        });
        differing.collect()
    }
}

/// Trainable batch norm can be initialized from frozen batch norm.
fn both_batch_norm(ours: &Value, theirs: &Value) -> bool {
    let kinds = [ours, theirs].map(|value| value.as_str().unwrap_or_default());
    kinds
        .iter()
        .all(|kind| ["frozen_bn", "batch_norm"].contains(kind))
}

fn at<'a>(value: &'a Value, key: &str) -> Option<&'a Value> {
    key.split('.')
        .try_fold(value, |value, part| value.get(part))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_bound_to_weights_is_compared() {
        let plain = Config::default();
        assert!(
            BOUND_TO_WEIGHTS
                .iter()
                .all(|key| { at(&Value::try_from(&plain).unwrap(), key).is_some() })
        );
        let set = [
            "image.channels=bgr",
            "train.seed=5",
            "model.norm=batch_norm",
        ]
        .map(String::from);
        let mut other = plain.clone().with(&set).unwrap();
        other.model.num_classes = 3;
        let differences = plain.differences(&other);
        assert_eq!(
            differences,
            [r#"image.channels = "rgb", but the weights were trained with "bgr""#]
        );
        let sampled = plain.with(&["model.roi.sampling_ratio=1"]).unwrap();
        assert_eq!(sampled.differences(&other).len(), 2);
        other.model.num_classes = 0;
        assert_eq!(sampled.differences(&other), differences, "a backbone");
    }
}
