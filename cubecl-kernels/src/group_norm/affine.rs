//! Scale and shift of the channels of a norm on GPUs. The gradients of both are sums of tensors that have been written
//! to memory. As parts of Burn's graph they would be fused with the operations around them, and in the first step of a
//! process differently than in later ones, so that a resumed run would not be bit-equal.

use crate::epilogue::{EpilogueOps, bias_gradient};
use burn::backend::autodiff::{
    checkpoint::{base::Checkpointer, strategy::CheckpointStrategy},
    grads::Gradients,
    ops::{Backward, Ops, OpsKind},
};
use burn::backend::{
    Autodiff, Backend, Dispatch, TensorMetadata, backend_extension, tensor::FloatTensor,
};
use burn::tensor::{Shape, Tensor};

/// The operation on backends; use [`affine`].
#[backend_extension(
    Cube: cfg(any(feature = "wgpu", feature = "cuda")),
    Flex: cfg(feature = "flex"),
    Autodiff,
    Fusion: cfg(feature = "fusion"),
)]
pub trait AffineOps: Backend {
    /// See [`affine`].
    #[fusion(default)]
    fn affine(
        x: FloatTensor<Self>,
        scale: FloatTensor<Self>,
        shift: FloatTensor<Self>,
    ) -> FloatTensor<Self> {
        let scaled = Self::float_mul(x, per_channel::<Self>(scale));
        Self::float_add(scaled, per_channel::<Self>(shift))
    }
}

#[cfg(any(feature = "wgpu", feature = "cuda"))]
impl AffineOps for burn_cubecl::CubeBackend {}

#[cfg(feature = "flex")]
impl AffineOps for burn::backend::Flex {}

/// `x [n, c, h, w]` times `scale [c]` plus `shift [c]`, all of one dtype; differentiable in all three.
pub fn affine(x: Tensor<4>, scale: Tensor<1>, shift: Tensor<1>) -> Tensor<4> {
    let (x, scale, shift) = (
        x.into_dispatch(),
        scale.into_dispatch(),
        shift.into_dispatch(),
    );
    Tensor::from_dispatch(<Dispatch as AffineOps>::affine(x, scale, shift))
}

fn per_channel<B: Backend>(values: FloatTensor<B>) -> FloatTensor<B> {
    let channels = values.shape()[0];
    B::float_reshape(values, Shape::new([1, channels, 1, 1]))
}

#[derive(Debug)]
struct AffineBackward;

impl<B: Backend + EpilogueOps> Backward<B, 3> for AffineBackward {
    /// The input, if the scale is tracked, and the scale, if the input is.
    type State = [Option<FloatTensor<B>>; 2];

    fn backward(
        self,
        ops: Ops<Self::State, 3>,
        grads: &mut Gradients,
        _checkpointer: &mut Checkpointer,
    ) {
        let [x, scale] = ops.state;
        let grad = B::dense_gradient(grads.consume::<B>(&ops.node));
        let [of_x, of_scale, of_shift] = ops.parents;
        if let (Some(node), Some(x)) = (of_scale, x) {
            let products = B::dense_gradient(B::float_mul(grad.clone(), x));
            grads.register::<B>(node.id, bias_gradient::<B>(products));
        }
        if let Some(node) = of_shift {
            grads.register::<B>(node.id, bias_gradient::<B>(grad.clone()));
        }
        if let (Some(node), Some(scale)) = (of_x, scale) {
            grads.register::<B>(node.id, B::float_mul(grad, per_channel::<B>(scale)));
        }
    }
}

impl<B: Backend + AffineOps + EpilogueOps, C: CheckpointStrategy> AffineOps for Autodiff<B, C> {
    fn affine(
        x: FloatTensor<Self>,
        scale: FloatTensor<Self>,
        shift: FloatTensor<Self>,
    ) -> FloatTensor<Self> {
        let nodes = [x.node(), scale.node(), shift.node()];
        let (is_x_tracked, is_scale_tracked) = (x.is_tracked(), scale.is_tracked());
        let [x, scale, shift] = [x, scale, shift].map(|tensor| tensor.into_primitive());
        let output = B::affine(x.clone(), scale.clone(), shift);
        match AffineBackward
            .prepare::<C>(nodes)
            .compute_bound()
            .stateful()
        {
            OpsKind::Tracked(prep) => {
                let state = [is_scale_tracked.then_some(x), is_x_tracked.then_some(scale)];
                prep.finish(state, output)
            }
            OpsKind::UnTracked(prep) => prep.finish(output),
        }
    }
}

#[cfg(all(test, feature = "flex"))]
mod tests {
    use super::*;
    use burn::tensor::{Device, Distribution};

    /// With a tracked scale or without, and with a gradient of which all elements are views of one.
    fn check(device: &Device) {
        for (tracks_scale, is_expanded) in [(true, false), (false, false), (true, true)] {
            compare(device, tracks_scale, is_expanded);
        }
    }

    fn compare(device: &Device, tracks_scale: bool, is_expanded: bool) {
        let random = |shape| Tensor::<4>::random(shape, Distribution::Default, device);
        let [x, scale, shift, factor] =
            [[2, 5, 3, 4], [1, 5, 1, 1], [1, 5, 1, 1], [2, 5, 3, 4]].map(random);
        let results = |by_operations: bool| {
            // Channels-last, as the output of a convolution.
            let x = x.clone().permute([0, 2, 3, 1]) * 1.0;
            let x = x.permute([0, 3, 1, 2]).detach().require_grad();
            let shift = shift.clone().require_grad();
            let scale = match tracks_scale {
                true => scale.clone().require_grad(),
                false => scale.clone(),
            };
            let output = match by_operations {
                true => x.clone() * scale.clone() + shift.clone(),
                false => affine(
                    x.clone(),
                    scale.clone().reshape([5]),
                    shift.clone().reshape([5]),
                ),
            };
            let gradients = match is_expanded {
                true => output.clone().sum().backward(),
                false => (output.clone() * factor.clone()).sum().backward(),
            };
            assert_eq!(scale.grad(&gradients).is_some(), tracks_scale);
            let gradients = [x, scale, shift].map(|it| it.grad(&gradients));
            [
                vec![output.inner()],
                gradients.into_iter().flatten().collect(),
            ]
            .concat()
        };
        for (found, wanted) in results(false).into_iter().zip(results(true)) {
            let difference = (found - wanted).abs().max().into_scalar::<f32>();
            // Sums of 24 products below 1, in another order.
            assert!(difference < 1e-5, "{difference}");
        }
    }

    #[test]
    fn values_and_gradients_are_those_of_the_operations() {
        check(&Device::flex().autodiff());
        #[cfg(any(feature = "wgpu", feature = "cuda"))]
        if let Some((selected, _)) = crate::test_gpu::open() {
            check(&selected.device.autodiff());
        }
    }
}
