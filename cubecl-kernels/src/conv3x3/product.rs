//! Gradient of the weights as a batched matrix product, which matrix units can compute.
//!
//! Input and gradient are copied into grids of one width, with zeros around the input and after each row of the
//! gradient. Under every tap the input of an output pixel is then a constant number of pixels further on, also at the
//! ends of rows, where the gradient is zero. So the inputs of the nine taps are nine overlapping views of one buffer,
//! and no pixel is copied nine times. Each view is a matrix of its own: CubeK declines a matrix whose rows overlap.

use super::channel_sums::{reduce_with_sums, spread_with_sums};
use super::own::reduce_partials;
use super::spread::{Grid, Spread, spread_both};
use crate::launch::{empty, view};
use crate::row_product::is_small;
use burn::tensor::DType;
use burn_cubecl::kernel::matmul::{MatmulStrategy, matmul};
use burn_cubecl::ops::permute_nchw_to_nhwc;
use burn_cubecl::tensor::CubeTensor;

/// Whether [`weight_gradient`] supports `c` input channels, `o` output channels and this number of pixels of the
/// gradient. Partial sums are added in vectors of four channels, and tuning a small product costs more than it saves.
pub fn supports([c, o]: [usize; 2], pixels: usize) -> bool {
    c.is_multiple_of(4) && o.is_multiple_of(4) && !is_small([c, o, pixels])
}

/// The gradient of weights `[o, c, 3, 3]` from `x [n, c, h, w]` and `grad [n, o, h', w']`, summed in f32.
pub fn weight_gradient(x: CubeTensor, grad: CubeTensor, stride: usize) -> CubeTensor {
    let dtype = grad.dtype;
    let (product, operands) = plan(x, grad, stride);
    let partials = product.partials(spread_both(operands));
    reduce_partials(partials, product.splits, product.channels, dtype)
}

/// [`weight_gradient`], and the gradient of the bias `[o]`, the sums of `grad` in f32. `o` must be a number of channels
/// that [`can_sum`](super::channel_sums::can_sum) supports.
pub fn parameter_gradients(
    x: CubeTensor,
    grad: CubeTensor,
    stride: usize,
) -> (CubeTensor, CubeTensor) {
    let dtype = grad.dtype;
    let (product, operands) = plan(x, grad, stride);
    let (operands, sums) = spread_with_sums(operands);
    let partials = product.partials(operands);
    reduce_with_sums(partials, sums, product.splits, product.channels, dtype)
}

/// Sizes of the product.
struct Product {
    /// Parts of the sum over the pixels, and pixels per part.
    splits: usize,
    part: usize,
    /// Columns of the grids.
    columns: usize,
    /// Channels of the input and of the output.
    channels: [usize; 2],
}

/// The product, and its operands before they are in their grids.
fn plan(x: CubeTensor, grad: CubeTensor, stride: usize) -> (Product, [Spread; 2]) {
    let [n, c, h, w] = x.meta.shape().dims();
    let [_, o, ..] = grad.meta.shape().dims::<4>();
    let (rows, columns) = (h + 2, w + 2);
    // Pixels from the first tap to the last.
    let reach = 2 * columns + 2;
    let pixels = n * rows * columns - reach;
    let splits = splits(pixels, [c, o]);
    let part = pixels.div_ceil(splits).next_multiple_of(ALIGNED_PIXELS);
    let grid = |origin, stride| Grid {
        rows,
        columns,
        origin,
        stride,
    };
    let operands = [
        Spread {
            pixels: permute_nchw_to_nhwc(x),
            grid: grid(1, 1),
            total: splits * part + reach,
        },
        Spread {
            pixels: permute_nchw_to_nhwc(grad),
            grid: grid(0, stride),
            total: splits * part,
        },
    ];
    let product = Product {
        splits,
        part,
        columns,
        channels: [c, o],
    };
    (product, operands)
}

impl Product {
    /// The products `[splits, 3, 3, c, o]` of the parts of input and gradient in their grids.
    fn partials(&self, [input, grad]: [CubeTensor; 2]) -> CubeTensor {
        let &Self {
            splits,
            part,
            columns,
            channels: [c, o],
        } = self;
        let taps = view(
            input,
            [splits, 3, 3, c, part],
            [part * c, columns * c, c, 1, c],
        );
        let grad = view(
            grad,
            [splits, 1, 1, part, o],
            [part * o, part * o, part * o, o, 1],
        );
        let partials = empty(&grad, [splits, 3, 3, c, o], DType::F32);
        matmul(
            taps,
            grad,
            Some(partials),
            MatmulStrategy::default(),
            DType::F32,
        )
        .expect("every matrix product has a kernel")
    }
}

