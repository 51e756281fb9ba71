//! Boxes: coder, clip, IoU, anchors, matcher, level mapper.

use mrcnn_core::boxes::{
    self, AnchorLayout, Anchors, BOX_CLIP, BoxCoder, cell_anchors, pyramid_level,
};
use mrcnn_core::config::RpnConfig;
use mrcnn_kernels::{MatchThresholds, match_by};
use mrcnn_tests::close::{assert_close, magnitude};
use mrcnn_tests::golden::{Golden, pair};

#[test]
fn deltas_encode_and_decode() {
    let Some(golden) = Golden::open("boxes") else {
        return;
    };
    let clip = golden.json["bbox_xform_clip"]
        .as_f64()
        .expect("bbox_xform_clip");
    assert!((BOX_CLIP as f64 - clip).abs() < 1e-6);
    for family in ["rpn", "roi"] {
        let get = |key: &str| golden.get(&format!("{family}.{key}"));
        let weights = get("weights").boxes()[0];
        let coder = BoxCoder { weights };
        let proposals = get("proposals").boxes();
        let encoded: Vec<f32> = get("reference")
            .boxes()
            .iter()
            .zip(&proposals)
            .flat_map(|(target, reference)| coder.encode(target, reference))
            .collect();
        let wanted = get("encoded").f32();
        assert_close(
            family,
            &encoded,
            &wanted,
            1e-6 * magnitude(&wanted).max(1.0),
        );

        let deltas = get("deltas").f32();
        let columns = deltas.len() / proposals.len();
        let decoded: Vec<f32> = proposals
            .iter()
            .zip(deltas.chunks(columns))
            .flat_map(|(proposal, row)| row.chunks(4).map(move |deltas| (deltas, proposal)))
            .flat_map(|(deltas, proposal)| coder.decode(deltas, proposal))
            .collect();
        let wanted = get("decoded").f32();
        // exp of a delta near its limit: relative to the value, because the values span 1e-2 to 1e7.
        for (index, (&found, &wanted)) in decoded.iter().zip(&wanted).enumerate() {
            let allowed = 1e-6 * wanted.abs().max(1000.0) as f64;
            assert!(
                ((found - wanted).abs() as f64) <= allowed,
                "{family}: decoded value {index} is {found}, wanted {wanted}"
            );
        }
    }
}

#[test]
fn clipping_filtering_iou_and_resizing() {
    let Some(golden) = Golden::open("boxes") else {
        return;
    };
    let (height, width) = pair(&golden.json["clip_size_hw"]);
    let clipped: Vec<f32> = golden
        .get("clip.in")
        .boxes()
        .into_iter()
        .flat_map(|bbox| boxes::clip(bbox, height as f32, width as f32))
        .collect();
    assert_eq!(clipped, golden.get("clip.out").f32());

    let small = golden.get("small.in").boxes();
    for (key, min_size) in [("small.keep_1e-3", 1e-3), ("small.keep_1e-2", 1e-2)] {
        let kept: Vec<usize> = (0..small.len())
            .filter(|&i| boxes::is_large_enough(&small[i], min_size))
            .collect();
        assert_eq!(kept, golden.get(key).indices(), "{key}");
    }

    let columns = golden.get("iou.b").boxes();
    let iou: Vec<f32> = golden
        .get("iou.a")
        .boxes()
        .iter()
        .flat_map(|a| columns.iter().map(move |b| boxes::iou(a, b)))
        .collect();
    assert_close("iou", &iou, &golden.get("iou.out").f32(), 1e-6);

    let (from, to) = (
        pair(&golden.json["resize_from_hw"]),
        pair(&golden.json["resize_to_hw"]),
    );
    let resized: Vec<f32> = golden
        .get("resize.in")
        .boxes()
        .iter()
        .flat_map(|b| boxes::resize(b, from, to))
        .collect();
    // One f32 product of a coordinate below a few thousand.
    assert_close("resize", &resized, &golden.get("resize.out").f32(), 5e-4);
}

#[test]
fn anchors_of_every_size() {
    let Some(golden) = Golden::open("anchors") else {
        return;
    };
    let rpn = RpnConfig::default();
    let cells: Vec<f32> = rpn
        .anchor_sizes
        .iter()
        .flat_map(|&size| cell_anchors(size, &rpn.anchor_ratios, true))
        .flatten()
        .collect();
    assert_eq!(cells, golden.get("cell_anchors").f32());
    for case in golden.cases() {
        let (height, width) = pair(&case.json["image_hw"]);
        let levels = case.json["levels"].as_array().expect("levels");
        let grids: Vec<(usize, usize)> = levels
            .iter()
            .map(|level| pair(&level["grid"]))
            .map(|(rows, columns)| (rows as usize, columns as usize))
            .collect();
        let padded = (height as usize, width as usize);
        let anchors = Anchors::new(
            padded,
            &grids,
            &rpn.anchor_sizes,
            &rpn.anchor_ratios,
            AnchorLayout::default(),
        );
        let counts: Vec<usize> = levels
            .iter()
            .map(|l| l["count"].as_u64().expect("count") as usize)
            .collect();
        assert_eq!(anchors.per_level, counts, "{}", case.name());
        assert_eq!(anchors.boxes.len(), case.number("total") as usize);
        let sum: f64 = anchors.boxes.iter().flatten().map(|&v| v as f64).sum();
        let sum_abs: f64 = anchors
            .boxes
            .iter()
            .flatten()
            .map(|&v| v.abs() as f64)
            .sum();
        assert_eq!(
            (sum, sum_abs),
            (case.number("checksum_sum"), case.number("checksum_abs"))
        );
        let wanted = golden.get(case.name()).boxes();
        match golden.find(&format!("{}.idx", case.name())) {
            Some(index) => {
                let found: Vec<_> = index.indices().iter().map(|&i| anchors.boxes[i]).collect();
                assert_eq!(found, wanted, "{}", case.name());
            }
            None => assert_eq!(anchors.boxes, wanted, "{}", case.name()),
        }
    }
}

#[test]
fn matcher_with_and_without_low_quality() {
    let Some(golden) = Golden::open("matcher") else {
        return;
    };
    for case in golden.cases() {
        let quality = case.get("q");
        let (rows, columns) = (quality.shape[0], quality.shape[1]);
        let values = quality.f32();
        let thresholds = MatchThresholds {
            fg_iou: case.number("high") as f32,
            bg_iou: case.number("low") as f32,
            allow_low_quality: case.flag("allow_low_quality"),
        };
        let quality = |&row: &usize, &column: &usize| values[row * columns + column];
        let [gt, candidates] = [rows, columns].map(|count| (0..count).collect::<Vec<_>>());
        let found = match_by(&gt, &candidates, &thresholds, quality);
        // torchvision's codes are the same: -1 background, -2 between the thresholds.
        let found: Vec<f64> = found.into_iter().map(f64::from).collect();
        assert_eq!(found, case.get("out").values, "{}", case.name());
    }
}

#[test]
fn pyramid_levels_at_the_boundaries() {
    let Some(golden) = Golden::open("level_mapper") else {
        return;
    };
    let limit = |key: &str| golden.json[key].as_i64().expect("a level") as i32;
    let (k_min, k_max) = (limit("k_min"), limit("k_max"));
    let found: Vec<usize> = golden
        .get("boxes")
        .boxes()
        .iter()
        .map(|bbox| pyramid_level(bbox, k_min, k_max))
        .collect();
    assert_eq!(found, golden.get("level").indices());
}
