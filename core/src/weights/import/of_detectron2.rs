//! Import of Detectron2's models, and of the backbones that it starts from.

use super::imported::{Format, ImportOptions, Imported, imported};
use super::{names_caffe2, names_detectron2};
use crate::config::{ChannelOrder, Config};
use crate::weights::state::StateDict;
use std::collections::BTreeMap;

/// A detector of Detectron2.
pub(super) fn from_detectron2(
    tensors: StateDict,
    mut ignored: Vec<String>,
    options: &ImportOptions,
) -> Result<Imported, String> {
    let mut renamed = StateDict::new();
    let mut pixels = BTreeMap::new();
    for (name, data) in tensors {
        match names_detectron2::rename(&name) {
            Some(ours) => drop(renamed.insert(ours, data)),
            None if name == "pixel_mean" || name == "pixel_std" => {
                pixels.insert(name, data.iter::<f32>().collect::<Vec<f32>>());
            }
            None => ignored.push(name),
        }
    }
    names_detectron2::background_first(&mut renamed);
    let mut imported = imported(Format::Detectron2, renamed, ignored, options)?;
    let config = &mut imported.checkpoint.config;
    config.model.rpn.round_anchors = false;
    config.model.roi.aligned = true;
    config.model.roi.sampling_ratio = 0;
    let known = pixels.remove("pixel_mean").zip(pixels.remove("pixel_std"));
    let stated = known.is_some();
    let (mean, std) = known.unwrap_or_else(|| published(config.model.groups));
    let is_bgr = set_pixels(config, &mean, &std)?;
    if let Some(theirs) = &options.detectron2 {
        theirs.apply(config)?;
        return Ok(imported);
    }
    imported.notes.push(format!(
        "{} {} channel order, stride in the {} convolution; for another model give its config.yaml with \
         --detectron2-config",
        if stated {
            "by its pixel_mean and pixel_std:"
        } else {
            "as in Detectron2's model zoo:"
        },
        if is_bgr { "BGR" } else { "RGB" },
        if config.model.stride_in_1x1 { "1x1" } else { "3x3" },
    ));
    Ok(imported)
}

/// A backbone with Caffe2's names.
pub(super) fn from_caffe2(
    tensors: StateDict,
    mut ignored: Vec<String>,
) -> Result<Imported, String> {
    let mut body = StateDict::new();
    for (name, data) in tensors {
        match names_caffe2::rename(&name) {
            Some(ours) => drop(body.insert(ours, data)),
            None => ignored.push(name),
        }
    }
    names_caffe2::add_statistics(&mut body);
    let mut imported = imported(Format::Backbone, body, ignored, &ImportOptions::default())?;
    let config = &mut imported.checkpoint.config;
    let (mean, std) = published(config.model.groups);
    set_pixels(config, &mean, &std)?;
    imported.notes.push(format!(
        "a backbone of Detectron2: BGR channel order, stride in the {} convolution",
        if config.model.stride_in_1x1 {
            "1x1"
        } else {
            "3x3"
        },
    ));
    Ok(imported)
}

/// Mean and standard deviation of B, G and R in `0..=255` of Detectron2's model zoo: ResNets are those of MSRA, and
/// ResNeXt is not.
fn published(groups: usize) -> (Vec<f32>, Vec<f32>) {
    let std = match groups {
        1 => vec![1.0; 3],
        _ => vec![57.375, 57.12, 58.395],
    };
    (vec![103.53, 116.28, 123.675], std)
}

/// Sets mean, standard deviation, order of the channels and place of the stride; returns whether blue is the first
/// channel.
fn set_pixels(config: &mut Config, mean: &[f32], std: &[f32]) -> Result<bool, String> {
    let (&[m0, m1, m2], &[s0, s1, s2]) = (mean, std) else {
        return Err("pixel_mean or pixel_std does not have 3 values".into());
    };
    // Red is the brightest channel of COCO: the order of the mean is the order of the channels.
    let is_bgr = m0 < m2;
    let rgb = |v: [f32; 3]| if is_bgr { [v[2], v[1], v[0]] } else { v }.map(|v| v / 255.0);
    config.image.mean = rgb([m0, m1, m2]);
    config.image.std = rgb([s0, s1, s2]);
    config.image.channels = match is_bgr {
        true => ChannelOrder::Bgr,
        false => ChannelOrder::Rgb,
    };
    // The MSRA backbones have a standard deviation of 1; those of torchvision have another one.
    config.model.stride_in_1x1 = s0 == 1.0;
    Ok(is_bgr)
}
