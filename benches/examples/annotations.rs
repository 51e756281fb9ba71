//! Time and peak memory of opening an annotation file, for `benches/annotations/run.py`; prints one line of JSON.
//!
//! - `annotations generate DIR` writes `annotations.json` with as many images, annotations and bytes as COCO train2017
//!   (118 287, 860 001, about 450 MB), and empty files in place of the images.
//! - `annotations open DIR` opens it: every annotation is checked and its mask encoded.

use mrcnn_core::data::{Dataset, OnProblem};
use mrcnn_core::random::Stream;
use std::fs::{File, create_dir_all};
use std::io::{BufWriter, Write};
use std::path::Path;
use std::time::Instant;

type Failure = Box<dyn std::error::Error>;

const IMAGES: u64 = 118_287;
const ANNOTATIONS: u64 = 860_001;
const CLASSES: u64 = 80;
/// Points of a polygon: COCO's mean, and with it the size of its file.
const POINTS: u64 = 27;
const SIZE: (f64, f64) = (640.0, 480.0);

fn main() -> Result<(), Failure> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    match args[..] {
        ["generate", dir] => generate(Path::new(dir)),
        ["open", dir] => open(Path::new(dir)),
        _ => Err("annotations generate DIR | open DIR".into()),
    }
}

fn generate(dir: &Path) -> Result<(), Failure> {
    let images = dir.join("images");
    create_dir_all(&images)?;
    let mut out = BufWriter::new(File::create(dir.join("annotations.json"))?);
    write!(
        out,
        "{{\"info\": {{\"description\": \"generated\"}}, \"images\": ["
    )?;
    for id in 1..=IMAGES {
        let comma = if id > 1 { ", " } else { "" };
        let name = format!("{id:012}.png");
        File::create(images.join(&name))?;
        write!(
            out,
            "{comma}{{\"license\": 3, \"file_name\": \"{name}\", \"coco_url\": \"http://images.cocodataset.org/\
             train2017/{name}\", \"height\": 480, \"width\": 640, \"date_captured\": \"2013-11-14 11:18:45\", \"id\": {id}}}"
        )?;
    }
    write!(out, "], \"annotations\": [")?;
    let stream = Stream::named("annotations", 0);
    for id in 1..=ANNOTATIONS {
        let own = stream.fork(id);
        let comma = if id > 1 { ", " } else { "" };
        write!(out, "{comma}{{\"segmentation\": [[")?;
        let radius = 4.0 + 80.0 * own.uniform(0) * own.uniform(1);
        let center = [SIZE.0, SIZE.1].map(|side| side - 2.0 * radius - 2.0);
        let center = [0, 1].map(|axis| 1.0 + radius + center[axis] * own.uniform(2 + axis as u64));
        let mut edges = [f64::MAX, f64::MAX, 0.0, 0.0];
        for point in 0..POINTS {
            let (sin, cos) = (point as f64 / POINTS as f64 * std::f64::consts::TAU).sin_cos();
            let length = radius * (0.8 + 0.2 * own.uniform(10 + point));
            let [x, y] = [center[0] + length * cos, center[1] + length * sin]
                .map(|v| (v * 100.0).round() / 100.0);
            edges = [
                edges[0].min(x),
                edges[1].min(y),
                edges[2].max(x),
                edges[3].max(y),
            ];
            write!(out, "{}{x:.2}, {y:.2}", if point > 0 { ", " } else { "" })?;
        }
        let [x, y, w, h] = [edges[0], edges[1], edges[2] - edges[0], edges[3] - edges[1]];
        let (image, category) = (1 + own.bits(4) % IMAGES, 1 + own.bits(5) % CLASSES);
        write!(
            out,
            "]], \"area\": {:.4}, \"iscrowd\": 0, \"image_id\": {image}, \"bbox\": [{x:.2}, {y:.2}, {w:.2}, {h:.2}], \
             \"category_id\": {category}, \"id\": {id}}}",
            w * h * 0.7
        )?;
    }
    write!(out, "], \"categories\": [")?;
    for id in 1..=CLASSES {
        let comma = if id > 1 { ", " } else { "" };
        write!(
            out,
            "{comma}{{\"supercategory\": \"thing\", \"id\": {id}, \"name\": \"class {id}\"}}"
        )?;
    }
    write!(out, "]}}")?;
    out.flush()?;
    Ok(())
}

fn open(dir: &Path) -> Result<(), Failure> {
    let started = Instant::now();
    let (dataset, problems) = Dataset::open(dir, "train", OnProblem::Refuse)?;
    let seconds = started.elapsed().as_secs_f64();
    let objects: usize = dataset
        .samples
        .iter()
        .map(|sample| sample.instances.len())
        .sum();
    println!(
        "{{\"seconds\": {seconds:.2}, \"images\": {}, \"objects\": {objects}, \"problems\": {}}}",
        dataset.samples.len(),
        problems.len()
    );
    Ok(())
}
