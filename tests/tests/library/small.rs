//! A network and images that are small enough for training in a moment.

use burn::tensor::Device;
use image::{Rgb, RgbImage};
use mrcnn_core::config::NormKind;
use mrcnn_core::data::{Instance, Sample};
use mrcnn_core::random::Stream;
use mrcnn_core::train::Losses;
use mrcnn_core::train::parts::{Batch, SampleCounts, StepFeatures, losses, sample as sample_batch};
use mrcnn_core::{Config, MaskRcnn};
use vernier_mask::Rle;

/// A network small enough to train in a moment.
pub fn config() -> Config {
    let mut config = Config::default();
    let model = &mut config.model;
    model.backbone = mrcnn_core::config::Backbone::Resnet18;
    (model.width, model.fpn_channels, model.num_classes) = (8, 16, 3);
    (model.norm, model.head_norm, model.freeze_at) = (NormKind::GroupNorm, NormKind::None, 0);
    // So few samples that the losses compute the RPN's predictions again, from windows of cells.
    model.rpn.batch_per_image = 32;
    (model.rpn.pre_nms_train, model.rpn.post_nms_train) = (200, 100);
    (model.rpn.pre_nms_test, model.rpn.post_nms_test) = (200, 100);
    model.rpn.anchor_sizes = vec![8.0, 16.0, 32.0, 64.0, 128.0];
    (model.roi.batch_per_image, model.box_head.hidden) = (64, 32);
    (model.mask_head.convs, model.mask_head.hidden) = (vec![16], 16);
    (config.image.min_size, config.image.max_size) = (96, 160);
    config
}

/// An image with many edges.
pub fn small_image(width: u32, height: u32) -> RgbImage {
    RgbImage::from_fn(width, height, |x, y| {
        Rgb([(x * 7) as u8, (y * 5) as u8, (x ^ y) as u8])
    })
}

/// Its ground truth: the boxes, masks that fill them, classes 1 and 2 in turn.
pub fn sample(image: &RgbImage, boxes: &[[f32; 4]]) -> Sample {
    let (width, height) = image.dimensions();
    let instances = boxes.iter().enumerate().map(|(index, &bbox)| {
        let [x, y] = [bbox[0] as f64, bbox[1] as f64];
        let [w, h] = [(bbox[2] - bbox[0]) as f64, (bbox[3] - bbox[1]) as f64];
        let mask = Rle::from_bbox([x, y, w, h], height, width).expect("a box");
        let (annotation_id, label) = (index as u64, 1 + index % 2);
        Instance {
            annotation_id,
            label,
            bbox,
            area: w * h,
            mask,
            is_crowd: false,
        }
    });
    let instances = instances.collect();
    Sample::new(1, "synthetic", (width, height), instances)
}

/// Losses of a batch, and its numbers of sampled anchors, RoIs and objects.
pub fn step_losses(
    model: &MaskRcnn,
    batch: &Batch,
    stream: Stream,
    device: &Device,
) -> (Losses, SampleCounts) {
    let step = StepFeatures::new(model, batch, device, false);
    let samples = sample_batch(model, batch, &step, stream).expect("samples");
    let counts = samples.counts();
    (losses(model, step, &samples, &counts), counts)
}
