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

/// The only setting of a model in memory that the builder changes.
const SCORE_THRESHOLD: &str = "model.roi.score_threshold";

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
    /// The weights: a path, bytes or a pretrained model, see [`WeightsSource`]. Ignored with [`Self::model`].
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

    /// A model in memory instead of weights, and its classes without the background. It may be in training; the
    /// predictor keeps its weights without gradients.
    ///
    /// The model stays on its device, and keeps its precision unless [`Self::precision`] is set. Its own settings
    /// replace those under `model` of [`Self::config`]. Only [`Self::score`] or an override of
    /// `model.roi.score_threshold` changes one of them; [`Self::build`] fails with any other override under `model`.
    /// Without [`Self::config`], the settings under `image` are the defaults.
    pub fn model(mut self, model: MaskRcnn, classes: Classes) -> Self {
        self.model = Some((model, classes));
        self
    }

    /// The name of weights that are given as bytes, in messages.
    pub fn name(mut self, name: impl Into<PathBuf>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// A configuration that replaces the one stored with the weights. With [`Self::model`], its settings under `model`
    /// are ignored.
    pub fn config(mut self, config: Config) -> Self {
        self.config = Some(config);
        self
    }

    /// Changes settings of the configuration: `image.min_size=400`, `model.roi.max_detections=10`. Adds to the
    /// overrides of earlier calls. With [`Self::model`], the only one under `model` is `model.roi.score_threshold`.
    pub fn overrides(mut self, overrides: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.overrides.extend(overrides.into_iter().map(Into::into));
        self
    }

    /// The backend; the default is [`BackendKind::Auto`]. It must be part of this build (a feature). Ignored with
    /// [`Self::model`], which stays on its device.
    pub fn backend(mut self, backend: BackendKind) -> Self {
        self.backend = backend;
        self
    }

    /// The device; the default is the first device of [`Self::backend`]. Required in a browser. Ignored with
    /// [`Self::model`], which stays on its device.
    pub fn device(mut self, device: &Device) -> Self {
        self.device = Some(device.clone());
        self
    }

    /// Dtype of activations and matrix products; the default is [`Precision::Auto`], and f32 in a browser. The default
    /// of [`Self::model`] is the model's own precision.
    pub fn precision(mut self, precision: Precision) -> Self {
        self.precision = Some(precision);
        self
    }

    /// Score threshold: detections with a lower score are dropped. Sets `model.roi.score_threshold`, whose default is
    /// stored with the weights (0.05 in most) or the setting of [`Self::model`]. [`Self::overrides`] of that setting
    /// take precedence.
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

    /// Loads the weights and moves them to the device, or takes [`Self::model`] on the device that it is on.
    ///
    /// # Errors
    ///
    /// If there are neither weights nor a model, the weights are not those of a Mask R-CNN or do not fit the
    /// configuration, the model has another number of classes than given, an override would change another setting of
    /// it than the score threshold, a setting is invalid, or there is no device or it does not support the precision.
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
            overrides.push(format!("{SCORE_THRESHOLD}={threshold:?}"));
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
        let target = (&device, precision);
        Predictor::from_checkpoint(checkpoint, &name, self.config, overrides, target)
    }

    fn with_model(
        self,
        model: MaskRcnn,
        classes: Classes,
        overrides: &[String],
    ) -> Result<Predictor, PredictError> {
        let num_classes = model.config().num_classes;
        if classes.len() + 1 != num_classes {
            return Err(PredictError::Classes {
                given: classes.len(),
                expected: num_classes.saturating_sub(1),
            });
        }
        let device = model.device().without_autodiff();
        let mut config = self.config.unwrap_or_default();
        config.model = model.config().clone();
        let config = config.with(overrides)?;
        if let Some(key) = fixed_setting(overrides) {
            return Err(PredictError::ModelSetting { key: key.into() });
        }
        config.check()?;
        let model = model.with_score_threshold(config.model.roi.score_threshold);
        let model = match self.precision {
            Some(precision) => model.with_precision(precision.resolve(&device)?),
            None => model,
        };
        Ok(Predictor::new(&model, config, classes, &device))
    }
}

/// The key of the first override that would change a setting of a model in memory, the score threshold aside.
fn fixed_setting(overrides: &[String]) -> Option<&str> {
    overrides.iter().find_map(|text| {
        let key = text.split('=').next()?.trim();
        let is_of_model = key == "model" || key.starts_with("model.");
        (is_of_model && key != SCORE_THRESHOLD).then_some(key)
    })
}
