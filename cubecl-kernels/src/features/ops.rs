//! Operations on feature maps as backend operations of the CPU, f32.

use burn::backend::{Backend, Dispatch, backend_extension, tensor::FloatTensor};
use burn::tensor::Tensor;

/// Operations on feature maps as a backend operation; use the functions of [`super`].
#[backend_extension(Flex, Autodiff)]
pub trait FeatureOps: Backend {
    /// [`super::max_pool3x3`].
    fn max_pool3x3(x: FloatTensor<Self>) -> FloatTensor<Self>;

    /// `feature [n, c, h, w]` as the first cells of `[cells, c]`; the other cells are zero.
    fn pack_first(feature: FloatTensor<Self>, cells: usize) -> FloatTensor<Self>;

    /// `packed [cells, c]` with `feature [n, c, h, w]` as its cells from `offset` on.
    fn pack_next(
        packed: FloatTensor<Self>,
        feature: FloatTensor<Self>,
        offset: usize,
    ) -> FloatTensor<Self>;
}

pub fn max_pool3x3(x: Tensor<4>) -> Tensor<4> {
    Tensor::from_dispatch(<Dispatch as FeatureOps>::max_pool3x3(x.into_dispatch()))
}

/// [`super::pack`] of one or more feature maps.
pub fn pack(features: &[Tensor<4>]) -> Tensor<2> {
    let cells_of = |feature: &Tensor<4>| {
        let [n, _, h, w] = feature.dims();
        n * h * w
    };
    let cells = features.iter().map(cells_of).sum();
    let mut features = features.iter().cloned();
    let first = features.next().expect("one or more feature maps");
    let mut offset = cells_of(&first);
    let mut packed = <Dispatch as FeatureOps>::pack_first(first.into_dispatch(), cells);
    for feature in features {
        let next = offset + cells_of(&feature);
        packed = <Dispatch as FeatureOps>::pack_next(packed, feature.into_dispatch(), offset);
        offset = next;
    }
    Tensor::from_dispatch(packed)
}
