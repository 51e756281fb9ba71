//! The results of a video: the annotated video and a JSON line per frame.

use super::ffmpeg::Encoder;
use super::probe::Video;
use crate::predict::records::Counts;
use crate::predict::run::Run;
use crate::predict::save::Form;
use crate::shared::PrintFormat;
use crate::terminal;
use anyhow::{Context, Result};
use indicatif::ProgressBar;
use mrcnn_core::Prediction;
use mrcnn_core::data::{DetectionRecord, detections_json};
use mrcnn_core::image::RgbImage;
use serde::Serialize;
use std::fs::File;
use std::io::Write;
use std::path::PathBuf;
use std::sync::mpsc::Receiver;
use std::time::{Duration, Instant};

/// A line of a video's results.
#[derive(Serialize)]
struct Line<'a> {
    /// Number of the frame in the video, from 0.
    frame: u64,
    /// Seconds from the start of the video.
    time: f64,
    detections: Vec<Object<'a>>,
}

#[derive(Serialize)]
struct Object<'a> {
    class: String,
    #[serde(flatten)]
    record: &'a DetectionRecord,
}

/// The results of a video that are being written.
pub struct Sink<'a> {
    run: &'a Run<'a>,
    video: &'a Video,
    path: PathBuf,
    lines: File,
    lines_path: PathBuf,
    encoder: Option<Encoder>,
    pub counts: Counts,
    pub frames: u64,
    pub busy: Duration,
}

impl<'a> Sink<'a> {
    /// Creates the files of the video `index`.
    pub fn create(run: &'a Run<'a>, video: &'a Video, index: usize) -> Result<Self> {
        let stem = video.path.file_stem().unwrap_or_default().to_string_lossy();
        let name = |extension: &str| {
            run.saver
                .out
                .join(format!("{:04}_{stem}.{extension}", index + 1))
        };
        let lines_path = name("jsonl");
        Ok(Self {
            run,
            video,
            path: name("mp4"),
            lines: File::create(&lines_path).with_context(|| lines_path.display().to_string())?,
            lines_path,
            encoder: None,
            counts: Counts::default(),
            frames: 0,
            busy: Duration::ZERO,
        })
    }

    /// Writes frames until no more are sent, and finishes the annotated video.
    pub fn frames(
        &mut self,
        predicted: &Receiver<(RgbImage, Prediction)>,
        bar: &ProgressBar,
    ) -> Result<()> {
        for (frame, found) in predicted {
            let started = Instant::now();
            self.frame(&frame, &found)?;
            self.frames += 1;
            self.busy += started.elapsed();
            bar.inc(1);
        }
        match self.encoder.take() {
            Some(encoder) => encoder.finish(),
            None => Ok(()),
        }
    }

    fn frame(&mut self, frame: &RgbImage, found: &Prediction) -> Result<()> {
        let args = &self.run.args.video;
        if self.run.saver.forms.contains(&Form::Overlay) {
            let encoder = match &mut self.encoder {
                Some(encoder) => encoder,
                none => {
                    let started = Encoder::start(&self.path, self.video, args, frame.dimensions())?;
                    none.insert(started)
                }
            };
            encoder.write(&found.draw_with(frame, &self.run.saver.drawing))?;
        }
        let step = self.frames * u64::from(args.stride.get());
        let [rate, start] = [
            self.video.rate.0 as f64 / self.video.rate.1 as f64,
            args.start.map_or(0.0, |time| time.0),
        ];
        let time = start + step as f64 / rate;
        let number = (start * rate).round() as u64 + step;
        let records = detections_json(number, None, &found.detections, found.classes());
        self.counts
            .add(records.iter().map(|record| record.category_id));
        let objects = found.iter().zip(&records);
        let line = Line {
            frame: number,
            time: (time * 1e6).round() / 1e6,
            detections: objects
                .map(|(object, record)| Object {
                    class: object.name,
                    record,
                })
                .collect(),
        };
        let text = format!("{}\n", serde_json::to_string(&line)?);
        let written = self.lines.write_all(text.as_bytes());
        written.with_context(|| self.lines_path.display().to_string())?;
        if self.run.args.format == PrintFormat::Json {
            terminal::raw(&text);
        }
        Ok(())
    }

    /// The files of the results.
    pub fn written(&self) -> String {
        let lines = format!("a JSON line per frame in {}", self.lines_path.display());
        match self.run.saver.forms.contains(&Form::Overlay) {
            true => format!("annotated video in {}, {lines}", self.path.display()),
            false => lines,
        }
    }
}
