//! The training and the validation set of a configuration.

use super::dataset::Dataset;
use super::error::DataError;
use super::holdout::held_out;
use super::problem::{Problem, Severity};
use super::splits::{Split, find_split_in};
use crate::config::DataConfig;
use std::path::Path;

/// The two datasets of a training run.
#[derive(Debug)]
pub struct TrainingData {
    /// The training set.
    pub train: Dataset,
    /// The validation set, with the classes of the training set.
    pub val: Dataset,
    /// Problems of both: entries that were left out or are suspicious.
    pub problems: Vec<Problem>,
    /// Whether the validation set is held out of the training split.
    pub is_held_out: bool,
}

/// Opens both splits of a configuration. Without a validation split, `data.val_fraction` of the training
/// split's images is held out. The validation set gets the training set's classes, matched by name.
pub fn open_training_data(data: &DataConfig) -> Result<TrainingData, DataError> {
    let images = images(data);
    let train_split = find_split_in(&data.dir, images, &data.train)?;
    let val_split = match find_split_in(&data.dir, images, &data.val) {
        Ok(split) => Some(split),
        Err(DataError::NoSplit { .. }) => None,
        Err(error) => return Err(error),
    };
    let (train, mut problems) = Dataset::open_files(&train_split, data.on_problem)?;
    let same_file = val_split
        .as_ref()
        .is_none_or(|val| val.annotations == train_split.annotations);
    if same_file && data.val != data.train {
        if data.val_fraction <= 0.0 {
            return Err(DataError::NoValidation {
                path: train_split.annotations,
                val: data.val.clone(),
                train: data.train.clone(),
            });
        }
        let (train, val) = split_off(train, data)?;
        return Ok(TrainingData {
            train,
            val,
            problems,
            is_held_out: true,
        });
    }
    let mut val = match val_split {
        Some(split) if !same_file => {
            let (val, more) = Dataset::open_files(&split, data.on_problem)?;
            problems.extend(more);
            val
        }
        _ => {
            let mut val = train.clone();
            val.part = Some("the training images themselves (data.val = data.train)".into());
            val
        }
    };
    problems.extend(val.take_classes(&train)?);
    Ok(TrainingData {
        train,
        val,
        problems,
        is_held_out: false,
    })
}

/// Opens one split of a configuration for prediction or evaluation. If the configuration holds its validation set
/// out of the training split, this does too.
pub fn open_split(data: &DataConfig, name: &str) -> Result<(Dataset, Vec<Problem>), DataError> {
    let images = images(data);
    let found = match find_split_in(&data.dir, images, name) {
        Err(error @ DataError::NoSplit { .. }) if name == data.val && data.val_fraction > 0.0 => {
            find_split_in(&data.dir, images, &data.train).map_err(|_| error)?
        }
        found => found?,
    };
    let (dataset, problems) = Dataset::open_files(&found, data.on_problem)?;
    let role = name == data.val || name == data.train;
    if !role || data.val_fraction <= 0.0 || data.val == data.train || !is_shared(data, &found) {
        return Ok((dataset, problems));
    }
    let (train, val) = split_off(dataset, data)?;
    Ok((if name == data.val { val } else { train }, problems))
}

/// Whether the training split's file is also the one to evaluate on.
fn is_shared(data: &DataConfig, found: &Split) -> bool {
    let other = |name: &str| match find_split_in(&data.dir, images(data), name) {
        Ok(split) => split.annotations == found.annotations,
        Err(_) => name == data.val,
    };
    other(&data.train) && other(&data.val)
}

fn images(data: &DataConfig) -> Option<&Path> {
    (!data.images.as_os_str().is_empty()).then_some(&data.images)
}

/// Splits a dataset into a training and a validation part.
fn split_off(whole: Dataset, data: &DataConfig) -> Result<(Dataset, Dataset), DataError> {
    let (all, fraction, seed) = (whole.samples.len(), data.val_fraction, data.val_seed);
    let held = held_out(&whole.samples, fraction, seed);
    if held.is_empty() {
        let path = whole.annotations;
        let reason = "a single image cannot be divided into a training and a validation set; add images, or evaluate on \
        it with data.val = data.train";
        return Err(DataError::NothingToLearn {
            path,
            reason: reason.into(),
        });
    }
    let part = |count: usize, role: &str| {
        format!(
            "{count} of {all} images {role} (data.val_fraction={fraction}, data.val_seed={seed})"
        )
    };
    let (mut train, mut val) = (whole.clone(), whole);
    train.part = Some(part(all - held.len(), "without those held out"));
    val.part = Some(part(held.len(), "held out"));
    let is_held = |index: &usize| held.binary_search(index).is_ok();
    let (mut index, mut other) = (0.., 0..);
    train
        .samples
        .retain(|_| !index.next().is_some_and(|index| is_held(&index)));
    val.samples
        .retain(|_| other.next().is_some_and(|index| is_held(&index)));
    Ok((train, val))
}

