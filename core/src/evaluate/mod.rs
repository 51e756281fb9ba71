//! Evaluation of a model on a dataset, and drawings of detections beside the ground truth.

mod agreement;
pub(crate) mod gathered;
mod retry;
pub(crate) mod usable;

use crate::data::{Dataset, Instance, LeftOut, Sample};
use crate::detection::Detection;
use crate::eval::{AreaProtocol, EvalShard, Metrics, evaluate};
use crate::image::overlay::{OverlayOptions, draw, side_by_side};
use crate::predict::Predictor;
use crate::train::error::{LoadError, TrainError};
use crate::train::rank::{Rank, gather_numbers};
use ::image::RgbImage;
use agreement::Agreement;
use mrcnn_backends::comm::Communicator;
use std::ops::ControlFlow;
use std::path::Path;
use usable::{left_out_of_all, usable_image};

/// Detections by the id of their image.
pub type DatasetDetections = Vec<(u64, Vec<Detection>)>;

/// The result of an evaluation.
#[derive(Clone, Debug)]
pub struct Evaluation {
    /// The COCO metrics.
    pub metrics: Metrics,
    /// The detections of this rank's images.
    pub detections: DatasetDetections,
    /// Images that no rank could use, with `data.on_problem = "skip"`. They do not count.
    pub left_out: Vec<LeftOut>,
}

/// Callback after every batch of an evaluation, with the number of images done and their total; it may stop the
/// evaluation.
pub type Progress<'a> = dyn FnMut(usize, usize) -> ControlFlow<()> + 'a;

/// Evaluates a model on a dataset.
///
/// If `progress` stops it, the error is [`TrainError::Interrupted`]. The model may have more classes than
/// the dataset; detections of those are left out.
pub fn evaluate_model(
    predictor: &Predictor,
    dataset: &Dataset,
    protocol: AreaProtocol,
    progress: &mut Progress<'_>,
) -> Result<Evaluation, TrainError> {
    let mut left_out = Vec::new();
    let samples = &dataset.samples;
    let detections = predict_samples(predictor, dataset, samples, progress, &mut left_out)?;
    Ok(Evaluation {
        metrics: evaluate(dataset, &detections, protocol)?,
        detections,
        left_out,
    })
}

/// As [`evaluate_model`], on all ranks together: the same metrics, bit-equal on every rank.
///
/// Each rank predicts and matches a contiguous shard of the dataset, rank 0 the first one, and returns its own
/// detections. `progress` is called for the rank's shard; if it stops the evaluation on any rank, all ranks return
/// [`TrainError::Interrupted`] after the same batch.
pub fn evaluate_over_ranks(
    comm: &dyn Communicator,
    predictor: &Predictor,
    dataset: &Dataset,
    protocol: AreaProtocol,
    progress: &mut Progress<'_>,
) -> Result<Evaluation, TrainError> {
    if comm.is_alone() {
        return evaluate_model(predictor, dataset, protocol, progress);
    }
    comm.mark("evaluation");
    // Shards consist of whole batches, because the images of a batch determine its padding.
    let images = dataset.samples.len();
    let batches = images.div_ceil(EVAL_BATCH);
    let mine = Rank::of(comm).shard(batches);
    let [first, end] = [mine.start, mine.end].map(|b| (b * EVAL_BATCH).min(images));
    let samples = &dataset.samples[first..end];
    let mut agreement = Agreement::new(comm, batches.div_ceil(comm.world_size()));
    let mut progress = |done: usize, all: usize| agreement.exchange(progress(done, all));
    let mut left_out = Vec::new();
    let found = predict_samples(predictor, dataset, samples, &mut progress, &mut left_out);
    let found = agreement.end(found)?;

    let mut shard = EvalShard::new(&dataset.classes, protocol)?;
    // Images that could not be read do not count.
    let mut read = found.iter().map(|(id, _)| id).peekable();
    let samples = samples
        .iter()
        .filter(|sample| read.next_if(|id| **id == sample.image_id).is_some());
    let samples: Vec<&Sample> = samples.collect();
    for (samples, found) in samples.chunks(EVAL_BATCH).zip(found.chunks(EVAL_BATCH)) {
        shard.add(samples, found, &dataset.classes)?;
    }
    let shards = comm.all_gather_bytes(&shard.to_bytes())?;
    let metrics = match comm.rank() {
        0 => {
            for other in &shards[1..] {
                shard.merge(other)?;
            }
            Some(shard.metrics())
        }
        _ => None,
    };
    Ok(Evaluation {
        metrics: of_rank_0(comm, metrics, protocol)?,
        detections: found,
        left_out: left_out_of_all(comm, left_out)?,
    })
}

