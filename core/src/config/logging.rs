//! What a run writes about itself.

use serde::{Deserialize, Serialize};

/// Files beside `metrics.jsonl`, which is always written.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LogConfig {
    /// TensorBoard event files in `tensorboard/`.
    pub tensorboard: bool,
    /// `dllogger.json`: lines as NVIDIA's DLLogger writes them, with the reference system's keys.
    pub dllogger: bool,
    /// `steps.csv` and `evaluations.csv`.
    pub csv: bool,
    /// `report.html` at the end.
    pub report: bool,
    /// Pictures with the most mistakes in the report.
    pub worst_pictures: usize,
}

impl Default for LogConfig {
    fn default() -> Self {
        Self {
            tensorboard: true,
            dllogger: false,
            csv: true,
            report: true,
            worst_pictures: 8,
        }
    }
}
