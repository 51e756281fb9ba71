//! VIA (VGG Image Annotator): a JSON file of regions for all images.

use super::shape::{Point, ellipse, object};
use super::spec::{ImportError, ImportSpec, Imported, find_image};
use super::writer::{Category, Writer};
use crate::budget::excerpt;
use crate::data::json::read_text;
use crate::data::locate::Locator;
use crate::image::decode::dimensions;
use serde::Deserialize;
use serde_json::{Map, Value};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

#[derive(Deserialize)]
struct Entry {
    filename: String,
    #[serde(default)]
    regions: Value,
}

#[derive(Deserialize)]
struct Region {
    #[serde(default)]
    shape_attributes: Map<String, Value>,
    #[serde(default)]
    region_attributes: Map<String, Value>,
}

/// The name of an image, and its regions.
type Named = (String, Vec<Region>);

/// The annotation file of a folder: the only JSON file.
fn file(source: &Path) -> Result<PathBuf, ImportError> {
    if source.is_file() {
        return Ok(source.into());
    }
    let entries = std::fs::read_dir(source).map_err(|error| ImportError::io(source, error))?;
    let paths = entries.filter_map(|entry| entry.ok().map(|entry| entry.path()));
    let mut json = paths.filter(|path| {
        path.extension()
            .is_some_and(|extension| extension == "json")
    });
    match (json.next(), json.next()) {
        (Some(only), None) => Ok(only),
        _ => Err(ImportError::source(
            source,
            "give the JSON file that VIA saved",
        )),
    }
}

pub(super) fn read(spec: &ImportSpec) -> Result<Vec<Imported>, ImportError> {
    let path = file(&spec.source)?;
    let fault = |reason: String| ImportError::source(&path, reason);
    let text = read_text(&path).map_err(|error| ImportError::io(&path, error))?;
    let (images, attribute) = parse(&text).map_err(fault)?;
    let classes: BTreeSet<String> = images
        .iter()
        .flat_map(|(_, regions)| regions)
        .filter_map(|region| class(region, &attribute))
        .collect();
    let ids: BTreeMap<String, u64> = classes.into_iter().zip(1..).collect();
    let folder = path.parent().unwrap_or(Path::new(""));
    let images_folder = match &spec.images {
        Some(images) => images.clone(),
        None if folder.join("images").is_dir() => folder.join("images"),
        None => folder.into(),
    };
    let mut locator = Locator::new(&images_folder, &path);
    let mut writer = Writer::new(&spec.out, spec.split.as_deref().unwrap_or("train"))?;
    for (name, regions) in images {
        let image = find_image(&mut locator, &name, &path)?;
        let size = dimensions(&image)?;
        let image_id = writer.link(&image, None, size)?;
        for region in regions {
            let Some(category) =
                class(&region, &attribute).and_then(|name| ids.get(&name).copied())
            else {
                writer.leave_out("region without a class");
                continue;
            };
            let Some(points) = outline(&region.shape_attributes) else {
                writer
                    .leave_out("region without an area (rectangle, line or point); draw polygons");
                continue;
            };
            match object(image_id, category, vec![points], size) {
                Some(object) => writer.object(object),
                None => writer.leave_out("polygon without an area"),
            }
        }
    }
    writer.note_names(&mut locator);
    let categories = ids.into_iter().map(|(name, id)| Category { id, name });
    Ok(vec![writer.finish(&categories.collect::<Vec<_>>())?])
}

