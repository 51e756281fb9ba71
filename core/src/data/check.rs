//! Dataset check: finds everything that would fail or mislead later, with file, id, reason and fix.

use super::dataset::{Dataset, Sample};
use super::duplicates::shared_images;
use super::error::DataError;
use super::images::check_images;
use super::pair::many_crowds;
use super::problem::{Problem, Severity, printable, summarized};
use super::reader::read_split;
use super::splits::{Split, find_splits_in};
use std::collections::{BTreeMap, HashSet};
use std::fmt;
use std::path::Path;

/// The result of a check.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Report {
    /// All problems, in the order of the splits.
    pub problems: Vec<Problem>,
    /// The contents of each split.
    pub splits: Vec<SplitSummary>,
}

/// The contents of a split.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SplitSummary {
    /// `train`, `val`, ...
    pub name: String,
    /// Usable images.
    pub images: usize,
    /// Usable images without objects.
    pub empty_images: usize,
    /// Usable objects of each class.
    pub instances: BTreeMap<String, usize>,
    /// Crowds among the objects.
    pub crowds: usize,
}

impl Report {
    /// Number of problems that are errors.
    pub fn errors(&self) -> usize {
        self.problems
            .iter()
            .filter(|p| p.severity == Severity::Error)
            .count()
    }

    /// Number of problems that are warnings.
    pub fn warnings(&self) -> usize {
        self.problems.len() - self.errors()
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for line in summarized(&self.problems) {
            writeln!(f, "{line}")?;
        }
        for split in &self.splits {
            let instances: usize = split.instances.values().sum();
            writeln!(
                f,
                "{}: {} images ({} without objects), {instances} objects, {} of them crowds",
                printable(&split.name),
                split.images,
                split.empty_images,
                split.crowds
            )?;
            for (class, count) in &split.instances {
                writeln!(f, "  {count:>7} {}", printable(class))?;
            }
        }
        write!(f, "{} errors, {} warnings", self.errors(), self.warnings())
    }
}

/// Checks every split of the dataset in `dir`, a folder or an annotation file, and decodes every image.
/// `images` is the folder of the images, needed if the layout does not determine it.
pub fn check(dir: &Path, images: Option<&Path>) -> Result<Report, DataError> {
    let mut report = Report::default();
    let (mut names, mut datasets): (Vec<String>, Vec<Dataset>) = Default::default();
    for split in find_splits_in(dir, images)? {
        let (dataset, problems) = match read_split(&split) {
            Ok(read) => read,
            Err(error @ (DataError::Json { .. } | DataError::NotCoco { .. })) => {
                report.problems.push(unreadable(&split, &error));
                continue;
            }
            Err(error) => return Err(error),
        };
        // Objects that are left out may be the only ones of a class.
        let is_whole = problems.iter().all(|p| p.severity != Severity::Error);
        report.problems.extend(problems);
        if is_whole {
            report.problems.extend(unused_classes(&split, &dataset));
        }
        report.problems.extend(nothing_to_learn(&split, &dataset));
        report.problems.extend(many_crowds(&dataset));
        let of_images = check_images(&dataset.samples);
        let errors = of_images.iter().filter(|p| p.severity == Severity::Error);
        let ids: HashSet<u64> = errors.filter_map(|p| p.image_id).collect();
        let usable = dataset.samples.iter();
        let usable = usable.filter(|sample| !ids.contains(&sample.image_id));
        report.splits.push(summary(&split, &dataset, usable));
        report.problems.extend(of_images);
        report.problems.extend(
            datasets
                .iter()
                .filter_map(|other| shared_images(other, &dataset)),
        );
        datasets.push(dataset);
        names.push(split.name);
    }
    report.problems.extend(class_differences(&names, &datasets));
    Ok(report)
}

/// Splits whose classes are not those of the training split; a class that only the validation split has is refused by
/// training.
fn class_differences(names: &[String], datasets: &[Dataset]) -> Vec<Problem> {
    let is_role = |name: &str, role: &str| name.to_lowercase().starts_with(role);
    let train = names.iter().position(|name| is_role(name, "train"));
    let Some(train) = train.map(|index| &datasets[index]) else {
        return Vec::new();
    };
    let compared = names.iter().zip(datasets).filter_map(|(name, dataset)| {
        match dataset.class_difference(train) {
            Ok(difference) => difference,
            Err(error) => Some(Problem {
                severity: match is_role(name, "val") {
                    true => Severity::Error,
                    false => Severity::Warning,
                },
                file: dataset.annotations.clone(),
                image_id: None,
                annotation_id: None,
                kind: "other classes",
                reason: error.reason(),
                fix: "name the classes alike in both splits, or leave these objects out".into(),
            }),
        }
    });
    compared.collect()
}

/// A problem of a whole split.
fn of_split(
    split: &Split,
    severity: Severity,
    kind: &'static str,
    reason: String,
    fix: &str,
) -> Problem {
    Problem {
        severity,
        file: split.annotations.clone(),
        image_id: None,
        annotation_id: None,
        kind,
        reason,
        fix: fix.into(),
    }
}

fn unreadable(split: &Split, error: &DataError) -> Problem {
    let (reason, fix) = match error {
        DataError::NotCoco { advice, .. } => match advice.split_once("; ") {
            Some((reason, fix)) => (reason.to_string(), fix.to_string()),
            None => (advice.clone(), "give a COCO file".into()),
        },
        DataError::Json { reason, .. } => (reason.clone(), "copy or export the file again".into()),
        other => (other.to_string(), "copy or export the file again".into()),
    };
    of_split(
        split,
        Severity::Error,
        "unreadable annotations",
        reason,
        &fix,
    )
}

fn unused_classes(split: &Split, dataset: &Dataset) -> Vec<Problem> {
    if dataset.samples.iter().all(|s| s.instances.is_empty()) {
        let count = dataset.samples.len();
        let reason = format!("none of its {count} images has an object");
        let fix = "nothing can be learned from it, and every AP on it is undefined";
        return vec![of_split(
            split,
            Severity::Warning,
            "no objects",
            reason,
            fix,
        )];
    }
    let instances = dataset.samples.iter().flat_map(|s| &s.instances);
    let used: HashSet<usize> = instances.map(|instance| instance.label).collect();
    let unused = (1..=dataset.classes.len()).filter(|label| !used.contains(label));
    unused
        .map(|label| {
            let reason = format!("category `{}` has no object", dataset.classes.name(label));
            let fix = "it will never be predicted; fine if that is intended";
            of_split(split, Severity::Warning, "unused category", reason, fix)
        })
        .collect()
}

fn nothing_to_learn(split: &Split, dataset: &Dataset) -> Option<Problem> {
    let crowds = dataset.instances();
    (crowds > 0 && dataset.objects() == 0).then(|| {
        let reason = format!(
            "all of its {crowds} objects are crowds (iscrowd=1), which are never trained on"
        );
        let fix = "CVAT exports brush masks as crowds: export polygons, or let `dataset check --fix OUT` set iscrowd to 0";
        of_split(split, Severity::Error, "only crowds", reason, fix)
    })
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
    let mut counts = vec![0; dataset.classes.len() + 1];
    for sample in usable {
        summary.images += 1;
        summary.empty_images += usize::from(sample.instances.is_empty());
        for instance in &sample.instances {
            counts[instance.label] += 1;
            summary.crowds += usize::from(instance.is_crowd);
        }
    }
    for (label, count) in counts
        .into_iter()
        .enumerate()
        .filter(|(_, count)| *count > 0)
    {
        *summary
            .instances
            .entry(dataset.classes.name(label))
            .or_default() += count;
    }
    summary
}
