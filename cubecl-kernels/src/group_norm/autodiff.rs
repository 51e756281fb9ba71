//! Gradient rule. The backward pass computes the statistics again, because it reads the input anyway.

use super::flex::{input_gradient, weight_gradient};
use super::ops::GroupNormOps;
use crate::flex::{bias_gradient, relu_gradient};
use burn::backend::Autodiff;
use burn::backend::autodiff::{
    NodeId,
    checkpoint::{base::Checkpointer, strategy::CheckpointStrategy},
    grads::Gradients,
    ops::{Backward, NodeGuard, Ops, OpsKind, OpsPrep},
};
use burn::backend::{Flex, tensor::FloatTensor};
use burn_flex::FlexTensor;

/// `N` inputs: x, weight, bias, and the residual if `N` is four.
#[derive(Debug)]
struct GroupNormBackward<const N: usize>;

#[derive(Clone, Debug)]
struct State {
    x: NodeId,
    weight: NodeId,
    /// The output, if a ReLU follows.
    rectified: Option<FlexTensor>,
    groups: usize,
    epsilon: f64,
}

impl<const N: usize> Backward<Flex, N> for GroupNormBackward<N> {
    type State = State;

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
            groups,
            epsilon,
        } = ops.state;
        let mut retrieve = |node| checkpointer.retrieve_node_output::<FlexTensor>(node);
        let (x, weight) = (retrieve(x), retrieve(weight));
        let grad = grads.consume::<Flex>(&ops.node);
        let grad = match rectified {
            Some(output) => relu_gradient(output, grad),
            None => grad,
        };
        let mut parents = ops.parents.into_iter();
        let mut next = || parents.next().flatten();
        let (node_x, node_weight, node_bias, node_residual) = (next(), next(), next(), next());
        if let Some(node) = node_weight {
            let gradient = weight_gradient(x.clone(), grad.clone(), groups, epsilon);
            grads.register::<Flex>(node.id, gradient);
        }
        if let Some(node) = node_bias {
            grads.register::<Flex>(node.id, bias_gradient(grad.clone()));
        }
        if let Some(node) = node_x {
            let gradient = input_gradient(x, weight, grad.clone(), groups, epsilon);
            grads.register::<Flex>(node.id, gradient);
        }
        if let Some(node) = node_residual {
            grads.register::<Flex>(node.id, grad);
        }
    }
}

/// Registers the gradient rule of a group norm that `forward` computes.
fn track<C: CheckpointStrategy, const N: usize>(
    [x, weight]: [&FloatTensor<Autodiff<Flex, C>>; 2],
    nodes: [NodeGuard; N],
    (groups, epsilon): (usize, f64),
    relu: bool,
    forward: impl FnOnce() -> FlexTensor,
) -> FloatTensor<Autodiff<Flex, C>> {
    let prep: OpsPrep<_, Flex, _, C, N> = GroupNormBackward::<N>.prepare::<C>(nodes);
    match prep.compute_bound().stateful() {
        OpsKind::Tracked(mut prep) => {
            let (x, weight) = (prep.checkpoint(x), prep.checkpoint(weight));
            let output = forward();
            let rectified = relu.then(|| output.clone());
            let state = State {
                x,
                weight,
                rectified,
                groups,
                epsilon,
            };
            prep.finish(state, output)
        }
        OpsKind::UnTracked(prep) => prep.finish(forward()),
    }
}

impl<C: CheckpointStrategy> GroupNormOps for Autodiff<Flex, C> {
    fn group_norm(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        groups: usize,
        epsilon: f64,
        relu: bool,
    ) -> FloatTensor<Self> {
        let inputs = [&x, &weight, &bias];
        let nodes = inputs.map(|tensor| tensor.node());
        track::<C, 3>([&x, &weight], nodes, (groups, epsilon), relu, || {
            let [x, weight, bias] = inputs.map(|tensor| tensor.clone().into_primitive());
            Flex::group_norm(x, weight, bias, groups, epsilon, relu)
        })
    }

    fn group_norm_residual(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        residual: FloatTensor<Self>,
        groups: usize,
        epsilon: f64,
        relu: bool,
    ) -> FloatTensor<Self> {
        let inputs = [&x, &weight, &bias, &residual];
        let nodes = inputs.map(|tensor| tensor.node());
        track::<C, 4>([&x, &weight], nodes, (groups, epsilon), relu, || {
            let inputs = inputs.map(|tensor| tensor.clone().into_primitive());
            let [x, weight, bias, residual] = inputs;
            Flex::group_norm_residual(x, weight, bias, residual, groups, epsilon, relu)
        })
    }
}
