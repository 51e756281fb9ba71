//! Building a predictor from weights and optional settings.

use super::{PredictError, Predictor};
use crate::config::Config;
use crate::device::select_device;
use crate::weights::{self, Checkpoint, WeightsError};
use burn::tensor::Device;
use mrcnn_backends::{BackendKind, Precision, Resolved};
use std::borrow::Cow;
use std::path::{Path, PathBuf};

/// Source of weights: a path, or the bytes of a file that [`weights::save`] wrote.
#[derive(Clone, Debug)]
pub enum WeightsSource<'a> {
    /// A file, read with [`weights::load`].
    File(Cow<'a, Path>),
    /// Bytes, read with [`weights::load_bytes`]: from `include_bytes!` or a download.
    Bytes(Cow<'a, [u8]>),
}

impl<'a> From<&'a str> for WeightsSource<'a> {
    fn from(path: &'a str) -> Self {
        Path::new(path).into()
    }
}

impl<'a> From<&'a String> for WeightsSource<'a> {
    fn from(path: &'a String) -> Self {
        Path::new(path).into()
    }
}

impl<'a> From<&'a Path> for WeightsSource<'a> {
    fn from(path: &'a Path) -> Self {
        Self::File(path.into())
    }
}

impl<'a> From<&'a PathBuf> for WeightsSource<'a> {
    fn from(path: &'a PathBuf) -> Self {
        Self::File(path.into())
    }
}

impl From<PathBuf> for WeightsSource<'_> {
    fn from(path: PathBuf) -> Self {
        Self::File(path.into())
    }
}

impl<'a> From<&'a [u8]> for WeightsSource<'a> {
    fn from(bytes: &'a [u8]) -> Self {
        Self::Bytes(bytes.into())
    }
}

impl<'a, const N: usize> From<&'a [u8; N]> for WeightsSource<'a> {
    fn from(bytes: &'a [u8; N]) -> Self {
        bytes.as_slice().into()
    }
}

impl<'a> From<&'a Vec<u8>> for WeightsSource<'a> {
    fn from(bytes: &'a Vec<u8>) -> Self {
        bytes.as_slice().into()
    }
}

impl From<Vec<u8>> for WeightsSource<'_> {
    fn from(bytes: Vec<u8>) -> Self {
        Self::Bytes(bytes.into())
    }
}

impl WeightsSource<'_> {
    /// The weights, and their name in messages.
    pub(crate) fn read(self, name: Option<PathBuf>) -> Result<(Checkpoint, PathBuf), WeightsError> {
        match self {
            Self::File(path) => Ok((weights::load(&path)?, path.into_owned())),
            Self::Bytes(bytes) => {
                let name = name.unwrap_or_else(|| "the given bytes".into());
                Ok((weights::load_bytes(&bytes, &name)?, name))
            }
        }
    }
}

impl Predictor {
    /// A builder that needs weights only: `Predictor::builder().weights("best.safetensors").build()?`.
    pub fn builder<'a>() -> PredictorBuilder<'a> {
        PredictorBuilder::default()
    }
}

/// Builder of a [`Predictor`], from [`Predictor::builder`]; only the weights have no default.
#[derive(Clone, Debug, Default)]
pub struct PredictorBuilder<'a> {
    weights: Option<WeightsSource<'a>>,
    name: Option<PathBuf>,
    config: Option<Config>,
    overrides: Vec<String>,
    backend: BackendKind,
    device: Option<Device>,
    precision: Option<Precision>,
    score: Option<f32>,
}

impl<'a> PredictorBuilder<'a> {
    /// The weights: a path or bytes, see [`WeightsSource`].
    pub fn weights(mut self, weights: impl Into<WeightsSource<'a>>) -> Self {
        self.weights = Some(weights.into());
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

    /// Changes settings of the configuration: `image.min_size=400`, `model.roi.max_detections=10`. Adds to the overrides
    /// of earlier calls.
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

    /// Loads the weights and moves them to the device.
    ///
    /// # Errors
    ///
    /// If there are no weights, they are not those of a Mask R-CNN or do not fit the configuration, a setting is
    /// invalid, or there is no device or it does not support the precision.
    pub fn build(self) -> Result<Predictor, PredictError> {
        let mut overrides = Vec::new();
        if let Some(score) = self.score {
            if score.is_nan() {
                return Err(PredictError::Score);
            }
            // The model keeps scores above its threshold, and `score` itself must be kept.
            let threshold = score.next_down().clamp(0.0, 1.0);
            overrides.push(format!("model.roi.score_threshold={threshold:?}"));
        }
        overrides.extend(self.overrides);
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
            Predictor::from_checkpoint(checkpoint, &name, self.config, &overrides, &device)?;
        Ok(predictor.with_precision(precision))
    }
}
