//! Fuzzing entry points of the parsers in this folder.

use super::classes::Classes;
use super::entries::{Batch, Limits, Table};
use super::json::{Counts, Field, Numbers, RawSegmentation};
use super::problem::Severity;
use super::reader::read_bytes;
use super::segmentation::{drawing_steps, mask};
use super::splits::Split;
use crate::budget::Budget;
use std::path::Path;
use vernier_mask::Rle;

/// A COCO file, as it is read for training and by `dataset check --fix`. Its images are the files in `configs` of this
/// crate, so that entries with their names and a size are valid.
pub fn coco(bytes: &[u8]) -> bool {
    let images = Path::new(env!("CARGO_MANIFEST_DIR")).join("configs");
    let split = Split {
        name: "train".into(),
        annotations: images.join("fuzzed.json"),
        images,
    };
    let is_sound = |repair| {
        read_bytes(&split, bytes, repair).is_ok_and(|(_, problems)| {
            let mut all = problems.iter();
            all.all(|problem| problem.severity != Severity::Error)
        })
    };
    let (read, repaired) = (is_sound(false), is_sound(true));
    assert!(repaired || !read, "repairing a sound file broke it");
    read
}

/// A list of classes: a text with a name per line, or JSON; both are read.
pub fn class_list(bytes: &[u8]) -> bool {
    let text = String::from_utf8_lossy(bytes);
    let path = std::path::Path::new("fuzzed");
    let lines = Classes::parse(&text, false, path);
    lines.is_ok_and(|classes| !classes.is_empty()) && Classes::parse(&text, true, path).is_ok()
}

/// An annotation of an image of 40x30 pixels.
pub fn annotation(bytes: &[u8]) -> bool {
    let table = Table {
        sizes: [(1, (40, 30))].into(),
        given: Default::default(),
    };
    let mut batch = Batch::default();
    batch.push(bytes, (1, 1), 0);
    let checked = batch.check(&table, &Limits::new(bytes.len() as u64, true));
    checked.is_ok_and(|checked| checked.iter().all(|checked| checked.object.is_ok()))
}

/// A mask without its JSON: one byte each for its kind, height and width, and then compressed counts, runs or polygons.
/// An accepted mask is written and read again, and must be the same.
pub fn rle(bytes: &[u8]) -> bool {
    let Some((&[kind, height, width], rest)) = bytes.split_first_chunk::<3>() else {
        return false;
    };
    // A side of up to 10,201 pixels, so that the image has about the largest size that is read.
    let side = |byte: u8| 1 + u32::from(byte) * if byte < 128 { 1 } else { 40 };
    let (height, width) = (side(height), side(width));
    let words = || rest.as_chunks::<4>().0.iter();
    let of_runs = |counts| RawSegmentation::Rle {
        size: Field::Value(Numbers(vec![f64::from(height), f64::from(width)])),
        counts,
    };
    let segmentation = match kind % 3 {
        0 => of_runs(Counts::Compressed(
            String::from_utf8_lossy(rest).into_owned(),
        )),
        1 => of_runs(Counts::Runs(
            words().map(|word| u32::from_le_bytes(*word)).collect(),
        )),
        _ => {
            let numbers = words().map(|word| f64::from(f32::from_le_bytes(*word)));
            let numbers: Vec<f64> = numbers.collect();
            // A number that is not finite ends a polygon.
            let polygons = numbers.split(|number| !number.is_finite());
            RawSegmentation::Polygons(polygons.map(<[f64]>::to_vec).collect())
        }
    };
    let budget = Budget::for_masks(bytes.len() as u64);
    if budget.work(drawing_steps(&segmentation, width)).is_err() {
        return false;
    }
    let Ok(drawn) = mask(&segmentation, height, width) else {
        return false;
    };
    let written = drawn.mask.to_string_bytes();
    let again = Rle::from_string_bytes(&written, height, width).expect("what was written");
    assert_eq!(again.area(), drawn.mask.area());
    assert!(drawn.mask.area() <= u64::from(height) * u64::from(width));
    true
}
