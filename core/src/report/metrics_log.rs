//! `metrics.jsonl`: one JSON object a line, a step or an evaluation.

use super::curves::{Panel, render_svg};
use crate::eval::{METRIC_NAMES, Metrics};
use crate::train::StepReport;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use thiserror::Error;

/// One line of the log.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub enum Record {
    /// After a step.
    Step {
        /// Steps done.
        step: usize,
        /// Learning rate.
        lr: f64,
        /// The sum of the losses.
        loss: f32,
        /// `loss_classifier`, `loss_box_reg`, `loss_mask`, `loss_objectness`, `loss_rpn_box_reg`.
        #[serde(flatten)]
        losses: BTreeMap<String, f32>,
        /// Length of the gradient of all parameters.
        grad_norm: f32,
        /// Pictures a second.
        images_per_second: f64,
        /// Share of the step spent waiting for data.
        data_wait: f64,
        /// Share of the step that rank 0 spent exchanging with the other ranks.
        #[serde(default)]
        exchange: f64,
    },
    /// After an evaluation.
    Eval {
        /// Steps done.
        step: usize,
        /// The 12 box numbers by name.
        #[serde(rename = "box")]
        bbox: BTreeMap<String, f64>,
        /// The 12 mask numbers by name.
        mask: BTreeMap<String, f64>,
    },
}

impl Record {
    /// The record of a step; `names` are those of its losses.
    pub fn step(report: &StepReport, names: &[&str; 5]) -> Self {
        let losses = names.iter().map(|name| name.to_string()).zip(report.losses);
        Self::Step {
            step: report.step,
            lr: report.learning_rate,
            loss: report.loss(),
            losses: losses.collect(),
            grad_norm: report.grad_norm,
            images_per_second: report.images_per_second,
            data_wait: report.data_wait,
            exchange: report.exchange,
        }
    }

    /// The record of an evaluation.
    pub fn eval(step: usize, metrics: &Metrics) -> Self {
        let named = |values: [f64; 12]| {
            METRIC_NAMES
                .iter()
                .map(|name| name.to_string())
                .zip(values)
                .collect()
        };
        Self::Eval {
            step,
            bbox: named(metrics.bbox),
            mask: named(metrics.segm),
        }
    }
}

/// A log that is appended to.
#[derive(Debug)]
pub struct MetricsLog {
    file: File,
    bytes: u64,
}

impl MetricsLog {
    /// Opens or creates a log.
    pub fn open(path: &Path) -> std::io::Result<Self> {
        let file = File::options().create(true).append(true).open(path)?;
        let bytes = file.metadata()?.len();
        Ok(Self { file, bytes })
    }

    /// Opens a log and cuts it to its first `bytes`.
    pub fn cut(path: &Path, bytes: u64) -> std::io::Result<Self> {
        let mut log = Self::open(path)?;
        log.bytes = log.bytes.min(bytes);
        log.file.set_len(log.bytes)?;
        Ok(log)
    }

    /// Its length in bytes, all of them on the disk.
    pub fn synced_length(&self) -> std::io::Result<u64> {
        self.file.sync_data()?;
        Ok(self.bytes)
    }

    /// Appends a line, in one write so that a killed process leaves whole lines.
    pub fn append(&mut self, record: &Record) -> std::io::Result<()> {
        let mut line = serde_json::to_string(record)?;
        line.push('\n');
        self.file.write_all(line.as_bytes())?;
        self.bytes += line.len() as u64;
        Ok(())
    }
}

/// Why a log could not be read.
#[derive(Debug, Error)]
pub enum LogError {
    /// The file cannot be read.
    #[error("{path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A line is no record.
    #[error("{path}:{line}: {reason}; delete the line to go on")]
    Line {
        /// The file.
        path: PathBuf,
        /// Line number, from 1.
        line: usize,
        /// What is wrong.
        reason: String,
    },
}

/// Reads a log back.
pub fn read_log(path: &Path) -> Result<Vec<Record>, LogError> {
    let io_error = |source| LogError::Io {
        path: path.into(),
        source,
    };
    let file = BufReader::new(File::open(path).map_err(io_error)?);
    file.lines()
        .enumerate()
        .map(|(index, line)| {
            serde_json::from_str(&line.map_err(io_error)?).map_err(|error| LogError::Line {
                path: path.into(),
                line: index + 1,
                reason: error.to_string(),
            })
        })
        .collect()
}

/// Losses, learning rate and AP as an SVG.
pub fn curves(records: &[Record]) -> String {
    let mut lines: BTreeMap<&str, Vec<(f64, f64)>> = BTreeMap::new();
    for record in records {
        match record {
            Record::Step {
                step,
                lr,
                loss,
                losses,
                ..
            } => {
                let x = *step as f64;
                lines.entry("loss").or_default().push((x, *loss as f64));
                lines.entry("learning rate").or_default().push((x, *lr));
                for (name, value) in losses {
                    lines.entry(name).or_default().push((x, *value as f64));
                }
            }
            Record::Eval { step, bbox, mask } => {
                for (name, values, key) in [
                    ("box AP", bbox, "AP"),
                    ("mask AP", mask, "AP"),
                    ("mask AP50", mask, "AP50"),
                ] {
                    let value = values.get(key).copied().unwrap_or(f64::NAN);
                    lines.entry(name).or_default().push((*step as f64, value));
                }
            }
        }
    }
    let panel = |title: &str, of: &dyn Fn(&str) -> bool| Panel {
        title: title.into(),
        x_label: "step".into(),
        curves: lines
            .iter()
            .filter(|(name, _)| of(name))
            .map(|(name, points)| (name.to_string(), points.clone()))
            .collect(),
    };
    let panels = [
        panel("loss", &|name| name == "loss"),
        panel("loss by part", &|name| name.starts_with("loss_")),
        panel("average precision", &|name| name.contains(" AP")),
        panel("learning rate", &|name| name == "learning rate"),
    ];
    render_svg(&panels, 2)
}
