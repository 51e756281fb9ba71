//! Log files of a run, and the curves, tables and HTML report derived from them.

mod csv;
mod curves;
mod dllogger;
mod exhibits;
mod html;
mod journal;
mod markup;
mod metrics_log;
mod plots;
mod record;
mod run_report;
mod sections;
mod tensorboard;

pub use csv::csv;
pub use curves::{Panel, render_svg};
pub use dllogger::DllLog;
pub use html::render_html;
pub use journal::Journal;
pub use metrics_log::{LogError, MetricsLog};
pub use plots::curves;
pub use record::{LeftOutImage, Record};
pub use run_report::RunReport;
pub use tensorboard::EventFile;
