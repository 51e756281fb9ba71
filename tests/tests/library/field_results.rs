//! Results as tools and people write them: each case is evaluated, or rejected with a specific error.

use crate::field_data::{each, written};
use mrcnn_core::data::find_split;
use mrcnn_core::eval::{EvalOptions, evaluate_files};
use serde_json::{Value, json};
use std::path::Path;
use vernier_mask::Rle;

/// The ground truth with masks as RLE, and results that equal it.
fn perfect(at: &Path) -> Vec<Value> {
    written(at, 3, |file| {
        each(file, "annotations", |a| {
            let polygon: Vec<f64> =
                serde_json::from_value(a["segmentation"][0].clone()).expect("a polygon");
            let mask = Rle::from_polygon(&polygon, 40, 60).expect("a mask");
            a["segmentation"] = json!({"size": [40, 60], "counts": String::from_utf8_lossy(&mask.to_string_bytes())});
        });
    });
    let text = std::fs::read_to_string(at.join("annotations.json")).expect("annotations");
    let file: Value = serde_json::from_str(&text).expect("JSON");
    let result = |a: &Value| {
        json!({"image_id": a["image_id"], "category_id": a["category_id"], "bbox": a["bbox"], "score": 0.9,
            "segmentation": a["segmentation"]})
    };
    file["annotations"]
        .as_array()
        .expect("annotations")
        .iter()
        .map(result)
        .collect()
}

fn evaluated(at: &Path, results: &[Value]) -> Result<(f64, f64, Vec<String>), String> {
    let path = at.join("results.json");
    std::fs::write(&path, json!(results).to_string()).expect("results");
    let split = find_split(at, "val").expect("a split");
    let found = evaluate_files(&split.annotations, &path, &EvalOptions::default());
    found
        .map(|found| (found.metrics.box_ap(), found.metrics.mask_ap(), found.notes))
        .map_err(|error| error.to_string())
}

#[test]
fn results_are_evaluated_or_refused_by_their_index() {
    let folder = tempfile::tempdir().expect("a folder");
    let at = folder.path();
    let right = perfect(at);
    let changed = |change: &dyn Fn(&mut Value)| {
        let mut results = right.clone();
        results.iter_mut().for_each(change);
        results
    };
    let (boxes, masks, notes) = evaluated(at, &right).expect("right results");
    assert_eq!((boxes, masks), (1.0, 1.0));
    assert!(notes.is_empty(), "{notes:?}");
    let remove =
        |key: &'static str| move |r: &mut Value| drop(r.as_object_mut().map(|r| r.remove(key)));
    let (boxes, masks, _) = evaluated(at, &changed(&remove("segmentation"))).expect("boxes only");
    assert_eq!((boxes, masks), (1.0, -1.0), "masks are undefined");
    let (boxes, masks, _) = evaluated(at, &changed(&remove("bbox"))).expect("masks only");
    assert!(boxes > 0.5 && masks == 1.0, "{boxes}");
    // New ids, but with the names of the images.
    let numbered = changed(&|r| {
        let id = r["image_id"].as_u64().expect("an id");
        r["file_name"] = json!(format!("somewhere/images/{id}.png"));
        r["image_id"] = json!(4 - id);
    });
    let (boxes, masks, notes) = evaluated(at, &numbered).expect("by names");
    assert_eq!((boxes, masks), (1.0, 1.0));
    assert!(notes[0].contains("file_name"), "{notes:?}");
    type Change<'a> = &'a dyn Fn(&mut Value);
    let refused: [(&str, Change); 9] = [
        ("category id 0 does not exist", &|r| {
            r["category_id"] = json!(r["category_id"].as_u64().expect("an id") - 1)
        }),
        ("`score` is missing", &remove("score")),
        ("the RLE is 30x20, the image 60x40", &|r| {
            r["segmentation"]["size"] = json!([20, 30])
        }),
        ("height and width swapped", &|r| {
            r["segmentation"]["size"] = json!([60, 40])
        }),
        ("counts are invalid", &|r| {
            r["segmentation"]["counts"] = json!("~~~~")
        }),
        ("is not an image of the ground truth", &|r| {
            r["file_name"] = json!("other.png")
        }),
        ("boxes do not match their masks", &|r| {
            let [x, y, w, h] = std::array::from_fn(|i| r["bbox"][i].as_f64().expect("a number"));
            r["bbox"] = json!([x, y, x + w, y + h]);
        }),
        ("neither a box nor a mask", &|r| {
            r["bbox"] = Value::Null;
            r["segmentation"] = Value::Null;
        }),
        ("`score` is \"high\"", &|r| r["score"] = json!("high")),
    ];
    for (wanted, change) in refused {
        let error = evaluated(at, &changed(change)).expect_err(wanted);
        assert!(
            error.contains(wanted) && error.contains("results.json"),
            "{wanted}: {error}"
        );
    }
    let mut stray = right.clone();
    stray.push(json!({"image_id": 99, "category_id": 1, "bbox": [0, 0, 9, 9], "score": 1, "segmentation": right[0]["segmentation"]}));
    let error = evaluated(at, &stray).expect_err("an unknown image");
    assert!(
        error.contains("result 6: image id 99 does not exist"),
        "{error}"
    );
}
