//! Records of the log: steps and evaluations.

use crate::eval::{METRIC_NAMES, Metrics};
use serde::{Deserialize, Deserializer, Serialize};
use std::collections::BTreeMap;

/// One line of the log; `docs/metrics.md` documents the keys.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub enum Record {
    /// After a step.
    Step {
        /// Number of completed steps.
        step: usize,
        /// Learning rate.
        lr: f64,
        /// The sum of the losses.
        #[serde(deserialize_with = "number")]
        loss: f32,
        /// Each loss by its name, such as `loss_mask`.
        #[serde(flatten, deserialize_with = "numbers")]
        losses: BTreeMap<String, f32>,
        /// Gradient norm over all parameters, before clipping.
        #[serde(deserialize_with = "number")]
        grad_norm: f32,
        /// Factor of the loss before the backward pass, with loss scaling.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        loss_scale: Option<f64>,
        /// Whether the update was skipped because the loss or its gradient overflowed.
        #[serde(default, skip_serializing_if = "is_false")]
        skipped: bool,
        /// Images per second.
        images_per_second: f64,
        /// Fraction of the step spent waiting for data.
        data_wait: f64,
        /// Fraction of the step that rank 0 spent exchanging with the other ranks.
        #[serde(default)]
        exchange: f64,
        /// Duration of the step in seconds.
        #[serde(default)]
        seconds: f64,
        /// Memory of the process, in millions of bytes.
        #[serde(default)]
        memory_mb: f64,
        /// Memory reserved on the device, in millions of bytes; `None` for devices without memory of their own.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        device_memory_mb: Option<f64>,
    },
    /// After an evaluation.
    Eval {
        /// Number of completed steps.
        step: usize,
        /// The 12 box metrics by name.
        #[serde(rename = "box")]
        bbox: BTreeMap<String, f64>,
        /// The 12 mask metrics by name.
        mask: BTreeMap<String, f64>,
        /// `loss` and each loss on the first `train.val_loss_images` images of the validation split, with the same
        /// samples every time; empty if that setting is 0.
        #[serde(default)]
        val_loss: BTreeMap<String, f64>,
        /// Duration of the evaluation in seconds.
        #[serde(default)]
        seconds: f64,
    },
    /// Images that are left out of the run because of `data.on_problem = "skip"`; absent if there are none. `images`
    /// lists all of them if it has `count` entries, otherwise only the new ones.
    #[serde(rename = "left_out")]
    LeftOut {
        /// Number of completed steps.
        step: usize,
        /// Number of images that are left out so far.
        count: usize,
        /// All of these images, or the new ones.
        images: Vec<LeftOutImage>,
    },
}

/// An image in a [`Record::LeftOut`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LeftOutImage {
    /// `train` or `val`.
    pub split: String,
    /// Id in the annotation file.
    pub image_id: u64,
    /// The file.
    pub file: String,
    /// The reason it cannot be used.
    pub reason: String,
}

impl LeftOutImage {
    /// The file and the reason. Many reasons start with the file.
    pub fn description(&self) -> String {
        match self.reason.starts_with(&self.file) {
            true => self.reason.clone(),
            false => format!("{}: {}", self.file, self.reason),
        }
    }
}

impl Record {
    /// The record of an evaluation, with the validation losses by name.
    pub fn eval(
        step: usize,
        metrics: &Metrics,
        val_losses: Vec<(&'static str, f64)>,
        seconds: f64,
    ) -> Self {
        let named = |values: [f64; 12]| {
            let names = METRIC_NAMES.iter().map(ToString::to_string);
            names.zip(values).collect()
        };
        let sum = val_losses.iter().map(|(_, value)| value).sum::<f64>();
        let sum = (!val_losses.is_empty()).then_some(("loss", sum));
        let parts = sum.into_iter().chain(val_losses);
        Self::Eval {
            step,
            bbox: named(metrics.bbox),
            mask: named(metrics.segm),
            val_loss: parts.map(|(name, value)| (name.into(), value)).collect(),
            seconds,
        }
    }

    /// Number of completed steps.
    pub fn at(&self) -> usize {
        match self {
            Self::Step { step, .. } | Self::Eval { step, .. } | Self::LeftOut { step, .. } => *step,
        }
    }

    /// The names of the losses of a step.
    pub fn loss_names(&self) -> impl Iterator<Item = &String> {
        let losses = match self {
            Self::Step { losses, .. } => Some(losses),
            Self::Eval { .. } | Self::LeftOut { .. } => None,
        };
        losses.into_iter().flat_map(BTreeMap::keys)
    }

    /// Every finite value by name: `train/loss`, `val/loss`, `val/mask_AP`, ...
    pub fn scalars(&self) -> Vec<(String, f64)> {
        let mut all = self.numbers();
        all.retain(|(_, value)| value.is_finite());
        all
    }

    fn numbers(&self) -> Vec<(String, f64)> {
        match self {
            Self::Step {
                lr,
                loss,
                losses,
                grad_norm,
                loss_scale,
                skipped,
                images_per_second,
                data_wait,
                exchange,
                seconds,
                memory_mb,
                device_memory_mb,
                ..
            } => {
                let mut all = vec![("train/loss".to_string(), short(*loss))];
                let parts = losses.iter();
                all.extend(parts.map(|(name, value)| (format!("train/{name}"), short(*value))));
                let others = [
                    ("lr", Some(*lr)),
                    ("grad_norm", Some(short(*grad_norm))),
                    ("loss_scale", *loss_scale),
                    ("skipped", loss_scale.map(|_| f64::from(*skipped))),
                    ("images_per_second", Some(*images_per_second)),
                    ("data_wait", Some(*data_wait)),
                    ("exchange", Some(*exchange)),
                    ("seconds", Some(*seconds)),
                    ("memory_mb", Some(*memory_mb)),
                    ("device_memory_mb", *device_memory_mb),
                ];
                let others = others.into_iter();
                all.extend(others.filter_map(|(name, v)| Some((format!("train/{name}"), v?))));
                all
            }
            Self::Eval {
                bbox,
                mask,
                val_loss,
                seconds,
                ..
            } => {
                let of = |kind: &str, values: &BTreeMap<String, f64>| -> Vec<(String, f64)> {
                    let named = values.iter();
                    named
                        .map(|(name, value)| (format!("val/{kind}{name}"), *value))
                        .collect()
                };
                let seconds = vec![("val/seconds".into(), *seconds)];
                [
                    of("box_", bbox),
                    of("mask_", mask),
                    of("", val_loss),
                    seconds,
                ]
                .concat()
            }
            Self::LeftOut { .. } => Vec::new(),
        }
    }
}

/// A number; `null`, which JSON has for values that are not finite, becomes NaN.
fn number<'de, D: Deserializer<'de>>(source: D) -> Result<f32, D::Error> {
    let number = Option::<f32>::deserialize(source)?;
    Ok(number.unwrap_or(f32::NAN))
}

fn numbers<'de, D: Deserializer<'de>>(source: D) -> Result<BTreeMap<String, f32>, D::Error> {
    let numbers = BTreeMap::<String, Option<f32>>::deserialize(source)?;
    let numbers = numbers.into_iter();
    Ok(numbers
        .map(|(name, number)| (name, number.unwrap_or(f32::NAN)))
        .collect())
}

fn is_false(value: &bool) -> bool {
    !value
}

/// The f64 with the shortest decimal digits of an f32.
fn short(value: f32) -> f64 {
    value.to_string().parse().unwrap_or(value as f64)
}
