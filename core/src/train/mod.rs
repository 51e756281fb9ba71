//! Training: targets, losses, optimizer, data loading and the loop around them.

pub mod batch;
mod loader;
pub mod losses;
mod masks;
mod run_folder;
mod schedule;
mod sgd;
mod step;
mod targets;
mod trainer;

pub use batch::{Batch, TrainSample, Truth};
pub use loader::{LoadError, Loader};
pub use losses::Losses;
pub use masks::{TruthMask, project_mask};
pub use run_folder::RunFolder;
pub use schedule::learning_rate;
pub use sgd::{Sgd, StepOutcome};
pub use step::{StepCounts, forward_losses};
pub use targets::{RoiTargets, RpnTargets, roi_targets, rpn_targets};
pub use trainer::{EvalReport, Observer, StepReport, TrainError, Trainer, evaluate_model};
