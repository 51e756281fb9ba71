//! A training run that is ready to start.

use super::folder::RunFolder;
use crate::config::{Choice, Config};
use crate::data::Dataset;
use crate::eval::AreaProtocol;
use crate::model::MaskRcnn;
use crate::train::error::TrainError;
use burn::tensor::Device;
use mrcnn_backends::Resolved;
use mrcnn_backends::comm::Communicator;
use std::sync::Arc;

/// A training run, from [`Trainer::builder`].
pub struct Trainer {
    pub(crate) config: Config,
    pub(crate) choices: Vec<Choice>,
    pub(crate) train: Arc<Dataset>,
    pub(crate) val: Arc<Dataset>,
    pub(crate) folder: RunFolder,
    /// Without autodiff.
    pub(crate) device: Device,
    pub(crate) precision: Resolved,
    pub(crate) protocol: AreaProtocol,
    pub(crate) comm: Arc<dyn Communicator>,
}

impl Trainer {
    /// The configuration, `model.num_classes` set.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Settings chosen by the number of training images, if
    /// [`fine_tuning`](crate::train::TrainerBuilder::fine_tuning) was requested.
    pub fn choices(&self) -> &[Choice] {
        &self.choices
    }

    /// The training dataset.
    pub fn train_set(&self) -> &Dataset {
        &self.train
    }

    /// The validation dataset.
    pub fn val_set(&self) -> &Dataset {
        &self.val
    }

    /// The folder for results.
    pub fn folder(&self) -> &RunFolder {
        &self.folder
    }

    /// The precision of the computation.
    pub fn precision(&self) -> Resolved {
        self.precision
    }

    /// Communicator of the ranks, which divide the images of each step; rank 0 writes.
    pub fn comm(&self) -> &dyn Communicator {
        &*self.comm
    }

    /// A model with random initial weights for this run; [`Self::initial_model`] uses those of `train.weights`.
    pub fn new_model(&self) -> MaskRcnn {
        let device = self.device.clone().autodiff();
        let model = MaskRcnn::new(&self.config.model, self.config.train.seed, &device);
        model.with_precision(self.precision)
    }

    pub(crate) fn io_error(&self, source: std::io::Error) -> TrainError {
        TrainError::Io {
            path: self.folder.path().into(),
            source,
        }
    }
}
