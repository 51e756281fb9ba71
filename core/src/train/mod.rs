//! Training: targets, losses, optimizer, data loading and the loop around them.

pub(crate) mod error;
pub(crate) mod input;
mod optim;
pub(crate) mod ranks;
mod run;
mod step;

pub use input::{augment, batch};
pub use step::losses;

pub use crate::evaluate::{
    DatasetDetections, draw_predictions, evaluate_model, evaluate_over_ranks, truth_and_prediction,
};
pub use error::TrainError;
pub use input::augment::Augment;
pub use input::batch::{Batch, TrainSample, Truth};
pub use input::loader::{LoadError, Loader};
pub use input::masks::{TruthMask, project_mask};
pub use input::preview::{draw_truth, picture, preview};
pub use optim::ema::Ema;
pub use optim::loss_scale::{LossScaler, MOST_SKIPPED, ScaleState};
pub use optim::optimizer::{Optimizer, StepOutcome};
pub use optim::schedule::learning_rate;
pub use ranks::exchange::Rank;
pub use run::builder::TrainerBuilder;
pub use run::checkpoint::{CheckpointError, Progress, Saved, newest as newest_checkpoint};
pub use run::dump::dump_batch;
pub use run::folder::{RunFolder, free_name};
pub use run::memory::{MemoryMeter, device_memory, machine};
pub use run::memory_plan::{Bucket, MemoryPlan};
pub use run::trainer::{Observer, Outcome, StepReport, Trainer};
pub use run::val_loss::validation_losses;
pub use step::accumulate::accumulated_losses_and_gradients;
pub use step::counts::StepCounts;
pub use step::device::slot_losses;
pub use step::gradients::ParamGradients;
pub use step::host::{forward_losses, step_losses};
pub use step::losses::Losses;
pub use step::replicas::Replicas;
pub use step::targets_host::{RoiTargets, RpnTargets, roi_targets, rpn_targets};
