//! Detailed evaluation: per-class AP, precision-recall curves, confusion matrix, TIDE errors, the worst images.

use super::{AreaProtocol, EvalError, EvalOptions, accumulate, ground_truth, results};
use crate::data::Dataset;
use crate::detection::Detection;
use hotcoco::{Annotation, COCO, COCOeval, IouType};
use std::collections::HashSet;
use std::sync::Arc;

/// Detailed results of an evaluation, of masks at IoU 0.5 unless stated otherwise.
#[derive(Clone, Debug, PartialEq)]
pub struct Analysis {
    /// Every class, in the order of the dataset.
    pub classes: Vec<ClassResult>,
    /// Confusion matrix of detections with a score of at least 0.5.
    pub confusion: Confusion,
    /// TIDE's errors (Bolya et al., 2020), the most costly first.
    pub errors: Vec<ErrorKind>,
    /// Every image, the one with the most mistakes first, among detections with a score of
    /// at least 0.5.
    pub images: Vec<ImageErrors>,
}

/// Detections with a lower score are not counted as mistakes: in COCO's metrics only their rank matters.
pub const CONFIDENT: f64 = 0.5;

/// Results of a class.
#[derive(Clone, Debug, PartialEq)]
pub struct ClassResult {
    /// Its name.
    pub name: String,
    /// Number of its objects, without crowds.
    pub objects: usize,
    /// Box AP; `None` without objects.
    pub box_ap: Option<f64>,
    /// Mask AP.
    pub mask_ap: Option<f64>,
    /// Mask AP at IoU 0.5.
    pub mask_ap50: Option<f64>,
    /// Precision of the masks at IoU 0.5, at the recalls 0, 0.01, ..., 1.
    pub precision: Vec<f64>,
}

/// A confusion matrix.
#[derive(Clone, Debug, PartialEq)]
pub struct Confusion {
    /// The classes, then the background.
    pub names: Vec<String>,
    /// Number of objects of a class (row) that were detected as a class (column). The last column counts missed
    /// objects, the last row detections that match no object.
    pub counts: Vec<Vec<u64>>,
}

/// A kind of error.
#[derive(Clone, Debug, PartialEq)]
pub struct ErrorKind {
    /// Description of the error.
    pub name: &'static str,
    /// Number of errors.
    pub count: u64,
    /// Increase of mask AP50 if all of them were fixed.
    pub delta_ap: f64,
}

/// The mistakes in an image.
#[derive(Clone, Debug, PartialEq)]
pub struct ImageErrors {
    /// Id of the image.
    pub image_id: u64,
    /// Number of detected objects.
    pub found: u32,
    /// Number of missed objects.
    pub missed: u32,
    /// Number of detections that match no object.
    pub wrong: u32,
}

/// TIDE's names and their descriptions.
const KINDS: [(&str, &str); 6] = [
    ("Cls", "right place, wrong class"),
    ("Loc", "right class, wrong place"),
    ("Both", "wrong class and place"),
    ("Dupe", "found twice"),
    ("Bkg", "nothing there"),
    ("Miss", "missed"),
];

/// Analyzes the detections of images (by image id) of a dataset.
pub fn analyze(
    dataset: &Dataset,
    detections: &[(u64, Vec<Detection>)],
    protocol: AreaProtocol,
) -> Result<Analysis, EvalError> {
    let gt = Arc::new(COCO::from_dataset(ground_truth(dataset)));
    let options = EvalOptions {
        protocol,
        image_ids: detections.iter().map(|(id, _)| *id).collect(),
        class_agnostic: false,
    };
    let all = results(detections, &dataset.classes);
    let run = |found: &[Annotation], kind| accumulate(&gt, found, kind, &options);
    let (boxes, masks) = (run(&all, IouType::Bbox)?, run(&all, IouType::Segm)?);
    let is_confident = |found: &&Annotation| found.score.unwrap_or_default() >= CONFIDENT;
    let confident: Vec<Annotation> = all.iter().filter(is_confident).cloned().collect();
    let confident = run(&confident, IouType::Segm)?;
    Ok(Analysis {
        classes: classes(dataset, &options.image_ids, &boxes, &masks),
        confusion: confusion(&confident),
        errors: errors(&masks)?,
        images: images(&confident)?,
    })
}

