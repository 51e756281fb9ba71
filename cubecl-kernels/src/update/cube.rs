//! Launches of the updates on GPUs.

use super::kernel::{AdamwPartLaunch, AdamwRatesLaunch, SgdPartLaunch, adamw_step, sgd_step};
use super::rates::{AdamwUpdate, ParamFactors, SgdUpdate};
use crate::launch::{UNITS, buffer, own};
use crate::multi_tensor::{CHUNK, Launch, dense_f32, launches, lengths};
use crate::tensor_list::TensorList;
use burn::backend::{Backend, Dispatch, backend_extension};
use burn::tensor::Tensor;
use burn_cubecl::CubeBackend;
use burn_cubecl::tensor::CubeTensor;
use cubecl::prelude::*;

/// The updates as backend operations; use [`fn@super::sgd`] and [`fn@super::adamw`].
#[backend_extension(
    Cube: cfg(any(feature = "wgpu", feature = "cuda")),
    Fusion: cfg(feature = "fusion"),
)]
pub trait UpdateListOps: Backend {
    /// Values and velocities.
    #[fusion(meta = |values, _gradients, velocities, _update, _factors| (values.clone(), velocities.clone()))]
    fn sgd_of_list(
        #[extension_type] values: TensorList<Self>,
        #[extension_type] gradients: TensorList<Self>,
        #[extension_type] velocities: TensorList<Self>,
        update: SgdUpdate,
        factors: Vec<ParamFactors>,
    ) -> (TensorList<Self>, TensorList<Self>);

    /// Values and both means.
    #[fusion(meta = |values, _gradients, first, second, _update, _factors| {
        (values.clone(), first.clone(), second.clone())
    })]
    fn adamw_of_list(
        #[extension_type] values: TensorList<Self>,
        #[extension_type] gradients: TensorList<Self>,
        #[extension_type] first: TensorList<Self>,
        #[extension_type] second: TensorList<Self>,
        update: AdamwUpdate,
        factors: Vec<ParamFactors>,
    ) -> (TensorList<Self>, TensorList<Self>, TensorList<Self>);
}

/// See [`fn@super::sgd`].
pub fn sgd(
    update: SgdUpdate,
    factors: &[ParamFactors],
    tensors: Vec<[Tensor<1>; 3]>,
) -> Vec<[Tensor<1>; 2]> {
    if tensors.is_empty() {
        return Vec::new();
    }
    let [values, gradients, velocities] = lists(tensors);
    let (values, velocities) = <Dispatch as UpdateListOps>::sgd_of_list(
        values,
        gradients,
        velocities,
        update,
        factors.to_vec(),
    );
    let results = values.into_tensors().zip(velocities.into_tensors());
    results.map(<[_; 2]>::from).collect()
}

/// See [`fn@super::adamw`].
pub fn adamw(
    update: AdamwUpdate,
    factors: &[ParamFactors],
    tensors: Vec<[Tensor<1>; 4]>,
) -> Vec<[Tensor<1>; 3]> {
    if tensors.is_empty() {
        return Vec::new();
    }
    let [values, gradients, first, second] = lists(tensors);
    let (values, first, second) = <Dispatch as UpdateListOps>::adamw_of_list(
        values,
        gradients,
        first,
        second,
        update,
        factors.to_vec(),
    );
    let means = first.into_tensors().zip(second.into_tensors());
    let results = values.into_tensors().zip(means);
    results
        .map(|(value, (first, second))| [value, first, second])
        .collect()
}

/// A list of the tensors in each position.
fn lists<const N: usize>(tensors: Vec<[Tensor<1>; N]>) -> [TensorList<Dispatch>; N] {
    let mut lists = [(); N].map(|()| Vec::with_capacity(tensors.len()));
    for tensors in tensors {
        for (list, tensor) in lists.iter_mut().zip(tensors) {
            list.push(tensor);
        }
    }
    lists.map(TensorList::of)
}

/// The tensors to be overwritten: copies where something else refers to them.
fn owned(tensors: TensorList<CubeBackend>) -> Vec<CubeTensor> {
    dense_f32(tensors.0).into_iter().map(own).collect()
}

impl UpdateListOps for CubeBackend {
    fn sgd_of_list(
        values: TensorList<Self>,
        gradients: TensorList<Self>,
        velocities: TensorList<Self>,
        update: SgdUpdate,
        factors: Vec<ParamFactors>,
    ) -> (TensorList<Self>, TensorList<Self>) {
        let gradients = dense_f32(gradients.0);
        let [values, velocities] = [values, velocities].map(owned);
        let on = &values[0];
        for Launch { tensors, cubes } in launches(on, &lengths(&values), CHUNK, 3) {
            let parts = tensors.into_iter().map(|(index, range)| SgdPartLaunch {
                value: buffer(&values[index]),
                gradient: buffer(&gradients[index]),
                velocity: buffer(&velocities[index]),
                range,
                decay: factors[index].decay as f32,
                scale: factors[index].scale as f32,
            });
            // SAFETY: the buffers are dense and of one length, within which they are read and written.
            unsafe {
                sgd_step::launch_unchecked(
                    &on.client,
                    CubeCount::Static(cubes, 1, 1),
                    CubeDim::new_1d(UNITS),
                    parts.collect(),
                    update.rate as f32,
                    update.momentum as f32,
                );
            }
        }
        (TensorList(values), TensorList(velocities))
    }

    fn adamw_of_list(
        values: TensorList<Self>,
        gradients: TensorList<Self>,
        first: TensorList<Self>,
        second: TensorList<Self>,
        update: AdamwUpdate,
        factors: Vec<ParamFactors>,
    ) -> (TensorList<Self>, TensorList<Self>, TensorList<Self>) {
        let gradients = dense_f32(gradients.0);
        let [values, first, second] = [values, first, second].map(owned);
        let on = &values[0];
        let [kept1, kept2] = update.betas.map(|beta| beta as f32);
        let [added1, added2] = update.betas.map(|beta| (1.0 - beta) as f32);
        let [correction1, correction2] = update.corrections().map(|divisor| divisor as f32);
        for Launch { tensors, cubes } in launches(on, &lengths(&values), CHUNK, 4) {
            let parts = tensors.into_iter().map(|(index, range)| AdamwPartLaunch {
                value: buffer(&values[index]),
                gradient: buffer(&gradients[index]),
                first: buffer(&first[index]),
                second: buffer(&second[index]),
                range,
                decay: factors[index].decay as f32,
                scale: factors[index].scale as f32,
            });
            // SAFETY: the buffers are dense and of one length, within which they are read and written.
            unsafe {
                adamw_step::launch_unchecked(
                    &on.client,
                    CubeCount::Static(cubes, 1, 1),
                    CubeDim::new_1d(UNITS),
                    parts.collect(),
                    AdamwRatesLaunch {
                        rate: update.rate as f32,
                        epsilon: update.epsilon as f32,
                        kept1,
                        added1,
                        kept2,
                        added2,
                        correction1,
                        correction2,
                    },
                );
            }
        }
        let [values, first, second] = [values, first, second].map(TensorList);
        (values, first, second)
    }
}
