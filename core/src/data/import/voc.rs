//! Pascal VOC: boxes and classes are read by hotcoco, masks from `SegmentationObject/`.

use super::spec::{ImportError, ImportSpec, Imported, LONGEST_TEXT, is_wanted, read_text};
use super::writer::{Category, Mask, Object, Writer};
use crate::budget::Budget;
use crate::image::decode::MAX_PIXELS;
use hotcoco::types::{Annotation, Dataset, Image};
use std::collections::HashMap;
use std::io::{BufRead, BufReader, Seek};
use std::path::Path;
use vernier_mask::Rle;

/// Split of all images if the folder of lists is missing.
const ONLY_SPLIT: &str = "train";

pub(super) fn read(spec: &ImportSpec) -> Result<Vec<Imported>, ImportError> {
    let source = &spec.source;
    for folder in ["Annotations", "JPEGImages", "SegmentationObject"] {
        if !source.join(folder).is_dir() {
            let reason = format!("no folder {folder}; give the one that holds it, e.g. VOC2012");
            return Err(ImportError::source(source, reason));
        }
    }
    check_xml_sizes(&source.join("Annotations"))?;
    let dataset = hotcoco::convert::voc_to_coco(source)
        .map_err(|error| ImportError::source(source, error))?;
    let categories: Vec<Category> = dataset
        .categories
        .iter()
        .map(|category| Category {
            id: category.id,
            name: category.name.clone(),
        })
        .collect();
    let mut objects: HashMap<u64, Vec<&Annotation>> = HashMap::new();
    for annotation in &dataset.annotations {
        objects
            .entry(annotation.image_id)
            .or_default()
            .push(annotation);
    }
    let mut imported = Vec::new();
    for (split, images) in splits(source, &dataset)? {
        if !is_wanted(spec, &split) {
            continue;
        }
        let mut writer = Writer::new(&spec.out, &split)?;
        for image in images {
            let objects = objects.get(&image.id).map_or(&[][..], Vec::as_slice);
            add(source, image, objects, &mut writer)?;
        }
        imported.push(writer.finish(&categories)?);
    }
    match imported.is_empty() {
        true => Err(ImportError::source(
            source,
            "no such split in ImageSets/Segmentation",
        )),
        false => Ok(imported),
    }
}

/// The images of each list in `ImageSets/Segmentation`.
fn splits<'a>(
    source: &Path,
    dataset: &'a Dataset,
) -> Result<Vec<(String, Vec<&'a Image>)>, ImportError> {
    let by_stem: HashMap<&str, &Image> = dataset.images.iter().map(|i| (stem(i), i)).collect();
    let folder = source.join("ImageSets/Segmentation");
    let mut splits = Vec::new();
    for split in ["train", "val", "test"] {
        let list = folder.join(format!("{split}.txt"));
        if !list.is_file() {
            continue;
        }
        let text = read_text(&list, LONGEST_TEXT)?;
        let mut images = Vec::new();
        for (line, name) in text.lines().enumerate() {
            let name = name.trim();
            if name.is_empty() {
                continue;
            }
            let Some(image) = by_stem.get(name) else {
                let reason = format!("{name} has no file in Annotations");
                return Err(ImportError::line(&list, line + 1, reason));
            };
            images.push(*image);
        }
        splits.push((split.to_string(), images));
    }
    if splits.is_empty() {
        splits.push((ONLY_SPLIT.into(), dataset.images.iter().collect()));
    }
    Ok(splits)
}

fn stem(image: &Image) -> &str {
    Path::new(&image.file_name)
        .file_stem()
        .and_then(|stem| stem.to_str())
        .unwrap_or_default()
}

