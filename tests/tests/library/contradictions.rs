//! A thousand random datasets with planted contradictions: `check` finds every planted one and no others.

use mrcnn_core::data::{Severity, check};
use mrcnn_core::random::Stream;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::path::Path;
use vernier_mask::Rle;

const SIZE: (u32, u32) = (160, 120);

/// The words that identify a contradiction, and the change that plants it.
type Plant = (&'static str, fn(&mut Value));

const PLANTS: [Plant; 8] = [
    ("x1, y1, x2, y2", |a| {
        let [x, y, w, h] = numbers(&a["bbox"]);
        a["bbox"] = json!([x, y, x + w, y + h]);
    }),
    ("x and y are swapped", |a| {
        let [x, y, w, h] = numbers(&a["bbox"]);
        a["bbox"] = json!([y, x, h, w]);
    }),
    ("center, width and height", |a| {
        let [x, y, w, h] = numbers(&a["bbox"]);
        a["bbox"] = json!([x + w / 2.0, y + h / 2.0, w, h]);
    }),
    ("its numbers are normalized", |a| {
        let [x, y, w, h] = numbers(&a["bbox"]);
        let (width, height) = (f64::from(SIZE.0), f64::from(SIZE.1));
        a["bbox"] = json!([x / width, y / height, w / width, h / height]);
    }),
    ("coordinates are normalized", |a| {
        let polygon = a["segmentation"][0].as_array().expect("a polygon").clone();
        let sides = [f64::from(SIZE.0), f64::from(SIZE.1)];
        let scaled = polygon
            .iter()
            .enumerate()
            .map(|(i, v)| v.as_f64().expect("a number") / sides[i % 2]);
        a["segmentation"] = json!([scaled.collect::<Vec<_>>()]);
    }),
    ("along the rows", |a| {
        let mask = mask(a);
        let cells = mask.to_row_major_raster_bytes();
        let by_rows = Rle::from_raster_bytes(&cells, mask.h, mask.w).expect("runs");
        a["segmentation"] = json!({"size": [mask.h, mask.w], "counts": by_rows.counts.to_vec()});
    }),
    ("pixels from the box", |a| {
        let [x, y, w, h] = numbers(&a["bbox"]);
        a["bbox"] = json!([if x > 60.0 { x - 40.0 } else { x + 40.0 }, y, w, h]);
    }),
    ("height and width swapped", |a| {
        let mask = mask(a);
        a["segmentation"] = json!({"size": [mask.w, mask.h], "counts": mask.counts.to_vec()});
    }),
];

fn numbers(value: &Value) -> [f64; 4] {
    std::array::from_fn(|i| value[i].as_f64().expect("a number"))
}

fn mask(annotation: &Value) -> Rle {
    let polygon: Vec<f64> =
        serde_json::from_value(annotation["segmentation"][0].clone()).expect("a polygon");
    Rle::from_polygon(&polygon, SIZE.1, SIZE.0).expect("a mask")
}

/// An object with random corners, away from the origin and the diagonal, so that the contradictions can
/// be detected: a box at the origin is the same in corners.
fn annotation(id: usize, stream: Stream) -> Value {
    let uniform = |index: u64, low: f64, high: f64| low + stream.uniform(index) * (high - low);
    let (w, h) = (uniform(0, 20.0, 30.0), uniform(1, 12.0, 17.0));
    let (x, y) = (uniform(2, 45.0, 120.0), uniform(3, 8.0, 28.0));
    let corners = 5 + (stream.bits(4) % 8) as usize;
    let points: Vec<f64> = (0..corners)
        .flat_map(|corner| {
            let (sin, cos) = (corner as f64 / corners as f64 * std::f64::consts::TAU).sin_cos();
            [x + w / 2.0 * (1.0 + cos), y + h / 2.0 * (1.0 + sin)]
        })
        .collect();
    let edge = |axis: usize, pick: fn(f64, f64) -> f64| {
        points
            .iter()
            .skip(axis)
            .step_by(2)
            .copied()
            .reduce(pick)
            .expect("points")
    };
    let (left, top) = (edge(0, f64::min), edge(1, f64::min));
    let bbox = [left, top, edge(0, f64::max) - left, edge(1, f64::max) - top];
    // As tools write them: exact, rounded to hundredths, to whole pixels, or slightly loose.
    let bbox = match stream.bits(5) % 4 {
        0 => bbox,
        1 => bbox.map(|v| (v * 100.0).round() / 100.0),
        2 => bbox.map(f64::round),
        _ => [bbox[0] - 0.5, bbox[1] - 0.5, bbox[2] + 1.0, bbox[3] + 1.0],
    };
    json!({"id": id, "image_id": 1, "category_id": 1, "bbox": bbox, "iscrowd": 0, "segmentation": [points]})
}

fn dataset(folder: &Path, number: u64) -> BTreeSet<u64> {
    let stream = Stream::named("contradictions", 7).fork(number);
    let (_, plant) = PLANTS[(number % PLANTS.len() as u64) as usize];
    let (mut planted, mut annotations) = (BTreeSet::new(), Vec::new());
    for id in 1..=6 {
        let own = stream.fork(id);
        let mut annotation = annotation(id as usize, own);
        if id == 1 || own.bits(99).is_multiple_of(3) {
            plant(&mut annotation);
            planted.insert(id);
        }
        annotations.push(annotation);
    }
    let file = json!({
        "images": [{"id": 1, "file_name": "a.png", "width": SIZE.0, "height": SIZE.1}],
        "annotations": annotations,
        "categories": [{"id": 1, "name": "thing"}],
    });
    std::fs::write(folder.join("annotations.json"), file.to_string()).expect("annotations");
    planted
}

#[test]
fn every_planted_contradiction_is_found_and_no_healthy_annotation_is_reported() {
    let folder = tempfile::tempdir().expect("a folder");
    image::RgbImage::new(SIZE.0, SIZE.1)
        .save(folder.path().join("a.png"))
        .expect("an image");
    for number in 0..1000 {
        let planted = dataset(folder.path(), number);
        let (words, _) = PLANTS[(number % PLANTS.len() as u64) as usize];
        let report = check(folder.path(), None).expect("a report");
        let errors: Vec<_> = report
            .problems
            .iter()
            .filter(|p| p.severity == Severity::Error)
            .collect();
        let found: BTreeSet<u64> = errors.iter().filter_map(|p| p.annotation_id).collect();
        assert_eq!(found, planted, "dataset {number} ({words}): {report}");
        for error in errors {
            assert!(
                error.reason.contains(words),
                "dataset {number}, {words}: {error}"
            );
        }
    }
}
