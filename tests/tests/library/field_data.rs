//! Datasets as tools and people write them: each case is read, or rejected with a specific error.

use mrcnn_core::data::{Dataset, OnProblem, Severity, check};
use serde_json::{Value, json};
use std::path::Path;

/// A COCO file of `images` images of 60x40 pixels with a square and a triangle each, from the id 1.
fn coco(images: usize) -> Value {
    let entries: Vec<Value> = (1..=images)
        .map(|id| json!({"id": id, "file_name": format!("{id}.png"), "width": 60, "height": 40}))
        .collect();
    let mut annotations = Vec::new();
    for image in 1..=images {
        let shapes = [
            (
                1,
                json!([20, 10, 16, 12]),
                json!([[20, 10, 36, 10, 36, 22, 20, 22]]),
            ),
            (2, json!([5, 20, 10, 15]), json!([[5, 20, 15, 20, 15, 35]])),
        ];
        for (category, bbox, segmentation) in shapes {
            annotations.push(
                json!({"id": annotations.len() + 1, "image_id": image, "category_id": category,
                "bbox": bbox, "area": 100, "iscrowd": 0, "segmentation": segmentation}),
            );
        }
    }
    json!({"images": entries, "annotations": annotations,
        "categories": [{"id": 1, "name": "square"}, {"id": 2, "name": "triangle"}]})
}

/// Writes a dataset of one annotation file, after applying `change` to it.
pub fn written(at: &Path, images: usize, change: impl Fn(&mut Value)) {
    let mut file = coco(images);
    for id in 1..=images {
        let image = image::RgbImage::from_pixel(60, 40, image::Rgb([id as u8; 3]));
        std::fs::create_dir_all(at.join("images")).expect("a folder");
        image
            .save(at.join(format!("images/{id}.png")))
            .expect("an image");
    }
    change(&mut file);
    std::fs::write(at.join("annotations.json"), file.to_string()).expect("annotations");
}

pub fn each(file: &mut Value, list: &str, change: impl Fn(&mut Value)) {
    file[list]
        .as_array_mut()
        .expect("a list")
        .iter_mut()
        .for_each(change);
}

/// Objects read, and the report of a check.
fn read(at: &Path) -> (usize, String) {
    let objects = match Dataset::open(at, "train", OnProblem::Skip) {
        Ok((dataset, _)) => dataset
            .samples
            .iter()
            .map(|sample| sample.instances.len())
            .sum(),
        Err(_) => 0,
    };
    let report =
        check(at, None).map_or_else(|error| error.to_string(), |report| report.to_string());
    (objects, report)
}

#[test]
fn values_in_other_types_are_read_where_their_meaning_is_certain() {
    type Change = fn(&mut Value);
    let cases: [(&str, Change); 10] = [
        ("crowd as a boolean", |f| {
            each(f, "annotations", |a| a["iscrowd"] = json!(false))
        }),
        ("crowd as null", |f| {
            each(f, "annotations", |a| a["iscrowd"] = Value::Null)
        }),
        ("crowd as text", |f| {
            each(f, "annotations", |a| a["iscrowd"] = json!("0"))
        }),
        ("ids as floats", |f| {
            each(f, "annotations", |a| {
                a["image_id"] = json!(a["image_id"].as_f64())
            });
        }),
        ("ids as text", |f| {
            each(f, "images", |i| i["id"] = json!(i["id"].to_string()));
            each(f, "annotations", |a| {
                a["image_id"] = json!(a["image_id"].to_string())
            });
        }),
        ("sizes as text", |f| {
            each(f, "images", |i| i["width"] = json!("60"))
        }),
        ("no sizes", |f| {
            each(f, "images", |i| {
                drop(i.as_object_mut().map(|i| i.remove("height")))
            })
        }),
        ("boxes of text", |f| {
            each(f, "annotations", |a| {
                a["bbox"] = a["bbox"]
                    .as_array()
                    .expect("a box")
                    .iter()
                    .map(|v| json!(v.to_string()))
                    .collect()
            });
        }),
        ("negative annotation ids", |f| {
            each(f, "annotations", |a| {
                a["id"] = json!(-a["id"].as_i64().expect("an id"))
            })
        }),
        ("no annotation ids", |f| {
            each(f, "annotations", |a| {
                drop(a.as_object_mut().map(|a| a.remove("id")))
            })
        }),
    ];
    for (name, change) in cases {
        let folder = tempfile::tempdir().expect("a folder");
        written(folder.path(), 2, change);
        let (objects, report) = read(folder.path());
        assert!(
            objects == 4 && report.contains("0 errors"),
            "{name}: {objects} objects\n{report}"
        );
    }
}