/// Remark in the description of a validation set whose categories differ from those of the training set.
const BY_NAME: &str = "categories matched by name";

impl Dataset {
    /// Relabels the objects with the classes of the training set, matched by name. Classes that only the
    /// training set has are allowed; different ids cause a warning.
    pub(crate) fn take_classes(&mut self, train: &Dataset) -> Result<Option<Problem>, DataError> {
        let Some(difference) = self.class_difference(train)? else {
            return Ok(None);
        };
        let labels = self.classes.matched(&train.classes);
        for instance in self
            .samples
            .iter_mut()
            .flat_map(|sample| &mut sample.instances)
        {
            instance.label = labels[instance.label].unwrap_or_default();
        }
        self.classes = train.classes.clone();
        let parts = self.part.take().into_iter();
        let parts: Vec<String> = parts.chain([BY_NAME.into()]).collect();
        self.part = Some(parts.join(", "));
        Ok(Some(difference))
    }

    /// A warning if the classes are not those of the training set, and an error if objects have a class that the
    /// training set lacks.
    pub(crate) fn class_difference(&self, train: &Dataset) -> Result<Option<Problem>, DataError> {
        if self.classes == train.classes {
            return Ok(None);
        }
        let labels = self.classes.matched(&train.classes);
        let used = self.samples.iter().flat_map(|sample| &sample.instances);
        let mut missing: Vec<String> = used
            .filter(|instance| labels.get(instance.label).copied().flatten().is_none())
            .map(|instance| format!("`{}`", self.classes.name(instance.label)))
            .collect();
        missing.sort();
        missing.dedup();
        if !missing.is_empty() {
            let known: Vec<String> = train
                .classes
                .names
                .iter()
                .map(|name| format!("`{name}`"))
                .collect();
            return Err(DataError::OtherClasses {
                path: self.annotations.clone(),
                missing: missing.join(", "),
                known: known.join(", "),
            });
        }
        let reason = format!(
            "its categories have other ids or are not those of {}; they are matched by name",
            train.annotations.display()
        );
        Ok(Some(Problem {
            severity: Severity::Warning,
            file: self.annotations.clone(),
            image_id: None,
            annotation_id: None,
            kind: "other category ids",
            reason,
            fix: "fine if the names mean the same".into(),
        }))
    }
}

/// The fraction of crowds above which they are reported; COCO has 0.012.
const MANY_CROWDS: f64 = 0.1;

/// A warning about a dataset with many crowds, which are probably single objects that a tool exported as crowds.
pub(crate) fn many_crowds(dataset: &Dataset) -> Option<Problem> {
    let (all, objects) = (dataset.instances(), dataset.objects());
    let crowds = all - objects;
    (objects > 0 && crowds as f64 > MANY_CROWDS * all as f64).then(|| Problem {
        severity: Severity::Warning,
        file: dataset.annotations.clone(),
        image_id: None,
        annotation_id: None,
        kind: "many crowds",
        reason: format!(
            "{crowds} of its {all} objects are crowds (iscrowd=1), which are never trained on; CVAT exports brush \
             masks as crowds"
        ),
        fix: "fine if they are groups; else export polygons, or CVAT for images for `dataset convert`".into(),
    })
}

/// Rejects a training set without objects or with crowds only. Warns about many crowds, and about a validation set
/// without objects.
#[cfg(feature = "train")]
pub(crate) fn check_objects(train: &Dataset, val: &Dataset) -> Result<Vec<Problem>, DataError> {
    if train.objects() == 0 {
        let reason = match train.instances() {
            0 => "it has no object, so there is nothing to learn from; check that it is the right file"
                .to_string(),
            crowds => format!(
                "all of its {crowds} objects are crowds (iscrowd=1), which are never trained on: CVAT exports brush \
                 masks as crowds; export polygons, or let `dataset check --fix OUT` set iscrowd to 0"
            ),
        };
        let path = train.annotations.clone();
        return Err(DataError::NothingToLearn { path, reason });
    }
    let mut problems = Vec::from_iter(many_crowds(train));
    if val.objects() == 0 {
        problems.push(Problem {
            severity: Severity::Warning,
            file: val.annotations.clone(),
            image_id: None,
            annotation_id: None,
            kind: "no ground truth",
            reason:
                "no validation image has an object, so that every AP is undefined and shown as `-`"
                    .into(),
            fix: "choose validation images with objects".into(),
        });
    } else if val.annotations != train.annotations {
        problems.extend(many_crowds(val));
    }
    Ok(problems)
}
