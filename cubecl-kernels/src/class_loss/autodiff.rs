//! Gradient rule of the loss.

use super::{ClassLossOps, ElementLoss};
use burn::backend::autodiff::{
    checkpoint::{base::Checkpointer, strategy::CheckpointStrategy},
    grads::Gradients,
    ops::{Backward, Ops, OpsKind, unary},
};
use burn::backend::tensor::{FloatTensor, IntTensor};
use burn::backend::{Autodiff, Backend, TensorMetadata};
use burn::tensor::Shape;

#[derive(Debug)]
struct ClassLoss;

#[derive(Clone, Debug)]
struct State<B: Backend> {
    derivatives: FloatTensor<B>,
    labels: IntTensor<B>,
    classes: usize,
}

impl<B: Backend + ClassLossOps> Backward<B, 1> for ClassLoss {
    type State = State<B>;

    fn backward(
        self,
        ops: Ops<Self::State, 1>,
        grads: &mut Gradients,
        _checkpointer: &mut Checkpointer,
    ) {
        let State {
            derivatives,
            labels,
            classes,
        } = ops.state;
        unary::<B, _>(ops.parents, ops.node, grads, |grad| {
            B::class_loss_gradient(derivatives, labels, grad, classes)
        });
    }
}

#[derive(Debug)]
struct CrossEntropy;

impl<B: Backend> Backward<B, 1> for CrossEntropy {
    /// The derivatives.
    type State = FloatTensor<B>;

    fn backward(
        self,
        ops: Ops<Self::State, 1>,
        grads: &mut Gradients,
        _checkpointer: &mut Checkpointer,
    ) {
        let derivatives = ops.state;
        unary::<B, _>(ops.parents, ops.node, grads, |grad| {
            B::float_mul(derivatives, B::float_reshape(grad, Shape::new([1, 1])))
        });
    }
}

impl<B: Backend + ClassLossOps, C: CheckpointStrategy> ClassLossOps for Autodiff<B, C> {
    fn class_loss(
        predicted: FloatTensor<Self>,
        labels: IntTensor<Self>,
        targets: FloatTensor<Self>,
        weights: FloatTensor<Self>,
        loss: ElementLoss,
    ) -> FloatTensor<Self> {
        let (node, classes) = (predicted.node(), predicted.shape()[1]);
        let (sums, derivatives) = B::class_losses(
            predicted.into_primitive(),
            labels.clone(),
            targets.into_primitive(),
            weights.into_primitive(),
            loss,
        );
        let sum = B::float_sum_dim(sums, 0);
        match ClassLoss.prepare::<C>([node]).compute_bound().stateful() {
            OpsKind::Tracked(prep) => {
                let state = State {
                    derivatives,
                    labels,
                    classes,
                };
                prep.finish(state, sum)
            }
            OpsKind::UnTracked(prep) => prep.finish(sum),
        }
    }

    fn class_losses(
        _predicted: FloatTensor<Self>,
        _labels: IntTensor<Self>,
        _targets: FloatTensor<Self>,
        _weights: FloatTensor<Self>,
        _loss: ElementLoss,
    ) -> (FloatTensor<Self>, FloatTensor<Self>) {
        panic!("the parts of the loss have no gradient")
    }

    fn class_loss_gradient(
        _derivatives: FloatTensor<Self>,
        _labels: IntTensor<Self>,
        _grad: FloatTensor<Self>,
        _classes: usize,
    ) -> FloatTensor<Self> {
        panic!("the loss has no second derivative")
    }

    fn cross_entropy(
        logits: FloatTensor<Self>,
        labels: IntTensor<Self>,
        weights: FloatTensor<Self>,
    ) -> FloatTensor<Self> {
        let node = logits.node();
        let (logits, weights) = (logits.into_primitive(), weights.into_primitive());
        let (losses, derivatives) = B::cross_entropies(logits, labels, weights);
        let sum = B::float_sum_dim(losses, 0);
        match CrossEntropy.prepare::<C>([node]).compute_bound().stateful() {
            OpsKind::Tracked(prep) => prep.finish(derivatives, sum),
            OpsKind::UnTracked(prep) => prep.finish(sum),
        }
    }

    fn cross_entropies(
        _logits: FloatTensor<Self>,
        _labels: IntTensor<Self>,
        _weights: FloatTensor<Self>,
    ) -> (FloatTensor<Self>, FloatTensor<Self>) {
        panic!("the parts of the loss have no gradient")
    }
}
