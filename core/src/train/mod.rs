//! Training: targets, losses, optimizer, data loading and the loop around them.

pub mod batch;
mod checkpoint;
mod ema;
mod error;
mod evaluation;
mod gradients;
mod handout;
mod loader;
pub mod losses;
mod masks;
mod optimizer;
mod optimizer_state;
mod ranks;
mod replicas;
mod run;
mod run_folder;
mod schedule;
mod setup;
mod step;
mod targets;
mod trainer;

pub use batch::{Batch, TrainSample, Truth};
pub use checkpoint::{CheckpointError, Progress, Saved, newest as newest_checkpoint};
pub use ema::Ema;
pub use error::TrainError;
pub use evaluation::{
    DatasetDetections, draw_predictions, evaluate_model, evaluate_over_ranks, truth_and_prediction,
};
pub use gradients::ParamGradients;
pub use loader::{LoadError, Loader};
pub use losses::Losses;
pub use masks::{TruthMask, project_mask};
pub use optimizer::{Optimizer, StepOutcome};
pub use ranks::Rank;
pub use replicas::Replicas;
pub use run_folder::{RunFolder, free_name};
pub use schedule::learning_rate;
pub use step::{StepCounts, forward_losses};
pub use targets::{RoiTargets, RpnTargets, roi_targets, rpn_targets};
pub use trainer::{Observer, Outcome, StepReport, Trainer};
