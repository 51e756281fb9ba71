//! LVIS: read by hotcoco; its images are COCO's, identified by `coco_url`.

use super::spec::{ImportError, ImportSpec, Imported};
use super::writer::{Category, Mask, Object, Writer};
use hotcoco::types::{Dataset, Image, Segmentation};
use std::collections::HashSet;
use std::io::BufReader;
use std::path::{Path, PathBuf};

pub(super) fn read(spec: &ImportSpec) -> Result<Vec<Imported>, ImportError> {
    let source = &spec.source;
    let Some(folder) = &spec.images else {
        let reason = "LVIS has no images of its own: give COCO's with --images DIR";
        return Err(ImportError::source(source, reason));
    };
    if !source.is_file() {
        return Err(ImportError::source(
            source,
            "not a regular file; give an LVIS JSON file",
        ));
    }
    let file = std::fs::File::open(source).map_err(|error| ImportError::io(source, error))?;
    let dataset: Dataset = serde_json::from_reader(BufReader::new(file))
        .map_err(|error| ImportError::source(source, format!("{error}; give an LVIS JSON file")))?;
    let mut writer = Writer::new(&spec.out, &split_name(spec))?;
    let mut known = HashSet::new();
    for image in &dataset.images {
        match image_file(folder, image) {
            Some(path) => {
                writer.link(&path, Some(image.id), (image.width, image.height))?;
                known.insert(image.id);
            }
            None => writer.leave_out("image that is not in the folder of --images"),
        }
    }
    for annotation in dataset.annotations {
        let segmentation = match annotation.segmentation {
            Some(Segmentation::Polygon(polygons)) => Mask::Polygons(polygons),
            Some(Segmentation::CompressedRle { size, counts }) => Mask::Rle { size, counts },
            Some(Segmentation::UncompressedRle { size, counts }) => Mask::Runs { size, counts },
            _ => {
                writer.leave_out("object without a mask");
                continue;
            }
        };
        if !known.contains(&annotation.image_id) {
            continue;
        }
        let Some(bbox) = annotation.bbox else {
            writer.leave_out("object without a box");
            continue;
        };
        writer.object(Object {
            id: 0,
            image_id: annotation.image_id,
            category_id: annotation.category_id,
            bbox,
            area: annotation.area.unwrap_or(bbox[2] * bbox[3]),
            iscrowd: annotation.iscrowd.into(),
            segmentation,
        });
    }
    let categories = dataset.categories.into_iter();
    let categories: Vec<Category> = categories
        .map(|category| Category {
            id: category.id,
            name: category.name,
        })
        .collect();
    Ok(vec![writer.finish(&categories)?])
}

/// `lvis_v1_train.json` -> `train`.
fn split_name(spec: &ImportSpec) -> String {
    let stem = spec.source.file_stem().unwrap_or_default();
    let stem = stem.to_string_lossy();
    let last = stem.rsplit('_').next().unwrap_or("train");
    spec.split.clone().unwrap_or(last.to_string())
}

/// The file of an image: `train2017/000000000001.jpg` or `000000000001.jpg` in the folder.
fn image_file(folder: &Path, image: &Image) -> Option<PathBuf> {
    let url = image.coco_url.as_deref().unwrap_or_default();
    let mut parts = url.rsplit('/').take(2).collect::<Vec<_>>();
    parts.reverse();
    let names = [
        image.file_name.clone(),
        parts.join("/"),
        parts.last().copied().unwrap_or_default().to_string(),
        // LVIS 0.5: COCO_val2014_000000000001.jpg is 2017's 000000000001.jpg.
        image
            .file_name
            .rsplit('_')
            .next()
            .unwrap_or_default()
            .to_string(),
    ];
    let names = names
        .into_iter()
        .filter(|name| !name.is_empty() && !name.contains("..") && !name.starts_with('/'));
    names
        .map(|name| folder.join(name))
        .find(|path| path.is_file())
}
