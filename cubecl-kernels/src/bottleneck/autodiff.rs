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
/// Number of inputs of a block with a projection.
const WITH_SHORTCUT: usize = 8;

/// `N` inputs.
#[derive(Debug)]
struct BottleneckBackward<const N: usize>;

#[derive(Clone, Debug)]
struct State<T> {
    x: T,
    weights: [T; 3],
    /// The inputs of the second and the third convolution.
    hidden: [T; 2],
    /// The output, if the block masks its gradient.
    rectified: Option<T>,
    stride: usize,
    masks_input: bool,
}

impl<B: Backend + BottleneckOps + EpilogueOps, const N: usize> Backward<B, N>
    for BottleneckBackward<N>
{
    type State = State<FloatTensor<B>>;

    fn backward(
        self,
        ops: Ops<Self::State, N>,
        grads: &mut Gradients,
        _checkpointer: &mut Checkpointer,
    ) {
        let State {
            x,
            weights: [weight1, weight2, weight3],
            hidden: [first, second],
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
        if N == WITH_SHORTCUT {
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
            match N == WITH_SHORTCUT {
                true => B::conv1x1_input_gradient(of_first, weight1, x, false),
                false => B::conv1x1_gradient_sum(of_first, weight1, x, grad.clone(), masks_input),
            }
        });
    }
}

/// Computes the block and registers its gradient rule; `convs` are the weights and biases.
fn track<B: Backend + BottleneckOps + EpilogueOps, C: CheckpointStrategy, const N: usize>(
    nodes: [NodeGuard; N],
    x: FloatTensor<B>,
    convs: [(FloatTensor<B>, FloatTensor<B>); 3],
    shortcut: Option<FloatTensor<B>>,
    stride: usize,
    links: Links,
) -> FloatTensor<Autodiff<B, C>> {
    let weights = convs.each_ref().map(|(weight, _)| weight.clone());
    let shortcut = shortcut.unwrap_or_else(|| x.clone());
    let [first, second, output] = forward::<B>(x.clone(), convs, shortcut, stride);
    match BottleneckBackward::<N>
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
                masks_input: links.masks_input,
            };
            prep.finish(state, output)
        }
        OpsKind::UnTracked(prep) => prep.finish(output),
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
        links: Links,
    ) -> FloatTensor<Self> {
        let inputs = [x, weight1, bias1, weight2, bias2, weight3, bias3];
        let nodes = std::array::from_fn(|input| inputs[input].node());
        let [x, weight1, bias1, weight2, bias2, weight3, bias3] =
            inputs.map(|input| input.into_primitive());
        let convs = [(weight1, bias1), (weight2, bias2), (weight3, bias3)];
        track::<B, C, SHORTCUT>(nodes, x, convs, None, 1, links)
    }

    fn bottleneck_with_projection(
        x: FloatTensor<Self>,
        weight1: FloatTensor<Self>,
        bias1: FloatTensor<Self>,
        weight2: FloatTensor<Self>,
        bias2: FloatTensor<Self>,
        weight3: FloatTensor<Self>,
        bias3: FloatTensor<Self>,
        shortcut: FloatTensor<Self>,
        stride: usize,
        links: Links,
    ) -> FloatTensor<Self> {
        let inputs = [x, weight1, bias1, weight2, bias2, weight3, bias3, shortcut];
        let nodes = std::array::from_fn(|input| inputs[input].node());
        let [x, weight1, bias1, weight2, bias2, weight3, bias3, shortcut] =
            inputs.map(|input| input.into_primitive());
        let convs = [(weight1, bias1), (weight2, bias2), (weight3, bias3)];
        track::<B, C, WITH_SHORTCUT>(nodes, x, convs, Some(shortcut), stride, links)
    }
}