#[test]
fn faults_are_named_once_for_their_kind() {
    type Change = fn(&mut Value);
    let cases: [(&str, Change); 9] = [
        ("it is x1, y1, x2, y2", |f| {
            each(f, "annotations", |a| {
                let [x, y, w, h] =
                    std::array::from_fn(|i| a["bbox"][i].as_f64().expect("a number"));
                a["bbox"] = json!([x, y, x + w, y + h]);
            })
        }),
        ("coordinates are normalized", |f| {
            each(f, "annotations", |a| {
                a["segmentation"] = json!([[0.1, 0.1, 0.5, 0.1, 0.5, 0.5]]);
            })
        }),
        ("`bbox` is an object", |f| {
            each(f, "annotations", |a| a["bbox"] = json!({"x": 1}))
        }),
        ("all of its 4 objects are crowds", |f| {
            each(f, "annotations", |a| a["iscrowd"] = json!(1))
        }),
        ("`id` is \"img_1\"", |f| {
            each(f, "images", |i| i["id"] = json!(format!("img_{}", i["id"])))
        }),
        ("`category_id` is \"square\"", |f| {
            each(f, "annotations", |a| a["category_id"] = json!("square"))
        }),
        ("annotation id 1 is used twice", |f| {
            each(f, "annotations", |a| a["id"] = json!(1))
        }),
        ("at most 100 megapixels", |f| {
            each(f, "images", |i| {
                i["width"] = json!(1_000_000);
                i["height"] = json!(1_000_000);
            })
        }),
        ("there is no list `images`", |f| {
            *f = json!({"annotations": []})
        }),
    ];
    for (wanted, change) in cases {
        let folder = tempfile::tempdir().expect("a folder");
        written(folder.path(), 2, change);
        let (_, report) = read(folder.path());
        let lines: Vec<&str> = report
            .lines()
            .filter(|line| line.contains(wanted))
            .collect();
        assert_eq!(lines.len(), 1, "{wanted}\n{report}");
        assert!(
            lines[0].starts_with("error: ") && lines[0].contains("; "),
            "{report}"
        );
    }
}

#[test]
fn doubts_are_warnings() {
    let folder = tempfile::tempdir().expect("a folder");
    written(folder.path(), 2, |file| {
        file["categories"][1]["name"] = json!("square");
        file["annotations"][0]["segmentation"]
            .as_array_mut()
            .expect("polygons")
            .push(json!([1, 1, 2, 2]));
        file["images"][0]["file_name"] = json!("images\\1.png");
        let again = file["images"][1].clone();
        file["images"].as_array_mut().expect("images").push(again);
        file["images"][2]["id"] = json!(3);
    });
    let report = check(folder.path(), None).expect("a report");
    let text = report.to_string();
    for wanted in [
        "both called `square`",
        "fewer than 3 points",
        "backslashes",
        "are the same file",
    ] {
        assert!(text.contains(wanted), "{wanted}:\n{text}");
    }
    assert_eq!(report.errors(), 0, "{text}");
}

#[test]
fn a_file_of_another_tool_is_named() {
    let folder = tempfile::tempdir().expect("a folder");
    for (text, wanted) in [
        (r#"{"shapes": [], "imagePath": "a.png"}"#, "labelme"),
        (r#"{"a.png1": {"filename": "a.png", "regions": []}}"#, "VIA"),
        (
            r#"[{"image_id": 1, "bbox": [0, 0, 1, 1]}]"#,
            "eval --results",
        ),
    ] {
        std::fs::write(folder.path().join("annotations.json"), text).expect("a file");
        let error = Dataset::open(folder.path(), "train", OnProblem::Skip)
            .unwrap_err()
            .to_string();
        assert!(error.contains(wanted), "{error}");
        let report = check(folder.path(), None).expect("a report");
        assert!(
            report
                .problems
                .iter()
                .all(|p| p.severity == Severity::Error)
                && report.errors() == 1
        );
    }
}

/// CVAT's COCO export marks brush masks as crowds; among polygons they would be lost without a message.
#[test]
fn many_crowds_among_objects_are_a_warning() {
    let folder = tempfile::tempdir().expect("a folder");
    for (crowds, warned) in [(0, false), (1, false), (4, true)] {
        let at = folder.path().join(crowds.to_string());
        written(&at, 10, |file| {
            let annotations = file["annotations"].as_array_mut().expect("a list");
            let some = annotations.iter_mut().take(crowds);
            some.for_each(|annotation| annotation["iscrowd"] = json!(1));
        });
        let report = read(&at).1;
        assert_eq!(
            report.contains("4 of its 20 objects are crowds"),
            warned,
            "{report}"
        );
        assert!(report.contains("0 errors"), "{report}");
    }
}

/// The same class names under other ids are matched by name, and both commands report it.
#[test]
fn classes_of_the_splits_are_compared() {
    let folder = tempfile::tempdir().expect("a folder");
    for (name, turned, errors) in [("circle", "triangle", 0), ("other", "circle", 1)] {
        let at = folder.path().join(name);
        for split in ["train", "val"] {
            written(&at.join(split), 2, |file| {
                if split == "val" {
                    file["categories"] =
                        json!([{"id": 1, "name": "square"}, {"id": 7, "name": turned}]);
                    each(file, "annotations", |a| {
                        if a["category_id"] == 2 {
                            a["category_id"] = json!(7);
                        }
                    });
                }
            });
        }
        let report = read(&at).1;
        assert!(
            report.contains(&format!("{errors} errors")),
            "{name}: {report}"
        );
        match errors {
            0 => assert!(report.contains("matched by name"), "{report}"),
            _ => assert!(report.contains("no class `circle`"), "{report}"),
        }
    }
}
