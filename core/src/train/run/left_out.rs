//! Images that are left out of a run, in its log and its report.

use super::state::Run;
use super::trainer::Trainer;
use crate::data::{Dataset, LeftOut};
use crate::report::{LeftOutImage, Record};
use crate::train::error::TrainError;
use std::collections::HashSet;

impl Trainer {
    /// The images that `data.on_problem = "skip"` leaves out of both sets. An unusable image of a split file is in both
    /// parts, but listed once.
    pub(super) fn left_out(&self) -> Vec<LeftOutImage> {
        let mut seen = HashSet::new();
        let mut list = |split: &str, dataset: &Dataset| -> Vec<LeftOutImage> {
            let is_new =
                |image: &&LeftOut| seen.insert((dataset.annotations.clone(), image.image_id));
            let new = dataset.left_out.iter().filter(is_new);
            let entry = |image: &LeftOut| LeftOutImage {
                split: split.into(),
                image_id: image.image_id,
                file: image.path.display().to_string(),
                reason: image.reason.clone(),
            };
            new.map(entry).collect()
        };
        let mut images = list("train", &self.train);
        images.extend(list("val", &self.val));
        images
    }
}

impl Run<'_> {
    /// Records the images that are left out, unless the log of the resumed run already contains them.
    pub(super) fn record_left_out(&mut self) -> Result<(), TrainError> {
        let found = self.trainer.left_out();
        let known = self.records().iter().rev().find_map(|record| match record {
            Record::LeftOut { images, .. } => Some(images),
            _ => None,
        });
        if known.map_or(found.is_empty(), |known| *known == found) {
            return Ok(());
        }
        let step = self.step;
        self.record(Record::LeftOut {
            step,
            count: found.len(),
            images: found,
        })
    }
}

/// Maximum number of images that the report lists.
const LISTED: usize = 50;

/// Rows of the report about images that are left out.
pub(super) fn facts(images: &[LeftOutImage]) -> Vec<(String, String)> {
    let count = images.len();
    if count == 0 {
        return Vec::new();
    }
    let summary = match count > LISTED {
        true => format!("{count}; the first {LISTED} follow, all are in metrics.jsonl"),
        false => count.to_string(),
    };
    let mut facts = vec![("images left out".to_string(), summary)];
    facts.extend(images.iter().take(LISTED).map(|image| {
        let name = format!("left out, {} image {}", image.split, image.image_id);
        // Many reasons start with the file.
        let text = match image.reason.starts_with(&image.file) {
            true => image.reason.clone(),
            false => format!("{}: {}", image.file, image.reason),
        };
        (name, text)
    }));
    facts
}
