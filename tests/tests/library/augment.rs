//! Augmentation: the ground truth follows the images, and images are a function of the seed.

use image::{Rgb, RgbImage};
use mrcnn_core::Config;
use mrcnn_core::data::shapes::{ShapesSpec, render};
use mrcnn_core::data::{Dataset, Instance, OnProblem, Sample};
use mrcnn_core::random::Stream;
use mrcnn_core::train::parts::{
    Augment, Batch, GroundTruth, Loader, Rank, TrainSample, batch_image,
};
use std::path::Path;
use std::sync::Arc;
use vernier_mask::Rle;

const GROUND: [u8; 3] = [128, 128, 128];
const RED: [u8; 3] = [230, 40, 40];
const BLUE: [u8; 3] = [40, 60, 240];

/// A configuration of small images with settings of the augmentation.
fn config(overrides: &[&str]) -> Config {
    let mut all = vec![
        "image.min_size=240",
        "image.max_size=320",
        "augment.brightness=0.125",
    ];
    all.extend(overrides);
    let all: Vec<String> = all.iter().map(ToString::to_string).collect();
    Config::parse("", Path::new("test"), &all).expect("a configuration")
}

/// A 320x240 image with an object painted where `inside` is true, and its ground truth.
fn painted(color: [u8; 3], label: usize, inside: impl Fn(f32, f32) -> bool) -> (RgbImage, Sample) {
    let (width, height) = (320, 240);
    let solid = |x: u32, y: u32| inside(x as f32, y as f32);
    let image = RgbImage::from_fn(width, height, |x, y| {
        Rgb(if solid(x, y) { color } else { GROUND })
    });
    let cells = (0..width * height).map(|i| u8::from(solid(i % width, i / width)));
    let cells: Vec<u8> = cells.collect();
    let mask = Rle::from_row_major_raster_bytes(&cells, height, width).expect("a mask");
    let instance = Instance {
        annotation_id: 1,
        ..Instance::new(label, mask)
    };
    let sample = Sample::new(label as u64, "painted", (width, height), vec![instance]);
    (image, sample)
}

/// A slanted ellipse, red, class 1.
fn ellipse() -> (RgbImage, Sample) {
    painted(RED, 1, |x, y| {
        let (x, y) = (x - 150.0, y - 110.0);
        let (u, v) = (0.8 * x + 0.6 * y, 0.8 * y - 0.6 * x);
        (u / 100.0).powi(2) + (v / 60.0).powi(2) <= 1.0
    })
}

/// A ring, blue, class 2.
fn ring() -> (RgbImage, Sample) {
    painted(BLUE, 2, |x, y| {
        (30.0..90.0).contains(&(x - 190.0).hypot(y - 120.0))
    })
}

/// For each pixel of the prepared image whether it has a color, in row-major order.
fn pixels_of_color(sample: &TrainSample, config: &Config, color: [u8; 3]) -> Vec<bool> {
    let batch = Batch::new(vec![sample.clone()], 1);
    let image = batch_image(&batch, 0, &config.image);
    let distance = |pixel: &Rgb<u8>, to: [u8; 3]| -> u32 {
        let channels = pixel.0.iter().zip(to);
        channels.map(|(&a, b)| (a.abs_diff(b) as u32).pow(2)).sum()
    };
    let nearest = |pixel| {
        [GROUND, RED, BLUE]
            .into_iter()
            .min_by_key(|c| distance(pixel, *c))
    };
    image
        .pixels()
        .map(|pixel| nearest(pixel) == Some(color))
        .collect()
}

/// Compares every object with the pixels of its color; returns the smallest IoU.
///
/// Masks are resized by nearest neighbors and images bilinearly, as in torchvision, so their borders differ
/// by half a pixel. For 3000 pixels, also of a ring, the IoU is then still 0.95. Boxes are within a pixel.
fn check_ground_truth(sample: &TrainSample, config: &Config, what: &str) -> f64 {
    let width = sample.planes.width;
    let mut worst = 1.0f64;
    for (label, color) in [(1, RED), (2, BLUE)] {
        let pixels = pixels_of_color(sample, config, color);
        let count = pixels.iter().filter(|p| **p).count();
        let GroundTruth {
            boxes,
            labels,
            masks,
        } = &sample.gt;
        let Some(index) = labels.iter().position(|l| *l == label) else {
            assert!(
                count < 40,
                "{what}: {count} pixels of class {label} have no ground truth"
            );
            continue;
        };
        let mask = &masks[index];
        let both = mask
            .pixels()
            .filter(|(row, column)| pixels[row * width + column])
            .count();
        let iou = both as f64 / (count + mask.area() - both) as f64;
        if mask.area() >= 3000 {
            assert!(
                iou >= 0.95,
                "{what}: IoU {iou} of class {label}, {} pixels",
                mask.area()
            );
            worst = worst.min(iou);
        }
        let bounds = mask.bounds().expect("an object has pixels");
        for (found, wanted) in boxes[index].iter().zip(bounds) {
            assert!(
                (found - wanted).abs() <= 1.0,
                "{what}: {:?}, not {bounds:?}",
                boxes[index]
            );
        }
        let frame = [width as f32, sample.planes.height as f32];
        assert!(boxes[index][2] <= frame[0] + 1e-3 && boxes[index][3] <= frame[1] + 1e-3);
    }
    worst
}

