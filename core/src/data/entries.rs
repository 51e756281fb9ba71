//! Checks of single annotations: from their text to a mask and a box, or to a fault.

use super::consistency::{Agreement, compare, is_normalized};
use super::json::{Field, Numbers, RawSegmentation, parse_element};
use super::raw::RawAnnotation;
use super::segmentation::{self, Fault};
use crate::boxes::Bbox;
use crate::budget::Budget;
use std::collections::HashMap;
use vernier_mask::Rle;

/// Limits on the memory and time for a file's masks, and whether faults are repaired.
pub(super) struct Limits {
    budget: Budget,
    /// Whether faults with a certain meaning are repaired; each repair is a warning.
    pub repair: bool,
}

impl Limits {
    /// The limit is proportional to the file, so that small files that describe gigabytes of masks are rejected.
    pub fn new(file_length: u64, repair: bool) -> Self {
        Self {
            budget: Budget::for_masks(file_length),
            repair,
        }
    }

    /// Charges the drawing of a segmentation.
    fn draw(&self, segmentation: &RawSegmentation, width: u32) -> Result<(), Fault> {
        let steps = segmentation::drawing_steps(segmentation, width);
        self.budget.work(steps).map_err(|_| {
            Fault::new(
                "outline length",
                "the outlines of this file are far longer than its size justifies",
                "check the image sizes and outlines",
            )
        })
    }

    fn take(&self, mask: &Rle) -> Result<(), Fault> {
        self.budget.values::<u32>(mask.counts.len()).map_err(|_| {
            Fault::new(
                "mask memory",
                "the masks of this file take more memory than 64 times its length",
                "check the image sizes and outlines",
            )
        })
    }
}

/// The images of a file.
#[derive(Default)]
pub(super) struct Table {
    /// Width and height by id.
    pub sizes: HashMap<u64, (u32, u32)>,
    /// Ids assigned to images whose own ids are not numbers, by the text of these.
    pub given: HashMap<String, u64>,
}

/// The texts of consecutive annotations.
#[derive(Default)]
pub(super) struct Batch {
    bytes: Vec<u8>,
    /// End in `bytes`, line, column and index of each.
    ends: Vec<(usize, (u64, u64), usize)>,
}

/// Bytes that a thread processes at a time: some milliseconds of work.
const BATCH: usize = 1 << 20;

/// An annotation after all checks that need no other annotation.
pub(super) struct Checked {
    /// Position in the file's list.
    pub index: usize,
    /// Its id; `None` if it has no id that can be kept.
    pub id: Option<u64>,
    pub image: Result<u64, String>,
    pub category: Result<u64, String>,
    pub object: Result<Object, Fault>,
    /// Warnings.
    pub notes: Vec<Fault>,
}

pub(super) struct Object {
    pub bbox: Bbox,
    pub area: f64,
    pub mask: Rle,
    pub is_crowd: bool,
}

impl Batch {
    /// Adds an annotation; returns whether the batch is full.
    pub fn push(&mut self, text: &[u8], place: (u64, u64), index: usize) -> bool {
        self.bytes.extend(text);
        self.ends.push((self.bytes.len(), place, index));
        self.bytes.len() >= BATCH
    }

    /// Parses and checks every annotation. Returns an error if the text is not JSON.
    pub fn check(self, table: &Table, limits: &Limits) -> Result<Vec<Checked>, String> {
        let mut start = 0;
        let mut checked = Vec::with_capacity(self.ends.len());
        for (end, place, index) in self.ends {
            let annotation = parse_element(&self.bytes[start..end], place)?;
            checked.push(check(index, annotation, table, limits));
            start = end;
        }
        Ok(checked)
    }
}

