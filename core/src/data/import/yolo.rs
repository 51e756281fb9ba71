//! YOLO-seg: one text file per image, one line per object: `class x1 y1 x2 y2 ...` as fractions of the image.
//!
//! hotcoco's converter reads YOLO's boxes (five numbers per line) but no polygons, so polygons are read
//! here by the same rules: an invalid line is an error with file and line, an object without a mask is counted.

use super::data_yaml::DataYaml;
use super::spec::{ImportError, ImportSpec, Imported, LONGEST_TEXT, is_wanted, read_text};
use super::writer::{Category, Mask, Object, Writer};
use crate::budget::excerpt;
use crate::image::decode::dimensions;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

pub(super) fn read(spec: &ImportSpec) -> Result<Vec<Imported>, ImportError> {
    let data = DataYaml::read(&spec.source)?;
    let category = |(class, name): (&u64, &String)| Category {
        id: class + 1,
        name: name.clone(),
    };
    let categories: Vec<Category> = data.names.iter().map(category).collect();
    let mut imported = Vec::new();
    for (split, paths) in &data.splits {
        if !is_wanted(spec, split) {
            continue;
        }
        let mut writer = Writer::new(&spec.out, split)?;
        let (mut with_labels, mut without) = (0, 0);
        for path in paths {
            for image in images(&data.root, path)? {
                match add(&image, &data.names, &mut writer)? {
                    true => with_labels += 1,
                    false => without += 1,
                }
            }
        }
        // Images without objects have no label file. If no image has one, the labels were not found.
        if with_labels == 0 {
            for _ in 0..without {
                writer.leave_out(
                    "image without a label file: no image of this split has one; the labels must be in a folder \
                     `labels` beside `images`",
                );
            }
        }
        imported.push(writer.finish(&categories)?);
    }
    match imported.is_empty() {
        true => {
            let reason = "data.yaml names no such split (train, val, test)";
            Err(ImportError::source(&spec.source, reason))
        }
        false => Ok(imported),
    }
}

/// The images of a folder, or of a text file that lists them.
fn images(root: &Path, path: &Path) -> Result<Vec<PathBuf>, ImportError> {
    let found = root.join(path);
    // Roboflow writes ../train/images for the train/images beside data.yaml.
    let beside = root.join(path.strip_prefix("..").unwrap_or(path));
    let found = if found.exists() { found } else { beside };
    if found.is_file() {
        let text = read_text(&found, LONGEST_TEXT)?;
        let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
        return Ok(lines.map(|line| root.join(line)).collect());
    }
    let entries = std::fs::read_dir(&found).map_err(|error| ImportError::io(&found, error))?;
    let is_image = |path: &PathBuf| {
        let extension = path
            .extension()
            .unwrap_or_default()
            .to_string_lossy()
            .to_lowercase();
        let known = [
            "jpg", "jpeg", "jpe", "jfif", "png", "bmp", "webp", "tif", "tiff",
        ];
        let hidden = path
            .file_name()
            .is_some_and(|name| name.to_string_lossy().starts_with('.'));
        // Reading a pipe of that name would block forever.
        known.contains(&extension.as_str()) && !hidden && path.is_file()
    };
    let paths = entries.filter_map(|entry| entry.ok().map(|entry| entry.path()));
    let mut paths: Vec<PathBuf> = paths.filter(is_image).collect();
    paths.sort();
    Ok(paths)
}

/// Replaces the last `images` in the path by `labels`, or by `Labels` if the folder has that name.
fn label_file(image: &Path) -> PathBuf {
    let parts: Vec<_> = image.iter().map(|part| part.to_os_string()).collect();
    let last = parts
        .iter()
        .rposition(|part| part.eq_ignore_ascii_case("images"));
    let named = |labels: &str| {
        let mut parts = parts.clone();
        if let Some(last) = last {
            parts[last] = labels.into();
        }
        parts.iter().collect::<PathBuf>().with_extension("txt")
    };
    let files = ["labels", "Labels", "LABELS"].map(named);
    let found = files.iter().find(|path| path.is_file());
    found.unwrap_or(&files[0]).clone()
}

