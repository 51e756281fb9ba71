//! Weights of another training as the start of a new one.

use super::error::WeightsError;
use super::load::load_except;
use super::names::{CLASS_BIAS, CLASS_TENSORS, is_body};
use super::own::Checkpoint;
use super::state::{StateDict, state_dict};
use crate::data::Classes;
use crate::model::MaskRcnn;
use burn::tensor::TensorData;
use std::path::Path;

/// A model initialized from other weights.
#[derive(Debug)]
pub struct Transfer {
    /// The model.
    pub model: MaskRcnn,
    /// Parameters that keep their initial values.
    pub fresh: Vec<String>,
    /// Classes whose outputs are those of the weights, by name; empty if classes were not compared.
    pub kept_classes: Vec<String>,
    /// Classes whose outputs keep their initial values, by name; empty if classes were not compared.
    pub fresh_classes: Vec<String>,
}

/// Loads weights of another training into a model that is to be trained on `classes`.
///
/// As [`load_state_dict`](super::load_state_dict), but outputs of a class are loaded only if the weights have a class
/// of the same name; the others keep their initial values. If names are unknown, because `classes` is `None` or the
/// weights have none, all outputs are loaded if the number of classes is the same, and none otherwise. A file with a
/// backbone only (classification weights) is loaded into the backbone.
///
/// `path` is named in errors.
pub fn transfer(
    model: MaskRcnn,
    start: Checkpoint,
    classes: Option<&Classes>,
    path: &Path,
) -> Result<Transfer, WeightsError> {
    let mut tensors = start.tensors;
    let backbone_only = tensors.keys().all(|name| is_body(name));
    if backbone_only && tensors.is_empty() {
        return Err(WeightsError::Unsupported {
            path: path.into(),
            reason: "it has no tensor of a backbone".into(),
        });
    }
    let outputs = tensors.get(CLASS_BIAS).map(TensorData::num_elements);
    let (mut kept_classes, mut fresh_classes) = (Vec::new(), Vec::new());
    // Names are those of the outputs only if there is one per output and the background.
    let is_named = start.classes.has_names() && outputs == Some(start.classes.len() + 1);
    let mut is_lacking = outputs.is_some_and(|count| count != model.config().num_classes);
    if let (Some(classes), true) = (classes.filter(|classes| classes.has_names()), is_named) {
        let labels = classes.matched(&start.classes);
        for (name, label) in classes.names.iter().zip(&labels[1..]) {
            let list = match label {
                Some(_) => &mut kept_classes,
                None => &mut fresh_classes,
            };
            list.push(name.clone());
        }
        is_lacking = kept_classes.is_empty();
        if !is_lacking {
            take_outputs(&mut tensors, &model, &labels, start.classes.len() + 1);
        }
    }
    if is_lacking {
        tensors.retain(|name, _| !CLASS_TENSORS.contains(&name.as_str()));
    }
    let (model, fresh) = load_except(model, tensors, path, |name| {
        (backbone_only && !is_body(name)) || (is_lacking && CLASS_TENSORS.contains(&name))
    })?;
    Ok(Transfer {
        model,
        fresh,
        kept_classes,
        fresh_classes,
    })
}

/// Arranges the outputs of `from` classes by the labels of the model: output `i` is that of label `labels[i]`, or the
/// model's own. Tensors whose outputs do not have the model's shape are left for the error that lists them.
fn take_outputs(tensors: &mut StateDict, model: &MaskRcnn, labels: &[Option<usize>], from: usize) {
    let is_same = labels.len() == from;
    if is_same
        && labels
            .iter()
            .enumerate()
            .all(|(to, label)| *label == Some(to))
    {
        return;
    }
    let initial = state_dict(model);
    for name in CLASS_TENSORS {
        let (Some(theirs), Some(ours)) = (tensors.get_mut(name), initial.get(name)) else {
            continue;
        };
        let (mut shape, length) = (theirs.shape().to_vec(), theirs.num_elements() / from);
        if let Some(outputs) = shape.first_mut() {
            *outputs = *outputs / from * labels.len();
        }
        if shape != ours.shape().to_vec() {
            continue;
        }
        let values: Vec<f32> = theirs.iter().collect();
        let mut mixed: Vec<f32> = ours.iter().collect();
        for (to, label) in mixed.chunks_exact_mut(length).zip(labels) {
            if let Some(label) = label {
                to.copy_from_slice(&values[label * length..][..length]);
            }
        }
        *theirs = TensorData::new(mixed, shape);
    }
}
