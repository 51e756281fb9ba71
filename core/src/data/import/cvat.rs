//! CVAT for images 1.1: an XML file and its images.

use super::cvat_xml::{Document, Image, Outline, Shape, parse};
use super::shape::{Point, ellipse, from_runs, object, of_mask};
use super::spec::{ImportError, ImportSpec, Imported, check_regular, find_image, is_wanted};
use super::writer::{Category, Object, Writer};
use crate::budget::{Budget, excerpt};
use crate::data::json::open_text;
use crate::data::locate::Locator;
#[cfg(feature = "convert")]
use crate::image::decode::MAX_PIXELS;
use crate::image::decode::dimensions;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::io::BufReader;
use std::path::{Path, PathBuf};
use vernier_mask::Rle;

/// The split of images whose subset has no name, or CVAT's name for none.
const ONLY_SPLIT: &str = "train";

/// The annotation file: the source itself, or `annotations.xml` in it.
fn file(source: &Path) -> PathBuf {
    match source.is_dir() {
        true => source.join("annotations.xml"),
        false => source.into(),
    }
}

pub(super) fn read(spec: &ImportSpec) -> Result<Vec<Imported>, ImportError> {
    let path = file(&spec.source);
    // The file is read in one pass, so its length is not limited; the budget limits what is kept of it.
    check_regular(&path, u64::MAX)?;
    let budget = Budget::for_file(std::fs::metadata(&path).map_or(0, |file| file.len()));
    let text = open_text(&path).map_err(|error| ImportError::io(&path, error))?;
    let mut document = parse(BufReader::new(text), &budget)
        .map_err(|reason| ImportError::source(&path, reason))?;
    let categories = categories(&document);
    let ids: HashMap<&str, u64> = categories
        .iter()
        .map(|category| (category.name.as_str(), category.id))
        .collect();
    let folder = path.parent().unwrap_or(Path::new(""));
    let images = match &spec.images {
        Some(images) => images.clone(),
        None if folder.join("images").is_dir() => folder.join("images"),
        None => folder.into(),
    };
    let mut locator = Locator::new(&images, &path);
    let mut imported = Vec::new();
    for (split, members) in splits(spec, std::mem::take(&mut document.images)) {
        let mut writer = Writer::new(&spec.out, &split)?;
        for image in &members {
            // Subsets may have images of the same name.
            let own = format!("{}/{}", image.subset, image.name);
            let has_own = !image.subset.is_empty() && images.join(&own).is_file();
            let name = if has_own { &own } else { &image.name };
            let found = find_image(&mut locator, name, &path)?;
            add(&path, &found, image, &ids, &budget, &mut writer)?;
        }
        writer.note_names(&mut locator);
        if imported.is_empty() {
            leave_out(&document.left_out, &mut writer);
        }
        imported.push(writer.finish(&categories)?);
    }
    match imported.is_empty() {
        true => Err(ImportError::source(&path, "no image of that subset in it")),
        false => Ok(imported),
    }
}

/// Images by split: CVAT's subsets, or all of them in one.
fn splits(spec: &ImportSpec, images: Vec<Image>) -> BTreeMap<String, Vec<Image>> {
    let is_named = |image: &Image| !["", "default"].contains(&image.subset.to_lowercase().as_str());
    let has_subsets = images.iter().any(is_named);
    let mut splits: BTreeMap<String, Vec<Image>> = BTreeMap::new();
    for image in images {
        let split = match (is_named(&image), has_subsets, &spec.split) {
            (true, ..) => image.subset.clone(),
            (false, false, Some(name)) => name.clone(),
            (false, ..) => ONLY_SPLIT.into(),
        };
        splits.entry(split).or_default().push(image);
    }
    splits.retain(|split, _| is_wanted(spec, split));
    splits
}

/// The labels of the file in their order; those that only shapes have follow by name.
fn categories(document: &Document) -> Vec<Category> {
    let declared: HashSet<&str> = document.labels.iter().map(String::as_str).collect();
    let shapes = document.images.iter().flat_map(|image| &image.shapes);
    let others: BTreeSet<&str> = shapes
        .map(|shape| shape.label.as_str())
        .filter(|label| !declared.contains(label))
        .collect();
    let mut seen = HashSet::new();
    let declared = document.labels.iter().map(String::as_str);
    let names = declared.chain(others).filter(|name| seen.insert(*name));
    let names = (1..).zip(names);
    names
        .map(|(id, name)| Category {
            id,
            name: name.into(),
        })
        .collect()
}

fn leave_out(shapes: &HashMap<String, usize>, writer: &mut Writer) {
    for (name, count) in shapes {
        let reason = match name.as_str() {
            "box" => "box without a mask",
            "polyline" => "polyline",
            "points" => "points",
            "cuboid" => "cuboid",
            "skeleton" => "skeleton",
            _ => "shape of an unknown kind",
        };
        (0..*count).for_each(|_| writer.leave_out(reason));
    }
}

