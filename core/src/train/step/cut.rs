//! A training step whose graph is cut at the feature pyramid: the gradients of the heads, 40 % of the parameters of
//! R50-FPN, are complete before the backward pass of the backbone, and travel to the other ranks while it runs.
//!
//! The levels of the pyramid exist until then. Where the RPN reads all of them, Burn adds its gradient to that of the RoI
//! heads, because the gradient of a leaf cannot be taken by a kernel that would add to it.

use burn::tensor::{Gradients, Tensor};
use mrcnn_kernels::backward_from;

/// Where a graph is cut: the outputs of the backbone, and the inputs of the heads, which have the same values.
pub(crate) struct Cut {
    /// With the graph of the backbone.
    outputs: Vec<Tensor<4>>,
    /// Leaves of the graph of the heads.
    inputs: Vec<Tensor<4>>,
}

impl Cut {
    /// Cuts the graph at `pyramid`; also returns the inputs of the heads.
    pub(crate) fn at(pyramid: Vec<Tensor<4>>) -> (Vec<Tensor<4>>, Self) {
        let leaf = |level: &Tensor<4>| Tensor::from_inner(level.clone().inner()).require_grad();
        let inputs: Vec<_> = pyramid.iter().map(leaf).collect();
        let cut = Self {
            outputs: pyramid,
            inputs: inputs.clone(),
        };
        (inputs, cut)
    }

    /// The gradients of the backbone, after `heads`, those of the heads; `None` if no parameter of it is trained.
    pub(crate) fn backward(self, mut heads: Gradients) -> Option<Gradients> {
        let levels = self.outputs.into_iter().zip(self.inputs);
        // P6 has no gradient if the RPN does not use it.
        let known = levels.filter_map(|(output, input)| {
            let gradient = input.grad_remove(&mut heads)?;
            Some((output, Tensor::from_inner(gradient)))
        });
        let known = known.collect();
        drop(heads);
        backward_from(known)
    }
}
