//! Weights, pictures and what the library finds in them alone.

use image::codecs::png::PngEncoder;
use image::{ExtendedColorType, GrayImage, ImageEncoder, ImageFormat, Rgb, RgbImage};
use mrcnn_core::config::{Backbone, Config, NormKind};
use mrcnn_core::data::{Classes, DetectionRecord};
use mrcnn_core::{BackendKind, MaskRcnn, Predictor, backends, weights};
use std::io::Cursor;
use std::path::{Path, PathBuf};

/// A picture that a client may post, and the answer that it must get.
pub struct Picture {
    pub bytes: Vec<u8>,
    pub wanted: Vec<DetectionRecord>,
}

/// Writes a network that is small enough for a thousand requests. Random weights are unsure of every
/// class, so they find many objects.
pub fn weights(folder: &Path) -> PathBuf {
    let mut config = Config::default();
    let model = &mut config.model;
    (model.backbone, model.norm) = (Backbone::Resnet18, NormKind::GroupNorm);
    (model.width, model.fpn_channels, model.num_classes) = (8, 16, 3);
    (model.rpn.pre_nms_test, model.rpn.post_nms_test) = (100, 50);
    model.rpn.anchor_sizes = vec![8.0, 16.0, 32.0, 64.0, 128.0];
    (model.roi.max_detections, model.box_head.hidden) = (10, 32);
    (model.mask_head.convs, model.mask_head.hidden) = (vec![16], 16);
    (config.image.min_size, config.image.max_size) = (64, 128);
    let device = backends::select(BackendKind::Cpu)
        .expect("the processor")
        .device;
    let model = MaskRcnn::new(&config.model, 1, &device);
    let classes = Classes {
        names: vec!["cat".into(), "dog".into()],
        ids: vec![17, 18],
    };
    let path = folder.join("small.safetensors");
    weights::save(&path, &model, &config, &classes, None).expect("weights");
    path
}

/// Pictures of several sizes and both formats that phones send, with what is in them.
pub fn good_pictures(weights: &Path) -> Vec<Picture> {
    let predictor = Predictor::builder()
        .weights(weights)
        .backend(BackendKind::Cpu)
        .score(0.3)
        .build()
        .expect("a predictor");
    let sizes = [
        (90, 70),
        (128, 64),
        (90, 70),
        (300, 220),
        (64, 100),
        (500, 320),
    ];
    sizes
        .iter()
        .enumerate()
        .map(|(index, &(width, height))| {
            let image = RgbImage::from_fn(width, height, |x, y| {
                let wave = |v: u32| (v * (7 + index as u32)) as u8;
                Rgb([wave(x), wave(y), (x ^ y) as u8])
            });
            let format = [ImageFormat::Png, ImageFormat::Jpeg][index % 2];
            let mut bytes = Cursor::new(Vec::new());
            image.write_to(&mut bytes, format).expect("a picture");
            let bytes = bytes.into_inner();
            let decoded = mrcnn_core::image::decode::decode_bytes(&bytes, Path::new("sent"));
            let found = predictor.predict(&decoded.expect("a picture"));
            let wanted = found.expect("a prediction").to_coco(0);
            assert!(!wanted.is_empty());
            Picture { bytes, wanted }
        })
        .collect()
}

/// 100 million pixels in a small file.
pub fn bomb() -> Vec<u8> {
    let image = GrayImage::new(10_000, 10_000);
    let mut bytes = Vec::new();
    let encoder = PngEncoder::new(&mut bytes);
    encoder
        .write_image(&image, 10_000, 10_000, ExtendedColorType::L8)
        .expect("a picture");
    assert!(bytes.len() < 500_000, "{} bytes", bytes.len());
    bytes
}
