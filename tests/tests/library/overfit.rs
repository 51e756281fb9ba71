//! A small network memorizes eight real photos: an error anywhere between reading and
//! evaluating shows here.

use burn::tensor::Device;
use mrcnn_core::Config;
use mrcnn_core::data::{Dataset, OnProblem};
use mrcnn_core::eval::{AreaProtocol, Metrics};
use mrcnn_core::train::{Observer, Outcome, StepReport, Trainer};
use std::path::Path;
use std::sync::Arc;

/// Photos of 2 to 8 objects, none smaller than a sixteenth of the side of the image: 33 objects of 13
/// classes.
const PHOTOS: [u64; 8] = [62554, 99053, 165518, 196393, 214753, 269314, 331352, 456496];

/// R50-FPN at a quarter of its width, on images of 160 to 224 px.
const CONFIG: &str = r#"
[model]
backbone = "resnet50"
width = 16
norm = "group_norm"
head_norm = "group_norm"
freeze_at = 0
fpn_channels = 64

[model.rpn]
anchor_sizes = [12.0, 24.0, 48.0, 96.0, 192.0]
pre_nms_train = 300
pre_nms_test = 200
post_nms_train = 200
post_nms_test = 100

[model.roi]
batch_per_image = 64
max_detections = 50

[model.box_head]
hidden = 256

[model.mask_head]
convs = [64, 64]
hidden = 64

[image]
min_size = 160
max_size = 224

[train]
optimizer = "adamw"
steps = 480
batch_size = 4
lr_batch = 4
replicas = 2
learning_rate = 0.002
weight_decay = 0.0
warmup_steps = 30
warmup_factor = 0.01
schedule = "cosine"
clip_norm = 10.0
flip = 0.0
checkpoint_every = 0
val_loss_images = 0
val_images = 0

[log]
report = false
tensorboard = false
"#;

struct Lines;

impl Observer for Lines {
    fn on_step(&mut self, report: &StepReport) {
        if report.step.is_multiple_of(40) {
            println!("step {}: loss {:.3}", report.step, report.loss());
        }
    }

    fn on_eval(&mut self, step: usize, metrics: &Metrics) {
        println!("step {step}\n{metrics}");
    }
}

#[test]
fn eight_photos_are_memorized() {
    let Some(data) = mrcnn_tests::shared_data("coco_ccby") else {
        return;
    };
    let (mut photos, _) = Dataset::open(&data, "train", OnProblem::Skip).expect("the photos");
    photos
        .samples
        .retain(|sample| PHOTOS.contains(&sample.image_id));
    assert_eq!(photos.samples.len(), PHOTOS.len());
    let overrides = [format!("model.num_classes={}", photos.classes.len() + 1)];
    let config = Config::parse(CONFIG, Path::new("overfit"), &overrides).expect("a configuration");
    let folder = tempfile::tempdir().expect("a folder");
    let photos = Arc::new(photos);
    let builder = Trainer::builder(config)
        .folder(folder.path().join("run"))
        .data(photos.clone(), photos)
        .device(&Device::flex())
        .area(AreaProtocol::Mask);
    let (trainer, _) = builder.build().expect("a trainer");
    let outcome = trainer.run(trainer.new_model(), &mut Lines).expect("a run");
    let Outcome::Finished(metrics) = outcome else {
        panic!("nothing requested to stop");
    };
    // A memorized dataset has an AP50 of 1. One object may be missing, because training amplifies the order of sums,
    // which differs between instruction sets; with half of the steps it is up to three.
    assert!(metrics.segm[1] >= 0.92, "mask AP50 {}", metrics.segm[1]);
    assert!(metrics.bbox[1] >= 0.92, "box AP50 {}", metrics.bbox[1]);
}
