//! Gradient rule. The backward pass computes the statistics again, because it reads the input anyway.

use super::ops::GroupNormOps;
use burn::backend::Autodiff;
use burn::backend::autodiff::{
    NodeId,
    checkpoint::{base::Checkpointer, strategy::CheckpointStrategy},
    grads::Gradients,
    ops::{Backward, NodeGuard, Ops, OpsKind, OpsPrep},
};
use burn::backend::{Backend, tensor::FloatTensor};

/// `N` inputs: x, weight, bias, and the residual if `N` is four.
#[derive(Debug)]
struct GroupNormBackward<const N: usize>;

#[derive(Clone, Debug)]
struct State<T> {
    x: NodeId,
    weight: NodeId,
    /// The output, if a ReLU follows.
    rectified: Option<T>,
    groups: usize,
    epsilon: f64,
}

impl<B: Backend + GroupNormOps, const N: usize> Backward<B, N> for GroupNormBackward<N> {
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
            groups,
            epsilon,
        } = ops.state;
        let mut retrieve = |node| checkpointer.retrieve_node_output::<FloatTensor<B>>(node);
        let (x, weight) = (retrieve(x), retrieve(weight));
        let grad = grads.consume::<B>(&ops.node);
        let grad = match rectified {
            Some(output) => B::group_norm_relu_gradient(output, grad),
            None => grad,
        };
        let mut parents = ops.parents.into_iter();
        let mut next = || parents.next().flatten();
        let (node_x, node_weight, node_bias, node_residual) = (next(), next(), next(), next());
        if let Some(node) = node_weight {
            let gradient = B::group_norm_weight_gradient(x.clone(), grad.clone(), groups, epsilon);
            grads.register::<B>(node.id, gradient);
        }
        if let Some(node) = node_bias {
            grads.register::<B>(node.id, B::group_norm_bias_gradient(grad.clone()));
        }
        if let Some(node) = node_x {
            let gradient = B::group_norm_input_gradient(x, weight, grad.clone(), groups, epsilon);
            grads.register::<B>(node.id, gradient);
        }
        if let Some(node) = node_residual {
            grads.register::<B>(node.id, grad);
        }
    }
}

/// Registers the gradient rule of a group norm that `forward` computes.
fn track<B: Backend + GroupNormOps, C: CheckpointStrategy, const N: usize>(
    [x, weight]: [&FloatTensor<Autodiff<B, C>>; 2],
    nodes: [NodeGuard; N],
    (groups, epsilon): (usize, f64),
    relu: bool,
    forward: impl FnOnce() -> FloatTensor<B>,
) -> FloatTensor<Autodiff<B, C>> {
    let prep: OpsPrep<_, B, _, C, N> = GroupNormBackward::<N>.prepare::<C>(nodes);
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

const NO_SECOND: &str = "group_norm has no second derivative";

impl<B: Backend + GroupNormOps, C: CheckpointStrategy> GroupNormOps for Autodiff<B, C> {
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
        track::<B, C, 3>([&x, &weight], nodes, (groups, epsilon), relu, || {
            let [x, weight, bias] = inputs.map(|tensor| tensor.clone().into_primitive());
            B::group_norm(x, weight, bias, groups, epsilon, relu)
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
        track::<B, C, 4>([&x, &weight], nodes, (groups, epsilon), relu, || {
            let inputs = inputs.map(|tensor| tensor.clone().into_primitive());
            let [x, weight, bias, residual] = inputs;
            B::group_norm_residual(x, weight, bias, residual, groups, epsilon, relu)
        })
    }

    fn group_norm_relu_gradient(
        _output: FloatTensor<Self>,
        _grad: FloatTensor<Self>,
    ) -> FloatTensor<Self> {
        panic!("{NO_SECOND}")
    }

    fn group_norm_input_gradient(
        _x: FloatTensor<Self>,
        _weight: FloatTensor<Self>,
        _grad: FloatTensor<Self>,
        _groups: usize,
        _epsilon: f64,
    ) -> FloatTensor<Self> {
        panic!("{NO_SECOND}")
    }

    fn group_norm_weight_gradient(
        _x: FloatTensor<Self>,
        _grad: FloatTensor<Self>,
        _groups: usize,
        _epsilon: f64,
    ) -> FloatTensor<Self> {
        panic!("{NO_SECOND}")
    }

    fn group_norm_bias_gradient(_grad: FloatTensor<Self>) -> FloatTensor<Self> {
        panic!("{NO_SECOND}")
    }
}
