//! Gradient rules of the operations on feature maps.

use super::flex::{max_pool3x3_gradient, unpack};
use super::ops::FeatureOps;
use burn::backend::Autodiff;
use burn::backend::autodiff::{
    NodeId,
    checkpoint::{base::Checkpointer, strategy::CheckpointStrategy},
    grads::Gradients,
    ops::{Backward, Ops, OpsKind, binary, unary},
};
use burn::backend::{Flex, TensorMetadata, tensor::FloatTensor};
use burn_flex::FlexTensor;

#[derive(Debug)]
struct MaxPool;

impl Backward<Flex, 1> for MaxPool {
    type State = NodeId;

    fn backward(
        self,
        ops: Ops<Self::State, 1>,
        grads: &mut Gradients,
        checkpointer: &mut Checkpointer,
    ) {
        let x: FlexTensor = checkpointer.retrieve_node_output(ops.state);
        unary::<Flex, _>(ops.parents, ops.node, grads, |grad| {
            max_pool3x3_gradient(x, grad)
        });
    }
}

#[derive(Debug)]
struct PackFirst;

impl Backward<Flex, 1> for PackFirst {
    type State = [usize; 4];

    fn backward(
        self,
        ops: Ops<Self::State, 1>,
        grads: &mut Gradients,
        _checkpointer: &mut Checkpointer,
    ) {
        let shape = ops.state;
        unary::<Flex, _>(ops.parents, ops.node, grads, |grad| unpack(grad, shape, 0));
    }
}

/// The gradient of the packed cells is passed on unchanged. Its cells of the new feature map are not read, because no
/// earlier feature map has them.
#[derive(Debug)]
struct PackNext;

impl Backward<Flex, 2> for PackNext {
    type State = ([usize; 4], usize);

    fn backward(
        self,
        ops: Ops<Self::State, 2>,
        grads: &mut Gradients,
        _checkpointer: &mut Checkpointer,
    ) {
        let (shape, offset) = ops.state;
        binary::<Flex, _, _>(
            ops.parents,
            ops.node,
            grads,
            |grad| grad,
            |grad| unpack(grad, shape, offset),
        );
    }
}

impl<C: CheckpointStrategy> FeatureOps for Autodiff<Flex, C> {
    fn max_pool3x3(x: FloatTensor<Self>) -> FloatTensor<Self> {
        match MaxPool.prepare::<C>([x.node()]).compute_bound().stateful() {
            OpsKind::Tracked(mut prep) => {
                let state = prep.checkpoint(&x);
                prep.finish(state, Flex::max_pool3x3(x.into_primitive()))
            }
            OpsKind::UnTracked(prep) => prep.finish(Flex::max_pool3x3(x.into_primitive())),
        }
    }

    fn pack_first(feature: FloatTensor<Self>, cells: usize) -> FloatTensor<Self> {
        let (node, shape) = (feature.node(), feature.shape().dims());
        let packed = Flex::pack_first(feature.into_primitive(), cells);
        match PackFirst.prepare::<C>([node]).compute_bound().stateful() {
            OpsKind::Tracked(prep) => prep.finish(shape, packed),
            OpsKind::UnTracked(prep) => prep.finish(packed),
        }
    }

    fn pack_next(
        packed: FloatTensor<Self>,
        feature: FloatTensor<Self>,
        offset: usize,
    ) -> FloatTensor<Self> {
        let nodes = [packed.node(), feature.node()];
        let shape = feature.shape().dims();
        let packed = Flex::pack_next(packed.into_primitive(), feature.into_primitive(), offset);
        match PackNext.prepare::<C>(nodes).compute_bound().stateful() {
            OpsKind::Tracked(prep) => prep.finish((shape, offset), packed),
            OpsKind::UnTracked(prep) => prep.finish(packed),
        }
    }
}
