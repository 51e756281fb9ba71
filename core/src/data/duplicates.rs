//! Detection of images that occur in two splits, by the contents of their files.

use super::dataset::Origin;
use super::dataset::{Dataset, Sample};
use super::problem::{Problem, Severity};
use std::collections::HashMap;
use std::hash::{DefaultHasher, Hasher};
use std::io::Read;
use std::path::Path;

/// A warning with the names and the number of the images of `b` that are also in `a`; `None` if there are none.
///
/// Only files of equal length are read.
pub(crate) fn shared_images(a: &Dataset, b: &Dataset) -> Option<Problem> {
    let mut by_length: HashMap<u64, Vec<&Sample>> = HashMap::new();
    for sample in files(a) {
        if let Some(length) = length(&sample.path) {
            by_length.entry(length).or_default().push(sample);
        }
    }
    let mut hashes: HashMap<&Path, Option<u64>> = HashMap::new();
    let mut shared: Vec<(&Sample, &Sample)> = Vec::new();
    for sample in files(b) {
        let Some(length) = length(&sample.path) else {
            continue;
        };
        for other in by_length.get(&length).into_iter().flatten() {
            let mut hash_of =
                |path: &'_ Path, key| *hashes.entry(key).or_insert_with(|| hash(path));
            let same = sample.path == other.path || {
                let (mine, theirs) = (
                    hash_of(&sample.path, &sample.path),
                    hash_of(&other.path, &other.path),
                );
                mine.is_some() && mine == theirs
            };
            if same {
                shared.push((other, sample));
                break;
            }
        }
    }
    let (first, again) = shared.first()?;
    let count = shared.len();
    Some(Problem {
        severity: Severity::Warning,
        file: b.annotations.clone(),
        image_id: None,
        annotation_id: None,
        kind: "images in two splits",
        reason: format!(
            "{count} of its {} images are in {} too ({} is {}), which makes its AP too high",
            b.samples.len(),
            a.annotations.display(),
            again.path.display(),
            first.path.display()
        ),
        fix: "remove them from one split".into(),
    })
}

fn files(dataset: &Dataset) -> impl Iterator<Item = &Sample> {
    let is_file = |sample: &&Sample| matches!(sample.origin, Origin::File);
    dataset.samples.iter().filter(is_file)
}

fn length(path: &Path) -> Option<u64> {
    std::fs::metadata(path).ok().map(|file| file.len())
}

fn hash(path: &Path) -> Option<u64> {
    let mut file = std::fs::File::open(path).ok()?;
    let (mut hasher, mut buffer) = (DefaultHasher::new(), vec![0; 1 << 16]);
    loop {
        match file.read(&mut buffer).ok()? {
            0 => return Some(hasher.finish()),
            count => hasher.write(&buffer[..count]),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn images_of_two_splits_are_found_by_contents() {
        let folder = tempfile::tempdir().unwrap();
        let dataset = |name: &str, contents: &[&str]| {
            let sample = |(id, text): (u64, &&str)| {
                let path = folder.path().join(format!("{name}{id}.png"));
                std::fs::write(&path, text).unwrap();
                Sample::new(id, path, (1, 1), Vec::new())
            };
            Dataset {
                annotations: name.into(),
                samples: (1..).zip(contents).map(sample).collect(),
                ..Dataset::default()
            }
        };
        let train = dataset("train", &["one", "two", "three"]);
        let val = dataset("val", &["six", "two", "three", "four"]);
        let problem = shared_images(&train, &val).unwrap();
        assert!(
            problem
                .reason
                .starts_with("2 of its 4 images are in train too"),
            "{problem}"
        );
        assert!(
            problem.reason.contains("val2.png is") && problem.reason.contains("train2.png"),
            "{problem}"
        );
        assert_eq!(
            shared_images(&train, &dataset("other", &["ten", "eleven"])),
            None
        );
    }
}
