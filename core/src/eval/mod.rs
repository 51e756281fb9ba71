//! COCO evaluation with `hotcoco` (bit-equal to pycocotools).

mod analysis;
mod metrics;
mod results;
mod shard;

pub use analysis::{Analysis, ClassResult, Confusion, ErrorKind, ImageErrors, analyze};
pub use metrics::{AreaProtocol, METRIC_NAMES, Metrics, shown_metric};
#[cfg(feature = "convert")]
pub(crate) use results::evaluate_bytes;
pub use results::{ResultsEvaluation, evaluate_files};
pub use shard::EvalShard;

use crate::data::{Classes, Dataset, RleRecord, Sample};
use crate::detection::Detection;
use hotcoco::{Annotation, COCO, COCOeval, Category, Image, IouType, Segmentation};
use std::path::PathBuf;
use std::sync::Arc;
use thiserror::Error;

/// Errors of an evaluation.
#[derive(Debug, Error)]
pub enum EvalError {
    /// The evaluation rejected its input.
    #[error("COCO evaluation failed: {0}; check the data with `mrcnn-cli dataset check DIR`")]
    Coco(#[from] hotcoco::Error),
    /// A results file cannot be read.
    #[error("{path}: {source}")]
    Io {
        /// The path of the file.
        path: PathBuf,
        /// The operating system's error.
        source: std::io::Error,
    },
    /// A file is invalid.
    #[error(
        "{path}: {reason}; results are a list of COCO results: image_id, category_id, score, ..."
    )]
    Json {
        /// The path of the file.
        path: PathBuf,
        /// The fault, with line and column.
        reason: String,
    },
    /// Entries of a file that would make the metrics wrong.
    #[error("{path}: {count} entries cannot be evaluated, e.g.\n{first}\n{fix}")]
    Refused {
        /// The path of the file.
        path: PathBuf,
        /// Number of such entries.
        count: usize,
        /// The first few, one per line.
        first: String,
        /// The fix.
        fix: &'static str,
    },
    /// No result belongs to an image of the ground truth.
    #[error(
        "{path}: no result's image_id is that of an image in {annotations}; `eval --weights W --json FILE` writes \
         results with the dataset's ids, and so does `predict` on a dataset's folder"
    )]
    NoImage {
        /// The path of the results.
        path: PathBuf,
        /// The path of the ground truth.
        annotations: PathBuf,
    },
}

/// Settings of an evaluation.
#[derive(Clone, Debug, Default)]
pub struct EvalOptions {
    /// Grouping of masks by area.
    pub protocol: AreaProtocol,
    /// The images to evaluate; empty for all.
    pub image_ids: Vec<u64>,
    /// Whether all classes are treated as one (pycocotools' `useCats = 0`).
    pub class_agnostic: bool,
}

/// Evaluates the detections of images (by image id) on a dataset.
///
/// Only the images in `detections` are evaluated, so a subset is possible.
pub fn evaluate(
    dataset: &Dataset,
    detections: &[(u64, Vec<Detection>)],
    protocol: AreaProtocol,
) -> Result<Metrics, EvalError> {
    let gt = Arc::new(COCO::from_dataset(ground_truth(dataset)));
    let options = EvalOptions {
        protocol,
        image_ids: detections.iter().map(|(id, _)| *id).collect(),
        class_agnostic: false,
    };
    metrics(&gt, &results(detections, &dataset.classes), &options)
}

/// COCO's 12 metrics for boxes and for masks.
fn metrics(
    gt: &Arc<COCO>,
    results: &[Annotation],
    options: &EvalOptions,
) -> Result<Metrics, EvalError> {
    Ok(Metrics {
        bbox: numbers_of(gt, results, IouType::Bbox, options)?,
        segm: numbers_of(gt, results, IouType::Segm, options)?,
        protocol: options.protocol,
    })
}

/// COCO's 12 metrics for boxes or for masks.
fn numbers_of(
    gt: &Arc<COCO>,
    results: &[Annotation],
    kind: IouType,
    options: &EvalOptions,
) -> Result<[f64; 12], EvalError> {
    Ok(numbers(&accumulate(gt, results, kind, options)?))
}

/// The 12 metrics of an evaluation.
fn numbers(eval: &COCOeval) -> [f64; 12] {
    let stats = eval.stats().unwrap_or_default();
    std::array::from_fn(|index| stats.get(index).copied().unwrap_or(-1.0))
}

