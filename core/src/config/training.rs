//! Settings of the dataset and of training.

use mrcnn_backends::Precision;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

/// Handling of bad annotations and images.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OnProblem {
    /// The dataset is rejected.
    #[default]
    Refuse,
    /// They are left out and reported.
    Skip,
}

/// The dataset.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DataConfig {
    /// Folder with the images and COCO annotations of both splits, or a single annotation file.
    pub dir: PathBuf,
    /// Folder of the images; if empty, it is determined by the layout of `dir`.
    pub images: PathBuf,
    /// Split to train on.
    pub train: String,
    /// Split to evaluate on.
    pub val: String,
    /// Fraction of the training images that is held out for evaluation if there is no validation split; a
    /// run's `args.toml` and weights have 0 if there is one.
    pub val_fraction: f64,
    /// Random seed for selecting the held-out images.
    pub val_seed: u64,
    /// `refuse` stops at bad annotations, `skip` leaves them out and reports them.
    pub on_problem: OnProblem,
    /// Whether every image is decoded once before training starts.
    #[serde(alias = "check_pictures")]
    pub check_images: bool,
    /// Number of threads that decode, augment and resize; 0 uses one per core.
    pub workers: usize,
    /// Maximum number of batches that are being prepared or wait for the training step. Each takes the memory of its
    /// padded images.
    pub prefetch: usize,
    /// Maximum number of shapes that batches are padded to: images are grouped by their aspect ratio, so that
    /// shapes repeat and there is little padding (3 to 5 are good). 0 is off: a batch is padded to its
    /// largest image.
    pub buckets: usize,
}

impl Default for DataConfig {
    fn default() -> Self {
        Self {
            dir: PathBuf::new(),
            images: PathBuf::new(),
            train: "train".into(),
            val: "val".into(),
            val_fraction: 0.1,
            val_seed: 0,
            on_problem: OnProblem::Refuse,
            check_images: true,
            workers: 0,
            prefetch: 2,
            buckets: 0,
        }
    }
}

/// Learning rate schedule.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Schedule {
    /// Multiplied by `gamma` at each of `milestones`.
    Multistep,
    /// Decreases along half a cosine to 0 at the last step.
    Cosine,
}

/// The optimizer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OptimizerKind {
    /// Stochastic gradient descent with momentum: the optimizer of the Mask R-CNN paper, torchvision and Detectron2.
    Sgd,
    /// Adam with decoupled weight decay: learns faster from scratch.
    Adamw,
}

/// Dtype of gradients that are sent between ranks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Wire {
    /// Unchanged.
    F32,
    /// Half the bytes (NCCL only); gradients below 6e-8 become 0, and a step with a gradient above 65504 is skipped.
    F16,
}

/// Factor that multiplies the losses before the backward pass, so that small gradients do not become zero in f16.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum LossScale {
    /// The initial factor; 0 is off, also in f16.
    From(f64),
    /// See [`AutoScale`].
    Auto(AutoScale),
}

/// The automatic loss scale: 65536 if the precision is f16, otherwise off.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AutoScale {
    /// The only value.
    Auto,
}

/// The parameters with weight decay.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DecayScope {
    /// Every trained parameter: torchvision.
    All,
    /// All except the scales and shifts of norms: Detectron2.
    WithoutNorms,
    /// Weights of convolutions and linear layers, without biases and norms: the reference system.
    Weights,
}

/// The training recipe.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TrainConfig {
    /// Initial weights: a file, or the name of a pretrained model (`mrcnn-cli models`); random ones if it is empty or
    /// `none`. `--weights` sets it.
    pub weights: String,
    /// Total number of optimizer steps.
    pub steps: usize,
    /// Scales the schedule (`steps`, `warmup_steps`, `milestones`, `eval_every`) to this number of
    /// passes over the training set; 0 leaves it unchanged.
    pub epochs: f64,
    /// Images per step, over all ranks.
    pub batch_size: usize,
    /// Number of micro-batches that a step's images are processed in, one after the other: the update is that of the
    /// whole batch with the memory of a micro-batch, for an additional forward pass of the backbone. Must divide
    /// `batch_size`.
    pub accumulate: usize,
    /// Copies of the model that divide a batch on one device and average their gradients: 2
    /// or more use all cores of a CPU if the model is small.
    pub replicas: usize,
    /// The optimizer.
    pub optimizer: OptimizerKind,
    /// Learning rate after the warm-up, for `lr_batch` images per step.
    pub learning_rate: f64,
    /// If `batch_size` differs from this, the learning rate is scaled in proportion (Goyal et al., 2017); 0
    /// turns scaling off.
    pub lr_batch: usize,
    /// Momentum of SGD; AdamW's first decay rate.
    pub momentum: f64,
    /// Weight decay.
    pub weight_decay: f64,
    /// The parameters with weight decay.
    pub decay: DecayScope,
    /// Multiplier of the gradients of biases, including those of norms: 2 in Caffe's Detectron and
    /// the reference system.
    pub bias_gradient: f64,
    /// Steps of linear warm-up.
    pub warmup_steps: usize,
    /// Ratio of the learning rate at step 0 to the full learning rate.
    pub warmup_factor: f64,
    /// The schedule after the warm-up.
    pub schedule: Schedule,
    /// Steps at which the learning rate is reduced.
    pub milestones: Vec<usize>,
    /// Multiplier of the learning rate at each milestone.
    pub gamma: f64,
    /// Dtype of activations and matrix products; `auto` depends on the device, and the run's
    /// `args.toml` has the resolved one.
    pub precision: Precision,
    /// Initial loss scale: `auto` (65536 in f16, otherwise off), a number, or 0 (off). It is halved after
    /// an overflow, whose step is skipped.
    pub loss_scale: LossScale,
    /// Steps without overflow after which the loss scale is doubled.
    pub loss_scale_period: usize,
    /// Maximum gradient norm (of all parameters together); larger gradients are scaled down to it. 0 is off.
    pub clip_norm: f64,
    /// Probability of a horizontal flip.
    pub flip: f64,
    /// Steps between evaluations; 0 evaluates only at the end.
    pub eval_every: usize,
    /// Ends the run after this number of evaluations without a better mask AP; 0 never ends it.
    pub patience: usize,
    /// Maximum number of validation images whose losses are computed at each evaluation; 0 is off.
    #[serde(alias = "val_loss_pictures")]
    pub val_loss_images: usize,
    /// Steps between checkpoints, in addition to those at each evaluation and at the end; 0 writes only those.
    pub checkpoint_every: usize,
    /// Number of newest checkpoints that are kept.
    pub keep_checkpoints: usize,
    /// Decay of the averaged weights that are evaluated and saved, e.g. 0.999; 0 is off.
    pub ema: f64,
    /// Number of validation images drawn into `val_predictions/`.
    #[serde(alias = "val_pictures")]
    pub val_images: usize,
    /// Records steps as graphs and replays them, on a CUDA GPU: the host launches a graph instead of hundreds of
    /// kernels, but the graph of each batch size (at most four) keeps the memory of a step. Needs accumulate and
    /// replicas of 1, a single process, and norms other than batch_norm.
    pub graph: bool,
    /// Dtype of gradients that are sent between ranks.
    pub wire: Wire,
    /// Steps between checks that all ranks have the same weights; 0 is off.
    pub check_ranks: usize,
    /// Seed of all random numbers.
    pub seed: u64,
}

