//! Gradient rule: RoIAlign is linear in the features, so the backward pass needs only the RoIs.
//!
//! Heads pool the same pyramid. The first gradient of it is a new tensor, and the others are added to that one, because
//! a second tensor of the size of the pyramid would be the peak of the memory of a training step on the CPU.

use super::{RoiAlignOps, RoiAlignParams};
use burn::backend::Autodiff;
use burn::backend::autodiff::{
    checkpoint::{base::Checkpointer, strategy::CheckpointStrategy},
    grads::Gradients,
    ops::{Backward, Ops, OpsKind},
};
use burn::backend::{Backend, TensorMetadata, tensor::FloatTensor};

#[derive(Debug)]
struct RoiAlignBackward;

impl<B: Backend + RoiAlignOps> Backward<B, 1> for RoiAlignBackward {
    type State = (FloatTensor<B>, RoiAlignParams, usize);

    fn backward(
        self,
        ops: Ops<Self::State, 1>,
        grads: &mut Gradients,
        _checkpointer: &mut Checkpointer,
    ) {
        let (rois, params, images) = ops.state;
        let grad = grads.consume::<B>(&ops.node);
        let [Some(pyramid)] = ops.parents else {
            return;
        };
        // The gradient of a leaf cannot be taken out of `grads`.
        let gradient = match !pyramid.parents.is_empty() && mark_started(grads, pyramid.id.value) {
            true => {
                let gradient = grads.consume::<B>(&pyramid);
                B::roi_align_accumulate(gradient, grad, rois, params)
            }
            false => B::roi_align_backward(grad, rois, params, images),
        };
        grads.register::<B>(pyramid.id, gradient);
    }
}

/// Notes the node; returns whether it was noted before in the same backward pass, so that `grads` has a gradient of it.
///
/// `Gradients` has no method that looks up a node. The nodes are therefore stored in it, as the gradient of a constant.
#[cfg(feature = "flex")]
fn mark_started(grads: &mut Gradients, node: u64) -> bool {
    use burn::backend::{Flex, ops::FloatTensorOps};
    use burn::tensor::TensorData;
    use std::sync::LazyLock;

    static NODES: LazyLock<FloatTensor<Autodiff<Flex>>> =
        LazyLock::new(|| FloatTensor::<Autodiff<Flex>>::new(nodes_tensor(vec![])));
    fn nodes_tensor(nodes: Vec<f64>) -> FloatTensor<Flex> {
        let count = nodes.len();
        Flex::float_from_data(TensorData::new(nodes, [count]), &Default::default())
    }

    // Numbers of nodes are counted from 0 on: f64 holds those below 2^53.
    let node = node as f64;
    let noted = grads.remove::<Flex>(&NODES);
    let mut nodes: Vec<f64> = noted.map_or_else(Vec::new, |nodes| nodes.storage().to_vec());
    let is_started = nodes.contains(&node);
    if !is_started {
        nodes.push(node);
    }
    grads.register::<Flex>(NODES.id(), nodes_tensor(nodes));
    is_started
}

#[cfg(not(feature = "flex"))]
fn mark_started(_grads: &mut Gradients, _node: u64) -> bool {
    false
}

impl<B: Backend + RoiAlignOps, C: CheckpointStrategy> RoiAlignOps for Autodiff<B, C> {
    fn roi_align(
        pyramid: FloatTensor<Self>,
        rois: FloatTensor<Self>,
        params: RoiAlignParams,
    ) -> FloatTensor<Self> {
        let images = pyramid.shape()[0];
        let guard = pyramid.node();
        let rois = rois.into_primitive();
        let pooled = B::roi_align(pyramid.into_primitive(), rois.clone(), params.clone());
        match RoiAlignBackward
            .prepare::<C>([guard])
            .compute_bound()
            .stateful()
        {
            OpsKind::Tracked(prep) => prep.finish((rois, params, images), pooled),
            OpsKind::UnTracked(prep) => prep.finish(pooled),
        }
    }

    fn roi_align_backward(
        _grad: FloatTensor<Self>,
        _rois: FloatTensor<Self>,
        _params: RoiAlignParams,
        _images: usize,
    ) -> FloatTensor<Self> {
        panic!("RoIAlign has no second derivative")
    }

    fn roi_align_accumulate(
        _gradient: FloatTensor<Self>,
        _grad: FloatTensor<Self>,
        _rois: FloatTensor<Self>,
        _params: RoiAlignParams,
    ) -> FloatTensor<Self> {
        panic!("RoIAlign has no second derivative")
    }
}
