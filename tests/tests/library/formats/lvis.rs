//! LVIS.

use super::{assert_same, imported, open, shapes, spec};
use mrcnn_core::data::import::{Format, ImportSpec};
use mrcnn_core::data::shapes::CLASSES;
use std::fs::{create_dir_all, write};

#[test]
fn lvis_finds_cocos_images() {
    let (folder, samples) = shapes();
    let at = folder.path();
    create_dir_all(at.join("coco/val2017")).expect("a folder");
    let (mut images, mut annotations) = (Vec::new(), Vec::new());
    for (index, sample) in samples.iter().enumerate() {
        let id = 1000 + index;
        let name = format!("val2017/{id:012}.png");
        std::fs::copy(&sample.path, at.join("coco").join(&name)).expect("a copy");
        images.push(serde_json::json!({
            "id": id, "width": sample.width, "height": sample.height,
            "coco_url": format!("http://images.cocodataset.org/{name}"),
            "neg_category_ids": [1], "not_exhaustive_category_ids": []
        }));
        for instance in &sample.instances {
            let [x, y, w, h] = instance.mask.bbox();
            let counts = instance.mask.to_string_bytes();
            annotations.push(serde_json::json!({
                "id": annotations.len() + 1, "image_id": id, "category_id": 10 * instance.label,
                "bbox": [x, y, w, h], "area": instance.area,
                "segmentation": {
                    "size": [sample.height, sample.width],
                    "counts": String::from_utf8(counts).expect("ASCII")
                }
            }));
        }
    }
    images.push(
        serde_json::json!({"id": 5, "width": 9, "height": 9, "coco_url": "http://x/y/z.jpg"}),
    );
    let categories: Vec<_> = (1..)
        .zip(CLASSES)
        .map(|(id, name)| serde_json::json!({"id": 10 * id, "name": name, "frequency": "f"}))
        .collect();
    let text = serde_json::json!({
        "images": images, "annotations": annotations, "categories": categories
    });
    let json = at.join("lvis_v1_val.json");
    write(&json, text.to_string()).expect("JSON");
    let spec = ImportSpec {
        images: Some(at.join("coco")),
        ..spec(Format::Lvis, &json, &at.join("out"))
    };
    let found = imported(&spec);
    assert_eq!(
        (found[0].split.as_str(), found[0].images),
        ("val", samples.len())
    );
    assert_eq!(
        found[0].left_out.values().sum::<usize>(),
        1,
        "the missing image"
    );
    let dataset = open(&at.join("out"), "val");
    assert_eq!(dataset.samples[0].image_id, 1000);
    assert_same(&dataset.samples, &samples, &dataset.classes.names);
}
