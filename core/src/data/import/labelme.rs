//! labelme: a JSON file per image, with shapes in pixels.

use super::shape::{Point, ellipse, object, of_mask};
use super::spec::{ImportError, ImportSpec, Imported};
use super::writer::{Category, Object, Writer};
use crate::data::json::read_text;
use crate::data::locate::Locator;
use crate::image::decode::{decode_bytes, dimensions, dimensions_bytes};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde::Deserialize;
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use vernier_mask::Rle;

#[derive(Deserialize)]
struct File {
    #[serde(default)]
    shapes: Vec<Shape>,
    #[serde(default, rename = "imagePath")]
    image_path: Option<String>,
    #[serde(default, rename = "imageData")]
    image_data: Option<String>,
}

#[derive(Deserialize)]
struct Shape {
    label: Value,
    #[serde(default)]
    points: Vec<Point>,
    #[serde(default)]
    group_id: Option<Value>,
    #[serde(default = "polygon")]
    shape_type: String,
    /// A PNG within the box of the points.
    #[serde(default)]
    mask: Option<String>,
}

fn polygon() -> String {
    "polygon".into()
}

/// The annotation files of a folder, or the file itself.
fn files(source: &Path) -> Result<Vec<PathBuf>, ImportError> {
    if source.is_file() {
        return Ok(vec![source.into()]);
    }
    let entries = std::fs::read_dir(source).map_err(|error| ImportError::io(source, error))?;
    let paths = entries.filter_map(|entry| entry.ok().map(|entry| entry.path()));
    let is_json = |path: &PathBuf| {
        let hidden = path
            .file_name()
            .is_some_and(|name| name.to_string_lossy().starts_with('.'));
        path.is_file()
            && path
                .extension()
                .is_some_and(|e| e.eq_ignore_ascii_case("json"))
            && !hidden
    };
    let mut files: Vec<PathBuf> = paths.filter(is_json).collect();
    files.sort();
    Ok(files)
}

pub(super) fn read(spec: &ImportSpec) -> Result<Vec<Imported>, ImportError> {
    let source = &spec.source;
    let mut parsed = Vec::new();
    for path in files(source)? {
        let text = read_text(&path).map_err(|error| ImportError::io(&path, error))?;
        let is_labelme = text.contains("\"shapes\"");
        match serde_json::from_str::<File>(&text) {
            Ok(file) if is_labelme => parsed.push((path, file)),
            // The folder may contain other JSON files.
            Ok(_) => {}
            Err(_) if !is_labelme => {}
            Err(error) => return Err(ImportError::source(&path, error)),
        }
    }
    if parsed.is_empty() {
        return Err(ImportError::source(
            source,
            "no labelme file (JSON with `shapes`) in it",
        ));
    }
    let labels = parsed
        .iter()
        .flat_map(|(_, file)| &file.shapes)
        .filter_map(label);
    let mut names: BTreeMap<String, u64> = labels.map(|name| (name, 0)).collect();
    (1..)
        .zip(names.values_mut())
        .for_each(|(id, value)| *value = id);
    let mut writer = Writer::new(&spec.out, spec.split.as_deref().unwrap_or("train"))?;
    for (path, file) in parsed {
        add(spec, &path, file, &names, &mut writer)?;
    }
    let categories = names.into_iter().map(|(name, id)| Category { id, name });
    Ok(vec![writer.finish(&categories.collect::<Vec<_>>())?])
}

/// The class of a shape; `None` for labels that labelme reserves.
fn label(shape: &Shape) -> Option<String> {
    let name = match &shape.label {
        Value::String(text) => text.clone(),
        Value::Number(number) => number.to_string(),
        _ => return None,
    };
    (!["__ignore__", "_background_", ""].contains(&name.as_str())).then_some(name)
}

/// Class and group, class, and polygons of an object.
type Group = (Option<(u64, String)>, u64, Vec<Vec<Point>>);

