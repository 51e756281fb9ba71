//! Evaluation of results files, of any program, against annotation files. Anything that would silently lower a
//! metric is an error: unknown images and classes, masks of another size, missing scores.

mod boxes;
mod detections;
mod entries;
mod faults;
mod ground_truth;
mod input;
mod matching;

use super::{EvalError, EvalOptions, Metrics, numbers_of};
use detections::read_results;
use ground_truth::ground_truth;
use hotcoco::{COCO, IouType};
use input::{Input, length, opener};
use std::collections::HashSet;
use std::path::Path;
use std::sync::Arc;

/// The metrics of a results file, with notes.
#[derive(Clone, Debug)]
pub struct ResultsEvaluation {
    /// COCO's metrics; those of masks are undefined (-1) if no result has a mask.
    pub metrics: Metrics,
    /// Notes, for example about images without results.
    pub notes: Vec<String>,
}

/// Evaluates a COCO results file against a COCO annotation file. Results with a
/// `file_name` are matched by it, the others by `image_id`.
pub fn evaluate_files(
    annotations: &Path,
    results: &Path,
    options: &EvalOptions,
) -> Result<ResultsEvaluation, EvalError> {
    let (open_truth, open_results) = (opener(annotations), opener(results));
    evaluate_inputs(
        &Input::new(annotations, length(annotations), &open_truth),
        &Input::new(results, length(results), &open_results),
        options,
    )
}

/// As [`evaluate_files`], with the bytes of both files.
#[cfg(feature = "convert")]
pub(crate) fn evaluate_bytes(
    annotations: &[u8],
    results: &[u8],
    options: &EvalOptions,
) -> Result<ResultsEvaluation, EvalError> {
    let open = |bytes: &[u8]| {
        let text = std::io::Cursor::new(bytes.to_vec());
        move || crate::data::json::decode_text(text.clone())
    };
    let (open_truth, open_results) = (open(annotations), open(results));
    let path = Path::new("fuzzed");
    evaluate_inputs(
        &Input::new(path, annotations.len() as u64, &open_truth),
        &Input::new(path, results.len() as u64, &open_results),
        options,
    )
}

fn evaluate_inputs(
    annotations: &Input,
    results: &Input,
    options: &EvalOptions,
) -> Result<ResultsEvaluation, EvalError> {
    let gt = ground_truth(annotations)?;
    let (found, mut notes) = read_results(results, annotations.path, &gt)?;
    let gt = Arc::new(COCO::from_dataset(gt));
    let with_results: HashSet<u64> = found.iter().map(|result| result.image_id).collect();
    let images = gt.get_img_ids(&[], &[]).len();
    if with_results.len() < images {
        let without = images - with_results.len();
        notes.push(format!("{without} of {images} images have no result"));
    }
    let masks = found.is_empty() || found.iter().any(|result| result.segmentation.is_some());
    let metrics = Metrics {
        bbox: numbers_of(&gt, &found, IouType::Bbox, options)?,
        segm: match masks {
            true => numbers_of(&gt, &found, IouType::Segm, options)?,
            false => [-1.0; 12],
        },
        protocol: options.protocol,
    };
    if !masks {
        notes.push("the results have boxes only, so the mask metrics are undefined".into());
    }
    Ok(ResultsEvaluation { metrics, notes })
}
