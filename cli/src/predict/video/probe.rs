//! What `ffprobe` says about a video.

use super::args::VideoArgs;
use anyhow::{Context, Result, bail};
use serde::Deserialize;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Fails with the command that installs the programs if they are missing.
pub fn check_installed(video: &Path) -> Result<()> {
    for program in ["ffprobe", "ffmpeg"] {
        let found = Command::new(program)
            .arg("-version")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status();
        if found.is_err() {
            let install = match std::env::consts::OS {
                "macos" => "brew install ffmpeg",
                "windows" => "winget install Gyan.FFmpeg",
                _ => {
                    "sudo apt-get install ffmpeg (Debian, Ubuntu) or sudo dnf install ffmpeg-free (Fedora)"
                }
            };
            bail!(
                "{}: videos are read by {program}, which is not on the PATH; install it: {install}",
                video.display()
            );
        }
    }
    Ok(())
}

/// What `ffprobe` says about a video.
pub struct Video {
    pub path: PathBuf,
    /// Frames per second, as a fraction.
    pub rate: (u64, u64),
    /// Seconds; `None` if the file does not say.
    pub duration: Option<f64>,
    pub has_audio: bool,
}

#[derive(Deserialize)]
struct Probe {
    #[serde(default)]
    streams: Vec<Stream>,
    #[serde(default)]
    format: Format,
}

#[derive(Deserialize)]
struct Stream {
    codec_type: String,
    #[serde(default)]
    avg_frame_rate: String,
    #[serde(default)]
    r_frame_rate: String,
}

#[derive(Default, Deserialize)]
struct Format {
    duration: Option<String>,
}

impl Video {
    pub fn open(path: &Path) -> Result<Self> {
        let entries = "stream=codec_type,avg_frame_rate,r_frame_rate:format=duration";
        let output = Command::new("ffprobe")
            .args(["-v", "error", "-of", "json", "-show_entries", entries])
            .arg(file(path))
            .stdin(Stdio::null())
            .output()
            .context("ffprobe")?;
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        let probe: Probe = serde_json::from_slice(&output.stdout).unwrap_or(Probe {
            streams: Vec::new(),
            format: Format::default(),
        });
        let video = probe
            .streams
            .iter()
            .find(|stream| stream.codec_type == "video");
        let Some(video) = video else {
            let reason = text.lines().next().unwrap_or("it has no video stream");
            bail!(
                "{}: ffprobe cannot read it as a video: {reason}",
                path.display()
            );
        };
        let rate = fraction(&video.avg_frame_rate).or(fraction(&video.r_frame_rate));
        Ok(Self {
            path: path.into(),
            rate: rate.with_context(|| format!("{}: it has no frame rate", path.display()))?,
            duration: probe.format.duration.and_then(|text| text.parse().ok()),
            has_audio: probe
                .streams
                .iter()
                .any(|stream| stream.codec_type == "audio"),
        })
    }

    /// Frames per second of every `stride`th frame, as `N/D`.
    pub fn strided(&self, args: &VideoArgs) -> String {
        format!(
            "{}/{}",
            self.rate.0,
            self.rate.1 * u64::from(args.stride.get())
        )
    }

    /// The options that read a part of the file.
    pub fn input(&self, args: &VideoArgs) -> Vec<OsString> {
        let mut options: Vec<OsString> = Vec::new();
        for (option, time) in [("-ss", args.start), ("-to", args.end)] {
            if let Some(time) = time {
                options.extend([option.into(), format!("{:.6}", time.0).into()]);
            }
        }
        options.extend(["-i".into(), file(&self.path)]);
        options
    }
}

/// A path that is not an option or a protocol of ffmpeg.
pub fn file(path: &Path) -> OsString {
    let mut name = OsString::from("file:");
    name.push(path);
    name
}

/// `30000/1001`; `None` if a part is 0.
fn fraction(text: &str) -> Option<(u64, u64)> {
    let (a, b) = text.split_once('/')?;
    let (a, b) = (a.parse().ok()?, b.parse().ok()?);
    (a > 0 && b > 0).then_some((a, b))
}
