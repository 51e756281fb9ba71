//! labelme, VIA and CVAT, each detected from its contents.

use super::{imported, open, spec};
use mrcnn_core::data::import::{Format, import};
use std::fs::write;
use std::path::Path;
use vernier_mask::Rle;

const SQUARE: [f64; 8] = [4.0, 5.0, 20.0, 5.0, 20.0, 21.0, 4.0, 21.0];

fn image(at: &Path, name: &str) {
    image::RgbImage::new(60, 40)
        .save(at.join(name))
        .expect("an image");
}

fn holds_the_square(out: &Path, class: &str) {
    let dataset = open(out, "train");
    let sample = &dataset.samples[0];
    assert_eq!((sample.width, sample.height), (60, 40));
    let wanted = Rle::from_polygon(&SQUARE, 40, 60).expect("a mask");
    assert_eq!(sample.instances[0].mask, wanted);
    assert_eq!(dataset.classes.name(sample.instances[0].label), class);
}

#[test]
fn labelme_folders_are_read() {
    let folder = tempfile::tempdir().expect("a folder");
    let (at, out) = (folder.path(), folder.path().join("coco"));
    image(at, "a.png");
    let text = r#"{"version": "5.0.1", "flags": {}, "imagePath": "..\\photos\\a.png", "imageData": null,
        "imageHeight": 40, "imageWidth": 60, "shapes": [
        {"label": "box", "points": [[4, 5], [20, 5], [20, 21], [4, 21]], "shape_type": "polygon", "group_id": null},
        {"label": "dot", "points": [[40, 20], [45, 20]], "shape_type": "circle"},
        {"label": "dot", "points": [[1, 1], [9, 9]], "shape_type": "rectangle"},
        {"label": "two", "points": [[30, 1], [34, 1], [34, 5]], "shape_type": "polygon", "group_id": 7},
        {"label": "two", "points": [[50, 1], [54, 1], [54, 5]], "shape_type": "polygon", "group_id": 7}]}"#;
    write(at.join("a.json"), text).expect("annotations");
    let found = imported(&spec(Format::Auto, at, &out));
    assert_eq!((found[0].images, found[0].objects), (1, 3));
    assert_eq!(
        found[0].left_out.values().sum::<usize>(),
        1,
        "the rectangle"
    );
    holds_the_square(&out, "box");
}

#[test]
fn via_projects_are_read() {
    let folder = tempfile::tempdir().expect("a folder");
    let (at, out) = (folder.path(), folder.path().join("coco"));
    image(at, "a.png");
    let entry = r#"{"a.png123": {"filename": "a.png", "size": 123, "regions": [
        {"shape_attributes": {"name": "polygon", "all_points_x": [4, 20, 20, 4], "all_points_y": [5, 5, 21, 21]},
         "region_attributes": {"name": "box"}},
        {"shape_attributes": {"name": "ellipse", "cx": 40, "cy": 20, "rx": 8, "ry": 4, "theta": 0},
         "region_attributes": {"name": "disc"}},
        {"shape_attributes": {"name": "rect", "x": 1, "y": 1, "width": 4, "height": 4},
         "region_attributes": {"name": "disc"}}]}}"#;
    for (number, text) in [
        entry.to_string(),
        format!("{{\"_via_settings\": {{}}, \"_via_img_metadata\": {entry}}}"),
    ]
    .iter()
    .enumerate()
    {
        write(at.join("via.json"), text).expect("annotations");
        let out = out.join(number.to_string());
        let found = imported(&spec(Format::Auto, &at.join("via.json"), &out));
        assert_eq!((found[0].images, found[0].objects), (1, 2));
        holds_the_square(&out, "box");
    }
}

#[test]
fn cvat_files_are_read() {
    let folder = tempfile::tempdir().expect("a folder");
    let (at, out) = (folder.path(), folder.path().join("coco"));
    std::fs::create_dir(at.join("images")).expect("a folder");
    image(at, "images/a.png");
    let text = r#"<?xml version="1.0" encoding="utf-8"?><annotations><version>1.1</version>
        <image id="0" name="a.png" width="60" height="40">
        <polygon label="box" source="manual" occluded="0" points="4.00,5.00;20.00,5.00;20.00,21.00;4.00,21.00" z_order="0"></polygon>
        <box label="box" occluded="0" xtl="1" ytl="1" xbr="9" ybr="9"></box>
        <mask label="box" rle="1,2" left="0" top="0" width="3" height="1"></mask></image></annotations>"#;
    write(at.join("annotations.xml"), text).expect("annotations");
    let found = imported(&spec(Format::Auto, at, &out));
    assert_eq!((found[0].images, found[0].objects), (1, 1));
    assert_eq!(
        found[0].left_out.values().sum::<usize>(),
        2,
        "{:?}",
        found[0].left_out
    );
    holds_the_square(&out, "box");
}

#[test]
fn coco_and_unknown_sources_are_named() {
    let folder = tempfile::tempdir().expect("a folder");
    let (at, out) = (folder.path(), folder.path().join("coco"));
    let refused = |wanted: &str| {
        let error = import(&spec(Format::Auto, at, &out))
            .unwrap_err()
            .to_string();
        assert!(error.contains(wanted), "{error}");
    };
    refused("name it with --from");
    write(
        at.join("annotations.json"),
        r#"{"images": [], "annotations": []}"#,
    )
    .expect("a file");
    refused("COCO dataset already");
}
