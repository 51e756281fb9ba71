//! Scored boxes in fixed slots, best first, for static shapes on a device.
//!
//! A padded slot has a score of minus infinity; its box is finite and meaningless.

#[cfg(feature = "train")]
use burn::tensor::kind::Autodiff;
use burn::tensor::{Device, ExecutionError, Int, Tensor, TensorData};
use mrcnn_kernels::{
    can_select, gather_boxes, has_selection_kernels, nms_sorted, top_k_segments, upload_dense,
};
use std::slice;

/// Scored boxes of several images.
#[derive(Clone, Debug)]
pub struct BoxSlots {
    /// `[n, slots, 4]`, pixels of the resized images.
    pub boxes: Tensor<3>,
    /// `[n, slots]`; minus infinity marks a padded slot.
    pub scores: Tensor<2>,
}

impl BoxSlots {
    /// Removes the slots that are padding in every image on the CPU, where the host can read them without waiting, so
    /// that the heads compute no more than they need. On a GPU the shapes stay fixed.
    pub(crate) fn trimmed(self) -> Result<Self, ExecutionError> {
        if has_selection_kernels(&self.scores.device()) {
            return Ok(self);
        }
        let [_, slots] = self.scores.dims();
        let scores = self.scores.clone().try_into_data()?;
        let scores: Vec<f32> = scores.iter::<f32>().collect();
        // Padding comes last.
        let valid_count =
            |scores: &[f32]| scores.partition_point(|&score| score > f32::NEG_INFINITY);
        let most = scores
            .chunks(slots)
            .map(valid_count)
            .max()
            .unwrap_or(0)
            .max(1);
        Ok(Self {
            boxes: self.boxes.narrow(1, 0, most),
            scores: self.scores.narrow(1, 0, most),
        })
    }

    /// The same slots on `device`.
    pub(crate) async fn moved(self, device: &Device) -> Result<Self, ExecutionError> {
        Ok(Self {
            boxes: moved(self.boxes, device).await?,
            scores: moved(self.scores, device).await?,
        })
    }

    /// Non-maximum suppression within each of `runs` runs of slots of equal length, each sorted, best first.
    pub(crate) fn suppress(self, runs: usize, iou_threshold: f64) -> Self {
        let [n, slots] = self.scores.dims();
        let [groups, k] = [n * runs, slots / runs];
        let scores = nms_sorted(
            self.boxes.clone().reshape([groups, k, 4]),
            self.scores.reshape([groups, k]),
            iou_threshold,
        );
        Self {
            boxes: self.boxes,
            scores: scores.reshape([n, slots]),
        }
    }

    /// The `k` best slots of each image, and their former slots, `[n, k]` (-1 for padded slots).
    pub(crate) fn best(self, k: usize) -> (Self, Tensor<2, Int>) {
        let [n, slots] = self.scores.dims();
        let all = 0..slots;
        let (scores, places) = top_k_segments(self.scores, slice::from_ref(&all), k);
        let places = places.reshape([n, k]);
        let best = Self {
            boxes: gather_boxes(self.boxes, places.clone()),
            scores: scores.reshape([n, k]),
        };
        (best, places)
    }
}

/// The device that selects numbers of boxes up to `limits`: `device` itself, or the CPU if its kernels cannot.
pub(crate) fn selection_device(
    device: &Device,
    limits: &[usize],
) -> Result<Device, ExecutionError> {
    let device = device.clone().inner();
    if can_select(&device, limits) {
        return Ok(device);
    }
    #[cfg(feature = "flex")]
    return Ok(Device::flex());
    #[cfg(not(feature = "flex"))]
    Err(ExecutionError::WithContext {
        reason: format!(
            "the settings select up to {:?} boxes at a time and this device at most {}; lower \
             model.rpn.pre_nms_*, model.rpn.post_nms_* and model.roi.max_detections, or build with the feature `flex`",
            limits.iter().max(),
            mrcnn_kernels::MAX_TOP_K
        ),
    })
}

/// The same values on `device`; the host reads them only if they are on another one.
pub(crate) async fn moved<const D: usize>(
    tensor: Tensor<D>,
    device: &Device,
) -> Result<Tensor<D>, ExecutionError> {
    if tensor.device() == *device {
        return Ok(tensor);
    }
    Ok(Tensor::from_data(tensor.into_data_async().await?, device))
}

/// A constant for use together with tensors on `device`, which may have autodiff.
#[cfg(feature = "train")]
pub(crate) fn on<const D: usize, K: Autodiff>(
    tensor: &Tensor<D, K>,
    device: &Device,
) -> Tensor<D, K> {
    let tensor = tensor.clone().to_device(&device.clone().inner());
    match device.is_autodiff() {
        true => Tensor::from_inner(tensor),
        false => tensor,
    }
}

/// Image sizes (height, width) in pixels as `[n, 2]`.
pub fn image_sizes(sizes: &[(u32, u32)], device: &Device) -> Tensor<2> {
    let values: Vec<f32> = sizes
        .iter()
        .flat_map(|&(height, width)| [height as f32, width as f32])
        .collect();
    upload_dense(TensorData::new(values, [sizes.len(), 2]), device)
}
