//! Prediction of images, with decoding, inference and writing overlapped in three threads.

mod work;
mod writer;

use super::input::Input;
use super::records::{Lists, failure};
use super::run::{QUEUE, Run};
use super::throughput::throughput;
use crate::interrupt::Requests;
use crate::progress::bar;
use crate::shared::PrintFormat;
use crate::terminal::{self, note, out};
use anyhow::{Result, bail};
use indicatif::ProgressBar;
use mrcnn_core::config::Depth;
use mrcnn_core::data::{LeftOut, printable};
use mrcnn_core::image::decode::Decoded;
use std::panic::resume_unwind;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::scope;
use std::time::{Duration, Instant};
use work::{Predicted, Work};
use writer::Written;

impl Run<'_> {
    pub fn images(&self, images: &[Input], left_out: &[LeftOut]) -> Result<()> {
        let mut lists = Lists::open(&self.saver.out, self.args.resume)?;
        self.saver.start(self.classes())?;
        let left: Vec<(usize, &Input)> = images
            .iter()
            .enumerate()
            .filter(|(_, image)| !lists.done.contains(&image.file_name))
            .collect();
        if left.len() < images.len() {
            note!(
                "{} of {} images are already done",
                images.len() - left.len(),
                images.len()
            );
        }
        let table = self.args.format == PrintFormat::Table;
        if table {
            out!("{:<40} {:>11} {:>8}  detections", "image", "size", "ms");
        }
        let requests = Requests::catch(Some("predicting this image"));
        for image in left_out {
            note!(
                "error: image {}: {}",
                image.image_id,
                printable(&image.reason)
            );
            let name = image.path.to_string_lossy().into_owned();
            lists
                .images
                .push(&[failure(image.image_id, name, image.reason.clone())?])?;
        }
        let started = Instant::now();
        let bar = bar(
            left.len(),
            "predicting {bar:30} {pos}/{len} ETA {eta} {msg}",
        );
        let (written, busy) = self.overlapped(&left, lists, &requests, &bar)?;
        bar.finish_and_clear();
        let finished = written.finished;
        let failed = written.failed + left_out.len();
        self.saver.finish(self.classes())?;
        match self.args.format {
            PrintFormat::Table => {
                out!("{}", written.lists.counts.shown(self.classes(), "images"));
                out!("{}", self.saver.written());
            }
            PrintFormat::Json => terminal::raw(&written.lists.detections.text()?),
        }
        if finished > 1 {
            let busy = [busy[0], busy[1], written.busy];
            let all = (finished, "images");
            note!("{}", throughput(all, started.elapsed(), busy));
        }
        if finished < left.len() {
            bail!(
                "stopped after {finished} of {} images; continue with --resume --out {}",
                left.len(),
                self.saver.out.display()
            );
        }
        if failed > 0 {
            let all = left.len() + left_out.len();
            bail!("{failed} of {all} images could not be read");
        }
        Ok(())
    }

    /// Decodes, predicts and writes the images in three threads; also returns the times of decoding and of inference.
    fn overlapped(
        &self,
        left: &[(usize, &Input)],
        lists: Lists,
        requests: &Requests,
        bar: &ProgressBar,
    ) -> Result<(Written, [Duration; 2])> {
        let depth = self.predictor.config().image.depth;
        let (to_predict, decoded) = sync_channel(QUEUE);
        let (to_write, predicted) = sync_channel(QUEUE);
        scope(|scope| {
            let reader = scope.spawn(move || read(left, depth, &to_predict));
            let writer = scope.spawn(move || self.write_images(&predicted, lists, bar));
            let inference = self.predict(decoded, &to_write, requests, bar);
            drop(to_write);
            let reading = reader.join().unwrap_or_else(|panic| resume_unwind(panic));
            let written = writer.join().unwrap_or_else(|panic| resume_unwind(panic))?;
            Ok((written, [reading, inference?]))
        })
    }

    /// Predicts the decoded images until a signal requests the end; returns the time of inference.
    fn predict<'i>(
        &self,
        decoded: Receiver<Work<'i, Decoded>>,
        to_write: &SyncSender<Work<'i, Predicted>>,
        requests: &Requests,
        bar: &ProgressBar,
    ) -> Result<Duration> {
        let mut busy = Duration::ZERO;
        for Work {
            index,
            input,
            content,
        } in decoded
        {
            if requests.is_end_requested() {
                break;
            }
            let content = match content {
                Ok(decoded) => {
                    let started = Instant::now();
                    let found = self.found(&decoded.image, &mut |done, all| {
                        bar.set_message(format!("tile {done}/{all}"));
                    })?;
                    bar.set_message("");
                    let time = started.elapsed();
                    busy += time;
                    Ok(Predicted {
                        decoded,
                        found,
                        time,
                    })
                }
                Err(error) => Err(error),
            };
            // The writer has ended, and reports its error.
            if to_write
                .send(Work {
                    index,
                    input,
                    content,
                })
                .is_err()
            {
                break;
            }
        }
        Ok(busy)
    }
}

/// Decodes images until the receiver is dropped; returns the time of decoding.
fn read<'i>(
    left: &[(usize, &'i Input)],
    depth: Depth,
    to_predict: &SyncSender<Work<'i, Decoded>>,
) -> Duration {
    let mut busy = Duration::ZERO;
    for &(index, input) in left {
        let started = Instant::now();
        let content = input.decode(depth).map_err(|error| error.to_string());
        busy += started.elapsed();
        if to_predict
            .send(Work {
                index,
                input,
                content,
            })
            .is_err()
        {
            break;
        }
    }
    busy
}
