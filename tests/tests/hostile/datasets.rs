//! Small annotation and results files that would take much memory or time.

use crate::{MAX_MEGABYTES, PEAK};
use mrcnn_core::data::import::{Format, ImportSpec, import};
use mrcnn_core::eval::{EvalOptions, evaluate_files};
use std::path::Path;

/// Runs `work` and checks its peak memory.
fn measured<T>(name: &str, work: impl FnOnce() -> T) -> T {
    PEAK.reset_peak_usage();
    let before = PEAK.current_usage_as_mb();
    let result = work();
    let used = PEAK.peak_usage_as_mb() - before;
    println!("{name}: {used:.1} MB");
    assert!(used < MAX_MEGABYTES, "{name}: {used} MB");
    result
}

/// The report of a dataset of one file, or the error.
fn problems_of(folder: &Path, name: &str, annotations: &str) -> String {
    let path = folder.join(name);
    std::fs::write(&path, annotations).expect("a file");
    measured(name, || match mrcnn_core::data::check(&path, None) {
        Ok(report) => report.to_string(),
        Err(error) => error.to_string(),
    })
}

/// A polygon of 3,600,000 pixels that zigzags outside its image.
const ZIGZAG: &str = "[[-900000,0,900000,1,-899999,2]]";

fn file(side: u32, annotations: &str) -> String {
    format!(
        r#"{{"images":[{{"id":1,"file_name":"a.png","width":{side},"height":{side}}}],
        "categories":[{{"id":1,"name":"a"}}],"annotations":[{annotations}]}}"#
    )
}

fn annotations(count: usize, segmentation: &str) -> String {
    let annotation = |id| {
        format!(
            r#"{{"id":{id},"image_id":1,"category_id":1,"bbox":[0,0,9,9],"segmentation":{segmentation}}}"#
        )
    };
    let all: Vec<String> = (1..=count).map(annotation).collect();
    all.join(",")
}

pub fn coco(folder: &Path) {
    image::RgbImage::new(30, 30)
        .save(folder.join("a.png"))
        .expect("an image");
    let entries = "{},".repeat(4_000_000);
    let entries = entries.trim_end_matches(',');
    for list in ["images", "annotations", "categories"] {
        let text = match list {
            "annotations" => file(30, entries),
            _ => r#"{"images":[],"annotations":[],"categories":[]}"#.replace(
                &format!("\"{list}\":[]"),
                &format!("\"{list}\":[{entries}]"),
            ),
        };
        let problems = problems_of(folder, &format!("entries_{list}.json"), &text);
        assert!(problems.contains("more than"), "{list}: {problems}");
    }
    // A list of numbers where polygons are expected.
    let numbers = "1,".repeat(20_000_000);
    let flat = annotations(1, &format!("[{}]", numbers.trim_end_matches(',')));
    let problems = problems_of(folder, "numbers.json", &file(30, &flat));
    assert!(problems.contains("a list of numbers"), "{problems}");
    let long = annotations(400, ZIGZAG);
    let problems = problems_of(folder, "outlines.json", &file(30, &long));
    assert!(problems.contains("outlines of this file"), "{problems}");
}

pub fn results(folder: &Path) {
    let evaluated = |name: &str, gt: &str, results: &str| {
        let [gt_at, results_at] =
            ["gt", "results"].map(|part| folder.join(format!("{name}_{part}.json")));
        std::fs::write(&gt_at, gt).expect("a file");
        std::fs::write(&results_at, results).expect("a file");
        measured(name, || {
            let result = evaluate_files(&gt_at, &results_at, &EvalOptions::default());
            result
                .err()
                .map(|error| error.to_string())
                .unwrap_or_default()
        })
    };
    let gt = file(30, &annotations(1, "[[0,0,9,0,9,9,0,9]]"));
    let entries = "{},".repeat(4_000_000);
    let error = evaluated(
        "entries",
        &gt,
        &format!("[{}]", entries.trim_end_matches(',')),
    );
    assert!(error.contains("more than"), "{error}");
    let large = file(
        65_535,
        &annotations(5000, "[[0,0,65535,0,65535,65535,0,65535]]"),
    );
    let error = evaluated("large", &large, "[]");
    assert!(error.contains("100 megapixels"), "{error}");
    let scored = |segmentation: &str, count: usize| {
        let results = annotations(count, segmentation);
        format!("[{}]", results.replace("\"id\"", "\"score\":0.5,\"id\""))
    };
    let error = evaluated("outlines", &gt, &scored(ZIGZAG, 400));
    assert!(error.contains("the masks of this file"), "{error}");
}

pub fn lvis(folder: &Path) {
    let numbers = "1,".repeat(20_000_000);
    let flat = annotations(1, &format!("[{}]", numbers.trim_end_matches(',')));
    let path = folder.join("lvis_v1_train.json");
    std::fs::write(&path, file(30, &flat)).expect("a file");
    let spec = ImportSpec {
        format: Format::Lvis,
        source: path,
        images: Some(folder.into()),
        split: None,
        out: folder.join("lvis"),
    };
    let imported = measured("lvis", || import(&spec)).expect("a dataset");
    assert_eq!(imported[0].left_out.get("object without a mask"), Some(&1));
    // A pipe never ends.
    let pipe = folder.join("pipe_train.json");
    let made = std::process::Command::new("mkfifo").arg(&pipe).status();
    if made.is_ok_and(|status| status.success()) {
        for format in [Format::Lvis, Format::Cvat] {
            let spec = ImportSpec {
                format,
                source: pipe.clone(),
                ..spec.clone()
            };
            let error = import(&spec).expect_err("a pipe").to_string();
            assert!(error.contains("not a regular file"), "{error}");
        }
    }
}
