//! Images that are left out of a run, in its log and its report.

use super::state::Run;
use super::trainer::Trainer;
use crate::data::{Dataset, LeftOut};
use crate::report::{LeftOutImage, Record};
use crate::train::error::TrainError;
use crate::train::observer::Observer;
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
            new.map(|image| entry(split, image)).collect()
        };
        let mut images = list("train", &self.train);
        images.extend(list("val", &self.val));
        images
    }

    /// Whether an image belongs to its split and is not left out from the start.
    fn has(&self, image: &LeftOutImage) -> bool {
        let dataset = match image.split == "train" {
            true => &self.train,
            false => &self.val,
        };
        let mut samples = dataset.samples.iter();
        samples.any(|sample| sample.image_id == image.image_id)
    }
}

impl Run<'_> {
    /// Records the images that are left out from the start, unless the log of the resumed run already contains them.
    pub(super) fn record_left_out(&mut self) -> Result<(), TrainError> {
        let mut found = self.trainer.left_out();
        let known = listed(self.records());
        if !self.trainer.config.data.check_images {
            // Images that were found to be unusable during the run and have not been read again since.
            let kept = known.iter().filter(|image| self.trainer.has(image));
            found.extend(kept.cloned());
        }
        self.left_out.clone_from(&found);
        if known == found {
            return Ok(());
        }
        let step = self.step;
        self.record(Record::LeftOut {
            step,
            count: found.len(),
            images: found,
        })
    }

    /// Those of `images` that are not known to be left out, each once.
    pub(super) fn newly_left_out(&self, split: &str, images: &[LeftOut]) -> Vec<LeftOut> {
        let (train, val) = (&self.trainer.train, &self.trainer.val);
        // With `data.val = data.train`, both are the same images.
        let is_shared = train.annotations == val.annotations;
        let mut seen: HashSet<u64> = self
            .left_out
            .iter()
            .filter(|known| known.split == split || is_shared)
            .map(|known| known.image_id)
            .collect();
        let new = images.iter().filter(|image| seen.insert(image.image_id));
        new.cloned().collect()
    }

    /// Records and reports images that were found to be unusable in a step or an evaluation, unless they are known.
    pub(super) fn leave_out(
        &mut self,
        split: &str,
        images: &[LeftOut],
        observer: &mut dyn Observer,
    ) -> Result<(), TrainError> {
        let new = self.newly_left_out(split, images);
        if new.is_empty() {
            return Ok(());
        }
        let new: Vec<LeftOutImage> = new.iter().map(|image| entry(split, image)).collect();
        for image in &new {
            self.left_out.push(image.clone());
            observer.on_left_out(image, self.left_out.len());
        }
        let (step, count) = (self.step, self.left_out.len());
        self.record(Record::LeftOut {
            step,
            count,
            images: new,
        })
    }
}

fn entry(split: &str, image: &LeftOut) -> LeftOutImage {
    LeftOutImage {
        split: split.into(),
        image_id: image.image_id,
        file: image.path.display().to_string(),
        reason: image.reason.clone(),
    }
}

/// All images that are left out according to a log.
pub(super) fn listed(records: &[Record]) -> Vec<LeftOutImage> {
    let mut all: Vec<LeftOutImage> = Vec::new();
    for record in records {
        if let Record::LeftOut { count, images, .. } = record {
            if images.len() == *count {
                all.clear();
            }
            all.extend_from_slice(images);
        }
    }
    all
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
        (name, image.description())
    }));
    facts
}
