//! Sums of gradients, computed in the kernels of the gradients.
//!
//! If several operations use a tensor, Burn adds their gradients in a separate pass over both. An operation whose
//! kernel can add its gradient to another one takes the registered gradient and registers the sum.

use burn::backend::autodiff::{NodeId, grads::Gradients};

/// Whether `grads` has a gradient of the tensor `node` from an operation that called this function earlier in the same
/// backward pass. The caller then consumes it and registers a gradient that includes it, or registers its own, which
/// Burn adds. It must register one in any case. Without the feature `flex` always false, so Burn adds all gradients.
///
/// The gradient of a leaf (`is_leaf`, a node without parents) cannot be taken out of `grads`.
pub(crate) fn has_gradient(grads: &mut Gradients, node: NodeId, is_leaf: bool) -> bool {
    !is_leaf && mark_started(grads, node.value)
}

/// Notes the node; returns whether it was noted before in the same backward pass, so that `grads` has a gradient of it.
///
/// `Gradients` has no method that looks up a node. The nodes are therefore stored in it, as the gradient of a constant.
#[cfg(feature = "flex")]
fn mark_started(grads: &mut Gradients, node: u64) -> bool {
    use burn::backend::{Autodiff, Flex, ops::FloatTensorOps, tensor::FloatTensor};
    use burn::tensor::TensorData;
    use std::sync::LazyLock;

    static NODES: LazyLock<FloatTensor<Autodiff<Flex>>> =
        LazyLock::new(|| FloatTensor::<Autodiff<Flex>>::new(nodes_tensor(vec![])));
    fn nodes_tensor(nodes: Vec<f64>) -> FloatTensor<Flex> {
        let count = nodes.len();
        Flex::float_from_data(TensorData::new(nodes, [count]), &Default::default())
    }

    // Node ids are counted from 0; f64 represents those below 2^53 exactly.
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
