//! Building a predictor from weights or a model in memory, and optional settings.

use super::{PredictError, Predictor, TtaSettings};
use crate::config::Config;
use crate::data::Classes;
use crate::device::select_device;
use crate::model::MaskRcnn;
use crate::weights::WeightsSource;
use burn::tensor::Device;
use mrcnn_backends::{BackendKind, Precision, Resolved};
use std::path::PathBuf;

impl Predictor {
    /// A builder that needs weights only: `Predictor::builder().weights("best.safetensors").build()?`.
    pub fn builder<'a>() -> PredictorBuilder<'a> {
        PredictorBuilder::default()
    }
}

/// Builder of a [`Predictor`], from [`Predictor::builder`]; only the weights (or the model) have no default.
#[derive(Clone, Debug, Default)]
pub struct PredictorBuilder<'a> {
    weights: Option<WeightsSource<'a>>,
    model: Option<(MaskRcnn, Classes)>,
    name: Option<PathBuf>,
    config: Option<Config>,
    overrides: Vec<String>,
    backend: BackendKind,
    device: Option<Device>,
    precision: Option<Precision>,
    score: Option<f32>,
    tta: Option<TtaSettings>,
}

impl<'a> PredictorBuilder<'a> {
    /// The weights: a path, bytes or a pretrained model, see [`WeightsSource`].
    pub fn weights(mut self, weights: impl Into<WeightsSource<'a>>) -> Self {
        self.weights = Some(weights.into());
        self
    }

    /// A pretrained model by its name, such as `maskrcnn_resnet50_fpn`; [`Self::build`] downloads it unless it is in
    /// the cache. See [`crate::pretrained`].
    #[cfg(feature = "download")]
    pub fn pretrained(self, name: impl Into<String>) -> Self {
        self.weights(WeightsSource::Pretrained(name.into()))
    }

    /// A model in memory instead of weights, and its classes. It may be in training; the predictor has a copy of its
    /// weights without gradients.
    ///
    /// It stays on its device, and has its own precision unless [`Self::precision`] is set. Its own settings apply in
    /// place of those under `model` of [`Self::config`] and [`Self::overrides`], apart from the score threshold.
    pub fn model(mut self, model: MaskRcnn, classes: Classes) -> Self {
        self.model = Some((model, classes));
        self
    }

    /// The name of weights that are given as bytes, in messages.
    pub fn name(mut self, name: impl Into<PathBuf>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// A configuration that replaces the one stored with the weights.
    pub fn config(mut self, config: Config) -> Self {
        self.config = Some(config);
        self
    }

    /// Changes settings of the configuration: `image.min_size=400`, `model.roi.max_detections=10`. Adds to the
    /// overrides of earlier calls.
    pub fn overrides(mut self, overrides: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.overrides.extend(overrides.into_iter().map(Into::into));
        self
    }

    /// The backend; the default is [`BackendKind::Auto`]. It must be part of this build (a feature).
    pub fn backend(mut self, backend: BackendKind) -> Self {
        self.backend = backend;
        self
    }

    /// The device; the default is the first device of [`Self::backend`]. Required in a browser.
    pub fn device(mut self, device: &Device) -> Self {
        self.device = Some(device.clone());
        self
    }

    /// Dtype of activations and matrix products; the default is [`Precision::Auto`], and f32 in a browser.
    pub fn precision(mut self, precision: Precision) -> Self {
        self.precision = Some(precision);
        self
    }

    /// Score threshold: detections with a lower score are dropped. Sets `model.roi.score_threshold`, whose default is
    /// stored with the weights (0.05 in most). [`Self::overrides`] of that setting take precedence.
    pub fn score(mut self, score: f32) -> Self {
        self.score = Some(score);
        self
    }

    /// Test-time augmentation: several views of each image are detected and merged. Time and memory grow with the
    /// number of views. See [`TtaSettings`].
    pub fn tta(mut self, settings: TtaSettings) -> Self {
        self.tta = Some(settings);
        self
    }

    /// Loads the weights and moves them to the device.
    ///
    /// # Errors
    ///
    /// If there are no weights, they are not those of a Mask R-CNN or do not fit the configuration, a setting is
    /// invalid, or there is no device or it does not support the precision.
    pub fn build(mut self) -> Result<Predictor, PredictError> {
        let overrides = self.take_overrides()?;
        let tta = self.tta.take();
        let predictor = match self.model.take() {
            Some((model, classes)) => self.with_model(model, classes, &overrides)?,
            None => self.with_weights(&overrides)?,
        };
        match tta {
            Some(settings) => predictor.with_tta(settings),
            None => Ok(predictor),
        }
    }

    /// All overrides, the score threshold first.
    fn take_overrides(&mut self) -> Result<Vec<String>, PredictError> {
        let mut overrides = Vec::new();
        if let Some(score) = self.score {
            if score.is_nan() {
                return Err(PredictError::Score);
            }
            // The model keeps scores above its threshold, and `score` itself must be kept.
            let threshold = score.next_down().clamp(0.0, 1.0);
            overrides.push(format!("model.roi.score_threshold={threshold:?}"));
        }
        overrides.append(&mut self.overrides);
        Ok(overrides)
    }

    fn with_weights(self, overrides: &[String]) -> Result<Predictor, PredictError> {
        let weights = self.weights.ok_or(PredictError::NoWeights)?;
        let (checkpoint, name) = weights.read(self.name)?;
        let device = match self.device {
            Some(device) => device,
            None => select_device(self.backend, 0)?.device,
        };
        let precision = match self.precision {
            // Resolving the precision blocks, which is impossible in a browser.
            None if cfg!(target_family = "wasm") => Resolved::F32,
            precision => precision.unwrap_or_default().resolve(&device)?,
        };
        let predictor =
            Predictor::from_checkpoint(checkpoint, &name, self.config, overrides, &device)?;
        Ok(predictor.with_precision(precision))
    }

    fn with_model(
        self,
        model: MaskRcnn,
        classes: Classes,
        overrides: &[String],
    ) -> Result<Predictor, PredictError> {
        let device = model.device().without_autodiff();
        let mut config = self.config.unwrap_or_default();
        config.model = model.config().clone();
        let mut config = config.with(overrides)?;
        config.check()?;
        let model = model.with_score_threshold(config.model.roi.score_threshold);
        config.model = model.config().clone();
        let predictor = Predictor::new(&model, config, classes, &device);
        match self.precision {
            Some(precision) => Ok(predictor.with_precision(precision.resolve(&device)?)),
            None => Ok(predictor),
        }
    }
}
