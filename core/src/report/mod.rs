//! Evidence of a run: the metrics log and the curves drawn from it.

mod curves;
mod metrics_log;

pub use curves::{Panel, render_svg};
pub use metrics_log::{LogError, MetricsLog, Record, curves, read_log};
