//! Lower and upper bounds of every number of a configuration, in one table.

use super::{Config, ConfigError};
use std::fmt;
use toml::Value;

/// The valid range of a number, or of each number of a list.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Bounds {
    /// The setting: `train.steps`.
    pub key: &'static str,
    /// The lowest value.
    pub lowest: f64,
    /// The highest value.
    pub highest: f64,
    /// Whether the lowest value itself is invalid.
    above: bool,
    /// Whether the highest value itself is invalid.
    below: bool,
    /// Whether 0 is valid although it is below `lowest`, because 0 turns the setting off.
    or_zero: bool,
    /// The valid lengths of a list.
    length: Option<(usize, usize)>,
}

impl Bounds {
    /// Whether the value is within the bounds; NaN never is.
    pub fn contains(&self, value: f64) -> bool {
        let low = value > self.lowest || (value == self.lowest && !self.above);
        let high = value < self.highest || (value == self.highest && !self.below);
        (low && high) || (self.or_zero && value == 0.0)
    }

    const fn above(mut self) -> Self {
        self.above = true;
        self
    }

    const fn below(mut self) -> Self {
        self.below = true;
        self
    }

    const fn or_zero(mut self) -> Self {
        self.or_zero = true;
        self
    }

    const fn list(mut self, shortest: usize, longest: usize) -> Self {
        self.length = Some((shortest, longest));
        self
    }
}

/// `from 1 to 4096`, for errors and `mrcnn-cli config explain`.
impl fmt::Display for Bounds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.or_zero {
            write!(f, "0 or ")?;
        }
        let low = if self.above { "above" } else { "from" };
        let high = if self.below { "below" } else { "to" };
        let [lowest, highest] = [self.lowest, self.highest].map(shown);
        match (self.above, self.below) {
            (false, false) | (true, true) => write!(f, "{low} {lowest} {high} {highest}"),
            _ => write!(f, "{low} {lowest} and {high} {highest}"),
        }
    }
}

fn shown(value: f64) -> String {
    match value.abs() {
        size if size != 0.0 && !(1e-4..1e9).contains(&size) => format!("{value:e}"),
        _ => value.to_string(),
    }
}

const fn within(key: &'static str, lowest: f64, highest: f64) -> Bounds {
    Bounds {
        key,
        lowest,
        highest,
        above: false,
        below: false,
        or_zero: false,
        length: None,
    }
}

/// Maximum longer side of a resized image in pixels.
const SIDE: f64 = 32_768.0;

/// Maximum number of steps, so that products with the batch size stay below 2^63.
const STEPS: f64 = 1e9;

/// Maximum of all counts of images.
const IMAGES: f64 = 1e9;

