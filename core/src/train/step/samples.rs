//! Training samples: sampled anchors, RoIs and mask RoIs of a batch with their targets, and their counts.

use crate::model::{Rois, on};
use burn::tensor::{Device, ExecutionError, Int, Tensor, TensorData};
use mrcnn_kernels::{Count, Divisor, has_selection_kernels, sum_each};

/// Training samples of a batch and their targets; without a graph.
#[derive(Clone, Debug)]
pub struct Samples {
    /// Anchors, for the losses of the RPN.
    pub anchors: AnchorSamples,
    /// RoIs, for the losses of the box head.
    pub rois: RoiSamples,
    /// The RoIs that are objects, for the loss of the mask head.
    pub masks: MaskSamples,
}

/// Sampled anchors of `n` images in `a` slots per image.
#[derive(Clone, Debug)]
pub struct AnchorSamples {
    /// Index of the anchor, `[n, a]`; 0 in padded slots.
    pub index: Tensor<2, Int>,
    /// 1 for objects, 0 for background and padding, `[n, a]`.
    pub labels: Tensor<2>,
    /// Box deltas of objects, 0 elsewhere, `[n, a, 4]`.
    pub deltas: Tensor<3>,
    /// Valid mask: 1 for samples, 0 for padding, `[n, a]`.
    pub valid: Tensor<2>,
}

/// Sampled RoIs of all images.
#[derive(Clone, Debug)]
pub struct RoiSamples {
    /// `r` RoIs.
    pub rois: Rois,
    /// Class, 0 for background and padding, `[r]`.
    pub labels: Tensor<1, Int>,
    /// Box deltas of objects, 0 elsewhere, `[r, 4]`.
    pub deltas: Tensor<2>,
    /// Valid mask, `[r]`.
    pub valid: Tensor<1>,
}

/// RoIs of objects of all images.
#[derive(Clone, Debug)]
pub struct MaskSamples {
    /// `m` RoIs.
    pub rois: Rois,
    /// Class, 0 for padding, `[m]`.
    pub labels: Tensor<1, Int>,
    /// Mask targets in `0..=1`, `[m, side * side]`.
    pub targets: Tensor<2>,
    /// Valid mask, `[m]`.
    pub valid: Tensor<1>,
}

impl Samples {
    /// The numbers of samples by which the losses are divided.
    pub fn counts(&self) -> SampleCounts {
        let (anchors, rois, masks) = (&self.anchors, &self.rois, &self.masks);
        let anchors = anchors.valid.clone().flatten(0, 1);
        SampleCounts {
            values: sum_each(&[anchors, rois.valid.clone(), masks.valid.clone()]),
            min: 1.0,
        }
    }

    /// Removes padded RoIs if the host can read the valid masks without waiting (see [`has_selection_kernels`]).
    pub(super) fn dense(self) -> Result<Self, ExecutionError> {
        if has_selection_kernels(&self.rois.valid.device()) {
            return Ok(self);
        }
        let (rois, masks) = (self.rois, self.masks);
        let [of_rois, of_masks] = [valid_slots(&rois.valid)?, valid_slots(&masks.valid)?];
        Ok(Self {
            anchors: self.anchors,
            rois: RoiSamples {
                rois: rois.rois.select(of_rois.clone()),
                labels: rois.labels.select(0, of_rois.clone()),
                deltas: rois.deltas.select(0, of_rois.clone()),
                valid: rois.valid.select(0, of_rois),
            },
            masks: MaskSamples {
                rois: masks.rois.select(of_masks.clone()),
                labels: masks.labels.select(0, of_masks.clone()),
                targets: masks.targets.select(0, of_masks.clone()),
                valid: masks.valid.select(0, of_masks),
            },
        })
    }

    /// The samples for use together with tensors on `device`, which may have autodiff.
    pub(super) fn on(&self, device: &Device) -> Self {
        let (anchors, rois, masks) = (&self.anchors, &self.rois, &self.masks);
        Self {
            anchors: AnchorSamples {
                index: on(&anchors.index, device),
                labels: on(&anchors.labels, device),
                deltas: on(&anchors.deltas, device),
                valid: on(&anchors.valid, device),
            },
            rois: RoiSamples {
                rois: rois.rois.on(device),
                labels: on(&rois.labels, device),
                deltas: on(&rois.deltas, device),
                valid: on(&rois.valid, device),
            },
            masks: MaskSamples {
                rois: masks.rois.on(device),
                labels: on(&masks.labels, device),
                targets: on(&masks.targets, device),
                valid: on(&masks.valid, device),
            },
        }
    }
}

/// Indices of the valid slots, or of one padded slot if there are none, so that every head runs and every parameter
/// gets a gradient.
fn valid_slots(valid: &Tensor<1>) -> Result<Tensor<1, Int>, ExecutionError> {
    let values = valid.clone().try_into_data()?;
    let slots = values.iter::<f32>().enumerate();
    let mut indices: Vec<i32> = slots
        .filter(|(_, valid)| *valid > 0.0)
        .map(|(slot, _)| slot as i32)
        .collect();
    if indices.is_empty() {
        indices.push(0);
    }
    let count = indices.len();
    Ok(Tensor::from_data(
        TensorData::new(indices, [count]),
        &valid.device(),
    ))
}

/// Numbers of sampled anchors, sampled RoIs and objects, on the device.
#[derive(Clone, Debug)]
pub struct SampleCounts {
    /// `[3]`.
    values: Tensor<1>,
    /// Lower bound of a divisor, so that the loss of no samples is 0.
    min: f64,
}

impl SampleCounts {
    /// Counts of no samples.
    pub(crate) fn zeros(device: &Device) -> Self {
        Self {
            values: Tensor::zeros([3], device),
            min: 1.0,
        }
    }

    /// The sums of the counts of both.
    pub(crate) fn plus(self, other: Self) -> Self {
        Self {
            values: self.values + other.values,
            min: self.min,
        }
    }

    /// The mean over `world` ranks, computed by `mean`. The mean of the ranks' losses divided by it is the loss of the
    /// whole step.
    pub(crate) fn mean_over<E>(
        self,
        world: usize,
        mean: impl FnOnce(Tensor<1>) -> Result<Tensor<1>, E>,
    ) -> Result<Self, E> {
        Ok(Self {
            values: mean(self.values)?,
            min: self.min / world as f64,
        })
    }

    /// Sampled anchors, sampled RoIs, objects, as divisors of losses.
    pub(super) fn divisors(&self) -> [Divisor; 3] {
        [0, 1, 2].map(|index| Divisor {
            counts: self.values.clone(),
            count: Count {
                index,
                min: self.min,
                factor: 1.0,
            },
        })
    }

    /// Reads the counts from the device.
    #[doc(hidden)]
    pub fn read(&self) -> Result<[usize; 3], ExecutionError> {
        let values = self.values.clone().try_into_data()?;
        let mut values = values.iter::<f64>();
        Ok(std::array::from_fn(|_| {
            values.next().unwrap_or(0.0) as usize
        }))
    }
}
