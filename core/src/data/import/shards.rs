//! TFRecord shards of the reference system (`create_coco_tf_record.py`): one image per record, with a PNG mask per
//! object.

use super::records::{Example, Records};
use super::spec::{ImportError, ImportSpec, Imported, is_wanted};
use super::writer::{Category, Mask, Object, Writer};
use crate::image::decode::{decode_bytes, dimensions_bytes};
use rayon::prelude::*;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use vernier_mask::Rle;

/// Number of records that are decoded concurrently.
const AT_ONCE: usize = 256;

pub(super) fn read(spec: &ImportSpec) -> Result<Vec<Imported>, ImportError> {
    let shards = shards(&spec.source)?;
    let mut names = BTreeMap::new();
    let mut writers = Vec::new();
    for (split, files) in shards
        .into_iter()
        .filter(|(split, _)| is_wanted(spec, split))
    {
        let mut writer = Writer::new(&spec.out, &split)?;
        for file in files {
            let mut records = Records::open(&file)?;
            for number in (1..).step_by(AT_ONCE) {
                let some: Result<Vec<Example>, _> = records.by_ref().take(AT_ONCE).collect();
                let some = some?;
                if some.is_empty() {
                    break;
                }
                let decoded: Result<Vec<Contents>, ImportError> = some
                    .par_iter()
                    .enumerate()
                    .map(|(place, example)| contents(example, &file, number + place))
                    .collect();
                for record in decoded? {
                    add(record, &mut names, &mut writer)?;
                }
            }
        }
        writers.push(writer);
    }
    if writers.is_empty() {
        let reason =
            "there is no shard of this split; shards are named like train-00000-of-00256.tfrecord";
        return Err(ImportError::source(&spec.source, reason));
    }
    let categories: Vec<Category> = names
        .into_iter()
        .map(|(id, name)| Category { id, name })
        .collect();
    writers
        .into_iter()
        .map(|writer| writer.finish(&categories))
        .collect()
}

/// The files of each split: `train-00000-of-00256.tfrecord` belongs to `train`.
fn shards(source: &Path) -> Result<BTreeMap<String, Vec<PathBuf>>, ImportError> {
    let files: Vec<PathBuf> = match source.is_file() {
        true => vec![source.into()],
        false => {
            let entries = std::fs::read_dir(source).map_err(|e| ImportError::io(source, e))?;
            let paths = entries.filter_map(|entry| entry.ok().map(|entry| entry.path()));
            paths.filter(|path| path.is_file()).collect()
        }
    };
    let mut splits: BTreeMap<String, Vec<PathBuf>> = BTreeMap::new();
    for file in files {
        let name = file.file_name().unwrap_or_default().to_string_lossy();
        if !name.contains(".tfrecord") && !name.contains("-of-") {
            continue;
        }
        let split = name.split(['-', '.']).next().unwrap_or_default();
        let split = split.trim_end_matches(|c: char| c.is_ascii_digit());
        splits
            .entry(split.to_string())
            .or_default()
            .push(file.clone());
    }
    splits.values_mut().for_each(|files| files.sort());
    Ok(splits)
}

/// The contents of a record.
struct Contents {
    name: String,
    id: Option<u64>,
    size: (u32, u32),
    encoded: Vec<u8>,
    objects: Vec<(String, Object)>,
    without_mask: usize,
}

fn contents(example: &Example, file: &Path, number: usize) -> Result<Contents, ImportError> {
    let place = PathBuf::from(format!("{}, record {number}", file.display()));
    let fault = |reason: String| ImportError::source(&place, reason);
    let Some(encoded) = example.bytes("image/encoded").first() else {
        return Err(fault(
            "no image/encoded: not a record of create_coco_tf_record.py".into(),
        ));
    };
    let size = dimensions_bytes(encoded, &place)?;
    let declared = ["image/width", "image/height"].map(|key| example.ints(key).first().copied());
    if declared != [Some(size.0.into()), Some(size.1.into())] {
        let reason = format!(
            "the image has {}x{} pixels, and its record declares {declared:?}",
            size.0, size.1
        );
        return Err(fault(reason));
    }
    let labels = example.ints("image/object/class/label");
    let corners = ["xmin", "ymin", "xmax", "ymax"]
        .map(|corner| example.floats(&format!("image/object/bbox/{corner}")));
    if let Some(odd) = corners.iter().find(|list| list.len() != labels.len()) {
        let reason = format!("{} boxes and {} classes", odd.len(), labels.len());
        return Err(fault(reason));
    }
    let masks = example.bytes("image/object/mask");
    if masks.is_empty() && !labels.is_empty() {
        let reason = "no image/object/mask: write the shards with --include_masks";
        return Err(fault(reason.into()));
    }
    let (mut objects, mut without_mask) = (Vec::new(), 0);
    for (index, &label) in labels.iter().enumerate() {
        let Ok(category_id) = u64::try_from(label) else {
            return Err(fault(format!("class {label} is negative")));
        };
        let Some(png) = masks.get(index).filter(|png| !png.is_empty()) else {
            without_mask += 1;
            continue;
        };
        let mask = mask(png, &place, size)?;
        if mask.area() == 0 {
            without_mask += 1;
            continue;
        }
        let [x1, y1, x2, y2] = corners.map(|list| f64::from(list[index]));
        let (width, height) = (f64::from(size.0), f64::from(size.1));
        let bbox = [
            x1 * width,
            y1 * height,
            (x2 - x1) * width,
            (y2 - y1) * height,
        ];
        let area = example.floats("image/object/area").get(index).copied();
        let crowd = example.ints("image/object/is_crowd").get(index).copied();
        let name = example.bytes("image/object/class/text").get(index);
        let name = name.map(|name| String::from_utf8_lossy(name).into_owned());
        let object = Object {
            id: 0,
            image_id: 0,
            category_id,
            bbox,
            area: area.map_or(mask.area() as f64, f64::from),
            iscrowd: u8::from(crowd.unwrap_or(0) != 0),
            segmentation: Mask::rle(&mask),
        };
        objects.push((name.unwrap_or(format!("class {label}")), object));
    }
    let id = example
        .text("image/source_id")
        .and_then(|id| id.parse().ok());
    Ok(Contents {
        name: example.text("image/filename").unwrap_or_default(),
        id,
        size,
        encoded: encoded.clone(),
        objects,
        without_mask,
    })
}

fn mask(png: &[u8], place: &Path, size: (u32, u32)) -> Result<Rle, ImportError> {
    let image = decode_bytes(png, place)?;
    if image.dimensions() != size {
        let reason = format!(
            "a mask has the size {:?}, and the image {size:?}",
            image.dimensions()
        );
        return Err(ImportError::source(place, reason));
    }
    let cells: Vec<u8> = image
        .pixels()
        .map(|pixel| u8::from(pixel.0[0] > 0))
        .collect();
    Rle::from_row_major_raster_bytes(&cells, size.1, size.0)
        .map_err(|error| ImportError::source(place, error))
}

fn add(
    record: Contents,
    names: &mut BTreeMap<u64, String>,
    writer: &mut Writer,
) -> Result<(), ImportError> {
    let image_id = writer.write(&record.name, &record.encoded, record.id, record.size)?;
    for (name, mut object) in record.objects {
        object.image_id = image_id;
        names.entry(object.category_id).or_insert(name);
        writer.object(object);
    }
    (0..record.without_mask).for_each(|_| writer.leave_out("object without a mask"));
    Ok(())
}
