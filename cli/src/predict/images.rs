//! The images of `predict`: decoding, inference and writing overlap in three threads.

use super::input::Input;
use super::records::{Entry, Lists, failure, row};
use super::run::{QUEUE, Run};
use super::throughput::throughput;
use crate::interrupt::Requests;
use crate::progress::bar;
use crate::shared::PrintFormat;
use crate::terminal::{self, note, out};
use anyhow::{Result, bail};
use indicatif::ProgressBar;
use mrcnn_core::Prediction;
use mrcnn_core::config::Depth;
use mrcnn_core::data::{LeftOut, detections_json, printable};
use mrcnn_core::image::decode::Decoded;
use std::panic::resume_unwind;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::scope;
use std::time::{Duration, Instant};

/// An image between two threads: the position, the image, and its content or the reason that it cannot be read.
struct Work<'a, T> {
    index: usize,
    input: &'a Input,
    content: Result<T, String>,
}

/// A decoded image with its objects.
struct Predicted {
    decoded: Decoded,
    found: Prediction,
    time: Duration,
}

/// What a writer did.
struct Written {
    lists: Lists,
    finished: usize,
    failed: usize,
    busy: Duration,
}

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
        let requests = Requests::catch(true);
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

    /// Decodes, predicts and writes the images in three threads; also the times of decoding and of inference.
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
            let writer = scope.spawn(move || self.write(&predicted, lists, bar));
            let inference = self.predict(decoded, &to_write, requests, bar);
            drop(to_write);
            let reading = reader.join().unwrap_or_else(|panic| resume_unwind(panic));
            let written = writer.join().unwrap_or_else(|panic| resume_unwind(panic))?;
            Ok((written, [reading, inference?]))
        })
    }

    /// Predicts the decoded images until a signal requests the end; the time that it took.
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
            if requests.end() {
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
            // Without a writer, which reports its error.
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

    /// Writes the files of the images and prints their lines.
    fn write(
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
        let path = input.path.display().to_string();
        let warn = |text: &str| bar.suspend(|| note!("warning: {}: {text}", printable(&path)));
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
            bar.suspend(|| out!("{}", row(&input.path, *time, found)));
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

/// Decodes images until nobody receives them; the time that it took.
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
