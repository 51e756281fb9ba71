//! Datasets of other formats, written here and read back.

mod lvis;
mod shards;
mod tools;
mod voc;
mod yolo;

use mrcnn_core::data::import::{Format, ImportSpec, Imported, import};
use mrcnn_core::data::shapes::{CLASSES, ShapesSpec, render};
use mrcnn_core::data::{Dataset, OnProblem, Sample};
use mrcnn_core::random::Stream;
use std::fs::{create_dir_all, write};
use std::path::Path;
use tempfile::TempDir;

/// Rendered shapes: the objects of an image do not overlap.
fn shapes() -> (TempDir, Vec<Sample>) {
    let folder = tempfile::tempdir().expect("a folder");
    let spec = ShapesSpec {
        train: 5,
        val: 2,
        size_min: 64,
        size_max: 128,
        ..ShapesSpec::default()
    };
    render(&folder.path().join("shapes"), &spec).expect("images");
    let samples = ["train", "val"].map(|split| open(&folder.path().join("shapes"), split).samples);
    (folder, samples.concat())
}

fn open(folder: &Path, split: &str) -> Dataset {
    let opened = Dataset::open(folder, split, OnProblem::Refuse);
    opened.unwrap_or_else(|error| panic!("{error}")).0
}

fn spec(format: Format, source: &Path, out: &Path) -> ImportSpec {
    ImportSpec {
        format,
        source: source.into(),
        images: None,
        split: None,
        out: out.into(),
    }
}

fn imported(spec: &ImportSpec) -> Vec<Imported> {
    import(spec).unwrap_or_else(|error| panic!("{error}"))
}

/// Compares what was read back with what was written: images by name, objects in order.
fn assert_same(found: &[Sample], wanted: &[Sample], names: &[String]) {
    assert_eq!(found.len(), wanted.len());
    for (index, (found, wanted)) in found.iter().zip(wanted).enumerate() {
        let [a, b] = [found, wanted].map(|sample| image::open(&sample.path).expect("an image"));
        assert!(a.to_rgb8() == b.to_rgb8(), "image {index} is another");
        assert_eq!(
            found.instances.len(),
            wanted.instances.len(),
            "image {index}"
        );
        for (found, wanted) in found.instances.iter().zip(&wanted.instances) {
            assert_eq!(found.mask, wanted.mask, "image {index}");
            assert_eq!(names[found.label - 1], CLASSES[wanted.label - 1]);
            for (found, wanted) in found.bbox.iter().zip(wanted.bbox) {
                // Boxes as fractions of an image are f32 there.
                assert!((found - wanted).abs() < 1e-3, "{found}, not {wanted}");
            }
            assert_eq!(found.is_crowd, wanted.is_crowd);
        }
    }
}

/// Bytes that are flipped, cut and duplicated at random give an error or a dataset, never a panic.
#[test]
fn damaged_sources_do_not_panic() {
    let (folder, samples) = shapes();
    let at = folder.path();
    let record = shards::record(&shards::coco_record(&samples[0], 1));
    create_dir_all(at.join("shards")).expect("a folder");
    yolo::labels(
        &at.join("yolo"),
        "train: images/train\nnames: {0: cat, 1: dog}\n",
    );
    let voc = at.join("voc");
    for part in ["Annotations", "JPEGImages", "SegmentationObject"] {
        create_dir_all(voc.join(part)).expect("a folder");
    }
    std::fs::copy(&samples[0].path, voc.join("JPEGImages/a.png")).expect("a copy");
    voc::object_numbers(&samples[0], &voc.join("SegmentationObject/a.png"));
    write(voc.join("Annotations/a.xml"), voc::xml(&samples[0], "a")).expect("XML");
    let sources = [
        (Format::Tfrecord, "shards", "shards/train-0-of-1.tfrecord"),
        (Format::Yolo, "yolo", "yolo/data.yaml"),
        (Format::Yolo, "yolo", "yolo/labels/train/a.txt"),
        (Format::Voc, "voc", "voc/Annotations/a.xml"),
        (Format::Voc, "voc", "voc/SegmentationObject/a.png"),
    ];
    write(at.join("shards/train-0-of-1.tfrecord"), &record).expect("a shard");
    let mut refused = [0; 5];
    for (number, (format, source, file)) in sources.into_iter().enumerate() {
        let whole = std::fs::read(at.join(file)).expect("a file");
        for attempt in 0..60 {
            let stream = Stream::named(file, attempt);
            let place = (stream.bits(0) % whole.len() as u64) as usize;
            let mut bytes = whole.clone();
            match attempt % 3 {
                0 => bytes[place] = stream.bits(1) as u8,
                1 => bytes.truncate(place),
                _ => bytes.extend_from_within(place..),
            }
            write(at.join(file), bytes).expect("a file");
            let out = at.join(format!("out-{number}-{attempt}"));
            match import(&spec(format, &at.join(source), &out)) {
                Ok(_) => drop(Dataset::open(&out, "train", OnProblem::Skip)),
                Err(error) => {
                    refused[number] += 1;
                    assert_eq!(error.to_string().lines().count(), 1, "{error}");
                }
            }
        }
        write(at.join(file), whole).expect("a file");
    }
    println!("of 60 each, refused: {refused:?}");
    assert!(refused.iter().all(|count| *count >= 5), "{refused:?}");
}
