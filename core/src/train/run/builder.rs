//! What a training run is made of.

use super::trainer::Trainer;
use crate::config::Config;
use crate::data::DatasetSource;
use crate::eval::AreaProtocol;
use crate::predict::WeightsSource;
use crate::train::error::TrainError;
use crate::weights::{Checkpoint, Transfer, transfer};
use burn::tensor::Device;
use mrcnn_backends::BackendKind;
use mrcnn_backends::comm::{Communicator, Single};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// What a [`Trainer`] is made of, from [`Trainer::builder`]; only the configuration has no default.
pub struct TrainerBuilder {
    pub(crate) config: Config,
    pub(crate) folder: PathBuf,
    pub(crate) train: Option<Arc<dyn DatasetSource>>,
    pub(crate) val: Option<Arc<dyn DatasetSource>>,
    pub(crate) backend: BackendKind,
    pub(crate) device: Option<Device>,
    pub(crate) protocol: AreaProtocol,
    pub(crate) comm: Arc<dyn Communicator>,
}

impl Trainer {
    /// A training run with `config`: on the COCO files in `data.dir`, in `runs/train`, on the first
    /// device of [`BackendKind::Auto`], unless the builder sets others.
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
        }
    }

    /// A model for this run that starts from other weights: a whole model, of other classes too, or a
    /// backbone alone. [`Transfer::fresh`] names what starts from noise.
    pub fn model_from<'a>(
        &self,
        weights: impl Into<WeightsSource<'a>>,
    ) -> Result<Transfer, TrainError> {
        let (Checkpoint { tensors, .. }, name) = weights.into().read(None)?;
        Ok(transfer(self.new_model(), tensors, &name)?)
    }
}

impl TrainerBuilder {
    /// Where checkpoints, logs, weights and images go.
    pub fn folder(mut self, folder: impl AsRef<Path>) -> Self {
        self.folder = folder.as_ref().into();
        self
    }

    /// What is trained on and evaluated on, in place of the COCO files in `data.dir`. The classes of
    /// both must be the same.
    pub fn data(mut self, train: Arc<dyn DatasetSource>, val: Arc<dyn DatasetSource>) -> Self {
        (self.train, self.val) = (Some(train), Some(val));
        self
    }

    /// The backend; the default is [`BackendKind::Auto`]. It must be compiled in (a feature).
    pub fn backend(mut self, backend: BackendKind) -> Self {
        self.backend = backend;
        self
    }

    /// The device, in place of the first one of [`Self::backend`].
    pub fn device(mut self, device: &Device) -> Self {
        self.device = Some(device.clone());
        self
    }

    /// How the evaluation sorts masks by size.
    pub fn area(mut self, protocol: AreaProtocol) -> Self {
        self.protocol = protocol;
        self
    }

    /// The ranks of the run; the default is a single process.
    pub fn comm(mut self, comm: Arc<dyn Communicator>) -> Self {
        self.comm = comm;
        self
    }
}