fn add(
    path: &Path,
    found: &Path,
    image: &Image,
    ids: &HashMap<&str, u64>,
    budget: &Budget,
    writer: &mut Writer,
) -> Result<(), ImportError> {
    let size = dimensions(found)?;
    if size != (image.width, image.height) {
        let reason = format!(
            "{} is {}x{}, but {}x{} in its entry",
            found.display(),
            size.0,
            size.1,
            image.width,
            image.height
        );
        return Err(ImportError::source(path, reason));
    }
    let image_id = writer.link(found, None, size)?;
    let objects = objects(image, image_id, ids, budget);
    let objects = objects.map_err(|reason| {
        ImportError::source(
            path,
            format!("a mask of {}: {reason}", excerpt(&image.name)),
        )
    })?;
    for object in objects {
        match object {
            Some(object) => writer.object(object),
            None => writer.leave_out("polygon or mask without an area"),
        }
    }
    Ok(())
}

/// The objects of an image: one per group, and one per shape without a group.
fn objects(
    image: &Image,
    image_id: u64,
    ids: &HashMap<&str, u64>,
    budget: &Budget,
) -> Result<Vec<Option<Object>>, String> {
    let size = (image.width, image.height);
    let mut groups: Vec<Vec<&Shape>> = Vec::new();
    let mut by_group: HashMap<(u64, &str), usize> = HashMap::new();
    for shape in &image.shapes {
        let key = (shape.group, shape.label.as_str());
        match by_group.get(&key).filter(|_| shape.group > 0) {
            Some(index) => groups[*index].push(shape),
            None => {
                by_group.insert(key, groups.len());
                groups.push(vec![shape]);
            }
        }
    }
    let objects = groups.iter().map(|shapes| {
        let category = ids.get(shapes[0].label.as_str()).copied();
        grouped(image_id, category.unwrap_or_default(), shapes, size, budget)
    });
    objects.collect()
}

/// Whether a file is accepted, with the objects of its images.
#[cfg(feature = "convert")]
pub(super) fn is_sound(bytes: &[u8]) -> bool {
    let budget = Budget::for_file(bytes.len() as u64);
    parse(bytes, &budget).is_ok_and(|document| {
        let ids = HashMap::new();
        document.images.iter().all(|image| {
            // The size is that of the file, which has been checked.
            let pixels = u64::from(image.width) * u64::from(image.height);
            (1..=MAX_PIXELS).contains(&pixels) && objects(image, 1, &ids, &budget).is_ok()
        })
    })
}

/// The object of one shape or of a group.
fn grouped(
    image_id: u64,
    category_id: u64,
    shapes: &[&Shape],
    (width, height): (u32, u32),
    budget: &Budget,
) -> Result<Option<Object>, String> {
    let (mut polygons, mut masks) = (Vec::new(), Vec::new());
    for shape in shapes {
        match &shape.outline {
            Outline::Polygon(points) => polygons.push(points.clone()),
            Outline::Ellipse {
                center,
                radii,
                rotation,
            } => {
                polygons.push(ellipse(*center, *radii, rotation.to_radians()));
            }
            Outline::Mask {
                runs,
                left,
                top,
                width: columns,
                height: rows,
            } => {
                let place = [*left, *top, *columns, *rows];
                masks.push(from_runs(runs, place, (width, height), budget)?);
            }
        }
    }
    if masks.is_empty() {
        return Ok(object(image_id, category_id, polygons, (width, height)));
    }
    let drawn: Vec<Vec<f64>> = polygons
        .iter()
        .filter(|points: &&Vec<Point>| points.len() >= 3)
        .map(|points| {
            let clip = |point: &Point| {
                [
                    point[0].clamp(0.0, f64::from(width)),
                    point[1].clamp(0.0, f64::from(height)),
                ]
            };
            points.iter().flat_map(clip).collect()
        })
        .collect();
    // Every edge is drawn from pixel to pixel.
    for points in &drawn {
        let next = points.iter().cycle().skip(2);
        let steps: f64 = points.iter().zip(next).map(|(a, b)| (a - b).abs()).sum();
        let charged = budget.work(steps as usize + points.len());
        charged.map_err(|error| error.to_string())?;
    }
    let fault = |error: vernier_mask::MaskError| error.to_string();
    if !drawn.is_empty() {
        masks.push(Rle::from_polygons(&drawn, height, width).map_err(fault)?);
    }
    let mask = match &masks[..] {
        [only] => only.clone(),
        several => Rle::merge(several, false).map_err(fault)?,
    };
    Ok(of_mask(image_id, category_id, &mask))
}