fn classes(
    dataset: &Dataset,
    image_ids: &[u64],
    boxes: &COCOeval,
    masks: &COCOeval,
) -> Vec<ClassResult> {
    let samples = dataset.samples.iter();
    let ids: HashSet<u64> = image_ids.iter().copied().collect();
    let samples = samples.filter(|sample| ids.contains(&sample.image_id));
    let mut objects = vec![0; dataset.classes.len() + 1];
    for instance in samples.flat_map(|sample| &sample.instances) {
        if !instance.is_crowd && instance.label < objects.len() {
            objects[instance.label] += 1;
        }
    }
    let named = dataset.classes.ids.iter().zip(&dataset.classes.names);
    let result = |(index, (&id, name)): (usize, (&u64, &String))| ClassResult {
        name: name.clone(),
        objects: objects[index + 1],
        box_ap: mean(&precisions(boxes, id, None)),
        mask_ap: mean(&precisions(masks, id, None)),
        mask_ap50: mean(&precisions(masks, id, Some(0))),
        precision: precisions(masks, id, Some(0)),
    };
    named.enumerate().map(result).collect()
}

/// Precisions of a class over all recalls, at one IoU threshold or all of them; all sizes, the maximum number of
/// detections.
fn precisions(eval: &COCOeval, category: u64, threshold: Option<usize>) -> Vec<f64> {
    let Some(found) = eval.accumulated() else {
        return Vec::new();
    };
    let Some(class) = found.cat_ids.iter().position(|&id| id == category) else {
        return Vec::new();
    };
    let shape = &found.shape;
    let thresholds = match threshold {
        Some(one) => one..one + 1,
        None => 0..shape.t,
    };
    let at = |t: usize, r: usize| {
        let index = found.precision_idx(t, r, class, 0, shape.m.saturating_sub(1));
        found.precision.get(index).copied().unwrap_or(-1.0)
    };
    thresholds
        .flat_map(|t| (0..shape.r).map(move |r| at(t, r)))
        .collect()
}

/// The mean of the defined values.
fn mean(values: &[f64]) -> Option<f64> {
    let measured: Vec<f64> = values.iter().copied().filter(|v| *v >= 0.0).collect();
    let count = measured.len();
    (count > 0).then(|| measured.iter().sum::<f64>() / count as f64)
}

fn confusion(eval: &COCOeval) -> Confusion {
    let matrix = eval.confusion_matrix(0.5, None, None);
    let all = matrix.num_cats + 1;
    let row = |row: usize| (0..all).map(|column| matrix.get(row, column)).collect();
    let mut names = matrix.cat_names.clone();
    names.push("background".into());
    Confusion {
        names,
        counts: (0..all).map(row).collect(),
    }
}

fn errors(eval: &COCOeval) -> Result<Vec<ErrorKind>, EvalError> {
    let found = eval.tide_errors(0.5, 0.1)?;
    let kind = |(key, name): (&str, &'static str)| ErrorKind {
        name,
        count: found.counts.get(key).copied().unwrap_or_default(),
        delta_ap: found.delta_ap.get(key).copied().unwrap_or_default(),
    };
    let mut errors: Vec<ErrorKind> = KINDS.into_iter().map(kind).collect();
    errors.sort_by(|a, b| b.delta_ap.total_cmp(&a.delta_ap));
    Ok(errors)
}

fn images(eval: &COCOeval) -> Result<Vec<ImageErrors>, EvalError> {
    let found = eval.image_diagnostics(0.5, CONFIDENT)?;
    let mut images: Vec<ImageErrors> = found
        .images
        .iter()
        .map(|(&image_id, summary)| ImageErrors {
            image_id,
            found: summary.tp,
            missed: summary.fn_count,
            wrong: summary.fp,
        })
        .collect();
    images.sort_by_key(|p| (std::cmp::Reverse(p.missed + p.wrong), p.image_id));
    Ok(images)
}

#[cfg(test)]
mod tests;
