//! LVIS, whose images are COCO's, identified by `coco_url`.

use super::spec::{ImportError, ImportSpec, Imported};
use super::writer::{Category, Mask, Object, Writer};
use crate::budget::Budget;
use crate::data::entries::numbers;
use crate::data::json::{
    Counts, Element, Field, Id, Numbers, RawSegmentation, ScanError, Section, Text, open_text,
    parse_element, scan_text,
};
use crate::data::raw::{RawAnnotation, RawCategory};
use serde::Deserialize;
use std::collections::HashSet;
use std::io::Read;
use std::path::{Path, PathBuf};

pub(super) fn read(spec: &ImportSpec) -> Result<Vec<Imported>, ImportError> {
    let source = &spec.source;
    let Some(folder) = &spec.images else {
        let reason = "LVIS has no images of its own: give COCO's with --images DIR";
        return Err(ImportError::source(source, reason));
    };
    let length = std::fs::metadata(source).map_or(0, |file| file.len());
    let contents = open_text(source)
        .map_err(ScanError::Io)
        .and_then(|text| Contents::read(text, length));
    let contents = contents.map_err(|error| match error {
        ScanError::Io(error) => ImportError::io(source, error),
        ScanError::Json(reason) => {
            ImportError::source(source, format!("{reason}; give an LVIS JSON file"))
        }
    })?;
    let mut writer = Writer::new(&spec.out, &split_name(spec))?;
    let mut known = HashSet::new();
    for image in &contents.images {
        match image_file(folder, image) {
            Some(path) => {
                writer.link(&path, Some(image.id), (image.width, image.height))?;
                known.insert(image.id);
            }
            None => writer.leave_out("image that is not in the folder of --images"),
        }
    }
    for (object, left_out) in contents.objects {
        match (object, left_out) {
            (_, Some(reason)) => writer.leave_out(reason),
            (Some(object), None) if known.contains(&object.image_id) => writer.object(object),
            _ => {}
        }
    }
    Ok(vec![writer.finish(&contents.categories)?])
}

/// An entry of `images`: LVIS 1.0 has `coco_url`, and 0.5 `file_name`.
#[derive(Deserialize)]
struct RawImage {
    #[serde(default)]
    id: Field<Id>,
    #[serde(default)]
    file_name: Field<Text>,
    #[serde(default)]
    coco_url: Field<Text>,
    #[serde(default)]
    width: Field<Id>,
    #[serde(default)]
    height: Field<Id>,
}

struct Image {
    id: u64,
    file_name: String,
    coco_url: String,
    width: u32,
    height: u32,
}

/// The entries of a file.
#[derive(Default)]
pub(super) struct Contents {
    images: Vec<Image>,
    categories: Vec<Category>,
    /// Objects, or the reasons for leaving them out.
    objects: Vec<(Option<Object>, Option<&'static str>)>,
}

impl Contents {
    /// Reads a text of `length` bytes.
    pub fn read(text: Box<dyn Read>, length: u64) -> Result<Self, ScanError> {
        let (mut contents, budget) = (Self::default(), Budget::for_file(length));
        let foreign = scan_text(text, &mut |element| contents.add(&element, &budget))?;
        match foreign {
            Some(foreign) => Err(ScanError::Json(foreign.advice().into())),
            None => Ok(contents),
        }
    }

    fn add(&mut self, element: &Element, budget: &Budget) -> Result<(), String> {
        let place = (element.line, element.column);
        let entry = match element.section {
            Section::Images => {
                budget.values::<Image>(1).map_err(|over| over.to_string())?;
                parse_element(element.text, place)?
                    .and_then(image)
                    .map(|image| self.images.push(image))
            }
            Section::Categories => {
                budget
                    .values::<Category>(1)
                    .map_err(|over| over.to_string())?;
                parse_element(element.text, place)?
                    .and_then(category)
                    .map(|category| self.categories.push(category))
            }
            Section::Annotations => {
                let kept = budget.values::<(Option<Object>, Option<&str>)>(1);
                kept.map_err(|over| over.to_string())?;
                parse_element(element.text, place)?
                    .and_then(object)
                    .map(|object| self.objects.push(object))
            }
            Section::Top => Ok(()),
        };
        let list = format!("{:?}", element.section).to_lowercase();
        entry.map_err(|reason| format!("{list}[{}]: {reason}", element.index))
    }
}

fn image(raw: RawImage) -> Result<Image, String> {
    let side = |field: Field<Id>, name| -> Result<u32, String> {
        let side = field.required(name)?.0;
        u32::try_from(side).map_err(|_| format!("`{name}` is {side}"))
    };
    let text = |field: Field<Text>| field.value().map(|text| text.0).unwrap_or_default();
    Ok(Image {
        id: raw.id.required("id")?.0,
        file_name: text(raw.file_name),
        coco_url: text(raw.coco_url),
        width: side(raw.width, "width")?,
        height: side(raw.height, "height")?,
    })
}

fn category(raw: RawCategory) -> Result<Category, String> {
    Ok(Category {
        id: raw.id.required("id")?.0,
        name: raw.name.required("name")?.0,
    })
}

/// The object of an annotation, or the reason for leaving it out.
fn object(raw: RawAnnotation) -> Result<(Option<Object>, Option<&'static str>), String> {
    let image_id = raw.image_id.required("image_id")?.0;
    let category_id = raw.category_id.required("category_id")?.0;
    let Some(segmentation) = mask(raw.segmentation) else {
        return Ok((None, Some("object without a mask")));
    };
    let Some(bbox) = numbers(&raw.bbox).map_err(|fault| fault.reason)? else {
        return Ok((None, Some("object without a box")));
    };
    let area = raw.area.optional("area")?.map(|area| area.0);
    let is_crowd = raw.iscrowd.optional("iscrowd")?;
    let object = Object {
        id: 0,
        image_id,
        category_id,
        bbox,
        area: area.unwrap_or(bbox[2] * bbox[3]),
        iscrowd: is_crowd.is_some_and(|crowd| crowd.0).into(),
        segmentation,
    };
    Ok((Some(object), None))
}

/// The mask in the form of the output; `None` if there is no mask that can be written.
fn mask(raw: RawSegmentation) -> Option<Mask> {
    let sides = |size: Field<Numbers>| -> Option<[u32; 2]> {
        let numbers = <[f64; 2]>::try_from(size.value()?.0).ok()?;
        let is_side =
            |side: &f64| side.fract() == 0.0 && (0.0..=f64::from(u32::MAX)).contains(side);
        numbers
            .iter()
            .all(is_side)
            .then(|| numbers.map(|side| side as u32))
    };
    match raw {
        RawSegmentation::Polygons(polygons) => {
            let mut all = polygons.iter().flatten();
            let is_finite = all.all(|number| number.is_finite());
            is_finite.then_some(Mask::Polygons(polygons))
        }
        RawSegmentation::Rle { size, counts } => {
            let size = sides(size)?;
            match counts {
                Counts::Compressed(counts) => Some(Mask::Rle { size, counts }),
                Counts::Runs(counts) => Some(Mask::Runs { size, counts }),
                Counts::Missing | Counts::Other => None,
            }
        }
        RawSegmentation::Missing | RawSegmentation::Other(_) => None,
    }
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
    let mut parts = image.coco_url.rsplit('/').take(2).collect::<Vec<_>>();
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
