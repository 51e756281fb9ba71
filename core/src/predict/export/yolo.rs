//! YOLO-seg's text files.

use super::editable;
use crate::Prediction;
use crate::data::Classes;
use crate::detection::merge;
use std::fmt::Write;

impl Prediction {
    /// The label file of the image: a line `class x1 y1 x2 y2 ...` per object, with the class from 0 and fractions of
    /// the image.
    ///
    /// An object is one polygon: holes and parts are joined by lines without width. Outlines are moved by at most
    /// [`super::EDIT_TOLERANCE`] pixels; objects with an empty mask are left out.
    pub fn to_yolo(&self) -> String {
        let size = [f64::from(self.width), f64::from(self.height)];
        let mut text = String::new();
        for detection in &self.detections {
            let ring = merge(editable(detection));
            if ring.is_empty() {
                continue;
            }
            let _ = write!(text, "{}", detection.label.saturating_sub(1));
            for [x, y] in ring {
                let _ = write!(text, " {:.6} {:.6}", x / size[0], y / size[1]);
            }
            text.push('\n');
        }
        text
    }
}

/// The file `data.yaml` of a YOLO dataset with the images of `images/train`.
pub fn yolo_data_yaml(classes: &Classes) -> String {
    let mut text = String::from("path: .\ntrain: images/train\nval: images/train\nnames:\n");
    for (index, name) in classes.names.iter().enumerate() {
        // A JSON string is a YAML string.
        let _ = writeln!(
            text,
            "  {index}: {}",
            serde_json::Value::from(name.as_str())
        );
    }
    text
}

#[cfg(all(test, feature = "train"))]
mod tests {
    use super::super::example;
    use super::*;
    use crate::data::import::{Format, ImportSpec, import};
    use crate::data::{Dataset, OnProblem};

    #[test]
    fn the_importer_reads_the_same_objects() {
        let prediction = example();
        let folder = tempfile::tempdir().unwrap();
        let at = folder.path();
        for kind in ["images/train", "labels/train"] {
            std::fs::create_dir_all(at.join(kind)).unwrap();
        }
        ::image::RgbImage::new(80, 60)
            .save(at.join("images/train/a.png"))
            .unwrap();
        std::fs::write(at.join("labels/train/a.txt"), prediction.to_yolo()).unwrap();
        std::fs::write(at.join("data.yaml"), yolo_data_yaml(prediction.classes())).unwrap();
        let spec = ImportSpec {
            format: Format::Yolo,
            source: at.into(),
            images: None,
            split: Some("train".into()),
            out: at.join("out"),
        };
        let imported = import(&spec).unwrap();
        assert_eq!((imported[0].objects, imported[0].left_out.len()), (3, 0));
        let (dataset, _) = Dataset::open(&at.join("out"), "train", OnProblem::Refuse).unwrap();
        assert_eq!(dataset.classes.names, prediction.classes().names);
        for (instance, object) in dataset.samples[0].instances.iter().zip(&prediction) {
            assert_eq!(instance.label, object.label);
            let shared = instance.mask.intersect_area(&object.mask).unwrap() as f64;
            let union = (instance.mask.area() + object.mask.area()) as f64 - shared;
            assert!(shared / union > 0.93, "{}", shared / union);
        }
    }
}
