//! COCO evaluation, by `hotcoco` (bit-equal to pycocotools).

mod analysis;
mod metrics;
mod results;
mod shard;

pub use analysis::{Analysis, ClassResult, Confusion, ErrorKind, ImageErrors, analyse};
pub use metrics::{AreaProtocol, METRIC_NAMES, Metrics, shown_metric};
#[cfg(feature = "fuzzing")]
pub(crate) use results::evaluate_bytes;
pub use results::{ResultsEvaluation, evaluate_files};
pub use shard::EvalShard;

use crate::data::{Classes, Dataset, RleRecord, Sample};
use crate::detection::Detection;
use hotcoco::{Annotation, COCO, COCOeval, Category, Image, IouType, Segmentation};
use std::path::PathBuf;
use std::sync::Arc;
use thiserror::Error;

/// Why an evaluation failed.
#[derive(Debug, Error)]
pub enum EvalError {
    /// The evaluation refused its input.
    #[error("COCO evaluation failed: {0}; check the data with `mrcnn-cli dataset check DIR`")]
    Coco(#[from] hotcoco::Error),
    /// A results file cannot be read.
    #[error("{path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A file is not what it should be.
    #[error(
        "{path}: {reason}; results are a list of COCO results: image_id, category_id, score, ..."
    )]
    Json {
        /// The file.
        path: PathBuf,
        /// What is wrong, with line and column.
        reason: String,
    },
    /// Entries of a file that would make the numbers wrong.
    #[error("{path}: {count} entries cannot be evaluated, e.g.\n{first}\n{fix}")]
    Refused {
        /// The file.
        path: PathBuf,
        /// How many.
        count: usize,
        /// The first few, one a line.
        first: String,
        /// What to do.
        fix: &'static str,
    },
    /// None of the results is of an image that there is.
    #[error(
        "{path}: no result's image_id is an image of {annotations}; `eval --weights W --json FILE` writes \
         results with the dataset's ids, and so does `predict` on a dataset's folder"
    )]
    NoImage {
        /// The results.
        path: PathBuf,
        /// The truth.
        annotations: PathBuf,
    },
}

/// What is evaluated, and how.
#[derive(Clone, Debug, Default)]
pub struct EvalOptions {
    /// How masks are sorted by size.
    pub protocol: AreaProtocol,
    /// The images that count; empty for all.
    pub image_ids: Vec<u64>,
    /// Whether all classes are taken for one (pycocotools' `useCats = 0`).
    pub class_agnostic: bool,
}

/// Evaluates the detections of images (by image id) against a data set.
///
/// Only the images in `detections` count, so a subset can be evaluated.
pub fn evaluate(
    dataset: &Dataset,
    detections: &[(u64, Vec<Detection>)],
    protocol: AreaProtocol,
) -> Result<Metrics, EvalError> {
    let truth = Arc::new(COCO::from_dataset(ground_truth(dataset)));
    let options = EvalOptions {
        protocol,
        image_ids: detections.iter().map(|(id, _)| *id).collect(),
        class_agnostic: false,
    };
    metrics(&truth, &results(detections, &dataset.classes), &options)
}

/// The 12 numbers for boxes and the 12 for masks.
fn metrics(
    truth: &Arc<COCO>,
    results: &[Annotation],
    options: &EvalOptions,
) -> Result<Metrics, EvalError> {
    Ok(Metrics {
        bbox: numbers_of(truth, results, IouType::Bbox, options)?,
        segm: numbers_of(truth, results, IouType::Segm, options)?,
        protocol: options.protocol,
    })
}

/// The 12 numbers for boxes or for masks.
fn numbers_of(
    truth: &Arc<COCO>,
    results: &[Annotation],
    kind: IouType,
    options: &EvalOptions,
) -> Result<[f64; 12], EvalError> {
    Ok(numbers(&accumulate(truth, results, kind, options)?))
}

/// The 12 numbers of an evaluation.
fn numbers(eval: &COCOeval) -> [f64; 12] {
    let stats = eval.stats().unwrap_or_default();
    std::array::from_fn(|index| stats.get(index).copied().unwrap_or(-1.0))
}

/// Runs the evaluation of boxes or of masks, for its numbers and its precision and recall arrays.
///
/// Results may have a box, a mask or both; the other of `kind` is left out, but for the box where
/// masks are sorted by the area of boxes.
pub fn accumulate(
    truth: &Arc<COCO>,
    results: &[Annotation],
    kind: IouType,
    options: &EvalOptions,
) -> Result<COCOeval, EvalError> {
    let results = truth.load_res_anns(of_kind(results, kind, options.protocol))?;
    let mut eval = COCOeval::new(truth.clone(), results, kind);
    eval.params.use_cats = !options.class_agnostic;
    if !options.image_ids.is_empty() {
        eval.params.img_ids = options.image_ids.clone();
    }
    eval.evaluate()?;
    eval.accumulate();
    // Fills the numbers; `run` would print them too.
    eval.summarize_lines();
    Ok(eval)
}

/// Results without what the evaluation of boxes or masks is not to see.
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

/// The name of a category; its id where it has none, about which hotcoco would print a warning.
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
            iscrowd: instance.crowd,
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