/// Parts begin at multiples of this, so that loads of several pixels are aligned.
const ALIGNED_PIXELS: usize = 64;

/// Number of parts of the sum over the pixels: enough products for a GPU, but so few that adding them is cheap in
/// comparison. Depends on sizes only, so that sums are repeatable.
fn splits(pixels: usize, [c, o]: [usize; 2]) -> usize {
    const PRODUCTS: usize = 256;
    const PARTIALS: usize = 16 << 20;
    const MIN_PIXELS: usize = 1024;
    let tiles = 9 * c.div_ceil(128) * o.div_ceil(128);
    PRODUCTS
        .div_ceil(tiles)
        .min(PARTIALS.div_ceil(9 * c * o))
        .min(pixels.div_ceil(MIN_PIXELS))
}

#[cfg(all(test, feature = "flex"))]
mod tests {
    use super::super::own;
    use super::*;
    use crate::capability::has_matrix_units;
    use crate::epilogue::bias_gradient;
    use crate::test_gpu::{self, values, whole_numbers};
    use burn_cubecl::CubeBackend;
    use burn_cubecl::ops::permute_nhwc_to_nchw;

    /// Stride, `[n, h, w]` and `[c, o]`.
    type Case = (usize, [usize; 3], [usize; 2]);

    /// Asserts that `is_equal` for `x`, `grad` and stride of each case. Runs in f32 also on devices without matrix
    /// units, where this product is not used. Inputs are whole numbers, so sums are exact in f32 and are rounded once.
    fn check(cases: &[Case], is_equal: impl Fn(CubeTensor, CubeTensor, usize) -> bool) {
        let Some((selected, device)) = test_gpu::open() else {
            return;
        };
        let mut wrong = Vec::new();
        let client = whole_numbers([1; 4], 1, &device, DType::F32).client;
        for dtype in [DType::F32, DType::F16, DType::BF16] {
            if dtype != DType::F32 && !has_matrix_units(&client, dtype) {
                continue;
            }
            for &(stride, [n, h, w], [c, o]) in cases {
                let [rows, columns] = [h, w].map(|size: usize| size.div_ceil(stride));
                let x = permute_nhwc_to_nchw(whole_numbers([n, h, w, c], 1, &device, dtype));
                let grad = whole_numbers([n, rows, columns, o], 2, &device, dtype);
                let grad = permute_nhwc_to_nchw(grad);
                if !is_equal(x, grad, stride) {
                    wrong.push(format!(
                        "{dtype:?}, stride {stride}, [{n}, {h}, {w}], [{c}, {o}]"
                    ));
                }
            }
        }
        assert!(wrong.is_empty(), "{wrong:#?}");
        selected.device.sync().expect("the device works");
    }

    #[test]
    fn the_product_over_taps_is_the_gradient_of_the_weights() {
        let cases = [
            (1, [2, 7, 6], [16, 8]),
            (1, [1, 1, 1], [4, 4]),
            (1, [1, 1, 9], [8, 4]),
            (1, [3, 33, 9], [8, 256]),
            (1, [2, 40, 30], [64, 20]),
            (2, [2, 7, 6], [4, 8]),
            (2, [1, 16, 9], [32, 64]),
            (2, [1, 2, 1], [12, 4]),
        ];
        check(&cases, |x, grad, stride| {
            let product = weight_gradient(x.clone(), grad.clone(), stride);
            values(product) == values(own::weight_gradient(x, grad, stride))
        });
    }

    #[test]
    fn the_product_also_sums_the_gradient_of_the_bias() {
        let cases = [
            (1, [2, 7, 6], [16, 8]),
            (1, [1, 1, 1], [4, 4]),
            (1, [3, 33, 9], [8, 256]),
            (1, [2, 40, 30], [64, 64]),
            (2, [2, 7, 6], [12, 8]),
            (2, [1, 16, 9], [32, 64]),
            (2, [1, 3, 5], [4, 1024]),
        ];
        check(&cases, |x, grad, stride| {
            let (weight, bias) = parameter_gradients(x.clone(), grad.clone(), stride);
            let sums = values(bias_gradient::<CubeBackend>(grad.clone()));
            values(bias) == sums && values(weight) == values(own::weight_gradient(x, grad, stride))
        });
    }
}
