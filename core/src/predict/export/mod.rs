//! Predictions in the formats of other programs.

mod coco;
mod labelme;
mod raster;
mod table;
mod yolo;

pub use coco::{CocoImage, coco_dataset};
pub use table::{CSV_HEADER, csv_rows};
pub use yolo::yolo_data_yaml;

use crate::detection::{Detection, Point};

/// Largest distance in pixels between a mask and its polygon in a format for editing by hand.
pub const EDIT_TOLERANCE: f64 = 1.0;

/// The polygons of a mask for editing, one per connected component.
fn editable(detection: &Detection) -> Vec<Vec<Point>> {
    let polygons = detection.polygons();
    polygons
        .iter()
        .map(|polygon| polygon.simplified(EDIT_TOLERANCE))
        .collect()
}

/// Objects of a test: a ring with a hole, two parts, and a square in front of the ring.
#[cfg(test)]
fn example() -> crate::Prediction {
    use crate::data::Classes;
    use vernier_mask::Rle;
    let mask = |inside: &dyn Fn(f64, f64) -> bool| {
        let cells: Vec<u8> = (0..60 * 80)
            .map(|cell| u8::from(inside(f64::from(cell % 80), f64::from(cell / 80))))
            .collect();
        Rle::from_row_major_raster_bytes(&cells, 60, 80).unwrap()
    };
    let distance = |x: f64, y: f64| (x - 30.0).hypot(y - 30.0);
    let masks = [
        mask(&|x, y| (40.0..60.0).contains(&x) && (20.0..40.0).contains(&y)),
        mask(&|x, y| (8.0..25.0).contains(&distance(x, y))),
        mask(&|x, y| y < 10.0 && !(12.0..70.0).contains(&x)),
    ];
    let labels = [1, 2, 1];
    let detections = masks.into_iter().zip(labels).map(|(mask, label)| {
        let [x, y, width, height] = mask.bbox().map(|v| v as f32);
        Detection {
            bbox: [x, y, x + width, y + height],
            label,
            score: 0.75,
            mask,
        }
    });
    let classes = Classes {
        names: vec!["cat, \"black\"".into(), "dog".into()],
        ids: vec![3, 7],
    };
    crate::Prediction::new((80, 60), detections.collect(), classes.into())
}