fn add(
    source: &Path,
    image: &Image,
    objects: &[&Annotation],
    writer: &mut Writer,
) -> Result<(), ImportError> {
    // The image is taken from this folder, whatever the XML file names.
    let name = Path::new(&image.file_name).file_name().unwrap_or_default();
    let path = source.join("JPEGImages").join(name);
    let masks = source
        .join("SegmentationObject")
        .join(format!("{}.png", stem(image)));
    if !masks.is_file() {
        writer.leave_out("image without a file in SegmentationObject");
        return Ok(());
    }
    if objects.len() > MAX_OBJECTS {
        let reason = format!(
            "{} objects in its XML file; the 8 bits of a mask distinguish {MAX_OBJECTS}",
            objects.len()
        );
        return Err(ImportError::source(&masks, reason));
    }
    let file = std::fs::File::open(&masks).map_err(|error| ImportError::io(&masks, error))?;
    let length = file
        .metadata()
        .map_err(|error| ImportError::io(&masks, error))?
        .len();
    let fault = |reason: String| ImportError::source(&masks, reason);
    let (size, numbers) = object_numbers(BufReader::new(file)).map_err(fault)?;
    let image_id = writer.link(&path, None, size)?;
    let budget = Budget::for_file(length);
    let found = object_masks(&numbers, size, objects.len(), &budget).map_err(fault)?;
    for (mask, annotation) in found.into_iter().zip(objects) {
        if mask.area() == 0 {
            writer.leave_out("object without a mask");
            continue;
        }
        let (bbox, own) = (
            annotation.bbox.unwrap_or_default(),
            mask.bbox().map(f64::from),
        );
        if overlap(&bbox, &own) < SAME_OBJECT {
            writer.leave_out("object whose box and mask are in different places");
            continue;
        }
        writer.object(Object {
            id: 0,
            image_id,
            category_id: annotation.category_id,
            bbox: own,
            area: mask.area() as f64,
            iscrowd: annotation.iscrowd.into(),
            segmentation: Mask::rle(&mask),
        });
    }
    Ok(())
}

/// Boxes are drawn by hand around the object, and masks leave out its border, so they overlap by at least this IoU.
const SAME_OBJECT: f64 = 0.3;

/// Intersection over union of `x, y, width, height`.
fn overlap(a: &[f64; 4], b: &[f64; 4]) -> f64 {
    let side = |i: usize| (a[i] + a[i + 2]).min(b[i] + b[i + 2]) - a[i].max(b[i]);
    let both = side(0).max(0.0) * side(1).max(0.0);
    both / (a[2] * a[3] + b[2] * b[3] - both).max(f64::MIN_POSITIVE)
}

/// Number of objects that a mask can distinguish: 0 is the background, 255 the borders.
const MAX_OBJECTS: usize = 254;

/// Maximum length of an annotation file in bytes: 10,000 objects take 4 MB.
const LONGEST_XML: u64 = 16 << 20;

/// Rejects annotation files that are not regular files or are implausibly large.
fn check_xml_sizes(folder: &Path) -> Result<(), ImportError> {
    let entries = std::fs::read_dir(folder).map_err(|error| ImportError::io(folder, error))?;
    for entry in entries {
        let path = entry
            .map_err(|error| ImportError::io(folder, error))?
            .path();
        if path.extension().is_none_or(|extension| extension != "xml") {
            continue;
        }
        let metadata = std::fs::metadata(&path).map_err(|error| ImportError::io(&path, error))?;
        if !metadata.is_file() || metadata.len() > LONGEST_XML {
            let reason = format!(
                "{} bytes; a regular file of at most {LONGEST_XML} is read",
                metadata.len()
            );
            return Err(ImportError::source(&path, reason));
        }
    }
    Ok(())
}

