//! Non-maximum suppression in groups of slots on flex, whose tensors are in host memory.

use super::NmsOps;
use super::cpu::suppress;
use crate::cpu_conv::Output;
use crate::cpu_tasks::for_each_task;
use crate::flex::floats;
use burn::backend::Flex;
use burn::backend::tensor::FloatTensor;
use burn::tensor::TensorData;
use burn_flex::FlexTensor;

/// The scores of the kept slots in each group of `k`, and minus infinity for the others.
///
/// `boxes [g, k, 4]`, `scores [g, k]`, row-major, best first; minus infinity and NaN mark empty slots.
fn nms_sorted(boxes: &[f32], scores: &[f32], k: usize, iou_threshold: f64) -> Vec<f32> {
    let boxes = boxes.as_chunks::<4>().0;
    let mut kept = vec![f32::NEG_INFINITY; scores.len()];
    let out = Output::of(&mut kept);
    let groups = scores.len() / k.max(1);
    // Estimated operations, between the best and the worst case: each slot is compared with some of the slots before it.
    for_each_task(groups, scores.len() * k, |group| {
        let range = group * k..(group + 1) * k;
        let (boxes, scores) = (&boxes[range.clone()], &scores[range]);
        // SAFETY: one task per group.
        let kept = unsafe { out.slice(group * k, k) };
        let valid = (0..k).filter(|&slot| scores[slot] > f32::NEG_INFINITY);
        for slot in suppress(boxes, valid.collect(), iou_threshold) {
            kept[slot] = scores[slot];
        }
    });
    kept
}

impl NmsOps for Flex {
    fn nms_sorted(
        boxes: FloatTensor<Self>,
        scores: FloatTensor<Self>,
        iou_threshold: f64,
    ) -> FloatTensor<Self> {
        let (boxes, scores) = (boxes.to_contiguous(), scores.to_contiguous());
        let shape = scores.layout().shape().clone();
        let kept = nms_sorted(floats(&boxes), floats(&scores), shape[1], iou_threshold);
        FlexTensor::from_data(TensorData::new(kept, shape))
    }
}
