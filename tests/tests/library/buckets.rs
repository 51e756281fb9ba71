//! Batches of a few shapes.

use mrcnn_core::Config;
use mrcnn_core::data::{Dataset, OnProblem};
use mrcnn_core::train::parts::{Batch, Loader, Rank};
use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

/// Empty images with the kinds of sizes of COCO, a tenth as large: mostly 4:3 and 3:4, some 3:2, square and others.
const SIZES: [(u32, u32); 12] = [
    (64, 48),
    (64, 48),
    (64, 48),
    (64, 48),
    (48, 64),
    (48, 64),
    (64, 43),
    (64, 43),
    (43, 64),
    (64, 36),
    (50, 50),
    (64, 30),
];

fn images(count: usize) -> (tempfile::TempDir, Arc<Dataset>) {
    let folder = tempfile::tempdir().expect("a folder");
    let mut images = Vec::new();
    for index in 0..count {
        let (width, height) = SIZES[index * 7 % SIZES.len()];
        let file_name = format!("{index}.png");
        let image = image::RgbImage::new(width, height);
        image
            .save(folder.path().join(&file_name))
            .expect("an image");
        let entry = serde_json::json!({
            "id": index + 1, "file_name": file_name, "width": width, "height": height
        });
        images.push(entry);
    }
    let categories = serde_json::json!([{"id": 1, "name": "thing"}]);
    let text = serde_json::json!({"images": images, "annotations": [], "categories": categories});
    std::fs::write(folder.path().join("train.json"), text.to_string()).expect("annotations");
    let dataset = Dataset::open(folder.path(), "train", OnProblem::Refuse).expect("a dataset");
    (folder, Arc::new(dataset.0))
}

fn batches(data: &Arc<Dataset>, buckets: usize, more: &[&str]) -> Vec<Batch> {
    let mut overrides = vec![
        "image.min_size=80".to_string(),
        "image.max_size=133".into(),
        "image.size_divisor=8".into(),
        "train.batch_size=4".into(),
        "train.steps=63".into(),
        format!("data.buckets={buckets}"),
    ];
    overrides.extend(more.iter().map(ToString::to_string));
    let config = Config::parse("", Path::new("test"), &overrides).expect("a configuration");
    let loader = Loader::start(data.clone(), &config, 0, Rank::SINGLE).expect("a loader");
    let batches = std::iter::from_fn(|| loader.next_batch());
    batches.map(|batch| batch.expect("a batch")).collect()
}

/// Ratio of padded pixels to the images' own.
fn padding(batches: &[Batch]) -> f64 {
    let padded: usize = batches
        .iter()
        .map(|b| b.shape[0] * b.shape[2] * b.shape[3])
        .sum();
    let sizes = batches.iter().flat_map(|batch| &batch.sizes);
    let own: u64 = sizes.map(|&(h, w)| h as u64 * w as u64).sum();
    padded as f64 / own as f64
}

fn shapes(batches: &[Batch]) -> BTreeSet<[usize; 4]> {
    batches.iter().map(|batch| batch.shape).collect()
}

#[test]
fn shapes_are_few_padding_is_less_and_epochs_are_whole() {
    // 126 images by 4: an epoch ends within a batch. 63 steps are two epochs.
    let (_folder, data) = images(126);
    let without = batches(&data, 0, &[]);
    println!(
        "0 buckets: {} shapes, padding {:.3}",
        shapes(&without).len(),
        padding(&without)
    );
    for buckets in [1, 3, 4, 5] {
        let with = batches(&data, buckets, &[]);
        println!(
            "{buckets} buckets: {} shapes, {:.3}",
            shapes(&with).len(),
            padding(&with)
        );
        assert!(shapes(&with).len() <= buckets, "{:?}", shapes(&with));
        let ids: Vec<u64> = with
            .iter()
            .flat_map(|batch| batch.image_ids.clone())
            .collect();
        for epoch in ids.chunks(126) {
            let distinct: BTreeSet<u64> = epoch.iter().copied().collect();
            assert_eq!(distinct.len(), 126, "every image once an epoch");
        }
        assert_ne!(ids[..126], ids[126..], "the second epoch has its own order");
        if buckets >= 3 {
            assert!(padding(&with) < padding(&without), "{buckets} buckets");
            assert!(shapes(&without).len() > buckets);
        }
    }
    // Sides that vary do not cause more shapes.
    let varied = batches(&data, 3, &["augment.min_sizes=[48, 64, 80]"]);
    assert!(shapes(&varied).len() <= 3);
    let sides: BTreeSet<u32> = varied
        .iter()
        .flat_map(|b| &b.sizes)
        .map(|s| s.0.min(s.1))
        .collect();
    assert!(sides.len() >= 3, "{sides:?}");
}
