//! Gradient rule of the epilogue: the gradient, masked by the output if there is a ReLU, is that of `x` and of the
//! residual, and its sums per channel are the gradient of the bias.

use super::EpilogueOps;
use burn::backend::Autodiff;
use burn::backend::autodiff::{
    checkpoint::{base::Checkpointer, strategy::CheckpointStrategy},
    grads::Gradients,
    ops::{Backward, NodeGuard, Ops, OpsKind},
};
use burn::backend::{Backend, TensorMetadata, tensor::FloatTensor};
use burn::tensor::Shape;

/// `N` inputs: x, bias, and the residual if `N` is three.
#[derive(Debug)]
struct EpilogueBackward<const N: usize>;

impl<B: Backend + EpilogueOps, const N: usize> Backward<B, N> for EpilogueBackward<N> {
    /// The output, if there is a ReLU.
    type State = Option<FloatTensor<B>>;

    fn backward(
        self,
        ops: Ops<Self::State, N>,
        grads: &mut Gradients,
        _checkpointer: &mut Checkpointer,
    ) {
        let grad = masked_gradient::<B>(ops.state, grads.consume::<B>(&ops.node));
        for (place, node) in ops.parents.into_iter().enumerate() {
            let Some(node) = node else { continue };
            let gradient = match place {
                1 => bias_gradient::<B>(grad.clone()),
                _ => grad.clone(),
            };
            grads.register::<B>(node.id, gradient);
        }
    }
}

/// The gradient of what precedes a ReLU with this output, or `grad` itself without one: `[n, c, h, w]`, channels-last.
pub(crate) fn masked_gradient<B: Backend + EpilogueOps>(
    rectified: Option<FloatTensor<B>>,
    grad: FloatTensor<B>,
) -> FloatTensor<B> {
    match rectified {
        Some(output) => B::rectified_gradient(output, grad),
        None => B::dense_gradient(grad),
    }
}

/// The sums `[c]` of `grad [n, c, h, w]` per channel. A channels-last gradient is read in place.
pub(crate) fn bias_gradient<B: Backend>(grad: FloatTensor<B>) -> FloatTensor<B> {
    let [n, c, h, w] = grad.shape().dims();
    let pixels = B::float_permute(grad, &[0, 2, 3, 1]);
    let pixels = B::float_reshape(pixels, Shape::new([n * h * w, c]));
    B::float_reshape(B::float_sum_dim(pixels, 0), Shape::new([c]))
}

/// Registers the gradient rule of an epilogue that `forward` computes.
fn track<B: Backend + EpilogueOps, C: CheckpointStrategy, const N: usize>(
    nodes: [NodeGuard; N],
    relu: bool,
    forward: impl FnOnce() -> FloatTensor<B>,
) -> FloatTensor<Autodiff<B, C>> {
    match EpilogueBackward::<N>
        .prepare::<C>(nodes)
        .compute_bound()
        .stateful()
    {
        OpsKind::Tracked(prep) => {
            let output = forward();
            let rectified = relu.then(|| output.clone());
            prep.finish(rectified, output)
        }
        OpsKind::UnTracked(prep) => prep.finish(forward()),
    }
}

impl<B: Backend + EpilogueOps, C: CheckpointStrategy> EpilogueOps for Autodiff<B, C> {
    fn epilogue(x: FloatTensor<Self>, bias: FloatTensor<Self>, relu: bool) -> FloatTensor<Self> {
        track::<B, C, 2>([x.node(), bias.node()], relu, || {
            B::epilogue(x.into_primitive(), bias.into_primitive(), relu)
        })
    }

    fn epilogue_with_residual(
        x: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        residual: FloatTensor<Self>,
        relu: bool,
    ) -> FloatTensor<Self> {
        let nodes = [x.node(), bias.node(), residual.node()];
        track::<B, C, 3>(nodes, relu, || {
            let (x, bias) = (x.into_primitive(), bias.into_primitive());
            B::epilogue_with_residual(x, bias, residual.into_primitive(), relu)
        })
    }

    fn dense_gradient(_grad: FloatTensor<Self>) -> FloatTensor<Self> {
        panic!("the epilogue has no second derivative")
    }

    fn rectified_gradient(
        _output: FloatTensor<Self>,
        _grad: FloatTensor<Self>,
    ) -> FloatTensor<Self> {
        panic!("the epilogue has no second derivative")
    }
}
