//! `predict --save`: every form of results is read back.

use super::{json, text};
use crate::{binary, cli_ok, python_with, shown};
use mrcnn_core::data::check;
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::Command;

const FORMS: &str = "--save=overlay,coco,coco-dataset,labelme,yolo,csv,label-maps,cutouts";

fn predict(at: &Path, more: &[&str]) -> String {
    let args = [
        "predict",
        "shapes/val",
        "--backend=cpu",
        "--weights=base/last.safetensors",
    ];
    cli_ok(
        at,
        &[&args[..], &["--score=0", "--max-detections=5"], more].concat(),
    )
}

/// The names in a folder, sorted.
fn names(folder: &Path) -> Vec<String> {
    let entries = folder
        .read_dir()
        .unwrap_or_else(|e| panic!("{}: {e}", folder.display()));
    let name = |entry: std::io::Result<std::fs::DirEntry>| {
        entry
            .expect("an entry")
            .file_name()
            .to_string_lossy()
            .into_owned()
    };
    let mut names: Vec<String> = entries.map(name).collect();
    names.sort();
    names
}

pub fn save(at: &Path) {
    let table = predict(at, &["--out=saved", FORMS]);
    let out = at.join("saved");
    let results = json(&out.join("detections.json"));
    let results = results.as_array().expect("a list");
    assert!(
        table.contains(&format!("2 images, {} objects: ", results.len())),
        "{table}"
    );
    assert!(
        table.contains("label_maps/ and cutouts/ in saved"),
        "{table}"
    );

    images(&out, results);
    datasets(at, &out, results);
    let rows = text(&out.join("detections.csv"));
    assert_eq!(rows.lines().count(), results.len() + 1);
    let first = format!("{},000000.png,1,", results[0]["image_id"]);
    assert!(
        rows.lines()
            .nth(1)
            .is_some_and(|row| row.starts_with(&first)),
        "{rows}"
    );
    with_python(&out);

    // Results of the first run are part of the tables after a second one.
    let image = json(&out.join("images.json"))[0].clone();
    std::fs::write(
        out.join("images.json"),
        Value::from(vec![image]).to_string(),
    )
    .expect("images");
    predict(at, &["--out=saved", FORMS, "--resume"]);
    assert_eq!(text(&out.join("detections.csv")), rows);

    standard_input(at, results);
    predict(at, &["--out=alone", "--save=coco"]);
    assert_eq!(names(&at.join("alone")), ["detections.json", "images.json"]);
}

/// An image from standard input has the objects that it has as a file.
fn standard_input(at: &Path, results: &[Value]) {
    let image = std::fs::File::open(at.join("shapes/val/000000.png")).expect("an image");
    let output = Command::new(binary())
        .args([
            "predict",
            "-",
            "--backend=cpu",
            "--weights=base/last.safetensors",
            "--score=0",
        ])
        .args(["--max-detections=5", "--save=labelme", "--out=stdin"])
        .stdin(image)
        .current_dir(at)
        .output()
        .expect("mrcnn-cli");
    assert!(output.status.success(), "{}", shown(&output));
    let found = json(&at.join("stdin/detections.json"));
    let found = found.as_array().expect("a list");
    assert_eq!(found[0]["segmentation"], results[0]["segmentation"]);
    assert_eq!(found[0]["file_name"], "stdin");
    assert_eq!(
        names(&at.join("stdin/labelme")),
        ["0001_stdin.json", "0001_stdin.png"]
    );
}

/// Label maps and cut-outs have the pixels of the masks.
fn images(out: &Path, results: &[Value]) {
    let records: Vec<mrcnn_core::data::DetectionRecord> = results
        .iter()
        .map(|record| serde_json::from_value(record.clone()).expect("a record"))
        .collect();
    let first: Vec<_> = records
        .iter()
        .filter(|r| r.image_id == records[0].image_id)
        .collect();
    let file = std::fs::File::open(out.join("label_maps/0001_000000.png")).expect("a map");
    let mut reader = png::Decoder::new(std::io::BufReader::new(file))
        .read_info()
        .expect("PNG");
    let (color, depth) = (reader.info().color_type, reader.info().bit_depth);
    assert_eq!(
        (color, depth),
        (png::ColorType::Grayscale, png::BitDepth::Sixteen)
    );
    let mut bytes = vec![0; reader.output_buffer_size().expect("a size")];
    reader.next_frame(&mut bytes).expect("pixels");
    let numbers: Vec<u16> = bytes
        .chunks(2)
        .map(|b| u16::from_be_bytes([b[0], b[1]]))
        .collect();
    let best = first[0].segmentation.mask().expect("a mask");
    let expected = best.to_row_major_raster_bytes();
    for (number, inside) in numbers.iter().zip(expected) {
        assert_eq!(*number == 1, inside == 1);
    }
    let cutouts = names(&out.join("cutouts"));
    let visible = records
        .iter()
        .filter(|r| r.segmentation.mask().is_ok_and(|m| m.area() > 0));
    assert_eq!(cutouts.len(), visible.count());
    let cutout = cutouts
        .iter()
        .find(|name| name.starts_with("0001_000000_001_"));
    let cutout = image::open(out.join("cutouts").join(cutout.expect("the best object")));
    let cutout = cutout.expect("PNG").into_rgba8();
    let opaque = cutout.pixels().filter(|pixel| pixel.0[3] == 255).count();
    assert_eq!(opaque as u64, best.area());
}

/// The datasets have the objects of the results, for the importers and checks of this program.
fn datasets(at: &Path, out: &Path, results: &[Value]) {
    let report = check(&out.join("coco_dataset.json"), Some(&at.join("shapes/val")));
    let report = report.expect("a dataset");
    assert_eq!(report.errors(), 0, "{report}");
    let dataset = json(&out.join("coco_dataset.json"));
    assert_eq!(
        dataset["annotations"].as_array().map(Vec::len),
        Some(results.len())
    );
    let sources = [("labelme", "labelme", "train"), ("yolo", "yolo", "train")];
    for (format, source, split) in sources {
        let source = out.join(source).display().to_string();
        let to = format!("from-{format}");
        let args = [
            "dataset", "convert", "--from", format, &source, "--split", split,
        ];
        let output = cli_ok(at, &[&args[..], &["--out", &to]].concat());
        assert!(
            output.contains(&format!("2 images, {} objects", results.len())),
            "{output}"
        );
        assert!(!output.contains("left out"), "{output}");
    }
}

/// Reads the forms with pycocotools, labelme and PIL, if there is a Python that has them.
fn with_python(out: &Path) {
    let script: PathBuf = mrcnn_tests::root().join("tests/oracle/outputs.py");
    let Some(python) = python_with("results", "numpy, PIL, pycocotools") else {
        return;
    };
    let output = Command::new(&python)
        .arg(script)
        .arg(out)
        .output()
        .expect("Python");
    assert!(output.status.success(), "{}", shown(&output));
    print!("{}", shown(&output));
}
