//! Weights of a network that is as small as the settings allow.

/// A weights file of a small network with one class.
pub fn small_weights() -> Vec<u8> {
    use mrcnn_core::weights::{Checkpoint, state_dict};
    let small = [
        "model.backbone=resnet18",
        "model.width=1",
        "model.fpn_channels=1",
        "model.num_classes=2",
        "model.box_head.hidden=1",
        "model.box_head.pool=1",
        "model.mask_head.convs=[]",
        "model.mask_head.hidden=1",
    ];
    let config = mrcnn_core::Config::default()
        .with(&small)
        .expect("settings");
    let device = mrcnn_backends::select(mrcnn_backends::BackendKind::Cpu);
    let device = device.expect("the CPU").device;
    let model = mrcnn_core::MaskRcnn::new(&config.model, 0, &device);
    let classes = mrcnn_core::data::Classes {
        names: vec!["a".into()],
        ids: vec![1],
    };
    let checkpoint = Checkpoint {
        tensors: state_dict(&model),
        training: None,
        config,
        classes,
    };
    checkpoint.to_bytes().expect("memory")
}