/// The bounds of every number.
pub const BOUNDS: &[Bounds] = &[
    within("model.width", 1.0, 4096.0),
    within("model.groups", 1.0, 1024.0),
    within("model.width_per_group", 1.0, 1024.0),
    within("model.norm_eps", 0.0, 1.0),
    within("model.norm_momentum", 0.0, 1.0),
    within("model.norm_groups", 1.0, 4096.0),
    within("model.freeze_at", 0.0, 5.0),
    within("model.fpn_channels", 1.0, 16_384.0),
    within("model.num_classes", 0.0, 65_536.0),
    within("model.rpn.convs", 1.0, 16.0),
    within("model.rpn.anchor_sizes", 0.0, SIDE)
        .above()
        .list(5, 5),
    within("model.rpn.anchor_ratios", 0.001, 1000.0).list(1, 32),
    within("model.rpn.anchor_offset", 0.0, 1.0),
    within("model.rpn.fg_iou", 0.0, 1.0),
    within("model.rpn.bg_iou", 0.0, 1.0),
    within("model.rpn.batch_per_image", 1.0, 65_536.0),
    within("model.rpn.positive_fraction", 0.0, 1.0),
    within("model.rpn.pre_nms_train", 1.0, 1e6),
    within("model.rpn.pre_nms_test", 1.0, 1e6),
    within("model.rpn.post_nms_train", 1.0, 100_000.0),
    within("model.rpn.post_nms_test", 1.0, 100_000.0),
    within("model.rpn.nms_iou", 0.0, 1.0),
    within("model.rpn.min_size", 0.0, SIDE),
    within("model.roi.fg_iou", 0.0, 1.0),
    within("model.roi.bg_iou", 0.0, 1.0),
    within("model.roi.batch_per_image", 1.0, 65_536.0),
    within("model.roi.positive_fraction", 0.0, 1.0),
    within("model.roi.box_weights", 0.0, 1e6).above().list(4, 4),
    within("model.roi.score_threshold", 0.0, 1.0),
    within("model.roi.nms_iou", 0.0, 1.0),
    within("model.roi.max_detections", 1.0, 100_000.0),
    within("model.roi.sampling_ratio", 0.0, 64.0),
    within("model.box_head.pool", 1.0, 64.0),
    within("model.box_head.convs", 0.0, 16.0),
    within("model.box_head.hidden", 1.0, 65_536.0),
    within("model.mask_head.pool", 1.0, 64.0),
    within("model.mask_head.convs", 1.0, 16_384.0).list(0, 64),
    within("model.mask_head.hidden", 1.0, 16_384.0),
    within("image.min_size", 1.0, SIDE),
    within("image.max_size", 1.0, SIDE),
    within("image.mean", -256.0, 256.0).list(3, 3),
    within("image.std", 0.0, 256.0).above().list(3, 3),
    within("image.size_divisor", 1.0, 1024.0),
    within("data.workers", 0.0, 1024.0),
    within("data.val_fraction", 0.0, 0.99),
    within("data.val_seed", 0.0, 9_223_372_036_854_775_807.0),
    within("data.prefetch", 1.0, 4096.0),
    within("data.buckets", 0.0, 64.0),
    within("train.steps", 1.0, STEPS),
    within("train.epochs", 0.0, 1e6).below(),
    within("train.batch_size", 1.0, 65_536.0),
    within("train.accumulate", 1.0, 65_536.0),
    within("train.replicas", 1.0, 1024.0),
    within("train.learning_rate", 0.0, 1e30),
    within("train.lr_batch", 0.0, 1e6),
    within("train.momentum", 0.0, 1.0).below(),
    within("train.weight_decay", 0.0, 1e6),
    within("train.bias_gradient", 0.0, 1e6).above(),
    within("train.warmup_steps", 0.0, STEPS),
    within("train.warmup_factor", 0.0, 1.0),
    within("train.milestones", 0.0, STEPS).list(0, 1024),
    within("train.gamma", 0.0, 1e6),
    // Products with the loss scale must be finite in f32.
    within("train.loss_scale", 1.0, 3.4e38).or_zero(),
    within("train.loss_scale_period", 1.0, STEPS),
    within("train.clip_norm", 0.0, 1e30),
    within("train.flip", 0.0, 1.0),
    within("train.eval_every", 0.0, STEPS),
    within("train.patience", 0.0, STEPS),
    within("train.val_loss_images", 0.0, IMAGES),
    within("train.checkpoint_every", 0.0, STEPS),
    within("train.keep_checkpoints", 1.0, 1e6),
    within("train.ema", 0.0, 1.0).below(),
    within("train.val_images", 0.0, IMAGES),
    within("train.check_ranks", 0.0, STEPS),
    within("train.seed", 0.0, 9_223_372_036_854_775_807.0),
    within("augment.min_sizes", 1.0, SIDE).list(0, 1024),
    within("augment.scale_jitter", 0.0, 8.0).above().list(0, 2),
    within("augment.jitter_size", 0.0, SIDE),
    within("augment.photometric", 0.0, 1.0),
    within("augment.brightness", 0.0, 1.0),
    within("augment.contrast", 0.0, 1.0),
    within("augment.saturation", 0.0, 1.0),
    within("augment.hue", 0.0, 0.5),
    within("augment.copy_paste", 0.0, 1.0),
    within("log.worst_images", 0.0, IMAGES),
];

/// The bounds of a setting, if it is a number or a list of numbers.
pub fn bounds(key: &str) -> Option<&'static Bounds> {
    BOUNDS.iter().find(|bounds| bounds.key == key)
}

impl Config {
    /// Rejects numbers out of their bounds, including NaN and infinity.
    pub(super) fn check_bounds(&self) -> Result<(), ConfigError> {
        for (key, value) in self.settings()? {
            let Some(bounds) = bounds(&key) else {
                continue;
            };
            let refused = |value: &Value, reason: String| ConfigError::Value {
                key: bounds.key,
                value: value.to_string(),
                reason,
            };
            let numbers = match &value {
                Value::Array(numbers) => &numbers[..],
                number => std::slice::from_ref(number),
            };
            if let Some((shortest, longest)) = bounds.length
                && !(shortest..=longest).contains(&numbers.len())
            {
                let count = match shortest == longest {
                    true => shortest.to_string(),
                    false => format!("{shortest} to {longest}"),
                };
                return Err(refused(&value, format!("must have {count} numbers")));
            }
            for number in numbers {
                let found = match number {
                    Value::Integer(number) => *number as f64,
                    Value::Float(number) => *number,
                    // `train.loss_scale = "auto"`
                    _ => continue,
                };
                if !bounds.contains(found) {
                    let which = if numbers.len() > 1 { "each " } else { "" };
                    return Err(refused(&value, format!("{which}must be {bounds}")));
                }
            }
        }
        Ok(())
    }

