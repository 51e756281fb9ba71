//! Gradient rule of the product.

use super::RowProductOps;
use crate::dtype::cast;
use burn::backend::autodiff::{
    NodeId,
    checkpoint::{base::Checkpointer, strategy::CheckpointStrategy},
    grads::Gradients,
    ops::{Backward, Ops, OpsKind},
};
use burn::backend::{Autodiff, Backend, TensorMetadata, tensor::FloatTensor};

#[derive(Debug)]
struct RowProductBackward;

/// The product of [`RowProductOps`] that computes the output.
#[derive(Clone, Copy, Debug)]
enum Product {
    /// [`RowProductOps::row_product`].
    Fusable,
    Dense,
    Preset,
}

impl Product {
    fn of_rows<B: RowProductOps>(
        self,
        x: FloatTensor<B>,
        weight: FloatTensor<B>,
    ) -> FloatTensor<B> {
        match self {
            Self::Fusable => B::row_product(x, weight),
            Self::Dense => B::dense_row_product(x, weight),
            Self::Preset => B::preset_row_product(x, weight),
        }
    }

    /// The gradient `[r, c]` of `x` from `grad [r, o]` and `weight [o, c]`.
    fn input_gradient<B: RowProductOps>(
        self,
        grad: FloatTensor<B>,
        weight: FloatTensor<B>,
    ) -> FloatTensor<B> {
        match self {
            Self::Fusable | Self::Dense => B::float_matmul(grad, weight),
            Self::Preset => B::preset_row_product(grad, B::float_transpose(weight)),
        }
    }
}

#[derive(Clone, Debug)]
struct State<B: Backend> {
    product: Product,
    x: NodeId,
    /// In the dtype of x.
    weight: FloatTensor<B>,
}

impl<B: Backend + RowProductOps> Backward<B, 2> for RowProductBackward {
    type State = State<B>;

    fn backward(
        self,
        ops: Ops<Self::State, 2>,
        grads: &mut Gradients,
        checkpointer: &mut Checkpointer,
    ) {
        let State { product, x, weight } = ops.state;
        // Retrieved in any case, because checkpoints that are not retrieved are not freed.
        let x = checkpointer.retrieve_node_output::<FloatTensor<B>>(x);
        let grad = grads.consume::<B>(&ops.node);
        let [node_x, node_weight] = ops.parents;
        if let Some(node) = node_weight {
            let gradient = B::row_product_gradient(grad.clone(), x);
            grads.register::<B>(node.id, gradient);
        }
        if let Some(node) = node_x {
            grads.register::<B>(node.id, product.input_gradient::<B>(grad, weight));
        }
    }
}

/// Registers the gradient rule of `product`.
fn tracked<B: Backend + RowProductOps, C: CheckpointStrategy>(
    x: FloatTensor<Autodiff<B, C>>,
    weight: FloatTensor<Autodiff<B, C>>,
    product: Product,
) -> FloatTensor<Autodiff<B, C>> {
    let nodes = [x.node(), weight.node()];
    match RowProductBackward
        .prepare::<C>(nodes)
        .compute_bound()
        .stateful()
    {
        OpsKind::Tracked(mut prep) => {
            let kept = prep.checkpoint(&x);
            let (x, weight) = (x.into_primitive(), weight.into_primitive());
            let weight = cast::<B>(weight, x.dtype());
            let state = State {
                product,
                x: kept,
                weight: weight.clone(),
            };
            prep.finish(state, product.of_rows::<B>(x, weight))
        }
        OpsKind::UnTracked(prep) => {
            prep.finish(product.of_rows::<B>(x.into_primitive(), weight.into_primitive()))
        }
    }
}

impl<B: Backend + RowProductOps, C: CheckpointStrategy> RowProductOps for Autodiff<B, C> {
    fn row_product(x: FloatTensor<Self>, weight: FloatTensor<Self>) -> FloatTensor<Self> {
        tracked::<B, C>(x, weight, Product::Fusable)
    }

    fn dense_row_product(x: FloatTensor<Self>, weight: FloatTensor<Self>) -> FloatTensor<Self> {
        tracked::<B, C>(x, weight, Product::Dense)
    }

    fn preset_row_product(x: FloatTensor<Self>, weight: FloatTensor<Self>) -> FloatTensor<Self> {
        tracked::<B, C>(x, weight, Product::Preset)
    }

    fn row_product_gradient(_grad: FloatTensor<Self>, _x: FloatTensor<Self>) -> FloatTensor<Self> {
        panic!("the product has no second derivative")
    }
}
