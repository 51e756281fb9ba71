//! Training: targets, losses, optimizer, data loading and the loop around them.

pub mod batch;
mod builder;
mod checkpoint;
mod dump;
mod ema;
mod error;
mod evaluation;
mod failure;
mod gathered;
mod gradients;
mod handout;
mod loader;
pub mod losses;
mod masks;
mod memory;
mod memory_plan;
mod optimizer;
mod optimizer_state;
mod ranks;
mod replicas;
mod run;
mod run_folder;
mod run_report;
mod schedule;
mod setup;
mod slots;
mod step;
mod targets;
mod trainer;
mod val_loss;

pub use batch::{Batch, TrainSample, Truth};
pub use builder::TrainerBuilder;
pub use checkpoint::{CheckpointError, Progress, Saved, newest as newest_checkpoint};
pub use dump::dump_batch;
pub use ema::Ema;
pub use error::TrainError;
pub use evaluation::{
    DatasetDetections, draw_predictions, evaluate_model, evaluate_over_ranks, truth_and_prediction,
};
pub use gradients::ParamGradients;
pub use loader::{LoadError, Loader};
pub use losses::Losses;
pub use masks::{TruthMask, project_mask};
pub use memory::{MemoryMeter, device_memory, machine};
pub use memory_plan::{Bucket, MemoryPlan};
pub use optimizer::{Optimizer, StepOutcome};
pub use ranks::Rank;
pub use replicas::Replicas;
pub use run_folder::{RunFolder, free_name};
pub use schedule::learning_rate;
pub use slots::slot_losses;
pub use step::{StepCounts, forward_losses, step_losses};
pub use targets::{RoiTargets, RpnTargets, roi_targets, rpn_targets};
pub use trainer::{Observer, Outcome, StepReport, Trainer};
pub use val_loss::validation_losses;
