//! Gradient rule of group norm.

use super::flex::{GroupNormGradients, forward};
use super::ops::GroupNormOps;
use crate::flex::relu_gradient;
use burn::backend::Autodiff;
use burn::backend::autodiff::{
    NodeId,
    checkpoint::{base::Checkpointer, strategy::CheckpointStrategy},
    grads::Gradients,
    ops::{Backward, Ops, OpsKind, OpsPrep},
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
    /// Number of groups, and epsilon.
    setting: (usize, f64),
    /// Statistics of each group, as in [`forward`].
    statistics: Vec<f32>,
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
            setting,
            statistics,
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
        let gradients = GroupNormGradients::new(x, grad.clone(), setting, statistics);
        if let Some(node) = node_weight {
            grads.register::<Flex>(node.id, gradients.of_weight());
        }
        if let Some(node) = node_bias {
            grads.register::<Flex>(node.id, gradients.of_bias());
        }
        if let Some(node) = node_x {
            grads.register::<Flex>(node.id, gradients.of_x(weight));
        }
        if let Some(node) = node_residual {
            grads.register::<Flex>(node.id, grad);
        }
    }
}

/// Registers the gradient rule of a group norm of `inputs`: x, weight, bias, and the residual if `N` is four.
fn track<C: CheckpointStrategy, const N: usize>(
    inputs: [FloatTensor<Autodiff<Flex, C>>; N],
    setting: (usize, f64),
    relu: bool,
) -> FloatTensor<Autodiff<Flex, C>> {
    let nodes = inputs.each_ref().map(|tensor| tensor.node());
    let compute = |inputs: [FloatTensor<Autodiff<Flex, C>>; N]| {
        let mut inputs = inputs.map(|tensor| tensor.into_primitive()).into_iter();
        let mut next = || inputs.next().expect("at least three inputs");
        let (x, affine) = (next(), [next(), next()]);
        forward(x, affine, inputs.next(), setting, relu)
    };
    let prep: OpsPrep<_, Flex, _, C, N> = GroupNormBackward::<N>.prepare::<C>(nodes);
    match prep.compute_bound().stateful() {
        OpsKind::Tracked(mut prep) => {
            let (x, weight) = (prep.checkpoint(&inputs[0]), prep.checkpoint(&inputs[1]));
            let (output, statistics) = compute(inputs);
            let state = State {
                x,
                weight,
                rectified: relu.then(|| output.clone()),
                setting,
                statistics,
            };
            prep.finish(state, output)
        }
        OpsKind::UnTracked(prep) => prep.finish(compute(inputs).0),
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
        track::<C, 3>([x, weight, bias], (groups, epsilon), relu)
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
        track::<C, 4>([x, weight, bias, residual], (groups, epsilon), relu)
    }
}