/// Runs the evaluation of boxes or of masks, for its metrics and its precision and recall arrays.
///
/// Results may have a box, a mask or both. Only `kind` is evaluated; boxes are kept for masks if
/// these are grouped by the area of boxes.
pub fn accumulate(
    gt: &Arc<COCO>,
    results: &[Annotation],
    kind: IouType,
    options: &EvalOptions,
) -> Result<COCOeval, EvalError> {
    let results = gt.load_res_anns(of_kind(results, kind, options.protocol))?;
    let mut eval = COCOeval::new(gt.clone(), results, kind);
    eval.params.use_cats = !options.class_agnostic;
    if !options.image_ids.is_empty() {
        eval.params.img_ids = options.image_ids.clone();
    }
    eval.evaluate()?;
    eval.accumulate();
    // Computes the metrics without printing them, as `run` would.
    eval.summarize_lines();
    Ok(eval)
}

/// Results without what the evaluation of boxes or masks must not use.
fn of_kind(results: &[Annotation], kind: IouType, protocol: AreaProtocol) -> Vec<Annotation> {
    let keep_box = kind == IouType::Bbox || protocol == AreaProtocol::Box;
    let strip = |mut result: Annotation| {
        if kind == IouType::Bbox {
            result.segmentation = None;
        }
        if !keep_box {
            result.bbox = None;
        }
        result
    };
    results.iter().cloned().map(strip).collect()
}

fn ground_truth(dataset: &Dataset) -> hotcoco::Dataset {
    hotcoco::Dataset {
        images: images(dataset.samples.iter()),
        categories: categories(&dataset.classes),
        annotations: annotations(dataset.samples.iter(), &dataset.classes),
        ..Default::default()
    }
}

fn images<'a>(samples: impl Iterator<Item = &'a Sample>) -> Vec<Image> {
    let image = |sample: &Sample| Image {
        id: sample.image_id,
        height: sample.height,
        width: sample.width,
        ..Default::default()
    };
    samples.map(image).collect()
}

fn categories(classes: &Classes) -> Vec<Category> {
    let named = classes.ids.iter().zip(&classes.names);
    named
        .map(|(&id, name)| Category {
            id,
            name: category_name(id, Some(name)),
            ..Default::default()
        })
        .collect()
}

/// The name of a category, or its id if it has none, because hotcoco prints a warning for an empty name.
fn category_name(id: u64, name: Option<&str>) -> String {
    let name = name.filter(|name| !name.is_empty());
    name.map_or_else(|| format!("category {id}"), String::from)
}

fn annotations<'a>(
    samples: impl Iterator<Item = &'a Sample>,
    classes: &Classes,
) -> Vec<Annotation> {
    let instances = samples.flat_map(|sample| {
        let instances = sample.instances.iter();
        instances.map(move |instance| (sample.image_id, instance))
    });
    instances
        .enumerate()
        .map(|(index, (image_id, instance))| Annotation {
            id: index as u64 + 1,
            image_id,
            category_id: classes.category_id(instance.label).unwrap_or_default(),
            bbox: Some(xywh(instance.bbox)),
            area: Some(instance.area),
            segmentation: Some(segmentation(&instance.mask)),
            iscrowd: instance.is_crowd,
            ..Default::default()
        })
        .collect()
}

fn results(detections: &[(u64, Vec<Detection>)], classes: &Classes) -> Vec<Annotation> {
    let all = detections
        .iter()
        .flat_map(|(id, found)| found.iter().map(move |d| (*id, d)));
    all.map(|(image_id, detection)| Annotation {
        image_id,
        category_id: classes.category_id(detection.label).unwrap_or_default(),
        bbox: Some(xywh(detection.bbox)),
        segmentation: Some(segmentation(&detection.mask)),
        score: Some(detection.score as f64),
        ..Default::default()
    })
    .collect()
}

fn xywh([x1, y1, x2, y2]: [f32; 4]) -> [f64; 4] {
    [x1 as f64, y1 as f64, (x2 - x1) as f64, (y2 - y1) as f64]
}

fn segmentation(mask: &vernier_mask::Rle) -> Segmentation {
    let RleRecord { size, counts } = RleRecord::new(mask);
    Segmentation::CompressedRle { size, counts }
}
