//! A backward pass that starts from tensors whose gradients are known, so that a graph can be cut in two: the gradients
//! of one part can be used while those of the other are computed.

use burn::backend::autodiff::{
    checkpoint::{base::Checkpointer, strategy::CheckpointStrategy},
    grads::Gradients as Registered,
    ops::{Backward, Ops, OpsKind, binary},
};
use burn::backend::{Autodiff, Backend, Dispatch, backend_extension, tensor::FloatTensor};
use burn::tensor::{Gradients, Tensor};

/// Gradients of the inputs of `tensors`, given the gradient of each of `tensors` in its shape and dtype.
/// `None` if none of them has a graph. The graph is consumed, as by [`Tensor::backward`].
///
/// # Panics
///
/// If the shapes or dtypes of a tensor and its gradient differ.
pub fn backward_from<const D: usize>(tensors: Vec<(Tensor<D>, Tensor<D>)>) -> Option<Gradients> {
    let (first, _) = tensors.first()?;
    let device = first.device();
    let mut total = Tensor::<1>::zeros([1], &device);
    for (tensor, gradient) in tensors {
        assert_eq!(
            tensor.dims(),
            gradient.dims(),
            "backward_from: a gradient must have the shape of its tensor"
        );
        assert_eq!(
            tensor.dtype(),
            gradient.dtype(),
            "backward_from: a gradient must have the dtype of its tensor"
        );
        total = Tensor::from_dispatch(<Dispatch as InjectOps>::inject(
            total.into_dispatch(),
            tensor.into_dispatch(),
            gradient.into_dispatch(),
        ));
    }
    total.is_tracked().then(|| total.backward())
}

/// The operation on backends; use [`backward_from`].
#[backend_extension(
    Cube: cfg(any(feature = "wgpu", feature = "cuda")),
    Flex: cfg(feature = "flex"),
    Autodiff,
    Fusion: cfg(feature = "fusion"),
)]
pub trait InjectOps: Backend {
    /// `total`, whose backward pass gives `tensor` the gradient `gradient`.
    #[fusion(default)]
    fn inject(
        total: FloatTensor<Self>,
        tensor: FloatTensor<Self>,
        gradient: FloatTensor<Self>,
    ) -> FloatTensor<Self> {
        let _ = (tensor, gradient);
        total
    }
}

#[cfg(any(feature = "wgpu", feature = "cuda"))]
impl InjectOps for burn_cubecl::CubeBackend {}

#[cfg(feature = "flex")]
impl InjectOps for burn::backend::Flex {}

#[derive(Debug)]
struct Injected;

impl<B: Backend> Backward<B, 2> for Injected {
    type State = FloatTensor<B>;

    fn backward(
        self,
        ops: Ops<Self::State, 2>,
        grads: &mut Registered,
        _checkpointer: &mut Checkpointer,
    ) {
        let gradient = ops.state;
        binary::<B, _, _>(ops.parents, ops.node, grads, |grad| grad, |_| gradient);
    }
}

impl<B: Backend + InjectOps, C: CheckpointStrategy> InjectOps for Autodiff<B, C> {
    fn inject(
        total: FloatTensor<Self>,
        tensor: FloatTensor<Self>,
        gradient: FloatTensor<Self>,
    ) -> FloatTensor<Self> {
        let gradient = gradient.into_primitive();
        match Injected
            .prepare::<C>([total.node(), tensor.node()])
            .compute_bound()
            .stateful()
        {
            OpsKind::Tracked(prep) => prep.finish(gradient, total.into_primitive()),
            OpsKind::UnTracked(prep) => prep.finish(total.into_primitive()),
        }
    }
}

#[cfg(all(test, feature = "flex"))]
mod tests {
    use super::*;
    use burn::tensor::{Device, Distribution};

    #[test]
    fn a_graph_that_is_cut_has_the_gradients_of_the_whole() {
        let device = Device::flex().autodiff();
        let random = || Tensor::<2>::random([3, 4], Distribution::Default, &device);
        let (first, second) = (random().require_grad(), random().require_grad());
        let (factor, other) = (random(), random());
        // Two tensors on the cut, one of which is computed from the other.
        let middle = || {
            let a = first.clone() * factor.clone();
            let b = (a.clone() + second.clone()).sin();
            [a, b]
        };
        let end = |[a, b]: [Tensor<2>; 2]| (a * b * other.clone()).sum();
        let whole = end(middle()).backward();
        let tensors = middle();
        let leaves = (tensors.clone()).map(|it| Tensor::from_inner(it.inner()).require_grad());
        let upper = end(leaves.clone()).backward();
        let gradients = leaves.map(|leaf| Tensor::from_inner(leaf.grad(&upper).expect("a leaf")));
        let lower = backward_from(tensors.into_iter().zip(gradients).collect());
        let lower = lower.expect("they have a graph");
        for param in [first, second] {
            let [cut, whole] = [&lower, &whole].map(|found| param.grad(found).expect("a gradient"));
            assert_eq!(cut.into_data(), whole.into_data());
        }
    }

    #[test]
    fn tensors_without_a_graph_are_left_out() {
        let device = Device::flex().autodiff();
        let constant = Tensor::<2>::ones([2, 2], &device);
        let param = Tensor::<2>::ones([2, 2], &device).require_grad();
        let gradient = Tensor::<2>::full([2, 2], 3.0, &device);
        let tensors = [constant.clone(), param.clone() * 2.0, constant];
        let known = tensors.map(|tensor| (tensor, gradient.clone()));
        let gradients = backward_from(known.into()).expect("one has a graph");
        let found = param.grad(&gradients).expect("a gradient").into_data();
        assert_eq!(
            found,
            Tensor::<2>::full([2, 2], 6.0, &Device::flex()).into_data()
        );
    }

    #[test]
    #[should_panic(expected = "the shape of its tensor")]
    fn a_gradient_of_another_shape_is_refused() {
        let device = Device::flex().autodiff();
        let [tensor, gradient] = [[2, 2], [2, 3]].map(|shape| Tensor::<2>::ones(shape, &device));
        backward_from(vec![(tensor, gradient)]);
    }

    #[test]
    fn tensors_without_a_graph_have_no_backward_pass() {
        for device in [Device::flex(), Device::flex().autodiff()] {
            let tensor = Tensor::<2>::ones([2, 2], &device);
            assert!(backward_from(vec![(tensor.clone(), tensor)]).is_none());
        }
        assert!(backward_from::<2>(Vec::new()).is_none());
    }
}
