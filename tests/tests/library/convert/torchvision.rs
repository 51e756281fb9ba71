//! Weights of torchvision, and this program's own files.

use super::{assert_same, named, old_name, read, small, written};
use burn::tensor::Device;
use mrcnn_core::MaskRcnn;
use mrcnn_core::config::{Backbone, ModelConfig, NormKind};
use mrcnn_core::weights::import::{Format, export_torchvision};
use mrcnn_core::weights::{StoredAs, load_state_dict};
use mrcnn_tests::{recipe, torch_file};
use safetensors::tensor::{Dtype, SafeTensors};

/// At full size and in both formats of torch: 178 MB, bit by bit.
#[test]
fn torchvisions_weights_go_through_bit_equal() {
    let config = recipe::r50_config(0.0);
    let model = MaskRcnn::new(&config, 0, &Device::flex());
    let wanted = recipe::tensors(&model, 5);
    let mut tensors = named(&wanted, old_name);
    // The batch counter of a BatchNorm2d is not a weight.
    tensors.push((
        "backbone.body.bn1.num_batches_tracked".into(),
        vec![],
        vec![3.0],
    ));
    let folder = tempfile::tempdir().expect("a folder");
    for (name, bytes) in [
        ("zipped.pth", torch_file::zipped(&tensors)),
        ("legacy.pth", torch_file::legacy(&tensors)),
    ] {
        let path = written(folder.path(), name, &bytes);
        drop(bytes);
        let mut imported = read(&path);
        assert_eq!(imported.format, Format::Torchvision);
        let counted = imported
            .checkpoint
            .tensors
            .remove("backbone.body.bn1.num_batches_tracked");
        assert!(counted.is_some());
        assert_eq!(
            imported.checkpoint.config.model, config,
            "eps 0: published COCO weights"
        );
        assert_eq!(imported.checkpoint.classes.name(90), "toothbrush");
        assert_same(&imported.checkpoint.tensors, &wanted);

        let out = folder.path().join("out.safetensors");
        let result = export_torchvision(&out, &imported.checkpoint, StoredAs::F32);
        assert_eq!(result.expect("a file"), ["batch norm's eps = 0"]);
        let bytes = std::fs::read(&out).expect("a file");
        let file = SafeTensors::deserialize(&bytes).expect("safetensors");
        assert_eq!(file.len(), wanted.len());
        for (name, data) in &wanted {
            let view = file.tensor(name).expect("a tensor of torchvision's name");
            assert_eq!(
                (view.shape(), view.dtype()),
                (&data.shape()[..], Dtype::F32)
            );
            assert_eq!(view.data(), data.as_bytes(), "{name}");
        }
    }
}

/// Networks that torchvision's builders make with other arguments: v2, and backbones with groups or wide bottlenecks.
fn variants() -> [(ModelConfig, &'static str); 4] {
    let (plain, _) = small();
    let mut v2 = ModelConfig {
        head_norm: NormKind::FrozenBn,
        ..plain.clone()
    };
    (v2.rpn.convs, v2.box_head.convs) = (2, 4);
    let resnext = ModelConfig {
        backbone: Backbone::Resnet101,
        width: 16,
        groups: 32,
        width_per_group: 8,
        ..plain.clone()
    };
    let wide = ModelConfig {
        width_per_group: 128,
        ..plain.clone()
    };
    let both = ModelConfig {
        width: 16,
        groups: 4,
        width_per_group: 4,
        ..v2.clone()
    };
    [
        (v2, "maskrcnn_resnet50_fpn_v2"),
        (resnext, "groups=32 and width_per_group=8"),
        (wide, "groups=1 and width_per_group=128"),
        (both, "conv_depth=2, 4 convolutions in the box head"),
    ]
}

#[test]
fn architectures_are_recognized_by_names_and_shapes() {
    let folder = tempfile::tempdir().expect("a folder");
    for (config, wanted_note) in variants() {
        let model = MaskRcnn::new(&config, 0, &Device::flex());
        let wanted = recipe::tensors(&model, 3);
        let mut tensors = named(&wanted, str::to_string);
        let counter = "backbone.body.bn1.num_batches_tracked";
        tensors.push((counter.into(), vec![], vec![3.0]));
        let bytes = torch_file::zipped(&tensors);
        let mut imported = read(&written(folder.path(), "variant.pth", &bytes));
        assert_eq!(imported.checkpoint.config.model, config);

        let out = folder.path().join("out.safetensors");
        imported.checkpoint.tensors.remove(counter);
        let notes = export_torchvision(&out, &imported.checkpoint, StoredAs::F32).expect("a file");
        assert!(
            notes.iter().any(|note| note.contains(wanted_note)),
            "{notes:?}"
        );
        let mut again = read(&out);
        assert_eq!(again.format, Format::Torchvision);
        assert_same(&again.checkpoint.tensors, &wanted);

        // Our own file, and the model that is made from it.
        imported
            .checkpoint
            .save(&out, StoredAs::F32)
            .expect("a file");
        again = read(&out);
        assert_eq!(again.checkpoint.config, imported.checkpoint.config);
        let fresh = MaskRcnn::new(&again.checkpoint.config.model, 1, &Device::flex());
        let loaded = load_state_dict(fresh, again.checkpoint.tensors, &out).expect("all names");
        assert_same(&mrcnn_core::weights::state_dict(&loaded), &wanted);
    }
}

#[test]
fn our_files_hold_all_that_prediction_needs() {
    let (config, wanted) = small();
    let folder = tempfile::tempdir().expect("a folder");
    let path = written(
        folder.path(),
        "small.pth",
        &torch_file::zipped(&named(&wanted, str::to_string)),
    );
    let imported = read(&path);
    assert_eq!(imported.checkpoint.config.model, config);
    for (name, stored_as) in [("f32", StoredAs::F32), ("f16", StoredAs::F16)] {
        let path = folder.path().join(format!("{name}.safetensors"));
        imported.checkpoint.save(&path, stored_as).expect("a file");
        let again = read(&path);
        assert_eq!(again.format, Format::Own);
        assert_eq!(again.checkpoint.config, imported.checkpoint.config);
        assert_eq!(again.checkpoint.classes, imported.checkpoint.classes);
        for (name, data) in &again.checkpoint.tensors {
            let pairs = data.iter::<f32>().zip(wanted[name].iter::<f32>());
            for (found, wanted) in pairs {
                // Half an ulp of 11 bits, and the smallest f16.
                let allowed = match stored_as {
                    StoredAs::F32 => 0.0,
                    StoredAs::F16 | StoredAs::F16Clamped => wanted.abs() / 2048.0 + 6e-8,
                };
                assert!(
                    (found - wanted).abs() <= allowed,
                    "{name}: {found}, {wanted}"
                );
            }
        }
    }
    let length = |name: &str| {
        std::fs::metadata(folder.path().join(name))
            .expect("a file")
            .len()
    };
    assert!(length("f16.safetensors") < length("f32.safetensors") * 6 / 10);
}
