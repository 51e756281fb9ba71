//! The recipe's configuration.

use mrcnn_backends::Precision;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// What happens to a bad annotation or image.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OnProblem {
    /// The dataset is refused.
    #[default]
    Refuse,
    /// It is left out and reported.
    Skip,
}

/// The dataset.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DataConfig {
    /// Folder with the images and COCO annotations of both splits, or a single annotation file.
    pub dir: PathBuf,
    /// Folder of the images; empty finds it from the layout of `dir`.
    pub images: PathBuf,
    /// Split to train on.
    pub train: String,
    /// Split to evaluate on.
    pub val: String,
    /// Fraction of the training images that is held out to evaluate on where there is no validation split; a
    /// run's `args.toml` and weights have 0 where there is one.
    pub val_fraction: f64,
    /// Seed of the images that are held out.
    pub val_seed: u64,
    /// `refuse` stops at the first bad annotation, `skip` leaves it out and says so.
    pub on_problem: OnProblem,
    /// Whether every image is decoded once before training starts.
    #[serde(alias = "check_pictures")]
    pub check_images: bool,
    /// Threads that decode, augment and resize; 0 takes one a core.
    pub workers: usize,
    /// Batches that are in the making or wait for the training step, at most. Each takes the memory of its
    /// padded images.
    pub prefetch: usize,
    /// Most shapes that batches are padded to: images are grouped by their aspect ratio, so that
    /// shapes repeat and little is padding (3 to 5 are good); 0 is off, and a batch is padded to its
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

/// When the learning rate changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Schedule {
    /// Multiplied by `gamma` at each of `milestones`.
    Multistep,
    /// Falls along half a cosine to 0 at the last step.
    Cosine,
}

/// What moves the weights.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OptimizerKind {
    /// Stochastic gradient descent with momentum: the recipe of every published Mask R-CNN.
    Sgd,
    /// Adam with decoupled weight decay: learns faster from scratch.
    Adamw,
}

/// As what gradients are sent between ranks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Wire {
    /// As they are.
    F32,
    /// Half the bytes (NCCL only); gradients below 6e-8 become 0, above 65504 the step is refused.
    F16,
}

/// By what losses are multiplied before the backward pass, so that small gradients are no zeros in f16.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum LossScale {
    /// The factor that a run starts with; 0 is off, in f16 too.
    From(f64),
    /// See [`AutoScale`].
    Auto(AutoScale),
}

/// From 65536 where the precision is f16, else off.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AutoScale {
    /// The only one.
    Auto,
}

/// Which parameters decay.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DecayScope {
    /// Every trained parameter: torchvision.
    All,
    /// All but the scales and shifts of norms: Detectron2.
    WithoutNorms,
    /// Weights of convolutions and linear layers, no biases and no norms: the reference system.
    Weights,
}

/// The recipe.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TrainConfig {
    /// Steps of the optimizer in all.
    pub steps: usize,
    /// Stretches the schedule (`steps`, `warmup_steps`, `milestones`, `eval_every`) so that it makes so
    /// many passes over the training set; 0 leaves it.
    pub epochs: f64,
    /// Images a step, of all ranks together.
    pub batch_size: usize,
    /// Micro-batches that a step's images are done in, one after the other: the update is the whole
    /// batch's, the memory a part's; costs a forward pass of the backbone more. Divides `batch_size`.
    pub accumulate: usize,
    /// Copies of the model that share a batch side by side on one device, their gradients averaged: 2
    /// or more fill a processor's cores where the model is small.
    pub replicas: usize,
    /// What moves the weights.
    pub optimizer: OptimizerKind,
    /// Learning rate after the warm-up, for `lr_batch` images a step.
    pub learning_rate: f64,
    /// With another `batch_size` the learning rate is scaled in proportion (Goyal et al., 2017); 0
    /// takes it as it is.
    pub lr_batch: usize,
    /// Momentum of SGD; AdamW's first decay rate.
    pub momentum: f64,
    /// Weight decay.
    pub weight_decay: f64,
    /// Which parameters decay.
    pub decay: DecayScope,
    /// Gradients of biases, the norms' among them, are multiplied by this: 2 in Caffe's Detectron and
    /// the reference system.
    pub bias_gradient: f64,
    /// Steps of linear warm-up.
    pub warmup_steps: usize,
    /// Learning rate at step 0 over the full one.
    pub warmup_factor: f64,
    /// When the rate changes after the warm-up.
    pub schedule: Schedule,
    /// Steps at which the rate falls.
    pub milestones: Vec<usize>,
    /// By how much.
    pub gamma: f64,
    /// What activations are kept in and multiplied in; `auto` follows the device, and the run's
    /// `args.toml` has what was taken.
    pub precision: Precision,
    /// Where the loss scale starts: `auto` (65536 in f16, else off), a number, or 0 (off). It is halved at
    /// an overflow, whose step is skipped.
    pub loss_scale: LossScale,
    /// Steps without overflow after which the loss scale is doubled.
    pub loss_scale_period: usize,
    /// Gradients longer than this (all parameters together) are scaled back; 0 is off.
    pub clip_norm: f64,
    /// Chance of a horizontal flip.
    pub flip: f64,
    /// Steps between evaluations; 0 evaluates at the end only.
    pub eval_every: usize,
    /// Ends the run after so many evaluations without a better mask AP; 0 never does.
    pub patience: usize,
    /// Images of the validation set whose losses are computed at each evaluation, at most; 0 is off.
    #[serde(alias = "val_loss_pictures")]
    pub val_loss_images: usize,
    /// Steps between checkpoints; each evaluation and the end make one too. 0 makes only those.
    pub checkpoint_every: usize,
    /// Checkpoints kept, the newest.
    pub keep_checkpoints: usize,
    /// Decay of the averaged weights that are evaluated and saved, e.g. 0.999; 0 is off.
    pub ema: f64,
    /// Images of the validation set drawn into `val_predictions/`.
    #[serde(alias = "val_pictures")]
    pub val_images: usize,
    /// As what several ranks send their gradients.
    pub wire: Wire,
    /// Steps between checks that all ranks hold the same weights; 0 is off.
    pub check_ranks: usize,
    /// Seed of everything random.
    pub seed: u64,
}

impl Default for TrainConfig {
    fn default() -> Self {
        Self {
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
            wire: Wire::F32,
            check_ranks: 500,
            seed: 0,
        }
    }
}

impl TrainConfig {
    /// The learning rate after the warm-up, for this `batch_size`.
    pub fn scaled_learning_rate(&self) -> f64 {
        match self.lr_batch {
            0 => self.learning_rate,
            reference => self.learning_rate * self.batch_size as f64 / reference as f64,
        }
    }

    /// Turns `epochs` into steps, for a training set of `images`.
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
