//! The convolution on GPUs with matrix units.

use super::Conv1x1Ops;
use crate::dtype::cast;
use crate::fused_product::{Epilogue, product};
use crate::launch::{channels_last, dense, view};
use crate::links::Links;
use crate::row_product::RowProductOps;
use burn::backend::tensor::FloatTensor;
use burn::tensor::Shape;
use burn_cubecl::CubeBackend;
use burn_cubecl::ops::{permute_nhwc_to_nchw, reshape};
use burn_cubecl::tensor::CubeTensor;

impl Conv1x1Ops for CubeBackend {
    fn conv1x1(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        relu: bool,
        _links: Links,
    ) -> FloatTensor<Self> {
        forward(x, weight, bias, None, relu)
    }

    fn conv1x1_with_residual(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        residual: FloatTensor<Self>,
        relu: bool,
    ) -> FloatTensor<Self> {
        forward(x, weight, bias, Some(residual), relu)
    }

    fn conv1x1_input_gradient(
        grad: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        x: FloatTensor<Self>,
        is_rectified: bool,
    ) -> FloatTensor<Self> {
        let epilogue = Epilogue {
            rectified: is_rectified.then(|| rows(x)),
            ..Default::default()
        };
        input_gradient(grad, weight, epilogue)
    }

    fn conv1x1_gradient_sum(
        grad: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        x: FloatTensor<Self>,
        other: FloatTensor<Self>,
        is_rectified: bool,
    ) -> FloatTensor<Self> {
        let epilogue = Epilogue {
            residual: Some(rows(other)),
            rectified: is_rectified.then(|| rows(x)),
            ..Default::default()
        };
        input_gradient(grad, weight, epilogue)
    }

    fn add_to_subsample(
        sum: FloatTensor<Self>,
        values: FloatTensor<Self>,
        stride: usize,
    ) -> FloatTensor<Self> {
        super::strided::add(sum, values, stride)
    }

    fn conv1x1_weight_gradient(x: FloatTensor<Self>, grad: FloatTensor<Self>) -> FloatTensor<Self> {
        let ([_, c, ..], [_, o, ..]) = (x.meta.shape().dims::<4>(), grad.meta.shape().dims::<4>());
        let gradient = Self::row_product_gradient(rows(grad), rows(x));
        reshape(gradient, Shape::new([o, c, 1, 1]))
    }
}

fn forward(
    x: CubeTensor,
    weight: CubeTensor,
    bias: CubeTensor,
    residual: Option<CubeTensor>,
    relu: bool,
) -> CubeTensor {
    let (pixels, [o, c, ..]) = (x.meta.shape().dims(), weight.meta.shape().dims::<4>());
    let weight = cast::<CubeBackend>(weight, x.dtype);
    // Rows of weights may be padded.
    let strides = [weight.meta.strides()[1], weight.meta.strides()[0]];
    let epilogue = Epilogue {
        bias: Some(dense(bias)),
        residual: residual.map(rows),
        rectified: None,
        relu,
    };
    let output = product(rows(x), view(weight, [c, o], strides), epilogue);
    images(output, pixels)
}

fn input_gradient(grad: CubeTensor, weight: CubeTensor, epilogue: Epilogue) -> CubeTensor {
    let (pixels, [o, c, ..]) = (grad.meta.shape().dims(), weight.meta.shape().dims::<4>());
    let weight = cast::<CubeBackend>(weight, grad.dtype);
    let strides = [weight.meta.strides()[0], weight.meta.strides()[1]];
    let gradient = product(rows(grad), view(weight, [o, c], strides), epilogue);
    images(gradient, pixels)
}

/// `[n, c, h, w]` -> dense `[n * h * w, c]`; a view of what is channels-last.
fn rows(x: CubeTensor) -> CubeTensor {
    let [n, c, h, w] = x.meta.shape().dims();
    reshape(channels_last(x), Shape::new([n * h * w, c]))
}

/// `[n * h * w, o]` -> `[n, o, h, w]`, channels-last.
fn images(rows: CubeTensor, [n, _, h, w]: [usize; 4]) -> CubeTensor {
    let [_, channels] = rows.meta.shape().dims();
    permute_nhwc_to_nchw(reshape(rows, Shape::new([n, h, w, channels])))
}
