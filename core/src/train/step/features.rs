//! Features and RPN output of whole images in a training step.

use crate::model::{Features, MaskRcnn, PackedPyramid, RpnOutput};
use crate::train::input::batch::Batch;
use burn::module::Module;
use burn::tensor::Device;

/// Features of a batch, with the autodiff graph if the device has autodiff, and the RPN's output without one: the losses
/// compute their few predictions again.
pub struct StepFeatures {
    /// P2 to P5.
    pub(crate) packed: PackedPyramid,
    /// Height and width of the padded images in pixels.
    pub(crate) padded: (usize, usize),
    pub(crate) rpn: RpnOutput,
}

impl StepFeatures {
    /// Runs the backbone and the RPN.
    pub fn new(model: &MaskRcnn, batch: &Batch, device: &Device) -> Self {
        let Features {
            pyramid,
            packed,
            padded,
        } = model.features(batch.images(device));
        let rpn = match device.is_autodiff() {
            true => {
                let pyramid: Vec<_> = pyramid.into_iter().map(|level| level.inner()).collect();
                model.rpn.valid().forward(&pyramid)
            }
            false => model.rpn.forward(&pyramid),
        };
        Self {
            packed,
            padded,
            rpn,
        }
    }
}
