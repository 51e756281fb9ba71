//! Import and export of other systems' weights, with files in the formats of those systems.

mod detectron2;
pub(crate) mod detectron2_names;
mod prefixes;
mod tensorflow;
mod torchvision;
mod transfer;

use burn::tensor::Device;
use mrcnn_core::MaskRcnn;
use mrcnn_core::config::ModelConfig;
use mrcnn_core::weights::StateDict;
use mrcnn_core::weights::import::{ImportOptions, Imported, import};
use mrcnn_tests::recipe;
use mrcnn_tests::torch_file::Named;
use std::path::Path;

/// A narrow ResNet-50-FPN with 5 classes, and its recipe weights.
fn small() -> (ModelConfig, StateDict) {
    let config = recipe::narrow_config(5);
    let model = MaskRcnn::new(&config, 0, &Device::flex());
    (config, recipe::tensors(&model, 3))
}

pub(crate) fn named(tensors: &StateDict, rename: impl Fn(&str) -> String) -> Vec<Named> {
    let tensors = tensors.iter();
    tensors
        .map(|(name, data)| {
            (
                rename(name),
                data.shape().to_vec(),
                data.iter::<f32>().collect(),
            )
        })
        .collect()
}

/// torchvision's names of before 0.13.
fn old_name(name: &str) -> String {
    let mut name = name.replace("rpn.head.conv.0.0", "rpn.head.conv");
    for level in 0..4 {
        for blocks in ["inner_blocks", "layer_blocks"] {
            name = name.replace(
                &format!("{blocks}.{level}.0."),
                &format!("{blocks}.{level}."),
            );
        }
        let (ours, theirs) = (
            format!("mask_head.{level}.0."),
            format!("mask_head.mask_fcn{}.", level + 1),
        );
        name = name.replace(&ours, &theirs);
    }
    name
}

pub(crate) fn written(folder: &Path, name: &str, bytes: &[u8]) -> std::path::PathBuf {
    let path = folder.join(name);
    std::fs::write(&path, bytes).expect("a file");
    path
}

#[track_caller]
pub(crate) fn read(path: &Path) -> Imported {
    import(path, &ImportOptions::default()).unwrap_or_else(|error| panic!("{error}"))
}

#[track_caller]
pub(crate) fn assert_same(found: &StateDict, wanted: &StateDict) {
    let names = |dict: &StateDict| dict.keys().cloned().collect::<Vec<_>>();
    assert_eq!(names(found), names(wanted));
    for (name, data) in found {
        assert_eq!(data, &wanted[name], "{name}");
    }
}
