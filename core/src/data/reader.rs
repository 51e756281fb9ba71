//! Reads a split. Every annotation is checked; a bad one is left out and named.

use super::classes::Classes;
use super::dataset::{Dataset, Instance, LeftOut, Sample};
use super::entries::{Batch, Checked, Limits, Table};
use super::error::DataError;
use super::json::{Element, Field, Foreign, Id, ScanError, Section, parse_element, scan};
use super::locate::Locator;
use super::problem::{Problem, Severity};
use super::raw::{RawCategory, RawImage};
use super::segmentation::Fault;
use super::splits::Split;
use crate::budget::{Budget, OverBudget};
use crate::image::decode::{MAX_PIXELS, dimensions};
use std::collections::{HashMap, HashSet, VecDeque};
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::JoinHandle;

/// Reads a split without what is bad, and every problem that is found without decoding an image.
pub(crate) fn read_split(split: &Split) -> Result<(Dataset, Vec<Problem>), DataError> {
    read(split, false)
}

/// As [`read_split`], but repairs what has a certain meaning: boxes that contradict their masks, row-major RLE,
/// normalized coordinates, ids, names used twice. Each repair is a warning.
pub(crate) fn read_repaired(split: &Split) -> Result<(Dataset, Vec<Problem>), DataError> {
    read(split, true)
}

fn read(split: &Split, repair: bool) -> Result<(Dataset, Vec<Problem>), DataError> {
    let path = &split.annotations;
    let length = std::fs::metadata(path).map_or(0, |file| file.len());
    read_from(split, length, repair, &mut |each| scan(path, each))
}

/// As [`read_split`] or [`read_repaired`], with the annotation file's bytes.
#[cfg(feature = "fuzzing")]
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

type Each<'a> = dyn FnMut(Element) -> Result<(), String> + 'a;

/// Reads a split whose annotation file, of `length` bytes, `scan` goes through.
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
    over: Option<OverBudget>,
    problems: Vec<Problem>,
    images: Vec<(usize, Result<RawImage, String>)>,
    categories: Vec<(usize, Result<RawCategory, String>)>,
    samples: Vec<Sample>,
    /// Ids of entries that are left out, whose annotations are not named again.
    dropped: HashSet<u64>,
    left_out: Vec<LeftOut>,
    /// Ids given to images whose own ids are no numbers, by these as they are shown.
    given: HashMap<String, u64>,
    highest_image: u64,
    /// Categories that are taken for another of the same name.
    merged: HashMap<u64, u64>,
    checks: Checks,
}