fn add(
    spec: &ImportSpec,
    path: &Path,
    file: File,
    names: &BTreeMap<String, u64>,
    writer: &mut Writer,
) -> Result<(), ImportError> {
    let folder = path.parent().unwrap_or(Path::new(""));
    let images = spec.images.as_deref().unwrap_or(folder);
    let name = file.image_path.clone().unwrap_or_default();
    let found = Locator::new(images, path).find(&name);
    let (image_id, size) = match (found, &file.image_data) {
        (Ok(image), _) => {
            let size = dimensions(&image)?;
            (writer.link(&image, None, size)?, size)
        }
        (Err(_), Some(data)) if !data.is_empty() => {
            let fault = |error: base64::DecodeError| {
                ImportError::source(path, format!("imageData: {error}"))
            };
            let bytes = BASE64_STANDARD.decode(data).map_err(fault)?;
            let size = dimensions_bytes(&bytes, path)?;
            (writer.write(&name, &bytes, None, size)?, size)
        }
        (Err(expected), _) => {
            let reason = format!(
                "its image {} is missing; give the folder with --images",
                expected.display()
            );
            return Err(ImportError::source(path, reason));
        }
    };
    // Shapes of a group form one object.
    let mut groups: Vec<Group> = Vec::new();
    for shape in &file.shapes {
        let Some(category) = label(shape).and_then(|name| names.get(&name).copied()) else {
            writer.leave_out("shape without a label");
            continue;
        };
        if shape.shape_type == "mask" {
            match mask(shape, image_id, category, size, path)? {
                Some(object) => writer.object(object),
                None => writer.leave_out("mask without a pixel"),
            }
            continue;
        }
        let Some(points) = outline(shape) else {
            writer.leave_out("shape without an area (rectangle, line or point); draw polygons");
            continue;
        };
        let group = shape
            .group_id
            .as_ref()
            .filter(|id| !id.is_null())
            .map(|id| (category, id.to_string()));
        match groups
            .iter_mut()
            .find(|(other, ..)| group.is_some() && *other == group)
        {
            Some((.., polygons)) => polygons.push(points),
            None => groups.push((group, category, vec![points])),
        }
    }
    for (_, category, polygons) in groups {
        match object(image_id, category, polygons, size) {
            Some(object) => writer.object(object),
            None => writer.leave_out("polygon without an area"),
        }
    }
    Ok(())
}

/// The outline of a polygon or circle.
fn outline(shape: &Shape) -> Option<Vec<Point>> {
    match (shape.shape_type.as_str(), &shape.points[..]) {
        ("polygon" | "", points) if points.len() >= 3 => Some(points.to_vec()),
        ("circle", [center, edge]) => {
            let radius = (edge[0] - center[0]).hypot(edge[1] - center[1]);
            Some(ellipse(*center, [radius, radius], 0.0))
        }
        _ => None,
    }
}

/// A mask that is a PNG within the box of two points.
fn mask(
    shape: &Shape,
    image_id: u64,
    category_id: u64,
    (width, height): (u32, u32),
    path: &Path,
) -> Result<Option<Object>, ImportError> {
    let fault = |reason: String| ImportError::source(path, format!("a mask: {reason}"));
    let (Some(data), [start, _]) = (&shape.mask, &shape.points[..]) else {
        return Err(fault("it has no PNG, or its points are not two".into()));
    };
    let bytes = BASE64_STANDARD
        .decode(data)
        .map_err(|error| fault(error.to_string()))?;
    let pixels = decode_bytes(&bytes, path)?;
    let (left, top) = (start[0].round() as i64, start[1].round() as i64);
    let mut cells = vec![0; width as usize * height as usize];
    for (x, y, pixel) in pixels.enumerate_pixels() {
        let (x, y) = (left + i64::from(x), top + i64::from(y));
        let inside = (0..i64::from(width)).contains(&x) && (0..i64::from(height)).contains(&y);
        if inside && pixel.0[0] > 0 {
            cells[y as usize * width as usize + x as usize] = 1;
        }
    }
    let mask = Rle::from_row_major_raster_bytes(&cells, height, width)
        .map_err(|error| fault(error.to_string()))?;
    Ok(of_mask(image_id, category_id, &mask))
}
