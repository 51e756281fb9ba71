//! Gradient rule of the bottleneck.

use super::{Activations, BottleneckOps, forward};
use crate::accumulation::has_gradient;
use crate::epilogue::{EpilogueOps, bias_gradient, masked_gradient};
use crate::links::Links;
use burn::backend::autodiff::{
    checkpoint::{base::Checkpointer, strategy::CheckpointStrategy},
    grads::Gradients,
    ops::{Backward, NodeGuard, Ops, OpsKind},
};
use burn::backend::{Autodiff, Backend, tensor::FloatTensor};

/// Places of the inputs. A bias follows its weight.
const X: usize = 0;
const WEIGHTS: [usize; 3] = [1, 3, 5];
const PROJECTION: usize = 7;
const INPUTS: usize = 9;

#[derive(Debug)]
struct BottleneckBackward;

#[derive(Clone, Debug)]
struct State<T> {
    x: T,
    weights: [T; 3],
    /// The inputs of the second and the third convolution.
    hidden: [T; 2],
    /// Input and weights of the projection.
    projection: Option<[T; 2]>,
    /// The output, if the block masks its gradient.
    rectified: Option<T>,
    stride: usize,
    masks_input: bool,
}

impl<B: Backend + BottleneckOps + EpilogueOps> Backward<B, INPUTS> for BottleneckBackward {
    type State = State<FloatTensor<B>>;

    fn backward(
        self,
        ops: Ops<Self::State, INPUTS>,
        grads: &mut Gradients,
        _checkpointer: &mut Checkpointer,
    ) {
        let State {
            x,
            weights: [weight1, weight2, weight3],
            hidden: [first, second],
            projection,
            rectified,
            stride,
            masks_input,
        } = ops.state;
        let grad = masked_gradient::<B>(rectified, grads.consume::<B>(&ops.node));
        let mut register = |input: usize, gradient: &dyn Fn() -> FloatTensor<B>| {
            if let Some(node) = &ops.parents[input] {
                grads.register::<B>(node.id, gradient());
            }
        };
        if let Some([projected, _]) = &projection {
            register(PROJECTION, &|| {
                B::conv1x1_weight_gradient(projected.clone(), grad.clone())
            });
            register(PROJECTION + 1, &|| bias_gradient::<B>(grad.clone()));
        }
        register(WEIGHTS[2], &|| {
            B::conv1x1_weight_gradient(second.clone(), grad.clone())
        });
        register(WEIGHTS[2] + 1, &|| bias_gradient::<B>(grad.clone()));
        let of_second = B::conv1x1_input_gradient(grad.clone(), weight3, second, true);
        register(WEIGHTS[1], &|| {
            let (first, weight2) = (first.clone(), weight2.clone());
            B::conv3x3_weight_gradient(first, weight2, of_second.clone(), stride)
        });
        register(WEIGHTS[1] + 1, &|| bias_gradient::<B>(of_second.clone()));
        let of_first = B::conv3x3_input_gradient(first, weight2, of_second, stride, true);
        register(WEIGHTS[0], &|| {
            B::conv1x1_weight_gradient(x.clone(), of_first.clone())
        });
        register(WEIGHTS[0] + 1, &|| bias_gradient::<B>(of_first.clone()));
        let Some(node) = &ops.parents[X] else {
            return;
        };
        let gradient = match projection {
            None => B::conv1x1_gradient_sum(of_first, weight1, x, grad, masks_input),
            Some([projected, weight]) => {
                let main = match has_gradient(grads, node.id, node.parents.is_empty()) {
                    true => {
                        let other = grads.consume::<B>(node);
                        B::conv1x1_gradient_sum(of_first, weight1, x, other, masks_input)
                    }
                    false => B::conv1x1_input_gradient(of_first, weight1, x, masks_input),
                };
                if stride == 1 {
                    B::conv1x1_gradient_sum(grad, weight, projected, main, masks_input)
                } else {
                    let of_subsample =
                        B::conv1x1_input_gradient(grad, weight, projected, masks_input);
                    B::add_to_subsample(main, of_subsample, stride)
                }
            }
        };
        grads.register::<B>(node.id, gradient);
    }
}

impl<B: Backend + BottleneckOps + EpilogueOps, C: CheckpointStrategy> BottleneckOps
    for Autodiff<B, C>
{
    fn bottleneck(
        x: FloatTensor<Self>,
        weight1: FloatTensor<Self>,
        bias1: FloatTensor<Self>,
        weight2: FloatTensor<Self>,
        bias2: FloatTensor<Self>,
        weight3: FloatTensor<Self>,
        bias3: FloatTensor<Self>,
        projection: FloatTensor<Self>,
        projection_bias: FloatTensor<Self>,
        stride: usize,
        has_projection: bool,
        links: Links,
    ) -> FloatTensor<Self> {
        let inputs = [
            x,
            weight1,
            bias1,
            weight2,
            bias2,
            weight3,
            bias3,
            projection,
            projection_bias,
        ];
        let nodes: [NodeGuard; INPUTS] = std::array::from_fn(|input| inputs[input].node());
        let [
            x,
            weight1,
            bias1,
            weight2,
            bias2,
            weight3,
            bias3,
            weight,
            bias,
        ] = inputs.map(|input| input.into_primitive());
        let weights = [weight1.clone(), weight2.clone(), weight3.clone()];
        let convs = [(weight1, bias1), (weight2, bias2), (weight3, bias3)];
        let projection = has_projection.then(|| (weight.clone(), bias));
        let Activations {
            hidden,
            projected,
            output,
        } = forward::<B>(x.clone(), convs, projection, stride);
        match BottleneckBackward
            .prepare::<C>(nodes)
            .compute_bound()
            .stateful()
        {
            OpsKind::Tracked(prep) => {
                let state = State {
                    x,
                    weights,
                    hidden,
                    projection: projected.map(|projected| [projected, weight]),
                    rectified: (!links.output_is_masked).then(|| output.clone()),
                    stride,
                    masks_input: links.masks_input,
                };
                prep.finish(state, output)
            }
            OpsKind::UnTracked(prep) => prep.finish(output),
        }
    }
}
