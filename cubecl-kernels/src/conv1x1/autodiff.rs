//! Gradient rule of the 1x1 convolution.

use super::Conv1x1Ops;
use crate::accumulation::has_gradient;
use crate::epilogue::{EpilogueOps, bias_gradient, masked_gradient};
use crate::links::Links;
use burn::backend::autodiff::{
    NodeId,
    checkpoint::{base::Checkpointer, strategy::CheckpointStrategy},
    grads::Gradients,
    ops::{Backward, NodeGuard, Ops, OpsKind},
};
use burn::backend::{Autodiff, Backend, tensor::FloatTensor};

/// `N` inputs: x, weight, bias, and the residual if `N` is four.
#[derive(Debug)]
struct Conv1x1Backward<const N: usize>;

#[derive(Clone, Debug)]
struct State<T> {
    x: NodeId,
    weight: NodeId,
    /// The output of a ReLU, if its mask is applied here.
    rectified: Option<T>,
    masks_input: bool,
}

impl<B: Backend + Conv1x1Ops + EpilogueOps, const N: usize> Backward<B, N> for Conv1x1Backward<N> {
    type State = State<FloatTensor<B>>;

    fn backward(
        self,
        ops: Ops<Self::State, N>,
        grads: &mut Gradients,
        checkpointer: &mut Checkpointer,
    ) {
        let State {
            x,
            weight,
            rectified,
            masks_input,
        } = ops.state;
        // Retrieved in any case, because checkpoints that are not retrieved are not freed.
        let mut retrieve = |node| checkpointer.retrieve_node_output::<FloatTensor<B>>(node);
        let (x, weight) = (retrieve(x), retrieve(weight));
        let grad = masked_gradient::<B>(rectified, grads.consume::<B>(&ops.node));
        for (place, node) in ops.parents.into_iter().enumerate() {
            let Some(node) = node else { continue };
            let gradient = match place {
                0 => {
                    let (grad, weight, x) = (grad.clone(), weight.clone(), x.clone());
                    match has_gradient(grads, node.id, node.parents.is_empty()) {
                        true => {
                            let other = grads.consume::<B>(&node);
                            B::conv1x1_gradient_sum(grad, weight, x, other, masks_input)
                        }
                        false => B::conv1x1_input_gradient(grad, weight, x, masks_input),
                    }
                }
                1 => B::conv1x1_weight_gradient(x.clone(), grad.clone()),
                2 => bias_gradient::<B>(grad.clone()),
                _ => grad.clone(),
            };
            grads.register::<B>(node.id, gradient);
        }
    }
}

/// Registers the gradient rule of a convolution that `forward` computes.
fn track<B: Backend + Conv1x1Ops + EpilogueOps, C: CheckpointStrategy, const N: usize>(
    nodes: [NodeGuard; N],
    [x, weight]: [FloatTensor<Autodiff<B, C>>; 2],
    relu: bool,
    links: Links,
    forward: impl FnOnce(FloatTensor<B>, FloatTensor<B>) -> FloatTensor<B>,
) -> FloatTensor<Autodiff<B, C>> {
    match Conv1x1Backward::<N>
        .prepare::<C>(nodes)
        .compute_bound()
        .stateful()
    {
        OpsKind::Tracked(mut prep) => {
            let nodes = [&x, &weight].map(|tensor| prep.checkpoint(tensor));
            let output = forward(x.into_primitive(), weight.into_primitive());
            let state = State {
                x: nodes[0],
                weight: nodes[1],
                rectified: (relu && !links.output_is_masked).then(|| output.clone()),
                masks_input: links.masks_input,
            };
            prep.finish(state, output)
        }
        OpsKind::UnTracked(prep) => {
            prep.finish(forward(x.into_primitive(), weight.into_primitive()))
        }
    }
}

impl<B: Backend + Conv1x1Ops + EpilogueOps, C: CheckpointStrategy> Conv1x1Ops for Autodiff<B, C> {
    fn conv1x1(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        relu: bool,
        links: Links,
    ) -> FloatTensor<Self> {
        let nodes = [x.node(), weight.node(), bias.node()];
        track::<B, C, 3>(nodes, [x, weight], relu, links, |x, weight| {
            B::conv1x1(x, weight, bias.into_primitive(), relu, links)
        })
    }

    fn conv1x1_with_residual(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        residual: FloatTensor<Self>,
        relu: bool,
    ) -> FloatTensor<Self> {
        let nodes = [x.node(), weight.node(), bias.node(), residual.node()];
        track::<B, C, 4>(nodes, [x, weight], relu, Links::default(), |x, weight| {
            let (bias, residual) = (bias.into_primitive(), residual.into_primitive());
            B::conv1x1_with_residual(x, weight, bias, residual, relu)
        })
    }

    fn conv1x1_input_gradient(
        _grad: FloatTensor<Self>,
        _weight: FloatTensor<Self>,
        _x: FloatTensor<Self>,
        _is_rectified: bool,
    ) -> FloatTensor<Self> {
        panic!("conv1x1 has no second derivative")
    }

    fn conv1x1_gradient_sum(
        _grad: FloatTensor<Self>,
        _weight: FloatTensor<Self>,
        _x: FloatTensor<Self>,
        _other: FloatTensor<Self>,
        _is_rectified: bool,
    ) -> FloatTensor<Self> {
        panic!("conv1x1 has no second derivative")
    }

    fn add_to_subsample(
        _sum: FloatTensor<Self>,
        _values: FloatTensor<Self>,
        _stride: usize,
    ) -> FloatTensor<Self> {
        panic!("conv1x1 has no second derivative")
    }

    fn conv1x1_weight_gradient(
        _x: FloatTensor<Self>,
        _grad: FloatTensor<Self>,
    ) -> FloatTensor<Self> {
        panic!("conv1x1 has no second derivative")
    }
}
