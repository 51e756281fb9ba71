//! YOLO-seg: a text file per image and a line per object, `class x1 y1 x2 y2 ...` in fractions of the image.
//!
//! hotcoco's converter reads YOLO's boxes (five numbers a line) and no polygons, so polygons are read
//! here, by its rules: what is wrong is an error with file and line, what has no mask is counted.

use super::data_yaml::DataYaml;
use super::shape::object;
use super::spec::{ImportError, ImportSpec, Imported, is_wanted};
use super::writer::{Category, Writer};
use crate::data::json::read_text;
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
        let mut with_labels = 0;
        let mut without = 0;
        for path in paths {
            for picture in pictures(&data.root, path)? {
                match add(&picture, &data.names, &mut writer)? {
                    true => with_labels += 1,
                    false => without += 1,
                }
            }
        }
        // One without objects has no file, but not all of them.
        if with_labels == 0 {
            for _ in 0..without {
                writer.leave_out(
                    "image without a label file: no image of this split has one; the labels belong in a folder \
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

/// The pictures of a folder, or of a text file that lists them.
fn pictures(root: &Path, path: &Path) -> Result<Vec<PathBuf>, ImportError> {
    let found = root.join(path);
    // Roboflow writes ../train/images for the train/images beside data.yaml.
    let beside = root.join(path.strip_prefix("..").unwrap_or(path));
    let found = if found.exists() { found } else { beside };
    if found.is_file() {
        let text = read_text(&found).map_err(|e| ImportError::io(&found, e))?;
        let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
        return Ok(lines.map(|line| root.join(line)).collect());
    }
    let entries = std::fs::read_dir(&found).map_err(|error| ImportError::io(&found, error))?;
    let is_picture = |path: &PathBuf| {
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
        // Pipes would be waited for without end.
        known.contains(&extension.as_str()) && !hidden && path.is_file()
    };
    let paths = entries.filter_map(|entry| entry.ok().map(|entry| entry.path()));
    let mut paths: Vec<PathBuf> = paths.filter(is_picture).collect();
    paths.sort();
    Ok(paths)
}

/// `images` becomes `labels`, the last one in the path; `Labels` where that is the folder's name.
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
    picture: &Path,
    names: &BTreeMap<u64, String>,
    writer: &mut Writer,
) -> Result<bool, ImportError> {
    let size = dimensions(picture)?;
    let image_id = writer.link(picture, None, size)?;
    let labels = label_file(picture);
    // An image without a file has no objects.
    if !labels.is_file() {
        return Ok(false);
    }
    let text = read_text(&labels).map_err(|error| ImportError::io(&labels, error))?;
    for (number, line) in (1..).zip(text.lines()) {
        let mut numbers = line.split_whitespace();
        let Some(class) = numbers.next() else {
            continue;
        };
        let fault = |reason: String| ImportError::line(&labels, number, reason);
        // Some programs write 0.0.
        let number = class
            .parse::<f64>()
            .ok()
            .filter(|class| class.fract() == 0.0 && *class >= 0.0);
        let known = number
            .map(|class| class as u64)
            .filter(|class| names.contains_key(class));
        let class = known.ok_or_else(|| {
            fault(format!(
                "class `{class}` is not among the names of data.yaml"
            ))
        })?;
        let parts: Result<Vec<f64>, ImportError> = numbers
            .map(|text| {
                let number = text
                    .parse::<f64>()
                    .ok()
                    .filter(|n| (-0.5..=1.5).contains(n));
                number.ok_or_else(|| fault(format!("`{text}` is not a part of the image (0 to 1)")))
            })
            .collect();
        let parts = parts?;
        match parts.len() {
            4 => writer.leave_out("box without a polygon"),
            length if length >= 7 && length % 2 == 1 => {
                let last = parts.last().copied().unwrap_or_default();
                let reason = format!(
                    "{length} coordinates, an odd count: {last} at the end may be a confidence, as predictions \
                     have; write labels without it (save_conf=False)"
                );
                return Err(fault(reason));
            }
            length if length < 6 => {
                let reason = format!("{length} coordinates; a polygon has at least 3 points");
                return Err(fault(reason));
            }
            _ => {
                let scale = [f64::from(size.0), f64::from(size.1)];
                let points = parts
                    .as_chunks::<2>()
                    .0
                    .iter()
                    .map(|[x, y]| [x * scale[0], y * scale[1]]);
                match object(image_id, class + 1, vec![points.collect()], size) {
                    Some(object) => writer.object(object),
                    None => writer.leave_out("polygon without an area"),
                }
            }
        }
    }
    Ok(true)
}
