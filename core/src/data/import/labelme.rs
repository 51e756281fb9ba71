//! labelme: a JSON file per image, with shapes in pixels.

use super::shape::{Point, ellipse, from_runs, object, of_mask};
use super::spec::{ImportError, ImportSpec, Imported, find_image};
use super::writer::{Category, Object, Writer};
use crate::budget::Budget;
use crate::data::json::read_text;
use crate::data::locate::Locator;
use crate::image::decode::{decode_bytes, dimensions, dimensions_bytes};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde::Deserialize;
use serde_json::Value;
use std::collections::{BTreeMap, HashMap};
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
            Ok(file) if is_labelme => parsed.push((path, file, text.len() as u64)),
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
        .flat_map(|(_, file, _)| &file.shapes)
        .filter_map(label);
    let mut names: BTreeMap<String, u64> = labels.map(|name| (name, 0)).collect();
    (1..)
        .zip(names.values_mut())
        .for_each(|(id, value)| *value = id);
    let mut writer = Writer::new(&spec.out, spec.split.as_deref().unwrap_or("train"))?;
    // All files are in one folder.
    let folder = parsed[0].0.parent().unwrap_or(Path::new(""));
    let images = spec.images.as_deref().unwrap_or(folder);
    let mut locator = Locator::new(images, &parsed[0].0);
    for (path, file, length) in parsed {
        add(&mut locator, (&path, length), file, &names, &mut writer)?;
    }
    writer.note_names(&mut locator);
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

fn add(
    locator: &mut Locator,
    (path, length): (&Path, u64),
    file: File,
    names: &BTreeMap<String, u64>,
    writer: &mut Writer,
) -> Result<(), ImportError> {
    let name = file.image_path.clone().unwrap_or_default();
    let found = find_image(locator, &name, path);
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
        (Err(missing), _) => return Err(missing),
    };
    let mut objects = Vec::new();
    let budget = Budget::for_masks(length);
    let found = Found {
        image_id,
        size,
        budget: &budget,
    };
    found
        .objects(&file.shapes, names, &mut objects)
        .map_err(|reason| ImportError::source(path, reason))?;
    for object in objects {
        match object {
            Ok(object) => writer.object(object),
            Err(reason) => writer.leave_out(reason),
        }
    }
    Ok(())
}

/// An image whose shapes are converted to objects.
struct Found<'a> {
    image_id: u64,
    /// Width and height.
    size: (u32, u32),
    budget: &'a Budget,
}

impl Found<'_> {
    /// Converts shapes to objects; the reason replaces the object of a shape that is left out.
    fn objects(
        &self,
        shapes: &[Shape],
        names: &BTreeMap<String, u64>,
        objects: &mut Vec<Result<Object, &'static str>>,
    ) -> Result<(), String> {
        // Shapes of a group form one object.
        let mut groups: Vec<(u64, Vec<Vec<Point>>)> = Vec::new();
        let mut by_group: HashMap<(u64, String), usize> = HashMap::new();
        for shape in shapes {
            let Some(category) = label(shape).and_then(|name| names.get(&name).copied()) else {
                objects.push(Err("shape without a label"));
                continue;
            };
            if shape.shape_type == "mask" {
                let mask = self
                    .mask(shape)
                    .map_err(|reason| format!("a mask: {reason}"))?;
                let object = of_mask(self.image_id, category, &mask);
                objects.push(object.ok_or("mask without a pixel"));
                continue;
            }
            let Some(points) = outline(shape) else {
                objects.push(Err(
                    "shape without an area (rectangle, line or point); draw polygons",
                ));
                continue;
            };
            let group = shape
                .group_id
                .as_ref()
                .filter(|id| !id.is_null())
                .map(|id| (category, id.to_string()));
            let known = group.as_ref().and_then(|group| by_group.get(group));
            match known {
                Some(&index) => groups[index].1.push(points),
                None => {
                    by_group.extend(group.map(|group| (group, groups.len())));
                    groups.push((category, vec![points]));
                }
            }
        }
        for (category, polygons) in groups {
            let object = object(self.image_id, category, polygons, self.size);
            objects.push(object.ok_or("polygon without an area"));
        }
        Ok(())
    }

    /// A mask that is a PNG within the box of two points.
    fn mask(&self, shape: &Shape) -> Result<Rle, String> {
        let (Some(data), [start, _]) = (&shape.mask, &shape.points[..]) else {
            return Err("it does not have a PNG and two points".into());
        };
        let bytes = BASE64_STANDARD
            .decode(data)
            .map_err(|error| error.to_string())?;
        let name = Path::new("its PNG");
        let (width, height) = dimensions_bytes(&bytes, name).map_err(|error| error.to_string())?;
        // A small file may have many masks, each as large as an image may be.
        let pixels = width as usize * height as usize;
        self.budget
            .work(pixels / 4)
            .map_err(|error| error.to_string())?;
        let pixels = decode_bytes(&bytes, name).map_err(|error| error.to_string())?;
        let (width, height) = pixels.dimensions();
        let place = start.map(|value| value.round().clamp(-1e9, 1e9) as i64);
        // Columns and rows left of the image and above it.
        let hidden = place.map(|start| (-start).max(0) as u32);
        let [left, top] = place.map(|start| start.max(0) as u32);
        if hidden[0] >= width || hidden[1] >= height {
            return Ok(Rle::empty(self.size.1, self.size.0));
        }
        let (mut runs, mut foreground) = (vec![0u32], false);
        for y in hidden[1]..height {
            for x in hidden[0]..width {
                if (pixels.get_pixel(x, y).0[0] > 0) != foreground {
                    foreground = !foreground;
                    runs.push(0);
                }
                if let Some(run) = runs.last_mut() {
                    *run += 1;
                }
            }
        }
        let place = [left, top, width - hidden[0], height - hidden[1]];
        from_runs(&runs, place, self.size, self.budget)
    }
}

/// Whether every shape of a file becomes an object of an image of 40x30 pixels.
#[cfg(feature = "convert")]
pub(super) fn is_sound(text: &str) -> bool {
    let Ok(file) = serde_json::from_str::<File>(text) else {
        return false;
    };
    let names = file.shapes.iter().filter_map(label).map(|name| (name, 1));
    let names: BTreeMap<String, u64> = names.collect();
    let (budget, mut objects) = (Budget::for_masks(text.len() as u64), Vec::new());
    let found = Found {
        image_id: 1,
        size: (40, 30),
        budget: &budget,
    };
    let read = found.objects(&file.shapes, &names, &mut objects);
    read.is_ok() && !objects.is_empty() && objects.iter().all(Result::is_ok)
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
