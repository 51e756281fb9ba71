//! Mapping of the labels of the weights to those of a dataset.

use anyhow::{Result, anyhow};
use mrcnn_core::data::Classes;
use mrcnn_core::{Prediction, Predictor};
use std::sync::Arc;

/// Maps labels of the weights to those of a dataset.
pub struct Relabeling {
    classes: Arc<Classes>,
    labels: Vec<Option<usize>>,
}

impl Relabeling {
    pub fn new(predictor: &Predictor, classes: Classes) -> Result<Self> {
        let labels = predictor.classes().labels_in(&classes).ok_or_else(|| {
            anyhow!(
                "not all of the dataset's classes {:?} are among those of the weights, {:?}; to predict with the \
                 classes of the weights, copy its images to another folder and give that",
                classes.names,
                predictor.classes().names
            )
        })?;
        Ok(Self {
            classes: classes.into(),
            labels,
        })
    }

    /// Class names and category ids of the dataset.
    pub fn classes(&self) -> &Classes {
        &self.classes
    }

    /// A prediction with the labels of the dataset, without objects of other classes.
    pub fn applied(&self, mut found: Prediction) -> Prediction {
        found.detections.retain_mut(|detection| {
            let label = self.labels.get(detection.label).copied().flatten();
            detection.label = label.unwrap_or_default();
            label.is_some()
        });
        let size = (found.width, found.height);
        Prediction::new(size, found.detections, self.classes.clone())
    }
}
