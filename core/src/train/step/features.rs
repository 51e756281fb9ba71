//! Features and RPN output of whole images in a training step.

use crate::model::{MaskRcnn, PackedPyramid, RpnOutput, prefers_windows};
use crate::train::input::batch::Batch;
use burn::module::Module;
use burn::tensor::{Device, Tensor};

/// Features of a batch, with the autodiff graph if the device has autodiff, and the RPN's output. It has no graph if
/// the losses compute their few predictions again, see `Rpn::at_anchors`.
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
        Self::with(model, batch, device, |pyramid| {
            let cells = pyramid
                .iter()
                .map(|level| level.dims()[2] * level.dims()[3]);
            device.is_autodiff()
                && prefers_windows(&model.config().rpn, cells.sum::<usize>() as u64)
        })
    }

    /// [`Self::new`] with a graph of the RPN over the whole pyramid.
    #[doc(hidden)]
    pub fn with_rpn_graph(model: &MaskRcnn, batch: &Batch, device: &Device) -> Self {
        Self::with(model, batch, device, |_| false)
    }

    fn with(
        model: &MaskRcnn,
        batch: &Batch,
        device: &Device,
        by_windows: impl FnOnce(&[Tensor<4>]) -> bool,
    ) -> Self {
        let images = batch.images(device);
        let [_, _, height, width] = images.dims();
        let pyramid = model.pyramid(images);
        // Before the pyramid is packed: its copy and hidden layers without a graph need not exist at the same time.
        let rpn = match by_windows(&pyramid) {
            true => {
                let levels = pyramid.iter().map(|level| level.clone().inner());
                model.rpn.valid().forward(&levels.collect::<Vec<_>>())
            }
            false => model.rpn.forward(&pyramid),
        };
        Self {
            packed: PackedPyramid::new(&pyramid, &model.config().roi),
            padded: (height, width),
            rpn,
        }
    }

    /// Whether the RPN's output has a graph.
    #[doc(hidden)]
    pub fn has_rpn_graph(&self) -> bool {
        self.rpn.objectness.device().is_autodiff()
    }
}