/// The images of a file with their regions, and the attribute that holds the class.
fn parse(text: &str) -> Result<(Vec<Named>, String), String> {
    let mut value: Value = serde_json::from_str(text).map_err(|error| error.to_string())?;
    let entries = match value.get_mut("_via_img_metadata") {
        Some(entries) => entries.take(),
        None => value,
    };
    let Value::Object(entries) = entries else {
        return Err("not a VIA file: an object with the images is expected".into());
    };
    let mut images = Vec::new();
    for (key, entry) in entries {
        let fault = |error: serde_json::Error| format!("{}: {error}", excerpt(&key));
        let entry: Entry = serde_json::from_value(entry).map_err(fault)?;
        let regions = match entry.regions {
            Value::Array(list) => list,
            // VIA 1 numbers them.
            Value::Object(map) => map.into_iter().map(|(_, region)| region).collect(),
            _ => Vec::new(),
        };
        let regions: Result<Vec<Region>, _> =
            regions.into_iter().map(serde_json::from_value).collect();
        images.push((entry.filename, regions.map_err(fault)?));
    }
    let attribute = class_attribute(&images)?;
    Ok((images, attribute))
}

/// Whether every region of a file becomes an object of an image of 40x30 pixels.
#[cfg(feature = "convert")]
pub(super) fn is_sound(text: &str) -> bool {
    parse(text).is_ok_and(|(images, attribute)| {
        let mut regions = images.iter().flat_map(|(_, regions)| regions);
        regions.all(|region| {
            let points = outline(&region.shape_attributes);
            let object = points.and_then(|points| object(1, 1, vec![points], (40, 30)));
            class(region, &attribute).is_some() && object.is_some()
        })
    })
}

/// The region attribute that holds the class: one of the usual names or, if there is none, the only attribute.
fn class_attribute(images: &[Named]) -> Result<String, String> {
    let regions = images.iter().flat_map(|(_, regions)| regions);
    let keys: BTreeSet<&String> = regions
        .flat_map(|region| region.region_attributes.keys())
        .collect();
    let usual = [
        "class",
        "label",
        "name",
        "category",
        "type",
        "object",
        "class_name",
    ];
    let found = usual
        .iter()
        .find_map(|usual| keys.iter().find(|key| key.eq_ignore_ascii_case(usual)));
    match (found, keys.len()) {
        (Some(key), _) => Ok(key.to_string()),
        (None, 1) => Ok(keys.first().map(|key| key.to_string()).unwrap_or_default()),
        (None, 0) => {
            Err("no region has an attribute for its class; add one in VIA, such as `name`".into())
        }
        (None, _) => {
            let keys: Vec<String> = keys.iter().map(|key| format!("`{key}`")).collect();
            Err(format!(
                "any of the attributes {} could be the class; name the right one `class`",
                keys.join(", ")
            ))
        }
    }
}

/// The class of a region: a text, a number, or the selected checkbox.
fn class(region: &Region, attribute: &str) -> Option<String> {
    let name = match region.region_attributes.get(attribute)? {
        Value::String(text) => text.trim().to_string(),
        Value::Number(number) => number.to_string(),
        Value::Object(boxes) => boxes
            .iter()
            .find(|(_, set)| **set == Value::Bool(true))?
            .0
            .clone(),
        _ => return None,
    };
    (!name.is_empty()).then_some(name)
}

fn outline(shape: &Map<String, Value>) -> Option<Vec<Point>> {
    let number = |key: &str| shape.get(key).and_then(Value::as_f64);
    let list = |key: &str| -> Option<Vec<f64>> {
        shape
            .get(key)?
            .as_array()?
            .iter()
            .map(Value::as_f64)
            .collect()
    };
    match shape.get("name")?.as_str()? {
        "polygon" | "polyline" => {
            let (xs, ys) = (list("all_points_x")?, list("all_points_y")?);
            let closed =
                shape["name"] == "polygon" || xs.first() == xs.last() && ys.first() == ys.last();
            (xs.len() == ys.len() && xs.len() >= 3 && closed)
                .then(|| xs.into_iter().zip(ys).map(|(x, y)| [x, y]).collect())
        }
        "circle" => {
            let radius = number("r")?;
            Some(ellipse(
                [number("cx")?, number("cy")?],
                [radius, radius],
                0.0,
            ))
        }
        "ellipse" => {
            let turn = number("theta").unwrap_or(0.0);
            Some(ellipse(
                [number("cx")?, number("cy")?],
                [number("rx")?, number("ry")?],
                turn,
            ))
        }
        _ => None,
    }
}
