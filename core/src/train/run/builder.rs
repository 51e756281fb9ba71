//! The builder of a training run.

use super::trainer::Trainer;
use crate::config::Config;
use crate::data::DatasetSource;
use crate::eval::AreaProtocol;
use crate::train::error::TrainError;
use crate::weights::{Checkpoint, Transfer, WeightsSource, transfer};
use burn::tensor::Device;
use mrcnn_backends::BackendKind;
use mrcnn_backends::comm::{Communicator, Single};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The parts of a [`Trainer`], from [`Trainer::builder`]; only the configuration has no default.
pub struct TrainerBuilder {
    pub(crate) config: Config,
    pub(crate) folder: PathBuf,
    pub(crate) train: Option<Arc<dyn DatasetSource>>,
    pub(crate) val: Option<Arc<dyn DatasetSource>>,
    pub(crate) backend: BackendKind,
    pub(crate) device: Option<Device>,
    pub(crate) protocol: AreaProtocol,
    pub(crate) comm: Arc<dyn Communicator>,
    pub(crate) fine_tuning: Option<Vec<String>>,
}

impl Trainer {
    /// A builder of a training run with `config`. By default the run trains on the COCO files in `data.dir`, writes to
    /// `runs/train`, and uses the first device of [`BackendKind::Auto`].
    pub fn builder(config: Config) -> TrainerBuilder {
        TrainerBuilder {
            config,
            folder: "runs/train".into(),
            train: None,
            val: None,
            backend: BackendKind::Auto,
            device: None,
            protocol: AreaProtocol::default(),
            comm: Arc::new(Single),
            fine_tuning: None,
        }
    }

    /// A model with the weights that `train.weights` names, or with random ones if it names none.
    ///
    /// # Errors
    ///
    /// If the weights cannot be found, downloaded (feature `download`) or used.
    pub fn initial_model(&self) -> Result<Transfer, TrainError> {
        match self.config.train.initial_weights() {
            Some(named) => self.model_from(WeightsSource::locate(named)?),
            None => Ok(Transfer {
                model: self.new_model(),
                fresh: Vec::new(),
                kept_classes: Vec::new(),
                fresh_classes: Vec::new(),
            }),
        }
    }

    /// A model that starts from weights: of a whole model, whose outputs are kept for classes of the same name, or of a
    /// backbone alone. [`Transfer`] names the parameters and classes that are initialized randomly.
    pub fn model_from<'a>(
        &self,
        weights: impl Into<WeightsSource<'a>>,
    ) -> Result<Transfer, TrainError> {
        let (start, name) = weights.into().read(None)?;
        self.model_of(start, &name)
    }

    /// As [`Self::model_from`], from weights that were read already; `path` is named in errors.
    pub fn model_of(&self, start: Checkpoint, path: &Path) -> Result<Transfer, TrainError> {
        let classes = Some(&self.train.classes);
        Ok(transfer(self.new_model(), start, classes, path)?)
    }
}

impl TrainerBuilder {
    /// Sets the schedule and the frozen layers by the number of training images, see [`Config::for_fine_tuning`];
    /// `given` are the overrides that the configuration has already. [`Trainer::choices()`] has the settings.
    pub fn fine_tuning(mut self, given: Vec<String>) -> Self {
        self.fine_tuning = Some(given);
        self
    }

    /// Sets the folder for checkpoints, logs, weights and images.
    pub fn folder(mut self, folder: impl AsRef<Path>) -> Self {
        self.folder = folder.as_ref().into();
        self
    }

    /// Sets the training and validation datasets, instead of the COCO files in `data.dir`. Both must have the same
    /// classes.
    pub fn data(mut self, train: Arc<dyn DatasetSource>, val: Arc<dyn DatasetSource>) -> Self {
        (self.train, self.val) = (Some(train), Some(val));
        self
    }

    /// Sets the backend; the default is [`BackendKind::Auto`]. It must be compiled in (a feature).
    pub fn backend(mut self, backend: BackendKind) -> Self {
        self.backend = backend;
        self
    }

    /// Sets the device, instead of the first one of [`Self::backend`].
    pub fn device(mut self, device: &Device) -> Self {
        self.device = Some(device.clone());
        self
    }

    /// Sets how the evaluation groups masks by area.
    pub fn area(mut self, protocol: AreaProtocol) -> Self {
        self.protocol = protocol;
        self
    }

    /// Sets the communicator of the run's ranks; the default is a single process.
    pub fn comm(mut self, comm: Arc<dyn Communicator>) -> Self {
        self.comm = comm;
        self
    }
}