#[test]
fn ground_truth_follows_the_image() {
    let cases: [&[&str]; 4] = [
        &[],
        &["augment.min_sizes=[160, 200, 240, 320]"],
        &["augment.scale_jitter=[0.3, 2.0]", "augment.jitter_size=288"],
        &["augment.scale_jitter=[0.8, 1.25]"],
    ];
    for overrides in cases {
        let config = config(overrides);
        let augment = Augment::new(&config);
        let (mut worst, mut sizes, mut flips, mut gone) = (1.0f64, Vec::new(), 0, 0);
        for index in 0..60 {
            for (image, sample) in [ellipse(), ring()] {
                let stream = Stream::named("follows", index);
                let placement = augment.placement((240, 320), stream);
                let made = augment.prepare(image, &sample, stream);
                let size = (made.planes.height as u32, made.planes.width as u32);
                assert_eq!(size, placement.size, "known without decoding");
                let largest = augment.largest((240, 320));
                assert!(size.0 <= largest.0 && size.1 <= largest.1);
                worst = worst.min(check_ground_truth(
                    &made,
                    &config,
                    &format!("{overrides:?} {index}"),
                ));
                sizes.push(placement.resized);
                flips += usize::from(placement.flip);
                gone += usize::from(made.gt.boxes.is_empty());
            }
        }
        sizes.sort_unstable();
        sizes.dedup();
        println!(
            "{overrides:?}: IoU {worst:.4} at least, {} sizes, {gone} cut away",
            sizes.len()
        );
        assert!((30..90).contains(&flips), "{flips} of 120 mirrored");
        let varied = !overrides.is_empty();
        assert_eq!(sizes.len() > 1, varied, "{sizes:?}");
    }
}

#[test]
fn pasted_objects_hide_what_is_below() {
    let config = config(&["augment.scale_jitter=[0.5, 1.5]", "augment.copy_paste=1"]);
    let augment = Augment::new(&config);
    let (mut worst, mut pasted, mut hidden) = (1.0f64, 0, 0);
    for index in 0..120 {
        let stream = Stream::named("paste", index);
        assert_eq!(augment.source(1, stream), Some(0));
        let ((below, below_truth), (above, above_truth)) = (ellipse(), ring());
        let mut made = augment.prepare(below, &below_truth, stream);
        let before = made.clone();
        let source = augment.prepare(above, &above_truth, Augment::source_stream(stream));
        augment.paste(&mut made, &source, stream);
        worst = worst.min(check_ground_truth(
            &made,
            &config,
            &format!("paste {index}"),
        ));
        let red = |sample: &TrainSample| {
            let place = sample.gt.labels.iter().position(|label| *label == 1);
            place.map_or(0, |place| sample.gt.masks[place].area())
        };
        if made.gt.labels.contains(&2) {
            pasted += 1;
            hidden += usize::from(red(&made) < red(&before));
        } else {
            assert_eq!(made, before, "nothing was pasted");
        }
    }
    println!("{pasted} of 120 pasted, {hidden} hid some of the other, IoU {worst:.4} at least");
    assert!((40..80).contains(&pasted) && hidden > pasted / 2);

    // An object as large as the image leaves nothing of the other.
    let plain = self::config(&["augment.copy_paste=1", "train.flip=0"]);
    let augment = Augment::new(&plain);
    let (image, gt) = painted(BLUE, 2, |_, _| true);
    for index in 0..8 {
        let stream = Stream::named("cover", index);
        let (below, below_truth) = ellipse();
        let mut made = augment.prepare(below, &below_truth, stream);
        let source = augment.prepare(image.clone(), &gt, stream);
        augment.paste(&mut made, &source, stream);
        let labels = made.gt.labels.clone();
        assert!(labels == [1] || labels == [2], "{labels:?}");
        check_ground_truth(&made, &plain, "cover");
    }
}

#[test]
fn photometric_changes_keep_the_ground_truth() {
    let plain = config(&[]);
    let config = config(&["augment.photometric=1"]);
    let (image, sample) = ellipse();
    for index in 0..10 {
        let stream = Stream::named("photometric", index);
        let made = |config| Augment::new(config).prepare(image.clone(), &sample, stream);
        let (wanted, found) = (made(&plain), made(&config));
        assert_eq!(found.gt, wanted.gt);
        assert_ne!(found.planes, wanted.planes);
    }
}

