//! Training: input, the step, the optimizer, ranks and the run around them.
//!
//! Build a run with [`Trainer::builder`], follow it with an [`Observer`].

pub(crate) mod error;
mod input;
mod observer;
mod optim;
pub(crate) mod rank;
mod ranks;
mod run;
mod step;

pub use crate::memory::machine;
pub use error::{CheckpointError, LoadError, TrainError};
pub use input::augment::Augment;
pub use input::preview::preview;
pub use observer::{Observer, StepReport};
pub use run::builder::TrainerBuilder;
pub use run::checkpoint::{Progress, Saved};
pub use run::folder::{RunFolder, free_name};
pub use run::memory_plan::{Bucket, MemoryPlan};
pub use run::trainer::Trainer;
pub use run::training_loop::Outcome;
pub use step::losses::{LossValues, Losses};

/// Parts of a run for tests and benchmarks; not a stable interface.
#[doc(hidden)]
pub mod parts {
    pub use super::input::augment::Augment;
    pub use super::input::batch::{Batch, GroundTruth, TrainSample};
    pub use super::input::loader::Loader;
    pub use super::input::masks::{InstanceMask, bit_masks};
    pub use super::input::preview::{batch_image, draw_ground_truth};
    pub use super::optim::ema::Ema;
    pub use super::optim::loss_scale::{LossScaler, ScaleState};
    pub use super::optim::optimizer::{Optimizer, StepOutcome};
    pub use super::optim::schedule::learning_rate;
    pub use super::rank::Rank;
    pub use super::ranks::exchange::losses_and_gradients as losses_and_gradients_of_ranks;
    pub use super::step::accumulate::accumulated_losses_and_gradients;
    pub(crate) use super::step::accumulate::step_on_device;
    pub use super::step::features::StepFeatures;
    pub use super::step::gradients::ParamGradients;
    pub use super::step::inputs::SampleInputs;
    pub use super::step::losses::{box_losses, losses, mask_loss};
    pub use super::step::replicas::Replicas;
    pub use super::step::samples::{AnchorSamples, MaskSamples, RoiSamples, SampleCounts, Samples};
    pub use super::step::targets::{sample, sample_in_slots};
    pub use crate::memory::{MemoryMeter, device_memory};
}
