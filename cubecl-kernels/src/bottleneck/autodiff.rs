//! Gradient rule of the bottleneck.

use super::{BottleneckOps, forward};
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
const SHORTCUT: usize = 7;
const INPUTS: usize = 8;

#[derive(Debug)]
struct BottleneckBackward;

#[derive(Clone, Debug)]
struct State<T> {
    x: T,
    weights: [T; 3],
    /// The inputs of the second and the third convolution.
    hidden: [T; 2],
    /// The output, if the block masks its gradient.
    rectified: Option<T>,
    stride: usize,
    /// Whether the shortcut is another tensor than `x`.
    has_projection: bool,
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
            rectified,
            stride,
            has_projection,
            masks_input,
        } = ops.state;
        let grad = masked_gradient::<B>(rectified, grads.consume::<B>(&ops.node));
        let mut register = |input: usize, gradient: &dyn Fn() -> FloatTensor<B>| {
            if let Some(node) = &ops.parents[input] {
                grads.register::<B>(node.id, gradient());
            }
        };
        if has_projection {
            register(SHORTCUT, &|| grad.clone());
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
        register(X, &|| {
            let (x, weight1, of_first) = (x.clone(), weight1.clone(), of_first.clone());
            match has_projection {
                true => B::conv1x1_input_gradient(of_first, weight1, x, false),
                false => B::conv1x1_gradient_sum(of_first, weight1, x, grad.clone(), masks_input),
            }
        });
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
        shortcut: FloatTensor<Self>,
        stride: usize,
        has_projection: bool,
        links: Links,
    ) -> FloatTensor<Self> {
        let inputs = [x, weight1, bias1, weight2, bias2, weight3, bias3, shortcut];
        let nodes: [NodeGuard; INPUTS] = std::array::from_fn(|input| inputs[input].node());
        let [x, weight1, bias1, weight2, bias2, weight3, bias3, shortcut] =
            inputs.map(|input| input.into_primitive());
        let weights = [weight1, weight2, weight3];
        let [weight1, weight2, weight3] = weights.clone();
        let convs = [(weight1, bias1), (weight2, bias2), (weight3, bias3)];
        let [first, second, output] = forward::<B>(x.clone(), convs, shortcut, stride);
        match BottleneckBackward
            .prepare::<C>(nodes)
            .compute_bound()
            .stateful()
        {
            OpsKind::Tracked(prep) => {
                let state = State {
                    x,
                    weights,
                    hidden: [first, second],
                    rectified: (!links.output_is_masked).then(|| output.clone()),
                    stride,
                    has_projection,
                    masks_input: links.masks_input,
                };
                prep.finish(state, output)
            }
            OpsKind::UnTracked(prep) => prep.finish(output),
        }
    }
}
