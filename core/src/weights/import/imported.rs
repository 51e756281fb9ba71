//! Imported weights, and the options of an import.

use super::detectron2_config::Detectron2Config;
use super::{classes, infer};
use crate::config::Config;
use crate::data::Classes;
use crate::weights::own::Checkpoint;
use crate::weights::state::StateDict;
use std::fmt;

/// System that wrote the weights.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// This crate: `mrcnn-cli train` or `convert`.
    Own,
    /// torchvision's detection models.
    Torchvision,
    /// A classification ResNet with torchvision's names: a backbone.
    Backbone,
    /// Detectron2.
    Detectron2,
    /// The reference system, or its pre-trained ResNets.
    TensorFlow,
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Own => "mrcnn",
            Self::Torchvision => "torchvision detection",
            Self::Backbone => "torchvision classification (a backbone)",
            Self::Detectron2 => "Detectron2",
            Self::TensorFlow => "TensorFlow checkpoint of the reference system",
        })
    }
}

/// Options of an import: information that a file lacks.
#[derive(Clone, Debug, Default)]
pub struct ImportOptions {
    /// The classes, if they are not COCO's.
    pub classes: Option<Classes>,
    /// The prefix of the model's names in a file that has several models, e.g. `ema_model.`.
    pub prefix: Option<String>,
    /// The configuration of a Detectron2 model, if it is not one of the model zoo.
    pub detectron2: Option<Detectron2Config>,
}

/// Imported weights, with notes about the import.
#[derive(Clone, Debug)]
pub struct Imported {
    /// The weights, with the configuration that reproduces their results.
    pub checkpoint: Checkpoint,
    /// The system that wrote them.
    pub format: Format,
    /// Entries of the file that are not weights of the network.
    pub ignored: Vec<String>,
    /// Assumptions, for the user.
    pub notes: Vec<String>,
}

/// Tensors with our names and the configuration inferred from their shapes.
pub(super) fn imported(
    format: Format,
    tensors: StateDict,
    ignored: Vec<String>,
    options: &ImportOptions,
) -> Result<Imported, String> {
    // Dimensions without data would become those of the network.
    if let Some((name, data)) = tensors.iter().find(|(_, data)| data.shape().contains(&0)) {
        return Err(format!(
            "{name} has the shape {:?}: it is empty",
            data.shape()
        ));
    }
    let config = Config {
        model: infer::model_config(&tensors)?,
        ..Config::default()
    };
    let classes = match config.model.num_classes {
        0 => Classes::default(),
        count => named(count, options)?,
    };
    Ok(Imported {
        checkpoint: Checkpoint {
            config,
            classes,
            training: None,
            tensors,
        },
        format,
        ignored,
        notes: Vec::new(),
    })
}

/// The given classes, or COCO's if their number is that of a COCO model.
pub(super) fn named(count: usize, options: &ImportOptions) -> Result<Classes, String> {
    match &options.classes {
        Some(given) if given.len() + 1 == count => Ok(given.clone()),
        Some(given) => Err(format!(
            "it has {} classes without the background, but {} names are given",
            count - 1,
            given.len()
        )),
        None => Ok(match count {
            91 => classes::coco_91(),
            81 => classes::coco_80(),
            other => classes::numbered(other - 1),
        }),
    }
}
