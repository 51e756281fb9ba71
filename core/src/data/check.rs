//! Checking a data set: everything that would fail later, named with file, id, reason and fix.

use super::dataset::{DataError, Dataset, Sample};
use super::reader::read_split;
use super::splits::{Split, find_splits};
use std::collections::{BTreeMap, HashSet};
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

/// How bad a problem is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// Training goes on as it is.
    Warning,
    /// The annotation or picture cannot be used.
    Error,
}

/// Something wrong in a data set.
#[derive(Clone, Debug, PartialEq)]
pub struct Problem {
    /// How bad it is.
    pub severity: Severity,
    /// The annotation file or the picture.
    pub file: PathBuf,
    /// The picture at fault.
    pub image_id: Option<u64>,
    /// The annotation at fault.
    pub annotation_id: Option<u64>,
    /// What is wrong.
    pub reason: String,
    /// What to do.
    pub fix: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let severity = match self.severity {
            Severity::Warning => "warning",
            Severity::Error => "error",
        };
        write!(f, "{severity}: {}", self.file.display())?;
        if let Some(id) = self.image_id {
            write!(f, ": image {id}")?;
        }
        if let Some(id) = self.annotation_id {
            write!(f, ": annotation {id}")?;
        }
        write!(f, ": {}; {}", self.reason, self.fix)
    }
}

/// What a check found.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Report {
    /// Everything wrong, in the order of the splits.
    pub problems: Vec<Problem>,
    /// What each split holds.
    pub splits: Vec<SplitSummary>,
}

/// What a split holds.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SplitSummary {
    /// `train`, `val`, ...
    pub name: String,
    /// Usable pictures.
    pub images: usize,
    /// Usable pictures without an object.
    pub empty_images: usize,
    /// Usable objects of each class.
    pub instances: BTreeMap<String, usize>,
    /// Crowds among them.
    pub crowds: usize,
}

impl Report {
    /// How many problems are errors.
    pub fn errors(&self) -> usize {
        self.problems
            .iter()
            .filter(|p| p.severity == Severity::Error)
            .count()
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for problem in &self.problems {
            writeln!(f, "{problem}")?;
        }
        for split in &self.splits {
            let instances: usize = split.instances.values().sum();
            writeln!(
                f,
                "{}: {} pictures ({} without objects), {instances} objects, {} of them crowds",
                split.name, split.images, split.empty_images, split.crowds
            )?;
            for (class, count) in &split.instances {
                writeln!(f, "  {count:>7} {class}")?;
            }
        }
        let warnings = self.problems.len() - self.errors();
        write!(f, "{} errors, {warnings} warnings", self.errors())
    }
}

/// Checks every split in `dir`, decoding every picture.
pub fn check(dir: &Path) -> Result<Report, DataError> {
    let mut report = Report::default();
    for split in find_splits(dir)? {
        match read_split(&split) {
            Ok((dataset, mut problems)) => {
                problems.extend(unused_classes(&split, &dataset));
                let broken = check_pictures(&dataset.samples);
                let ids: HashSet<u64> = broken.iter().filter_map(|p| p.image_id).collect();
                let usable = dataset.samples.iter();
                let usable = usable.filter(|sample| !ids.contains(&sample.image_id));
                report.splits.push(summary(&split, &dataset, usable));
                report.problems.extend(problems);
                report.problems.extend(broken);
            }
            Err(DataError::Json { path, reason }) => report.problems.push(Problem {
                severity: Severity::Error,
                file: path,
                image_id: None,
                annotation_id: None,
                reason,
                fix: "copy or export the file again".into(),
            }),
            Err(error) => return Err(error),
        }
    }
    Ok(report)
}

fn unused_classes(split: &Split, dataset: &Dataset) -> Vec<Problem> {
    let used = |label| {
        dataset
            .samples
            .iter()
            .flat_map(|s| &s.instances)
            .any(|instance| instance.label == label)
    };
    let unused = (1..=dataset.classes.len()).filter(|&label| !used(label));
    unused
        .map(|label| Problem {
            severity: Severity::Warning,
            file: split.annotations.clone(),
            image_id: None,
            annotation_id: None,
            reason: format!("category `{}` has no object", dataset.classes.name(label)),
            fix: "it will never be predicted; fine if that is meant".into(),
        })
        .collect()
}

fn summary<'a>(
    split: &Split,
    dataset: &Dataset,
    usable: impl Iterator<Item = &'a Sample>,
) -> SplitSummary {
    let mut summary = SplitSummary {
        name: split.name.clone(),
        ..Default::default()
    };
    for sample in usable {
        summary.images += 1;
        summary.empty_images += usize::from(sample.instances.is_empty());
        for instance in &sample.instances {
            *summary
                .instances
                .entry(dataset.classes.name(instance.label))
                .or_default() += 1;
            summary.crowds += usize::from(instance.crowd);
        }
    }
    summary
}

/// Decodes every picture, a thread a core; names those that cannot be used.
pub(crate) fn check_pictures(samples: &[Sample]) -> Vec<Problem> {
    let next = AtomicUsize::new(0);
    let threads = std::thread::available_parallelism().map_or(1, |n| n.get());
    let work = || {
        let mut problems = Vec::new();
        loop {
            let index = next.fetch_add(1, Ordering::Relaxed);
            match samples.get(index) {
                Some(sample) => problems.extend(picture_problem(sample)),
                None => return problems,
            }
        }
    };
    let mut problems: Vec<Problem> = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        workers
            .into_iter()
            .flat_map(|worker| worker.join().unwrap_or_default())
            .collect()
    });
    problems.sort_by_key(|problem| problem.image_id);
    problems
}

/// What is wrong with the picture of a sample, if anything.
fn picture_problem(sample: &Sample) -> Option<Problem> {
    let problem = |reason: String, fix: &str| Problem {
        severity: Severity::Error,
        file: sample.path.clone(),
        image_id: Some(sample.image_id),
        annotation_id: None,
        reason,
        fix: fix.into(),
    };
    match sample.image() {
        Err(error) => Some(problem(
            error.to_string(),
            "replace the file or delete its entry",
        )),
        Ok(image) => size_mismatch(sample, image.dimensions())
            .map(|reason| problem(reason, "correct width and height, or the orientation")),
    }
}

/// Why a decoded picture does not fit its entry, if it does not.
pub(crate) fn size_mismatch(sample: &Sample, (width, height): (u32, u32)) -> Option<String> {
    let declared = (sample.width, sample.height);
    if declared == (width, height) {
        return None;
    }
    let turned = if declared == (height, width) {
        " (its EXIF data asks for a quarter turn that the annotations do not have)"
    } else {
        ""
    };
    Some(format!(
        "the picture is {width}x{height}, its entry says {}x{}{turned}",
        declared.0, declared.1
    ))
}
