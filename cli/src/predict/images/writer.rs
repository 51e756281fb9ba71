//! The thread that writes the results of images.

use super::work::{Predicted, Work};
use crate::predict::input::Input;
use crate::predict::records::{Entry, Lists, failure, row};
use crate::predict::run::Run;
use crate::shared::PrintFormat;
use crate::terminal::{note, out};
use anyhow::Result;
use indicatif::ProgressBar;
use mrcnn_core::config::Depth;
use mrcnn_core::data::{detections_json, printable};
use std::sync::mpsc::Receiver;
use std::time::{Duration, Instant};

/// Results of the writer.
pub struct Written {
    pub lists: Lists,
    pub finished: usize,
    pub failed: usize,
    pub busy: Duration,
}

impl Run<'_> {
    /// Writes the files of the images and prints their lines.
    pub(super) fn write_images(
        &self,
        predicted: &Receiver<Work<'_, Predicted>>,
        lists: Lists,
        bar: &ProgressBar,
    ) -> Result<Written> {
        let mut written = Written {
            lists,
            finished: 0,
            failed: 0,
            busy: Duration::ZERO,
        };
        for work in predicted {
            let started = Instant::now();
            match work.content {
                Ok(predicted) => {
                    self.one(work.index, work.input, &predicted, &mut written.lists, bar)?;
                }
                Err(error) => {
                    bar.suspend(|| note!("error: {}", printable(&error)));
                    written.failed += 1;
                    let name = work.input.file_name.clone();
                    let entry = failure(work.input.image_id, name, error)?;
                    written.lists.images.push(&[entry])?;
                }
            }
            written.finished += 1;
            written.busy += started.elapsed();
            bar.inc(1);
        }
        Ok(written)
    }

    fn one(
        &self,
        index: usize,
        input: &Input,
        Predicted {
            decoded,
            found,
            time,
        }: &Predicted,
        lists: &mut Lists,
        bar: &ProgressBar,
    ) -> Result<()> {
        let name = input.shown();
        let warn = |text: &str| bar.suspend(|| note!("warning: {}: {text}", printable(&name)));
        let depth = self.predictor.config().image.depth;
        if let (Some(bits @ ..=14), Depth::Full) = (decoded.used_bits, depth) {
            warn(&format!(
                "it uses {bits} of its 16 bits and is nearly black in 8; --set image.depth=auto scales it"
            ));
        }
        if decoded.has_more {
            warn("it has more than one frame or page, and only the first is used");
        }
        if self.args.format == PrintFormat::Table {
            bar.suspend(|| out!("{}", row(&name, *time, found)));
        }
        self.saver.image(index, input, &decoded.image, found)?;
        let entry = Entry {
            id: input.image_id,
            file_name: input.file_name.clone(),
            width: found.width,
            height: found.height,
            detections: found.len(),
            error: None,
        };
        let name = Some(input.file_name.as_str());
        let records = detections_json(input.image_id, name, &found.detections, found.classes());
        lists
            .counts
            .add(records.iter().map(|record| record.category_id));
        let records: serde_json::Result<Vec<String>> =
            records.iter().map(serde_json::to_string).collect();
        lists.detections.push(&records?)?;
        lists.images.push(&[serde_json::to_string(&entry)?])
    }
}
