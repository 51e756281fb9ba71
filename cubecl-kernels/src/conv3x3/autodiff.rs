//! Gradient rule of the 3x3 convolution. The mask of the ReLU is computed from the output; the gradient of the bias is
//! the sum of the masked gradient per channel.

use super::Conv3x3Ops;
use crate::accumulation::has_gradient;
use crate::epilogue::{EpilogueOps, bias_gradient, masked_gradient};
use crate::links::Links;
use burn::backend::Autodiff;
use burn::backend::autodiff::{
    NodeId,
    checkpoint::{base::Checkpointer, strategy::CheckpointStrategy},
    grads::Gradients,
    ops::{Backward, Ops, OpsKind},
};
use burn::backend::{Backend, tensor::FloatTensor};

#[derive(Debug)]
struct Conv3x3Backward;

#[derive(Clone, Debug)]
struct State<T> {
    x: NodeId,
    weight: NodeId,
    /// The output of a ReLU, if its mask is applied here.
    rectified: Option<T>,
    stride: usize,
    masks_input: bool,
}

impl<B: Backend + Conv3x3Ops + EpilogueOps> Backward<B, 3> for Conv3x3Backward {
    type State = State<FloatTensor<B>>;

    fn backward(
        self,
        ops: Ops<Self::State, 3>,
        grads: &mut Gradients,
        checkpointer: &mut Checkpointer,
    ) {
        let State {
            x,
            weight,
            rectified,
            stride,
            masks_input,
        } = ops.state;
        let mut retrieve = |node| checkpointer.retrieve_node_output::<FloatTensor<B>>(node);
        let (x, weight) = (retrieve(x), retrieve(weight));
        let grad = masked_gradient::<B>(rectified, grads.consume::<B>(&ops.node));
        let [node_x, node_weight, node_bias] = ops.parents;
        if let Some(node) = node_x {
            let gradient = B::conv3x3_input_gradient(
                x.clone(),
                weight.clone(),
                grad.clone(),
                stride,
                masks_input,
            );
            // So that operations that can add in their own kernel find this gradient.
            has_gradient(grads, node.id, node.parents.is_empty());
            grads.register::<B>(node.id, gradient);
        }
        match (node_weight, node_bias) {
            (Some(of_weight), Some(of_bias)) => {
                let (weight, bias) = B::conv3x3_parameter_gradients(x, weight, grad, stride);
                grads.register::<B>(of_weight.id, weight);
                grads.register::<B>(of_bias.id, bias);
            }
            (Some(of_weight), None) => {
                let gradient = B::conv3x3_weight_gradient(x, weight, grad, stride);
                grads.register::<B>(of_weight.id, gradient);
            }
            (None, Some(of_bias)) => grads.register::<B>(of_bias.id, bias_gradient::<B>(grad)),
            (None, None) => {}
        }
    }
}

impl<B: Backend + Conv3x3Ops + EpilogueOps, C: CheckpointStrategy> Conv3x3Ops for Autodiff<B, C> {
    fn conv3x3(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        stride: usize,
        relu: bool,
        links: Links,
    ) -> FloatTensor<Self> {
        let forward = |x: FloatTensor<Self>, weight: FloatTensor<Self>, bias: FloatTensor<Self>| {
            let (x, weight) = (x.into_primitive(), weight.into_primitive());
            B::conv3x3(x, weight, bias.into_primitive(), stride, relu, links)
        };
        match Conv3x3Backward
            .prepare::<C>([x.node(), weight.node(), bias.node()])
            .compute_bound()
            .stateful()
        {
            OpsKind::Tracked(mut prep) => {
                let nodes = [&x, &weight].map(|tensor| prep.checkpoint(tensor));
                let output = forward(x, weight, bias);
                let state = State {
                    x: nodes[0],
                    weight: nodes[1],
                    rectified: (relu && !links.output_is_masked).then(|| output.clone()),
                    stride,
                    masks_input: links.masks_input,
                };
                prep.finish(state, output)
            }
            OpsKind::UnTracked(prep) => prep.finish(forward(x, weight, bias)),
        }
    }

    fn conv3x3_input_gradient(
        _x: FloatTensor<Self>,
        _weight: FloatTensor<Self>,
        _grad: FloatTensor<Self>,
        _stride: usize,
        _is_rectified: bool,
    ) -> FloatTensor<Self> {
        panic!("conv3x3 has no second derivative")
    }

    fn conv3x3_weight_gradient(
        _x: FloatTensor<Self>,
        _weight: FloatTensor<Self>,
        _grad: FloatTensor<Self>,
        _stride: usize,
    ) -> FloatTensor<Self> {
        panic!("conv3x3 has no second derivative")
    }

    fn conv3x3_parameter_gradients(
        _x: FloatTensor<Self>,
        _weight: FloatTensor<Self>,
        _grad: FloatTensor<Self>,
        _stride: usize,
    ) -> (FloatTensor<Self>, FloatTensor<Self>) {
        panic!("conv3x3 has no second derivative")
    }
}
