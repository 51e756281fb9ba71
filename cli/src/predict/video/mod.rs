//! Videos and cameras of `predict`.

mod args;
mod ffmpeg;
mod frames;
mod live;
mod probe;
mod sink;
mod source;

pub use args::VideoArgs;
pub use live::Live;
pub use probe::check_installed;
pub use source::Source;

use super::records::row;
use super::run::Run;
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
use probe::Video;
use sink::Sink;
use std::time::Instant;

impl Run<'_> {
    /// Predicts videos one after the other.
    pub fn videos(&self, videos: &[Source]) -> Result<()> {
        self.check_video_options(videos)?;
        let requests = Requests::catch(Some("finishing the annotated video"));
        if self.args.format == PrintFormat::Table {
            out!(
                "{:<40} {:>11} {:>8}  detections of the last frame",
                "video",
                "size",
                "ms"
            );
        }
        for (index, source) in videos.iter().enumerate() {
            self.video(source, index, &requests)?;
        }
        Ok(())
    }

    fn check_video_options(&self, videos: &[Source]) -> Result<()> {
        let of_images = |form: &&Form| !matches!(form, Form::Overlay | Form::Coco);
        if let Some(form) = self.saver.forms.iter().find(of_images) {
            let name = form.to_possible_value();
            bail!(
                "--save {}: of a video, the annotated video (overlay) and a JSON line per frame are written; for other \
                 forms, extract its frames: ffmpeg -i {} frames/%06d.png",
                name.as_ref().map_or("", |name| name.get_name()),
                videos[0].name()
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
        let is_live = |source: &&Source| matches!(source, Source::Live(_));
        if let (Some(start), Some(live)) = (args.start, videos.iter().find(is_live)) {
            bail!(
                "--start {}: {} begins when it is opened; leave --start out, and use --end for its length",
                start.0,
                live.name()
            );
        }
        Ok(())
    }

    fn video(&self, source: &Source, index: usize, requests: &Requests) -> Result<()> {
        let video = Video::open(source, &self.saver.out)?;
        let decoder = Decoder::start(&video, &self.args.video)?;
        let mut sink = Sink::create(self, &video, index)?;
        let bar = self.progress(&video);
        let started = Instant::now();
        let finished = self.frames(decoder, &mut sink, requests, &bar)?;
        bar.finish_and_clear();
        let (frames, name) = (sink.frames as usize, &video.name);
        if frames == 0 && !requests.is_end_requested() {
            match video.is_live() {
                true => bail!("{name}: no frame arrived"),
                false => {
                    let seconds = video.duration.unwrap_or_default();
                    bail!("{name}: no frame between --start and --end; it has {seconds:.1} s");
                }
            }
        }
        if self.args.format == PrintFormat::Table {
            if let Some((found, time)) = finished.last {
                out!("{}", row(name, time, &found));
            }
            out!("{}", sink.counts.shown(self.classes(), "frames"));
            out!("{}", sink.written());
        }
        let [decoding, inference] = finished.busy;
        let busy = [decoding, inference, sink.busy];
        note!(
            "{}",
            throughput((frames, "frames"), started.elapsed(), busy)
        );
        if (frames as u64) < finished.decoded {
            note!(
                "{frames} of {} frames were predicted, because more arrived than this machine predicts; the annotated \
                 video repeats them",
                finished.decoded
            );
        }
        // Ctrl-C is the usual end of a camera.
        if requests.is_end_requested() && !video.is_live() {
            bail!(
                "stopped after {frames} frames of {name}; {}",
                sink.written()
            );
        }
        Ok(())
    }

    fn progress(&self, video: &Video) -> ProgressBar {
        let args = &self.args.video;
        let start = args.start.map_or(0.0, |time| time.0);
        let ends = [args.end.map(|time| time.0), video.duration];
        let Some(end) = ends.into_iter().flatten().reduce(f64::min) else {
            return bar(0, "predicting {pos} frames {elapsed}");
        };
        let rate = video.rate.0 as f64 / video.rate.1 as f64;
        let expected = ((end - start) * rate / f64::from(args.stride.get())).max(0.0);
        bar(
            expected as usize,
            "predicting {bar:30} {pos}/{len} ETA {eta}",
        )
    }
}
