//! YOLO's segmentation labels.

use super::{imported, open, spec};
use mrcnn_core::data::check;
use mrcnn_core::data::import::{Format, import};
use std::fs::{create_dir_all, write};
use std::path::Path;
use vernier_mask::Rle;

/// Writes labels of two images; a hexagon, a triangle that extends beyond the image, and a box.
pub fn labels(root: &Path, yaml: &str) {
    for part in ["images/train", "labels/train"] {
        create_dir_all(root.join(part)).expect("a folder");
    }
    for name in ["a", "b", "c"] {
        let image = image::RgbImage::new(80, 60);
        image
            .save(root.join(format!("images/train/{name}.png")))
            .expect("an image");
    }
    let lines = "1 0.25 0.1 0.5 0.1 0.6 0.4 0.5 0.8 0.25 0.8 0.1 0.4\n\n0 0.5 0.5 0.2 0.2\n";
    write(root.join("labels/train/a.txt"), lines).expect("labels");
    write(
        root.join("labels/train/b.txt"),
        "0 0.75 0.5 1.05 0.5 0.75 0.9\n",
    )
    .expect("labels");
    write(root.join("data.yaml"), yaml).expect("data.yaml");
}

#[test]
fn yolo_polygons_come_back() {
    let folder = tempfile::tempdir().expect("a folder");
    let spellings = [
        "path: /nowhere\ntrain: images/train\nnames:\n  0: cat\n  1: 'dog: big'\n",
        "train: ../images/train\nnc: 2\nnames: [cat, 'dog: big']\n",
        "train: [images/train]\nnames:\n- cat\n- 'dog: big'\n",
    ];
    for (number, yaml) in spellings.iter().enumerate() {
        let root = folder.path().join(format!("yolo{number}"));
        let out = folder.path().join(format!("coco{number}"));
        labels(&root, yaml);
        let found = imported(&spec(Format::Yolo, &root, &out));
        assert_eq!((found[0].images, found[0].objects), (3, 2), "{yaml}");
        assert_eq!(found[0].left_out["box without a polygon"], 1);
        let dataset = open(&out, "train");
        assert_eq!(dataset.classes.names, ["cat", "dog: big"]);
        let [a, b, c] = &dataset.samples[..] else {
            panic!("three images");
        };
        let hexagon = [
            20.0, 6.0, 40.0, 6.0, 48.0, 24.0, 40.0, 48.0, 20.0, 48.0, 8.0, 24.0,
        ];
        let triangle = [60.0, 30.0, 80.0, 30.0, 60.0, 54.0];
        for (sample, label, points) in [(a, 2, &hexagon[..]), (b, 1, &triangle)] {
            let wanted = Rle::from_polygon(points, 60, 80).expect("a polygon");
            assert_eq!(sample.instances[0].mask, wanted);
            assert_eq!(sample.instances[0].label, label);
        }
        assert_eq!(a.instances[0].bbox, [8.0, 6.0, 48.0, 48.0]);
        assert!(
            c.instances.is_empty(),
            "an image without a file has no objects"
        );
        assert_eq!(check(&out, None).expect("a report").errors(), 0);
    }
    // Errors are reported with their line.
    let root = folder.path().join("yolo0");
    for (line, wanted) in [
        ("2 0 0 1 0 1 1", "class `2`"),
        ("0 0 0 1 0 1", "5 coordinates"),
        ("0 0 0 1 0 1 1 0.93", "may be a confidence"),
        ("0 0 0 1 0 80 1", "`80` is not a fraction"),
        ("0 0 0 x 0 1 1", "`x` is not a fraction"),
    ] {
        write(root.join("labels/train/b.txt"), format!("\n{line}\n")).expect("labels");
        let out = folder.path().join("broken");
        let error = import(&spec(Format::Yolo, &root, &out))
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("b.txt, line 2") && error.contains(wanted),
            "{error}"
        );
    }
}
