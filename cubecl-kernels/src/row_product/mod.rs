//! Products of rows with weights, as in a fully connected layer and a 1x1 convolution.
//!
//! With Burn's operations, the gradient of the weights is computed transposed, so that a copy must follow; in f16 it
//! is also rounded to f16 and cast to f32 after that. On GPUs it is one product here, with a result in f32.
//!
//! Burn tunes a product whose sides are all at most 256 among kernels without matrix units, too. NVRTC takes up to 75 s
//! for one of those (benches/RESULTS.md, 2026-11-29), and a small network has dozens of such products with their
//! gradients. Rows of zeros lift a product and both of its gradients over that limit, and are cut off again.

mod autodiff;
#[cfg(any(feature = "wgpu", feature = "cuda"))]
mod cube;
#[cfg(feature = "flex")]
mod flex;

use crate::capability::{has_preset_products, multiplies_on_matrix_units};
use crate::conv1x1::conv1x1;
use crate::dtype::{cast, to_dtype_of};
use crate::links::Links;
use burn::backend::{Backend, Dispatch, TensorMetadata, backend_extension, tensor::FloatTensor};
#[cfg(feature = "fusion")]
use burn::tensor::Shape;
use burn::tensor::{Tensor, activation};

/// Number of rows from which Burn tunes among kernels with matrix units only.
const MIN_ROWS: usize = 512;
/// Largest side of a small product: Burn rounds larger sides up to a power of two, which is at least [`MIN_ROWS`].
const LARGEST_SIDE: usize = MIN_ROWS / 2;

/// Rows of a multiple of this number of outputs have no padding in any dtype.
const UNPADDED_OUTPUTS: usize = 8;

/// The product as a backend operation; use [`row_product`].
#[backend_extension(
    Cube: cfg(any(feature = "wgpu", feature = "cuda")),
    Flex: cfg(feature = "flex"),
    Autodiff,
    Fusion: cfg(feature = "fusion"),
)]
pub trait RowProductOps: Backend {
    /// `x [r, c]` and `weight [o, c]` -> `[r, o]`, in the dtype of `x`.
    #[fusion(default)]
    fn row_product(x: FloatTensor<Self>, weight: FloatTensor<Self>) -> FloatTensor<Self> {
        let weight = cast::<Self>(weight, x.dtype());
        Self::float_matmul(x, Self::float_transpose(weight))
    }

    /// [`Self::row_product`] with dense rows. Burn pads rows on CUDA to a multiple of 16 bytes, and the kernel after a
    /// convolution would copy them.
    #[fusion(dtype = x, shape = rows(x, weight))]
    fn dense_row_product(x: FloatTensor<Self>, weight: FloatTensor<Self>) -> FloatTensor<Self>;

    /// [`Self::dense_row_product`] by CubeK's preferred kernel, which is not timed beside others.
    #[fusion(dtype = x, shape = rows(x, weight))]
    fn preset_row_product(x: FloatTensor<Self>, weight: FloatTensor<Self>) -> FloatTensor<Self>;

    /// The gradient `[o, c]` of the weights from `grad [r, o]` and `x [r, c]`: f32 also for weights in f16, which stand
    /// for parameters in f32 (see [`adopt`](crate::adopt)).
    #[fusion(dtype = burn::tensor::DType::F32, shape = weights(grad, x))]
    fn row_product_gradient(grad: FloatTensor<Self>, x: FloatTensor<Self>) -> FloatTensor<Self>;
}

#[cfg(feature = "fusion")]
fn rows(x: &Shape, weight: &Shape) -> Shape {
    Shape::new([x[0], weight[0]])
}

#[cfg(feature = "fusion")]
fn weights(grad: &Shape, x: &Shape) -> Shape {
    Shape::new([grad[1], x[1]])
}

