//! Decoder of the frames of a video.

use super::process::{ffmpeg, first_message};
use crate::predict::video::args::VideoArgs;
use crate::predict::video::probe::Video;
use crate::terminal::note;
use anyhow::{Context, Result, anyhow, bail};
use mrcnn_core::image::RgbImage;
use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::process::{Child, ChildStdout, ExitStatus, Stdio};

/// A frame of a video.
pub struct Frame {
    /// Number of decoded frames before it, including those that were not predicted.
    pub index: u64,
    pub image: RgbImage,
}

/// Decoder of the frames of a video.
pub struct Decoder {
    child: Child,
    output: BufReader<ChildStdout>,
    messages: File,
    name: String,
    /// Whether frames that are not read in time are lost.
    pub is_live: bool,
    /// Number of frames so far.
    pub decoded: u64,
}

impl Decoder {
    pub fn start(video: &Video, args: &VideoArgs) -> Result<Self> {
        let messages = tempfile::tempfile().context("a temporary file")?;
        let mut command = ffmpeg(&messages)?;
        command.args(video.input(args));
        // A constant rate, so that a frame's number gives its time. ffmpeg turns frames upright.
        let rate = video.strided(args);
        command.args(video.limit(args));
        command.args(["-map", "0:v:0", "-vf", &format!("fps={rate}"), "-r", &rate]);
        // PPM is rgb24 with the size before each frame.
        command.args(["-pix_fmt", "rgb24", "-c:v", "ppm", "-f", "image2pipe", "-"]);
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .context("ffmpeg")?;
        let output = child.stdout.take().context("ffmpeg has no output")?;
        Ok(Self {
            child,
            output: BufReader::with_capacity(1 << 20, output),
            messages,
            name: video.name.clone(),
            is_live: video.is_live(),
            decoded: 0,
        })
    }

    /// The next frame; `None` at the end.
    pub fn frame(&mut self) -> Result<Option<Frame>> {
        let read = self
            .read()
            .with_context(|| format!("{}: ffmpeg", self.name))?;
        if read.is_none() {
            let status = self.child.wait().context("ffmpeg")?;
            let message = first_message(&mut self.messages);
            if !status.success() {
                return Err(self.failure(status, message));
            }
            if let Some(message) = message {
                let name = &self.name;
                note!(
                    "warning: {name}: ffmpeg decoded it with errors, the first of which is: {message}"
                );
            }
        }
        Ok(read.map(|image| {
            let index = self.decoded;
            self.decoded += 1;
            Frame { index, image }
        }))
    }

    fn failure(&self, status: ExitStatus, message: Option<String>) -> anyhow::Error {
        let message = message.unwrap_or_else(|| status.to_string());
        anyhow!("{}: ffmpeg cannot decode it: {message}", self.name)
    }

    fn read(&mut self) -> Result<Option<RgbImage>> {
        let mut words = Vec::new();
        // P6, width, height, and the largest value.
        while words.len() < 4 {
            let mut line = String::new();
            let limited = &mut self.output;
            if limited.take(64).read_line(&mut line)? == 0 {
                return match words.is_empty() {
                    true => Ok(None),
                    false => bail!("the last frame is incomplete"),
                };
            }
            words.extend(line.split_whitespace().map(String::from));
        }
        let number = |index: usize| words[index].parse::<u32>();
        let (width, height) = (number(1)?, number(2)?);
        let mut pixels = vec![0; width as usize * height as usize * 3];
        self.output.read_exact(&mut pixels)?;
        Ok(RgbImage::from_raw(width, height, pixels))
    }
}

impl Drop for Decoder {
    fn drop(&mut self) {
        // After a stop, ffmpeg still waits for a reader.
        self.child.kill().ok();
        self.child.wait().ok();
    }
}
