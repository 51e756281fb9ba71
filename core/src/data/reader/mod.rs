//! Reader of a split. Every annotation is checked; bad ones are left out and reported.

mod categories;
mod checks;
mod images;
mod instances;

use super::dataset::{Dataset, LeftOut, Sample};
use super::entries::{Checked, Table};
use super::error::DataError;
use super::json::{Element, Foreign, ScanError, Section, parse_element, scan};
use super::problem::{Problem, Severity};
use super::raw::{RawCategory, RawImage};
use super::segmentation::Fault;
use super::splits::Split;
use crate::budget::{Budget, OverBudget};
use checks::Checks;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

/// Reads a split without its bad entries, and returns every problem that is found without decoding images.
pub(crate) fn read_split(split: &Split) -> Result<(Dataset, Vec<Problem>), DataError> {
    read(split, false)
}

/// As [`read_split`], but repairs what has a certain meaning: boxes that contradict their masks, row-major RLE,
/// normalized coordinates, ids, duplicate names. Each repair is a warning.
#[cfg(feature = "train")]
pub(crate) fn read_repaired(split: &Split) -> Result<(Dataset, Vec<Problem>), DataError> {
    read(split, true)
}

fn read(split: &Split, repair: bool) -> Result<(Dataset, Vec<Problem>), DataError> {
    let path = &split.annotations;
    let length = std::fs::metadata(path).map_or(0, |file| file.len());
    read_from(split, length, repair, &mut |each| scan(path, each))
}

/// As [`read_split`] or [`read_repaired`], with the bytes of the annotation file.
#[cfg(any(test, all(feature = "convert", feature = "train")))]
pub(super) fn read_bytes(
    split: &Split,
    bytes: &[u8],
    repair: bool,
) -> Result<(Dataset, Vec<Problem>), DataError> {
    let text = std::io::Cursor::new(bytes.to_vec());
    read_from(split, bytes.len() as u64, repair, &mut |each| {
        let text = super::json::decode_text(text.clone()).map_err(ScanError::Io)?;
        super::json::scan_text(text, each)
    })
}

/// Receives every element of an annotation file.
type Each<'a> = dyn FnMut(Element) -> Result<(), String> + 'a;

/// Reads a split; `scan` passes every element of its annotation file, which has `length` bytes, to a function.
fn read_from(
    split: &Split,
    length: u64,
    repair: bool,
    scan: &mut dyn FnMut(&mut Each<'_>) -> Result<Option<Foreign>, ScanError>,
) -> Result<(Dataset, Vec<Problem>), DataError> {
    let path = &split.annotations;
    let json = |reason: String| DataError::Json {
        path: path.clone(),
        reason,
    };
    let mut reader = Reader {
        split,
        budget: Budget::for_file(length),
        over: None,
        problems: Vec::new(),
        images: Vec::new(),
        categories: Vec::new(),
        samples: Vec::new(),
        dropped: HashSet::new(),
        left_out: Vec::new(),
        given: HashMap::new(),
        highest_image: 0,
        merged: HashMap::new(),
        checks: Checks::new(length, repair),
    };
    let foreign = scan(&mut |element| reader.element(element)).map_err(|error| match error {
        ScanError::Io(source) => DataError::Io {
            path: path.clone(),
            source,
        },
        ScanError::Json(reason) => json(reason),
    })?;
    if let Some(foreign) = foreign {
        let advice = foreign.advice().into();
        return Err(DataError::NotCoco {
            path: path.clone(),
            advice,
        });
    }
    reader.finish().map_err(json)
}

struct Reader<'a> {
    split: &'a Split,
    /// Memory for entries and problems, which may be far larger than their text.
    budget: Budget,
    /// Set when the memory for problems is exhausted.
    over: Option<OverBudget>,
    problems: Vec<Problem>,
    images: Vec<(usize, Result<RawImage, String>)>,
    categories: Vec<(usize, Result<RawCategory, String>)>,
    samples: Vec<Sample>,
    /// Ids of entries that are left out, whose annotations are not reported again.
    dropped: HashSet<u64>,
    left_out: Vec<LeftOut>,
    /// Ids assigned to images whose own ids are not numbers, by the text of these.
    given: HashMap<String, u64>,
    highest_image: u64,
    /// Categories that are merged with another of the same name.
    merged: HashMap<u64, u64>,
    checks: Checks,
}

/// The ids of a problem's entries.
#[derive(Clone, Copy, Default)]
struct Place {
    image: Option<u64>,
    annotation: Option<u64>,
}

impl Reader<'_> {
    fn report(&mut self, severity: Severity, place: Place, fault: Fault) {
        let bytes = size_of::<Problem>() + fault.reason.len() + fault.fix.len();
        let path = self.split.annotations.as_os_str().len();
        if let Err(over) = self.budget.bytes(bytes + path) {
            self.over = Some(over);
            return;
        }
        self.problems.push(Problem {
            severity,
            file: self.split.annotations.clone(),
            image_id: place.image,
            annotation_id: place.annotation,
            kind: fault.kind,
            reason: fault.reason,
            fix: fault.fix.into(),
        });
    }

    fn error(&mut self, place: Place, fault: Fault) {
        self.report(Severity::Error, place, fault);
    }

    fn warn(&mut self, fault: Fault) {
        self.report(Severity::Warning, Place::default(), fault);
    }

    fn element(&mut self, element: Element) -> Result<(), String> {
        let place = (element.line, element.column);
        let index = element.index;
        let entry = match element.section {
            Section::Images => size_of::<RawImage>() + size_of::<Sample>(),
            Section::Categories => size_of::<RawCategory>(),
            Section::Annotations => size_of::<Checked>(),
            Section::Top => 0,
        };
        self.budget.bytes(entry).map_err(|over| over.to_string())?;
        match element.section {
            Section::Images => self
                .images
                .push((index, parse_element(element.text, place)?)),
            Section::Categories => self
                .categories
                .push((index, parse_element(element.text, place)?)),
            Section::Annotations => {
                // If the list of images comes first, it has ended here.
                if !self.images.is_empty() {
                    self.prepare();
                }
                self.checks.push(element.text, place, index)?;
            }
            Section::Top => {}
        }
        Ok(())
    }

    /// Creates samples for the images read so far, once.
    fn prepare(&mut self) {
        if self.checks.table.is_none() {
            self.make_samples();
            let sizes = self.samples.iter();
            let sizes = sizes.map(|s| (s.image_id, (s.width, s.height))).collect();
            let given = std::mem::take(&mut self.given);
            self.checks.table = Some(Arc::new(Table { sizes, given }));
        }
    }

    fn finish(mut self) -> Result<(Dataset, Vec<Problem>), String> {
        self.prepare();
        let classes = self.make_classes();
        let checked = self.checks.finish()?;
        self.add_instances(checked, &classes);
        if let Some(over) = self.over {
            return Err(over.to_string());
        }
        let dataset = Dataset {
            annotations: self.split.annotations.clone(),
            part: None,
            classes,
            samples: self.samples,
            left_out: self.left_out,
        };
        Ok((dataset, self.problems))
    }
}