impl Default for TrainConfig {
    fn default() -> Self {
        Self {
            weights: String::new(),
            steps: 90_000,
            epochs: 0.0,
            batch_size: 16,
            accumulate: 1,
            replicas: 1,
            optimizer: OptimizerKind::Sgd,
            learning_rate: 0.02,
            lr_batch: 16,
            momentum: 0.9,
            weight_decay: 1e-4,
            decay: DecayScope::All,
            bias_gradient: 1.0,
            warmup_steps: 1000,
            warmup_factor: 0.001,
            schedule: Schedule::Multistep,
            milestones: vec![60_000, 80_000],
            gamma: 0.1,
            precision: Precision::Auto,
            loss_scale: LossScale::Auto(AutoScale::Auto),
            loss_scale_period: 2000,
            clip_norm: 0.0,
            flip: 0.5,
            eval_every: 0,
            patience: 0,
            val_loss_images: 500,
            checkpoint_every: 1000,
            keep_checkpoints: 2,
            ema: 0.0,
            val_images: 16,
            graph: false,
            wire: Wire::F32,
            check_ranks: 500,
            seed: 0,
        }
    }
}

impl TrainConfig {
    /// The file or the model that `weights` names; `None` (empty or `none`) starts from random weights.
    pub fn initial_weights(&self) -> Option<&Path> {
        let is_random = self.weights.is_empty() || self.weights == "none";
        (!is_random).then(|| Path::new(&self.weights))
    }

    /// The learning rate after the warm-up, for this `batch_size`.
    pub fn scaled_learning_rate(&self) -> f64 {
        match self.lr_batch {
            0 => self.learning_rate,
            reference => self.learning_rate * self.batch_size as f64 / reference as f64,
        }
    }

    /// Converts `epochs` to steps, for a training set of `images` images.
    pub fn resolve_epochs(&mut self, images: usize) {
        if self.epochs <= 0.0 {
            return;
        }
        let wanted = self.epochs * images as f64 / self.batch_size as f64;
        let factor = wanted / self.steps as f64;
        let stretched = |steps: usize| (steps as f64 * factor).round() as usize;
        self.milestones = self.milestones.iter().map(|&m| stretched(m)).collect();
        self.warmup_steps = stretched(self.warmup_steps);
        if self.eval_every > 0 {
            self.eval_every = stretched(self.eval_every).max(1);
        }
        self.steps = stretched(self.steps).max(1);
        self.epochs = 0.0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rate_follows_the_batch() {
        let mut config = TrainConfig::default();
        assert_eq!(config.scaled_learning_rate(), 0.02);
        config.batch_size = 4;
        assert_eq!(config.scaled_learning_rate(), 0.005);
        config.lr_batch = 0;
        assert_eq!(config.scaled_learning_rate(), 0.02);
    }

    #[test]
    fn epochs_stretch_the_whole_schedule() {
        // The reference system's 8-GPU schedule becomes its 1-GPU one.
        let mut config = TrainConfig {
            steps: 45_000,
            batch_size: 4,
            warmup_steps: 1000,
            milestones: vec![30_000, 40_000],
            eval_every: 3696,
            epochs: 45_000.0 * 32.0 / 118_287.0,
            ..TrainConfig::default()
        };
        config.resolve_epochs(118_287);
        assert_eq!(config.steps, 360_000);
        assert_eq!(config.milestones, [240_000, 320_000]);
        assert_eq!((config.warmup_steps, config.eval_every), (8000, 29_568));
        let resolved = config.clone();
        config.resolve_epochs(10);
        assert_eq!(config, resolved, "resolved once");
    }
}
