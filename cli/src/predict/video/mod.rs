//! Videos of `predict`.

mod args;
mod ffmpeg;
mod probe;
mod sink;

pub use args::VideoArgs;
pub use probe::check_installed;

use super::records::row;
use super::run::{QUEUE, Run};
use super::save::Form;
use super::throughput::throughput;
use crate::interrupt::Requests;
use crate::progress::bar;
use crate::shared::PrintFormat;
use crate::terminal::{note, out};
use anyhow::{Result, bail};
use clap::ValueEnum;
use ffmpeg::Decoder;
use indicatif::ProgressBar;
use mrcnn_core::Prediction;
use mrcnn_core::image::RgbImage;
use probe::Video;
use sink::Sink;
use std::panic::resume_unwind;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread::scope;
use std::time::{Duration, Instant};

impl Run<'_> {
    /// Predicts videos one after the other.
    pub fn videos(&self, videos: &[PathBuf]) -> Result<()> {
        let of_images = |form: &&Form| !matches!(form, Form::Overlay | Form::Coco);
        if let Some(form) = self.saver.forms.iter().find(of_images) {
            let name = form.to_possible_value();
            bail!(
                "--save {}: of a video, the annotated video (overlay) and a JSON line per frame are written; for other \
                 forms, extract its frames: ffmpeg -i {} frames/%06d.png",
                name.as_ref().map_or("", |name| name.get_name()),
                videos[0].display()
            );
        }
        let args = &self.args.video;
        if let (Some(start), Some(end)) = (args.start, args.end)
            && start >= end
        {
            bail!(
                "--start {} --end {}: the end must be after the start",
                start.0,
                end.0
            );
        }
        let requests = Requests::catch(true);
        if self.args.format == PrintFormat::Table {
            out!(
                "{:<40} {:>11} {:>8}  detections of the last frame",
                "video",
                "size",
                "ms"
            );
        }
        for (index, path) in videos.iter().enumerate() {
            self.video(path, index, &requests)?;
        }
        Ok(())
    }

    fn video(&self, path: &Path, index: usize, requests: &Requests) -> Result<()> {
        let video = Video::open(path)?;
        let args = &self.args.video;
        let decoder = Decoder::start(&video, args)?;
        let mut sink = Sink::create(self, &video, index)?;
        let rate = video.rate.0 as f64 / video.rate.1 as f64;
        let start = args.start.map_or(0.0, |time| time.0);
        let end = args.end.map(|time| time.0);
        let end = [end, video.duration]
            .into_iter()
            .flatten()
            .fold(f64::MAX, f64::min);
        let expected = ((end.min(1e7) - start) * rate / f64::from(args.stride.get())).max(0.0);
        let bar = bar(
            expected as usize,
            "predicting {bar:30} {pos}/{len} ETA {eta}",
        );
        let started = Instant::now();
        let (last, busy) = self.frames(decoder, &mut sink, requests, &bar)?;
        bar.finish_and_clear();
        let (frames, writing) = (sink.frames as usize, sink.busy);
        if frames == 0 {
            let seconds = video.duration.unwrap_or_default();
            bail!(
                "{}: no frame between --start and --end; it has {seconds:.1} s",
                path.display()
            );
        }
        if self.args.format == PrintFormat::Table {
            if let Some((found, time)) = last {
                out!("{}", row(path, time, &found));
            }
            out!("{}", sink.counts.shown(self.classes(), "frames"));
            out!("{}", sink.written());
        }
        let busy = [busy[0], busy[1], writing];
        note!(
            "{}",
            throughput((frames, "frames"), started.elapsed(), busy)
        );
        if requests.end() {
            bail!(
                "stopped after {frames} frames of {}; {}",
                path.display(),
                sink.written()
            );
        }
        Ok(())
    }

    /// Decodes, predicts and writes the frames in three threads; the last prediction, and the times of decoding and of
    /// inference. The annotated video is complete also after a stop.
    #[allow(clippy::type_complexity)]
    fn frames(
        &self,
        decoder: Decoder,
        sink: &mut Sink,
        requests: &Requests,
        bar: &ProgressBar,
    ) -> Result<(Option<(Prediction, Duration)>, [Duration; 2])> {
        let (to_predict, decoded) = sync_channel::<RgbImage>(QUEUE);
        let (to_write, predicted) = sync_channel::<(RgbImage, Prediction)>(QUEUE);
        scope(|scope| {
            let reader = scope.spawn(move || read(decoder, &to_predict));
            let writer = scope.spawn(move || sink.frames(&predicted, bar));
            let mut busy = Duration::ZERO;
            let mut last = None;
            let predict = || -> Result<()> {
                for frame in decoded {
                    if requests.end() {
                        break;
                    }
                    let started = Instant::now();
                    let found = self.found(&frame, &mut |_, _| {})?;
                    busy += started.elapsed();
                    last = Some((found.clone(), started.elapsed()));
                    // Without a writer, which reports its error.
                    if to_write.send((frame, found)).is_err() {
                        break;
                    }
                }
                Ok(())
            };
            let inference = predict();
            drop(to_write);
            let reading = reader.join().unwrap_or_else(|panic| resume_unwind(panic));
            let writing = writer.join().unwrap_or_else(|panic| resume_unwind(panic));
            inference.and(writing)?;
            Ok((last, [reading?, busy]))
        })
    }
}

/// Reads frames until nobody receives them; the time that it took.
fn read(mut decoder: Decoder, to_predict: &SyncSender<RgbImage>) -> Result<Duration> {
    let mut busy = Duration::ZERO;
    loop {
        let started = Instant::now();
        let frame = decoder.frame()?;
        busy += started.elapsed();
        let Some(frame) = frame else { break };
        if to_predict.send(frame).is_err() {
            break;
        }
    }
    Ok(busy)
}
