//! A predictor from weights, with everything else at its default.

use super::{PredictError, Predictor};
use crate::config::Config;
use crate::weights::{self, Checkpoint, WeightsError};
use burn::tensor::Device;
use mrcnn_backends::{BackendKind, Precision, Resolved, select};
use std::borrow::Cow;
use std::path::{Path, PathBuf};

/// Where weights come from: a path, or the bytes of a file that [`weights::save`] wrote.
#[derive(Clone, Debug)]
pub enum WeightsSource<'a> {
    /// A file that [`weights::load`] reads.
    File(Cow<'a, Path>),
    /// What [`weights::load_bytes`] reads: `include_bytes!`, a download.
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
    /// The weights, and what stands for them in messages.
    pub(crate) fn read(self) -> Result<(Checkpoint, PathBuf), WeightsError> {
        match self {
            Self::File(path) => Ok((weights::load(&path)?, path.into_owned())),
            Self::Bytes(bytes) => {
                let name = PathBuf::from("the given bytes");
                Ok((weights::load_bytes(&bytes, &name)?, name))
            }
        }
    }
}

/// What a [`Predictor`] is made of, from [`Predictor::builder`]; only the weights have no default.
#[derive(Clone, Debug, Default)]
pub struct PredictorBuilder<'a> {
    weights: Option<WeightsSource<'a>>,
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

    /// A configuration in place of the one that is stored with the weights.
    pub fn config(mut self, config: Config) -> Self {
        self.config = Some(config);
        self
    }

    /// Changes settings of the configuration: `image.min_size=400`, `model.roi.max_detections=10`. Adds
    /// to what was given before.
    pub fn overrides(mut self, overrides: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.overrides.extend(overrides.into_iter().map(Into::into));
        self
    }

    /// What computes; [`BackendKind::Auto`] unless said. It must be in this build (a feature).
    pub fn backend(mut self, backend: BackendKind) -> Self {
        self.backend = backend;
        self
    }

    /// The device, in place of the first one of [`Self::backend`]. In a browser it must be given.
    pub fn device(mut self, device: &Device) -> Self {
        self.device = Some(device.clone());
        self
    }

    /// What activations are kept and multiplied in; [`Precision::Auto`] unless said. In a browser f32
    /// unless said.
    pub fn precision(mut self, precision: Precision) -> Self {
        self.precision = Some(precision);
        self
    }

    /// Detections with a lower score are not looked for: `model.roi.score_threshold`, 0.05 unless the
    /// weights say otherwise. Above 1 nothing is found. [`Self::overrides`] of that setting come after.
    pub fn score(mut self, score: f32) -> Self {
        self.score = Some(score);
        self
    }

    /// Reads the weights and puts them onto the device.
    ///
    /// Fails where there are no weights, they are not of a Mask R-CNN or do not fit the configuration,
    /// a setting makes no sense, there is no device, or it has not the precision.
    pub fn build(self) -> Result<Predictor, PredictError> {
        let mut overrides = Vec::new();
        if let Some(score) = self.score {
            if score.is_nan() {
                return Err(PredictError::Score);
            }
            // The model keeps what is above its threshold; `score` itself is to be kept.
            let threshold = score.next_down().max(0.0);
            overrides.push(format!("model.roi.score_threshold={threshold:?}"));
        }
        overrides.extend(self.overrides);
        let (checkpoint, name) = self.weights.ok_or(PredictError::NoWeights)?.read()?;
        let device = match self.device {
            Some(device) => device,
            None => select(self.backend)?.device,
        };
        let precision = match self.precision {
            // Nothing can wait for the device's answer there.
            None if cfg!(target_family = "wasm") => Resolved::F32,
            asked => asked.unwrap_or_default().resolve(&device)?,
        };
        let predictor =
            Predictor::from_checkpoint(checkpoint, &name, self.config, &overrides, &device)?;
        Ok(predictor.with_precision(precision))
    }
}
