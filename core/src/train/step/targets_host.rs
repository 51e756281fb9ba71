//! Training samples and their targets, matched and sampled on the host.

use super::features::StepFeatures;
use super::samples::{AnchorSamples, MaskSamples, RoiSamples, Samples};
use crate::boxes::{Bbox, BoxCoder, Match, Matcher, sample_balanced};
use crate::config::{RoiConfig, RpnConfig};
use crate::model::{HostRpn, MaskRcnn, Roi, Rois};
use crate::random::Stream;
use crate::train::input::batch::{Batch, Truth};
use crate::train::input::masks::project_mask;
use burn::tensor::{Device, ExecutionError, Tensor, TensorData};
use rayon::prelude::*;

/// Matches and samples on the host; reads the RPN output from the device once.
pub fn sample_on_host(
    model: &MaskRcnn,
    batch: &Batch,
    step: &StepFeatures,
    stream: Stream,
) -> Result<Samples, ExecutionError> {
    let device = step.rpn.objectness.device().inner();
    let config = model.config();
    let (rpn, roi) = (&config.rpn, &config.roi);
    let anchors = model.anchors(step.features.padded, &step.rpn.grids);
    let limits = [rpn.pre_nms_train, rpn.post_nms_train];
    let output = step.rpn.clone().untracked();
    let objectness = output.objectness.try_into_data()?;
    let deltas = output.deltas.try_into_data()?;
    let output = HostRpn::new(&objectness, &deltas, anchors);
    let side = config.mask_head.pool * 2;
    let images = (0..batch.truths.len()).into_par_iter().map(|image| {
        let truth = &batch.truths[image];
        let [anchor_stream, roi_stream] = batch.streams(image, stream);
        let anchors = &output.anchors.boxes;
        let sampled = sample_anchors(anchors, &truth.boxes, rpn, anchor_stream);
        let proposals = output.proposals(image, batch.sizes[image], rpn, limits);
        let rois = sample_rois(&proposals, rpn.post_nms_train, truth, roi, roi_stream);
        let masks = rois.iter().filter(|roi| roi.label > 0).map(|roi| {
            let mask = &truth.masks[roi.matched];
            project_mask(mask, &roi.bbox, side)
        });
        let masks = masks.collect::<Vec<_>>().concat();
        (sampled, rois, masks)
    });
    let images: Vec<_> = images.collect();
    let mut anchors = Vec::with_capacity(images.len());
    let (mut rois, mut masks) = (Vec::new(), Vec::new());
    for (image, (of_image, of_rois, of_masks)) in images.into_iter().enumerate() {
        anchors.push(of_image);
        rois.extend(of_rois.into_iter().map(|roi| (image, roi)));
        masks.extend(of_masks);
    }
    let is_object = |roi: &&(usize, SampledRoi)| roi.1.label > 0;
    let objects: Vec<_> = rois.iter().filter(is_object).copied().collect();
    Ok(Samples {
        anchors: anchor_samples(&anchors, &device),
        rois: roi_samples(&rois, &device),
        masks: mask_samples(&objects, masks, side, &device),
    })
}

/// A sampled anchor.
#[derive(Clone, Copy, Debug, PartialEq)]
struct SampledAnchor {
    index: usize,
    is_object: bool,
    /// Box deltas; 0 for background.
    deltas: [f32; 4],
}

/// Matches and samples the anchors of one image.
fn sample_anchors(
    anchors: &[Bbox],
    truth: &[Bbox],
    config: &RpnConfig,
    stream: Stream,
) -> Vec<SampledAnchor> {
    let matches = Matcher::of_anchors(config).match_boxes(truth, anchors);
    let (count, fraction) = (config.batch_per_image, config.positive_fraction);
    let sampled = sample_balanced(&matches, count, fraction, stream);
    let coder = BoxCoder { weights: [1.0; 4] };
    let target = |index: usize| {
        let object = match matches[index] {
            Match::Object(object) => Some(&truth[object]),
            _ => None,
        };
        let deltas = object.map(|object| coder.encode(object, &anchors[index]));
        SampledAnchor {
            index,
            is_object: object.is_some(),
            deltas: deltas.unwrap_or_default(),
        }
    };
    sampled.all().into_iter().map(target).collect()
}

/// A sampled RoI.
#[derive(Clone, Copy, Debug, PartialEq)]
struct SampledRoi {
    /// Pixels of the resized image.
    bbox: Bbox,
    /// 0 for background.
    label: usize,
    /// Index of the matched object; undefined for background.
    matched: usize,
    /// Box deltas; 0 for background.
    deltas: [f32; 4],
}

