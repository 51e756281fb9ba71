//! Selection of proposals: top-k, box decoding and NMS.

use super::case::Case;
use super::scene::{Scene, uniform, upload};
use crate::boxes::BOX_CLIP;
use crate::config::Config;
use crate::model::{filter_proposals, image_sizes};
use burn::tensor::{Device, Int, Tensor, TensorData};
use mrcnn_kernels::{BoxDecoding, decode_boxes, nms_sorted, top_k_segments};

const F32: usize = size_of::<f32>();

/// Top-k, decoding, NMS and all of them together, with the numbers of proposals of training.
pub(super) fn cases(config: &Config, scene: &Scene) -> Vec<Case> {
    let rpn = config.model.rpn.clone();
    let (n, k, levels) = (scene.n, rpn.pre_nms_train, scene.grids.len());
    let (total, slots) = (scene.anchor_count(config), levels * k);
    let per_level = |config: &Config, scene: &Scene, device: &Device| {
        let mut end = 0;
        let counts = scene.anchors(config, device).per_level;
        let ranges = counts.into_iter().map(|count| {
            end += count;
            end - count..end
        });
        ranges.collect::<Vec<_>>()
    };
    let (of_top_k, of_decoding, of_all) = (scene.clone(), scene.clone(), scene.clone());
    let (config, boxes) = (config.clone(), scene.boxes(slots));
    let (for_decoding, for_all, for_proposals) = (config.clone(), config.clone(), rpn.clone());
    vec![
        Case::new(
            "top-k",
            format!("{n}x{total} anchors, {k} of each of {levels} levels"),
            [n * (total * F32 + slots * 2 * F32), n * total],
            move |device| {
                let scores = uniform([n, total], device);
                let ranges = per_level(&config, &of_top_k, device);
                move || top_k_segments(scores.clone(), &ranges, k)
            },
        ),
        Case::new(
            "box decoding",
            format!("{n}x{slots} of {total} anchors"),
            [n * slots * (4 + 4 + 2 + 5) * F32, n * slots * 40],
            move |device| {
                let deltas = uniform([n, total, 4], device);
                let anchors = of_decoding.anchors(&for_decoding, device).boxes;
                let (scores, sizes) = (uniform([n, slots], device), sizes(&of_decoding, device));
                let chosen = (0..n * slots).map(|i| (i * 53 % total) as i32).collect();
                let chosen: TensorData = TensorData::new::<i32, _>(chosen, [n, slots]);
                let chosen = Tensor::<2, Int>::from_data(chosen, device);
                let decoding = BoxDecoding {
                    weights: [1.0; 4],
                    max_log_scale: BOX_CLIP,
                    min_size: rpn.min_size,
                };
                move || {
                    decode_boxes(
                        deltas.clone(),
                        anchors.clone(),
                        scores.clone(),
                        chosen.clone(),
                        sizes.clone(),
                        &decoding,
                    )
                }
            },
        ),
        Case::new(
            "NMS",
            format!("{}x{k} boxes", n * levels),
            [n * slots * (4 + 1 + 1) * F32, n * levels * k * k / 2 * 14],
            move |device| {
                let boxes: Vec<f32> = boxes.into_flattened();
                let boxes = upload(boxes, [levels, k, 4], device).repeat(&[n, 1, 1]);
                let scores = (0..k).map(|i| 1.0 / (1 + i) as f32).collect();
                let scores = upload(scores, [1, k], device).repeat(&[n * levels, 1]);
                move || nms_sorted(boxes.clone(), scores.clone(), for_proposals.nms_iou)
            },
        ),
        Case::new(
            "proposals",
            format!(
                "{n}x{total} anchors to {}",
                for_all.model.rpn.post_nms_train
            ),
            [
                n * (total * F32 + slots * 9 * F32),
                n * (total + slots * 40),
            ],
            move |device| {
                let (objectness, deltas) =
                    (uniform([n, total], device), uniform([n, total, 4], device));
                let anchors = of_all.anchors(&for_all, device);
                let sizes = sizes(&of_all, device);
                let rpn = for_all.model.rpn;
                move || {
                    let (objectness, deltas) = (objectness.clone(), deltas.clone());
                    let counts = [rpn.pre_nms_train, rpn.post_nms_train];
                    filter_proposals(objectness, deltas, &anchors, sizes.clone(), &rpn, counts)
                }
            },
        ),
    ]
}

/// Height and width of every image.
fn sizes(scene: &Scene, device: &Device) -> Tensor<2> {
    let (height, width) = scene.size;
    image_sizes(&vec![(height as u32, width as u32); scene.n], device)
}
