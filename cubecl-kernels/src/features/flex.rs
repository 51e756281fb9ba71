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
        write([n, cells, c], |packed| {
            cpu::pack(floats(&feature), [n, c, h * w], packed, cells, 0);
            cpu::clear(packed, [n, cells, c], h * w);
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
        let cells = packed.layout().shape()[1];
        let output = crate::cpu_conv::Output::of(packed.storage_mut());
        cpu::pack(floats(&feature), [n, c, h * w], output, cells, offset);
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

/// Cells of `packed [n, cells, c]` from `offset` on, as `[n, c, h, w]` of `size`.
pub(super) fn unpack(packed: FlexTensor, size: [usize; 2], offset: usize) -> FlexTensor {
    let packed = packed.to_contiguous();
    let shape = packed.layout().shape();
    let [n, cells, c] = [shape[0], shape[1], shape[2]];
    write([n, c, size[0], size[1]], |feature| {
        let plane = size[0] * size[1];
        cpu::unpack(floats(&packed), [n, c, plane], feature, cells, offset);
    })
}
