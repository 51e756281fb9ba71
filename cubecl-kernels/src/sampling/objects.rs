//! The sampled objects of each image, for the mask head.

use super::Choice;
use burn::tensor::{Int, Tensor};

/// The first `q` slots of `n` images, in which all sampled objects are.
#[derive(Clone, Debug)]
pub struct ObjectSlots {
    /// In pixels, `[n, q, 4]`.
    pub boxes: Tensor<3>,
    /// Class; 0 in slots without an object, `[n, q]`.
    pub labels: Tensor<2, Int>,
    /// As [`Choice::matched`], `[n, q]`.
    pub matched: Tensor<2, Int>,
    /// 1 for objects, 0 elsewhere, f32, `[n, q]`.
    pub is_object: Tensor<2>,
}

/// The first `count` slots of each image; objects come first in a choice.
///
/// * `boxes` - `[n, k, 4]`, f32; `labels` - `[n, k]`: those of the `k` chosen candidates.
///
/// # Panics
///
/// If the shapes do not match, or `count` is 0 or above `k`.
pub fn object_slots(
    boxes: Tensor<3>,
    labels: Tensor<2, Int>,
    choice: &Choice,
    count: usize,
) -> ObjectSlots {
    let [n, k] = choice.matched.dims();
    assert_eq!(
        (boxes.dims(), labels.dims()),
        ([n, k, 4], [n, k]),
        "object_slots: a box and a label per chosen candidate"
    );
    assert!(
        (1..=k).contains(&count),
        "object_slots: {count} of {k} slots per image; use 1 to {k}"
    );
    #[cfg(any(feature = "wgpu", feature = "cuda"))]
    if crate::capability::is_plain_gpu_f32(&boxes) && n > 0 {
        let matched = choice.matched.clone();
        let (boxes, [labels, matched], is_object) =
            super::objects_cube::slots(boxes, labels, matched, count);
        return ObjectSlots {
            boxes,
            labels,
            matched,
            is_object,
        };
    }
    ObjectSlots {
        boxes: boxes.narrow(1, 0, count),
        labels: labels.narrow(1, 0, count),
        matched: choice.matched.clone().narrow(1, 0, count),
        is_object: choice.is_object.clone().narrow(1, 0, count),
    }
}
