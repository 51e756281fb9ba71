//! Evidence of a run: the metrics log, the files made from it, and the report.

mod csv;
mod curves;
mod dllogger;
mod exhibits;
mod html;
mod journal;
mod metrics_log;
mod plots;
mod record;
mod sections;
mod tensorboard;

pub use csv::csv;
pub use curves::{Panel, render_svg};
pub use dllogger::DllLog;
pub use html::{RunReport, render_html};
pub use journal::Journal;
pub use metrics_log::{LogError, MetricsLog, read_log};
pub use plots::curves;
pub use record::Record;
pub use tensorboard::EventFile;