/// The entries of a problem.
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
                let full = self.checks.batch.push(element.text, place, index);
                if full && !self.images.is_empty() {
                    self.prepare();
                    self.checks.start()?;
                }
            }
            Section::Top => {}
        }
        Ok(())
    }

    /// Makes samples of the images read so far, once.
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

    fn make_classes(&mut self) -> Classes {
        let mut categories = Vec::new();
        for (index, category) in std::mem::take(&mut self.categories) {
            let entry = category.and_then(|category| {
                let id = category.id.required("id")?.0;
                Ok((id, category.name.required("name")?.0))
            });
            match entry {
                Ok(entry) => categories.push(entry),
                Err(reason) => {
                    let reason = format!("categories[{index}]: {reason}");
                    let fix = "give it a whole number as id, and a name";
                    self.error(Place::default(), Fault::new("category entry", reason, fix));
                }
            }
        }
        categories.sort_by_key(|(id, _)| *id);
        let (mut classes, mut names) = (Classes::default(), HashMap::new());
        for (id, name) in categories {
            if classes.ids.last() == Some(&id) {
                let reason = format!("category id {id} is used twice");
                let fault = Fault::new(
                    "category id twice",
                    reason,
                    "give every category an id of its own",
                );
                self.error(Place::default(), fault);
                continue;
            }
            let first = names.get(&name).copied();
            names.entry(name.clone()).or_insert(id);
            if let (Some(first), true) = (first, self.checks.limits.repair) {
                let reason = format!("categories {first} and {id} are both called `{name}`");
                self.warn(Fault::new(
                    "category name twice",
                    reason,
                    "they are one now",
                ));
                self.merged.insert(id, first);
                continue;
            }
            if let Some(first) = first {
                let reason = format!(
                    "categories {first} and {id} are both called `{name}`, and are two classes"
                );
                let fix = "give them one id if they are the same (`dataset check --fix OUT`)";
                self.warn(Fault::new("category name twice", reason, fix));
            }
            classes.ids.push(id);
            classes.names.push(name);
        }
        classes
    }

    /// A number for an image whose id is none.
    fn give_id(&mut self, index: usize, image: &Result<RawImage, String>, reason: String) -> u64 {
        // Beyond the numbers that other entries may have.
        let id = self.highest_image + 1;
        self.highest_image = id;
        if let Ok(RawImage {
            id: Field::Bad(shown),
            ..
        }) = image
        {
            self.given.insert(shown.clone(), id);
        }
        let reason = format!("images[{index}]: {reason}");
        self.warn(Fault::new("image id", reason, "it is numbered"));
        id
    }

    fn make_samples(&mut self) {
        let ids = self
            .images
            .iter()
            .filter_map(|(_, image)| image.as_ref().ok()?.id.clone().value());
        self.highest_image = ids.map(|id| id.0).max().unwrap_or(0);
        let mut locator = Locator::new(&self.split.images, &self.split.annotations);
        let (mut ids, mut paths) = (HashSet::new(), HashMap::new());
        for (index, image) in std::mem::take(&mut self.images) {
            let own_id = match &image {
                Ok(image) => image.id.clone().required("id"),
                Err(reason) => Err(reason.clone()),
            };
            let id = match own_id {
                Ok(id) => id.0,
                Err(reason) if self.checks.limits.repair => self.give_id(index, &image, reason),
                Err(reason) => {
                    let reason = format!("images[{index}]: {reason}");
                    let fix = "give every image a whole number as id (`dataset check --fix OUT` numbers them)";
                    self.error(Place::default(), Fault::new("image id", reason, fix));
                    continue;
                }
            };
            let place = Place {
                image: Some(id),
                annotation: None,
            };
            if !ids.insert(id) {
                let reason = format!("image id {id} is used twice");
                self.error(
                    place,
                    Fault::new(
                        "image id twice",
                        reason,
                        "give every image an id of its own",
                    ),
                );
                continue;
            }
            let entry =
                image.map_err(|reason| Fault::new("image entry", reason, "correct the entry"));
            match entry.and_then(|image| Self::sample(id, image, &mut locator)) {
                Ok(sample) => {
                    if let Some(first) = paths.insert(sample.path.clone(), id) {
                        let reason = format!(
                            "images {first} and {id} are the same file {}",
                            sample.path.display()
                        );
                        let fix = "give one entry all annotations of the file";
                        self.report(
                            Severity::Warning,
                            place,
                            Fault::new("file twice", reason, fix),
                        );
                    }
                    self.samples.push(sample);
                }
                Err(fault) => {
                    self.dropped.insert(id);
                    self.left_out.push(LeftOut {
                        image_id: id,
                        path: PathBuf::new(),
                        reason: fault.reason.clone(),
                    });
                    self.error(place, fault);
                }
            }
        }
        self.note_names(&locator);
    }

    fn sample(id: u64, image: RawImage, locator: &mut Locator) -> Result<Sample, Fault> {
        let entry =
            |reason: String| Fault::new("image entry", reason, "correct the entry of the image");
        let name = image.file_name.required("file_name").map_err(entry)?.0;
        let path = locator.find(&name).map_err(|path| {
            let reason = format!("{} is missing", path.display());
            let fix = "put the file there or delete the image entry";
            Fault::new("missing file", reason, fix)
        })?;
        let side = |field: Field<Id>, name| field.optional(name).map_err(entry);
        let declared = side(image.width, "width")?.zip(side(image.height, "height")?);
        let (width, height) = match declared {
            Some((width, height)) => (width.0, height.0),
            None => {
                let size = dimensions(&path).map_err(|error| entry(error.to_string()))?;
                (size.0.into(), size.1.into())
            }
        };
        let pixels = width.checked_mul(height);
        let fits = pixels.is_some_and(|pixels| (1..=MAX_PIXELS).contains(&pixels));
        let sides = u32::try_from(width).ok().zip(u32::try_from(height).ok());
        let Some(size) = sides.filter(|_| fits) else {
            let reason = match pixels {
                Some(0) => format!("image size is {width}x{height}"),
                _ => format!("image size is {width}x{height}; at most 100 megapixels are read"),
            };
            return Err(Fault::new(
                "image size",
                reason,
                "write the image's width and height",
            ));
        };
        let mut sample = Sample::new(id, path, size, Vec::new());
        sample.file_name = name;
        Ok(sample)
    }

    /// One note for each way in which file names differ from those of the entries.
    fn note_names(&mut self, locator: &Locator) {
        for (difference, (count, name, path)) in &locator.notes {
            let reason = format!(
                "{count} images were found although their `file_name` differs ({}): `{name}` is {}",
                difference.shown(),
                path.display()
            );
            let fix = "fine if these are the images";
            self.warn(Fault::new("file name", reason, fix));
        }
        if let Some(name) = locator.outside.first() {
            let count = locator.outside.len();
            let reason = format!(
                "{count} images have a `file_name` outside the dataset's folder, such as `{name}`"
            );
            self.warn(Fault::new(
                "file outside",
                reason,
                "use names relative to the folder of the images",
            ));
        }
    }

    fn add_instances(&mut self, checked: Vec<Checked>, classes: &Classes) {
        let samples = self.samples.iter().enumerate();
        let by_id: HashMap<u64, usize> = samples.map(|(index, s)| (s.image_id, index)).collect();
        let labels: HashMap<u64, usize> = classes.ids.iter().copied().zip(1..).collect();
        let known: Vec<String> = classes.ids.iter().take(8).map(u64::to_string).collect();
        let known = known.join(", ");
        let highest = checked
            .iter()
            .filter_map(|checked| checked.id)
            .max()
            .unwrap_or(0);
        let (mut seen, mut numbered) = (HashSet::new(), Vec::new());
        for checked in checked {
            let image = match checked.image {
                Ok(image) => image,
                Err(reason) => {
                    let reason = format!("annotations[{}]: {reason}", checked.index);
                    let place = Place {
                        image: None,
                        annotation: checked.id,
                    };
                    self.error(
                        place,
                        Fault::new("annotation image_id", reason, "write the id of its image"),
                    );
                    continue;
                }
            };
            let Some(&index) = by_id.get(&image) else {
                if !self.dropped.contains(&image) {
                    let place = Place {
                        image: Some(image),
                        annotation: checked.id,
                    };
                    let reason = format!("image id {image} does not exist");
                    self.error(
                        place,
                        Fault::new("unknown image", reason, "correct image_id or delete it"),
                    );
                }
                continue;
            };
            let repeated = checked.id.is_some_and(|id| seen.contains(&id));
            let own_id = checked
                .id
                .filter(|_| !(repeated && self.checks.limits.repair));
            let id = own_id.unwrap_or_else(|| {
                numbered.push(checked.index);
                highest.saturating_add(numbered.len() as u64)
            });
            let place = Place {
                image: Some(image),
                annotation: Some(id),
            };
            if !seen.insert(id) {
                let reason = format!("annotation id {id} is used twice");
                let fault = Fault::new(
                    "annotation id twice",
                    reason,
                    "give every annotation its own id",
                );
                self.error(place, fault);
                continue;
            }
            let label = checked.category.and_then(|category| {
                let category = self.merged.get(&category).unwrap_or(&category);
                labels
                    .get(category)
                    .copied()
                    .ok_or_else(|| format!("category id {category} does not exist (ids: {known})"))
            });
            let label = label.map_err(|reason| {
                Fault::new(
                    "unknown category",
                    reason,
                    "correct category_id or add the category",
                )
            });
            for note in checked.notes {
                self.report(Severity::Warning, place, note);
            }
            match label.and_then(|label| Ok((label, checked.object?))) {
                Ok((label, object)) => self.samples[index].instances.push(Instance {
                    annotation_id: id,
                    label,
                    bbox: object.bbox,
                    area: object.area,
                    mask: object.mask,
                    crowd: object.crowd,
                }),
                Err(fault) => self.error(place, fault),
            }
        }
        if let Some(first) = numbered.first() {
            let count = numbered.len();
            let reason = format!(
                "{count} annotations have no whole number of their own as id, the first is annotations[{first}]"
            );
            self.warn(Fault::new("annotation ids", reason, "they are numbered"));
        }
    }
}