    /// Every setting with its value, in the order of the configuration.
    pub fn settings(&self) -> Result<Vec<(String, Value)>, ConfigError> {
        let value = Value::try_from(self).map_err(|error| ConfigError::Parse {
            path: "the configuration".into(),
            message: error.to_string(),
        })?;
        let mut settings = Vec::new();
        flatten(String::new(), value, &mut settings);
        Ok(settings)
    }
}

fn flatten(key: String, value: Value, settings: &mut Vec<(String, Value)>) {
    match value {
        Value::Table(table) => {
            for (name, value) in table {
                let key = match key.is_empty() {
                    true => name,
                    false => format!("{key}.{name}"),
                };
                flatten(key, value, settings);
            }
        }
        value => settings.push((key, value)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_number(value: &Value) -> bool {
        matches!(value, Value::Integer(_) | Value::Float(_))
    }

    /// A new setting must have bounds.
    #[test]
    fn every_number_of_a_configuration_has_bounds_and_every_bound_a_number() {
        let settings = Config::default().settings().unwrap();
        for (key, value) in &settings {
            let numeric = match value {
                Value::Array(_) => true,
                value => is_number(value) || key == "train.loss_scale",
            };
            assert_eq!(bounds(key).is_some(), numeric, "{key}");
            if matches!(value, Value::Array(_)) {
                assert!(bounds(key).unwrap().length.is_some(), "{key}");
            }
        }
        for bounds in BOUNDS {
            let known = settings.iter().any(|(key, _)| key == bounds.key);
            assert!(known, "{}: no such setting", bounds.key);
        }
        Config::default().check().unwrap();
    }

    /// Numbers that are too low, too high, NaN or infinite are rejected with the name of the setting.
    #[test]
    fn numbers_out_of_bounds_are_refused_by_name() {
        for bounds in BOUNDS {
            let integer = Config::default()
                .settings()
                .unwrap()
                .iter()
                .any(|(key, value)| {
                    let first = value.as_array().and_then(|list| list.first());
                    let is_list_of_sizes =
                        ["train.milestones", "augment.min_sizes"].contains(&&**key);
                    key == bounds.key && (is_list_of_sizes || first.unwrap_or(value).is_integer())
                });
            let mut wrong = vec![format!("{:?}", bounds.highest * 2.0 + 1.0)];
            if integer {
                wrong = vec![format!("{}", bounds.highest as i128 + 1)];
                wrong.push("9223372036854775807".into());
                wrong.retain(|text| {
                    text.parse::<i64>()
                        .is_ok_and(|v| !bounds.contains(v as f64))
                });
                if bounds.lowest > 0.0 && !bounds.or_zero {
                    wrong.push("0".into());
                }
            } else {
                wrong.extend(["nan", "inf", "-inf", "-1000000000.0"].map(String::from));
            }
            for value in wrong {
                let text = match bounds.length {
                    Some((shortest, _)) => {
                        let values = vec![value; shortest.max(1)];
                        format!("{}=[{}]", bounds.key, values.join(", "))
                    }
                    None => format!("{}={value}", bounds.key),
                };
                // Values that do not fit the type are rejected earlier.
                let set = Config::default().with(&[&text]);
                let refused = set.and_then(|config| config.check());
                let message = refused.expect_err(&text).to_string();
                assert!(message.contains(bounds.key), "{text}: {message}");
            }
        }
    }

    #[test]
    fn bounds_are_shown_in_words() {
        let shown = |key: &str| bounds(key).unwrap().to_string();
        assert_eq!(shown("model.width"), "from 1 to 4096");
        assert_eq!(shown("train.momentum"), "from 0 and below 1");
        assert_eq!(shown("train.bias_gradient"), "above 0 and to 1000000");
        assert_eq!(shown("train.loss_scale"), "0 or from 1 to 3.4e38");
    }

    #[test]
    fn lists_of_the_wrong_length_are_refused() {
        for (text, wanted) in [
            ("model.rpn.anchor_sizes=[8, 16]", "must have 5 numbers"),
            ("model.rpn.anchor_ratios=[]", "must have 1 to 32 numbers"),
        ] {
            let config = Config::default().with(&[text]).unwrap();
            let message = config.check().unwrap_err().to_string();
            assert!(message.contains(wanted), "{message}");
        }
    }
}