/// Matches and samples the proposals of one image and the ground-truth boxes, which are added as candidates.
///
/// Ground-truth boxes are numbered from `slots`, even if there are fewer proposals: the index of a candidate determines
/// whether it is sampled, and must be the same as on a device with fixed slots.
fn sample_rois(
    proposals: &[Bbox],
    slots: usize,
    truth: &Truth,
    config: &RoiConfig,
    stream: Stream,
) -> Vec<SampledRoi> {
    let padding = slots.saturating_sub(proposals.len());
    let candidates = [proposals, &vec![[0.0; 4]; padding], &truth.boxes].concat();
    let mut matches = Matcher::of_rois(config).match_boxes(&truth.boxes, &candidates);
    matches[proposals.len()..][..padding].fill(Match::Ignored);
    let (count, fraction) = (config.batch_per_image, config.positive_fraction);
    let sampled = sample_balanced(&matches, count, fraction, stream);
    let coder = BoxCoder {
        weights: config.box_weights,
    };
    let target = |index: usize| {
        let bbox = candidates[index];
        let (label, matched, deltas) = match matches[index] {
            Match::Object(object) => {
                let deltas = coder.encode(&truth.boxes[object], &bbox);
                (truth.labels[object], object, deltas)
            }
            _ => (0, 0, [0.0; 4]),
        };
        SampledRoi {
            bbox,
            label,
            matched,
            deltas,
        }
    };
    sampled.all().into_iter().map(target).collect()
}

/// Pads to as many slots per image as the fullest one needs.
fn anchor_samples(images: &[Vec<SampledAnchor>], device: &Device) -> AnchorSamples {
    let n = images.len();
    let slots = images.iter().map(Vec::len).max().unwrap_or(0).max(1);
    let mut index = vec![0i32; n * slots];
    let [mut labels, mut valid] = [(); 2].map(|()| vec![0.0f32; n * slots]);
    let mut deltas = vec![[0.0f32; 4]; n * slots];
    for (image, anchors) in images.iter().enumerate() {
        for (slot, anchor) in (image * slots..).zip(anchors) {
            index[slot] = anchor.index as i32;
            labels[slot] = f32::from(anchor.is_object);
            deltas[slot] = anchor.deltas;
            valid[slot] = 1.0;
        }
    }
    let deltas = TensorData::new(deltas.into_flattened(), [n, slots, 4]);
    let floats = |values| Tensor::from_data(TensorData::new(values, [n, slots]), device);
    AnchorSamples {
        index: Tensor::from_data(TensorData::new(index, [n, slots]), device),
        labels: floats(labels),
        deltas: Tensor::from_data(deltas, device),
        valid: floats(valid),
    }
}

/// Padding of a batch in which nothing was sampled: every head still runs and every parameter still gets a gradient.
const PADDING: (usize, SampledRoi) = (
    0,
    SampledRoi {
        bbox: [0.0, 0.0, 1.0, 1.0],
        label: 0,
        matched: 0,
        deltas: [0.0; 4],
    },
);

/// The RoIs to pool, at least one, their classes and valid mask.
fn padded(samples: &[(usize, SampledRoi)]) -> (Vec<(usize, SampledRoi)>, Vec<f32>) {
    match samples.is_empty() {
        true => (vec![PADDING], vec![0.0]),
        false => (samples.to_vec(), vec![1.0; samples.len()]),
    }
}

fn rois_of(samples: &[(usize, SampledRoi)], device: &Device) -> Rois {
    let rois = samples.iter().map(|(image, roi)| (*image, roi.bbox));
    Rois::new(&rois.collect::<Vec<Roi>>(), device)
}

fn labels_of(samples: &[(usize, SampledRoi)]) -> TensorData {
    let labels = samples.iter().map(|(_, roi)| roi.label as i32);
    TensorData::new(labels.collect::<Vec<_>>(), [samples.len()])
}

fn roi_samples(samples: &[(usize, SampledRoi)], device: &Device) -> RoiSamples {
    let (samples, valid) = padded(samples);
    let deltas: Vec<f32> = samples.iter().flat_map(|(_, roi)| roi.deltas).collect();
    RoiSamples {
        rois: rois_of(&samples, device),
        labels: Tensor::from_data(labels_of(&samples), device),
        deltas: Tensor::from_data(TensorData::new(deltas, [samples.len(), 4]), device),
        valid: Tensor::from_floats(valid.as_slice(), device),
    }
}

fn mask_samples(
    objects: &[(usize, SampledRoi)],
    masks: Vec<f32>,
    side: usize,
    device: &Device,
) -> MaskSamples {
    let (objects, valid) = padded(objects);
    let mut targets = masks;
    targets.resize(objects.len() * side * side, 0.0);
    let targets = TensorData::new(targets, [objects.len(), side * side]);
    MaskSamples {
        rois: rois_of(&objects, device),
        labels: Tensor::from_data(labels_of(&objects), device),
        targets: Tensor::from_data(targets, device),
        valid: Tensor::from_floats(valid.as_slice(), device),
    }
}
