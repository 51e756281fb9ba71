//! Names of the model's own parameters that code outside `import` compares. They follow from the fields of the modules
//! in `model`.

use super::state::StateDict;

/// Prefix of the backbone's parameters, without the FPN.
const BODY: &str = "backbone.body.";

/// Prefix of the parameters of the box and mask heads.
const ROI_HEADS: &str = "roi_heads.";

/// The parameter with one value per class and the background.
pub(super) const CLASS_BIAS: &str = "roi_heads.box_predictor.cls_score.bias";

/// Parameters whose first dimension is the number of classes, or a multiple of it.
pub(super) const CLASS_TENSORS: [&str; 6] = [
    "roi_heads.box_predictor.cls_score.weight",
    CLASS_BIAS,
    "roi_heads.box_predictor.bbox_pred.weight",
    "roi_heads.box_predictor.bbox_pred.bias",
    "roi_heads.mask_predictor.mask_fcn_logits.weight",
    "roi_heads.mask_predictor.mask_fcn_logits.bias",
];

/// Name of torch's buffer that counts batches, which is not used.
const TRACKED: &str = "num_batches_tracked";

/// Whether a parameter is of the backbone, without the FPN.
pub(super) fn is_body(name: &str) -> bool {
    name.starts_with(BODY)
}

/// Whether a tensor is a counter of torch, which is not used.
pub(super) fn is_counter(name: &str) -> bool {
    name.ends_with(TRACKED)
}

/// Whether there are box and mask heads; weights of a backbone alone have none.
pub(crate) fn has_heads(tensors: &StateDict) -> bool {
    tensors.keys().any(|name| name.starts_with(ROI_HEADS))
}
