//! Launches that prepare parameters.

use super::kernel::{CastPartLaunch, FoldPartLaunch, cast_step, fold_step};
use super::norms::{Folded, FrozenNorms};
use super::restore::{layout, restored};
use crate::launch::{UNITS, buffer, empty};
use crate::multi_tensor::{CHUNK, CubeRangeLaunch, Launch, dense_f32, launches, lengths};
use crate::tensor_list::TensorList;
use burn::backend::cubecl::dtype_to_storage_type;
#[cfg(feature = "fusion")]
use burn::backend::fusion::custom::TensorSpec;
use burn::backend::{Backend, Dispatch, TensorMetadata, backend_extension};
#[cfg(feature = "fusion")]
use burn::tensor::Shape;
use burn::tensor::{DType, FloatDType, Tensor};
use burn_cubecl::CubeBackend;
use burn_cubecl::ops::{permute_nhwc_to_nchw, reshape};
use burn_cubecl::tensor::CubeTensor;
use cubecl::prelude::*;

/// Buffers of a convolution with its norm.
pub const FOLD_BINDINGS: u32 = 8;

/// The operations on backends; use [`fold_norms`](super::fold_norms) and [`cast_weights`](super::cast_weights).
#[backend_extension(
    Cube: cfg(any(feature = "wgpu", feature = "cuda")),
    Fusion: cfg(feature = "fusion"),
)]
pub trait PrepareOps: Backend {
    /// Folded weights, shifts and scales.
    #[fusion(meta = |weights, norm_weights, _biases, _means, _vars, _epsilons, dtype| {
        (as_dtype(weights, *dtype), as_dtype(norm_weights, *dtype), norm_weights.clone())
    })]
    fn fold_norms(
        #[extension_type] weights: TensorList<Self>,
        #[extension_type] norm_weights: TensorList<Self>,
        #[extension_type] biases: TensorList<Self>,
        #[extension_type] means: TensorList<Self>,
        #[extension_type] vars: TensorList<Self>,
        epsilons: Vec<f64>,
        dtype: DType,
    ) -> (TensorList<Self>, TensorList<Self>, TensorList<Self>);

    /// Flat gradients; `places` has the place of the scale of each.
    #[fusion(meta = |gradients, _scales, _places| flat(gradients))]
    fn restore_gradients(
        #[extension_type] gradients: TensorList<Self>,
        #[extension_type] scales: TensorList<Self>,
        places: Vec<Option<usize>>,
    ) -> TensorList<Self>;

    /// The weights as `dtype`.
    #[fusion(meta = |weights, dtype| as_dtype(weights, *dtype))]
    fn cast_weights(#[extension_type] weights: TensorList<Self>, dtype: DType) -> TensorList<Self>;
}

#[cfg(feature = "fusion")]
fn as_dtype(specs: &[TensorSpec], dtype: DType) -> Vec<TensorSpec> {
    let specs = specs.iter();
    specs
        .map(|spec| TensorSpec::new(spec.shape.clone(), dtype))
        .collect()
}

#[cfg(feature = "fusion")]
fn flat(specs: &[TensorSpec]) -> Vec<TensorSpec> {
    let lengths = specs.iter().map(|spec| spec.shape.num_elements());
    lengths
        .map(|length| TensorSpec::new(Shape::new([length]), DType::F32))
        .collect()
}

/// See [`super::restore_gradients`].
pub fn restore(
    gradients: TensorList<Dispatch>,
    scales: Vec<Option<Tensor<1>>>,
) -> TensorList<Dispatch> {
    assert_eq!(
        gradients.0.len(),
        scales.len(),
        "restore_gradients: a scale or none per gradient"
    );
    if gradients.0.is_empty() {
        return gradients;
    }
    for (gradient, scale) in gradients.0.iter().zip(&scales) {
        if let Some(scale) = scale {
            let (shape, length) = (gradient.shape(), scale.shape());
            assert!(
                shape[..1] == length[..],
                "restore_gradients: a scale per output, not {length:?} for {shape:?}"
            );
        }
    }
    let mut list = Vec::new();
    let places = scales.into_iter().map(|scale| {
        list.push(scale?);
        Some(list.len() - 1)
    });
    let places = places.collect();
    <Dispatch as PrepareOps>::restore_gradients(gradients, TensorList::of(list), places)
}

/// See [`super::fold_norms`].
pub fn fold(weights: TensorList<Dispatch>, norms: FrozenNorms, dtype: FloatDType) -> Folded {
    let FrozenNorms {
        weights: norm_weights,
        biases,
        means,
        vars,
        epsilons,
    } = norms;
    let counts = [&norm_weights, &biases, &means, &vars].map(|list| list.0.len());
    assert_eq!(
        (counts, epsilons.len()),
        ([weights.0.len(); 4], weights.0.len()),
        "fold_norms: one norm per convolution"
    );
    for (index, weight) in weights.0.iter().enumerate() {
        let shape = weight.shape();
        let lengths = [&norm_weights, &biases, &means, &vars].map(|list| list.0[index].shape());
        assert!(
            shape.num_dims() == 4 && lengths.iter().all(|length| length[..] == shape[..1]),
            "fold_norms: weights [o, c, k, k] and norms [o], not {shape:?} and {lengths:?}"
        );
    }
    if epsilons.is_empty() {
        return Folded {
            weights,
            shifts: biases,
            scales: norm_weights,
        };
    }
    let (weights, shifts, scales) = <Dispatch as PrepareOps>::fold_norms(
        weights,
        norm_weights,
        biases,
        means,
        vars,
        epsilons,
        dtype.into(),
    );
    Folded {
        weights,
        shifts,
        scales,
    }
}