/// The masks of the first `count` objects, in one pass over the image.
pub(crate) fn object_masks(
    numbers: &[u8],
    (width, height): (u32, u32),
    count: usize,
    budget: &Budget,
) -> Result<Vec<Rle>, String> {
    let (columns, rows) = (width as usize, height as usize);
    /// Run lengths so far, and the number of pixels that they cover.
    type Runs = (Vec<u32>, usize);
    let mut masks: Vec<Runs> = vec![Default::default(); count.min(MAX_OBJECTS)];
    let mut add = |number: u8, start: usize, length: usize| {
        let object = usize::from(number).checked_sub(1);
        let Some((counts, end)) = object.and_then(|object| masks.get_mut(object)) else {
            return Ok(());
        };
        // A growing list reserves at most twice its length.
        budget.values::<u32>(4).map_err(|error| error.to_string())?;
        counts.extend([start - *end, length].map(|count| count as u32));
        *end = start + length;
        Ok::<(), String>(())
    };
    // Run lengths go down the columns.
    let (mut current, mut start) = (0, 0);
    for place in 0..columns * rows {
        let number = numbers[(place % rows) * columns + place / rows];
        if number != current {
            add(current, start, place - start)?;
            (current, start) = (number, place);
        }
    }
    let pixels = columns * rows;
    add(current, start, pixels - start)?;
    let finish = |(mut counts, end): Runs| {
        if end < pixels {
            counts.push((pixels - end) as u32);
        }
        Rle::from_counts(height, width, counts)
    };
    Ok(masks.into_iter().map(finish).collect())
}

/// Width and height, and the number of the object at each pixel: 1 is the first of the XML file, 0 the
/// background, 255 the borders.
pub(crate) fn object_numbers(png: impl BufRead + Seek) -> Result<((u32, u32), Vec<u8>), String> {
    let fault = |reason: String| format!("{reason}; a PNG with a palette of 8 bits is expected");
    // Only the indices matter; the colors of the palette are for display.
    let decoder = png::Decoder::new(png);
    let mut reader = decoder
        .read_info()
        .map_err(|error| fault(error.to_string()))?;
    let (info, size) = (reader.info(), reader.info().size());
    let single = matches!(
        info.color_type,
        png::ColorType::Indexed | png::ColorType::Grayscale
    );
    if !single || info.bit_depth != png::BitDepth::Eight {
        return Err(fault(format!(
            "{:?} of {:?} bits",
            info.color_type, info.bit_depth
        )));
    }
    if size.0 as u64 * size.1 as u64 > MAX_PIXELS {
        return Err(fault(format!("{}x{} pixels are too many", size.0, size.1)));
    }
    let mut numbers = vec![0; size.0 as usize * size.1 as usize];
    reader
        .next_frame(&mut numbers)
        .map_err(|error| fault(error.to_string()))?;
    Ok((size, numbers))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every object's mask consists of its own pixels, as a separate pass per object finds them.
    #[test]
    fn one_pass_makes_every_mask() {
        let (width, height) = (7, 5);
        let numbers: Vec<u8> = (0..35)
            .map(|i| [0, 1, 1, 2, 255, 3, 254][i * i % 7])
            .collect();
        let budget = Budget::for_file(100);
        let masks = object_masks(&numbers, (width, height), 254, &budget).unwrap();
        assert_eq!(masks.len(), 254);
        for (object, mask) in (1..=254).zip(&masks) {
            let cells: Vec<u8> = numbers.iter().map(|&n| u8::from(n == object)).collect();
            let wanted = Rle::from_row_major_raster_bytes(&cells, height, width).unwrap();
            assert_eq!(mask.area(), wanted.area(), "object {object}");
            if wanted.area() > 0 {
                assert_eq!(mask, &wanted, "object {object}");
            }
        }
    }

    /// A file of a few KB whose runs would take gigabytes.
    #[test]
    fn runs_are_charged() {
        let stripes: Vec<u8> = (0..2000 * 2000)
            .map(|i| ((i / 2000) % 2 + 1) as u8)
            .collect();
        let budget = Budget::new(1 << 20, 0);
        let error = object_masks(&stripes, (2000, 2000), 2, &budget).unwrap_err();
        assert!(error.contains("memory"), "{error}");
    }
}
