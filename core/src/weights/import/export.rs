//! Export of weights for torchvision.

use crate::config::{Backbone, Config, ImageConfig, ModelConfig, NormKind, RpnConfig};
use crate::weights::error::WeightsError;
use crate::weights::own::{Checkpoint, StoredAs, write_tensors};
use std::collections::HashMap;
use std::path::Path;

/// Writes safetensors that a torchvision model of the same shape loads with
/// `load_state_dict(load_file(path), strict=True)`.
///
/// Returns the settings that this model needs, because torchvision does not store them with the weights. Fails
/// if torchvision has no such network.
pub fn export_torchvision(
    path: &Path,
    checkpoint: &Checkpoint,
    stored_as: StoredAs,
) -> Result<Vec<String>, WeightsError> {
    let model = &checkpoint.config.model;
    let unsupported = |reason: &str| WeightsError::Unsupported {
        path: path.into(),
        reason: format!("torchvision has no such network: {reason}"),
    };
    if !matches!(model.norm, NormKind::FrozenBn | NormKind::BatchNorm) {
        return Err(unsupported("model.norm is not a batch norm"));
    }
    if model.head_norm == NormKind::GroupNorm {
        return Err(unsupported("model.head_norm is group_norm"));
    }
    if model.num_classes == 0 {
        return Err(unsupported("it is a backbone without heads"));
    }
    if model.stride_in_1x1 {
        return Err(unsupported("model.stride_in_1x1 is true"));
    }
    let header = HashMap::from([("format".to_string(), "pt".to_string())]);
    write_tensors(path, &checkpoint.tensors, stored_as, header)?;
    Ok(differences(&checkpoint.config))
}

/// Description of the network in torchvision's terms, unless it is `maskrcnn_resnet50_fpn` with another depth.
fn architecture(model: &ModelConfig) -> Option<String> {
    let has_norm = model.head_norm != NormKind::None;
    let is_resnet = (model.groups, model.width_per_group) == (1, 64);
    let heads = (model.rpn.convs, model.box_head.convs, has_norm);
    match (heads, is_resnet) {
        ((1, 0, false), true) => None,
        ((2, 4, true), true) if model.backbone == Backbone::Resnet50 => {
            Some("the network is maskrcnn_resnet50_fpn_v2".into())
        }
        _ => {
            let norm = if has_norm { "BatchNorm2d" } else { "None" };
            Some(format!(
                "a ResNet with groups={} and width_per_group={}, RPNHead with conv_depth={}, {} convolutions in the box \
                 head, norm_layer={norm} in the FPN, the box head and the mask head",
                model.groups, model.width_per_group, model.rpn.convs, model.box_head.convs
            ))
        }
    }
}

/// Settings that differ from torchvision's defaults.
fn differences(config: &Config) -> Vec<String> {
    let (model, image) = (&config.model, &config.image);
    let (plain, plain_image) = (ModelConfig::default(), ImageConfig::default());
    let mut differences: Vec<String> = architecture(model).into_iter().collect();
    let mut note = |differs: bool, text: String| differences.extend(differs.then_some(text));
    note(
        model.num_classes != 91,
        format!("num_classes={}", model.num_classes),
    );
    note(
        model.norm_eps != plain.norm_eps,
        format!("batch norm's eps = {}", model.norm_eps),
    );
    let rpn = RpnConfig {
        convs: plain.rpn.convs,
        ..model.rpn.clone()
    };
    note(
        rpn != plain.rpn,
        "the RPN's settings differ: see the configuration".into(),
    );
    note(model.roi.aligned, "RoIAlign with aligned=True".into());
    note(
        model.roi.box_weights != plain.roi.box_weights,
        format!("bbox_reg_weights={:?}", model.roi.box_weights),
    );
    note(
        (image.min_size, image.max_size) != (plain_image.min_size, plain_image.max_size),
        format!("min_size={}, max_size={}", image.min_size, image.max_size),
    );
    note(
        (image.mean, image.std) != (plain_image.mean, plain_image.std),
        format!("image_mean={:?}, image_std={:?}", image.mean, image.std),
    );
    note(
        image.channels != plain_image.channels,
        "images in BGR order".into(),
    );
    note(
        model.roi.sampling_ratio != plain.roi.sampling_ratio,
        format!("RoIAlign with sampling_ratio={}", model.roi.sampling_ratio),
    );
    note(
        image.fit != plain_image.fit,
        "images are fitted into a box of min_size x max_size".into(),
    );
    let (roi, plain_roi) = (&model.roi, &plain.roi);
    note(
        roi.score_threshold != plain_roi.score_threshold,
        format!("box_score_thresh={}", roi.score_threshold),
    );
    note(
        roi.nms_iou != plain_roi.nms_iou,
        format!("box_nms_thresh={}", roi.nms_iou),
    );
    note(
        roi.max_detections != plain_roi.max_detections,
        format!("box_detections_per_img={}", roi.max_detections),
    );
    differences
}
