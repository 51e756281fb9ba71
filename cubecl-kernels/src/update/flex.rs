//! The updates on flex, whose tensors are in host memory.

use super::cpu;
use super::rates::{AdamwUpdate, ParamFactors, SgdUpdate};
use crate::cpu_memory::contiguous;
use crate::flex::floats;
use burn::backend::{Backend, Dispatch, Flex, backend_extension, tensor::FloatTensor};
use burn::tensor::Tensor;

/// The updates as backend operations; use [`fn@super::sgd`] and [`fn@super::adamw`].
#[backend_extension(Flex)]
pub trait UpdateOps: Backend {
    /// Value and velocity.
    fn sgd(
        value: FloatTensor<Self>,
        gradient: FloatTensor<Self>,
        velocity: FloatTensor<Self>,
        update: SgdUpdate,
        factors: ParamFactors,
    ) -> (FloatTensor<Self>, FloatTensor<Self>);

    /// Value and both means.
    fn adamw(
        value: FloatTensor<Self>,
        gradient: FloatTensor<Self>,
        first: FloatTensor<Self>,
        second: FloatTensor<Self>,
        update: AdamwUpdate,
        factors: ParamFactors,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>);
}

pub fn sgd(update: SgdUpdate, factors: ParamFactors, tensors: [Tensor<1>; 3]) -> [Tensor<1>; 2] {
    let [value, gradient, velocity] = tensors.map(Tensor::into_dispatch);
    let (value, velocity) =
        <Dispatch as UpdateOps>::sgd(value, gradient, velocity, update, factors);
    [value, velocity].map(Tensor::from_dispatch)
}

pub fn adamw(
    update: AdamwUpdate,
    factors: ParamFactors,
    tensors: [Tensor<1>; 4],
) -> [Tensor<1>; 3] {
    let [value, gradient, first, second] = tensors.map(Tensor::into_dispatch);
    let (value, first, second) =
        <Dispatch as UpdateOps>::adamw(value, gradient, first, second, update, factors);
    [value, first, second].map(Tensor::from_dispatch)
}

impl UpdateOps for Flex {
    fn sgd(
        value: FloatTensor<Self>,
        gradient: FloatTensor<Self>,
        velocity: FloatTensor<Self>,
        update: SgdUpdate,
        factors: ParamFactors,
    ) -> (FloatTensor<Self>, FloatTensor<Self>) {
        let gradient = gradient.to_contiguous();
        let (mut value, mut velocity) = (contiguous(value), contiguous(velocity));
        let tensors = [value.storage_mut(), velocity.storage_mut()];
        cpu::sgd(&update, factors, tensors, floats(&gradient));
        (value, velocity)
    }

    fn adamw(
        value: FloatTensor<Self>,
        gradient: FloatTensor<Self>,
        first: FloatTensor<Self>,
        second: FloatTensor<Self>,
        update: AdamwUpdate,
        factors: ParamFactors,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>) {
        let gradient = gradient.to_contiguous();
        let [mut value, mut first, mut second] = [value, first, second].map(contiguous);
        let tensors = [
            value.storage_mut(),
            first.storage_mut(),
            second.storage_mut(),
        ];
        cpu::adamw(&update, factors, tensors, floats(&gradient));
        (value, first, second)
    }
}
