//! The results of a video: the annotated video and a JSON line per frame.

use super::ffmpeg::{Encoder, Frame};
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
    /// Number of frames of the annotated video, and the last one.
    encoded: u64,
    last: Option<RgbImage>,
    pub counts: Counts,
    /// Number of predicted frames.
    pub frames: u64,
    pub busy: Duration,
}

impl<'a> Sink<'a> {
    /// Creates the files of the video `index`.
    pub fn create(run: &'a Run<'a>, video: &'a Video, index: usize) -> Result<Self> {
        let stem = &video.stem;
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
            encoded: 0,
            last: None,
            counts: Counts::default(),
            frames: 0,
            busy: Duration::ZERO,
        })
    }

    /// Writes frames until no more are sent, and finishes the annotated video.
    pub fn frames(
        &mut self,
        predicted: &Receiver<(Frame, Prediction)>,
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

    /// Draws a frame and appends it to the annotated video. Frames between it and the last one, which were not
    /// predicted, repeat the last one, so that the video keeps its time.
    fn encode(&mut self, frame: &Frame, found: &Prediction) -> Result<()> {
        let encoder = match &mut self.encoder {
            Some(encoder) => encoder,
            none => {
                let (args, size) = (&self.run.args.video, frame.image.dimensions());
                none.insert(Encoder::start(&self.path, self.video, args, size)?)
            }
        };
        let drawn = found.draw_with(&frame.image, &self.run.saver.drawing);
        let missing = frame.index.saturating_sub(self.encoded);
        for _ in 0..missing {
            encoder.write(self.last.as_ref().unwrap_or(&drawn))?;
        }
        encoder.write(&drawn)?;
        self.encoded += missing + 1;
        self.last = self.video.is_live().then_some(drawn);
        Ok(())
    }

    fn frame(&mut self, frame: &Frame, found: &Prediction) -> Result<()> {
        if self.run.saver.forms.contains(&Form::Overlay) {
            self.encode(frame, found)?;
        }
        let args = &self.run.args.video;
        let step = frame.index * u64::from(args.stride.get());
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
