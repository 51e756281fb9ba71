//! The HTML report at the end of a run.

use super::left_out;
use super::trainer::Trainer;
use crate::eval::{Metrics, analyze};
use crate::evaluate::{DatasetDetections, ground_truth_and_prediction};
use crate::report::{Record, RunReport, render_html};
use crate::train::error::TrainError;
use std::path::PathBuf;

impl Trainer {
    /// Writes `report.html` with the last evaluation and returns its path.
    pub(crate) fn write_report(
        &self,
        metrics: &Metrics,
        found: &DatasetDetections,
        records: &[Record],
    ) -> Result<PathBuf, TrainError> {
        let analysis = analyze(&self.val, found, self.protocol)?;
        let mut worst = Vec::new();
        let wanted = self.config.log.worst_images;
        let mistakes = analysis.images.iter().filter(|p| p.missed + p.wrong > 0);
        for errors in mistakes.take(wanted) {
            let id = errors.image_id;
            let sample = self.val.samples.iter().find(|s| s.image_id == id);
            let detections = found.iter().find(|(found, _)| *found == id);
            let (Some(sample), Some((_, detections))) = (sample, detections) else {
                continue;
            };
            let caption = format!(
                "{}: {} found, {} missed, {} wrong",
                sample.path.display(),
                errors.found,
                errors.missed,
                errors.wrong
            );
            worst.push((
                caption,
                ground_truth_and_prediction(sample, detections, &self.val)?,
            ));
        }
        let path = self.folder.report();
        let settings = toml::to_string(&self.config).unwrap_or_default();
        let report = RunReport {
            title: &format!("Run {}", self.folder.path().display()),
            facts: self.facts(records),
            metrics,
            analysis: &analysis,
            records,
            worst,
            settings: &settings,
        };
        std::fs::write(&path, render_html(&report)).map_err(|source| TrainError::Io {
            path: path.clone(),
            source,
        })?;
        Ok(path)
    }

    fn facts(&self, records: &[Record]) -> Vec<(String, String)> {
        let (mut seconds, mut speeds) = (0.0, Vec::new());
        for record in records {
            match record {
                Record::Step {
                    seconds: step,
                    images_per_second,
                    ..
                } => {
                    seconds += step;
                    speeds.push(*images_per_second);
                }
                Record::Eval { seconds: all, .. } => seconds += all,
                Record::LeftOut { .. } => {}
            }
        }
        speeds.sort_by(f64::total_cmp);
        let median = speeds.get(speeds.len() / 2).copied().unwrap_or_default();
        let train = &self.config.train;
        let facts = [
            (
                "training set",
                format!(
                    "{}, {} images",
                    self.train.description(),
                    self.train.samples.len()
                ),
            ),
            (
                "validation set",
                format!(
                    "{}, {} images",
                    self.val.description(),
                    self.val.samples.len()
                ),
            ),
            ("images per step", train.batch_size.to_string()),
            ("images per second, median", format!("{median:.2}")),
            (
                "time",
                format!("{:.1} minutes of steps and evaluations", seconds / 60.0),
            ),
            ("device", device_name(&self.device)),
            ("precision", train.precision.to_string()),
            ("seed", train.seed.to_string()),
            ("version", env!("CARGO_PKG_VERSION").into()),
        ];
        let mut facts: Vec<(String, String)> =
            facts.map(|(name, value)| (name.into(), value)).into();
        facts.extend(left_out::facts(&left_out::listed(records)));
        facts
    }
}

/// `Flex(Cpu)` of `Device<Flex(Cpu)>`.
fn device_name(device: &burn::tensor::Device) -> String {
    let text = format!("{device:?}");
    let inner = text
        .strip_prefix("Device<")
        .and_then(|t| t.strip_suffix('>'));
    inner.unwrap_or(&text).into()
}
