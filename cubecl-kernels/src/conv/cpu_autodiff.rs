//! Gradient rule of the CPU convolution. The mask of the ReLU is computed from the output; the masked gradient is that
//! of the residual, and its sums are the gradient of the bias. Gradients are computed in f32. Checkpoints and registered
//! gradients have the dtypes of their tensors.

use super::cpu::CpuConvOps;
use super::flex::{input_gradient, scale_gradient, scaled, weight_gradient};
use crate::dtype::cast;
use crate::flex::{bias_gradient, relu_gradient, to_f32};
use burn::backend::Autodiff;
use burn::backend::autodiff::{
    NodeId,
    checkpoint::{base::Checkpointer, strategy::CheckpointStrategy},
    grads::Gradients,
    ops::{Backward, NodeGuard, Ops, OpsKind, OpsPrep},
};
use burn::backend::{Flex, TensorMetadata, tensor::FloatTensor};
use burn_flex::FlexTensor;

/// `N` inputs: x, weight, scale, bias, and the residual if `N` is five.
#[derive(Debug)]
struct ConvBackward<const N: usize>;

#[derive(Clone, Debug)]
struct State {
    x: NodeId,
    weight: NodeId,
    scale: NodeId,
    /// The output, if a ReLU follows.
    rectified: Option<FlexTensor>,
    /// Height and width of x.
    size: [usize; 2],
    groups: usize,
    kernel: usize,
    stride: usize,
}

impl<const N: usize> Backward<Flex, N> for ConvBackward<N> {
    type State = State;

    fn backward(
        self,
        ops: Ops<Self::State, N>,
        grads: &mut Gradients,
        checkpointer: &mut Checkpointer,
    ) {
        let state = ops.state;
        // Retrieved in any case, because checkpoints that are not retrieved are not freed.
        let mut retrieve = |node| checkpointer.retrieve_node_output::<FlexTensor>(node);
        let (x, weight, scale) = (
            retrieve(state.x),
            retrieve(state.weight),
            retrieve(state.scale),
        );
        let grad = grads.consume::<Flex>(&ops.node);
        // Weights, bias and residual have the dtype of x.
        let (dtype, scale_dtype) = (x.dtype(), scale.dtype());
        let [weight, scale, grad] = to_f32([weight, scale, grad]);
        let grad = match state.rectified {
            Some(output) => {
                let [output] = to_f32([output]);
                relu_gradient(output, grad)
            }
            None => grad,
        };
        let mut register = |node: NodeId, gradient, dtype| {
            grads.register::<Flex>(node, cast::<Flex>(gradient, dtype));
        };
        let mut parents = ops.parents.into_iter();
        let mut next = || parents.next().flatten();
        let (node_x, node_weight, node_scale, node_bias) = (next(), next(), next(), next());
        let node_residual = next();
        if node_weight.is_some() || node_scale.is_some() {
            let State {
                groups,
                kernel,
                stride,
                ..
            } = state;
            let [x] = to_f32([x]);
            let gradient = weight_gradient(x, grad.clone(), groups, kernel, stride);
            if let Some(node) = node_scale {
                let of_scale = scale_gradient(weight.clone(), gradient.clone());
                register(node.id, of_scale, scale_dtype);
            }
            if let Some(node) = node_weight {
                let of_weight = scaled(gradient, scale.clone());
                register(node.id, of_weight, dtype);
            }
        } else {
            drop(x);
        }
        if let Some(node) = node_bias {
            register(node.id, bias_gradient(grad.clone()), dtype);
        }
        if let Some(node) = node_x {
            let State {
                groups,
                size,
                stride,
                ..
            } = state;
            let gradient = input_gradient(weight, Some(scale), grad.clone(), groups, size, stride);
            register(node.id, gradient, dtype);
        }
        if let Some(node) = node_residual {
            register(node.id, grad, dtype);
        }
    }
}

/// Registers the gradient rule of a convolution that `forward` computes.
fn track<C: CheckpointStrategy, const N: usize>(
    [x, weight, scale]: [&FloatTensor<Autodiff<Flex, C>>; 3],
    nodes: [NodeGuard; N],
    stride: usize,
    relu: bool,
    forward: impl FnOnce() -> FlexTensor,
) -> FloatTensor<Autodiff<Flex, C>> {
    let (size, kernel) = ([x.shape()[2], x.shape()[3]], weight.shape()[2]);
    let groups = x.shape()[1] / weight.shape()[1].max(1);
    let prep: OpsPrep<_, Flex, _, C, N> = ConvBackward::<N>.prepare::<C>(nodes);
    match prep.compute_bound().stateful() {
        OpsKind::Tracked(mut prep) => {
            let [x, weight, scale] = [x, weight, scale].map(|tensor| prep.checkpoint(tensor));
            let output = forward();
            let state = State {
                x,
                weight,
                scale,
                rectified: relu.then(|| output.clone()),
                size,
                groups,
                kernel,
                stride,
            };
            prep.finish(state, output)
        }
        OpsKind::UnTracked(prep) => prep.finish(forward()),
    }
}

impl<C: CheckpointStrategy> CpuConvOps for Autodiff<Flex, C> {
    fn cpu_conv(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        scale: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        stride: usize,
        relu: bool,
    ) -> FloatTensor<Self> {
        let nodes = [x.node(), weight.node(), scale.node(), bias.node()];
        track::<C, 4>([&x, &weight, &scale], nodes, stride, relu, || {
            let inputs = [&x, &weight, &scale, &bias].map(|t| t.clone().into_primitive());
            let [x, weight, scale, bias] = inputs;
            Flex::cpu_conv(x, weight, scale, bias, stride, relu)
        })
    }

    fn cpu_conv_residual(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        scale: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        residual: FloatTensor<Self>,
        stride: usize,
        relu: bool,
    ) -> FloatTensor<Self> {
        let inputs = [&x, &weight, &scale, &bias, &residual];
        let nodes = inputs.map(|tensor| tensor.node());
        track::<C, 5>([&x, &weight, &scale], nodes, stride, relu, || {
            let inputs = inputs.map(|tensor| tensor.clone().into_primitive());
            let [x, weight, scale, bias, residual] = inputs;
            Flex::cpu_conv_residual(x, weight, scale, bias, residual, stride, relu)
        })
    }
}
