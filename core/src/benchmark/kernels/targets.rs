//! Training targets, and pasting of predicted masks.

use super::case::Case;
use super::layers::masks_per_image;
use super::scene::{OBJECTS, Scene, upload};
use crate::config::Config;
use crate::image::paste::paste_to_rle;
use crate::random::Stream;
use burn::tensor::{Int, Tensor, TensorData};
use mrcnn_kernels::{
    BitMasks, MaskWindow, MatchThresholds, mask_targets, match_boxes, sampling_scores,
    sampling_seeds,
};

const F32: usize = size_of::<f32>();

/// Matching of anchors, sampling scores, mask targets, and pasting of masks.
pub(super) fn cases(config: &Config, scene: &Scene) -> Vec<Case> {
    let (n, total) = (scene.n, scene.anchor_count(config));
    let rpn = &config.model.rpn;
    let thresholds = MatchThresholds {
        fg_iou: rpn.fg_iou,
        bg_iou: rpn.bg_iou,
        allow_low_quality: true,
    };
    let objects: Vec<f32> = scene.boxes(OBJECTS).into_flattened();
    let (of_pasting, of_matching) = (config.clone(), scene.clone());
    let config = config.clone();
    let side = 2 * config.model.mask_head.pool;
    let count = masks_per_image(&config);
    vec![
        Case::new(
            "matching",
            format!("{n}x{total} anchors to {OBJECTS} objects"),
            // Two passes over the pairs.
            [n * total * (4 + 1) * F32, n * total * OBJECTS * 2 * 14],
            move |device| {
                let anchors = of_matching.anchors(&config, device).boxes;
                let objects = upload(objects, [1, OBJECTS, 4], device).repeat(&[n, 1, 1]);
                let counts = TensorData::new(vec![OBJECTS as i32; n], [n]);
                let counts = Tensor::<1, Int>::from_data(counts, device);
                move || {
                    match_boxes(
                        anchors.clone(),
                        objects.clone(),
                        counts.clone(),
                        &thresholds,
                    )
                }
            },
        ),
        Case::new(
            "sampling scores",
            format!("{n}x{total} anchors"),
            [n * total * 3 * F32, n * total * 60],
            move |device| {
                let matches = (0..n * total).map(|i| (i % 7) as i32 - 2).collect();
                let matches = TensorData::new::<i32, _>(matches, [n, total]);
                let matches = Tensor::<2, Int>::from_data(matches, device);
                let seeds = sampling_seeds(&(0..n as u64).collect::<Vec<_>>(), device);
                move || sampling_scores(matches.clone(), seeds.clone())
            },
        ),
        mask_target_case(scene, [count, side]),
        pasting(&of_pasting, scene),
    ]
}

/// The masks of [`OBJECTS`] objects inside `count` RoIs per image, `side x side`.
fn mask_target_case(scene: &Scene, [count, side]: [usize; 2]) -> Case {
    let n = scene.n;
    let (height, width) = scene.size;
    let size = ((width / 3).max(1), (height / 3).max(1));
    let window = MaskWindow {
        origin: (width / 3, height / 3),
        size,
        image: (width, height),
    };
    let boxes = scene.boxes(count);
    // One sample with four cells per pixel of a RoI.
    let pixels: f32 = boxes.iter().map(|b| (b[2] - b[0]) * (b[3] - b[1])).sum();
    let bits = n * OBJECTS * size.0 * size.1 / 8;
    let problem = format!("{} RoIs, {side}x{side}", n * count);
    let least = [
        bits + n * count * (side * side + 5) * F32,
        n * pixels as usize * 12,
    ];
    Case::new("mask targets", problem, least, move |device| {
        let mut masks = BitMasks::default();
        let cells: Vec<u8> = (0..size.0 * size.1).map(|i| u8::from(i % 7 < 4)).collect();
        (0..n * OBJECTS).for_each(|_| masks.push(window, &cells));
        let masks = masks.upload(n, device);
        let rois = upload(boxes.into_flattened(), [1, count, 4], device).repeat(&[n, 1, 1]);
        let matched = (0..n * count).map(|i| (i % OBJECTS) as i32).collect();
        let matched = TensorData::new::<i32, _>(matched, [n, count]);
        let matched = Tensor::<2, Int>::from_data(matched, device);
        move || mask_targets(rois.clone(), matched.clone(), masks.clone(), side)
    })
}

/// Pasting of mask probabilities on the device into run lengths on the host, including the read.
fn pasting(config: &Config, scene: &Scene) -> Case {
    let count = scene.n * config.model.roi.max_detections;
    let side = 2 * config.model.mask_head.pool;
    let boxes = scene.boxes(count);
    let pixels: f32 = boxes.iter().map(|b| (b[2] - b[0]) * (b[3] - b[1])).sum();
    let size = (scene.size.0 as u32, scene.size.1 as u32);
    let places: Vec<_> = boxes.into_iter().map(|bbox| (bbox, size)).collect();
    let least = [
        count * side * side * F32 + pixels as usize / 8,
        pixels as usize * 12,
    ];
    let problem = format!("{count} masks, {side}x{side}");
    Case::new("paste to run lengths", problem, least, move |device| {
        let stream = Stream::named("benchmark masks", 0);
        let values = (0..(count * side * side) as u64).map(|i| stream.uniform(i) as f32);
        let masks = upload(values.collect(), [count, side, side], device);
        move || pollster::block_on(paste_to_rle(masks.clone(), &places, 0.5))
    })
}
