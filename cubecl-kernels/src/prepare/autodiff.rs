//! The gradient of a parameter that was prepared without a graph.

use crate::dtype::cast;
use burn::backend::autodiff::{
    checkpoint::{base::Checkpointer, strategy::CheckpointStrategy},
    grads::Gradients,
    ops::{Backward, Ops, OpsKind, unary},
};
use burn::backend::{
    Autodiff, Backend, Dispatch, TensorMetadata, backend_extension, tensor::FloatTensor,
};
use burn::tensor::{DType, Shape, Tensor};

/// The operation on backends; use [`adopt`].
#[backend_extension(
    Cube: cfg(any(feature = "wgpu", feature = "cuda")),
    Flex: cfg(feature = "flex"),
    Autodiff,
    Fusion: cfg(feature = "fusion"),
)]
pub trait AdoptOps: Backend {
    /// `prepared`, as the result of `weight`.
    #[fusion(default)]
    fn adopt(weight: FloatTensor<Self>, prepared: FloatTensor<Self>) -> FloatTensor<Self> {
        let _ = weight;
        prepared
    }

    /// `prepared`, as the result of `weight` times `scale` along the first dimension.
    #[fusion(default)]
    fn adopt_scaled(
        weight: FloatTensor<Self>,
        prepared: FloatTensor<Self>,
        scale: FloatTensor<Self>,
    ) -> FloatTensor<Self> {
        let _ = (weight, scale);
        prepared
    }
}

#[cfg(any(feature = "wgpu", feature = "cuda"))]
impl AdoptOps for burn_cubecl::CubeBackend {}

#[cfg(feature = "flex")]
impl AdoptOps for burn::backend::Flex {}

/// `prepared` with the gradient of `weight`, from which it was computed: `weight * scale` in another dtype, where
/// `scale [o]` belongs to the first dimension. The gradient of `weight` is f32.
///
/// # Panics
///
/// If the shapes differ.
pub fn adopt<const D: usize>(
    weight: Tensor<D>,
    prepared: Tensor<D>,
    scale: Option<Tensor<1>>,
) -> Tensor<D> {
    assert_eq!(
        weight.dims(),
        prepared.dims(),
        "adopt: the prepared weight must have the shape of the weight"
    );
    let (weight, prepared) = (weight.into_dispatch(), prepared.into_dispatch());
    Tensor::from_dispatch(match scale {
        None => <Dispatch as AdoptOps>::adopt(weight, prepared),
        Some(scale) => {
            <Dispatch as AdoptOps>::adopt_scaled(weight, prepared, scale.into_dispatch())
        }
    })
}

#[derive(Debug)]
struct Adopted;

impl<B: Backend> Backward<B, 1> for Adopted {
    /// The scale.
    type State = Option<FloatTensor<B>>;

    fn backward(
        self,
        ops: Ops<Self::State, 1>,
        grads: &mut Gradients,
        _checkpointer: &mut Checkpointer,
    ) {
        let scale = ops.state;
        unary::<B, _>(ops.parents, ops.node, grads, |grad| {
            let grad = cast::<B>(grad, DType::F32);
            let Some(scale) = scale else {
                return grad;
            };
            let mut per_output = vec![1; grad.shape().num_dims()];
            per_output[0] = grad.shape()[0];
            let scale = B::float_reshape(scale, Shape::from(per_output));
            B::float_mul(grad, scale)
        });
    }
}

fn adopted<B: Backend, C: CheckpointStrategy>(
    weight: FloatTensor<Autodiff<B, C>>,
    prepared: FloatTensor<Autodiff<B, C>>,
    scale: Option<FloatTensor<Autodiff<B, C>>>,
) -> FloatTensor<Autodiff<B, C>> {
    let prepared = prepared.into_primitive();
    match Adopted
        .prepare::<C>([weight.node()])
        .compute_bound()
        .stateful()
    {
        OpsKind::Tracked(prep) => prep.finish(scale.map(|scale| scale.into_primitive()), prepared),
        OpsKind::UnTracked(prep) => prep.finish(prepared),
    }
}

impl<B: Backend + AdoptOps, C: CheckpointStrategy> AdoptOps for Autodiff<B, C> {
    fn adopt(weight: FloatTensor<Self>, prepared: FloatTensor<Self>) -> FloatTensor<Self> {
        adopted::<B, C>(weight, prepared, None)
    }

    fn adopt_scaled(
        weight: FloatTensor<Self>,
        prepared: FloatTensor<Self>,
        scale: FloatTensor<Self>,
    ) -> FloatTensor<Self> {
        adopted::<B, C>(weight, prepared, Some(scale))
    }
}

#[cfg(all(test, feature = "flex"))]
mod tests {
    use super::*;
    use burn::tensor::{Device, Distribution};

    #[test]
    fn the_gradient_is_that_of_the_product() {
        let device = Device::flex().autodiff();
        let random = |device| Tensor::<4>::random([3, 2, 3, 3], Distribution::Default, device);
        let (weight, factor) = (random(&device).require_grad(), random(&device));
        let scale = Tensor::<1>::from_floats([2.0, -0.5, 3.0], &Device::flex());
        let scaled = weight.clone().inner() * scale.clone().reshape([3, 1, 1, 1]);
        for (prepared, scale) in [
            (weight.clone().inner(), None),
            (scaled, Some(scale.clone())),
        ] {
            let adopted = adopt(weight.clone(), prepared.clone(), scale.clone());
            assert_eq!(adopted.clone().inner().into_data(), prepared.into_data());
            let gradients = (adopted * factor.clone()).sum().backward();
            let wanted = match scale {
                Some(scale) => factor.clone().inner() * scale.reshape([3, 1, 1, 1]),
                None => factor.clone().inner(),
            };
            let found = weight.grad(&gradients).expect("it is tracked");
            assert_eq!(found.into_data(), wanted.into_data());
        }
    }

    #[test]
    fn without_a_graph_nothing_is_tracked() {
        let device = Device::flex();
        let weight = Tensor::<2>::ones([2, 2], &device);
        let adopted = adopt(weight, Tensor::zeros([2, 2], &device), None);
        assert_eq!(adopted.sum().into_scalar::<f32>(), 0.0);
    }
}
