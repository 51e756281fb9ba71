//! Features and RPN output of whole images in a training step.

use super::cut::Cut;
use crate::model::{MaskRcnn, PackedPyramid, RpnOutput, prefers_windows};
use crate::train::input::batch::Batch;
use burn::module::Module;
use burn::tensor::{Device, Tensor};

/// Inputs of the losses of a batch, with the autodiff graph if the device has autodiff.
pub struct LossFeatures {
    /// P2 to P5.
    pub(crate) packed: PackedPyramid,
    /// Rows and columns of each level of the RPN.
    pub(crate) grids: Vec<(usize, usize)>,
    /// The RPN's output; `None` if the losses compute their few predictions themselves, see `Rpn::at_anchors`.
    pub(crate) rpn: Option<RpnOutput>,
    /// The cut of the graph; `None` if it is whole.
    pub(crate) cut: Option<Cut>,
}

impl LossFeatures {
    /// Runs the backbone, and the RPN if the losses read its output. The graph is cut at the pyramid if `is_cut`.
    pub(crate) fn new(model: &MaskRcnn, batch: &Batch, device: &Device, is_cut: bool) -> Self {
        let (pyramid, cut) = pyramid(model, batch.images(device), is_cut);
        let reads_all = !uses_windows(model, &pyramid);
        let rpn = reads_all.then(|| model.rpn.forward(&pyramid));
        Self::of(model, &pyramid, cut, rpn)
    }

    fn of(
        model: &MaskRcnn,
        pyramid: &[Tensor<4>],
        cut: Option<Cut>,
        rpn: Option<RpnOutput>,
    ) -> Self {
        Self {
            packed: PackedPyramid::new(pyramid, &model.config().roi),
            grids: grids(pyramid),
            rpn,
            cut,
        }
    }
}

/// Features of a batch, and the RPN's output, from whose proposals RoIs are sampled.
pub struct StepFeatures {
    /// Height and width of the padded images in pixels.
    pub(crate) padded: (usize, usize),
    /// Without a graph.
    pub(crate) rpn: RpnOutput,
    losses: LossFeatures,
}

impl StepFeatures {
    /// Runs the backbone and the RPN. The graph is cut at the pyramid if `is_cut`.
    pub fn new(model: &MaskRcnn, batch: &Batch, device: &Device, is_cut: bool) -> Self {
        Self::with(model, batch.images(device), is_cut, uses_windows)
    }

    /// [`Self::new`] of images `[n, 3, h, w]` that are on the device, with a whole graph.
    pub fn of_images(model: &MaskRcnn, images: Tensor<4>) -> Self {
        Self::with(model, images, false, uses_windows)
    }

    /// [`Self::new`] with a whole graph, including that of the RPN over the whole pyramid.
    #[doc(hidden)]
    pub fn with_rpn_graph(model: &MaskRcnn, batch: &Batch, device: &Device) -> Self {
        Self::with(model, batch.images(device), false, |_, _| false)
    }

    fn with(
        model: &MaskRcnn,
        images: Tensor<4>,
        is_cut: bool,
        uses_windows: impl FnOnce(&MaskRcnn, &[Tensor<4>]) -> bool,
    ) -> Self {
        let [_, _, height, width] = images.dims();
        let (pyramid, cut) = pyramid(model, images, is_cut);
        // Before the pyramid is packed: its copy and hidden layers without a graph need not exist at the same time.
        let (rpn, read) = if uses_windows(model, &pyramid) {
            let levels = pyramid.iter().map(|level| level.clone().inner());
            let levels: Vec<_> = levels.collect();
            (model.rpn.valid().forward(&levels), None)
        } else {
            let output = model.rpn.forward(&pyramid);
            (output.clone().untracked(), Some(output))
        };
        Self {
            padded: (height, width),
            rpn,
            losses: LossFeatures::of(model, &pyramid, cut, read),
        }
    }

    /// Whether the losses read the output of the RPN over the whole pyramid.
    #[doc(hidden)]
    pub fn has_rpn_graph(&self) -> bool {
        self.losses.rpn.is_some()
    }
}

impl From<StepFeatures> for LossFeatures {
    fn from(step: StepFeatures) -> Self {
        step.losses
    }
}

/// P2 to P6 as the heads read them, and the cut if `is_cut`.
fn pyramid(model: &MaskRcnn, images: Tensor<4>, is_cut: bool) -> (Vec<Tensor<4>>, Option<Cut>) {
    let pyramid = model.pyramid(images);
    match is_cut {
        true => {
            let (inputs, cut) = Cut::at(pyramid);
            (inputs, Some(cut))
        }
        false => (pyramid, None),
    }
}

/// Whether the losses use windows of cells. Without a graph the predictions of all anchors serve them as well.
fn uses_windows(model: &MaskRcnn, pyramid: &[Tensor<4>]) -> bool {
    let cells = grids(pyramid)
        .into_iter()
        .map(|(rows, columns)| rows * columns);
    let cells = cells.sum::<usize>() as u64;
    pyramid.iter().any(|level| level.device().is_autodiff())
        && prefers_windows(&model.config().rpn, cells)
}

/// Rows and columns of each level.
fn grids(pyramid: &[Tensor<4>]) -> Vec<(usize, usize)> {
    let grid = |level: &Tensor<4>| (level.dims()[2], level.dims()[3]);
    pyramid.iter().map(grid).collect()
}