fn check(
    index: usize,
    annotation: Result<RawAnnotation, String>,
    table: &Table,
    limits: &Limits,
) -> Checked {
    let annotation = match annotation {
        Ok(annotation) => annotation,
        Err(reason) => {
            return Checked {
                index,
                id: None,
                image: Err(reason),
                category: Ok(0),
                object: Err(Fault::new("annotation", "", "")),
                notes: Vec::new(),
            };
        }
    };
    let mut notes = Vec::new();
    let id = annotation.id.clone().value().map(|id| id.0);
    let category = annotation
        .category_id
        .clone()
        .required("category_id")
        .map(|id| id.0);
    let given = match &annotation.image_id {
        Field::Bad(shown) => table.given.get(shown).copied(),
        _ => None,
    };
    let image = match given {
        Some(id) => Ok(id),
        None => annotation
            .image_id
            .clone()
            .required("image_id")
            .map(|id| id.0),
    };
    let size = image.as_ref().ok().and_then(|id| table.sizes.get(id));
    let object = match size {
        Some(&size) => limits
            .draw(&annotation.segmentation, size.0)
            .and_then(|()| object(annotation, size, limits.repair, &mut notes))
            .and_then(|object| {
                limits.take(&object.mask)?;
                Ok(object)
            }),
        None => Err(Fault::new(
            "annotation",
            "its image does not exist",
            "delete it",
        )),
    };
    Checked {
        index,
        id,
        image,
        category,
        object,
        notes,
    }
}

/// Tolerance in pixels: a small outline covers more or fewer pixels than its area.
const AREA_ROUNDING: f64 = 16.0;

/// The object of an annotation of a `width x height` image.
fn object(
    annotation: RawAnnotation,
    (width, height): (u32, u32),
    repair: bool,
    notes: &mut Vec<Fault>,
) -> Result<Object, Fault> {
    let field = |reason: String| {
        Fault::new(
            "field",
            reason,
            "write a number (iscrowd: 0 or 1), or leave it out",
        )
    };
    let crowd = annotation
        .iscrowd
        .clone()
        .optional("iscrowd")
        .map_err(field)?;
    let area = annotation.area.clone().optional("area").map_err(field)?;
    let mut segmentation = annotation.segmentation;
    if is_normalized(&segmentation, width, height) {
        let fault = Fault::new(
            "normalized polygons",
            format!(
                "the polygon's coordinates are normalized, fractions of the {width}x{height} image"
            ),
            "multiply x by the image's width and y by its height, in the boxes too",
        );
        if !repair {
            return Err(fault);
        }
        scale(&mut segmentation, width, height);
        notes.push(repaired(fault, "multiplied by the image's sides"));
    }
    let numbers = match numbers(&annotation.bbox) {
        Err(fault) if repair => {
            notes.push(repaired(fault, "taken from the mask"));
            None
        }
        numbers => numbers?,
    };
    let drawn = segmentation::mask(&segmentation, height, width)?;
    let mut mask = drawn.mask;
    let mut inside = numbers
        .map(|numbers| place(numbers, width, height))
        .transpose();
    if mask.area() == 0 {
        inside?;
        let fix = "redraw it or delete the annotation";
        return Err(Fault::new("no pixel", "the mask has no pixel", fix));
    }
    if let Some(numbers) = numbers {
        match (compare(numbers, &mask, &segmentation), &inside) {
            (Agreement::Good, _) => {}
            (Agreement::Contradiction(fault), _) if repair && fault.kind == "row-major RLE" => {
                mask = by_columns(&mask).ok_or_else(|| fault.clone())?;
                notes.push(repaired(fault, "encoded by columns"));
            }
            (Agreement::Contradiction(fault), _)
                if repair
                    && ["box corners", "box center", "normalized coordinates"]
                        .contains(&fault.kind) =>
            {
                notes.push(repaired(fault, "taken from the mask"));
                inside = Ok(None);
            }
            (Agreement::Contradiction(fault), Err(_)) if fault.kind == "box and mask apart" => {}
            (Agreement::Contradiction(fault), _) => return Err(fault),
            (Agreement::Doubtful(fault), _) => notes.push(fault),
        }
    }
    let bbox = match inside? {
        Some((bbox, note)) => {
            notes.extend(note);
            bbox
        }
        None => {
            let [x, y, w, h] = mask.bbox().map(|v| v as f32);
            [x, y, x + w, y + h]
        }
    };
    if drawn.dropped_parts > 0 {
        let reason = format!(
            "{} of its polygon parts have fewer than 3 points",
            drawn.dropped_parts
        );
        notes.push(Fault::new("polygon parts", reason, "they are left out"));
    }
    let pixels = mask.area() as f64;
    let area = area.map(|area| area.0).filter(|area| area.is_finite());
    let mut area = area.unwrap_or(pixels);
    // Tools round, and some write the area of the box.
    let [x1, y1, x2, y2] = bbox.map(f64::from);
    let largest = pixels.max((x2 - x1) * (y2 - y1));
    if area < 0.25 * pixels - AREA_ROUNDING || area > 4.0 * largest + AREA_ROUNDING {
        let reason = format!("`area` is {area}, but the mask has {pixels} pixels");
        let fault = Fault::new(
            "area",
            reason,
            "write the number of pixels: it determines whether the object counts as small, medium or large",
        );
        notes.push(match repair {
            true => repaired(fault, "taken from the mask"),
            false => fault,
        });
        if repair {
            area = pixels;
        }
    }
    Ok(Object {
        bbox,
        area,
        mask,
        is_crowd: crowd.is_some_and(|crowd| crowd.0),
    })
}