/// Broadcasts rank 0's metrics to every rank.
fn of_rank_0(
    comm: &dyn Communicator,
    metrics: Option<Metrics>,
    protocol: AreaProtocol,
) -> Result<Metrics, TrainError> {
    let mine = metrics.map_or([0; 24], |metrics| {
        let mut numbers = metrics.bbox.into_iter().chain(metrics.segm);
        std::array::from_fn(|_| numbers.next().unwrap_or_default().to_bits())
    });
    let numbers = gather_numbers(comm, mine)?[0].map(f64::from_bits);
    Ok(Metrics {
        bbox: std::array::from_fn(|i| numbers[i]),
        segm: std::array::from_fn(|i| numbers[12 + i]),
        protocol,
    })
}

/// Number of images predicted at a time.
const EVAL_BATCH: usize = 4;

/// Detections of some images of a dataset, with the labels of the dataset.
fn predict_samples(
    predictor: &Predictor,
    dataset: &Dataset,
    samples: &[Sample],
    progress: &mut Progress<'_>,
    left_out: &mut Vec<LeftOut>,
) -> Result<DatasetDetections, TrainError> {
    let labels = predictor.classes().labels_in(&dataset.classes);
    let labels = labels.ok_or_else(|| TrainError::UnknownClasses {
        path: dataset.annotations.clone(),
        data: dataset.classes.names.clone(),
        model: predictor.classes().names.clone(),
    })?;
    let mut found = predict_all(predictor, samples, progress, left_out)?;
    for (_, detections) in &mut found {
        detections.retain_mut(|detection| {
            let label = labels.get(detection.label).copied().flatten();
            detection.label = label.unwrap_or_default();
            label.is_some()
        });
    }
    Ok(found)
}

fn predict_all(
    predictor: &Predictor,
    samples: &[Sample],
    progress: &mut Progress<'_>,
    left_out: &mut Vec<LeftOut>,
) -> Result<DatasetDetections, TrainError> {
    let on_problem = predictor.config().data.on_problem;
    let all = samples.len();
    let mut found = Vec::with_capacity(all);
    for (index, samples) in samples.chunks(EVAL_BATCH).enumerate() {
        let mut images = Vec::with_capacity(samples.len());
        for sample in samples {
            let image = usable_image(sample, on_problem, left_out)?;
            images.extend(image.map(|image| (sample.image_id, image)));
        }
        let references: Vec<_> = images.iter().map(|(_, image)| image).collect();
        let predictions = predictor.predict_batch(&references)?;
        let detections = predictions.into_iter().map(|found| found.detections);
        found.extend(images.iter().map(|(id, _)| *id).zip(detections));
        if progress(index * EVAL_BATCH + samples.len(), all).is_break() {
            return Err(TrainError::Interrupted);
        }
    }
    Ok(found)
}

/// Detections with a lower score are not drawn.
const DRAWN_SCORE: f32 = 0.5;

/// Images with a shorter side of less than half of this many pixels are enlarged.
const DRAWN_SIDE: u32 = 480;

/// An image with its ground truth, side by side with the same image and its confident detections. Small images are
/// enlarged by 2 or 3.
pub fn ground_truth_and_prediction(
    sample: &Sample,
    detections: &[Detection],
    dataset: &Dataset,
) -> Result<RgbImage, LoadError> {
    let names = |label: usize| dataset.classes.name(label);
    let image = sample.image()?;
    let gt: Vec<Detection> = sample.instances.iter().map(as_detection).collect();
    let confident: Vec<Detection> = detections
        .iter()
        .filter(|d| d.score >= DRAWN_SCORE)
        .cloned()
        .collect();
    // Labels of small images would cover them.
    let shorter = image.width().min(image.height()).max(1);
    let with_scores = OverlayOptions {
        zoom: (DRAWN_SIDE / shorter).clamp(1, 3),
        ..OverlayOptions::default()
    };
    let without_scores = OverlayOptions {
        scores: false,
        ..with_scores.clone()
    };
    let gt = draw(&image, &gt, &names, &without_scores);
    let predicted = draw(&image, &confident, &names, &with_scores);
    Ok(side_by_side(&[
        ("ground truth", &gt),
        ("prediction", &predicted),
    ]))
}

/// Writes [`ground_truth_and_prediction`] of the first `count` images to `folder/ID.png`.
pub fn draw_predictions(
    folder: &Path,
    dataset: &Dataset,
    found: &[(u64, Vec<Detection>)],
    count: usize,
) -> Result<(), TrainError> {
    let io_error = |path: &Path, source| TrainError::Io {
        path: path.into(),
        source,
    };
    std::fs::create_dir_all(folder).map_err(|source| io_error(folder, source))?;
    for (image_id, detections) in found.iter().take(count) {
        let Some(sample) = dataset.samples.iter().find(|s| s.image_id == *image_id) else {
            continue;
        };
        let path = folder.join(format!("{image_id}.png"));
        ground_truth_and_prediction(sample, detections, dataset)?
            .save(&path)
            .map_err(|error| io_error(&path, std::io::Error::other(error)))?;
    }
    Ok(())
}

fn as_detection(instance: &Instance) -> Detection {
    Detection {
        bbox: instance.bbox,
        label: instance.label,
        score: 1.0,
        mask: instance.mask.clone(),
    }
}
