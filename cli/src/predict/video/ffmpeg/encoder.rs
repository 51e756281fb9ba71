//! Encoder of an annotated video.

use super::process::{ffmpeg, first_message};
use crate::predict::video::args::VideoArgs;
use crate::predict::video::probe::{Video, file};
use anyhow::{Context, Result, bail};
use mrcnn_core::image::RgbImage;
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};

/// A video that is being written.
pub struct Encoder {
    child: Child,
    input: Option<ChildStdin>,
    messages: File,
    path: PathBuf,
    size: (u32, u32),
}

impl Encoder {
    /// Starts a video with frames of `size` (width and height in pixels) and with the frame rate and the audio of
    /// `video`.
    pub fn start(path: &Path, video: &Video, args: &VideoArgs, size: (u32, u32)) -> Result<Self> {
        let messages = tempfile::tempfile().context("a temporary file")?;
        let mut command = ffmpeg(&messages)?;
        let frames = format!("{}x{}", size.0, size.1);
        let rate = video.strided(args);
        command.args([
            "-f", "rawvideo", "-pix_fmt", "rgb24", "-s", &frames, "-r", &rate, "-i", "-",
        ]);
        if video.has_audio {
            // The audio is as long as the frames: shorter audio is padded with silence, and longer audio is cut.
            command.args(video.input(args));
            command.args([
                "-map",
                "0:v:0",
                "-map",
                "1:a:0",
                "-c:a",
                "aac",
                "-b:a",
                "192k",
                "-af",
                "apad",
                "-shortest",
            ]);
        }
        match has_encoder("libx264")? {
            true => command.args(["-c:v", "libx264", "-crf", "20", "-preset", "veryfast"]),
            false => command.args(["-c:v", "mpeg4", "-q:v", "3"]),
        };
        // Players expect 4:2:0, which needs even sides.
        let even = "pad=ceil(iw/2)*2:ceil(ih/2)*2";
        command.args([
            "-vf",
            even,
            "-pix_fmt",
            "yuv420p",
            "-movflags",
            "+faststart",
        ]);
        command.arg(file(path));
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .context("ffmpeg")?;
        Ok(Self {
            input: child.stdin.take(),
            child,
            messages,
            path: path.into(),
            size,
        })
    }

    pub fn write(&mut self, frame: &RgbImage) -> Result<()> {
        if frame.dimensions() != self.size {
            bail!(
                "{}: the frame size changes from {:?} to {:?}; convert the video to one size first, or use --end",
                self.path.display(),
                self.size,
                frame.dimensions()
            );
        }
        let written = self
            .input
            .as_mut()
            .map(|input| input.write_all(frame.as_raw()));
        match written {
            Some(Ok(())) => Ok(()),
            // ffmpeg has ended; its messages contain the reason.
            _ => self.end(),
        }
    }

    /// Finishes the file.
    pub fn finish(mut self) -> Result<()> {
        self.end()
    }

    fn end(&mut self) -> Result<()> {
        drop(self.input.take());
        let status = self.child.wait().context("ffmpeg")?;
        if status.success() {
            return Ok(());
        }
        let message = first_message(&mut self.messages);
        let message = message.unwrap_or_else(|| status.to_string());
        bail!(
            "{}: ffmpeg cannot encode it: {message}",
            self.path.display()
        )
    }
}

impl Drop for Encoder {
    fn drop(&mut self) {
        drop(self.input.take());
        self.child.wait().ok();
    }
}

fn has_encoder(name: &str) -> Result<bool> {
    let output = Command::new("ffmpeg")
        .args(["-v", "error", "-encoders"])
        .stdin(Stdio::null())
        .output()
        .context("ffmpeg")?;
    Ok(String::from_utf8_lossy(&output.stdout).contains(&format!(" {name} ")))
}
