//! Records of the log: steps and evaluations.

use crate::eval::{METRIC_NAMES, Metrics};
use crate::train::{Losses, StepReport};
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
        /// `loss_classifier`, `loss_box_reg`, `loss_mask`, `loss_objectness`, `loss_rpn_box_reg`.
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
        /// The 12 box numbers by name.
        #[serde(rename = "box")]
        bbox: BTreeMap<String, f64>,
        /// The 12 mask numbers by name.
        mask: BTreeMap<String, f64>,
        /// `loss` and its parts on the validation split; empty if they are off.
        #[serde(default)]
        val_loss: BTreeMap<String, f64>,
        /// Duration of the evaluation in seconds.
        #[serde(default)]
        seconds: f64,
    },
}

impl Record {
    /// The record of a step.
    pub fn step(report: &StepReport) -> Self {
        let losses = Losses::NAMES.iter().map(ToString::to_string);
        Self::Step {
            step: report.step,
            lr: report.learning_rate,
            loss: report.loss(),
            losses: losses.zip(report.losses).collect(),
            grad_norm: report.grad_norm,
            loss_scale: report.loss_scale,
            skipped: report.skipped,
            images_per_second: report.images_per_second,
            data_wait: report.data_wait,
            exchange: report.exchange,
            seconds: report.seconds,
            memory_mb: megabytes(report.memory),
            device_memory_mb: report.device_memory.map(megabytes),
        }
    }

    /// The record of an evaluation; `val_losses` in the order of [`Losses::NAMES`].
    pub fn eval(
        step: usize,
        metrics: &Metrics,
        val_losses: Option<[f64; 5]>,
        seconds: f64,
    ) -> Self {
        let named = |values: [f64; 12]| {
            let names = METRIC_NAMES.iter().map(ToString::to_string);
            names.zip(values).collect()
        };
        let parts = val_losses.iter().flat_map(|losses| {
            let all = [("loss", losses.iter().sum())].into_iter();
            all.chain(Losses::NAMES.into_iter().zip(*losses))
        });
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
            Self::Step { step, .. } | Self::Eval { step, .. } => *step,
        }
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

fn megabytes(bytes: u64) -> f64 {
    (bytes as f64 / 1e5).round() / 10.0
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The record of a step that overflowed.
    #[test]
    fn values_that_are_not_finite_round_trip() {
        let report = StepReport {
            step: 3,
            losses: [0.5, f32::NAN, 0.25, f32::INFINITY, 1.0],
            learning_rate: 0.1,
            grad_norm: f32::INFINITY,
            loss_scale: Some(65536.0),
            skipped: true,
            images_per_second: 2.0,
            data_wait: 0.0,
            exchange: 0.0,
            seconds: 1.0,
            memory: 0,
            device_memory: None,
        };
        let line = serde_json::to_string(&Record::step(&report)).unwrap();
        assert!(line.contains("\"skipped\":true") && line.contains("\"grad_norm\":null"));
        let record: Record = serde_json::from_str(&line).unwrap();
        let scalars = record.scalars();
        let value = |name: &str| scalars.iter().find(|(n, _)| n == name).map(|(_, v)| *v);
        assert_eq!(value("train/loss_classifier"), Some(0.5));
        assert_eq!(value("train/loss_box_reg"), None);
        assert_eq!(
            (value("train/loss"), value("train/grad_norm")),
            (None, None)
        );
        assert_eq!(value("train/loss_scale"), Some(65536.0));
        assert_eq!(value("train/skipped"), Some(1.0));
    }
}