/// A note about a fault that was repaired.
fn repaired(fault: Fault, how: &'static str) -> Fault {
    Fault { fix: how, ..fault }
}

/// Multiplies fractions of the image by its sides.
fn scale(segmentation: &mut RawSegmentation, width: u32, height: u32) {
    let sides = [f64::from(width), f64::from(height)];
    if let RawSegmentation::Polygons(polygons) = segmentation {
        for polygon in polygons {
            for (index, value) in polygon.iter_mut().enumerate() {
                *value *= sides[index % 2];
            }
        }
    }
}

/// The mask of runs that are row-major.
fn by_columns(mask: &Rle) -> Option<Rle> {
    // The columns of the transposed image are its rows.
    let turned = Rle::from_counts(mask.w, mask.h, mask.counts.to_vec());
    let cells = turned.to_raster_bytes();
    Rle::from_row_major_raster_bytes(&cells, mask.h, mask.w).ok()
}

/// The four finite numbers of a box; `None` if there is no box.
pub(crate) fn numbers(bbox: &Field<Numbers>) -> Result<Option<[f64; 4]>, Fault> {
    let fix = "write bbox as [x, y, width, height]";
    match bbox {
        Field::Missing => Ok(None),
        Field::Bad(shown) => Err(Fault::new("box type", format!("`bbox` is {shown}"), fix)),
        Field::Value(numbers) => match <[f64; 4]>::try_from(&numbers.0[..]) {
            Ok(numbers) if numbers.iter().all(|v| v.is_finite()) => Ok(Some(numbers)),
            _ => Err(Fault::new(
                "box type",
                "the box is not four finite numbers",
                fix,
            )),
        },
    }
}

/// `x, y, width, height` to corners within the image, and a warning if the box extends beyond its border.
fn place([x, y, w, h]: [f64; 4], width: u32, height: u32) -> Result<(Bbox, Option<Fault>), Fault> {
    let (right, bottom) = (f64::from(width), f64::from(height));
    let shown = format!("box [{x}, {y}, {w}, {h}]");
    if w < 0.0 || h < 0.0 {
        let reason = format!("{shown} has a negative width or height");
        return Err(Fault::new(
            "box sides",
            reason,
            "write bbox as [x, y, width, height] from the upper left corner",
        ));
    }
    if w == 0.0 || h == 0.0 {
        let reason = format!("{shown} has no area");
        return Err(Fault::new(
            "box area",
            reason,
            "redraw it or delete the annotation",
        ));
    }
    if x >= right || y >= bottom || x + w <= 0.0 || y + h <= 0.0 {
        let reason = format!("{shown} lies outside the {width}x{height} image");
        return Err(Fault::new(
            "box outside",
            reason,
            "correct it or delete the annotation",
        ));
    }
    let over = x < -1.0 || y < -1.0 || x + w > right + 1.0 || y + h > bottom + 1.0;
    let note = over.then(|| {
        let is_swapped = y + h <= right + 1.0 && x + w <= bottom + 1.0 && x >= -1.0 && y >= -1.0;
        let hint = match is_swapped {
            true => ", into which it fits with x and y swapped",
            false => "",
        };
        let reason = format!("{shown} extends beyond the {width}x{height} image{hint}");
        Fault::new("box over border", reason, "it is clipped to the image")
    });
    let bbox = [
        x.clamp(0.0, right) as f32,
        y.clamp(0.0, bottom) as f32,
        (x + w).clamp(0.0, right) as f32,
        (y + h).clamp(0.0, bottom) as f32,
    ];
    Ok((bbox, note))
}
