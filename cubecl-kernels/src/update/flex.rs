//! The updates on flex, whose tensors are in host memory.

use super::cpu;
use super::rates::{AdamwUpdate, SgdUpdate};
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
    ) -> (FloatTensor<Self>, FloatTensor<Self>);

    /// Value and both means.
    fn adamw(
        value: FloatTensor<Self>,
        gradient: FloatTensor<Self>,
        first: FloatTensor<Self>,
        second: FloatTensor<Self>,
        update: AdamwUpdate,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>);
}

pub fn sgd(
    update: SgdUpdate,
    value: Tensor<1>,
    gradient: Tensor<1>,
    velocity: Tensor<1>,
) -> (Tensor<1>, Tensor<1>) {
    let (value, velocity) = <Dispatch as UpdateOps>::sgd(
        value.into_dispatch(),
        gradient.into_dispatch(),
        velocity.into_dispatch(),
        update,
    );
    (
        Tensor::from_dispatch(value),
        Tensor::from_dispatch(velocity),
    )
}

pub fn adamw(
    update: AdamwUpdate,
    value: Tensor<1>,
    gradient: Tensor<1>,
    [first, second]: [Tensor<1>; 2],
) -> (Tensor<1>, [Tensor<1>; 2]) {
    let (value, first, second) = <Dispatch as UpdateOps>::adamw(
        value.into_dispatch(),
        gradient.into_dispatch(),
        first.into_dispatch(),
        second.into_dispatch(),
        update,
    );
    let means = [first, second].map(Tensor::from_dispatch);
    (Tensor::from_dispatch(value), means)
}

impl UpdateOps for Flex {
    fn sgd(
        value: FloatTensor<Self>,
        gradient: FloatTensor<Self>,
        velocity: FloatTensor<Self>,
        update: SgdUpdate,
    ) -> (FloatTensor<Self>, FloatTensor<Self>) {
        let gradient = gradient.to_contiguous();
        let (mut value, mut velocity) = (contiguous(value), contiguous(velocity));
        let tensors = [value.storage_mut(), velocity.storage_mut()];
        cpu::sgd(&update, tensors, floats(&gradient));
        (value, velocity)
    }

    fn adamw(
        value: FloatTensor<Self>,
        gradient: FloatTensor<Self>,
        first: FloatTensor<Self>,
        second: FloatTensor<Self>,
        update: AdamwUpdate,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>) {
        let gradient = gradient.to_contiguous();
        let [mut value, mut first, mut second] = [value, first, second].map(contiguous);
        let tensors = [
            value.storage_mut(),
            first.storage_mut(),
            second.storage_mut(),
        ];
        cpu::adamw(&update, tensors, floats(&gradient));
        (value, first, second)
    }
}
