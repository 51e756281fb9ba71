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
    /// The configuration, `model.num_classes` set.
    pub config: Config,
    /// Settings chosen by the number of training images, if
    /// [`fine_tuning`](crate::train::TrainerBuilder::fine_tuning) was requested.
    pub choices: Vec<Choice>,
    /// The training dataset.
    pub train: Arc<Dataset>,
    /// The validation dataset.
    pub val: Arc<Dataset>,
    /// The folder for results.
    pub folder: RunFolder,
    /// The device, without autodiff.
    pub device: Device,
    /// The precision of the computation.
    pub precision: Resolved,
    /// How masks are grouped by area.
    pub protocol: AreaProtocol,
    /// Communicator of the ranks, which divide the images of each step; rank 0 writes.
    pub comm: Arc<dyn Communicator>,
}

impl Trainer {
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