/// Annotations on their way through the checks: parsed and drawn by several threads where there are many.
struct Checks {
    batch: Batch,
    table: Option<Arc<Table>>,
    limits: Arc<Limits>,
    threads: usize,
    running: VecDeque<JoinHandle<Result<Vec<Checked>, String>>>,
    finished: Vec<Vec<Checked>>,
}

impl Checks {
    fn new(file_length: u64, repair: bool) -> Self {
        Self {
            batch: Batch::default(),
            table: None,
            limits: Arc::new(Limits::new(file_length, repair)),
            threads: std::thread::available_parallelism().map_or(1, |n| n.get()),
            running: VecDeque::new(),
            finished: Vec::new(),
        }
    }

    /// Hands the batch to a thread.
    fn start(&mut self) -> Result<(), String> {
        let batch = std::mem::take(&mut self.batch);
        let table = self.table.clone().unwrap_or_default();
        let limits = self.limits.clone();
        if self.threads == 1 {
            self.finished.push(batch.check(&table, &limits)?);
            return Ok(());
        }
        // One more than there are cores, so that none waits.
        while self.running.len() > self.threads {
            self.join_oldest()?;
        }
        self.running
            .push_back(std::thread::spawn(move || batch.check(&table, &limits)));
        Ok(())
    }

    fn join_oldest(&mut self) -> Result<(), String> {
        if let Some(oldest) = self.running.pop_front() {
            let checked = oldest
                .join()
                .map_err(|_| "an annotation could not be checked".to_string())?;
            self.finished.push(checked?);
        }
        Ok(())
    }

    /// The checked annotations in the order of the file.
    fn finish(&mut self) -> Result<Vec<Checked>, String> {
        if self.running.is_empty() {
            let table = self.table.clone().unwrap_or_default();
            let checked = std::mem::take(&mut self.batch).check(&table, &self.limits)?;
            self.finished.push(checked);
        } else {
            self.start()?;
            while !self.running.is_empty() {
                self.join_oldest()?;
            }
        }
        Ok(std::mem::take(&mut self.finished)
            .into_iter()
            .flatten()
            .collect())
    }
}
