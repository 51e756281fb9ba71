//! Features and RPN output of whole images in a training step.

use crate::model::{Features, MaskRcnn, RpnOutput};
use crate::train::input::batch::Batch;
use burn::tensor::Device;

/// Features and RPN output of a batch, with the autodiff graph if `device` has autodiff.
pub struct StepFeatures {
    pub(crate) features: Features,
    pub(crate) rpn: RpnOutput,
}

impl StepFeatures {
    /// Runs the backbone and the RPN.
    pub fn new(model: &MaskRcnn, batch: &Batch, device: &Device) -> Self {
        let features = model.features(batch.images(device));
        let rpn = model.rpn.forward(&features.pyramid);
        Self { features, rpn }
    }
}
