//! The recipes in `core/configs/` compared with their originals.

use mrcnn_core::Config;
use mrcnn_core::benchmark::synthetic_images;
use mrcnn_core::config::{DecayScope, NormKind};
use mrcnn_core::train::parts::{Batch, TrainSample, learning_rate};
use mrcnn_tests::recipe;

fn preset(name: &str, overrides: &[&str]) -> Config {
    let file = mrcnn_tests::root().join(format!("core/configs/{name}.toml"));
    let overrides: Vec<String> = overrides.iter().map(ToString::to_string).collect();
    Config::load(Some(&file), &overrides).expect("a preset")
}

/// COCO 2017's training images, as the reference system counts them.
const COCO: usize = 118_287;

#[test]
fn the_reference_recipe_is_the_references() {
    let config = preset("r50_fpn_reference", &[]);
    let rate = |step| learning_rate(step, &config.train);
    let epoch = COCO / 32;
    assert_eq!(config.train.steps, 12 * epoch);
    assert_eq!(rate(0), 0.0);
    assert!((rate(555) - 0.04 * 555.0 / 1109.0).abs() < 1e-12);
    // 0.00125 per image until epoch 8, a tenth of it until epoch 10, then a hundredth.
    for (step, wanted) in [
        (1109, 0.04),
        (8 * epoch - 1, 0.04),
        (8 * epoch, 0.004),
        (10 * epoch - 1, 0.004),
        (10 * epoch, 0.0004),
    ] {
        assert!(
            (rate(step) - wanted).abs() < 1e-12,
            "step {step}: {}",
            rate(step)
        );
    }
    let (model, train) = (&config.model, &config.train);
    assert_eq!((model.norm, model.freeze_at), (NormKind::FrozenBn, 2));
    assert_eq!(
        (model.roi.batch_per_image, model.roi.positive_fraction),
        (512, 0.25)
    );
    assert_eq!(
        (train.decay, train.bias_gradient),
        (DecayScope::Weights, 2.0)
    );

    // One GPU with 4 images: the schedule of its 1-GPU script, in epochs.
    let mut one = preset(
        "r50_fpn_reference",
        &["train.batch_size=4", "train.epochs=12"],
    );
    one.train.resolve_epochs(COCO);
    assert!((one.train.scaled_learning_rate() - 0.005).abs() < 1e-12);
    assert_eq!(one.train.steps, 12 * COCO / 4);
    let passes = |step: usize| step as f64 * 4.0 / COCO as f64;
    for (step, wanted) in one.train.milestones.iter().zip([8.0, 10.0]) {
        // 3,696 steps of 32 are 15 images short of an epoch.
        assert!((passes(*step) - wanted).abs() < 1e-3, "{}", passes(*step));
    }
}

#[test]
fn the_reference_pads_every_batch_to_its_box() {
    let config = preset("r50_fpn_reference", &[]);
    let (images, dataset) = synthetic_images(2, 4);
    let samples = images.into_iter().zip(&dataset.samples);
    let samples = samples.map(|(image, s)| TrainSample::new(image, s, &config.image, false));
    let image = &config.image;
    let batch = Batch::at_least(
        samples.collect(),
        image.size_divisor,
        image.smallest_batch(),
    );
    assert_eq!(batch.shape, [2, 3, 832, 1344]);
    for (&(height, width), gt) in batch.sizes.iter().zip(&batch.gts) {
        assert!(
            height == 832 || width == 1344,
            "{height}x{width} fills the box"
        );
        let inside = |b: &[f32; 4]| b[2] <= width as f32 + 1e-2 && b[3] <= height as f32 + 1e-2;
        assert!(gt.boxes.iter().all(inside), "boxes follow the image");
    }
}

#[test]
fn the_coco_recipes_are_detectron2s() {
    let v2 = preset("r50_fpn_v2", &[]);
    let one = preset("r50_fpn_1x_coco", &[]);
    assert_eq!((&v2.train, &v2.augment), (&one.train, &one.augment));
    let mut model = recipe::r50_v2_config(NormKind::BatchNorm);
    model.num_classes = 0;
    assert_eq!(v2.model, model);
    for (name, steps, milestones) in [
        ("r50_fpn_1x_coco", 90_000, [60_000, 80_000]),
        ("r50_fpn_3x_coco", 270_000, [210_000, 250_000]),
    ] {
        let config = preset(name, &[]);
        assert_eq!(config.train.steps, steps);
        let rate = |step| learning_rate(step, &config.train);
        assert!((rate(0) - 0.02 * 0.001).abs() < 1e-12 && (rate(1000) - 0.02).abs() < 1e-12);
        for (milestone, wanted) in milestones.into_iter().zip([0.002, 0.0002]) {
            assert!(
                (rate(milestone) - wanted).abs() < 1e-12,
                "{name}: {}",
                rate(milestone)
            );
        }
        assert_eq!(config.model.freeze_at, 2);
        assert_eq!(config.train.decay, DecayScope::WithoutNorms);
        assert_eq!(config.augment.min_sizes, [640, 672, 704, 736, 768, 800]);
    }
}
