//! Settings of the files that a run writes.

use serde::{Deserialize, Serialize};

/// Files beside `metrics.jsonl`, which is always written.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LogConfig {
    /// TensorBoard event files in `tensorboard/`.
    pub tensorboard: bool,
    /// `dllogger.json`: lines in the format of NVIDIA's DLLogger, with the keys of the reference system.
    pub dllogger: bool,
    /// `steps.csv` and `evaluations.csv`.
    pub csv: bool,
    /// `report.html` at the end of the run.
    pub report: bool,
    /// Number of images with the most errors in the report.
    #[serde(alias = "worst_pictures")]
    pub worst_images: usize,
}

impl Default for LogConfig {
    fn default() -> Self {
        Self {
            tensorboard: true,
            dllogger: false,
            csv: true,
            report: true,
            worst_images: 8,
        }
    }
}
