//! 1x1 convolution by Burn's matrix product, where its convolution is slow or wrong.
//!
//! Burn's autotune finds that a matrix product is the fastest 1x1 convolution. Without it Burn uses its direct kernel.
//!
//! On GPUs, the gradient of the weights is wrong in Burn 0.22.1 if the input is channels-last and the gradient of the
//! output is a slice of a larger tensor, as for an RPN that is differentiated over the levels of a pyramid: it reads
//! the slices of other levels. The gradients of [`row_product`] are correct.
//!
//! Burn's direct kernel accumulates f16 in f16 and may be the fastest; its matrix products accumulate in f32.

use super::subsample_tensor;
use crate::capability::{has_preset_products, multiplies_on_matrix_units};
use crate::row_product::row_product;
use burn::tensor::{DType, Tensor};

/// 1x1 convolution as a product of pixels by channels with the weights, on devices where it is preferred; `None`
/// elsewhere.
///
/// `x [n, c, h, w]` and `weight [o, c, 1, 1]` -> `[n, o, h', w']` in the dtype of `x`, channels-last in memory, where
/// `h'` is `ceil(h / stride)`. The weights are in that dtype or in f32.
pub(crate) fn convolve_by_product(
    x: &Tensor<4>,
    weight: &Tensor<4>,
    stride: usize,
) -> Option<Tensor<4>> {
    let device = x.device();
    let preferred = has_preset_products(&device, x.dtype())
        || device.is_autodiff()
        || x.dtype() != DType::F32
        // Burn would also try the kernels that it has for products with few rows (see `row_product`).
        || multiplies_on_matrix_units(&device, x.dtype());
    (preferred && crate::has_selection_kernels(&device))
        .then(|| by_matmul(x.clone(), weight.clone(), stride))
}

/// See [`convolve_by_product`]. The output of convolutions is channels-last, so no data are moved.
fn by_matmul(x: Tensor<4>, weight: Tensor<4>, stride: usize) -> Tensor<4> {
    let [o, c, ..] = weight.dims();
    let x = subsample_tensor(x, stride).permute([0, 2, 3, 1]);
    let [n, h, w, _] = x.dims();
    let product = row_product(x.reshape([n * h * w, c]), weight.reshape([o, c]));
    product.reshape([n, h, w, o]).permute([0, 3, 1, 2])
}

#[cfg(all(test, feature = "flex"))]
mod tests {
    use super::*;
    use burn::tensor::ops::ConvOptions;
    use burn::tensor::{Device, Distribution, module};

    #[test]
    fn the_product_is_the_convolution() {
        let device = Device::flex();
        let random = |shape| Tensor::<4>::random(shape, Distribution::Uniform(-1.0, 1.0), &device);
        for (size, stride) in [([2, 5, 7, 6], 1), ([1, 3, 9, 8], 2), ([1, 1, 1, 1], 2)] {
            let x = random(size);
            let weight = random([4, size[1], 1, 1]);
            let options = ConvOptions::new([stride; 2], [0; 2], [1; 2], 1);
            let expected = module::conv2d(x.clone(), weight.clone(), None, options);
            let product = by_matmul(x, weight, stride);
            assert_eq!(product.dims(), expected.dims());
            let difference = (product - expected).abs().max().into_scalar::<f32>();
            // Sums of up to five products of numbers below 1, in another order.
            assert!(difference < 1e-5, "{size:?}, stride {stride}: {difference}");
        }
    }
}
