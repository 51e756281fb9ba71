//! labelme's JSON.

use super::editable;
use crate::Prediction;
use serde_json::{Value, json};

impl Prediction {
    /// labelme's annotation of the image, to be written to a JSON file; `image` is the path of the image from the
    /// folder of that file.
    ///
    /// Outlines are moved by at most [`super::EDIT_TOLERANCE`] pixels. The parts of an object have a `group_id` in
    /// common, and its score is the `description`.
    pub fn to_labelme(&self, image: &str) -> Value {
        let shapes = (1..).zip(self).flat_map(|(number, object)| {
            let parts = editable(&object);
            let group = (parts.len() > 1).then_some(number);
            let shape = move |points| {
                json!({
                    "label": object.name,
                    "points": points,
                    "group_id": group,
                    "description": format!("{:.3}", object.score),
                    "shape_type": "polygon",
                    "flags": {},
                    "mask": null,
                })
            };
            parts.into_iter().map(shape)
        });
        json!({
            "version": "5.5.0",
            "flags": {},
            "shapes": shapes.collect::<Vec<Value>>(),
            "imagePath": image,
            "imageData": null,
            "imageHeight": self.height,
            "imageWidth": self.width,
        })
    }
}

#[cfg(all(test, feature = "train"))]
mod tests {
    use super::super::example;
    use crate::data::import::{Format, ImportSpec, import};
    use crate::data::{Dataset, OnProblem};

    #[test]
    fn the_importer_reads_the_same_objects() {
        let prediction = example();
        let folder = tempfile::tempdir().unwrap();
        let at = folder.path();
        ::image::RgbImage::new(80, 60)
            .save(at.join("a.png"))
            .unwrap();
        std::fs::write(
            at.join("a.json"),
            prediction.to_labelme("a.png").to_string(),
        )
        .unwrap();
        let spec = ImportSpec {
            format: Format::Labelme,
            source: at.into(),
            images: None,
            split: None,
            out: at.join("out"),
        };
        let imported = import(&spec).unwrap();
        assert_eq!((imported[0].objects, imported[0].left_out.len()), (3, 0));
        let (dataset, _) = Dataset::open(&at.join("out"), "train", OnProblem::Refuse).unwrap();
        let instances = &dataset.samples[0].instances;
        for (instance, object) in instances.iter().zip(&prediction) {
            assert_eq!(dataset.classes.name(instance.label), object.name);
            let shared = instance.mask.intersect_area(&object.mask).unwrap() as f64;
            let union = (instance.mask.area() + object.mask.area()) as f64 - shared;
            assert!(shared / union > 0.93, "{}", shared / union);
        }
    }
}