/// Product of `x [r, c]` with the transposed `weight [o, c]`: `[r, o]`, in the dtype of `x`. The weights are in that
/// dtype or in f32; their gradient is f32 on GPUs. Differentiable in both.
pub fn row_product(x: Tensor<2>, weight: Tensor<2>) -> Tensor<2> {
    if !crate::has_selection_kernels(&x.device()) {
        let weight = to_dtype_of(weight, &x);
        return x.matmul(weight.transpose());
    }
    let [rows, inputs] = x.dims();
    let sides = [rows, inputs, weight.dims()[0]];
    match is_small(sides) && multiplies_on_matrix_units(&x.device(), x.dtype()) {
        true => multiply_padded(x, weight),
        false => multiply(x, weight),
    }
}

/// Weight `[o, c]` and bias `[o]` of a fully connected layer, in f32 or in the dtype of its input.
#[derive(Clone, Debug)]
pub struct LinearParams {
    /// `[o, c]`.
    pub weight: Tensor<2>,
    /// `[o]`.
    pub bias: Tensor<1>,
}

/// Fully connected layer: `x [r, c]` times the transposed weight plus the bias, then `max(., 0)` if `relu`: `[r, o]`,
/// in the dtype of `x`. Differentiable in all three. With matrix units it is one kernel.
///
/// # Panics
///
/// If the shapes do not match.
pub fn linear(x: Tensor<2>, params: LinearParams, relu: bool) -> Tensor<2> {
    let [output] = linear_layers(x, [params], relu, Links::default());
    output
}

/// Fully connected layers of the same input, see [`linear`]. On devices with matrix units, the kernels of the layers'
/// input gradients also add them, and apply masks of ReLUs as specified by `links`.
///
/// # Panics
///
/// If the shapes do not match, or there are links on a device without [`has_links`](crate::has_links).
pub fn linear_layers<const N: usize>(
    x: Tensor<2>,
    layers: [LinearParams; N],
    relu: bool,
    links: Links,
) -> [Tensor<2>; N] {
    let [rows, inputs] = x.dims();
    let device = x.device();
    let is_fused = multiplies_on_matrix_units(&device, x.dtype());
    assert!(
        is_fused || links == Links::default(),
        "linear: the device has no kernels that mask gradients"
    );
    // One view for all layers, whose gradient is the sum.
    let pixels: Option<Tensor<4>> = is_fused.then(|| x.clone().reshape([rows, inputs, 1, 1]));
    layers.map(|LinearParams { weight, bias }| {
        let [outputs, columns] = weight.dims();
        assert_eq!(
            (columns, bias.dims()),
            (inputs, [outputs]),
            "linear: the weight must have a column per input, and the bias a value per output"
        );
        let bias = to_dtype_of(bias, &x);
        if let Some(pixels) = &pixels {
            let weight = weight.reshape([outputs, inputs, 1, 1]);
            let output = conv1x1(pixels.clone(), weight, bias, None, 1, relu, links);
            return output.reshape([rows, outputs]);
        }
        let output = row_product(x.clone(), weight) + bias.unsqueeze();
        if relu {
            activation::relu(output)
        } else {
            output
        }
    })
}

/// Whether Burn tunes a product with these sides among kernels without matrix units, too.
#[cfg_attr(not(any(feature = "wgpu", feature = "cuda")), allow(dead_code))]
pub(crate) fn is_small(sides: [usize; 3]) -> bool {
    sides.iter().all(|&side| side <= LARGEST_SIDE)
}

fn multiply(x: Tensor<2>, weight: Tensor<2>) -> Tensor<2> {
    let is_preset = has_preset_products(&x.device(), x.dtype());
    let is_padded = !weight.dims()[0].is_multiple_of(UNPADDED_OUTPUTS);
    let (x, weight) = (x.into_dispatch(), weight.into_dispatch());
    Tensor::from_dispatch(match (is_preset, is_padded) {
        (true, _) => <Dispatch as RowProductOps>::preset_row_product(x, weight),
        (false, true) => <Dispatch as RowProductOps>::dense_row_product(x, weight),
        (false, false) => <Dispatch as RowProductOps>::row_product(x, weight),
    })
}

