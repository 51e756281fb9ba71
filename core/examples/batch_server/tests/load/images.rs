//! Weights, images, and the results of the library for single images.

use image::codecs::png::{CompressionType, FilterType, PngEncoder};
use image::{ExtendedColorType, GrayImage, ImageEncoder, ImageFormat, Rgb, RgbImage};
use mrcnn_core::config::{Backbone, Config, NormKind};
use mrcnn_core::data::{Classes, DetectionRecord};
use mrcnn_core::{BackendKind, MaskRcnn, Predictor, backends, weights};
use std::io::Cursor;
use std::path::{Path, PathBuf};

/// An image to post, and the expected response.
pub struct TestImage {
    pub bytes: Vec<u8>,
    pub expected: Vec<DetectionRecord>,
}

/// Writes a network that is small enough for a thousand requests. Random weights have similar scores for all classes, so
/// they detect many objects.
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
        .expect("the CPU backend")
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

/// Images of several sizes, as PNG and JPEG, with their expected responses.
pub fn good_images(weights: &Path) -> Vec<TestImage> {
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
            image.write_to(&mut bytes, format).expect("an image");
            let bytes = bytes.into_inner();
            let decoded = mrcnn_core::image::decode::decode_bytes(&bytes, Path::new("sent"));
            let prediction = predictor.predict(&decoded.expect("an image"));
            let expected = prediction.expect("a prediction").to_coco(0);
            assert!(!expected.is_empty());
            TestImage { bytes, expected }
        })
        .collect()
}

/// 100 million pixels in a small file.
pub fn bomb() -> Vec<u8> {
    let image = GrayImage::new(10_000, 10_000);
    let mut bytes = Vec::new();
    let encoder =
        PngEncoder::new_with_quality(&mut bytes, CompressionType::Best, FilterType::NoFilter);
    encoder
        .write_image(&image, 10_000, 10_000, ExtendedColorType::L8)
        .expect("an image");
    assert!(bytes.len() < 500_000, "{} bytes", bytes.len());
    bytes
}
