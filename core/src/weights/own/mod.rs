//! This crate's weights files: safetensors with torchvision's names. The header has the configuration, the classes and
//! the progress of training, so that prediction needs no other file.

mod checksum;
mod read;
mod write;

#[cfg(feature = "train")]
pub(crate) use read::from_bytes;
pub(crate) use read::{TensorFile, open};
#[cfg(feature = "train")]
pub(crate) use write::to_bytes;
pub use write::{StoredAs, f16_overflows, write_tensors};

use super::error::WeightsError;
use super::state::{StateDict, state_dict};
use crate::budget::excerpt;
use crate::config::Config;
use crate::data::Classes;
use crate::model::MaskRcnn;
use burn::tensor::TensorData;
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::io::{Read, Seek};
use std::path::Path;

/// Weights with everything needed to use them.
#[derive(Clone, Debug)]
pub struct Checkpoint {
    /// The configuration they were trained with.
    pub config: Config,
    /// Class names and category ids.
    pub classes: Classes,
    /// The progress of their training.
    pub training: Option<TrainingRecord>,
    /// The tensors.
    pub tensors: StateDict,
}

/// Progress of a training, stored in the header of its weights.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TrainingRecord {
    /// The version of this crate that trained them.
    pub version: String,
    /// Number of steps.
    pub step: usize,
    /// Number of images trained on.
    #[serde(alias = "pictures")]
    pub images: usize,
    /// Box AP on the validation split, if it was evaluated.
    pub box_ap: Option<f64>,
    /// Mask AP on the validation split, if it was evaluated.
    pub mask_ap: Option<f64>,
}

/// Maximum length of the configuration in a header, in bytes.
const LONGEST_CONFIG: usize = 64 << 10;

/// Writes a model with its configuration and class names atomically: after an interruption, the old file or
/// the new one exists.
pub fn save(
    path: &Path,
    model: &MaskRcnn,
    config: &Config,
    classes: &Classes,
    training: Option<TrainingRecord>,
) -> Result<(), WeightsError> {
    let checkpoint = Checkpoint {
        config: config.clone(),
        classes: classes.clone(),
        training,
        tensors: state_dict(model),
    };
    checkpoint.save(path, StoredAs::F32)
}

impl Checkpoint {
    /// Writes the file like [`save`].
    pub fn save(&self, path: &Path, stored_as: StoredAs) -> Result<(), WeightsError> {
        write_tensors(path, &self.tensors, stored_as, self.header(path)?)
    }

    /// The f32 file as bytes, for [`crate::weights::load_bytes`].
    pub fn to_bytes(&self) -> Result<Vec<u8>, WeightsError> {
        let path = Path::new("weights.safetensors");
        let header = Some(self.header(path)?);
        write::serialize(&self.tensors, header).map_err(|source| WeightsError::Io {
            path: path.into(),
            source,
        })
    }

    /// Rejects tensors with NaN or infinite values, with which a network silently predicts nothing, and
    /// configurations of networks that are much larger than the tensors.
    pub(crate) fn check(&self, path: &Path) -> Result<(), WeightsError> {
        let finite = |data: &TensorData| data.iter::<f32>().all(f32::is_finite);
        if let Some((name, data)) = self.tensors.iter().find(|(_, data)| !finite(data)) {
            let count = data
                .iter::<f32>()
                .filter(|value| !value.is_finite())
                .count();
            return Err(WeightsError::NotFinite {
                path: path.into(),
                name: excerpt(name).into_owned(),
                count,
            });
        }
        let values = self.tensors.values().map(|data| data.num_elements() as u64);
        check_size(&self.config, values.sum(), path)
    }

    fn header(&self, path: &Path) -> Result<HashMap<String, String>, WeightsError> {
        let header_error = |key, reason: String| WeightsError::Header {
            path: path.into(),
            key,
            reason,
        };
        let json_error = |key| move |error: serde_json::Error| header_error(key, error.to_string());
        let config = toml::to_string(&self.config)
            .map_err(|error| header_error("config", error.to_string()))?;
        let classes = serde_json::to_string(&self.classes).map_err(json_error("classes"))?;
        let mut header = HashMap::from([
            ("format".to_string(), "mrcnn".to_string()),
            ("config".to_string(), config),
            ("classes".to_string(), classes),
        ]);
        if let Some(training) = &self.training {
            let text = serde_json::to_string(training).map_err(json_error("training"))?;
            header.insert("training".into(), text);
        }
        Ok(header)
    }
}

/// The contents of an opened file that [`save`] wrote.
pub(crate) fn read_own<R: Read + Seek>(file: TensorFile<R>) -> Result<Checkpoint, WeightsError> {
    let path = file.name.clone();
    let header = file.texts();
    let header_error = |key, reason: String| WeightsError::Header {
        path: path.clone(),
        key,
        reason,
    };
    let entry = |key: &'static str| {
        header
            .get(key)
            .ok_or_else(|| header_error(key, "it is missing".into()))
    };
    let text = entry("config")?;
    if text.len() > LONGEST_CONFIG {
        let reason = format!(
            "it has {} bytes, at most {LONGEST_CONFIG} are read",
            text.len()
        );
        return Err(header_error("config", reason));
    }
    let config = Config::parse(text, &path, &[])
        .map_err(|error| header_error("config", error.to_string()))?;
    let classes = serde_json::from_str(entry("classes")?)
        .map_err(|error| header_error("classes", error.to_string()))?;
    let training = match header.get("training") {
        Some(text) => serde_json::from_str(text)
            .map_err(|error| header_error("training", error.to_string()))?,
        None => None,
    };
    let checkpoint = Checkpoint {
        config,
        classes,
        training,
        tensors: file.read()?,
    };
    checkpoint.check(&path)?;
    Ok(checkpoint)
}

/// Rejects a configuration whose network is much larger than the values in the file: a header of a few
/// bytes could otherwise request all memory. A file with a backbone only has the configuration of a whole network.
fn check_size(config: &Config, values: u64, path: &Path) -> Result<(), WeightsError> {
    let wanted = config.model.values();
    let most = values.saturating_mul(4).saturating_add(HEADS);
    if wanted <= most {
        return Ok(());
    }
    Err(WeightsError::Unsupported {
        path: path.into(),
        reason: format!(
            "its configuration describes a network of {wanted} values, and it has {values}: not the weights of \
             that network"
        ),
    })
}

/// Upper bound of the number of values of the FPN and the heads of the default network.
const HEADS: u64 = 32 << 20;

/// Whether the header is one of a file that [`save`] wrote.
#[cfg(feature = "convert")]
pub(crate) fn is_own(texts: &HashMap<String, String>) -> bool {
    texts.get("format").is_some_and(|format| format == "mrcnn")
}
