//! Gradient rules of the losses.

use super::{ClassLossOps, Count, ElementLoss};
use burn::backend::autodiff::{
    checkpoint::{base::Checkpointer, strategy::CheckpointStrategy},
    grads::Gradients,
    ops::{Backward, NodeGuard, Ops, OpsKind, unary},
};
use burn::backend::tensor::{FloatTensor, IntTensor};
use burn::backend::{Autodiff, Backend};

#[derive(Debug)]
struct ClassLoss;

#[derive(Clone, Debug)]
struct State<B: Backend> {
    /// `[r, k, e]`, for its shape, dtype and layout.
    predicted: FloatTensor<B>,
    /// `[r, e]`.
    derivatives: FloatTensor<B>,
    labels: IntTensor<B>,
    counts: FloatTensor<B>,
    count: Count,
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
            predicted,
            derivatives,
            labels,
            counts,
            count,
        } = ops.state;
        unary::<B, _>(ops.parents, ops.node, grads, |grad| {
            B::class_loss_gradient(derivatives, labels, grad, predicted, counts, count)
        });
    }
}

/// Registers the gradient rule of a loss.
fn track<B: Backend + ClassLossOps, C: CheckpointStrategy>(
    node: NodeGuard,
    state: State<B>,
    loss: FloatTensor<B>,
) -> FloatTensor<Autodiff<B, C>> {
    match ClassLoss.prepare::<C>([node]).compute_bound().stateful() {
        OpsKind::Tracked(prep) => prep.finish(state, loss),
        OpsKind::UnTracked(prep) => prep.finish(loss),
    }
}

impl<B: Backend + ClassLossOps, C: CheckpointStrategy> ClassLossOps for Autodiff<B, C> {
    fn class_loss(
        predicted: FloatTensor<Self>,
        labels: IntTensor<Self>,
        targets: FloatTensor<Self>,
        weights: FloatTensor<Self>,
        counts: FloatTensor<Self>,
        loss: ElementLoss,
        count: Count,
        has_weights_by_label: bool,
    ) -> FloatTensor<Self> {
        let node = predicted.node();
        let (predicted, counts) = (predicted.into_primitive(), counts.into_primitive());
        let (sums, derivatives) = B::class_losses(
            predicted.clone(),
            labels.clone(),
            targets.into_primitive(),
            weights.into_primitive(),
            loss,
            has_weights_by_label,
        );
        let sum = B::divided_sum(sums, counts.clone(), count);
        let state = State {
            predicted,
            derivatives,
            labels,
            counts,
            count,
        };
        track::<B, C>(node, state, sum)
    }

    fn class_losses(
        _predicted: FloatTensor<Self>,
        _labels: IntTensor<Self>,
        _targets: FloatTensor<Self>,
        _weights: FloatTensor<Self>,
        _loss: ElementLoss,
        _has_weights_by_label: bool,
    ) -> (FloatTensor<Self>, FloatTensor<Self>) {
        panic!("the parts of the loss have no gradient")
    }

    fn divided_sum(
        _sums: FloatTensor<Self>,
        _counts: FloatTensor<Self>,
        _count: Count,
    ) -> FloatTensor<Self> {
        panic!("the parts of the loss have no gradient")
    }

    fn class_loss_gradient(
        _derivatives: FloatTensor<Self>,
        _labels: IntTensor<Self>,
        _grad: FloatTensor<Self>,
        _predicted: FloatTensor<Self>,
        _counts: FloatTensor<Self>,
        _count: Count,
    ) -> FloatTensor<Self> {
        panic!("the loss has no second derivative")
    }

    fn cross_entropy(
        logits: FloatTensor<Self>,
        labels: IntTensor<Self>,
        weights: FloatTensor<Self>,
        counts: FloatTensor<Self>,
        count: Count,
    ) -> FloatTensor<Self> {
        let node = logits.node();
        let (logits, counts) = (logits.into_primitive(), counts.into_primitive());
        let (losses, derivatives) =
            B::cross_entropies(logits.clone(), labels.clone(), weights.into_primitive());
        let sum = B::divided_sum(losses, counts.clone(), count);
        let state = State {
            predicted: logits,
            derivatives,
            labels,
            counts,
            count,
        };
        track::<B, C>(node, state, sum)
    }

    fn cross_entropies(
        _logits: FloatTensor<Self>,
        _labels: IntTensor<Self>,
        _weights: FloatTensor<Self>,
    ) -> (FloatTensor<Self>, FloatTensor<Self>) {
        panic!("the parts of the loss have no gradient")
    }
}
