//! The top-down sum of a feature pyramid. With Burn's operations, GPUs would write the upsampled top to memory, and add
//! it value by value instead of in vectors.

#[cfg(any(feature = "wgpu", feature = "cuda"))]
mod cube;
#[cfg(feature = "flex")]
mod flex;

use crate::accumulation::has_gradient;
use burn::backend::{
    Autodiff, Backend, Dispatch,
    autodiff::{
        checkpoint::{base::Checkpointer, strategy::CheckpointStrategy},
        grads::Gradients,
        ops::{Backward, Ops},
    },
    backend_extension,
    tensor::FloatTensor,
};
#[cfg(feature = "fusion")]
use burn::tensor::Shape;
use burn::tensor::Tensor;

/// The sum as a backend operation; use [`super::upsample_add`].
#[backend_extension(
    Cube: cfg(any(feature = "wgpu", feature = "cuda")),
    Flex: cfg(feature = "flex"),
    Autodiff,
    Fusion: cfg(feature = "fusion"),
)]
pub trait UpsampleOps: Backend {
    /// [`super::upsample_add`].
    #[fusion(dtype = lateral, shape = lateral)]
    fn add_upsampled(lateral: FloatTensor<Self>, top: FloatTensor<Self>) -> FloatTensor<Self>;

    /// The gradient `[n, c, ceil(h / 2), ceil(w / 2)]` of the top from `grad [n, c, h, w]`: the sums of 2x2 cells, in
    /// f32.
    #[fusion(dtype = grad, shape = halved(grad))]
    fn upsampled_gradient(grad: FloatTensor<Self>) -> FloatTensor<Self>;

    /// [`Self::upsampled_gradient`] added to `gradient`, which is overwritten if nothing else refers to it.
    #[fusion(dtype = gradient, shape = gradient)]
    fn add_upsampled_gradient(
        gradient: FloatTensor<Self>,
        grad: FloatTensor<Self>,
    ) -> FloatTensor<Self>;
}

pub fn add_upsampled(lateral: Tensor<4>, top: Tensor<4>) -> Tensor<4> {
    let (lateral, top) = (lateral.into_dispatch(), top.into_dispatch());
    Tensor::from_dispatch(<Dispatch as UpsampleOps>::add_upsampled(lateral, top))
}

#[cfg(feature = "fusion")]
fn halved(grad: &Shape) -> Shape {
    Shape::new([grad[0], grad[1], grad[2].div_ceil(2), grad[3].div_ceil(2)])
}

#[derive(Debug)]
struct UpsampleBackward;

impl<B: Backend + UpsampleOps> Backward<B, 2> for UpsampleBackward {
    type State = ();

    fn backward(
        self,
        ops: Ops<Self::State, 2>,
        grads: &mut Gradients,
        _checkpointer: &mut Checkpointer,
    ) {
        let [lateral, top] = ops.parents;
        let grad = grads.consume::<B>(&ops.node);
        if let Some(node) = top {
            let gradient = match has_gradient(grads, node.id, node.parents.is_empty()) {
                true => B::add_upsampled_gradient(grads.consume::<B>(&node), grad.clone()),
                false => B::upsampled_gradient(grad.clone()),
            };
            grads.register::<B>(node.id, gradient);
        }
        if let Some(node) = lateral {
            grads.register::<B>(node.id, grad);
        }
    }
}

impl<B: Backend + UpsampleOps, C: CheckpointStrategy> UpsampleOps for Autodiff<B, C> {
    fn add_upsampled(lateral: FloatTensor<Self>, top: FloatTensor<Self>) -> FloatTensor<Self> {
        let nodes = [lateral.node(), top.node()];
        let sum = B::add_upsampled(lateral.into_primitive(), top.into_primitive());
        UpsampleBackward
            .prepare::<C>(nodes)
            .compute_bound()
            .stateless(sum)
    }

    fn upsampled_gradient(_grad: FloatTensor<Self>) -> FloatTensor<Self> {
        panic!("upsample_add has no second derivative")
    }

    fn add_upsampled_gradient(
        _gradient: FloatTensor<Self>,
        _grad: FloatTensor<Self>,
    ) -> FloatTensor<Self> {
        panic!("upsample_add has no second derivative")
    }
}
