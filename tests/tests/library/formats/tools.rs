//! labelme, VIA and CVAT, each detected from its contents.

use super::{imported, open, spec};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
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

/// `annotations.xml` with these elements, and its folder of images.
fn cvat(at: &Path, elements: &str) {
    std::fs::create_dir_all(at.join("images")).expect("a folder");
    let text = format!(
        "<?xml version=\"1.0\" encoding=\"utf-8\"?><annotations><version>1.1</version>{elements}</annotations>"
    );
    write(at.join("annotations.xml"), text).expect("annotations");
}

const POLYGON: &str = r#"<polygon label="box" source="manual" occluded="0"
    points="4.00,5.00;20.00,5.00;20.00,21.00;4.00,21.00" z_order="0"></polygon>"#;

#[test]
fn cvat_files_are_read() {
    let folder = tempfile::tempdir().expect("a folder");
    let (at, out) = (folder.path(), folder.path().join("coco"));
    let shapes = r#"<box label="box" occluded="0" xtl="1" ytl="1" xbr="9" ybr="9"></box>
        <polyline label="box" points="1,1;9,9"></polyline>
        <polygon label="box" points="1,1;9,9"/>"#;
    cvat(
        at,
        &format!(r#"<image id="0" name="a.png" width="60" height="40">{POLYGON}{shapes}</image>"#),
    );
    image(at, "images/a.png");
    let found = imported(&spec(Format::Auto, at, &out));
    assert_eq!((found[0].images, found[0].objects), (1, 1));
    let left_out = found[0].left_out.values().sum::<usize>();
    assert_eq!(left_out, 3, "{:?}", found[0].left_out);
    holds_the_square(&out, "box");
}

#[test]
fn cvats_brush_masks_and_ellipses_are_read() {
    let folder = tempfile::tempdir().expect("a folder");
    let (at, out) = (folder.path(), folder.path().join("coco"));
    // A ring of 4x3 pixels around 2, the second of them at the image's right edge.
    let masks = r#"<mask label="ring" rle="0, 5, 2, 5" left="10" top="20" width="4" height="3" z_order="0"></mask>
        <mask label="ring" source="manual" rle="0, 12" left="58" top="0" width="4" height="3"/>
        <ellipse label="disc" cx="30" cy="20" rx="8" ry="4" rotation="90.0"></ellipse>"#;
    cvat(
        at,
        &format!(r#"<image id="0" name="a.png" width="60" height="40">{masks}</image>"#),
    );
    image(at, "images/a.png");
    let found = imported(&spec(Format::Auto, at, &out));
    assert_eq!(found[0].objects, 3, "{:?}", found[0].left_out);
    let dataset = open(&out, "train");
    let [ring, edge, disc] = &dataset.samples[0].instances[..] else {
        panic!("{dataset:?}")
    };
    let mut cells = vec![0; 60 * 40];
    for (x, y) in (10..14).flat_map(|x| (20..23).map(move |y| (x, y))) {
        let inside = y == 21 && (11..13).contains(&x);
        cells[y * 60 + x] = u8::from(!inside);
    }
    assert_eq!(
        ring.mask,
        Rle::from_row_major_raster_bytes(&cells, 40, 60).expect("a mask")
    );
    assert_eq!(
        (ring.bbox, ring.area, ring.is_crowd),
        ([10.0, 20.0, 14.0, 23.0], 10.0, false)
    );
    assert_eq!(edge.bbox, [58.0, 0.0, 60.0, 3.0]);
    // Turned by 90 degrees, it is higher than wide.
    assert!(
        disc.bbox[3] - disc.bbox[1] > 15.0 && disc.bbox[2] - disc.bbox[0] < 9.0,
        "{:?}",
        disc.bbox
    );
    assert_eq!(dataset.classes.names, ["disc", "ring"]);

    cvat(
        at,
        r#"<image id="0" name="a.png" width="60" height="40">
        <mask label="ring" rle="1,2" left="0" top="0" width="3" height="3"/></image>"#,
    );
    let error = import(&spec(Format::Auto, at, &at.join("again")))
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("a mask of a.png") && error.contains("has 9"),
        "{error}"
    );
}

#[test]
fn shapes_of_a_group_in_cvat_are_one_object() {
    let folder = tempfile::tempdir().expect("a folder");
    let (at, out) = (folder.path(), folder.path().join("coco"));
    let shapes = r#"<polygon label="a" group_id="1" points="2,2;6,2;6,6;2,6"/>
        <polygon label="a" group_id="1" points="20,2;26,2;26,6;20,6"/>
        <polygon label="b" group_id="1" points="40,2;46,2;46,6;40,6"/>
        <polygon label="a" group_id="2" points="2,20;6,20;6,24;2,24"/>
        <mask label="a" group_id="2" rle="0,4" left="8" top="20" width="2" height="2"/>
        <polygon label="a" points="30,20;36,20;36,26;30,26"/>
        <polygon label="a" points="40,20;46,20;46,26;40,26"/>"#;
    cvat(
        at,
        &format!(r#"<image id="0" name="a.png" width="60" height="40">{shapes}</image>"#),
    );
    image(at, "images/a.png");
    let found = imported(&spec(Format::Auto, at, &out));
    assert_eq!(found[0].objects, 5);
    let dataset = open(&out, "train");
    let boxes: Vec<_> = dataset.samples[0]
        .instances
        .iter()
        .map(|i| i.bbox)
        .collect();
    assert_eq!(boxes[0], [2.0, 2.0, 26.0, 6.0]);
    assert!(boxes.contains(&[2.0, 20.0, 10.0, 24.0]), "{boxes:?}");
}

#[test]
fn cvats_subsets_are_splits_and_names_are_text() {
    let folder = tempfile::tempdir().expect("a folder");
    let (at, out) = (folder.path(), folder.path().join("coco"));
    let entry = |id: usize, subset: &str| {
        format!(
            r#"<image id="{id}" name="a&amp;b.png" subset="{subset}" task_id="1" width="60" height="40">{}</image>"#,
            POLYGON.replace("\"box\"", "\"R&amp;D\"")
        )
    };
    let labels = "<meta><project><labels><label><name>unused</name></label><label><name>R&amp;D</name></label>\
        </labels></project></meta>";
    cvat(
        at,
        &format!("{labels}{}{}", entry(0, "Train"), entry(0, "Validation")),
    );
    for subset in ["Train", "Validation"] {
        std::fs::create_dir(at.join("images").join(subset)).expect("a folder");
        image(at, &format!("images/{subset}/a&b.png"));
    }
    let found = imported(&spec(Format::Cvat, at, &out));
    let splits: Vec<&str> = found.iter().map(|split| split.split.as_str()).collect();
    assert_eq!(splits, ["Train", "Validation"]);
    let val = open(&out, "val");
    assert_eq!(val.classes.names, ["unused", "R&D"]);
    assert_eq!(val.samples[0].file_name, "a&b.png");
    holds_the_square(&out, "R&D");

    let only = spec(Format::Cvat, at, &at.join("only"));
    let mut none = spec(Format::Cvat, at, &at.join("none"));
    none.split = Some("test".into());
    assert!(
        import(&none)
            .unwrap_err()
            .to_string()
            .contains("no image of that subset")
    );
    let one = imported(&mrcnn_core::data::import::ImportSpec {
        split: Some("Train".into()),
        ..only
    });
    assert_eq!(one.len(), 1);
}

#[test]
fn other_xml_files_are_named() {
    let folder = tempfile::tempdir().expect("a folder");
    let at = folder.path();
    for (text, wanted) in [
        (
            "<annotation><filename>a.png</filename></annotation>",
            "no file of CVAT for images",
        ),
        (
            "<annotations><track id=\"0\" label=\"a\"></track></annotations>",
            "CVAT for video",
        ),
    ] {
        write(at.join("annotations.xml"), text).expect("a file");
        let error = import(&spec(Format::Auto, at, &at.join("out")))
            .unwrap_err()
            .to_string();
        assert!(error.contains(wanted), "{error}");
    }
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

#[test]
fn labelmes_masks_are_clipped_to_the_image() {
    let folder = tempfile::tempdir().expect("a folder");
    let (at, out) = (folder.path(), folder.path().join("coco"));
    image(at, "a.png");
    let mut png = std::io::Cursor::new(Vec::new());
    let set = |x: u32, y: u32| x >= 2 && y != 3;
    let pixels = image::GrayImage::from_fn(7, 5, |x, y| image::Luma([u8::from(set(x, y))]));
    pixels
        .write_to(&mut png, image::ImageFormat::Png)
        .expect("memory");
    let png = BASE64_STANDARD.encode(png.into_inner());
    let starts = [[10, 20], [-4, -2], [56, 38], [-7, 0], [1_000_000_000, 3]];
    let shapes = starts.map(|start| {
        serde_json::json!({"label": "a", "points": [start, [0, 0]], "shape_type": "mask", "mask": png})
    });
    let file = serde_json::json!({"shapes": shapes, "imagePath": "a.png"});
    write(at.join("a.json"), file.to_string()).expect("annotations");
    let found = imported(&spec(Format::Labelme, at, &out));
    assert_eq!(
        (found[0].objects, &found[0].left_out),
        (3, &[("mask without a pixel", 2)].into())
    );
    let dataset = open(&out, "train");
    for (instance, start) in dataset.samples[0].instances.iter().zip(starts) {
        let mut cells = vec![0; 60 * 40];
        for (x, y) in (0..7).flat_map(|x| (0..5).map(move |y| (x, y))) {
            let (column, row) = (start[0] + x, start[1] + y);
            if set(x as u32, y as u32) && (0..60).contains(&column) && (0..40).contains(&row) {
                cells[(row * 60 + column) as usize] = 1;
            }
        }
        let wanted = Rle::from_row_major_raster_bytes(&cells, 40, 60).expect("a mask");
        assert_eq!(instance.mask.to_string_bytes(), wanted.to_string_bytes());
    }
}

/// Writes a file of a tool in `at` that gives the image this name.
type WriteFile = fn(at: &Path, name: &str);

#[test]
fn names_that_lead_elsewhere_are_reported() {
    let tools: [(Format, &str, WriteFile); 3] = [
        (Format::Labelme, "", |at, name| {
            let shape = serde_json::json!({"label": "box", "points": [[4, 5], [20, 5], [20, 21]], "shape_type": "polygon"});
            let file = serde_json::json!({"shapes": [shape], "imagePath": name});
            write(at.join("a.json"), file.to_string()).expect("annotations");
        }),
        (Format::Via, "via.json", |at, name| {
            let outline =
                serde_json::json!({"name": "ellipse", "cx": 20, "cy": 20, "rx": 8, "ry": 4});
            let region = serde_json::json!({"shape_attributes": outline, "region_attributes": {"name": "box"}});
            let file = serde_json::json!({"a": {"filename": name, "regions": [region]}});
            write(at.join("via.json"), file.to_string()).expect("annotations");
        }),
        (Format::Cvat, "annotations.xml", |at, name| {
            let text =
                format!(r#"<image id="0" name="{name}" width="60" height="40">{POLYGON}</image>"#);
            cvat(at, &text);
            std::fs::remove_dir(at.join("images")).expect("an empty folder");
        }),
    ];
    let names = [
        ("a.png", Ok("")),
        ("a.jpg", Ok("another extension")),
        (
            "../b.png",
            Ok("outside the dataset's folder, such as `../b.png`"),
        ),
        ("c.jpg", Err("several files")),
        ("none.png", Err("--images")),
    ];
    for (format, source, write_file) in tools {
        for (name, wanted) in names {
            let folder = tempfile::tempdir().expect("a folder");
            let at = folder.path().join("data");
            std::fs::create_dir_all(at.join("deep")).expect("a folder");
            for file in ["a.png", "../b.png", "deep/c.png", "deep/c.bmp"] {
                image(&at, file);
            }
            write_file(&at, name);
            let imported = import(&spec(format, &at.join(source), &folder.path().join("coco")));
            match (imported.map(|splits| splits[0].notes.join("\n")), wanted) {
                (Ok(notes), Ok("")) => assert_eq!(notes, "", "{format:?}"),
                (Ok(notes), Ok(part)) => {
                    assert!(notes.contains(part), "{format:?} {name}: {notes}")
                }
                (Err(error), Err(part)) => {
                    let error = error.to_string();
                    assert!(error.contains(part), "{format:?} {name}: {error}");
                }
                (other, _) => panic!("{format:?} {name}: {other:?}"),
            }
        }
    }
}
