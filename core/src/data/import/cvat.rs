//! CVAT for images 1.1: an XML file, read by hotcoco.

use super::shape::{Point, object};
use super::spec::{ImportError, ImportSpec, Imported, LONGEST_TEXT, check_regular};
use super::writer::{Category, Writer};
use crate::data::locate::Locator;
use crate::image::decode::dimensions;
use hotcoco::types::{Annotation, Segmentation};
use std::collections::HashMap;
use std::path::{Path, PathBuf};

/// The annotation file: the source itself, or `annotations.xml` in it.
fn file(source: &Path) -> PathBuf {
    match source.is_dir() {
        true => source.join("annotations.xml"),
        false => source.into(),
    }
}

pub(super) fn read(spec: &ImportSpec) -> Result<Vec<Imported>, ImportError> {
    let path = file(&spec.source);
    check_regular(&path, LONGEST_TEXT)?;
    let (dataset, stats) =
        hotcoco::convert::cvat_to_coco(&path).map_err(|error| ImportError::source(&path, error))?;
    let mut objects: HashMap<u64, Vec<&Annotation>> = HashMap::new();
    for annotation in &dataset.annotations {
        objects
            .entry(annotation.image_id)
            .or_default()
            .push(annotation);
    }
    let folder = path.parent().unwrap_or(Path::new(""));
    let images = match &spec.images {
        Some(images) => images.clone(),
        None if folder.join("images").is_dir() => folder.join("images"),
        None => folder.into(),
    };
    let mut locator = Locator::new(&images, &path);
    let mut writer = Writer::new(&spec.out, spec.split.as_deref().unwrap_or("train"))?;
    for image in &dataset.images {
        let found = locator.find(&image.file_name).map_err(|expected| {
            let reason = format!(
                "its image {} is missing; give the folder with --images",
                expected.display()
            );
            ImportError::source(&path, reason)
        })?;
        let size = dimensions(&found)?;
        if size != (image.width, image.height) {
            let reason = format!(
                "{} is {}x{}, its entry says {}x{}",
                found.display(),
                size.0,
                size.1,
                image.width,
                image.height
            );
            return Err(ImportError::source(&path, reason));
        }
        let image_id = writer.link(&found, None, size)?;
        for annotation in objects.get(&image.id).into_iter().flatten() {
            let Some(Segmentation::Polygon(polygons)) = &annotation.segmentation else {
                writer.leave_out("box without a polygon");
                continue;
            };
            let points = |polygon: &Vec<f64>| -> Vec<Point> { polygon.as_chunks::<2>().0.to_vec() };
            let polygons = polygons.iter().map(points).collect();
            match object(image_id, annotation.category_id, polygons, size) {
                Some(object) => writer.object(object),
                None => writer.leave_out("polygon without an area"),
            }
        }
    }
    for _ in 0..stats.skipped_degenerate {
        writer.leave_out("polygon with fewer than 3 points");
    }
    for _ in 0..stats.skipped_unsupported {
        writer.leave_out(
            "brush mask, line, point or cuboid; brush masks come with CVAT's export \"COCO 1.0\"",
        );
    }
    let categories = dataset.categories.iter();
    let categories: Vec<Category> = categories
        .map(|category| Category {
            id: category.id,
            name: category.name.clone(),
        })
        .collect();
    Ok(vec![writer.finish(&categories)?])
}