/// The same product with rows of zeros.
fn multiply_padded(x: Tensor<2>, weight: Tensor<2>) -> Tensor<2> {
    let [rows, inputs] = x.dims();
    let zeros = Tensor::zeros([MIN_ROWS - rows, inputs], (&x.device(), x.dtype()));
    multiply(Tensor::cat(vec![x, zeros], 0), weight).narrow(0, 0, rows)
}

#[cfg(all(test, feature = "flex"))]
mod tests {
    use super::*;
    use burn::tensor::{Device, TensorData};

    type Product = fn(Tensor<2>, Tensor<2>) -> Tensor<2>;

    const PRODUCTS: [Product; 3] = [row_product, multiply, multiply_padded];

    #[test]
    fn products_and_gradients_are_those_of_matmul() {
        check(
            &Device::flex(),
            &[[1, 1, 1], [7, 40, 16], [256, 13, 5], [64, 9, 130]],
            &PRODUCTS,
        );
    }

    #[cfg(feature = "wgpu")]
    #[test]
    fn gpus_compute_the_same() {
        if let Some((selected, _)) = crate::test_gpu::open() {
            // Only devices with matrix units add rows, and a software renderer that is tuned like a GPU needs half a minute
            // for these products.
            let is_slow = selected.is_software
                && !has_preset_products(&selected.device, burn::tensor::DType::F32);
            let products = match is_slow {
                true => &PRODUCTS[..2],
                false => &PRODUCTS[..],
            };
            check(&selected.device, &[[7, 40, 16], [64, 9, 130]], products);
            let of_width = |rows, width| Tensor::<2>::zeros([rows, width], &selected.device);
            for outputs in [16, 5] {
                let empty = row_product(of_width(0, 9), of_width(outputs, 9));
                assert_eq!(empty.dims(), [0, outputs]);
            }
        }
    }

    /// Output and gradients of each function on `device` for products of `[rows, inputs, outputs]`, beside those of Burn's
    /// operations on the CPU.
    fn check(device: &Device, sides: &[[usize; 3]], products: &[Product]) {
        for &sides in sides {
            let multiply_plain = |x: Tensor<2>, weight: Tensor<2>| x.matmul(weight.transpose());
            let expected = results(sides, &Device::flex(), multiply_plain);
            for &product in products {
                let found = results(sides, device, product);
                assert!(found == expected, "{sides:?}: {found:?}, not {expected:?}");
            }
        }
    }

    /// Output, gradient of `x` and gradient of the weights. All inputs are -1, 0 or 1, so that sums of their products are
    /// exact in every order and on matrix units.
    fn results(
        [rows, inputs, outputs]: [usize; 3],
        device: &Device,
        product: impl Fn(Tensor<2>, Tensor<2>) -> Tensor<2>,
    ) -> [Vec<f32>; 3] {
        let device = device.clone().autodiff();
        let tensor = |shape: [usize; 2], seed: usize| {
            let values = 0..shape[0] * shape[1];
            let values = values.map(|i| ((i * 7919 + seed) % 31 % 3) as f32 - 1.0);
            let data = TensorData::new(values.collect::<Vec<f32>>(), shape);
            Tensor::<2>::from_data(data, &device)
        };
        let x = tensor([rows, inputs], 1).require_grad();
        let weight = tensor([outputs, inputs], 2).require_grad();
        let output = product(x.clone(), weight.clone());
        assert_eq!(output.dims(), [rows, outputs]);
        let gradients = (output.clone() * tensor([rows, outputs], 3))
            .sum()
            .backward();
        let [of_x, of_weight] = [x, weight].map(|it| it.grad(&gradients).expect("tracked"));
        let gradient_shapes = [of_x.dims(), of_weight.dims()];
        assert_eq!(gradient_shapes, [[rows, inputs], [outputs, inputs]]);
        [output.inner(), of_x, of_weight].map(|it| it.into_data().iter().collect())
    }
}
