//! Properties of a video, as `ffprobe` reports them.

use super::args::VideoArgs;
use super::live::Live;
use super::source::Source;
use anyhow::{Context, Result, bail};
use serde::Deserialize;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use tempfile::TempPath;

/// Fails with the command that installs the programs if they are missing.
pub fn check_installed(video: &Source) -> Result<()> {
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
                video.name()
            );
        }
    }
    Ok(())
}

/// A video that can be read.
pub struct Video {
    /// Its name in messages.
    pub name: String,
    /// The part of its name that is used in the names of results.
    pub stem: String,
    file: VideoFile,
    /// Frames per second, as a fraction.
    pub rate: (u64, u64),
    /// Duration in seconds; `None` if it is unknown.
    pub duration: Option<f64>,
    pub has_audio: bool,
}

/// The input of ffmpeg.
enum VideoFile {
    Here(PathBuf),
    /// A download, which is removed at the end.
    Downloaded(TempPath),
    Live(Live),
}

impl VideoFile {
    /// The input options of ffmpeg and ffprobe.
    fn input(&self) -> Vec<OsString> {
        let of_path = |path: &Path| vec!["-i".into(), file(path)];
        match self {
            Self::Here(path) => of_path(path),
            Self::Downloaded(path) => of_path(path),
            Self::Live(live) => {
                let mut options: Vec<OsString> = Vec::new();
                options.extend(live.options.iter().map(OsString::from));
                options.extend(["-i".into(), live.input.clone().into()]);
                options
            }
        }
    }
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
    /// Probes a source. A URL is downloaded first, into `folder`.
    pub fn open(source: &Source, folder: &Path) -> Result<Self> {
        let file = match source {
            Source::File(path) => VideoFile::Here(path.clone()),
            Source::Live(live) => VideoFile::Live(live.clone()),
            Source::Url(url) => {
                let file = tempfile::Builder::new()
                    .prefix(".download")
                    .tempfile_in(folder);
                let path = file
                    .with_context(|| folder.display().to_string())?
                    .into_temp_path();
                url.save(&path)?;
                VideoFile::Downloaded(path)
            }
        };
        let name = source.name();
        let is_live = matches!(file, VideoFile::Live(_));
        let probe = probe(&file, &name)?;
        let of_type = |kind| {
            probe
                .streams
                .iter()
                .find(|stream| stream.codec_type == kind)
        };
        let Some(video) = of_type("video") else {
            bail!("{name}: ffprobe cannot read it as a video: it has no video stream");
        };
        let rate = fraction(&video.avg_frame_rate).or(fraction(&video.r_frame_rate));
        Ok(Self {
            rate: rate.with_context(|| format!("{name}: it has no frame rate"))?,
            duration: probe.format.duration.and_then(|text| text.parse().ok()),
            has_audio: !is_live && of_type("audio").is_some(),
            stem: source.stem(),
            name,
            file,
        })
    }

    /// Whether frames that are not read in time are lost.
    pub fn is_live(&self) -> bool {
        matches!(self.file, VideoFile::Live(_))
    }

    /// Frames per second of every `stride`th frame, as `N/D`.
    pub fn strided(&self, args: &VideoArgs) -> String {
        format!(
            "{}/{}",
            self.rate.0,
            self.rate.1 * u64::from(args.stride.get())
        )
    }

    /// The options of ffmpeg that open the file, or the part of it between `--start` and `--end`.
    pub fn input(&self, args: &VideoArgs) -> Vec<OsString> {
        let mut options: Vec<OsString> = Vec::new();
        match &self.file {
            VideoFile::Live(live) if live.is_generated => options.push("-re".into()),
            // The timestamps of a live source may start at any value, so `limit` ends it instead.
            VideoFile::Live(_) => {}
            _ => {
                for (option, time) in [("-ss", args.start), ("-to", args.end)] {
                    if let Some(time) = time {
                        options.extend([option.into(), format!("{:.6}", time.0).into()]);
                    }
                }
            }
        }
        options.extend(self.file.input());
        options
    }

    /// The output options of ffmpeg that end a live source.
    pub fn limit(&self, args: &VideoArgs) -> Vec<String> {
        match args.end {
            Some(end) if self.is_live() => vec!["-t".into(), format!("{:.6}", end.0)],
            _ => Vec::new(),
        }
    }
}

/// Runs ffprobe; its first message is the error.
fn probe(file: &VideoFile, name: &str) -> Result<Probe> {
    let entries = "stream=codec_type,avg_frame_rate,r_frame_rate:format=duration";
    let output = Command::new("ffprobe")
        .args(["-v", "error", "-of", "json", "-show_entries", entries])
        .args(file.input())
        .stdin(Stdio::null())
        .output()
        .context("ffprobe")?;
    let probe: Option<Probe> = serde_json::from_slice(&output.stdout).ok();
    match probe.filter(|probe| !probe.streams.is_empty()) {
        Some(probe) => Ok(probe),
        None => {
            let text = String::from_utf8_lossy(&output.stderr);
            let reason = text.lines().next().unwrap_or("it has no streams");
            match file {
                VideoFile::Live(_) => bail!("{name}: ffmpeg cannot open it: {reason}"),
                _ => bail!("{name}: ffprobe cannot read it as a video: {reason}"),
            }
        }
    }
}

/// A path in a form that ffmpeg does not parse as an option or a protocol.
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
