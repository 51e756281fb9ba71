//! Group norm as a backend operation of the CPU.

use burn::backend::{Backend, Dispatch, backend_extension, tensor::FloatTensor};
use burn::tensor::Tensor;

/// Group norm as a backend operation; use [`group_norm`](super::group_norm).
#[backend_extension(Flex, Autodiff)]
pub trait GroupNormOps: Backend {
    /// `x [n, c, h, w]`, `weight [c]`, `bias [c]` -> `[n, c, h, w]`.
    fn group_norm(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        groups: usize,
        epsilon: f64,
        relu: bool,
    ) -> FloatTensor<Self>;

    /// As [`Self::group_norm`], with `residual` added before the ReLU.
    fn group_norm_residual(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        residual: FloatTensor<Self>,
        groups: usize,
        epsilon: f64,
        relu: bool,
    ) -> FloatTensor<Self>;
}

pub fn group_norm(
    x: Tensor<4>,
    [weight, bias]: [Tensor<1>; 2],
    (groups, epsilon): (usize, f64),
    residual: Option<Tensor<4>>,
    relu: bool,
) -> Tensor<4> {
    let [_, c, ..] = x.dims();
    assert_eq!(
        [weight.dims(), bias.dims()],
        [[c]; 2],
        "group_norm: there must be one weight and bias per channel"
    );
    if let Some(residual) = &residual {
        assert_eq!(
            residual.dims(),
            x.dims(),
            "group_norm: the residual must have the shape of x"
        );
    }
    let (x, weight, bias) = (
        x.into_dispatch(),
        weight.into_dispatch(),
        bias.into_dispatch(),
    );
    Tensor::from_dispatch(match residual.map(Tensor::into_dispatch) {
        None => <Dispatch as GroupNormOps>::group_norm(x, weight, bias, groups, epsilon, relu),
        Some(residual) => <Dispatch as GroupNormOps>::group_norm_residual(
            x, weight, bias, residual, groups, epsilon, relu,
        ),
    })
}
