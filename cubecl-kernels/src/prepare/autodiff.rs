//! The rule that passes the gradient of a prepared parameter to the original.

use burn::backend::autodiff::{
    checkpoint::{base::Checkpointer, strategy::CheckpointStrategy},
    grads::Gradients,
    ops::{Backward, Ops, OpsKind, unary},
};
use burn::backend::{Autodiff, Backend, Dispatch, backend_extension, tensor::FloatTensor};
use burn::tensor::Tensor;

/// The operation on backends; use [`adopt`].
#[backend_extension(
    Cube: cfg(any(feature = "wgpu", feature = "cuda")),
    Flex: cfg(feature = "flex"),
    Autodiff,
    Fusion: cfg(feature = "fusion"),
)]
pub trait AdoptOps: Backend {
    /// See [`adopt`].
    #[fusion(default)]
    fn adopt(weight: FloatTensor<Self>, prepared: FloatTensor<Self>) -> FloatTensor<Self> {
        let _ = weight;
        prepared
    }
}

#[cfg(any(feature = "wgpu", feature = "cuda"))]
impl AdoptOps for burn_cubecl::CubeBackend {}

#[cfg(feature = "flex")]
impl AdoptOps for burn::backend::Flex {}

/// `prepared` in the graph of `weight`: its gradient is passed to `weight` unchanged, as by a straight-through
/// estimator, in the dtype and layout of `prepared`. [`restore_gradients`](super::restore_gradients) then turns it into
/// the gradient of `weight`.
///
/// # Panics
///
/// If the shapes differ.
pub fn adopt<const D: usize>(weight: Tensor<D>, prepared: Tensor<D>) -> Tensor<D> {
    assert_eq!(
        weight.dims(),
        prepared.dims(),
        "adopt: the prepared weight must have the shape of the weight"
    );
    Tensor::from_dispatch(<Dispatch as AdoptOps>::adopt(
        weight.into_dispatch(),
        prepared.into_dispatch(),
    ))
}

#[derive(Debug)]
struct Adopted;

impl<B: Backend> Backward<B, 1> for Adopted {
    type State = ();

    fn backward(
        self,
        ops: Ops<Self::State, 1>,
        grads: &mut Gradients,
        _checkpointer: &mut Checkpointer,
    ) {
        unary::<B, _>(ops.parents, ops.node, grads, |grad| grad);
    }
}

impl<B: Backend + AdoptOps, C: CheckpointStrategy> AdoptOps for Autodiff<B, C> {
    fn adopt(weight: FloatTensor<Self>, prepared: FloatTensor<Self>) -> FloatTensor<Self> {
        let prepared = prepared.into_primitive();
        match Adopted
            .prepare::<C>([weight.node()])
            .compute_bound()
            .stateful()
        {
            OpsKind::Tracked(prep) => prep.finish((), prepared),
            OpsKind::UnTracked(prep) => prep.finish(prepared),
        }
    }
}

#[cfg(all(test, feature = "flex"))]
mod tests {
    use super::*;
    use burn::tensor::{Device, Distribution};

    #[test]
    fn the_gradient_is_that_of_the_prepared_weight() {
        let device = Device::flex().autodiff();
        let random = || Tensor::<4>::random([3, 2, 3, 3], Distribution::Default, &device);
        let (weight, factor) = (random().require_grad(), random());
        let prepared = random().inner();
        let adopted = adopt(weight.clone(), prepared.clone());
        assert_eq!(adopted.clone().inner().into_data(), prepared.into_data());
        let gradients = (adopted * factor.clone()).sum().backward();
        let found = weight.grad(&gradients).expect("it is tracked");
        assert_eq!(found.into_data(), factor.inner().into_data());
    }

    #[test]
    fn without_a_graph_nothing_is_tracked() {
        let device = Device::flex();
        let weight = Tensor::<2>::ones([2, 2], &device);
        let adopted = adopt(weight, Tensor::zeros([2, 2], &device));
        assert_eq!(adopted.sum().into_scalar::<f32>(), 0.0);
    }
}
