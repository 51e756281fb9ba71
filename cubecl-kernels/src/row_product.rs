//! Product of rows with weights, as in a fully connected layer and a 1x1 convolution.
//!
//! Burn tunes a product whose sides are all below 512 among kernels without matrix units, too. NVRTC compiles each of
//! those for up to a minute, and a small network has dozens of such products with their gradients. Rows of zeros lift a
//! product and both of its gradients over that limit, and are cut off again.

use crate::capability::multiplies_on_matrix_units;
use burn::tensor::Tensor;

/// Rows from which Burn tries matrix units alone.
const LEAST_ROWS: usize = 512;
/// Sides above this are rounded up to a power of two, so that they reach [`LEAST_ROWS`].
const ROUNDED_UP: usize = LEAST_ROWS / 2;

/// `x [r, c]` and `weight [o, c]`, of one dtype -> `[r, o]`. Differentiable.
pub fn row_product(x: Tensor<2>, weight: Tensor<2>) -> Tensor<2> {
    let [rows, inputs] = x.dims();
    let sides = [rows, inputs, weight.dims()[0]];
    if is_small(sides) && multiplies_on_matrix_units(&x.device(), x.dtype()) {
        return by_more_rows(x, weight);
    }
    x.matmul(weight.transpose())
}

/// Whether Burn tunes a product with these sides among kernels without matrix units, too.
pub(crate) fn is_small(sides: [usize; 3]) -> bool {
    sides.iter().all(|&side| side <= ROUNDED_UP)
}

/// The same product with rows of zeros.
fn by_more_rows(x: Tensor<2>, weight: Tensor<2>) -> Tensor<2> {
    let [rows, inputs] = x.dims();
    let zeros = Tensor::zeros([LEAST_ROWS - rows, inputs], (&x.device(), x.dtype()));
    let product = Tensor::cat(vec![x, zeros], 0).matmul(weight.transpose());
    product.narrow(0, 0, rows)
}

#[cfg(all(test, feature = "flex"))]
mod tests {
    use super::*;
    use burn::tensor::{Device, Distribution};

    #[test]
    fn rows_of_zeros_change_neither_the_product_nor_its_gradients() {
        let device = Device::flex().autodiff();
        let random = |shape| Tensor::<2>::random(shape, Distribution::Uniform(-1.0, 1.0), &device);
        for [rows, inputs, outputs] in [[1, 1, 1], [7, 40, 16], [256, 13, 5]] {
            let (x, weight) = (random([rows, inputs]), random([outputs, inputs]));
            let factor = random([rows, outputs]);
            let results = [row_product, by_more_rows].map(|product| {
                let (x, weight) = (x.clone().require_grad(), weight.clone().require_grad());
                let found = product(x.clone(), weight.clone());
                let gradients = (found.clone() * factor.clone()).sum().backward();
                let [of_x, of_weight] = [x, weight].map(|it| it.grad(&gradients).expect("tracked"));
                [found.inner(), of_x, of_weight]
            });
            let [expected, found] = results;
            for (expected, found) in expected.into_iter().zip(found) {
                assert_eq!(found.dims(), expected.dims());
                let difference = (found - expected).abs().max().into_scalar::<f32>();
                // Sums of up to 256 products of numbers below 1, in another order.
                assert!(difference < 1e-4, "{rows} rows: {difference}");
            }
        }
    }
}
