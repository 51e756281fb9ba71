//! Log in the format of NVIDIA's DLLogger, for scripts that parse logs of the reference system.

use super::record::Record;
use crate::config::Config;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Result, Write};
use std::path::Path;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// A file of `DLLL {...}` lines with the keys of the TensorFlow 2 version of the reference system.
#[derive(Debug)]
pub struct DllLog {
    file: File,
    started: Instant,
    steps_per_epoch: usize,
}

/// Keys of the log and the corresponding keys of DLLogger.
const NAMES: [(&str, &str); 10] = [
    ("train/loss", "loss"),
    ("train/loss_mask", "mask_rcnn_loss"),
    ("train/loss_box_reg", "fast_rcnn_box_loss"),
    ("train/loss_classifier", "fast_rcnn_class_loss"),
    ("train/loss_rpn_box_reg", "rpn_box_loss"),
    ("train/loss_objectness", "rpn_score_loss"),
    ("train/images_per_second", "train_throughput"),
    ("train/seconds", "train_latency"),
    ("train/lr", "learning_rate"),
    ("val/seconds", "test_time"),
];

impl DllLog {
    /// Opens `path` for appending, and writes the units and the settings. `images` is the number of images per epoch.
    pub fn open(path: &Path, config: &Config, images: usize) -> Result<Self> {
        let mut log = Self {
            file: File::options().create(true).append(true).open(path)?,
            started: Instant::now(),
            steps_per_epoch: (images / config.train.batch_size).max(1),
        };
        for (metric, unit) in [
            ("train_throughput", "images/s"),
            ("train_latency", "s"),
            ("test_time", "s"),
        ] {
            let metadata = json!({"unit": unit});
            log.line(json!({"type": "METADATA", "metric": metric, "metadata": metadata}))?;
        }
        let settings = serde_json::to_value(config)?;
        log.line(json!({"type": "LOG", "step": "PARAMETER", "data": settings}))?;
        Ok(log)
    }

    /// Appends a step, as `[epoch, step]`, or an evaluation, as `[epoch]`.
    pub fn append(&mut self, record: &Record) -> Result<()> {
        let epoch = record.at().saturating_sub(1) / self.steps_per_epoch;
        let step = match record {
            Record::Step { step, .. } => json!([epoch, step]),
            Record::Eval { .. } => json!([epoch]),
            Record::LeftOut { .. } => return Ok(()),
        };
        let data: BTreeMap<String, f64> =
            record.scalars().into_iter().filter_map(renamed).collect();
        self.line(json!({"type": "LOG", "step": step, "data": data}))
    }

    /// Appends the last line, with the final result.
    pub fn finish(&mut self, record: &Record) -> Result<()> {
        let data: BTreeMap<String, f64> =
            record.scalars().into_iter().filter_map(renamed).collect();
        self.line(json!({"type": "LOG", "step": [], "data": data}))
    }

    fn line(&mut self, mut value: Value) -> Result<()> {
        let elapsed = SystemTime::now().duration_since(UNIX_EPOCH);
        let now = elapsed.unwrap_or(Duration::ZERO);
        value["timestamp"] = json!(format!("{:.6}", now.as_secs_f64()));
        value["datetime"] = json!(datetime(now));
        value["elapsedtime"] = json!(format!("{:.6}", self.started.elapsed().as_secs_f64()));
        writeln!(self.file, "DLLL {value}")
    }
}

/// A number under its key in DLLogger; box numbers have names like `AP`, mask numbers like `mask_AP`.
fn renamed((name, value): (String, f64)) -> Option<(String, f64)> {
    if let Some((_, key)) = NAMES.iter().find(|(ours, _)| *ours == name) {
        return Some((key.to_string(), value));
    }
    if let Some(name) = name.strip_prefix("train/") {
        // A loss that the reference system does not have keeps its name.
        let is_loss = name.starts_with("loss_") && name != "loss_scale";
        return is_loss.then(|| (name.into(), value));
    }
    let name = name.strip_prefix("val/")?;
    let key = match name.strip_prefix("box_") {
        Some(number) => number.to_string(),
        None if name.starts_with("mask_") => name.into(),
        None => format!("val_{name}"),
    };
    Some((key, value))
}

/// `2026-11-25 01:02:03.000000`, UTC.
pub(super) fn datetime(since_1970: Duration) -> String {
    let seconds = since_1970.as_secs();
    let (days, rest) = (seconds as i64 / 86_400, seconds % 86_400);
    // Howard Hinnant's civil_from_days.
    let z = days + 719_468;
    let era = z / 146_097;
    let day_of_era = z - era * 146_097;
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    let (hours, minutes, seconds) = (rest / 3600, rest / 60 % 60, rest % 60);
    let micros = since_1970.subsec_micros();
    format!("{year:04}-{month:02}-{day:02} {hours:02}:{minutes:02}:{seconds:02}.{micros:06}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn losses_that_the_reference_system_lacks_keep_their_names() {
        let key = |name: &str| renamed((name.to_string(), 1.0)).map(|(key, _)| key);
        for (name, wanted) in [
            ("train/loss_mask", Some("mask_rcnn_loss")),
            ("train/loss_edges", Some("loss_edges")),
            ("val/loss_edges", Some("val_loss_edges")),
            ("train/loss_scale", None),
            ("train/grad_norm", None),
        ] {
            assert_eq!(key(name).as_deref(), wanted, "{name}");
        }
    }

    #[test]
    fn dates_are_correct() {
        let at = |seconds| datetime(Duration::from_secs(seconds));
        assert_eq!(at(0), "1970-01-01 00:00:00.000000");
        assert_eq!(at(951_827_696), "2000-02-29 12:34:56.000000");
        assert_eq!(at(1_764_032_400), "2025-11-25 01:00:00.000000");
    }
}