fn add(
    image: &Path,
    names: &BTreeMap<u64, String>,
    writer: &mut Writer,
) -> Result<bool, ImportError> {
    let size = dimensions(image)?;
    let image_id = writer.link(image, None, size)?;
    let labels = label_file(image);
    // An image without a label file has no objects.
    if !labels.is_file() {
        return Ok(false);
    }
    let text = read_text(&labels, LONGEST_TEXT)?;
    for (number, line) in (1..).zip(text.lines()) {
        let fault = |reason: String| ImportError::line(&labels, number, reason);
        let (class, parts) = match parse_line(line, names).map_err(fault)? {
            Line::Empty => continue,
            Line::Box => {
                writer.leave_out("box without a polygon");
                continue;
            }
            Line::Polygon(class, parts) => (class, parts),
        };
        match object(image_id, class + 1, &parts, size) {
            object if object.area > 0.0 => writer.object(object),
            _ => writer.leave_out("polygon without an area"),
        }
    }
    Ok(true)
}

/// A line of a label file.
#[derive(Debug, PartialEq)]
pub(crate) enum Line {
    Empty,
    /// Class and four numbers: a box without a mask.
    Box,
    /// Class, and x and y of each point as fractions of the image.
    Polygon(u64, Vec<f64>),
}

/// Parses `class x1 y1 x2 y2 ...`.
pub(crate) fn parse_line(line: &str, names: &BTreeMap<u64, String>) -> Result<Line, String> {
    let mut numbers = line.split_whitespace();
    let Some(class) = numbers.next() else {
        return Ok(Line::Empty);
    };
    // Some programs write 0.0.
    let number = class
        .parse::<f64>()
        .ok()
        .filter(|class| class.fract() == 0.0 && *class >= 0.0);
    let known = number
        .map(|class| class as u64)
        .filter(|class| names.contains_key(class));
    let class = known.ok_or_else(|| {
        let class = excerpt(class);
        format!("class `{class}` is not among the names of data.yaml")
    })?;
    let part = |text: &str| {
        let number = text.parse::<f64>().ok();
        let part = number.filter(|number| (-0.5..=1.5).contains(number));
        let text = excerpt(text);
        part.ok_or_else(|| format!("`{text}` is not a fraction of the image (0 to 1)"))
    };
    let parts: Vec<f64> = numbers.map(part).collect::<Result<_, _>>()?;
    match parts.len() {
        4 => Ok(Line::Box),
        length if length >= 7 && length % 2 == 1 => Err(format!(
            "{length} coordinates, an odd number: {} at the end may be a confidence of a prediction; write \
             labels without it (save_conf=False)",
            parts.last().copied().unwrap_or_default()
        )),
        length if length < 6 => Err(format!(
            "{length} coordinates; a polygon has at least 3 points"
        )),
        _ => Ok(Line::Polygon(class, parts)),
    }
}

fn object(image_id: u64, category_id: u64, parts: &[f64], (width, height): (u32, u32)) -> Object {
    let scale = [f64::from(width), f64::from(height)];
    let points: Vec<[f64; 2]> = parts
        .as_chunks::<2>()
        .0
        .iter()
        .map(|point| [0, 1].map(|axis| (point[axis] * scale[axis]).clamp(0.0, scale[axis])))
        .collect();
    let edge = |axis: usize, pick: fn(f64, f64) -> f64| {
        points
            .iter()
            .map(|point| point[axis])
            .reduce(pick)
            .unwrap_or(0.0)
    };
    let [left, top] = [0, 1].map(|axis| edge(axis, f64::min));
    let [right, bottom] = [0, 1].map(|axis| edge(axis, f64::max));
    // The shoelace formula.
    let next = points.iter().cycle().skip(1);
    let doubled: f64 = points
        .iter()
        .zip(next)
        .map(|(a, b)| a[0] * b[1] - b[0] * a[1])
        .sum();
    Object {
        id: 0,
        image_id,
        category_id,
        bbox: [left, top, right - left, bottom - top],
        area: doubled.abs() / 2.0,
        iscrowd: 0,
        segmentation: Mask::Polygons(vec![points.concat()]),
    }
}
