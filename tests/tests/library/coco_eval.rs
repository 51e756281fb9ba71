//! COCO evaluation and run lengths compared with pycocotools.

use hotcoco::primitives::sim;
use hotcoco::{Annotation, COCO, IouType};
use mrcnn_core::eval::{AreaProtocol, EvalOptions, accumulate, evaluate_files};
use mrcnn_tests::golden::Golden;
use serde_json::Value;
use std::sync::Arc;
use vernier_mask::Rle;

/// The metrics are sums of the same numbers in the same order: only their decimal form may differ.
const TOLERANCE: f64 = 1e-12;

/// Ground truth and results of a case.
fn inputs(case: &Value) -> (Arc<COCO>, Vec<Annotation>) {
    let gt = serde_json::from_value(case["gt"].clone()).expect("ground truth");
    let results = serde_json::from_value(case["dt"].clone()).expect("results");
    (Arc::new(COCO::from_dataset(gt)), results)
}

/// Compares the metrics of a case, for boxes and masks if both are stored.
fn compare(name: &str, case: &Value, options: &EvalOptions) {
    let (gt, results) = inputs(case);
    let stats = case["stats"].as_object().expect("stats");
    for (kind, wanted) in stats {
        let wanted: Vec<f64> = wanted
            .as_array()
            .unwrap_or_else(|| panic!("{name} {kind}: {wanted}"))
            .iter()
            .map(|number| number.as_f64().expect("a number"))
            .collect();
        let eval = accumulate(&gt, &results, iou_type(kind), options).expect("an evaluation");
        let found = eval.stats().expect("numbers");
        assert_eq!(found.len(), wanted.len(), "{name} {kind}");
        for (index, (found, wanted)) in found.iter().zip(wanted).enumerate() {
            assert!(
                (found - wanted).abs() <= TOLERANCE,
                "{name} {kind} number {index}: {found}, wanted {wanted}"
            );
        }
    }
}

fn iou_type(kind: &str) -> IouType {
    match kind {
        "bbox" => IouType::Bbox,
        "segm" => IouType::Segm,
        other => panic!("unknown kind {other}"),
    }
}

#[test]
fn numbers_equal_pycocotools() {
    let names = ["cocoeval_main", "cocoeval_real"];
    let goldens = names.map(Golden::open);
    for (name, golden) in names.iter().zip(goldens) {
        let Some(golden) = golden else { return };
        compare(name, &golden.json, &EvalOptions::default());
    }
}

#[test]
fn edge_cases_equal_pycocotools() {
    let Some(golden) = Golden::open("cocoeval_edge") else {
        return;
    };
    let cases = golden.json.as_array().expect("cases");
    for case in cases {
        let name = case["name"].as_str().expect("a name");
        let options = EvalOptions {
            class_agnostic: name == "useCats0",
            ..EvalOptions::default()
        };
        compare(name, case, &options);
    }
    println!("{} cases", cases.len());
}

#[test]
fn precision_and_recall_are_bit_equal() {
    let Some(golden) = Golden::open("cocoeval_main") else {
        return;
    };
    let (gt, results) = inputs(&golden.json);
    for kind in ["bbox", "segm"] {
        let options = EvalOptions::default();
        let eval = accumulate(&gt, &results, iou_type(kind), &options).expect("an evaluation");
        let found = eval.accumulated().expect("arrays");
        for (name, found) in [
            ("precision", &found.precision),
            ("recall", &found.recall),
            ("scores", &found.scores),
        ] {
            let wanted = golden.get(&format!("{kind}.{name}"));
            let bits = |values: &[f64]| values.iter().map(|v| v.to_bits()).collect::<Vec<_>>();
            assert_eq!(bits(found), bits(&wanted.values), "{kind}.{name}");
        }
    }
}

/// From files, as a user has them, and with both protocols.
#[test]
fn results_files_are_evaluated_by_both_protocols() {
    let Some(golden) = Golden::open("cocoeval_real") else {
        return;
    };
    let folder = tempfile::tempdir().expect("a folder");
    let file = |name: &str, key: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, golden.json[key].to_string()).expect("a file");
        path
    };
    let (annotations, results) = (file("gt.json", "gt"), file("dt.json", "dt"));
    let metrics = |protocol| {
        let options = EvalOptions {
            protocol,
            ..EvalOptions::default()
        };
        evaluate_files(&annotations, &results, &options)
            .expect("an evaluation")
            .metrics
    };
    let (by_mask, by_box) = (metrics(AreaProtocol::Mask), metrics(AreaProtocol::Box));
    for (index, found) in by_mask.segm.iter().enumerate() {
        let wanted = golden.json["stats"]["segm"][index]
            .as_f64()
            .expect("a number");
        assert!((found - wanted).abs() <= TOLERANCE, "number {index}");
    }
    assert_eq!(by_mask.bbox, by_box.bbox);
    assert_eq!(
        by_mask.segm[..3],
        by_box.segm[..3],
        "AP, AP50, AP75 know no sizes"
    );
    assert!(by_mask.to_string().contains("mask area"));
    assert!(by_box.to_string().contains("box area"));

    let broken = folder.path().join("broken.json");
    std::fs::write(&broken, "[{\"image_id\": 1,").expect("a file");
    let error = evaluate_files(&annotations, &broken, &EvalOptions::default());
    let message = error.expect_err("half a file").to_string();
    assert!(
        message.contains("broken.json") && message.contains("line 1"),
        "{message}"
    );
}

