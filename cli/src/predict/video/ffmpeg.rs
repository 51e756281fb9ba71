//! The frames of a video, and an annotated video, through `ffmpeg`.

use super::args::VideoArgs;
use super::probe::{Video, file};
use crate::terminal::note;
use anyhow::{Context, Result, anyhow, bail};
use mrcnn_core::image::RgbImage;
use std::fs::File;
use std::io::{BufRead, BufReader, Read, Seek, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, ExitStatus, Stdio};

/// `ffmpeg` with its messages in a file, so that it never waits for a reader. Ctrl-C does not reach it: a decoder ends
/// when nobody reads it, and an encoder finishes its file when its input ends.
fn ffmpeg(messages: &File) -> Result<Command> {
    let mut command = Command::new("ffmpeg");
    command.args(["-v", "error", "-nostdin", "-y"]);
    command.stderr(messages.try_clone().context("a temporary file")?);
    #[cfg(unix)]
    {
        use std::os::unix::process::CommandExt;
        command.process_group(0);
    }
    Ok(command)
}

/// The first message of a program.
fn first_message(messages: &mut File) -> Option<String> {
    let mut text = String::new();
    messages.rewind().ok()?;
    BufReader::new(messages).read_line(&mut text).ok()?;
    let line = text.trim();
    (!line.is_empty()).then(|| line.into())
}

/// The frames of a video.
pub struct Decoder {
    child: Child,
    output: BufReader<ChildStdout>,
    messages: File,
    path: PathBuf,
}

impl Decoder {
    pub fn start(video: &Video, args: &VideoArgs) -> Result<Self> {
        let messages = tempfile::tempfile().context("a temporary file")?;
        let mut command = ffmpeg(&messages)?;
        command.args(video.input(args));
        // A constant rate, so that a frame's number gives its time. ffmpeg turns frames upright.
        let rate = video.strided(args);
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
            path: video.path.clone(),
        })
    }

    /// The next frame; `None` at the end.
    pub fn frame(&mut self) -> Result<Option<RgbImage>> {
        let read = self
            .read()
            .with_context(|| format!("{}: ffmpeg", self.path.display()))?;
        if read.is_none() {
            let status = self.child.wait().context("ffmpeg")?;
            let message = first_message(&mut self.messages);
            if !status.success() {
                return Err(self.failure(status, message));
            }
            if let Some(message) = message {
                let path = self.path.display();
                note!(
                    "warning: {path}: ffmpeg decoded it with errors, the first of which is: {message}"
                );
            }
        }
        Ok(read)
    }

    fn failure(&self, status: ExitStatus, message: Option<String>) -> anyhow::Error {
        let message = message.unwrap_or_else(|| status.to_string());
        anyhow!(
            "{}: ffmpeg cannot decode it: {message}",
            self.path.display()
        )
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
        // After a stop it still waits for a reader.
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// A video that is being written.
pub struct Encoder {
    child: Child,
    input: Option<ChildStdin>,
    messages: File,
    path: PathBuf,
    size: (u32, u32),
}

impl Encoder {
    /// Frames of `size` with the frame rate and the audio of `video`.
    pub fn start(path: &Path, video: &Video, args: &VideoArgs, size: (u32, u32)) -> Result<Self> {
        let messages = tempfile::tempfile().context("a temporary file")?;
        let mut command = ffmpeg(&messages)?;
        let frames = format!("{}x{}", size.0, size.1);
        let rate = video.strided(args);
        command.args([
            "-f", "rawvideo", "-pix_fmt", "rgb24", "-s", &frames, "-r", &rate, "-i", "-",
        ]);
        if video.has_audio {
            // As long as the frames: silence follows shorter audio, and longer audio ends.
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
            // It has ended, for the reason in its messages.
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
