//! Pascal VOC: boxes and classes through hotcoco, masks from `SegmentationObject/`.

use super::spec::{ImportError, ImportSpec, Imported, is_wanted};
use super::writer::{Category, Mask, Object, Writer};
use crate::image::decode::MAX_PIXELS;
use hotcoco::types::{Annotation, Dataset, Image};
use std::collections::HashMap;
use std::io::BufReader;
use std::path::Path;
use vernier_mask::Rle;

/// Pictures whose folder of lists is missing are all of this split.
const ONLY_SPLIT: &str = "train";

pub(super) fn read(spec: &ImportSpec) -> Result<Vec<Imported>, ImportError> {
    let source = &spec.source;
    for folder in ["Annotations", "JPEGImages", "SegmentationObject"] {
        if !source.join(folder).is_dir() {
            let reason = format!("no folder {folder}; give the one that holds it, e.g. VOC2012");
            return Err(ImportError::source(source, reason));
        }
    }
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
    for (split, pictures) in splits(source, &dataset)? {
        if !is_wanted(spec, &split) {
            continue;
        }
        let mut writer = Writer::new(&spec.out, &split)?;
        for image in pictures {
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

/// The pictures of each list in `ImageSets/Segmentation`.
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
        let text = std::fs::read_to_string(&list).map_err(|error| ImportError::io(&list, error))?;
        let mut pictures = Vec::new();
        for (line, name) in text.lines().enumerate() {
            let name = name.trim();
            if name.is_empty() {
                continue;
            }
            let Some(image) = by_stem.get(name) else {
                let reason = format!("{name} has no file in Annotations");
                return Err(ImportError::line(&list, line + 1, reason));
            };
            pictures.push(*image);
        }
        splits.push((split.to_string(), pictures));
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
    // Whatever the XML file says, it is a picture of this folder.
    let name = Path::new(&image.file_name).file_name().unwrap_or_default();
    let path = source.join("JPEGImages").join(name);
    let masks = source
        .join("SegmentationObject")
        .join(format!("{}.png", stem(image)));
    if !masks.is_file() {
        writer.leave_out("picture without a file in SegmentationObject");
        return Ok(());
    }
    if objects.len() > MOST_OBJECTS {
        let reason = format!(
            "{} objects; the masks' PNG numbers at most {MOST_OBJECTS}",
            objects.len()
        );
        return Err(ImportError::source(&masks, reason));
    }
    let (size, numbers) = object_numbers(&masks)?;
    let image_id = writer.link(&path, None, size)?;
    let found = masks_of(&numbers, size, objects.len());
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

/// 0 is the background and 255 the borders.
const MOST_OBJECTS: usize = 254;

/// The masks of the objects 1 to `count`, in one pass along the columns.
fn masks_of(numbers: &[u8], (width, height): (u32, u32), count: usize) -> Vec<Rle> {
    let (columns, rows) = (width as usize, height as usize);
    // The runs of each object, and where its last one ended.
    let mut runs: Vec<Vec<u32>> = vec![vec![0]; count];
    let mut ends = vec![0u32; count];
    let (mut position, mut previous) = (0u32, 0u8);
    for x in 0..columns {
        for y in 0..rows {
            let number = numbers[y * columns + x];
            let index = usize::from(number).wrapping_sub(1);
            if let Some(runs) = runs.get_mut(index) {
                if number == previous {
                    *runs.last_mut().unwrap_or(&mut 0) += 1;
                } else {
                    let gap = position - ends[index];
                    // An object that begins anew ends its run of background.
                    match runs.len() {
                        1 => runs[0] = gap,
                        _ => runs.push(gap),
                    }
                    runs.push(1);
                }
                ends[index] = position + 1;
            }
            previous = number;
            position += 1;
        }
    }
    let finish = |(mut runs, end): (Vec<u32>, u32)| {
        match runs.len() {
            1 => runs[0] = position,
            _ if position > end => runs.push(position - end),
            _ => {}
        }
        Rle::from_counts(height, width, runs)
    };
    runs.into_iter().zip(ends).map(finish).collect()
}

/// Boxes are drawn by hand around the object, masks leave out its border: this much they share.
const SAME_OBJECT: f64 = 0.3;

/// Intersection over union of `x, y, width, height`.
fn overlap(a: &[f64; 4], b: &[f64; 4]) -> f64 {
    let side = |i: usize| (a[i] + a[i + 2]).min(b[i] + b[i + 2]) - a[i].max(b[i]);
    let both = side(0).max(0.0) * side(1).max(0.0);
    both / (a[2] * a[3] + b[2] * b[3] - both).max(f64::MIN_POSITIVE)
}

/// Width and height, and the number of the object at each pixel: 1 is the first of the XML file, 0 the
/// background, 255 the borders.
fn object_numbers(path: &Path) -> Result<((u32, u32), Vec<u8>), ImportError> {
    let fault = |reason: String| {
        let wanted = "a PNG with a palette of 8 bits is expected";
        ImportError::source(path, format!("{reason}; {wanted}"))
    };
    let file = std::fs::File::open(path).map_err(|error| ImportError::io(path, error))?;
    // The palette is for people: the indices count.
    let decoder = png::Decoder::new(BufReader::new(file));
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

    #[test]
    fn one_pass_gives_the_masks_of_each_object() {
        let (width, height) = (7, 5);
        let cells: Vec<u8> = (0..35u32).map(|i| (i * i % 11 % 5) as u8).collect();
        let found = masks_of(&cells, (width, height), 6);
        for (number, mask) in (1u8..).zip(found) {
            let own: Vec<u8> = cells.iter().map(|cell| u8::from(*cell == number)).collect();
            let wanted = Rle::from_row_major_raster_bytes(&own, height, width).unwrap();
            assert_eq!(
                mask.to_row_major_raster_bytes(),
                wanted.to_row_major_raster_bytes(),
                "{number}"
            );
            assert_eq!(mask.area(), wanted.area());
        }
    }
}