/// See [`super::cast_weights`].
pub fn cast(weights: TensorList<Dispatch>, dtype: FloatDType) -> TensorList<Dispatch> {
    match weights.0.is_empty() {
        true => weights,
        false => <Dispatch as PrepareOps>::cast_weights(weights, dtype.into()),
    }
}

/// A result for `weight`, dense in the order of its layout: `[o, k, k, c]` for `[o, c, k, k]`.
fn result(weight: &CubeTensor, dtype: DType) -> CubeTensor {
    let shape = weight.meta.shape();
    match shape.num_dims() {
        4 => empty(weight, [shape[0], shape[2], shape[3], shape[1]], dtype),
        _ => empty(weight, [shape.num_elements()], dtype),
    }
}

/// The results in the shapes of `weights`.
fn shaped(results: Vec<CubeTensor>, weights: &[CubeTensor]) -> TensorList<CubeBackend> {
    let results = results.into_iter().zip(weights);
    let shaped = results.map(|(result, weight)| match weight.meta.shape().num_dims() {
        4 => permute_nhwc_to_nchw(result),
        _ => reshape(result, weight.meta.shape().clone()),
    });
    TensorList(shaped.collect())
}

fn part<E: Float>(
    weight: &CubeTensor,
    result: &CubeTensor,
    range: CubeRangeLaunch,
) -> CastPartLaunch<E> {
    let [channels, cells] = layout(weight.meta.shape()).map(|size| size as u32);
    CastPartLaunch {
        weight: buffer(weight),
        result: buffer(result),
        range,
        channels,
        cells,
    }
}

impl PrepareOps for CubeBackend {
    fn fold_norms(
        weights: TensorList<Self>,
        norm_weights: TensorList<Self>,
        biases: TensorList<Self>,
        means: TensorList<Self>,
        vars: TensorList<Self>,
        epsilons: Vec<f64>,
        dtype: DType,
    ) -> (TensorList<Self>, TensorList<Self>, TensorList<Self>) {
        let [weights, norm_weights, biases, means, vars] =
            [weights, norm_weights, biases, means, vars].map(|list| dense_f32(list.0));
        let on = &weights[0];
        let results: Vec<_> = weights.iter().map(|weight| result(weight, dtype)).collect();
        let per_output = |dtype| {
            let norm_weights = norm_weights.iter();
            norm_weights.map(move |weight| empty(weight, [weight.meta.num_elements()], dtype))
        };
        let shifts: Vec<_> = per_output(dtype).collect();
        let scales: Vec<_> = per_output(DType::F32).collect();
        for Launch { tensors, cubes } in launches(on, &lengths(&weights), CHUNK, FOLD_BINDINGS) {
            let parts = tensors.into_iter().map(|(index, range)| FoldPartLaunch {
                conv: part(&weights[index], &results[index], range),
                weight: buffer(&norm_weights[index]),
                bias: buffer(&biases[index]),
                mean: buffer(&means[index]),
                var: buffer(&vars[index]),
                shift: buffer(&shifts[index]),
                scale: buffer(&scales[index]),
                epsilon: epsilons[index] as f32,
            });
            // SAFETY: the buffers are dense; the results have the lengths of the weights, and the others one element
            // per output.
            unsafe {
                fold_step::launch_unchecked(
                    &on.client,
                    CubeCount::Static(cubes, 1, 1),
                    CubeDim::new_1d(UNITS),
                    parts.collect(),
                    dtype_to_storage_type(dtype),
                );
            }
        }
        (
            shaped(results, &weights),
            TensorList(shifts),
            TensorList(scales),
        )
    }

    fn restore_gradients(
        gradients: TensorList<Self>,
        scales: TensorList<Self>,
        places: Vec<Option<usize>>,
    ) -> TensorList<Self> {
        TensorList(restored(gradients.0, dense_f32(scales.0), &places))
    }

    fn cast_weights(weights: TensorList<Self>, dtype: DType) -> TensorList<Self> {
        let weights = dense_f32(weights.0);
        let on = &weights[0];
        let results: Vec<_> = weights.iter().map(|weight| result(weight, dtype)).collect();
        for Launch { tensors, cubes } in launches(on, &lengths(&weights), CHUNK, 2) {
            let parts = tensors
                .into_iter()
                .map(|(index, range)| part(&weights[index], &results[index], range));
            // SAFETY: the buffers are dense, and the results have the lengths of the weights.
            unsafe {
                cast_step::launch_unchecked(
                    &on.client,
                    CubeCount::Static(cubes, 1, 1),
                    CubeDim::new_1d(UNITS),
                    parts.collect(),
                    dtype_to_storage_type(dtype),
                );
            }
        }
        shaped(results, &weights)
    }
}