fn rle(case: &Value, key: &str, height: u32, width: u32) -> Rle {
    let text = case[key].as_str().expect("counts");
    Rle::from_string_bytes(text.as_bytes(), height, width).expect("an RLE")
}

fn size(case: &Value) -> (u32, u32) {
    let side = |key: &str| case[key].as_u64().expect("a length") as u32;
    (side("h"), side("w"))
}

fn numbers(json: &Value) -> Vec<f64> {
    let list = json.as_array().expect("numbers").iter();
    list.map(|v| v.as_f64().expect("a number")).collect()
}

#[track_caller]
fn assert_text(found: &Rle, case: &Value) {
    let found = found.to_string_bytes();
    assert_eq!(str::from_utf8(&found).ok(), case["counts_str"].as_str());
}

#[test]
fn run_lengths_equal_pycocotools() {
    let Some(golden) = Golden::open("rle") else {
        return;
    };
    let cases = |key: &str| golden.json[key].as_array().expect("cases");
    for case in cases("encode") {
        let (height, width) = size(case);
        let decoded = rle(case, "counts_str", height, width);
        assert_text(&decoded, case);
        assert_eq!(Some(decoded.area()), case["area"].as_u64());
        let bbox = decoded.bbox().map(|v| v as f64).to_vec();
        assert_eq!(bbox, numbers(&case["bbox"]));
        if let Some(bits) = case["mask_bits_colmajor"].as_str() {
            let raster: Vec<u8> = bits.bytes().map(|bit| bit - b'0').collect();
            assert_eq!(decoded.to_raster_bytes(), raster);
            let encoded = Rle::from_raster_bytes(&raster, height, width).expect("a mask");
            assert_text(&encoded, case);
        }
    }
    for case in cases("poly") {
        let (height, width) = size(case);
        let drawn = Rle::from_polygons(&[numbers(&case["poly"])], height, width);
        let drawn = drawn.expect("a polygon");
        assert_text(&drawn, case);
        assert_eq!(Some(drawn.area()), case["area"].as_u64());
    }
    for case in cases("bbox_to_rle") {
        let (height, width) = size(case);
        let bbox = <[f64; 4]>::try_from(numbers(&case["bbox"])).expect("a box");
        assert_text(&Rle::from_bbox(bbox, height, width).expect("a box"), case);
    }
}

#[test]
fn merged_masks_equal_pycocotools() {
    let Some(golden) = Golden::open("rle") else {
        return;
    };
    let list = |case: &Value, key: &str| -> Vec<Rle> {
        let (height, width) = size(case);
        let texts = case[key].as_array().expect("masks").iter();
        let rle = |text: &Value| {
            let text = text.as_str().expect("counts");
            Rle::from_string_bytes(text.as_bytes(), height, width).expect("an RLE")
        };
        texts.map(rle).collect()
    };
    for case in golden.json["merge"].as_array().expect("cases") {
        for (key, intersect) in [("union", false), ("intersect", true)] {
            let merged = Rle::merge(&list(case, "in"), intersect).expect("a mask");
            let found = merged.to_string_bytes();
            assert_eq!(str::from_utf8(&found).ok(), case[key].as_str(), "{key}");
        }
    }
}

#[test]
fn overlaps_equal_pycocotools() {
    let Some(golden) = Golden::open("rle") else {
        return;
    };
    let crowds = |case: &Value| -> Vec<bool> {
        let flags = case["iscrowd"].as_array().expect("flags").iter();
        flags.map(|flag| flag.as_u64() == Some(1)).collect()
    };
    let compare = |found: Vec<Vec<f64>>, case: &Value| {
        for (found, wanted) in found.iter().zip(case["iou"].as_array().expect("rows")) {
            for (found, wanted) in found.iter().zip(numbers(wanted)) {
                assert!(
                    (found - wanted).abs() <= TOLERANCE,
                    "{found}, wanted {wanted}"
                );
            }
        }
    };
    let case = &golden.json["iou_rle"];
    let (height, width) = size(case);
    let masks = |key: &str| -> Vec<hotcoco::Rle> {
        let texts = case[key].as_array().expect("masks").iter();
        let rle = |text: &Value| {
            let text = text.as_str().expect("counts");
            hotcoco::mask::rle_from_string(text, height, width).expect("an RLE")
        };
        texts.map(rle).collect()
    };
    compare(
        sim::mask_iou(&masks("dt"), &masks("gt"), &crowds(case)),
        case,
    );

    let case = &golden.json["iou_bbox_xywh"];
    let boxes = |key: &str| -> Vec<[f64; 4]> {
        let boxes = case[key].as_array().expect("boxes").iter();
        let bbox = |json: &Value| <[f64; 4]>::try_from(numbers(json)).expect("a box");
        boxes.map(bbox).collect()
    };
    compare(
        sim::bbox_iou(&boxes("dt"), &boxes("gt"), &crowds(case)),
        case,
    );
}
