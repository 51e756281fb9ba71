//! Sampling of a batch, on the device or on the host.
//!
//! Both samplers return the same [`Samples`]. If the device has the kernels, matching and sampling run there, in a
//! fixed number of slots; otherwise they run on the host, which keeps no more slots than it needs. Both sample the same
//! candidates, because the random key of a candidate is a function of the seed and of its index alone.

use super::features::StepFeatures;
use super::samples::Samples;
use super::targets_device::sample_on_device;
use super::targets_host::sample_on_host;
use crate::config::ModelConfig;
use crate::model::MaskRcnn;
use crate::random::Stream;
use crate::train::input::batch::Batch;
use burn::tensor::ExecutionError;
use mrcnn_kernels::selects_on_device;

/// Matches and samples. `stream` determines the samples: use a different one for every step.
///
/// On the device nothing is read; on the host the RPN output is read once.
pub fn sample(
    model: &MaskRcnn,
    batch: &Batch,
    step: &StepFeatures,
    stream: Stream,
) -> Result<Samples, ExecutionError> {
    let ModelConfig { rpn, roi, .. } = model.config();
    let limits = [
        rpn.pre_nms_train,
        rpn.post_nms_train,
        rpn.batch_per_image,
        roi.batch_per_image,
    ];
    match selects_on_device(&step.rpn.objectness.device(), &limits) {
        true => Ok(sample_on_device(model, batch, step, stream)),
        false => sample_on_host(model, batch, step, stream),
    }
}