/// Rendered images of several sizes.
fn shapes(count: usize) -> (tempfile::TempDir, Arc<Dataset>) {
    let folder = tempfile::tempdir().expect("a folder");
    let spec = ShapesSpec {
        train: count,
        val: 0,
        size_min: 64,
        size_max: 160,
        ..ShapesSpec::default()
    };
    render(folder.path(), &spec).expect("images");
    let dataset = Dataset::open(folder.path(), "train", OnProblem::Refuse).expect("a dataset");
    (folder, Arc::new(dataset.0))
}

/// All augmentations together.
const ALL: [&str; 6] = [
    "image.max_size=200",
    "augment.scale_jitter=[0.5, 1.5]",
    "augment.jitter_size=96",
    "augment.photometric=0.5",
    "augment.copy_paste=0.5",
    "train.batch_size=5",
];

/// The batches of steps `first..steps` for a rank.
fn batches(data: &Arc<Dataset>, config: &Config, first: usize, rank: Rank) -> Vec<Batch> {
    let loader = Loader::start(data.clone(), config, first, rank).expect("a loader");
    let batches = std::iter::from_fn(|| loader.next_batch());
    batches.map(|batch| batch.expect("a batch")).collect()
}

fn assert_equal(found: &Batch, wanted: &Batch) {
    assert_eq!(
        (found.shape, &found.image_ids),
        (wanted.shape, &wanted.image_ids)
    );
    assert!(found.values == wanted.values, "other pixels");
    assert_eq!(found.gts, wanted.gts);
}

#[test]
fn resumed_runs_and_ranks_see_the_same_images() {
    let (_folder, data) = shapes(7);
    for more in [
        &[][..],
        &[
            "data.buckets=3",
            "augment.scale_jitter=[]",
            "augment.jitter_size=0",
        ],
    ] {
        let mut overrides = ALL.to_vec();
        overrides.extend(["train.steps=6", "data.prefetch=3", "data.workers=3"]);
        overrides.extend(more);
        let mut config = config(&overrides);
        let whole = batches(&data, &config, 0, Rank::SINGLE);
        assert_eq!(whole.len(), 6);
        config.data.prefetch = 1;
        config.data.workers = 1;
        for (found, wanted) in batches(&data, &config, 4, Rank::SINGLE)
            .iter()
            .zip(&whole[4..])
        {
            assert_equal(found, wanted);
        }
        let ranks: Vec<Vec<Batch>> = (0..3)
            .map(|rank| batches(&data, &config, 0, Rank { rank, world: 3 }))
            .collect();
        for (step, wanted) in whole.iter().enumerate() {
            let parts = ranks.iter().map(|batches| &batches[step]);
            let mut together = wanted.clone();
            together.values = parts
                .clone()
                .flat_map(|batch| batch.values.clone())
                .collect();
            together.gts = parts.clone().flat_map(|batch| batch.gts.clone()).collect();
            together.image_ids = parts
                .clone()
                .flat_map(|batch| batch.image_ids.clone())
                .collect();
            assert_equal(&together, wanted);
            for part in parts {
                assert_eq!(
                    part.shape[1..],
                    wanted.shape[1..],
                    "padded as the whole step"
                );
            }
        }
    }
}

#[test]
fn every_setting_changes_the_images() {
    let (_folder, data) = shapes(6);
    let made = |overrides: &[&str]| {
        let steps = ["train.steps=2", "train.batch_size=6"];
        batches(
            &data,
            &config(&[&steps, overrides].concat()),
            0,
            Rank::SINGLE,
        )
    };
    let jitter = "augment.scale_jitter=[0.5, 2]";
    let (photometric, pasting) = ("augment.photometric=1", "augment.copy_paste=1");
    let cases: [(&[&str], &[&str]); 9] = [
        (&[], &["augment.min_sizes=[96, 160]"]),
        (&[], &[jitter]),
        (&[jitter], &[jitter, "augment.jitter_size=128"]),
        (&[], &[photometric]),
        (&[photometric], &[photometric, "augment.brightness=0.6"]),
        (&[photometric], &[photometric, "augment.contrast=0.1"]),
        (&[photometric], &[photometric, "augment.saturation=0.1"]),
        (&[photometric], &[photometric, "augment.hue=0.3"]),
        (&[], &[pasting]),
    ];
    for (before, after) in cases {
        let [before, found] = [before, after].map(made);
        let same = before.iter().zip(&found).all(|(a, b)| a.values == b.values);
        assert!(!same, "{after:?} changes nothing");
        let ids = |batches: &[Batch]| -> Vec<u64> {
            batches
                .iter()
                .flat_map(|batch| batch.image_ids.clone())
                .collect()
        };
        assert_eq!(ids(&before), ids(&found), "{after:?}: other images");
    }
}
