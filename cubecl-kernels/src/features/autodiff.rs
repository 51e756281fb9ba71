//! Gradient rules.

use super::ops::FeatureOps;
use burn::backend::Autodiff;
use burn::backend::autodiff::{
    NodeId,
    checkpoint::{base::Checkpointer, strategy::CheckpointStrategy},
    grads::Gradients,
    ops::{Backward, Ops, OpsKind, binary, unary},
};
use burn::backend::{Backend, TensorMetadata, tensor::FloatTensor};

#[derive(Debug)]
struct MaxPool;

impl<B: Backend + FeatureOps> Backward<B, 1> for MaxPool {
    type State = NodeId;

    fn backward(
        self,
        ops: Ops<Self::State, 1>,
        grads: &mut Gradients,
        checkpointer: &mut Checkpointer,
    ) {
        let x: FloatTensor<B> = checkpointer.retrieve_node_output(ops.state);
        unary::<B, _>(ops.parents, ops.node, grads, |grad| {
            B::max_pool3x3_gradient(x, grad)
        });
    }
}

#[derive(Debug)]
struct UpsampleAdd;

impl<B: Backend + FeatureOps> Backward<B, 2> for UpsampleAdd {
    type State = ();

    fn backward(
        self,
        ops: Ops<Self::State, 2>,
        grads: &mut Gradients,
        _checkpointer: &mut Checkpointer,
    ) {
        let [lateral, top] = ops.parents;
        let grad = grads.consume::<B>(&ops.node);
        if let Some(node) = top {
            grads.register::<B>(node.id, B::upsample_gradient(grad.clone()));
        }
        if let Some(node) = lateral {
            grads.register::<B>(node.id, grad);
        }
    }
}

#[derive(Debug)]
struct PackFirst;

impl<B: Backend + FeatureOps> Backward<B, 1> for PackFirst {
    type State = [usize; 2];

    fn backward(
        self,
        ops: Ops<Self::State, 1>,
        grads: &mut Gradients,
        _checkpointer: &mut Checkpointer,
    ) {
        let size = ops.state;
        unary::<B, _>(ops.parents, ops.node, grads, |grad| {
            B::unpack(grad, size, 0)
        });
    }
}

/// The gradient of the packed cells is passed on unchanged: those of the new feature map were zero, or are
/// not read.
#[derive(Debug)]
struct PackNext;

impl<B: Backend + FeatureOps> Backward<B, 2> for PackNext {
    type State = ([usize; 2], usize);

    fn backward(
        self,
        ops: Ops<Self::State, 2>,
        grads: &mut Gradients,
        _checkpointer: &mut Checkpointer,
    ) {
        let (size, offset) = ops.state;
        binary::<B, _, _>(
            ops.parents,
            ops.node,
            grads,
            |grad| grad,
            |grad| B::unpack(grad, size, offset),
        );
    }
}

const NO_SECOND: &str = "operations on feature maps have no second derivative";

impl<B: Backend + FeatureOps, C: CheckpointStrategy> FeatureOps for Autodiff<B, C> {
    fn max_pool3x3(x: FloatTensor<Self>) -> FloatTensor<Self> {
        match MaxPool.prepare::<C>([x.node()]).compute_bound().stateful() {
            OpsKind::Tracked(mut prep) => {
                let state = prep.checkpoint(&x);
                prep.finish(state, B::max_pool3x3(x.into_primitive()))
            }
            OpsKind::UnTracked(prep) => prep.finish(B::max_pool3x3(x.into_primitive())),
        }
    }

    fn max_pool3x3_gradient(_x: FloatTensor<Self>, _grad: FloatTensor<Self>) -> FloatTensor<Self> {
        panic!("{NO_SECOND}")
    }

    fn upsample_add(lateral: FloatTensor<Self>, top: FloatTensor<Self>) -> FloatTensor<Self> {
        let nodes = [lateral.node(), top.node()];
        let sum = B::upsample_add(lateral.into_primitive(), top.into_primitive());
        UpsampleAdd
            .prepare::<C>(nodes)
            .compute_bound()
            .stateless(sum)
    }

    fn upsample_gradient(_grad: FloatTensor<Self>) -> FloatTensor<Self> {
        panic!("{NO_SECOND}")
    }

    fn pack_first(feature: FloatTensor<Self>, cells: usize) -> FloatTensor<Self> {
        let (node, size) = (feature.node(), [feature.shape()[2], feature.shape()[3]]);
        let packed = B::pack_first(feature.into_primitive(), cells);
        match PackFirst.prepare::<C>([node]).compute_bound().stateful() {
            OpsKind::Tracked(prep) => prep.finish(size, packed),
            OpsKind::UnTracked(prep) => prep.finish(packed),
        }
    }

    fn pack_next(
        packed: FloatTensor<Self>,
        feature: FloatTensor<Self>,
        offset: usize,
    ) -> FloatTensor<Self> {
        let nodes = [packed.node(), feature.node()];
        let size = [feature.shape()[2], feature.shape()[3]];
        let packed = B::pack_next(packed.into_primitive(), feature.into_primitive(), offset);
        match PackNext.prepare::<C>(nodes).compute_bound().stateful() {
            OpsKind::Tracked(prep) => prep.finish((size, offset), packed),
            OpsKind::UnTracked(prep) => prep.finish(packed),
        }
    }

    fn unpack(_packed: FloatTensor<Self>, _size: [usize; 2], _offset: usize) -> FloatTensor<Self> {
        panic!("{NO_SECOND}")
    }
}
