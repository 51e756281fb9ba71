//! Pooling, the gradient norm and the optimizer's update.

use super::case::Case;
use super::layers::masks_per_image;
use super::scene::{Scene, uniform, upload};
use crate::config::Config;
use crate::model::{bytes_of, window_side};
use burn::backend::Dispatch;
use burn::tensor::{FloatDType, Tensor};
use mrcnn_kernels::roi_align::RoiAlignOps;
use mrcnn_kernels::{
    ParamFactors, RoiAlignParams, SgdUpdate, max_pool3x3, partial_sums_of_squares, roi_align, sgd,
    sum_each,
};
use std::cell::RefCell;

const F32: usize = size_of::<f32>();

/// Max pool of the stem, and RoIAlign of both heads and of the RPN's windows with its gradient.
pub(super) fn pooling(config: &Config, scene: &Scene, dtype: FloatDType) -> Vec<Case> {
    let model = &config.model;
    let element = bytes_of(dtype) as usize;
    let (rows, columns) = scene.grid(1);
    let stem = [scene.n, model.width, rows, columns];
    let elements: usize = stem.iter().product();
    let pool = Case::new(
        "max pool 3x3",
        format!("{}x{}x{rows}x{columns}", scene.n, model.width),
        [elements * 5 / 4 * element, 2 * elements],
        move |device| {
            let x = uniform(stem, device).cast(dtype);
            move || max_pool3x3(x.clone())
        },
    );
    let pooled = pooled_rois(config, scene).into_iter();
    let roi = pooled.flat_map(|(count, params)| {
        [false, true]
            .map(|is_gradient| aligned(config, scene, dtype, (count, &params), is_gradient))
    });
    [pool].into_iter().chain(roi).collect()
}

/// RoIs per image of both heads and of the RPN's windows, with the parameters of their RoIAlign.
fn pooled_rois(config: &Config, scene: &Scene) -> Vec<(usize, RoiAlignParams)> {
    let model = &config.model;
    let head = |bins: usize| RoiAlignParams {
        output: [bins; 2],
        sampling_ratio: model.roi.sampling_ratio,
        aligned: model.roi.aligned,
        zero_padding: false,
        levels: scene.pyramid(),
    };
    let mut pooled = vec![
        (model.roi.batch_per_image, head(model.box_head.pool)),
        (masks_per_image(config), head(model.mask_head.pool)),
    ];
    if scene.prefers_windows(config) {
        let windows = RoiAlignParams {
            sampling_ratio: 1,
            aligned: false,
            zero_padding: true,
            ..head(window_side(&model.rpn))
        };
        pooled.push((model.rpn.batch_per_image, windows));
    }
    pooled
}

/// RoIAlign of `count` RoIs per image into square outputs, or its gradient.
fn aligned(
    config: &Config,
    scene: &Scene,
    dtype: FloatDType,
    (count, params): (usize, &RoiAlignParams),
    is_gradient: bool,
) -> Case {
    let (params, channels, n) = (params.clone(), config.model.fpn_channels, scene.n);
    let ([bins, _], sampling_ratio) = (params.output, params.sampling_ratio);
    let cells = params.cells();
    let pooled = n * count * bins * bins * channels;
    let samples = sampling_ratio.max(1).pow(2);
    // Four cells per sample. The forward pass reads a part of the pyramid that depends on the RoIs and is not counted;
    // the gradient writes all of it.
    let bytes = pooled + if is_gradient { n * cells * channels } else { 0 };
    let least = [bytes * bytes_of(dtype) as usize, 2 * 4 * samples * pooled];
    let rois = scene.rois(count);
    let problem = format!("{} RoIs, {bins}x{bins}x{channels}", n * count);
    let rows = n * count;
    if is_gradient {
        return Case::new("RoIAlign, gradient", problem, least, move |device| {
            let rois = upload(rois, [rows, 6], device).into_dispatch();
            // The forward pass computes the records.
            let records = <Dispatch as RoiAlignOps>::roi_records(rois, params.clone(), n);
            let grad = uniform([rows, bins, bins, channels], device).cast(dtype);
            let grad = grad.permute([0, 3, 1, 2]);
            move || {
                Tensor::<2>::from_dispatch(<Dispatch as RoiAlignOps>::roi_align_backward(
                    grad.clone().into_dispatch(),
                    records.clone(),
                    params.clone(),
                    n,
                ))
            }
        });
    }
    Case::new("RoIAlign, output", problem, least, move |device| {
        let rois = upload(rois, [rows, 6], device);
        let pyramid = uniform([n * cells, channels], device).cast(dtype);
        move || roi_align(pyramid.clone(), rois.clone(), &params)
    })
}

/// The gradient norm and SGD's update of the largest parameter of the box head.
pub(super) fn updates(config: &Config) -> [Case; 2] {
    let head = &config.model.box_head;
    let count = config.model.fpn_channels * head.pool * head.pool * head.hidden;
    let problem = || format!("{count} parameters");
    let norm = Case::new(
        "sum of squares",
        problem(),
        [count * F32, 2 * count],
        move |device| {
            let gradient = [uniform([count], device)];
            move || partial_sums_of_squares(&gradient, 1.0).map(|squares| sum_each(&[squares]))
        },
    );
    let update = SgdUpdate {
        rate: 1e-6,
        momentum: 0.9,
    };
    let factors = [ParamFactors {
        decay: 1e-4,
        scale: 1.0,
    }];
    let step = Case::new(
        "SGD",
        problem(),
        [5 * count * F32, 6 * count],
        move |device| {
            // The parameter is overwritten in each run, as in training.
            let [value, gradient, velocity] = [0; 3].map(|_| uniform([count], device));
            let state = RefCell::new(Some([value, velocity]));
            move || {
                let [value, velocity] = state.take().expect("put back by the last run");
                let tensors = vec![[value, gradient.clone(), velocity]];
                state.replace(sgd(&update, &factors, tensors).pop());
            }
        },
    );
    [norm, step]
}
