//! Rendered images with the size of COCO images.

use crate::boxes::Bbox;
use crate::data::shapes::{ShapesSpec, scene};
use crate::data::{Classes, Dataset, Instance, Sample};
use ::image::RgbImage;
use std::path::PathBuf;

/// Renders `count` images with sides of 480 to 640 px and up to 12 objects of `classes` classes, with their ground
/// truth. The result is the same at every call.
pub fn synthetic_images(count: usize, classes: usize) -> (Vec<RgbImage>, Dataset) {
    let spec = ShapesSpec {
        size_min: 480,
        size_max: 640,
        max_objects: 12,
        ..ShapesSpec::default()
    };
    let classes = classes.max(1);
    let (mut images, mut samples) = (Vec::new(), Vec::new());
    for index in 0..count as u64 {
        let scene = scene("benchmark", index, &spec);
        let instances = scene.instances.into_iter().map(|object| {
            let [x, y, w, h] = object.mask.bbox().map(|v| v as f32);
            let bbox: Bbox = [x, y, x + w, y + h];
            Instance {
                annotation_id: 0,
                label: (object.label - 1) % classes + 1,
                bbox,
                area: (w * h) as f64,
                mask: object.mask,
                is_crowd: false,
            }
        });
        samples.push(Sample::new(
            index + 1,
            PathBuf::new(),
            scene.image.dimensions(),
            instances.collect(),
        ));
        images.push(scene.image);
    }
    let dataset = Dataset {
        annotations: PathBuf::from("rendered"),
        classes: Classes {
            names: (1..=classes).map(|id| format!("class {id}")).collect(),
            ids: (1..=classes as u64).collect(),
        },
        samples,
        ..Dataset::default()
    };
    (images, dataset)
}
