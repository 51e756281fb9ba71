//! Gradient rule: RoIAlign is linear in the features, so the backward pass needs only the RoIs.

use super::{RoiAlignOps, RoiAlignParams};
use burn::backend::Autodiff;
use burn::backend::autodiff::{
    checkpoint::{base::Checkpointer, strategy::CheckpointStrategy},
    grads::Gradients,
    ops::{Backward, Ops, OpsKind, unary},
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
        unary::<B, _>(ops.parents, ops.node, grads, |grad| {
            B::roi_align_backward(grad, rois, params, images)
        });
    }
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
}
