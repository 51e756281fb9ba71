//! Gradient rule: RoIAlign is linear in the features, so the backward pass needs only the records of the RoIs.
//!
//! Several heads pool the same pyramid. Its first gradient is a new tensor, and the others are added to that one,
//! because a second tensor of the size of the pyramid would raise the peak memory of a training step on the CPU.

use super::{RoiAlignOps, RoiAlignParams, images};
use crate::accumulation::has_gradient;
use burn::backend::Autodiff;
use burn::backend::autodiff::{
    checkpoint::{base::Checkpointer, strategy::CheckpointStrategy},
    grads::Gradients,
    ops::{Backward, Ops, OpsKind},
};
use burn::backend::tensor::{FloatTensor, IntTensor};
use burn::backend::{Backend, TensorMetadata};

#[derive(Debug)]
struct RoiAlignBackward;

impl<B: Backend + RoiAlignOps> Backward<B, 1> for RoiAlignBackward {
    type State = (IntTensor<B>, RoiAlignParams, usize);

    fn backward(
        self,
        ops: Ops<Self::State, 1>,
        grads: &mut Gradients,
        _checkpointer: &mut Checkpointer,
    ) {
        let (records, params, images) = ops.state;
        let grad = grads.consume::<B>(&ops.node);
        let [Some(pyramid)] = ops.parents else {
            return;
        };
        let gradient = match has_gradient(grads, pyramid.id, pyramid.parents.is_empty()) {
            true => {
                let gradient = grads.consume::<B>(&pyramid);
                B::roi_align_accumulate(gradient, grad, records, params)
            }
            false => B::roi_align_backward(grad, records, params, images),
        };
        grads.register::<B>(pyramid.id, gradient);
    }
}

impl<B: Backend + RoiAlignOps, C: CheckpointStrategy> RoiAlignOps for Autodiff<B, C> {
    fn roi_records(
        rois: FloatTensor<Self>,
        params: RoiAlignParams,
        images: usize,
    ) -> IntTensor<Self> {
        B::roi_records(rois.into_primitive(), params, images)
    }

    fn roi_align(
        pyramid: FloatTensor<Self>,
        records: IntTensor<Self>,
        params: RoiAlignParams,
    ) -> FloatTensor<Self> {
        let images = images(pyramid.shape()[0], &params);
        let guard = pyramid.node();
        let pyramid = pyramid.into_primitive();
        let pooled = B::roi_align(pyramid, records.clone(), params.clone());
        match RoiAlignBackward
            .prepare::<C>([guard])
            .compute_bound()
            .stateful()
        {
            OpsKind::Tracked(prep) => prep.finish((records, params, images), pooled),
            OpsKind::UnTracked(prep) => prep.finish(pooled),
        }
    }

    fn roi_align_backward(
        _grad: FloatTensor<Self>,
        _records: IntTensor<Self>,
        _params: RoiAlignParams,
        _images: usize,
    ) -> FloatTensor<Self> {
        panic!("RoIAlign has no second derivative")
    }

    fn roi_align_accumulate(
        _gradient: FloatTensor<Self>,
        _grad: FloatTensor<Self>,
        _records: IntTensor<Self>,
        _params: RoiAlignParams,
    ) -> FloatTensor<Self> {
        panic!("RoIAlign has no second derivative")
    }
}
