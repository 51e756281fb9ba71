//! Operations on feature maps on flex, whose tensors are in host memory.

use super::{cpu, ops::FeatureOps};
use crate::cpu_memory::{contiguous, write};
use crate::flex::{dims, floats};
use burn::backend::{Flex, tensor::FloatTensor};
use burn_flex::FlexTensor;

impl FeatureOps for Flex {
    fn max_pool3x3(x: FloatTensor<Self>) -> FloatTensor<Self> {
        let x = x.to_contiguous();
        let [n, c, h, w] = dims(&x);
        write([n, c, h.div_ceil(2), w.div_ceil(2)], |output| {
            cpu::max_pool(floats(&x), [h, w], output);
        })
    }

    fn pack_first(feature: FloatTensor<Self>, cells: usize) -> FloatTensor<Self> {
        let feature = feature.to_contiguous();
        let [n, c, h, w] = dims(&feature);
        write([cells, c], |packed| {
            cpu::pack(floats(&feature), [n, c, h * w], packed, 0);
            cpu::clear(packed, [cells, c], n * h * w);
        })
    }

    fn pack_next(
        packed: FloatTensor<Self>,
        feature: FloatTensor<Self>,
        offset: usize,
    ) -> FloatTensor<Self> {
        let feature = feature.to_contiguous();
        let [n, c, h, w] = dims(&feature);
        let mut packed = contiguous(packed);
        let output = crate::cpu_conv::Output::of(packed.storage_mut());
        cpu::pack(floats(&feature), [n, c, h * w], output, offset);
        packed
    }
}

/// The gradient of `x`; `grad` is that of the pooled cells.
pub(super) fn max_pool3x3_gradient(x: FlexTensor, grad: FlexTensor) -> FlexTensor {
    let (x, grad) = (x.to_contiguous(), grad.to_contiguous());
    let [n, c, h, w] = dims(&x);
    write([n, c, h, w], |gradient| {
        cpu::max_pool_gradient(floats(&x), [h, w], floats(&grad), gradient);
    })
}

/// Cells of `packed [cells, c]` from `offset` on, as a feature map of `shape [n, c, h, w]`.
pub(super) fn unpack(packed: FlexTensor, shape: [usize; 4], offset: usize) -> FlexTensor {
    let packed = packed.to_contiguous();
    let [n, c, h, w] = shape;
    write(shape, |feature| {
        cpu::unpack(floats(&packed), [n, c, h * w], feature, offset);
    })
}
